"""What the writer keeps in memory of the file (see store/known)."""

from __future__ import annotations

from uuid import UUID

import apsw

from sidecar.adapters.sqlite.chain import Chain, recalled
from sidecar.adapters.store import known
from sidecar.adapters.store.known import Slot, open_call_of
from sidecar.core.chain import ChainKey


class Known(known.Known):
    def __init__(self, chain: Chain) -> None:
        super().__init__()
        self.chain = chain
        self.acknowledged_seq = 0


def recall(connection: apsw.Connection, key: ChainKey) -> Known:
    """What the writer keeps in memory, read from the file."""
    found = Known(recalled(connection, key))
    ((found.head_seq, found.acknowledged_seq),) = connection.execute(
        "SELECT head_seq, acknowledged_seq FROM store"
    )
    for slot, call_id, account, currency, reserved, granted_s, maybe_told in connection.execute(
        "SELECT slot, call_id, account, currency, reserved, granted_s, maybe_told FROM open_calls"
    ):
        found.next_slot = max(found.next_slot, slot + 1)
        open_call = open_call_of(account, currency, reserved, granted_s)
        found.open[UUID(bytes=call_id).int] = Slot(slot, open_call, maybe_told=bool(maybe_told))
    return found
