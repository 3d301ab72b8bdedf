"""Messages with bytes changed by chance, from callers and from callees: the node lives, keeps no call, and
tells every one that it admitted."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from tests.b2bua.scripted_ua import Message
from tests.faults.conftest import MakeNode
from tests.faults.node import Node, phones
from tests.faults.phone import Phone, Plan, user_of
from tests.rig.listener import check_sequences, listening

MESSAGES = 800
PER_S = 400
LAST = "1999999"  # the call that shows that all is well
ODD = (
    b"\x00",
    b"\r",
    b"\n",
    b"\r\n",
    b"\x1b[2J",
    b"\xff",
    b"\xc3\x28",
    b'"',
    b"\\",
    b"%",
    b"%00",
    b"%zz",
    b";",
    b":",
)
MORE = (
    b"@",
    b"<",
    b">",
    b"{",
    b",",
    b"=",
    b"tag=",
    b"9" * 40,
    b"A" * 600,
    b" ",
    b"\t",
    "é".encode(),
    b"sip:",
    b"\r\n ",
)


def mutated(chance: random.Random, data: bytes) -> bytes:
    """A few edits, not in the first word: what is no SIP at all is of no interest."""
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(8, len(data))
        match chance.randrange(4):
            case 0:
                data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
            case 1:
                data = data[:at] + chance.choice(ODD + MORE) + data[at:]
            case 2:
                data = data[:at] + data[at + chance.randrange(1, 12) :]
            case _:
                start = chance.randrange(8, len(data))
                data = data[:at] + data[start : start + chance.randrange(1, 60)] + data[at:]
    return data


class Garbler(Phone):
    """Sends some of what it says garbled."""

    chance: random.Random
    share = 0.0

    def send(self, data: bytes, to: tuple[str, int] | None = None) -> None:
        super().send(mutated(self.chance, data) if self.chance.random() < self.share else data, to)


async def _still_right(node: Node, caller: Phone) -> None:
    side = await caller.place(LAST, Plan(caller_bye_s=0.05))
    assert side.final == 200
    # Calls whose INVITE has lost its way home end when their 486 is not acknowledged.
    await node.empty(within_s=40)
    assert await node.metric("sidecar_bridge_total", '"exceptions"') == 0
    assert await node.metric("sidecar_promises_broken_total") == 0


def _check_log(node: Node) -> None:
    for path in node.folder.glob("daemon-*.log"):
        for line in path.read_bytes().splitlines():
            assert line.isascii()
            assert line.startswith(b"{"), line
            assert not set(line) & set(range(32)), line


@pytest.mark.timeout(90)
async def test_garbled_invites_leave_nothing_behind(make_node: MakeNode) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    node = make_node(
        timers="t1_ms = 50\nring_timeout_s = 2\nmax_duration_s = 2", sip="refused_cdr_per_s = 1000"
    )
    arrived: list[Message] = []

    def script(invite: Message) -> Plan:
        arrived.append(invite)
        if user_of(invite.uri) == LAST:
            return Plan()
        return Plan(reject=486) if len(arrived) % 2 else Plan(callee_bye_s=0.1)

    async with (
        phones(node, script) as (caller, callee),
        node.up() as child,
        listening(*child.broker) as listener,
    ):
        caller.peer = callee.peer = child.sip
        first = caller.dial("1000", Plan(caller_bye_s=0.05)).invite
        assert first is not None
        for n in range(MESSAGES):
            mark = f"m{n}".encode()
            data = first.raw.replace(b"z9hG4bK-", b"z9hG4bK-" + mark + b"-").replace(
                b"Call-ID: c", b"Call-ID: " + mark
            )
            caller.send(mutated(chance, data))
            await asyncio.sleep(1 / PER_S)
        await _still_right(node, caller)
        await listener.until(lambda: {one.call_id for one in caller.sides.values()} <= _ids(listener.records))
        admitted = len({one["Call-ID"] for one in arrived})
        told = Counter(one["call_id"] for one in listener.records if one["revision"] == 0)
        found = await child.command("cdr", "search", "--limit", "1000")
        assert found["records"]
    assert set(told.values()) == {1}
    with_b = {one["leg_b"]["sip_call_id"] for one in listener.records if one["leg_b"]}
    missing = {one["Call-ID"] for one in arrived} - with_b
    assert not missing, missing
    print(admitted, Counter(str(one["detail"]) for one in listener.records))
    assert admitted > MESSAGES / 10
    assert node.open_entries() == 0
    check_sequences(listener.records)
    _check_log(node)
    node.check_books()


def _ids(records: list[dict[str, object]]) -> set[object]:
    return {one["leg_a"]["sip_call_id"] for one in records}  # type: ignore[index]


@pytest.mark.timeout(90)
async def test_garbled_messages_in_calls_leave_nothing_behind(make_node: MakeNode) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    node = make_node(
        timers="t1_ms = 50\nring_timeout_s = 2\nmax_duration_s = 2", sip="refused_cdr_per_s = 1000"
    )

    def any_plan(invite: Message | None = None) -> Plan:
        if invite is not None and user_of(invite.uri) == LAST:
            return Plan()
        return Plan(
            ring_s=chance.choice((0.0, None)),
            answer_s=0.05,
            reject=chance.choice((0, 0, 0, 486)),
            cancel_s=chance.choice((None, None, None, 0.05)),
            caller_bye_s=chance.random() * 0.2,
            callee_bye_s=chance.random() * 0.2,
        )

    async with (
        await Garbler.listen(f"{node.network}.2") as caller,
        await Garbler.listen(f"{node.network}.3", node.gateway_port, any_plan) as callee,
        node.up() as child,
        listening(*child.broker) as listener,
    ):
        for phone in (caller, callee):
            phone.chance, phone.share, phone.peer = chance, 0.3, child.sip
        sides = []
        for _ in range(300):
            sides.append(caller.dial("1000", any_plan()))
            await asyncio.sleep(0.01)
        for side in sides:
            await side.ended.wait()
        caller.share = callee.share = 0.0
        await _still_right(node, caller)
        admitted = {one.call_id for one in callee.sides.values()}
        await listener.until(
            lambda: admitted <= {one["leg_b"]["sip_call_id"] for one in listener.records if one["leg_b"]}
        )
    told = Counter(one["call_id"] for one in listener.records if one["revision"] == 0)
    assert set(told.values()) == {1}
    print(Counter(str(one["detail"]) for one in listener.records))
    assert node.open_entries() == 0
    check_sequences(listener.records)
    _check_log(node)
    node.check_books()
