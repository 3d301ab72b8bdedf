"""TLS, and peers that are known by the name in their certificate."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

from sidecar.b2bua.hook import PeerGroup, TlsFiles
from sidecar.core.events import InviteReceived
from sidecar.core.terms import TransportName
from tests.b2bua.rig import Rig
from tests.b2bua.scripted_ua import ScriptedUA


def certificate(folder: Path, name: str) -> tuple[str, str]:
    """A key and a certificate signed by the folder's authority."""
    key, request, signed = (str(folder / f"{name}.{kind}") for kind in ("key", "csr", "pem"))
    authority = ["-CA", str(folder / "ca.pem"), "-CAkey", str(folder / "ca.key"), "-CAcreateserial"]
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={name}")
    openssl("x509", "-req", "-in", request, *authority, "-days", "2", "-out", signed)
    return key, signed


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


async def test_a_peer_is_known_by_its_certificate(tmp_path: Path) -> None:
    ca = str(tmp_path / "ca.pem")
    openssl(
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=authority"),
        *("-addext", "keyUsage=critical,keyCertSign", "-keyout", str(tmp_path / "ca.key"), "-out", ca),
    )
    our_key, our_certificate = certificate(tmp_path, "sidecar.example")
    peer_key, peer_certificate = certificate(tmp_path, "proxy.example")
    other_key, other_certificate = certificate(tmp_path, "other.example")
    group = PeerGroup(name="proxy", cidrs=("127.0.0.0/8",), tls_names=("proxy.example",))
    settings = {
        "transports": (TransportName.TLS,),
        "peers": (group,),
        "tls": TlsFiles(certificate=our_certificate, private_key=our_key, ca=ca),
    }

    def context(key: str, signed: str) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=ca)
        made.check_hostname = False
        made.load_cert_chain(signed, key)
        return made

    async with Rig(**settings) as rig:
        address = rig.address("tls")
        peer = await ScriptedUA.tcp_client(address, f"{rig.network}.2", context(peer_key, peer_certificate))
        other = await ScriptedUA.tcp_client(
            address, f"{rig.network}.2", context(other_key, other_certificate)
        )
        rig.adopt(peer)
        rig.adopt(other)
        rig.invite(agent=other, number="1")
        rig.invite(agent=peer, number="2")
        await peer.expect(100)
        invite = await rig.event(InviteReceived)
        assert (invite.peer, invite.tls_name, invite.request_user) == ("proxy", "proxy.example", "2")
        assert invite.leg.transport == TransportName.TLS
        await rig.counted("dropped_unlisted", 1)
        assert other.quiet
