"""What the page reads of the books, whatever engine keeps them: people, and looks, each as of one moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple, Protocol
from uuid import UUID

import msgspec

from sidecar.adapters.store.bodies import sound
from sidecar.core.account_terms import AccountTerms
from sidecar.core.cdr import Cdr
from sidecar.core.users import User
from sidecar.ports import RecordFilter, RecordPage
from sidecar.wire.cdr_codec import decode

LOOK_S_MAX = 0.2  # of a search: no other step is begun after it


class Held(NamedTuple):
    currency: str
    amount: Decimal
    calls: int
    node: str = ""  # that holds it, for calls to come


class Charged(NamedTuple):
    amount: Decimal
    entry: int  # of the ledger, the last that was looked at


NOTHING_CHARGED = Charged(Decimal(0), 0)


class CallCharge(NamedTuple):
    """A line of the ledger: of one revision, the difference that it made."""

    account: str
    currency: str
    amount: Decimal
    revision: int | None
    booked_at: datetime


class Place(NamedTuple):
    """Where a record lies. Within an epoch numbers, and entries, are in the order of the commits."""

    epoch: int  # 0: of a file, which has one
    is_kept_back: bool
    number: int  # seq, or entry
    revision: int


class Stored(NamedTuple):
    """A record as it lies in its table."""

    place: Place
    call_id: UUID
    body: bytes
    crc: int

    def cdr(self) -> Cdr:
        """DamagedError where it is not what was written."""
        return decode(sound(self.body, self.crc, f"record {self.place.number}"))


class Marks(msgspec.Struct, kw_only=True):
    """Up to where records were read, of each epoch. `floor`: all entries up to it were, whoever wrote them;
    `ahead`: those up to that will have been once all transactions before `ahead_xid` are over
    (postgresql/looks)."""

    epochs: dict[int, tuple[int, int]] = {}  # the last seq, and the last entry that was kept back
    floor: int = 0
    ahead: int = 0
    ahead_xid: int = 0

    def of(self, epoch: int) -> tuple[int, int]:
        return self.epochs.get(epoch, (0, 0))

    def have(self, place: Place) -> bool:
        return place.number <= self.of(place.epoch)[place.is_kept_back]

    def add(self, place: Place) -> None:
        seq, entry = self.of(place.epoch)
        self.epochs[place.epoch] = (seq, place.number) if place.is_kept_back else (place.number, entry)


class Look(Protocol):
    def search(
        self, wanted: RecordFilter, records_max: int, cursor: str | None = None, within_s: float = LOOK_S_MAX
    ) -> RecordPage:
        """As the Records port; see `Search.page`."""

    def revisions(self, call_id: UUID) -> Sequence[Cdr]:
        """All records of a call, published or kept back, the one that holds last."""

    def revision(self, call_id: UUID, revision: int) -> Cdr | None:
        """One of them."""

    def charges_of(self, call_id: UUID) -> list[CallCharge]:
        """What was booked for a call, in its order."""

    def account_terms(self, name: str) -> AccountTerms | None: ...
    def held(self, account: str) -> list[Held]:
        """What calls that are up hold of an account, by currency; and nodes, for calls to come."""

    def booked(self, account: str) -> object:
        """Another one once anything was booked since."""

    def charged_since(
        self, account: str, currency: str, since_ns: int, known: Charged = NOTHING_CHARGED
    ) -> Charged:
        """What calls were charged since then, less what was given back. `known`: an earlier answer to the
        same question, which what was booked after it is added to."""

    # --- for sums -------------------------------------------------------------------------------------------

    def books(self) -> str:
        """Other ones have another name: what was read of these may not be in them."""

    def removed_until(self) -> datetime | None:
        """Records of calls that ended before are archived, and no longer here."""

    def behind(self, marks: Marks) -> int:
        """How many records are not marked as read."""

    def stored_after(self, marks: Marks, rows_max: int) -> Sequence[Stored]:
        """Records that are not marked, of each epoch in the order of its numbers: of each of the two tables
        at most `rows_max`. They are marked by who asks, and with that `marks` is to be kept."""

    def places_of(self, call_ids: Iterable[UUID]) -> Mapping[UUID, Sequence[Place]]:
        """Of all records of these calls."""


class Books(Protocol):
    is_shared: bool  # other nodes may keep theirs in them

    def look(self) -> AbstractContextManager[Look]:
        """Close it soon. StoreError, here or later, where they cannot be read."""

    def user(self, name: str) -> User | None:
        """As it is now. StoreError where that cannot be read."""

    def close(self) -> None:
        """Nobody looks any more."""
