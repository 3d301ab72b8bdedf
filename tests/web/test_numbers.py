"""Numbers in a browser: what the doctor finds, the calls that prove it, and what mends it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sidecar.core.commands import Publish
from sidecar.core.users import Role
from tests.core.doctor_traffic import calls, deck, e164, in_front, policy
from tests.web.rig import AnyStore, PageRig, Visit, chromium, desk, shots, sign_in, violations

HOSTILE = "<script>alert(1)</script>\u202e\x1b[31m"
NUMBERS = in_front("00", e164(40))
SINCE = "since=2026-11-01"


async def test_what_the_doctor_finds_is_shown_with_the_calls_that_prove_it(tmp_path: Path) -> None:
    users = {"rita": Role.RATER, "olga": Role.OPERATOR, "vera": Role.VIEWER}
    async with PageRig.of(tmp_path, users, _with_wrong_calls) as rig, chromium() as browser:
        async with desk(browser, rig) as page:
            await sign_in(page, "rita")
            await page.get_by_role("link", name="Numbers").click()
            await page.get_by_text("Nothing was examined yet").wait_for()
            await page.get_by_label("Ended from").fill("2026-11-01T00:00")
            await page.get_by_role("button", name="Examine").click()
            await page.get_by_role("heading", name="not stripped").wait_for()
            await page.get_by_role("heading", name="carried unrated").first.wait_for()
            text = await page.locator("main").inner_text()
            assert '[31m"]\nstrip_digits = 2\n' in text
            assert "sidecar rerate --deck" in text
            assert "<script>alert(1)</script>" in text
            for hidden in ("\u202e", "\x1b", *NUMBERS):
                assert hidden not in text, hidden
            for dark in (True, False):
                await page.emulate_media(color_scheme="dark" if dark else "light")
                assert await violations(page) == []
            await page.screenshot(path=shots(tmp_path) / "numbers.png", full_page=True)
            await page.set_viewport_size({"width": 390, "height": 800})
            await page.screenshot(path=shots(tmp_path) / "numbers-phone.png", full_page=True)
            assert await page.evaluate("document.documentElement.scrollWidth") <= 390
            await page.get_by_role("region", name="Calls that prove it").get_by_role("link").first.click()
            await page.get_by_role("heading", name="How it went").wait_for()
        await asyncio.to_thread(_who_sees_what, rig)
        looks = [(one["operator"], one["subject"]) for one in await rig.audited("page.look")]
        assert looks == [("olga", "/numbers examine=1 since=2026-11-01")]


async def _with_wrong_calls(store: AnyStore) -> None:
    right = policy(sell=deck(prices={"44": "0.02"}))
    records = calls(NUMBERS, policy(peers={HOSTILE: None}), peer=HOSTILE)
    records += calls([*e164(30, 1, ("GB",)), *e164(5, 2, ("ZA",))], right)
    for cdr in records:
        store.submit((Publish(cdr=cdr),))


def _who_sees_what(rig: PageRig) -> None:
    vera, rita, olga = (Visit(rig.place_of_page) for _ in range(3))
    for visit, name in ((vera, "vera"), (rita, "rita"), (olga, "olga")):
        visit.sign_in(name)
    assert vera.get(f"/numbers?examine=1&{SINCE}").status == 403
    assert "Numbers" not in vera.get("/").text
    assert "Whole numbers" not in rita.made(f"/numbers?examine=1&{SINCE}").text
    assert rita.get(f"/numbers?examine=1&{SINCE}&whole=1").status == 403
    whole = olga.made(f"/numbers?examine=1&{SINCE}&whole=1").text
    assert any(number in whole for number in NUMBERS)
    for wrong in ("since=yesterday", f"account={'x' * 64}&until=2026-13-01"):
        assert rita.made(f"/numbers?examine=1&{wrong}").status == 409, wrong
    assert "nothing is wrong" in rita.made(f"/numbers?examine=1&{SINCE}&account=--help").text
