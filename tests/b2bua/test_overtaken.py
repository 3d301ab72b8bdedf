"""A re-INVITE that a BYE overtakes: it is not repeated any more, and its 2xx gets an ACK all the same."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.core.commands import Release
from sidecar.core.events import LegTerminated
from tests.b2bua.rig import ANSWER, OFFER, Rig
from tests.b2bua.scripted_ua import Message, ScriptedUA, parameter

CASES = [(who, end) for who in ("caller", "callee") for end in ("caller", "callee", "operator")]


class Overtaken:
    """`who` has sent a re-INVITE, the other side has not answered it, and the call ends."""

    def __init__(self, rig: Rig, who: str, end: str) -> None:
        self.rig, self.who, self.end = rig, who, end

    async def happen(self, heard: int = 0) -> None:
        rig = self.rig
        invite, a, b = await rig.answered_call()
        agents = {"caller": (rig.caller, a), "callee": (rig.gateway, b)}
        near, dialog = agents.pop(self.who)
        ((self.side, (self.asked, _)),) = agents.items()
        agents[self.who] = near, dialog
        rig.in_dialog(near, "INVITE", dialog, near.contact(), cseq=5, body=OFFER)
        await near.expect(100)
        self.reinvite = await self.asked.expect("INVITE")
        if heard:
            self.asked.reply(self.reinvite, heard)
            if heard > 100:
                await near.expect(heard)
        if self.end == "operator":
            rig.send(Release(bridge_id=invite.bridge_id, sip_code=480, q850_cause=31, text="operator"))
        else:
            agent, its = agents[self.end]
            rig.in_dialog(agent, "BYE", its, cseq=6)
            await agent.until(200, "BYE")
        self.byes: list[tuple[ScriptedUA, Message]] = []
        for name, (agent, _) in agents.items():
            if name != self.end:
                self.byes.append((agent, await agent.until("BYE")))

    async def legs_end(self) -> None:
        for agent, bye in self.byes:
            agent.reply(bye, 200)
        await self.rig.until(LegTerminated)
        await self.rig.until(LegTerminated)
        await self.rig.idle()

    async def is_acknowledged(self) -> None:
        self.asked.reply(self.reinvite, 200, body=ANSWER)
        ack = await self.asked.expect("ACK")
        assert (ack.cseq, ack["Call-ID"]) == (self.reinvite.cseq, self.reinvite["Call-ID"])
        for name in ("From", "To"):
            assert parameter(ack[name], "tag") == parameter(self.reinvite[name], "tag")
        assert ack.uri == f"sip:{self.asked.host}:{self.asked.port}"
        assert ack.branch != self.reinvite.branch


@pytest.mark.parametrize("heard", [0, 100, 183])
@pytest.mark.parametrize(("who", "end"), CASES)
async def test_a_2xx_before_the_bye_is_answered_gets_its_ack(who: str, end: str, heard: int) -> None:
    async with Rig() as rig:
        overtaken = Overtaken(rig, who, end)
        await overtaken.happen(heard)
        await overtaken.is_acknowledged()
        overtaken.asked.reply(overtaken.reinvite, 200, body=ANSWER)  # it has not heard the ACK
        if end == overtaken.side:
            await overtaken.asked.expect("ACK")
        else:
            await overtaken.asked.until_repeated("ACK")
        await overtaken.legs_end()


@pytest.mark.parametrize("heard", [0, 183])
@pytest.mark.parametrize(("who", "end"), CASES)
async def test_a_2xx_after_all_has_ended_gets_its_ack(who: str, end: str, heard: int) -> None:
    async with Rig() as rig:
        overtaken = Overtaken(rig, who, end)
        await overtaken.happen(heard)
        await overtaken.legs_end()
        for _ in range(2):
            await overtaken.is_acknowledged()
        assert rig.hook.stats()["dropped_answers"] == 0  # no BYE: it has had one, or sent one


@pytest.mark.parametrize(("who", "end"), CASES)
async def test_the_usual_487_gets_its_ack(who: str, end: str) -> None:
    async with Rig() as rig:
        overtaken = Overtaken(rig, who, end)
        await overtaken.happen()
        overtaken.asked.reply(overtaken.reinvite, 487)
        assert (await overtaken.asked.expect("ACK")).branch == overtaken.reinvite.branch
        await overtaken.legs_end()


@pytest.mark.parametrize(("who", "end"), CASES)
async def test_it_is_not_repeated_any_more(who: str, end: str) -> None:
    async with Rig(t1_ms=50) as rig:
        overtaken = Overtaken(rig, who, end)
        await overtaken.happen()
        await rig.settled(await rig.agent(4))
        repeats = sum(message.method == "INVITE" for message in overtaken.asked.repeats)
        await asyncio.sleep(1)  # it would be repeated every 400 ms at least
        assert repeats == sum(message.method == "INVITE" for message in overtaken.asked.repeats)


async def test_a_2xx_to_another_re_invite_gets_no_ack() -> None:
    async with Rig() as rig:
        overtaken = Overtaken(rig, "caller", "caller")
        await overtaken.happen()
        await overtaken.legs_end()
        cseq = overtaken.reinvite.cseq
        answer = overtaken.asked.response(overtaken.reinvite, 200, overtaken.asked.contact())
        for other in (cseq + 1, cseq + 2):
            overtaken.asked.send(
                answer.replace(b"CSeq: %d " % cseq, b"CSeq: %d " % other), overtaken.reinvite.source
            )
        await rig.counted("unmatched_responses", 2)
        assert overtaken.asked.quiet
