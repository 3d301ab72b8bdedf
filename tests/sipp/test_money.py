"""What is bought where, what is not carried at a loss, and calls that are rated anew: on the whole node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from sidecar.adapters.sqlite import ledger_check
from sidecar.adapters.sqlite.file import FILE_NAME, connect_reader
from sidecar.demo.check import summary
from sidecar.demo.subscriber import Record
from tests.rig.listener import charge
from tests.rig.node import with_lines
from tests.sipp.rig import Rig

HEADER = "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s,default\n"
PAIR = ("caller-bye-in-call", "caller-bye-in-call")
FAILED_OVER: dict[str, Any] = {
    "dialled": "0144123456789",
    "gateway": "second",
    "others": {"main": "gateway-unavailable"},
}


@asynccontextmanager
async def buying_rig(folder: Path, floor: str = "") -> AsyncIterator[Rig]:
    """Sold at 0.60 a minute; bought from `main` at 0.12, from `second` at 0.30, from `small` at 0.24 USD."""
    prices = (("cheap", "EUR", "0.12"), ("dear", "EUR", "0.30"), ("dollars", "USD", "0.24"))
    for name, currency, price in prices:
        (folder / f"{name}.csv").write_text(f"{HEADER},Anywhere,{currency},0,{price},1,1,yes\n")
    (folder / "rates.csv").write_text("base,quote,rate,valid_from\nUSD,EUR,0.75,2026-01-01T00:00:00Z\n")
    rig = Rig(
        folder,
        {
            "decks": "\n".join(f'{name} = "{folder}/{name}.csv"' for name, _, _ in prices),
            "gateways.main": 'deck = "cheap"',
            "gateways.second": 'deck = "dear"',
            "gateways.small": 'deck = "dollars"',
            "billing": f'exchange_rates = "{folder}/rates.csv"'
            + (f'\nmargin_floor = "{floor}"' if floor else ""),
        },
        max_duration_s=5,
    )
    async with rig.up():
        yield rig


async def test_the_gateway_that_answers_is_paid_its_own_price_from_its_own_answer(tmp_path: Path) -> None:
    async with buying_rig(tmp_path) as rig:
        first = await rig.place(*PAIR, dialled="0144123456789")
        failed_over = await rig.place(*PAIR, **FAILED_OVER)
        dollars = await rig.place(*PAIR, dialled="0544123456789", gateway="small")
    assert [(one["gateway"], one["sip_code"]) for one in failed_over["attempts"]] == [
        ("main", 503),
        ("second", 200),
    ]
    for cdr, party, price, currency in (
        (first, "main", "0.002", "EUR"),
        (failed_over, "second", "0.005", "EUR"),
        (dollars, "small", "0.004", "USD"),
    ):
        bought, sold = charge(cdr, "buy"), charge(cdr, "sell")
        assert (bought["party"], bought["currency"]) == (party, currency)
        assert Decimal(bought["total"]) == Decimal(price) * bought["hold_s"]
        talked = cdr["ended_at"] - cdr["b_answered_at"]
        assert abs(bought["billable_ms"] - talked.total_seconds() * 1000) <= 2
        assert cdr["b_answered_at"] <= cdr["answered_at"]
        rate = Decimal("0.75") if currency == "USD" else Decimal(1)
        left = Decimal(sold["net"]) - Decimal(bought["net"]) * rate
        assert (Decimal(cdr["margin"]["amount"]), cdr["margin"]["currency"]) == (left, "EUR")
    assert failed_over["margin"]["exchange"] is None
    assert dollars["margin"]["exchange"]["rate"] == "0.75"


async def test_exchange_rates_and_floors_change_while_calls_run(tmp_path: Path) -> None:
    dollars: dict[str, Any] = {"dialled": "0544123456789", "gateway": "small"}
    rates = tmp_path / "rates.csv"

    async with buying_rig(tmp_path) as rig:

        async def reload(dialled: str) -> None:
            call = await rig.live(dialled, answered=True)
            rates.write_text("base,quote,rate,valid_from\nUSD,EUR,0.5,2026-01-01T00:00:00Z\n")
            done.append(await rig.daemon.command("node", "reload", "--operator", "ann"))
            await rig.daemon.command("call", "release", call["call_id"], "--operator", "ann")

        done: list[Record] = []
        released = ("server-operator-release-in-call", "server-operator-release-in-call")
        before = await rig.place(*released, **dollars, meanwhile=reload)
        after = await rig.place(*PAIR, **dollars)
        rig.profile.write_text(with_lines(rig.profile.read_text(), {"billing": 'margin_floor = "0.9"'}))
        done.append(await rig.daemon.command("node", "reload", "--operator", "ann"))
        refused = await rig.place("server-refused-by-policy", dialled="0544123456789")
    assert [one["differences"] for one in done] == [
        ["~ billing.exchange_rates: 1 rates -> 1 rates"],
        ["~ billing.margin_floor: none -> 0.9"],
    ]
    assert before["margin"]["exchange"]["rate"] == "0.75"
    assert after["margin"]["exchange"]["rate"] == "0.5"
    assert (refused["detail"], refused["rule"]) == ("rule", "margin_floor")
    log = [line for line in rig.log.read_text().splitlines() if "settings_reloaded" in line]
    assert len(log) == 2
    assert all('"operator":"ann"' in line.replace(": ", ":") for line in log)


async def test_gateways_below_the_margin_floor_are_neither_tried_nor_failed_over_to(tmp_path: Path) -> None:
    async with buying_rig(tmp_path, floor="0.75") as rig:
        kept = await rig.place(*PAIR, dialled="0144123456789")
        refused = await rig.place("server-refused-by-policy", dialled="0544123456789")
        failed = await rig.place(
            "callee-rejected-unavailable", "gateway-unavailable", dialled="0144123456789"
        )
    assert (kept["gateway"], kept["disposition"]) == ("main", "answered")
    assert summary(refused) == "server/policy/rule 403 21 refused"
    assert (refused["rule"], refused["attempts"]) == ("margin_floor", [])
    assert [one["gateway"] for one in failed["attempts"]] == ["main"]
    assert summary(failed) == "callee/rejected 503 41 rejected"


async def test_calls_are_rated_anew_on_the_running_node(tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text(f"{HEADER},Anywhere,EUR,0,6.00,60,60,yes\n")
    words = ("rerate", "--deck", str(tmp_path / "new.csv"))
    apply = ("--apply", "--operator", "ann", "--text", "wrong deck")
    async with buying_rig(tmp_path) as rig:
        await rig.daemon.command("account", "topup", "prepaid", "10")
        before = [await rig.place(*PAIR, account=name) for name in ("demo", "prepaid")]
        done = await rig.daemon.command(*words, *apply)
        assert (done["calls"], done["differ"], done["revised"], done["left"]) == (2, 2, 2, {})
        for cdr in before:
            first, second = await rig.records(cdr["leg_a"]["sip_call_id"], 2)
            assert first == cdr
            assert (second["revision"], second["supersedes"], second["revision_reason"]) == (1, 0, "rerate")
            assert (second["revised_by"], second["revised_text"]) == ("ann", "wrong deck")
            assert Decimal(charge(second, "sell")["total"]) == 6
            assert charge(second, "sell")["deck_revision"] == done["deck_revision"]
            assert charge(second, "buy") == charge(first, "buy")
            assert Decimal(second["margin"]["amount"]) == 6 - Decimal(charge(first, "buy")["net"])
            untouched = ("invited_at", "answered_at", "ended_at", "talk_ms", "hold_s", "detail", "attempts")
            assert [second[name] for name in untouched] == [first[name] for name in untouched]
            explained = await rig.daemon.command("cdr", "explain", cdr["call_id"])
            assert (explained["revision"], explained["differences"]) == (1, [])
        again = await rig.daemon.command(*words, *apply)
        assert (again["calls"], again["differ"], again["revised"]) == (2, 0, 0)
        for name, owed in (("demo", -6), ("prepaid", 4)):
            [balance] = (await rig.daemon.command("account", "show", name))["balances"]
            assert Decimal(balance["amount"]) == owed
        assert {one["seq"] for one in rig.listener.records} == {1, 2, 3, 4}
        connection = connect_reader(tmp_path / "data" / FILE_NAME)
        assert ledger_check(connection) == []
        connection.close()
