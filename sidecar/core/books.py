"""The books: what one step of a call, or of an account, moves, writes and answers; decided without a store.

A store opens a transaction, offers a `View` of the books in it, asks `post`, and writes what comes back:
rows, no rules. All that was posted before in the same transaction is part of the view.

    opening (0) + top-ups - charges - reservations - tranches = balance, exactly

Repeating a step changes nothing: a call is admitted once and closed once, a revision is recorded once, and a
step whose record exists already is dropped whole, with its Settle. A charge is posted as the difference to
what the call was charged before; a reservation is given back once, at the latest with the record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple, Protocol
from uuid import UUID

import msgspec
from msgspec.structs import replace

from sidecar.core.account_terms import SPENDING_LIMIT, AccountTerms
from sidecar.core.alarms import LowBalance
from sidecar.core.amounts import AMOUNT_LARGEST, EXACT
from sidecar.core.audit import Change
from sidecar.core.call import Call
from sidecar.core.capacity import CALLS_MAX
from sidecar.core.cdr import Cdr
from sidecar.core.commands import (
    Append,
    Audit,
    EntryKind,
    Extend,
    Extended,
    Publish,
    Reserve,
    Settle,
    StoreCommand,
    Suppress,
)
from sidecar.core.credit import Grant, extend, grant
from sidecar.core.records import sell_total, utc
from sidecar.core.terms import Detail, Money, Word

ZERO = Decimal(0)
UNFORESEEN_SLICE_S = 60  # of a call whose node did not know that it has to reserve; then it asks for more

Charged = Mapping[tuple[str, str], Decimal]  # (account, currency) -> what a call was charged there


class MovementKind(Word):
    TOP_UP = "top_up"
    RESERVE = "reserve"
    RELEASE = "release"
    TRANCHE = "tranche"  # into the hands of one node, and back: core/tranches
    CHARGE = "charge"
    CARRIED = "carried"  # what movements came to that were archived and removed
    ADJUST = "adjust"  # by a person, up or down
    CREDIT_NOTE = "credit_note"
    SUSPENSE = "suspense"  # what a damaged store no longer tells, until a person decides: core/suspense
    LOST = "lost"  # what a person decided to let stand of it


SUSPENSE_REFERENCE = "suspense:"  # and the entry that is cleared; nothing else has such a one


def suspense_reference(entry: int) -> str:
    return f"{SUSPENSE_REFERENCE}{entry}"


# Of live calls, and for calls to come: it comes back.
PASSING = frozenset({MovementKind.RESERVE, MovementKind.RELEASE, MovementKind.TRANCHE})


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
    low_balances: Sequence[LowBalance] = ()


class Balances(Protocol):
    def balance(self, account: str, currency: str) -> Decimal:
        """The sum of the movements of an account in a currency: 0 before the first."""


class MoneyView(Balances, Protocol):
    def wall_ns(self) -> int:
        """When the transaction is."""

    def held(self, account: str, currency: str) -> Decimal:
        """What open calls and tranches of the account hold, which its balance is free of."""


class View(MoneyView, Protocol):
    """What a store must be able to tell of its calls, as they stand in its transaction."""

    def account(self, name: str) -> AccountTerms | None: ...
    def charged_since(self, account: str, currency: str, since_ns: int) -> Decimal:
        """What was booked as charges of its calls then or later, the sum with the sign turned."""

    def calls_up(self, account: str, currency: str) -> int | None:
        """How many of its calls are open, on whatever node; None: there is one node alone, which counts them
        itself (core/capacity)."""

    def tranche(self, account: str, currency: str) -> Decimal:
        """What this node holds of the account for the time when the books cannot be asked: core/tranches."""

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
    if len(own) == 1 and isinstance(own[0], Extended):
        return _extended_before(own[0], view)
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
        if append.decided:
            return _admitted_before(append, view)
        if open_call is not None:
            return Posting(call_id=call_id, open_call=open_call, outcome=_admitted(call_id, open_call))
        if view.recorded(call_id) is not None:
            return Posting(call_id=call_id, outcome=Outcome(call_id, OutcomeKind.STEP_FAILED))
        terms = view.account(append.call.account.name)
        if terms is not None and not append.call.is_emergency and not terms.is_open_at(view.wall_ns()):
            return _refused(call_id, Detail.ACCOUNT_DISABLED)
        if _is_full(append.call, view):
            return _refused(call_id, Detail.ACCOUNT_LIMIT, CALLS_MAX)
        if reserve is None and terms is not None and terms.is_bounded:
            reserve = _unforeseen(append.call)
        opened = _opened(append, reserve, view, draft)
        if isinstance(opened, Available):
            detail = Detail.NO_CREDIT if opened.rule is None else Detail.RULE
            return _refused(call_id, detail, opened.rule)
        open_call, bound = opened
        entry = Append(kind=EntryKind.ADMITTED, call=as_granted(append.call, open_call))
        outcome = _admitted(call_id, open_call, bound)
    elif append is not None:
        if append.kind is EntryKind.ANSWERED and not append.decided:
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
        low_balances=draft.low_balances(view.account),
    )


def forget(call_id: UUID, view: View) -> Posting:
    """Undo an admission that was reported as failed, in case it was written all the same: its reservation
    goes back, and there is no record."""
    draft = Draft(view, call_id)
    draft.release(view.open_call(call_id))
    return Posting(call_id=call_id, movements=draft.movements)


def lose(call_id: UUID, view: View) -> Posting:
    """A call whose entry cannot be read: its reservation goes back, and the sum is in suspense. What the call
    cost nobody knows, and what its account has is not more than before, until a person decides."""
    draft, open_call = Draft(view, call_id), view.open_call(call_id)
    draft.release(open_call)
    if open_call is not None and (reserved := open_call.reserved) is not None:
        draft.move(MovementKind.SUSPENSE, open_call.account, reserved.currency, -reserved.amount)
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
        case Reserve() | Extend() | Extended() | Settle():
            return command.call_id
        case Publish() | Suppress():
            return command.cdr.call_id
    raise TypeError(f"not a store command: {type(command).__name__}")


# --- parts of a posting -------------------------------------------------------------------------------------


class Draft:
    """The movements of one posting so far, each with the balance after it."""

    def __init__(self, view: MoneyView, call_id: UUID | None = None) -> None:
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

    def low_balances(self, account: Callable[[str], AccountTerms | None]) -> list[LowBalance]:
        """Accounts that these movements bring below their threshold: by what is left to them, with what live
        calls hold, so that each crossing is told once."""
        lasting: dict[tuple[str, str], Decimal] = {}
        for one in self.movements:
            if one.kind not in PASSING:
                key = (one.account, one.currency)
                lasting[key] = EXACT.add(lasting.get(key, ZERO), one.amount)
        found = []
        for (name, currency), moved in lasting.items():
            terms = account(name)
            if moved >= 0 or terms is None or terms.low_balance is None or terms.currency != currency:
                continue
            before = EXACT.add(self.view.balance(name, currency), self.view.held(name, currency))
            before = EXACT.subtract(before, terms.floor or ZERO)
            left = EXACT.add(before, moved)
            if left < terms.low_balance <= before:
                found.append(
                    LowBalance(
                        raised_at=utc(self.view.wall_ns()),
                        account=name,
                        currency=currency,
                        available=left,
                        threshold=terms.low_balance,
                    )
                )
        return found

    def reserve_before(self, account: str, currency: str, amount: Decimal, tranche: Decimal) -> None:
        """What the node has granted out of its tranche: so much of that comes back first, so that the balance
        is the same after it."""
        back = min(max(ZERO, amount), tranche)
        self.move(MovementKind.TRANCHE, account, currency, back)
        self.move(MovementKind.RESERVE, account, currency, -amount)

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


def _is_full(call: Call, view: View) -> bool:
    """Whether the account has as many calls as it may have, on all nodes together."""
    account = call.account
    if account.calls_max is None or call.is_emergency:
        return False
    up = view.calls_up(account.name, account.currency)
    return up is not None and up >= account.calls_max


def _unforeseen(call: Call) -> Reserve | None:
    """What the call would have reserved, had its node known that the account has a bound by now."""
    rate = call.pricing.rate
    if rate is None or call.pricing.free or call.is_emergency:
        return None
    return Reserve(
        call_id=call.call_id,
        account=call.account.name,
        rate=rate,
        terms=call.pricing.terms,
        total_s=UNFORESEEN_SLICE_S,
    )


def _opened(
    append: Append, reserve: Reserve | None, view: View, draft: Draft
) -> tuple[OpenCall, str | None] | Available:
    """The call as it is admitted, and the rule that bounds its grant; or what there is, where that does not
    pay one second."""
    if reserve is None:
        return OpenCall(account=append.call.account.name), None
    currency = reserve.rate.currency
    there = available(reserve.account, currency, view)
    if there.amount is None:
        return OpenCall(account=append.call.account.name), None
    granted = grant(there.amount, reserve.rate, reserve.terms, reserve.total_s)
    if granted is None and (own := view.tranche(reserve.account, currency)):
        granted = grant(EXACT.add(there.amount, own), reserve.rate, reserve.terms, reserve.total_s)
        if granted is not None:
            draft.move(MovementKind.TRANCHE, reserve.account, currency, own)
    if granted is None:
        return there
    draft.move(MovementKind.RESERVE, reserve.account, currency, -granted.reserved.amount)
    held = OpenCall(account=reserve.account, granted_s=granted.granted_s, reserved=granted.reserved)
    return held, there.rule


def _extended(asked: Extend, open_call: OpenCall | None, view: View) -> Posting:
    """A call that is over, or holds nothing, gets nothing: its record settles what it held. By the terms that
    the account has now: where they set no bound any more, it gets all that it asks for."""
    if open_call is None or open_call.reserved is None or open_call.granted_s is None:
        failed = Outcome(asked.call_id, OutcomeKind.STEP_FAILED)
        return Posting(call_id=asked.call_id, open_call=open_call, outcome=failed)
    draft = Draft(view, asked.call_id)
    held = Grant(granted_s=open_call.granted_s, reserved=open_call.reserved)
    there = available(open_call.account, held.reserved.currency, view)
    budget = AMOUNT_LARGEST if there.amount is None else there.amount
    granted = extend(budget, held, asked.rate, asked.terms, asked.total_s)
    own = view.tranche(open_call.account, held.reserved.currency) if granted.final else ZERO
    if own and granted.granted_s == held.granted_s:
        granted = extend(EXACT.add(budget, own), held, asked.rate, asked.terms, asked.total_s)
        if granted.granted_s > held.granted_s:
            draft.move(MovementKind.TRANCHE, open_call.account, held.reserved.currency, own)
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
            rule=there.rule,
        ),
    )


def _admitted_before(append: Append, view: View) -> Posting:
    """As the node has decided it, whatever the terms say by now: the call was let go."""
    call = append.call
    open_call = view.open_call(call.call_id)
    if open_call is not None or view.recorded(call.call_id) is not None:
        return Posting(call_id=call.call_id, open_call=open_call)
    draft = Draft(view, call.call_id)
    if call.reserved is not None:
        key = (call.account.name, call.reserved.currency)
        draft.reserve_before(*key, call.reserved.amount, view.tranche(*key))
    open_call = OpenCall(account=call.account.name, granted_s=call.granted_s, reserved=call.reserved)
    return Posting(call_id=call.call_id, movements=draft.movements, open_call=open_call, entry=append)


def _extended_before(granted: Extended, view: View) -> Posting:
    open_call = view.open_call(granted.call_id)
    if open_call is None or open_call.reserved is None or granted.granted_s <= (open_call.granted_s or 0):
        return Posting(call_id=granted.call_id, open_call=open_call)
    draft = Draft(view, granted.call_id)
    more = EXACT.subtract(granted.reserved.amount, open_call.reserved.amount)
    key = (open_call.account, granted.reserved.currency)
    draft.reserve_before(*key, more, view.tranche(*key))
    return Posting(
        call_id=granted.call_id,
        movements=draft.movements,
        open_call=replace(open_call, granted_s=granted.granted_s, reserved=granted.reserved),
    )


class Available(NamedTuple):
    """What may be reserved now; None: as much as anybody wants. `rule`: what bounds it, where it is not the
    balance."""

    amount: Decimal | None
    rule: str | None = None


def available(name: str, currency: str, view: View) -> Available:
    """The least of what the balance has above its floor, and of what is left of each spending limit. An
    account whose terms were lost with a damaged file spends nothing that is not there."""
    terms = view.account(name)
    floor = ZERO if terms is None else terms.floor
    bounds: list[tuple[Decimal, str | None]] = []
    if floor is not None:
        bounds.append((EXACT.subtract(view.balance(name, currency), floor), None))
    for limit, since_ns in () if terms is None else terms.spending_limits(view.wall_ns()):
        spent = EXACT.add(view.charged_since(name, currency, since_ns), view.held(name, currency))
        bounds.append((EXACT.subtract(limit, spent), SPENDING_LIMIT))
    return Available(*min(bounds, key=lambda bound: bound[0])) if bounds else Available(None)


def _refused(call_id: UUID, detail: Detail, rule: str | None = None) -> Posting:
    outcome = Outcome(call_id, OutcomeKind.CREDIT_REFUSED, detail=detail, rule=rule)
    return Posting(call_id=call_id, outcome=outcome)


def as_granted(call: Call, open_call: OpenCall) -> Call:
    """The call as an entry has it, with what the books have granted it: an extension writes no entry."""
    return replace(call, granted_s=open_call.granted_s, reserved=open_call.reserved)


def _admitted(call_id: UUID, open_call: OpenCall, rule: str | None = None) -> Outcome:
    held = (open_call.granted_s, open_call.reserved)
    return Outcome(call_id, OutcomeKind.ADMITTED, *held, rule=rule)


def _numbered(publish: Publish | Suppress, view: View) -> Record:
    if isinstance(publish, Suppress):
        return Record(publish.cdr)
    return Record(publish.cdr, view.head_seq() + 1, view.account_seq(publish.cdr.account))
