"""The ledger of a damaged file, mended row by row: what is missing between balances, and what calls say."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from uuid import UUID

import apsw
import pytest

from sidecar.adapters.sqlite.mend import Mender
from sidecar.adapters.sqlite.migrations import run_steps
from sidecar.adapters.store.bodies import crc_of
from sidecar.core.books import MovementKind
from sidecar.core.records import cdr_of, sell_total
from sidecar.wire.cdr_codec import encode
from tests.adapters.store_calls import POLICY, admitted, answered, ended

CALL = UUID(int=7).bytes
CHARGED = "INSERT INTO ledger VALUES (9, 1, 'b', 'EUR', 'charge', '-1', '-1', ?, 0, NULL, 1, NULL, NULL)"
RECORDED = (
    "(boot, call_id, revision, account, origin, detail, caller, callee, ended_us{}) VALUES"
    " (1, ?, 0, 'a', 'caller', 'bye', '1', '2', 0{})"
)
KNOWN_BY = {
    "open": (
        "INSERT INTO open_calls (slot, boot, call_id, kind, account, body, crc)"
        " VALUES (1, 1, ?, 'admitted', 'a', x'', 0)"
    ),
    "published": "INSERT INTO cdrs " + RECORDED.format(", written_wall_ns", ", 1"),
    "kept back": "INSERT INTO suppressed " + RECORDED.format(", body, crc", ", x'', 1"),
    "charged": CHARGED,
}


@pytest.fixture
def file() -> Iterator[apsw.Connection]:
    connection = apsw.Connection(":memory:")
    run_steps(connection)
    connection.execute("INSERT INTO boots VALUES (1, 'n', 'e', 'b', 1, 1, 1)")
    yield connection
    connection.close()


def booked(
    file: apsw.Connection,
    entry: int,
    kind: str,
    amount: str,
    balance: str,
    account: str = "a",
    call: bytes | None = None,
    currency: str = "EUR",
) -> None:
    file.execute(
        "INSERT INTO ledger VALUES (?, 1, ?, ?, ?, ?, ?, ?, NULL, NULL, 1, NULL, NULL)",
        (entry, account, currency, kind, amount, balance, call),
    )


def mended(
    file: apsw.Connection, *said: str, is_proven: bool = False, **kept: str
) -> list[tuple[int, str, str, str, str]]:
    """(entry, account, kind, amount, balance) of all rows after it; the balances are those of the rows.
    `said`: all that people are told."""
    balances = {(account, "EUR"): Decimal(amount) for account, amount in kept.items()}
    told = Mender(file, 2, is_proven=is_proven).mend(balances)
    assert not said or told == [*said]
    rows = list(file.execute("SELECT entry, account, kind, amount, balance FROM ledger ORDER BY entry"))
    last = dict(file.execute("SELECT account || currency, balance FROM ledger ORDER BY entry"))
    assert dict(file.execute("SELECT account || currency, amount FROM balances")) == last
    return rows


def test_what_is_missing_before_a_row_takes_the_free_number_next_to_it(file: apsw.Connection) -> None:
    booked(file, 1, "top_up", "5", "5")
    booked(file, 4, "charge", "-1", "2")
    booked(file, 5, "charge", "-1", "6", "b")
    assert mended(file, "a: movements of -2 EUR before entry 4", "b: movements of 7 EUR before entry 5") == [
        (1, "a", "top_up", "5", "5"),
        (2, "b", "suspense", "7", "7"),
        (3, "a", "suspense", "-2", "3"),
        (4, "a", "charge", "-1", "2"),
        (5, "b", "charge", "-1", "6"),
    ]


def test_the_first_number_of_all_may_be_the_free_one(file: apsw.Connection) -> None:
    booked(file, 2, "top_up", "5", "5")
    booked(file, 3, "charge", "-1", "6", "b")
    assert mended(file)[0] == (1, "b", "suspense", "7", "7")


def test_a_row_before_which_none_is_missing_is_wrong_itself_and_the_balance_is_in_suspense(
    file: apsw.Connection,
) -> None:
    booked(file, 1, "top_up", "3", "5")
    booked(file, 2, "charge", "-1", "4")
    assert mended(file, "a: the balance in EUR is not known to be right: entry 1 is wrong") == [
        (1, "a", "top_up", "3", "5"),
        (2, "a", "charge", "-1", "4"),
        (3, "a", "suspense", "0", "4"),
    ]


def test_what_is_missing_at_the_end_is_what_the_balance_says(file: apsw.Connection) -> None:
    booked(file, 1, "top_up", "5", "5")
    said = ("a: movements of -0.5 EUR at the end", "b: movements of 2 EUR at the end")
    rows = mended(file, *said, a="4.5", b="2")
    assert rows[1:] == [(2, "a", "suspense", "-0.5", "4.5"), (3, "b", "suspense", "2", "2")]


def test_the_reservation_of_an_open_call_is_written_again_and_the_balance_had_it(
    file: apsw.Connection,
) -> None:
    booked(file, 1, "top_up", "5", "5")
    file.execute(
        "INSERT INTO open_calls (slot, boot, call_id, kind, account, currency, reserved, body, crc)"
        " VALUES (1, 1, ?, 'admitted', 'a', 'EUR', '3', x'', 0)",
        (CALL,),
    )
    assert mended(file)[1:] == [(2, "a", "reserve", "-3", "2"), (3, "a", "suspense", "3", "5")]
    assert file.execute("SELECT call_id FROM ledger WHERE entry > 1 ORDER BY entry").fetchall() == [
        (CALL,),
        (CALL,),
    ]


@pytest.mark.parametrize("known", KNOWN_BY.values(), ids=KNOWN_BY.keys())
def test_a_call_that_anything_is_left_of_had_its_reservation_back(file: apsw.Connection, known: str) -> None:
    booked(file, 1, "top_up", "5", "5")
    booked(file, 2, MovementKind.RESERVE, "-3", "2", call=CALL)
    file.execute(known, (CALL,))
    rows = [row for row in mended(file, f"a: release of 3 EUR, call {UUID(bytes=CALL)}") if row[1] == "a"]
    assert [row[2:] for row in rows[2:]] == [("release", "3", "5"), ("suspense", "-3", "2")]


@pytest.mark.parametrize("is_proven", [False, True])
def test_the_reservation_of_a_call_that_nothing_is_left_of_is_in_suspense(
    file: apsw.Connection, is_proven: bool
) -> None:
    booked(file, 1, "top_up", "5", "5")
    booked(file, 2, MovementKind.RESERVE, "-0.3", "4.7", call=CALL)
    said = f"a: release of 0.3 EUR, call {UUID(bytes=CALL)}, which is lost"
    assert mended(file, said, is_proven=is_proven)[2:] == [
        (3, "a", "release", "0.3", "5.0"),
        (4, "a", "suspense", "-0.3", "4.7"),
    ]


def test_what_an_open_call_holds_is_what_a_proven_ledger_says(file: apsw.Connection) -> None:
    booked(file, 1, "top_up", "5", "5")
    booked(file, 2, MovementKind.RESERVE, "-3", "2", call=CALL)
    file.execute(KNOWN_BY["open"], (CALL,))
    said = f"a: call {UUID(bytes=CALL)} holds 3 EUR"
    assert len(mended(file, said, is_proven=True)) == 2
    assert file.execute("SELECT currency, reserved FROM open_calls").fetchall() == [("EUR", "3")]


def test_where_rows_could_not_be_read_an_account_without_a_balance_is_in_suspense(
    file: apsw.Connection,
) -> None:
    booked(file, 1, "top_up", "5", "5")
    booked(file, 2, "top_up", "5", "5", "b")
    file.execute("INSERT INTO accounts VALUES ('c', 1, 'EUR', 1, 1, NULL)")
    said = Mender(file, 2).mend({("a", "EUR"): Decimal(5)}, may_lack_end=True)
    assert said == [
        f"{name}: the balance in EUR is not known to be right: its end may be missing" for name in "bc"
    ]
    rows = list(file.execute("SELECT account, kind, amount, balance FROM ledger WHERE entry > 2"))
    assert rows == [("b", "suspense", "0", "5"), ("c", "suspense", "0", "0")]


def recorded(file: apsw.Connection) -> tuple[bytes, Decimal]:
    """The record of a call of account acme; its id, and what it cost (EUR)."""
    cdr = cdr_of(ended(answered(admitted())), POLICY)
    body = encode(cdr)
    file.execute(
        "INSERT INTO suppressed (boot, call_id, revision, account, origin, detail, caller, callee, ended_us,"
        " body, crc) VALUES (1, ?, 0, 'acme', 'caller', 'bye', '1', '2', 0, ?, ?)",
        (cdr.call_id.bytes, body, crc_of(body)),
    )
    total = sell_total(cdr)
    assert total is not None
    return cdr.call_id.bytes, total.amount


def test_the_charge_that_a_record_says_is_written_again_and_the_balance_had_it(
    file: apsw.Connection,
) -> None:
    _, cost = recorded(file)
    booked(file, 1, "top_up", "5", "5", "acme")
    rows = mended(file)[1:]
    assert [(row[2], Decimal(row[3])) for row in rows] == [("charge", -cost), ("suspense", cost)]
    assert Decimal(rows[-1][4]) == 5


def test_a_charge_in_a_currency_of_which_the_record_says_nothing_is_in_suspense(
    file: apsw.Connection,
) -> None:
    call, cost = recorded(file)
    booked(file, 1, "charge", f"-{cost}", f"-{cost}", "acme", call)
    booked(file, 2, "charge", "-1", "-1", "acme", call, "USD")
    assert mended(file)[2:] == [(3, "acme", "charge", "1", "0"), (4, "acme", "suspense", "-1", "-1")]


def test_an_account_without_movements_has_a_balance_of_0(file: apsw.Connection) -> None:
    file.execute("INSERT INTO accounts VALUES ('new', 1, 'EUR', 1, 1, NULL)")
    Mender(file, 2).mend({})
    assert file.execute("SELECT account, currency, amount FROM balances").fetchall() == [("new", "EUR", "0")]
