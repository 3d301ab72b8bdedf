"""TLS: who is let in, who is called, and by which names of their certificates (RFC 5922 §7)."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from sidecar.b2bua.hook import PeerGroup, TlsFiles
from sidecar.core.commands import RelayAnswer
from sidecar.core.events import AnswerHeld, InviteReceived, RouteFailed
from sidecar.core.terms import RouteFailure, TransportName
from tests.b2bua.rig import ANSWER, Dialog, Rig
from tests.b2bua.scripted_ua import ScriptedUA

TLS = {"transports": (TransportName.UDP, TransportName.TLS)}
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
PROXY = "proxy.example"


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


class Authority:
    """One that signs certificates, with what it has signed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self.certificate = str(folder / "ca.pem")
        openssl(
            *("req", "-x509", *self._new_key("ca"), "-days", "2", "-subj", "/CN=authority"),
            *("-addext", "keyUsage=critical,keyCertSign", "-out", self.certificate),
        )

    def _new_key(self, name: str) -> list[str]:
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        return [*curve, "-nodes", "-keyout", str(self._folder / f"{name}.key")]

    def sign(self, cn: str = "", alternatives: str = "", days: int = 2) -> tuple[str, str]:
        """A certificate and its key. `alternatives`: as openssl writes them; 0 days: it has expired."""
        request, signed, extensions = (str(self._folder / name) for name in ("csr", "signed.pem", "ext"))
        Path(extensions).write_text(f"subjectAltName={alternatives}\n" if alternatives else "")
        openssl("req", *self._new_key("signed"), "-out", request, "-subj", f"/CN={cn}" if cn else "/O=nobody")
        authority = ["-CA", self.certificate, "-CAkey", str(self._folder / "ca.key"), "-CAcreateserial"]
        openssl(
            *("x509", "-req", "-in", request, *authority, "-days", str(days)),
            *("-extfile", extensions, "-out", signed),
        )
        return signed, str(self._folder / "signed.key")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def other(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "other")


@pytest.fixture
def ours(tmp_path: Path, authority: Authority) -> TlsFiles:
    """The bridge's own, in a folder of their own."""
    copies = []
    for name, file in zip(("pem", "key"), authority.sign("sidecar.example"), strict=True):
        copy = tmp_path / f"ours.{name}"
        copy.write_bytes(Path(file).read_bytes())
        copies.append(str(copy))
    return TlsFiles(certificate=copies[0], private_key=copies[1], ca=authority.certificate)


def client(ca: str, own: tuple[str, str] | None, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=ca)
    made.check_hostname = False
    if own is not None:
        made.load_cert_chain(*own)
    if version is not None:
        made.minimum_version = made.maximum_version = version
    return made


def server(ca: str, own: tuple[str, str]) -> ssl.SSLContext:
    """Of a gateway that asks for our certificate too."""
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_cert_chain(*own)
    return made


def named(*names: str) -> dict[str, Any]:
    group = PeerGroup(name="proxy", cidrs=("127.0.0.0/8",), tls_names=names)
    return {"peers": (group,), **TLS}


# --- who connects to us -------------------------------------------------------------------------------------


async def caller(rig: Rig, context: ssl.SSLContext) -> ScriptedUA:
    return rig.adopt(await ScriptedUA.tcp_client(rig.address("tls"), f"{rig.network}.2", context))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("cn", "alternatives"),
    [
        (PROXY, ""),
        ("Proxy.EXAMPLE", ""),
        (PROXY, "IP:127.0.0.1"),  # no domain
        ("", f"DNS:{PROXY}"),
        ("", "DNS:PROXY.example"),
        ("", f"URI:sip:{PROXY}"),
        ("other.example", f"DNS:other.example,DNS:{PROXY}"),
        ("", f"URI:sip:other.example,URI:SIP:{PROXY}"),
    ],
)
async def test_a_peer_is_known_by_its_certificate(
    ours: TlsFiles, authority: Authority, cn: str, alternatives: str, version: ssl.TLSVersion
) -> None:
    async with Rig(tls=ours, **named(PROXY)) as rig:
        context = client(authority.certificate, authority.sign(cn, alternatives), version)
        peer = await caller(rig, context)
        rig.invite(agent=peer)
        await peer.expect(100)
        invite = await rig.event(InviteReceived)
        assert (invite.peer, invite.leg.transport) == ("proxy", TransportName.TLS)
        assert invite.tls_name in (PROXY, "other.example")


@pytest.mark.parametrize(
    ("cn", "alternatives"),
    [
        ("other.example", ""),
        ("", ""),
        (PROXY, "DNS:other.example"),  # the common name counts only where there is no domain
        (PROXY, "URI:sip:other.example"),
        (PROXY, "URI:https://other.example"),
        ("*.example", ""),
        ("", "DNS:*.example"),
        ("", f"URI:sip:a@{PROXY}"),
        ("", f"URI:https://{PROXY}"),
        ("", f"email:a@{PROXY}"),
        ("", f"DNS:a.{PROXY}"),
        ("", f"DNS:{PROXY}.net"),
    ],
)
async def test_a_peer_without_the_name_is_none(
    ours: TlsFiles, authority: Authority, cn: str, alternatives: str
) -> None:
    async with Rig(tls=ours, **named(PROXY)) as rig:
        peer = await caller(rig, client(authority.certificate, authority.sign(cn, alternatives)))
        rig.invite(agent=peer)
        await rig.counted("dropped_unlisted", 1)
        assert peer.quiet


async def test_a_peer_that_is_known_by_its_certificate_is_not_known_without_tls(ours: TlsFiles) -> None:
    async with Rig(tls=ours, **named(PROXY)) as rig:
        rig.invite()
        await rig.counted("dropped_unlisted", 1)
        assert rig.caller.quiet


async def gets_nothing(rig: Rig, context: ssl.SSLContext) -> None:
    try:
        agent = await caller(rig, context)
        rig.invite(agent=agent)
        await agent.until_closed()
    except (ssl.SSLError, ConnectionError):
        return  # already while it connects
    assert agent.quiet


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("which", ["none", "expired", "another authority", "its own authority"])
async def test_who_has_no_valid_certificate_gets_nothing_where_a_ca_is_set(
    ours: TlsFiles, authority: Authority, other: Authority, which: str, version: ssl.TLSVersion
) -> None:
    certificates: dict[str, Callable[[], tuple[str, str] | None]] = {
        "none": lambda: None,
        "expired": lambda: authority.sign(PROXY, days=0),
        "another authority": lambda: other.sign(PROXY),
        "its own authority": lambda: (other.certificate, other.certificate.replace(".pem", ".key")),
    }
    async with Rig(tls=ours, peers=(PeerGroup(name="all", cidrs=("127.0.0.0/8",)),), **TLS) as rig:
        await gets_nothing(rig, client(authority.certificate, certificates[which](), version))
        await rig.settled(rig.caller)
        assert rig.hook.stats()["invites"] == 0
        peer = await caller(rig, client(authority.certificate, authority.sign(PROXY), version))
        rig.invite(agent=peer)
        await peer.expect(100)


async def test_nobody_needs_a_certificate_where_no_ca_is_set(ours: TlsFiles, authority: Authority) -> None:
    files = TlsFiles(certificate=ours.certificate, private_key=ours.private_key)
    async with Rig(tls=files, peers=(PeerGroup(name="all", cidrs=("127.0.0.0/8",)),), **TLS) as rig:
        peer = await caller(rig, client(authority.certificate, None))
        rig.invite(agent=peer)
        await peer.expect(100)


# --- whom we connect to -------------------------------------------------------------------------------------


async def called(rig: Rig, context: ssl.SSLContext) -> tuple[ScriptedUA, InviteReceived]:
    gateway = rig.adopt(await ScriptedUA.tcp_server(f"{rig.network}.3", context))
    rig.invite()
    invite = await rig.event(InviteReceived)
    rig.send(rig.route(invite, host=gateway.host, port=gateway.port, transport=TransportName.TLS))
    return gateway, invite


def gateway_rig(ours: TlsFiles, *names: str) -> Rig:
    rig = Rig(tls=ours, **TLS)
    hosts = ((f"{rig.network}.3", names),)
    rig.settings = msgspec.structs.replace(rig.settings, gateway_tls_names=hosts)
    rig.hook = rig.hook.__class__(rig.settings)
    rig.hook.on_events(rig._take)
    return rig


@pytest.mark.parametrize(
    "alternatives", ["IP:{host}", "DNS:{host}", "DNS:Carrier.example", "URI:sip:carrier.example"]
)
async def test_a_gateway_bears_its_host_or_one_of_its_names(
    ours: TlsFiles, authority: Authority, alternatives: str
) -> None:
    async with gateway_rig(ours, "carrier.EXAMPLE", "other.example") as rig:
        own = authority.sign("", alternatives.format(host=f"{rig.network}.3"))
        gateway, _ = await called(rig, server(authority.certificate, own))
        at_b = await gateway.expect("INVITE")
        gateway.reply(at_b, 486, tag="to-b")
        failed = await rig.until(RouteFailed)
        assert (failed.cause, failed.sip_code) == (RouteFailure.FINAL_RESPONSE, 486)


@pytest.mark.parametrize(
    ("alternatives", "days", "signer"),
    [
        ("DNS:elsewhere.example", 2, "authority"),
        ("DNS:*.example", 2, "authority"),
        ("IP:127.0.0.9", 2, "authority"),
        ("DNS:carrier.example", 0, "authority"),
        ("DNS:carrier.example", 2, "other"),
        ("IP:{host}", 2, "other"),
    ],
)
async def test_a_gateway_with_another_certificate_is_told_nothing(
    ours: TlsFiles, authority: Authority, other: Authority, alternatives: str, days: int, signer: str
) -> None:
    async with gateway_rig(ours, "carrier.example") as rig:
        by = {"authority": authority, "other": other}[signer]
        cn = "carrier.example" if "DNS" in alternatives else ""  # which counts where there is no domain
        own = by.sign(cn, alternatives.format(host=f"{rig.network}.3"), days)
        gateway, _ = await called(rig, server(authority.certificate, own))
        assert (await rig.until(RouteFailed)).cause is RouteFailure.UNREACHABLE
        assert gateway.everything == []
        assert rig.hook.stats()["refused_certificates"] == 1


async def test_any_certificate_of_a_gateway_will_do_where_no_ca_is_set(
    ours: TlsFiles, authority: Authority, other: Authority
) -> None:
    files = TlsFiles(certificate=ours.certificate, private_key=ours.private_key)
    async with gateway_rig(files) as rig:
        gateway, _ = await called(rig, server(authority.certificate, other.sign("elsewhere.example")))
        await gateway.expect("INVITE")


PAI: Final = "P-Asserted-Identity: <sip:+4930777@x.example>"


async def test_a_call_over_tls_on_both_sides(ours: TlsFiles, authority: Authority) -> None:
    """The gateway's group is known by its certificate, which nobody has seen before it is called."""
    group = PeerGroup(name="all", cidrs=("127.0.0.0/8",), tls_names=(PROXY,), asserts_identity=True)
    async with Rig(tls=ours, peers=(group,), **TLS) as rig:
        own = authority.sign("", f"DNS:{PROXY},IP:{rig.network}.3")
        peer = await caller(rig, client(authority.certificate, own))
        gateway = rig.adopt(
            await ScriptedUA.tcp_server(f"{rig.network}.3", server(authority.certificate, own))
        )
        sent = rig.invite(PAI, agent=peer)
        await peer.expect(100)
        invite = await rig.event(InviteReceived)
        rig.send(rig.route(invite, host=gateway.host, port=gateway.port, transport=TransportName.TLS))
        at_b = await gateway.expect("INVITE")
        assert "P-Asserted-Identity" in at_b
        gateway.reply(at_b, 200, PAI, tag="to-b", body=ANSWER)
        await rig.event(AnswerHeld)
        rig.send(RelayAnswer(bridge_id=invite.bridge_id))
        ok = await peer.expect(200)
        assert "P-Asserted-Identity" in ok
        a = Dialog.of_caller(sent, ok)
        rig.in_dialog(peer, "ACK", a, cseq=1)
        await gateway.expect("ACK")
        rig.in_dialog(gateway, "BYE", Dialog.of_callee(at_b, "to-b"), cseq=1)
        await gateway.expect(200, "BYE")
        peer.reply(await peer.expect("BYE"), 200)
        await rig.idle()
