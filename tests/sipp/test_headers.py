"""A gateway with header rules: what it sees, and what the record keeps."""

from __future__ import annotations

from sidecar.demo.check import summary
from tests.sipp.conftest import MakeRig

RULES = """caller_id = "pai"
caller_number = "no_plus"
add_headers = ["X-Trunk: 7"]
remove_headers = ["X-Internal"]
"""


async def test_a_private_number_is_asserted_to_the_gateway_and_stays_as_it_was_in_the_record(
    make_rig: MakeRig,
) -> None:
    async with make_rig({"gateways.main": RULES}, max_duration_s=10) as rig:
        cdr = await rig.place("caller-bye-private", "caller-bye-private")
    assert summary(cdr) == "caller/bye 200 16 answered"
    assert cdr["caller"] == {"received": "+4930123456", "sent": "anonymous", "billed": "4930123999"}
