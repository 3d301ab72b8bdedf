"""What the writer keeps in memory between transactions, so that it need not ask the engine: caches and
nothing else. No balance is among it: those are read in each transaction, because several nodes may share a
store. Its open calls, its numbers and its tranches are this node's alone.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import msgspec

from sidecar.core.books import OpenCall
from sidecar.core.terms import Money


class Boot(NamedTuple):
    """What every row written by this process refers to."""

    boot: int
    boot_id: str
    epoch: str
    epoch_base_seq: int
    last_known_wall_ns: int = 0  # the last heartbeat of all boots before; 0: there was none


class Slot(msgspec.Struct, frozen=True, gc=False):
    """Where the row of an open call is, and what the books hold of the call."""

    slot: int
    open_call: OpenCall
    fresh: bool = False  # surely nothing was charged yet: the ledger need not be asked
    maybe_told: bool = False  # a record of it may have been published, and lost


class Taken(NamedTuple):
    """By calls, up to that line of the ledger."""

    amount: Decimal
    entry: int


class Known:
    """All of it can be read back."""

    def __init__(self) -> None:
        self.head_seq = 0
        self.next_slot = 1
        self.heartbeat_mono_ns = 0
        self.head_bridge_id = 0  # of the calls that this boot admitted
        self.open: dict[int, Slot] = {}  # by UUID.int: UUID hashes itself in Python
        self.account_seqs: dict[str, int | None] = {}
        self.tranches: dict[tuple[str, str], Decimal] = {}  # of this node; by account and currency
        # (account, currency, since when, in ns; 0: what open calls hold): see spending
        self.sums: dict[tuple[str, str, int], Taken] = {}


def open_call_of(account: str, currency: str | None, reserved: str | None, granted_s: int | None) -> OpenCall:
    """What the books hold of a call, by the columns of its row."""
    held = None if reserved is None or currency is None else Money(Decimal(reserved), currency)
    return OpenCall(account=account, granted_s=granted_s, reserved=held)
