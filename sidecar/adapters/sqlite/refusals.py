"""Counts of refusals that have no record yet (core/refusals), kept for the start after a crash."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

import apsw
from msgspec.structs import replace

from sidecar.adapters.store.bodies import DamagedError, crc_of, sound
from sidecar.core.cdr import Cdr, message_id
from sidecar.wire.cdr_codec import CdrError, decode, encode

_KEEP = (
    "INSERT INTO refusals (call_id, body, crc) VALUES (?, ?, ?)"
    " ON CONFLICT (call_id) DO UPDATE SET body = excluded.body, crc = excluded.crc"
)


class KeptRefusals:
    """Within one transaction."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def keep(self, aggregates: Sequence[Cdr]) -> None:
        for cdr in aggregates:
            body = encode(cdr)
            self._connection.execute(_KEEP, (cdr.call_id.bytes, body, crc_of(body)))

    def recorded(self, call_id: UUID) -> None:
        self._connection.execute("DELETE FROM refusals WHERE call_id = ?", (call_id.bytes,))


def found_refusals(connection: apsw.Connection, epoch: str) -> list[Cdr]:
    """What earlier boots left. A damaged one is passed over: it is a count, and no call."""
    found = []
    for body, crc, maybe_told in connection.execute(
        "SELECT body, crc, maybe_told FROM refusals ORDER BY entry"
    ):
        with suppress(DamagedError, CdrError):
            cdr = decode(sound(body, crc, "refusals"))
            if maybe_told:  # another content must not go out under an id that may have been used
                cdr = replace(cdr, message_id=message_id(cdr.call_id, cdr.revision, epoch))
            found.append(cdr)
    return found
