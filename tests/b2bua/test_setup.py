"""From INVITE to ACK to BYE."""

from __future__ import annotations

from sidecar.core.commands import RelayAnswer
from sidecar.core.events import (
    AckReceived,
    AnswerHeld,
    AnswerRelayed,
    ByeReceived,
    InviteReceived,
    LegTerminated,
    ProvisionalReceived,
)
from sidecar.core.identity import leg_b_names
from sidecar.core.terms import LegName
from tests.b2bua.rig import ANSWER, OFFER, Dialog, Rig


async def test_a_call_is_set_up_and_ended_by_the_caller() -> None:
    async with Rig() as rig:
        sent = rig.invite("X-Custom: one, two")
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        assert (invite.bridge_id, invite.peer) == (1, "callers")
        assert (invite.request_user, invite.from_user) == ("4930123", "1000")
        assert invite.leg.sip_call_id == sent["Call-ID"]
        assert invite.leg.remote_tag == "from-a"
        assert invite.leg.branch == sent.branch
        assert invite.leg.remote_target == f"sip:{rig.caller.host}:{rig.caller.port}"
        assert invite.leg.remote_address == f"{rig.caller.host}:{rig.caller.port}"

        rig.send(rig.route(invite))
        at_b = await rig.gateway.expect("INVITE")
        assert (at_b["Call-ID"], at_b["From"].rpartition("tag=")[2], at_b.branch) == leg_b_names(
            invite.b_token, 1
        )
        assert at_b.uri == f"sip:4930123@{rig.gateway.host}:{rig.gateway.port}"
        assert at_b.body == OFFER
        assert at_b["X-Custom"] == "one, two"
        assert at_b["Max-Forwards"] == "69"
        assert at_b["Request-Disposition"] == "no-fork"
        assert at_b["From"].startswith('"Alice" <sip:1000@')

        rig.gateway.reply(at_b, 180, "X-Ring: loud", tag="to-b")
        ringing = await rig.caller.expect(180)
        assert ringing["X-Ring"] == "loud"
        assert (await rig.event(ProvisionalReceived)).sip_code == 180
        rig.gateway.reply(at_b, 200, "X-Answer: yes", tag="to-b", body=ANSWER)
        held = await rig.event(AnswerHeld)
        assert (held.sip_code, held.attempt, held.leg.remote_tag) == (200, 1, "to-b")
        assert rig.caller.quiet
        rig.send(RelayAnswer(bridge_id=1))
        ok = await rig.caller.expect(200)
        assert ok.body == ANSWER
        assert ok["X-Answer"] == "yes"
        assert "X-Ring" not in ok
        await rig.event(AnswerRelayed)
        a = Dialog.of_caller(sent, ok)
        rig.in_dialog(rig.caller, "ACK", a, cseq=1)
        ack = await rig.gateway.expect("ACK")
        assert (ack.cseq, ack.uri) == (at_b.cseq, f"sip:{rig.gateway.host}:{rig.gateway.port}")
        await rig.event(AckReceived)

        rig.in_dialog(rig.caller, "BYE", a, "Reason: Q.850;cause=16", cseq=2)
        await rig.caller.expect(200, "BYE")
        bye = await rig.gateway.expect("BYE")
        assert bye["Reason"] == "Q.850;cause=16"
        rig.gateway.reply(bye, 200)
        event = await rig.event(ByeReceived)
        assert (event.leg_name, event.reasons) == (LegName.A, ("Q.850;cause=16",))
        ended = [await rig.event(LegTerminated), await rig.event(LegTerminated)]
        assert [(one.leg_name, one.alive) for one in ended] == [(LegName.A, False), (LegName.B, True)]
        assert rig.hook.stats()["live_calls"] == 0
