"""The resolver against a real dnsmasq, and against answers that no honest server gives."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path

import dns.message
import dns.rcode
import pytest

from sidecar.adapters.resolver import FAULT_CHARS_MAX, DnsResolver
from sidecar.core.servers import Answer, Naptr, Question, RecordType, Srv
from sidecar.ports import NoAnswerError
from tests.rig.addresses import own_network
from tests.rig.dns import Script, answer, dnsmasq, scripted_dns

A, AAAA, SRV, NAPTR = RecordType.A, RecordType.AAAA, RecordType.SRV, RecordType.NAPTR
GW = Question("gw.test", A)


def resolver(*servers: tuple[str, int], timeout_s: float = 2, lifetime_s: float = 5) -> DnsResolver:
    return DnsResolver(servers, timeout_s=timeout_s, lifetime_s=lifetime_s)


async def test_records_of_each_type_come_with_the_ttl_that_they_have(tmp_path: Path) -> None:
    options = (
        "--srv-host=_sip._udp.gw.test,A.test,5070,10,60",
        "--naptr-record=gw.test,1,2,s,SIP+D2U,,_SIP._udp.gw.test",
        "--cname=alias.test,gw.test",
    )
    hosts = {"gw": ["10.1.0.1", "10.1.0.2", "fd00::1"]}
    async with dnsmasq(tmp_path, f"{own_network()}.1", *options, ttl_s=77, **hosts) as server:
        asked = resolver(server.address)
        found = await asked.ask(GW)
        assert (sorted(map(str, found.records)), found.ttl_s) == (["10.1.0.1", "10.1.0.2"], 77)
        assert await asked.ask(Question("gw.test", AAAA)) == Answer(records=("fd00::1",), ttl_s=77)
        assert (await asked.ask(Question("alias.test", AAAA))).records == ("fd00::1",)
        srv = Srv(priority=10, weight=60, port=5070, target="a.test")
        assert (await asked.ask(Question("_sip._udp.gw.test", SRV))).records == (srv,)
        naptr = Naptr(order=1, preference=2, flags="s", service="SIP+D2U", replacement="_sip._udp.gw.test")
        assert (await asked.ask(Question("gw.test", NAPTR))).records == (naptr,)
        for absent in (Question("nobody.test", A), Question("gw.test", SRV)):
            assert (await asked.ask(absent)).records == ()


async def faults(script: Script, question: Question = GW) -> str:
    async with scripted_dns(f"{own_network()}.1", script) as server:
        with pytest.raises(NoAnswerError) as refused:
            await resolver(server.address, timeout_s=0.3, lifetime_s=1).ask(question)
    assert len(str(refused.value)) <= FAULT_CHARS_MAX
    assert str(refused.value).isprintable()
    return str(refused.value)


async def found(script: Script, question: Question = GW) -> Answer:
    async with scripted_dns(f"{own_network()}.1", script) as server:
        return await resolver(server.address).ask(question)


LOOP = ("gw.test. 60 IN CNAME a.test.", "a.test. 60 IN CNAME gw.test.")
CHAIN = [f"{'gw' if not n else f'c{n}'}.test. 60 IN CNAME c{n + 1}.test." for n in range(40)]


@pytest.mark.parametrize(
    "lines",
    [
        LOOP,
        [*CHAIN, "c40.test. 60 IN A 10.1.0.1"],
        ["gw.test. 60 IN CNAME gw.test."],
        ["other.test. 60 IN A 10.1.0.1"],
        ["other.test. 60 IN A 10.1.0.1", "gw.test.other.test. 60 IN A 10.1.0.1"],
    ],
    ids=["a loop", "a chain without end", "itself", "another name", "other names"],
)
async def test_an_answer_that_leads_nowhere_is_none(lines: Sequence[str]) -> None:
    await faults(lambda query: answer(query, *lines))


def _garbled(query: dns.message.Message) -> bytes:
    return answer(query, "gw.test. 60 IN A 10.1.0.1")[:-2]


def _of_another_id(query: dns.message.Message) -> bytes:
    whole = answer(query, "gw.test. 60 IN A 10.1.0.1")
    return bytes([whole[0] ^ 1]) + whole[1:]


def _to_another_question(query: dns.message.Message) -> bytes:
    other = dns.message.make_query("other.test.", "A", id=query.id)
    return answer(other, "other.test. 60 IN A 10.1.0.1")


def _refused(query: dns.message.Message) -> bytes:
    return answer(query, rcode=dns.rcode.REFUSED)


def _servfail(query: dns.message.Message) -> bytes:
    return answer(query, rcode=dns.rcode.SERVFAIL)


@pytest.mark.parametrize(
    "script",
    [_garbled, _of_another_id, _to_another_question, _refused, _servfail, lambda _: None, lambda _: b""],
    ids=["garbled", "another id", "another question", "refused", "servfail", "silent", "empty"],
)
async def test_what_is_no_answer_to_this_question_is_none(script: Script) -> None:
    await faults(script)


async def test_a_ttl_of_0_and_the_least_ttl_of_a_chain_are_told_as_they_are() -> None:
    assert (await found(lambda query: answer(query, "gw.test. 0 IN A 10.1.0.1"))).ttl_s == 0
    lines = ("gw.test. 600 IN CNAME a.test.", "a.test. 7 IN CNAME b.test.", "b.test. 60 IN A 10.1.0.1")
    assert await found(lambda query: answer(query, *lines)) == Answer(records=("10.1.0.1",), ttl_s=7)


async def test_that_there_is_no_such_name_is_an_answer_with_the_ttl_of_its_soa() -> None:
    soa = "test. 900 IN SOA ns.test. admin.test. 1 2 3 4 30"
    for rcode in (dns.rcode.NXDOMAIN, dns.rcode.NOERROR):
        said = await found(lambda query, rcode=rcode: answer(query, rcode=rcode, authority=soa))  # type: ignore[misc]
        assert said == Answer(records=(), ttl_s=30)


async def test_a_thousand_records_come_by_tcp() -> None:
    lines = [f"gw.test. 60 IN A 10.1.{n // 250}.{n % 250 + 1}" for n in range(1000)]
    assert len((await found(lambda query: answer(query, *lines))).records) == 1000


async def test_a_resolver_that_is_silent_is_followed_by_the_next_one(tmp_path: Path) -> None:
    network = own_network()
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind((f"{network}.2", 0))
        async with dnsmasq(tmp_path, f"{network}.1", gw=["10.1.0.1"]) as server:
            asked = resolver(silent.getsockname(), server.address, timeout_s=0.2, lifetime_s=30)
            assert (await asked.ask(GW)).records == ("10.1.0.1",)
            assert silent.recv(512)


async def test_many_questions_at_once_find_a_dead_resolver_in_one_lifetime() -> None:
    [dead] = [(f"{own_network()}.1", 9)]
    asked = resolver(dead, timeout_s=0.2, lifetime_s=1)
    questions = [asked.ask(Question(f"gw{n}.test", A)) for n in range(20)]
    async with asyncio.timeout(30):
        said = await asyncio.gather(*questions, return_exceptions=True)
    assert {type(one) for one in said} == {NoAnswerError}
