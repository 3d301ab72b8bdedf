"""Revenue in a browser: every figure leads to the calls that it stands for."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from playwright.async_api import Page

from sidecar.core.call import Call
from sidecar.core.commands import EntryKind
from sidecar.core.policy import Policy
from sidecar.core.rating import RatingTerms
from sidecar.core.tariff import RateStep
from sidecar.core.terms import Detail, HangupOrigin
from sidecar.core.users import Role
from tests.adapters.store_calls import (
    NO_SERVER_RECORDS,
    POLICY,
    RATE,
    WALL_NS,
    admission,
    admitted,
    answered,
    ended,
    ending,
    entry,
)
from tests.rig.node import until
from tests.web.rig import PATIENCE_MS, AnyStore, PageRig, Visit, chromium, desk, shots, sign_in, violations

HOSTILE = "=cmd|'/c calc'!A1<script>alert(1)</script>\u202e"
WILD = "<script>alert(1)</script>\u202e\x1b[31m" + "x" * 10_000
DAY_NS = 86_400 * 10**9
DAY = datetime.fromtimestamp(WALL_NS / 1e9, UTC).date()
NEXT = DAY + timedelta(days=1)


def made() -> Iterator[tuple[Call, Policy]]:
    """On the first day three that the caller ended, of two accounts, one without a rate; one that talked
    beyond its grant; one that a flag kept free. On the next day one."""
    rate = replace(RATE, destination=HOSTILE[:-1])
    for number in (1, 2):
        call = admitted(number, "acme")
        yield ended(answered(call)), POLICY
    call = admitted(3, HOSTILE)
    yield ended(answered(replace(call, pricing=replace(call.pricing, rate=rate)))), POLICY
    call = admitted(4, "acme")
    yield ended(answered(replace(call, pricing=replace(call.pricing, rate=None)))), POLICY
    call = ended(answered(admitted(5, "acme")), detail=Detail.MAX_DURATION, origin=HangupOrigin.SERVER)
    yield call, NO_SERVER_RECORDS
    yield ended(answered(admitted(6, "acme", at_ns=WALL_NS + DAY_NS))), POLICY


async def filled(store: AnyStore) -> None:
    _written(store, made())


def _written(store: AnyStore, calls: Iterable[tuple[Call, Policy]]) -> None:
    for call, policy in calls:
        up = replace(call, hangup=None, ended=None)
        store.submit(admission(up))
        store.submit(entry(EntryKind.ANSWERED, up))
        store.submit(ending(call, policy))


async def test_every_figure_leads_to_its_calls(tmp_path: Path, dsn: str) -> None:
    users = {"fay": Role.FINANCE, "rita": Role.RATER, "vera": Role.VIEWER}
    zone = {"SIDECAR_NODE__TIME_ZONE": "UTC"}
    async with PageRig.of(tmp_path, users, filled, dsn=dsn, **zone) as rig, chromium() as browser:
        await until(lambda: asyncio.to_thread(_is_summed, rig))
        both = f"from={DAY}&to={NEXT}"
        async with desk(browser, rig) as page:
            await sign_in(page, "fay")
            await page.get_by_role("link", name="Revenue").click()
            await page.get_by_role("heading", level=1, name="Revenue").wait_for()
            await page.goto(f"/revenue?by=account&{both}")
            await page.get_by_role("row", name="alert(1)").wait_for()
            assert "\u202e" not in await page.locator("main").inner_text()
            for dark in (False, True):
                await page.emulate_media(color_scheme="dark" if dark else "light")
                await page.screenshot(path=shots(tmp_path) / f"revenue-{dark}.png", full_page=True)
                assert await violations(page) == []
            # Whatever it counts, so many records come up, and no others.
            for by in ("destination", "gateway", "end"):
                await page.goto(f"/revenue?by={by}&{both}")
                await _follow_each(page)
            await page.goto(f"/revenue?by=end&from={NEXT}&to={NEXT}&before_from={DAY}")
            row = page.get_by_role("row", name="caller")
            await row.get_by_text("-0.122 EUR").first.wait_for()  # three times 0.061 before, and once now
            await page.screenshot(path=shots(tmp_path) / "revenue-compared.png", full_page=True)
            assert await violations(page) == []
            await page.set_viewport_size({"width": 390, "height": 800})
            await page.screenshot(path=shots(tmp_path) / "revenue-phone.png", full_page=True)
            assert await page.evaluate("document.documentElement.scrollWidth") <= 390
        async with desk(browser, rig, script=False) as page:
            await sign_in(page, "rita")
            await page.goto(f"/revenue?by=gateway&{both}")
            await page.get_by_role("row", name="gw1").wait_for()
        await asyncio.to_thread(_what_is_exported_and_to_whom, rig, both)


def _with(call: Call, *, bought: str = "", currency: str = "EUR", **fields: Any) -> Call:
    """`bought`: at so much a minute."""
    price = RateStep.of(0, Decimal(bought), 60, 1) if bought else None
    pricing = replace(call.pricing, rate=replace(RATE, currency=currency))
    buy = price and replace(call.pricing, terms=RatingTerms(), rate=replace(RATE, steps=(price,)))
    [attempt] = call.attempts
    gateway = fields.pop("gateway", "gw1")
    attempts = (replace(attempt, buy=buy, gateway=gateway),)
    account = replace(call.account, currency=currency)
    return ended(answered(replace(call, pricing=pricing, account=account, attempts=attempts, **fields)))


async def with_margins(store: AnyStore) -> None:
    """Sold at 0.061: one that earns, one that is a loss, one that talked 31 s beyond its grant; in dollars;
    and one whose names are nobody's."""
    _written(
        store,
        (
            (_with(admitted(1), bought="0.02"), POLICY),
            (_with(admitted(2), bought="0.09", gateway="gw2"), POLICY),
            (_with(admitted(3), granted_s=30), POLICY),
            (_with(admitted(4, "globex"), currency="USD"), POLICY),
            (_with(admitted(5, f"{WILD}account"), gateway=f"{WILD}gateway"), POLICY),
        ),
    )


async def test_margin_overrun_and_two_currencies_are_told_apart_and_lead_to_their_calls(
    tmp_path: Path,
) -> None:
    users, zone = {"fay": Role.FINANCE}, {"SIDECAR_NODE__TIME_ZONE": "UTC"}
    async with PageRig.of(tmp_path, users, with_margins, **zone) as rig, chromium() as browser:
        await until(lambda: asyncio.to_thread(_is_summed, rig))
        async with desk(browser, rig) as page:
            await sign_in(page, "fay")
            await page.goto(f"/revenue?by=account&from={DAY}&to={DAY}")
            table = page.get_by_role("region", name="Table of revenue")

            async def cell(row: str, column: str) -> str:
                """As it is read; `column` of the published ones."""
                at = [*["Calls", "Talk", "Sold", "Bought", "Margin", "Owed", "Unrated", "Overrun"]].index(
                    column
                )
                return await table.get_by_role("row", name=row).locator("td").nth(at).inner_text()

            assert await cell("globex", "Sold") == "0.061 USD"
            assert await cell("globex", "Margin") == "–"
            assert await cell("acme", "Sold") == "0.152 EUR"  # 30 s of the last are sold
            assert await cell("All", "Sold") == "0.213 EUR\n0.061 USD"
            # Of 61 s at 0.02 and at 0.09 a minute, each rounded once.
            assert await cell("acme", "Bought") == "0.111833 EUR"
            assert await cell("acme", "Margin") == "0.010167 EUR"
            assert await cell("acme", "Overrun") == "0:31"
            text = await page.locator("main").inner_text()
            assert "<script>alert(1)</script>" in text
            for hidden in ("\u202e", "\x1b", "x" * 201):
                assert hidden not in text, hidden
            await page.screenshot(path=shots(tmp_path) / "revenue-margin.png", full_page=True)
            assert await violations(page) == []
            await table.get_by_role("row", name="acme").get_by_role("link", name="0:31").click()
            records = page.get_by_role("region", name="Table of records").locator("tbody tr")
            assert await records.count() == 1
            await records.get_by_role("link").click()
            await page.get_by_role("heading", name="How it went").wait_for()
            await page.goto(f"/revenue?by=gateway&from={DAY}&to={DAY}")
            assert await cell("gw2", "Margin") == "-0.0305 EUR"
            text = await page.locator("main").inner_text()
            for hidden in ("\u202e", "\x1b", "x" * 201):
                assert hidden not in text, hidden
            await table.get_by_role("row", name="gw2").get_by_role("link", name="-0.0305 EUR").click()
            assert await records.count() == 1
            await page.set_viewport_size({"width": 390, "height": 800})
            await page.goto(f"/revenue?by=account&from={DAY}&to={DAY}")
            assert await page.evaluate("document.documentElement.scrollWidth") <= 390
        await asyncio.to_thread(_what_has_two_currencies, rig)


def _what_has_two_currencies(rig: PageRig) -> None:
    visit = Visit(rig.place_of_page)
    visit.sign_in("fay")
    answer = visit.get(f"/revenue?by=account&from={DAY}&to={DAY}&form=csv")
    rows = {row["account"]: row for row in csv.DictReader(io.StringIO(answer.text))}
    assert (rows["globex"]["sold_EUR"], rows["globex"]["sold_USD"]) == ("", "0.061000")
    assert (rows["acme"]["bought_EUR"], rows["acme"]["overrun_ms"]) == ("0.111833", "31000")


def _is_summed(rig: PageRig) -> bool:
    visit = Visit(rig.place_of_page)
    visit.sign_in("fay")
    shown = visit.get(f"/revenue?from={DAY}&to={NEXT}").text
    return "still to be summed" not in shown and "No call ended" not in shown


async def _follow_each(page: Page) -> None:
    """The links of the figures that count: as many records as the figure says."""
    links = await page.locator("table.ruled tbody .n a").evaluate_all(
        "all => all.map(one => [one.getAttribute('href'), one.innerText])"
    )
    counted = [(place, int(text)) for place, text in links if text.isdecimal()]
    assert counted
    for place, count in counted:
        await page.goto(place, timeout=PATIENCE_MS)
        found = page.get_by_role("region", name="Table of records").locator("tbody tr td:last-child a")
        assert await found.count() == count, place


def _what_is_exported_and_to_whom(rig: PageRig, period: str) -> None:
    visit = Visit(rig.place_of_page)
    visit.sign_in("fay")
    answer = visit.get(f"/revenue?by=account&{period}&form=csv")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert {row["account"] for row in rows} == {"acme", f"'{HOSTILE}"}
    sold = sum(Decimal(row["sold_EUR"] or 0) for row in rows if row["records"] == "published")
    assert sold == Decimal("0.244")
    [free] = [row for row in rows if row["records"] == "kept_free"]
    assert (free["calls"], free["owed_EUR"]) == ("1", "0.07259000")
    for query in ("by=nobody", "from=yesterday", f"from={NEXT}&to={DAY}", "from=0001-01-01&to=9999-12-31"):
        assert visit.get(f"/revenue?{query}").status == 400, query
    for query in ("none=account", "only=all", "part=whole", "destination=%27+OR+1%3D1--&none=gateway&only=x"):
        assert visit.get(f"/records?{query}").status == 400, query
    viewer = Visit(rig.place_of_page)
    viewer.sign_in("vera")
    assert "Revenue" not in viewer.get("/").text
    for path in ("/revenue", f"/revenue?by=account&{period}&form=csv"):
        answer = viewer.get(path)
        assert answer.status == 403, path
        assert "EUR" not in answer.text
