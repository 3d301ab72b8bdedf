"""Counts of refusals that have no record yet (see store/refusals), in the file."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import apsw

from sidecar.adapters.store.bodies import crc_of
from sidecar.adapters.store.refusals import kept_refusals
from sidecar.core.cdr import Cdr
from sidecar.wire.cdr_codec import encode

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
    return kept_refusals(
        connection.execute("SELECT body, crc, maybe_told FROM refusals ORDER BY entry"), epoch
    )
