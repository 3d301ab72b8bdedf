"""Alarms on their way out: a line in the log, a metric, an entry in the audit table, an event on the broker.

The first three are done at once. Events wait in a bounded queue for a link of their own, made when there is
something to tell and given up when it was told: the ordered link of the records is not for them. Past
WAITING_MAX the oldest is dropped and counted; past NOTED_PER_MIN so are entries of the audit table, which a
flood would fill for good. Events that wait when the node ends are gone: the audit table has them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import islice

import msgspec
import structlog

from sidecar.core.alarms import AnyAlarm, alarm_id, audited
from sidecar.core.audit import Change
from sidecar.ports import Clock, Link, LinkError, Meter, OutboxRow, Publisher
from sidecar.runtime.outbox import Backoff, PubackOutcome, outcome_of
from sidecar.wire.event import EVENT_VERSION, Event, encode
from sidecar.wire.topics import event_topic

WAITING_MAX = 1_000
NOTED_PER_MIN = 600
PUBACK_WAIT_S = 10.0
_MINUTE_NS = 60_000_000_000

log = structlog.get_logger("sidecar.alarms")


class Alarms:
    """Run `run()` as one task. `note` writes into the audit table, soon; it never blocks."""

    def __init__(
        self,
        *,
        tenant: str,
        node: str,
        boot_id: str,
        publisher: Publisher,
        note: Callable[[Change], None],
        clock: Clock,
        meter: Meter,
        backoff: Backoff | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._names = tenant, node, boot_id
        self._publisher = publisher
        self._note = note
        self._clock = clock
        self._meter = meter
        self._backoff = backoff or Backoff()
        self._sleep = sleep
        self._raised = 0
        self._waiting: dict[int, OutboxRow] = {}  # by number, the oldest first
        self._news = asyncio.Event()
        self._minute = 0
        self._noted = 0  # in it
        self._told = ""  # why events do not leave, as it was logged last

    def raise_alarm(self, alarm: AnyAlarm) -> None:
        """Never blocks, never raises for what the outside does."""
        self._meter.alarm_raised(alarm.kind)
        log.warning("alarm", **msgspec.to_builtins(alarm))
        self._note_in_audit(alarm)
        self._raised += 1
        tenant, node, boot_id = self._names
        event = Event(
            message_id=alarm_id(tenant, node, boot_id, self._raised),
            tenant=tenant,
            node=node,
            boot_id=boot_id,
            alarm=alarm,
        )
        self._waiting[self._raised] = OutboxRow(
            seq=self._raised,
            topic=event_topic(tenant, node, alarm.kind),
            payload=encode(event),
            message_id=str(event.message_id),
            content_version=EVENT_VERSION,
        )
        if len(self._waiting) > WAITING_MAX:
            del self._waiting[next(iter(self._waiting))]
            self._meter.alarm_lost("broker")
        self._news.set()

    def _note_in_audit(self, alarm: AnyAlarm) -> None:
        minute = self._clock.mono_ns() // _MINUTE_NS
        if minute != self._minute:
            self._minute, self._noted = minute, 0
        self._noted += 1
        if self._noted > NOTED_PER_MIN:
            self._meter.alarm_lost("audit")
        else:
            self._note(audited(alarm))

    async def run(self) -> None:
        while True:
            while not self._waiting:
                self._news.clear()
                await self._news.wait()
            try:
                async with self._publisher.connect() as link:
                    await self._publish(link)
            except LinkError as lost:
                if str(lost) != self._told:  # once per cause
                    self._told = str(lost)
                    log.warning("alarms_wait", error=self._told, waiting=len(self._waiting))
                await self._sleep(self._backoff.next_delay_s())
            else:
                self._told = ""
                self._backoff.reset()

    async def _publish(self, link: Link) -> None:
        """All that waits, a window at a time."""
        lost: list[LinkError] = []

        def on_lost(error: LinkError) -> None:
            lost.append(error)
            self._news.set()

        link.on_lost(on_lost)
        while self._waiting:
            codes: dict[int, int] = {}

            def acknowledged(number: int, code: int, codes: dict[int, int] = codes) -> None:
                codes[number] = code
                self._news.set()

            rows = list(islice(self._waiting.values(), link.window))
            for row in rows:
                link.send(row, acknowledged)
            try:
                async with asyncio.timeout(PUBACK_WAIT_S):
                    while len(codes) < len(rows) and not lost:
                        self._news.clear()
                        await self._news.wait()
            except TimeoutError:
                lost.append(LinkError(f"no PUBACK for {PUBACK_WAIT_S:g} s"))
            self._take_out(codes)
            if lost:
                raise lost[0]

    def _take_out(self, codes: dict[int, int]) -> None:
        refused = 0
        for number, code in codes.items():
            match outcome_of(code):
                case PubackOutcome.DELIVERED:
                    self._waiting.pop(number, None)
                case PubackOutcome.DEAD:
                    if self._waiting.pop(number, None) is not None:
                        self._meter.alarm_lost("broker")
                    log.error("alarm_not_taken", code=code)
                case PubackOutcome.RETRY:
                    refused = code
        if refused:
            raise LinkError(f"the broker refuses for now: 0x{refused:02x}")
