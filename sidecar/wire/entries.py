"""Journal entries <-> bytes: one byte of version, then the whole Call as MessagePack.

Only this program reads them, and only until the call has its CDR. So they are written by msgspec, straight
from the structs: a Call as it stood after the step, which is all that recovery needs. Fields that have their
default are left out (`omit_defaults`), so that two entries find room in a page of the journal. Fields with
defaults may be added to Call without a new version; a field or a default that changes its meaning needs one.
"""

from __future__ import annotations

import msgpack
import msgspec

from sidecar.core.call import Call

ENTRY_VERSION = 1

_PREFIX = bytes([ENTRY_VERSION])
_ENCODER = msgspec.msgpack.Encoder(uuid_format="bytes")
_DECODER = msgspec.msgpack.Decoder(Call)


class EntryError(ValueError):
    """Bytes that are no journal entry of a version that this program knows."""


def encode_call(call: Call) -> bytes:
    return _PREFIX + packed(call)


def packed(entry: msgspec.Struct) -> bytes:
    try:
        return _ENCODER.encode(entry)
    except UnicodeEncodeError:
        # Network text holds no lone surrogates (it was decoded with backslashreplace); an operator's JSON
        # may.
        found: bytes = msgpack.packb(
            msgspec.to_builtins(entry, builtin_types=(bytes,)), unicode_errors="backslashreplace"
        )
        return found


def decode_call(body: bytes) -> Call:
    if body[:1] != _PREFIX:
        found = body[0] if body else "none"
        raise EntryError(f"a journal entry of version {found}; this program knows {ENTRY_VERSION}")
    try:
        return _DECODER.decode(_brought_over(body[1:]))
    except msgspec.MsgspecError as error:
        raise EntryError(f"a journal entry that is no call: {error}") from error


def _brought_over(body: bytes) -> bytes:
    """An account was `prepaid` or not before it had a kind."""
    if b"prepaid" not in body:
        return body
    call = msgspec.msgpack.decode(body)
    if isinstance(call, dict) and call.get("account", {}).pop("prepaid", False):
        call["account"]["kind"] = "prepaid"
        return msgspec.msgpack.encode(call)
    return body
