"""The life of one node, on the real store, table of calls and relay: the test plays the SIP side and the
broker, and moves the clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from sidecar.adapters.metrics import Metrics
from sidecar.core.call import Phase
from sidecar.core.commands import Adopt, AskGateway, Reject, Release, Route, Snapshot, WireCommand
from sidecar.core.events import ByeReceived, CallKept, Event, InviteRefused, LegTerminated, RequestEnded
from sidecar.core.policy import Gateway
from sidecar.core.recovery import RECOVERED_IDS
from sidecar.core.registration import RegisterTerms
from sidecar.core.terms import Detail, Disposition, HangupOrigin, LegName, RouteFailure
from sidecar.ports import Link, LinkError, OutboxRow, OutboxState, RecordFilter
from sidecar.runtime.calls import Calls
from sidecar.runtime.gateways import Gateways
from sidecar.runtime.outbox import OutboxRelay
from sidecar.runtime.service import Service
from tests.adapters.sqlite_faulty_disk import FULL, faulty_disk
from tests.core.streams import KEPT_STATE
from tests.policies import declared_gateway
from tests.runtime.node_help import Node, a_node

WITHIN_S = 20
REGISTER = RegisterTerms(identity="sip:us@carrier", target="sip:carrier", contact_user="us", expires_s=100)
WANTS_US = declared_gateway(name="wants-us", host="192.0.2.1", port=5070, register=REGISTER)


class Side:
    """The SIP side, and what happens to it in its order."""

    def __init__(self, node: Node) -> None:
        self.happened: list[str] = []
        self.sent: list[WireCommand | Snapshot] = []
        self.asked: list[AskGateway] = []
        self.cannot_start: Exception | None = None
        self.held = 0  # calls
        self.short_of_memory = False
        self.last: Sequence[Event] = ()  # what it delivers as it ends
        self.on_keep: Callable[[], None] = lambda: None
        self._node = node

    async def start(self, first: Sequence[WireCommand | Snapshot] = ()) -> None:
        if self.cannot_start is not None:
            raise self.cannot_start
        self.sent += first
        self.happened.append("start")

    async def stop(self) -> None:
        self.happened.append("stop")
        self.deliver(self.last)

    def keep(self) -> None:
        self.on_keep()

    def keep_call(self, calls: Calls, bridge_id: int) -> None:
        for call in calls.live():
            if call.bridge_id == bridge_id:
                kept = CallKept(
                    **self.stamps(),
                    bridge_id=bridge_id,
                    leg_a=call.invite.leg,
                    leg_b=call.attempts[-1].leg,
                    kept=KEPT_STATE,
                )
                self.deliver([kept])

    def held_calls(self) -> int:
        return self.held

    def pulse(self) -> int:
        return 0

    def is_short_of_memory(self) -> bool:
        return self.short_of_memory

    def on_events(self, deliver: Callable[[Sequence[Event]], None]) -> None:
        self.deliver = deliver

    def send(self, commands: Sequence[WireCommand | Snapshot]) -> None:
        self.sent += commands

    def set_accepting(self, detail: str) -> None:
        self.happened.append(f"accepting {detail}")

    def ask(self, requests: Sequence[AskGateway]) -> None:
        self.asked += requests

    def stamps(self) -> dict[str, Any]:
        return {"mono_ns": self._node.clock.mono_ns(), "wall_ns": self._node.clock.wall_ns()}

    def registered(self) -> None:
        ask = self.asked.pop()
        cause = RouteFailure.FINAL_RESPONSE
        self.deliver([RequestEnded(request_id=ask.request_id, cause=cause, sip_code=200, **self.stamps())])

    def legs_close(self, bridge_id: int) -> None:
        self.deliver([LegTerminated(bridge_id=bridge_id, leg_name=leg, **self.stamps()) for leg in LegName])


class Broker:
    """Takes rows, and acknowledges them when the test lets it."""

    window = 10

    def __init__(self) -> None:
        self.held: list[tuple[int, Callable[[int, int], None]]] = []
        self.is_holding = False

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Link]:
        yield self

    def send(self, row: OutboxRow, acknowledged: Callable[[int, int], None]) -> None:
        if self.is_holding:
            self.held.append((row.seq, acknowledged))
        else:
            acknowledged(row.seq, 0)

    def publish_status(self, state: OutboxState) -> None:
        pass

    def on_lost(self, notify: Callable[[LinkError], None]) -> None:
        pass


class Life:
    def __init__(
        self,
        node: Node,
        tasks: asyncio.TaskGroup,
        gateways: Sequence[Gateway],
        heartbeat_ms: int,
        drain_s: int = 0,
    ) -> None:
        self.node = node
        self._tasks = tasks
        self.side = Side(node)
        self.broker = Broker()
        self.watched = False
        self.gateways = Gateways(
            gateways={gateway.name: gateway for gateway in gateways},
            load=node.calls.load,
            door=self.side,
            clock=node.clock,
            meter=Metrics(),
            boot_id="boot",
            chance=lambda: 0.0,
        )
        self.relay = OutboxRelay(node.store.outbox, node.store.outbox, self.broker)
        self.service = Service(
            calls=node.calls,
            gateways=self.gateways,
            hook=self.side,
            store=node.store,
            relay=self.relay,
            clock=node.clock,
            heartbeat_ms=heartbeat_ms,
            snapshot_interval_s=1,
            drain_s=lambda: drain_s,
            watchers=[("watcher", self._watch)],
        )

    async def begin(self) -> asyncio.Task[None]:
        ready = asyncio.Event()

        def is_ready() -> None:
            self.side.happened.append("ready")
            ready.set()

        task = self._tasks.create_task(self.service.run(is_ready), name="service")
        async with asyncio.timeout(WITHIN_S):
            await ready.wait()
        return task

    async def _watch(self) -> None:
        self.watched = True

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not holds():  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def a_while(self) -> None:
        """Long enough for whoever waits in vain: the store has written a few times."""
        for _ in range(30):
            await self.node.written()


@asynccontextmanager
async def a_life(
    folder: Path, *gateways: Gateway, heartbeat_ms: int = 10, vfs: str | None = None, drain_s: int = 0
) -> AsyncIterator[Life]:
    async with a_node(folder, vfs=vfs) as node, asyncio.TaskGroup() as tasks:
        yield Life(node, tasks, gateways, heartbeat_ms, drain_s)


async def ended(task: Awaitable[None]) -> None:
    async with asyncio.timeout(WITHIN_S):
        await task


async def test_a_node_is_ready_when_its_sip_side_is_up_and_takes_it_down_last(tmp_path: Path) -> None:
    async with a_life(tmp_path) as life:
        task = await life.begin()
        await life.until(lambda: life.watched)
        life.service.stopping.set()
        await ended(task)
        assert life.side.happened == ["start", "ready", "stop"]
        assert life.node.bridge.accepting == "drain"


async def test_an_address_that_cannot_be_listened_on_ends_the_start(tmp_path: Path) -> None:
    async with a_life(tmp_path) as life:
        life.side.cannot_start = OSError("in use")
        with pytest.raises(ExceptionGroup) as failed:
            await ended(life.service.run(lambda: life.side.happened.append("ready")))
        assert failed.group_contains(OSError, match="in use")
        assert life.side.happened == ["stop"]


async def test_a_call_that_is_up_at_the_end_is_released_and_its_legs_are_waited_for(tmp_path: Path) -> None:
    async with a_life(tmp_path) as life:
        call_id = await life.node.up()
        task = await life.begin()
        life.service.stopping.set()
        await life.until(lambda: any(isinstance(one, Release) for one in life.node.bridge.sent))
        await life.a_while()
        assert "stop" not in life.side.happened
        life.side.legs_close(1)
        await ended(task)
        await life.node.written()
        [cdr] = await life.node.store.records.show(str(call_id))
    assert (cdr.hangup_origin, cdr.detail) == (HangupOrigin.SERVER, Detail.DRAIN)
    assert (cdr.operator, cdr.operator_text) == ("sidecar", "the node stops")


@pytest.mark.parametrize("until", ["it is over", "the time is over", "a second signal"])
async def test_a_node_that_drains_lets_a_call_go_on_until(tmp_path: Path, until: str) -> None:
    async with a_life(tmp_path, drain_s=60) as life:
        node = life.node
        await node.up()
        task = await life.begin()
        life.service.stop()
        await life.until(lambda: node.calls.state == "drain")
        node.clock.pass_ms(59_999)
        await life.a_while()
        assert (len(node.calls.live()), life.side.happened) == (1, ["start", "ready"])
        if until == "it is over":
            life.side.deliver([ByeReceived(bridge_id=1, leg_name=LegName.A, **life.side.stamps())])
        elif until == "the time is over":
            node.clock.pass_ms(1)
        else:
            life.service.stop()
        await life.until(lambda: node.calls.live() == [])
        life.side.legs_close(1)
        await ended(task)
        await node.written()
        [cdr] = (await node.store.records.search(RecordFilter())).records
    assert cdr.detail is (Detail.BYE if until == "it is over" else Detail.DRAIN)


async def test_a_planned_restart_keeps_calls_and_the_next_start_takes_them_up_before_it_hears_anything(
    tmp_path: Path,
) -> None:
    async with a_life(tmp_path) as life:
        call_id = await life.node.up()
        await life.node.up("0044100")  # which cannot be kept
        task = await life.begin()

        def keep() -> None:
            life.side.keep_call(life.node.calls, 1)
            life.node.clock.pass_ms(100)

        life.side.on_keep = keep
        life.service.restart()
        life.service.restart()  # by somebody else
        await life.until(lambda: any(isinstance(one, Release) for one in life.node.bridge.sent))
        life.side.legs_close(2)
        await ended(task)
        [release] = [one for one in life.node.bridge.sent if isinstance(one, Release)]
        assert (release.bridge_id, release.text) == (2, "drain")
        assert life.service.restarts
        await life.node.written()
    async with a_life(tmp_path) as life:
        life.node.clock.pass_ms(2_000)
        task = await life.begin()
        [adopt, *_] = [one for one in life.side.sent if isinstance(one, Adopt)]
        assert (adopt.bridge_id, adopt.kept) == (RECOVERED_IDS, KEPT_STATE)
        [call] = life.node.calls.live()
        assert (call.call_id, call.phase) == (call_id, Phase.TALKING)
        load = life.node.calls.load
        assert (load.calls, load.by_account["demo"], load.by_gateway) == (1, 1, {"next_hop": 1})
        life.side.deliver([ByeReceived(bridge_id=RECOVERED_IDS, leg_name=LegName.A, **life.side.stamps())])
        life.side.legs_close(RECOVERED_IDS)
        await life.node.written()
        [cdr] = await life.node.store.records.show(str(call_id))
        assert (cdr.detail, cdr.talk_ms) == (Detail.BYE, 2_000)
        life.service.stop()
        await ended(task)


async def test_a_signal_in_a_restart_is_for_the_next_node_and_no_restart_follows_a_signal(
    tmp_path: Path,
) -> None:
    async with a_life(tmp_path) as life:
        task = await life.begin()
        life.service.restart()
        life.service.stop()
        await ended(task)
        assert (life.service.restarts, life.service.stop_is_for_next) == (True, True)
    async with a_life(tmp_path) as life:
        task = await life.begin()
        life.service.stop()
        life.service.restart()
        await ended(task)
        assert (life.service.restarts, life.service.stop_is_for_next) == (False, False)


async def test_an_invite_that_was_on_its_way_when_the_node_was_told_to_stop_is_refused_and_recorded(
    tmp_path: Path,
) -> None:
    async with a_life(tmp_path) as life:
        task = await life.begin()
        life.side.held = 1
        life.service.stopping.set()
        await life.until(lambda: life.node.calls.state == "drain")
        life.side.deliver([life.node.invite(1, "004412345678", "demo")])
        [reject] = [one for one in life.node.bridge.sent if isinstance(one, WireCommand)]
        assert isinstance(reject, Reject)
        assert (reject.sip_code, reject.text, reject.retry_after_s) == (503, "drain", 5)
        await life.a_while()
        assert "stop" not in life.side.happened  # the bridge holds it yet
        life.side.legs_close(1)
        life.side.held = 0
        await ended(task)
        await life.node.written()
        [cdr] = (await life.node.store.records.search(RecordFilter(detail=Detail.DRAIN))).records
    assert (cdr.disposition, cdr.sip_code, cdr.attempts) == (Disposition.REFUSED, 503, ())


async def test_what_is_refused_last_is_recorded_too(tmp_path: Path) -> None:
    """The bridge delivers its last batch as it ends: more refusals than get a record of their own."""
    async with a_life(tmp_path) as life:
        life.side.last = [life.node.invite(number, "004412345678", "demo") for number in range(1, 31)]
        task = await life.begin()
        life.service.stopping.set()
        await ended(task)
        await life.node.written()
        found = (await life.node.store.records.search(RecordFilter(detail=Detail.DRAIN))).records
    assert sorted(cdr.refused_count or 1 for cdr in found) == [1] * 10 + [20]


async def test_our_registrations_are_taken_back_and_that_is_waited_for_two_seconds(tmp_path: Path) -> None:
    async with a_life(tmp_path, WANTS_US) as life:
        task = await life.begin()
        await life.until(lambda: bool(life.side.asked))
        life.side.registered()
        life.service.stopping.set()
        await life.until(lambda: bool(life.side.asked))
        assert life.side.asked[0].expires_s == 0
        for step_ms in (0, 1_999):
            life.node.clock.pass_ms(step_ms)
            await life.a_while()
            assert "stop" not in life.side.happened
        life.node.clock.pass_ms(1)
        await ended(task)


async def test_a_registration_that_is_taken_back_ends_the_wait(tmp_path: Path) -> None:
    async with a_life(tmp_path, WANTS_US) as life:
        task = await life.begin()
        await life.until(lambda: bool(life.side.asked))
        life.side.registered()
        life.service.stopping.set()
        await life.until(lambda: bool(life.side.asked))
        life.side.registered()
        await ended(task)


async def test_what_was_refused_in_the_last_minute_is_told_at_the_end(tmp_path: Path) -> None:
    async with a_life(tmp_path) as life:
        node, task = life.node, await life.begin()
        life.side.deliver(
            [
                InviteRefused(
                    detail=Detail.NODE_FULL,
                    sip_code=503,
                    invite=node.invite(number, "004412345678", "demo"),
                    **life.side.stamps(),
                )
                for number in range(1, 31)
            ]
        )
        life.service.stopping.set()
        await ended(task)
        await node.written()
        found = (await node.store.records.search(RecordFilter(detail=Detail.NODE_FULL))).records
    assert sorted(cdr.refused_count or 1 for cdr in found) == [1] * 10 + [20]


async def test_a_record_that_waits_to_the_end_is_with_the_broker_before_the_node_is_gone(
    tmp_path: Path,
) -> None:
    """The call's legs are waited for in vain."""
    async with a_life(tmp_path) as life:
        await life.node.up()
        task = await life.begin()
        await life.until(lambda: life.relay.counters.connected)
        life.service.stopping.set()
        await life.until(lambda: any(isinstance(one, Release) for one in life.node.bridge.sent))
        life.node.clock.pass_ms(2_000)
        await ended(task)
        assert life.relay.counters.delivered == 1


async def test_the_broker_gets_a_moment_for_what_it_has_not_acknowledged(tmp_path: Path) -> None:
    async with a_life(tmp_path) as life:
        await life.node.whole()
        life.broker.is_holding = True
        task = await life.begin()
        await life.until(lambda: bool(life.broker.held))
        life.service.stopping.set()
        await life.until(lambda: life.node.calls.state == "drain")
        await life.a_while()
        assert "stop" not in life.side.happened
        [(seq, acknowledged)] = life.broker.held
        acknowledged(seq, 0)
        await ended(task)
        assert (await life.node.store.outbox.outbox_state()).depth == 0


async def test_a_call_that_an_earlier_start_left_open_gets_its_record(tmp_path: Path) -> None:
    async with a_node(tmp_path) as before:
        call_id = await before.up()
    async with a_life(tmp_path) as life:
        with capture_logs() as lines:
            task = await life.begin()
        assert [line["count"] for line in lines if line["event"] == "calls_recovered"] == [1]
        assert isinstance(life.side.sent[0], Adopt)
        sent = life.node.bridge.sent
        await life.until(lambda: any(isinstance(one, Release) for one in sent))
        life.side.legs_close(RECOVERED_IDS)
        await life.node.written()
        [cdr] = await life.node.store.records.show(str(call_id))
        assert (cdr.hangup_origin, cdr.revision) == (HangupOrigin.SERVER, 0)
        life.service.stopping.set()
        await ended(task)


async def test_what_the_store_has_done_goes_to_the_call_that_waits_for_it(tmp_path: Path) -> None:
    async with a_life(tmp_path) as life:
        node = life.node
        node.store.on_outcome(lambda _: None)
        task = await life.begin()
        life.side.deliver([node.invite(1, "004412345678", "demo")])
        await life.until(lambda: any(isinstance(one, Route) for one in node.bridge.sent))
        life.service.stopping.set()
        await life.until(lambda: node.calls.live() == [])
        life.side.legs_close(1)
        await ended(task)


async def test_nothing_is_said_of_calls_where_none_was_left_open(tmp_path: Path) -> None:
    async with a_life(tmp_path) as life:
        with capture_logs() as lines:
            task = await life.begin()
        assert [line for line in lines if line["event"] == "calls_recovered"] == []
        life.service.stopping.set()
        await ended(task)


async def test_a_node_takes_no_call_while_its_journal_fails(tmp_path: Path) -> None:
    with faulty_disk() as disk:
        async with a_life(tmp_path, vfs="faulty") as life:
            task = await life.begin()
            disk.break_down(FULL)
            life.side.deliver([life.node.invite(1, "004412345678", "demo")])
            await life.until(lambda: life.node.bridge.accepting == "journal")
            disk.repair()
            await life.until(lambda: life.node.bridge.accepting == "")
            life.service.stopping.set()
            await life.until(lambda: life.node.calls.state == "drain")
            life.side.legs_close(1)
            await ended(task)


async def test_the_bridge_is_looked_at_once_in_so_many_heartbeats(tmp_path: Path) -> None:
    """Five of 200 ms in one second. A heartbeat is a commit, and so is nothing else here."""
    async with a_life(tmp_path, heartbeat_ms=200) as life:
        seen: list[str] = []
        sent = life.node.bridge.sent
        looked = 0

        def committed(_: int, __: int) -> None:
            nonlocal looked
            seen.append("beat, look" if len(sent) > looked else "beat")
            looked = len(sent)

        life.node.store.on_commit(committed)
        task = await life.begin()
        await life.until(lambda: len(seen) >= 7)
        assert all(isinstance(one, Snapshot) for one in sent)
        assert seen[:7] == ["beat, look", *["beat"] * 4, "beat, look", "beat"]
        life.service.stopping.set()
        await ended(task)
