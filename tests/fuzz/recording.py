"""The messages of a finding, in a file: what was sent, and the words of the live dialog that it was sent at.

The first line is {"seed": n, "words": {...}}, each other one ["a" | "b" | "tcp", message]: JSON, and the
bytes of a message as Latin-1. Another run has other ports, tags and Call-IDs: `addressed` puts those in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

Sent = tuple[str, bytes]  # which way, and what


@dataclass(frozen=True)
class Recording:
    seed: int
    words: dict[str, str]
    sent: tuple[Sent, ...]

    def write(self, path: Path) -> None:
        with Recorder(path) as recorder:
            recorder.begin(self.seed, self.words)
            for way, message in self.sent:
                recorder.add(way, message)

    @classmethod
    def read(cls, path: Path) -> Recording:
        head, *lines = path.read_text("ascii").splitlines()
        known = json.loads(head)
        sent = tuple((way, text.encode("latin-1")) for way, text in map(json.loads, lines))
        return cls(known["seed"], known["words"], sent)

    def addressed(self, words: dict[str, str]) -> tuple[Sent, ...]:
        """The same messages, at the dialog that `words` describe."""
        new = {old.encode(): words[name].encode() for name, old in self.words.items()}
        longest_first = sorted(new, key=len, reverse=True)
        pattern = re.compile(b"|".join(map(re.escape, longest_first)))
        return tuple((way, pattern.sub(lambda found: new[found[0]], message)) for way, message in self.sent)


class Recorder:
    """Unbuffered: what was written outlives the process."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, seed: int, words: dict[str, str]) -> None:
        """Forgets what was there before."""
        self._file.seek(0)
        self._file.truncate()
        self._line({"seed": seed, "words": words})

    def add(self, way: str, message: bytes) -> None:
        self._line([way, message.decode("latin-1")])

    def _line(self, value: object) -> None:
        self._file.write(json.dumps(value).encode() + b"\n")

    def close(self) -> None:
        self._file.close()


def smallest(sent: Sequence[Sent], found_again: Callable[[Sequence[Sent]], bool]) -> Sequence[Sent]:
    """Without what the finding does not need: halves are left out first, then ever smaller parts."""
    size = len(sent) // 2
    while size > 0:
        at = 0
        while at < len(sent):
            fewer = [*sent[:at], *sent[at + size :]]
            if found_again(fewer):
                sent = fewer
            else:
                at += size
        size //= 2
    return sent
