"""The proof of the sums finds what does not add up, and says where."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from sidecar.core.books_check import (
    CallLine,
    Line,
    Owed,
    charges_said,
    plain,
    reservations_said,
    wrong_balances,
    wrong_charges,
    wrong_reservations,
)
from sidecar.core.terms import Money

ONE, TWO = UUID(int=1), UUID(int=2)
NONE, ONCE, THRICE = Decimal(0), Decimal(1), Decimal(3)
TWICE, FIVE = Decimal(2), Decimal(5)


def line(entry: int, amount: str, balance: str, account: str = "a", currency: str = "EUR") -> Line:
    return Line(entry, account, currency, Decimal(amount), Decimal(balance))


def moved(amount: str, call: UUID = ONE, account: str = "a", currency: str = "EUR") -> CallLine:
    return CallLine(call.bytes, account, currency, Decimal(amount))


def owed(revision: int, amount: str | None, account: str = "a", call: UUID = ONE) -> Owed:
    return Owed(call.bytes, revision, account, None if amount is None else Money(Decimal(amount), "EUR"))


def test_balances_run_for_each_account_and_currency() -> None:
    lines = [
        line(1, "5", "5"),
        line(2, "1", "1", "b"),
        line(3, "-2.50", "2.50"),
        line(4, "7", "7", currency="USD"),
    ]
    kept = {("a", "EUR"): Decimal("2.5"), ("b", "EUR"): Decimal(1), ("a", "USD"): Decimal(7)}
    assert wrong_balances(lines, kept) == []
    assert wrong_balances([], {("a", "EUR"): Decimal(0)}) == []


def test_a_line_and_a_balance_that_are_wrong_are_named() -> None:
    lines = [line(1, "5", "5"), line(2, "-1", "4.5")]
    assert wrong_balances(lines, {("a", "EUR"): Decimal("4.5"), ("b", "EUR"): Decimal(1)}) == [
        "ledger entry 2: says balance 4.5, movements say 4",
        "a: balance 4.5 EUR, movements say 4",
        "b: balance 1 EUR, movements say 0",
    ]
    assert wrong_balances([line(1, "5", "5")], {}) == ["a: balance None EUR, movements say 5"]


def test_a_reservation_is_held_as_long_as_its_call_is_open() -> None:
    reserved = [moved("-3"), moved("-2", TWO), moved("2.0", TWO)]
    assert wrong_reservations([moved("3.00")], reserved) == {}
    lost = wrong_reservations([], reserved)
    assert lost == {(ONE.bytes, "a", "EUR"): (NONE, THRICE)}
    assert reservations_said(lost) == [f"call {ONE}: holds 0 EUR, its movements 3"]
    assert wrong_reservations([moved("3"), moved("1", TWO)], reserved) == {
        (TWO.bytes, "a", "EUR"): (ONCE, NONE)
    }
    assert wrong_reservations([moved("3", account="b")], [moved("-3")]) == {
        (ONE.bytes, "a", "EUR"): (NONE, THRICE),
        (ONE.bytes, "b", "EUR"): (THRICE, NONE),
    }


def test_the_charges_of_a_call_come_to_what_its_highest_revision_says() -> None:
    charges = [moved("-5"), moved("2"), moved("-1", TWO)]
    records = [owed(0, "5"), owed(1, "3"), owed(0, "1", call=TWO)]
    assert wrong_charges(records, charges) == {}
    assert wrong_charges(reversed(records), charges) == {}
    assert wrong_charges([owed(0, None)], []) == {}
    assert wrong_charges([owed(0, "5"), owed(1, None)], [moved("-5"), moved("5")]) == {}


def test_a_charge_that_is_missing_too_much_or_without_a_record_is_named() -> None:
    assert wrong_charges([owed(0, "5"), owed(1, "3")], [moved("-5")]) == {
        ONE.bytes: ({("a", "EUR"): THRICE}, {("a", "EUR"): FIVE})
    }
    missing = wrong_charges([owed(0, "5", "b")], [])
    assert missing == {ONE.bytes: ({("b", "EUR"): FIVE}, {})}
    assert charges_said(missing) == [f"call {ONE}: its record says b 5 EUR, the ledger 0"]
    alone = wrong_charges([], [moved("-5"), moved("-2", account="b")])
    assert alone == {ONE.bytes: (None, {("a", "EUR"): FIVE, ("b", "EUR"): TWICE})}
    assert charges_said(alone) == [f"call {ONE}: its record says 0, the ledger a 5 EUR, b 2 EUR"]
    assert wrong_charges([], [moved("-5"), moved("5")]) == {}


def test_what_is_wrong_is_named_in_the_order_of_accounts_and_calls() -> None:
    """Not in that of a set, which differs from one process to the next."""
    names = [f"{letter}{number}" for number in range(4) for letter in "zyxa"]
    kept = {(name, "EUR"): ONCE for name in names}
    assert [said.split(":")[0] for said in wrong_balances([], kept)] == sorted(names)
    assert [key[1] for key in wrong_reservations([moved("1", account=name) for name in names], [])] == sorted(
        names
    )
    calls = [UUID(int=number << 64) for number in (9, 3, 8, 1, 7, 2, 6, 4, 5)]
    found = wrong_charges([owed(0, "1", call=call) for call in calls], [])
    assert list(found) == sorted(call.bytes for call in calls)


def test_amounts_are_written_without_an_exponent() -> None:
    assert plain(Decimal("1E+3")) == "1000"
    assert plain(Decimal("-1E-9")) == "-0.000000001"
