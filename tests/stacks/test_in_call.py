"""What two real stacks do in a call of theirs: hold, blind and attended transfer."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.demo.check import summary
from tests.rig.listener import sell
from tests.stacks.agent import Agent
from tests.stacks.rig import Span, Stacks

both_ways = pytest.mark.parametrize("kinds", [("baresip", "pjsua"), ("pjsua", "baresip")], ids="-".join)
either = pytest.mark.parametrize("who", ["caller", "callee"])


def ended_by(who: str) -> str:
    return f"{who}/bye 200 16 answered"


def sides(rig: Stacks, who: str) -> tuple[Agent, Agent]:
    """Who does it, and to whom."""
    caller, callee = rig.parties["alice"], rig.parties["bob"]
    return (caller, callee) if who == "caller" else (callee, caller)


@both_ways
@either
async def test_a_call_on_hold_is_billed_as_any_other(
    tmp_path: Path, kinds: tuple[str, str], who: str
) -> None:
    rig = Stacks(tmp_path, *kinds)
    async with rig.up():
        near, far = sides(rig, who)
        start = await rig.talk(rig.parties["alice"], rig.parties["bob"])
        heard = 0
        who_tells, state = (near, "holding") if near.kind == "pjsua" else (far, "held")
        for _ in range(2):
            await near.do("hold")
            heard = await who_tells.event(state, heard)
            await near.do("resume")
            heard = await who_tells.event("talking", heard)
        end = Span()
        await near.do("hang_up")
        await rig.ended(near, far)
        end.begun()
        [cdr] = await rig.records()
    assert summary(cdr) == ended_by(who)
    start.check(cdr, end)


@both_ways
@either
async def test_a_call_that_is_transferred_blindly_is_a_call_of_who_was_sent_on(
    tmp_path: Path, kinds: tuple[str, str], who: str
) -> None:
    rig = Stacks(tmp_path, *kinds, "pjsua")
    carol = rig.parties["carol"]
    async with rig.up(SIDECAR_SIP__REFER="pass"):
        near, far = sides(rig, who)
        await rig.talk(rig.parties["alice"], rig.parties["bob"])
        await near.do("transfer", uri=rig.uri(carol))
        await carol.event("incoming")
        await carol.do("answer")
        await carol.event("established")
        again = await far.event("established", await far.event("established"))
        await near.event("closed")  # its own way out, once it is told that the other has got through
        closed = await far.event("closed")
        await carol.do("hang_up")
        await rig.ended(carol)
        await far.event("closed", max(again, closed))
        first, second = await rig.records(2)
    assert (summary(first), summary(second)) == (ended_by(who), ended_by("callee"))
    assert (first["account"], first["callee"]["received"]) == ("alice", "120")
    account = "bob" if who == "caller" else "alice"
    assert (second["account"], second["callee"]["received"]) == (account, "130")
    for cdr in (first, second):
        assert sell(cdr)["party"] == cdr["account"]


@both_ways
@either
async def test_a_transfer_that_is_refused_makes_no_call(
    tmp_path: Path, kinds: tuple[str, str], who: str
) -> None:
    rig = Stacks(tmp_path, *kinds)
    async with rig.up():
        near, far = sides(rig, who)
        start = await rig.talk(rig.parties["alice"], rig.parties["bob"])
        end = Span()
        await near.do("transfer", uri=rig.uri(far))
        if near.kind == "pjsua":
            await near.event("answered", method="REFER", code=603)
            end = Span()
            await near.do("hang_up")
            await near.event("closed")
        else:
            await near.event("transfer_failed")  # and it hangs up by itself
        await far.event("closed")
        end.begun()
        [cdr] = await rig.records()
    assert summary(cdr) == ended_by(who)
    start.check(cdr, end)


@either
async def test_an_attended_transfer_replaces_the_call_that_was_asked_after(tmp_path: Path, who: str) -> None:
    rig = Stacks(tmp_path, "pjsua", "pjsua", "pjsua")
    carol = rig.parties["carol"]
    async with rig.up(SIDECAR_SIP__REFER="pass"):
        near, far = sides(rig, who)
        await rig.talk(rig.parties["alice"], rig.parties["bob"])
        await near.do("hold")
        await far.event("held")
        await near.do("dial", uri=rig.uri(carol))
        await carol.event("incoming", call="0")
        await carol.do("answer")
        await near.event("established", call="1")
        await near.do("transfer_to_call", call="0", other="1")
        await carol.event("replaced", call="0")
        await far.event("established", call="1")
        for one in (near, far, carol):
            await one.event("closed", call="0")
        await near.event("closed", call="1")
        await far.do("hang_up", call="1")
        for one in (far, carol):
            await one.event("closed", call="1")
        asked, kept, replaced = await rig.records(3)
    assert summary(asked) == ended_by(who)
    assert summary(kept) == ended_by("callee")  # carol's stack lets go the call that was replaced
    assert summary(replaced) == ended_by("caller")
    accounts = ("alice", "bob") if who == "caller" else ("bob", "alice")
    assert (kept["account"], replaced["account"]) == accounts
    assert kept["callee"]["received"] == replaced["callee"]["received"] == "130"
