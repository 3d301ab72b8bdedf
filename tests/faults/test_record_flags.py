"""What the record flags keep back: nothing of it at a subscriber, nothing on the bill, all of it in the
journal."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from sidecar.demo.subscriber import Record
from tests.faults.conftest import MakeNode
from tests.faults.node import Node, phones
from tests.faults.phone import Plan, Side
from tests.rig.broker import mosquitto
from tests.rig.listener import check_sequences, listening, sell
from tests.rig.node import until

TALK = Plan(caller_bye_s=30)  # until the server ends it
BYE = Plan(caller_bye_s=0.06)
MAX_1_S = "max_duration_s = 1"


async def suppressed(node: Node) -> list[Record]:
    found = await node.daemon.command("cdr", "search", "--suppressed")
    return [dict(one) for one in found["records"]]


def of(records: list[Record], side: Side) -> Record:
    (one,) = (one for one in records if one["leg_a"]["sip_call_id"] == side.call_id)
    return one


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        # what is set -> who keeps back: maximum duration through main, through second, policy, fault
        ("record_server_hang_up = false", ("flag", "gateway", "flag")),
        ("record_server_hang_up = {all = false, timeout = true}", (None, "gateway", "flag")),
        ("record_server_hang_up = {timeout = false}", ("reason", "gateway", None)),
    ],
)
async def test_a_server_hangup_is_recorded_as_its_flag_says(
    make_node: MakeNode, flags: str, expected: tuple[str | None, ...]
) -> None:
    names = {
        "flag": "SERVER_BILLING_RECORD_SERVER_HANG_UP",
        "reason": "SERVER_BILLING_RECORD_SERVER_HANG_UP (timeout)",
        "gateway": "SERVER_BILLING_RECORD_SERVER_HANG_UP (gateway second)",
        None: None,
    }
    node = make_node(
        timers=MAX_1_S,
        billing=flags,
        sip='blocked_numbers = ["19*"]',
        second="record_server_hang_up = false",
    )
    async with phones(node) as (caller, callee), node.up() as child, listening(*child.broker) as listener:
        caller.peer = callee.peer = child.sip
        before = await caller.place("1000", BYE)
        sides = [caller.dial("1001", TALK), caller.dial("2001", TALK), caller.dial("1901", TALK)]
        for side in sides:
            await side.ended.wait()
        after = await caller.place("1002", BYE)
        records = {one["leg_a"]["sip_call_id"]: one for one in await suppressed(node)}
        for side, who in zip(sides, expected, strict=True):
            found = records.get(side.call_id)
            assert (found and found["suppressed_by"]) == names[who], (side.number, found)
            if found is not None and not side.number.startswith("19"):
                assert found["detail"] == "max_duration"
                assert sell(found)["total"] == "0.010000"  # what it would have cost
                assert (found["recorded"], found["seq"]) == (False, None)
        told = [one.call_id for one, who in zip(sides, expected, strict=True) if who is None]
        published = await listener.of([before.call_id, *told, after.call_id])
        assert len(listener.records) == len(published), "what is kept back must not be published"
        check_sequences(listener.records)
    charged = node.ask("SELECT call_id FROM ledger WHERE kind = 'charge'")
    billed = [one for one in published if Decimal(sell(one)["total"] or 0)]
    assert len(charged) == len(billed)
    node.check_books()


async def test_zero_duration_no_cdr_and_free_numbers(make_node: MakeNode) -> None:
    node = make_node(
        timers=MAX_1_S,
        sip='blocked_numbers = ["19*"]',
        billing='record_zero_hold_time = false\nno_cdr_numbers = ["17*"]\nfree_numbers = ["18*"]',
    )

    def script(invite: Any) -> Plan:
        return Plan(reject=486) if "sip:11" in invite.uri else Plan()

    async with phones(node, script) as (caller, _), node.up() as child, listening(*child.broker) as listener:
        caller.peer = child.sip
        first = await caller.place("1000", BYE)
        busy = await caller.place("1100", BYE)
        blocked = await caller.place("1900", BYE)
        unpublished = await caller.place("1700", BYE)
        free = await caller.place("1800", BYE)
        last = await caller.place("1001", BYE)
        published = await listener.of([first.call_id, free.call_id, last.call_id])
        kept = await suppressed(node)
        assert len(listener.records) == 3
        check_sequences(listener.records)
        # A server rejection passes both flags; this one fell at the second.
        for side, detail in ((busy, "rejected"), (blocked, "number_blocked")):
            assert of(kept, side)["detail"] == detail
            assert of(kept, side)["suppressed_by"] == "SERVER_BILLING_RECORD_ZERO_HOLD_TIME"
        assert of(kept, unpublished)["suppressed_by"] == "SERVER_BILLING_NO_CDR_E164S"
        assert len(kept) == 3
        assert [sell(one)["rating_status"] for one in published] == ["rated", "free", "rated"]
        assert sell(published[1])["total"] == "0"
        demo = await child.command("account", "show", "demo")
    # Charged: the first, the last and the unpublished one; not the free one.
    assert demo["balances"] == [{"currency": "EUR", "amount": "-0.030000"}]
    assert len(node.ask("SELECT * FROM ledger WHERE kind = 'charge'")) == 3
    node.check_books()


@pytest.mark.parametrize("record_fault", [True, False])
async def test_faults_have_a_flag_of_their_own(make_node: MakeNode, record_fault: bool) -> None:
    """All else is kept back; the call that the node did not survive is told, or not, by its own flag."""
    node = make_node(
        billing=f"record_server_hang_up = false\nrecord_fault = {str(record_fault).lower()}",
        timers="max_duration_s = 600",
    )
    async with (
        mosquitto(node.folder) as broker,
        listening(broker.host, broker.port) as listener,
        phones(node) as (caller, _),
    ):
        async with node.up(**broker.settings()) as child:
            caller.peer = child.sip
            side = caller.dial("1000", TALK)
            await node.live("1000", answered=True)
            await until(lambda: node.ask("SELECT 1 FROM open_calls WHERE kind = 'established'"))
            node.kill()
        async with node.up() as child:
            caller.peer = child.sip
            after = await caller.place("1001", BYE)
            published = await listener.of([side.call_id, after.call_id][1 - record_fault :])
            kept = (
                await child.command("cdr", "search", "--detail", "crash_recovered") if record_fault else None
            )
            if not record_fault:
                (hidden,) = await suppressed(node)
                assert (hidden["detail"], hidden["suppressed_by"]) == ("crash_recovered", "record_fault")
            else:
                assert kept is not None
                assert published[0]["detail"] == "crash_recovered"
            assert len(listener.records) == len(published)
            check_sequences(listener.records)
    node.check_books()
