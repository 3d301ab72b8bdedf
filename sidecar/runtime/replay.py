"""Records again: for who asks over the broker, and by command.

One request is served after the other, over a link of its own, so that the live records keep theirs; a page at
a time, and while live records wait for the broker at most a page a second. What is asked is not remembered:
when the link is lost, or the node, who asked asks again. What still waits for the broker is not sent from
here, or it would come before its elders.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from sidecar.core.audit import Change, Operator, told
from sidecar.core.numbers import mask
from sidecar.ports import (
    LinkError,
    OutboxRow,
    ReplayAsked,
    ReplayCounters,
    ReplayDoor,
    ReplayLink,
    ReplayPage,
    Replays,
    ReportMade,
)
from sidecar.runtime.outbox import Backoff, PubackOutcome, outcome_of
from sidecar.wire import replay
from sidecar.wire.replay import Range, ReplayEnd, ReplayError, ReplayRequest

PAGE_NUMBERS = 100
ASKED_MAX = 32  # requests that wait; above it they are told to come again
PUBACK_WAIT_S = 10.0
LIVE_WAIT_S = 1.0  # the longest that live records hold a page back
_LOOK_S = 0.02

log = structlog.get_logger("sidecar.replay")


class ReplayFailedError(Exception):
    """Nothing more was sent; the text says why."""


class Sent(msgspec.Struct, kw_only=True):
    """What became of the numbers that were looked at."""

    count: int = 0
    to_seq: int
    head_seq: int = 0
    waiting: list[Range] = []
    dead: list[Range] = []
    absent: list[Range] = []

    def add(self, page: ReplayPage, refused: list[int]) -> None:
        self.count += len(page.rows) - len(refused)
        self.to_seq, self.head_seq = page.to_seq, page.head_seq
        self.waiting += page.waiting
        self.dead += [*page.dead, *((seq, seq) for seq in refused)]
        self.absent += page.absent


class Replayer:
    """Run `run()` as one task. `is_busy`: live records wait for the broker. `note`: what was sent again, and
    for whom, goes into the audit table. `reported`: what subscribers tell of themselves."""

    def __init__(
        self,
        journal: Replays,
        door: ReplayDoor,
        is_busy: Callable[[], bool],
        note: Callable[[Change], None],
        *,
        reported: Callable[[ReportMade], None] = lambda _: None,
        backoff: Backoff | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._journal = journal
        self._door = door
        self._is_busy = is_busy
        self._note = note
        self._reported = reported
        self.counters = ReplayCounters()
        self._backoff = backoff or Backoff()
        self._sleep = sleep
        self._asked: deque[ReplayAsked] = deque()
        self._sending = asyncio.Lock()
        self._wake = asyncio.Event()
        self._link: ReplayLink | None = None
        self._gone: asyncio.Future[LinkError]  # of this link
        self._told = ""

    async def run(self) -> None:
        while True:
            try:
                async with self._door.connect() as link:
                    await self._serve(link)
            except LinkError as lost:
                if str(lost) != self._told:  # once per cause
                    self._told = str(lost)
                    log.warning("replay_link_lost", error=str(lost))
            except Exception:
                log.exception("replay_defect")  # calls and live records go on
            finally:
                self._link = None
                self._asked.clear()
            await self._sleep(self._backoff.next_delay_s())

    async def send_again(
        self, from_seq: int, to_seq: int | None, numbers_max: int, operator: Operator
    ) -> Sent:
        """By command, of all epochs, each record on its own topic. Raises ReplayFailedError."""
        link = self._link
        if link is None:
            raise ReplayFailedError("there is no link to the broker")
        try:
            return await self._send(link, None, None, from_seq, to_seq, numbers_max, operator)
        except LinkError as lost:
            self._link_was_lost(lost)
            raise ReplayFailedError(f"the link to the broker was lost: {lost}") from lost

    async def _serve(self, link: ReplayLink) -> None:
        self._gone = asyncio.get_running_loop().create_future()
        link.on_lost(self._link_was_lost)
        link.on_asked(self._take)
        link.on_reported(self._reported)
        self._link = link
        self._told = ""
        self._backoff.reset()
        while True:
            if self._gone.done():
                raise self._gone.result()
            if self._asked:
                await self._answer(link, self._asked.popleft())
            else:
                self._wake.clear()
                await self._wake.wait()

    def _take(self, asked: ReplayAsked) -> None:
        if len(self._asked) < ASKED_MAX:
            self._asked.append(asked)
            self._wake.set()
        else:
            log.warning("replay_refused", asked_by=asked.user, error="too many requests wait")

    def _link_was_lost(self, lost: LinkError) -> None:
        if not self._gone.done():
            self._gone.set_result(lost)
        self._wake.set()

    async def _answer(self, link: ReplayLink, asked: ReplayAsked) -> None:
        try:
            request = replay.decode_request(asked.payload)
        except ReplayError as error:
            log.warning("replay_refused", asked_by=asked.user, error=mask(str(error)))
            end = ReplayEnd(
                epoch="", from_seq=0, to_seq=0, waiting=(), dead=(), absent=(), error=str(error)[:200]
            )
        else:
            end = await self._replayed(link, asked, request)
        await self._acknowledged(link, [lambda done: link.answer(asked, replay.encode(end), done)])

    async def _replayed(self, link: ReplayLink, asked: ReplayAsked, request: ReplayRequest) -> ReplayEnd:
        sent = await self._send(
            link,
            asked,
            request.epoch,
            request.from_seq,
            request.to_seq,
            replay.REPLAY_NUMBERS_MAX,
            Operator(asked.user),
        )
        log.info(
            "replayed", asked_by=asked.user, from_seq=request.from_seq, to_seq=sent.to_seq, sent=sent.count
        )
        return ReplayEnd(
            epoch=request.epoch,
            from_seq=request.from_seq,
            to_seq=sent.to_seq,
            sent=sent.count,
            waiting=tuple(sent.waiting),
            dead=tuple(sent.dead),
            absent=tuple(sent.absent),
            head_seq=sent.head_seq,
            error="" if sent.head_seq else "the journal knows no such epoch",
        )

    async def _send(
        self,
        link: ReplayLink,
        asked: ReplayAsked | None,
        epoch: str | None,
        from_seq: int,
        to_seq: int | None,
        numbers_max: int,
        operator: Operator,
    ) -> Sent:
        self.counters.requests += 1
        async with self._sending:
            sent = Sent(to_seq=from_seq - 1)
            left = numbers_max
            try:
                while left > 0:
                    page = await self._journal.replay(epoch, sent.to_seq + 1, to_seq, min(left, PAGE_NUMBERS))
                    looked_at = page.to_seq - sent.to_seq
                    sent.add(page, await self._send_page(link, asked, page))
                    left -= looked_at
                    if not looked_at or page.to_seq == to_seq:
                        break
            finally:  # whatever has left is noted, also where the link was lost after it
                self.counters.records += sent.count
                if sent.count:
                    after = told({"epoch": epoch, "sent": sent.count})
                    numbers = f"{from_seq}-{sent.to_seq}"
                    self._note(Change(operator=operator, action="cdr.replay", subject=numbers, after=after))
            return sent

    async def _send_page(self, link: ReplayLink, asked: ReplayAsked | None, page: ReplayPage) -> list[int]:
        """The numbers that the broker will not take."""
        waited_s = 0.0
        while self._is_busy() and waited_s < LIVE_WAIT_S:
            await self._sleep(_LOOK_S)
            waited_s += _LOOK_S
        refused: list[int] = []
        for at in range(0, len(page.rows), link.window):
            rows = page.rows[at : at + link.window]
            codes = await self._acknowledged(link, [_sender(link, row, asked) for row in rows])
            refused += [row.seq for row, code in zip(rows, codes, strict=True) if _is_refused(code)]
        return refused

    async def _acknowledged(
        self, link: ReplayLink, sends: list[Callable[[Callable[[int, int], None]], None]]
    ) -> list[int]:
        """Send all, and wait for their reason codes."""
        loop = asyncio.get_running_loop()
        waiting: list[asyncio.Future[int]] = []
        for send in sends:
            future: asyncio.Future[int] = loop.create_future()
            waiting.append(future)
            send(_setter(future))
        everything = asyncio.gather(*waiting)
        try:
            await asyncio.wait(
                (everything, self._gone), timeout=PUBACK_WAIT_S, return_when=asyncio.FIRST_COMPLETED
            )
            if everything.done():
                return everything.result()
            if not self._gone.done():
                self._link_was_lost(LinkError(f"no PUBACK for {PUBACK_WAIT_S:g} s"))
            raise self._gone.result()
        finally:
            everything.cancel()


def _sender(
    link: ReplayLink, row: OutboxRow, asked: ReplayAsked | None
) -> Callable[[Callable[[int, int], None]], None]:
    return lambda done: link.send(row, asked, done)


def _setter(future: asyncio.Future[int]) -> Callable[[int, int], None]:
    def done(_: int, code: int) -> None:
        if not future.done():
            future.set_result(code)

    return done


def _is_refused(code: int) -> bool:
    return outcome_of(code) is not PubackOutcome.DELIVERED
