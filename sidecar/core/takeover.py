"""Whether the books of another node are taken over, as a table.

A node lives until its lease is over, which it begins anew with each commit. That it is over may mean that the
node is dead, or that the database cannot hear it: then its calls go on, and nobody touches them. So it is
asked by OPTIONS where it hears SIP. Its silence says nothing where it did not answer while its lease ran: our
requests do not reach it, or it does not know us as a peer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from sidecar.core.terms import TransportName, Word

ASK_TIMEOUT_MS: Final = 1_500  # sent at 0 and 0.5 s (T1)


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """Another node of our tenant, as the database has it now."""

    name: str
    epoch: int
    boot: int  # of who writes in it
    writer: str  # as which node that one was started: another one where it has taken over
    heard_at: tuple[str, ...]  # where it hears SIP: `udp:192.0.2.1:5060`
    is_over: bool  # its lease
    has_work: bool  # calls that are open, or records that are to be told
    silent_s: float = 0.0  # since its last commit, by the clock of the database


class Answer(Word):
    """To OPTIONS: whatever the response, somebody is there."""

    UNKNOWN = "unknown"  # not asked, or not over
    ANSWERED = "answered"
    SILENT = "silent"


class Verdict(Word):
    LEAVE = "leave"
    ASK = "ask"
    TAKE = "take"
    DOUBT = "doubt"  # it is left, and a person is told


_A, _V = Answer, Verdict
# What it answered while its lease ran, and what since it is over.
TABLE: Final[Mapping[tuple[Answer, Answer], Verdict]] = {
    (_A.UNKNOWN, _A.UNKNOWN): _V.ASK,
    (_A.ANSWERED, _A.UNKNOWN): _V.ASK,
    (_A.SILENT, _A.UNKNOWN): _V.ASK,
    (_A.UNKNOWN, _A.SILENT): _V.TAKE,  # we began after it had ended
    (_A.ANSWERED, _A.SILENT): _V.TAKE,
    (_A.SILENT, _A.SILENT): _V.DOUBT,
    (_A.UNKNOWN, _A.ANSWERED): _V.LEAVE,
    (_A.ANSWERED, _A.ANSWERED): _V.LEAVE,
    (_A.SILENT, _A.ANSWERED): _V.LEAVE,
}


def verdict(node: Node, own: str, before: Answer, now: Answer) -> Verdict:
    """`own`: the name of the node that decides. `before`: what the process that writes as `node` answered
    while its lease ran; `now`: what it has answered since that is over."""
    if not node.is_over:
        return Verdict.ASK if before is Answer.UNKNOWN else Verdict.LEAVE
    if not node.has_work:
        return Verdict.LEAVE
    if node.writer == own:  # what we took over once, and could not bring to its end
        return Verdict.TAKE
    return TABLE[before, now]


def place_of(address: str) -> tuple[TransportName, str, int]:
    """Of `udp:192.0.2.1:5060`, `tls:[2001:db8::1]:5061`. ValueError."""
    transport, _, authority = address.partition(":")
    host, _, port = authority.rpartition(":")
    return TransportName(transport), host.strip("[]"), int(port)
