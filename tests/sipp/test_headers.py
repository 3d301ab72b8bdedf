"""A gateway with header rules: what it sees, and what the record keeps."""

from __future__ import annotations

from pathlib import Path

from sidecar.demo.check import summary
from tests.sipp.conftest import own_host
from tests.sipp.rig import Rig

RULES = """caller_id = "pai"
caller_number = "no_plus"
add_headers = ["X-Trunk: 7"]
remove_headers = ["X-Internal"]
"""


async def test_a_private_number_is_asserted_to_the_gateway_and_stays_as_it_was_in_the_record(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path, own_host())
    rig.write_profile(calls_max=100, max_duration_s=10)
    profile = tmp_path / "rig.toml"
    before = "[gateways.main]\n"
    text = profile.read_text()
    assert before in text
    profile.write_text(text.replace(before, before + RULES))
    async with rig.up():
        cdr = await rig.place("caller-bye-private", "caller-bye-private")
    assert summary(cdr) == "caller/bye 200 16 answered"
    assert cdr["caller"] == {"received": "+4930123456", "sent": "anonymous", "billed": "4930123456"}
