"""What commands have made, as if two documents had it: one before the profile and one behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from sidecar.config import entries
from sidecar.config.declare import Setting
from sidecar.config.problems import Where
from sidecar.config.source import Document
from sidecar.config.values import FilePath, Flag, Kind, ListOf, Whole
from sidecar.core.stored import StoredEntry


class Books(NamedTuple):
    """Where those of a node are."""

    node: str
    data_dir: Path
    dsn_file: Path | None  # of the database; None: in a journal in the data directory


class Away(str):
    """Why they cannot be read, where that may pass."""

    __slots__ = ()


StoredReader: TypeAlias = Callable[[Books], Sequence[StoredEntry] | str]
"""Gives the entries that are there, or why they cannot be read."""

THIS_COMMAND = "this command"


class StoredDocument(Document):
    """Its places are the commands."""

    def __init__(self, stored: Sequence[StoredEntry]) -> None:
        data: dict[str, dict[str, Any]] = {}
        self._by_path = {}
        for one in stored:
            named_by = entries.PROFILE_TABLES[one.table].named_by
            own = {named_by: one.name} if named_by else {}
            data.setdefault(one.table, {})[one.name] = {**one.fields, **own}
            self._by_path[one.table, one.name] = one
        super().__init__("commands", Path("/"), data, "", "")

    def where(self, path: Sequence[str | int]) -> Where:
        table, name = (*path, "")[:2]
        return made_by(self._by_path[str(table), str(name)])

    def entry(self, table: str, name: str) -> StoredEntry:
        return self._by_path[table, name]


class Stored(NamedTuple):
    before: StoredDocument
    behind: StoredDocument


def stored_documents(stored: Sequence[StoredEntry]) -> Stored:
    return Stored(
        before=StoredDocument([one for one in stored if one.first]),
        behind=StoredDocument([one for one in stored if not one.first]),
    )


NOTHING_STORED = stored_documents(())


def nothing_stored(_: Books) -> Sequence[StoredEntry]:
    return ()


def made_by(one: StoredEntry) -> Where:
    """`command of root, 2026-11-27 09:00:12Z`"""
    if not one.at_wall_ns:
        return Where(THIS_COMMAND)
    at = datetime.fromtimestamp(one.at_wall_ns // 1_000_000_000, UTC)
    return Where(f"command of {one.operator}, {at:%Y-%m-%d %H:%M:%S}Z")


# --- words of a command -------------------------------------------------------------------------------------


def as_toml(table: str, words: Mapping[str, object]) -> dict[str, object]:
    """The fields of an entry as TOML would say them. A word is what a command line gives: `30`, `true`,
    `192.0.2.0/24,192.0.2.7`; what is no string is TOML's already. BadValueError, with the text of the kind,
    where a word is no such thing; unknown keys are left for whoever reads the entry."""
    fields = entries.PROFILE_TABLES[table].fields()
    return {name: _as_toml(fields.get(name), value) for name, value in words.items()}


def _as_toml(field: Setting | None, value: object) -> object:
    return value if field is None or not isinstance(value, str) else _of_kind(field.kind, value)


def _of_kind(kind: Kind[Any], word: str) -> object:
    if isinstance(kind, Flag | Whole):
        return kind.read_text(word)
    if isinstance(kind, ListOf):
        return [_of_kind(kind.item, one) for one in kind.words(word)]
    return word


def is_path(field: Setting) -> bool:
    return isinstance(field.kind, FilePath)
