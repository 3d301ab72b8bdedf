"""A year back, on the first page: charts, and the same as a table."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

from playwright.async_api import Page

from sidecar.adapters.sqlite.books import SqliteBooks
from sidecar.adapters.sqlite.kept_sums import KeptSums
from sidecar.core.commands import EntryKind
from sidecar.core.terms import Detail, HangupOrigin
from sidecar.core.users import Role
from sidecar.web.past import RANGES, rows, series
from tests.adapters.store_calls import MS, admission, admitted, answered, ended, ending, entry
from tests.rig.node import until
from tests.web.rig import AnyStore, PageRig, Visit, chromium, desk, shots, sign_in, store_at, violations

# Of each range one that is in no shorter one: of which it has all that are younger, too.
AGES_S = {"hour": 600, "day": 6 * 3_600, "week": 3 * 86_400, "month": 20 * 86_400, "year": 200 * 86_400}


async def filled(store: AnyStore) -> None:
    for number, age_s in enumerate(AGES_S.values(), 1):
        call = answered(admitted(number, at_ns=time.time_ns() - age_s * 1_000 * MS))
        over = (
            ended(call, detail=Detail.MAX_DURATION, origin=HangupOrigin.SERVER)
            if number == 3
            else ended(call)
        )
        for step in (admission(call), entry(EntryKind.ANSWERED, call), ending(over)):
            store.submit(step)


async def test_each_range_counts_the_calls_of_its_time(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    await filled(store)
    await store.close()
    sums = KeptSums(SqliteBooks(tmp_path), tmp_path, "UTC")
    sums.advance()
    for calls, name in enumerate(RANGES, 1):
        steps = rows(sums, RANGES[name], time.time())
        counted = [one for one in steps if one.counted.calls]
        assert sum(one.counted.calls for one in counted) == calls, name
        assert all(
            (one.answered_share, one.mean_talk_s, one.mean_pdd_ms) == (1, 61, 1_500) for one in counted
        )
        assert steps[0].at > steps[-1].at
        found = series(sums, RANGES[name], time.time())
        assert sum(found["ended"]) == calls  # type: ignore[call-overload]
        assert sum(found["caller"]) == calls - (calls > 2)  # type: ignore[call-overload]
        assert sum(found["server timeout"]) == (calls > 2)  # type: ignore[call-overload]
        assert len(found["at_s"]) <= 364  # type: ignore[arg-type]
    assert rows(sums, RANGES["hour"], time.time())[0].at.tzinfo is UTC
    assert datetime.now(UTC) > rows(sums, RANGES["year"], time.time())[0].at


async def test_a_year_back_is_seen_and_can_be_read_as_a_table(tmp_path: Path) -> None:
    async with PageRig.of(tmp_path, {"vera": Role.VIEWER}, filled) as rig, chromium() as browser:
        await until(lambda: asyncio.to_thread(_is_counted, rig))
        async with desk(browser, rig) as page:
            await sign_in(page, "vera")
            for calls, name in enumerate(RANGES, 1):
                await page.get_by_role("link", name=name.capitalize(), exact=True).click()
                await page.get_by_role("heading", name=f"The last {name}", exact=True).wait_for()
                await page.locator(".charts canvas").nth(2).wait_for()
                assert await _calls(page, name) == calls
            await page.screenshot(path=shots(tmp_path) / "past-year.png", full_page=True)
            assert await violations(page) == []
            await page.emulate_media(color_scheme="dark")
            assert await violations(page) == []
            await page.set_viewport_size({"width": 390, "height": 800})
            await page.goto("/?range=day")
            await page.locator(".charts canvas").nth(2).wait_for()
            await page.screenshot(path=shots(tmp_path) / "past-phone.png", full_page=True)
            assert await page.evaluate("document.documentElement.scrollWidth") <= 390
        async with desk(browser, rig, script=False) as page:
            await sign_in(page, "vera")
            await page.goto("/?range=year")
            assert await _calls(page, "year") == 5
        await asyncio.to_thread(_what_is_refused, rig)


def _is_counted(rig: PageRig) -> bool:
    visit = Visit(rig.place_of_page)
    visit.sign_in("vera")
    shown = visit.get("/?range=year").text
    return "still to be counted" not in shown and "server timeout 1" in shown


async def _calls(page: Page, name: str) -> int:
    table = page.get_by_role("region", name=f"Table of the last {name}")
    return sum(int(text) for text in await table.locator("tbody td:nth-child(2)").all_inner_texts())


def _what_is_refused(rig: PageRig) -> None:
    nobody, viewer = Visit(rig.place_of_page), Visit(rig.place_of_page)
    assert nobody.get("/now/series?range=year").status == 303
    viewer.sign_in("vera")
    for query in ("range=decade", "range=%3Cscript%3E"):
        assert viewer.get(f"/?{query}").status == 404
        assert viewer.get(f"/now/series?{query}").status == 404
