"""A deck put in force by command: for the next call at once, never for the call that is up, still after a
restart."""

from __future__ import annotations

from decimal import Decimal

from sidecar.demo.subscriber import Record
from tests.rig.listener import sell
from tests.sipp.conftest import MakeRig

HEADER = "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s,steps\n"


def _sold(cdr: Record) -> tuple[str, str]:
    return sell(cdr)["deck_revision"], sell(cdr)["total"]


async def test_a_deck_in_force_rates_the_next_call_and_outlasts_a_restart(make_rig: MakeRig) -> None:
    pair = ("caller-bye-in-call", "caller-bye-in-call")
    async with make_rig(max_duration_s=30) as rig:
        deck = rig.folder / "dear.csv"
        deck.write_text(HEADER + "44,United Kingdom,EUR,0.50,0.60,60,60,\n")

        async def activate(dialled: str) -> None:
            call = await rig.live(dialled, answered=True)
            imported = await rig.daemon.command("deck", "import", str(deck), "--activate", "demo", "--yes")
            revisions.append(imported["revision"])
            await rig.daemon.command("call", "release", call["call_id"], "--operator", "jane")

        revisions: list[str] = []
        released = ("server-operator-release-in-call", "server-operator-release-in-call")
        before = await rig.place(*released, meanwhile=activate)
        begun_after = _sold(await rig.place(*pair))
        await rig.daemon.stop()
        async with rig.up():
            after_restart = _sold(await rig.place(*pair))
    assert _sold(before)[0] != revisions[0]
    assert Decimal(_sold(before)[1]) == Decimal(before["billed_s"]) / 100
    assert begun_after == after_restart == (revisions[0], "1.100000")


async def test_a_blocked_row_refuses_the_call_for_nothing(make_rig: MakeRig) -> None:
    async with make_rig() as rig:
        deck = rig.folder / "blocked.csv"
        deck.write_text(HEADER[:-1] + ",blocked\n44,United Kingdom,EUR,0,0.60,60,60,,\n4412,x,EUR,,,,,,yes\n")
        await rig.daemon.command("deck", "import", str(deck), "--activate", "demo", "--yes")
        refused = await rig.place("server-refused-by-policy")
    assert (refused["sip_code"], refused["detail"]) == (403, "destination_blocked")
    assert refused["attempts"] == []
    assert sell(refused)["total"] == "0"
