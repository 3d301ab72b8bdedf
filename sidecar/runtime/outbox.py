"""The relay: rows of the outbox go to the broker in the order of `seq`, and leave the outbox when the broker
has them.

One task pumps; it is the only one that reads, sends and acknowledges. Everything that can go wrong (no
broker, a link that broke or fell silent, a broker that refuses for now, a store that cannot write) ends in
the one retry loop of `run`: forget what was in flight, write what was acknowledged, wait, read again from the
lowest row that still waits. So a row may be sent twice, never not at all: it is taken out only after its
PUBACK, and a crash between the PUBACK and the commit of `acknowledge` sends it again with the same message
id.

In memory: at most one window of rows (in flight), and at most `unwritten_max` sequence numbers that were
acknowledged and not yet committed. A backlog of any length stays in the store.

A broker that answers a message by hanging up (DISCONNECT 0x87, 0x90, 0x95 or 0x99) does not say which one it
meant. The rows that were in flight are then sent one at a time; the one that is alone when it happens again
is the dead letter.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum

import msgspec
import structlog

from sidecar.ports import (
    Link,
    LinkError,
    Outbox,
    OutboxRow,
    OutboxState,
    OutboxStatus,
    Publisher,
    RelayCounters,
)

NO_SUBSCRIBER = 0x10
TAKEN_OVER = 0x8E  # session taken over: another client has our id (MQTT 5, §4.13)
RIVAL_S = 30.0  # it has the link before we take it back, so that both tell their records, in turns
DEAD_CODES = frozenset(
    {
        0x87,  # not authorized
        0x90,  # topic name invalid
        0x95,  # packet too large: larger than the broker's Maximum Packet Size
        0x99,  # payload format invalid
    }
)

# Between two writes. What the broker acknowledges meanwhile is written together; a crash sends it again,
# under the same message ids.
ACKNOWLEDGE_INTERVAL_S = 0.05

log = structlog.get_logger("sidecar.outbox")


class PubackOutcome(StrEnum):
    DELIVERED = "delivered"
    RETRY = "retry"
    DEAD = "dead"


def outcome_of(code: int) -> PubackOutcome:
    """What a PUBACK reason code means for its row (MQTT 5 §3.4.2.1). A code that nobody has heard of is tried
    again: losing a record is worse than repeating one."""
    if code < 0x80:
        return PubackOutcome.DELIVERED
    return PubackOutcome.DEAD if code in DEAD_CODES else PubackOutcome.RETRY


class Backoff:
    """Exponential, bounded, with jitter: each delay is between half and the whole of its bound."""

    def __init__(
        self, *, first_s: float = 0.1, most_s: float = 10.0, draw: Callable[[], float] = random.random
    ) -> None:
        self.most_s = most_s
        self._first_s = first_s
        self._draw = draw
        self._bound_s = first_s

    def next_delay_s(self) -> float:
        bound_s = self._bound_s
        self._bound_s = min(bound_s * 2, self.most_s)
        return bound_s * (0.5 + self._draw() / 2)

    def reset(self) -> None:
        self._bound_s = self._first_s


class RelayLimits(msgspec.Struct, frozen=True, kw_only=True):
    ack_timeout_s: float = 10.0  # a link whose oldest row waits longer for its PUBACK is given up
    status_interval_s: float = 10.0
    unwritten_max: int = 1_000


class OutboxError(Exception):
    """The store could not read rows, or write what was acknowledged, now."""


class OutboxRelay:
    """Run `run()` as one task; it ends only by being cancelled."""

    def __init__(
        self,
        outbox: Outbox,
        status: OutboxStatus,
        publisher: Publisher,
        *,
        limits: RelayLimits | None = None,
        backoff: Backoff | None = None,
        has_rival: Callable[[], Awaitable[bool]] | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        mono_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outbox = outbox
        self._status = status
        self._publisher = publisher
        self._limits = limits or RelayLimits()
        self._backoff = backoff or Backoff()
        self._has_rival = has_rival
        self._sleep = sleep
        self._mono_s = mono_s
        self.counters = RelayCounters()
        self.state: OutboxState | None = None  # as last read; None before the first read

        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._link: Link | None = None
        self._lost: LinkError | None = None
        self._told = ""  # the last failure to connect that was logged
        self._nobody_told = False  # once per link
        self._cursor = 0  # the last row read in this pass
        self._rows_waiting = True  # there may be rows behind the cursor
        self._refused = False  # a row of this pass is to be tried again
        self._again = False  # rows may have come back behind the cursor
        self._careful_until = 0  # rows up to this one are sent alone
        self._in_flight: dict[int, float] = {}  # seq -> when it was sent; oldest first
        self._delivered: list[int] = []  # acknowledged by the broker, not yet handed to the outbox
        self._dead: list[tuple[int, int]] = []
        self._writing = False  # one `acknowledge` is under way, or its interval
        self._writing_rows = 0  # in it
        self._acknowledge_done = asyncio.Event()
        self._acknowledge_error: Exception | None = None
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        self._outbox.on_rows(self._rows_added)
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._repeat_status(), name="outbox-status")
            tasks.create_task(self._watch_acknowledgements(), name="outbox-acknowledgements")
            await self._keep_publishing()

    async def drained(self, within_s: float) -> bool:
        """Wait until every row is with the broker and out of the outbox, for a stop that repeats nothing."""
        with contextlib.suppress(TimeoutError, OutboxError):
            async with asyncio.timeout(within_s):
                if not self.counters.connected and not self._unwritten and not await self._depth():
                    return True  # no broker, but nothing for it either
                await self._idle.wait()
                return True
        return False

    @property
    def is_busy(self) -> bool:
        """Rows wait for the broker, or for being taken out."""
        return not self._idle.is_set()

    def read_again(self) -> None:
        """Rows came back under their old numbers (dead letters that are to be tried again). Without this call
        they go out when the status is next renewed and nothing else is under way."""
        self._again = True
        self._rows_added()

    # --- the retry loop -------------------------------------------------------------------------------------

    async def _keep_publishing(self) -> None:
        while True:
            began_s, least_s = self._mono_s(), 0.0
            try:
                await self._acknowledge_all()
                async with self._publisher.connect() as link:
                    await self._serve(link)
            except LinkError as lost:
                code = await self._why(lost)
                self._note_link_lost(lost, code)
                least_s = RIVAL_S if code == TAKEN_OVER else 0.0
            except OutboxError as failed:
                self.counters.outbox_failures += 1
                log.error("outbox_failed", error=str(failed))
            except Exception:
                # A defect of ours must not end the calls with it: the rows are on disk, and nothing was
                # acknowledged.
                self.counters.defects += 1
                log.exception("relay_defect")
            finally:
                self._link = None
                self.counters.connected = False
                self._in_flight.clear()
                self.counters.in_flight = 0
            if self._mono_s() - began_s > self._backoff.most_s:
                self._backoff.reset()  # that link had lasted: its end is a first failure
            await self._sleep(max(least_s, self._backoff.next_delay_s()))

    async def _why(self, lost: LinkError) -> int | None:
        """Some brokers cut a link that another took over without a word (Mosquitto before 2.1)."""
        if lost.code is None and self.counters.connected and self._has_rival and await self._has_rival():
            return TAKEN_OVER
        return lost.code

    async def _pause(self) -> None:
        await self._sleep(self._backoff.next_delay_s())

    async def _serve(self, link: Link) -> None:
        """Publish over one link until it is lost."""
        self._link, self._lost = link, None
        link.on_lost(self._link_was_lost)
        self.counters.connected = True
        self.counters.connects += 1
        self._told = ""
        self._nobody_told = False
        log.info("broker_connected", window=link.window)
        await self._read_state()
        if self.state is not None:
            link.publish_status(self.state)
        self._rewind()
        while True:
            self._wake.clear()
            if self._lost is not None:
                raise self._lost
            self._acknowledge_some()
            oldest_seq = next(iter(self._in_flight), self._cursor + 1)
            window = 1 if oldest_seq <= self._careful_until else link.window
            room = window - len(self._in_flight)
            if self._refused or self._again:
                if not self._in_flight:
                    await self._acknowledge_all()
                    if self._refused:
                        await self._pause()
                    self._rewind()
                    continue
            elif self._rows_waiting and room * 2 >= window and self._unwritten < self._limits.unwritten_max:
                await self._send_page(link, room)
                continue
            if not (self._rows_waiting or self._in_flight or self._unwritten):
                self._idle.set()
            await self._wake.wait()

    def _rewind(self) -> None:
        """Read again from the lowest waiting row. The caller has written everything that was acknowledged, or
        those rows would be read, and sent, again."""
        self._cursor = 0
        self._rows_waiting = True
        self._refused = self._again = False

    async def _send_page(self, link: Link, room: int) -> None:
        self._rows_waiting = False  # before the read: rows committed while it runs set it again
        try:
            rows: Sequence[OutboxRow] = await self._outbox.pending(self._cursor, room)
        except Exception as error:  # whatever the store raises: the rows are still there
            raise OutboxError(f"reading: {error}") from error
        if len(rows) >= room:
            self._rows_waiting = True
        for row in rows:
            self._in_flight[row.seq] = self._mono_s()
            self._cursor = row.seq
            link.send(row, self._on_puback)
        self.counters.sent += len(rows)
        self.counters.in_flight = len(self._in_flight)

    # --- what comes back ------------------------------------------------------------------------------------

    def _rows_added(self) -> None:
        self._rows_waiting = True
        self._idle.clear()
        self._wake.set()

    def _link_was_lost(self, lost: LinkError) -> None:
        if self._lost is None:
            self._lost = lost
            self._wake.set()

    def _on_puback(self, seq: int, code: int) -> None:
        if self._in_flight.pop(seq, None) is None:
            return
        counters = self.counters
        counters.in_flight = len(self._in_flight)
        counters.codes[code] = counters.codes.get(code, 0) + 1
        outcome = outcome_of(code)
        if outcome is PubackOutcome.DELIVERED:
            self._delivered.append(seq)
            counters.delivered += 1
            if code == NO_SUBSCRIBER:
                counters.no_subscriber += 1
                if not self._nobody_told:
                    self._nobody_told = True
                    log.warning("no_subscriber", seq=seq, advice="the broker took the record; nobody listens")
            self._backoff.reset()
        elif outcome is PubackOutcome.DEAD:
            self._bury(seq, code)
        else:
            counters.retried += 1
            if not self._refused:
                log.warning("row_refused", seq=seq, code=code)
            self._refused = True
        self._wake.set()

    def _bury(self, seq: int, code: int) -> None:
        self._dead.append((seq, code))
        self.counters.dead += 1
        log.error("dead_letter", seq=seq, code=code)

    def _note_link_lost(self, lost: LinkError, code: int | None) -> None:
        if code == TAKEN_OVER:
            self.counters.links_taken_over += 1
            log.error(
                "broker_link_taken_over", advice="another node has this tenant and name: rename one of them"
            )
        elif self.counters.connected:
            self.counters.links_lost += 1
            log.warning("broker_lost", error=str(lost), code=lost.code, in_flight=len(self._in_flight))
        elif str(lost) != self._told:  # once per cause, however often it is tried
            log.warning("broker_not_reached", error=str(lost), code=lost.code)
            self._told = str(lost)
        if lost.code not in DEAD_CODES or not self._in_flight:
            return
        if len(self._in_flight) == 1 and self._cursor <= self._careful_until:
            self._bury(next(iter(self._in_flight)), lost.code)
        else:
            self._careful_until = max(self._in_flight)

    # --- acknowledging --------------------------------------------------------------------------------------

    @property
    def _unwritten(self) -> int:
        return len(self._delivered) + len(self._dead) + self._writing_rows

    def _acknowledge_some(self) -> None:
        """Keep one `acknowledge` under way while there is something to write; what comes meanwhile is the
        next batch."""
        if self._acknowledge_error is not None:
            error, self._acknowledge_error = self._acknowledge_error, None
            raise OutboxError(f"acknowledging: {error}") from error
        if not self._writing and (self._delivered or self._dead):
            delivered, self._delivered = self._delivered, []
            dead, self._dead = self._dead, []
            self._writing = True
            self._writing_rows = len(delivered) + len(dead)
            self._acknowledge_done.clear()
            assert self._tasks is not None
            self._tasks.create_task(self._acknowledge(delivered, dead), name="outbox-acknowledge")

    async def _acknowledge(self, delivered: list[int], dead: list[tuple[int, int]]) -> None:
        try:
            await self._outbox.acknowledge(delivered, dead)
            self._writing_rows = 0
            self._wake.set()
            await asyncio.sleep(ACKNOWLEDGE_INTERVAL_S)
        except Exception as error:  # noqa: BLE001
            # Kept, and asked for again by the retry loop; a repeated `acknowledge` changes nothing.
            self._delivered[:0] = delivered
            self._dead[:0] = dead
            self._acknowledge_error = error
        finally:
            self._writing = False
            self._writing_rows = 0
            self._acknowledge_done.set()
            self._wake.set()

    async def _acknowledge_all(self) -> None:
        while self._unwritten:
            self._acknowledge_some()
            await self._acknowledge_done.wait()

    # --- at intervals ---------------------------------------------------------------------------------------

    async def _repeat_status(self) -> None:
        while True:
            await asyncio.sleep(self._limits.status_interval_s)
            await self.tell_status()

    async def tell_status(self) -> None:
        """Now, where there is a link."""
        try:
            await self._read_state()
            if self._link is not None and self.state is not None:
                self._link.publish_status(self.state)
                if self._idle.is_set() and self.state.depth:
                    self.read_again()
        except OutboxError as failed:
            log.error("outbox_failed", error=str(failed))
        except LinkError:
            pass  # the retry loop knows

    async def _depth(self) -> int:
        await self._read_state()
        return self.state.depth if self.state is not None else 0

    async def _read_state(self) -> None:
        try:
            self.state = await self._status.outbox_state()
        except Exception as error:
            raise OutboxError(f"reading the state: {error}") from error

    async def _watch_acknowledgements(self) -> None:
        """A broker that is stopped, or gone without a word, keeps its TCP connection: only missing PUBACKs
        show it."""
        timeout_s = self._limits.ack_timeout_s
        while True:
            await asyncio.sleep(timeout_s / 4)
            oldest_s = next(iter(self._in_flight.values()), None)
            if oldest_s is not None and self._mono_s() - oldest_s > timeout_s:
                self._link_was_lost(LinkError(f"no PUBACK for {timeout_s:g} s"))
