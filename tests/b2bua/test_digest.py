"""A gateway that challenges us gets its answer from us, and the caller hears nothing of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any, Final

import pytest

from sidecar.b2bua.settings import Credentials
from sidecar.core.commands import RelayAnswer, RelayFailure
from sidecar.core.events import AnswerHeld, InviteReceived, LegTerminated, RouteFailed
from sidecar.core.terms import LegName, RouteFailure
from tests.b2bua.rig import ANSWER, OFFER, Dialog, Rig, bridge_settings
from tests.b2bua.scripted_ua import Message

USER, PASSWORD, REALM = "trunk-7", "s3cret: häh", "carrier.example"
CREDENTIALS: Final = (Credentials(gateway="gw", username=USER, password=PASSWORD),)

_HASHES: Final[dict[str, Callable[[bytes], Any]]] = {
    "MD5": hashlib.md5,
    "SHA-256": hashlib.sha256,
    "SHA-512-256": lambda data: hashlib.new("sha512_256", data),
}


def challenge(
    nonce: str, *more: str, algorithm: str = "SHA-256", realm: str = REALM, proxy: bool = False
) -> str:
    header = "Proxy-Authenticate" if proxy else "WWW-Authenticate"
    given = f", algorithm={algorithm}" if algorithm else ""
    return f'{header}: Digest realm="{realm}", nonce="{nonce}"{given}' + "".join(f", {one}" for one in more)


QOP: Final = 'qop="auth,auth-int"'


def parts(value: str) -> dict[str, str]:
    scheme, _, rest = value.partition(" ")
    assert scheme == "Digest"
    return {
        name: quoted or plain for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^,\s]*))', rest)
    }


def assert_answers(request: Message, nonce: str, *, count: int = 1, proxy: bool = False) -> dict[str, str]:
    """RFC 7616 §3.4, computed here once more."""
    (value,) = request.all("Proxy-Authorization" if proxy else "Authorization")
    given = parts(value)
    digest = _HASHES[given.get("algorithm") or "MD5"]

    def hashed(*texts: str) -> str:
        return str(digest(":".join(texts).encode()).hexdigest())

    assert (given["username"], given["realm"], given["nonce"]) == (USER, REALM, nonce)
    assert given["uri"] == request.uri
    middle = [nonce]
    if "qop" in given:
        assert (given["qop"], given["nc"]) == ("auth", f"{count:08x}")
        assert len(given["cnonce"]) >= 16
        middle += [given["nc"], given["cnonce"], "auth"]
    secret, what = hashed(USER, REALM, PASSWORD), hashed(request.method, request.uri)
    assert given["response"] == hashed(secret, *middle, what)
    return given


async def challenged(rig: Rig, code: int, *headers: str) -> tuple[Message, InviteReceived, Message, Message]:
    """The caller's INVITE, and the two that the gateway got."""
    sent = rig.invite("X-Trace: 1")
    await rig.caller.expect(100)
    invite = await rig.event(InviteReceived)
    rig.send(rig.route(invite))
    first = await rig.gateway.expect("INVITE")
    assert "Authorization" not in first
    rig.gateway.reply(first, code, *headers, tag="of-401")
    await rig.gateway.expect("ACK")
    return sent, invite, first, await rig.gateway.expect("INVITE")


async def answer(rig: Rig, sent: Message, at_b: Message) -> tuple[Dialog, Dialog]:
    rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
    held = await rig.event(AnswerHeld)
    rig.send(RelayAnswer(bridge_id=held.bridge_id))
    a = Dialog.of_caller(sent, await rig.caller.expect(200))
    rig.in_dialog(rig.caller, "ACK", a, cseq=1)
    return a, Dialog.of_callee(at_b, "to-b")


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256", "SHA-512-256", ""])
@pytest.mark.parametrize("proxy", [False, True])
@pytest.mark.parametrize("qop", [True, False])
async def test_the_invite_is_sent_again_with_an_answer(algorithm: str, proxy: bool, qop: bool) -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        more = ['opaque="x y"', *([QOP] if qop else [])]
        asked = challenge("n1", *more, algorithm=algorithm, proxy=proxy)
        sent, _, first, second = await challenged(rig, 407 if proxy else 401, asked)
        given = assert_answers(second, "n1", proxy=proxy)
        assert given["opaque"] == "x y"
        assert given.get("algorithm", "") == algorithm
        assert second.cseq == first.cseq + 1
        assert second.branch != first.branch
        for name in ("Call-ID", "From", "To", "Contact", "X-Trace", "Request-Disposition", "Max-Forwards"):
            assert second.all(name) == first.all(name)
        assert second.body == OFFER
        await answer(rig, sent, second)
        ack = await rig.gateway.expect("ACK")
        name = "Proxy-Authorization" if proxy else "Authorization"
        assert (ack.cseq, ack[name]) == (second.cseq, second[name])  # RFC 3261 §22.1
        assert rig.caller.quiet


async def test_every_later_request_carries_an_answer_unasked() -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        sent, _, _, second = await challenged(rig, 401, challenge("n1", QOP))
        a, _ = await answer(rig, sent, second)
        await rig.gateway.expect("ACK")
        rig.in_dialog(rig.caller, "INFO", a, cseq=2)
        info = await rig.gateway.expect("INFO")
        assert_answers(info, "n1", count=2)
        rig.gateway.reply(info, 200)
        await rig.caller.expect(200)
        rig.in_dialog(rig.caller, "BYE", a, cseq=3)
        await rig.caller.expect(200)
        assert_answers(await rig.gateway.expect("BYE"), "n1", count=3)


@pytest.mark.parametrize("method", ["INVITE", "UPDATE", "INFO", "MESSAGE"])
async def test_a_challenged_request_of_the_call_is_sent_again(method: str) -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        _, a, _ = await rig.answered_call()
        rig.in_dialog(rig.caller, method, a, rig.caller.contact(), "X-Trace: 2", cseq=2, body=OFFER)
        if method == "INVITE":
            await rig.caller.expect(100)
        first = await rig.gateway.expect(method)
        rig.gateway.reply(first, 401, challenge("n1", QOP))
        if method == "INVITE":
            await rig.gateway.expect("ACK")
        second = await rig.gateway.expect(method)
        assert_answers(second, "n1")
        assert (second.cseq, second.body, second["X-Trace"]) == (first.cseq + 1, OFFER, "2")
        rig.gateway.reply(second, 200, body=ANSWER)
        ok = await rig.caller.expect(200)
        assert (ok.cseq, ok.body) == (2, ANSWER)
        if method == "INVITE":
            rig.in_dialog(rig.caller, "ACK", a, cseq=2)
            assert (await rig.gateway.expect("ACK")).cseq == second.cseq


async def test_a_challenged_bye_is_sent_again() -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        _, a, _ = await rig.answered_call()
        rig.in_dialog(rig.caller, "BYE", a, 'Reason: Q.850;cause=16;text="done"', cseq=2)
        await rig.caller.expect(200)
        first = await rig.gateway.expect("BYE")
        rig.gateway.reply(first, 407, challenge("n1", QOP, proxy=True))
        second = await rig.gateway.expect("BYE")
        assert_answers(second, "n1", proxy=True)
        assert (second.cseq, second["Reason"]) == (first.cseq + 1, 'Q.850;cause=16;text="done"')
        rig.gateway.reply(second, 200)
        legs = {leg.leg_name: leg for leg in [await rig.until(LegTerminated) for _ in range(2)]}
        assert legs[LegName.B].alive


async def test_a_prack_is_sent_again_with_its_rack() -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        sent, _, _, second = await challenged(rig, 401, challenge("n1", QOP))
        rig.gateway.reply(second, 183, "RSeq: 7", "Require: 100rel", tag="to-b")
        early = await rig.caller.expect(183)
        a = Dialog.of_caller(sent, early)
        rig.in_dialog(rig.caller, "PRACK", a, "RAck: 7 1 INVITE", cseq=2)
        prack = await rig.gateway.expect("PRACK")
        assert prack["RAck"] == f"7 {second.cseq} INVITE"
        rig.gateway.reply(prack, 401, challenge("n2", QOP))
        again = await rig.gateway.expect("PRACK")
        assert_answers(again, "n2")
        assert again["RAck"] == prack["RAck"]


async def test_a_stale_nonce_is_replaced() -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        sent, _, _, second = await challenged(rig, 401, challenge("n1", QOP))
        a, _ = await answer(rig, sent, second)
        await rig.gateway.expect("ACK")
        for cseq, more in ((2, ("stale=true",)), (3, ("stale=TRUE",)), (4, ())):
            rig.in_dialog(rig.caller, "INFO", a, cseq=cseq)
            first = await rig.gateway.expect("INFO")
            rig.gateway.reply(first, 401, challenge(f"n{cseq}", QOP, *more))
            again = await rig.gateway.expect("INFO")
            assert_answers(again, f"n{cseq}")
            rig.gateway.reply(again, 200)
            await rig.caller.expect(200)


async def test_a_nonce_that_is_stale_at_its_first_use_is_replaced() -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        _, _, _, second = await challenged(rig, 401, challenge("n1", QOP))
        rig.gateway.reply(second, 401, challenge("n2", QOP, "stale=true"), tag="of-401")
        await rig.gateway.expect("ACK")
        assert_answers(await rig.gateway.expect("INVITE"), "n2")


async def test_the_cancel_of_an_invite_that_was_tried_again_waits_for_its_own_provisional() -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        sent = rig.invite()
        rig.send(rig.route(await rig.event(InviteReceived)))
        first = await rig.gateway.expect("INVITE")
        rig.gateway.reply(first, 100)
        rig.gateway.reply(first, 401, challenge("n1", QOP), tag="of-401")
        await rig.gateway.expect("ACK")
        second = await rig.gateway.expect("INVITE")
        rig.cancel(sent)
        await rig.caller.until(200, "CANCEL")
        await rig.settled(await rig.agent(2))
        assert rig.gateway.quiet
        rig.gateway.reply(second, 100)
        assert (await rig.gateway.expect("CANCEL")).branch == second.branch


@pytest.mark.parametrize("tag", ["", "of-401"])
async def test_an_untagged_ringing_is_no_dialog_yet(tag: str) -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        rig.invite()
        rig.send(rig.route(await rig.event(InviteReceived)))
        first = await rig.gateway.expect("INVITE")
        rig.gateway.reply(first, 180, tag=tag)
        await rig.caller.until(180)
        rig.gateway.reply(first, 401, challenge("n1", QOP), tag="of-401")
        await rig.gateway.expect("ACK")
        if tag:
            assert (await rig.until(RouteFailed)).sip_code == 401
        else:
            assert_answers(await rig.gateway.expect("INVITE"), "n1")


async def test_a_gateway_that_is_never_content_gets_two_answers() -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        sent, _, _, second = await challenged(rig, 401, challenge("n1", QOP))
        a, _ = await answer(rig, sent, second)
        await rig.gateway.expect("ACK")
        rig.in_dialog(rig.caller, "INFO", a, cseq=2)
        for number in range(3):
            info = await rig.gateway.expect("INFO")
            rig.gateway.reply(info, 401, challenge(f"fresh{number}", QOP, "stale=true"))
        await rig.caller.expect(500)
        assert rig.gateway.quiet


async def test_the_same_nonce_again_is_answered_once_whatever_else_is_said_of_it() -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        _, _, _, second = await challenged(rig, 401, challenge("n1", QOP))
        rig.gateway.reply(second, 401, challenge("n1", QOP, "stale=true"), tag="of-401")
        await rig.gateway.expect("ACK")
        assert (await rig.event(RouteFailed)).sip_code == 401
        assert rig.gateway.quiet


async def test_requests_that_get_one_new_nonce_at_once_count_its_uses_on() -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        sent, _, _, second = await challenged(rig, 401, challenge("n1", QOP))
        a, _ = await answer(rig, sent, second)
        await rig.gateway.expect("ACK")
        for cseq in (2, 3):
            rig.in_dialog(rig.caller, "INFO", a, cseq=cseq)
        infos = [await rig.gateway.expect("INFO") for _ in range(2)]
        for count, info in enumerate(infos, start=1):
            rig.gateway.reply(info, 401, challenge("n2", QOP, "stale=true"))
            assert_answers(await rig.gateway.expect("INFO"), "n2", count=count)


async def test_a_proxy_and_the_gateway_behind_it_both_get_an_answer() -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        _, _, _, second = await challenged(rig, 407, challenge("p1", QOP, proxy=True))
        rig.gateway.reply(second, 401, challenge("n1", QOP), tag="of-401")
        await rig.gateway.expect("ACK")
        third = await rig.gateway.expect("INVITE")
        assert_answers(third, "p1", count=2, proxy=True)
        assert_answers(third, "n1")


async def test_the_topmost_challenge_that_we_know_is_answered() -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        _, _, _, second = await challenged(
            rig,
            401,
            challenge("odd", QOP, algorithm="SHA3-512"),
            challenge("integrity", 'qop="auth-int"'),
            challenge("n1", QOP),
            challenge("weak", QOP, algorithm="MD5"),
        )
        assert assert_answers(second, "n1")["algorithm"] == "SHA-256"


async def test_the_callers_own_credentials_do_not_stand_in_the_way() -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        theirs = 'username="1000", realm="r", nonce="z", uri="sip:x", response="0", nc=00000001'
        rig.invite(f"Authorization: Digest {theirs}, qop=auth, cnonce=y, algorithm=MD5")
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite))
        rig.gateway.reply(await rig.gateway.expect("INVITE"), 401, challenge("n1", QOP), tag="x")
        await rig.gateway.expect("ACK")
        assert_answers(await rig.gateway.expect("INVITE"), "n1")


# --- where there is no second try ---------------------------------------------------------------------------


async def test_a_wrong_password_is_tried_once_and_fails_the_attempt() -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        _, _, _, second = await challenged(rig, 401, challenge("n1", QOP))
        rig.gateway.reply(second, 401, challenge("n2", QOP), tag="of-401")
        await rig.gateway.expect("ACK")
        failed = await rig.event(RouteFailed)
        assert (failed.cause, failed.sip_code) == (RouteFailure.FINAL_RESPONSE, 401)
        assert rig.gateway.quiet


async def test_a_challenge_that_is_shown_as_another_code_is_not_shown() -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        _, invite, _, second = await challenged(rig, 401, challenge("n1", QOP))
        rig.gateway.reply(second, 401, challenge("n2", QOP), "X-Why: so", tag="of-401")
        await rig.event(RouteFailed)
        rig.send(RelayFailure(bridge_id=invite.bridge_id, sip_code=500))
        refused = await rig.caller.expect(500)
        assert "WWW-Authenticate" not in refused
        assert refused["X-Why"] == "so"


@pytest.mark.parametrize(
    ("code", "header"),
    [
        (401, challenge("n1", QOP, realm="elsewhere.example")),
        (401, challenge("n1", QOP, algorithm="MD5-sess")),
        (401, challenge("n1", 'qop="auth-int"')),
        (401, challenge("n" * 2000, QOP)),
        (401, challenge("", QOP)),
        (401, challenge("n1", QOP, proxy=True)),  # of the wrong kind
        (407, "X-Nothing: 1"),
    ],
)
async def test_what_we_cannot_or_will_not_answer_fails_the_attempt(code: int, header: str) -> None:
    limited = (Credentials(gateway="gw", username=USER, password=PASSWORD, realm=REALM),)
    async with Rig(credentials=limited) as rig:
        rig.invite()
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite))
        rig.gateway.reply(await rig.gateway.expect("INVITE"), code, header, tag="x")
        assert (await rig.event(RouteFailed)).sip_code == code


async def test_the_realm_of_the_profile_gets_the_password() -> None:
    limited = (Credentials(gateway="gw", username=USER, password=PASSWORD, realm=REALM),)
    async with Rig(credentials=limited) as rig:
        header = (challenge("e1", QOP, realm="elsewhere.example"), challenge("n1", QOP))
        assert_answers((await challenged(rig, 401, *header))[3], "n1")


async def test_a_gateway_without_credentials_is_not_answered() -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        rig.invite()
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite, gateway="other"))
        rig.gateway.reply(await rig.gateway.expect("INVITE"), 401, challenge("n1", QOP), tag="x")
        assert (await rig.event(RouteFailed)).sip_code == 401


async def test_the_caller_hears_500_where_a_request_of_the_call_stays_refused() -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        _, a, _ = await rig.answered_call()
        rig.in_dialog(rig.caller, "INFO", a, cseq=2)
        for nonce in ("n1", "n2"):
            rig.gateway.reply(await rig.gateway.expect("INFO"), 401, challenge(nonce, QOP))
        refused = await rig.caller.expect(500)
        assert "WWW-Authenticate" not in refused


async def test_a_cancelled_invite_is_not_tried_again() -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        sent = rig.invite()
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite))
        at_b = await rig.gateway.expect("INVITE")
        rig.cancel(sent)
        await rig.caller.expect(200)
        await rig.caller.expect(487)
        rig.gateway.reply(at_b, 401, challenge("n1", QOP), tag="x")
        await rig.gateway.expect("ACK")
        legs = [await rig.until(LegTerminated) for _ in range(2)]
        assert {leg.leg_name for leg in legs} == set(LegName)
        assert rig.gateway.quiet


def test_settings_that_are_printed_hold_no_password() -> None:
    settings = bridge_settings(listeners=(), peers=(), credentials=CREDENTIALS)
    assert PASSWORD not in repr(settings)
    assert PASSWORD not in str(settings)


@pytest.mark.parametrize("code", [401, 407])
@pytest.mark.parametrize("who", ["caller", "callee"])
async def test_a_bye_that_is_challenged_without_a_password_of_ours_is_told(who: str, code: int) -> None:
    async with Rig() as rig:
        _, a, b = await rig.answered_call()
        near, dialog, far = (rig.caller, a, rig.gateway) if who == "callee" else (rig.gateway, b, rig.caller)
        rig.in_dialog(near, "BYE", dialog, cseq=2)
        await near.expect(200)
        far.reply(await far.expect("BYE"), code, challenge("n", proxy=code == 407))
        told = {leg.leg_name: leg.bye_challenge for leg in [await rig.until(LegTerminated) for _ in range(2)]}
        challenged = LegName.A if who == "caller" else LegName.B
        assert told == {leg: code if leg is challenged else 0 for leg in LegName}


async def test_a_re_invite_that_was_cancelled_is_not_tried_again() -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        _, a, _ = await rig.answered_call()
        sent = rig.in_dialog(rig.caller, "INVITE", a, rig.caller.contact(), cseq=5, body=OFFER)
        await rig.caller.expect(100)
        passed = await rig.gateway.expect("INVITE")
        rig.cancel(sent)
        await rig.caller.expect(200, "CANCEL")
        rig.gateway.reply(passed, 401, challenge("n1", QOP))
        await rig.gateway.expect("ACK")
        await rig.caller.expect(500, "INVITE")
        assert rig.gateway.quiet


async def test_the_cancel_of_a_re_invite_that_was_tried_again_waits_for_its_own_provisional() -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        _, a, _ = await rig.answered_call()
        sent = rig.in_dialog(rig.caller, "INVITE", a, rig.caller.contact(), cseq=5, body=OFFER)
        await rig.caller.expect(100)
        passed = await rig.gateway.expect("INVITE")
        rig.gateway.reply(passed, 100)
        rig.gateway.reply(passed, 401, challenge("n1", QOP))
        await rig.gateway.expect("ACK")
        again = await rig.gateway.expect("INVITE")
        rig.cancel(sent)
        await rig.caller.expect(200, "CANCEL")
        await rig.gateway.until_repeated("INVITE")
        assert rig.gateway.quiet
        rig.gateway.reply(again, 100)
        assert (await rig.gateway.expect("CANCEL")).branch == again.branch
