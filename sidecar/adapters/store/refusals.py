"""Counts of refusals that have no record yet (core/refusals), kept for the start after a crash."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from msgspec.structs import replace

from sidecar.adapters.store.bodies import DamagedError, sound
from sidecar.core.cdr import Cdr, message_id
from sidecar.wire.cdr_codec import CdrError, decode


def kept_refusals(rows: Iterable[tuple[bytes, int, int]], epoch: str) -> list[Cdr]:
    """What earlier boots left, by body, checksum, and whether it may have been told. A damaged one is passed
    over: it is a count, and no call."""
    found = []
    for body, crc, maybe_told in rows:
        with suppress(DamagedError, CdrError):
            cdr = decode(sound(body, crc, "refusals"))
            if maybe_told:  # another content must not go out under an id that may have been used
                cdr = replace(cdr, message_id=message_id(cdr.call_id, cdr.revision, epoch))
            found.append(cdr)
    return found
