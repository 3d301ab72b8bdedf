"""The Publisher port on MQTT.

The will is retained on the status topic and carries the epoch and the boot id alone. Every ending cuts the
connection without a DISCONNECT, so the broker publishes the will however the daemon went: one way out, tested
once.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiomqtt
import msgspec
from msgspec.structs import replace
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from sidecar.adapters.mqtt.client import Client
from sidecar.adapters.mqtt.packets import (
    CONTENT_TYPE,
    PUBLISH_QOS_0_RETAIN,
    PUBLISH_QOS_1,
    content_type,
    publish_head,
    topic_is_valid,
    user_property,
)
from sidecar.ports import Link, LinkError, OutboxRow, OutboxState
from sidecar.wire.status import Status, Will

TOPIC_NAME_INVALID = 0x90
PACKET_TOO_LARGE = 0x95
_ENCODE = msgspec.msgpack.Encoder().encode

# What RFC 5280 asks of certificates and `ssl.VERIFY_X509_STRICT`, since Python 3.13 a default, insists on; by
# OpenSSL's codes (x509_vfy.h).
STRICTLY_NEEDED = {
    79: "basicConstraints CA:TRUE in the CA",
    85: "authorityKeyIdentifier in the broker's certificate (sign it again)",
    86: "subjectKeyIdentifier in the CA",
    89: "basicConstraints marked critical in the CA",
    92: "keyUsage keyCertSign in the CA",
}
# What else is needed openssl adds by itself.
REQUEST_OF_CA = (
    "req -x509 -key CA.key -subj SUBJECT -days 3650 -addext keyUsage=critical,keyCertSign,cRLSign -out CA.crt"
)

# paho reports each lost connection on its logger as well; LinkError says it once, with the reason.
_QUIET = logging.getLogger("sidecar.mqtt")
_QUIET.setLevel(logging.CRITICAL)


class MqttSettings(msgspec.Struct, frozen=True, kw_only=True):
    host: str
    port: int
    tenant: str = "_"
    node: str
    boot_id: str = ""
    status_topic: str
    client_id: str = (
        ""  # empty: made of tenant and node, so a second daemon of the same node takes the link over
    )
    username: str | None = None
    password_file: Path | None = (
        None  # read at every connect, so a changed password needs no restart; never logged
    )
    tls: bool = False
    ca_file: Path | None = None  # None: the system's certificates
    certificate_file: Path | None = None
    key_file: Path | None = None
    keepalive_s: int = 10  # a silent link is found lost within twice this, without any traffic of ours
    connect_timeout_s: float = 5.0
    in_flight_max: int = 100  # more gains nothing with aiomqtt (50 to 200 were measured alike)

    @property
    def identifier(self) -> str:
        return self.client_id or f"sidecar-{self.tenant}-{self.node}"


class MqttPublisher:
    """A Publisher (see ports). `epoch` goes into the will; None: the link has none, and a client id of its
    own that ends as `name` says."""

    def __init__(self, settings: MqttSettings, epoch: str | None, name: str = "") -> None:
        self._settings = replace(settings, client_id=f"{settings.identifier}-{name}") if name else settings
        self._will = _will(settings, epoch) if epoch is not None else None

    def check(self) -> None:
        """Read every file that the settings name. Raises ValueError or OSError, for `sidecar check` and the
        start."""
        self._password()
        self._tls_context()

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Link]:
        async with self.connected() as client:
            yield _MqttLink(client, self._settings)

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Client]:
        client = self._client()
        try:
            try:
                await client.__aenter__()
            except aiomqtt.MqttError as error:
                code = getattr(error, "rc", None)
                raise LinkError(
                    f"{self._settings.host}:{self._settings.port}: {self._cause(error)}",
                    code.value if isinstance(code, ReasonCode) else None,
                ) from None
            if not client.is_open:
                raise LinkError("the connection ended as soon as it was there")
            if client.qos_max < 1:
                raise LinkError("the broker takes QoS 0 only; records need QoS 1")
            yield client
        finally:
            client.cut()

    def _cause(self, error: aiomqtt.MqttError) -> str:
        refused = error.__context__
        if not isinstance(refused, ssl.SSLCertVerificationError):
            return str(error)
        advice = ""
        if needed := STRICTLY_NEEDED.get(refused.verify_code):
            advice = (
                f"; Python 3.13 and newer need {needed}. mqtt.ca_file {self._settings.ca_file}, made again "
                f"with its key and its subject, keeps what it has signed: openssl {REQUEST_OF_CA}"
            )
        return f"the broker's certificate is refused: {refused.verify_message}{advice}"

    def _client(self) -> Client:
        settings = self._settings
        try:
            password, tls_context = self._password(), self._tls_context()
        except (OSError, ValueError) as error:
            raise LinkError(str(error)) from None
        client = Client(
            settings.host,
            settings.port,
            identifier=settings.identifier,
            username=settings.username,
            password=password,
            protocol=aiomqtt.ProtocolVersion.V5,
            # No session is kept at the broker: what it has not acknowledged is sent again from the outbox.
            clean_start=True,
            will=self._will,
            keepalive=settings.keepalive_s,
            timeout=settings.connect_timeout_s,
            # The relay keeps the window; paho's own would cost a walk over all of it per PUBACK.
            max_inflight_messages=0,
            tls_context=tls_context,
            socket_options=((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),),
            logger=_QUIET,
        )
        client.bound_connect(settings.connect_timeout_s)
        return client

    def _password(self) -> str | None:
        path = self._settings.password_file
        if path is None:
            return None
        if self._settings.username is None:
            raise ValueError("mqtt.password_file is set, but mqtt.username is not")
        try:
            return path.read_text(encoding="utf-8").split("\n", 1)[0].rstrip("\r")
        except OSError as error:
            raise OSError(f"mqtt.password_file {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"mqtt.password_file {path}: not UTF-8") from None

    def _tls_context(self) -> ssl.SSLContext | None:
        settings = self._settings
        if not settings.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=settings.ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise ValueError(f"mqtt.ca_file {settings.ca_file}: {error}") from None
        context.sslsocket_class = _TlsSocket
        if settings.certificate_file is not None:
            try:
                context.load_cert_chain(settings.certificate_file, settings.key_file)
            except OSError as error:
                files = (
                    f"mqtt.certificate_file {settings.certificate_file}, mqtt.key_file {settings.key_file}"
                )
                raise ValueError(f"{files}: {error}") from None
        return context


class RowSender:
    """Rows as PUBLISH packets of one link."""

    def __init__(self, client: Client, node: str) -> None:
        self._client = client
        self._node = node
        self._row_prefix: dict[int, bytes] = {}  # content version -> the properties that all its rows share

    def send(
        self, row: OutboxRow, topic_name: str, more: bytes, acknowledged: Callable[[int, int], None]
    ) -> None:
        """`more`: further properties."""
        prefix = self._row_prefix.get(row.content_version)
        if prefix is None:
            prefix = content_type() + user_property("version", str(row.content_version))
            prefix += user_property("node", self._node)
            self._row_prefix[row.content_version] = prefix
        properties = prefix + user_property("message_id", row.message_id) + more
        self.publish(row.seq, topic_name.encode(), properties, row.payload, acknowledged)

    def publish(
        self,
        seq: int,
        topic: bytes,
        properties: bytes,
        payload: bytes,
        acknowledged: Callable[[int, int], None],
    ) -> None:
        if not topic_is_valid(topic):
            acknowledged(seq, TOPIC_NAME_INVALID)
            return
        packet_id = self._client.free_packet_id()
        head, size = publish_head(PUBLISH_QOS_1, topic, packet_id.to_bytes(2, "big"), properties, payload)
        if size > self._client.packet_bytes_max:
            # MQTT 5 §3.2.2.3.6: we must not send it; the broker would hang up, and so on every row after it.
            acknowledged(seq, PACKET_TOO_LARGE)
            return
        self._client.send(head, payload)
        self._client.expect_puback(packet_id, seq, acknowledged)


class _MqttLink:
    """A Link (see ports)."""

    def __init__(self, client: Client, settings: MqttSettings) -> None:
        self._client = client
        self._sender = RowSender(client, settings.node)
        self._status_topic = settings.status_topic
        self._boot_id = settings.boot_id
        self._status_properties = content_type() + user_property("node", settings.node)
        self.window = max(1, min(client.receive_max, settings.in_flight_max))

    def send(self, row: OutboxRow, acknowledged: Callable[[int, int], None]) -> None:
        self._sender.send(row, row.topic, b"", acknowledged)

    def publish_status(self, state: OutboxState) -> None:
        payload = _ENCODE(
            Status(
                epoch=state.epoch,
                boot_id=self._boot_id,
                head_seq=state.head_seq,
                published=state.published,
                commit=state.commit,
                commit_hash=state.commit_hash,
            )
        )
        # QoS 0: it takes no place in the window, and the next one follows in seconds.
        topic = self._status_topic.encode()
        head, _ = publish_head(PUBLISH_QOS_0_RETAIN, topic, b"", self._status_properties, payload)
        self._client.send(head, payload)

    def on_lost(self, notify: Callable[[LinkError], None]) -> None:
        self._client.on_lost(notify)


class _TlsSocket(ssl.SSLSocket):
    """Closed when its handshake fails; paho drops it open."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def _will(settings: MqttSettings, epoch: str) -> aiomqtt.Will:
    properties = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
    properties.ContentType = CONTENT_TYPE
    properties.UserProperty = ("node", settings.node)
    return aiomqtt.Will(
        settings.status_topic,
        _ENCODE(Will(epoch=epoch, boot_id=settings.boot_id)),
        qos=1,
        retain=True,
        properties=properties,
    )
