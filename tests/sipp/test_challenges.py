"""A gateway that wants a password: the daemon answers from a file, and the record says how it went."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sidecar.demo.check import summary
from tests.sipp.conftest import own_host
from tests.sipp.rig import Rig

PASSWORD = "s3cret"


@asynccontextmanager
async def _rig(folder: Path) -> AsyncIterator[Rig]:
    """Gateway `main` has credentials; `second`, the other one of route 01, has none."""
    rig = Rig(folder, own_host())
    rig.write_profile(calls_max=100, max_duration_s=10)
    profile = folder / "rig.toml"
    before = "[gateways.main]\n"
    text = profile.read_text()
    assert before in text
    (folder / "password").write_text(f"{PASSWORD}\nnothing that counts\n")
    profile.write_text(text.replace(before, f'{before}username = "us"\npassword_file = "password"\n'))
    async with rig.up():
        yield rig
    assert PASSWORD not in await asyncio.to_thread((folder / "daemon.log").read_text)


async def test_a_gateway_that_challenges_gets_its_answer_and_the_call(tmp_path: Path) -> None:
    async with _rig(tmp_path) as rig:
        cdr = await rig.place("caller-bye-in-call", "gateway-challenge")
    assert summary(cdr) == "caller/bye 200 16 answered"
    assert len(cdr["attempts"]) == 1
    assert cdr["attempts"][0]["sip_code"] == 200


async def test_rejected_credentials_are_a_failure_that_the_caller_is_not_asked_about(tmp_path: Path) -> None:
    async with _rig(tmp_path) as rig:
        cdr = await rig.place("callee-rejected-unavailable", "callee-credentials-rejected")
    assert summary(cdr) == "callee/rejected 401 21 rejected"
    assert [one["sip_code"] for one in cdr["attempts"]] == [401]


async def test_rejected_credentials_lead_to_the_next_gateway(tmp_path: Path) -> None:
    async with _rig(tmp_path) as rig:
        others = {"second": "caller-bye-in-call"}
        cdr = await rig.place(
            "caller-bye-in-call", "callee-credentials-rejected", dialled="0144123456789", others=others
        )
    assert summary(cdr) == "caller/bye 200 16 answered"
    assert [(one["gateway"], one["sip_code"]) for one in cdr["attempts"]] == [("main", 401), ("second", 200)]
