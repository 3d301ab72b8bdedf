"""Which request a message belongs to: RFC 3261 §17.1.3 and §17.2.3."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.b2bua.settings import PeerGroup
from sidecar.core.commands import Reject, RelayAnswer
from sidecar.core.events import AnswerHeld, CancelReceived, InviteReceived, LegTerminated, RouteFailed
from tests.b2bua.rig import ANSWER, Dialog, Rig
from tests.b2bua.scripted_ua import Message, sip

BRANCH = "z9hG4bK-7-1-0"  # as of the same program with the same process id in two containers


class TwoCallers(Rig):
    """`caller` and `second`, of one peer group with many customers."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(peers=(PeerGroup(name="block", cidrs=("127.0.0.0/8",)),), **settings)

    async def __aenter__(self) -> TwoCallers:
        await super().__aenter__()
        self.second = await self.agent(4)
        return self


@pytest.mark.parametrize("cseq", [1, 2])
async def test_two_hosts_with_one_branch_have_two_calls(cseq: int) -> None:
    async with TwoCallers() as rig:
        for agent, number, count in ((rig.caller, "1", 1), (rig.second, "2", cseq)):
            sent = rig.invite(agent=agent, branch=BRANCH, number=number, cseq=count)
            trying = await agent.expect(100)
            assert (trying["Call-ID"], trying.branch) == (sent["Call-ID"], BRANCH)
            invite = await rig.event(InviteReceived)
            assert (invite.request_user, invite.leg.branch) == (number, BRANCH)
        await rig.counted("live_calls", 2)


async def test_a_cancel_is_for_the_call_of_its_own_host() -> None:
    async with TwoCallers() as rig:
        first = rig.invite(branch=BRANCH)
        await rig.caller.expect(100)
        await rig.event(InviteReceived)
        rig.cancel(first, agent=rig.second)  # as if it were the caller
        second = rig.invite(agent=rig.second, branch=BRANCH)
        await rig.second.until(100)
        invite = await rig.event(InviteReceived)
        rig.cancel(second, agent=rig.second)
        await rig.second.expect(200, "CANCEL")
        await rig.second.expect(487)
        assert (await rig.event(CancelReceived)).bridge_id == invite.bridge_id
        await rig.counted("live_calls", 1)
        assert rig.caller.quiet


async def test_a_bye_is_for_the_call_of_its_own_host() -> None:
    async with TwoCallers() as rig:
        rig.autopilot()
        calls = []
        for agent in (rig.caller, rig.second):
            sent = rig.invite(agent=agent)
            rig.gateway.reply(await rig.gateway.until("INVITE"), 200, tag=f"to-{agent.host}", body=ANSWER)
            await agent.expect(100)
            a = Dialog.of_caller(sent, await agent.expect(200))
            rig.in_dialog(agent, "ACK", a, cseq=1)
            await rig.gateway.expect("ACK")
            calls.append((agent, a))
        for agent, a in calls:
            line = agent.via_line(BRANCH)
            agent.send(
                sip(
                    f"BYE {a.target} SIP/2.0",
                    line,
                    f"From: {a.local}",
                    f"To: {a.remote}",
                    f"Call-ID: {a.call_id}",
                    "CSeq: 2 BYE",
                )
            )
            assert (await agent.expect(200, "BYE"))["Call-ID"] == a.call_id
            rig.gateway.reply(await rig.gateway.expect("BYE"), 200)
        await rig.idle()


async def test_an_ack_ends_the_repeats_to_its_own_host() -> None:
    async with TwoCallers(t1_ms=50) as rig:
        refused = []
        for agent in (rig.caller, rig.second):
            sent = rig.invite(agent=agent, branch=BRANCH)
            await agent.expect(100)
            invite = await rig.event(InviteReceived)
            rig.send(Reject(bridge_id=invite.bridge_id, sip_code=403, q850_cause=21, text="rule"))
            refused.append((sent, await agent.expect(403)))
            await rig.event(LegTerminated)
        rig.ack_failure(*refused[0])
        await rig.settled(rig.caller)
        repeats = len(rig.caller.repeats)
        await rig.second.until_repeated(403, 3)
        assert len(rig.caller.repeats) == repeats


async def test_two_peer_groups_with_one_branch_and_sent_by_have_two_calls() -> None:
    async with Rig() as rig:
        via = rig.caller.via_line(BRANCH)
        for agent, tag in ((rig.caller, "a"), (rig.gateway, "b")):
            agent.via_line = lambda branch: via  # type: ignore[method-assign]
            rig.invite(agent=agent, tag=tag)
            assert (await rig.event(InviteReceived)).leg.remote_tag == tag
        await rig.counted("live_calls", 2)


@pytest.mark.parametrize(
    ("first", "then", "is_it"), [("", ":5060", True), (":5060", "", True), ("", ":5062", False)]
)
async def test_the_port_of_a_via_that_names_none_is_5060(first: str, then: str, is_it: bool) -> None:
    async with Rig() as rig:
        sent = rig.invite()
        host = f"{rig.caller.host}:{rig.caller.port}"
        await rig.caller.expect(100)
        await rig.event(InviteReceived)
        here = sent["Via"].replace(host, rig.caller.host + first).replace(sent.branch, BRANCH)
        other = Message(
            sent.raw.replace(sent["Via"].encode(), here.encode()).replace(b"Call-ID: ", b"Call-ID: other-"),
            sent.source,
        )
        rig.caller.send(other.raw)
        await rig.caller.expect(100)
        await rig.event(InviteReceived)
        cancel = Message(
            other.raw.replace(
                rig.caller.host.encode() + first.encode() + b";", (rig.caller.host + then + ";").encode()
            ),
            sent.source,
        )
        rig.cancel(cancel)
        assert (await rig.caller.expect(200 if is_it else 481, "CANCEL")).branch == BRANCH


@pytest.mark.parametrize("branch", ["old", "1", 'z9hG4bK"', "z9hG4bK"])
async def test_a_branch_of_another_kind_is_given_back_as_it_came(branch: str) -> None:
    async with Rig() as rig:
        sent = rig.invite(branch=branch)
        await rig.settled(await rig.agent(4))
        if rig.hook.stats()["invites"] == 0:
            return
        assert (await rig.caller.expect(100)).branch == branch
        assert (await rig.event(InviteReceived)).leg.branch == branch
        rig.caller.send(sent.raw)
        await rig.caller.until_repeated(100)
        rig.cancel(sent)
        assert (await rig.caller.expect(200, "CANCEL")).branch == branch


async def test_a_gateway_cannot_answer_for_the_one_that_is_tried_after_it() -> None:
    async with Rig() as rig:
        second = await rig.agent(4)
        rig.invite()
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite, no_response_ms=50))
        at_first = await rig.gateway.expect("INVITE")
        await rig.event(RouteFailed)
        rig.send(rig.route(invite, attempt=2, host=second.host, port=second.port))
        at_second = await second.expect("INVITE")
        forged = rig.gateway.response(at_first, 200, rig.gateway.contact(), tag="forged", body=ANSWER)
        for cseq in (at_first.cseq, at_second.cseq):
            rig.gateway.send(
                forged.replace(at_first.branch.encode(), at_second.branch.encode()).replace(
                    f"CSeq: {at_first.cseq} ".encode(), f"CSeq: {cseq} ".encode()
                ),
                at_first.source,
            )
        await rig.counted("dropped_foreign", 2)
        second.reply(at_second, 200, tag="to-c", body=ANSWER)
        assert (await rig.until(AnswerHeld)).leg.remote_tag == "to-c"
        rig.send(RelayAnswer(bridge_id=invite.bridge_id))
        await rig.caller.expect(200)
