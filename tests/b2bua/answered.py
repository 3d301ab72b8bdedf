"""An answered call over any transport, with headers of either side."""

from __future__ import annotations

from sidecar.core.commands import RelayAnswer
from sidecar.core.events import AnswerHeld, InviteReceived
from sidecar.core.terms import LivenessCheck, TransportName
from tests.b2bua.rig import ANSWER, Dialog, Rig
from tests.b2bua.scripted_ua import ScriptedUA


async def answered_call(
    rig: Rig,
    *headers: str,
    in_invite: tuple[str, ...] = ("Supported: timer",),
    caller: ScriptedUA | None = None,
    gateway: ScriptedUA | None = None,
    liveness: LivenessCheck = LivenessCheck.ANY,
) -> tuple[Dialog, Dialog]:
    """As rig.answered_call, with headers in B's answer, and over any transport."""
    caller, gateway = caller or rig.caller, gateway or rig.gateway
    transport = TransportName(gateway.via.lower())
    sent = rig.invite(*in_invite, agent=caller)
    await caller.expect(100)
    invite = await rig.event(InviteReceived)
    rig.send(rig.route(invite, port=gateway.port, transport=transport, liveness=liveness))
    at_b = await gateway.expect("INVITE")
    gateway.reply(at_b, 200, *headers, tag="to-b", body=ANSWER)
    await rig.event(AnswerHeld)
    rig.send(RelayAnswer(bridge_id=invite.bridge_id))
    ok = await caller.expect(200)
    a = Dialog.of_caller(sent, ok)
    rig.in_dialog(caller, "ACK", a, cseq=1)
    await gateway.expect("ACK")
    return a, Dialog.of_callee(at_b, "to-b")
