"""A mapping that never changes, and of which a changed copy costs next to nothing, however large it is.

The policy is one immutable value, and one account more must not copy a hundred thousand. So the entries lie
in parts by their hash; a copy shares all parts but the one that it changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_PARTS = 1024
_MASK = _PARTS - 1
_NOTHING: dict[Any, Any] = {}  # shared by all parts that are empty; never changed


class PersistentMap(Mapping[K, V]):
    """Iterates in no order that means anything: sort what people are shown."""

    __slots__ = ("_parts", "_size")

    def __init__(self, items: Mapping[K, V] = _NOTHING) -> None:
        parts: list[dict[K, V]] = [_NOTHING] * _PARTS
        for key, value in items.items():
            place = hash(key) & _MASK
            if parts[place] is _NOTHING:
                parts[place] = {}
            parts[place][key] = value
        self._parts = parts
        self._size = len(items)

    def plus(self, key: K, value: V) -> PersistentMap[K, V]:
        """With this entry, in the place of any that the key had."""
        part = self._parts[hash(key) & _MASK]
        return self._with(key, {**part, key: value})

    def minus(self, key: K) -> PersistentMap[K, V]:
        """Without this key; KeyError where it is not there."""
        part = dict(self._parts[hash(key) & _MASK])
        del part[key]
        return self._with(key, part)

    def dissolve(self) -> None:
        """Let go of the entries bit by bit, so that other threads have their turns in between: for who alone
        has this map, and wants it no more."""
        while self._parts:
            self._parts.pop()

    def _with(self, key: K, part: dict[K, V]) -> PersistentMap[K, V]:
        changed: PersistentMap[K, V] = PersistentMap.__new__(PersistentMap)
        place = hash(key) & _MASK
        changed._parts = self._parts.copy()
        changed._parts[place] = part
        changed._size = self._size + len(part) - len(self._parts[place])
        return changed

    def __getitem__(self, key: K) -> V:
        return self._parts[hash(key) & _MASK][key]

    def get(self, key: K, default: V | None = None) -> V | None:  # type: ignore[override]
        return self._parts[hash(key) & _MASK].get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._parts[hash(key) & _MASK]

    def __iter__(self) -> Iterator[K]:
        for part in self._parts:
            yield from part

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self)!r})"
