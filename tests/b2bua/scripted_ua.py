"""A user agent that does only what a test writes down: literal SIP over one UDP socket or TCP connection, no
library, no state machine. Duplicates (retransmissions) are kept apart, so that a script reads like a ladder.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass, field
from typing import Any, Final, Self

PATIENCE_S: Final = 15.0  # how long a script waits for what must come


@dataclass(frozen=True)
class Message:
    raw: bytes
    source: tuple[str, int]
    start: str = field(init=False)
    headers: tuple[tuple[str, str], ...] = field(init=False)
    body: bytes = field(init=False)

    def __post_init__(self) -> None:
        head, _, body = self.raw.partition(b"\r\n\r\n")
        start, *lines = head.decode("utf-8", "backslashreplace").split("\r\n")
        headers = tuple((name.strip(), value.strip()) for name, _, value in (x.partition(":") for x in lines))
        for name, value in (("start", start), ("headers", headers), ("body", body)):
            object.__setattr__(self, name, value)

    @property
    def is_response(self) -> bool:
        return self.start.startswith("SIP/2.0 ")

    @property
    def code(self) -> int:
        return int(self.start.split(" ")[1]) if self.is_response else 0

    @property
    def method(self) -> str:
        """Of a request; of a response, that of its CSeq."""
        return self["CSeq"].split()[1] if self.is_response else self.start.split(" ")[0]

    @property
    def uri(self) -> str:
        return self.start.split(" ")[1]

    @property
    def cseq(self) -> int:
        return int(self["CSeq"].split()[0])

    @property
    def branch(self) -> str:
        return parameter(self["Via"], "branch")

    def all(self, name: str) -> list[str]:
        return [value for given, value in self.headers if given.lower() == name.lower()]

    def __getitem__(self, name: str) -> str:
        values = self.all(name)
        assert values, f"no {name} in:\n{self.raw.decode(errors='replace')}"
        return values[0]

    def __contains__(self, name: str) -> bool:
        return bool(self.all(name))


def parameter(value: str, name: str) -> str:
    for part in value.split(";")[1:]:
        given, _, text = part.partition("=")
        if given.strip() == name:
            return text.strip().rstrip(">")
    return ""


def bracketed(host: str) -> str:
    """As a URI or Via needs it."""
    return f"[{host}]" if ":" in host else host


def sip(start: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [start, *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


class ScriptedUA(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self._arrived: asyncio.Queue[Message] = asyncio.Queue()
        self._seen: set[bytes] = set()
        self._transport: asyncio.DatagramTransport | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self._is_closed = False
        self._reading: set[asyncio.Task[None]] = set()
        self.repeats: list[Message] = []
        self.everything: list[Message] = []
        self.answers: frozenset[str] = frozenset()  # methods that get 200 at once, unseen by the script
        self.host = ""
        self.port = 0
        self.via = "UDP"
        self._repeat_arrived = asyncio.Event()
        self.peer: tuple[str, int] = ("", 0)  # where `send` goes unless told otherwise

    # --- UDP ---

    @classmethod
    async def udp(cls, host: str, port: int = 0) -> Self:
        loop = asyncio.get_running_loop()
        transport, agent = await loop.create_datagram_endpoint(cls, local_addr=(host, port))
        agent._transport = transport
        agent.host, agent.port = transport.get_extra_info("sockname")[:2]
        return agent

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._take(data, addr[:2])

    # --- TCP ---

    @classmethod
    async def tcp_client(
        cls, peer: tuple[str, int], host: str, tls: ssl.SSLContext | None = None
    ) -> ScriptedUA:
        agent = cls()
        agent.via = "TLS" if tls else "TCP"
        reader, writer = await asyncio.open_connection(*peer, local_addr=(host, 0), ssl=tls)
        agent._attach(reader, writer)
        agent.host, agent.port = writer.get_extra_info("sockname")[:2]
        agent.peer = peer
        return agent

    @classmethod
    async def tcp_server(cls, host: str, tls: ssl.SSLContext | None = None) -> ScriptedUA:
        agent = cls()
        agent.via = "TLS" if tls else "TCP"
        agent._server = await asyncio.start_server(agent._attach, host, 0, ssl=tls)
        agent.host, agent.port = agent._server.sockets[0].getsockname()[:2]
        return agent

    def _attach(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_closed:  # it was accepted just before
            writer.transport.abort()
            return
        self._streams = reader, writer
        self._writers.append(writer)
        task = asyncio.get_running_loop().create_task(self._read(reader, writer), name="scripted UA")
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        source = writer.get_extra_info("peername")[:2]
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            head = head.lstrip(b"\r\n")
            if not head:
                continue
            length = int(Message(head, source)["Content-Length"])
            self._take(head + await reader.readexactly(length), source)

    # --- both ---

    def _take(self, data: bytes, source: tuple[str, int]) -> None:
        if not data.strip():
            return
        message = Message(data, source)
        self.everything.append(message)
        if not message.is_response and message.method in self.answers:
            self.reply(message, 200)
        elif data in self._seen:
            self.repeats.append(message)
            self._repeat_arrived.set()
        else:
            self._seen.add(data)
            self._arrived.put_nowait(message)

    def send(self, data: bytes, to: tuple[str, int] | None = None) -> None:
        if self._streams is not None:
            self._streams[1].write(data)
        else:
            assert self._transport is not None
            self._transport.sendto(data, to or self.peer)

    async def receive(self) -> Message:
        return await asyncio.wait_for(self._arrived.get(), PATIENCE_S)

    async def expect(self, what: str | int, method: str = "") -> Message:
        """The next message, which must be that request (by method) or that response (by code)."""
        message = await self.receive()
        got: str | int = message.code if message.is_response else message.method
        assert got == what, f"expected {what}, got {message.start}"
        if method:
            assert message.method == method, f"expected {what} to {method}, got one to {message.method}"
        return message

    async def until(self, what: str | int, method: str = "") -> Message:
        """The next such message, past others."""
        while True:
            message = await self.receive()
            got: str | int = message.code if message.is_response else message.method
            if got == what and method in ("", message.method):
                return message

    async def until_repeated(self, what: str | int, times: int = 1) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self._repeated(what) < times:
                self._repeat_arrived.clear()
                await self._repeat_arrived.wait()

    def _repeated(self, what: str | int) -> int:
        return sum(what == (m.code if m.is_response else m.method) for m in self.repeats)

    @property
    def quiet(self) -> bool:
        return self._arrived.empty()

    @property
    def certificate(self) -> dict[str, Any]:
        """What the other side has shown, as `ssl` reads it."""
        assert self._streams is not None
        shown: dict[str, Any] = self._streams[1].get_extra_info("peercert")
        return shown

    async def until_closed(self) -> None:
        """Until the peer has closed the connection."""
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*self._reading)

    def hang_up(self) -> None:
        """Break the connection; a server takes the next one."""
        assert self._streams is not None
        self._streams[1].transport.abort()

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        if self._transport is not None:
            self._transport.close()
        for task in self._reading:
            task.cancel()
        for writer in self._writers:
            writer.close()
        if self._server is not None:
            # Nobody gets in from here on. The server itself goes a turn later: a connection that it has
            # accepted and not yet made a transport of would be left open (asyncio's Server._attach asserts).
            loop = asyncio.get_running_loop()
            for one in self._server.sockets:
                loop.remove_reader(one.fileno())
                one.shutdown(socket.SHUT_RDWR)
            loop.call_soon(_end, self._server)

    # --- messages ---

    def contact(self) -> str:
        suffix = "" if self.via == "UDP" else f";transport={self.via.lower()}"
        return f"Contact: <sip:{bracketed(self.host)}:{self.port}{suffix}>"

    def via_line(self, branch: str) -> str:
        return f"Via: SIP/2.0/{self.via} {bracketed(self.host)}:{self.port};rport;branch={branch}"

    def response(self, request: Message, code: int, *headers: str, tag: str = "", body: bytes = b"") -> bytes:
        """To a request that arrived; `tag` is added to To where it has none."""
        kept = [
            f"{name}: {value}"
            for name, value in request.headers
            if name in ("Via", "From", "Call-ID", "CSeq")
        ]
        kept += [f"Record-Route: {value}" for value in request.all("Record-Route")]
        to = request["To"]
        if tag and "tag=" not in to:
            to += f";tag={tag}"
        return sip(f"SIP/2.0 {code} Reason", *kept, f"To: {to}", *headers, body=body)

    def reply(
        self,
        request: Message,
        code: int,
        *headers: str,
        tag: str = "",
        body: bytes = b"",
        content: str = "Content-Type: application/sdp",
    ) -> None:
        extra = list(headers)
        if request.method == "INVITE" and 100 < code < 300:
            extra.append(self.contact())
        if body and content and not any(h.startswith("Content-Type") for h in extra):
            extra.append(content)
        self.send(self.response(request, code, *extra, tag=tag, body=body), request.source)


def _end(server: asyncio.Server) -> None:
    server.close()
    # Those whose handshake is not over yet, which nobody else knows; from Python 3.13 on.
    getattr(server, "abort_clients", lambda: None)()
