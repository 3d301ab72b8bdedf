"""User agents of one UDP socket each, and who is where in these tests."""

from __future__ import annotations

import re
import socket

from tests.rig.addresses import own_network

NET = own_network()
HOST, CUSTOMER, STRANGER, SIDECAR, CARRIER = (f"{NET}.{host}" for host in range(1, 6))
SDP = f"v=0\r\no=- 1 1 IN IP4 {NET}.2\r\ns=-\r\nc=IN IP4 {NET}.2\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"


class Peer:
    """A UDP socket that speaks just enough SIP."""

    def __init__(self, host: str, port: int = 0) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, port))
        self._socket.settimeout(20)  # a busy machine
        self.host, self.port = self._socket.getsockname()

    def send(self, text: str, to: tuple[str, int]) -> None:
        self._socket.sendto(text.encode(), to)

    def receive(self, first_line: str, holding: str = "") -> str:
        """The next message that begins so and holds that; others are let go by."""
        while True:
            message = self._socket.recv(65_536).decode()
            if message.startswith(first_line) and holding in message:
                return message

    def invite(self, number: str, to: tuple[str, int], *headers: str) -> None:
        more = "".join(f"{header}\r\n" for header in headers)
        self.send(
            f"INVITE sip:{number}@{to[0]}:{to[1]} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {self.host}:{self.port};rport;branch=z9hG4bK-{number}\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:caller@{self.host}>;tag=from-{number}\r\n"
            f"To: <sip:{number}@{to[0]}>\r\nCall-ID: call-{number}@{self.host}\r\nCSeq: 1 INVITE\r\n"
            f"Contact: <sip:caller@{self.host}:{self.port}>\r\n"
            f"{more}Content-Type: application/sdp\r\nContent-Length: {len(SDP)}\r\n\r\n{SDP}",
            to,
        )

    def cancel(self, number: str, to: tuple[str, int], *headers: str) -> None:
        """Of the INVITE to `number`: the same branch (RFC 3261 §9.1)."""
        more = "".join(f"{header}\r\n" for header in headers)
        self.send(
            f"CANCEL sip:{number}@{to[0]}:{to[1]} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {self.host}:{self.port};rport;branch=z9hG4bK-{number}\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:caller@{self.host}>;tag=from-{number}\r\n"
            f"To: <sip:{number}@{to[0]}>\r\nCall-ID: call-{number}@{self.host}\r\nCSeq: 1 CANCEL\r\n"
            f"{more}Content-Length: 0\r\n\r\n",
            to,
        )

    def answer(self, request: str, status: str, to: tuple[str, int], *headers: str) -> None:
        more = "".join(f"{header}\r\n" for header in headers)
        kept = re.findall(r"(?mi)^(?:Via|From|Call-ID|CSeq|Record-Route): .*\r\n", request)
        to_header = re.search(r"(?mi)^To: (.*)\r\n", request)
        assert to_header is not None
        self.send(
            f"SIP/2.0 {status}\r\n{''.join(kept)}To: {to_header[1]};tag=to\r\n"
            f"Contact: <sip:{self.host}:{self.port}>\r\n{more}Content-Length: 0\r\n\r\n",
            to,
        )

    def request(self, method: str, cseq: int, answer: str, *headers: str) -> None:
        """A caller's ACK or BYE in the dialog of the 2xx `answer`, along its route (RFC 3261 §12.2.1)."""
        routes = [f"Route: {route}\r\n" for route in reversed(fields(answer, "Record-Route"))]
        next_hop = re.search(r"<sip:([^:;>]+):(\d+)", (*routes, f"<{contact(answer)}>")[0])
        assert next_hop is not None
        more = "".join(f"{header}\r\n" for header in headers)
        self.send(
            f"{method} {contact(answer)} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {self.host}:{self.port};rport;branch=z9hG4bK-{method}-{cseq}\r\n"
            f"Max-Forwards: 70\r\n{''.join(routes)}From: {fields(answer, 'From')[0]}\r\n"
            f"To: {fields(answer, 'To')[0]}\r\nCall-ID: {fields(answer, 'Call-ID')[0]}\r\n"
            f"CSeq: {cseq} {method}\r\n{more}Content-Length: 0\r\n\r\n",
            (next_hop[1], int(next_hop[2])),
        )

    def close(self) -> None:
        self._socket.close()


def fields(message: str, name: str) -> list[str]:
    """The values of a header, in order; a list in one line is several."""
    found = re.findall(rf"(?mi)^{name}: (.*)\r$", message)
    return [one.strip() for line in found for one in line.split(",")] if name == "Record-Route" else found


def contact(message: str) -> str:
    uri = re.search(r"<([^>]*)>", fields(message, "Contact")[0])
    assert uri is not None
    return uri[1]
