"""The node in a browser: its settings, a reload that is looked at before it is done, new calls refused and
taken again, the journal verified."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sidecar.core.users import Role
from tests.web.rig import LASTING_S, PageRig, Visit, chromium, desk, shots, sign_in, violations

HOSTILE = "<script>alert(1)</script>\u202e"


def _ringing(rig: PageRig, seconds: int) -> None:
    text = rig.profile.read_text()
    rig.profile.write_text(text.replace(rig.ringing, f"ring_timeout_s = {seconds}"))
    rig.ringing = f"ring_timeout_s = {seconds}"


async def test_a_reload_is_looked_at_first_and_only_what_was_seen_is_done(tmp_path: Path) -> None:
    users = {
        "olga": Role.OPERATOR,
        "vera": Role.VIEWER,
        "rita": Role.RATER,
        "fay": Role.FINANCE,
    }
    async with PageRig.of(tmp_path, users) as rig, chromium() as browser, desk(browser, rig) as page:
        await sign_in(page, "olga")
        await page.get_by_role("link", name="Node").click()
        settings = page.get_by_role("region", name="Table of settings")
        ringing = settings.get_by_role("row", name="timers.ring_timeout_s")
        line = rig.profile.read_text().splitlines().index(f"ring_timeout_s = {LASTING_S}") + 1
        await ringing.get_by_text(f"{rig.profile}:{line}").wait_for()
        await settings.get_by_role("row", name="sip.profile").get_by_text("environment").wait_for()
        assert await settings.get_by_role("row", name="billing.rounding").count() == 0
        await page.get_by_role("link", name="All, with their defaults").click()
        await settings.get_by_role("row", name="billing.rounding").get_by_text("default").wait_for()
        await page.get_by_role("link", name="Only those").click()

        _ringing(rig, 60)
        await page.get_by_role("button", name="What would change?").click()
        await page.get_by_text(f"~ timers.ring_timeout_s: {LASTING_S} -> 60").wait_for()
        for dark in (True, False):
            await page.emulate_media(color_scheme="dark" if dark else "light")
            assert await violations(page) == []
        await page.screenshot(path=shots(tmp_path) / "node.png", full_page=True)
        _ringing(rig, 50)
        await page.get_by_role("button", name="Put it in force").click()
        await page.get_by_role("alert").get_by_text("nothing was put in force").wait_for()
        await page.get_by_text(f"~ timers.ring_timeout_s: {LASTING_S} -> 50").wait_for()
        assert await rig.audited("node.reload") == []
        await page.get_by_role("button", name="Put it in force").click()
        await page.get_by_role("status").get_by_text("In force, as revision").wait_for()
        await ringing.get_by_text("50", exact=True).wait_for()
        assert [one["operator"] for one in await rig.audited("node.reload")] == ["olga"]

        _ringing(rig, 0)
        await page.get_by_role("button", name="What would change?").click()
        await page.get_by_text(f"{rig.profile}:{line}: timers.ring_timeout_s: 0 is not within").wait_for()
        await page.get_by_role("link", name="Node").click()
        await page.get_by_role("button", name="Is it as it was written?").click()
        await page.get_by_role("status").get_by_text("It is").wait_for()
        [verified] = await rig.audited("journal.verify")
        assert verified["operator"] == "olga"
        assert verified["text"].endswith("as it was written")

        await page.get_by_label("Reason").fill(HOSTILE)
        await page.get_by_role("button", name="Refuse new calls").click()
        await page.get_by_role("status").get_by_text("New calls are refused").wait_for()
        assert (await rig.control("node.status"))["state"] == "drain"
        await page.set_viewport_size({"width": 390, "height": 800})
        assert await page.evaluate("document.documentElement.scrollWidth") <= 390
        await page.screenshot(path=shots(tmp_path) / "node-phone.png", full_page=True)
        await page.get_by_label("Reason").fill("repaired")
        await page.get_by_role("button", name="Take new calls").click()
        await page.get_by_role("status").get_by_text("New calls are taken").wait_for()
        assert (await rig.control("node.status"))["state"] == "accepting"
        [drained] = await rig.audited("node.drain")
        assert (drained["operator"], drained["text"]) == ("olga", HOSTILE)
        await asyncio.to_thread(_what_others_get, rig)
        assert (await rig.control("node.status"))["state"] == "accepting"


def _what_others_get(rig: PageRig) -> None:
    for name in ("vera", "rita", "fay"):
        _what_he_gets(rig, name)
    operator = Visit(rig.place_of_page)
    operator.sign_in("olga")
    shown = operator.get("/node").text
    assert 'href="/audit?action=node.reload"' in shown
    for deed in ("drain", "accept"):
        assert operator.post(f"/node/{deed}", {"csrf": operator.csrf()}).status == 409, deed
    assert operator.post("/node/drain", {"csrf": "", "text": "x"}).status == 403


def _what_he_gets(rig: PageRig, name: str) -> None:
    visit = Visit(rig.place_of_page)
    visit.sign_in(name)
    shown = visit.get("/node").text
    assert "takes new calls" in shown
    for hidden in ("Refuse new calls", "What would change", "ring_timeout_s", "as it was written"):
        assert hidden not in shown, hidden
    fields = {"csrf": visit.csrf(), "text": "x", "seen": "x"}
    for deed in ("look", "reload", "drain", "accept", "verify"):
        assert visit.post(f"/node/{deed}", fields).status == 403, deed
        assert visit.get(f"/node/{deed}").status in (404, 405), deed
