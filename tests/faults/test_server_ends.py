"""Why the server refuses or ends a call, each reason against the daemon: what both legs hear, the record, and
the balance and the ledger after it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sidecar.core.windows import DAYS
from sidecar.demo.subscriber import Record
from tests.faults.conftest import MakeNode
from tests.faults.node import phones
from tests.faults.phone import Phone, Plan, Side
from tests.rig.listener import listening, sell
from tests.rig.node import until

TALK = Plan(caller_bye_s=60)  # until the server ends it
RINGS = Plan(answer_s=None)
BYE = Plan(caller_bye_s=0.05)


def _other_day() -> str:
    """A window that is closed now, and will be tomorrow."""
    return DAYS[(datetime.now(UTC) + timedelta(days=3)).weekday()]


def _said(record: Record) -> tuple[Any, ...]:
    return record["server_reason"], record["detail"], record["sip_code"], record["q850_cause"], record["rule"]


async def test_each_rule_refuses_with_its_name_and_takes_nothing(make_node: MakeNode) -> None:
    node = make_node(
        sip='blocked_numbers = ["19*"]\nemergency_numbers = ["112"]\n',
        billing='free_numbers = ["18*"]',
        callers='blocked_numbers = ["15*"]\nallowed_numbers = ["1*"]',
        prepaid='max_price_per_min = "0.5"',
        other=f'hours = ["{_other_day()} UTC"]',
        **{"accounts.demo": 'caller_numbers = ["+4930*"]\nallowed_numbers = ["1*", "19001"]'},
    )
    rows: tuple[tuple[str, dict[str, Any], str, str], ...] = (
        ("1900", {}, "number_blocked", "blocked_numbers 19*"),
        ("1500", {}, "number_blocked", "peers.callers.blocked_numbers 15*"),
        ("2000", {}, "number_blocked", "peers.callers.allowed_numbers"),
        ("1000", {"caller": "+4940123"}, "rule", "accounts.demo.caller_numbers"),
        ("1000", {"account": "other"}, "rule", "accounts.other.hours"),
        ("1000", {"account": "prepaid"}, "rule", "accounts.prepaid.max_price_per_min"),
    )
    async with phones(node) as (caller, _), node.up() as child, listening(*child.broker) as listener:
        caller.peer = child.sip
        refused = [await caller.place(number, BYE, **how) for number, how, _, _ in rows]
        # Neither credit nor a rate is asked of a free number, and nothing at all of an emergency call.
        allowed = [
            await caller.place("19001", BYE),
            await caller.place("1800", BYE, account="prepaid"),
            await caller.place("112", BYE, account="other", caller="anonymous"),
        ]
        records = await listener.of([side.call_id for side in (*refused, *allowed)])
        await node.empty()
    for side, record, (number, _, detail, rule) in zip(refused, records, rows, strict=False):
        assert _said(record) == ("policy", detail, 403, 21, rule), number
        assert record["disposition"] == "refused"
        assert side.final == 403
    exception, free, emergency = records[len(rows) :]
    assert [side.final for side in allowed] == [200, 200, 200]
    assert [record["emergency"] for record in (exception, free, emergency)] == [False, False, True]
    assert [sell(record)["total"] for record in (free, emergency)] == ["0", "0"]
    assert sell(emergency)["rating_status"] == "free"
    charged = Decimal(sell(exception)["total"])
    assert charged > 0
    assert [node.balance(name) for name in ("demo", "prepaid", "other")] == [-charged, Decimal(0), Decimal(0)]
    node.check_books()


async def test_each_reason_ends_a_call_on_both_legs(make_node: MakeNode) -> None:
    node = make_node(second="max_duration_s = 1")
    async with phones(node) as (caller, callee), node.up() as child, listening(*child.broker) as listener:
        caller.peer = callee.peer = child.sip
        numbers = ("2001", "1501", "1502", "1601", "1001")
        sides = [caller.dial(number, TALK) for number in numbers]
        for side in sides:
            await until(lambda side=side: side.final == 200)  # type: ignore[misc]
        ended = await child.command(
            "call", "release", "--callee", "15*", "--peer", "callers", "--operator", "jane", "--text", "x"
        )
        blocked = await child.command("policy", "block", "16*", "--reason", "wave", "--operator", "jane")
        assert (ended["count"], blocked["ended"]) == (2, 1)
        for side in sides[:4]:
            await side.ended.wait()
        again = await caller.place("1601", BYE)
        records = await listener.of([side.call_id for side in (*sides[:4], again)])
        audit = await child.command("audit", "list", "--by", "jane")
        [listed] = (await child.command("call", "list", "--older-than", "0"))["calls"]
        assert listed["callee"] == "1001", "all others are gone, and this one goes on"
        assert (await child.command("call", "release", "--older-than", "0"))["count"] == 1
        await node.empty()
    expected = (
        ("timeout", "max_duration", 408, 16, None),
        ("admin", "operator", 480, 31, None),
        ("admin", "operator", 480, 31, None),
        ("policy", "number_blocked", 403, 21, "block 16*"),
    )
    for side, record, row in zip(sides, records, expected, strict=False):
        assert _said(record) == row, side.number
        other = next(one for one in callee.sides.values() if one.number == side.number)
        for leg in (side, other):
            assert leg.byes == 1
            assert leg.bye is not None
            assert leg.bye["Reason"] == f'Q.850;cause={row[3]};text="{row[1]}"'
    assert records[0]["max_duration_of"] == "gateway"
    assert [(one["operator"], one["operator_text"]) for one in records[1:3]] == [("jane", "x")] * 2
    assert (again.final, records[4]["rule"]) == (403, "block 16*")
    assert [(one["action"], one["subject"]) for one in audit] == [
        ("call.release", "peer=callers callee=15*"),
        ("policy.block", "16*"),
    ]
    rows = node.ask("SELECT call_id FROM ledger WHERE kind = 'charge'")
    assert len(rows) == 5
    assert node.balance("demo") <= -sum(Decimal(sell(one)["total"]) for one in records[:4])
    node.check_books()


async def test_a_block_outlasts_a_restart(make_node: MakeNode) -> None:
    node = make_node()
    async with phones(node) as (caller, _):
        async with node.up() as child:
            await child.command("policy", "block", "16*", "--reason", "wave")
        async with node.up() as child:
            caller.peer = child.sip
            assert (await caller.place("1601", BYE)).final == 403
            await child.command("policy", "unblock", "16*", "--reason", "over")
            assert (await caller.place("1601", BYE)).final == 200


async def test_in_a_flood_from_one_peer_the_others_are_served(make_node: MakeNode) -> None:
    node = make_node(callers="calls_per_s = 20")
    async with (
        phones(node) as (flooder, _),
        await Phone.listen(f"{node.network}.4") as other,
        node.up(SIDECAR_NODE__CALLS_MAX="1000") as child,
    ):
        flooder.peer = other.peer = child.sip
        flood: list[Side] = []
        served: list[Side] = []
        for turn in range(20):
            flood += [flooder.dial(f"13{turn:02}{n:02}", BYE) for n in range(20)]
            served.append(await other.place(f"10{turn:02}", BYE))
        for side in flood:
            await side.ended.wait()
        refused = await node.metric("sidecar_calls_refused_total", "peer_limit")
    finals = [side.final for side in flood]
    assert [side.final for side in served] == [200] * len(served)
    assert set(finals) == {200, 480}
    assert finals.count(480) == refused > 0


async def test_ringing_calls_of_one_peer_leave_places_to_others(make_node: MakeNode) -> None:
    node = make_node()
    async with (
        phones(node, lambda invite: RINGS if "sip:13" in invite.uri else Plan()) as (caller, _),
        await Phone.listen(f"{node.network}.4") as other,
        node.up(SIDECAR_NODE__CALLS_MAX="20") as child,
    ):
        caller.peer = other.peer = child.sip
        assert (await other.place("1000", BYE)).final == 200
        ringing = [caller.dial(f"13{n:02}", RINGS) for n in range(16)]
        await until(lambda: all(180 in side.codes for side in ringing))
        assert (await caller.place("1399", RINGS)).final == 480
        assert (await other.place("1001", BYE)).final == 200
        assert (await child.command("call", "release", "--peer", "callers"))["count"] == 16
        await until(lambda: all(side.final == 480 for side in ringing))


async def test_what_a_flag_keeps_back_is_listed_with_what_it_would_have_cost(make_node: MakeNode) -> None:
    node = make_node(timers="max_duration_s = 1", billing="record_server_hang_up = {timeout = false}")
    async with phones(node) as (caller, callee), node.up() as child:
        caller.peer = callee.peer = child.sip
        for number in ("1001", "1002"):
            await caller.place(number, TALK)
        await node.empty()
        found = await child.command("cdr", "suppressed", "--account", "demo")
        waived = await node.metric("sidecar_waived_money_total", "demo")
    [total] = found["sums"]
    setting = "SERVER_BILLING_RECORD_SERVER_HANG_UP (timeout)"
    assert (total["suppressed_by"], total["charged"], total["calls"]) == (setting, False, 2)
    assert Decimal(total["amount"]) == Decimal("0.02") == Decimal(str(waived))
    assert {record["detail"] for record in found["records"]} == {"max_duration"}
    assert node.ask("SELECT call_id FROM ledger WHERE kind = 'charge'") == []
    node.check_books()
