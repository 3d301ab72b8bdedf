"""The week of a reseller, on one node: a list with rows to come, what it would do, its Monday while calls
run, a mistake, the way back, the calls of the mistake put right, and the statement."""

from __future__ import annotations

import asyncio
import csv
import json
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from sidecar.demo.children import DemoError, environment
from sidecar.demo.subscriber import Record
from tests.rig.listener import sell
from tests.sipp.conftest import MakeRig
from tests.sipp.rig import Rig

HEADER = "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s,effective_from\n"
PAIR = ("caller-bye-in-call", "caller-bye-in-call")
RELEASED = ("server-operator-release-in-call", "server-operator-release-in-call")
WHY = ("--operator", "ann", "--text", "the list of Friday")


def _per_s(cdr: Record) -> Decimal:
    """What a second was sold for."""
    return Decimal(sell(cdr)["total"]) / int(cdr["billed_s"])


async def _holds(rig: Rig, revision: str, at: datetime) -> str:
    """The price of the number at a time."""
    words = ("--number", "44123456789", "--at", at.isoformat())
    shown = await rig.daemon.command("deck", "show", revision, *words)
    return str(shown["rates"][0]["steps"])


async def test_the_week_of_a_reseller(make_rig: MakeRig) -> None:
    async with make_rig(max_duration_s=60) as rig:
        ask = rig.daemon.command
        base = rig.folder / "base.csv"
        base.write_text(
            f"{HEADER[:-1]},default\n44,United Kingdom,EUR,0,0.60,1,1,,\n,Elsewhere,EUR,0,0.60,1,1,,yes\n"
        )
        first_deck = (await ask("deck", "import", str(base), "--activate", "demo", *WHY))["revision"]
        cheap = await rig.place(*PAIR)
        assert (sell(cheap)["deck_revision"], _per_s(cheap)) == (first_deck, Decimal("0.01"))

        # Friday: a partial list by e-mail, with the price of today and the one to come.
        monday = datetime.now(UTC) + timedelta(seconds=12)
        carrier = rig.folder / "friday.csv"
        carrier.write_text(
            f"{HEADER}44,United Kingdom,EUR,0,0.60,1,1,2026-01-01T00:00:00Z\n"
            f"44,United Kingdom,EUR,0,1.20,1,1,{monday.isoformat()}\n"
        )
        assert (await ask("deck", "import", str(carrier), "--dry-run"))["rates"] == 2
        merged = await ask("deck", "import", str(carrier), "--merge", "demo")
        assert "status 1" in await _refused(rig, "deck", "diff", "demo", merged["revision"])
        weighed = await ask("deck", "activate", merged["revision"], "demo", "--dry-run")
        assert weighed["impact"]["prefixes"] == {"raised": 1}
        assert weighed["impact"]["calls"]["calls"] == 1
        assert weighed["needs_yes"] == []

        # It comes into force by itself while a call runs, which keeps the row of its INVITE.
        async def until_it_came(dialled: str) -> None:
            call = await rig.live(dialled, answered=True)
            soon = datetime.now(UTC) + timedelta(seconds=6)
            await ask("deck", "activate", merged["revision"], "demo", "--at", soon.isoformat(), *WHY)
            [pending] = await ask("deck", "pending")
            assert pending["revision"] == merged["revision"]
            async with asyncio.timeout(60):
                while await ask("deck", "pending"):  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
            await ask("call", "release", call["call_id"], "--operator", "ann")

        running = await rig.place(*RELEASED, meanwhile=until_it_came)
        assert (sell(running)["deck_revision"], _per_s(running)) == (first_deck, Decimal("0.01"))
        assert await _holds(rig, merged["revision"], monday - timedelta(seconds=1)) == "0:0.6/60/1"
        assert await _holds(rig, merged["revision"], monday) == "0:1.2/60/1"
        await asyncio.sleep(max(0.0, (monday - datetime.now(UTC)).total_seconds()))
        dear = await rig.place(*PAIR)
        assert (sell(dear)["deck_revision"], _per_s(dear)) == (merged["revision"], Decimal("0.02"))

        # A mistake: cents for euros. It is told, and done all the same.
        wrong = rig.folder / "wrong.csv"
        wrong.write_text(f"{HEADER}44,United Kingdom,EUR,0,0,1,1,\n")
        complaint = await _refused(rig, "deck", "import", str(wrong), "--merge", "demo", "--activate", "demo")
        assert "status 1" in complaint
        given_away = await ask(
            "deck", "import", str(wrong), "--merge", "demo", "--activate", "demo", "--yes", *WHY
        )
        assert any("cost nothing" in reason for reason in given_away["needs_yes"])
        before = datetime.now(UTC)
        free = await rig.place(*PAIR)
        assert Decimal(sell(free)["total"]) == 0

        # Back, and the calls of the mistake are rated by what is in force again.
        assert (await ask("deck", "rollback", "demo", *WHY))["revision"] == merged["revision"]
        history = await ask("deck", "history", "demo")
        assert [(one["action"], one["operator"]) for one in history] == [
            *[("deck.activate", "ann")] * 3,
            ("deck.rollback", "ann"),
        ]
        applied = await ask("rerate", "--deck", "demo", "--since", before.isoformat(), "--apply", *WHY)
        assert (applied["revised"], applied["left"]) == (1, {})
        first, second = await rig.records(free["leg_a"]["sip_call_id"], 2)
        assert (first["revision"], second["revision"]) == (0, 1)
        assert _per_s(second) == Decimal("0.02")
        out = rig.folder / "revised"
        await _read(rig, "cdr", "export", "--revised-since", before.isoformat(), "--out", str(out))
        with (out / "cdrs-00001.csv").open(newline="") as file:
            assert [row["call_id"] for row in csv.DictReader(file)] == [free["call_id"]]
        # The statement of the month has the difference, and closes with what the books say.
        month = f"{datetime.now(UTC):%Y-%m}"
        read = await _read(rig, "account", "statement", "demo", "--month", month, "--format", "json")
        assert Decimal(json.loads(read)["closing"]) == await rig.account("demo")
        assert Decimal(json.loads(read)["charged"]) == sum(
            Decimal(sell(one)["total"]) for one in (cheap, running, dear, second)
        )
        entries = await ask("audit", "list")
        assert [one["action"] for one in entries if one["action"].startswith("deck.")] == [
            *("deck.import", "deck.activate", "deck.import", "deck.activate", "deck.in_force"),
            *("deck.import", "deck.import", "deck.activate", "deck.rollback"),
        ]


async def _refused(rig: Rig, *words: str) -> str:
    with pytest.raises(DemoError) as refused:
        await rig.daemon.command(*words)
    return str(refused.value)


async def _read(rig: Rig, *words: str) -> bytes:
    """What a command prints that reads the journal, where the settings say that it is."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sidecar.cli", *words),
        stdout=asyncio.subprocess.PIPE,
        env=environment(**rig.settings()),
    )
    said, _ = await child.communicate()
    assert child.returncode == 0
    return said
