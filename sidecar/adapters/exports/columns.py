"""A CDR as one flat row. The columns come from the definition of the CDR, so a field that is added there is a
column here: parts with one value (`caller`, `leg_a`) are spread out, the charges into `sell_` and `buy_`, and
lists (`attempts`, a charge's `steps`) are JSON in one column."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec
from msgspec import inspect as mi

from sidecar.core.cdr import Cdr, ChargeRecord
from sidecar.core.terms import ChargeSide
from sidecar.wire.plain import plain

Kind = Literal["text", "integer", "boolean", "time", "decimal", "json"]
Value = str | int | bool | None
CHARGES = "charges"
SIDE = "side"

_KEPT = (datetime, Decimal)


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """`path`: the one or two keys that lead to the value in the record as a tree."""

    name: str
    kind: Kind
    path: tuple[str, ...]


def row_of(cdr: Cdr) -> list[Value]:
    """The values of COLUMNS: amounts as plain decimal strings, times as RFC 3339 in UTC with microseconds. Of
    the charges, the first of each side; a call has one."""
    tree: dict[str, Any] = msgspec.to_builtins(cdr, builtin_types=_KEPT)
    lines: list[dict[str, Any]] = tree.pop(CHARGES)
    for side in ChargeSide:
        tree[side.value] = next((line for line in lines if line[SIDE] == side.value), None)
    row: list[Value] = []
    for first, second in _PATHS:
        found = tree[first]
        if second is not None and found is not None:
            found = found[second]
        text = _TEXTS.get(type(found))
        row.append(found if text is None else text(found))
    return row


def time_text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _columns(struct: type[msgspec.Struct], path: tuple[str, ...] = ()) -> Iterator[Column]:
    info = mi.type_info(struct)
    assert isinstance(info, mi.StructType)
    for field in info.fields:
        name, kind = field.encode_name, _unwrapped(field.type)
        if not path and name == CHARGES:
            for side in ChargeSide:
                yield from _columns(ChargeRecord, (side.value,))
        elif not path and isinstance(kind, mi.StructType):
            yield from _columns(kind.cls, (name,))
        elif name != SIDE:
            yield Column(name="_".join((*path, name)), kind=_kind(kind), path=(*path, name))


def _unwrapped(kind: mi.Type) -> mi.Type:
    if isinstance(kind, mi.UnionType):
        [only] = [one for one in kind.types if not isinstance(one, mi.NoneType)]
        return only
    return kind


def _kind(kind: mi.Type) -> Kind:
    match kind:
        case mi.IntType():
            return "integer"
        case mi.BoolType():
            return "boolean"
        case mi.DateTimeType():
            return "time"
        case mi.DecimalType():
            return "decimal"
        case mi.StrType() | mi.UUIDType() | mi.EnumType():
            return "text"
        case _:
            return "json"


def _json(value: object) -> str:
    return msgspec.json.encode(plain(value, time_text)).decode()


COLUMNS: tuple[Column, ...] = tuple(_columns(Cdr))

_PATHS = tuple((column.path[0], column.path[1] if len(column.path) > 1 else None) for column in COLUMNS)
# By type, not by pattern: a row has a hundred values, and most are text or nothing.
_TEXTS: dict[type, Callable[[Any], str]] = {
    Decimal: lambda amount: format(amount, "f"),
    datetime: time_text,
    dict: _json,
    list: _json,
    tuple: _json,
}
