"""A process that writes records 1 to N into a sink and says after each commit how far it is:
`python -m tests.subscriber.sink_child KIND WHERE N SEED`. As a broker would, it gives some of what it has
committed again."""

from __future__ import annotations

import random
import sys

from sidecar.subscriber.progress import Progress
from tests.subscriber.places import Place
from tests.subscriber.records import SOURCE, record


def main(kind: str, where: str, count: str, seed: str) -> None:
    chance = random.Random(seed)
    sink = Place(kind, where).sink()
    progress = Progress(sink.open())
    position = progress.positions.get(SOURCE)
    at = position.held.last if position is not None else 0
    assert not progress.missing()
    while at < int(count):
        first = max(1, at + 1 - chance.randrange(10))
        at = min(int(count), at + chance.randrange(1, 40))
        batch = [record(seq) for seq in range(first, at + 1)]
        for one in batch:
            progress.take(one.source, one.seq)
        sink.commit(batch, [], [progress.positions[SOURCE]])
        print(at, flush=True)
    sink.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
