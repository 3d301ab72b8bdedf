"""The relay turn by turn: the test plays the broker, and says when each row is acknowledged and when the link
is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from sidecar.adapters.memory import MemoryOutbox
from sidecar.ports import Link, LinkError, OutboxRow, OutboxState
from sidecar.runtime import outbox as module
from sidecar.runtime.outbox import Backoff, OutboxRelay, RelayLimits

WITHIN_S = 20


class HandLink:
    """Acknowledges with `code` at once; None: when the test says so."""

    def __init__(self, window: int, code: int | None) -> None:
        self.window = window
        self.code = code
        self.sent: list[int] = []
        self.statuses: list[OutboxState] = []
        self._acknowledge: Callable[[int, int], None]
        self._notify: Callable[[LinkError], None]

    def send(self, row: OutboxRow, acknowledged: Callable[[int, int], None]) -> None:
        self.sent.append(row.seq)
        self._acknowledge = acknowledged
        if self.code is not None:
            acknowledged(row.seq, self.code)

    def publish_status(self, state: OutboxState) -> None:
        self.statuses.append(state)

    def on_lost(self, notify: Callable[[LinkError], None]) -> None:
        self._notify = notify

    def puback(self, *seqs: int, code: int = 0) -> None:
        for seq in seqs:
            self._acknowledge(seq, code)

    def lose(self, code: int = 0) -> None:
        self._notify(LinkError("lost", code))


class Relaying:
    """A relay, its broker and its clock."""

    def __init__(self, rows: MemoryOutbox, *, window: int = 4, code: int | None = None, **limits: float):
        self.rows = rows
        self.links: list[HandLink] = []
        self.paused_s: list[float] = []
        self.is_up = True
        self.code = code
        self.now_s = 100.0
        self._window = window
        self._go_on = asyncio.Event()
        self.relay = OutboxRelay(
            rows,
            rows,
            self,
            limits=RelayLimits(**limits),  # type: ignore[arg-type]
            backoff=Backoff(draw=lambda: 1.0),
            sleep=self._sleep,
            mono_s=lambda: self.now_s,
        )

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Link]:
        if not self.is_up:
            raise LinkError("nobody there")
        self.links.append(HandLink(self._window, self.code))
        yield self.links[-1]

    async def _sleep(self, seconds: float) -> None:
        self.paused_s.append(seconds)
        await asyncio.sleep(0.001)

    @property
    def link(self) -> HandLink:
        return self.links[-1]

    def add(self, count: int = 1) -> None:
        for _ in range(count):
            self.rows.add("topic", b"", "id")

    async def sent(self, *seqs: int) -> None:
        """So much has left on this link, and no more does."""
        await self.until(lambda: bool(self.links) and len(self.link.sent) >= len(seqs))
        await self.turns()
        assert tuple(self.link.sent) == seqs

    async def turns(self) -> None:
        for _ in range(30):
            await asyncio.sleep(0)

    async def statuses(self, count: int) -> None:
        """So many more were told: enough for whoever looks at intervals."""
        target = len(self.link.statuses) + count
        await self.until(lambda: len(self.link.statuses) >= target)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not holds():  # noqa: ASYNC110
                await asyncio.sleep(0.001)


@asynccontextmanager
async def relaying(
    rows: MemoryOutbox | None = None, *, window: int = 4, code: int | None = None, **limits: float
) -> AsyncIterator[Relaying]:
    at = Relaying(rows or MemoryOutbox(), window=window, code=code, **limits)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(at.relay.run(), name="relay")
        yield at
        task.cancel()


# --- the window ---------------------------------------------------------------------------------------------


async def test_rows_are_read_when_half_of_the_window_is_free() -> None:
    async with relaying() as at:
        at.add(9)
        await at.sent(1, 2, 3, 4)
        assert at.relay.counters.in_flight == 4
        at.link.puback(1)
        await at.sent(1, 2, 3, 4)
        at.link.puback(2)
        await at.sent(1, 2, 3, 4, 5, 6)
        assert (at.relay.counters.sent, at.relay.counters.in_flight) == (6, 4)


async def test_what_was_in_flight_when_a_broker_hung_up_on_it_is_sent_alone_and_the_rest_is_not() -> None:
    async with relaying() as at:
        at.add(9)
        await at.sent(1, 2, 3, 4)
        at.link.lose(0x95)
        await at.until(lambda: len(at.links) == 2)
        for seq in (1, 2, 3, 4):
            await at.sent(*range(1, seq + 1))
            at.link.puback(seq)
        await at.sent(1, 2, 3, 4, 5, 6, 7, 8)
    assert at.rows.dead == {}


async def test_the_last_of_those_that_a_broker_may_have_meant_is_alone_too() -> None:
    async with relaying() as at:
        at.add(9)
        await at.sent(1, 2, 3, 4)
        at.link.lose(0x95)
        await at.until(lambda: len(at.links) == 2)
        for seq in (1, 2, 3):
            await at.sent(*range(1, seq + 1))
            at.link.puback(seq)
        await at.sent(1, 2, 3, 4)
        at.link.lose(0x95)
        await at.until(lambda: len(at.links) == 3)
        await at.sent(5, 6, 7, 8)
    assert at.rows.dead == {4: 0x95}


async def test_a_broker_that_hangs_up_on_nothing_blames_no_row() -> None:
    async with relaying() as at:
        await at.until(lambda: bool(at.links))
        await at.turns()
        at.link.lose(0x95)
        await at.until(lambda: len(at.links) == 2)
        at.add(3)
        await at.sent(1, 2, 3)
    assert at.rows.dead == {}


async def test_so_many_rows_go_out_before_they_are_written_and_no_more() -> None:
    async with relaying(HeldOutbox(), window=1, code=0, unwritten_max=2) as at:
        at.add(5)
        await at.sent(1, 2)


class BusyOutbox(MemoryOutbox):
    """A row is committed while the first read is under way, too late to be in its answer."""

    async def pending(self, after_seq: int, rows_max: int) -> Sequence[OutboxRow]:
        found = await super().pending(after_seq, rows_max)
        if self.head_seq < 2:
            self.add("topic", b"", "id")
        return found


async def test_a_row_that_is_committed_during_a_read_is_read_next() -> None:
    rows = BusyOutbox()
    rows.add("topic", b"", "id")
    # The status, when it is renewed, would find the row too: not in time for this.
    async with relaying(rows, code=0, status_interval_s=2 * WITHIN_S) as at:
        await at.sent(1, 2)


async def test_without_a_limit_a_thousand_rows_go_out_before_they_are_written() -> None:
    async with relaying(HeldOutbox(), window=1, code=0) as at:
        at.add(1_005)
        await at.sent(*range(1, 1_001))


async def test_a_row_whose_acknowledgement_is_late_holds_up_no_other() -> None:
    async with relaying(status_interval_s=0.01) as at:
        at.add()
        await at.sent(1)
        await at.statuses(3)
        at.add()
        await at.sent(1, 2)


# --- what is drained ----------------------------------------------------------------------------------------


class HeldOutbox(MemoryOutbox):
    """Acknowledges only when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.let = asyncio.Event()

    async def acknowledge(self, delivered: Sequence[int], dead: Sequence[tuple[int, int]]) -> None:
        await self.let.wait()
        await super().acknowledge(delivered, dead)


@pytest.mark.parametrize("code", [0, 0x87])
async def test_a_row_that_is_not_written_out_of_the_outbox_is_not_drained(code: int) -> None:
    rows = HeldOutbox()
    async with relaying(rows, code=code) as at:
        at.add()
        await at.sent(1)
        assert not await at.relay.drained(0.05)
        rows.let.set()
        assert await at.relay.drained(WITHIN_S)
        assert rows.waiting == []


async def test_a_new_row_is_not_drained_though_all_before_were() -> None:
    async with relaying() as at:
        await at.until(lambda: bool(at.links))
        assert await at.relay.drained(WITHIN_S)
        at.add()
        assert not await at.relay.drained(0.05)
        at.link.puback(1)
        assert await at.relay.drained(WITHIN_S)


# --- writing what was acknowledged --------------------------------------------------------------------------


class NotedOutbox(MemoryOutbox):
    """Notes what is acknowledged together; fails the first so many times."""

    def __init__(self, fails: int = 0) -> None:
        super().__init__()
        self.noted: list[list[int]] = []
        self.fails = fails

    async def acknowledge(self, delivered: Sequence[int], dead: Sequence[tuple[int, int]]) -> None:
        if self.fails:
            self.fails -= 1
            raise OSError("disk full")
        self.noted.append([*delivered, *(seq for seq, _ in dead)])
        await super().acknowledge(delivered, dead)


async def test_what_is_acknowledged_soon_after_another_is_written_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ACKNOWLEDGE_INTERVAL_S", 0.5)
    rows = NotedOutbox()
    async with relaying(rows) as at:
        at.add(3)
        await at.sent(1, 2, 3)
        for seq in (1, 2, 3):
            at.link.puback(seq)
            await at.turns()
        assert await at.relay.drained(WITHIN_S)
    assert rows.noted == [[1], [2, 3]]


@pytest.mark.parametrize("code", [0, 0x87])
async def test_rows_whose_acknowledgement_could_not_be_written_are_not_sent_again(code: int) -> None:
    rows = NotedOutbox(fails=2)
    async with relaying(rows, code=code) as at:
        at.add(3)
        await at.until(lambda: bool(rows.noted))
        assert await at.relay.drained(WITHIN_S)
        assert [seq for link in at.links for seq in link.sent] == [1, 2, 3]
    assert rows.noted == [[1, 2, 3]]
    assert at.relay.counters.outbox_failures == 2


# --- pauses and retries -------------------------------------------------------------------------------------


async def test_a_broker_that_is_away_is_tried_at_growing_intervals_up_to_ten_seconds() -> None:
    at = Relaying(MemoryOutbox())
    at.is_up = False
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(at.relay.run(), name="relay")
        await at.until(lambda: len(at.paused_s) >= 9)
        task.cancel()
    assert at.paused_s[:9] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10])


@pytest.mark.parametrize(("lasted_s", "pause_s"), [(10.0, 0.8), (10.5, 0.1)])
async def test_a_link_that_lasted_begins_the_pauses_anew(lasted_s: float, pause_s: float) -> None:
    async with relaying() as at:
        for count, s in enumerate((0.0, 0.0, 0.0, lasted_s), start=1):
            await at.until(lambda: len(at.links) == count)  # noqa: B023
            await at.until(lambda: at.relay.counters.connected)
            await at.turns()
            at.now_s += s
            at.link.lose()
            await at.until(lambda: len(at.paused_s) == count)  # noqa: B023
    assert at.paused_s == pytest.approx([0.1, 0.2, 0.4, pause_s])


async def test_only_a_row_that_was_refused_makes_the_relay_pause() -> None:
    async with relaying(code=0) as at:
        at.add(2)
        await at.sent(1, 2)
        at.relay.read_again()
        assert await at.relay.drained(WITHIN_S)
        assert at.paused_s == []
        at.link.code = 0x97
        at.add()
        await at.until(lambda: len(at.paused_s) >= 2)
        at.link.code = 0
        assert await at.relay.drained(WITHIN_S)
    assert at.link.sent == [1, 2] + [3] * (len(at.paused_s) + 1)


async def test_a_lost_link_leaves_nothing_in_flight_and_hears_nothing_more() -> None:
    async with relaying(status_interval_s=0.01) as at:
        at.add(3)
        await at.sent(1, 2, 3)
        at.is_up = False
        at.link.lose()
        await at.until(lambda: len(at.paused_s) >= 2)
        counters = at.relay.counters
        assert (counters.connected, counters.in_flight, counters.links_lost) == (False, 0, 1)
        told = len(at.link.statuses)
        await at.until(lambda: len(at.paused_s) >= 30)
        assert len(at.link.statuses) == told
        at.is_up = True
        await at.until(lambda: len(at.links) == 2)
        await at.sent(1, 2, 3)
        assert counters.connects == 2


@pytest.mark.parametrize(("waited_ms", "links"), [(62.5, 1), (93.75, 2)])
async def test_a_link_whose_oldest_row_waits_too_long_is_given_up(waited_ms: float, links: int) -> None:
    async with relaying(ack_timeout_s=0.0625, status_interval_s=0.02) as at:
        began_s = at.now_s
        at.add()
        await at.sent(1)
        at.now_s = began_s + 0.046875
        at.add()
        await at.sent(1, 2)
        at.now_s = began_s + waited_ms / 1_000
        if links == 2:
            await at.until(lambda: len(at.links) == 2)
        else:
            await at.statuses(10)
            assert len(at.links) == 1


# --- what is told -------------------------------------------------------------------------------------------


async def test_the_status_is_told_as_soon_as_there_is_a_link() -> None:
    async with relaying() as at:
        await at.until(lambda: bool(at.links) and bool(at.link.statuses))


async def test_a_dead_letter_is_told_with_its_code() -> None:
    with capture_logs() as lines:
        async with relaying(code=0x87) as at:
            at.add()
            assert await at.relay.drained(WITHIN_S)
    dead = [(line["seq"], line["code"]) for line in lines if line["event"] == "dead_letter"]
    assert dead == [(1, 0x87)]
    assert (at.relay.counters.dead, at.relay.counters.codes) == (1, {0x87: 1})


class BlindOutbox(MemoryOutbox):
    is_blind = False

    async def outbox_state(self) -> OutboxState:
        if self.is_blind:
            raise OSError("disk I/O error")
        return await super().outbox_state()


async def test_a_status_that_cannot_be_read_is_told_and_read_again() -> None:
    rows = BlindOutbox()
    with capture_logs() as lines:
        async with relaying(rows, status_interval_s=0.01) as at:
            await at.until(lambda: bool(at.links) and bool(at.link.statuses))
            rows.is_blind = True
            await at.until(lambda: any(line["event"] == "outbox_failed" for line in lines))
            rows.is_blind = False
            await at.statuses(2)
            assert len(at.links) == 1
