"""Revenue: what calls brought in, what they cost, what was kept free, from sums that are kept of them
(adapters/sqlite/kept_sums). Each figure leads to the calls behind it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from sidecar.adapters.sqlite.kept_sums import KeptSums
from sidecar.core.sums import By, Part, Sums, periods_in
from sidecar.web.node import Node
from sidecar.web.page import Page
from sidecar.wire.csv_text import harmless

ROWS_SHOWN_MAX = 200
DAYS_MAX = 3_660
FIELDS = ("from", "to", "before_from", "before_to")
WAYS = {
    "day": "day",
    "account": "account",
    "destination": "destination",
    "gateway": "gateway",
    "end": "origin and reason",
}
MONEY = ("sold", "owed", "bought", "margin")
COUNTS = ("calls", "answered", "talk_ms", "billed_s", "unrated", "overruns", "overrun_ms")


class Period(NamedTuple):
    first: date
    last: date

    @property
    def fields(self) -> dict[str, str]:
        """As the records are asked for."""
        after = self.last + timedelta(days=1)
        return {"ended_from": f"{self.first}T00:00", "ended_to": f"{after}T00:00"}


class Row(msgspec.Struct, kw_only=True):
    """Of one account, day, and so on; `before` of the period that is compared with."""

    name: str
    parts: dict[Part, Sums]
    before: dict[Part, Sums]
    fields: dict[str, str]  # by which the records find it
    period: Period
    period_before: Period | None

    def of(self, part: str) -> Sums:
        return self.parts.get(Part(part)) or Sums()

    def was(self, part: str) -> Sums:
        return self.before.get(Part(part)) or Sums()

    def change(self, what: str) -> dict[str, Decimal]:
        """Of what was published, by currency."""
        now, then = (getattr(one, what) for one in (self.of("published"), self.was("published")))
        return {
            name: now.get(name, Decimal(0)) - then.get(name, Decimal(0)) for name in sorted({**now, **then})
        }

    def place(self, part: str, only: str = "") -> str:
        return self._place(self.period, part, only)

    def place_before(self, part: str) -> str:
        assert self.period_before is not None
        return self._place(self.period_before, part, "")

    def _place(self, period: Period, part: str, only: str) -> str:
        said = {**self.fields, **period.fields, "holds": "1", "only": only}
        if part != Part.PUBLISHED:
            said |= {"suppressed": "1", "part": part}
        return "/records?" + urlencode({name: value for name, value in said.items() if value})


class RevenuePages:
    def __init__(self, node: Node, sums: KeptSums) -> None:
        self._node = node
        self._sums = sums

    def show(self, page: Page, request: Request) -> Response:
        query = request.query_params
        today = datetime.now(ZoneInfo(self._node.zone)).date()
        asked = {name: query.get(name, "").strip()[:10] for name in FIELDS}
        way = query.get("by", "day")
        fault, rows, total, period, before = "", [], None, Period(today - timedelta(days=29), today), None
        try:
            if way not in WAYS:
                raise ValueError("There is no such way to group calls.")
            period = _period(asked["from"], asked["to"], period)
            if asked["before_from"] or asked["before_to"]:
                length = period.last - period.first
                end = _day(asked["before_to"]) if asked["before_to"] else None
                start = _day(asked["before_from"]) if asked["before_from"] else (end or today) - length
                before = _period(start.isoformat(), (end or start + length).isoformat(), period)
        except ValueError as error:
            fault = str(error)
        else:
            rows = self._rows(way, period, before)
            [total] = self._rows("all", period, before) or [_empty(period, before)]
        if query.get("form") == "csv" and not fault:
            return _csv(way, period, rows, before)
        kept = {"by": way, "from": str(period.first), "to": str(period.last)}
        if before is not None:
            kept |= {"before_from": str(before.first), "before_to": str(before.last)}
        return page.show(
            request,
            "revenue.html",
            400 if fault else 200,
            fault=fault,
            rows=rows[:ROWS_SHOWN_MAX],
            more=max(0, len(rows) - ROWS_SHOWN_MAX),
            total=total,
            ways=WAYS,
            way=way,
            wanted=asked | {name: kept[name] for name in ("from", "to")},
            before=before,
            zone=self._node.zone,
            behind=self._sums.behind(),
            place=lambda **other: "/revenue?" + urlencode({**kept, **other}),
        )

    def _rows(self, way: str, period: Period, before: Period | None) -> list[Row]:
        """By day in its order, else those with the most calls first."""
        is_daily = way == "day"
        by = By.ALL if is_daily else By(way)
        now = self._found(by, period, is_daily=is_daily)
        then = self._found(by, before, is_daily=is_daily) if before is not None else {}
        if is_daily and before is not None:  # the first day with the first, and so on
            shift = period.first - before.first
            then = {str(date.fromisoformat(name) + shift): parts for name, parts in then.items()}
        rows = []
        for name in {**now, **then}:
            of, of_before = period, before
            if is_daily:
                day = date.fromisoformat(name)
                of = Period(day, day)
                of_before = before and Period(*(day - (period.first - before.first),) * 2)
            fields = _fields(by, name)
            parts, parts_before = now.get(name, {}), then.get(name, {})
            row = Row(
                name=name,
                parts=parts,
                before=parts_before,
                fields=fields,
                period=of,
                period_before=of_before,
            )
            rows.append(row)
        if is_daily:
            return sorted(rows, key=lambda row: row.name)
        return sorted(rows, key=lambda row: (-sum(one.calls for one in row.parts.values()), row.name))

    def _found(self, by: By, period: Period, *, is_daily: bool) -> dict[str, dict[Part, Sums]]:
        if is_daily:
            days = (period.last - period.first).days + 1
            periods = [str(period.first + timedelta(days=number)) for number in range(days)]
        else:
            periods = list(periods_in(period.first, period.last))
        merged: dict[str, dict[Part, Sums]] = {}
        for (found, name), parts in self._sums.sums(by, periods).items():
            into = merged.setdefault(found if is_daily else name, {})
            for part, sums in parts.items():
                into.setdefault(part, Sums()).add(sums)
        return merged


def _empty(period: Period, before: Period | None) -> Row:
    return Row(name="", parts={}, before={}, fields={}, period=period, period_before=before)


def _fields(by: By, name: str) -> dict[str, str]:
    if by is By.END:
        origin, _, reason = name.partition(" ")
        return {"origin": origin, "reason": reason}
    if by is By.ALL:
        return {}
    return {by.value: name} if name else {"none": by.value}


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text}: not a day like 2026-11-01") from None


def _period(first: str, last: str, usual: Period) -> Period:
    end = _day(last) if last else usual.last
    begin = _day(first) if first else min(usual.first, end)
    if end < begin:
        raise ValueError(f"{end} is before {begin}: a period has its first day first.")
    if (end - begin).days > DAYS_MAX or end.year > 9000 or begin.year < 1970:
        raise ValueError("A period has at most ten years.")
    return Period(begin, end)


# --- export -------------------------------------------------------------------------------------------------


def _csv(way: str, period: Period, rows: Iterable[Row], before: Period | None) -> Response:
    """A line for each group and part of its records; each amount in a column of its currency, so that none
    is added to those of another one."""
    rows = list(rows)
    currencies = sorted(
        {
            currency
            for row in rows
            for sums in (*row.parts.values(), *row.before.values())
            for what in MONEY
            for currency in getattr(sums, what)
        }
    )
    money = [(what, currency) for what in MONEY for currency in currencies]
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["from", "to", way, "records", *COUNTS, *(f"{what}_{name}" for what, name in money)])
    for row in rows:
        for of, parts in ((row.period, row.parts), (row.period_before, row.before)):
            if of is not None:
                writer.writerows(_lines(row.name, of, parts, money))
    name = f"revenue-{way}-{period.first}-{period.last}.csv"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(file.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def _lines(
    name: str, period: Period, parts: Mapping[Part, Sums], money: list[tuple[str, str]]
) -> Iterator[list[str]]:
    for part in Part:
        if (sums := parts.get(part)) is not None:
            amounts = (getattr(sums, what).get(currency) for what, currency in money)
            yield [
                str(period.first),
                str(period.last),
                harmless(name),
                part.value,
                *(str(getattr(sums, what)) for what in COUNTS),
                *("" if amount is None else f"{amount:f}" for amount in amounts),
            ]
