"""Records in a browser: a call that is disputed, found and explained."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec.structs import replace

from sidecar.adapters.store.records import LOOKED_AT_MAX
from sidecar.config import load
from sidecar.core.call import Phase
from sidecar.core.commands import EntryKind
from sidecar.core.users import Role
from sidecar.demo import traffic
from sidecar.demo.web import settings_of
from sidecar.wiring.files import inputs
from tests.adapters.store_calls import admission, admitted, answered, call_id, ended, ending, entry, leg
from tests.web.rig import AnyStore, PageRig, Visit, chromium, desk, shots, sign_in, violations

DIALLED = "0044123456789"
HOSTILE = "<script>alert(1)</script>\u202e\x1b[31m"


async def test_a_disputed_call_is_found_and_explained(tmp_path: Path, dsn: str) -> None:
    users = {"fay": Role.FINANCE, "vera": Role.VIEWER}
    zone = {"SIDECAR_NODE__TIME_ZONE": "Asia/Tokyo"}
    async with (
        PageRig.of(tmp_path, users, _with_a_hostile_record, dsn=dsn, **zone) as rig,
        chromium() as browser,
    ):
        record = await rig.place("caller-bye-in-call", "caller-bye-in-call", pause_ms=1_200)
        await rig.place("callee-rejected-busy", "callee-rejected-busy", dialled="0044999888777")
        await rig.place_unrecorded("server-number-blocked", dialled="0900123")
        async with desk(browser, rig) as page:
            await sign_in(page, "fay")
            await page.get_by_role("link", name="Records").click()
            await page.get_by_role("cell", name="0044999****77").wait_for()
            await page.screenshot(path=shots(tmp_path) / "records.png", full_page=True)
            assert await violations(page) == []
            await page.get_by_role("link", name=str(call_id(1))[:13]).click()
            await page.get_by_role("heading", level=1, name="<script").wait_for()
            text = await page.locator("body").inner_text()
            assert "\u202e" not in text
            assert "\x1b" not in text
            assert "x" * 201 not in text
            assert await violations(page) == []
            total = next(line for line in record["charges"] if line["side"] == "sell")["total"]
            await page.get_by_role("link", name="Records").click()
            await page.get_by_label("Charge from").fill(total)
            await page.get_by_label("Charge to").fill(total)
            await page.get_by_role("button", name="Find").click()
            await page.get_by_role("alert").get_by_text("a charge has a currency").wait_for()
            await page.get_by_label("Currency").fill("EUR")
            await page.get_by_role("button", name="Find").click()
            await page.get_by_role("cell", name="0044999****77").wait_for(state="detached")
            await page.get_by_role("link", name=str(record["call_id"])[:13]).wait_for()
            await page.get_by_role("link", name="Records").click()
            await page.get_by_label("Number 49* begins").fill(f"{DIALLED[:9]}*")
            await page.get_by_role("button", name="Find").click()
            await page.get_by_role("cell", name="0044999****77").wait_for(state="detached")
            await page.get_by_role("link", name=str(record["call_id"])[:13]).click()
            await page.get_by_text("The caller ended it").wait_for()
            await page.get_by_text("Every figure comes out again.").wait_for()
            sell = next(line for line in record["charges"] if line["side"] == "sell")
            await page.get_by_text(f"{sell['total']} EUR").first.wait_for()
            assert DIALLED not in await page.content()
            assert DIALLED[2:] not in await page.content()
            for dark in (False, True):
                await page.emulate_media(color_scheme="dark" if dark else "light")
                await page.screenshot(path=shots(tmp_path) / f"record-{dark}.png", full_page=True)
                assert await violations(page) == []
            await page.get_by_role("link", name="Whole numbers").click()
            await page.get_by_role("heading", name=DIALLED).wait_for()
            await page.set_viewport_size({"width": 390, "height": 800})
            await page.screenshot(path=shots(tmp_path) / "record-phone.png", full_page=True)
            assert await page.evaluate("document.documentElement.scrollWidth") <= 390
        looks = [(one["operator"], one["subject"]) for one in await rig.audited("page.look")]
        assert looks == [("fay", f"/records/{record['call_id']} revision=0")]
        await asyncio.to_thread(_what_a_viewer_gets, rig, str(record["call_id"]))


async def test_what_is_rare_is_looked_for_by_and_by(tmp_path: Path) -> None:
    async def with_many_records(store: AnyStore) -> None:
        """So many that one look, 0.2 s, does not come to their end on a machine twice as fast either."""
        policy = load(inputs({}, settings_of(tmp_path, "127.0.0.1"), None)).policy
        await traffic.fill(store, traffic.MadeClock(), policy, 15 * LOOKED_AT_MAX, time.time_ns())

    async with PageRig.of(tmp_path, {"fay": Role.FINANCE}, with_many_records) as rig, chromium() as browser:
        place = "/records?currency=EUR&charge_min=100000"
        async with desk(browser, rig, script=False) as page:
            await sign_in(page, "fay")
            await page.goto(place)
            await page.get_by_text("none that fits back to 20").wait_for()
            assert await page.get_by_text("no record fits").count() == 0
            await page.get_by_role("link", name="Earlier").click()
            await page.get_by_role("link", name="The latest").wait_for()
        async with desk(browser, rig) as page:
            await sign_in(page, "fay")
            await page.goto(place)
            await page.get_by_text("no record fits").wait_for()
            assert "cursor=" in page.url
            assert await violations(page) == []


async def _with_a_hostile_record(store: AnyStore) -> None:
    call = admitted(1, f"{HOSTILE} account")
    invite = replace(call.invite, from_user=HOSTILE + "x" * 10_000, request_user=HOSTILE, leg=leg(HOSTILE))
    call = replace(call, invite=invite)
    up = answered(call)
    for step in (
        admission(call),
        entry(EntryKind.ATTEMPT, replace(call, phase=Phase.ROUTING)),
        entry(EntryKind.ANSWERED, up),
        ending(ended(up)),
    ):
        store.submit(step)


def _what_a_viewer_gets(rig: PageRig, call: str) -> None:
    visit = Visit(rig.place_of_page)
    visit.sign_in("vera")
    shown = visit.get(f"/records/{call}").text
    assert "The caller" in shown
    for hidden in (DIALLED, DIALLED[2:], "EUR", "Margin", "Whole numbers", "Charge from"):
        assert hidden not in shown, hidden
    assert "EUR" not in visit.get("/records").text
    for path in (
        "/records?number=44*",
        "/records?whole=1",
        f"/records/{call}?whole=1",
        "/records?currency=EUR",
    ):
        assert visit.get(path).status == 403, path
    assert visit.get("/records?account=%27+OR+1%3D1--&origin=caller").text.count("no record fits") == 1
    assert visit.get("/records?suppressed=1&reason=policy").status == 200
    soon = f"{datetime.now(UTC) + timedelta(minutes=1):%Y-%m-%dT%H:%M}"  # of UTC: hours ago in Tokyo
    assert call in visit.get(f"/records?ended_from={soon}").text
    assert call not in visit.get(f"/records?ended_to={soon}").text
    assert call in visit.get(f"/records?ended_from=2026-01-01&ended_to={soon}%2B00:00").text
    for query in ("origin=nobody", "ended_from=yesterday", "cursor=1", "cursor=1.2.3.4", "session_id=abc"):
        assert visit.get(f"/records?{query}").status == 400, query
    for other in ("00000000-0000-8000-8000-000000000000", f"{call}?revision=7"):
        assert visit.get(f"/records/{other}").status == 404
    assert visit.get("/records/not-an-id").status == 404
