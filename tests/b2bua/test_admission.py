"""What becomes a call, what is refused, and what is not even heard."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from sidecar.b2bua.hook import BridgeHook, HookError
from sidecar.b2bua.settings import Listener
from sidecar.core.commands import Reject, RelayAnswer, RelayFailure
from sidecar.core.events import AnswerDropped, AnswerHeld, InviteReceived, InviteRefused, RouteFailed
from sidecar.core.terms import Detail, TransportName
from tests.b2bua.rig import ANSWER, OFFER, Dialog, Rig, bridge_settings
from tests.b2bua.scripted_ua import ScriptedUA, sip
from tests.rig.addresses import own_network


def request(rig: Rig, method: str, call_id: str = "x", *headers: str, to_tag: str = "") -> bytes:
    host, port = rig.address()
    return sip(
        f"{method} sip:1@{host}:{port} SIP/2.0",
        rig.caller.via_line(f"z9hG4bK-{method}-{call_id}"),
        "Max-Forwards: 70",
        f"From: <sip:1@{rig.caller.host}>;tag=x",
        f"To: <sip:1@{host}>{to_tag}",
        f"Call-ID: {call_id}",
        f"CSeq: 1 {method}",
        rig.caller.contact(),
        *headers,
    )


async def test_options_of_a_listed_peer_is_answered() -> None:
    async with Rig() as rig:
        rig.caller.send(request(rig, "OPTIONS"))
        assert "INVITE" in (await rig.caller.expect(200))["Allow"]
        assert rig.events == []


async def test_a_peer_that_floods_takes_no_turn_of_another() -> None:
    async with Rig(admission_wait_ms_max=3_000, answer_hold_ms_max=30_000) as rig:
        other = await rig.agent(3)  # of another group
        for _ in range(16):
            rig.invite()
            await rig.caller.expect(100)
        await asyncio.sleep(3.1)
        rig.invite()
        await rig.caller.expect(503)
        rig.invite(agent=other)
        await other.expect(100)
        rig.invite(agent=other)
        await other.expect(100)
        rig.invite(agent=other)  # more than an eighth of what waits
        await other.expect(503)


@pytest.mark.parametrize(("detail", "cause"), [(Detail.DRAIN, 31), (Detail.JOURNAL, 41)])
async def test_options_of_a_listed_peer_gets_503_while_no_calls_are_taken(detail: Detail, cause: int) -> None:
    async with Rig(retry_after_s=5) as rig:
        await rig.accepting(detail.value)
        rig.caller.send(request(rig, "OPTIONS", "closed"))
        refusal = await rig.caller.expect(503)
        assert (refusal["Retry-After"], refusal["Reason"]) == (
            "5",
            f'Q.850;cause={cause};text="{detail.value}"',
        )
        await rig.accepting("")
        rig.caller.send(request(rig, "OPTIONS", "open"))
        await rig.caller.expect(200)


async def test_options_at_a_full_node_gets_503() -> None:
    async with Rig(calls_max=1) as rig:
        rig.invite()
        await rig.caller.expect(100)
        await rig.event(InviteReceived)
        rig.caller.send(request(rig, "OPTIONS"))
        assert (await rig.caller.expect(503))["Reason"] == 'Q.850;cause=42;text="node_full"'


@pytest.mark.parametrize("method", ["REGISTER", "SUBSCRIBE", "MESSAGE", "PUBLISH", "NOTIFY", "INVENTED"])
async def test_other_methods_outside_a_dialog_get_405(method: str) -> None:
    async with Rig() as rig:
        rig.caller.send(request(rig, method))
        assert "INVITE" in (await rig.caller.expect(405))["Allow"]


@pytest.mark.parametrize("method", ["BYE", "INFO", "UPDATE"])
async def test_requests_for_no_dialog_of_ours_get_481(method: str) -> None:
    async with Rig() as rig:
        rig.caller.send(request(rig, method, to_tag=";tag=nobody"))
        await rig.caller.expect(481)
        rig.caller.send(request(rig, "CANCEL"))
        await rig.caller.expect(481)


async def test_a_caller_hears_a_100_when_its_call_is_on_disk_and_repeats_its_invite_until_then() -> None:
    """So a node that is killed in between leaves nobody waiting: the INVITE comes again, and is a new one."""
    async with Rig(trying_ms=60_000) as rig:
        sent = rig.invite()
        invite = await rig.event(InviteReceived)
        rig.caller.send(sent.raw)
        await rig.settled(rig.caller)
        assert rig.caller.quiet
        rig.send(rig.route(invite))
        await rig.caller.expect(100)
        rig.gateway.reply(await rig.gateway.expect("INVITE"), 486, tag="b")
        rig.send(RelayFailure(bridge_id=(await rig.event(RouteFailed)).bridge_id))
        await rig.caller.expect(486)
        assert rig.hook.stats()["invites"] == 1


async def test_a_caller_whose_call_is_decided_about_late_hears_a_100_meanwhile() -> None:
    async with Rig(trying_ms=50) as rig:
        sent = rig.invite()
        invite = await rig.event(InviteReceived)
        await rig.caller.expect(100)
        rig.send(rig.route(invite))
        await rig.gateway.expect("INVITE")
        rig.cancel(sent)
        await rig.caller.expect(200, "CANCEL")
        await rig.caller.expect(487)
        assert [one.code for one in rig.caller.everything].count(100) == 1


async def test_a_caller_that_is_refused_at_once_hears_that_alone() -> None:
    async with Rig(trying_ms=60_000) as rig:
        rig.invite()
        invite = await rig.event(InviteReceived)
        rig.send(Reject(bridge_id=invite.bridge_id, sip_code=402, q850_cause=21, text="no_credit"))
        await rig.caller.expect(402)


async def test_strangers_are_not_answered() -> None:
    async with Rig() as rig:
        stranger = await rig.agent(9)
        for method in ("OPTIONS", "REGISTER", "INVITE", "BYE"):
            stranger.send(request(rig, method))
        await rig.settled(rig.caller)
        assert stranger.quiet
        assert rig.hook.stats()["dropped_unlisted"] == 4
        assert rig.events == []


async def test_strangers_may_be_refused_with_a_record() -> None:
    async with Rig(unlisted_source="reject") as rig:
        stranger = await rig.agent(9)
        rig.invite(agent=stranger)
        assert (await stranger.expect(403))["Reason"] == 'Q.850;cause=21;text="source_not_allowed"'
        refused = await rig.event(InviteRefused)
        assert (refused.detail, refused.sip_code) == (Detail.SOURCE_NOT_ALLOWED, 403)
        assert (refused.invite.peer, refused.invite.request_user) == ("", "4930123")
        assert refused.invite.leg.remote_address == f"{stranger.host}:{stranger.port}"


async def test_the_right_tags_from_the_wrong_place_do_nothing() -> None:
    async with Rig() as rig:
        _, a, b = await rig.answered_call()
        stranger = await rig.agent(9)
        for forger, dialog in ((stranger, a), (rig.gateway, a), (rig.caller, b), (stranger, b)):
            for method in ("BYE", "INVITE", "INFO"):
                rig.in_dialog(forger, method, dialog, cseq=50)
        await rig.settled(rig.caller)
        assert rig.hook.stats()["dropped_foreign"] == 12
        assert all(agent.quiet for agent in (rig.caller, rig.gateway, stranger))


async def test_a_cancel_from_the_wrong_place_does_nothing() -> None:
    async with Rig() as rig:
        sent = rig.invite()
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite))
        await rig.gateway.expect("INVITE")
        rig.gateway.send(
            sip(
                f"CANCEL {sent.uri} SIP/2.0",
                *(f"{name}: {sent[name]}" for name in ("Via", "From", "To", "Call-ID")),
                "CSeq: 1 CANCEL",
            )
        )
        await rig.gateway.expect(481, "CANCEL")  # of another peer group: it names no INVITE there
        await rig.settled(rig.caller)
        assert rig.gateway.quiet


async def test_a_gateway_that_is_not_listed_may_speak_in_its_own_dialog() -> None:
    async with Rig() as rig:
        unlisted = await rig.agent(9)
        rig.invite()
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite, host=unlisted.host, port=unlisted.port))
        at_b = await unlisted.expect("INVITE")
        unlisted.reply(at_b, 200, tag="to-b", body=ANSWER)
        await rig.event(AnswerHeld)
        rig.in_dialog(unlisted, "BYE", Dialog.of_callee(at_b, "to-b"), cseq=1)
        await unlisted.expect(200)


async def test_a_full_node_refuses_with_retry_after_and_a_record() -> None:
    async with Rig(calls_max=1, retry_after_s=5) as rig:
        rig.invite()
        await rig.caller.expect(100)
        await rig.event(InviteReceived)
        rig.invite(number="555")
        refusal = await rig.caller.expect(503)
        assert refusal["Retry-After"] == "5"
        assert refusal["Reason"] == 'Q.850;cause=42;text="node_full"'
        refused = await rig.event(InviteRefused)
        assert (refused.detail, refused.sip_code, refused.invite.request_user) == (
            Detail.NODE_FULL,
            503,
            "555",
        )
        assert refused.invite.bridge_id == 2


async def test_while_a_call_waits_too_long_for_its_decision_new_ones_are_refused() -> None:
    async with Rig(admission_wait_ms_max=50, answer_hold_ms_max=30_000, retry_after_s=5) as rig:
        rig.invite()
        await rig.caller.expect(100)
        first = await rig.event(InviteReceived)
        await asyncio.sleep(0.1)
        invite = rig.invite(number="555")
        refusal = await rig.caller.expect(503)
        assert (refusal["Retry-After"], refusal["Reason"]) == ("5", 'Q.850;cause=42;text="node_full"')
        assert (await rig.event(InviteRefused)).detail is Detail.NODE_FULL
        assert rig.hook.stats()["refused_overload"] == 1
        rig.send(rig.route(first))  # late, and not too late
        await rig.gateway.expect("INVITE")
        rig.caller.send(invite.raw)  # its 503 was lost, or is on the way: its caller may be gone
        assert (await rig.caller.expect(503))["Retry-After"] == "5"
        rig.invite(number="556")
        await rig.caller.expect(100)
        assert (await rig.event(InviteReceived)).request_user == "556"
        assert rig.hook.stats()["refused_again"] == 1


@pytest.mark.parametrize(("detail", "cause"), [(Detail.DRAIN, 31), (Detail.JOURNAL, 41)])
async def test_python_can_close_the_door_and_open_it_again(detail: Detail, cause: int) -> None:
    async with Rig() as rig:
        await rig.accepting(detail.value)
        rig.invite()
        refusal = await rig.caller.expect(503)
        assert refusal["Reason"] == f'Q.850;cause={cause};text="{detail.value}"'
        assert (await rig.event(InviteRefused)).detail == detail
        await rig.accepting("")
        rig.invite()
        await rig.caller.expect(100)


async def test_events_that_nobody_takes_close_the_door() -> None:
    async with Rig(events_max=6) as rig:
        bridge = rig.hook._bridge
        assert bridge is not None
        asyncio.get_running_loop().remove_reader(bridge.event_fd())
        codes = []
        for _ in range(6):
            rig.invite()
            codes.append((await rig.caller.receive()).code)
        assert codes == [100, 100, 100, 100, 503, 503]
        assert rig.hook.stats()["events_dropped"] == 2
        assert len(msgspec.msgpack.decode(bridge.drain())) == 4


async def test_hops_run_out() -> None:
    async with Rig() as rig:
        rig.invite(max_forwards=0)
        await rig.caller.expect(483)


async def test_our_own_invite_that_comes_back_is_a_loop() -> None:
    async with Rig() as rig:
        rig.autopilot()
        rig.invite()
        at_b = await rig.gateway.expect("INVITE")
        rig.gateway.send(
            at_b.raw.replace(b"\r\nVia:", b"\r\n" + rig.gateway.via_line("z9hG4bK-l").encode() + b"\r\nVia:")
        )
        await rig.gateway.expect(482)


async def test_two_copies_over_two_ways_are_one_call() -> None:
    async with Rig() as rig:
        sent = rig.invite(call_id="same")
        await rig.caller.expect(100)
        rig.caller.send(sent.raw.replace(sent.branch.encode(), b"z9hG4bK-other"))
        await rig.caller.expect(482)
        rig.caller.send(sent.raw)
        await rig.caller.until_repeated(100)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ((b";tag=from-a", b""), 400),
        ((b"Contact:", b"X-Contact:"), 400),
        ((b"Content-Length: ", b"Content-Length: 9"), 400),
        ((b"Max-Forwards: 70", b"Max-Forwards: 70\r\nReplaces: a;to-tag=b;from-tag=c"), 481),
    ],
)
async def test_what_is_wrong_is_refused_before_it_is_a_call(change: tuple[bytes, bytes], code: int) -> None:
    async with Rig() as rig:
        rig.caller.send(rig_invite(rig).replace(*change))
        await rig.caller.expect(code)
        assert rig.events == []


@pytest.mark.parametrize("method", ["OPTIONS", "MESSAGE", "BYE"])
async def test_a_datagram_that_ends_early_gets_400_whatever_it_asks(method: str) -> None:
    async with Rig() as rig:
        rig.caller.send(request(rig, method).replace(b"Content-Length: 0", b"Content-Length: 1"))
        await rig.caller.expect(400)
        rig.caller.send(request(rig, "ACK").replace(b"Content-Length: 0", b"Content-Length: 1"))
        await rig.settled(rig.caller)


@pytest.mark.parametrize("length", ["-1", "99999999999", "many"])
async def test_a_content_length_that_is_none_gets_400(length: str) -> None:
    async with Rig() as rig:
        rig.caller.send(rig_invite(rig).replace(b"Content-Length: ", f"Content-Length: {length}".encode()))
        await rig.caller.expect(400)
        assert rig.events == []


async def test_an_answer_that_ends_early_is_not_heard_until_it_comes_whole() -> None:
    async with Rig() as rig:
        rig.autopilot()
        rig.invite()
        at_b = await rig.gateway.expect("INVITE")
        contact = rig.gateway.contact()
        whole = rig.gateway.response(
            at_b, 200, contact, "Content-Type: application/sdp", tag="to-b", body=ANSWER
        )
        rig.gateway.send(whole[:-10])
        rig.gateway.send(whole)
        await rig.caller.expect(100)
        assert (await rig.caller.expect(200)).body == ANSWER
        assert rig.hook.stats()["dropped_unparsable"] == 1


def rig_invite(rig: Rig) -> bytes:
    return sip(
        f"INVITE sip:4930123@{rig.host} SIP/2.0",
        rig.caller.via_line("z9hG4bK-wrong"),
        "Max-Forwards: 70",
        f"From: <sip:1000@{rig.caller.host}>;tag=from-a",
        f"To: <sip:4930123@{rig.host}>",
        "Call-ID: wrong",
        "CSeq: 1 INVITE",
        rig.caller.contact(),
        "Content-Type: application/sdp",
        body=OFFER,
    )


@pytest.mark.parametrize(
    "junk",
    [
        b"\x00" * 100,
        b"INVITE\r\n\r\n",
        b"INVITE sip:1@2 SIP/2.0\r\nVia: x\r\n\r\n",
        b"SIP/2.0 999 What\r\n\r\n",
        sip(
            "SIP/2.0 200 OK",
            "Via: SIP/2.0/UDP 1.2.3.4;branch=z9hG4bKx",
            "From: <sip:a@b>;tag=1",
            "To: <sip:a@b>;tag=2",
            "Call-ID: q",
            "CSeq: 1 INVITE",
        ),
        b"\xff\xfe" * 2000,
        b"INVITE mailto:a@b SIP/2.0\r\n\r\n",
        b"OPTIONS sip:" + b"a" * 5000 + b"@b SIP/2.0\r\n\r\n",
    ],
)
async def test_junk_is_survived(junk: bytes) -> None:
    async with Rig() as rig:
        rig.caller.send(junk)
        await rig.settled(rig.caller)


async def test_bytes_that_are_no_text_reach_python_escaped() -> None:
    async with Rig(wanted_headers=("X-Raw", "P-Asserted-Identity")) as rig:
        rig.caller.send(
            rig_invite(rig).replace(
                b"Contact:", b"X-Raw: a\xff\xfe\r\nP-Asserted-Identity: <sip:+49@x>\r\nContact:"
            )
        )
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        assert invite.headers == (("x-raw", "a\\xff\\xfe"), ("p-asserted-identity", "<sip:+49@x>"))


async def test_a_message_of_20_kb_passes_whole() -> None:
    async with Rig() as rig:
        rig.autopilot()
        body = OFFER + b"a=x:" + b"y" * 20_000 + b"\r\n"
        rig.invite(body=body)
        at_b = await rig.gateway.expect("INVITE")
        assert at_b.body == body


async def test_multipart_bodies_pass_byte_for_byte() -> None:
    async with Rig() as rig:
        rig.autopilot()
        body = b"preamble\r\n--b\r\nContent-Type: application/sdp\r\n\r\n" + OFFER + b"\r\n--b--\r\nepilogue"
        sent = rig_invite(rig).replace(
            b"application/sdp\r\nContent-Length: " + str(len(OFFER)).encode(),
            b'multipart/mixed;boundary="b"\r\nContent-Length: ' + str(len(body)).encode(),
            1,
        )
        rig.caller.send(sent.removesuffix(OFFER) + body)
        at_b = await rig.gateway.expect("INVITE")
        assert at_b.body == body
        assert at_b["Content-Type"] == 'multipart/mixed;boundary="b"'


async def test_headers_that_name_a_hop_or_a_dialog_do_not_pass() -> None:
    async with Rig(inside={"callers", "gateways"}) as rig:
        rig.autopilot()
        own = [
            "Route: <sip:192.0.2.99;lr>",
            "Record-Route: <sip:192.0.2.98;lr>",
            "User-Agent: theirs",
            "RAck: 1 1 INVITE",
        ]
        others = [
            "Supported: timer, 100rel",
            "Require: timer",
            "Allow: INVITE, ACK, UPDATE",
            "Session-Expires: 1800;refresher=uas",
            "Min-SE: 90",
            "P-Asserted-Identity: <sip:+4930@example.net>",
            "Privacy: id",
            "Diversion: <sip:1@example.net>;reason=no-answer",
            "Accept: application/sdp",
            "Accept-Language: de",
            "Content-Disposition: session",
            "Session-ID: ab30317f1a784dc48ff824d0d3715d86",
            'Proxy-Authorization: Digest username="u", realm="r", nonce="n", uri="sip:x", response="00"',
            'X-Unknown: <weird>;a="b, c"',
            "Expires: 120",
        ]
        rig.invite(*own, *others)
        at_b = await rig.gateway.expect("INVITE")
        for name in ("Route", "Record-Route", "User-Agent", "RAck"):
            assert name not in at_b
        assert len(at_b.all("Via")) == 1
        for line in others:
            name, _, value = line.partition(": ")
            assert at_b[name].replace(" ", "") == value.replace(" ", ""), name


async def test_an_answer_of_another_branch_gets_ack_and_bye() -> None:
    async with Rig() as rig:
        sent = rig.invite("Supported: 100rel")
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite, single_branch=True))
        at_b = await rig.gateway.expect("INVITE")
        rig.gateway.reply(at_b, 183, tag="one", body=ANSWER)
        assert (await rig.caller.expect(183)).body == ANSWER
        rig.gateway.reply(at_b, 183, "Require: 100rel", "RSeq: 5", tag="two", body=ANSWER)
        other = await rig.caller.expect(183)
        assert other.body == b""
        assert "RSeq" not in other
        assert "Require" not in other
        rig.gateway.reply(at_b, 200, tag="one", body=ANSWER)
        await rig.until(AnswerHeld)
        rig.gateway.reply(at_b, 200, tag="two", body=ANSWER)
        ack = await rig.gateway.expect("ACK")
        bye = await rig.gateway.expect("BYE")
        assert "tag=two" in ack["To"]
        assert "tag=two" in bye["To"]
        rig.gateway.reply(bye, 200)
        dropped = await rig.event(AnswerDropped)
        assert (dropped.attempt, dropped.leg.remote_tag) == (1, "two")
        rig.send(RelayAnswer(bridge_id=invite.bridge_id))
        ok = await rig.caller.expect(200)
        rig.in_dialog(rig.caller, "ACK", Dialog.of_caller(sent, ok), cseq=1)
        assert "tag=one" in (await rig.gateway.expect("ACK"))["To"]


async def test_record_routes_become_the_routes_of_both_legs() -> None:
    async with Rig() as rig:
        sent = rig.invite(f"Record-Route: <sip:{rig.network}.2:{rig.caller.port};lr>")
        await rig.caller.expect(100)
        invite = await rig.event(InviteReceived)
        assert invite.leg.route_set == (f"<sip:{rig.network}.2:{rig.caller.port};lr>",)
        rig.send(rig.route(invite))
        at_b = await rig.gateway.expect("INVITE")
        hops = [f"<sip:{rig.gateway.host}:{rig.gateway.port};lr;n={n}>" for n in (2, 1)]
        rig.gateway.reply(at_b, 200, *(f"Record-Route: {hop}" for hop in hops), tag="to-b", body=ANSWER)
        held = await rig.event(AnswerHeld)
        assert held.leg.route_set == tuple(reversed(hops))
        rig.send(RelayAnswer(bridge_id=invite.bridge_id))
        ok = await rig.caller.expect(200)
        assert ok.all("Record-Route") == [f"<sip:{rig.network}.2:{rig.caller.port};lr>"]
        a = Dialog.of_caller(sent, ok)
        rig.in_dialog(rig.caller, "ACK", a, cseq=1)
        assert (await rig.gateway.expect("ACK")).all("Route") == list(reversed(hops))
        rig.in_dialog(rig.caller, "BYE", a, cseq=2)
        assert (await rig.gateway.expect("BYE")).all("Route") == list(reversed(hops))


@pytest.mark.parametrize("place", ["no-such-host.invalid", "[2001:db8::9]:5070"])
async def test_a_target_that_cannot_be_reached_is_where_it_speaks_from(place: str) -> None:
    """A name, or an address of the other family, of which we listen on none."""
    async with Rig() as rig:
        rig.caller.contact = lambda: f"Contact: <sip:phone@{place}>"  # type: ignore[method-assign]
        rig.autopilot()
        rig.invite()
        at_b = await rig.gateway.expect("INVITE")
        rig.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        await rig.caller.expect(100)
        ok = await rig.caller.expect(200)
        host, port = rig.address()
        sent = rig.caller.everything[0]
        rig.caller.send(
            sip(
                f"ACK sip:{host}:{port} SIP/2.0",
                rig.caller.via_line("z9hG4bK-ack"),
                f"From: {sent['From']}",
                f"To: {ok['To']}",
                f"Call-ID: {sent['Call-ID']}",
                "CSeq: 1 ACK",
            )
        )
        await rig.gateway.expect("ACK")
        rig.in_dialog(rig.gateway, "BYE", Dialog.of_callee(at_b, "to-b"), cseq=1)
        assert (await rig.caller.expect("BYE")).uri == f"sip:phone@{place}"
        assert rig.hook.stats()["unresolved_targets"] == 1


async def test_a_port_in_use_is_one_clear_error() -> None:
    holder = await ScriptedUA.udp(f"{own_network()}.2")
    listener = Listener(transport=TransportName.UDP, host=holder.host, port=holder.port)
    hook = BridgeHook(bridge_settings(listeners=(listener,), peers=()))
    with pytest.raises(HookError, match=rf"^cannot listen on udp {holder.host}:{holder.port}: .*in use"):
        await hook.start()
    holder.close()


async def test_bytes_after_the_content_length_are_not_the_body() -> None:
    async with Rig() as rig:
        rig.autopilot()
        rig.caller.send(rig_invite(rig) + b"a=not:ours\r\n")
        assert (await rig.gateway.expect("INVITE")).body == OFFER


async def test_a_cancel_after_the_final_response_is_answered_and_changes_nothing() -> None:
    async with Rig() as rig:
        rig.autopilot()
        sent = rig.invite()
        rig.gateway.reply(await rig.gateway.expect("INVITE"), 200, tag="to-b", body=ANSWER)
        await rig.caller.expect(100)
        ok = await rig.caller.expect(200)
        rig.in_dialog(rig.caller, "ACK", Dialog.of_caller(sent, ok), cseq=1)
        await rig.gateway.expect("ACK")
        rig.cancel(sent)
        await rig.caller.expect(200, "CANCEL")
        await rig.settled(rig.gateway)
        assert rig.hook.stats()["live_calls"] == 1
