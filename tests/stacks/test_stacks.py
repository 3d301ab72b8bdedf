"""Calls through baresip as Debian has it and pjsua2 of our own build, each as caller and as callee."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sidecar.demo.check import summary
from tests.stacks.rig import Span, Stacks

both_ways = pytest.mark.parametrize("kinds", [("baresip", "pjsua"), ("pjsua", "baresip")], ids="-".join)
CALLER_BYE = "caller/bye 200 16 answered"
CALLEE_BYE = "callee/bye 200 16 answered"


@both_ways
@pytest.mark.parametrize("who", ["caller", "callee"])
async def test_who_hangs_up_ended_the_call(tmp_path: Path, kinds: tuple[str, str], who: str) -> None:
    rig = Stacks(tmp_path, *kinds)
    caller, callee = rig.parties.values()
    async with rig.up():
        start = await rig.talk(caller, callee)
        await asyncio.sleep(1.2)  # what is billed
        end = Span()
        await (caller if who == "caller" else callee).do("hang_up")
        await rig.ended(caller, callee)
        end.begun()
        [cdr] = await rig.records()
    assert summary(cdr) == f"{who}/bye 200 16 answered"
    start.check(cdr, end)
    assert cdr["account"] == "alice"
    assert cdr["leg_a"]["remote_address"] == f"{caller.host}:{caller.port}"
    assert cdr["leg_b"]["remote_address"] == f"{callee.host}:{callee.port}"


@both_ways
async def test_a_caller_that_gives_up_while_it_rings_is_not_charged(
    tmp_path: Path, kinds: tuple[str, str]
) -> None:
    rig = Stacks(tmp_path, *kinds)
    caller, callee = rig.parties.values()
    async with rig.up():
        await rig.ring(caller, callee)
        await caller.do("hang_up")
        await rig.ended(caller, callee)
        [cdr] = await rig.records()
    assert summary(cdr) == "caller/cancel 487 16 cancelled"
    assert (cdr["talk_ms"], cdr["billed_s"], cdr["answered_at"]) == (0, 0, None)


@both_ways
async def test_a_callee_that_refuses_is_heard_by_the_caller(tmp_path: Path, kinds: tuple[str, str]) -> None:
    rig = Stacks(tmp_path, *kinds)
    caller, callee = rig.parties.values()
    async with rig.up():
        await rig.ring(caller, callee)
        await callee.do("reject")
        await rig.ended(caller, callee)
        [cdr] = await rig.records()
    assert summary(cdr) == "callee/rejected 486 17 rejected"
    assert (cdr["talk_ms"], cdr["billed_s"], cdr["answered_at"]) == (0, 0, None)
