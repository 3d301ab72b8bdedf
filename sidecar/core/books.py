"""The books: what one step of a call, or of an account, moves, writes and answers; decided without a store.

A store opens a transaction, offers a `View` of the books in it, asks `post`, and writes what comes back:
rows, no rules. All that was posted before in the same transaction is part of the view.

    opening (0) + top-ups - charges - reservations = balance, exactly

Repeating a step changes nothing: a call is admitted once and closed once, a revision is recorded once, and a
step whose record exists already is dropped whole, with its Settle. A charge is posted as the difference to
what the call was charged before; a reservation is given back once, at the latest with the record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Protocol
from uuid import UUID

import msgspec
from msgspec.structs import replace

from sidecar.core.account_terms import AccountKind, AccountTerms
from sidecar.core.amounts import AMOUNT_LARGEST, EXACT
from sidecar.core.audit import Change
from sidecar.core.call import Call
from sidecar.core.cdr import Cdr
from sidecar.core.commands import (
    Append,
    Audit,
    EntryKind,
    Extend,
    Publish,
    Reserve,
    Settle,
    StoreCommand,
    Suppress,
)
from sidecar.core.credit import Grant, extend, grant
from sidecar.core.records import sell_total
from sidecar.core.terms import Detail, Money, Word

ZERO = Decimal(0)

Charged = Mapping[tuple[str, str], Decimal]  # (account, currency) -> what a call was charged there


class MovementKind(Word):
    TOP_UP = "top_up"
    RESERVE = "reserve"
    RELEASE = "release"
    CHARGE = "charge"
    CARRIED = "carried"  # what movements came to that were archived and removed
    ADJUST = "adjust"  # by a person, up or down
    CREDIT_NOTE = "credit_note"
    SUSPENSE = "suspense"  # what a damaged store no longer tells, until a person decides: core/suspense
    LOST = "lost"  # what a person decided to let stand of it


SUSPENSE_REFERENCE = "suspense:"  # and the entry that is cleared; nothing else has such a one


def suspense_reference(entry: int) -> str:
    return f"{SUSPENSE_REFERENCE}{entry}"


class Movement(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line of the ledger; never changed. `amount` is what it adds to the balance, `balance` the sum after
    it."""

    kind: MovementKind
    account: str
    currency: str
    amount: Decimal
    balance: Decimal
    call_id: UUID | None = None
    revision: int | None = None  # of the record that is charged
    reference: str | None = None  # of what a person books, or of what clears a suspense: booked once
    operator: str | None = None  # who booked it, as claimed, where a person did
    text: str | None = None  # and why


class OpenCall(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A call that was admitted and has no record yet: whose balance it reserved from, and what."""

    account: str
    granted_s: int | None = None
    reserved: Money | None = None  # for all that is granted; None: nothing, or it was given back


class OutcomeKind(Word):
    ADMITTED = "admitted"
    CREDIT_REFUSED = "credit_refused"
    ANSWER_RECORDED = "answer_recorded"
    GRANT_EXTENDED = "grant_extended"
    STEP_FAILED = "step_failed"


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What a step came to, for the one that waits for it; the event of the same name follows the commit."""

    call_id: UUID
    kind: OutcomeKind
    granted_s: int | None = None
    reserved: Money | None = None
    final: bool = False
    detail: Detail = Detail.NO_CREDIT  # why CREDIT_REFUSED
    rule: str | None = None


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record to be written: with a number to be published under, or (None) kept back."""

    cdr: Cdr
    seq: int | None = None
    account_prev_seq: int | None = None  # the number before it of the same account


class Posting(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one step of a call comes to: all of it is written, or none."""

    call_id: UUID
    movements: Sequence[Movement] = ()
    open_call: OpenCall | None = None  # as it stands after the step; None: it is not open, or no longer
    entry: Append | None = None  # the latest entry of the open call, in the place of the one before
    record: Record | None = None
    outcome: Outcome | None = None
    changes: Sequence[Change] = ()  # what a person changed by it, to be noted


class Balances(Protocol):
    def balance(self, account: str, currency: str) -> Decimal:
        """The sum of the movements of an account in a currency: 0 before the first."""


class View(Balances, Protocol):
    """What a store must be able to tell of its calls, as they stand in its transaction."""

    def wall_ns(self) -> int:
        """When the transaction is."""

    def account(self, name: str) -> AccountTerms | None: ...
    def open_call(self, call_id: UUID) -> OpenCall | None: ...
    def charged(self, call_id: UUID) -> Charged:
        """What the call was charged so far, the sum of its charges with the sign turned; without zeros."""

    def recorded(self, call_id: UUID) -> int | None:
        """The highest revision among the records of a call, published or kept back. It is not asked of a call
        that is open: that has none."""

    def head_seq(self) -> int:
        """The last number that was taken; 0 before the first."""

    def account_seq(self, account: str) -> int | None:
        """The last number that a record of this account took."""


def post(step: Sequence[StoreCommand], view: View) -> Posting:
    """All of one step, or (refused, repeated) nothing of it. ValueError for a step that nobody may build: of
    two calls or none, with two commands of one kind (but Audit), a Reserve without an admission, or an Extend
    with anything else."""
    changes = [command.change for command in step if isinstance(command, Audit)]
    own = [command for command in step if not isinstance(command, Audit)] if changes else step
    reserve, append, settle, publish, extension = _parts(own)
    call_id = call_of(own[0])
    open_call = view.open_call(call_id)
    if extension is not None:
        return _extended(extension, open_call, view)
    if publish is not None and open_call is None:
        newest = view.recorded(call_id)
        if newest is not None and newest >= publish.cdr.revision:
            return Posting(call_id=call_id)
    draft = Draft(view, call_id)
    entry: Append | None = None
    outcome: Outcome | None = None
    if append is not None and append.kind is EntryKind.ADMITTED:
        if open_call is not None:
            return Posting(call_id=call_id, open_call=open_call, outcome=_admitted(call_id, open_call))
        if view.recorded(call_id) is not None:
            return Posting(call_id=call_id, outcome=Outcome(call_id, OutcomeKind.STEP_FAILED))
        terms = view.account(append.call.account.name)
        if terms is not None and not append.call.is_emergency and not terms.is_open_at(view.wall_ns()):
            return _refused(call_id, Detail.ACCOUNT_DISABLED)
        open_call = _opened(append, reserve, view, draft)
        if open_call is None:
            return _refused(call_id, Detail.NO_CREDIT)
        entry = Append(kind=EntryKind.ADMITTED, call=as_granted(append.call, open_call))
        outcome = _admitted(call_id, open_call)
    elif append is not None:
        if append.kind is EntryKind.ANSWERED:
            # Never admitted, or closed already: an answer that nobody recorded must not be let go.
            kind = OutcomeKind.ANSWER_RECORDED if open_call is not None else OutcomeKind.STEP_FAILED
            outcome = Outcome(call_id, kind)
        entry = append if open_call is not None else None
    if settle is not None:
        open_call = draft.release(open_call)
        draft.charge(settle, view.charged(call_id), publish.cdr.revision if publish is not None else 0)
    record: Record | None = None
    if publish is not None:
        draft.release(open_call)  # a record without a Settle would keep the reservation for ever
        open_call = entry = None
        record = _numbered(publish, view)
    return Posting(
        call_id=call_id,
        movements=draft.movements,
        open_call=open_call,
        entry=entry,
        record=record,
        outcome=outcome,
        changes=changes,
    )


def forget(call_id: UUID, view: View) -> Posting:
    """Undo an admission that was reported as failed, in case it was written all the same: its reservation
    goes back, and there is no record."""
    draft = Draft(view, call_id)
    draft.release(view.open_call(call_id))
    return Posting(call_id=call_id, movements=draft.movements)


def revise(cdr: Cdr, view: View) -> Posting | None:
    """Restate a call that is over, by its record of the next revision; None unless the newest is the one
    before."""
    if view.open_call(cdr.call_id) is not None or view.recorded(cdr.call_id) != cdr.revision - 1:
        return None
    total = None if cdr.void else sell_total(cdr)
    settle = Settle(call_id=cdr.call_id, account=cdr.account, total=total)
    return post((settle, Publish(cdr=cdr) if cdr.recorded else Suppress(cdr=cdr)), view)


def call_of(command: StoreCommand) -> UUID:
    """Whose command it is."""
    match command:
        case Append():
            return command.call.call_id
        case Reserve() | Extend() | Settle():
            return command.call_id
        case Publish() | Suppress():
            return command.cdr.call_id
    raise TypeError(f"not a store command: {type(command).__name__}")


# --- parts of a posting -------------------------------------------------------------------------------------


class Draft:
    """The movements of one posting so far, each with the balance after it."""

    def __init__(self, view: Balances, call_id: UUID | None = None) -> None:
        self.movements: list[Movement] = []
        self.view = view
        self._call_id = call_id
        self._balances: dict[tuple[str, str], Decimal] = {}

    def move(
        self,
        kind: MovementKind,
        account: str,
        currency: str,
        amount: Decimal,
        *,
        revision: int | None = None,
        reference: str | None = None,
        operator: str | None = None,
        text: str | None = None,
    ) -> None:
        """A sum that would be rounded raises: a hundred digits are a defect, not a balance."""
        if not amount:
            return
        key = (account, currency)
        before = self._balances.get(key)
        balance = EXACT.add(self.view.balance(account, currency) if before is None else before, amount)
        self._balances[key] = balance
        self.movements.append(
            Movement(
                kind=kind,
                account=account,
                currency=currency,
                amount=amount,
                balance=balance,
                call_id=self._call_id,
                revision=revision,
                reference=reference,
                operator=operator,
                text=text,
            )
        )

    def release(self, open_call: OpenCall | None) -> OpenCall | None:
        """Give the reservation back; the call as it stands after it."""
        if open_call is None or open_call.reserved is None:
            return open_call
        reserved = open_call.reserved
        self.move(MovementKind.RELEASE, open_call.account, reserved.currency, reserved.amount)
        return replace(open_call, reserved=None)

    def charge(self, settle: Settle, before: Charged, revision: int) -> None:
        """Post the difference between the total and what the call was charged before."""
        total = settle.total
        after = {} if total is None else {(settle.account, total.currency): total.amount}
        for key in sorted(before.keys() | after.keys()):
            difference = EXACT.subtract(before.get(key, ZERO), after.get(key, ZERO))
            self.move(MovementKind.CHARGE, *key, difference, revision=revision)


_Parts = tuple[Reserve | None, Append | None, Settle | None, Publish | Suppress | None, Extend | None]


def _parts(step: Sequence[StoreCommand]) -> _Parts:
    reserve: Reserve | None = None
    append: Append | None = None
    settle: Settle | None = None
    publish: Publish | Suppress | None = None
    extension: Extend | None = None
    for command in step:
        if isinstance(command, Append):
            append = command
        elif isinstance(command, Settle):
            settle = command
        elif isinstance(command, Reserve):
            reserve = command
        elif isinstance(command, (Publish, Suppress)):
            publish = command
        elif isinstance(command, Extend):
            extension = command
    parts = (reserve, append, settle, publish, extension)
    if sum(part is not None for part in parts) != len(step) or len({call_of(part) for part in step}) != 1:
        raise ValueError("a step has at most one command of each kind, all of one call")
    if reserve is not None and (append is None or append.kind is not EntryKind.ADMITTED):
        raise ValueError("a reservation without the admission that it is for")
    if extension is not None and len(step) > 1:
        raise ValueError("an extension is a step of its own")
    return parts


def _opened(append: Append, reserve: Reserve | None, view: View, draft: Draft) -> OpenCall | None:
    """The call as it is admitted; None where its account cannot pay one second."""
    if reserve is None:
        return OpenCall(account=append.call.account.name)
    currency = reserve.rate.currency
    terms = view.account(reserve.account) or _unknown(reserve.account, currency)
    spendable = available(terms, view.balance(reserve.account, currency))
    if spendable is None:
        return OpenCall(account=append.call.account.name)
    granted = grant(spendable, reserve.rate, reserve.terms, reserve.total_s)
    if granted is None:
        return None
    draft.move(MovementKind.RESERVE, reserve.account, currency, -granted.reserved.amount)
    return OpenCall(account=reserve.account, granted_s=granted.granted_s, reserved=granted.reserved)


def _extended(asked: Extend, open_call: OpenCall | None, view: View) -> Posting:
    """A call that is over, or holds nothing, gets nothing: its record settles what it held. By the terms that
    the account has now: where they set no bound any more, it gets all that it asks for."""
    if open_call is None or open_call.reserved is None or open_call.granted_s is None:
        failed = Outcome(asked.call_id, OutcomeKind.STEP_FAILED)
        return Posting(call_id=asked.call_id, open_call=open_call, outcome=failed)
    draft = Draft(view, asked.call_id)
    held = Grant(granted_s=open_call.granted_s, reserved=open_call.reserved)
    name, currency = open_call.account, held.reserved.currency
    terms = view.account(name) or _unknown(name, currency)
    spendable = available(terms, view.balance(name, currency))
    granted = extend(
        AMOUNT_LARGEST if spendable is None else spendable, held, asked.rate, asked.terms, asked.total_s
    )
    more = EXACT.subtract(granted.reserved.amount, held.reserved.amount)
    draft.move(MovementKind.RESERVE, open_call.account, held.reserved.currency, -more)
    return Posting(
        call_id=asked.call_id,
        movements=draft.movements,
        open_call=replace(open_call, granted_s=granted.granted_s, reserved=granted.reserved),
        outcome=Outcome(
            asked.call_id,
            OutcomeKind.GRANT_EXTENDED,
            granted.granted_s,
            granted.reserved,
            granted.final,
        ),
    )


def as_granted(call: Call, open_call: OpenCall) -> Call:
    """The call as an entry has it, with what the books have granted it: an extension writes no entry."""
    return replace(call, granted_s=open_call.granted_s, reserved=open_call.reserved)


def available(terms: AccountTerms, balance: Decimal) -> Decimal | None:
    """What may be reserved, of a balance that is free of reservations; None: as much as anybody wants."""
    return None if terms.floor is None else EXACT.subtract(balance, terms.floor)


def _unknown(name: str, currency: str) -> AccountTerms:
    """Terms that were lost with a damaged file: nothing is spent that is not there."""
    return AccountTerms(name=name, currency=currency, kind=AccountKind.PREPAID)


def _refused(call_id: UUID, detail: Detail) -> Posting:
    return Posting(call_id=call_id, outcome=Outcome(call_id, OutcomeKind.CREDIT_REFUSED, detail=detail))


def _admitted(call_id: UUID, open_call: OpenCall) -> Outcome:
    return Outcome(call_id, OutcomeKind.ADMITTED, open_call.granted_s, open_call.reserved)


def _numbered(publish: Publish | Suppress, view: View) -> Record:
    if isinstance(publish, Suppress):
        return Record(publish.cdr)
    return Record(publish.cdr, view.head_seq() + 1, view.account_seq(publish.cdr.account))
