"""Hostile and odd input, through the whole node."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from sidecar.wire.cdr_codec import decode
from tests.b2bua.scripted_ua import Message, sip
from tests.faults.conftest import MakeNode
from tests.faults.node import phones
from tests.faults.phone import Phone, Plan, by_number
from tests.rig.listener import check_sequences, listening
from tests.rig.node import WITHIN_S, until

BYE = Plan(caller_bye_s=0.05)


async def test_one_call_id_of_several_callers_is_several_calls(make_node: MakeNode) -> None:
    node = make_node()
    async with phones(node) as (first, _), node.up() as child, AsyncExitStack() as stack:
        listener = await stack.enter_async_context(listening(*child.broker))
        callers = [first]
        callers += [
            await stack.enter_async_context(await Phone.listen(f"{node.network}.2")) for _ in range(4)
        ]
        for number, caller in enumerate(callers):
            caller.peer = child.sip
            caller.dial(f"1{number:03}", BYE, call_id="the-same@everywhere", tag=f"t{number}")
        for caller in callers:
            await caller.all_ended(30)
        await listener.until(lambda: len(listener.records) == len(callers))
    assert {one["leg_a"]["sip_call_id"] for one in listener.records} == {"the-same@everywhere"}
    assert len({one["call_id"] for one in listener.records}) == len(callers)
    assert len({one["leg_b"]["sip_call_id"] for one in listener.records}) == len(callers)
    assert {one["callee"]["received"] for one in listener.records} == {
        f"1{n:03}" for n in range(len(callers))
    }
    node.check_books()


@pytest.mark.parametrize("last", [4, 9], ids=["of another peer group", "unlisted"])
async def test_forged_requests_with_the_right_tags_end_nothing(make_node: MakeNode, last: int) -> None:
    node = make_node()
    plans = {"1001": Plan(answer_s=None)}
    async with (
        phones(node, by_number(plans)) as (caller, callee),
        node.up() as child,
        AsyncExitStack() as stack,
    ):
        listener = await stack.enter_async_context(listening(*child.broker))
        forger = await stack.enter_async_context(await Phone.listen(f"{node.network}.{last}"))
        caller.peer = callee.peer = forger.peer = child.sip
        talking = caller.dial("1000", Plan(caller_bye_s=3.0))
        ringing = caller.dial("1001", Plan(cancel_s=3.2))
        await node.live("1000", answered=True)
        await until(lambda: 180 in ringing.codes)
        for phone, side in ((caller, talking), (callee, next(iter(callee.sides.values())))):
            for method in ("BYE", "INVITE", "UPDATE", "INFO"):
                forger.send(phone._in_dialog(side, method, 100))
        invite = ringing.invite
        assert invite is not None
        same = [f"{name}: {invite[name]}" for name in ("Via", "From", "To", "Call-ID", "Max-Forwards")]
        forger.send(sip(f"CANCEL {invite.uri} SIP/2.0", *same, f"CSeq: {invite.cseq} CANCEL"))
        await caller.all_ended(30)
        talked, cancelled = await listener.of([talking.call_id, ringing.call_id])
        dropped = await node.metric("sidecar_bridge_total", '"dropped_foreign"')
    assert dropped >= 8
    assert (talked["hangup_origin"], talked["detail"]) == ("caller", "bye")
    assert talked["talk_ms"] >= 2900
    assert (cancelled["hangup_origin"], cancelled["detail"]) == ("caller", "cancel")
    assert cancelled["ended_at"] > talked["answered_at"]
    assert (cancelled["ended_at"] - cancelled["invited_at"]).total_seconds() > 3.1
    assert {side.bye_code for side in caller.sides.values()} == {200, 0}
    node.check_books()


@pytest.mark.parametrize("code", [180, 200, 486])
@pytest.mark.parametrize("last", [4, 9], ids=["of another peer group", "unlisted"])
async def test_forged_answers_with_the_right_branch_change_nothing(
    make_node: MakeNode, last: int, code: int
) -> None:
    node = make_node()
    silent = Plan(ring_s=None, answer_s=None)
    async with phones(node, by_number({"1000": silent})) as (caller, callee), node.up() as child:
        caller.peer = callee.peer = child.sip
        async with (
            await Phone.listen(f"{node.network}.{last}") as forger,
            listening(*child.broker) as listener,
        ):
            forger.peer = child.sip
            side = caller.dial("1000", Plan(cancel_s=0.6))
            await until(lambda: callee.sides)
            forger.send(_response(next(iter(callee.sides.values())).invite, code))
            await side.ended.wait()
            (record,) = await listener.of([side.call_id])
            dropped = await node.metric("sidecar_bridge_total", '"dropped_foreign"')
    assert (record["detail"], side.codes) == ("cancel", [100, 487])
    assert dropped >= 1


def _response(invite: Message | None, code: int) -> bytes:
    """As if it came from the callee."""
    assert invite is not None
    kept = [f"{k}: {v}" for k, v in invite.headers if k in ("Via", "From", "Call-ID", "CSeq")]
    return sip(
        f"SIP/2.0 {code} Forged", *kept, f"To: {invite['To']};tag=forged", "Contact: <sip:x@127.0.0.9:9>"
    )


async def test_unlisted_sources_hear_nothing_and_reach_nobody(make_node: MakeNode) -> None:
    node = make_node()
    async with phones(node) as (caller, callee), node.up() as child, AsyncExitStack() as stack:
        listener = await stack.enter_async_context(listening(*child.broker))
        stranger = await stack.enter_async_context(await Phone.listen(f"{node.network}.9"))
        caller.peer = stranger.peer = child.sip
        for number in range(30):
            stranger.dial(f"1{number:03}", BYE)
        for method in ("OPTIONS", "REGISTER", "BYE", "CANCEL", "NOTIFY", "ACK"):
            stranger.send(_request(stranger, method))
        # A call of somebody who is listed, after all of these: what came before it has been dealt with.
        side = await caller.place("1999", BYE)
        await listener.of([side.call_id])
        assert await node.metric("sidecar_bridge_total", '"dropped_unlisted"') >= 36
    assert [side.codes for side in stranger.sides.values()] == [[]] * 30
    assert [side.number for side in callee.sides.values()] == ["1999"]
    assert len(listener.records) == 1


def _request(phone: Phone, method: str) -> bytes:
    return sip(
        f"{method} sip:1@{phone.peer[0]}:{phone.peer[1]} SIP/2.0",
        phone._via(phone._branch()),
        "Max-Forwards: 70",
        f"From: <sip:x@{phone.host}>;tag=x",
        f"To: <sip:1@{phone.peer[0]}>",
        f"Call-ID: {method}-stray",
        f"CSeq: 1 {method}",
    )


ODD_NAMES = {
    "escape": b"\x1b[31mred\x1b[0m",
    "json": b'\\"}\\n{\\"event\\":\\"forged\\"',
    "not-utf8": b"M\xfcller \xff\xfe\x80",
    "utf8": "Jürgen ☎ 電話".encode(),
    "folded": b'a\r\n {\\"event\\":\\"forged\\"}',
    "nul": b"a%00b",
}
ODD_USERS = {
    "escaped-crlf": "%0d%0aevent%22",
    "escaped-not-utf8": "%ff%fe49301234567",
    "escaped-escape": "%1b%5b31m",
    "json": "49%22%7d%7b%22event%22:1",
    "number": "+4915112345678",
}


ODD_CALL_IDS = ("a'b!%*_+`~()<>:\\\"/[]?{}@x", '{"event":1}@h', "a@" + "b" * 200)


async def test_odd_bytes_reach_the_record_and_forge_no_log_line(make_node: MakeNode) -> None:
    node = make_node()
    async with phones(node) as (caller, _), node.up() as child, listening(*child.broker) as listener:
        caller.peer = child.sip
        sides = [
            caller.dial("1004915112345678", BYE, call_id=f"odd-{name}", display=display)
            for name, display in ODD_NAMES.items()
        ]
        sides += [
            caller.dial(f"1{user}", BYE, call_id=f"user-{name}", caller=user)
            for name, user in ODD_USERS.items()
        ]
        sides += [caller.dial("1000", BYE, call_id=call_id) for call_id in ODD_CALL_IDS]
        raw = caller.dial("1000", BYE, call_id="@RAW@").invite
        assert raw is not None
        caller.send(raw.raw.replace(b"@RAW@", b"raw-\xfc\xdf").replace(b"z9hG4bK-", b"z9hG4bK-raw-"))
        async with asyncio.timeout(30):
            for side in sides:
                await side.ended.wait()
        # A From that is folded within a quoted string is more than pjsip reads: 400, and no call.
        folded = next(side for side in sides if side.call_id == "odd-folded")
        assert folded.final == 400
        records = await listener.of([side.call_id for side in sides if side is not folded])
        # Through every door: the command line, too, reads what stands there.
        found = await child.command("cdr", "search", "--limit", "1000")
        assert len(found["records"]) == len(listener.records)
        assert await node.metric("sidecar_bridge_total", '"exceptions"') == 0
        assert await node.metric("sidecar_promises_broken_total") == 0
    talked = {one["leg_a"]["sip_call_id"] for one in records if one["disposition"] == "answered"}
    assert talked >= {f"odd-{name}" for name in ODD_NAMES} - {"odd-folded"}
    assert talked >= set(ODD_CALL_IDS)
    for path in node.folder.glob("daemon-*.log"):
        for line in path.read_bytes().splitlines():
            assert line.isascii(), line
            assert not re.search(rb"[\x00-\x1f]", line), line
            assert isinstance(json.loads(line), dict), line
            assert b"15112345678" not in line, line
            assert json.loads(line)["event"] != "forged"
    check_sequences(listener.records)
    node.check_books()


async def _challenged(make_node: MakeNode, code: int, second: dict[str, Any]) -> Any:
    """A caller that is challenged by the callee, and an INVITE after it that differs by `second`."""
    node = make_node(timers="auth_retry_s = 2\nmax_duration_s = 5")
    seen: list[Message] = []

    def script(invite: Message) -> Plan:
        seen.append(invite)
        return Plan(reject=code) if len(seen) == 1 else Plan()

    async with phones(node, script) as (caller, _), node.up() as child, listening(*child.broker) as listener:
        caller.peer = child.sip
        first = await caller.place("1000", BYE, call_id="challenged", tag="t")
        assert first.final == code
        how = {"call_id": "challenged", "tag": "t", "cseq": 2, "number": "1000", **second}
        again = await caller.place(how.pop("number"), BYE, "Proxy-Authorization: Digest x", **how)
        count = 1 if not second else 2
        await listener.until(lambda: len(listener.records) >= count)
        await node.empty()
    node.check_books()
    check_sequences(listener.records)
    return again, sorted(listener.records, key=lambda one: one["invited_at"])


@pytest.mark.parametrize("code", [401, 407, 422])
async def test_a_challenged_caller_who_comes_back_continues_the_same_call(
    make_node: MakeNode, code: int
) -> None:
    again, (record,) = await _challenged(make_node, code, {})
    assert again.final == 200
    assert [one["sip_code"] for one in record["attempts"]] == [code, 200]
    assert (record["hangup_origin"], record["detail"], record["revision"]) == ("caller", "bye", 0)


@pytest.mark.parametrize("second", [{"number": "1001"}, {"tag": "u"}, {"call_id": "other"}], ids=str)
async def test_another_invite_after_a_challenge_is_another_call(
    make_node: MakeNode, second: dict[str, str]
) -> None:
    again, records = await _challenged(make_node, 407, second)
    assert again.final == 200
    challenged, talked = records
    assert (challenged["detail"], challenged["sip_code"]) == ("rejected", 407)
    assert (talked["detail"], talked["disposition"]) == ("bye", "answered")


async def test_what_a_caller_says_of_itself_bills_nobody_else(make_node: MakeNode) -> None:
    """A peer whose word is not taken claims to be another account by every header that names somebody."""
    node = make_node()
    prepaid = f"<sip:prepaid@{node.host}>"
    claims = [
        *(f"{name}: {prepaid}" for name in ("P-Asserted-Identity", "P-Preferred-Identity", "Diversion")),
        f"Remote-Party-ID: {prepaid};party=calling;screen=yes",
        f"History-Info: {prepaid};index=1",
    ]
    async with (
        await Phone.listen(f"{node.network}.4") as liar,
        phones(node),
        node.up() as child,
        listening(*child.broker) as listener,
    ):
        liar.peer = child.sip
        await child.command("account", "topup", "prepaid", "1")
        sides = [
            await liar.place(f"100{number}", BYE, *claims, account=account, caller="prepaid")
            for number, account in enumerate(("prepaid", "other", ""))
        ]
        records = await listener.of([side.call_id for side in sides])
    assert [side.final for side in sides] == [200] * 3
    assert {one["account"] for one in records} == {"demo"}  # whose the called prefix is
    assert node.ask("SELECT DISTINCT account, kind FROM ledger ORDER BY account") == [
        ("demo", "charge"),
        ("prepaid", "top_up"),
    ]


IDLE = 1_000
IDLE_AT_CONTROL = 30  # that is for the node's own users, and has 32 places


async def test_a_thousand_idle_connections_to_each_port_keep_nobody_out(make_node: MakeNode) -> None:
    node = make_node()
    more = {"SIDECAR_SIP__LISTEN_TCP": f"{node.host}:{node.port}"}
    async with phones(node) as (caller, _), node.up(**more) as child, AsyncExitStack() as stack:
        listener = await stack.enter_async_context(listening(*child.broker))
        caller.peer = child.sip
        before = _descriptors(child.pid)
        metrics = urlsplit(child.metrics)
        for place in ((node.host, node.port), (metrics.hostname, metrics.port), child.broker[:2]):
            for _ in range(IDLE):
                stack.enter_context(socket.create_connection(place, timeout=WITHIN_S))
        for _ in range(IDLE_AT_CONTROL):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(node.data / "control.sock"))
        peer = socket.create_connection((node.host, node.port), WITHIN_S, (caller.host, 0))
        stack.enter_context(peer).sendall(_request(caller, "OPTIONS").replace(b"/UDP", b"/TCP"))
        assert (await asyncio.to_thread(peer.recv, 100)).startswith(b"SIP/2.0 200 ")
        side = await caller.place("1000", BYE)
        assert len(await listener.of([side.call_id])) == 1
        assert (await child.command("node", "status"))["state"] == "accepting"
        await until(lambda: _descriptors(child.pid) < before + 200)  # 64 of strangers, 32 and 32 places


def _descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


async def test_a_flood_of_refusals_is_a_few_records_and_one_sum(make_node: MakeNode) -> None:
    node = make_node(sip='blocked_numbers = ["19*"]')
    async with phones(node) as (caller, _):
        async with node.up() as child, listening(*child.broker) as listener:
            caller.peer = child.sip
            began_s = time.monotonic()
            sides = [caller.dial(f"19{number:04}", BYE) for number in range(300)]
            await caller.all_ended(30)
            took_s = time.monotonic() - began_s
            assert {side.final for side in sides} == {403}
            for side in sides[:50]:  # an INVITE that is repeated is no new refusal
                assert side.invite is not None
                caller.send(side.invite.raw)
            other = await caller.place("1000", BYE)
            await listener.of([other.call_id])
            blocked = [one for one in listener.records if one["detail"] == "number_blocked"]
            assert 10 <= len(blocked) <= 10 * (took_s + 2), len(blocked)  # ten in each second begun
            assert {one["disposition"] for one in blocked} == {"refused"}
            check_sequences(listener.records)
        # The minute that was going on when the node ended is told, too.
        async with node.up() as child:
            found = await child.command("cdr", "search", "--detail", "number_blocked", "--limit", "1000")
    sums = [one for one in found["records"] if one["disposition"] == "refused_aggregate"]
    assert [one["refused_count"] for one in sums] == [300 - len(blocked)]
    assert sums[0]["first_refused_at"] < sums[0]["last_refused_at"]
    assert len(found["records"]) == len(blocked) + 1
    node.check_books()


async def test_the_counts_of_a_flood_outlast_a_kill(make_node: MakeNode) -> None:
    """And a kill while they are recorded."""
    node = make_node(sip='blocked_numbers = ["19*"]')
    async with phones(node) as (caller, _):
        async with node.up() as child:
            caller.peer = child.sip
            for number in range(300):
                caller.dial(f"19{number:04}", BYE)
            await caller.all_ended(30)

            def kept() -> int:
                count = 0
                for (body,) in node.ask("SELECT body FROM refusals"):
                    count += decode(body).refused_count or 0
                return count + int(node.ask("SELECT count(*) FROM cdrs")[0][0])

            await until(lambda: kept() == 300)
            node.kill()
        for after_s in (0.4, 0.8, 1.2):
            await node.killed_while_it_starts(after_s)
        async with node.up() as child:
            found = await child.command("cdr", "search", "--detail", "number_blocked", "--limit", "1000")
    assert sum(one["refused_count"] or 1 for one in found["records"]) == 300
    assert len([one for one in found["records"] if one["disposition"] == "refused_aggregate"]) == 1
    assert node.ask("SELECT count(*) FROM refusals") == [(0,)]
    node.check_books()


async def test_a_flood_of_a_stranger_costs_no_call_of_a_peer(make_node: MakeNode) -> None:
    node = make_node()
    async with phones(node) as (caller, callee), node.up() as child, listening(*child.broker) as listener:
        caller.peer = child.sip
        async with await Phone.listen(f"{node.network}.9") as stranger:
            stranger.peer = child.sip
            datagram = _request(stranger, "INVITE").replace(b"INVITE-stray", b"@@@@@@")
            sides = []
            for number in range(6000):
                stranger.send(datagram.replace(b"@@@@@@", f"{number:06}".encode()))
                if number % 60 == 0:
                    sides.append(caller.dial(f"1{number:04}", BYE))
                    await asyncio.sleep(0.005)
            for side in sides:
                await side.ended.wait()
            await listener.of([side.call_id for side in sides])
    assert {side.final for side in sides} == {200}
    assert len(callee.sides) == len(sides)
    assert len(listener.records) == len(sides)
    node.check_books()


async def test_a_peer_is_heard_as_often_as_its_group_may_speak(make_node: MakeNode) -> None:
    node = make_node(callers="requests_per_s = 5")
    async with phones(node) as (caller, _), node.up() as child:
        caller.peer = child.sip
        for number in range(60):
            caller.send(_request(caller, "OPTIONS").replace(b"stray", b"%d" % number))
        async with asyncio.timeout(20):
            dropped = answered = 0.0
            while dropped + answered < 60:
                dropped = await node.metric("sidecar_bridge_total", '"dropped_over_rate"')
                answered = await node.metric("sidecar_bridge_total", '"options_answered"')
    assert 5 <= answered <= 40
