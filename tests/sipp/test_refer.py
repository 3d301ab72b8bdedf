"""Transfers on the whole node: refused, or passed, and the call that comes of it is billed as its own."""

from __future__ import annotations

from decimal import Decimal

from sidecar.demo.check import summary
from tests.rig.listener import sell
from tests.sipp.conftest import MakeRig

TARGET = "004930999"  # the number that the scenario transfers to


async def test_a_transfer_passes_and_the_call_it_makes_is_billed_as_its_own(make_rig: MakeRig) -> None:
    async with make_rig(max_duration_s=5, SIDECAR_SIP__REFER="pass") as rig:
        transferred = await rig.place("caller-refer-in-call", "caller-refer-in-call")
        # What the callee does with the Refer-To that it was given.
        made = await rig.place("caller-bye-in-call", "caller-bye-in-call", dialled=TARGET)
    assert summary(transferred) == "caller/bye 200 16 answered"
    assert made["call_id"] != transferred["call_id"]
    assert made["callee"]["received"] == TARGET
    for cdr, number in ((transferred, "44123456789"), (made, "4930999")):
        assert sell(cdr)["billed_number"] == number
        assert Decimal(sell(cdr)["total"]) > 0


async def test_a_transfer_is_refused_unless_a_setting_says_otherwise(make_rig: MakeRig) -> None:
    async with make_rig(max_duration_s=5) as rig:
        cdr = await rig.place("caller-refer-refused", "caller-bye-in-call")
    assert summary(cdr) == "caller/bye 200 16 answered"
