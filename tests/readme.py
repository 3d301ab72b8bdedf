"""README's tables from the code: what they must say, and `python -m tests.readme` to write those that are
made.

The meanings in the CDR's tables are written by hand in README.md; their fields and types come from
core/cdr.py.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import inspect as mi

from sidecar.config import reference
from sidecar.core.cdr import AttemptRecord, Cdr, ChargeRecord, ChargeStep, LegRecord, MarginRecord, Party
from sidecar.core.hangup import TABLE, BillableUntil, Row
from sidecar.core.margin import ExchangeRate
from sidecar.core.terms import Detail, HangupOrigin

REPO = Path(__file__).resolve().parent.parent
README = REPO / "README.md"
SCENARIOS = REPO / "sipp_scenarios"

STRUCTS: dict[str, type[msgspec.Struct]] = {
    "CDR": Cdr,
    "number": Party,
    "leg": LegRecord,
    "attempt": AttemptRecord,
    "charge": ChargeRecord,
    "step": ChargeStep,
    "margin": MarginRecord,
    "exchange": ExchangeRate,
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
CAUSES = {
    (HangupOrigin.CALLER, Detail.BYE): "the caller hung up",
    (HangupOrigin.CALLEE, Detail.BYE): "the callee hung up",
    (HangupOrigin.CALLER, Detail.CANCEL): "the caller gave up before the answer",
    (HangupOrigin.CALLEE, Detail.REJECTED): "the callee, or the network behind it, refused",
    (
        HangupOrigin.SERVER,
        Detail.RING_TIMEOUT,
    ): "no answer in time (Q.850: alerted, not alerted, nothing heard)",
    (HangupOrigin.SERVER, Detail.MAX_DURATION): "the maximum duration was reached",
    (HangupOrigin.SERVER, Detail.NO_ACK): "the caller never acknowledged the answer",
    (HangupOrigin.SERVER, Detail.DEAD_PEER): "a side no longer answers",
    (HangupOrigin.SERVER, Detail.SESSION_TIMER): "the session was not refreshed",
    (HangupOrigin.SERVER, Detail.GRANT_USED_UP): "the prepaid time was used up in the call",
    (HangupOrigin.SERVER, Detail.NO_CREDIT): "the balance does not pay for one second",
    (HangupOrigin.SERVER, Detail.SOURCE_NOT_ALLOWED): "the source is in no peer group",
    (HangupOrigin.SERVER, Detail.NUMBER_BLOCKED): "the number is blocked",
    (HangupOrigin.SERVER, Detail.NO_RATE): "there is no rate, and the account is not carried without",
    (HangupOrigin.SERVER, Detail.RULE): "a rule refuses, such as `account_required`",
    (HangupOrigin.SERVER, Detail.OPERATOR): "`sidecar call release`",
    (HangupOrigin.SERVER, Detail.DRAIN): "`sidecar node drain --release`, or the node's end",
    (HangupOrigin.SERVER, Detail.NODE_FULL): "the node carries all the calls it may",
    (HangupOrigin.SERVER, Detail.ACCOUNT_LIMIT): "the account has all the calls it may",
    (HangupOrigin.SERVER, Detail.GATEWAY_LIMIT): "all gateways of the route have",
    (HangupOrigin.SERVER, Detail.NO_ROUTE): "no route begins as the number does",
    (HangupOrigin.SERVER, Detail.GATEWAY_UNREACHABLE): "no gateway of the route answers",
    (HangupOrigin.SERVER, Detail.TRANSPORT_LOST): "a connection broke",
    (HangupOrigin.SERVER, Detail.JOURNAL): "the journal could not be written",
    (HangupOrigin.SERVER, Detail.INTERNAL_ERROR): "a defect of ours",
    (HangupOrigin.SERVER, Detail.CRASH_RECOVERED): "found open at the start",
}


def fields(struct: type[msgspec.Struct]) -> list[tuple[str, str]]:
    """(name, type as README says it) of every field, in order."""
    info = mi.type_info(struct)
    assert isinstance(info, mi.StructType)
    return [(field.encode_name, type_text(field.type)) for field in info.fields]


def type_text(kind: mi.Type) -> str:
    match kind:
        case mi.UnionType():
            return " or ".join(
                "null" if isinstance(one, mi.NoneType) else type_text(one) for one in kind.types
            )
        case mi.VarTupleType():
            return f"list of {type_text(kind.item_type)}"
        case mi.StructType():
            return next(name for name, struct in STRUCTS.items() if struct is kind.cls)
        case mi.EnumType():
            return "integer" if issubclass(kind.cls, enum.IntEnum) else "word"
        case mi.IntType():
            return "integer"
        case mi.StrType():
            return "text"
        case mi.BoolType():
            return "boolean"
        case mi.UUIDType():
            return "UUID"
        case mi.DateTimeType():
            return "time"
        case mi.DecimalType():
            return "decimal"
    raise TypeError(f"README has no word for {kind}")


def words(struct: type[msgspec.Struct]) -> dict[str, list[str]]:
    """The closed set of every field that holds a word."""
    info = mi.type_info(struct)
    assert isinstance(info, mi.StructType)
    found: dict[str, list[str]] = {}
    for field in info.fields:
        kinds = field.type.types if isinstance(field.type, mi.UnionType) else (field.type,)
        for kind in kinds:
            if isinstance(kind, mi.EnumType) and not issubclass(kind.cls, enum.IntEnum):
                found[field.encode_name] = [str(one.value) for one in kind.cls]
    return found


def hangup_table() -> list[str]:
    return [
        "| cause | origin | reason | detail | SIP | Q.850 | billable until |",
        "|---|---|---|---|---|---|---|",
        *(_hangup_row(key[1], row, CAUSES[key]) for key, row in TABLE.items()),
    ]


def _hangup_row(detail: Detail, row: Row, cause: str) -> str:
    q850 = "19, 18, 102" if detail is Detail.RING_TIMEOUT else str(row.q850_cause or "as received")
    cells = (
        cause,
        row.origin.value,
        row.reason.value if row.reason else "",
        f"`{detail.value}`",
        str(row.sip_code or "as received"),
        q850,
        UNTIL[row.until],
    )
    return f"| {' | '.join(cells)} |"


def scenario_table() -> list[str]:
    """Every SIPp scenario, by the comment in each of its files."""
    sides: dict[str, dict[str, str]] = {}
    for path in sorted(SCENARIOS.glob("*.xml")):
        name, side, _ = path.name.split(".")
        comment = re.search(r"<!-- (.+?) -->", path.read_text(), re.DOTALL)
        assert comment is not None, f"{path}: a comment says what it does"
        sides.setdefault(name, {})[side] = " ".join(comment[1].split())
    rows = (f"| `{name}` | {of.get('uac', '')} | {of.get('uas', '')} |" for name, of in sides.items())
    return ["| scenario | the caller | the gateway |", "|---|---|---|", *rows]


# --- reading and writing README.md --------------------------------------------------------------------------


def tables(text: str) -> Iterator[list[list[str]]]:
    """The cells of every Markdown table, without the line under its header."""
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()]
        yield [[cell.strip() for cell in row] for row in (rows[0], *rows[2:])]


def field_tables(text: str) -> dict[str, list[list[str]]]:
    """The tables of fields by what they describe: the header is `field of a NAME`."""
    return {
        found[0][0].removeprefix("field of a "): found[1:]
        for found in tables(text)
        if found[0][0].startswith("field of a ")
    }


def between(text: str, begin: str, end: str) -> str:
    return text[text.index(begin) : text.index(end) + len(end)]


def updated(text: str) -> str:
    """README with the parts that are made from the code as they are now."""
    old = between(text, reference.BEGIN, reference.END)
    text = text.replace(old, reference.markdown().strip())
    [block] = re.findall(r"^\| cause \| origin .*\n(?:\|.*\n)+", text, re.MULTILINE)
    return text.replace(block, _lines(hangup_table()))


def updated_scenarios(text: str) -> str:
    return text[: text.index("| scenario |")] + _lines(scenario_table())


def _lines(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    README.write_text(updated(README.read_text()))
    scenarios = SCENARIOS / "README.md"
    scenarios.write_text(updated_scenarios(scenarios.read_text()))
