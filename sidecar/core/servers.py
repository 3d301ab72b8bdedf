"""Where a gateway is whose host is a name: RFC 3263, Locating SIP Servers, and RFC 2782's draw among them.

`locate` is a conversation. It yields the questions that DNS is asked next, is sent their answers, and returns
the servers that it found:

    NAPTR    which service is preferred, and its SRV name; not where a port or a transport is given
    SRV      which servers, in which order, on which ports; not where a port is given
    A, AAAA  their addresses, in the families that we listen in

Each step leads to the next and none leads back, so that no answer makes it loop; and of each answer a bounded
number of records is used, however many there are. What DNS says is nobody's proof: a certificate has to bear
the gateway's own name, not one that an answer led to (RFC 5922 §7).

`Naming` is what is known of one name from one round of questions to the next. An answer is kept by its TTL,
within bounds; one that does not come leaves the last one in force.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from hashlib import blake2b
from ipaddress import IPv6Address, ip_address
from typing import Final

import msgspec
from msgspec.structs import replace

from sidecar.core.terms import TransportName

NAPTR_MAX: Final = 16  # records of one answer that are used: the first in their order
SRV_MAX: Final = 16
ADDRESSES_MAX: Final = 8  # of one server and family
SERVERS_MAX: Final = 32
TTL_S_MIN: Final = 2  # a TTL of 0 would have us ask without end
TTL_S_MAX: Final = 3_600  # and one of 68 years would keep a wrong answer for good
ABSENT_S_MAX: Final = 60  # how long a name that is not there is left alone
RETRY_S: Final = 1  # after an answer that did not come; twice as long each time
RETRY_S_MAX: Final = 30
_NS_PER_S: Final = 1_000_000_000


class RecordType(StrEnum):
    NAPTR = "NAPTR"
    SRV = "SRV"
    A = "A"
    AAAA = "AAAA"


class Question(msgspec.Struct, frozen=True):
    name: str
    type: RecordType


class Naptr(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 3403 §4.1."""

    order: int
    preference: int
    flags: str
    service: str
    replacement: str


class Srv(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 2782. An empty target (`.`): the service is not there."""

    priority: int
    weight: int
    port: int
    target: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Without records: there are none, and DNS says so."""

    records: tuple[Naptr | Srv | str, ...] = ()  # all of the type that was asked for; addresses as text
    ttl_s: int


Answers = Mapping[Question, Answer | None]
"""To each question; None: none came, or none that can be used."""


class Lookup(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings say of a gateway whose host is a name; None: DNS says it, or the standard does."""

    name: str
    port: int | None = None
    transport: TransportName | None = None


class Server(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One address of a gateway."""

    host: str  # a literal address, in canonical notation
    port: int
    transport: TransportName
    priority: int = 0
    weight: int = 0
    target: str = ""  # the name that the address is of: its addresses share its weight
    peer: str = ""  # the peer group that it is in

    @property
    def at(self) -> ServerAt:
        return self.host, self.port, self.transport

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport}:{host}:{self.port}"


ServerAt = tuple[str, int, TransportName]


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """What we can reach, as our listeners tell: the record types to ask for by transport, and our own
    addresses, which a name must not lead back to."""

    families: Mapping[TransportName, tuple[RecordType, ...]]
    own: frozenset[tuple[str, int]] = frozenset()

    @classmethod
    def of(cls, listeners: Iterable[tuple[TransportName, tuple[str, int]]]) -> Reach:
        """`listeners` as the settings have them: (transport, (address, port))."""
        known = list(listeners)
        families = {}
        for transport in TransportName:
            versions = {":" in host for wanted, (host, _) in known if wanted is transport}
            # RFC 7984 §4: IPv6 first where both are there, as RFC 6724 has it.
            order = ((True, RecordType.AAAA), (False, RecordType.A))
            if types := tuple(kind for is_v6, kind in order if is_v6 in versions):
                families[transport] = types
        return cls(families=families, own=frozenset(place for _, place in known))


Locating = Generator[tuple[Question, ...], Answers, tuple[Server, ...] | None]

# RFC 3263 §4.1 and §4.2. A service of SIPS over TCP is one of TLS.
_SERVICES: Final = {
    "sip+d2u": TransportName.UDP,
    "sip+d2t": TransportName.TCP,
    "sips+d2t": TransportName.TLS,
}
_SRV_PREFIX: Final = {
    TransportName.UDP: "_sip._udp",
    TransportName.TCP: "_sip._tcp",
    TransportName.TLS: "_sips._tcp",
}


def default_port(transport: TransportName) -> int:
    """RFC 3261 §19.1.2."""
    return 5061 if transport is TransportName.TLS else 5060


def locate(lookup: Lookup, reach: Reach) -> Locating:
    """The servers, none where DNS knows none that we can reach; None where an answer that is needed did not
    come. It is not taken for "none": who keeps answers back could choose our transport so."""
    plain = lookup.transport or (
        TransportName.UDP if TransportName.UDP in reach.families else next(iter(reach.families))
    )
    if lookup.port is not None:  # §4.2: no SRV then; §4.1: nor NAPTR
        return (yield from _addresses([_itself(lookup, lookup.port)], plain, reach))
    services: Sequence[tuple[TransportName, str]] | None = None
    if lookup.transport is None:
        question = Question(lookup.name, RecordType.NAPTR)
        naptr = (yield (question,))[question]
        if naptr is None:
            return None
        services = _services(naptr, reach)
    is_named = services is not None
    if services is None:
        transports = [lookup.transport] if lookup.transport is not None else list(reach.families)
        services = [(transport, f"{_SRV_PREFIX[transport]}.{lookup.name}") for transport in transports]
    is_absent = False
    for transport, name in services:
        question = Question(name, RecordType.SRV)
        srv = (yield (question,))[question]
        if srv is None:
            return None
        found = [record for record in srv.records if isinstance(record, Srv)]
        is_absent |= bool(found)
        if usable := _usable(found):
            servers = yield from _addresses(usable, transport, reach)
            if servers is None or servers:
                return servers
    if is_named or is_absent:
        return ()  # the domain has said where it is, and it is not there
    return (yield from _addresses([_itself(lookup, default_port(plain))], plain, reach))


def _itself(lookup: Lookup, port: int) -> Srv:
    return Srv(priority=0, weight=0, port=port, target=lookup.name)


def _services(answer: Answer, reach: Reach) -> list[tuple[TransportName, str]] | None:
    """Those of SIP that we can use, the preferred ones first; None where the domain names none of SIP."""
    of_sip = [
        record
        for record in answer.records
        if isinstance(record, Naptr) and record.service.lower().startswith(("sip+", "sips+"))
    ]
    if not of_sip:
        return None
    usable = [
        (record.order, record.preference, _SERVICES[service], record.replacement)
        for record in of_sip
        # Another flag than S leads to more NAPTR records or to a URI: RFC 3263 knows neither.
        if (service := record.service.lower()) in _SERVICES
        and record.flags.lower() == "s"
        and record.replacement
        and _SERVICES[service] in reach.families
    ]
    return [(transport, name) for _, _, transport, name in sorted(set(usable))[:NAPTR_MAX]]


def _usable(records: Iterable[Srv]) -> list[Srv]:
    distinct = {record for record in records if record.target and 0 < record.port < 65_536}
    return sorted(distinct, key=lambda one: (one.priority, -one.weight, one.target, one.port))[:SRV_MAX]


def _addresses(records: Sequence[Srv], transport: TransportName, reach: Reach) -> Locating:
    families = reach.families.get(transport, ())
    targets = dict.fromkeys(record.target for record in records)
    questions = tuple(Question(target, family) for target in targets for family in families)
    answers = (yield questions) if questions else {}
    servers = []
    for record in records:
        for family in families:
            answer = answers[Question(record.target, family)]
            servers += [
                Server(
                    host=host,
                    port=record.port,
                    transport=transport,
                    priority=record.priority,
                    weight=record.weight,
                    target=record.target,
                )
                for host in _literal(answer.records if answer is not None else (), family)
                if (host, record.port) not in reach.own
            ]
    distinct = {server.at: server for server in reversed(servers)}  # of one address its first entry
    if distinct:
        return tuple(reversed(distinct.values()))[:SERVERS_MAX]
    return None if any(answers[question] is None for question in questions) else ()


def _literal(records: Iterable[object], family: RecordType) -> list[str]:
    """Addresses that a packet can be sent to."""
    found = set()
    for record in records:
        try:
            address = ip_address(str(record))
        except ValueError:
            continue
        is_v6 = isinstance(address, IPv6Address)
        mapped = isinstance(address, IPv6Address) and address.ipv4_mapped is not None
        nowhere = address.is_unspecified or address.is_multicast or str(address) == "255.255.255.255"
        if is_v6 is (family is RecordType.AAAA) and not mapped and not nowhere:
            found.add(str(address))
    return sorted(found)[:ADDRESSES_MAX]


# --- which of them ------------------------------------------------------------------------------------------


def draw_of(who: bytes, gateway: str) -> int:
    """The chance that a call (by the bytes of its id) has at a gateway: it always tries the servers in the
    same order. Not the number that routing draws by: what was drawn there would bias what is drawn here."""
    return int.from_bytes(blake2b(who + gateway.encode()).digest())


def in_order(servers: Iterable[Server], chance: int) -> Iterator[Server]:
    """RFC 2782: by priority, and within one drawn by weight. The addresses of one target follow one another,
    IPv6 first, and each of a family is drawn as often."""
    by_priority: dict[int, dict[tuple[str, int], list[Server]]] = {}
    for server in servers:
        targets = by_priority.setdefault(server.priority, {})
        targets.setdefault((server.target, server.port), []).append(server)
    for _, targets in sorted(by_priority.items()):
        # Those of weight 0 first: the point 0 is theirs.
        left = [targets[key] for key in sorted(targets, key=lambda key: (targets[key][0].weight, key))]
        while left:
            zeros = sum(not one[0].weight for one in left)
            # From 0 only where one of weight 0 is there: else the first would be drawn too often.
            points = sum(one[0].weight for one in left) + bool(zeros)
            chance, point = divmod(chance, points)
            if zeros and not point:
                chance, place = divmod(chance, zeros)
            else:
                place = _at(left, point + (not zeros))
            addresses = sorted(left.pop(place), key=lambda server: (":" not in server.host, server.host))
            while addresses:
                family = sum((":" in one.host) is (":" in addresses[0].host) for one in addresses)
                chance, drawn = divmod(chance, family)
                yield addresses.pop(drawn)


def _at(left: Sequence[Sequence[Server]], point: int) -> int:
    """The first whose running sum reaches the point."""
    running = 0
    for place, one in enumerate(left):
        running += one[0].weight
        if running >= point:
            return place
    raise AssertionError("a point beyond the sum of the weights")


# --- what is kept -------------------------------------------------------------------------------------------


class NameState(StrEnum):
    UNRESOLVED = "unresolved"  # nothing has been heard of it yet
    RESOLVED = "resolved"
    STALE = "stale"  # what was heard last holds: the resolver is silent
    ABSENT = "absent"  # DNS says that there is no server that we can reach


class Naming(msgspec.Struct, frozen=True, kw_only=True):
    """One name. Times are of the monotonic clock; `chance` is a number from 0 to below 1."""

    state: NameState = NameState.UNRESOLVED
    servers: tuple[Server, ...] = ()
    kept: Mapping[Question, Answer] = {}  # of the last round
    due_ns: int  # when the next round begins
    asking: bool = False
    failures: int = 0  # rounds in a row that some answer did not come in


def begin(now_ns: int) -> Naming:
    return Naming(due_ns=now_ns)


def is_due(naming: Naming, now_ns: int) -> bool:
    return not naming.asking and naming.due_ns <= now_ns


def asked(naming: Naming) -> Naming:
    return replace(naming, asking=True)


def last_good(naming: Naming, heard: Answers) -> Answers:
    """What was heard, and in the place of what was not, what was heard the last time."""
    return {
        question: answer if answer is not None else naming.kept.get(question)
        for question, answer in heard.items()
    }


def answered(
    naming: Naming, heard: Answers, found: tuple[Server, ...] | None, now_ns: int, chance: float
) -> Naming:
    """A round is over: `heard` is all that was asked in it, `found` what `locate` made of that and of what
    was kept."""
    used = {question: answer for question, answer in last_good(naming, heard).items() if answer is not None}
    if found is None or not heard or None in heard.values():
        failures = naming.failures + 1
        longest_s = min(RETRY_S_MAX, RETRY_S * 2 ** min(failures - 1, 10))
        servers = naming.servers if found is None else found
        return Naming(
            state=NameState.STALE if servers else NameState.UNRESOLVED,
            servers=servers,
            kept=naming.kept if found is None else used,
            due_ns=now_ns + int(longest_s * (0.5 + 0.5 * chance) * _NS_PER_S),
            failures=failures,
        )
    ttl_s = min(answer.ttl_s for answer in used.values())
    held_s = max(TTL_S_MIN, min(ttl_s, TTL_S_MAX if found else ABSENT_S_MAX))
    return Naming(
        state=NameState.RESOLVED if found else NameState.ABSENT,
        servers=found,
        kept=used,
        due_ns=now_ns + int(held_s * (0.8 + 0.1 * chance) * _NS_PER_S),  # before it is over
    )
