"""Watches the other nodes on the database, and ends the calls of one that is dead (core/takeover decides).

Its calls have a table of their own here, with the dead node's store: what is decided of them is written and
told in its name. The bridge is one for all: which node's a call is says its bridge id. A node that returns
fences us, and takes up what is left itself.
"""

from __future__ import annotations

import asyncio
import itertools
import operator
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple, Protocol

import msgspec
import structlog
from msgspec.structs import replace

from sidecar.core.alarms import NodeInDoubt, NodeTakenOver
from sidecar.core.audit import NODE, Change
from sidecar.core.commands import AskGateway, Snapshot, WireCommand
from sidecar.core.events import BridgeEvent, Event, RequestEnded, SnapshotTaken, StrayBye
from sidecar.core.records import utc
from sidecar.core.recovery import RECOVERED_IDS
from sidecar.core.takeover import ASK_TIMEOUT_MS, Answer, Node, Verdict, place_of, verdict
from sidecar.core.terms import RouteFailure
from sidecar.ports import (
    Clock,
    Control,
    GatewayDoor,
    Nodes,
    NodeStore,
    TakeoverCounters,
    UnavailableError,
)
from sidecar.runtime.calls import Calls
from sidecar.runtime.outbox import OutboxRelay

LOOK_S = 0.5
BEAT_S = 0.5
TOLD_S_MAX = 3.0  # its last records have a broker by then; else that is said
WAIT_S = 1.0
ASK_AGAIN_NS = 10_000_000_000  # one that does not answer though it lives
LOST_NS = (ASK_TIMEOUT_MS + 5_000) * 1_000_000  # the bridge says in time how a request ended, or not at all
_ID_BITS = RECOVERED_IDS.bit_length() - 1
_FIRST_REQUEST = 1 << 48  # no gateway's

log = structlog.get_logger("sidecar.takeover")


class Hook(Control, GatewayDoor, Protocol):
    @property
    def heard_at(self) -> Sequence[str]:
        """Where others reach it; empty: it has not started."""


class Carrying(NamedTuple):
    """What ends the calls of a dead node."""

    calls: Calls
    relay: OutboxRelay


class _Known(msgspec.Struct, kw_only=True):
    """What one process that writes as a node has answered."""

    boot: int
    before: Answer = Answer.UNKNOWN
    now: Answer = Answer.UNKNOWN
    is_over: bool = False
    asked_ns: int = 0
    open: set[int] = msgspec.field(default_factory=set)  # requests under way
    is_doubted: bool = False
    is_being_taken: bool = False


class _Carried(msgspec.Struct, eq=False):
    calls: Calls
    adopted_at: int | None = None  # the bridge has heard of all of them when it answers a later snapshot


class _Sending:
    """The Control of calls that are not the node's own: whether new ones are taken is not theirs to say."""

    def __init__(self, hook: Control) -> None:
        self._hook = hook

    def send(self, commands: Sequence[WireCommand | Snapshot]) -> None:
        self._hook.send(commands)

    def set_accepting(self, detail: str) -> None:
        pass


class Takeovers:
    """`carry` puts together what ends the calls of a node, by its name and store. `calls` are the node's own.
    `may_take`: whether it is well itself."""

    def __init__(
        self,
        *,
        own: str,
        nodes: Nodes,
        lease_s: float,
        hook: Hook,
        clock: Clock,
        carry: Callable[[str, NodeStore, Control], Carrying],
        calls: Calls,
        may_take: Callable[[], bool],
        raise_alarm: Callable[[NodeTakenOver | NodeInDoubt], None],
    ) -> None:
        self._own = own
        self._nodes = nodes
        self._lease_s = lease_s
        self._hook = hook
        self._clock = clock
        self._carry = carry
        self._calls = calls
        self._may_take = may_take
        self._raise_alarm = raise_alarm
        self.counters = TakeoverCounters()
        self._known: dict[str, _Known] = {}
        self._requests: dict[int, str] = {}  # under way, to which node
        self._request_ids = itertools.count(_FIRST_REQUEST)
        self._numbers = itertools.count(2)  # 1 has the calls of an earlier boot
        self._carried: dict[int, _Carried] = {}
        self.started = asyncio.Event()  # the node hears SIP

    # --- events ---------------------------------------------------------------------------------------------

    def of_own(self, events: Sequence[Event]) -> Sequence[Event]:
        """Hand on what is of calls that were taken over; the rest is the node's own."""
        for event in events:
            if isinstance(event, StrayBye):
                self._nodes.note_stray(event)
        if not self._carried and not self._requests:
            return events
        own: list[Event] = []
        others: dict[int, list[Event]] = {number: [] for number in self._carried}
        snapshots = self._calls.snapshots_seen
        for event in events:
            if isinstance(event, BridgeEvent) and (number := event.bridge_id >> _ID_BITS) in others:
                others[number].append(event)
            elif isinstance(event, SnapshotTaken) and others:
                snapshots += 1
                for number, theirs in others.items():
                    adopted_at = self._carried[number].adopted_at
                    if adopted_at is not None and snapshots > adopted_at:
                        theirs.append(_held_by(event, partial(operator.eq, number)))
                own.append(_held_by(event, lambda number: number not in others))
            else:
                if isinstance(event, RequestEnded):
                    self._answered(event)
                own.append(event)
        for number, theirs in others.items():
            if theirs:
                self._carried[number].calls.on_bridge_events(theirs)
        return own

    def _answered(self, event: RequestEnded) -> None:
        known = self._known.get(self._requests.pop(event.request_id, ""))
        if known is None or event.request_id not in known.open:
            return
        known.open.discard(event.request_id)
        if event.cause is RouteFailure.FINAL_RESPONSE:
            self._say(known, Answer.ANSWERED)
            known.open.clear()
        elif not known.open:
            self._say(known, Answer.SILENT)

    def _say(self, known: _Known, answer: Answer) -> None:
        if known.is_over:
            known.now = answer
        else:
            known.before = answer

    # --- watching -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        await self.started.wait()
        told: Sequence[str] = ()
        async with asyncio.TaskGroup() as tasks:
            while True:
                if told != self._hook.heard_at:
                    told = self._hook.heard_at
                    tasks.create_task(self._nodes.serve(told, self._lease_s), name="serving")
                for node in await self._to_take():
                    self._known[node.name].is_being_taken = True
                    tasks.create_task(self._take(node), name=f"takeover {node.name}")
                await asyncio.sleep(LOOK_S)

    async def _to_take(self) -> Sequence[Node]:
        try:
            others = await self._nodes.others()
        except UnavailableError:
            for known in self._known.values():
                known.now = Answer.UNKNOWN
            self.counters.dead.clear()  # nobody knows
            return ()
        self.counters.dead = {node.name: node.is_over and node.has_work for node in others}
        return [node for node in others if self._looked_at(node) is Verdict.TAKE and self._may_take()]

    def _looked_at(self, node: Node) -> Verdict:
        known = self._known.get(node.name)
        if known is None or known.boot != node.boot:
            taken = known is not None and known.is_being_taken
            known = self._known[node.name] = _Known(boot=node.boot, is_being_taken=taken)
        if known.is_over != node.is_over:
            known.is_over, known.now = node.is_over, Answer.UNKNOWN
            known.open.clear()  # what comes was asked before
        now_ns = self._clock.mono_ns()
        if now_ns - known.asked_ns > LOST_NS:
            known.open.clear()
        if known.open or known.is_being_taken:
            return Verdict.LEAVE
        if not node.is_over and known.before is Answer.SILENT and now_ns - known.asked_ns > ASK_AGAIN_NS:
            known.before = Answer.UNKNOWN
        found = verdict(node, self._own, known.before, known.now)
        if node.is_over:
            known.now = Answer.UNKNOWN
        if found is Verdict.ASK:
            self._ask(node, known, now_ns)
        elif found is Verdict.DOUBT and not known.is_doubted:
            known.is_doubted = True
            log.error(
                "node_in_doubt",
                node=node.name,
                heard_at=node.heard_at,
                advice="its lease is over, and it does not answer our OPTIONS; it did not while it lived"
                " either, so its calls are left: does each node list the others as peers?",
            )
            raised_at = utc(self._clock.wall_ns())
            self._raise_alarm(NodeInDoubt(raised_at=raised_at, dead=node.name, heard_at=node.heard_at))
        return found

    def _ask(self, node: Node, known: _Known, now_ns: int) -> None:
        known.asked_ns = now_ns
        asked = []
        for address in node.heard_at:
            transport, host, port = place_of(address)
            request_id = next(self._request_ids)
            self._requests[request_id] = node.name
            known.open.add(request_id)
            authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            asked.append(
                AskGateway(
                    request_id=request_id,
                    gateway="",
                    host=host,
                    port=port,
                    transport=transport,
                    timeout_ms=ASK_TIMEOUT_MS,
                    target=f"sip:{authority};transport={transport.value}",
                )
            )
        if asked:
            self._hook.ask(asked)
        elif node.is_over:  # it ended before it heard any
            self._say(known, Answer.SILENT)

    # --- taking over ----------------------------------------------------------------------------------------

    async def _take(self, node: Node) -> None:
        died_ns = self._clock.mono_ns() - int(node.silent_s * 1e9)
        try:
            store = await self._nodes.take(node)
            if store is not None:
                self._tell(node.name, store, died_ns)
                await self._end_calls_of(node.name, store, died_ns)
        except UnavailableError as error:
            log.error("node_not_taken_over", node=node.name, error=str(error))
        except Exception:  # its calls are not to end ours: it is tried again
            log.exception("takeover_defect", node=node.name)
        finally:
            self._known[node.name].is_being_taken = False

    def _tell(self, name: str, store: NodeStore, died_ns: int) -> None:
        counters, calls = self.counters, len(store.found_open())
        silent_ns = self._clock.mono_ns() - died_ns
        counters.taken_over[name] = counters.taken_over.get(name, 0) + 1
        counters.calls[name] = counters.calls.get(name, 0) + calls
        counters.books_s[name] = silent_ns / 1e9
        self._raise_alarm(
            NodeTakenOver(
                raised_at=utc(self._clock.wall_ns()),
                dead=name,
                epoch=store.epoch,
                calls=calls,
                silent_ms=silent_ns // 1_000_000,
            )
        )

    async def _end_calls_of(self, name: str, store: NodeStore, died_ns: int) -> None:
        number, found = next(self._numbers), store.found_open()
        calls, relay = self._carry(name, store, _Sending(self._hook))
        fenced = asyncio.Event()
        assert store.nodes is not None
        store.nodes.on_fenced(fenced.set)
        store.on_outcome(calls.on_store_events)
        carried = self._carried[number] = _Carried(calls)
        log.warning("node_taken_over", node=name, epoch=store.epoch, calls=len(found))
        store.note_soon(
            Change(operator=NODE, action="node.takeover", subject=name, text=f"by node {self._own}")
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                begin = tasks.create_task
                running = [
                    begin(store.nodes.serve(self._hook.heard_at, self._lease_s), name="serving"),
                    begin(relay.run(), name=f"relay {name}"),
                    begin(self._beat(calls, store), name=f"heartbeat {name}"),
                ]
                ending = begin(self._end(carried, store, relay, number), name=f"ending {name}")
                losing = begin(fenced.wait(), name=f"fenced {name}")
                await asyncio.wait((ending, losing), return_when=asyncio.FIRST_COMPLETED)
                for task in (*running, ending, losing):
                    task.cancel()
        finally:
            del self._carried[number]  # what the bridge still holds of it is nobody's, and released
            await store.close()
        if not fenced.is_set():
            self.counters.calls_s[name] = (self._clock.mono_ns() - died_ns) / 1e9
        log.warning("takeover_over", node=name, fenced=fenced.is_set(), calls_left=calls.open_count())

    async def _beat(self, calls: Calls, store: NodeStore) -> None:
        while True:
            store.heartbeat(self._clock.mono_ns(), self._clock.wall_ns())
            calls.tick(snapshot=False)
            self._calls.tick(snapshot=True)
            await asyncio.sleep(BEAT_S)

    async def _end(self, carried: _Carried, store: NodeStore, relay: OutboxRelay, number: int) -> None:
        calls = carried.calls
        strays = await self._nodes.strays()
        await calls.recover_of_other(store.found_open(), number << _ID_BITS, strays)
        carried.adopted_at = self._calls.snapshots_asked
        self._calls.tick(snapshot=True)
        while self._calls.snapshots_seen <= carried.adopted_at:  # noqa: ASYNC110 - it comes with other events
            await asyncio.sleep(BEAT_S / 10)
        calls.left_elsewhere(await self._nodes.strays())
        log.info("calls_taken_up", node=calls.policy.node, count=calls.open_count())
        await calls.release_recovered()
        while calls.open_count():  # noqa: ASYNC110 - its calls end by many ways
            await asyncio.sleep(BEAT_S / 10)
        await store.written()
        is_said = False
        while not await relay.drained(TOLD_S_MAX) or await _waiting(store):
            # Its books stay here: whoever took them over again would tell no more of it.
            if not is_said:
                is_said = True
                log.error(
                    "records_wait",
                    node=calls.policy.node,
                    rows=await _waiting(store),
                    advice="the broker is away, or they are not as they were written: journal check",
                )
            await asyncio.sleep(WAIT_S)
        await relay.tell_status()


async def _waiting(store: NodeStore) -> int:
    """Rows of the outbox, those too that cannot be told."""
    with suppress(UnavailableError):
        return (await store.outbox.outbox_state()).depth
    return 1


def _held_by(event: SnapshotTaken, is_theirs: Callable[[int], bool]) -> SnapshotTaken:
    return replace(
        event,
        bridge_ids=frozenset(one for one in event.bridge_ids if is_theirs(one >> _ID_BITS)),
        given_up_ids=frozenset(one for one in event.given_up_ids if is_theirs(one >> _ID_BITS)),
    )
