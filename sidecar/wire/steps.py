"""Steps that must be written <-> bytes, for a node whose database is away: one byte of version, then what the
step is made of; calls as journal entries, records as CDRs.

Only steps that nobody waits for are kept, so there is no Reserve and no Extend among them: an admission and
an answer were decided by the node itself (core/away), and so was what an Extended says.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec

from sidecar.core.audit import Change
from sidecar.core.commands import (
    WAITING,
    Append,
    Audit,
    EntryKind,
    Extended,
    Publish,
    Settle,
    StoreCommand,
    Suppress,
)
from sidecar.wire import cdr_codec
from sidecar.wire.cdr_codec import CdrError
from sidecar.wire.entries import EntryError, decode_call, encode_call, packed

STEP_VERSION = 1

_PREFIX = bytes([STEP_VERSION])


class _Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    kind: EntryKind | None = None
    call: bytes = b""
    settle: Settle | None = None
    record: bytes = b""
    changes: tuple[Change, ...] = ()
    extended: Extended | None = None
    forgotten: UUID | None = None


_DECODER = msgspec.msgpack.Decoder(_Step)


def encode_step(step: Sequence[StoreCommand]) -> bytes:
    parts = _Step()
    for command in step:
        match command:
            case Append() if command.kind not in WAITING or command.decided:
                call = encode_call(command.call)
                parts = msgspec.structs.replace(parts, kind=command.kind, call=call)
            case Settle():
                parts = msgspec.structs.replace(parts, settle=command)
            case Extended():
                parts = msgspec.structs.replace(parts, extended=command)
            case Publish() | Suppress():
                parts = msgspec.structs.replace(parts, record=cdr_codec.encode(command.cdr))
            case Audit():
                parts = msgspec.structs.replace(parts, changes=(*parts.changes, command.change))
            case _:
                raise TypeError(f"somebody waits for a {type(command).__name__}: it is not kept")
    return _PREFIX + packed(parts)


def encode_forgotten(call_id: UUID) -> bytes:
    """An admission that is to be undone."""
    return _PREFIX + packed(_Step(forgotten=call_id))


def decode_step(body: bytes) -> tuple[StoreCommand, ...] | UUID:
    """The opposite of both. EntryError says what is wrong with the bytes."""
    if body[:1] != _PREFIX:
        raise EntryError(
            f"a step of version {body[0] if body else 'none'}; this program knows {STEP_VERSION}"
        )
    try:
        parts = _DECODER.decode(body[1:])
        return parts.forgotten or tuple(_commands(parts))
    except (msgspec.MsgspecError, CdrError) as error:
        raise EntryError(f"a step that is none: {error}") from error


def _commands(parts: _Step) -> Sequence[StoreCommand]:
    commands: list[StoreCommand] = []
    if parts.kind is not None:
        call, decided = decode_call(parts.call), parts.kind in WAITING
        commands.append(Append(kind=parts.kind, call=call, decided=decided))
    if parts.extended is not None:
        commands.append(parts.extended)
    if parts.settle is not None:
        commands.append(parts.settle)
    if parts.record:
        cdr = cdr_codec.decode(parts.record)
        commands.append(Publish(cdr=cdr) if cdr.recorded else Suppress(cdr=cdr))
    commands += [Audit(change=change) for change in parts.changes]
    return commands
