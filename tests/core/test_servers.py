"""RFC 3263 and RFC 2782 without a network: which questions are asked, what is made of any answers, in which
order a call tries the servers, and how long what was said is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import sqrt
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.servers import (
    ADDRESSES_MAX,
    NAPTR_MAX,
    RETRY_S,
    RETRY_S_MAX,
    SERVERS_MAX,
    SRV_MAX,
    TTL_S_MAX,
    TTL_S_MIN,
    Answer,
    Answers,
    Lookup,
    NameState,
    Naming,
    Naptr,
    Question,
    Reach,
    RecordType,
    Server,
    Srv,
    answered,
    asked,
    begin,
    default_port,
    draw_of,
    in_order,
    is_due,
    last_good,
    locate,
)
from sidecar.core.terms import TransportName

UDP, TCP, TLS = TransportName.UDP, TransportName.TCP, TransportName.TLS
NAPTR, SRV, A, AAAA = RecordType.NAPTR, RecordType.SRV, RecordType.A, RecordType.AAAA
GW = Lookup(name="gw.test")
EVERYWHERE = Reach.of([(UDP, ("10.0.0.1", 5060)), (TCP, ("10.0.0.1", 5060)), (TLS, ("10.0.0.1", 5061))])
BY_UDP = Reach.of([(UDP, ("10.0.0.1", 5060))])
NS_PER_S = 1_000_000_000

Zone = Mapping[tuple[str, RecordType], Any]  # records; "silent": no answer


def naptr(service: str, replacement: str, order: int = 1, preference: int = 1, flags: str = "s") -> Naptr:
    return Naptr(order=order, preference=preference, flags=flags, service=service, replacement=replacement)


def srv(target: str, port: int = 5060, priority: int = 1, weight: int = 0) -> Srv:
    return Srv(priority=priority, weight=weight, port=port, target=target)


def located(
    lookup: Lookup, zone: Zone, reach: Reach = EVERYWHERE
) -> tuple[tuple[Server, ...] | None, list[Question]]:
    """What is found where DNS holds `zone`, and all that was asked."""
    asked_for: list[Question] = []
    locating = locate(lookup, reach)
    answers: Answers | None = None
    while True:
        try:
            questions = next(locating) if answers is None else locating.send(answers)
        except StopIteration as done:
            return done.value, asked_for
        asked_for += questions
        answers = {one: _answer(zone.get((one.name, one.type), ())) for one in questions}


def _answer(records: Any) -> Answer | None:
    return None if records == "silent" else Answer(records=tuple(records), ttl_s=60)


def found(lookup: Lookup, zone: Zone, reach: Reach = EVERYWHERE) -> list[str]:
    servers, _ = located(lookup, zone, reach)
    assert servers is not None
    return list(map(str, servers))


# --- which records are asked for ----------------------------------------------------------------------------


def test_an_explicit_port_asks_for_addresses_alone_and_means_udp() -> None:
    servers, questions = located(Lookup(name="gw.test", port=5070), {("gw.test", A): ["10.1.0.1"]})
    assert [str(one) for one in servers or ()] == ["udp:10.1.0.1:5070"]
    assert questions == [Question("gw.test", A)]


@pytest.mark.parametrize(
    ("transport", "name", "port"),
    [(UDP, "_sip._udp.gw.test", 5060), (TCP, "_sip._tcp.gw.test", 5060), (TLS, "_sips._tcp.gw.test", 5061)],
)
def test_an_explicit_transport_asks_no_naptr_and_has_the_default_port_without_srv(
    transport: TransportName, name: str, port: int
) -> None:
    lookup = Lookup(name="gw.test", transport=transport)
    servers, questions = located(lookup, {("gw.test", A): ["10.1.0.1"]})
    assert [str(one) for one in servers or ()] == [f"{transport}:10.1.0.1:{port}"]
    assert questions == [Question(name, SRV), Question("gw.test", A)]
    zone = {(name, SRV): [srv("a.test", 5099)], ("a.test", A): ["10.1.0.2"]}
    assert found(lookup, zone) == [f"{transport}:10.1.0.2:5099"]
    assert default_port(transport) == port


def test_naptr_chooses_the_preferred_service_that_we_can_use() -> None:
    zone: Zone = {
        ("gw.test", NAPTR): [
            naptr("SIP+D2U", "_sip._udp.gw.test", order=2),
            naptr("SIP+D2T", "_sip._tcp.other.test", order=1, preference=2),
            naptr("SIPS+D2T", "_sips._tcp.gw.test", order=1, preference=1),
            naptr("SIP+D2S", "_sip._sctp.gw.test", order=0),
            naptr("E2U+sip", "_e2u.gw.test", order=0, flags="u"),
        ],
        ("_sips._tcp.gw.test", SRV): [srv("secure.test", 5061)],
        ("_sip._tcp.other.test", SRV): [srv("a.other.test", 5070)],
        ("_sip._udp.gw.test", SRV): [srv("a.test", 5080)],
        **{(name, A): ["10.1.0.1"] for name in ("secure.test", "a.other.test", "a.test")},
    }
    assert found(GW, zone) == ["tls:10.1.0.1:5061"]
    streams = Reach.of([(TCP, ("10.0.0.1", 5060)), (UDP, ("10.0.0.1", 5060))])
    assert found(GW, zone, streams) == ["tcp:10.1.0.1:5070"]
    assert found(GW, zone, BY_UDP) == ["udp:10.1.0.1:5080"]
    # The next service where one has no servers.
    assert found(GW, {**zone, ("_sip._tcp.other.test", SRV): []}, streams) == ["udp:10.1.0.1:5080"]


def test_a_domain_that_names_only_what_we_cannot_use_is_not_called_otherwise() -> None:
    """To go on with its address by UDP would be what whoever is on the way wants."""
    zone: Zone = {
        ("gw.test", NAPTR): [naptr("SIPS+D2T", "_sips._tcp.gw.test")],
        ("_sip._udp.gw.test", SRV): [srv("gw.test")],
        ("gw.test", A): ["10.1.0.1"],
    }
    assert found(GW, zone, BY_UDP) == []
    assert found(GW, zone) == []  # it names no server of it


@pytest.mark.parametrize("flags", ["", "a", "u", "p", "ss"])
def test_a_naptr_record_that_leads_to_other_records_is_not_followed(flags: str) -> None:
    loop = naptr("SIP+D2U", "gw.test", flags=flags)
    servers, questions = located(GW, {("gw.test", NAPTR): [loop]})
    assert (servers, questions) == ((), [Question("gw.test", NAPTR)])


def test_without_naptr_the_transports_that_we_listen_on_are_looked_for_in_turn() -> None:
    zone: Zone = {("_sip._tcp.gw.test", SRV): [srv("a.test", 5070)], ("a.test", A): ["10.1.0.1"]}
    assert found(GW, zone) == ["tcp:10.1.0.1:5070"]
    assert found(GW, zone, BY_UDP) == []
    assert found(GW, {**zone, ("gw.test", A): ["10.1.0.9"]}, BY_UDP) == ["udp:10.1.0.9:5060"]


def test_a_service_that_is_decidedly_not_there_has_no_address_either() -> None:
    """RFC 2782: a target of the root."""
    zone: Zone = {("_sip._udp.gw.test", SRV): [srv("")], ("gw.test", A): ["10.1.0.1"]}
    assert found(Lookup(name="gw.test", transport=UDP), zone) == []


def test_both_families_are_asked_for_where_we_listen_in_both_and_ipv6_is_first() -> None:
    both = Reach.of([(UDP, ("10.0.0.1", 5060)), (UDP, ("fd00::1", 5060)), (TCP, ("fd00::1", 5060))])
    zone: Zone = {("gw.test", A): ["10.1.0.1"], ("gw.test", AAAA): ["FD00:0::9"]}
    lookup = Lookup(name="gw.test", port=5060)
    assert found(lookup, zone, both) == ["udp:[fd00::9]:5060", "udp:10.1.0.1:5060"]
    by_tcp = Lookup(name="gw.test", port=5060, transport=TCP)
    assert found(by_tcp, zone, both) == ["tcp:[fd00::9]:5060"]
    assert found(lookup, zone) == ["udp:10.1.0.1:5060"]


# --- what is made of them -----------------------------------------------------------------------------------


def test_a_name_does_not_lead_back_to_us_nor_to_where_no_packet_goes() -> None:
    nowhere = ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::ffff:10.1.0.1", "fd00::1", "10.1.0", ""]
    zone: Zone = {("gw.test", A): ["10.0.0.1", *nowhere, "10.1.0.1"]}
    assert found(Lookup(name="gw.test", port=5060), zone) == ["udp:10.1.0.1:5060"]
    assert found(Lookup(name="gw.test", port=5062), zone) == ["udp:10.0.0.1:5062", "udp:10.1.0.1:5062"]


def test_of_a_thousand_records_a_bounded_number_is_used_the_first_in_their_order() -> None:
    addresses = [f"10.1.{n // 250}.{n % 250 + 1}" for n in range(1000)]
    assert len(found(Lookup(name="gw.test", port=1), {("gw.test", A): addresses})) == ADDRESSES_MAX
    many = [srv(f"s{n}.test", priority=n) for n in range(1000)]
    zone: Zone = {
        ("_sip._udp.gw.test", SRV): many[::-1],
        **{(f"s{n}.test", A): [f"10.{n}.0.{m}" for m in range(1, 9)] for n in range(200)},
    }
    servers, questions = located(Lookup(name="gw.test", transport=UDP), zone)
    assert servers is not None
    assert len(servers) == SERVERS_MAX
    assert [one.name for one in questions[1:]] == [f"s{n}.test" for n in range(SRV_MAX)]
    services = [naptr("SIP+D2U", f"n{n}.test", order=n) for n in range(1000)]
    _, questions = located(GW, {("gw.test", NAPTR): services[::-1]})
    assert [one.name for one in questions[1:]] == [f"n{n}.test" for n in range(NAPTR_MAX)]


def test_records_that_say_nothing_usable_are_left_out() -> None:
    zone: Zone = {
        ("_sip._udp.gw.test", SRV): [srv("a.test", 0), srv("b.test"), srv("c.test"), "10.1.0.1"],
        ("a.test", A): ["10.1.0.1"],
        ("b.test", A): ["10.1.0.2"],
        ("c.test", A): "silent",
    }
    assert found(Lookup(name="gw.test", transport=UDP), zone) == ["udp:10.1.0.2:5060"]


@pytest.mark.parametrize(
    "silent", [("gw.test", NAPTR), ("_sip._udp.gw.test", SRV), ("a.test", A)], ids=lambda it: str(it[1])
)
def test_an_answer_that_does_not_come_is_not_taken_for_none(silent: tuple[str, RecordType]) -> None:
    zone: dict[tuple[str, RecordType], Any] = {
        ("_sip._udp.gw.test", SRV): [srv("a.test")],
        ("a.test", A): ["10.1.0.1"],
        ("gw.test", A): ["10.1.0.9"],
    }
    assert found(GW, zone) == ["udp:10.1.0.1:5060"]
    assert located(GW, zone | {silent: "silent"})[0] is None


NAMES = st.sampled_from(["gw.test", "a.test", "b.test", "_sip._udp.gw.test", "_sip._tcp.gw.test", ""])
RECORDS = st.one_of(
    st.builds(
        Naptr,
        order=st.integers(0, 2),
        preference=st.integers(0, 2),
        flags=st.sampled_from(["s", "S", "", "a"]),
        service=st.sampled_from(["SIP+D2U", "sip+d2t", "SIPS+D2T", "SIP+D2X", "E2U+sip"]),
        replacement=NAMES,
    ),
    st.builds(
        Srv, priority=st.integers(0, 2), weight=st.integers(0, 3), port=st.integers(0, 65_535), target=NAMES
    ),
    st.sampled_from(["10.1.0.1", "10.1.0.2", "fd00::1", "10.0.0.1", "junk"]),
)
ZONES = st.dictionaries(
    st.tuples(NAMES, st.sampled_from(list(RecordType))),
    st.one_of(st.just("silent"), st.lists(RECORDS, max_size=40)),
)
LOOKUPS = st.builds(
    Lookup,
    name=st.just("gw.test"),
    port=st.none() | st.integers(1, 65_535),
    transport=st.none() | st.sampled_from(list(TransportName)),
)


@settings(max_examples=300)
@given(lookup=LOOKUPS, zone=ZONES)
def test_whatever_dns_says_the_questions_end_and_the_servers_can_be_called(
    lookup: Lookup, zone: Zone
) -> None:
    servers, questions = located(lookup, zone)
    assert len(questions) <= 1 + NAPTR_MAX * (1 + 2 * SRV_MAX)
    assert (lookup.transport is None and lookup.port is None) or NAPTR not in {one.type for one in questions}
    assert lookup.port is None or {one.type for one in questions} <= {A, AAAA}
    for server in servers or ():
        assert (server.host, server.port) not in EVERYWHERE.own
        assert server.transport in EVERYWHERE.families
        assert lookup.port in (None, server.port)
        assert lookup.transport in (None, server.transport)
    assert len({server.at for server in servers or ()}) == len(servers or ()) <= SERVERS_MAX


# --- in which order -----------------------------------------------------------------------------------------


def server(host: str, priority: int = 1, weight: int = 0, target: str = "") -> Server:
    return Server(
        host=host, port=5060, transport=UDP, priority=priority, weight=weight, target=target or f"t{host}"
    )


def orders(*servers: Server, calls: int = 2_000) -> list[list[str]]:
    return [[one.host for one in in_order(servers, draw_of(UUID(int=n).bytes, "gw"))] for n in range(calls)]


def assert_share(count: int, calls: int, share: float) -> None:
    assert abs(count - calls * share) <= 6 * sqrt(calls * share * (1 - share)) + 1


def test_a_lower_priority_is_always_first_and_weights_are_shares_within_one() -> None:
    tried = orders(server("a", weight=60), server("b", weight=30), server("c", weight=10), server("z", 2, 9))
    assert all(one[3] == "z" for one in tried)
    first = Counter(one[0] for one in tried)
    for host, weight in (("a", 60), ("b", 30), ("c", 10)):
        assert_share(first[host], len(tried), weight / 100)
    after = Counter(one[1] for one in tried if one[0] == "a")
    assert_share(after["b"], first["a"], 30 / 40)


def test_a_weight_of_0_is_drawn_seldom_beside_others_and_evenly_among_themselves() -> None:
    tried = orders(server("a", weight=99), server("b"), server("c"))
    first = Counter(one[0] for one in tried)
    assert_share(first["b"] + first["c"], len(tried), 1 / 100)
    alone = Counter(one[0] for one in orders(server("a"), server("b"), server("c")))
    for host in "abc":
        assert_share(alone[host], 2_000, 1 / 3)


def test_the_addresses_of_one_target_share_its_weight_ipv6_first() -> None:
    both = [server(host, weight=50, target="t") for host in ("10.1.0.1", "10.1.0.2", "fd00::1", "fd00::2")]
    other = server("10.1.0.9", weight=50)
    tried = orders(*both, other)
    first = Counter(one[0] for one in tried)
    assert_share(first["10.1.0.9"], len(tried), 1 / 2)
    assert first["10.1.0.1"] == first["10.1.0.2"] == 0
    assert_share(first["fd00::1"], len(tried) - first["10.1.0.9"], 1 / 2)
    for one in tried:
        rest = [host for host in one if host != "10.1.0.9"]
        assert [":" in host for host in rest] == [True, True, False, False]
        assert one[0] == "10.1.0.9" or one[4] == "10.1.0.9"


SERVERS = st.lists(
    st.builds(server, st.sampled_from("abcdefgh"), st.integers(0, 2), st.sampled_from([0, 0, 1, 5, 65_535])),
    unique_by=lambda one: one.at,
)


@given(servers=SERVERS, call_id=st.uuids(), shuffled=st.randoms())
def test_each_server_is_tried_once_by_priority_and_in_the_order_of_the_call(
    servers: list[Server], call_id: UUID, shuffled: Any
) -> None:
    chance = draw_of(call_id.bytes, "gw")
    tried = list(in_order(servers, chance))
    assert sorted(tried, key=str) == sorted(servers, key=str)
    assert [one.priority for one in tried] == sorted(one.priority for one in servers)
    shuffled.shuffle(servers)
    assert list(in_order(servers, chance)) == tried  # answers come in any order


# --- what is kept -------------------------------------------------------------------------------------------

ONE, OTHER = Question("gw.test", A), Question("gw.test", SRV)
SERVER = (server("10.1.0.1"),)


def after(naming: Naming, heard: Answers, found: Any = SERVER, chance: float = 0.0) -> Naming:
    return answered(asked(naming), heard, found, 0, chance)


@pytest.mark.parametrize(
    ("ttl_s", "kept_s"), [(0, TTL_S_MIN), (60, 60), (3_600, 3_600), (2**31 - 1, TTL_S_MAX)]
)
def test_an_answer_is_renewed_before_its_ttl_is_over_within_bounds(ttl_s: int, kept_s: int) -> None:
    heard = {ONE: Answer(records=("10.1.0.1",), ttl_s=ttl_s), OTHER: Answer(ttl_s=2**31 - 1)}
    naming = after(begin(0), heard)
    assert (naming.state, naming.servers, naming.asking) == (NameState.RESOLVED, SERVER, False)
    assert naming.due_ns == kept_s * 0.8 * NS_PER_S
    late = after(begin(0), heard, chance=0.999)
    assert kept_s * 0.89 * NS_PER_S < late.due_ns < kept_s * NS_PER_S
    assert not is_due(naming, naming.due_ns - 1)
    assert is_due(naming, naming.due_ns)
    assert not is_due(asked(naming), naming.due_ns)


def test_the_last_good_answer_holds_while_the_resolver_is_silent_and_is_asked_for_again_later_each_time() -> (
    None
):
    good = Answer(records=("10.1.0.1",), ttl_s=60)
    naming = after(begin(0), {ONE: good})
    waits = []
    for _ in range(12):
        naming = after(naming, {ONE: None}, found=None)
        assert (naming.state, naming.servers, naming.kept) == (NameState.STALE, SERVER, {ONE: good})
        assert last_good(naming, {ONE: None, OTHER: None}) == {ONE: good, OTHER: None}
        waits.append(naming.due_ns / NS_PER_S)
    assert waits[:4] == [RETRY_S / 2, RETRY_S, RETRY_S * 2, RETRY_S * 4]
    assert waits[-1] == RETRY_S_MAX / 2
    again = after(naming, {ONE: good})
    assert (again.state, again.failures) == (NameState.RESOLVED, 0)


def test_a_name_that_is_not_there_any_more_is_not_called_any_more() -> None:
    """RFC 8767 §4: only silence keeps an old answer; that there is no such name is an answer."""
    naming = after(begin(0), {ONE: Answer(records=("10.1.0.1",), ttl_s=60)})
    gone = after(naming, {ONE: Answer(ttl_s=86_400)}, found=())
    assert (gone.state, gone.servers) == (NameState.ABSENT, ())
    assert gone.due_ns <= 60 * NS_PER_S
    silent = after(gone, {ONE: None}, found=None)
    assert (silent.state, silent.servers) == (NameState.UNRESOLVED, ())


def test_what_is_found_in_part_is_used_and_the_rest_asked_for_again_soon() -> None:
    heard = {ONE: Answer(records=("10.1.0.1",), ttl_s=600), OTHER: None}
    naming = after(begin(0), heard)
    assert (naming.servers, naming.failures, naming.state) == (SERVER, 1, NameState.STALE)
    assert naming.due_ns <= RETRY_S * NS_PER_S
    assert dict(naming.kept) == {ONE: heard[ONE]}


@given(rounds=st.lists(st.lists(st.tuples(NAMES, st.booleans()), max_size=5), max_size=20))
def test_what_is_kept_does_not_grow_with_the_rounds(rounds: list[list[tuple[str, bool]]]) -> None:
    naming = begin(0)
    for number, names in enumerate(rounds):
        heard = {Question(f"{number}.{name}", A): Answer(ttl_s=1) if came else None for name, came in names}
        naming = after(naming, heard, found=SERVER if number % 2 else None)
        assert len(naming.kept) <= 5
