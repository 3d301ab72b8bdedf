"""How often something may happen: a token bucket for each, kept as the moment at which it is full again
(GCRA, ITU-T I.371). A bucket holds what one second brings; one that is full is not kept.

Of nodes that share a database each has a share of every limit but the node's own (`share`): by what it has
taken of late, and what the others said of theirs. All shares together are the limit, once all have heard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import nlargest

_SECOND_NS = 1_000_000_000
TOLD_MAX = 10_000  # buckets; of more those that least was taken from are not told: others take them for idle

Key = tuple[str, str]  # of what kind, and its name
NODE: Key = ("node", "")  # the one that no other node has a share in


def share(per_s: int, own: int, others: Sequence[int], nodes: int) -> float:
    """Per second, for a node that wants `own` of them, where some of the `nodes` want `others` too: what all
    want where that is less than there is, and of the rest an equal part; otherwise who wants little has it,
    and the others have equal parts of what is left. At least an equal part of all, whatever it wants."""
    left, count, least = float(per_s), len(others) + 1, per_s / nodes
    for wanted in sorted((own, *others)):
        if wanted * count >= left:
            return max(least, min(own, left / count))
        left -= wanted
        count -= 1
    return max(least, own + left / nodes)


class TokenBuckets:
    """Asked and taken from apart, because who asks may yet be refused for something else. Mutable; there are
    as many as there are names with a limit."""

    __slots__ = ("_full_at_ns", "_gaps_ns", "_nodes", "_others", "_taken", "_told_ns", "_wanted")

    def __init__(self) -> None:
        self._full_at_ns: dict[Key, int] = {}
        self._taken: dict[Key, tuple[int, int]] = {}  # how many since `_told_ns`, and the limit
        self._told_ns = 0
        self._wanted: dict[Key, tuple[int, int]] = {}  # per second until then, and the limit
        self._others: dict[Key, list[int]] = {}
        self._nodes = 1
        self._gaps_ns: dict[Key, int] = {}  # by what was heard last; of those that were asked about

    def has(self, key: Key, per_s: int, mono_ns: int) -> bool:
        full_at_ns, gap_ns = self._full_at_ns.get(key, mono_ns), self._gap_ns(key, per_s)
        return full_at_ns - mono_ns <= max(_SECOND_NS, gap_ns) - gap_ns

    def take(self, key: Key, per_s: int, mono_ns: int) -> None:
        """Also where there is none: then the next one comes later."""
        full_at_ns = max(self._full_at_ns.get(key, mono_ns), mono_ns)
        self._full_at_ns[key] = full_at_ns + self._gap_ns(key, per_s)
        self._taken[key] = self._taken.get(key, (0, 0))[0] + 1, per_s

    def _gap_ns(self, key: Key, per_s: int) -> int:
        if self._nodes == 1 or key == NODE:
            return _SECOND_NS // per_s
        gap_ns = self._gaps_ns.get(key)
        if gap_ns is None:
            own, _ = self._wanted.get(key, (0, 0))
            gap_ns = int(_SECOND_NS / share(per_s, own, self._others.get(key, ()), self._nodes))
            self._gaps_ns[key] = gap_ns
        return gap_ns

    def forget_full(self, mono_ns: int) -> None:
        for key in [key for key, full_at_ns in self._full_at_ns.items() if full_at_ns <= mono_ns]:
            del self._full_at_ns[key]

    # --- among other nodes ----------------------------------------------------------------------------------

    def wanted(self, mono_ns: int) -> Mapping[Key, int]:
        """For the others: what was taken of late, per second. Who has taken what it may wants the whole."""
        if (passed_ns := mono_ns - self._told_ns) >= _SECOND_NS:
            taken, self._taken, self._told_ns = self._taken, {}, mono_ns
            before = {key: (0, per_s) for key, (count, per_s) in self._wanted.items() if count}
            wanted = {}
            for key, (count, per_s) in (before | taken).items():
                gap_ns = self._gap_ns(key, per_s)
                is_spent = count * gap_ns * 10 >= passed_ns * 9 or not self.has(key, per_s, mono_ns)
                wanted[key] = per_s if is_spent else -(-count * _SECOND_NS // passed_ns), per_s
            self._wanted = wanted
            self._gaps_ns = {}
        told = {key: count for key, (count, _) in self._wanted.items() if count and key != NODE}
        if len(told) > TOLD_MAX:
            told = dict(nlargest(TOLD_MAX, told.items(), key=lambda item: item[1]))
        return told

    def hear(self, others: Iterable[Mapping[Key, int]]) -> None:
        """What each of the other nodes wants."""
        heard: dict[Key, list[int]] = {}
        self._nodes = 1
        for wanted in others:
            self._nodes += 1
            for key, count in wanted.items():
                heard.setdefault(key, []).append(count)
        self._others = heard
        self._gaps_ns = {}

    def __len__(self) -> int:
        return len(self._full_at_ns)
