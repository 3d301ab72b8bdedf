"""What the writer keeps in memory between transactions, so that it need not ask the file. No balance is among
it: those are read in each transaction, because several nodes may one day share a store.
"""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import apsw
import msgspec

from sidecar.core.terms import Money


class OpenCall(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the writer knows of a call that has no record yet."""

    slot: int
    account: str
    granted_s: int | None = None
    reserved: Money | None = None
    fresh: bool = True  # surely nothing was charged yet: the ledger need not be asked


class Known:
    """What the writer remembers between transactions, so that it need not ask the file: all of it can be read
    back."""

    def __init__(self) -> None:
        self.head_seq = 0
        self.next_slot = 1
        self.heartbeat_mono_ns = 0
        self.head_bridge_id = 0  # of the calls that this boot admitted
        self.open: dict[int, OpenCall] = {}  # by UUID.int: UUID hashes itself in Python
        self.account_seqs: dict[str, int | None] = {}


def recall(connection: apsw.Connection) -> Known:
    """What the writer keeps in memory, read from the file."""
    known = Known()
    known.head_seq = connection.execute("SELECT head_seq FROM store").get
    for slot, call_id, account, currency, reserved, granted_s in connection.execute(
        "SELECT slot, call_id, account, currency, reserved, granted_s FROM open_calls"
    ):
        known.next_slot = max(known.next_slot, slot + 1)
        known.open[UUID(bytes=call_id).int] = OpenCall(
            slot=slot,
            account=account,
            granted_s=granted_s,
            reserved=Money(Decimal(reserved), currency) if reserved is not None else None,
            fresh=False,
        )
    return known
