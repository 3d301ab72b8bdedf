"""The relay: what reaches a subscriber, in which order, and what happens when the broker does not play along.

Mosquitto is real; the scripted broker stands in for the codes that it never sends. Rows are real CDRs of the
SQLite store where the disk matters, and numbers in a MemoryOutbox where only the broker does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import msgpack
import pytest
from structlog.testing import capture_logs

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.memory import MemoryOutbox
from sidecar.adapters.mqtt import MqttPublisher, MqttSettings
from sidecar.adapters.sqlite import SqliteStore
from sidecar.ports import Link, LinkError, Outbox, OutboxRow, OutboxState, OutboxStatus
from sidecar.runtime.outbox import RIVAL_S, Backoff, OutboxRelay, PubackOutcome, RelayLimits, outcome_of
from sidecar.wiring.broker import has_rival
from tests.adapters.broker_help import (
    CDR_TOPIC,
    STATUS_TOPIC,
    WITHIN_S,
    Subscriber,
    mqtt_settings,
    payload_of,
    running_broker,
)
from tests.adapters.scripted_broker import ACCEPT, Answer, ScriptedBroker, scripted_broker
from tests.adapters.store_calls import BOOT_ID, whole_call

FORBIDDEN_TOPIC = "sidecar/v1/_/node1/cdr/_/server"


# --- codes and delays, without a broker ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0x00, PubackOutcome.DELIVERED),
        (0x10, PubackOutcome.DELIVERED),
        (0x7F, PubackOutcome.DELIVERED),
        (0x80, PubackOutcome.RETRY),
        (0x83, PubackOutcome.RETRY),
        (0x97, PubackOutcome.RETRY),
        (0x87, PubackOutcome.DEAD),
        (0x90, PubackOutcome.DEAD),
        (0x95, PubackOutcome.DEAD),
        (0x99, PubackOutcome.DEAD),
        (0x91, PubackOutcome.RETRY),
        (0xEE, PubackOutcome.RETRY),
    ],
)
def test_a_row_leaves_only_on_a_code_below_0x80(code: int, expected: PubackOutcome) -> None:
    assert outcome_of(code) is expected


@pytest.mark.parametrize("draw", [0.0, 0.5, 1.0])
def test_the_delay_doubles_up_to_its_bound_and_starts_anew(draw: float) -> None:
    backoff = Backoff(first_s=0.1, most_s=1.0, draw=lambda: draw)
    share = 0.5 + draw / 2
    for bound_s in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0):
        assert backoff.next_delay_s() == pytest.approx(bound_s * share)
    backoff.reset()
    assert backoff.next_delay_s() == pytest.approx(0.1 * share)


# --- helpers ------------------------------------------------------------------------------------------------


class Pauses:
    """The relay's pauses, cut to a millisecond or so: a test waits for the relay to have run into its retry
    loop."""

    def __init__(self, pause_s: float = 0.001) -> None:
        self._pause_s = pause_s
        self.asked_s: list[float] = []
        self._news = asyncio.Condition()

    @property
    def count(self) -> int:
        return len(self.asked_s)

    async def __call__(self, seconds: float) -> None:
        async with self._news:
            self.asked_s.append(seconds)
            self._news.notify_all()
        await asyncio.sleep(self._pause_s)

    async def more(self, count: int) -> None:
        async with asyncio.timeout(WITHIN_S), self._news:
            target = self.count + count
            await self._news.wait_for(lambda: self.count >= target)


class Rows(Outbox, OutboxStatus, Protocol): ...


@contextlib.asynccontextmanager
async def relaying(
    outbox: Rows, settings: MqttSettings, *, pauses: Pauses | None = None, **limits: float
) -> AsyncIterator[OutboxRelay]:
    # As at a node; without a boot id nobody looks, as the scripted broker expects.
    rival = partial(has_rival, settings) if settings.boot_id else None
    relay = OutboxRelay(
        outbox,
        outbox,
        MqttPublisher(settings, "epoch-1"),
        limits=RelayLimits(**limits),  # type: ignore[arg-type]
        has_rival=rival,
        sleep=pauses or Pauses(),
    )
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(relay.run(), name="relay")
        try:
            yield relay
        finally:
            task.cancel()


@contextlib.asynccontextmanager
async def storing(directory: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore.open(directory / "data", node="node1", boot_id=BOOT_ID, clock=SystemClock())
    try:
        yield store
    finally:
        await store.close()


def publish_calls(store: SqliteStore, numbers: Iterable[int]) -> None:
    for number in numbers:
        store.submit(whole_call(number)[-1])


def add_rows(outbox: MemoryOutbox, count: int, topic: str = CDR_TOPIC) -> None:
    for _ in range(count):
        seq = outbox.head_seq + 1
        assert outbox.add(topic, payload_of(seq), f"message-{seq}") == seq


def scripted_settings(broker: ScriptedBroker) -> MqttSettings:
    return MqttSettings(host=broker.host, port=broker.port, node="node1", status_topic=STATUS_TOPIC)


def answers(first: dict[int, list[Answer]]) -> Callable[[int], Answer]:
    """For each row, its answers in turn; then, and for all others, it is taken."""
    return lambda seq: first[seq].pop(0) if first.get(seq) else ACCEPT


# --- a broker that plays along ------------------------------------------------------------------------------


async def test_every_row_arrives_once_and_in_order(tmp_path: Path) -> None:
    async with (
        storing(tmp_path) as store,
        running_broker(tmp_path) as broker,
        Subscriber(broker.host, broker.port) as subscriber,
        relaying(store.outbox, mqtt_settings(broker)) as relay,
    ):
        publish_calls(store, range(1, 501))
        await subscriber.until(lambda: len(subscriber.seqs) == 500)
        assert subscriber.seqs == list(range(1, 501))
        assert await relay.drained(WITHIN_S)
        state = await store.outbox.outbox_state()
        assert (state.depth, state.dead, state.head_seq) == (0, 0, 500)


async def test_a_backlog_from_before_the_start_goes_out_first(tmp_path: Path) -> None:
    outbox = MemoryOutbox()
    add_rows(outbox, 1_000)
    async with (
        running_broker(tmp_path) as broker,
        Subscriber(broker.host, broker.port) as subscriber,
        relaying(outbox, mqtt_settings(broker)) as relay,
    ):
        add_rows(outbox, 10)
        await subscriber.until(lambda: len(subscriber.seqs) == 1_010)
        assert subscriber.seqs == list(range(1, 1_011))
        assert await relay.drained(WITHIN_S)
        assert relay.counters.sent == relay.counters.delivered == 1_010


async def test_nobody_subscribed_is_delivered_and_counted(tmp_path: Path) -> None:
    outbox = MemoryOutbox()
    async with running_broker(tmp_path) as broker, relaying(outbox, mqtt_settings(broker)) as relay:
        add_rows(outbox, 3)
        assert await relay.drained(WITHIN_S)
        assert relay.counters.codes == {0x10: 3}
        assert relay.counters.no_subscriber == 3


async def test_the_status_is_there_at_once_is_renewed_and_the_will_follows(tmp_path: Path) -> None:
    outbox = MemoryOutbox(epoch="epoch-1", first_seq=41)
    async with running_broker(tmp_path) as broker, Subscriber(broker.host, broker.port) as subscriber:
        async with relaying(outbox, mqtt_settings(broker), status_interval_s=0.05):
            await subscriber.until(lambda: bool(subscriber.statuses))
            assert subscriber.statuses[0] == {
                "epoch": "epoch-1",
                "boot_id": "",
                "head_seq": 40,
                "published": 0,
                "commit": 0,
                "commit_hash": "",
            }
            add_rows(outbox, 2)
            renewed = {
                "epoch": "epoch-1",
                "boot_id": "",
                "head_seq": 42,
                "published": 2,
                "commit": 0,
                "commit_hash": "",
            }
            await subscriber.until(lambda: subscriber.statuses.count(renewed) >= 2)
        await subscriber.until(lambda: subscriber.statuses[-1] == {"epoch": "epoch-1", "boot_id": ""})


async def test_the_window_is_used_in_full_and_never_exceeded() -> None:
    outbox = MemoryOutbox()
    async with scripted_broker(lambda _: ACCEPT, receive_max=5, answers_after=5) as broker:
        async with relaying(outbox, scripted_settings(broker)) as relay:
            add_rows(outbox, 50)  # the broker answers only when five wait
            assert await relay.drained(WITHIN_S)
        assert broker.received == list(range(1, 51))
        assert broker.unanswered_most == 5


# --- a broker that refuses ----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0x80, 0x83, 0x97, 0x91, 0xEE])
async def test_a_row_refused_for_now_is_tried_until_it_is_taken(code: int) -> None:
    outbox, pauses = MemoryOutbox(), Pauses()
    script = answers({3: [Answer(puback=code)] * 4})
    async with scripted_broker(script) as broker:
        async with relaying(outbox, scripted_settings(broker), pauses=pauses) as relay:
            add_rows(outbox, 10)
            assert await relay.drained(WITHIN_S)
        assert broker.received.count(3) == 5
        assert {seq: broker.received.count(seq) for seq in range(1, 11) if seq != 3} == dict.fromkeys(
            [1, 2, 4, 5, 6, 7, 8, 9, 10], 1
        )
        assert broker.connects == 1  # the link is kept
    assert relay.counters.codes == {0: 10, code: 4}
    assert relay.counters.retried == 4
    assert pauses.count >= 4
    assert outbox.dead == {}


async def test_a_row_that_is_taken_ends_the_growing_of_the_delays() -> None:
    outbox, pauses = MemoryOutbox(), Pauses()
    refused = Answer(puback=0x97)
    async with (
        scripted_broker(answers({1: [refused] * 4, 2: [refused]})) as broker,
        relaying(outbox, scripted_settings(broker), pauses=pauses) as relay,
    ):
        for _ in range(2):
            add_rows(outbox, 1)
            assert await relay.drained(WITHIN_S)
    assert pauses.count == 5
    assert pauses.asked_s[3] >= 0.4
    assert pauses.asked_s[4] <= 0.1


async def test_a_row_that_is_refused_for_ever_does_not_hold_up_the_others() -> None:
    outbox = MemoryOutbox()
    async with (
        scripted_broker(lambda seq: Answer(puback=0x80) if seq == 1 else ACCEPT) as broker,
        relaying(outbox, scripted_settings(broker)),
    ):
        for _ in range(20):
            add_rows(outbox, 10)
            await until(lambda: outbox.waiting == [1])


@pytest.mark.parametrize("code", [0x87, 0x90, 0x95, 0x99])
async def test_a_row_refused_for_good_is_a_dead_letter_at_once(code: int) -> None:
    outbox = MemoryOutbox()
    async with scripted_broker(answers({2: [Answer(puback=code)]})) as broker:
        async with relaying(outbox, scripted_settings(broker)) as relay:
            add_rows(outbox, 4)
            assert await relay.drained(WITHIN_S)
        assert broker.received == [1, 2, 3, 4]
    assert outbox.dead == {2: code}
    assert relay.counters.dead == 1
    assert relay.counters.delivered == 3


@pytest.mark.parametrize("code", [0x87, 0x95])
async def test_a_broker_that_hangs_up_on_a_row_loses_only_that_row(code: int) -> None:
    outbox = MemoryOutbox()
    poisoned = {17, 40}

    def script(seq: int) -> Answer:
        return Answer(disconnect=code) if seq in poisoned else ACCEPT

    async with scripted_broker(script) as broker:
        async with relaying(outbox, scripted_settings(broker)) as relay:
            add_rows(outbox, 60)
            assert await relay.drained(WITHIN_S)
        assert set(broker.received) == set(range(1, 61))
    assert outbox.dead == dict.fromkeys(poisoned, code)


@pytest.mark.parametrize(("times", "dead"), [(1, {}), (2, {1: 0x95})])
async def test_a_row_that_was_alone_twice_when_the_broker_hung_up_is_a_dead_letter(
    times: int, dead: dict[int, int]
) -> None:
    outbox = MemoryOutbox()
    async with scripted_broker(answers({1: [Answer(disconnect=0x95)] * times})) as broker:
        async with relaying(outbox, scripted_settings(broker)) as relay:
            add_rows(outbox, 1)
            assert await relay.drained(WITHIN_S)
        assert broker.received == [1, 1]
    assert outbox.dead == dead


async def test_a_broker_that_hangs_up_without_blaming_a_row_kills_none() -> None:
    outbox = MemoryOutbox()
    script = answers({5: [Answer(disconnect=0x8B), Answer(disconnect=0x82), Answer(disconnect=0x89)]})
    async with scripted_broker(script) as broker:
        async with relaying(outbox, scripted_settings(broker)) as relay:
            add_rows(outbox, 5)
            assert await relay.drained(WITHIN_S)
        assert broker.connects == 4
    assert outbox.dead == {}
    assert relay.counters.links_lost == 3


async def test_mosquittos_acl_and_packet_limit_make_dead_letters(tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text(f"topic readwrite {CDR_TOPIC}\ntopic write {STATUS_TOPIC}\n")
    acl.chmod(0o700)
    outbox = MemoryOutbox()
    async with (
        running_broker(tmp_path, f"acl_file {acl}", "max_packet_size 2000") as broker,
        relaying(outbox, mqtt_settings(broker)) as relay,
    ):
        add_rows(outbox, 1)
        add_rows(outbox, 1, topic=FORBIDDEN_TOPIC)
        outbox.add(CDR_TOPIC, bytes(3_000), "too large")
        add_rows(outbox, 1)
        assert await relay.drained(WITHIN_S)
        assert outbox.dead == {2: 0x87, 3: 0x95}
        assert relay.counters.delivered == 2


async def test_dead_letters_of_the_store_go_out_when_they_are_retried(tmp_path: Path) -> None:
    refusals = {2: [Answer(puback=0x87), Answer(puback=0x87)]}
    async with storing(tmp_path) as store, scripted_broker(answers(refusals)) as broker:
        broker.seq_of = lambda payload: int(msgpack.unpackb(payload, timestamp=0)["seq"])
        async with relaying(store.outbox, scripted_settings(broker), status_interval_s=0.05) as relay:
            publish_calls(store, range(1, 4))
            await until(lambda: relay.counters.dead == 1 and relay.counters.delivered == 2)
            assert await relay.drained(WITHIN_S)
            assert [letter.seq for letter in await store.outbox.dead_letters()] == [2]
            await store.outbox.retry_dead()
            relay.read_again()
            await until(lambda: relay.counters.dead == 2)
            assert await relay.drained(WITHIN_S)
            await store.outbox.retry_dead()  # nobody says so: found when the status is renewed
            await until(lambda: relay.counters.delivered == 3)
            assert await relay.drained(WITHIN_S)
            state = await store.outbox.outbox_state()
            assert (state.depth, state.dead) == (0, 0)


# --- a broker that is not there -----------------------------------------------------------------------------


async def test_rows_wait_for_a_broker_that_is_absent_at_the_start(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as before:
        async with Subscriber(before.host, before.port):
            pass  # its session stays at the broker
        settings = mqtt_settings(before)
    outbox, pauses = MemoryOutbox(), Pauses()
    async with relaying(outbox, settings, pauses=pauses) as relay:
        add_rows(outbox, 250)
        await pauses.more(3)
        assert not relay.counters.connected
        async with running_broker(tmp_path) as broker:
            assert broker.port == settings.port
            assert await relay.drained(WITHIN_S)
            async with Subscriber(broker.host, broker.port) as subscriber:
                await subscriber.until(lambda: len(subscriber.seqs) == 250)
                assert subscriber.seqs == list(range(1, 251))


async def test_nothing_is_lost_over_a_restart_of_the_broker(tmp_path: Path) -> None:
    async with (
        storing(tmp_path) as store,
        running_broker(tmp_path, watched=True) as broker,
        Subscriber(broker.host, broker.port) as subscriber,
        relaying(store.outbox, mqtt_settings(broker)) as relay,
    ):
        publish_calls(store, range(1, 401))
        await subscriber.until(lambda: len(subscriber.seqs) >= 100)
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGTERM)  # Mosquitto saves what it holds
        publish_calls(store, range(401, 801))
        await subscriber.until(lambda: set(subscriber.seqs) == set(range(1, 801)))
        assert await relay.drained(WITHIN_S)
        assert first_appearances(subscriber.seqs) == list(range(1, 801))


async def test_a_killed_broker_loses_at_most_what_it_had_acknowledged(tmp_path: Path) -> None:
    async with (
        storing(tmp_path) as store,
        running_broker(tmp_path, watched=True) as broker,
        Subscriber(broker.host, broker.port) as subscriber,
        relaying(store.outbox, mqtt_settings(broker)) as relay,
    ):
        publish_calls(store, range(1, 401))
        await subscriber.until(lambda: len(subscriber.seqs) >= 100)
        assert broker.pid is not None
        broker.save()  # that there is a subscriber; `watch` does this at intervals
        await until((tmp_path / "broker" / "mosquitto.db").exists)
        os.kill(broker.pid, signal.SIGKILL)
        sent_to_the_first = relay.counters.sent
        publish_calls(store, range(401, 801))
        # First the last one's arrival: a relay that has seen none of them committed yet counts as drained.
        await subscriber.until(lambda: 800 in subscriber.seqs)
        assert await relay.drained(WITHIN_S)
        state = await store.outbox.outbox_state()
        assert (state.depth, state.dead) == (0, 0)
    missing = set(range(1, 801)) - set(subscriber.seqs)
    # The journal is the system of record: such a gap shows in `seq`, and is replayed from there.
    assert all(seq <= sent_to_the_first for seq in missing)
    assert relay.counters.links_lost >= 1


async def test_a_stopped_broker_stops_nothing_and_gets_all_afterwards(tmp_path: Path) -> None:
    outbox, pauses = MemoryOutbox(), Pauses()
    async with running_broker(tmp_path) as broker, Subscriber(broker.host, broker.port) as subscriber:
        settings = mqtt_settings(broker, connect_timeout_s=0.2)
        async with relaying(outbox, settings, pauses=pauses, ack_timeout_s=0.2) as relay:
            add_rows(outbox, 50)
            await subscriber.until(lambda: len(subscriber.seqs) == 50)
            assert broker.pid is not None
            os.kill(broker.pid, signal.SIGSTOP)
            try:
                add_rows(outbox, 500)
                await pauses.more(2)  # the PUBACKs did not come; then the CONNACK did not
                assert not relay.counters.connected
            finally:
                os.kill(broker.pid, signal.SIGCONT)
            assert await relay.drained(WITHIN_S)
            await subscriber.until(lambda: set(subscriber.seqs) == set(range(1, 551)))
            # What was in flight may come twice: same seq, same message id.
            assert first_appearances(subscriber.seqs) == list(range(1, 551))


async def test_with_no_broker_and_nothing_to_send_the_relay_counts_as_drained(tmp_path: Path) -> None:
    outbox = MemoryOutbox()
    async with running_broker(tmp_path) as gone:
        settings = mqtt_settings(gone)
    async with relaying(outbox, settings) as relay:
        assert await relay.drained(WITHIN_S)
        add_rows(outbox, 1)
        assert not await relay.drained(0.05)


class TwiceLink:
    """A link that tells everything twice: PUBACKs, and that it is lost, first with the cause."""

    window = 10

    def __init__(self) -> None:
        self.sent: list[int] = []
        self._notify: Callable[[LinkError], None]

    def send(self, row: OutboxRow, acknowledged: Callable[[int, int], None]) -> None:
        self.sent.append(row.seq)
        acknowledged(row.seq, 0)
        acknowledged(row.seq, 0)

    def publish_status(self, state: OutboxState) -> None:
        pass

    def on_lost(self, notify: Callable[[LinkError], None]) -> None:
        self._notify = notify

    def lose(self) -> None:
        self._notify(LinkError("the cause", 0x8B))
        self._notify(LinkError("what came of it"))


class TwicePublisher:
    def __init__(self) -> None:
        self.links: list[TwiceLink] = []

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Link]:
        self.links.append(TwiceLink())
        yield self.links[-1]


async def test_what_is_told_twice_counts_once() -> None:
    outbox, publisher = MemoryOutbox(), TwicePublisher()
    relay = OutboxRelay(outbox, outbox, publisher, sleep=Pauses())
    with capture_logs() as lines:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(relay.run(), name="relay")
            add_rows(outbox, 3)
            assert await relay.drained(WITHIN_S)
            publisher.links[0].lose()
            await until(lambda: relay.counters.connects == 2)
            task.cancel()
    assert (publisher.links[0].sent, outbox.waiting) == ([1, 2, 3], [])
    assert relay.counters.delivered == 3
    (lost,) = (line for line in lines if line["event"] == "broker_lost")
    assert (lost["error"], lost["code"]) == ("the cause", 0x8B)


# --- what the log says --------------------------------------------------------------------------------------


async def test_that_nobody_listens_is_logged_once_for_each_link() -> None:
    outbox = MemoryOutbox()
    nobody = Answer(puback=0x10)
    script = {4: [Answer(disconnect=0x8B)]}
    async with scripted_broker(lambda seq: script[seq].pop() if script.get(seq) else nobody) as broker:
        with capture_logs() as lines:
            async with relaying(outbox, scripted_settings(broker)) as relay:
                for _ in range(6):
                    add_rows(outbox, 1)
                    assert await relay.drained(WITHIN_S)
    seqs = [line["seq"] for line in lines if line["event"] == "no_subscriber"]
    assert seqs == [1, 4]
    (lost,) = (line for line in lines if line["event"] == "broker_lost")
    assert (lost["code"], lost["in_flight"]) == (0x8B, 1)
    assert relay.counters.links_lost == 1


async def test_two_nodes_of_one_name_take_turns_at_mosquitto_and_lose_no_row(tmp_path: Path) -> None:
    """It has one link for each client id: who comes last gets it. Debian 12's does not say why, so the
    retained status is asked."""
    outboxes = MemoryOutbox(epoch="one"), MemoryOutbox(epoch="two", first_seq=101)
    async with (
        running_broker(tmp_path) as broker,
        Subscriber(broker.host, broker.port) as subscriber,
        relaying(outboxes[0], mqtt_settings(broker, boot_id="one"), pauses=Pauses(0.3)) as one,
        relaying(outboxes[1], mqtt_settings(broker, boot_id="two"), pauses=Pauses(0.3)) as two,
    ):
        for relay in (one, two):
            await until(lambda had=relay.counters: had.links_taken_over > 0)  # type: ignore[misc]
        for outbox in outboxes:
            add_rows(outbox, 20)
        await subscriber.until(lambda: set(subscriber.seqs) == {*range(1, 21), *range(101, 121)})
        await until(lambda: not any(outbox.waiting for outbox in outboxes))


async def test_a_broker_that_ends_is_no_other_node(tmp_path: Path) -> None:
    outbox = MemoryOutbox()
    async with running_broker(tmp_path, watched=True) as broker:
        pauses = Pauses()
        async with relaying(outbox, mqtt_settings(broker, boot_id="one"), pauses=pauses) as relay:
            await until(lambda: relay.counters.connected)
            assert broker.pid is not None
            os.kill(broker.pid, signal.SIGTERM)
            await broker.started_again(0)
            await until(lambda: relay.counters.connects == 2)
    assert (relay.counters.links_taken_over, relay.counters.links_lost) == (0, 1)
    assert RIVAL_S not in pauses.asked_s


async def test_a_link_that_another_node_of_our_name_took_is_told_and_left_to_it_for_a_while() -> None:
    outbox, pauses = MemoryOutbox(), Pauses()
    async with scripted_broker(answers({1: [Answer(disconnect=0x8E)]})) as broker:
        with capture_logs() as lines:
            async with relaying(outbox, scripted_settings(broker), pauses=pauses) as relay:
                add_rows(outbox, 1)
                assert await relay.drained(WITHIN_S)
    assert pauses.asked_s == [RIVAL_S]
    assert (relay.counters.links_taken_over, relay.counters.links_lost, outbox.dead) == (1, 0, {})
    assert [line["log_level"] for line in lines if line["event"] == "broker_link_taken_over"] == ["error"]


async def test_a_broker_that_is_not_reached_is_logged_once_until_it_was_reached(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as before:
        settings = mqtt_settings(before)
    pauses = Pauses()

    def not_reached() -> int:
        return sum(line["event"] == "broker_not_reached" for line in lines)

    with capture_logs() as lines:
        async with relaying(MemoryOutbox(), settings, pauses=pauses) as relay:
            await pauses.more(4)
            assert not_reached() == 1
            assert relay.counters.links_lost == 0
            async with running_broker(tmp_path) as again:
                assert again.port == settings.port
                await until(lambda: relay.counters.connected)
            await until(lambda: not_reached() == 2)
            await pauses.more(4)
            assert not_reached() == 2
            assert relay.counters.links_lost == 1


async def test_a_row_that_is_refused_is_logged_once_in_a_pass() -> None:
    outbox = MemoryOutbox()
    refused = {seq: [Answer(puback=0x97)] for seq in (1, 2, 3)}
    async with scripted_broker(answers(refused), answers_after=3) as broker:
        with capture_logs() as lines:
            async with relaying(outbox, scripted_settings(broker)) as relay:
                add_rows(outbox, 3)
                assert await relay.drained(WITHIN_S)
    assert [line["seq"] for line in lines if line["event"] == "row_refused"] == [1]
    assert relay.counters.retried == 3


# --- a store that fails -------------------------------------------------------------------------------------


class FailingOutbox(MemoryOutbox):
    """Raises for the first so many acknowledgements and reads."""

    acknowledges_fail = 0
    reads_fail = 0

    async def pending(self, after_seq: int, rows_max: int) -> Sequence[OutboxRow]:
        if self.reads_fail:
            self.reads_fail -= 1
            raise OSError("disk I/O error")
        return await super().pending(after_seq, rows_max)

    async def acknowledge(self, delivered: Sequence[int], dead: Sequence[tuple[int, int]]) -> None:
        if self.acknowledges_fail:
            self.acknowledges_fail -= 1
            raise OSError("database or disk is full")
        await super().acknowledge(delivered, dead)


async def test_an_acknowledgement_that_fails_is_repeated_and_its_rows_are_not_sent_again() -> None:
    outbox = FailingOutbox()
    outbox.acknowledges_fail = 5
    async with scripted_broker(answers({2: [Answer(puback=0x87)]})) as broker:
        async with relaying(outbox, scripted_settings(broker)) as relay:
            add_rows(outbox, 30)
            assert await relay.drained(WITHIN_S)
        assert sorted(set(broker.received)) == list(range(1, 31))
    assert outbox.waiting == []
    assert outbox.dead == {2: 0x87}
    assert relay.counters.outbox_failures == 5


async def test_a_read_that_fails_is_repeated() -> None:
    outbox = FailingOutbox()
    outbox.reads_fail = 3
    async with scripted_broker(lambda _: ACCEPT) as broker:
        async with relaying(outbox, scripted_settings(broker)) as relay:
            add_rows(outbox, 30)
            assert await relay.drained(WITHIN_S)
        assert first_appearances(broker.received) == list(range(1, 31))
    assert relay.counters.outbox_failures == 3


class NonsenseOutbox(MemoryOutbox):
    """Breaks its promise to give out rows, for the first so many reads."""

    nonsense = 2

    async def pending(self, after_seq: int, rows_max: int) -> Sequence[OutboxRow]:
        if self.nonsense:
            self.nonsense -= 1
            return [None]  # type: ignore[list-item]
        return await super().pending(after_seq, rows_max)


async def test_a_defect_of_our_own_is_counted_and_does_not_end_the_relay() -> None:
    outbox = NonsenseOutbox()
    async with scripted_broker(lambda _: ACCEPT) as broker:
        async with relaying(outbox, scripted_settings(broker)) as relay:
            add_rows(outbox, 30)
            assert await relay.drained(WITHIN_S)
        assert first_appearances(broker.received) == list(range(1, 31))
    assert relay.counters.defects == 2


class HeldOutbox(MemoryOutbox):
    """Acknowledges only when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.let = asyncio.Event()

    async def acknowledge(self, delivered: Sequence[int], dead: Sequence[tuple[int, int]]) -> None:
        await self.let.wait()
        await super().acknowledge(delivered, dead)


async def test_while_the_store_cannot_acknowledge_only_a_bounded_number_of_rows_goes_out() -> None:
    outbox = HeldOutbox()
    async with scripted_broker(lambda _: ACCEPT, receive_max=10) as broker:
        async with relaying(outbox, scripted_settings(broker), unwritten_max=50) as relay:
            add_rows(outbox, 1_000)
            await until(lambda: relay.counters.delivered >= 50 and relay.counters.in_flight == 0)
            assert not await relay.drained(0.05)
            assert relay.counters.delivered <= 60
            outbox.let.set()
            assert await relay.drained(WITHIN_S)
        assert broker.received == list(range(1, 1_001))


async def until(holds: Callable[[], bool]) -> None:
    """For what nobody announces: looked at a thousand times a second."""
    async with asyncio.timeout(WITHIN_S):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def first_appearances(seqs: Sequence[int]) -> list[int]:
    return list(dict.fromkeys(seqs))
