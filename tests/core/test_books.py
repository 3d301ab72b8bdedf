"""The rules of the books, on the function that runs in the store: a case for each, and what holds for any
sequence of steps, however often each is repeated and wherever the node crashes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.account_books import AccountPosting, book, open_account
from sidecar.core.account_terms import SPENDING_LIMIT
from sidecar.core.audit import Change, Operator
from sidecar.core.books import (
    UNFORESEEN_SLICE_S,
    Movement,
    MovementKind,
    Outcome,
    OutcomeKind,
    Record,
    as_granted,
    call_of,
)
from sidecar.core.call import Call
from sidecar.core.commands import (
    Append,
    Audit,
    Command,
    EntryKind,
    Extend,
    Publish,
    Reserve,
    Settle,
    StoreCommand,
    Suppress,
)
from sidecar.core.policy import RecordFlags
from sidecar.core.records import cdr_of, sell_total
from sidecar.core.terms import Detail, HangupOrigin, Money
from tests.adapters.store_calls import (
    NO_SERVER_RECORDS,
    POLICY,
    admission,
    admitted,
    answered,
    call_id,
    ended,
    ending,
    entry,
    extension,
    first_slice,
    reserve,
    terms_of,
)
from tests.core.memory_books import MemoryBooks

Step = tuple[StoreCommand, ...]
CHARGE = Decimal("0.07259")  # of 61 s at 0.06 a minute, by the second after the first, and 19 % tax
NO_CDR = replace(POLICY, flags=RecordFlags(no_cdr_numbers=frozenset({"49*"})))
CHANGE = Change(operator=Operator("ann", 1000), action="call.release", subject="1")
HOUR = Decimal("4.284")  # 3,600 s of it, the most that a call of `store_calls` reserves


def euros(amount: str | int | Decimal) -> Money:
    return Money(Decimal(amount), "EUR")


def books_with(balance: str | int | Decimal = 5, account: str = "acme") -> MemoryBooks:
    books = MemoryBooks()
    assert books.open_account(account) == ""
    assert books.top_up(account, euros(balance), "first") == ""
    return books


def prepaid(number: int = 1) -> Call:
    return admitted(number, prepaid=True)


def over(number: int = 1, talk_ms: int = 61_000, **fields: Any) -> Call:
    return replace(ended(answered(prepaid(number)), talk_ms), **fields)


def drained(number: int = 1) -> Call:
    return ended(answered(prepaid(number)), origin=HangupOrigin.SERVER, detail=Detail.DRAIN)


def moves(movements: Sequence[Movement]) -> list[tuple[str, Decimal, Decimal]]:
    return [(line.kind.value, line.amount, line.balance) for line in movements]


def kinds(books: MemoryBooks) -> list[OutcomeKind]:
    return [outcome.kind for outcome in books.outcomes]


# --- admissions ---------------------------------------------------------------------------------------------


def test_an_admission_reserves_what_the_balance_affords_and_keeps_it_in_the_entry() -> None:
    books = books_with(5)
    posting = books.post(admission(prepaid()))
    assert moves(posting.movements) == [("reserve", -HOUR, 5 - HOUR)]
    (line,) = posting.movements
    assert (line.account, line.currency, line.call_id) == ("acme", "EUR", call_id(1))
    assert (line.revision, line.reference) == (None, None)
    assert posting.outcome is not None
    assert posting.outcome.kind is OutcomeKind.ADMITTED
    assert (posting.outcome.granted_s, posting.outcome.reserved) == (3_600, euros(HOUR))
    assert posting.entry == Append(
        kind=EntryKind.ADMITTED, call=replace(prepaid(), granted_s=3_600, reserved=euros(HOUR))
    )
    held = posting.open_call
    assert held is not None
    assert (held.account, held.granted_s, held.reserved) == ("acme", 3_600, euros(HOUR))
    assert posting.record is None


def test_an_admission_without_a_reservation_moves_nothing() -> None:
    books = MemoryBooks()
    posting = books.post(admission(admitted(1, "other")))
    assert posting.movements == []
    assert posting.entry == Append(kind=EntryKind.ADMITTED, call=admitted(1, "other"))
    assert posting.open_call is not None
    assert (posting.open_call.account, posting.open_call.reserved) == ("other", None)
    assert posting.outcome is not None
    assert (posting.outcome.kind, posting.outcome.granted_s) == (OutcomeKind.ADMITTED, None)


def test_a_bound_that_the_node_did_not_know_of_holds_by_the_terms_of_the_books() -> None:
    """The account was made prepaid by another node, or just now: the call came without a reservation."""
    without = (Append(kind=EntryKind.ADMITTED, call=admitted(1)),)
    posting = books_with(5).post(without)
    assert posting.outcome is not None
    assert (posting.outcome.kind, posting.outcome.granted_s) == (OutcomeKind.ADMITTED, UNFORESEEN_SLICE_S)
    assert moves(posting.movements) == [("reserve", -HOUR / 60, 5 - HOUR / 60)]
    refused = books_with("0.0001").post(without)
    assert refused.outcome is not None
    assert (refused.outcome.kind, refused.outcome.detail) == (OutcomeKind.CREDIT_REFUSED, Detail.NO_CREDIT)
    for call in (
        replace(admitted(1), emergency=True),
        replace(admitted(1), pricing=replace(admitted(1).pricing, free=True)),
        replace(admitted(1), pricing=replace(admitted(1).pricing, rate=None)),
    ):
        books = books_with("0.0001")
        assert books.post((Append(kind=EntryKind.ADMITTED, call=call),)).movements == []
        assert kinds(books) == [OutcomeKind.ADMITTED]


@pytest.mark.parametrize(
    ("calls_max", "up", "emergency", "admits"),
    [
        (2, 1, False, True),
        (2, 2, False, False),
        (2, None, False, True),
        (None, 9, False, True),
        (2, 9, True, True),
    ],
)
def test_an_account_has_so_many_calls_on_all_nodes_together(
    calls_max: int | None, up: int | None, emergency: bool, admits: bool
) -> None:
    books = books_with(5)
    books.calls_elsewhere = up
    account = replace(prepaid().account, calls_max=calls_max)
    posting = books.post(admission(replace(prepaid(), account=account, emergency=emergency)))
    assert posting.outcome is not None
    found = (posting.outcome.kind, posting.outcome.detail, posting.outcome.rule)
    refused = (OutcomeKind.CREDIT_REFUSED, Detail.ACCOUNT_LIMIT, "calls_max")
    assert (found[0] is OutcomeKind.ADMITTED) if admits else (found == refused)


def test_a_reservation_is_taken_from_the_account_and_currency_that_it_names() -> None:
    books = books_with(5, "parent")
    other = replace(reserve(prepaid()), account="parent")
    books.post((other, Append(kind=EntryKind.ADMITTED, call=prepaid())))
    assert books.balance("parent", "EUR") == 5 - HOUR
    assert books.balance("acme", "EUR") == 0
    assert books.open[call_id(1)].account == "parent"
    books.post((Publish(cdr=cdr_of(over(), POLICY)),))
    assert books.balance("parent", "EUR") == 5


def test_no_more_is_reserved_than_the_first_slice_costs() -> None:
    books = books_with(5)
    short = replace(reserve(prepaid()), total_s=60)
    posting = books.post((short, Append(kind=EntryKind.ADMITTED, call=prepaid())))
    assert posting.outcome is not None
    assert (posting.outcome.granted_s, posting.outcome.reserved) == (60, euros(HOUR / 60))


def test_the_order_of_an_admissions_commands_says_nothing() -> None:
    books = books_with(5)
    first, second = admission(prepaid())
    assert books.post((second, first)).open_call == books_with(5).post((first, second)).open_call


def test_an_admission_that_the_balance_does_not_pay_is_refused_whole() -> None:
    books = books_with("0.0001")
    posting = books.post(admission(prepaid()))
    assert kinds(books) == [OutcomeKind.CREDIT_REFUSED]
    assert (posting.movements, posting.entry, posting.open_call, posting.record) == ((), None, None, None)


def test_a_second_call_gets_what_the_first_has_left() -> None:
    books = books_with(5)
    books.post(admission(prepaid(1)))
    books.post(admission(prepaid(2)))
    first, second = books.open[call_id(1)].reserved, books.open[call_id(2)].reserved
    assert first is not None
    assert second is not None
    assert books.balance("acme", "EUR") == 5 - first.amount - second.amount >= 0
    books.post(admission(prepaid(3)))
    assert kinds(books) == [OutcomeKind.ADMITTED, OutcomeKind.ADMITTED, OutcomeKind.CREDIT_REFUSED]


# --- extensions ---------------------------------------------------------------------------------------------


def test_an_extension_reserves_the_difference_and_writes_no_entry() -> None:
    books = books_with(5)
    books.post(first_slice(prepaid(), 60))
    posting = books.post(extension(prepaid(), 180))
    assert moves(posting.movements) == [("reserve", -2 * HOUR / 60, 5 - 3 * HOUR / 60)]
    assert posting.movements[0].call_id == call_id(1)
    assert posting.outcome == Outcome(
        call_id(1), OutcomeKind.GRANT_EXTENDED, 180, euros(3 * HOUR / 60), final=False
    )
    assert posting.entry is None
    held = books.open[call_id(1)]
    assert (held.granted_s, held.reserved) == (180, euros(3 * HOUR / 60))
    found = as_granted(books.entries[call_id(1)].call, held)
    assert (found.granted_s, found.reserved) == (180, euros(3 * HOUR / 60))
    assert books.faults() == []


def test_an_extension_repeated_moves_nothing() -> None:
    books = books_with(5)
    books.post(first_slice(prepaid(), 60))
    books.post(extension(prepaid(), 180))
    posting = books.post(extension(prepaid(), 180))
    assert posting.movements == []
    assert posting.outcome is not None
    assert (posting.outcome.granted_s, posting.outcome.final) == (180, False)


def test_an_extension_that_the_balance_does_not_pay_is_refused_and_the_grant_stays() -> None:
    books = books_with(HOUR / 60 + Decimal("0.0001"))
    books.post(first_slice(prepaid(), 60))
    posting = books.post(extension(prepaid(), 120))
    assert posting.movements == []
    assert posting.outcome == Outcome(
        call_id(1), OutcomeKind.GRANT_EXTENDED, 60, euros(HOUR / 60), final=True
    )


def test_the_record_gives_back_all_that_was_reserved() -> None:
    books = books_with(5)
    books.post(first_slice(prepaid(), 60))
    books.post(extension(prepaid(), 120))
    posting = books.post(ending(over()))
    assert [line.kind for line in posting.movements] == ["release", "charge"]
    assert posting.movements[0].amount == 2 * HOUR / 60
    assert books.faults() == []


def test_a_call_that_is_over_or_reserves_nothing_is_not_extended() -> None:
    books = books_with(5)
    books.post(admission(admitted(1, "other")))
    for _ in range(2):
        posting = books.post(extension(prepaid(), 120))
        assert (posting.movements, posting.outcome) == ((), Outcome(call_id(1), OutcomeKind.STEP_FAILED))
        books.post((Publish(cdr=cdr_of(over(), POLICY)),))
    assert books.open == {}


@pytest.mark.parametrize("more", [entry(EntryKind.ENDING, prepaid()), admission(prepaid()), ending(over())])
def test_an_extension_is_a_step_of_its_own(more: tuple[StoreCommand, ...]) -> None:
    books = books_with(5)
    with pytest.raises(ValueError, match="step of its own"):
        books.post((*more, *extension(prepaid(), 120)))


def test_an_admission_repeated_while_the_call_is_up_says_the_same_and_moves_nothing() -> None:
    books = books_with(5)
    books.post(admission(prepaid()))
    books.post(entry(EntryKind.ANSWERED, answered(prepaid())))
    before = books.saved()
    posting = books.post(admission(prepaid()))
    assert books.outcomes[-1] == before.outcomes[0]
    assert (posting.movements, posting.entry) == ((), None)
    assert books.open == before.open


@pytest.mark.parametrize("last", [ending(over()), ending(drained(), NO_SERVER_RECORDS)])
def test_an_admission_of_a_call_that_has_its_record_fails(last: Step) -> None:
    books = books_with(5)
    books.post(admission(prepaid()))
    books.post(last)
    before = books.saved()
    posting = books.post(admission(prepaid()))
    assert kinds(books) == [OutcomeKind.ADMITTED, OutcomeKind.STEP_FAILED]
    assert (posting.movements, posting.entry, posting.open_call) == ((), None, None)
    assert books.ledger == before.ledger


def test_an_admission_that_was_reported_as_failed_is_undone() -> None:
    books = books_with(5)
    books.post(admission(prepaid()))
    posting = books.forget(call_id(1))
    assert moves(posting.movements) == [("release", HOUR, Decimal(5))]
    assert (posting.open_call, posting.entry, posting.record, posting.outcome) == (None,) * 4
    assert books.forget(call_id(1)).movements == []
    books.post(admission(prepaid()))
    assert kinds(books) == [OutcomeKind.ADMITTED, OutcomeKind.ADMITTED]


# --- entries ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in EntryKind if kind is not EntryKind.ADMITTED])
def test_an_entry_takes_the_place_of_the_one_before_and_only_an_answer_is_told(kind: EntryKind) -> None:
    books = books_with(5)
    books.post(admission(prepaid()))
    held = books.open[call_id(1)]
    posting = books.post(entry(kind, answered(prepaid())))
    assert posting.entry == Append(kind=kind, call=answered(prepaid()))
    assert posting.open_call is held
    assert posting.movements == []
    told = [OutcomeKind.ANSWER_RECORDED] if kind is EntryKind.ANSWERED else []
    assert kinds(books)[1:] == told


@pytest.mark.parametrize("is_over", [False, True])
def test_an_answer_of_a_call_that_is_not_open_is_not_let_go(is_over: bool) -> None:
    books = MemoryBooks()
    if is_over:
        books.post(ending(over()))
    posting = books.post(entry(EntryKind.ANSWERED, answered(admitted())))
    assert kinds(books) == [OutcomeKind.STEP_FAILED]
    assert (posting.entry, posting.open_call) == (None, None)


def test_an_entry_of_a_call_that_is_over_is_dropped() -> None:
    books = MemoryBooks()
    books.post(admission(admitted()))
    books.post(ending(over()))
    posting = books.post(entry(EntryKind.ESTABLISHED, answered(admitted())))
    assert (posting.entry, posting.open_call, posting.outcome) == (None, None, None)


# --- settling, and records ----------------------------------------------------------------------------------


def test_the_end_returns_the_reservation_then_charges_the_call_and_numbers_its_record() -> None:
    books = books_with(5)
    books.post(admission(prepaid()))
    posting = books.post(ending(over()))
    assert moves(posting.movements) == [("release", HOUR, Decimal(5)), ("charge", -CHARGE, 5 - CHARGE)]
    assert [line.revision for line in posting.movements] == [None, 0]
    assert posting.record == Record(cdr_of(over(), POLICY), 1, None)
    assert (posting.open_call, posting.entry, posting.outcome) == (None, None, None)


def test_a_step_whose_record_exists_is_dropped_with_its_settle() -> None:
    books = books_with(5)
    books.post(admission(prepaid()))
    books.post(ending(over()))
    before = books.saved()
    for again in (ending(over()), ending(over(talk_ms=1)), ending(drained(), NO_SERVER_RECORDS)):
        posting = books.post(again)
        assert (posting.movements, posting.record, posting.open_call) == ((), None, None)
    assert books.ledger == before.ledger
    assert books.records == before.records


def test_an_earlier_revision_is_dropped_and_a_later_one_is_not() -> None:
    books = books_with(5)
    books.post(ending(over(revision=1)))
    for revision in (0, 1):
        assert books.post(ending(over(revision=revision))).record is None
    assert books.post(ending(over(revision=2))).record is not None


def test_a_charge_is_posted_as_the_difference_to_what_was_charged() -> None:
    books = books_with(5)
    books.post(ending(over()))
    posting = books.post(ending(over(talk_ms=30_000, revision=1)))
    (line,) = posting.movements
    assert (line.kind, line.revision, line.amount) == (MovementKind.CHARGE, 1, Decimal("0.03689"))
    again = books.post(ending(over(talk_ms=30_000, revision=2)))
    assert again.movements == []
    assert again.record is not None
    assert books.faults() == []


def test_a_charge_that_moves_to_another_account_is_given_back_to_the_first() -> None:
    books = books_with(5)
    books.post(ending(over()))
    cdr = cdr_of(over(revision=1), POLICY)
    line = replace(cdr.charges[0], currency="USD", total=Decimal("0.08"))
    moved = replace(cdr, account="other", charges=(line,))
    total = Money(Decimal("0.08"), "USD")
    posting = books.post((Settle(call_id=call_id(1), account="other", total=total), Publish(cdr=moved)))
    assert [line.account for line in posting.movements] == ["acme", "other"]
    assert {(line.kind, line.revision) for line in posting.movements} == {(MovementKind.CHARGE, 1)}
    assert books.balance("acme", "EUR") == 5
    assert books.balance("other", "USD") == -total.amount
    assert books.faults() == []


def test_what_a_call_was_charged_in_many_accounts_is_given_back_in_their_order() -> None:
    """Not in that of a set, which differs from one process to the next."""
    books = MemoryBooks()
    books.post(admission(admitted()))
    names = [f"{letter}{number}" for number in range(4) for letter in "zyxa"]
    for name in names:
        line = Movement(
            kind=MovementKind.CHARGE,
            account=name,
            currency="EUR",
            amount=Decimal(-1),
            balance=Decimal(-1),
            call_id=call_id(1),
            revision=0,
        )
        books.ledger.append(line)
    posting = books.post((Settle(call_id=call_id(1), account="acme", total=None),))
    assert [line.account for line in posting.movements] == sorted(names)


def test_a_settle_without_a_charge_returns_the_reservation_and_the_call_stays_open() -> None:
    books = books_with(5)
    books.post(admission(prepaid()))
    nothing = (Settle(call_id=call_id(1), account="acme", total=None),)
    posting = books.post(nothing)
    assert moves(posting.movements) == [("release", HOUR, Decimal(5))]
    assert posting.open_call is not None
    assert (posting.open_call.reserved, posting.open_call.granted_s) == (None, 3_600)
    assert books.post(nothing).movements == []
    assert books.post(ending(over())).movements[0].kind is MovementKind.CHARGE
    assert books.faults() == []


def test_a_settle_without_a_record_is_of_revision_0() -> None:
    books = books_with(5)
    books.post(admission(prepaid()))
    books.post((Settle(call_id=call_id(1), account="acme", total=euros(1)),))
    assert books.ledger[-1].revision == 0
    assert books.balance("acme", "EUR") == 4
    books.post((Settle(call_id=call_id(1), account="acme", total=euros(1)),))
    assert books.balance("acme", "EUR") == 4


@pytest.mark.parametrize("command", [Publish, Suppress])
def test_a_record_without_a_settle_still_returns_the_reservation(command: Callable[..., Command]) -> None:
    books = books_with(5)
    books.post(admission(prepaid()))
    record = command(cdr=cdr_of(ended(prepaid(), detail=Detail.CANCEL), POLICY))
    assert isinstance(record, (Publish, Suppress))
    posting = books.post((record,))
    assert moves(posting.movements) == [("release", HOUR, Decimal(5))]
    assert books.open == {}


def test_a_step_with_an_entry_and_the_record_closes_the_call() -> None:
    books = books_with(5)
    books.post(admission(prepaid()))
    posting = books.post((*entry(EntryKind.ENDING, over()), *ending(over())))
    assert (posting.open_call, posting.entry) == (None, None)
    assert posting.record is not None
    assert books.faults() == []


def test_numbers_are_gapless_name_the_last_of_their_account_and_records_kept_back_take_none() -> None:
    books = MemoryBooks()
    books.post(ending(replace(over(1), account=replace(over().account, name="a"))))
    books.post(ending(replace(over(2), account=replace(over().account, name="b"))))
    kept = books.post(ending(drained(3), NO_SERVER_RECORDS)).record
    books.post(ending(replace(over(4), account=replace(over().account, name="a"))))
    assert kept is not None
    assert (kept.cdr.recorded, kept.seq, kept.account_prev_seq) == (False, None, None)
    found = [(one.seq, one.cdr.account, one.account_prev_seq) for one in books.records if one is not kept]
    assert found == [(1, "a", None), (2, "b", None), (3, "a", 1)]


def test_a_call_that_was_never_admitted_may_have_its_record() -> None:
    books = MemoryBooks()
    record = Publish(cdr=cdr_of(ended(admitted(), detail=Detail.CANCEL), POLICY))
    assert books.post((record,)).record is not None
    assert books.post((record,)).record is None


# --- revising -----------------------------------------------------------------------------------------------


def test_only_the_newest_record_of_a_call_that_is_over_is_revised() -> None:
    books = books_with(5)
    first, second = cdr_of(over(revision=1), POLICY), cdr_of(over(revision=2, talk_ms=1), POLICY)
    assert books.revise(first) is None  # never heard of
    books.post(admission(prepaid()))
    assert books.revise(first) is None  # open
    books.post(ending(over()))
    assert books.revise(cdr_of(over(), POLICY)) is None
    assert books.revise(second) is None  # the one before it is missing
    assert books.revise(first) is not None
    assert books.revise(first) is None
    assert books.revise(second) is not None
    assert [one.cdr.revision for one in books.records] == [0, 1, 2]
    assert books.faults() == []


def test_a_revision_is_published_where_it_is_recorded_and_kept_back_where_it_is_not() -> None:
    books = books_with(5)
    books.post(ending(over()))
    for revision, policy, seq in ((1, POLICY, 2), (2, NO_CDR, None)):
        posting = books.revise(cdr_of(over(revision=revision, talk_ms=revision), policy))
        assert posting is not None
        assert posting.record is not None
        assert posting.record.seq == seq
    assert books.faults() == []


def test_a_void_revision_gives_everything_back() -> None:
    books = books_with(5)
    books.post(ending(over()))
    posting = books.revise(replace(cdr_of(over(revision=1), POLICY), void=True))
    assert posting is not None
    assert moves(posting.movements) == [("charge", CHARGE, Decimal(5))]
    assert books.faults() == []


def test_a_revision_of_a_call_whose_charge_is_waived_moves_nothing() -> None:
    books = books_with(5)
    books.post(ending(drained(), NO_SERVER_RECORDS))
    assert books.balance("acme", "EUR") == 5
    posting = books.revise(cdr_of(replace(drained(), revision=1), NO_SERVER_RECORDS))
    assert posting is not None
    assert posting.movements == []
    assert books.faults() == []


def test_a_revision_that_waives_the_charge_gives_it_back() -> None:
    books = books_with(5)
    books.post(ending(over()))
    assert books.revise(cdr_of(replace(drained(), revision=1), NO_SERVER_RECORDS)) is not None
    assert books.balance("acme", "EUR") == 5
    assert books.faults() == []


# --- steps that nobody may build ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step",
    [
        (),
        (*ending(over(1)), *ending(over(2))),
        (*entry(EntryKind.ATTEMPT, admitted()), *entry(EntryKind.ATTEMPT, admitted())),
        (Settle(call_id=call_id(1), account="acme", total=None), Publish(cdr=cdr_of(over(2), POLICY))),
        (reserve(prepaid()),),
        (reserve(prepaid()), Append(kind=EntryKind.ATTEMPT, call=prepaid())),
        (reserve(prepaid()), Append(kind=EntryKind.ADMITTED, call=prepaid(2))),
        (Audit(change=CHANGE),),
    ],
    ids=["empty", "two records", "two entries", "two calls", "alone", "no admission", "of another", "audit"],
)
def test_a_step_that_nobody_may_build_is_a_defect(step: Step) -> None:
    books = books_with(5)
    with pytest.raises(ValueError, match=r"a step has|a reservation without"):
        books.post(step)


def test_every_command_says_whose_it_is() -> None:
    call = prepaid(3)
    commands = [
        *admission(call),
        *extension(prepaid(3), 60),
        *ending(over(3)),
        *ending(drained(3), NO_SERVER_RECORDS),
    ]
    assert {type(command) for command in commands} == {Reserve, Extend, Append, Settle, Publish, Suppress}
    assert {call_of(command) for command in commands} == {call_id(3)}
    with pytest.raises(TypeError, match="not a store command: StoreCommand"):
        call_of(StoreCommand())


# --- what people changed ------------------------------------------------------------------------------------


def test_a_change_is_noted_with_its_step_wherever_it_stands_in_it() -> None:
    books, noted, twice = books_with(5), Audit(change=CHANGE), replace(CHANGE, text="again")
    assert books.post((noted, *admission(prepaid()))).changes == [CHANGE]
    end = ending(over())
    posting = books.post((end[0], noted, end[1], Audit(change=twice)))
    assert (posting.changes, posting.record is not None) == ([CHANGE, twice], True)
    assert books.post(admission(prepaid(2))).changes == []


def test_a_change_is_dropped_with_its_step() -> None:
    books, noted = books_with(5), Audit(change=CHANGE)
    books.post(admission(prepaid(1)))
    assert not books.post((*admission(prepaid(1)), noted)).changes  # admitted already
    books.post(ending(over(1)))
    assert not books.post((*ending(over(1)), noted)).changes  # its record exists
    assert not books.post((*admission(prepaid(1)), noted)).changes  # over
    poor = books_with("0.0001")
    assert not poor.post((*admission(prepaid(3)), noted)).changes  # no credit


def test_a_change_of_an_account_is_noted_where_something_changes() -> None:
    books = books_with(5)
    made = open_account(terms_of("b", prepaid=False), books, CHANGE)
    again = open_account(terms_of("acme"), books, CHANGE)
    assert isinstance(made, AccountPosting)
    assert isinstance(again, AccountPosting)
    assert made.change == replace(CHANGE, after='{"currency":"EUR","kind":"postpaid"}')
    assert again.change is None
    paid = book(MovementKind.TOP_UP, "acme", euros("0.50"), "second", books, CHANGE)
    again = book(MovementKind.TOP_UP, "acme", euros(5), "first", books, CHANGE)
    unnoted = book(MovementKind.TOP_UP, "acme", euros("0.50"), "third", books)
    assert isinstance(paid, AccountPosting)
    assert isinstance(again, AccountPosting)
    assert isinstance(unnoted, AccountPosting)
    assert paid.change == replace(
        CHANGE,
        before='{"balance":"5","currency":"EUR"}',
        after='{"balance":"5.50","currency":"EUR","reference":"second"}',
    )
    assert (again.change, unnoted.change) == (None, None)


# --- accounts -----------------------------------------------------------------------------------------------


def test_an_account_is_made_once_and_never_on_other_terms() -> None:
    books = MemoryBooks()
    assert books.open_account("a") == ""
    assert books.open_account("a") == ""
    assert books.open_account("a", "USD") == "account a: exists with other terms (currency EUR)"
    assert books.open_account("a", prepaid=False) == "account a: exists with other terms (kind prepaid)"
    assert books.open_account("b", prepaid=False) == ""
    assert books.open_account("b") == "account b: exists with other terms (kind postpaid)"
    assert [(one.name, one.prepaid) for one in books.accounts.values()] == [("a", True), ("b", False)]


def test_terms_change_and_the_currency_never() -> None:
    books = books_with(5)
    terms = replace(terms_of("acme"), credit_limit=Decimal(2))
    assert books.set_terms(terms) == ""
    assert books.accounts["acme"] == terms
    assert books.set_terms(replace(terms, currency="USD")) == (
        "account acme: is kept in EUR, and cannot change to USD"
    )
    books.post(admission(prepaid()))  # an hour costs less
    assert books.balance("acme", "EUR") == 5 - HOUR
    books.post(admission(prepaid(2)))
    assert -2 <= books.balance("acme", "EUR") < 0
    assert books.set_terms(replace(terms, disabled_by_command=True)) == ""
    posting = books.post(admission(prepaid(3)))
    assert posting.outcome is not None
    assert (posting.outcome.kind, posting.outcome.detail) == (
        OutcomeKind.CREDIT_REFUSED,
        Detail.ACCOUNT_DISABLED,
    )


@pytest.mark.parametrize(
    ("kind", "amount", "text", "said"),
    [
        (MovementKind.ADJUST, "-7.5", "charged back", ""),
        (MovementKind.CREDIT_NOTE, "7.5", "wrong deck", ""),
        (MovementKind.ADJUST, "-7.5", "", "account acme: adjust needs a reason"),
        (MovementKind.CREDIT_NOTE, "-1", "x", "credit_note of -1: what takes away is an adjustment"),
        (MovementKind.ADJUST, "NaN", "x", "a movement needs a reference and an amount other than 0"),
    ],
)
def test_a_movement_of_a_person_names_who_and_why(
    kind: MovementKind, amount: str, text: str, said: str
) -> None:
    books = books_with(5)
    change = replace(CHANGE, text=text)
    found = books.book(kind, "acme", euros(amount), "r", change)
    assert said in found
    assert bool(found) == bool(said)
    if not said:
        line = books.ledger[-1]
        assert (line.kind, line.amount, line.operator, line.text) == (kind, Decimal(amount), "ann", text)
        assert books.book(kind, "acme", euros(amount), "r", change) == ""
        assert books.balance("acme", "EUR") == 5 + Decimal(amount)


def test_spending_limits_bound_what_is_granted_and_name_their_rule() -> None:
    books = books_with(50)
    books.set_terms(replace(terms_of("acme"), day_limit=Decimal("0.1"), month_limit=Decimal(40)))
    posting = books.post(admission(prepaid()))
    assert posting.outcome is not None
    assert posting.outcome.rule == SPENDING_LIMIT
    assert posting.outcome.reserved is not None
    assert posting.outcome.reserved.amount <= Decimal("0.1")
    books.post(ending(over(1, 5_000)))
    charged = 50 - books.balance("acme", "EUR")
    books.set_terms(replace(terms_of("acme"), day_limit=charged, month_limit=Decimal(40)))
    refused = books.post(admission(prepaid(2)))
    assert refused.outcome is not None
    assert (refused.outcome.detail, refused.outcome.rule) == (Detail.RULE, SPENDING_LIMIT)


def test_a_reference_is_booked_once_for_each_account() -> None:
    books = books_with(5)
    assert books.top_up("acme", euros("5.00"), "first") == ""
    assert books.top_up("acme", euros(7), "first") == (
        "account acme: reference 'first' is booked already, as top_up 5"
    )
    assert books.balance("acme", "EUR") == 5
    assert books.top_up("acme", euros(7), "second") == ""
    books.open_account("b")
    assert books.top_up("b", euros(1), "first") == ""
    found = [(line.account, int(line.amount), int(line.balance), line.reference) for line in books.ledger]
    assert found == [("acme", 5, 5, "first"), ("acme", 7, 12, "second"), ("b", 1, 1, "first")]
    assert {line.kind for line in books.ledger} == {MovementKind.TOP_UP}


@pytest.mark.parametrize(
    ("name", "amount", "reference", "said"),
    [
        ("acme", euros(0), "r", "account acme: a movement needs a reference and an amount other than 0"),
        ("acme", euros("-0.01"), "r", "account acme: top_up of -0.01: what takes away is an adjustment"),
        ("acme", euros("NaN"), "r", "account acme: a movement needs a reference and an amount other than 0"),
        ("acme", euros(1), "", "account acme: a movement needs a reference and an amount other than 0"),
        ("b", euros(1), "r", "account b: not known; create it first"),
        ("acme", Money(Decimal(1), "USD"), "r", "account acme: is kept in EUR, not USD"),
    ],
)
def test_a_top_up_that_is_refused_says_why(name: str, amount: Money, reference: str, said: str) -> None:
    books = books_with(5)
    before = books.saved()
    assert books.top_up(name, amount, reference) == said
    assert books.ledger == before.ledger


def test_a_sum_that_would_be_rounded_is_a_defect() -> None:
    books = books_with("1e60")
    with pytest.raises(ArithmeticError):
        books.top_up("acme", euros("1e-60"), "tiny")


# --- whatever happens ---------------------------------------------------------------------------------------

numbers = st.integers(1, 4)
talks_ms = st.sampled_from([0, 900, 61_000, 400_000, 5_000_000])
# Mostly what comes next in a call's life, so that calls get old; and anything at any time.
actions = st.one_of(
    st.tuples(st.just("next"), numbers, talks_ms),
    st.tuples(st.just("next"), numbers, talks_ms),
    st.tuples(st.sampled_from(["begin", "answer", "end", "revise"]), numbers, talks_ms),
    st.tuples(st.sampled_from(["kept", "lost", "release", "forget"]), numbers, talks_ms),
    st.tuples(st.just("top_up"), numbers, st.integers(1, 9)),
)
# What one transaction holds, how often each step is repeated, and whether the node crashes before the end.
transactions = st.lists(
    st.tuples(
        st.lists(actions, min_size=2, max_size=6), st.integers(1, 3), st.sampled_from([False] * 4 + [True])
    ),
    min_size=4,
    max_size=9,
)


class Node:
    """Does what the action says, as the runtime would, and knows only what it was told."""

    def __init__(self) -> None:
        self.books = MemoryBooks()
        self.paid: dict[str, Decimal] = defaultdict(Decimal)
        for name, is_prepaid in (("a", True), ("b", False)):
            assert self.books.open_account(name, prepaid=is_prepaid) == ""
        self.act("top_up", 5, 6)  # pays one call and a half

    def act(self, kind: str, number: int, value: int, times: int = 1) -> None:
        if kind == "next":
            kind = self.next_of(call_id(number))
        for _ in range(times):
            self._act(kind, number, value)

    def next_of(self, call: UUID) -> str:
        if call not in self.books.open:
            return "begin" if self.books.recorded(call) is None else "revise"
        return "answer" if self.books.entries[call].kind is EntryKind.ADMITTED else "end"

    def _act(self, kind: str, number: int, value: int) -> None:
        books, account = self.books, "ab"[number % 2]
        call = admitted(number, account, prepaid=account == "a")
        stored = books.entries[call.call_id].call if call.call_id in books.entries else None
        up = answered(call)
        if stored is not None:
            up = replace(up, granted_s=stored.granted_s, reserved=stored.reserved)
        held = books.open.get(call.call_id)
        if kind != "top_up" and held is not None and held.granted_s is not None and held.reserved is None:
            value = 0  # its reservation went back: a charge might be more than there is
        match kind:
            case "top_up":
                before = books.booked(account, f"r{number}")
                if before is None:
                    self.paid[account] += value
                refused = before is not None and before.amount != value
                assert bool(books.top_up(account, euros(value), f"r{number}")) == refused
            case "begin":
                books.post(admission(call))
            case "answer":
                books.post(entry(EntryKind.ANSWERED, up))
            case "forget":
                books.forget(call.call_id)
            case "release":
                if stored is not None:
                    books.post((Settle(call_id=call.call_id, account=account, total=None),))
            case "end" if stored is not None:
                books.post(ending(ended(up, value)))
            case "kept" if stored is not None:
                drained = ended(up, value, origin=HangupOrigin.SERVER, detail=Detail.DRAIN)
                books.post(ending(drained, NO_SERVER_RECORDS))
            case "lost" if stored is not None:
                books.post((Publish(cdr=cdr_of(ended(call, detail=Detail.CANCEL), POLICY)),))
            case "revise" if stored is None:
                newest = books.recorded(call.call_id)
                if newest is not None:
                    # Nobody asks whether a prepaid account can pay a revision: here it is a refund.
                    again = ended(up, 0 if account == "a" else value)
                    books.revise(cdr_of(replace(again, revision=newest + 1), POLICY))

    def owed(self, account: str) -> Decimal:
        """What the last record of each call says, and what open calls hold: the model."""
        last = {one.cdr.call_id: one.cdr for one in self.books.records}
        totals = [sell_total(cdr) for cdr in last.values() if cdr.account == account]
        held = [call.reserved for call in self.books.open.values() if call.account == account]
        return sum((one.amount for one in [*totals, *held] if one is not None), Decimal(0))


@settings(max_examples=150, deadline=None)
@given(transactions)
def test_the_books_close_whatever_is_repeated_and_wherever_the_node_crashes(
    work: list[tuple[list[tuple[str, int, int]], int, bool]],
) -> None:
    node = Node()
    for steps, times, crashes in work:
        before, paid = node.books.saved(), dict(node.paid)
        for kind, number, value in steps:
            node.act(kind, number, value, times)
        if crashes:
            node.books, node.paid = before, defaultdict(Decimal, paid)
        books = node.books
        assert books.faults() == []
        for account in "ab":
            assert books.balance(account, "EUR") == node.paid[account] - node.owed(account)
        assert books.balance("a", "EUR") >= 0
        revisions: dict[object, list[int]] = defaultdict(list)
        for one in books.records:
            revisions[one.cdr.call_id].append(one.cdr.revision)
            assert one.cdr.call_id not in books.open
        assert all(found == list(range(len(found))) for found in revisions.values())
        seqs = [one for one in books.records if one.seq is not None]
        assert [one.seq for one in seqs] == list(range(1, len(seqs) + 1))
        last: dict[str, int | None] = {}
        for one in seqs:
            assert one.account_prev_seq == last.get(one.cdr.account)
            last[one.cdr.account] = one.seq
        for call in books.open:
            entry_call = books.entries[call].call
            assert entry_call.granted_s == books.open[call].granted_s


@settings(max_examples=100, deadline=None)
@given(transactions)
def test_repeating_a_step_at_once_changes_nothing(
    work: list[tuple[list[tuple[str, int, int]], int, bool]],
) -> None:
    once, thrice = Node(), Node()
    for steps, _, _ in work:
        for kind, number, value in steps:
            if kind == "revise":
                continue  # a new revision is a new step
            if kind == "next" and once.next_of(call_id(number)) == "revise":
                continue
            once.act(kind, number, value)
            thrice.act(kind, number, value, 3)
    assert thrice.books.ledger == once.books.ledger
    assert thrice.books.records == once.books.records
    assert thrice.books.open == once.books.open
