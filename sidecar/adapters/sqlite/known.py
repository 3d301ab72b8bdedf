"""What the writer keeps in memory between transactions, so that it need not ask the file: caches and nothing
else. No balance is among it: those are read in each transaction, because several nodes may one day share a
store.
"""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import apsw
import msgspec

from sidecar.adapters.sqlite.chain import Chain, recalled
from sidecar.core.books import OpenCall
from sidecar.core.chain import ChainKey
from sidecar.core.terms import Money


class Slot(msgspec.Struct, frozen=True, gc=False):
    """Where the row of an open call is, and what the books hold of the call."""

    slot: int
    open_call: OpenCall
    fresh: bool = False  # surely nothing was charged yet: the ledger need not be asked
    maybe_told: bool = False  # a record of it may have been published, and lost


class Known:
    """What the writer remembers between transactions: all of it can be read back."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.head_seq = 0
        self.acknowledged_seq = 0
        self.next_slot = 1
        self.heartbeat_mono_ns = 0
        self.head_bridge_id = 0  # of the calls that this boot admitted
        self.open: dict[int, Slot] = {}  # by UUID.int: UUID hashes itself in Python
        self.account_seqs: dict[str, int | None] = {}
        # (account, currency, since when, in ns): what was taken up to that line of the ledger (see spending)
        self.sums: dict[tuple[str, str, int], tuple[Decimal, int]] = {}


def recall(connection: apsw.Connection, key: ChainKey) -> Known:
    """What the writer keeps in memory, read from the file."""
    known = Known(recalled(connection, key))
    ((known.head_seq, known.acknowledged_seq),) = connection.execute(
        "SELECT head_seq, acknowledged_seq FROM store"
    )
    for slot, call_id, account, currency, reserved, granted_s, maybe_told in connection.execute(
        "SELECT slot, call_id, account, currency, reserved, granted_s, maybe_told FROM open_calls"
    ):
        known.next_slot = max(known.next_slot, slot + 1)
        open_call = open_call_of(account, currency, reserved, granted_s)
        known.open[UUID(bytes=call_id).int] = Slot(slot, open_call, maybe_told=bool(maybe_told))
    return known


def open_call_of(account: str, currency: str | None, reserved: str | None, granted_s: int | None) -> OpenCall:
    """What the books hold of a call, by the columns of its row."""
    held = None if reserved is None or currency is None else Money(Decimal(reserved), currency)
    return OpenCall(account=account, granted_s=granted_s, reserved=held)
