"""Structs as JSON's own kinds, for what commands print and files that programs read: amounts are decimal
strings without an exponent, as everywhere on the wire."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec


def plain(value: object) -> Any:
    return _plain(msgspec.to_builtins(value, builtin_types=(Decimal, datetime, UUID)))


def _plain(value: Any) -> Any:
    match value:
        case Decimal():
            return format(value, "f")
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case UUID():
            return str(value)
        case dict():
            return {key: _plain(one) for key, one in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
        case _:
            return value
