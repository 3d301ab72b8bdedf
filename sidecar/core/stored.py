"""Peers, gateways, routes and account rules that people make while the node runs: kept beside the journal's
calls, and read with the settings as if the profile had them too (config/stored)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

# The tables of a profile whose entries commands make, and the word of the command.
WORDS: Mapping[str, str] = {
    "peers": "peer",
    "gateways": "gateway",
    "routes": "route",
    "account_rules": "account-rule",
}
STORED_MAX = 10_000  # entries


class StoredEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One entry as the last command left it. `fields` is what TOML would say of it, unchecked here; the name
    of a route is its prefix. Their order in the store is that in the profile."""

    table: str
    name: str
    fields: Mapping[str, Any]
    operator: str
    uid: int | None = None
    at_wall_ns: int = 0  # 0: a command that is being looked at
    text: str = ""  # why, in the operator's words
    first: bool = False  # it comes before those of the files, else behind them

    def is_of(self, table: str, name: str) -> bool:
        return (self.table, self.name) == (table, name)


class ListedEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One entry of those tables as the settings have it, of a file or of a command."""

    table: str
    name: str | None  # None: a rule of a file that has none
    source: str  # `profile.toml:12`, `command of root, 2026-11-27 09:00:12Z`
    by: StoredEntry | None  # the command that made it; None: a file
    fields: Mapping[str, Any]  # what TOML says of it


class OutOfPlaceError(ValueError):
    """The entry that another one is to stand beside is not there, or not on its side of the files'."""


def placed(
    entries: Sequence[StoredEntry], entry: StoredEntry, *, before: str | None = None, after: str | None = None
) -> tuple[StoredEntry, ...]:
    """`entries` with this one, instead of that of its name: where that was; or, where it is said, directly
    before or after another of its table; a new one behind all."""
    at = next((place for place, one in enumerate(entries) if one.is_of(entry.table, entry.name)), None)
    others = [one for one in entries if not one.is_of(entry.table, entry.name)]
    beside = before if before is not None else after
    if beside is not None:
        place = next((place for place, one in enumerate(others) if one.is_of(entry.table, beside)), None)
        if place is None:
            raise OutOfPlaceError(f"{beside} was not made by a command, so nothing is placed beside it")
        if others[place].first != entry.first:
            side = "before" if others[place].first else "behind"
            raise OutOfPlaceError(f"{beside} stands {side} those of the files, and this one does not")
        at = place + (before is None)
    at = len(others) if at is None else at
    return (*others[:at], entry, *others[at:])


def without(entries: Sequence[StoredEntry], table: str, name: str) -> tuple[StoredEntry, ...]:
    return tuple(one for one in entries if not one.is_of(table, name))
