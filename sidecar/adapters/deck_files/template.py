"""Templates: how one carrier writes price lists, or the records of calls. A TOML file; `sidecar reference
templates` describes every key.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints
from zoneinfo import ZoneInfo

import msgspec

from sidecar.adapters.deck_files.cells import DATE_ORDERS
from sidecar.adapters.deck_files.columns import COLUMNS
from sidecar.core.tariff import check_caller_prefix

TEMPLATE_BYTES_MAX = 2**16
SHIPPED = Path(__file__).resolve().parents[2] / "templates"
DECIMALS_MAX = 12

Kind = Literal["deck", "records"]
Source = str | int | list[str]  # a column's name or names, or its place from 1 on

# What a column of a carrier may be, beside the columns of a deck.
MORE_FIELDS = {
    "country_code": "In front of each code of `prefix`.",
    "network": "Put behind the destination.",
    "increments": "First and further increment in one cell: `60/60`, `30/6`, `1+1`, `60s`.",
    "minimum_s": "The least billed seconds of a call; a third increment.",
    "status": "A word that `[status]` maps.",
    "next_price": "The price from `next_from` on.",
    "next_from": "When it is in force.",
    "days": "Of a price by time: `Mon-Fr`, `weekend`.",
    "hours": "Of a price by time: `08:00-18:00`.",
    "hours_from": "Where they are two cells.",
    "hours_to": "The end.",
    "period": "A word that `[periods]` maps: `Peak`.",
    "step_start_s": "One row for each step of a price: from which second on it holds.",
}
RECORD_FIELDS = {
    "call_id": "What both sides call the call; where there is none, numbers and time decide.",
    "started_at": "When the call was answered, or set up.",
    "called": "The number called.",
    "caller": "The number that calls.",
    "seconds": "What is billed: `75`, `1:15`, `00:01:15`.",
    "amount": "What it costs.",
    "currency": "ISO 4217.",
    "price_per_minute": "By which price.",
    "prefix": "Of an invoice line, which sums calls: to which prefix.",
    "destination": "Of an invoice line: to which destination, as our buy deck names it.",
    "calls": "Of an invoice line: how many.",
}
DECK_FIELDS = {**dict.fromkeys(COLUMNS, ""), **MORE_FIELDS}
ACTIONS = ("add", "replace", "end", "block", "leave_out")
STATUS_WORDS = {
    "new": "add",
    "add": "add",
    "added": "add",
    "a": "add",
    "increase": "replace",
    "decrease": "replace",
    "change": "replace",
    "changed": "replace",
    "unchanged": "replace",
    "no change": "replace",
    "nochange": "replace",
    "current": "replace",
    "active": "replace",
    "same": "replace",
    "pending": "replace",
    "closed": "end",
    "close": "end",
    "deleted": "end",
    "delete": "end",
    "removed": "end",
    "discontinued": "end",
    "end": "end",
    "blocked": "block",
    "block": "block",
}
PLAIN = {"price": "price_per_minute"}  # what people say for a column of ours


class TemplateError(Exception):
    """A template that cannot be used; the text says why, with file, line and key."""


class Template(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one carrier writes. Columns of the file that are not named here are ignored.

    `columns`: ours to theirs: a name, several possible names (`*` stands for anything), or a place from 1
    on where `header` is false. `optional`: those that a file may lack. `values`: ours to what holds for
    every row. Names are compared without case, line breaks and repeated blanks.
    """

    kind: Annotated[Kind, "What the rows are."] = "deck"
    title: Annotated[str, "What `sidecar deck templates` says of it."] = ""
    sheet: Annotated[
        str | list[str], "Of a workbook: names or patterns; empty: the one that has the table; `*`: all."
    ] = ""
    header: Annotated[bool, "Whether a row names the columns; if not, `columns` has their places."] = True
    cells: Annotated[int, "How many cells a row has where there is no header; 0: any number."] = 0
    end: Annotated[
        list[str], "The table ends before a row whose first text is like this, such as `All prices*`."
    ] = []
    blank_row_ends: Annotated[bool, "The table ends before the first blank row."] = False
    notes: Annotated[bool, "Rows with one text and neither code nor price are notes, and passed over."] = (
        False
    )
    delimiter: Annotated[str, "Of CSV; empty: found out."] = ""
    quote: Annotated[str, "Of CSV; empty: none."] = '"'
    encoding: Annotated[
        str, "Where it is neither UTF-8 nor UTF-16: such as `windows-1252`; empty: refuse it."
    ] = ""
    decimal_comma: Annotated[
        bool | None, "0,05 is 0.05; unset: as the cells show, and `1,234` is refused."
    ] = None
    decimals: Annotated[int, "Of prices per minute and fees: more are rounded, and counted."] = 9
    scale: Annotated[str, "What a price of 1 is in the currency: `0.01` for cents and pence, `0.0001`."] = "1"
    per_s: Annotated[int, "The seconds that a price is for: 60, or 1."] = 60
    zone: Annotated[str, "Of times that name none: `UTC`, `Europe/Berlin`."] = "UTC"
    dates: Annotated[str, f"{' or '.join(DATE_ORDERS)}; empty: a column that settles it is read so."] = ""
    end_inclusive: Annotated[bool, "A date in `effective_to` is the last day, not the first without."] = False
    numeric_prefixes: Annotated[bool, "Codes stored as numbers are taken; zeros in front are lost then."] = (
        False
    )
    prefix_strip: Annotated[list[str], "Taken off the front of codes: `+`, `00`, `011`."] = []
    prefix_drop: Annotated[
        str, "Characters in codes that mean nothing: ` -.()`; a blank and a dash are any."
    ] = ""
    prefix_split: Annotated[str, "Characters between several codes of a cell: `;,`."] = ""
    prefix_ranges: Annotated[bool, "4470-4479 is a range."] = False
    all_columns: Annotated[bool, "A column that is none of these refuses the file."] = False
    optional: Annotated[list[str], "Columns of ours that a file may lack."] = []
    columns: Annotated[dict[str, Source], "Ours to theirs: see below."] = {}
    values: Annotated[dict[str, str], "Ours to what holds for every row."] = {}
    status: Annotated[
        dict[str, str], "Words of `status`, in lower case, to add, replace, end, block, leave_out."
    ] = {}
    periods: Annotated[
        dict[str, str], "Words of `period` to `Mo-Fr 08:00-18:00`; empty: the other times."
    ] = {}
    callers: Annotated[dict[str, str], "Words of `caller_prefix` to digits, `surcharge`, or empty: any."] = {}
    currencies: Annotated[dict[str, str], "Sheets, by name or pattern, to the currency of their prices."] = {}

    def __post_init__(self) -> None:
        fields = RECORD_FIELDS if self.kind == "records" else DECK_FIELDS
        for table, names in (("columns", self.columns), ("values", self.values), ("optional", self.optional)):
            for name in names:
                if name not in fields:
                    what = "a column of records" if self.kind == "records" else "a column of a deck"
                    raise _KeyError(table, name, f"is not {what}")
        if both := sorted(set(self.columns) & set(self.values)):
            raise _KeyError("values", both[0], "has both a column and a value")
        for name in self.optional:
            if name not in self.columns:
                raise _KeyError("optional", name, "is in optional, but not in columns")
        for name, source in self.columns.items():
            if isinstance(source, int) == self.header:
                wanted = "a name" if self.header else "a place from 1 on"
                raise _KeyError("columns", name, f"must be {wanted}, as header is {str(self.header).lower()}")
            if isinstance(source, int) and not 1 <= source <= 1000:
                raise _KeyError("columns", name, f"is at place {source}, which is not within 1-1000")
            if not self.header and name in self.optional:
                raise _KeyError("optional", name, "has a place: it cannot be missing")
            if source in ("", []):
                raise _KeyError("columns", name, "names no column")
        if len(self.delimiter) > 1 or self.delimiter in tuple('"\r\n'):
            raise _KeyError("", "delimiter", f"is {self.delimiter!r}, not one character")
        if len(self.quote) > 1:
            raise _KeyError("", "quote", f"is {self.quote!r}, not one character")
        if self.decimal_comma and self.delimiter == ",":
            raise _KeyError("", "decimal_comma", "needs another delimiter than a comma")
        _check_encoding(self.encoding)
        if not 0 <= self.decimals <= DECIMALS_MAX:
            raise _KeyError("", "decimals", f"is not within 0-{DECIMALS_MAX}")
        if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,9})?", self.scale) or not float(self.scale):
            raise _KeyError("", "scale", f"is {self.scale!r}, not a number such as 0.01")
        if not 1 <= self.per_s <= 86_400:
            raise _KeyError("", "per_s", "is not within 1-86400")
        if self.dates not in ("", *DATE_ORDERS):
            raise _KeyError("", "dates", f"is neither {' nor '.join(DATE_ORDERS)}")
        try:
            ZoneInfo(self.zone)
        except (KeyError, ValueError, OSError):
            raise _KeyError("", "zone", f"{self.zone!r} is not a time zone such as Europe/Berlin") from None
        if self.prefix_ranges and "-" in self.prefix_drop + self.prefix_split:
            raise _KeyError("", "prefix_ranges", "needs the dash, which prefix_drop or prefix_split has too")
        if shared := sorted(set(self.prefix_drop) & set(self.prefix_split)):
            raise _KeyError("", "prefix_split", f"has {shared[0]!r}, which prefix_drop has too")
        for word, action in self.status.items():
            if action not in ACTIONS:
                raise _KeyError("status", word, f"is {action!r}, none of {', '.join(ACTIONS)}")
        if self.status and "status" not in self.columns:
            raise _KeyError("columns", "status", "is missing, as there is a table [status]")
        for word, prefix in self.callers.items():
            try:
                check_caller_prefix(prefix)
            except ValueError as error:
                raise _KeyError("callers", word, str(error)) from None
        if self.callers and "caller_prefix" not in self.columns:
            raise _KeyError("columns", "caller_prefix", "is missing, as there is a table [callers]")
        if self.periods and "period" not in self.columns:
            raise _KeyError("columns", "period", "is missing, as there is a table [periods]")

    @property
    def sheets(self) -> tuple[str, ...]:
        return tuple(self.sheet) if isinstance(self.sheet, list) else (self.sheet,) if self.sheet else ()

    def names_of(self, field: str) -> tuple[str, ...]:
        source = self.columns[field]
        return (source,) if isinstance(source, str) else tuple(source) if isinstance(source, list) else ()


KEYS = {name: hint.__metadata__[0] for name, hint in get_type_hints(Template, include_extras=True).items()}


class _KeyError(ValueError):
    """A key of a template that is wrong; the reader of the file adds the line."""

    def __init__(self, table: str, key: str, reason: str) -> None:
        super().__init__(f"{key!r} {reason}")
        self.table = table
        self.key = key
        self.reason = reason


def read_template(path: Path) -> Template:
    """A template in TOML, as `template_text` writes it."""
    try:
        if path.stat().st_size > TEMPLATE_BYTES_MAX:
            raise TemplateError(f"{path}: has more than {TEMPLATE_BYTES_MAX} bytes")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise TemplateError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise TemplateError(f"{path}: {error}") from None
    return _parse(text, str(path))


def _parse(text: str, file: str) -> Template:
    try:
        return template_of(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise TemplateError(f"{file}: {error}") from None
    except _KeyError as error:
        line = _line_of(text, error.table, error.key)
        raise TemplateError(f"{file}{line}: {error}") from None
    except msgspec.ValidationError as error:
        found = re.search(r"`([a-z_0-9]+)`(?=$|\[| - )|\$\.([a-z_]+)(?:\.([a-z_]+))?", str(error))
        line = ""
        if found:
            table, key = (found[2], found[3]) if found[3] else ("", found[1] or found[2])
            line = _line_of(text, table, key)
        raise TemplateError(f"{file}{line}: {error}") from None


def template_of(document: dict[str, Any]) -> Template:
    """A template from a TOML document, or from the options of a command; ValueError or
    msgspec.ValidationError says which key is wrong."""
    for table in ("columns", "values"):
        if isinstance(document.get(table), dict):
            document = {
                **document,
                table: {PLAIN.get(name, name): one for name, one in document[table].items()},
            }
    cause: BaseException | None = None
    try:
        return msgspec.convert(document, Template)
    except msgspec.ValidationError as error:
        cause = error.__cause__
        if not isinstance(cause, _KeyError):
            raise
    raise cause


def _line_of(text: str, table: str, key: str) -> str:
    """`, line 7` of a key in a table; of a key at the top where the table is empty."""
    now = ""
    for number, line in enumerate(text.splitlines(), 1):
        if found := re.match(r"\s*\[([A-Za-z_]+)\]", line):
            now = found[1]
            if now == key and not table:
                return f", line {number}"
        elif now == table or (not now and table == "optional"):
            wanted = "optional" if table == "optional" else key
            if re.match(rf"\s*[\"']?{re.escape(wanted)}[\"']?\s*=", line):
                return f", line {number}"
    return ""


def template_text(template: Template) -> str:
    """The template as TOML: what is not as it would be without saying."""
    plain = Template()
    content = {
        name: value
        for name, value in msgspec.structs.asdict(template).items()
        if value != getattr(plain, name) and value is not None
    }
    lines = [f"{name} = {_toml(value)}" for name, value in content.items() if not isinstance(value, dict)]
    for name, table in content.items():
        if isinstance(table, dict):
            lines += ["", f"[{name}]", *(f"{_key(key)} = {_toml(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _key(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else _toml(text)


def shipped_templates() -> dict[str, Template]:
    """By name, those that come with the product; in the order in which a guess asks them."""
    return {path.stem: read_template(path) for path in sorted(SHIPPED.glob("*.toml"))}


def find_template(text: str) -> tuple[str, Template]:
    """(name, template) of a shipped one by its name, or of one's own by its path."""
    if "/" not in text and not text.endswith(".toml"):
        shipped = shipped_templates()
        if text in shipped:
            return text, shipped[text]
        if not Path(text).exists():
            raise TemplateError(f"{text}: is neither a file nor one of {', '.join(shipped)}")
    return text, read_template(Path(text))


def _check_encoding(name: str) -> None:
    try:
        if name and not "".encode(name) == b"":
            raise _KeyError("", "encoding", f"{name!r} is no encoding of a price list")
    except LookupError:
        raise _KeyError("", "encoding", f"{name!r} is not known") from None


# The keys that `--set` may give as well, with their type.
SINGLE: dict[str, type] = {
    "sheet": str,
    "header": bool,
    "cells": int,
    "blank_row_ends": bool,
    "notes": bool,
    "delimiter": str,
    "quote": str,
    "encoding": str,
    "decimal_comma": bool,
    "decimals": int,
    "scale": str,
    "per_s": int,
    "zone": str,
    "dates": str,
    "end_inclusive": bool,
    "numeric_prefixes": bool,
    "prefix_drop": str,
    "prefix_split": str,
    "prefix_ranges": bool,
}
