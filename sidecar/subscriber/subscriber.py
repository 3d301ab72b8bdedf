"""The subscriber itself: messages from the broker into a sink, each acknowledged only when it is there; and
requests for what is missing.

paho's thread keeps the link and puts what comes into a queue; all else is done by the thread that calls
`run`. What the broker may send without an acknowledgement is bounded by Receive Maximum, and so is the queue.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from sidecar.subscriber.asking import Ask, Asking, AskLimits
from sidecar.subscriber.heads import Head, expect
from sidecar.subscriber.progress import Begin, Position, Progress
from sidecar.subscriber.record import Record, RecordError, Source, from_message
from sidecar.subscriber.reporting import Reporting
from sidecar.subscriber.sink import Committed, Rejected, Sink, SinkError
from sidecar.wire import replay, topics
from sidecar.wire.replay import Range, ReplayEnd, ReplayRequest
from sidecar.wire.report import Report
from sidecar.wire.report import encode as encode_report
from sidecar.wire.status import Status

LOOK_S = 0.1  # how often it looks for what is due while nothing comes
SINK_RETRY_S = 1.0
SINK_RETRY_S_MAX = 30.0
STATUSES_MAX = 10_000  # at QoS 0 no window bounds them: the newest are dropped, and told again in seconds

log = logging.getLogger("sidecar.subscriber")


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True):
    ca: Path | None = None  # None: the system's certificates
    certificate: Path | None = None
    key: Path | None = None


class SubscriberSettings(msgspec.Struct, frozen=True, kw_only=True):
    host: str
    port: int = 1883
    username: str | None = None  # replays are asked for on this user's topic; without one they are not
    password: str | None = None
    tls: TlsFiles | None = None
    tenant: str | None = None  # None: of all
    node: str | None = None
    client_id: str = ""  # empty: the sink's own, made once
    begin: Begin = Begin.FIRST
    # How long the broker keeps what comes while we are away.
    session_expiry_s: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] = 7 * 86_400
    receive_max: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 500  # messages without an acknowledgement
    keepalive_s: int = 15
    ask: AskLimits = AskLimits()
    heads: tuple[Head, ...] = ()  # all of these is wanted, beside what nodes tell of


class Counters(msgspec.Struct, kw_only=True):
    connects: int = 0
    records: int = 0  # handed to the sink that it did not have
    again: int = 0  # that it had
    replayed: int = 0  # among the records: those that had to be asked for
    rejected: int = 0
    asked: int = 0


class _Message(msgspec.Struct, frozen=True):
    link: int  # by which connection it came
    packet_id: int
    qos: int
    topic: str
    payload: bytes
    is_retained: bool
    is_replayed: bool
    ends: int | None  # the number of our request that it is the answer to


class Subscriber:
    """`run` until `stop` is called, from any thread or a signal handler."""

    def __init__(
        self, settings: SubscriberSettings, sink: Sink, *, mono_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._sink = sink
        self._mono_s = mono_s
        self._progress = Progress()
        self._asking = Asking(settings.ask)
        self._reporting = Reporting()
        self._asked: dict[int, Ask] = {}  # by correlation
        self._asks = 0
        self._packets: dict[int, int] = {}  # packet id of a request -> correlation
        self._refused: deque[tuple[int, str]] = deque()  # packet ids of those that the broker would not have
        self._fresh: set[tuple[str, str]] = set()  # nodes that have told their status since the start
        self._told: dict[Source, tuple[Range, ...]] = {}  # what was logged as missing
        self._queue: deque[_Message] = deque()
        self._news = threading.Event()
        self._link = 0  # counts connections that ended
        self._link_seen = 0
        self._is_connected = False
        self._had_session = False
        self._stopping = False
        self._client: paho.Client
        self.counters = Counters()

    @property
    def progress(self) -> Progress:
        return self._progress

    @property
    def connected(self) -> bool:
        return self._is_connected

    def stop(self) -> None:
        self._stopping = True
        self._news.set()

    def run(self, until: Callable[[Subscriber], bool] | None = None) -> None:
        """Until `stop`, or until `until` holds, which is asked after each step. Raises SinkError where the
        sink cannot be opened; later failures of it are tried again, and nothing is acknowledged meanwhile."""
        self._progress = Progress(self._sink.open(), self._settings.begin)
        expect(self._progress, self._settings.heads)
        self._client = self._new_client()
        connect = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        connect.SessionExpiryInterval = self._settings.session_expiry_s
        connect.ReceiveMaximum = self._settings.receive_max
        self._client.connect_async(
            self._settings.host,
            self._settings.port,
            self._settings.keepalive_s,
            clean_start=False,
            properties=connect,
        )
        self._client.loop_start()
        try:
            while not self._stopping:
                self._step()
                if until is not None and until(self):
                    break
        finally:
            # A DISCONNECT would do as well: the session outlives it too.
            self._client.disconnect()
            self._client.loop_stop()
            self._sink.close()

    def is_complete(self) -> bool:
        """Each node that is up has told its status since the start, all that it tells of is in the sink, and
        nothing waits here."""
        told, up = self._fresh, self._progress.up
        return bool(told) and up <= told and not self._queue and not self._progress.missing()

    # --- one step, in the thread of `run` -------------------------------------------------------------------

    def _step(self) -> None:
        self._news.wait(LOOK_S)
        self._news.clear()
        messages = [self._queue.popleft() for _ in range(min(len(self._queue), self._settings.receive_max))]
        if self._queue:
            self._news.set()
        self._take(messages)
        now_s = self._mono_s()
        if self._link != self._link_seen:
            self._link_seen = self._link
            self._asking.lost_link()
            self._reporting.lost_link()
        while self._refused:
            self._note_refusal(*self._refused.popleft(), now_s)
        self._tell_missing(self._asking.overdue(self._progress, now_s))
        if self._is_connected and self._settings.username is not None:
            for ask in self._asking.due(self._progress, now_s):
                self._ask(ask, self._settings.username)
            for node, report in self._reporting.due(self._progress, now_s, datetime.now(UTC)).items():
                self._report(*node, self._settings.username, report)

    def _take(self, messages: Sequence[_Message]) -> None:
        records: list[Record] = []
        rejected: list[Rejected] = []
        replayed: set[tuple[str, int]] = set()
        ends: list[tuple[Ask, ReplayEnd]] = []
        for message in messages:
            try:
                if message.ends is not None:
                    if ask := self._asked.pop(message.ends, None):
                        ends.append((ask, replay.decode_end(message.payload)))
                elif message.topic.endswith("/status"):
                    self._take_status(message)
                else:
                    record = from_message(message.topic, message.payload)
                    records.append(record)
                    if message.is_replayed:
                        replayed.add(record.key)
            except (RecordError, replay.ReplayError) as error:
                rejected.append(
                    Rejected(topic=message.topic, payload=message.payload, reason=str(error)[:500])
                )
        if records or rejected or self._progress.changed:
            self._commit(records, rejected, replayed)
        for ask, end in ends:
            if end.error:
                log.warning("replay refused: %s", end.error)
            self._asking.ended(ask, end, self._progress, self._mono_s())
        for message in messages:
            if message.qos and message.link == self._link:
                self._client.ack(message.packet_id, message.qos)

    def _take_status(self, message: _Message) -> None:
        node = topics.node_of(message.topic)
        try:
            status = msgspec.msgpack.decode(message.payload, type=Status)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            log.warning("%s: not a status", message.topic)
            return
        if node is not None:
            self._progress.told(*node, status, is_fresh=not message.is_retained)
            if not message.is_retained:
                self._fresh.add(node)

    def _commit(
        self, records: Sequence[Record], rejected: Sequence[Rejected], replayed: set[tuple[str, int]]
    ) -> None:
        """Until it is written. While the sink fails nothing is acknowledged, so the broker sends nothing."""
        for record in records:
            self._progress.take(record.source, record.seq)
        positions = [self._progress.positions[source] for source in self._progress.changed]
        done = self._until_committed(records, rejected, positions)
        self._progress.changed.clear()
        counters = self.counters
        counters.records += len(done.new)
        counters.again += done.again
        counters.replayed += sum(record.key in replayed for record in done.new)
        for one in (*rejected, *done.contradicting):
            counters.rejected += 1
            log.error("rejected, and kept: %s: %s", one.topic, one.reason)

    def _until_committed(
        self, records: Sequence[Record], rejected: Sequence[Rejected], positions: Sequence[Position]
    ) -> Committed:
        delay_s = SINK_RETRY_S
        is_open = True
        while True:
            try:
                if not is_open:
                    self._sink.open()
                    is_open = True
                return self._sink.commit(records, rejected, positions)
            except SinkError as error:
                is_open = False
                log.error("the sink fails, and is tried again: %s", error)
            self._pause(delay_s)
            if self._stopping:
                raise SinkError("stopped while the sink failed: what was not written comes again")
            delay_s = min(delay_s * 2, SINK_RETRY_S_MAX)

    def _pause(self, delay_s: float) -> None:
        until_s = self._mono_s() + delay_s
        while not self._stopping and self._mono_s() < until_s:
            time.sleep(min(LOOK_S, delay_s))

    # --- asking ---------------------------------------------------------------------------------------------

    def _ask(self, ask: Ask, user: str) -> None:
        source = ask.source
        self._asks += 1
        self._asked = {self._asks: ask} | {n: one for n, one in self._asked.items() if one.source != source}
        self.counters.asked += 1
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ResponseTopic = self._answers(source.tenant, source.node, user)
        properties.CorrelationData = str(self._asks).encode()
        properties.ContentType = "application/msgpack"
        request = ReplayRequest(epoch=source.epoch, from_seq=ask.from_seq, to_seq=ask.to_seq)
        log.info("asking %s for %d to %d of epoch %s", source.node, ask.from_seq, ask.to_seq, source.epoch)
        topic = topics.replay_topic(source.tenant, source.node, user)
        sent = self._client.publish(topic, replay.encode(request), 1, properties=properties)
        self._packets[sent.mid] = self._asks

    def _report(self, tenant: str, node: str, user: str, report: Report) -> None:
        """A broker that does not let us is no harm: then nobody sees it but us."""
        topic = topics.report_topic(tenant, node, user, self._client_id)
        self._client.publish(topic, encode_report(report), 1, retain=True)

    def _answers(self, tenant: str | None, node: str | None, user: str) -> str:
        return topics.replayed_topic(tenant, node, user, self._client_id)

    def _note_refusal(self, packet_id: int, code: str, now_s: float) -> None:
        ask = self._asked.pop(self._packets.pop(packet_id, 0), None)
        if ask is not None:
            log.warning("the broker refuses to ask %s for a replay: %s", ask.source.node, code)
            self._asking.refused(ask, now_s)

    def _tell_missing(self, missing: Mapping[Source, tuple[Range, ...]]) -> None:
        """Once when a gap is there, and once when all of it is closed."""
        for source, ranges in missing.items():
            if source not in self._told:
                advice = "" if self._settings.username else "; without a username no replay is asked for"
                log.warning("missing of %s: %s%s", _name(source), _ranges_text(ranges), advice)
        for source in self._told:
            if source not in missing:
                log.info("nothing is missing any more of %s", _name(source))
        self._told = dict(missing)

    # --- the link, in paho's thread -------------------------------------------------------------------------

    @property
    def _client_id(self) -> str:
        return self._settings.client_id or self._sink.client_id

    def _new_client(self) -> paho.Client:
        settings = self._settings
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            protocol=paho.MQTTv5,
            manual_ack=True,
        )
        client.reconnect_delay_set(1, 10)
        if settings.username is not None:
            client.username_pw_set(settings.username, settings.password)
        if settings.tls is not None:
            context = ssl.create_default_context(cafile=settings.tls.ca)
            if settings.tls.certificate is not None:
                context.load_cert_chain(settings.tls.certificate, settings.tls.key)
            client.tls_set_context(context)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        return client

    def _on_connect(
        self,
        client: paho.Client,
        _userdata: Any,
        flags: paho.ConnectFlags,
        code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if code.is_failure:
            log.error("the broker refuses the connection: %s", code)
            return
        settings = self._settings
        wanted = [
            (topics.cdr_filter(settings.tenant, settings.node), _qos(1)),
            (topics.status_filter(settings.tenant, settings.node), _qos(0)),
        ]
        if settings.username is not None:
            answers = self._answers(settings.tenant, settings.node, settings.username)
            wanted.append((answers, _qos(1)))
        client.subscribe(wanted)  # each time: the broker may have lost the session
        self._had_session = flags.session_present

    def _on_subscribe(
        self,
        _client: paho.Client,
        _userdata: Any,
        _packet_id: int,
        codes: Sequence[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        for code in codes:
            if code.is_failure:
                log.error("the broker refuses a subscription: %s", code)
        self.counters.connects += 1
        self._is_connected = True
        log.info("connected; the broker had %s session of ours", "a" if self._had_session else "no")

    def _on_connect_fail(self, _client: paho.Client, _userdata: Any) -> None:
        log.warning("%s:%d: no connection", self._settings.host, self._settings.port)

    def _on_disconnect(
        self,
        _client: paho.Client,
        _userdata: Any,
        _flags: paho.DisconnectFlags,
        code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        # What was not acknowledged comes again, under packet ids of the next connection.
        self._link += 1
        self._is_connected = False
        if not self._stopping:
            log.warning("the connection ended: %s", code)

    def _on_message(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        properties = message.properties
        named = dict(getattr(properties, "UserProperty", ()))
        if message.qos == 0 and len(self._queue) > STATUSES_MAX:
            return
        self._queue.append(
            _Message(
                link=self._link,
                packet_id=message.mid,
                qos=message.qos,
                topic=message.topic,
                payload=bytes(message.payload),
                is_retained=message.retain,
                is_replayed=replay.REPLAYED in named,
                ends=_number(getattr(properties, "CorrelationData", b""))
                if replay.REPLAY_END in named
                else None,
            )
        )
        self._news.set()

    def _on_publish(
        self, _client: paho.Client, _userdata: Any, mid: int, code: ReasonCode, _properties: Properties
    ) -> None:
        """The broker has a request of ours, or will not have it."""
        if code.is_failure:
            self._refused.append((mid, str(code)))
            self._news.set()


def _name(source: Source) -> str:
    return f"{source.tenant}/{source.node}, epoch {source.epoch}"


def _qos(qos: int) -> SubscribeOptions:
    return SubscribeOptions(qos=qos)


def _number(correlation: bytes) -> int:
    """Of our request; 0: it is none of ours."""
    return int(correlation) if correlation.isdigit() and len(correlation) < 16 else 0


def _ranges_text(ranges: Sequence[Range]) -> str:
    shown = ", ".join(f"{first}-{last}" if first != last else str(first) for first, last in ranges[:5])
    return shown + (f" and {len(ranges) - 5} more ranges" if len(ranges) > 5 else "")
