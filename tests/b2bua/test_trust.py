"""Whose word of who speaks passes to whom (RFC 3325): in both directions, in every message; and Identity."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import Final

import pytest

from sidecar.core.commands import RelayAnswer, RelayFailure
from sidecar.core.events import AckReceived, AnswerHeld, InviteReceived, RouteFailed
from tests.b2bua.rig import ANSWER, OFFER, Dialog, Rig
from tests.b2bua.scripted_ua import Message

ASSERTIONS: Final = (
    'P-Asserted-Identity: "A" <sip:+4930777@x.example>, <tel:+4930777>',
    "p-asserted-identity: <sip:+4930777@y.example>",
    "Remote-Party-ID: <sip:+4930777@x.example>;party=called;screen=yes",
)
PREFERRED: Final = "P-Preferred-Identity: <sip:+4930777@x.example>"
HARMLESS: Final = "X-Other: stays"


def inside(callers: bool, gateways: bool) -> set[str]:
    """The groups of the trust domain."""
    return {name for name, trusted in (("callers", callers), ("gateways", gateways)) if trusted}


def asserted(message: Message) -> tuple[int, int]:
    """How many assertions it has, and how many preferred identities."""
    assert message["X-Other"] == "stays"
    of_both = [*message.all("P-Asserted-Identity"), *message.all("Remote-Party-ID")]
    return len(of_both), len(message.all("P-Preferred-Identity"))


async def every_message(rig: Rig, privacy: tuple[str, ...]) -> tuple[list[Message], list[Message]]:
    """Of one call: what the gateway got and what the caller got, each sent with all that says who speaks."""
    said = (*ASSERTIONS, PREFERRED, HARMLESS, *privacy)
    to_b: list[Message] = []
    to_a: list[Message] = []
    sent = rig.invite(*said)
    await rig.caller.expect(100)
    rig.send(rig.route(await rig.event(InviteReceived)))
    at_b = await rig.gateway.expect("INVITE")
    to_b.append(at_b)
    for code in (180, 183):
        rig.gateway.reply(at_b, code, *said, tag="to-b", body=ANSWER if code == 183 else b"")
        to_a.append(await rig.caller.expect(code))
    rig.gateway.reply(at_b, 200, *said, tag="to-b", body=ANSWER)
    rig.send(RelayAnswer(bridge_id=(await rig.until(AnswerHeld)).bridge_id))
    ok = await rig.caller.expect(200)
    to_a.append(ok)
    await rig.gateway.expect("ACK")
    a, b = Dialog.of_caller(sent, ok), Dialog.of_callee(at_b, "to-b")
    rig.in_dialog(rig.caller, "ACK", a, cseq=1)
    await rig.until(AckReceived)
    for method, cseq in (("UPDATE", 2), ("INFO", 3), ("INVITE", 4)):
        for near, dialog, far, at_far, at_near in (
            (rig.caller, a, rig.gateway, to_b, to_a),
            (rig.gateway, b, rig.caller, to_a, to_b),
        ):
            body = OFFER if method == "INVITE" else b""
            rig.in_dialog(near, method, dialog, near.contact(), *said, cseq=cseq, body=body)
            passed = await far.until(method)
            at_far.append(passed)
            far.reply(passed, 200, *said, *([far.contact()] if method == "UPDATE" else []), body=body)
            at_near.append(await near.until(200, method))
            if method == "INVITE":
                rig.in_dialog(near, "ACK", dialog, *said, cseq=cseq, body=ANSWER)
                at_far.append(await far.until("ACK"))
    rig.in_dialog(rig.caller, "BYE", a, *said, cseq=5)
    to_b.append(await rig.gateway.expect("BYE"))
    return to_b, to_a


@pytest.mark.parametrize("pai_outside", ["remove", "keep"])
@pytest.mark.parametrize(
    ("privacy", "asks"),
    [
        ((), None),
        (("Privacy: none",), False),
        (("Privacy: id",), True),
        (("Privacy: critical; ID",), True),
        (("privacy: user,header",), True),
        (("Privacy: none", "Privacy: id"), True),
        (("Privacy: critical",), None),
    ],
)
@pytest.mark.parametrize(
    ("callers", "gateways"), [(True, True), (True, False), (False, True), (False, False)]
)
async def test_one_rule_for_both_directions_and_every_message(
    callers: bool, gateways: bool, privacy: tuple[str, ...], asks: bool | None, pai_outside: str
) -> None:
    async with Rig(inside=inside(callers, gateways), pai_outside=pai_outside) as rig:
        to_b, to_a = await every_message(rig, privacy)
    kept_outside = not asks if asks is not None else pai_outside == "keep"
    for messages, sender, receiver in ((to_b, callers, gateways), (to_a, gateways, callers)):
        may_go = receiver or kept_outside
        assert len(messages) >= 8
        for message in messages:
            assert asserted(message) == (3 if sender and may_go else 0, 1 if may_go else 0), message.start


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("code", [302, 407, 486, 503, 603])
async def test_a_failure_says_no_more_than_an_answer(code: int, trusted: bool) -> None:
    async with Rig(inside=inside(trusted, True)) as rig:
        rig.invite()
        await rig.caller.expect(100)
        rig.send(rig.route(await rig.event(InviteReceived)))
        at_b = await rig.gateway.expect("INVITE")
        rig.gateway.reply(at_b, code, *ASSERTIONS, HARMLESS, tag="to-b")
        failed = await rig.until(RouteFailed)
        rig.send(RelayFailure(bridge_id=failed.bridge_id, sip_code=500))
        assert asserted(await rig.caller.expect(500)) == (3 if trusted else 0, 0)


@pytest.mark.parametrize(
    ("mark", "kept"),
    [("privacy=off", True), ("privacy=full", False), ('Privacy = "URI"', False), ("screen=yes", True)],
)
async def test_a_remote_party_may_have_its_own_mark(mark: str, kept: bool) -> None:
    async with Rig(inside={"gateways"}, pai_outside="keep") as rig:
        rig.autopilot()
        rig.invite()
        at_b = await rig.gateway.expect("INVITE")
        rig.gateway.reply(at_b, 180, f"Remote-Party-ID: <sip:1@x>;{mark}", HARMLESS, tag="to-b")
        await rig.caller.expect(100)
        assert asserted(await rig.caller.expect(180))[0] == kept


async def test_what_the_core_adds_for_a_gateway_outside_goes_to_it() -> None:
    async with Rig(inside={"callers"}) as rig:
        rig.invite(*ASSERTIONS, HARMLESS)
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite, add_headers=(("P-Asserted-Identity", "<sip:1@x>"),)))
        assert (await rig.gateway.expect("INVITE")).all("P-Asserted-Identity") == ["<sip:1@x>"]


# --- Identity -------------------------------------------------------------------------------------------

PAYLOAD: Final = urlsafe_b64encode(b'{"attest":"A","origid":"x"}').decode().rstrip("=")
IDENTITY: Final = f'e30.{PAYLOAD}.{"s" * 86};info=<https://x.example/a,b;c.pem>;alg=ES256;ppt="shaken"'


@pytest.mark.parametrize("name", ["Identity", "identity", "y"])
async def test_identity_passes_whole(name: str) -> None:
    async with Rig() as rig:
        long = f"e30.{PAYLOAD}.{'s' * 4000};info=<https://x.example>"
        rig.invite(f"{name}: {IDENTITY}", f"{name}: {long}")
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        assert invite.passports == (PAYLOAD, PAYLOAD)
        rig.send(rig.route(invite))
        at_b = await rig.gateway.expect("INVITE")
        assert at_b.all(name) == [IDENTITY, long]
        assert rig.hook.stats()["identities_removed"] == 0


async def test_identity_is_taken_off_where_it_signs_what_is_not_sent() -> None:
    async with Rig() as rig:
        sent = rig.invite(f"Identity: {IDENTITY}", f"y: {IDENTITY}")
        await rig.caller.expect(100)
        rig.send(rig.route(await rig.event(InviteReceived), keep_identity=False))
        at_b = await rig.gateway.expect("INVITE")
        assert "Identity" not in at_b
        assert "y" not in at_b
        assert rig.hook.stats()["identities_removed"] == 1
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        rig.send(RelayAnswer(bridge_id=(await rig.event(AnswerHeld)).bridge_id))
        ok = await rig.caller.expect(200)
        await rig.gateway.expect("ACK")
        a, b = Dialog.of_caller(sent, ok), Dialog.of_callee(at_b, "to-b")
        rig.in_dialog(rig.caller, "ACK", a, cseq=1)
        rig.in_dialog(rig.caller, "UPDATE", a, rig.caller.contact(), f"Identity: {IDENTITY}", cseq=2)
        assert "Identity" not in await rig.gateway.expect("UPDATE")
        rig.in_dialog(rig.gateway, "UPDATE", b, rig.gateway.contact(), f"y: {IDENTITY}", cseq=1)
        assert "y" not in await rig.caller.expect("UPDATE")
        assert rig.hook.stats()["identities_removed"] == 3


async def test_a_hidden_caller_is_not_named_by_identity_either() -> None:
    async with Rig(inside={"callers"}) as rig:
        rig.autopilot()
        rig.invite(f"Identity: {IDENTITY}", "Privacy: id")
        assert "Identity" not in await rig.gateway.expect("INVITE")


@pytest.mark.parametrize(
    ("values", "passports"),
    [
        ([f"{IDENTITY}, {IDENTITY}"], (PAYLOAD, PAYLOAD)),
        (["..sig;info=<https://x>"], ()),
        (["garbage", ".", "a.b", "", ";;;", 'a.b.c;x="y,z', "a.q.c;<,"], ("b", "b", "q")),
        ([f"a.{'p' * 2048}.c", f"a.{'p' * 2049}.c"], ("p" * 2048,)),
        ([f"a.{n}.c" for n in range(9)], ("0", "1", "2", "3")),
    ],
)
async def test_what_passports_say_is_told_as_it_came(values: list[str], passports: tuple[str, ...]) -> None:
    async with Rig() as rig:
        rig.invite(*(f"Identity: {value}" for value in values))
        assert (await rig.event(InviteReceived)).passports == passports
