"""Real DNS on loopback: a dnsmasq that holds a zone of the test's own, and for answers that it cannot be made
to give a responder whose answers the test writes."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from sidecar.adapters.sockets.child import end
from sidecar.demo.children import free_ports
from tests.rig.node import until


class Dnsmasq:
    """Names of `test.`: `hosts` can be changed while it runs, the other records are its options."""

    def __init__(self, folder: Path, host: str, *options: str, ttl_s: int = 2) -> None:
        self.folder, self.host, self.ttl_s = folder, host, ttl_s
        self.port = free_ports(host, 1)[0]
        self._options = options
        self._hosts = folder / "hosts"
        self.child: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    def hosts(self, **addresses: Sequence[str]) -> None:
        """All that there are: `gw=["127.0.0.2"]` is gw.test. The resolver knows them at once if it runs."""
        self.folder.mkdir(exist_ok=True)
        lines = [f"{one} {name}.test\n" for name, all_of_it in addresses.items() for one in all_of_it]
        self._hosts.write_text("".join(lines))
        self._hosts.chmod(0o644)
        if self.child is not None:
            self.child.send_signal(signal.SIGHUP)

    async def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self._hosts.touch()
        program = shutil.which("dnsmasq") or "/usr/sbin/dnsmasq"
        self.child = await asyncio.create_subprocess_exec(
            *(program, "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"),
            *(f"--user={pwd.getpwuid(os.geteuid()).pw_name}", "--pid-file", "--bind-interfaces"),
            *(f"--listen-address={self.host}", f"--port={self.port}", "--local=/test/", "--cache-size=0"),
            *(f"--local-ttl={self.ttl_s}", f"--addn-hosts={self._hosts}", *self._options),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await until(self._answers)

    async def _answers(self) -> bool:
        query = dns.message.make_query("there.test.", "A")
        try:
            await dns.asyncquery.udp(query, self.host, port=self.port, timeout=0.5)
        except (OSError, dns.exception.DNSException):
            return False
        return True

    async def stop(self) -> None:
        if self.child is not None and self.child.returncode is None:
            await end(self.child)
        self.child = None


@asynccontextmanager
async def dnsmasq(
    folder: Path, host: str, *options: str, ttl_s: int = 2, **hosts: Sequence[str]
) -> AsyncIterator[Dnsmasq]:
    server = Dnsmasq(folder / "dnsmasq", host, *options, ttl_s=ttl_s)
    server.hosts(**hosts)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


Script = Callable[[dns.message.Message], bytes | None]


def answer(
    query: dns.message.Message, *lines: str, rcode: int = 0, flags: int = 0, authority: str = ""
) -> bytes:
    """`lines` as in a zone file, `gw.test. 60 IN A 127.0.0.2`. Longer than UDP carries: truncated there."""
    response = dns.message.make_response(query, recursion_available=True)
    response.set_rcode(dns.rcode.Rcode(rcode))
    response.flags |= flags
    for line in lines:
        name, ttl_s, of_class, kind, text = line.split(maxsplit=4)
        response.answer.append(dns.rrset.from_text(name, int(ttl_s), of_class, kind, text))
    if authority:
        name, ttl_s, of_class, kind, text = authority.split(maxsplit=4)
        response.authority.append(dns.rrset.from_text(name, int(ttl_s), of_class, kind, text))
    return response.to_wire(max_size=65_535)


class ScriptedDns(asyncio.DatagramProtocol):
    """Answers each query as `script` says, by UDP and TCP; None: not at all."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[tuple[str, str]] = []  # name and type
        self.address = ("", 0)
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None

    async def start(self, host: str) -> None:
        port = free_ports(host, 1)[0]
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(host, port))
        self._server = await asyncio.start_server(self._serve, host, port)
        self.address = (host, port)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        said = self._said(data)
        assert self._transport is not None
        if said is not None and len(said) > 1232:  # what the query says that it can take
            query = dns.message.from_wire(data)
            said = dns.message.make_response(query).to_wire()
            said = said[:2] + bytes([said[2] | 0x02]) + said[3:]  # TC
        if said is not None:
            self._transport.sendto(said, addr)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(2))
        said = self._said(await reader.readexactly(length))
        if said is not None:
            writer.write(len(said).to_bytes(2) + said)
            await writer.drain()
        writer.close()

    def _said(self, data: bytes) -> bytes | None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        self.asked.append((question.name.to_text(), dns.rdatatype.to_text(question.rdtype)))
        return self.script(query)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        if self._server is not None:
            self._server.close()


@asynccontextmanager
async def scripted_dns(host: str, script: Script) -> AsyncIterator[ScriptedDns]:
    server = ScriptedDns(script)
    await server.start(host)
    try:
        yield server
    finally:
        server.close()
