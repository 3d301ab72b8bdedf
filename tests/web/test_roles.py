"""Every page as every role has it: what a role may not see is not there, and is refused."""

from __future__ import annotations

from pathlib import Path

from sidecar.core.rights import MAY
from sidecar.core.users import Role
from sidecar.web.page import TABS
from tests.web.rig import PageRig, chromium, desk, sign_in, violations


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
