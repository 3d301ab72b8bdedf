"""What is said on the control socket about peers, gateways, routes and account rules that commands make:
`peer.add`, `gateway.set`, `account-rule.list`, ... The parameters are the same for all four."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec

from sidecar.wire.control import OperatorName, Params, Result, Text

# What TOML takes for the entry's name is asked there; the prefix of a route may be empty, or a URN.
EntryName = Annotated[str, msgspec.Meta(max_length=128, pattern=r"^[^\x00-\x1f\x7f]*$")]
KeyName = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class EntryNameParams(Params, frozen=True, kw_only=True):
    name: EntryName


class EntryRemoveParams(EntryNameParams, frozen=True, kw_only=True):
    operator: OperatorName
    text: Text = ""


class EntryAddParams(EntryRemoveParams, frozen=True, kw_only=True):
    """`set`: keys of the entry, each as TOML has it, or a word as the command line has it. `before`, `after`:
    another one made by command. `first`: before those of the files."""

    set: Mapping[KeyName, Any] = msgspec.field(default_factory=dict)
    before: EntryName | None = None
    after: EntryName | None = None
    first: bool = False


class EntrySetParams(EntryRemoveParams, frozen=True, kw_only=True):
    """`unset`: keys that get their default again."""

    set: Mapping[KeyName, Any] = msgspec.field(default_factory=dict)
    unset: tuple[KeyName, ...] = ()
    before: EntryName | None = None
    after: EntryName | None = None
    first: bool | None = None


class EntryShown(Result, frozen=True, kw_only=True):
    """`operator`, `at` and `text` are of the command that made it; null: a file did."""

    name: str | None  # null: a rule of a file that has no name
    source: str
    operator: str | None
    at: datetime | None
    text: str | None
    fields: dict[str, Any]


class EntryList(Result, frozen=True, kw_only=True):
    """In the order in which they count."""

    entries: tuple[EntryShown, ...]


class EntryChanged(Result, frozen=True, kw_only=True):
    """Calls that begin now have it."""

    name: str
    settings_revision: int | None  # null: it changes nothing that is in force
    warnings: tuple[str, ...]
