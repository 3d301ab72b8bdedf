"""How values look on a page. Texts may come from whoever sends SIP: what does not print, or would turn the
direction of what stands beside it, is shown by its code, and what is too long is cut."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime
from decimal import Decimal

from sidecar.core.numbers import mask

TEXT_LENGTH_MAX = 200
_FORMAT = (
    "Cc",
    "Cf",
    "Cs",
    "Co",
    "Cn",
    "Zl",
    "Zp",
)  # controls, bidi marks, surrogates, what has no character


def text(value: object) -> str:
    if value is None:
        return ""
    said = str(value)
    if len(said) > TEXT_LENGTH_MAX:
        said = said[: TEXT_LENGTH_MAX - 1] + "…"
    if said.isascii() and said.isprintable():
        return said
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) in _FORMAT else c for c in said)


def number(value: str | None, whole: bool = False) -> str:
    if not value:
        return ""
    return text(value) if whole else mask(value)


_USER = re.compile(r"^(sips?:|tel:)([^@;>]*)", re.IGNORECASE)
_DIGITS = re.compile(r"(?<![\d.])\+?\d{7,}(?![\d.])", re.ASCII)


def line(value: object, whole: bool = False) -> str:
    """A text that may have numbers in it: they are masked as in a log line."""
    said = text(value)
    return said if whole else _DIGITS.sub(lambda found: mask(found[0]), said)


def uri(value: str, whole: bool = False) -> str:
    """Its user is a number, however it is written."""
    return text(value if whole else _USER.sub(lambda found: found[1] + mask(found[2]), value))


def offset(ms: float) -> str:
    """`+0.020`, in seconds."""
    return f"+{ms / 1000:.3f}"


def moment(value: str | datetime | None) -> str:
    """`2026-11-21 14:13:22`, in UTC."""
    if value is None:
        return ""
    said = value.isoformat() if isinstance(value, datetime) else value
    return text(said[:19].replace("T", " "))


def clock(value: str | datetime | None) -> str:
    return moment(value)[11:]


def duration(seconds: float | None) -> str:
    """`1:02:03`, `4:05`, `0:07`."""
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def count(value: float | None) -> str:
    """`12 345`, with narrow spaces; nothing where nothing is known."""
    return "–" if value is None else f"{value:,.0f}".replace(",", "\u202f")


def amount(value: Decimal) -> str:
    """At least two decimals and all that it has, so that no part of a sum is out of sight."""
    exponent = value.normalize().as_tuple().exponent
    decimals = max(2, -exponent if isinstance(exponent, int) else 0)
    return f"{value:,.{decimals}f}".replace(",", "\u202f")


def share(value: float | None) -> str:
    return "–" if value is None else f"{value * 100:.1f}"
