"""Whether a CDR is what its call was, and the table of them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sidecar.demo.calls import CENTS_PER_SECOND, CURRENCY, OPERATOR_TEXT, STRIP_DIGITS, DemoCall
from sidecar.demo.subscriber import Record

WIDTH_MIN = 150
OBSERVED = "message/observed"


def summary(cdr: Record) -> str:
    """How the call ended: origin[/reason]/detail, SIP code, Q.850 cause, disposition; and evidence/confidence
    where that is not message/observed."""
    who = "/".join(cdr[name] for name in ("hangup_origin", "server_reason", "detail") if cdr[name])
    found = f"{who} {cdr['sip_code']} {cdr['q850_cause']} {cdr['disposition']}"
    proof = f"{cdr['evidence']}/{cdr['confidence']}"
    return found if proof == OBSERVED else f"{found} {proof}"


def faults(call: DemoCall, cdr: Record) -> list[str]:
    """What in the CDR is not what the call was."""
    billed_s = billed_seconds(call, cdr["talk_ms"])
    sell = [line for line in cdr["charges"] if line["side"] == "sell"]
    expected: dict[str, tuple[Any, Any]] = {
        "version": (cdr["version"], 1),
        "revision": (cdr["revision"], 0),
        "recorded": (cdr["recorded"], True),
        "account": (cdr["account"], call.account),
        "dialled": (cdr["callee"]["received"], call.dialled),
        "billed number": (cdr["callee"]["billed"], call.dialled[STRIP_DIGITS:]),
        "sent": (cdr["callee"]["sent"], call.dialled if call.has_callee else None),
        "ending": (summary(cdr), call.cdr),
        "operator": (cdr["operator"], call.operator),
        "operator text": (cdr["operator_text"], OPERATOR_TEXT if call.operator else None),
        "billed seconds": (cdr["billed_s"], billed_s),
        "attempts": (len(cdr["attempts"]), int(call.has_callee)),
        "answered": (cdr["answered_at"] is not None, call.talk_ms[1] > 0),
        "charges to the account": (len(sell), 1),
    }
    wrong = [
        f"{name} is {is_!r}, not {should!r}" for name, (is_, should) in expected.items() if is_ != should
    ]
    low, high = call.talk_ms
    if not low <= cdr["talk_ms"] <= high:
        wrong.append(f"talked {cdr['talk_ms']} ms, not {low} to {high}")
    if sell:
        owed = Decimal(billed_s * CENTS_PER_SECOND) / 100
        if Decimal(sell[0]["total"]) != owed:
            wrong.append(f"charged {sell[0]['total']}, not {owed}")
        if owed and sell[0]["currency"] != CURRENCY:
            wrong.append(f"charged in {sell[0]['currency']}, not {CURRENCY}")
        if sell[0]["billed_number"] != call.dialled[STRIP_DIGITS:]:
            wrong.append(f"rated {sell[0]['billed_number']}, not {call.dialled[STRIP_DIGITS:]}")
    if cdr["answered_at"] is not None:
        by_stamps_ms = (cdr["ended_at"] - cdr["answered_at"]).total_seconds() * 1000
        if abs(by_stamps_ms - cdr["talk_ms"]) > 50:
            wrong.append(f"talked {cdr['talk_ms']} ms, by its stamps {by_stamps_ms:.0f} ms")
    return wrong


def billed_seconds(call: DemoCall, talk_ms: int) -> int:
    """From 50 ms above a whole second on, a second more."""
    return call.billed_s if call.billed_s is not None else (talk_ms + 950) // 1000


def gaps(cdrs: Sequence[Record]) -> list[str]:
    """Sequence numbers are gapless in an epoch."""
    wrong = [] if len({cdr["store_epoch"] for cdr in cdrs}) <= 1 else ["more than one epoch"]
    numbers = sorted(cdr["seq"] for cdr in cdrs)
    return wrong + [f"{one} is followed by {other}" for one, other in pairwise(numbers) if other != one + 1]


def print_table(console: Console, rows: Sequence[tuple[DemoCall, Record | None, list[str]]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in ("call", "ended by", "why", "SIP/Q.850", "dialled", "billed number"):
        table.add_column(name, overflow="fold")
    for name in ("talk s", "billed s", "charge", ""):
        table.add_column(name, justify="right")
    for call, cdr, wrong in rows:
        if cdr is None:
            table.add_row(call.title, *["–"] * 8, Text("missing", style="red"))
            continue
        sell: Record = next((line for line in cdr["charges"] if line["side"] == "sell"), {})
        why = cdr["detail"] if cdr["server_reason"] is None else f"{cdr['server_reason']}: {cdr['detail']}"
        cells = (
            call.title,
            cdr["hangup_origin"],
            why,
            f"{cdr['sip_code']}/{cdr['q850_cause']}",
            cdr["callee"]["received"],
            cdr["callee"]["billed"],
            f"{cdr['talk_ms'] / 1000:.3f}",
            cdr["billed_s"],
            f"{sell.get('total')} {sell.get('currency') or ''}".strip(),
        )
        table.add_row(
            *(Text(str(value)) for value in cells),
            Text("wrong", style="red") if wrong else Text("right", style="green"),
        )
    console.print(table)


def console() -> Console:
    """Elsewhere than on a terminal rich assumes 80 columns, which would fold the table."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=WIDTH_MIN)
