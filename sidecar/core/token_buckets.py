"""How often something may happen: a token bucket for each, kept as the moment at which it is full again
(GCRA, ITU-T I.371). A bucket holds what one second brings; one that is full is not kept."""

from __future__ import annotations

_SECOND_NS = 1_000_000_000

Key = tuple[str, str]  # of what kind, and its name


class TokenBuckets:
    """Asked and taken from apart, because who asks may yet be refused for something else. Mutable; there are
    as many as there are names with a limit."""

    __slots__ = ("_full_at_ns",)

    def __init__(self) -> None:
        self._full_at_ns: dict[Key, int] = {}

    def has(self, key: Key, per_s: int, mono_ns: int) -> bool:
        full_at_ns = self._full_at_ns.get(key, mono_ns)
        return full_at_ns - mono_ns <= _SECOND_NS - _SECOND_NS // per_s

    def take(self, key: Key, per_s: int, mono_ns: int) -> None:
        """Also where there is none: then the next one comes later."""
        full_at_ns = max(self._full_at_ns.get(key, mono_ns), mono_ns)
        self._full_at_ns[key] = full_at_ns + _SECOND_NS // per_s

    def forget_full(self, mono_ns: int) -> None:
        for key in [key for key, full_at_ns in self._full_at_ns.items() if full_at_ns <= mono_ns]:
            del self._full_at_ns[key]

    def __len__(self) -> int:
        return len(self._full_at_ns)
