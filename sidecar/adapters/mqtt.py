"""The way to the broker: MQTT 5, QoS 1, on aiomqtt. One attempt to connect when asked, rows out, reason codes
back.

Three things that aiomqtt 2.5.1 does not do are done in `_Client`, on private methods, which is why the
version is pinned and tests/adapters/test_mqtt.py pins what they get:

- aiomqtt releases a waiting `publish()` whatever the PUBACK says. `_on_publish` here looks at the reason code
  first and hands it on; nothing waits in a coroutine per message.
- aiomqtt does not show the limits that the broker states in its CONNACK. `_on_connect` here keeps them.
- paho, below it, drops the link at a PUBACK code that the standard does not list. Mosquitto answers a message
  above its `message_size_limit` with such a one (0x95). `_read_puback` here reads the code as it is.

Which codes deliver, repeat or bury a row, and when to try again, is the business of `sidecar.runtime.outbox`.

The will is retained on the status topic and carries the epoch alone. Every ending cuts the connection without
a DISCONNECT, so the broker publishes the will however the daemon went: one way out, tested once.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Literal

import aiomqtt
import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from sidecar.ports import Link, LinkError, OutboxRow, OutboxState

CONTENT_TYPE = "application/msgpack"
PACKET_BYTES_MAX = 268_435_460  # MQTT 5 §2.1.4: the largest packet that its length field can tell
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
    """A Publisher (see ports). `epoch` goes into the will."""

    def __init__(self, settings: MqttSettings, epoch: str) -> None:
        self._settings = settings
        self._will = aiomqtt.Will(
            settings.status_topic,
            _ENCODE({"epoch": epoch}),
            qos=1,
            retain=True,
            properties=_will_properties(settings.node),
        )

    def check(self) -> None:
        """Read every file that the settings name. Raises ValueError or OSError, for `sidecar check` and the
        start."""
        self._password()
        self._tls_context()

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Link]:
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
            if client.qos_max < 1:
                raise LinkError("the broker takes QoS 0 only; records need QoS 1")
            yield _MqttLink(client, self._settings)
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

    def _client(self) -> _Client:
        settings = self._settings
        try:
            password, tls_context = self._password(), self._tls_context()
        except (OSError, ValueError) as error:
            raise LinkError(str(error)) from None
        client = _Client(
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


class _MqttLink:
    """A Link (see ports)."""

    def __init__(self, client: _Client, settings: MqttSettings) -> None:
        self._client = client
        self._node = settings.node
        self._status_topic = settings.status_topic
        self._status_properties = _Packed(_content_type() + _user_property("node", settings.node))
        self._row_prefix: dict[int, bytes] = {}  # content version -> the properties that all its rows share
        self.window = max(1, min(client.receive_max, settings.in_flight_max))

    def send(self, row: OutboxRow, acknowledged: Callable[[int, int], None]) -> None:
        prefix = self._row_prefix.get(row.content_version)
        if prefix is None:
            prefix = _content_type() + _user_property("version", str(row.content_version))
            prefix += _user_property("node", self._node)
            self._row_prefix[row.content_version] = prefix
        properties = _Packed(prefix + _user_property("message_id", row.message_id))
        if _publish_bytes(row.topic, row.payload, properties) > self._client.packet_bytes_max:
            # MQTT 5 §3.2.2.3.6: we must not send it; the broker would hang up, and so on every row after it.
            acknowledged(row.seq, PACKET_TOO_LARGE)
            return
        try:
            self._client.send(row.topic, row.payload, properties, row.seq, acknowledged)
        except (
            ValueError
        ):  # paho's: the topic has a wildcard in it or is too long; the broker would say the same
            acknowledged(row.seq, TOPIC_NAME_INVALID)

    def publish_status(self, state: OutboxState) -> None:
        payload = _ENCODE({"epoch": state.epoch, "head_seq": state.head_seq, "published": state.published})
        # QoS 0: it takes no place in the window, and the next one follows in seconds.
        self._client.send_unacknowledged(self._status_topic, payload, self._status_properties)

    def on_lost(self, notify: Callable[[LinkError], None]) -> None:
        self._client.on_lost(notify)


class _Client(aiomqtt.Client):
    """aiomqtt's client, with the reason codes and the limits of the broker made visible."""

    receive_max = 65_535
    packet_bytes_max = PACKET_BYTES_MAX
    qos_max = 2

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting: dict[
            int, tuple[int, Callable[[int, int], None]]
        ] = {}  # by packet id; bounded by the window
        self._server_code: int | None = None
        self._paho_reads_puback = self._client._handle_pubackcomp
        self._client._handle_pubackcomp = self._read_puback  # type: ignore[method-assign]

    def bound_connect(self, timeout_s: float) -> None:
        self._client.connect_timeout = timeout_s

    def send(
        self,
        topic: str,
        payload: bytes,
        properties: Properties,
        seq: int,
        acknowledged: Callable[[int, int], None],
    ) -> None:
        info = self._client.publish(topic, payload, 1, False, properties)
        if info.rc != paho.MQTT_ERR_SUCCESS:
            raise LinkError(paho.error_string(info.rc))
        # No PUBACK can have come yet: paho writes from the event loop, after this returns.
        self._waiting[info.mid] = (seq, acknowledged)

    def send_unacknowledged(self, topic: str, payload: bytes, properties: Properties) -> None:
        info = self._client.publish(topic, payload, 0, True, properties)
        if info.rc != paho.MQTT_ERR_SUCCESS:
            raise LinkError(paho.error_string(info.rc))

    def on_lost(self, notify: Callable[[LinkError], None]) -> None:
        def lost(_: object) -> None:
            if self._disconnected.cancelled():
                return  # cut by us
            error = self._disconnected.exception()
            notify(LinkError(str(error or "the link was closed"), self._server_code))

        self._disconnected.add_done_callback(lost)

    def cut(self) -> None:
        """Close the socket in whatever state it is; aiomqtt leaves it open when a CONNACK does not come in
        time."""
        self._client._sock_close()
        if self._disconnected.done():
            self._disconnected.exception()  # retrieved, or asyncio would complain
        else:
            self._disconnected.cancel()

    def _on_connect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        self.receive_max = getattr(properties, "ReceiveMaximum", self.receive_max)
        self.packet_bytes_max = getattr(properties, "MaximumPacketSize", self.packet_bytes_max)
        self.qos_max = getattr(properties, "MaximumQoS", self.qos_max)
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(
        self,
        client: paho.Client,
        userdata: Any,
        flags: paho.DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._server_code = reason_code.value
        if not self._connected.done():
            # aiomqtt would let the CONNECT run into its time-out. With TLS 1.3 a broker that wants a
            # certificate says so only now, after the handshake.
            self._connected.set_exception(aiomqtt.MqttCodeError(reason_code))
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _read_puback(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        packet = self._client._in_packet["packet"]
        if cmd != "PUBACK" or len(packet) < 2:
            return self._paho_reads_puback(cmd)
        packet_id = int.from_bytes(packet[:2], "big")
        code = packet[2] if len(packet) > 2 else 0  # MQTT 5 §3.4.2.1: left out where it is 0
        with self._client._out_message_mutex:
            if packet_id in self._client._out_messages:
                return self._client._do_on_publish(packet_id, _reason_code(code), _NO_PROPERTIES)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _on_publish(
        self, client: paho.Client, userdata: Any, mid: int, reason_code: ReasonCode, properties: Properties
    ) -> None:
        waiting = self._waiting.pop(mid, None)
        if waiting is None:
            super()._on_publish(client, userdata, mid, reason_code, properties)
            return
        seq, acknowledged = waiting
        acknowledged(seq, reason_code.value)


class _TlsSocket(ssl.SSLSocket):
    """Closed when its handshake fails; paho drops it open."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


class _Packed(Properties):
    """Properties packed by us; `pack` is all that paho asks of them on the way out. Its own class was
    measured at 36 µs to fill and pack, this one at 0.7: a whole row costs 22."""

    packed: bytes

    def __init__(self, properties: bytes) -> None:
        object.__setattr__(
            self, "packed", _varint(len(properties)) + properties
        )  # paho's refuses unknown names

    def pack(self) -> bytes:
        return self.packed

    def __str__(self) -> str:
        return "[packed]"


# --- MQTT 5 §2.2.2: what our properties look like on the wire -----------------------------------------------


def _content_type() -> bytes:
    return b"\x03" + _utf8(CONTENT_TYPE)


def _user_property(name: str, value: str) -> bytes:
    return b"\x26" + _utf8(name) + _utf8(value)


def _utf8(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def _varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _publish_bytes(topic: str, payload: bytes, properties: _Packed) -> int:
    """The size of the whole PUBLISH packet, as Maximum Packet Size counts it (MQTT 5 §3.2.2.3.6)."""
    remaining = 2 + len(topic.encode()) + 2 + len(properties.pack()) + len(payload)
    return 1 + len(_varint(remaining)) + remaining


@functools.cache  # 256 of them at most
def _reason_code(code: int) -> ReasonCode:
    reason_code = ReasonCode(PacketTypes.PUBACK)
    reason_code.value = code
    return reason_code


_NO_PROPERTIES = _Packed(b"")


def _will_properties(node: str) -> Properties:
    properties = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
    properties.ContentType = CONTENT_TYPE
    properties.UserProperty = ("node", node)
    return properties
