"""What a route says of headers, as the gateway sees it."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.b2bua.settings import Credentials
from sidecar.core.commands import RelayAnswer
from sidecar.core.events import AckReceived, AnswerHeld, InviteReceived, RouteFailed
from sidecar.core.terms import RouteFailure
from tests.b2bua.rig import ANSWER, Dialog, Rig
from tests.b2bua.scripted_ua import Message

RULES: dict[str, Any] = {
    "add_headers": (("X-Trunk", "7"), ("P-Asserted-Identity", "<sip:+4930@gw>")),
    "withheld_headers": ("p-asserted-identity", "x-trunk", "x-internal", "subject", "s", "supported"),
}


async def routed(rig: Rig, *headers: str, **changes: Any) -> Message:
    """Leg B's INVITE of a call with these headers."""
    rig.invite(*headers)
    await rig.caller.expect(100)
    invite = await rig.event(InviteReceived)
    rig.send(rig.route(invite, **changes))
    return await rig.gateway.expect("INVITE")


async def test_headers_are_added_replaced_and_withheld() -> None:
    async with Rig() as rig:
        at_b = await routed(
            rig,
            "X-Trunk: forged",
            "P-Asserted-Identity: <sip:666@caller>",
            "X-Internal: secret",
            "s: short",
            "k: timer",
            "X-Other: passes",
            **RULES,
        )
        assert at_b.all("X-Trunk") == ["7"]
        assert at_b.all("P-Asserted-Identity") == ["<sip:+4930@gw>"]
        assert at_b["X-Other"] == "passes"
        for name in ("X-Internal", "s", "Subject", "k", "Supported"):
            assert name not in at_b


async def test_what_is_withheld_is_withheld_in_the_dialog_too_and_nothing_is_added_there() -> None:
    async with Rig() as rig:
        rig.invite()
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite, **RULES))
        at_b = await rig.gateway.expect("INVITE")
        rig.gateway.reply(at_b, 200, "X-Internal: of-b", tag="to-b", body=ANSWER)
        await rig.event(AnswerHeld)
        rig.send(RelayAnswer(bridge_id=invite.bridge_id))
        await rig.caller.expect(100)
        ok = await rig.caller.expect(200)
        assert ok["X-Internal"] == "of-b"  # the rule is about what goes to the gateway
        sent = Message(rig.caller.response(ok, 200), ("", 0))
        a = Dialog(ok["Contact"].strip("<>"), sent["From"], ok["To"], ok["Call-ID"])
        rig.in_dialog(rig.caller, "ACK", a, "X-Internal: secret", cseq=1)
        await rig.gateway.expect("ACK")
        await rig.until(AckReceived)
        secret = ("X-Internal: secret", "P-Asserted-Identity: <sip:666@caller>", "X-Other: passes")
        b = Dialog.of_callee(at_b, "to-b")

        rig.in_dialog(rig.caller, "INFO", a, *secret, cseq=2)
        info = await rig.gateway.expect("INFO")
        rig.gateway.reply(info, 200)
        await rig.caller.expect(200, "INFO")
        rig.in_dialog(rig.gateway, "INFO", b, "X-Internal: of-b", cseq=1)
        asked = await rig.caller.expect("INFO")
        assert asked["X-Internal"] == "of-b"
        rig.caller.reply(asked, 200, *secret)
        answered = await rig.gateway.expect(200)
        rig.in_dialog(rig.caller, "BYE", a, *secret, cseq=3)
        bye = await rig.gateway.expect("BYE")
        for message in (info, answered, bye):
            assert message["X-Other"] == "passes"
            for name in ("X-Internal", "P-Asserted-Identity", "X-Trunk"):
                assert name not in message


async def test_each_attempt_has_the_rules_of_its_own_gateway() -> None:
    async with Rig() as rig:
        second = await rig.agent(4)
        first_invite = await routed(rig, "X-Internal: secret", **RULES)
        rig.gateway.reply(first_invite, 503, tag="b")
        failed = await rig.event(RouteFailed)
        invite = rig.events[0]
        assert isinstance(invite, InviteReceived)
        assert failed.cause == RouteFailure.FINAL_RESPONSE
        rig.send(rig.route(invite, attempt=2, port=second.port, host=second.host))
        at_second = await second.expect("INVITE")
        assert at_second["X-Internal"] == "secret"
        assert "X-Trunk" not in at_second


async def test_a_retry_with_credentials_has_the_same_headers() -> None:
    ours = Credentials(gateway="gw", username="us", password="s3cret")
    async with Rig(credentials=(ours,)) as rig:
        first = await routed(rig, "X-Internal: secret", **RULES)
        challenge = 'WWW-Authenticate: Digest realm="gw", nonce="n", algorithm=MD5, qop="auth"'
        rig.gateway.reply(first, 401, challenge, tag="b")
        await rig.gateway.expect("ACK")
        again = await rig.gateway.expect("INVITE")
        assert again["Authorization"].startswith("Digest")
        assert again.all("X-Trunk") == ["7"]
        assert again.all("P-Asserted-Identity") == ["<sip:+4930@gw>"]
        assert "X-Internal" not in again


@pytest.mark.parametrize(
    ("user", "written"),
    [("+4930999", "+4930999"), ("%23%2A1", "%23*1"), ("a'b!", "a'b!")],
)
async def test_from_shows_the_user_that_the_route_says(user: str, written: str) -> None:
    async with Rig() as rig:
        at_b = await routed(rig, from_user=user)
        assert at_b["From"].startswith(f'"Alice" <sip:{written}@{rig.host}')
        invite = rig.events[0]
        assert isinstance(invite, InviteReceived)
        assert invite.from_user == "1000"  # the record has what was received


@pytest.mark.parametrize("user", ["x@192.0.2.9", "x>\r\nX-Evil: 1", "x<y", "1 2"])
async def test_a_user_that_is_none_is_not_sent_in_from(user: str) -> None:
    async with Rig() as rig:
        rig.invite()
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite, from_user=user))
        assert (await rig.event(RouteFailed)).cause == RouteFailure.UNREACHABLE
        await rig.settled(rig.gateway)


async def test_an_anonymous_from_names_nobody() -> None:
    async with Rig() as rig:
        at_b = await routed(rig, anonymous=True)
        assert at_b["From"].startswith('"Anonymous" <sip:anonymous@anonymous.invalid>;tag=')
        assert "1000" not in at_b["From"]
        assert "Alice" not in at_b.raw.decode()
