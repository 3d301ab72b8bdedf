"""A published record as a subscriber keeps it: what it is found by, and the whole as JSON text.

The whole is kept as it came, fields that this version does not know among them: a biller sees what a newer
node writes. `cdr()` is for who wants it typed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from hashlib import blake2b
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import msgpack
import msgspec

from sidecar.core.cdr import Cdr
from sidecar.wire.cdr_codec import decode_json
from sidecar.wire.topics import node_of

_DATETIME = 3  # msgpack's word for "timestamps become aware datetimes in UTC"
# What differs where the same record was queued again in another epoch.
_NUMBERS = ("store_epoch", "seq", "account_prev_seq")


class RecordError(ValueError):
    """A message that is no record this version can read; the text says why."""


class Source(NamedTuple):
    """Within it numbers are counted."""

    tenant: str
    node: str
    epoch: str


_Text = Annotated[str, msgspec.Meta(max_length=1_000, pattern=r"^[^\x00]*$")]  # NUL: no database takes it
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=1_000, pattern=r"^[^\x00]*$")]


class _Version1(msgspec.Struct, frozen=True, kw_only=True):
    tenant: _Name
    node: _Name
    store_epoch: _Name
    seq: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    call_id: UUID
    revision: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0
    message_id: UUID
    void: bool = False
    account: _Text
    ended_at: datetime


# By the record's `version`: what each that was ever published is found by.
VERSIONS: Mapping[int, type[_Version1]] = {1: _Version1}


class Record:
    """One revision of one call's record."""

    def __init__(self, version: int, head: _Version1, fields: dict[str, Any]) -> None:
        self.version = version
        self.source = Source(head.tenant, head.node, head.store_epoch)
        self.seq = head.seq
        self.call_id = str(head.call_id)
        self.revision = head.revision
        self.message_id = str(head.message_id)
        self.void = head.void
        self.account = head.account
        self.ended_at = head.ended_at
        self.fields = fields  # as published: amounts are decimal strings

    @property
    def key(self) -> tuple[str, int]:
        """What makes it the same record, whenever and however often it comes. The message id is made of
        it."""
        return self.call_id, self.revision

    @cached_property
    def text(self) -> str:
        """The whole as one line of JSON; times are RFC 3339."""
        return msgspec.json.encode(self.fields).decode()

    @cached_property
    def digest(self) -> str:
        """Of all that it says, but its number: what comes again must say the same."""
        content = {name: value for name, value in self.fields.items() if name not in _NUMBERS}
        return blake2b(msgspec.json.encode(content), digest_size=16).hexdigest()

    def cdr(self) -> Cdr:
        """Typed. Raises wire.cdr_codec.CdrError where it holds a word that this version does not know."""
        return decode_json(self.text)


def from_message(topic: str, payload: bytes) -> Record:
    """A record that came on this topic. Raises RecordError."""
    try:
        fields = msgpack.unpackb(payload, timestamp=_DATETIME)
    except (ValueError, msgpack.UnpackException) as error:
        raise RecordError(f"not MessagePack: {error}") from error
    record = _record(fields)
    if node_of(topic) != (record.source.tenant, record.source.node):
        raise RecordError("it came on the topic of another node")
    return record


def from_line(line: bytes) -> Record:
    """The opposite of `text`. Raises RecordError."""
    try:
        fields = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RecordError(f"not JSON: {error}") from error
    return _record(fields)


def _record(fields: Any) -> Record:
    version = fields.get("version") if isinstance(fields, dict) else None
    if type(version) is not int:
        raise RecordError("not a record: no version")
    head = VERSIONS.get(version)
    if head is None:
        raise RecordError(f"a record of version {version}; known here: {', '.join(map(str, VERSIONS))}")
    try:
        record = Record(version, msgspec.convert(fields, head), fields)
        _ = record.text
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise RecordError(f"not a record: {error}") from error
    return record
