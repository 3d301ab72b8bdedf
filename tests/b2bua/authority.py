"""Real certificates, and agents that show them."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from typing import Any, Final

from sidecar.core.terms import TransportName
from tests.b2bua.rig import Rig
from tests.b2bua.scripted_ua import ScriptedUA

TLS: Final[dict[str, Any]] = {"transports": (TransportName.UDP, TransportName.TLS)}
VERSIONS: Final = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
PROXY: Final = "proxy.example"


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


class Authority:
    """One that signs certificates, with what it has signed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self.certificate = str(folder / "ca.pem")
        openssl(
            *("req", "-x509", *self._new_key("ca"), "-days", "2", "-subj", f"/CN={folder.name}"),
            *("-addext", "keyUsage=critical,keyCertSign", "-out", self.certificate),
        )

    def _new_key(self, name: str, key: str = "ec") -> list[str]:
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if key == "ec" else ["-newkey", key]
        return [*kind, "-nodes", "-keyout", str(self._folder / f"{name}.key")]

    def sign(self, cn: str = "", alternatives: str = "", days: int = 2, key: str = "ec") -> tuple[str, str]:
        """A certificate and its key. `alternatives`: as openssl writes them; 0 days: it has expired."""
        request, signed, extensions = (str(self._folder / name) for name in ("csr", "signed.pem", "ext"))
        Path(extensions).write_text(f"subjectAltName={alternatives}\n" if alternatives else "")
        openssl(
            "req", *self._new_key("signed", key), "-out", request, "-subj", f"/CN={cn}" if cn else "/O=nobody"
        )
        authority = ["-CA", self.certificate, "-CAkey", str(self._folder / "ca.key"), "-CAcreateserial"]
        openssl(
            *("x509", "-req", "-in", request, *authority, "-days", str(days)),
            *("-extfile", extensions, "-out", signed),
        )
        return signed, str(self._folder / "signed.key")


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


async def comes_from(rig: Rig, last: int, context: ssl.SSLContext) -> ScriptedUA:
    return rig.adopt(await ScriptedUA.tcp_client(rig.address("tls"), f"{rig.network}.{last}", context))


async def refused_from(rig: Rig, last: int, context: ssl.SSLContext) -> None:
    before = rig.hook.stats()["refused_certificates"]
    try:
        agent = await comes_from(rig, last, context)
        rig.invite(agent=agent)
        await agent.until_closed()
        assert agent.quiet
    except (ssl.SSLError, ConnectionError):
        pass  # already while it connects
    await rig.counted("refused_certificates", before + 1)
    assert rig.hook.stats()["invites"] == 0
