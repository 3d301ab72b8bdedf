"""One transaction, whatever engine it is of: the steps of many decisions, worked out by core/books, and kept
as rows to be written at its end.

A batch is the view that core/books asks: the engine, and over it what this transaction has posted so far.
Nothing is written before the end, so a step that is refused (no credit) or repeated simply adds nothing, and
no savepoint is needed. Nothing that outlives the transaction is changed before `committed`: after a rollback
the batch is thrown away and `Known` still says what the engine says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

import msgspec
from msgspec.structs import replace

from sidecar.adapters.store.bodies import crc_of, storable
from sidecar.adapters.store.known import Boot, Known, Slot
from sidecar.adapters.store.ledger import BaseLedger
from sidecar.adapters.store.packing import packed
from sidecar.adapters.store.spending import Spending
from sidecar.adapters.store.suspense import Suspense
from sidecar.core.account_books import AccountPosting, Booked, book, bring, open_account, set_terms
from sidecar.core.account_import import Imported
from sidecar.core.account_terms import AccountTerms
from sidecar.core.alarms import LowBalance
from sidecar.core.audit import Change
from sidecar.core.books import (
    ZERO,
    Charged,
    MovementKind,
    OpenCall,
    Outcome,
    Posting,
    Record,
    forget,
    lose,
    post,
    revise,
)
from sidecar.core.books_check import plain
from sidecar.core.call import Call
from sidecar.core.cdr import Cdr, message_id
from sidecar.core.commands import Append, EntryKind, Publish, StoreCommand, Suppress
from sidecar.core.found_by import keys_of
from sidecar.core.terms import Disposition, Money
from sidecar.ports import OutboxRow
from sidecar.wire.cdr_codec import CONTENT_VERSION, encode, encode_published
from sidecar.wire.entries import encode_call
from sidecar.wire.topics import cdr_topic

HEARTBEAT_AGE_NS_MAX = 100_000_000  # it rewrites a page: not in each of five hundred commits a second
ACCOUNTS_KNOWN_MAX = 100_000
OPEN_CALL = (
    "slot",
    "boot",
    "call_id",
    "kind",
    "account",
    "currency",
    "reserved",
    "granted_s",
    "body",
    "crc",
    "maybe_told",
)
SEARCHED = (
    "boot",
    "call_id",
    "revision",
    "account",
    "origin",
    "reason",
    "detail",
    "gateway",
    "ended_us",
    "caller",
    "callee",
    "billed",
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


def searched(cdr: Cdr, boot: int) -> tuple[tuple[object, ...], tuple[object, ...]]:
    """The columns by which a record is found, as SEARCHED has them: open ones, and numbers."""
    opened = (
        boot,
        cdr.call_id.bytes,
        cdr.revision,
        cdr.account,
        cdr.hangup_origin.value,
        cdr.server_reason.value if cdr.server_reason else None,
        cdr.detail.value,
        cdr.gateway,
        (cdr.ended_at - _EPOCH) // _US,
    )
    return opened, (cdr.caller.received, cdr.callee.received, cdr.callee.billed)


class Written(msgspec.Struct, frozen=True, gc=False):
    """A record on its way into its tables."""

    seq: int  # 0: kept back
    opened: tuple[object, ...]  # what the chain holds as it is
    numbers: tuple[object, ...]  # what it holds by a digest alone, and the body
    body: bytes  # packed
    crc: int
    found_by: bytes


class KeptRefusals(Protocol):
    def recorded(self, call_id: UUID) -> None: ...


class BaseBatch(ABC):
    def __init__(
        self,
        known: Known,
        boot: Boot,
        wall_ns: int,
        mono_ns: int,
        ledger: BaseLedger,
        refusals: KeptRefusals,
        spending: Spending,
        suspense: Suspense,
    ) -> None:
        self._books, self._kept_refusals = ledger, refusals
        self._spending, self.suspense = spending, suspense
        self.outcomes: list[Outcome] = []
        self.low_balances: list[LowBalance] = []  # that this transaction has found
        self.outbox_rows: list[OutboxRow] = []
        self._remembered = known
        self._boot = boot
        self._wall_ns = wall_ns
        self._mono_ns = mono_ns
        self._head_seq = known.head_seq
        self._next_slot = known.next_slot
        self._head_bridge_id = known.head_bridge_id
        self._heartbeat_mono_ns = known.heartbeat_mono_ns
        self._slots: dict[int, Slot | None] = {}  # changed in this batch; None: closed
        self._closed: list[Slot] = []  # whose rows go
        self._entries: dict[int, Append] = {}  # by slot: only the last of a call is written
        self._new: set[int] = set()  # calls that surely were never here
        self._recorded: dict[int, int] = {}
        self._account_seqs: dict[str, int] = {}
        self._published: list[Written] = []
        self._suppressed: list[Written] = []
        self._changes: list[Change] = []

    # --- what the engine has --------------------------------------------------------------------------------

    @abstractmethod
    def _read_recorded(self, call_id: UUID) -> int | None: ...
    @abstractmethod
    def _read_account_seq(self, account: str) -> int | None: ...

    def calls_up(self, account: str, currency: str) -> int | None:
        """See `View`: an engine of one node alone does not ask."""
        del account, currency
        return None

    def tranche(self, account: str, currency: str) -> Decimal:
        """The same."""
        del account, currency
        return ZERO

    # --- what is written ------------------------------------------------------------------------------------

    def run(self, step: Sequence[StoreCommand]) -> None:
        for command in step:
            if isinstance(command, Append) and command.kind is EntryKind.ADMITTED:
                self._note_admission(command.call)
            elif isinstance(command, (Publish, Suppress)) and _is_aggregate(command.cdr):
                self._kept_refusals.recorded(command.cdr.call_id)
        self._take(post(step, self))

    def forget(self, call_id: UUID) -> None:
        self._take(forget(call_id, self))

    def lose(self, call_id: UUID) -> None:
        """See `books.lose`."""
        self._take(lose(call_id, self))

    def revise(self, cdr: Cdr) -> bool:
        """Whether it was written: see `books.revise`."""
        posting = revise(cdr, self)
        if posting is not None:
            self._take(posting)
        return posting is not None

    def open_account(self, wanted: AccountTerms, change: Change | None) -> str:
        """Empty, or why not."""
        return self._take_account(open_account(wanted, self, change))

    def set_terms(self, wanted: AccountTerms, change: Change | None) -> str:
        return self._take_account(set_terms(wanted, self, change))

    def take_over(
        self, wanted: Sequence[tuple[AccountTerms, Change | None]], *, suspect: bool = False
    ) -> str:
        """See Accounts.take_over; why it cannot be, as soon as one of them cannot."""
        for terms, change in wanted:
            known = self.account(terms.name)
            kept = terms if known is None else replace(terms, disabled_by_command=known.disabled_by_command)
            if refusal := self.set_terms(kept, change):
                return refusal
            if suspect and known is None and terms.is_bounded:
                self.suspense.suspect(terms.name, terms.currency)
        return ""

    def book(
        self, kind: MovementKind, name: str, amount: Money, reference: str, change: Change | None
    ) -> str:
        return self._take_account(book(kind, name, amount, reference, self, change))

    def bring(self, rows: Sequence[Imported], change: Change) -> tuple[int, int] | str:
        """How many accounts and balances are new, or why nothing was done."""
        postings = bring(rows, self, change)
        if isinstance(postings, str):
            return postings
        for posting in postings:
            self._take_account(posting)
        opened = sum(posting.opened is not None for posting in postings)
        booked = sum(len(posting.movements) for posting in postings)
        if opened or booked:
            self.audit(change)
        return opened, booked

    def audit(self, change: Change) -> None:
        """Note it in this transaction: for jobs that change something that core/books knows nothing of."""
        self._changes.append(change)

    # --- the view: the engine, and what this batch has posted -----------------------------------------------

    def wall_ns(self) -> int:
        return self._wall_ns

    def balance(self, account: str, currency: str) -> Decimal:
        return self._books.balance(account, currency)

    def charged_since(self, account: str, currency: str, since_ns: int) -> Decimal:
        return self._spending.charged_since(account, currency, since_ns)

    def held(self, account: str, currency: str) -> Decimal:
        return self._spending.held(account, currency)

    def account(self, name: str) -> AccountTerms | None:
        return self._books.account(name)

    def booked(self, account: str, reference: str) -> Booked | None:
        return self._books.booked(account, reference)

    def open_call(self, call_id: UUID) -> OpenCall | None:
        slot = self._slot(call_id)
        return slot.open_call if slot is not None else None

    def charged(self, call_id: UUID) -> Charged:
        slot = self._slot(call_id)
        return self._books.charged(call_id, fresh=slot is not None and slot.fresh)

    def recorded(self, call_id: UUID) -> int | None:
        in_batch = self._recorded.get(call_id.int)
        if in_batch is not None or call_id.int in self._new:
            return in_batch
        return self._read_recorded(call_id)

    def head_seq(self) -> int:
        return self._head_seq

    def account_seq(self, account: str) -> int | None:
        found = self._account_seqs.get(account)
        if found is None and account in (seqs := self._remembered.account_seqs):
            found = seqs[account]
        elif found is None:
            found = self._read_account_seq(account)
        return found

    # --- its transaction ------------------------------------------------------------------------------------

    def committed(self) -> None:
        """The transaction is on disk: what was found out in it holds."""
        known = self._remembered
        known.head_seq = self._head_seq
        known.next_slot = self._next_slot
        known.head_bridge_id = self._head_bridge_id
        known.heartbeat_mono_ns = self._heartbeat_mono_ns
        for key, now in self._slots.items():
            if now is None:
                known.open.pop(key, None)
            else:
                known.open[key] = now
        if len(known.account_seqs) > ACCOUNTS_KNOWN_MAX:
            known.account_seqs.clear()
        known.account_seqs.update(self._account_seqs)

    def _heartbeat_is_due(self) -> bool:
        """A commit proves that the node lived: it says so where the last word is old."""
        is_due = self._mono_ns - self._remembered.heartbeat_mono_ns >= HEARTBEAT_AGE_NS_MAX
        if is_due:
            self._heartbeat_mono_ns = self._mono_ns
        return is_due

    # --- from postings to rows ------------------------------------------------------------------------------

    def _take(self, posting: Posting) -> None:
        self._books.book(posting.movements)
        self._changes += posting.changes
        if posting.record is not None:
            self._write_record(posting.record)
        self._keep_call(posting)
        self.low_balances += posting.low_balances
        if posting.outcome is not None:
            self.outcomes.append(posting.outcome)

    def _take_account(self, posting: AccountPosting | str) -> str:
        if isinstance(posting, str):
            return posting
        self._books.book_account(posting)
        self.low_balances += posting.low_balances
        if posting.change is not None:
            self._changes.append(posting.change)
        return ""

    def _keep_call(self, posting: Posting) -> None:
        key, before, now = posting.call_id.int, self._slot(posting.call_id), posting.open_call
        if now is None:
            if before is not None:
                self._slots[key] = None
                if key in self._remembered.open:  # others have no row yet
                    self._closed.append(before)
            return
        if before is None:
            slot = Slot(self._next_slot, now, fresh=key in self._new)
            self._next_slot += 1
        else:
            fresh = before.fresh and not any(m.kind is MovementKind.CHARGE for m in posting.movements)
            slot = Slot(before.slot, now, fresh=fresh, maybe_told=before.maybe_told)
        if posting.entry is not None:
            self._entries[slot.slot] = posting.entry
        if posting.entry is not None or slot != before:
            self._slots[key] = slot

    def _write_record(self, record: Record) -> None:
        cdr, seq = record.cdr, record.seq
        slot = self._slot(cdr.call_id)
        if slot is not None and slot.maybe_told:
            # Another content must not go out under an id that may have been used.
            of_epoch = message_id(cdr.call_id, cdr.revision, self._boot.epoch)
            cdr = replace(cdr, message_id=of_epoch)
        self._recorded[cdr.call_id.int] = cdr.revision
        if seq is None:
            body = encode(cdr)
            self._suppressed.append(self._row_of(cdr, body))
            return
        body = encode_published(cdr, self._boot.epoch, seq, record.account_prev_seq)
        self._head_seq = self._account_seqs[cdr.account] = seq
        self._published.append(self._row_of(cdr, body, seq))
        self.outbox_rows.append(
            OutboxRow(
                seq=seq,
                topic=cdr_topic(cdr.tenant, cdr.node, cdr.account, cdr.hangup_origin),
                payload=body,
                message_id=str(cdr.message_id),
                content_version=CONTENT_VERSION,
            )
        )

    def _row_of(self, cdr: Cdr, body: bytes, seq: int = 0) -> Written:
        opened, numbers = searched(cdr, self._boot.boot)
        kept = packed(body)
        return Written(
            seq=seq,
            opened=opened,
            numbers=numbers,
            body=kept,
            crc=crc_of(kept),
            found_by=keys_of(cdr),
        )

    def _audited(self, change: Change) -> tuple[object, ...]:
        by = change.operator
        texts = (change.action, change.subject, change.before, change.after, change.text)
        return (self._boot.boot, self._wall_ns, storable(by.name), by.uid, *map(storable, texts))

    # --- open calls -----------------------------------------------------------------------------------------

    def _slot(self, call_id: UUID) -> Slot | None:
        key = call_id.int
        return self._slots[key] if key in self._slots else self._remembered.open.get(key)

    def _note_admission(self, call: Call) -> None:
        """The bridge counts its calls: one with a higher number than any before it has never been here, so
        the file need not be asked."""
        if call.boot_id == self._boot.boot_id and call.bridge_id > self._head_bridge_id:
            self._head_bridge_id = call.bridge_id
            self._new.add(call.call_id.int)

    def _open_rows(self) -> list[tuple[Any, ...]]:
        """Rows of OPEN_CALL."""
        rows: list[tuple[Any, ...]] = []
        for now in self._slots.values():
            if now is None or now.slot not in self._entries:
                continue
            entry, held = self._entries[now.slot], now.open_call
            body = encode_call(entry.call)
            rows.append(
                (
                    now.slot,
                    self._boot.boot,
                    entry.call.call_id.bytes,
                    entry.kind.value,
                    held.account,
                    *held_columns(held.reserved),
                    held.granted_s,
                    body,
                    crc_of(body),
                    int(now.maybe_told),
                )
            )
        return rows

    def _held_alone(self) -> list[Slot]:
        """Calls whose reservation changed without a new entry."""
        return [now for now in self._slots.values() if now is not None and now.slot not in self._entries]


ARCHIVED = 2**31 - 1  # the revision that a call has of which nothing is here any more: none comes after it


def is_older(call_id: UUID, until_us: int) -> bool:
    """Whether the INVITE of a call came before: its id says when."""
    return call_id.version == 8 and call_id.int >> 80 < until_us // 1_000


def _is_aggregate(cdr: Cdr) -> bool:
    return cdr.disposition is Disposition.REFUSED_AGGREGATE


def held_columns(reserved: Money | None) -> tuple[str | None, str | None]:
    return (reserved.currency, plain(reserved.amount)) if reserved is not None else (None, None)
