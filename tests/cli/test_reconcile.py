"""`sidecar cdr reconcile`, on a journal that the store has written."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from sidecar.core.cdr import Cdr
from sidecar.core.reconcile import OurCall, our_call
from tests.adapters.workbooks import Cell, workbook
from tests.cli.test_commands import sidecar
from tests.cli.test_doctor import journal
from tests.core.doctor_traffic import calls, deck, e164, policy

TRAFFIC: list[Cdr] = calls(e164(12), policy(buy=deck("buy", "USD")))
OURS: list[OurCall] = [call for cdr in TRAFFIC if (call := our_call(cdr)) is not None]


@pytest.fixture
async def config(tmp_path: Path) -> tuple[str, str]:
    return "--config", str(await journal(tmp_path, TRAFFIC))


def row(call: OurCall, more: str = "0") -> str:
    at = call.started_at.strftime("%d/%m/%Y %H:%M:%S")
    cost = (call.amount or 0) + (int(more) if more else 0)
    duration = f"{call.seconds // 60}:{call.seconds % 60:02d}"
    return f"{at};+{call.called};{duration};{f'{cost:f}'.replace('.', ',')};USD\n"


HEAD = "Start Time;Called Number;Duration;Cost;Currency\n"
SETTLED = ("--set", "dates=DD/MM/YYYY")


async def test_a_carriers_own_records_agree_with_ours(tmp_path: Path, config: tuple[str, str]) -> None:
    assert len(OURS) > 5
    path = tmp_path / "records.csv"
    path.write_text("Our records\n\n" + HEAD + "".join(map(row, OURS)) + "Total;;;9,99;\n")
    done = await sidecar("cdr", "reconcile", str(path), *SETTLED, *config)
    assert (done.exit_code, done.err) == (0, "")
    assert f"{len(OURS)} matched; nothing differs" in done.out


async def test_what_differs_is_named_and_exit_code_1(tmp_path: Path, config: tuple[str, str]) -> None:
    path = tmp_path / "records.csv"
    stranger = row(OURS[0]).replace(OURS[0].called, "999123456")
    path.write_text(HEAD + row(OURS[1], "5") + "".join(map(row, OURS[2:])) + stranger)
    window = ("--since", min(one.started_at for one in OURS).isoformat())
    done = await sidecar("cdr", "reconcile", str(path), "--json", *SETTLED, *window, *config)
    assert done.exit_code == 1
    assert done.json["counts"] == {"missing here": 1, "missing there": 1, "price": 1}
    (total,) = done.json["totals"]
    assert (total["currency"], total["difference"]) == ("USD", "5.000000")
    shown = await sidecar("cdr", "reconcile", str(path), "-n", "2", *SETTLED, *window, *config)
    assert "and 1 more: --limit shows them" in shown.out


async def test_a_workbook_of_invoice_lines(tmp_path: Path, config: tuple[str, str]) -> None:
    rows: list[list[Cell]] = [["Destination", "Calls", "Seconds", "Amount (USD)"]]
    by_destination: dict[str, list[OurCall]] = {}
    for one in OURS:
        by_destination.setdefault(one.destination, []).append(one)
    rows += [
        [name, len(some), sum(one.seconds for one in some), float(sum(one.amount or 0 for one in some))]
        for name, some in by_destination.items()
    ]
    path = workbook(tmp_path / "invoice.xlsx", {"Invoice": rows})
    period = ("--since", "2020-01-01T00:00Z")
    done = await sidecar("cdr", "reconcile", str(path), "--set", "currency=USD", *period, *config)
    assert (done.exit_code, done.err) == (0, ""), done.out
    asked = await sidecar("cdr", "reconcile", str(path), "--set", "currency=USD", *config)
    assert (asked.exit_code, "--since and --until say" in asked.err) == (2, True)


async def test_bad_cells_are_refused_with_their_place(tmp_path: Path, config: tuple[str, str]) -> None:
    path = tmp_path / "records.csv"
    path.write_text(HEAD + "13/12/2026 10:00:00;44;1:xx;0,5;USD\n14/12/2026 10:00:00;44;60;abc;USD\n")
    done = await sidecar("cdr", "reconcile", str(path), *config)
    assert done.exit_code == 2
    assert "row 2, column Duration: '1:xx' is no duration" in done.err
    assert "row 3, column Cost: 'abc' is no price" in done.err
    path.write_text("a;b\n1;2\n")
    done = await sidecar("cdr", "reconcile", str(path), *config)
    assert (done.exit_code, "no template knows it" in done.err) == (2, True)
    wrong = await sidecar("cdr", "reconcile", str(path), "--template", "carrier-az", *config)
    assert "carrier-az: is a template of deck, not of records" in wrong.err
    assert isinstance(OURS[0].started_at, datetime)
