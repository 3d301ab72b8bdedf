"""The ReplayDoor port on MQTT: requests come on `.../replay/<user>`, for the users that the settings name,
and are answered at or below `.../replayed/<user>` alone. Whoever may write a request could else have this
node publish anywhere.

The broker's ACL must let only the user himself write his topic; the embedded broker's does.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

import aiomqtt
import paho.mqtt.client as paho
import structlog
from paho.mqtt.reasoncodes import ReasonCode

from sidecar.adapters.mqtt.client import Client
from sidecar.adapters.mqtt.packets import content_type, correlation_data, topic_is_valid, user_property
from sidecar.adapters.mqtt.publisher import MqttPublisher, MqttSettings, RowSender
from sidecar.ports import LinkError, OutboxRow, ReplayAsked, ReplayLink, ReportMade
from sidecar.wire.replay import CORRELATION_BYTES_MAX, REPLAY_END, REPLAYED
from sidecar.wire.topics import ANY, replay_topic, replayed_topic, report_topic, unescape

RESPONSE_TOPIC_MAX = 1_000
CLIENT_MAX = 64
EARLY_MAX = 64
WINDOW_MAX = 50
REPLAYED_PROPERTY = user_property(REPLAYED, "1")

log = structlog.get_logger("sidecar.replay")


class MqttReplayDoor(MqttPublisher):
    """Without users it takes no requests, and sends by command alone."""

    def __init__(self, settings: MqttSettings, users: Sequence[str]) -> None:
        super().__init__(settings, None, "replay")
        self._users = {replay_topic(settings.tenant, settings.node, user): user for user in users}
        self._reporters = {report_topic(settings.tenant, settings.node, user, None): user for user in users}

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[ReplayLink]:  # type: ignore[override]
        async with self.connected() as client:
            link = _MqttReplayLink(client, self._settings)
            client.on_published(lambda message: self._take(message, link))
            if self._users:
                await _subscribe(client, [*self._users, *self._reporters])
            yield link

    def _take(self, message: paho.MQTTMessage, link: _MqttReplayLink) -> None:
        place, _, last = message.topic.rpartition("/")
        if (reporter := self._reporters.get(f"{place}/{ANY}")) is not None:
            link.reported(
                ReportMade(
                    user=reporter,
                    client=unescape(last)[:CLIENT_MAX],
                    payload=bytes(message.payload),
                    is_retained=message.retain,
                )
            )
            return
        user = self._users.get(message.topic)
        response_topic = getattr(message.properties, "ResponseTopic", "")
        correlation = getattr(message.properties, "CorrelationData", b"")
        error = ""
        if user is None:
            error = "nobody may ask there"
        elif message.retain:
            error = "a retained request would be answered again and again"
        elif not self._is_his(response_topic, user):
            error = "the response topic is not his own"
        elif len(correlation) > CORRELATION_BYTES_MAX:
            error = "the correlation data is too long"
        if error or user is None:
            log.warning("replay_refused", topic=message.topic, error=error)
            return
        link.notify(
            ReplayAsked(
                user=user,
                response_topic=response_topic,
                correlation=correlation,
                payload=bytes(message.payload),
            )
        )

    def _is_his(self, topic: str, user: str) -> bool:
        own = replayed_topic(self._settings.tenant, self._settings.node, user)
        return (
            (topic == own or topic.startswith(f"{own}/"))
            and len(topic) <= RESPONSE_TOPIC_MAX
            and topic_is_valid(topic.encode(errors="replace"))
        )


class _MqttReplayLink:
    """A ReplayLink (see ports)."""

    def __init__(self, client: Client, settings: MqttSettings) -> None:
        self._client = client
        self._sender = RowSender(client, settings.node)
        self.notify: Callable[[ReplayAsked], None] = _nobody
        self.early: deque[ReportMade] = deque(maxlen=EARLY_MAX)  # that came before somebody listens
        self.reported: Callable[[ReportMade], None] = self.early.append
        self.window = max(1, min(client.receive_max, settings.in_flight_max, WINDOW_MAX))

    def on_asked(self, notify: Callable[[ReplayAsked], None]) -> None:
        self.notify = notify

    def on_reported(self, notify: Callable[[ReportMade], None]) -> None:
        self.reported = notify
        for one in self.early:
            notify(one)
        self.early.clear()

    def send(
        self, row: OutboxRow, asked: ReplayAsked | None, acknowledged: Callable[[int, int], None]
    ) -> None:
        topic = row.topic if asked is None else asked.response_topic
        more = REPLAYED_PROPERTY + (b"" if asked is None else _correlation(asked))
        self._sender.send(row, topic, more, acknowledged)

    def answer(self, asked: ReplayAsked, payload: bytes, acknowledged: Callable[[int, int], None]) -> None:
        properties = content_type() + user_property(REPLAY_END, "1") + _correlation(asked)
        self._sender.publish(0, asked.response_topic.encode(), properties, payload, acknowledged)

    def on_lost(self, notify: Callable[[LinkError], None]) -> None:
        self._client.on_lost(notify)


def _correlation(asked: ReplayAsked) -> bytes:
    return correlation_data(asked.correlation) if asked.correlation else b""


async def _subscribe(client: Client, topics: Sequence[str]) -> None:
    try:
        codes = await client.subscribe([(topic, 1) for topic in topics])
    except aiomqtt.MqttError as error:
        raise LinkError(f"subscribing to requests for a replay: {error}") from None
    for topic, code in zip(topics, codes, strict=True):
        if isinstance(code, ReasonCode) and code.is_failure:
            log.error("replay_not_subscribed", topic=topic, code=code.value)


def _nobody(_: object) -> None:
    pass
