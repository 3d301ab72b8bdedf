"""kill -9 at moments by chance, with calls in every phase, and again on the same data: nothing is lost,
nothing comes twice."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from tests.b2bua.scripted_ua import ScriptedUA, parameter
from tests.faults.conftest import MakeNode
from tests.faults.node import Node, phones
from tests.faults.phone import SDP, Phone, Plan
from tests.rig.broker import mosquitto
from tests.rig.listener import check_sequences, listening, sell
from tests.rig.node import until

ROUNDS = 3
BUSY_S = 3.0  # by how much a heartbeat may be late on a busy machine
CALLS_PER_S = 80


def any_plan(chance: random.Random) -> Plan:
    ring_s, answer_s = chance.random() * 0.2, 0.2 + chance.random() * 0.4
    match chance.randrange(6):
        case 0:
            return Plan(ring_s=ring_s, answer_s=answer_s, reject=486)
        case 1:
            return Plan(ring_s=ring_s, answer_s=answer_s, cancel_s=chance.random() * 0.8)
        case 2:
            return Plan(ring_s=ring_s, answer_s=None)
        case 3:
            return Plan(ring_s=ring_s, answer_s=answer_s, callee_bye_s=chance.random())
        case _:
            return Plan(ring_s=ring_s, answer_s=answer_s, caller_bye_s=chance.random() * 2)


async def _dial_until_killed(
    node: Node, caller: Phone, chance: random.Random, plans: dict[str, Plan]
) -> None:
    end_s = asyncio.get_running_loop().time() + 0.7 + chance.random() * 1.2
    while asyncio.get_running_loop().time() < end_s:
        number = f"1{len(plans):05}"
        plans[number] = any_plan(chance)
        caller.dial(number, plans[number], account=chance.choice(("prepaid", "other", "")))
        await asyncio.sleep(chance.expovariate(CALLS_PER_S))
    node.kill()


@pytest.mark.timeout(240)
async def test_a_node_that_is_killed_loses_no_call_and_tells_none_twice(make_node: MakeNode) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    plans: dict[str, Plan] = {}
    node = make_node(timers="max_duration_s = 3\nt1_ms = 50")
    async with (
        mosquitto(node.folder) as broker,
        listening(broker.host, broker.port) as listener,
        phones(node, lambda invite: plans[invite.uri[4:10]]) as (caller, callee),
    ):
        found_open: list[int] = []
        killed_at: list[datetime] = []
        boots: list[str] = []
        for _ in range(ROUNDS):
            async with node.up(**broker.settings()) as child:
                caller.peer = callee.peer = child.sip
                for account in ("prepaid", "other"):
                    await child.command("account", "topup", account, "1")
                boots.append((await node.status())["boot_id"])
                await _dial_until_killed(node, caller, chance, plans)
            killed_at.append(datetime.now(UTC))
            found_open.append(node.open_entries())
            # Killed again and again while it writes the records of those calls, or before, or after.
            await node.killed_while_it_starts(0.3 + chance.random())
        async with node.up() as child:
            await until(lambda: node.open_entries() == 0)
            head = (await child.command("node", "status"))["outbox_head_seq"]
            await listener.until(lambda: len(listener.records) + listener.again >= head, 40)
            status = await child.command("node", "status")
            assert (status["outbox_depth"], status["outbox_head_seq"]) == (0, head)
    print(
        found_open,
        Counter(f"{one['hangup_origin']} {one['detail']}" for one in listener.records),
        listener.again,
    )
    assert min(found_open) > 5, "no call was up when the node was killed"

    first = Counter(one["call_id"] for one in listener.records if one["revision"] == 0)
    assert set(first.values()) == {1}
    revisions = Counter((one["call_id"], one["revision"]) for one in listener.records)
    assert set(revisions.values()) == {1}
    recovered = [
        one for one in listener.records if one["detail"] == "crash_recovered" and one["revision"] == 0
    ]
    # An entry may hold a cause already, when the node dies while the legs close; and a peer may have hung up.
    assert len(recovered) <= sum(found_open)
    assert all((one["hangup_origin"], one["server_reason"]) == ("server", "fault") for one in recovered)
    for one in recovered:
        if one["evidence"] == "proved":  # both legs were up when we hung up
            assert one["ended_at"] >= min(killed_at)
            continue
        # Billed to the last sign of life of the node, which is at most a heartbeat old: never too much.
        (age_s,) = (
            (at - one["ended_at"]).total_seconds()
            for at, boot in zip(killed_at, boots, strict=True)
            if boot == one["boot_id"]
        )
        assert 0 <= age_s < 1.0 + BUSY_S, age_s
    # Leg B's INVITE is the proof that a call was admitted.
    told = Counter(one["callee"]["received"] for one in listener.records if one["revision"] == 0)
    missing = {side.number for side in callee.sides.values()} - told.keys()
    assert not missing, missing
    assert set(told.values()) == {1}
    assert len({one["store_epoch"] for one in listener.records}) == 1
    # The last start takes up a call whose INVITE is repeated, if the node before died without a word on it.
    assert ROUNDS <= len({one["boot_id"] for one in listener.records}) <= ROUNDS + 1
    check_sequences(listener.records)
    highest = {one["call_id"]: one for one in sorted(listener.records, key=lambda one: int(one["revision"]))}
    for account in ("prepaid", "other"):
        charged = sum(Decimal(sell(o)["total"] or 0) for o in highest.values() if o["account"] == account)
        assert node.balance(account) == ROUNDS - charged >= 0
    node.check_books()


async def test_an_invite_that_is_repeated_after_a_kill_is_no_second_call(make_node: MakeNode) -> None:
    """RFC 3261 §17.1.1.2: it goes out until a response comes. A later INVITE of the dialog is another."""
    node = make_node()
    async with mosquitto(node.folder) as broker, listening(broker.host, broker.port) as listener:
        async with phones(node, lambda _: Plan(answer_s=None)) as (caller, callee):
            async with node.up(**broker.settings()) as child:
                caller.peer = child.sip
                side = caller.dial("1000", Plan(), call_id="again@x", tag="t")
                await node.live("1000")
                node.kill()
            async with node.up() as child:
                caller.peer = child.sip
                assert side.invite is not None
                caller.send(side.invite.raw)
                await side.ended.wait()
                assert side.final == 500
                later = caller.dial("1000", Plan(cancel_s=0.1), call_id="again@x", tag="t", cseq=2)
                await later.ended.wait()
                await listener.until(lambda: len(listener.records) >= 2)
        assert len(callee.sides) == 2
    assert later.final == 487
    assert [one["detail"] for one in listener.records] == ["crash_recovered", "cancel"]
    node.check_books()


async def test_a_call_of_which_nothing_was_on_disk_is_a_new_one_when_its_invite_comes_again(
    make_node: MakeNode,
) -> None:
    """The disk was so slow that the caller had its 100 before. Of that call nobody knows: it has reached no
    callee, there is no record, and what was reserved for it was not on disk either."""
    node = make_node()
    async with mosquitto(node.folder) as broker, listening(broker.host, broker.port) as listener:
        async with phones(node) as (caller, callee):
            async with node.up(**broker.settings()) as child:
                caller.peer = child.sip
                await child.command("account", "topup", "prepaid", "1")
                async with node.journal_locked():
                    side = caller.dial("1000", Plan(caller_bye_s=0.1), account="prepaid")
                    await until(lambda: side.codes == [100])
                    node.kill()
                    await child.ended()
            assert (node.open_entries(), len(callee.sides)) == (0, 0)
            async with node.up() as child:
                assert side.invite is not None
                caller.peer = child.sip
                caller.send(side.invite.raw)
                await side.ended.wait()
                [record] = await listener.of([side.call_id])
                await node.empty()
        assert len(callee.sides) == 1
    assert (record["hangup_origin"], record["detail"], len(listener.records)) == ("caller", "bye", 1)
    assert node.balance("prepaid") == 1 - Decimal(sell(record)["total"])
    node.check_books()


class TwoGateways(Node):
    """The first of them at `first_port`; a second of silence is enough."""

    first_port = 0

    def profile_text(self) -> str:
        text = super().profile_text().replace('gateways = ["main"]', 'gateways = ["main", "second"]')
        text = text.replace("no_response_failover_s = 10", "no_response_failover_s = 1")
        return text.replace(f"port = {self.gateway_port}", f"port = {self.first_port}", 1)


async def test_a_gateway_that_was_given_up_before_a_kill_and_answers_after_it_is_hung_up_on(
    tmp_path: Path,
) -> None:
    node = TwoGateways(tmp_path)
    silent = await ScriptedUA.udp(f"{node.network}.3")
    node.first_port = silent.port
    async with (
        mosquitto(node.folder) as broker,
        listening(broker.host, broker.port) as listener,
        phones(node, lambda _: Plan(answer_s=None)) as (caller, callee),
    ):
        async with node.up(**broker.settings()) as child:
            caller.peer = child.sip
            side = caller.dial("1000", Plan())
            invite = await silent.expect("INVITE")
            await until(lambda: 180 in side.codes)
            await until(lambda: node.ask("SELECT 1 FROM open_calls WHERE kind = 'attempt'"))
            node.kill()
            await child.ended()
        async with node.up() as child:
            silent.reply(invite, 200, silent.contact(), tag="late", body=SDP)
            ack, bye = await silent.expect("ACK"), await silent.expect("BYE")
            assert (ack.cseq, bye.cseq) == (invite.cseq, invite.cseq + 1)
            assert {parameter(one["To"], "tag") for one in (ack, bye)} == {"late"}
            silent.reply(bye, 200)
            await callee.all_ended(30)
            await node.empty()
            [record] = await listener.of([side.call_id])
    silent.close()
    assert (side.final, record["detail"], len(listener.records)) == (500, "crash_recovered", 1)
    node.check_books()


async def test_a_node_that_is_told_to_stop_ends_its_calls_and_records_them(make_node: MakeNode) -> None:
    """In whatever phase they are: the peers hear of it, and the next start finds nothing to recover."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    plans = {f"1{n:05}": any_plan(chance) for n in range(80)}
    node = make_node(timers="max_duration_s = 60\nt1_ms = 50")
    async with (
        mosquitto(node.folder) as broker,
        listening(broker.host, broker.port) as listener,
        phones(node, lambda invite: plans[invite.uri[4:10]]) as (caller, callee),
    ):
        async with node.up(**broker.settings()) as child:
            caller.peer = callee.peer = child.sip
            await child.command("account", "topup", "prepaid", "100")
            for number, plan in plans.items():
                caller.dial(number, plan, account=chance.choice(("prepaid", "")))
                await asyncio.sleep(chance.expovariate(CALLS_PER_S))
            assert await child.stop() == 0
        # 503 is the answer of a node that drains: there is no call, and so no record.
        calls = [side.call_id for side in caller.sides.values() if side.codes and side.final != 503]
        records = await listener.of(calls)
        assert node.open_entries() == 0
        await caller.all_ended(30)
        await callee.all_ended(30)
    drained = [one for one in records if one["detail"] == "drain"]
    print(Counter(f"{one['hangup_origin']} {one['detail']}" for one in records))
    assert len(drained) > 10
    assert all(one["server_reason"] == "admin" for one in drained)
    assert all(side.ended_by for side in callee.sides.values() if side.final == 200)
    charged = sum(Decimal(sell(o)["total"] or 0) for o in records if o["account"] == "prepaid")
    assert node.balance("prepaid") == 100 - charged
    check_sequences(listener.records)
    node.check_books()


async def test_a_node_stops_in_time_though_nobody_answers(make_node: MakeNode) -> None:
    """Peers that have gone, a broker that is not there: the records wait on disk for the next start."""
    node = make_node()
    async with mosquitto(node.folder) as broker, listening(broker.host, broker.port) as listener:
        await broker.stop()
        async with phones(node) as (caller, callee), node.up(**broker.settings()) as child:
            caller.peer = child.sip
            sides = [caller.dial(f"1{n:03}", Plan()) for n in range(20)]
            await until(lambda: all(side.final == 200 for side in sides))
            for phone in (caller, callee):
                phone.unresponsive = True
            began_s = asyncio.get_running_loop().time()
            assert await child.stop() == 0
            assert asyncio.get_running_loop().time() - began_s < 8
        assert node.open_entries() == 0
        await broker.start()
        async with node.up():
            records = await listener.of([side.call_id for side in sides])
    assert {one["detail"] for one in records} == {"drain"}
    assert len({one["boot_id"] for one in records}) == 1
    check_sequences(listener.records)
    node.check_books()
