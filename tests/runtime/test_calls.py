"""The table of calls: what no single call can see, because it is about calls that somebody has lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from msgspec.structs import replace

from sidecar.core import decide
from sidecar.core.admit import Decision
from sidecar.core.call import Phase
from sidecar.core.commands import RelayFailure, Release, Route
from sidecar.core.events import (
    Admitted,
    AnswerDropped,
    ByeReceived,
    InviteReceived,
    InviteRefused,
    RouteFailed,
    SnapshotTaken,
)
from sidecar.core.terms import Detail, LegName, RevisionReason, RouteFailure
from sidecar.ports import RecordFilter
from sidecar.runtime import calls
from tests.runtime.node_help import WALL_NS, Node, a_node


@pytest_asyncio.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with a_node(tmp_path) as up:
        yield up


def _snapshot(node: Node, *bridge_ids: int) -> SnapshotTaken:
    return SnapshotTaken(
        bridge_ids=frozenset(bridge_ids), mono_ns=node.clock.mono_ns(), wall_ns=node.clock.wall_ns()
    )


def _bye(node: Node, bridge_id: int) -> ByeReceived:
    return ByeReceived(
        bridge_id=bridge_id, leg_name=LegName.A, mono_ns=node.clock.mono_ns(), wall_ns=node.clock.wall_ns()
    )


def _released(node: Node) -> list[int]:
    return [one.bridge_id for one in node.bridge.sent if isinstance(one, Release)]


async def test_a_call_that_the_bridge_has_lost_is_ended_and_recorded(node: Node) -> None:
    await node.up()
    node.clock.pass_ms(5_000)
    node.calls.on_bridge_events([_snapshot(node)])
    assert node.calls.live() == []
    assert _released(node) == [1]
    node.clock.pass_ms(1_100)
    node.calls.tick(snapshot=False)
    await node.until(lambda: node.calls.open_count() == 0)
    node.calls.on_bridge_events(
        [_snapshot(node)]
    )  # and its legs, of which nobody will ever hear, are forgotten
    assert node.calls.load.calls == 0


async def test_a_call_younger_than_the_snapshot_is_not_lost(node: Node) -> None:
    await node.up()
    node.clock.pass_ms(1_900)
    node.calls.on_bridge_events([_snapshot(node)])
    assert len(node.calls.live()) == 1


async def test_ids_never_go_back_though_the_clock_does(node: Node) -> None:
    ids = []
    for step_ms in (0, 5, -3_600_000, 3_599_999, 1, 1):
        node.clock.pass_ms(step_ms)
        ids.append(await node.up())
    assert ids == sorted(ids)
    start_ms = WALL_NS // 1_000_000
    assert [call_id.int >> 80 for call_id in ids] == [start_ms + ms for ms in (0, 5, 5, 5, 5, 6)]


async def test_a_line_that_nobody_here_knows_is_released_at_the_second_snapshot(node: Node) -> None:
    node.calls.on_bridge_events([_snapshot(node, 77)])
    assert _released(node) == []
    node.calls.on_bridge_events([_snapshot(node, 77)])
    assert _released(node) == [77]


async def test_a_record_waits_a_second_for_the_legs_and_no_longer(node: Node) -> None:
    call_id = await node.up()
    node.clock.pass_ms(2_000)
    node.calls.on_bridge_events([_bye(node, 1)])
    node.calls.tick(snapshot=False)
    assert node.calls.open_count() == 1
    node.clock.pass_ms(1_000)
    node.calls.tick(snapshot=False)
    assert node.calls.open_count() == 0
    rows = node.store.outbox
    while not (await rows.outbox_state()).head_seq:
        await node.until(lambda: True)
    [cdr] = await node.store.records.show(str(call_id))
    assert (cdr.detail, cdr.talk_ms) == (Detail.BYE, 2_000)


async def test_the_slowest_answer_of_the_store_is_remembered_and_by_and_by_forgotten(node: Node) -> None:
    """What a grant is extended the earlier for."""
    call_id = await node.up()
    node.calls.load.store_ms = 0
    for took_ms in (30, 640, 20):
        admitted = Admitted(
            call_id=call_id,
            mono_ns=node.calls.live()[0].invite.mono_ns + took_ms * 1_000_000,
            wall_ns=node.clock.wall_ns(),
        )
        node.calls.on_store_events([admitted])
    assert node.calls.load.store_ms == 640
    for _ in range(2):
        node.calls.tick(snapshot=False)
    assert node.calls.load.store_ms == 620


async def _given_up(node: Node) -> UUID:
    """A call whose only gateway said nothing, and whose record is written."""
    node.calls.on_bridge_events([node.invite(1, "004412345678", "demo")])
    [call] = node.calls.live()
    await node.until(lambda: any(isinstance(one, Route) for one in node.bridge.sent))
    stamps: dict[str, Any] = {"mono_ns": node.clock.mono_ns(), "wall_ns": node.clock.wall_ns()}
    silent = RouteFailed(bridge_id=1, attempt=1, cause=RouteFailure.NO_RESPONSE, sip_code=0, **stamps)
    node.calls.on_bridge_events([silent])
    await node.closed(1)
    return call.call_id


def _late_answer(node: Node) -> AnswerDropped:
    stamps: dict[str, Any] = {"mono_ns": node.clock.mono_ns(), "wall_ns": node.clock.wall_ns()}
    return AnswerDropped(bridge_id=1, attempt=1, sip_code=200, leg=node.invite(1, "0", "").leg, **stamps)


async def test_an_answer_after_the_record_is_a_revision_of_it(node: Node) -> None:
    call_id = await _given_up(node)
    node.clock.pass_ms(20_000)
    given_up = replace(_snapshot(node), given_up_ids=frozenset({1}))
    node.calls.on_bridge_events([given_up, given_up, _late_answer(node), _late_answer(node)])
    while len(records := await node.store.records.show(str(call_id))) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    first, second = sorted(records, key=lambda one: one.revision)
    assert (first.attempts[0].late_answer_at, second.revision_reason) == (None, RevisionReason.LATE_EVIDENCE)
    assert second.attempts[0].late_answer_at is not None
    assert not node.calls.holds(call_id)
    assert _released(node) == [1]  # when its gateway failed


async def test_a_call_is_forgotten_once_the_bridge_holds_nothing_of_it(node: Node) -> None:
    call_id = await _given_up(node)
    assert node.calls.holds(call_id)
    node.clock.pass_ms(20_000)
    node.calls.on_bridge_events([_snapshot(node)])
    assert not node.calls.holds(call_id)
    assert (node.calls.load.calls, node.calls.open_count()) == (0, 0)


async def test_events_of_a_call_that_is_gone_are_ignored(node: Node) -> None:
    call_id = await node.whole()
    node.calls.on_bridge_events([_bye(node, 1), _bye(node, 99)])
    assert len(await node.store.records.show(str(call_id))) == 1


async def _challenged(node: Node) -> InviteReceived:
    """A call whose gateway has answered 407."""
    invite = node.invite(1, "004412345678", "demo")
    node.calls.on_bridge_events([invite])
    await node.until(lambda: any(isinstance(one, Route) for one in node.bridge.sent))
    node.calls.on_bridge_events(
        [
            RouteFailed(
                bridge_id=1,
                attempt=1,
                cause=RouteFailure.FINAL_RESPONSE,
                sip_code=407,
                mono_ns=node.clock.mono_ns(),
                wall_ns=node.clock.wall_ns(),
            )
        ]
    )
    assert any(isinstance(one, RelayFailure) for one in node.bridge.sent)
    return invite


def _again(node: Node, invite: InviteReceived, callee: str) -> InviteReceived:
    later = node.invite(2, callee, "demo")
    first = invite.leg
    leg = replace(
        later.leg,
        sip_call_id=first.sip_call_id,
        remote_tag=first.remote_tag,
        remote_cseq=first.remote_cseq + 1,
    )
    return replace(later, leg=leg)


async def test_a_challenged_caller_who_comes_back_goes_on_with_the_same_call(node: Node) -> None:
    invite = await _challenged(node)
    [before] = node.calls.live()
    node.calls.on_bridge_events([_again(node, invite, "004412345678")])
    [call] = node.calls.live()
    assert call.call_id == before.call_id
    assert (call.phase, call.bridge_id, len(call.attempts)) == (Phase.ROUTING, 2, 2)
    assert node.calls.load.calls == 1


async def test_a_challenged_caller_with_another_number_makes_another_call(node: Node) -> None:
    invite = await _challenged(node)
    node.calls.on_bridge_events([_again(node, invite, "00861012345678")])
    node.calls.on_bridge_events([_snapshot(node, 2)])
    assert sorted(call.invite.request_user for call in node.calls.live()) == [
        "004412345678",
        "00861012345678",
    ]


async def test_refusals_of_a_flood_are_ten_records_and_one_for_the_rest(node: Node) -> None:
    refused = [
        InviteRefused(
            detail=Detail.NODE_FULL,
            sip_code=503,
            invite=node.invite(number, "004412345678", "demo"),
            mono_ns=node.clock.mono_ns(),
            wall_ns=node.clock.wall_ns(),
        )
        for number in range(1, 31)
    ]
    node.calls.on_bridge_events([*refused, *refused])  # the repetitions are no refusals of their own
    node.clock.pass_ms(61_000)
    node.calls.tick(snapshot=False)
    while (await node.store.outbox.outbox_state()).head_seq < 11:
        await node.until(lambda: True)
    found = (await node.store.records.search(RecordFilter(detail=Detail.NODE_FULL))).records
    assert [cdr.refused_count for cdr in found].count(None) == 10
    assert [cdr.refused_count for cdr in found if cdr.refused_count] == [20]


async def test_a_call_that_cannot_even_be_ended_is_forgotten_and_freed(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Decision:
        raise ZeroDivisionError

    await node.up()
    rows = dict.fromkeys(decide.TABLE[Phase.TALKING], broken)
    monkeypatch.setattr(decide, "TABLE", {**decide.TABLE, Phase.TALKING: rows})
    node.calls.on_bridge_events([_bye(node, 1)])
    assert (node.calls.live(), node.calls.load.calls, _released(node)) == ([], 0, [1])
    assert [type(fault) for fault in node.faults] == [ZeroDivisionError, ZeroDivisionError]
    node.faults.clear()
    node.calls.on_bridge_events([_bye(node, 1)])


async def test_a_refusal_without_a_record_costs_no_other_event(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Decision:
        raise ZeroDivisionError

    monkeypatch.setattr(calls, "refused_by_bridge", broken)
    refused = InviteRefused(
        detail=Detail.NODE_FULL,
        sip_code=503,
        invite=node.invite(1, "004412345678", "demo"),
        mono_ns=node.clock.mono_ns(),
        wall_ns=node.clock.wall_ns(),
    )
    node.calls.on_bridge_events([refused, node.invite(2, "004412345678", "demo")])
    assert len(node.calls.live()) == 1
    assert [type(fault) for fault in node.faults] == [ZeroDivisionError]
    node.faults.clear()
