"""`sidecar rerate`, on the journal and the control socket of a node."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest

from sidecar.core.cdr import Cdr
from sidecar.core.explain_call import explain_call
from sidecar.core.tariff import Deck, Rate, parse_steps
from sidecar.core.terms import Money
from tests.adapters.store_calls import terms_of
from tests.cli.test_commands import Done, served_node, sidecar
from tests.runtime.node_help import Node, a_node

HEADER = "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s\n"
DEAR = HEADER + "44,UK,EUR,0,60,1,1\n"
DOLLARS = Rate(prefix="00", currency="USD", steps=parse_steps("0:0.6/60/1"))
SINCE = ("--since", "2000-01-01T00:00:00Z")
APPLY = ("--apply", "--operator", "ann", "--text", "wrong deck")


class Place:
    def __init__(self, folder: Path, node: Node) -> None:
        self.folder = folder
        self.node = node
        self.deck = folder / "deck.csv"
        self.deck.write_text(DEAR)

    async def rerate(self, *words: object, deck: object = None, strip: int = 2) -> Done:
        socket = self.folder / "data" / "control.sock"
        more = map(str, ("--strip", strip, *SINCE, "--socket", socket, *words))
        return await sidecar("rerate", "--deck", str(deck or self.deck), *more)

    async def revisions(self, call_id: UUID) -> list[Cdr]:
        return list(await self.node.store.records.show(str(call_id)))

    async def balance(self, account: str = "demo") -> Decimal:
        [one] = await self.node.store.accounts.balance(account)
        return one.amount


@asynccontextmanager
async def place(folder: Path) -> AsyncIterator[Place]:
    async with served_node(folder) as served:
        yield Place(folder, served.node)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Place]:
    async with place(tmp_path) as found:
        yield found


async def test_what_another_deck_would_change_is_shown_and_exported(here: Place) -> None:
    for number in range(3):
        await here.node.whole(f"00442012345{number:03d}")
    table = here.folder / "calls.csv"
    told = await here.rerate("--export", table, "--json")
    shown = await here.rerate()
    assert told.exit_code == shown.exit_code == 1
    (change,) = told.json["changes"]
    assert (told.json["calls"], told.json["differ"], told.json["revised"]) == (3, 3, 0)
    assert (change["calls"], change["destination"]) == (3, "UK")
    assert float(change["after"]) == 9  # 3 s of each call, at 1 a second
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted((row["billed_after"], row["total_after"], row["outcome"]) for row in rows) == [
        (f"442012345{number:03d}", "3.000000", "shown") for number in range(3)
    ]
    assert "3 of 3 calls differ" in shown.out
    assert await here.balance() == Decimal("-0.09")


async def test_applied_every_call_is_revised_once(here: Place) -> None:
    calls = [await here.node.whole(f"00442012345{number:03d}") for number in range(40)]
    applied = await here.rerate(*APPLY, "--json")
    assert applied.exit_code == 0, applied
    assert (applied.json["revised"], applied.json["left"]) == (40, {})
    for call_id in calls:
        first, second = await here.revisions(call_id)
        assert (second.revision_reason, second.revised_by, second.revised_text) == (
            "rerate",
            "ann",
            "wrong deck",
        )
        assert second.charges[0].total == 3
        assert (second.ended_at, second.talk_ms, second.detail) == (
            first.ended_at,
            first.talk_ms,
            first.detail,
        )
        assert explain_call(second).all_differences == ()
    assert await here.balance() == -120
    again = await here.rerate(*APPLY, "--json")
    assert (again.exit_code, again.json["differ"], again.json["revised"]) == (0, 0, 0)
    assert len(await here.revisions(calls[0])) == 2
    assert await here.node.store.ledger_check() == []


async def test_what_was_applied_from_a_file_is_kept_and_can_be_named(here: Place) -> None:
    await here.node.whole()
    revision = (await here.rerate(*APPLY, "--json")).json["deck_revision"]
    assert (here.folder / "data" / "decks" / f"{revision}.csv").exists()
    told = await here.rerate("--json", deck=revision[:12])
    assert (told.exit_code, told.json["deck_revision"], told.json["differ"]) == (0, revision, 0)


async def test_a_prepaid_balance_gets_the_difference_back(here: Place) -> None:
    await here.node.store.accounts.create(terms_of("prepaid"))
    await here.node.store.accounts.top_up("prepaid", Money(Decimal(1), "EUR"), "1")
    await here.node.whole(account="prepaid")
    assert await here.balance("prepaid") == Decimal("0.97")
    here.deck.write_text(HEADER + "44,UK,EUR,0,0.2,1,1\n")
    assert (await here.rerate(*APPLY)).exit_code == 0
    assert await here.balance("prepaid") == Decimal("0.99")
    assert await here.node.store.ledger_check() == []


async def test_a_call_without_a_rate_or_in_another_currency_is_left_alone(here: Place) -> None:
    left = [await here.node.whole("0033123456789"), await here.node.whole("0049123456789")]
    here.deck.write_text(DEAR + "49,Germany,USD,0,1,1,1\n")
    applied = await here.rerate(*APPLY, "--json")
    assert (applied.exit_code, applied.json["revised"]) == (1, 0)
    assert applied.json["left"] == {"another currency than the account's": 1, "no rate in this deck": 1}
    assert {one["call_id"] for one in applied.json["left_calls"]} == set(map(str, left))
    said = await here.rerate(*APPLY)
    assert all(f"{call_id} not revised: " in said.out for call_id in left)
    for call_id in left:
        assert len(await here.revisions(call_id)) == 1


async def test_a_call_that_was_charged_in_a_wrong_currency_is_put_right(here: Place) -> None:
    await here.node.store.accounts.create(terms_of("demo", prepaid=False))
    here.node.calls.policies.change(lambda policy: policy.with_deck("demo", Deck("usd", [DOLLARS])))
    await here.node.whole()
    dollars, euros = Decimal("-0.03"), Decimal(-3)
    assert {one.currency: one.amount for one in await here.node.store.accounts.balance("demo")}[
        "USD"
    ] == dollars
    applied = await here.rerate(*APPLY, "--json")
    assert (applied.exit_code, applied.json["revised"]) == (0, 1)
    after = {one.currency: one.amount for one in await here.node.store.accounts.balance("demo")}
    assert after == {"EUR": euros, "USD": 0}
    assert await here.node.store.ledger_check() == []


async def test_a_call_that_is_up_is_not_looked_at(here: Place) -> None:
    call_id = await here.node.up()
    assert (await here.rerate(*APPLY, "--json")).json["calls"] == 0
    assert here.node.calls.find(call_id) is not None


async def test_conditions_choose_the_calls(here: Place) -> None:
    await here.node.whole()
    for words in (("--account", "nobody"), ("--gateway", "none"), ("--until", "2001-01-01T00:00:00Z")):
        assert (await here.rerate("--json", *words)).json["calls"] == 0
    assert (await here.rerate("--json", "--account", "demo")).json["calls"] == 1


async def test_another_strip_length_is_another_number(here: Place) -> None:
    call_id = await here.node.whole("990044123456789")
    here.deck.write_text(DEAR + "00,wrong,EUR,0,1,1,1\n")
    assert (await here.rerate(*APPLY, "--json", strip=4)).json["revised"] == 1
    cdr = (await here.revisions(call_id))[-1]
    assert (cdr.callee.billed, cdr.charges[0].stripped, cdr.charges[0].prefix) == ("44123456789", 4, "44")


async def test_terms_may_be_others_than_recorded(here: Place) -> None:
    await here.node.whole()
    here.deck.write_text(HEADER + "44,UK,EUR,0,0.1,1,1\n")
    told = await here.rerate("--decimals", 2, "--rounding", "up", "--json")
    assert told.json["changes"][0]["after"] == "0.01"


async def test_bad_input_and_no_daemon_have_their_exit_codes(here: Place, tmp_path: Path) -> None:
    await here.node.whole()
    assert (await here.rerate(deck=tmp_path / "none.csv")).exit_code == 2
    assert (await here.rerate("--until", "yesterday")).exit_code == 2
    assert (await here.rerate("--apply")).exit_code == 2
    none = ("--deck", str(here.deck), "--socket", str(tmp_path / "none" / "control.sock"))
    assert (await sidecar("rerate", *none)).exit_code == 3


async def test_a_dry_run_needs_no_daemon_and_an_apply_does(tmp_path: Path) -> None:
    async with a_node(tmp_path) as node:
        await node.whole()
        unserved = Place(tmp_path, node)
        assert (await unserved.rerate("--json")).json["differ"] == 1
        assert (await unserved.rerate(*APPLY)).exit_code == 3
