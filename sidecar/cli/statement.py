"""How a statement of an account (core/statement) is written."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from sidecar.cli.output import print_json
from sidecar.core.books_check import plain
from sidecar.core.statement import Statement
from sidecar.wire.csv_text import harmless

COLUMNS = (
    *("part", "at", "kind", "reference", "text", "operator", "destination"),
    *("calls", "billed_s", "net", "tax", "amount", "currency"),
)
_TEXTS = ("reference", "text", "operator", "destination")  # what others have written


def as_csv(of: Statement) -> None:
    write = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n").writerow
    write(dict(zip(COLUMNS, COLUMNS, strict=True)))

    def row(part: str, amount: Decimal, **cells: str | int | None) -> None:
        texts = {name: harmless(str(cells[name] or "")) for name in _TEXTS if name in cells}
        write({"part": part, **cells, **texts, "amount": plain(amount), "currency": of.currency})

    row("opening", of.opening, at=_local(of.begin, of.zone))
    for line in of.movements:
        row(
            "movement",
            line.amount,
            at=_local(line.booked_at, of.zone),
            kind=line.kind,
            reference=line.reference,
            text=line.text,
            operator=line.operator,
        )
    for one in of.calls:
        row(
            "calls",
            -one.total,
            destination=one.destination,
            calls=one.calls,
            billed_s=one.billed_s,
            net=plain(one.net),
            tax=plain(one.tax),
        )
    row("closing", of.closing, at=_local(of.end, of.zone), net=plain(of.net), tax=plain(of.tax))


def as_json(of: Statement) -> None:
    print_json(
        {
            "account": of.account,
            "currency": of.currency,
            "zone": of.zone,
            "begin": _local(of.begin, of.zone),
            "end": _local(of.end, of.zone),
            "opening": plain(of.opening),
            "movements": [
                {
                    "at": _local(line.booked_at, of.zone),
                    "kind": line.kind,
                    "amount": plain(line.amount),
                    "reference": line.reference,
                    "text": line.text,
                    "operator": line.operator,
                }
                for line in of.movements
            ],
            "calls": [
                {
                    "destination": one.destination,
                    "calls": one.calls,
                    "billed_s": one.billed_s,
                    "net": plain(one.net),
                    "tax": plain(one.tax),
                    "total": plain(one.total),
                }
                for one in of.calls
            ],
            "net": plain(of.net),
            "tax": plain(of.tax),
            "charged": plain(of.charged),
            "closing": plain(of.closing),
            "held": plain(of.held),
        }
    )


STATEMENT_FORMATS: Mapping[str, Callable[[Statement], None]] = {"csv": as_csv, "json": as_json}


def _local(at: datetime, zone: str) -> str:
    return at.astimezone(ZoneInfo(zone)).isoformat()
