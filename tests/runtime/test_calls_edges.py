"""The table of calls at its edges: the last moment of each wait, what is counted, and what a call that is
broken costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import replace
from structlog.testing import capture_logs

from sidecar.core import decide
from sidecar.core.account_rules import AccountRule, AccountRules
from sidecar.core.admit import Decision
from sidecar.core.audit import Operator
from sidecar.core.call import Phase
from sidecar.core.commands import Adopt, Reject, RelayFailure, Release, Route, Snapshot
from sidecar.core.events import (
    ByeReceived,
    CallFoundOpen,
    CancelReceived,
    InviteReceived,
    InviteRefused,
    MessageDropped,
    RouteFailed,
    SnapshotTaken,
    StrayBye,
)
from sidecar.core.policy import RecordFlags, RouteRule, Routes
from sidecar.core.records import utc
from sidecar.core.recovery import RECOVERED_IDS
from sidecar.core.terms import Detail, HangupOrigin, LegName, RouteFailure
from sidecar.ports import RecordFilter, UnavailableError
from sidecar.runtime import calls
from sidecar.runtime.releasing import release_live
from sidecar.wire import control_accounts as say
from tests.adapters.sqlite_faulty_disk import FULL, faulty_disk
from tests.adapters.store_calls import terms_of
from tests.runtime.node_help import WALL_NS, Node, a_node, each_turn

BROKEN = "sidecar_broken_promises_total"


@pytest_asyncio.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with a_node(tmp_path) as up:
        yield up


def stamps(node: Node) -> dict[str, Any]:
    return {"mono_ns": node.clock.mono_ns(), "wall_ns": node.clock.wall_ns()}


def snapshot(node: Node, *bridge_ids: int) -> SnapshotTaken:
    return SnapshotTaken(bridge_ids=frozenset(bridge_ids), **stamps(node))


def bye(node: Node, bridge_id: int) -> ByeReceived:
    return ByeReceived(bridge_id=bridge_id, leg_name=LegName.A, **stamps(node))


def refused(node: Node, invite: InviteReceived) -> InviteRefused:
    return InviteRefused(detail=Detail.NODE_FULL, sip_code=503, invite=invite, **stamps(node))


def released(node: Node) -> list[int]:
    return [one.bridge_id for one in node.bridge.sent if isinstance(one, Release)]


def phases(node: Node) -> dict[str, float]:
    """How many calls the metrics show in each phase that has any."""
    found = {phase.value: node.counted("sidecar_calls", phase=phase.value) for phase in Phase}
    return {phase: count for phase, count in found.items() if count}


def broken(*_: object) -> Decision:
    raise ZeroDivisionError


async def rows(node: Node) -> int:
    await node.written()
    return (await node.store.outbox.outbox_state()).head_seq


# --- waits and their last moment ----------------------------------------------------------------------------


async def test_a_record_waits_for_its_legs_to_the_end_of_its_second(node: Node) -> None:
    await node.up()
    node.calls.on_bridge_events([bye(node, 1)])
    for step_ms, open_count in ((0, 1), (999, 1), (1, 0)):
        node.clock.pass_ms(step_ms)
        node.calls.tick(snapshot=False)
        assert node.calls.open_count() == open_count


@pytest.mark.parametrize(("age_ms", "live"), [(1_999, 1), (2_000, 0)])
async def test_a_call_is_lost_from_its_second_second_on(node: Node, age_ms: int, live: int) -> None:
    await node.up()
    node.clock.pass_ms(age_ms)
    node.calls.on_bridge_events([snapshot(node)])
    assert len(node.calls.live()) == live
    assert node.counted(BROKEN, where="call lost") == 1 - live


async def test_a_call_that_is_ending_is_not_lost_too(node: Node) -> None:
    call_id = await node.up()
    node.clock.pass_ms(5_000)
    node.calls.on_bridge_events([bye(node, 1), snapshot(node)])
    assert node.counted(BROKEN, where="call lost") == 0
    assert (released(node), node.calls.open_count(), node.calls.holds(call_id)) == ([], 1, True)


async def test_only_a_line_that_is_unknown_twice_running_is_released(node: Node) -> None:
    for held in ({77}, {78}, {77}, {78, 79}, {79}, set[int]()):
        node.calls.on_bridge_events([snapshot(node, *held)])
    assert released(node) == [79]
    assert [one for one in node.bridge.sent if isinstance(one, Release)] == [
        Release(bridge_id=79, sip_code=500, q850_cause=41, text="internal_error")
    ]


async def test_the_bridge_is_asked_what_it_holds_only_where_a_tick_says_so(node: Node) -> None:
    node.calls.tick(snapshot=False)
    assert node.bridge.sent == []
    node.calls.tick(snapshot=True)
    assert node.bridge.sent == [Snapshot()]


# --- callers who were challenged ----------------------------------------------------------------------------


async def challenged(node: Node, invite: InviteReceived) -> None:
    number = invite.bridge_id
    node.calls.on_bridge_events([invite])
    await node.until(
        lambda: any(isinstance(one, Route) and one.bridge_id == number for one in node.bridge.sent)
    )
    failed = RouteFailed(
        bridge_id=number, attempt=1, cause=RouteFailure.FINAL_RESPONSE, sip_code=407, **stamps(node)
    )
    node.calls.on_bridge_events([failed])
    assert any(isinstance(one, RelayFailure) and one.bridge_id == number for one in node.bridge.sent)


def again(node: Node, bridge_id: int, first: InviteReceived) -> InviteReceived:
    leg = replace(first.leg, branch=f"again{bridge_id}", remote_cseq=first.leg.remote_cseq + 1)
    return replace(first, bridge_id=bridge_id, leg=leg, **stamps(node))


async def test_a_challenged_caller_has_so_long_and_no_longer_to_come_back(node: Node) -> None:
    await challenged(node, node.invite(1, "004412345678", "demo"))
    retry_ms = node.calls.policy.timers.auth_retry_ms
    node.clock.pass_ms(retry_ms - 1)
    node.calls.tick(snapshot=False)
    node.calls.on_bridge_events([snapshot(node)])  # the bridge is done with the first INVITE
    assert (len(node.calls.live()), node.calls.load.calls) == (1, 1)
    assert phases(node) == {"awaiting_retry": 1}
    assert node.counted(BROKEN, where="call lost") == 0
    node.clock.pass_ms(1)
    node.calls.tick(snapshot=False)
    assert (node.calls.live(), node.calls.load.calls) == ([], 0)


async def test_one_who_came_back_is_waited_for_no_more(node: Node) -> None:
    first = node.invite(1, "004412345678", "demo")
    await challenged(node, first)
    node.calls.on_bridge_events([again(node, 2, first)])
    node.clock.pass_ms(node.calls.policy.timers.auth_retry_ms)
    node.calls.tick(snapshot=False)
    [call] = node.calls.live()
    assert (call.phase, call.bridge_id) == (Phase.ROUTING, 2)
    # Its events come under the new number, and none under the old.
    failed = RouteFailed(
        bridge_id=1, attempt=2, cause=RouteFailure.FINAL_RESPONSE, sip_code=486, **stamps(node)
    )
    node.calls.on_bridge_events([failed])
    assert len(node.calls.live()) == 1
    node.calls.on_bridge_events([replace(failed, bridge_id=2)])
    assert (node.calls.live(), node.calls.load.calls, node.calls.load.by_gateway) == ([], 0, {"next_hop": 0})


def _other_dialog(invite: InviteReceived) -> InviteReceived:
    return replace(invite, leg=replace(invite.leg, sip_call_id="other@example.com"))


def _other_caller(invite: InviteReceived) -> InviteReceived:
    return replace(invite, leg=replace(invite.leg, remote_tag="other"))


def _other_number(invite: InviteReceived) -> InviteReceived:
    return replace(invite, request_user="004499")


def _other_peer(invite: InviteReceived) -> InviteReceived:
    return replace(invite, peer="second")


@pytest.mark.parametrize("other", [_other_dialog, _other_caller, _other_number, _other_peer])
async def test_of_several_challenged_callers_each_comes_back_to_his_own_call(
    node: Node, other: Callable[[InviteReceived], InviteReceived]
) -> None:
    rules = AccountRules([AccountRule(account="demo", called_prefix="0")])
    peers = {**node.calls.policy.peers, "second": replace(node.calls.policy.peers["local"], name="second")}
    node.calls.policies.change(lambda policy: replace(policy, peers=peers, account_rules=rules))
    first = node.invite(1, "004412345678", "demo")
    await challenged(node, first)
    await challenged(node, other(replace(first, bridge_id=2)))
    node.calls.on_bridge_events([again(node, 3, first)])
    assert sorted((call.phase, call.bridge_id) for call in node.calls.live()) == [
        (Phase.AWAITING_RETRY, 2),
        (Phase.ROUTING, 3),
    ]


async def test_nothing_is_kept_of_a_call_that_is_gone(node: Node) -> None:
    first = node.invite(1, "004412345678", "demo")
    await challenged(node, first)
    node.calls.on_bridge_events([again(node, 2, first)])
    failed = RouteFailed(
        bridge_id=2, attempt=2, cause=RouteFailure.FINAL_RESPONSE, sip_code=486, **stamps(node)
    )
    node.calls.on_bridge_events([failed])
    await node.closed(2)
    kept = {name: held for name, held in vars(node.calls).items() if isinstance(held, dict)}
    assert kept.keys() >= {"_calls", "_by_bridge_id", "_challenged", "_waiting"}
    assert [name for name, held in kept.items() if held] == []


# --- what is counted ----------------------------------------------------------------------------------------


async def test_the_metrics_follow_a_call_from_phase_to_phase_until_it_is_gone(node: Node) -> None:
    await node.up()
    await node.up()
    assert phases(node) == {"talking": 2}
    assert (node.calls.load.by_account, node.calls.load.by_gateway) == ({"demo": 2}, {"next_hop": 2})
    node.calls.on_bridge_events([bye(node, 1)])
    assert phases(node) == {"talking": 1, "ending": 1}
    await node.closed(1)
    assert phases(node) == {"talking": 1}
    assert (node.calls.load.by_account, node.calls.load.by_gateway) == ({"demo": 1}, {"next_hop": 1})
    ended = {"origin": "caller", "reason": "none", "detail": "bye", "recorded": "yes"}
    assert node.counted("sidecar_calls_ended_total", **ended) == 1


async def test_a_call_is_counted_at_the_gateway_that_it_is_at_now(node: Node) -> None:
    policy = node.calls.policy
    gateways = {**policy.gateways, "second": replace(policy.gateways["next_hop"], name="second")}
    routes = Routes([RouteRule(prefix="", gateways=("next_hop", "second"))])
    node.calls.policies.change(lambda before: replace(before, gateways=gateways, routes=routes))
    node.calls.on_bridge_events([node.invite(1, "004412345678", "demo")])
    await node.until(lambda: any(isinstance(one, Route) for one in node.bridge.sent))
    assert node.calls.load.by_gateway == {"next_hop": 1}
    failed = RouteFailed(
        bridge_id=1, attempt=1, cause=RouteFailure.FINAL_RESPONSE, sip_code=503, **stamps(node)
    )
    node.calls.on_bridge_events([failed])
    assert node.calls.load.by_gateway == {"next_hop": 0, "second": 1}
    node.calls.on_bridge_events([replace(failed, attempt=2)])
    assert node.calls.load.by_gateway == {"next_hop": 0, "second": 0}


async def test_only_calls_that_are_up_are_shown_and_found(node: Node) -> None:
    ending, demo = await node.up(), await node.up()
    node.calls.on_bridge_events([bye(node, 1)])
    assert [call.call_id for call in node.calls.live()] == [demo]
    assert [call.call_id for call in node.calls.oldest(9)] == [demo]
    assert node.calls.oldest(9, "nobody") == []
    assert (node.calls.find(ending), node.calls.holds(ending)) == (None, True)
    assert not node.calls.release(ending, Detail.OPERATOR, "ann", "")
    assert node.calls.open_count() == 2


async def test_a_list_holds_so_many_of_the_account_and_the_oldest(node: Node) -> None:
    topup = say.AccountTopupParams(name="prepaid", amount="5", reference="1")
    await node.admin.accounts.topup(topup, Operator("ann", 1000))
    calls = [await node.up(account=account) for account in ("demo", "prepaid", "demo", "prepaid", "demo")]
    assert [call.call_id for call in node.calls.oldest(2, "demo")] == [calls[0], calls[2]]
    assert [call.call_id for call in node.calls.oldest(9, "prepaid")] == [calls[1], calls[3]]


async def test_a_call_is_told_at_its_begin_and_its_end(node: Node) -> None:
    with capture_logs() as lines:
        call_id = await node.whole()
    told = [line for line in lines if line["event"] in ("call_begun", "call_ended")]
    assert [(line["event"], line["call_id"], line["callee"]) for line in told] == [
        ("call_begun", call_id, "004412345678"),
        ("call_ended", call_id, "004412345678"),
    ]
    assert (told[1]["account"], told[1]["detail"], told[1]["talk_ms"]) == ("demo", "bye", 2_400)


async def test_a_message_that_the_bridge_dropped_is_in_the_log(node: Node) -> None:
    dropped = MessageDropped(
        peer="block",
        source="192.0.2.5:5060",
        method="BYE",
        sip_call_id="a@b",
        reason="source",
        **stamps(node),
    )
    with capture_logs() as lines:
        node.calls.on_bridge_events([dropped])
    assert lines == [
        {
            "event": "message_dropped",
            "log_level": "warning",
            "peer": "block",
            "source": "192.0.2.5:5060",
            "method": "BYE",
            "sip_call_id": "a@b",
            "reason": "source",
        }
    ]


# --- refusals -----------------------------------------------------------------------------------------------


async def test_each_refusal_is_counted_and_a_repetition_is_no_record_of_its_own(node: Node) -> None:
    first = node.invite(1, "004412345678", "demo")
    with_credentials = replace(
        first, bridge_id=2, leg=replace(first.leg, remote_cseq=first.leg.remote_cseq + 1)
    )
    forked = replace(first, bridge_id=3, leg=replace(first.leg, branch="z9hG4bKother"))
    node.calls.on_bridge_events([refused(node, one) for one in (first, first, with_credentials, forked)])
    assert node.counted("sidecar_calls_refused_total", detail="node_full") == 4
    assert await rows(node) == 3


async def test_refusals_of_a_minute_are_told_when_it_is_over_and_not_before(node: Node) -> None:
    node.calls.on_bridge_events([refused(node, node.invite(n, "0044123", "demo")) for n in range(1, 13)])
    for step_ms, count in ((0, 10), (59_999, 10), (1, 11)):
        node.clock.pass_ms(step_ms)
        node.calls.tick(snapshot=False)
        assert await rows(node) == count


async def test_refusals_that_are_kept_back_never_leave_the_journal(node: Node) -> None:
    flags = RecordFlags(record_server_hang_up=False)
    node.calls.policies.change(lambda before: replace(before, flags=flags))
    node.calls.on_bridge_events([refused(node, node.invite(n, "0044123", "demo")) for n in range(1, 13)])
    node.clock.pass_ms(60_000)
    node.calls.tick(snapshot=False)
    assert await rows(node) == 0
    found = (await node.store.records.search(RecordFilter(suppressed=True))).records
    assert sorted(cdr.refused_count or 1 for cdr in found) == [1] * 10 + [2]


async def test_while_the_journal_fails_refusals_are_only_counted(tmp_path: Path) -> None:
    with faulty_disk() as disk:
        async with a_node(tmp_path, vfs="faulty") as node:
            disk.break_down(FULL)
            node.calls.on_bridge_events([node.invite(1, "0044123", "demo")])
            while not node.store.failing:
                with pytest.raises(UnavailableError):
                    await node.store.accounts.create(terms_of("other", prepaid=False))
            node.calls.on_bridge_events([refused(node, node.invite(2, "0044123", "demo"))])
            assert node.counted("sidecar_calls_refused_total", detail="node_full") == 1
            disk.repair()
            await node.written()
            assert (await node.store.records.search(RecordFilter(detail=Detail.NODE_FULL))).records == ()


# --- why new calls are refused, and the end -----------------------------------------------------------------


async def test_a_drain_outlasts_a_journal_that_fails_and_comes_back(node: Node) -> None:
    seen: list[tuple[str, str]] = []
    steps: list[Callable[[], None]] = [
        lambda: node.calls.on_store_failing(True),
        lambda: node.calls.on_store_failing(False),
        lambda: node.calls.on_store_failing(True),
        node.calls.drain,
        lambda: node.calls.on_store_failing(True),
        lambda: node.calls.on_store_failing(False),
        node.calls.accept,
        node.calls.accept,
    ]
    for step in steps:
        step()
        seen.append((node.calls.state, node.bridge.accepting))
    states = ("journal", "", "journal", "drain", "drain", "drain", "", "")
    assert seen == [(state, state) for state in states]


async def test_a_drain_that_is_undone_while_the_journal_fails_takes_no_call_yet(tmp_path: Path) -> None:
    with faulty_disk() as disk:
        async with a_node(tmp_path, vfs="faulty") as node:
            disk.break_down(FULL)
            node.calls.on_bridge_events([node.invite(1, "0044123", "demo")])
            node.calls.drain()
            while not node.store.failing:
                with pytest.raises(UnavailableError):
                    await node.store.accounts.create(terms_of("other", prepaid=False))
            node.calls.accept()
            assert (node.calls.state, node.bridge.accepting) == ("journal", "journal")
            disk.repair()
            await node.written()


async def test_at_the_end_of_the_node_nothing_waits_any_more(node: Node) -> None:
    call_id = await node.up()
    node.calls.on_bridge_events([bye(node, 1)])
    await challenged(node, node.invite(2, "004412345678", "demo"))
    node.calls.on_bridge_events([refused(node, node.invite(n, "0044123", "demo")) for n in range(11, 23)])
    assert node.calls.open_count() == 2
    await node.calls.close()
    assert (node.calls.open_count(), node.calls.load.calls) == (0, 0)
    assert await rows(node) == 13
    assert len(await node.store.records.show(str(call_id))) == 1


async def test_the_end_of_the_node_records_a_hundred_calls_in_a_turn_of_the_loop(node: Node) -> None:
    node.calls.on_bridge_events([node.invite(number, "0044123", "demo") for number in range(1, 202)])
    await node.until(lambda: len(node.calls.live()) == 201)
    await release_live(node.calls, "ann", "")
    assert {call.phase for call in node.calls._calls.values()} == {Phase.ENDING}
    async with asyncio.TaskGroup() as tasks:
        closing = tasks.create_task(node.calls.close(), name="close")
        assert await each_turn(node.calls.open_count, closing) == [201, 101, 1, 0]


# --- more INVITEs than one turn decides about ---------------------------------------------------------------


async def test_what_comes_for_calls_that_are_up_goes_before_new_ones_and_nothing_is_overtaken(
    node: Node,
) -> None:
    """The CANCEL of a call that nobody has looked at yet waits behind its INVITE, in whichever batch it
    comes."""
    await node.up()
    many = range(2, 2 + 3 * calls.INVITES_PER_TURN)
    last = many[-1]
    stamps: dict[str, Any] = {"mono_ns": node.clock.mono_ns(), "wall_ns": node.clock.wall_ns()}
    node.calls.on_bridge_events([node.invite(number, "0044123", "demo") for number in many])
    assert len(node.calls.live()) == 1 + calls.INVITES_PER_TURN
    node.calls.on_bridge_events(
        [
            CancelReceived(bridge_id=last, **stamps),
            ByeReceived(bridge_id=1, leg_name=LegName.A, **stamps),
        ]
    )
    assert len(node.calls.live()) == calls.INVITES_PER_TURN
    await node.until(lambda: len(node.calls.live()) == len(many) - 1)
    [cancelled] = [call for call in node.calls._calls.values() if call.bridge_id == last]
    assert cancelled.hangup is not None
    assert cancelled.hangup.detail is Detail.CANCEL


async def test_what_nobody_has_looked_at_is_refused_at_the_end(node: Node) -> None:
    many = range(1, 1 + 2 * calls.INVITES_PER_TURN)
    node.calls.on_bridge_events([node.invite(number, "0044123", "demo") for number in many])
    node.calls.drain()
    node.calls.publish_refusals()
    refused = [one.bridge_id for one in node.bridge.sent if isinstance(one, Reject)]
    assert refused == [*many[calls.INVITES_PER_TURN :]]


# --- broken promises ----------------------------------------------------------------------------------------


async def test_an_invite_that_no_call_can_be_made_of_is_released(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(calls, "open_call", broken)
        node.calls.on_bridge_events([node.invite(1, "004412345678", "demo")])
    assert [one for one in node.bridge.sent if isinstance(one, Release)] == [
        Release(bridge_id=1, sip_code=500, q850_cause=41, text="internal_error")
    ]
    assert node.counted(BROKEN, where="open_call") == 1
    assert [type(fault) for fault in node.faults] == [ZeroDivisionError]
    node.faults.clear()
    assert (node.calls.load.calls, phases(node)) == (0, {})


async def test_a_refusal_that_cannot_be_recorded_is_counted(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "refused_by_bridge", broken)
    node.calls.on_bridge_events([refused(node, node.invite(1, "004412345678", "demo"))])
    assert node.counted(BROKEN, where="refused_by_bridge") == 1
    assert len(node.faults) == 1
    node.faults.clear()


async def test_a_decision_that_breaks_ends_its_call_at_that_moment_and_is_counted(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    call_id = await node.up()
    table = {**decide.TABLE, Phase.TALKING: {**decide.TABLE[Phase.TALKING], ByeReceived: broken}}
    monkeypatch.setattr(decide, "TABLE", table)
    node.clock.pass_ms(3_000)
    node.calls.on_bridge_events([bye(node, 1)])
    assert (released(node), node.calls.live(), node.calls.load.calls) == ([1], [], 0)
    assert node.counted(BROKEN, where="decide") == 1
    assert len(node.faults) == 1
    node.faults.clear()
    await node.closed(1)
    [cdr] = await node.store.records.show(str(call_id))
    assert (cdr.hangup_origin, cdr.ended_at) == (HangupOrigin.SERVER, utc(WALL_NS + 3_000_000_000))


async def test_a_call_that_cannot_be_ended_leaves_nothing_in_the_counts(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    call_id = await node.up()
    table = {**decide.TABLE, Phase.TALKING: dict.fromkeys(decide.TABLE[Phase.TALKING], broken)}
    monkeypatch.setattr(decide, "TABLE", table)
    node.calls.on_bridge_events([bye(node, 1)])
    assert (phases(node), node.calls.holds(call_id)) == ({}, False)
    assert (node.calls.load.by_account, node.calls.load.by_gateway) == ({"demo": 0}, {"next_hop": 0})
    node.faults.clear()
    node.calls.on_bridge_events([snapshot(node, 1), snapshot(node, 1)])
    assert released(node) == [1, 1]  # the bridge holds a line that nobody here knows


async def test_a_record_that_cannot_be_made_is_waited_for_once(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.up()
    node.calls.on_bridge_events([bye(node, 1)])
    table = {**decide.TABLE, Phase.ENDING: dict.fromkeys(decide.TABLE[Phase.ENDING], broken)}
    monkeypatch.setattr(decide, "TABLE", table)
    node.clock.pass_ms(1_000)
    for _ in range(2):
        node.calls.tick(snapshot=False)
    assert (node.calls.open_count(), node.calls._waiting) == (0, {})
    assert len(node.faults) == 1
    assert phases(node) == {}
    node.faults.clear()


async def test_a_call_of_an_earlier_start_that_cannot_be_closed_is_counted(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = node.calls.find(await node.up())
    assert call is not None
    table = {**decide.TABLE, Phase.TALKING: {**decide.TABLE[Phase.TALKING], CallFoundOpen: broken}}
    monkeypatch.setattr(decide, "TABLE", table)
    found = CallFoundOpen(call_id=call.call_id, **stamps(node))
    node.calls.recover([(call, found)])
    assert node.counted(BROKEN, where="recover") == 1
    assert len(node.faults) == 1
    node.faults.clear()


# --- calls of an earlier start ------------------------------------------------------------------------------


async def _recovered(node: Node, count: int) -> list[int]:
    """So many calls that were up, and the ids that the bridge knows them by now."""
    ups = [node.calls.find(await node.up()) for _ in range(count)]
    node.calls._calls.clear()
    node.calls._by_bridge_id.clear()
    found = [(up, CallFoundOpen(call_id=up.call_id, **stamps(node))) for up in ups if up is not None]
    first = node.calls.recover(found)
    assert all(isinstance(one, Adopt) for one in first)
    return [one.bridge_id for one in first if isinstance(one, Adopt)]


async def test_calls_of_an_earlier_start_are_ended_a_few_at_a_time(node: Node) -> None:
    ids = await _recovered(node, 3)
    assert ids == [RECOVERED_IDS, RECOVERED_IDS + 1, RECOVERED_IDS + 2]
    assert released(node) == []
    node.calls.release_some(2)
    assert released(node) == ids[:2]
    await node.calls.release_recovered()
    assert released(node) == ids
    node.calls.release_some(9)
    assert released(node) == ids
    for bridge_id in ids:
        await node.closed(bridge_id)


async def test_a_call_of_an_earlier_start_waits_for_its_legs_as_long_as_the_bridge_holds_them(
    node: Node,
) -> None:
    [bridge_id] = await _recovered(node, 1)
    node.clock.pass_ms(40_000)
    node.calls.tick(snapshot=False)
    node.calls.on_bridge_events([snapshot(node, bridge_id)])
    assert node.calls.open_count() == 1
    node.calls.on_bridge_events([snapshot(node)])
    assert node.calls.open_count() == 0
    assert await rows(node) == 1


async def test_a_bye_that_came_before_the_bridge_knew_a_call_of_another_node_is_its_end(node: Node) -> None:
    left, unexplained = await _recovered(node, 2)
    call = next(one for one in node.calls._calls.values() if one.bridge_id == left)
    leg = call.invite.leg
    stray = StrayBye(
        **stamps(node),
        peer=call.invite.peer,
        sip_call_id=leg.sip_call_id,
        local_tag=leg.local_tag,
        remote_tag=leg.remote_tag,
    )
    for _ in range(2):  # it is found at each look
        node.calls.left_elsewhere([stray])
    assert released(node) == [left]
    await node.calls.release_recovered()
    for bridge_id in (left, unexplained):
        await node.closed(bridge_id)
    await node.written()
    found = (await node.store.records.search(RecordFilter())).records
    records = {one.call_id: (one.hangup_origin, one.detail) for one in found}
    assert records.pop(call.call_id) == (HangupOrigin.CALLER, Detail.BYE)
    assert list(records.values()) == [(HangupOrigin.SERVER, Detail.CRASH_RECOVERED)]
