"""Copies of messages by HEP, from a whole node: whose calls, and under which id."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidecar.demo.subscriber import Record
from tests.rig.collector import Homer
from tests.rig.node import until
from tests.sipp.conftest import MakeRig


@pytest.fixture
async def homer() -> AsyncIterator[Homer]:
    homer = Homer()
    yield homer
    homer.transport.close()


async def test_the_calls_of_an_account_are_copied_under_the_id_of_their_record(
    make_rig: MakeRig, tmp_path: Path, homer: Homer
) -> None:
    key = tmp_path / "key"
    key.write_text("myhep\n")
    host, port = await homer.listen("127.0.0.1")
    settings = {
        "SIDECAR_HEP__COLLECTOR": f"{host}:{port}",
        "SIDECAR_HEP__CAPTURE_ID": "7",
        "SIDECAR_HEP__PASSWORD_FILE": str(key),
        "SIDECAR_HEP__ACCOUNTS": "demo",
    }
    cdr: Record = {}
    async with make_rig(**settings) as rig:
        await rig.top_up("prepaid", "1")
        for account in ("prepaid", "demo"):
            cdr = await rig.place("caller-bye-in-call", "caller-bye-in-call", account=account)
            assert cdr["account"] == account
        await rig.empty()
        sent = await rig.metric("sidecar_hep_sent_total")
        await until(lambda: len(homer.copies) == sent)
        assert await rig.metric("sidecar_hep_dropped_total") == 0
    assert {one.correlation_id.decode() for one in homer.copies} == {cdr["call_id"]}
    assert {(one.key, one.node) for one in homer.copies} == {(b"myhep", 7)}
    legs = {cdr[leg]["sip_call_id"].encode() for leg in ("leg_a", "leg_b")}
    for leg in legs:
        of_it = [one.text for one in homer.copies if leg in one.text]
        for method in (b"INVITE sip:", b"ACK sip:", b"BYE sip:", b"SIP/2.0 200 OK"):
            assert any(text.startswith(method) for text in of_it), (method, leg)
