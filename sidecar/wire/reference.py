"""The reference of the record, made of its one definition: every field with its type and its meaning, and the
table of who ended a call and why. Markdown, or values for JSON."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import get_type_hints

import msgspec
from msgspec import inspect as mi

from sidecar.core.cdr import (
    AttemptRecord,
    BranchRecord,
    Cdr,
    ChargeRecord,
    ChargeStep,
    LegRecord,
    LivenessRecord,
    MarginRecord,
    Party,
)
from sidecar.core.hangup import TABLE, BillableUntil, Row
from sidecar.core.margin import ExchangeRate
from sidecar.core.terms import Detail, HangupOrigin

STRUCTS: Mapping[str, type[msgspec.Struct]] = {
    "CDR": Cdr,
    "number": Party,
    "leg": LegRecord,
    "attempt": AttemptRecord,
    "branch": BranchRecord,
    "liveness": LivenessRecord,
    "charge": ChargeRecord,
    "step": ChargeStep,
    "margin": MarginRecord,
    "exchange": ExchangeRate,
}
WHERE = {
    "CDR": "The record itself",
    "number": "`caller` and `callee`",
    "leg": "`leg_a` and `leg_b`",
    "attempt": "`attempts`",
    "branch": "`attempts[].branches`",
    "liveness": "`liveness`",
    "charge": "`charges`",
    "step": "`charges[].steps`",
    "margin": "`margin`",
    "exchange": "`margin.exchange`",
}
UNTIL = {
    BillableUntil.NEVER: "–",
    BillableUntil.END: "the BYE",
    BillableUntil.GRANT: "the grant",
    BillableUntil.A_LIFE: "A's last sign of life",
    BillableUntil.LAST_LIFE: "the last sign of life of both",
    BillableUntil.LAST_REFRESH: "the last refresh",
    BillableUntil.RECOVERED: "the proved end, else the last heartbeat",
}
CAUSES: Mapping[Detail, str] = {
    Detail.CANCEL: "the caller gave up before the answer",
    Detail.REJECTED: "the callee, or the network behind it, refused",
    Detail.RING_TIMEOUT: "no answer in time (Q.850: alerted, not alerted, nothing heard)",
    Detail.MAX_DURATION: "the maximum duration was reached",
    Detail.NO_ACK: "the caller never acknowledged the answer",
    Detail.DEAD_PEER: "a side no longer answers",
    Detail.SESSION_TIMER: "the session was not refreshed",
    Detail.GRANT_USED_UP: "the prepaid time was used up in the call",
    Detail.NO_CREDIT: "the balance does not pay for one second",
    Detail.SOURCE_NOT_ALLOWED: "the source is in no peer group",
    Detail.NUMBER_BLOCKED: "the number is blocked",
    Detail.DESTINATION_BLOCKED: "the row of the sell deck is blocked",
    Detail.ACCOUNT_DISABLED: "the account is disabled, or not valid now",
    Detail.NO_RATE: "there is no rate, and the account is not carried without",
    Detail.RULE: "a rule refuses, such as `account_required`",
    Detail.OPERATOR: "`sidecar call release`",
    Detail.DRAIN: "`sidecar node drain --release`, or the node's end",
    Detail.NODE_FULL: "the node carries all the calls it may",
    Detail.PEER_LIMIT: "the peer group has all the calls it may, at once, per second, or ringing",
    Detail.ACCOUNT_LIMIT: "the account has all the calls it may",
    Detail.GATEWAY_LIMIT: "all gateways of the route have",
    Detail.NO_ROUTE: "no route begins as the number does",
    Detail.GATEWAY_UNREACHABLE: "no gateway of the route answers",
    Detail.LEDGER_UNREACHABLE: "the account's books cannot be reached, or are not known to be right",
    Detail.TRANSPORT_LOST: "a connection broke",
    Detail.JOURNAL: "the journal could not be written",
    Detail.INTERNAL_ERROR: "a defect of ours",
    Detail.CRASH_RECOVERED: "found open at the start",
}


_PLAIN: Mapping[type[mi.Type], str] = {
    mi.IntType: "integer",
    mi.StrType: "text",
    mi.BoolType: "boolean",
    mi.UUIDType: "UUID",
    mi.DateTimeType: "time",
    mi.DecimalType: "decimal",
}


class Field(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    type: str
    meaning: str
    words: tuple[str, ...] = ()  # the closed set of a field that holds a word


def fields(struct: type[msgspec.Struct]) -> list[Field]:
    info = mi.type_info(struct)
    assert isinstance(info, mi.StructType)
    hints = get_type_hints(struct, include_extras=True)
    return [
        Field(
            name=field.encode_name,
            type=_type_text(field.type),
            meaning=meaning(hints[field.name]),
            words=tuple(_words(field.type)),
        )
        for field in info.fields
    ]


def meaning(hint: object) -> str:
    """The text that stands beside a type in `Annotated`."""
    return next(note for note in getattr(hint, "__metadata__", ("",)) if type(note) is str)


_RECORD = """\
# The record

Every field is present in every record. Amounts are decimal strings, times are UTC with microseconds,
durations come from the monotonic clock. The JSON Schema is `sidecar/wire/cdr-v1.schema.json`.
"""
_HANGUPS = """\
# Who ended the call

The first cause that ends the call decides; what follows from it (our own BYE to the other side, a crossing
BYE) never changes it. A Q.850 Reason that was received is worth more than the cause in this table. "As
received" is mapped by RFC 3398, and `[q850]` overrides that code by code.
"""


def record() -> str:
    parts = [_RECORD]
    for name, struct in STRUCTS.items():
        parts.append(f"## {WHERE[name]}\n")
        rows = ((f"`{field.name}`", field.type, field.meaning) for field in fields(struct))
        parts += [*table((f"field of a {name}", "type", "meaning"), rows), ""]
    return "\n".join(parts)


def hangups() -> str:
    titles = ("cause", "origin", "reason", "detail", "SIP", "Q.850", "billable until")
    rows = (_hangup(origin, detail, row) for (origin, detail), row in TABLE.items())
    return "\n".join((_HANGUPS, *table(titles, rows))) + "\n"


def _hangup(origin: HangupOrigin, detail: Detail, row: Row) -> Sequence[str]:
    by_bye = f"the {origin.value} hung up"
    return (
        by_bye if detail is Detail.BYE else CAUSES[detail],
        row.origin.value,
        row.reason.value if row.reason else "",
        f"`{detail.value}`",
        str(row.sip_code or "as received"),
        "19, 18, 102" if detail is Detail.RING_TIMEOUT else str(row.q850_cause or "as received"),
        UNTIL[row.until] + (", or of the other (`dead_peer_billing`)" if detail is Detail.DEAD_PEER else ""),
    )


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a Markdown table."""
    yield f"| {' | '.join(titles)} |"
    yield f"|{'---|' * len(titles)}"
    for row in rows:
        cells = [cell.replace("|", "\\|") for cell in row]
        yield f"| {' | '.join(cells)} |"


def _type_text(kind: mi.Type) -> str:
    match kind:
        case mi.UnionType():
            return " or ".join(
                "null" if isinstance(one, mi.NoneType) else _type_text(one) for one in kind.types
            )
        case mi.VarTupleType():
            return f"list of {_type_text(kind.item_type)}"
        case mi.StructType():
            return next(name for name, struct in STRUCTS.items() if struct is kind.cls)
        case mi.EnumType():
            return "integer" if issubclass(kind.cls, enum.IntEnum) else "word"
    return _PLAIN[type(kind)]


def _words(kind: mi.Type) -> Iterator[str]:
    for one in kind.types if isinstance(kind, mi.UnionType) else (kind,):
        if isinstance(one, mi.EnumType) and not issubclass(one.cls, enum.IntEnum):
            yield from (str(word.value) for word in one.cls)
