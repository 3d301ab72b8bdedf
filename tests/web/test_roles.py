"""Every page as every role has it: what a role may not see is not there, and is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sidecar.core.rights import MAY
from sidecar.core.users import Role
from sidecar.web.page import TABS
from tests.web.rig import PageRig, Visit, chromium, desk, sign_in, violations

DIALLED = "0044123456789"
DEEDS = ("account.topup", "cdr.replay", "journal.verify", "node.drain", "node.accept", "page.look")


async def test_each_role_has_the_pages_that_it_may_see_and_is_refused_the_others(tmp_path: Path) -> None:
    users = {role.value: role for role in Role}
    async with PageRig.of(tmp_path, users) as rig, chromium() as browser:
        for name, role in users.items():
            async with desk(browser, rig) as page:
                await sign_in(page, name)
                shown = await page.locator("header nav a, nav a").all_text_contents()
                seen = [tab for tab in TABS if tab.needs in MAY[role]]
                assert [title for title in shown if title in {tab.title for tab in TABS}] == [
                    tab.title for tab in seen
                ], role
                for tab in TABS:
                    answer = await page.context.request.get(tab.path)
                    assert answer.status == (200 if tab in seen else 403), (role, tab)
                if role in (Role.RATER, Role.ADMIN):
                    for tab in seen:
                        await page.goto(tab.path)
                        await page.get_by_role("heading", level=1).wait_for()
                        assert await violations(page) == [], (role, tab)


async def test_an_admin_does_what_every_role_may_and_each_deed_has_his_name(tmp_path: Path) -> None:
    async with PageRig.of(tmp_path, {"ada": Role.ADMIN}) as rig, chromium() as browser:
        await rig.control("account.create", name="acme", kind="prepaid", currency="EUR", operator="test")
        record = await rig.place("caller-bye-in-call", "caller-bye-in-call", pause_ms=1_200)
        async with desk(browser, rig) as page:
            await sign_in(page, "ada")
            await page.goto("/accounts/one?name=acme")
            await page.get_by_label("Amount").fill("12.50")
            await page.get_by_label("Reference").fill("r1")
            await page.get_by_label("Reason").fill("paid in")
            await page.get_by_role("button", name="Book").click()
            await page.get_by_role("status").get_by_text("the balance is 12.5").wait_for()
            await page.goto("/delivery")
            await page.get_by_label("From number").fill("1")
            await page.get_by_role("button", name="Send again").click()
            await page.get_by_role("status").get_by_text("1 records were sent again").wait_for()
            await page.get_by_role("link", name="Node").click()
            await page.get_by_role("button", name="Is it as it was written?").click()
            await page.get_by_role("status").get_by_text("It is").wait_for()
            for reason, button in (("moving", "Refuse new calls"), ("moved", "Take new calls")):
                await page.get_by_label("Reason").fill(reason)
                await page.get_by_role("button", name=button).click()
                await page.get_by_role("status").get_by_text("New calls are").wait_for()
            await page.get_by_role("link", name="Numbers").click()
            await page.get_by_role("button", name="Examine").click()
            await page.get_by_role("status").get_by_text("findings").wait_for()
            await page.goto(f"/records/{record['call_id']}")
            await page.get_by_role("link", name="Whole numbers").click()
            await page.get_by_role("heading", name=DIALLED).wait_for()
            await page.get_by_role("link", name="Audit").click()
            rows = page.get_by_role("region", name="Table of").locator("tbody tr")
            await rows.first.wait_for()
            for deed in DEEDS:
                assert await rows.filter(has_text="ada").filter(has_text=deed).count(), deed
            assert await violations(page) == []
        [replayed] = await rig.audited("cdr.replay")
        assert replayed["operator"] == "ada"


async def test_a_rater_sees_money_everywhere_and_moves_none(tmp_path: Path) -> None:
    async with PageRig.of(tmp_path, {"rita": Role.RATER}) as rig, chromium() as browser:
        await rig.control("account.create", name="acme", kind="prepaid", currency="EUR", operator="test")
        record = await rig.place("caller-bye-in-call", "caller-bye-in-call", pause_ms=1_200)
        total = next(line for line in record["charges"] if line["side"] == "sell")["total"]
        async with desk(browser, rig) as page:
            await sign_in(page, "rita")
            await page.goto("/accounts/one?name=acme")
            await page.get_by_role("heading", name="acme").wait_for()
            for hidden in ("Book", "Move the balance"):
                assert await page.get_by_text(hidden, exact=True).count() == 0, hidden
            await page.get_by_role("link", name="Statement").click()
            await page.get_by_role("row", name="Closing").wait_for()
            await page.goto(f"/records/{record['call_id']}")
            await page.get_by_text(f"{total} EUR").first.wait_for()
            assert await page.get_by_role("link", name="Whole numbers").count() == 0
            assert DIALLED not in await page.content()
            await page.get_by_role("link", name="Numbers").click()
            await page.get_by_role("button", name="Examine").click()
            await page.get_by_role("status").get_by_text("findings").wait_for()
            await page.get_by_role("link", name="Node").click()
            for hidden in ("Refuse new calls", "What would change?", "Is it as it was written?"):
                assert await page.get_by_role("button", name=hidden).count() == 0, hidden
            await page.goto("/delivery")
            assert await page.get_by_role("button", name="Send again").count() == 0
        await asyncio.to_thread(_what_a_rater_may_not, rig)


def _what_a_rater_may_not(rig: PageRig) -> None:
    visit = Visit(rig.place_of_page)
    visit.sign_in("rita")
    csrf = visit.csrf()
    for place in ("/accounts/one?name=acme", "/delivery/replay", "/node/verify", "/node/drain"):
        assert visit.post(place, {"csrf": csrf, "name": "acme", "text": "x"}).status == 403, place
    assert visit.get("/audit").status == 403
