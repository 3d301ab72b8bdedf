"""The life of one node: what starts in which order, what runs, and how it ends without losing a record.

Start: the store, then the broker and the relay, last the SIP side: no call comes in before everything that it
needs is there. The calls that an earlier boot left open are the first that the SIP side is told of; then they
are ended, beside the new ones. End: the reverse. Live calls are released
as server/admin drain, because a B2BUA that is gone cannot watch them; their records are written, the outbox
gets a moment, the rest of it waits on disk for the next start.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Protocol

import structlog

from sidecar.core.commands import Snapshot, WireCommand
from sidecar.core.events import Event
from sidecar.ports import Clock, Control, Store, Watch
from sidecar.runtime.calls import Calls
from sidecar.runtime.gateways import Gateways
from sidecar.runtime.outbox import OutboxRelay

# How long the end of the node waits: for the legs of the calls that it released and for the gateways that it
# is registered at (a BYE that is lost twice goes out for the third time after 1.5 s, RFC 3261 §17.1.2.2); and
# for the last records to be on disk, and then with the broker.
LEGS_CLOSE_S = 2.0
OUTBOX_DRAIN_S = 2.0
_LOOK_AGAIN_S = 0.02

log = structlog.get_logger("sidecar.service")


class Hook(Watch, Control, Protocol):
    """The SIP side. `start` raises one clear error where an address cannot be listened on."""

    async def start(self, first: Sequence[WireCommand | Snapshot] = ()) -> None:
        """`first` is carried out before anything is heard."""

    async def stop(self) -> None: ...
    def held_calls(self) -> int:
        """Calls of which a leg is open, those among them whose INVITE nobody here has seen yet."""

    def is_short_of_memory(self) -> bool:
        """New calls are refused for it, as node_full."""


class Service:
    """`watchers` are named tasks that run beside the calls. Set `stopping` to end the node."""

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
        watchers: Sequence[tuple[str, Callable[[], Awaitable[None]]]] = (),
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
        self.stopping = asyncio.Event()

    def beside(self, name: str, watch: Callable[[], Awaitable[None]]) -> None:
        """One watcher more, before `run`."""
        self._watchers.append((name, watch))

    async def run(self, ready: Callable[[], None]) -> None:
        self._store.on_outcome(self._calls.on_store_events)
        self._store.on_failing(self._calls.on_store_failing)
        found = self._store.found_open()
        first = self._calls.recover(found)
        if found:
            log.warning("calls_recovered", count=len(found))
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
                await self._wind_down()
            finally:
                await self._hook.stop()
                self._calls.publish_refusals()  # of what it delivered last
                for task in running:
                    task.cancel()

    def _on_events(self, events: Sequence[Event]) -> None:
        self._calls.on_bridge_events(events)
        self._gateways.on_events(events)

    async def _beat(self) -> None:
        for beat in itertools.count():
            self._store.heartbeat(self._clock.mono_ns(), self._clock.wall_ns())
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

    async def _wind_down(self) -> None:
        self._calls.drain()
        self._gateways.leave()
        self._calls.release_some(self._calls.open_count())
        await self._calls.release_live("sidecar", "the node stops")
        with_legs = self._clock.mono_ns() + int(LEGS_CLOSE_S * 1e9)
        await asyncio.sleep(_LOOK_AGAIN_S)  # by then the bridge has heard of the drain
        while self._is_busy() and self._clock.mono_ns() < with_legs:
            await asyncio.sleep(_LOOK_AGAIN_S)
            await self._calls.release_live("sidecar", "the node stops")
        await self._calls.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(OUTBOX_DRAIN_S):
                await self._store.written()
        await self._relay.drained(OUTBOX_DRAIN_S)

    def _is_busy(self) -> bool:
        open_calls = self._calls.open_count() or self._hook.held_calls()
        return bool(open_calls) or self._gateways.is_leaving()


async def _run(watch: Callable[[], Awaitable[None]]) -> None:
    await watch()
