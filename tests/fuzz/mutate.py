"""Changes to a message, by chance but from a seed: bytes, numbers, header fields, two messages spliced."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Final

MESSAGE_BYTES_MAX: Final = 60_000  # what one datagram takes

_NUMBERS: Final = (
    b"0",
    b"-1",
    b"2147483647",
    b"2147483648",
    b"4294967296",
    b"18446744073709551616",
    b"1e9",
    b"",
)
_PIECES: Final = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\x00",
    b" ",
    b"\t",
    b'"',
    b"\\",
    b"<",
    b">",
    b"@",
    b":",
    b";",
    b",",
    b"=",
    b"%00",
    b"%",
    b"\xff\xfe",
    b"\xc3",
    b"[",
    b"]",
    b"[::1]",
    b"*",
    b";tag=",
    b";lr",
    b";branch=",
    b"sip:",
    b"tel:",
    b"sips:",
    b"\r\nContent-Length: 5\r\n",
    b"\r\nVia: SIP/2.0/UDP 192.0.2.1\r\n",
    b"\r\nRequire: 100rel\r\n",
    b"\r\n\r\n",
    b"\r\nReason: Q.850;cause=",
    b"\r\nContact: *\r\n",
    b"\r\nRSeq: 1\r\nRequire: 100rel\r\n",
    b"\r\n \r\n",
    b"a" * 300,
)


def mutated(rng: random.Random, message: bytes, others: Sequence[bytes]) -> bytes:
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        message = rng.choice(_CHANGES)(rng, message, others)[:MESSAGE_BYTES_MAX]
    return message


def odd_field(rng: random.Random, names: Sequence[str]) -> str:
    """A header field that nobody may be able to read, in one line."""
    pieces = [piece for piece in (*_PIECES, *_NUMBERS) if b"\r" not in piece and b"\n" not in piece]
    value = b"".join(rng.choice(pieces) * rng.choice((1, 1, 1, 2, 50)) for _ in range(rng.randrange(5)))
    return f"{rng.choice(names)}: {value[:4000].decode('latin-1')}"


def damaged_field(rng: random.Random, message: bytes) -> bytes:
    """One of its header fields is changed, gone or there twice."""
    head, end, body = message.partition(b"\r\n\r\n")
    first, *fields = head.split(b"\r\n")
    at = rng.randrange(len(fields))
    change = rng.choice((_flip, _insert, _delete, _number, _value, None))
    fields[at : at + 1] = (
        rng.choice(([], [fields[at]] * 2)) if change is None else [change(rng, fields[at], ())]
    )
    return b"\r\n".join((first, *fields)) + end + body


def _place(rng: random.Random, message: bytes) -> int:
    return rng.randint(0, len(message))


def _flip(rng: random.Random, message: bytes, _: Sequence[bytes]) -> bytes:
    changed = bytearray(message)
    for _n in range(rng.randint(1, 4)):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _insert(rng: random.Random, message: bytes, _: Sequence[bytes]) -> bytes:
    at = _place(rng, message)
    return message[:at] + rng.choice(_PIECES) * rng.choice((1, 1, 1, 2, 50)) + message[at:]


def _delete(rng: random.Random, message: bytes, _: Sequence[bytes]) -> bytes:
    at = _place(rng, message)
    return message[:at] + message[at + rng.choice((1, 2, 8, 40)) :]


def _cut(rng: random.Random, message: bytes, _: Sequence[bytes]) -> bytes:
    return message[: _place(rng, message)]


def _number(rng: random.Random, message: bytes, _: Sequence[bytes]) -> bytes:
    found = list(re.finditer(rb"\d+", message))
    if not found:
        return message
    one = rng.choice(found)
    return message[: one.start()] + rng.choice(_NUMBERS) + message[one.end() :]


def _lines(rng: random.Random, message: bytes, others: Sequence[bytes]) -> bytes:
    """A header field twice, none, elsewhere, very often, or one of another message."""
    lines = message.split(b"\r\n")
    at, to = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(5):
        case 0:
            lines.insert(to, lines[at])
        case 1:
            del lines[at]
        case 2:
            lines[at], lines[to] = lines[to], lines[at]
        case 3:
            lines[at:at] = [lines[at]] * rng.choice((10, 100, 300))
        case _:
            lines.insert(to, rng.choice(rng.choice(others).split(b"\r\n")))
    return b"\r\n".join(lines)


def _splice(rng: random.Random, message: bytes, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others)
    return message[: _place(rng, message)] + other[_place(rng, other) :]


def _value(rng: random.Random, message: bytes, _: Sequence[bytes]) -> bytes:
    """A header field with no value, or with one of another shape."""
    lines = message.split(b"\r\n")
    at = rng.randrange(len(lines))
    name, colon, value = lines[at].partition(b":")
    if colon:
        lines[at] = (
            name + colon + rng.choice((b"", b" ", b" ,", b' "', b" <", b" ;;;=", value * 20, b" " + name))
        )
    return b"\r\n".join(lines)


_CHANGES: Final = (_flip, _insert, _delete, _cut, _number, _number, _lines, _lines, _value, _splice)
