"""The first page, in a browser, beside calls that are up."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import expect

from sidecar.core.users import Role
from tests.web.rig import LASTING_S, PATIENCE_MS, PageRig, chromium, desk, shots, sign_in, violations


async def test_what_is_up_is_seen_as_it_changes(tmp_path: Path) -> None:
    async with PageRig.of(tmp_path, {"vera": Role.VIEWER}) as rig, chromium() as browser:
        async with desk(browser, rig) as page:
            await sign_in(page, "vera")
            up = page.locator(".tile", has_text="Calls up").locator("b")
            await expect(up).to_have_text("0", timeout=PATIENCE_MS)

            async def look(dialled: str) -> None:
                live = await rig.live(dialled, answered=True)
                await expect(up).to_have_text("1", timeout=PATIENCE_MS)
                await rig.control("call.release", call_id=live["call_id"], operator="test")
                await page.get_by_role("row", name="server admin").wait_for()
                await expect(up).to_have_text("0", timeout=PATIENCE_MS)

            await rig.place_unrecorded(
                "server-operator-release-in-call",
                "server-operator-release-in-call",
                pause_ms=LASTING_S * 1_000,
                patience_s=LASTING_S,
                meanwhile=look,
            )
            await page.locator(".charts canvas").nth(1).wait_for()
            for dark in (False, True):
                await page.emulate_media(color_scheme="dark" if dark else "light")
                await page.screenshot(path=shots(tmp_path) / f"now-{dark}.png", full_page=True)
                assert await violations(page) == []
            await page.set_viewport_size({"width": 390, "height": 800})
            await page.screenshot(path=shots(tmp_path) / "now-phone.png", full_page=True)
            assert await page.evaluate("document.documentElement.scrollWidth") <= 390
        async with desk(browser, rig, script=False) as page:
            await sign_in(page, "vera")
            await page.get_by_text("Ended in the last hour").wait_for()
