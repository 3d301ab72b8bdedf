"""What becomes of a 3xx: shown, refused, or followed to a gateway of ours; on the whole node."""

from __future__ import annotations

from decimal import Decimal

from sidecar.demo.check import summary
from tests.rig.listener import sell
from tests.sipp.conftest import MakeRig

STRANGER, NUMBER = "192.0.2.7", "0144999"


async def test_a_caller_is_sent_elsewhere_and_the_call_is_over(make_rig: MakeRig) -> None:
    async with make_rig(max_duration_s=5, SIDECAR_SIP__REDIRECT="pass") as rig:
        cdr = await rig.place("callee-redirect-passed", "callee-redirect-passed")
    assert summary(cdr) == "callee/rejected 302 23 rejected"
    assert len(cdr["attempts"]) == 1


async def test_a_redirected_call_is_carried_by_the_gateway_that_the_contact_names(make_rig: MakeRig) -> None:
    async with make_rig(max_duration_s=5, SIDECAR_SIP__REDIRECT="follow") as rig:
        cdr = await rig.place(
            "caller-bye-in-call", "callee-redirect-passed", others={"second": "caller-bye-in-call"}
        )
    first, second = cdr["attempts"]
    assert (first["gateway"], first["sip_code"]) == ("main", 302)
    assert (second["gateway"], second["sip_code"]) == ("second", 200)
    assert second["target"] == f"sip:{NUMBER}@{rig.host}:{rig.gateways['second']}"
    assert STRANGER not in str(cdr)
    assert (cdr["callee"]["received"], cdr["callee"]["sent"]) == ("0044123456789", NUMBER)
    sold = sell(cdr)
    assert (sold["billed_number"], Decimal(sold["total"]) > 0) == ("44123456789", True)
