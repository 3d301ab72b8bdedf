"""Structs as JSON's own kinds, for what commands print and files that programs read: amounts are decimal
strings without an exponent, as everywhere on the wire."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec


def shortest(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def plain(value: object, time_text: Callable[[datetime], str] = shortest) -> Any:
    return _plain(msgspec.to_builtins(value, builtin_types=(Decimal, datetime, UUID)), time_text)


def _plain(value: Any, time_text: Callable[[datetime], str]) -> Any:
    match value:
        case Decimal():
            return format(value, "f")
        case datetime():
            return time_text(value)
        case UUID():
            return str(value)
        case dict():
            return {key: _plain(one, time_text) for key, one in value.items()}
        case list() | tuple():
            return [_plain(one, time_text) for one in value]
        case _:
            return value
