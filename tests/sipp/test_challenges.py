"""A gateway that wants a password: the daemon answers from a file, and the record says how it went."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from sidecar.demo.check import summary
from tests.sipp.conftest import MakeRig
from tests.sipp.rig import Rig

PASSWORD = "s3cret"


@pytest_asyncio.fixture
async def rig(make_rig: MakeRig, tmp_path: Path) -> AsyncIterator[Rig]:
    """Gateway `main` has credentials; `second`, the other one of route 01, has none."""
    (tmp_path / "password").write_text(f"{PASSWORD}\nnothing that counts\n")
    credentials = {"gateways.main": 'username = "us"\npassword_file = "password"'}
    async with make_rig(credentials, max_duration_s=10) as rig:
        yield rig
    assert PASSWORD not in await asyncio.to_thread(rig.log.read_text)


async def test_a_gateway_that_challenges_gets_its_answer_and_the_call(rig: Rig) -> None:
    cdr = await rig.place("caller-bye-in-call", "gateway-challenge")
    assert summary(cdr) == "caller/bye 200 16 answered"
    assert len(cdr["attempts"]) == 1
    assert cdr["attempts"][0]["sip_code"] == 200


async def test_rejected_credentials_are_a_failure_that_the_caller_is_not_asked_about(rig: Rig) -> None:
    cdr = await rig.place("callee-rejected-unavailable", "callee-credentials-rejected")
    assert summary(cdr) == "callee/rejected 401 21 rejected"
    assert [one["sip_code"] for one in cdr["attempts"]] == [401]


async def test_rejected_credentials_lead_to_the_next_gateway(rig: Rig) -> None:
    others = {"second": "caller-bye-in-call"}
    cdr = await rig.place(
        "caller-bye-in-call", "callee-credentials-rejected", dialled="0144123456789", others=others
    )
    assert summary(cdr) == "caller/bye 200 16 answered"
    assert [(one["gateway"], one["sip_code"]) for one in cdr["attempts"]] == [("main", 401), ("second", 200)]
