"""The sample kamailio.cfg: a real Kamailio accepts it and sends calls the way its first lines say."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from sidecar.demo.children import free_ports
from tests.kamailio.harness import CONFIGURATION, PROFILE, Places, Proxy, executable, kamailio
from tests.kamailio.peer import CARRIER, CUSTOMER, HOST, SDP, SIDECAR, STRANGER, Peer, fields


@contextmanager
def field(
    folder: Path, *, ring_s: int = 120, call_s: int = 43_200
) -> Iterator[tuple[Proxy, dict[str, Peer]]]:
    """Kamailio, and a peer at each place around it."""
    with ExitStack() as stack:
        peers = {host: Peer(host) for host in (CUSTOMER, STRANGER, SIDECAR, CARRIER)}
        for peer in peers.values():
            stack.callback(peer.close)
        places = Places(
            proxy=(HOST, free_ports(HOST, 1)[0]),
            sidecars=((SIDECAR, peers[SIDECAR].port),),
            carrier=(CARRIER, peers[CARRIER].port),
            acme_host=CUSTOMER,
            ring_s=ring_s,
            call_s=call_s,
        )
        yield stack.enter_context(kamailio(folder, places)), peers


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Proxy, dict[str, Peer]]]:
    with field(tmp_path) as made:
        yield made


@pytest.fixture
def proxy(running: tuple[Proxy, dict[str, Peer]]) -> Proxy:
    return running[0]


@pytest.fixture
def peers(running: tuple[Proxy, dict[str, Peer]]) -> dict[str, Peer]:
    return running[1]


def test_kamailio_accepts_the_sample_as_it_is() -> None:
    result = subprocess.run(
        [executable(), "-c", "-f", str(CONFIGURATION)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert result.returncode == 0, result.stderr
    assert "config file ok" in result.stderr
    assert "ERROR" not in result.stderr
    assert "WARNING" not in result.stderr


def test_a_customers_call_goes_to_the_sidecar_with_its_account_and_a_recorded_route(
    proxy: Proxy, peers: dict[str, Peer]
) -> None:
    peers[CUSTOMER].invite("00441234", proxy.places.proxy, "X-Account: bluebird", "X-Other: stays")
    invite = peers[SIDECAR].receive("INVITE sip:00441234@")
    assert re.findall(r"(?mi)^X-Account: (.*)\r$", invite) == ["acme"]
    assert "X-Other: stays" in invite
    assert f"Record-Route: <sip:{HOST}:{proxy.places.proxy[1]};lr" in invite
    assert invite.endswith(SDP)


ASSERTED = ("P-Asserted-Identity: <sip:+4930@x>", "Remote-Party-ID: <sip:+4930@x>;party=calling")


def test_customers_assert_nothing_to_the_sidecar_and_the_sidecar_does_to_the_carrier(
    proxy: Proxy, peers: dict[str, Peer]
) -> None:
    peers[CUSTOMER].invite("00441234", proxy.places.proxy, *ASSERTED)
    invite = peers[SIDECAR].receive("INVITE ")
    assert not any(line in invite for line in ASSERTED)
    peers[SIDECAR].invite("00441234", proxy.places.proxy, *ASSERTED)
    invite = peers[CARRIER].receive("INVITE ")
    assert all(line in invite for line in ASSERTED)


def test_a_national_number_reaches_the_sidecar_as_an_international_one(
    proxy: Proxy, peers: dict[str, Peer]
) -> None:
    peers[CUSTOMER].invite("01511234567", proxy.places.proxy)
    assert peers[SIDECAR].receive("INVITE ").startswith("INVITE sip:00491511234567@")


def test_the_sidecars_call_goes_to_the_carrier_without_the_account(
    proxy: Proxy, peers: dict[str, Peer]
) -> None:
    peers[SIDECAR].invite("00441234", proxy.places.proxy, "X-Account: acme")
    invite = peers[CARRIER].receive("INVITE sip:00441234@")
    assert "X-Account" not in invite
    assert "Record-Route: " in invite


def test_a_stranger_gets_403_and_the_sidecar_hears_nothing(proxy: Proxy, peers: dict[str, Peer]) -> None:
    peers[STRANGER].invite("00666", proxy.places.proxy, "X-Account: acme")
    assert peers[STRANGER].receive("SIP/2.0 403")
    peers[CUSTOMER].invite("00441234", proxy.places.proxy)
    assert peers[SIDECAR].receive("INVITE ").startswith("INVITE sip:00441234@")


def test_a_bye_of_the_sidecar_reaches_the_customer_along_the_route(
    proxy: Proxy, peers: dict[str, Peer]
) -> None:
    at = proxy.places.proxy
    peers[CUSTOMER].invite("00441234", at)
    invite = peers[SIDECAR].receive("INVITE ")
    peers[SIDECAR].answer(invite, "200 OK", at)
    peers[CUSTOMER].receive("SIP/2.0 200")
    route = re.search(r"(?mi)^Record-Route: (.*)\r$", invite)
    assert route is not None
    customer = peers[CUSTOMER]
    peers[SIDECAR].send(
        f"BYE sip:caller@{customer.host}:{customer.port} SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP {SIDECAR}:{peers[SIDECAR].port};rport;branch=z9hG4bK-bye\r\nMax-Forwards: 70\r\n"
        f"Route: {route[1]}\r\nFrom: <sip:00441234@{HOST}>;tag=to\r\n"
        f"To: <sip:caller@{CUSTOMER}>;tag=from-00441234\r\n"
        f"Call-ID: call-00441234@{CUSTOMER}\r\nCSeq: 1 BYE\r\n"
        f'Reason: Q.850;cause=16;text="grant_used_up"\r\nContent-Length: 0\r\n\r\n',
        at,
    )
    bye = customer.receive("BYE ")
    assert 'Reason: Q.850;cause=16;text="grant_used_up"' in bye


def answered_call(proxy: Proxy, peers: dict[str, Peer]) -> None:
    """The customer's call to the sidecar, up to the ACK."""
    peers[CUSTOMER].invite("00441234", proxy.places.proxy)
    invite = peers[SIDECAR].receive("INVITE ")
    peers[SIDECAR].answer(invite, "200 OK", proxy.places.proxy)
    peers[CUSTOMER].request("ACK", 1, peers[CUSTOMER].receive("SIP/2.0 200"))
    peers[SIDECAR].receive("ACK ")


def words_of_the_proxy(bye: str) -> list[str]:
    return re.findall(r"(?mi)^X-Proxy-Hangup: (.*)\r$", bye)


def test_a_call_that_kamailio_ends_by_its_own_timer_says_so(tmp_path: Path) -> None:
    with field(tmp_path, call_s=1) as (proxy, peers):
        answered_call(proxy, peers)
        assert words_of_the_proxy(peers[SIDECAR].receive("BYE ")) == ["max_duration"]


def test_a_call_that_kamailios_operator_ends_says_so(proxy: Proxy, peers: dict[str, Peer]) -> None:
    answered_call(proxy, peers)
    listed = proxy.command("dlg.list")
    entry, number = (re.search(rf"{name}: (\d+)", listed) for name in ("h_entry", "h_id"))
    assert entry is not None
    assert number is not None
    proxy.command("dlg.end_dlg", entry[1], number[1], "X-Proxy-Hangup: operator\r\n")
    assert words_of_the_proxy(peers[SIDECAR].receive("BYE ")) == ["operator"]


def test_a_caller_cannot_say_that_kamailio_ended_the_call(proxy: Proxy, peers: dict[str, Peer]) -> None:
    peers[CUSTOMER].invite("00441234", proxy.places.proxy, "X-Proxy-Hangup: operator")
    assert words_of_the_proxy(peers[SIDECAR].receive("INVITE ")) == []


def test_a_cancel_of_kamailio_says_that_nobody_answered_and_the_caller_hears_408(tmp_path: Path) -> None:
    with field(tmp_path, ring_s=1) as (proxy, peers):
        peers[CUSTOMER].invite("00441234", proxy.places.proxy)
        invite = peers[SIDECAR].receive("INVITE ")
        peers[SIDECAR].answer(invite, "180 Ringing", proxy.places.proxy)
        cancel = peers[SIDECAR].receive("CANCEL ")
        assert fields(cancel, "Reason") == ["SIP;cause=408"]
        peers[SIDECAR].answer(invite, "487 Request Terminated", proxy.places.proxy)
        assert peers[CUSTOMER].receive("SIP/2.0 4").startswith("SIP/2.0 408 ")


@pytest.mark.parametrize(
    ("reason", "passed"),
    [
        ("SIP;cause=408", []),
        ("Q.850;cause=16, SIP;cause=408", []),
        ('SIP;cause=200;text="Call completed elsewhere"', ['SIP;cause=200;text="Call completed elsewhere"']),
    ],
)
def test_a_caller_who_cancels_cannot_say_that_kamailio_did(
    proxy: Proxy, peers: dict[str, Peer], reason: str, passed: list[str]
) -> None:
    at = proxy.places.proxy
    peers[CUSTOMER].invite("00441234", at)
    invite = peers[SIDECAR].receive("INVITE ")
    peers[SIDECAR].answer(invite, "180 Ringing", at)
    peers[CUSTOMER].receive("SIP/2.0 180")
    peers[CUSTOMER].cancel("00441234", at, f"Reason: {reason}", "X-Proxy-Hangup: ring_timeout")
    cancel = peers[SIDECAR].receive("CANCEL ")
    assert words_of_the_proxy(cancel) == []
    assert fields(cancel, "Reason") == passed


def test_a_caller_who_hangs_up_cannot_say_that_kamailio_did(proxy: Proxy, peers: dict[str, Peer]) -> None:
    peers[CUSTOMER].invite("00441234", proxy.places.proxy)
    peers[SIDECAR].answer(peers[SIDECAR].receive("INVITE "), "200 OK", proxy.places.proxy)
    answer = peers[CUSTOMER].receive("SIP/2.0 200")
    peers[CUSTOMER].request("ACK", 1, answer)
    peers[CUSTOMER].request("BYE", 2, answer, "Reason: SIP;cause=408", "X-Proxy-Hangup: max_duration")
    bye = peers[SIDECAR].receive("BYE sip:", "CSeq: 2 BYE")
    assert (words_of_the_proxy(bye), fields(bye, "Reason")) == ([], [])


def test_a_carrier_that_refuses_cannot_say_that_kamailio_did(proxy: Proxy, peers: dict[str, Peer]) -> None:
    at = proxy.places.proxy
    peers[SIDECAR].invite("00441234", at)
    invite = peers[CARRIER].receive("INVITE ")
    words = ("X-Proxy-Hangup: ring_timeout", "Reason: SIP;cause=408", "X-Other: stays")
    peers[CARRIER].answer(invite, "486 Busy Here", at, *words)
    busy = peers[SIDECAR].receive("SIP/2.0 486")
    assert (words_of_the_proxy(busy), fields(busy, "Reason"), fields(busy, "X-Other")) == ([], [], ["stays"])


def test_the_sidecars_timers_are_shorter_than_kamailios() -> None:
    """Those of the CDR that knows more fire first; and tm's own, whose CANCEL says nothing, never."""
    ours = {name: int(value) for name, value in re.findall(r"(?m)^(\w+_s) = (\d+)$", PROFILE.read_text())}
    sample = CONFIGURATION.read_text()
    theirs = {name: int(value) for name, value in re.findall(r"(?m)^#!define (\w+) (\d+)$", sample)}
    [last_ms] = re.findall(r'(?m)^modparam\("tm", "fr_inv_timer", (\d+)\)$', sample)
    assert (
        ours["ring_timeout_s"] * 1_000 < theirs["CARRIER_RING_MS"] < theirs["RING_S"] * 1_000 < int(last_ms)
    )
    assert ours["max_duration_s"] < theirs["CALL_S"]
