"""How much of an account a node holds, when it takes and gives back, and what it decides with it while the
books are away."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from sidecar.core.account_terms import AccountKind
from sidecar.core.away import Away, Ground
from sidecar.core.books import MovementKind, OutcomeKind
from sidecar.core.commands import EntryKind, Extended
from sidecar.core.terms import Detail, Money
from sidecar.core.tranches import Burn, Burned, Reserved, is_worthwhile, resize, wanted
from tests.adapters.store_calls import (
    admission,
    admitted,
    answered,
    call_id,
    ended,
    ending,
    entry,
    extension,
    first_slice,
)
from tests.core.memory_books import WALL_NS, MemoryBooks

KEY = ("acme", "EUR")


def d(text: str) -> Decimal:
    return Decimal(text)


def away(rest: str = "0", calls_max: int = 0, books: MemoryBooks | None = None) -> Away:
    calls = (books or MemoryBooks()).open.get
    return Away({KEY: d(rest)}, calls, calls_max, lambda: WALL_NS)


# --- how much -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("burned", "usual", "there", "nodes", "holds"),
    [
        ("6", "0.5", "1000", 1, "6"),  # a minute of it
        ("0.1", "0.5", "1000", 1, "0.5"),  # at least one reservation
        ("6", "0.5", "12", 1, "3"),  # at most a quarter of what there is
        ("6", "0.5", "12", 3, "1"),  # over the nodes
        ("6", "0.5", "5.9", 3, "0"),  # that is less than one reservation
        ("6", "0.5", "-1", 1, "0"),
        ("0", "0.5", "1000", 1, "0"),  # idle
        ("1", "0.333", "1.000001", 1, "0"),
        ("1", "0.2", "1.0000014", 1, "0.250000"),  # rounded down
    ],
)
def test_a_node_holds_what_was_reserved_of_late_within_its_share(
    burned: str, usual: str, there: str, nodes: int, holds: str
) -> None:
    assert wanted(Burned(d(burned), d(usual)), 60, d(there), nodes) == d(holds)
    assert wanted(Burned(d(burned), d(usual)), 0, d(there), nodes) == 0


@pytest.mark.parametrize(
    ("held", "want", "is_worth_it"),
    [
        ("4", "5", False),
        ("4", "5.1", True),
        ("4", "3", False),
        ("4", "2.9", True),
        ("4", "0", True),
        ("0", "0.01", True),
        ("0", "0", False),
    ],
)
def test_a_small_difference_is_left(held: str, want: str, is_worth_it: bool) -> None:
    assert is_worthwhile(d(held), d(want)) is is_worth_it


def test_what_was_reserved_of_late_fades_within_two_minutes() -> None:
    burn = Burn(1_000.0)
    burn.add({KEY: Reserved(d("2"), 4)})
    burn.add({KEY: Reserved(d("4"), 4)})
    seen = []
    for now_s in (1_001.0, 1_059.0, 1_060.0, 1_090.0, 1_119.5, 1_121.0):
        burn.turn(now_s)
        seen.append(burn.of(KEY, now_s))
    assert [one.amount for one in seen] == [d("6"), d("6"), d("6"), d("3"), d("0.1"), 0]
    assert [one.usual for one in seen] == [d("0.75")] * 5 + [0]
    assert not burn.turn(1_181.0)


def stand(books: MemoryBooks) -> tuple[Decimal | int, Decimal | int]:
    return books.balance(*KEY), books.tranche(*KEY)


def with_tranche(paid: str) -> MemoryBooks:
    books = MemoryBooks()
    assert books.open_account("acme") == ""
    assert books.top_up("acme", Money(d(paid), "EUR"), "r1") == ""
    return books


def test_it_is_taken_from_the_balance_and_given_back() -> None:
    books = with_tranche("40")
    books.take(resize(KEY, Burned(d("3"), d("1")), 60, 1, books))
    assert (books.balance(*KEY), books.tranche(*KEY), books.held(*KEY)) == (d("37"), d("3"), d("3"))
    assert resize(KEY, Burned(d("3.5"), d("1")), 60, 1, books) == []
    books.take(resize(KEY, Burned(d("0"), d("1")), 60, 1, books))
    assert stand(books) == (d("40"), 0)
    assert [line.kind for line in books.ledger[1:]] == [MovementKind.TRANCHE] * 2
    assert books.faults() == []


def test_an_account_without_a_bound_has_none() -> None:
    books = with_tranche("40")
    books.take(resize(KEY, Burned(d("3"), d("1")), 60, 1, books))
    books.set_terms(replace(books.accounts["acme"], kind=AccountKind.POSTPAID))
    books.take(resize(KEY, Burned(d("3"), d("1")), 60, 1, books))
    assert books.tranche(*KEY) == 0


# --- while the books are there ------------------------------------------------------------------------------


def test_a_call_that_would_be_refused_for_credit_gets_it_back_first() -> None:
    books = with_tranche("0.4284")
    books.take(resize(KEY, Burned(d("0.0714"), d("0.0714")), 60, 1, books))
    books.post(first_slice(admitted(1, prepaid=True), 300))
    assert stand(books) == (0, d("0.0714"))
    second = books.post(first_slice(admitted(2, prepaid=True), 30))
    assert [one.kind for one in second.movements] == [MovementKind.TRANCHE, MovementKind.RESERVE]
    assert stand(books) == (d("0.0357"), 0)
    assert books.faults() == []


def test_so_does_an_extension() -> None:
    books = with_tranche("0.4284")
    books.take(resize(KEY, Burned(d("0.0714"), d("0.0714")), 60, 1, books))
    call = admitted(1, prepaid=True)
    books.post(first_slice(call, 300))
    for asked_s, granted_s, final in ((330, 330, False), (3_600, 360, True), (3_600, 360, True)):
        outcome = books.post(extension(call, asked_s)).outcome
        assert outcome is not None
        assert (outcome.granted_s, outcome.final) == (granted_s, final)
        assert books.tranche(*KEY) == 0
    assert books.faults() == []


# --- while they are away ------------------------------------------------------------------------------------


def test_a_prepaid_call_goes_on_out_of_the_tranche_and_its_record_is_right() -> None:
    books = with_tranche("40")
    books.take(resize(KEY, Burned(d("0.1428"), d("0.0714")), 60, 1, books))
    alone = away("0.1428", books=books)
    call = admitted(1, prepaid=True)
    outcome, kept, ground = alone.decide(first_slice(call, 60))
    assert (outcome.kind, outcome.granted_s, ground) == (OutcomeKind.ADMITTED, 60, Ground.TRANCHE)
    answer, recorded, _ = alone.decide(entry(EntryKind.ANSWERED, answered(call)))
    assert answer.kind is OutcomeKind.ANSWER_RECORDED
    more, extended, _ = alone.decide(extension(call, 600))
    assert (more.kind, more.granted_s) == (OutcomeKind.GRANT_EXTENDED, 120)
    # There is no more, and nobody says that it is for credit.
    none, nothing, _ = alone.decide(extension(call, 600))
    assert nothing is None
    assert none.kind is OutcomeKind.STEP_FAILED
    assert alone.rest(KEY) == 0
    assert (
        alone.decide(first_slice(admitted(2, prepaid=True), 60)).outcome.detail is Detail.LEDGER_UNREACHABLE
    )
    end = ending(ended(answered(replace(call, granted_s=120)), 110_000))
    alone.note(end)
    assert alone.decide(entry(EntryKind.ANSWERED, answered(call))).outcome.kind is OutcomeKind.STEP_FAILED
    for _ in range(2):
        for step in (kept, recorded, extended, end):
            assert step is not None
            assert books.post(step).outcome is None
    assert stand(books) == (d("39.8691"), 0)
    assert books.faults() == []


def test_a_call_that_was_up_is_extended_as_far_as_its_books_have_it() -> None:
    books = with_tranche("40")
    call = admitted(1, prepaid=True)
    books.post(first_slice(call, 60))
    books.take(resize(KEY, Burned(d("0.0714"), d("0.0714")), 60, 1, books))
    alone = away("0.0714", books=books)
    outcome, kept, _ = alone.decide(extension(call, 120))
    assert outcome.granted_s == 120
    # What was asked before the books were gone was done after all: it is not granted twice.
    books.post(extension(call, 90))
    assert kept == (Extended(call_id=call.call_id, granted_s=120, reserved=Money(d("0.1428"), "EUR")),)
    books.post(kept)
    assert stand(books) == (d("39.8215"), d("0.0357"))
    assert books.faults() == []


def test_calls_without_a_bound_are_so_many_and_free_ones_as_many_as_come() -> None:
    alone = away(calls_max=2)
    told = [alone.decide(admission(admitted(number))) for number in (1, 2, 3)]
    assert [one.ground for one in told] == [Ground.UNBOUNDED, Ground.UNBOUNDED, None]
    assert told[2].outcome.detail is Detail.LEDGER_UNREACHABLE
    fourth, fifth, sixth = map(admitted, (4, 5, 6))
    free = [
        replace(fourth, emergency=True),
        replace(fifth, pricing=replace(fifth.pricing, free=True)),
        replace(sixth, account=replace(sixth.account, kind=AccountKind.FREE)),
    ]
    for one in free:
        assert alone.decide(admission(one)).ground is Ground.FREE


def test_what_was_let_go_is_written_whatever_the_terms_say_by_then() -> None:
    books = MemoryBooks()
    assert books.open_account("acme", prepaid=False) == ""
    _, kept, _ = away(calls_max=1).decide(admission(admitted(1)))
    books.set_terms(replace(books.accounts["acme"], enabled=False, kind=AccountKind.PREPAID))
    assert kept is not None
    books.post(kept)
    assert books.open[call_id(1)].reserved is None
