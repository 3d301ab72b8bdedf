"""OPTIONS and REGISTER of our own to a gateway, outside any dialog: what is sent, and the one event that
follows."""

from __future__ import annotations

import itertools
import socket
import time
from typing import Any, Final

import pytest

from sidecar.b2bua.settings import Credentials, PeerGroup
from sidecar.core.commands import AskGateway
from sidecar.core.events import MessageDropped, RequestEnded
from sidecar.core.terms import RouteFailure, TransportName
from tests.b2bua.rig import Rig
from tests.b2bua.scripted_ua import PATIENCE_S, ScriptedUA, bracketed
from tests.b2bua.test_digest import CREDENTIALS, PASSWORD, QOP, USER, assert_answers, challenge
from tests.rig.addresses import own_network

IDENTITY: Final = "sip:trunk-7@carrier.example"
PATIENCE_MS: Final = int(PATIENCE_S * 1000)

_numbers = itertools.count(1)


def options(rig: Rig, **changes: Any) -> AskGateway:
    gateway = rig.gateway
    given: dict[str, Any] = {
        "request_id": next(_numbers),
        "gateway": "gw",
        "host": gateway.host,
        "port": gateway.port,
        "transport": TransportName.UDP,
        "timeout_ms": PATIENCE_MS,
        "target": f"sip:{bracketed(gateway.host)}:{gateway.port}",
    }
    return AskGateway(**(given | changes))


def register(rig: Rig, expires_s: int = 300, **changes: Any) -> AskGateway:
    given: dict[str, Any] = {
        "target": "sip:carrier.example",
        "identity": IDENTITY,
        "contact_user": "trunk-7",
        "call_id": "of-this-boot",
        "cseq": 40,
        "expires_s": expires_s,
    }
    return options(rig, **(given | changes))


async def ended(rig: Rig, request: AskGateway) -> RequestEnded:
    event = await rig.event(RequestEnded)
    assert event.request_id == request.request_id
    return event


# --- OPTIONS ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [200, 404, 503])
async def test_the_answer_to_options_is_reported_with_its_code(code: int) -> None:
    async with Rig() as rig:
        before_ns = time.monotonic_ns()
        request = options(rig)
        rig.hook.ask([request])
        asked = await rig.gateway.expect("OPTIONS")
        assert asked.uri == request.target
        assert asked["To"] == f"<sip:{rig.gateway.host}>"  # no ports here: RFC 3261 §19.1.1
        assert asked["From"].startswith(f"<sip:{rig.host}>;tag=")
        assert (asked["Max-Forwards"], asked["Accept"]) == ("70", "application/sdp")
        assert asked.source == rig.address()
        rig.gateway.reply(asked, code, tag="x")
        event = await ended(rig, request)
        assert (event.cause, event.sip_code) == (RouteFailure.FINAL_RESPONSE, code)
        assert before_ns <= event.sent_mono_ns <= event.mono_ns
        assert (event.granted_s, event.min_expires_s, event.retry_after_s) == (None, None, None)
        assert len(rig.events) == 1


async def test_each_options_has_a_call_id_of_its_own() -> None:
    async with Rig() as rig:
        rig.hook.ask([options(rig), options(rig)])
        first, second = [await rig.gateway.expect("OPTIONS") for _ in range(2)]
        assert first["Call-ID"] != second["Call-ID"]
        assert first["From"] != second["From"]
        rig.gateway.reply(first, 200, tag="x")
        rig.gateway.reply(second, 200, tag="y")
        assert {(await rig.event(RequestEnded)).sip_code for _ in range(2)} == {200}


async def test_a_gateway_that_says_nothing_is_reported_when_the_time_is_over() -> None:
    async with Rig() as rig:
        request = options(rig, timeout_ms=700)
        rig.hook.ask([request])
        asked = await rig.gateway.expect("OPTIONS")
        event = await ended(rig, request)
        assert (event.cause, event.sip_code) == (RouteFailure.NO_RESPONSE, 0)
        assert event.mono_ns - event.sent_mono_ns >= 700_000_000
        rig.gateway.reply(asked, 200, tag="x")  # too late
        await rig.counted("unmatched_responses", 1)
        assert len(rig.events) == 1


async def test_timer_f_bounds_it_too() -> None:
    async with Rig(t1_ms=10) as rig:
        request = options(rig)
        rig.hook.ask([request])
        event = await ended(rig, request)
        assert event.cause is RouteFailure.NO_RESPONSE
        assert event.mono_ns - event.sent_mono_ns < PATIENCE_MS * 1_000_000


async def test_a_provisional_response_does_not_end_it() -> None:
    async with Rig() as rig:
        request = options(rig)
        rig.hook.ask([request])
        asked = await rig.gateway.expect("OPTIONS")
        rig.gateway.reply(asked, 100)
        rig.gateway.reply(asked, 200, tag="x")
        assert (await ended(rig, request)).sip_code == 200


async def test_a_connection_that_is_refused_is_reported() -> None:
    async with Rig(transports=(TransportName.TCP,)) as rig:
        with socket.create_server((rig.gateway.host, 0)) as server:
            port = server.getsockname()[1]
        request = options(rig, port=port, transport=TransportName.TCP)
        rig.hook.ask([request])
        assert (await ended(rig, request)).cause is RouteFailure.UNREACHABLE


async def test_a_transport_that_we_do_not_listen_on_is_unreachable() -> None:
    async with Rig() as rig:
        request = options(rig, transport=TransportName.TCP)
        rig.hook.ask([request])
        assert (await ended(rig, request)).cause is RouteFailure.UNREACHABLE


@pytest.mark.parametrize(
    "wrong",
    [{"target": "no uri"}, {"identity": "@@"}, {"host": "carrier.example"}],
    ids=["target", "identity", "host"],
)
async def test_a_request_that_cannot_be_made_is_unreachable(wrong: dict[str, Any]) -> None:
    async with Rig() as rig:
        request = register(rig, **wrong)
        rig.hook.ask([request])
        assert (await ended(rig, request)).cause is RouteFailure.UNREACHABLE
        assert rig.gateway.quiet


async def test_options_by_tcp() -> None:
    async with Rig(transports=(TransportName.UDP, TransportName.TCP)) as rig:
        agent = rig.adopt(await ScriptedUA.tcp_server(rig.gateway.host))
        target = f"sip:{agent.host}:{agent.port}"
        request = options(rig, port=agent.port, transport=TransportName.TCP, target=target)
        rig.hook.ask([request])
        asked = await agent.expect("OPTIONS")
        assert asked["Via"].startswith("SIP/2.0/TCP ")
        agent.reply(asked, 200, tag="x")
        assert (await ended(rig, request)).sip_code == 200


async def test_options_over_ipv6() -> None:
    peers = (PeerGroup(name="gateways", cidrs=("::1/128",)),)
    async with Rig(host="::1", peers=peers) as rig:
        agent = rig.adopt(await ScriptedUA.udp("::1"))
        request = options(rig, host="::1", port=agent.port, target=f"sip:[::1]:{agent.port}")
        rig.hook.ask([request])
        asked = await agent.expect("OPTIONS")
        assert asked.uri == request.target
        agent.reply(asked, 200, tag="x")
        assert (await ended(rig, request)).sip_code == 200


async def test_an_answer_from_a_stranger_is_not_heard() -> None:
    async with Rig() as rig:
        request = options(rig)
        rig.hook.ask([request])
        asked = await rig.gateway.expect("OPTIONS")
        for last in (2, 9):  # the caller's group, and nobody's
            stranger = await rig.agent(last)
            stranger.reply(asked, 200, tag="forged")
        await rig.counted("dropped_foreign", 2)
        await rig.until(MessageDropped)
        assert {type(event) for event in rig.events} == {MessageDropped}
        rig.gateway.reply(asked, 503, "Retry-After: 30 (soon);duration=9", tag="x")
        event = await ended(rig, request)
        assert (event.sip_code, event.retry_after_s) == (503, 30)


async def test_a_neighbour_of_the_gateways_group_may_answer() -> None:
    async with Rig() as rig:
        request = options(rig)
        rig.hook.ask([request])
        asked = await rig.gateway.expect("OPTIONS")
        (await rig.agent(4)).reply(asked, 200, tag="x")
        assert (await ended(rig, request)).sip_code == 200


async def test_a_gateway_in_no_group_may_answer_from_its_own_address() -> None:
    network = own_network()
    peers = (PeerGroup(name="callers", cidrs=(f"{network}.2/32",)),)
    async with Rig(peers=peers) as rig:
        request = options(rig)
        rig.hook.ask([request])
        asked = await rig.gateway.expect("OPTIONS")
        (await rig.agent(9)).reply(asked, 200, tag="forged")
        await rig.counted("dropped_foreign", 1)
        rig.gateway.reply(asked, 200, tag="x")
        assert (await ended(rig, request)).sip_code == 200


async def test_what_comes_in_with_the_tag_of_an_open_request_is_no_call() -> None:
    async with Rig() as rig:
        rig.hook.ask([options(rig)])
        asked = await rig.gateway.expect("OPTIONS")
        rig.invite(agent=rig.gateway, call_id=asked["Call-ID"], tag=asked["From"].partition("tag=")[2])
        await rig.gateway.expect(100)  # its From tag is its own business: an INVITE as any other
        rig.gateway.reply(asked, 200, tag="x")
        await rig.until(RequestEnded)


async def test_requests_that_are_open_when_the_bridge_stops_are_given_up() -> None:
    async with Rig() as rig:
        rig.hook.ask([options(rig) for _ in range(5)])
        for _ in range(5):
            await rig.gateway.expect("OPTIONS")


async def test_only_so_many_are_open_at_one_time() -> None:
    async with Rig() as rig:
        rig.hook.ask([options(rig, timeout_ms=3_000) for _ in range(1_005)])
        causes = [(await rig.event(RequestEnded)).cause for _ in range(1_005)]
        assert causes == [RouteFailure.UNREACHABLE] * 5 + [RouteFailure.NO_RESPONSE] * 1_000


# --- challenges ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
@pytest.mark.parametrize("proxy", [False, True])
@pytest.mark.parametrize("method", ["OPTIONS", "REGISTER"])
async def test_a_challenge_is_answered(method: str, proxy: bool, algorithm: str) -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        request = options(rig) if method == "OPTIONS" else register(rig)
        rig.hook.ask([request])
        first = await rig.gateway.expect(method)
        header = challenge("n1", QOP, algorithm=algorithm, proxy=proxy)
        rig.gateway.reply(first, 407 if proxy else 401, header, tag="of-401")
        second = await rig.gateway.expect(method)
        assert_answers(second, "n1", proxy=proxy)
        assert second.cseq == first.cseq + 1
        for name in ("Call-ID", "From", "To", "Contact", "Max-Forwards", "Expires", "Accept"):
            assert second.all(name) == first.all(name)
        rig.gateway.reply(second, 200, tag="x")
        assert (await ended(rig, request)).sip_code == 200


async def test_a_wrong_password_is_tried_once() -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        request = register(rig)
        rig.hook.ask([request])
        for nonce in ("n1", "n2"):
            rig.gateway.reply(await rig.gateway.expect("REGISTER"), 401, challenge(nonce, QOP), tag="x")
        assert (await ended(rig, request)).sip_code == 401
        assert rig.gateway.quiet


async def test_credentials_of_another_gateway_stay_where_they_are() -> None:
    other = (Credentials(gateway="other", username=USER, password=PASSWORD),)
    async with Rig(credentials=other) as rig:
        request = options(rig)
        rig.hook.ask([request])
        rig.gateway.reply(await rig.gateway.expect("OPTIONS"), 401, challenge("n1", QOP), tag="x")
        assert (await ended(rig, request)).sip_code == 401


async def test_the_time_is_for_all_tries_together() -> None:
    async with Rig(credentials=CREDENTIALS) as rig:
        request = options(rig, timeout_ms=3_000)
        rig.hook.ask([request])
        rig.gateway.reply(await rig.gateway.expect("OPTIONS"), 401, challenge("n1", QOP), tag="x")
        await rig.gateway.expect("OPTIONS")
        assert (await ended(rig, request)).cause is RouteFailure.NO_RESPONSE


# --- REGISTER -----------------------------------------------------------------------------------------------


async def test_register_names_the_address_of_record_and_our_contact() -> None:
    async with Rig() as rig:
        request = register(rig)
        rig.hook.ask([request])
        asked = await rig.gateway.expect("REGISTER")
        assert asked.uri == "sip:carrier.example"
        assert asked["To"] == f"<{IDENTITY}>"
        assert asked["From"].startswith(f"<{IDENTITY}>;tag=")
        assert asked["Contact"] == f"<sip:trunk-7@{rig.host}:{rig.address()[1]}>"
        assert (asked["Call-ID"], asked.cseq, asked["Expires"]) == ("of-this-boot", 40, "300")
        assert rig.hook.stats()["unresolved_targets"] == 0  # its name is looked up by nobody, on purpose
        rig.gateway.reply(asked, 200, f"Contact: {asked['Contact']};expires=120", "Expires: 7", tag="x")
        event = await ended(rig, request)
        assert (event.sip_code, event.granted_s) == (200, 120)


@pytest.mark.parametrize(
    ("headers", "granted_s"),
    [
        (("Contact: <sip:other@192.0.2.9>;expires=9", "Contact: {ours};expires=120"), 120),
        (("Contact: <sip:rewritten@192.0.2.9:5999>;expires=90",), 90),  # behind NAT
        (("Contact: <sip:a@192.0.2.9>;expires=9", "Contact: <sip:b@192.0.2.9>;expires=9", "Expires: 60"), 60),
        (("Contact: {ours}", "Expires: 60"), 60),
        (("Contact: {ours}",), None),
        ((), None),
        (("Contact: {ours};expires=4294967295",), None),
    ],
)
async def test_how_long_the_binding_is_kept(headers: tuple[str, ...], granted_s: int | None) -> None:
    async with Rig() as rig:
        request = register(rig)
        rig.hook.ask([request])
        asked = await rig.gateway.expect("REGISTER")
        said = [header.replace("{ours}", asked["Contact"]) for header in headers]
        rig.gateway.reply(asked, 200, *said, tag="x")
        event = await ended(rig, request)
        assert (event.sip_code, event.granted_s) == (200, granted_s)


async def test_an_interval_that_is_too_brief_is_reported_with_the_least() -> None:
    async with Rig() as rig:
        request = register(rig)
        rig.hook.ask([request])
        rig.gateway.reply(await rig.gateway.expect("REGISTER"), 423, "Min-Expires: 1800", tag="x")
        event = await ended(rig, request)
        assert (event.sip_code, event.min_expires_s) == (423, 1800)


async def test_a_registration_is_taken_back() -> None:
    async with Rig() as rig:
        request = register(rig, 0)
        rig.hook.ask([request])
        asked = await rig.gateway.expect("REGISTER")
        assert asked["Expires"] == "0"
        assert asked["Contact"] != "*"  # what others have bound stays
        rig.gateway.reply(asked, 200, tag="x")
        assert (await ended(rig, request)).sip_code == 200


async def test_the_contact_names_the_transport() -> None:
    async with Rig(transports=(TransportName.UDP, TransportName.TCP)) as rig:
        agent = rig.adopt(await ScriptedUA.tcp_server(rig.gateway.host))
        request = register(rig, port=agent.port, transport=TransportName.TCP)
        rig.hook.ask([request])
        asked = await agent.expect("REGISTER")
        assert asked["Contact"] == f"<sip:trunk-7@{rig.host}:{rig.address('tcp')[1]};transport=tcp>"
        agent.reply(asked, 200, tag="x")
        await ended(rig, request)


@pytest.mark.parametrize(
    "junk", ["Expires: soon", "Min-Expires: -7", f"Retry-After: {'9' * 90}", "Contact: <<>"]
)
async def test_what_cannot_be_read_in_an_answer_is_not_there(junk: str) -> None:
    async with Rig() as rig:
        request = register(rig)
        rig.hook.ask([request])
        asked = await rig.gateway.expect("REGISTER")
        rig.gateway.reply(asked, 200, junk, tag="x")
        event = await ended(rig, request)
        assert (event.sip_code, event.granted_s) == (200, None)
        assert (event.min_expires_s, event.retry_after_s) == (None, None)
