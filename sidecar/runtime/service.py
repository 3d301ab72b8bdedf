"""The life of one node: what starts in which order, what runs, and how it ends without losing a record.

Start: the store, then the broker and the relay, last the SIP side: no call comes in before everything that it
needs is there. The calls that an earlier boot left open are the first that the SIP side is told of; then they
are ended, beside the new ones. End: the reverse. No new calls for `drain_s`, or until none is left; then live
calls are released as server/admin drain, because a B2BUA that is gone cannot watch them; their records are
written, the outbox gets a moment, the rest of it waits on disk for the next start. A planned restart ends the
same way, but that calls which nothing is open of are kept (core/keeping), and silent until the next start.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Protocol

import structlog

from sidecar.core.call import Phase
from sidecar.core.commands import Snapshot, WireCommand
from sidecar.core.events import Event
from sidecar.core.terms import Detail
from sidecar.ports import Clock, Control, Store, Watch
from sidecar.runtime.calls import Calls
from sidecar.runtime.gateways import Gateways
from sidecar.runtime.health import Pulse
from sidecar.runtime.outbox import OutboxRelay
from sidecar.runtime.releasing import release_live, release_where

# How long the end of the node waits: for the legs of the calls that it released and for the gateways that it
# is registered at (a BYE that is lost twice goes out for the third time after 1.5 s, RFC 3261 §17.1.2.2); and
# for the last records to be on disk, and then with the broker.
LEGS_CLOSE_S = 2.0
OUTBOX_DRAIN_S = 2.0
# Of a planned restart: for the legs of calls that are not answered, and then, while those that are kept are
# silent, for the transactions of the others, and for the legs of those that could not be kept.
SET_UP_CLOSE_S = 2.0
KEEP_S = 0.5
KEEP_AGAIN_S = 0.05
KEPT_LEGS_CLOSE_S = 0.3
_LOOK_AGAIN_S = 0.02
_LOOKS_PER_WORD = 500  # to who has started us
_OPERATOR = "sidecar"  # of calls that the end of the node ends

log = structlog.get_logger("sidecar.service")


class Hook(Watch, Control, Protocol):
    """The SIP side. `start` raises one clear error where an address cannot be listened on."""

    async def start(self, first: Sequence[WireCommand | Snapshot] = ()) -> None:
        """`first` is carried out before anything is heard."""

    async def stop(self) -> None: ...
    def keep(self) -> None:
        """CallKept follows for each call that nothing is open of."""

    def held_calls(self) -> int:
        """Calls of which a leg is open, those among them whose INVITE nobody here has seen yet."""

    def pulse(self) -> int:
        """Another number wherever the SIP thread has gone on."""

    def is_short_of_memory(self) -> bool:
        """New calls are refused for it, as node_full."""


class Service:
    """`watchers` are named tasks that run beside the calls. `stop` ends the node."""

    def __init__(
        self,
        *,
        calls: Calls,
        gateways: Gateways,
        hook: Hook,
        store: Store,
        relay: OutboxRelay,
        clock: Clock,
        heartbeat_ms: int,
        snapshot_interval_s: int,
        drain_s: Callable[[], int] = lambda: 0,
        tell_stopping: Callable[[str], None] = lambda _status: None,
        watchers: Sequence[tuple[str, Callable[[], Awaitable[None]]]] = (),
        of_own: Callable[[Sequence[Event]], Sequence[Event]] = lambda events: events,
    ) -> None:
        self._calls = calls
        self._gateways = gateways
        self._hook = hook
        self._store = store
        self._relay = relay
        self._clock = clock
        self._heartbeat_s = heartbeat_ms / 1000
        self._beats_per_snapshot = max(1, snapshot_interval_s * 1000 // heartbeat_ms)
        self._watchers = list(watchers)
        self._is_short_of_memory = False
        self._drain_s = drain_s
        self._tell_stopping = tell_stopping  # again and again, while it takes
        self._of_own = of_own  # what is left of events when those of other nodes' calls are taken out
        self._is_hurried = False
        self.is_fenced = False
        self.stopping = asyncio.Event()
        self.pulse = Pulse()
        self.restarts = False  # whoever ran this node is to run the next one, at once
        self.stop_is_for_next = False

    def restart(self) -> None:
        """End the node; the calls that are up go on in the next one."""
        self.restarts |= not self.stopping.is_set()
        self.stopping.set()

    def stop(self) -> None:
        """For a signal. The second one does not wait for calls to end by themselves. In a restart it is for
        the next node: calls that are kept hear of their end from nobody else."""
        self._is_hurried |= self.stopping.is_set()
        self.stop_is_for_next = self.restarts
        self.stopping.set()

    def fence(self) -> None:
        """Another process writes in the place of this one: it ends its calls, and writes nothing."""
        log.error(
            "fenced",
            calls=self._calls.load.calls,
            advice="another node has taken over the books of this one while it could not be heard: its calls"
            " end, and nothing more is recorded here; it ends with exit code 4, to be started anew",
        )
        self.is_fenced = True
        self.restarts = False
        self.stopping.set()

    def beside(self, name: str, watch: Callable[[], Awaitable[None]]) -> None:
        """One watcher more, before `run`."""
        self._watchers.append((name, watch))

    async def run(self, ready: Callable[[], None], restarting: Callable[[], None] = lambda: None) -> None:
        self._store.on_outcome(self._calls.on_store_events)
        self._store.on_failing(self._calls.on_store_failing)
        found = self._store.found_open()
        first = self._calls.recover(found)
        if kept := self._calls.count(Phase.TALKING):
            await self._on_disk()  # a call is taken up once
            log.info("calls_adopted", count=kept)
        if len(found) > kept:
            log.warning("calls_recovered", count=len(found) - kept)
        self._hook.on_events(self._on_events)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self._relay.run(), name="relay")]
            running += [tasks.create_task(_run(watch), name=name) for name, watch in self._watchers]
            try:
                await self._hook.start(first)
                running.append(tasks.create_task(self._calls.release_recovered(), name="recovery"))
                running.append(tasks.create_task(self._beat(), name="heartbeat"))
                running.append(tasks.create_task(self._gateways.run(), name="gateways"))
                ready()
                await self.stopping.wait()
                if self.restarts:
                    restarting()
                await self._wind_down()
            finally:
                await self._hook.stop()
                self._calls.publish_refusals()  # of what it delivered last
                for task in running:
                    task.cancel()

    def _on_events(self, events: Sequence[Event]) -> None:
        events = self._of_own(events)
        self._calls.on_bridge_events(events)
        self._gateways.on_events(events)

    async def _beat(self) -> None:
        for beat in itertools.count():
            self.pulse.beat(now_ns := self._clock.mono_ns(), self._hook.pulse())
            self._store.heartbeat(now_ns, self._clock.wall_ns())
            self._calls.tick(snapshot=beat % self._beats_per_snapshot == 0)
            self._tell_of_memory()
            await asyncio.sleep(self._heartbeat_s)

    def _tell_of_memory(self) -> None:
        if (is_short := self._hook.is_short_of_memory()) == self._is_short_of_memory:
            return
        self._is_short_of_memory = is_short
        if is_short:
            log.error("memory_short", new_calls="refused")
        else:
            log.info("memory_suffices")

    async def _drained(self) -> None:
        """Until no call is up, or the time for that is over."""
        load, began_ns = self._calls.load, self._clock.mono_ns()
        drain_s = self._drain_s()  # as it is set now
        until_ns = began_ns + drain_s * 1_000_000_000
        if load.calls and drain_s:
            log.info("draining", calls=load.calls, drain_s=drain_s)
        for look in itertools.count():
            if not load.calls or self._is_hurried or self._clock.mono_ns() >= until_ns:
                break
            if look % _LOOKS_PER_WORD == 0:
                self._tell_stopping(f"draining: {load.calls} calls are up")
            await asyncio.sleep(_LOOK_AGAIN_S)
        self._tell_stopping(f"ending {load.calls} calls")

    async def _wind_down(self) -> None:
        self._calls.drain(stopping=True)
        self._calls.release_some(self._calls.open_count())
        if self.is_fenced:
            await self._released("its books were taken over", LEGS_CLOSE_S)
            return
        if self.restarts:
            await self._keep()
            await self._released("the node restarts", KEPT_LEGS_CLOSE_S)
        else:
            self._gateways.leave()
            await self._drained()
            await self._released("the node stops", LEGS_CLOSE_S)
        await self._calls.close()
        await self._on_disk()
        if not self.restarts:  # else the outbox goes on soon
            await self._relay.drained(OUTBOX_DRAIN_S)

    async def _released(self, why: str, legs_close_s: float) -> None:
        await release_live(self._calls, _OPERATOR, why)
        with_legs = self._clock.mono_ns() + int(legs_close_s * 1e9)
        await asyncio.sleep(_LOOK_AGAIN_S)  # by then the bridge has heard of the drain
        while self._is_busy() and self._clock.mono_ns() < with_legs:
            await asyncio.sleep(_LOOK_AGAIN_S)
            await release_live(self._calls, _OPERATOR, why)

    async def _keep(self) -> None:
        """First what is not answered is ended, while all others are heard; then they are kept, the last of
        them as soon as its transactions are over."""
        calls = self._calls
        await release_where(
            calls,
            lambda call: call.phase is not Phase.TALKING,
            Detail.DRAIN,
            operator=_OPERATOR,
            text="the node restarts",
        )
        until_ns = self._clock.mono_ns() + int(SET_UP_CLOSE_S * 1e9)
        while calls.open_count() > calls.count(Phase.TALKING):
            await asyncio.sleep(_LOOK_AGAIN_S)
            if self._clock.mono_ns() >= until_ns:
                break
        log.info("keeping_calls", count=calls.count(Phase.TALKING))
        until_ns = self._clock.mono_ns() + int(KEEP_S * 1e9)
        while calls.count(Phase.TALKING) and self._clock.mono_ns() < until_ns:
            self._hook.keep()
            await asyncio.sleep(KEEP_AGAIN_S)
        log.info("calls_kept", count=calls.count(Phase.KEPT), ended=calls.count(Phase.TALKING))

    async def _on_disk(self) -> None:
        """What was submitted, unless the disk fails."""
        with suppress(TimeoutError):
            async with asyncio.timeout(OUTBOX_DRAIN_S):
                await self._store.written()

    def _is_busy(self) -> bool:
        held = self._hook.held_calls() - self._calls.count(Phase.KEPT)
        return bool(self._calls.open_count()) or held > 0 or self._gateways.is_leaving()


async def _run(watch: Callable[[], Awaitable[None]]) -> None:
    await watch()
