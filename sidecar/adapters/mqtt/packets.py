"""MQTT 5 as bytes: as much of it as rows and the status need."""

from __future__ import annotations

CONTENT_TYPE = "application/msgpack"
PUBACK = 0x40
PUBLISH_QOS_0_RETAIN = 0x31
PUBLISH_QOS_1 = 0x32
PACKET_BYTES_MAX = 268_435_460  # §2.1.4: the largest packet that its length field can tell


def topic_is_valid(topic: bytes) -> bool:
    """To publish to (§3.3.2.1)."""
    return 0 < len(topic) < 65_536 and b"#" not in topic and b"+" not in topic


def content_type() -> bytes:
    return b"\x03" + _utf8(CONTENT_TYPE)


def user_property(name: str, value: str) -> bytes:
    return b"\x26" + _utf8(name) + _utf8(value)


def correlation_data(data: bytes) -> bytes:
    return b"\x09" + len(data).to_bytes(2, "big") + data


def _utf8(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def publish_head(
    kind: int, topic: bytes, packet_id: bytes, properties: bytes, payload: bytes
) -> tuple[bytes, int]:
    """A PUBLISH packet up to its payload (§3.3), and the size of the whole as Maximum Packet Size counts it
    (§3.2.2.3.6). `packet_id` is empty at QoS 0."""
    rest = len(topic).to_bytes(2, "big") + topic + packet_id + varint(len(properties)) + properties
    head = bytes((kind,)) + varint(len(rest) + len(payload)) + rest
    return head, len(head) + len(payload)
