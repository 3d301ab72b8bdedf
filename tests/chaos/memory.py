"""A node that may have little more memory, as under `ulimit -v`: it refuses new calls, carries those that are
up to their ends, and lives."""

from __future__ import annotations

import resource
from collections import Counter
from pathlib import Path

from tests.chaos.outcome import Chance, Outcome
from tests.faults.node import Node, phones
from tests.faults.phone import Plan
from tests.rig.listener import check_sequences, listening
from tests.rig.node import until

KEPT_BYTES = 48 << 20  # see native/memory.cpp
FREE_BYTES = 16 << 20
CALLS_MAX = 2000
ROUNDS_MAX = 5


def limit(node: Node, more_bytes: int | None) -> None:
    """How much more address space the daemon may have than it has; None: no limit."""
    pages = int(Path(f"/proc/{node.daemon.pid}/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + more_bytes if more_bytes is not None else resource.RLIM_INFINITY
    resource.prlimit(node.daemon.pid, resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


async def told(node: Node, event: str) -> None:
    """In its log, too."""
    await until(lambda: f'"{event}"' in node.log.read_text())


async def short_of_memory(node: Node) -> Counter[str]:
    """Figures: `up` and `refused` calls. Broken: `other` answers, calls that `failed` to end, `missing` and
    `duplicate` records, those `wrong`, `dead`: no call afterwards, promises `broken`."""
    async with phones(node) as (caller, _), node.up() as child, listening(*child.broker) as listener:
        caller.peer = child.sip
        first = caller.dial("10000", Plan())
        await node.live("10000", answered=True)
        limit(node, KEPT_BYTES + FREE_BYTES)
        sides = [first]
        while not any(side.final == 503 for side in sides) and len(sides) < CALLS_MAX:
            sides += [caller.dial(f"1{len(sides):04}", Plan()) for _ in range(20)]
            batch = sides[-20:]
            await until(lambda: all(side.final for side in batch))  # noqa: B023
        finals = Counter(side.final for side in sides)
        await told(node, "memory_short")
        limit(node, 0)  # and now nothing more at all
        up = [side for side in sides if side.final == 200]
        refused = [caller.dial(f"19{n:03}", Plan()) for n in range(20)]
        for side in up:
            caller.hang_up(side)
        await caller.all_ended(60)
        limit(node, None)
        await told(node, "memory_suffices")
        again = await caller.place("19999", Plan(caller_bye_s=0.05))
        ended = [side.call_id for side in (*up, again)]
        records = await listener.of(ended, within_s=60)
        await node.empty()
        broken = await node.metric("sidecar_promises_broken_total")
    kept = [one for one in listener.records if one["disposition"] not in ("refused", "refused_aggregate")]
    of_refusals = {one["detail"] for one in listener.records if one not in kept}
    check_sequences(listener.records)
    node.check_books()
    return Counter(
        up=len(up),
        refused=finals[503],
        other=sum(finals.values())
        - finals[200]
        - finals[503]
        # 0: not even that could be said
        + sum(side.final not in (0, 503) for side in refused),
        failed=sum(side.bye_code != 200 for side in up),
        missing=len(ended) - len(records),
        duplicate=len(kept) - len(ended),
        wrong=sum((one["detail"], one["disposition"]) != ("bye", "answered") for one in records)
        + (of_refusals != {"node_full"}),
        dead=int(again.final != 200),
        broken=int(broken),
    )


BROKEN = ("other", "failed", "missing", "duplicate", "wrong", "dead", "broken")


async def memory(given: Chance) -> Outcome:
    rounds, total = min(given.rounds, ROUNDS_MAX), Counter[str]()
    for number in range(rounds):
        folder = given.folder / str(number)
        folder.mkdir()
        total += await short_of_memory(Node(folder, timers="t1_ms = 200"))
    return Outcome(
        fault="short of memory",
        rounds=rounds,
        missing=total["missing"],
        duplicate=total["duplicate"],
        figures={"up": str(total["up"]), "refused": str(total["refused"])},
        broken=[f"{total[name]} {name}" for name in BROKEN if total[name]],
    )
