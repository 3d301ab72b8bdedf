"""`sidecar account statement`, on a journal that the store has written over a hundred days."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sidecar.adapters.sqlite.snapshot import Snapshot
from sidecar.adapters.store.books import Charged
from sidecar.core.audit import Change, Operator
from sidecar.core.books import MovementKind
from sidecar.core.terms import Money
from tests.adapters.sqlite_stores import asked
from tests.adapters.store_calls import WALL_NS
from tests.adapters.test_sqlite_retention import DAY_NS, HandClock, fill, opened
from tests.cli.test_commands import sidecar

ANN = Operator("ann", 1000)


Made = tuple[Path, tuple[str, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A folder, and the words that name its settings."""
    folder = tmp_path_factory.mktemp("journal")
    return folder, asyncio.run(filled(folder))


async def filled(folder: Path) -> tuple[str, str]:
    clock = HandClock()
    data_dir = folder / "data"
    async with opened(data_dir, clock) as watched:
        await fill(watched, clock)
        clock.now_ns = WALL_NS + 101 * DAY_NS
        change = Change(operator=ANN, action="account.adjust", subject="a", text="=HYPERLINK(1)")
        await watched.store.accounts.change_terms("a", {"zone": "Asia/Tokyo"}, change)
        await watched.store.accounts.book(
            MovementKind.ADJUST, "a", Money(Decimal("-0.000000000001"), "EUR"), "adjust 1", change
        )
    config = folder / "sidecar.toml"
    config.write_text(f'[node]\ndata_dir = "{data_dir}"\n')
    return "--config", str(config)


async def of(name: str, month: str, config: tuple[str, str]) -> Any:
    done = await sidecar("account", "statement", name, "--month", month, "--format", "json", *config)
    assert done.exit_code == 0, done.err
    return json.loads(done.out)


async def test_months_follow_one_another_and_come_to_the_ledger_to_the_last_digit(made: Made) -> None:
    tmp_path, config = made
    begin = datetime.fromtimestamp(WALL_NS / 1e9, UTC)
    months = [f"{begin + timedelta(days=30 * number):%Y-%m}" for number in range(-1, 5)]
    for name in ("a", "b"):
        statements = [await of(name, month, config) for month in months]
        assert Decimal(statements[0]["opening"]) == 0
        for before, after in pairwise(statements):
            assert (before["closing"], before["end"]) == (after["opening"], after["begin"])
        for one in statements:
            moved = sum(Decimal(line["amount"]) for line in one["movements"])
            charged = sum(Decimal(line["total"]) for line in one["calls"])
            assert charged == Decimal(one["charged"]) == Decimal(one["net"]) + Decimal(one["tax"])
            assert Decimal(one["closing"]) == Decimal(one["opening"]) + moved - charged
            assert "(no record)" not in {line["destination"] for line in one["calls"]}
        ((balance,),) = asked(tmp_path / "data", "SELECT amount FROM balances WHERE account = ?", name)
        last = statements[-1]
        assert Decimal(last["closing"]) - Decimal(last["held"]) == Decimal(str(balance))
        assert sum(line["calls"] for one in statements for line in one["calls"]) > 20


async def test_a_revision_is_in_the_month_in_which_it_was_booked(made: Made) -> None:
    tmp_path, config = made
    found = asked(
        tmp_path / "data",
        "SELECT account, amount, strftime('%Y-%m', booked_wall_ns / 1000000000, 'unixepoch') FROM ledger"
        " WHERE kind = 'charge' AND revision = 1",
    )
    ((account, amount, month),) = found
    assert (account, Decimal(str(amount))) == ("a", Decimal(-1))
    later = await of("a", str(month), config)
    without = asked(
        tmp_path / "data",
        "SELECT count(*) FROM ledger WHERE account = 'a' AND kind = 'charge' AND revision = 0"
        " AND strftime('%Y-%m', booked_wall_ns / 1000000000, 'unixepoch', '+9 hours') = ?",
        str(month),
    )
    assert sum(line["calls"] for line in later["calls"]) == without[0][0]  # it adds money, and no call


async def test_csv_is_safe_in_a_spreadsheet_and_bad_questions_are_refused(made: Made) -> None:
    _, config = made
    month = f"{datetime.fromtimestamp(WALL_NS / 1e9, UTC) + timedelta(days=101):%Y-%m}"
    done = await sidecar("account", "statement", "a", "--month", month, *config)
    rows = list(csv.DictReader(io.StringIO(done.out)))
    [adjusted] = [row for row in rows if row["kind"] == "adjust"]
    assert adjusted["text"] == "'=HYPERLINK(1)"
    assert (adjusted["operator"], adjusted["amount"]) == ("ann", "-0.000000000001")
    assert [rows[0]["part"], rows[-1]["part"]] == ["opening", "closing"]
    assert rows[0]["at"].endswith("+09:00")
    total = sum(Decimal(row["amount"]) for row in rows[:-1])
    assert total == Decimal(rows[-1]["amount"])
    for words, exit_code, said in (
        (("nobody", "--month", month), 1, "there is no account nobody"),
        (("a", "--month", "2026-13"), 2, "not a month"),
        (("a", "--month", month, "--format", "pdf"), 2, "csv, json"),
        (("a",), 2, "--month, or --from and --to"),
        (("a", "--month", month, "--to", "2026-01-01"), 2, "--month, or --from and --to"),
        (("a", "--from", "2026-02-01", "--to", "2026-02-01"), 2, "--from is not before --to"),
    ):
        refused = await sidecar("account", "statement", *words, *config)
        assert refused.exit_code == exit_code
        assert said in refused.err


async def test_a_period_is_a_month_where_it_is_one(made: Made) -> None:
    _, config = made
    first = datetime.fromtimestamp(WALL_NS / 1e9, UTC).replace(day=1)
    begin, following = f"{first:%Y-%m}", f"{first + timedelta(days=32):%Y-%m}"
    period = ("--from", f"{begin}-01", "--to", f"{following}-01")
    done = await sidecar("account", "statement", "a", *period, "--format", "json", *config)
    assert done.exit_code == 0, done.err
    assert done.json == await of("a", begin, config)


async def test_what_was_charged_since_a_time_is_what_the_statement_from_then_on_says(made: Made) -> None:
    folder, config = made
    begin = datetime.fromtimestamp(WALL_NS / 1e9, UTC) + timedelta(days=40)
    period = ("--from", begin.isoformat(), "--to", "2100-01-01")
    done = await sidecar("account", "statement", "a", *period, "--format", "json", *config)
    wanted = Decimal(done.json["charged"])
    assert wanted
    since_ns = int(begin.timestamp() * 1e6) * 1_000
    with Snapshot(folder / "data") as journal:
        found = journal.charged_since("a", "EUR", since_ns)
        assert found.amount == wanted
        assert journal.charged_since("a", "EUR", since_ns, Charged(Decimal(7), found.entry)).amount == 7
        half = journal.charged_since("a", "EUR", since_ns, Charged(Decimal(0), found.entry // 2))
        assert half.entry == found.entry
        assert half.amount < wanted
        assert journal.held("a") == []
