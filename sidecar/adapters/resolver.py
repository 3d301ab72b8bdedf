"""Asks resolvers, by dnspython.

A resolver is somebody else's machine, and what it forwards is written by anybody: a message that is
malformed, a chain of CNAMEs without end or an answer to another question is no answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import dns.asyncbackend
import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
from dns.rdtypes.IN.NAPTR import NAPTR
from dns.rdtypes.IN.SRV import SRV

from sidecar.core.servers import Answer, Naptr, Question, Srv
from sidecar.ports import NoAnswerError

FAULT_CHARS_MAX = 300  # of what is told of it


class DnsResolver:
    """`servers`: (address, port) of each; none: those of /etc/resolv.conf, which is read anew each time."""

    def __init__(self, servers: Sequence[tuple[str, int]], *, timeout_s: float, lifetime_s: float) -> None:
        self._servers = [dns.nameserver.Do53Nameserver(host, port) for host, port in servers]
        self._timeout_s = timeout_s
        self._lifetime_s = lifetime_s

    async def ask(self, question: Question) -> Answer:
        """Raises NoAnswerError."""
        try:
            response = await self._response(question)
            return _answer(question, response)
        except (dns.exception.DNSException, OSError, ValueError) as error:
            # Text of the network may be in it.
            text = repr(str(error) or type(error).__name__)[1:-1]
            raise NoAnswerError(text[:FAULT_CHARS_MAX]) from None

    async def _response(self, question: Question) -> dns.message.QueryMessage:
        resolver = dns.asyncresolver.Resolver(configure=not self._servers)
        if self._servers:
            resolver.nameservers = self._servers
        resolver.timeout = self._timeout_s
        backend = dns.asyncbackend.get_backend("asyncio")
        name = dns.name.from_text(question.name)  # absolute: no search list
        try:
            answer = await resolver.resolve(
                name,
                str(question.type),
                raise_on_no_answer=False,
                lifetime=self._lifetime_s,
                search=False,
                backend=backend,
            )
        except dns.resolver.NXDOMAIN as absent:
            response: dns.message.QueryMessage = absent.response(name)  # type: ignore[no-untyped-call]
            return response
        return answer.response


def _answer(question: Question, response: dns.message.QueryMessage) -> Answer:
    chain = response.resolve_chaining()
    if chain.answer is None and not chain.cnames and response.answer:
        raise ValueError("the answer is about another name")
    wanted = dns.rdatatype.from_text(str(question.type))
    records = [record for record in chain.answer or () if record.rdtype == wanted]
    return Answer(records=tuple(map(_record, records)), ttl_s=chain.minimum_ttl)


def _record(record: object) -> Naptr | Srv | str:
    if isinstance(record, NAPTR):
        return Naptr(
            order=record.order,
            preference=record.preference,
            flags=record.flags.decode("ascii", "replace"),
            service=record.service.decode("ascii", "replace"),
            replacement=_name(record.replacement),
        )
    if isinstance(record, SRV):
        return Srv(
            priority=record.priority, weight=record.weight, port=record.port, target=_name(record.target)
        )
    return str(record)


def _name(name: dns.name.Name) -> str:
    """In lower case, without the dot at its end; empty: the root."""
    return name.to_text(omit_final_dot=True).lower() if name != dns.name.root else ""
