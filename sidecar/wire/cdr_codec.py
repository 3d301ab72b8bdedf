"""CDR <-> MessagePack (what leaves on MQTT and stays in the store) and <-> JSON (what people read).

MessagePack as any plain `msgpack` reads it: one map, every field present, amounts as decimal strings, UUIDs
as strings, times as the timestamp extension (type -1). With Python's package: `msgpack.unpackb(payload,
timestamp=3)`.

Readers ignore unknown fields, so a record of a newer minor writer decodes too; a missing field takes its
default.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import msgpack
import msgspec

from sidecar.core.cdr import Cdr
from sidecar.core.terms import HangupOrigin

CONTENT_TYPE = "application/msgpack"
CONTENT_VERSION = 1

_KEPT = (datetime, Decimal)  # msgpack carries times itself; amounts are written by `_amount`
_NATIVE = (datetime,)
_DATETIME = 3  # msgpack's word for "timestamps become aware datetimes in UTC"


class Address(msgspec.Struct, frozen=True):
    """The fields of a CDR that decide where it is sent, and under which message id."""

    tenant: str
    node: str
    account: str
    hangup_origin: HangupOrigin
    message_id: str


_ADDRESS = msgspec.msgpack.Decoder(Address)
_CDR = msgspec.msgpack.Decoder(Cdr)
# A record as we write it: behind the head of the map, of five bytes at most, its version.
_OURS = b"\xa7version" + bytes((CONTENT_VERSION,))
_OURS_WITHIN = 5 + len(_OURS)


class CdrError(ValueError):
    """Bytes that are no CDR of a version that this reader knows."""


def encode(cdr: Cdr) -> bytes:
    """The record as it stands."""
    return packed(cdr)


def packed(struct: msgspec.Struct) -> bytes:
    """Any struct as a record is written."""
    return _packed(msgspec.to_builtins(struct, builtin_types=_KEPT))


def encode_published(cdr: Cdr, store_epoch: str, seq: int, account_prev_seq: int | None) -> bytes:
    """The record with the three fields that only the outbox transaction knows.

    They go into the map rather than into a copy of the Cdr: seventy fields need not be checked twice.
    """
    fields = msgspec.to_builtins(cdr, builtin_types=_KEPT)
    fields["store_epoch"] = store_epoch
    fields["seq"] = seq
    fields["account_prev_seq"] = account_prev_seq
    return _packed(fields)


def decode(payload: bytes) -> Cdr:
    """The opposite of `encode`. CdrError says what is wrong with the bytes."""
    if _OURS in payload[:_OURS_WITHIN]:
        try:  # in half of the time; what is wrong with others, and how they are read, is said below
            return _CDR.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            pass
    try:
        fields = msgpack.unpackb(payload, timestamp=_DATETIME)
    except (ValueError, msgpack.UnpackException) as error:
        raise CdrError(f"not MessagePack: {error}") from error
    return _cdr(fields)


def address_of(payload: bytes) -> Address:
    """What a publisher must know of an encoded record: a tenth of the cost of decoding it."""
    try:
        return _ADDRESS.decode(payload)
    except msgspec.MsgspecError as error:
        raise CdrError(f"not a CDR: {error}") from error


def encode_json(cdr: Cdr) -> bytes:
    """The same record as JSON: times become RFC 3339 text, all else is as in MessagePack."""
    return msgspec.json.encode(msgpack.unpackb(encode(cdr), timestamp=_DATETIME))


def without_number(payload: bytes, number: str, pseudonym: str) -> bytes:
    """The encoded record with the pseudonym wherever the number stood in a text of it."""
    return _packed(_replaced(msgpack.unpackb(payload, timestamp=_DATETIME), number, pseudonym))


def _replaced(value: Any, number: str, pseudonym: str) -> Any:
    match value:
        case str():
            return value.replace(number, pseudonym)
        case dict():
            return {name: _replaced(one, number, pseudonym) for name, one in value.items()}
        case list():
            return [_replaced(one, number, pseudonym) for one in value]
    return value


def decode_json(text: bytes | str) -> Cdr:
    try:
        return msgspec.json.decode(text, type=Cdr)
    except msgspec.MsgspecError as error:
        raise CdrError(f"not a CDR: {error}") from error


def _packed(fields: Any) -> bytes:
    try:
        packed: bytes = msgpack.packb(fields, datetime=True, default=_amount)
    except UnicodeEncodeError:
        # Network text holds no lone surrogates (it was decoded with backslashreplace); an operator's JSON
        # may.
        packed = msgpack.packb(fields, datetime=True, default=_amount, unicode_errors="backslashreplace")
    return packed


def _amount(value: object) -> str:
    # Plain digits, never an exponent: str(Decimal("0.0000001")) would be "1E-7".
    if isinstance(value, Decimal):
        return format(value, "f")
    raise TypeError(f"a CDR holds no {type(value).__name__}")


def _cdr(fields: Any) -> Cdr:
    if not isinstance(fields, dict) or not isinstance(version := fields.get("version"), int):
        raise CdrError("not a CDR: no version")
    if version != CONTENT_VERSION:
        raise CdrError(f"a CDR of version {version}; this reader knows {CONTENT_VERSION}")
    try:
        return msgspec.convert(fields, Cdr, builtin_types=_NATIVE)
    except msgspec.ValidationError as error:
        raise CdrError(f"not a CDR: {error}") from error
