"""The sample kamailio.cfg: a real Kamailio accepts it and sends calls the way its first lines say."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kamailio.harness import CONFIGURATION, Places, Proxy, executable, free_udp_port, kamailio
from tests.kamailio.peer import CARRIER, CUSTOMER, HOST, SDP, SIDECAR, STRANGER, Peer


@pytest.fixture
def peers() -> Iterator[dict[str, Peer]]:
    made = {host: Peer(host) for host in (CUSTOMER, STRANGER, SIDECAR, CARRIER)}
    yield made
    for peer in made.values():
        peer.close()


@pytest.fixture
def proxy(tmp_path: Path, peers: dict[str, Peer]) -> Iterator[Proxy]:
    places = Places(
        proxy=(HOST, free_udp_port(HOST)),
        sidecar=(SIDECAR, peers[SIDECAR].port),
        carrier=(CARRIER, peers[CARRIER].port),
        acme_host=CUSTOMER,
        ring_ms=1_000,
        call_s=2,
    )
    with kamailio(tmp_path, places) as running:
        yield running


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


def test_a_call_that_kamailio_ends_by_its_own_timer_says_so(proxy: Proxy, peers: dict[str, Peer]) -> None:
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


def test_a_cancel_of_kamailios_own_ring_timer_bears_no_reason_so_ours_must_be_shorter(
    proxy: Proxy, peers: dict[str, Peer]
) -> None:
    peers[CUSTOMER].invite("00441234", proxy.places.proxy)
    invite = peers[SIDECAR].receive("INVITE ")
    peers[SIDECAR].answer(invite, "180 Ringing", proxy.places.proxy)
    assert "Reason" not in peers[SIDECAR].receive("CANCEL ")
    ours = re.search(
        r"(?m)^ring_timeout_s = (\d+)$", CONFIGURATION.with_name("beside-kamailio.toml").read_text()
    )
    theirs = re.search(r"(?m)^#!define RING_MS (\d+)$", CONFIGURATION.read_text())
    assert ours is not None
    assert theirs is not None
    assert int(ours[1]) * 1_000 < int(theirs[1])
