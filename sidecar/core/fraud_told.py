"""What nodes that share a database tell one another of their fraud rules: what each has counted, and which
rule holds which key.

A window is told as what is in it now, once a second: who tells expires it, and nobody needs its parts. Only
what may matter is told. A key of which a node has counted less than a hundredth of the threshold (a tenth of
different numbers) is not: with n nodes a rule fires so much later, times n - 1, at the most. Beyond that
KEYS_TOLD_MAX keys and NUMBERS_TOLD_MAX numbers of a node are told, those that are next to their thresholds.

Numbers are told as 32 bits of each: two that are the same there are taken for one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from zlib import crc32

import msgspec

PART_TOLD = 100  # of a threshold
NUMBERS_PART_TOLD = 10
KEYS_TOLD_MAX = 10_000
NUMBERS_TOLD_MAX = 20_000


class Counted(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Of one key, by one node: what is in the window, of how many; calls that are up; different numbers."""

    amount: int = 0
    of: int = 0
    live: int = 0
    numbers: tuple[int, ...] = ()


RuleCounts = Mapping[str, Counted]  # by key


class FraudCounts(msgspec.Struct, frozen=True, kw_only=True):
    rules: Mapping[str, RuleCounts] = {}  # by FraudRule.identity: only the same rule counts the same
    lifts_heard: int = 0  # the last change of what is held that these counts know of
    not_told: int = 0  # keys that were too many


class CountsHeard(msgspec.Struct, frozen=True, kw_only=True):
    counts: FraudCounts
    told_ms: int  # by the clock of who hears
    is_present: bool = True  # False: silent since; its calls are not up, and its counts end with the window


class FraudHold(msgspec.Struct, frozen=True, kw_only=True):
    """A rule holds a key on all nodes, since one of them found it; or an operator has let it go."""

    rule: str
    identity: str
    key: str
    node: str
    measured: Decimal
    since_ms: int
    until_ms: int | None
    is_lifted: bool = False
    change: int = 0  # its number, over all nodes; 0: it has none yet


def number_told(number: str) -> int:
    return crc32(number.encode())


def most_urgent(
    found: Iterable[tuple[float, str, str, Counted]], lifts_heard: int, keys_max: int, numbers_max: int
) -> FraudCounts:
    """`found`: how near its threshold, the rule's identity, the key, and what was counted."""
    rows = list(found)
    if len(rows) > keys_max or sum(len(one.numbers) for *_, one in rows) > numbers_max:
        rows.sort(key=lambda row: row[0], reverse=True)
    rules, keys, numbers = dict[str, dict[str, Counted]](), 0, 0
    for _, identity, key, counted in rows:
        if keys < keys_max and numbers + len(counted.numbers) <= numbers_max:
            rules.setdefault(identity, {})[key] = counted
            keys, numbers = keys + 1, numbers + len(counted.numbers)
    return FraudCounts(rules=rules, lifts_heard=lifts_heard, not_told=len(rows) - keys)
