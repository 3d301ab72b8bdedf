"""TLS files that change while the node runs."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec.structs import replace

from sidecar.b2bua.certificates import Certificates
from sidecar.b2bua.hook import HookError
from sidecar.b2bua.settings import PeerGroup, TlsFiles
from sidecar.config import report
from sidecar.core.commands import RelayAnswer, WireCommand
from sidecar.core.events import AnswerHeld, Event, InviteReceived
from sidecar.core.terms import TransportName
from sidecar.demo.children import DemoError
from sidecar.wiring.files import inputs
from tests.b2bua.authority import PROXY, TLS, VERSIONS, Authority, client, comes_from, refused_from, server
from tests.b2bua.rig import ANSWER, Dialog, Rig
from tests.b2bua.scripted_ua import ScriptedUA
from tests.rig.node import Node, until


def write(file: str, text: str) -> None:
    Path(file).write_text(text)
    Path(file).chmod(0o600)  # it may stand for a key


def copy(of: str, to: str) -> None:
    write(to, Path(of).read_text())


def put(pair: tuple[str, str], files: TlsFiles) -> None:
    for of, to in zip(pair, (files.certificate, files.private_key), strict=True):
        copy(of, to)


def names_shown(agent: ScriptedUA) -> list[str]:
    """Those in the certificate that the bridge has shown it."""
    return [value for _, value in agent.certificate["subjectAltName"]]


def answered_by(rig: Rig, gateway: ScriptedUA, event: Event) -> Sequence[WireCommand]:
    """Route there, and relay the answer."""
    match event:
        case InviteReceived():
            return [rig.route(event, host=gateway.host, port=gateway.port, transport=TransportName.TLS)]
        case AnswerHeld(bridge_id=i):
            return [RelayAnswer(bridge_id=i)]
    return ()


async def renewed(rig: Rig, certificates: Certificates) -> None:
    count = rig.hook.stats()["tls_renewals"] + 1
    assert await certificates.renew() is True
    await rig.counted("tls_renewals", count)


@pytest.mark.parametrize("version", VERSIONS)
async def test_calls_go_on_while_certificates_are_renewed_and_new_handshakes_show_the_new_one(
    ours: TlsFiles, authority: Authority, version: ssl.TLSVersion
) -> None:
    put(authority.sign("", "DNS:old.example"), ours)
    async with Rig(tls=ours, peers=(PeerGroup(name="all", cidrs=("127.0.0.0/8",)),), **TLS) as rig:
        certificates = Certificates(rig.hook, {ours.certificate: "sip.tls_certificate_file"}, 0)
        own = authority.sign("", f"DNS:{PROXY},IP:{rig.network}.3,IP:{rig.network}.4")
        context = client(authority.certificate, own, version)
        peer = await comes_from(rig, 2, context)
        assert names_shown(peer) == ["old.example"]
        gateway = rig.adopt(
            await ScriptedUA.tcp_server(f"{rig.network}.3", server(authority.certificate, own))
        )
        routed = [gateway]
        rig.on_event = lambda event: answered_by(rig, routed[-1], event)
        sent = rig.invite(agent=peer)
        await peer.expect(100)
        at_b = await gateway.expect("INVITE")
        assert names_shown(gateway) == ["old.example"]

        put(authority.sign("", "DNS:new.example"), ours)
        await renewed(rig, certificates)
        gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        a = Dialog.of_caller(sent, await peer.expect(200))
        rig.in_dialog(peer, "ACK", a, cseq=1)
        await gateway.expect("ACK")

        second = await comes_from(rig, 2, context)
        assert names_shown(second) == ["new.example"]
        other_gateway = rig.adopt(
            await ScriptedUA.tcp_server(f"{rig.network}.4", server(authority.certificate, own))
        )
        routed.append(other_gateway)
        rig.invite(agent=second)
        await other_gateway.expect("INVITE")
        assert names_shown(other_gateway) == ["new.example"]

        rig.in_dialog(gateway, "BYE", Dialog.of_callee(at_b, "to-b"), cseq=1)
        await gateway.expect(200, "BYE")
        peer.reply(await peer.expect("BYE"), 200)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_session_does_not_bring_back_what_was_renewed(
    ours: TlsFiles, authority: Authority, version: ssl.TLSVersion
) -> None:
    put(authority.sign("", "DNS:old.example"), ours)
    async with Rig(tls=ours, peers=(PeerGroup(name="all", cidrs=("127.0.0.0/8",)),), **TLS) as rig:
        certificates = Certificates(rig.hook, {}, 0)
        context = client(authority.certificate, authority.sign(PROXY), version)
        address, here = rig.address("tls"), f"{rig.network}.2"
        session, resumed, _ = await asyncio.to_thread(handshake, address, here, context, None)
        assert not resumed
        # TLS 1.3 has tickets alone, and pjsip gives none.
        _, resumed, _ = await asyncio.to_thread(handshake, address, here, context, session)
        assert resumed is (version is ssl.TLSVersion.TLSv1_2)
        put(authority.sign("", "DNS:new.example"), ours)
        await renewed(rig, certificates)
        _, resumed, shown = await asyncio.to_thread(handshake, address, here, context, session)
        assert not resumed
        assert shown == ["new.example"]


def handshake(
    address: tuple[str, int], here: str, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[ssl.SSLSession | None, bool, list[str]]:
    """The session, whether it was resumed, and the names shown."""
    with (
        socket.create_connection(address, timeout=30, source_address=(here, 0)) as plain,
        context.wrap_socket(plain, session=session) as wrapped,
    ):
        certificate: Any = wrapped.getpeercert()
        return (
            wrapped.session,
            bool(wrapped.session_reused),
            [value for _, value in certificate["subjectAltName"]],
        )


async def test_a_certificate_of_another_kind_takes_the_place_of_the_old_one(
    ours: TlsFiles, authority: Authority
) -> None:
    """A listener has room for one of each kind of key: the old one must not stay beside the new."""
    put(authority.sign("", "DNS:old.example"), ours)
    async with Rig(tls=ours, peers=(PeerGroup(name="all", cidrs=("127.0.0.0/8",)),), **TLS) as rig:
        certificates = Certificates(rig.hook, {}, 0)
        context = client(authority.certificate, authority.sign(PROXY), ssl.TLSVersion.TLSv1_2)
        assert names_shown(await comes_from(rig, 2, context)) == ["old.example"]
        put(authority.sign("", "DNS:new.example", key="rsa"), ours)
        await renewed(rig, certificates)
        for ciphers in ("ECDHE-RSA-AES256-GCM-SHA384", "ALL"):
            context.set_ciphers(ciphers)
            assert names_shown(await comes_from(rig, 2, context)) == ["new.example"]


async def test_what_came_in_before_does_not_matter_to_a_renewal(ours: TlsFiles, authority: Authority) -> None:
    """pjsip makes the context of a listener for the first connection, be it one that never was TLS."""
    put(authority.sign("", "DNS:old.example"), ours)
    async with Rig(tls=ours, peers=(PeerGroup(name="all", cidrs=("127.0.0.0/8",)),), **TLS) as rig:
        certificates = Certificates(rig.hook, {}, 0)
        junk = rig.adopt(await ScriptedUA.tcp_client(rig.address("tls"), f"{rig.network}.2"))
        junk.send(b"GET / HTTP/1.1\r\n\r\n")
        await junk.until_closed()
        put(authority.sign("", "DNS:new.example"), ours)
        await renewed(rig, certificates)
        context = client(authority.certificate, authority.sign(PROXY))
        assert names_shown(await comes_from(rig, 2, context)) == ["new.example"]


async def test_the_authority_is_renewed_too(ours: TlsFiles, authority: Authority, other: Authority) -> None:
    async with Rig(tls=ours, peers=(PeerGroup(name="all", cidrs=("127.0.0.0/8",)),), **TLS) as rig:
        certificates = Certificates(rig.hook, {}, 0)
        root = ours.certificate + ".root"
        copy(authority.certificate, root)
        old, new = (client(root, one.sign(PROXY)) for one in (authority, other))
        before = await comes_from(rig, 2, old)
        await refused_from(rig, 2, new)
        copy(other.certificate, authority.certificate)
        await renewed(rig, certificates)
        await refused_from(rig, 2, old)
        for agent in (await comes_from(rig, 2, new), before):  # a connection that stands is not touched
            rig.invite(agent=agent)
            await agent.expect(100)
        both = "".join(Path(one).read_text() for one in (root, other.certificate))  # noqa: ASYNC240
        write(authority.certificate, both)
        await renewed(rig, certificates)
        for context in (old, new):
            agent = await comes_from(rig, 2, context)
            rig.invite(agent=agent)
            await agent.expect(100)


WRONG: Final[dict[str, tuple[str, Callable[[TlsFiles, Authority], object]]]] = {
    "another key": (
        "ours.key: is not the key of the first certificate in",
        lambda ours, by: copy(by.sign("x")[1], ours.private_key),
    ),
    "expired": ("ours.pem: has expired, on 20", lambda ours, by: put(by.sign("x", days=0), ours)),
    "no certificate": (
        "ours.pem: holds no certificate in PEM",
        lambda ours, by: write(ours.certificate, "hello"),
    ),
    "half a certificate": (
        "ours.pem: certificate 1 cannot be read: ",
        lambda ours, by: write(ours.certificate, Path(ours.certificate).read_text()[:300]),
    ),
    "no key": (
        "ours.key: holds no private key in PEM",
        lambda ours, by: copy(ours.certificate, ours.private_key),
    ),
    "empty": ("ours.key: cannot be read: it is empty", lambda ours, by: write(ours.private_key, "")),
    "gone": ("ours.pem: cannot be read: No such file", lambda ours, by: Path(ours.certificate).unlink()),
    "no authority": ("ca.pem: holds no certificate in PEM", lambda ours, by: copy(ours.private_key, ours.ca)),
}


@pytest.mark.parametrize("which", WRONG)
async def test_a_wrong_file_is_refused_and_what_was_in_force_stays(
    ours: TlsFiles, authority: Authority, other: Authority, which: str
) -> None:
    put(authority.sign("", "DNS:old.example"), ours)
    async with Rig(tls=ours, peers=(PeerGroup(name="all", cidrs=("127.0.0.0/8",)),), **TLS) as rig:
        certificates = Certificates(rig.hook, {ours.certificate: "sip.tls_certificate_file"}, 0)
        ends = certificates.status().ends_at
        assert set(ends) == {"sip.tls_certificate_file", ours.ca}
        root = ours.certificate + ".root"
        copy(authority.certificate, root)
        context = client(root, authority.sign(PROXY))
        text, spoil = WRONG[which]
        spoil(ours, authority)
        refused = await certificates.renew()
        assert isinstance(refused, list)
        assert text in refused[0]
        status = certificates.status()
        assert (status.ends_at, status.renewals, status.refusals) == (ends, 0, 1)
        assert status.refused == refused[0]
        assert names_shown(await comes_from(rig, 2, context)) == ["old.example"]  # the first handshake of all


async def test_a_start_with_a_wrong_file_says_so(ours: TlsFiles) -> None:
    write(ours.certificate, "hello")
    rig = Rig(tls=ours, **TLS)
    with pytest.raises(HookError, match=r"ours\.pem: holds no certificate in PEM"):
        await rig.hook.start()


async def test_files_are_looked_at_by_and_by(ours: TlsFiles, authority: Authority) -> None:
    async with Rig(tls=ours, peers=(PeerGroup(name="all", cidrs=("127.0.0.0/8",)),), **TLS) as rig:
        certificates = Certificates(rig.hook, {}, 1)
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(certificates.watch(), name="certificates")
            own = authority.sign("", "DNS:new.example")
            copy(own[0], ours.certificate)  # its key is late
            async with asyncio.timeout(60):
                while not certificates.status().refusals:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            copy(own[1], ours.private_key)
            await rig.counted("tls_renewals", 1)
            assert certificates.status().refused == ""
            assert await certificates.renew() is False  # nothing is new
            watching.cancel()


PROFILE: Final = """
[sip]
listen_tls = ["{host}:0"]

[peers.a]
addresses = ["{network}.2"]
tls_ca_file = "own.pem"

[peers.rest]
addresses = ["{network}.3"]

[gateways.carrier]
host = "{network}.3"
port = 5090
transport = "tls"
tls_ca_file = "own.pem"
"""


async def test_a_node_looks_at_its_files_and_takes_them_over_on_command(
    tmp_path: Path, ours: TlsFiles, authority: Authority, other: Authority
) -> None:
    put(authority.sign("", "DNS:old.example"), ours)
    copy(other.certificate, str(tmp_path / "own.pem"))
    files = {"CERTIFICATE": ours.certificate, "KEY": ours.private_key, "CA": ours.ca}
    settings = {f"SIDECAR_SIP__TLS_{name}_FILE": file for name, file in files.items()}
    node = Node(tmp_path, settings={**settings, "SIDECAR_SIP__TLS_CHECK_INTERVAL_S": "0"})
    node._profile = PROFILE.format(host=node.host, network=node.network)
    async with node.up():
        status = await node.status()
        place = status["sip"][0].rpartition(":")
        address = place[0].removeprefix("tls:"), int(place[2])
        own = client(authority.certificate, other.sign("", f"DNS:{PROXY}"))

        async def shown() -> list[str]:
            _, _, names = await asyncio.to_thread(handshake, address, f"{node.network}.2", own, None)
            return names

        assert await shown() == ["old.example"]
        assert set(status["tls_files"]) == {
            "sip.tls_certificate_file",
            "sip.tls_ca_file",
            "gateways.carrier.tls_ca_file",
        }
        fresh = authority.sign("", "DNS:new.example")
        copy(fresh[0], ours.certificate)
        with pytest.raises(DemoError, match="is not the key of the first certificate"):
            await node.daemon.command("node", "reload")
        assert "is not the key" in (await node.status())["tls_refused"]
        assert await node.metric("sidecar_tls_refusals_total") == 1
        assert await shown() == ["old.example"]
        copy(fresh[1], ours.private_key)
        assert (await node.daemon.command("node", "reload"))["certificates_renewed"] is True
        assert not (await node.daemon.command("node", "reload"))["certificates_renewed"]
        assert (await node.status())["tls_refused"] == ""
        await until(lambda: node.metric("sidecar_bridge_total", '"tls_renewals"'))
        assert await shown() == ["new.example"]
        end = await node.metric("sidecar_tls_end_seconds", '"sip.tls_certificate_file"')
        assert end == ssl.cert_time_to_seconds(ends_of(fresh[0]))


def ends_of(certificate: str) -> str:
    shown = subprocess.run(
        ["openssl", "x509", "-in", certificate, "-noout", "-enddate"], check=True, capture_output=True
    )
    return shown.stdout.decode().strip().removeprefix("notAfter=")


# --- before a start -----------------------------------------------------------------------------------------

TLS_PROFILE: Final = """
[sip]
listen_udp = ["127.0.0.1:5080"]
listen_tls = ["127.0.0.1:5061"]
tls_certificate_file = "{certificate}"
tls_key_file = "{key}"
tls_ca_file = "{ca}"
[peers.callers]
addresses = ["127.0.0.2/32"]
tls_ca_file = "{peer_ca}"
[gateways.main]
host = "127.0.0.3"
port = 5060
[[routes]]
prefix = ""
gateways = ["main"]
"""


@pytest.mark.parametrize(
    ("wrong", "key", "says"),
    [
        ({}, "", ""),
        ({"key": "other.key"}, "sip.tls_key_file", "is not the key of the first certificate"),
        ({"certificate": "junk"}, "sip.tls_certificate_file", "holds no certificate in PEM"),
        ({"key": "junk"}, "sip.tls_key_file", "holds no private key in PEM"),
        ({"ca": "junk"}, "sip.tls_ca_file", "holds no certificate in PEM"),
        ({"peer_ca": "junk"}, "peers.callers.tls_ca_file", "holds no certificate in PEM"),
    ],
    ids=["right", "another key", "no certificate", "no key", "no authority", "no authority of a peer"],
)
def test_a_check_reads_what_the_files_hold(
    tmp_path: Path,
    ours: TlsFiles,
    authority: Authority,
    other: Authority,
    wrong: dict[str, str],
    key: str,
    says: str,
) -> None:
    _, other_key = other.sign()
    copy(other_key, str(tmp_path / "other.key"))
    write(str(tmp_path / "junk"), "no certificate")
    right = {"certificate": ours.certificate, "key": ours.private_key}
    right |= {"ca": authority.certificate, "peer_ca": other.certificate}
    found = checked(tmp_path, right | {name: str(tmp_path / file) for name, file in wrong.items()})
    assert found.warnings == ()
    if not says:
        assert found.errors == ()
        return
    (error,) = found.errors
    assert error.where.line is not None
    assert error.key == key
    assert says in error.text


def test_a_check_warns_of_a_certificate_that_has_ended(
    tmp_path: Path, authority: Authority, other: Authority
) -> None:
    certificate, key = authority.sign("sidecar.example", days=0)
    authorities = {"ca": authority.certificate, "peer_ca": other.certificate}
    found = checked(tmp_path, {"certificate": certificate, "key": key, **authorities})
    assert found.errors == ()
    (warning,) = found.warnings
    assert warning.key == "sip.tls_certificate_file"
    assert "ended at" in warning.text


def checked(folder: Path, files: dict[str, str]) -> report.Report:
    profile = folder / "profile.toml"
    profile.write_text(TLS_PROFILE.format(**files))
    given = {"sip.profile": str(profile), "node.data_dir": str(folder / "data")}
    found = report.check(inputs(given, {}, None))
    return replace(found, warnings=tuple(one for one in found.warnings if "tls" in one.key))
