"""Accounts in a browser: a balance that is moved by finance, and by nobody else."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlencode

from sidecar.core.users import Role
from tests.rig.node import until
from tests.web.rig import LASTING_S, Answer, PageRig, Visit, chromium, desk, shots, sign_in, violations

HOSTILE = "<script>alert(1)</script>\u202e&name=demo"


async def test_a_balance_is_moved_by_finance_once_and_by_nobody_else(tmp_path: Path) -> None:
    users = {"fay": Role.FINANCE, "olga": Role.OPERATOR, "vera": Role.VIEWER}
    async with PageRig.of(tmp_path, users) as rig, chromium() as browser:
        await rig.control("account.create", name=HOSTILE, currency="EUR", operator="test")
        async with desk(browser, rig) as page:
            await sign_in(page, "fay")
            await page.get_by_role("link", name="Accounts").click()
            await page.get_by_role("link", name="alert(1)").wait_for()
            assert "\u202e" not in await page.locator("main").inner_text()
            await page.screenshot(path=shots(tmp_path) / "accounts.png", full_page=True)
            assert await violations(page) == []
            await page.get_by_role("link", name="prepaid").click()
            await page.get_by_label("Amount").fill("12.50")
            await page.get_by_label("Reference").fill("invoice 77")
            await page.get_by_label("Reason").fill("paid by <wire>")
            await page.get_by_role("button", name="Book").click()
            await page.get_by_role("status").get_by_text("12.5").wait_for()
            await page.get_by_role("cell", name="invoice 77").wait_for()
            await page.get_by_label("How").select_option("adjustment")
            await page.get_by_label("Amount").fill("-2.50")
            await page.get_by_label("Reference").fill("invoice 77")
            await page.get_by_label("Reason").fill("too much")
            await page.get_by_role("button", name="Book").click()
            await page.get_by_role("alert").wait_for()  # another movement has this reference
            await page.screenshot(path=shots(tmp_path) / "account.png", full_page=True)
            assert await violations(page) == []
            await page.get_by_label("Reference").fill("note 1")
            await page.get_by_role("button", name="Book").click()
            await page.get_by_role("status").wait_for()
            await page.emulate_media(color_scheme="dark")
            assert await violations(page) == []
        assert await rig.account("prepaid") == 10
        [booked] = await rig.audited("account.topup")
        assert (booked["operator"], booked["subject"], booked["text"]) == ("fay", "prepaid", "paid by <wire>")
        await asyncio.to_thread(_what_others_get, rig)
        assert await rig.account("prepaid") == 10


async def test_a_statement_comes_to_the_balance_and_what_a_call_holds_is_seen(tmp_path: Path) -> None:
    users = {"fay": Role.FINANCE, "vera": Role.VIEWER}
    async with PageRig.of(tmp_path, users) as rig, chromium() as browser:
        await rig.control("account.create", name=HOSTILE, currency="EUR", operator="test", day_limit="9")
        await rig.top_up("prepaid", "5")

        async def held(dialled: str) -> None:
            live = await rig.live(dialled, answered=True)
            shown = (await asyncio.to_thread(_signed_in, rig, "fay", "/accounts/one?name=prepaid")).text
            assert "Held by calls" in shown
            await rig.control("call.release", call_id=live["call_id"], operator="test", text="enough")

        pair = "server-operator-release-in-call"
        await rig.place_unrecorded(
            pair,
            pair,
            account="prepaid",
            pause_ms=LASTING_S * 1_000,
            patience_s=LASTING_S,
            meanwhile=held,
        )
        await rig.place("caller-bye-in-call", "caller-bye-in-call", account="prepaid", pause_ms=1_200)
        await until(lambda: _has_no_call(rig, "prepaid"))
        async with desk(browser, rig) as page:
            await sign_in(page, "fay")
            await page.goto(f"/accounts/one?{urlencode({'name': HOSTILE})}")
            await page.get_by_text("0 of 9 EUR").wait_for()
            await page.goto("/accounts/one?name=prepaid")
            await page.get_by_role("link", name="Statement").click()
            await page.get_by_role("heading", name="Statement of prepaid").wait_for()
            closing = await page.get_by_role("row", name="Closing").locator(".n").inner_text()
            assert Decimal(closing) == await rig.account("prepaid")
            for dark in (True, False):
                await page.emulate_media(color_scheme="dark" if dark else "light")
                assert await violations(page) == []
            await page.screenshot(path=shots(tmp_path) / "statement.png", full_page=True)
            await page.emulate_media(media="print")
            await page.screenshot(path=shots(tmp_path) / "statement-print.png", full_page=True)
            for hidden in (page.get_by_role("button", name="Show"), page.get_by_label("or from")):
                assert not await hidden.is_visible()
            await page.emulate_media(media="screen")
            await page.set_viewport_size({"width": 390, "height": 800})
            await page.screenshot(path=shots(tmp_path) / "statement-phone.png", full_page=True)
            assert await page.evaluate("document.documentElement.scrollWidth") <= 390
            await page.get_by_label("or from").fill("2026-01-01")
            await page.get_by_role("button", name="Show").click()
            await page.get_by_text("2026-01-01 00:00 up to").wait_for()
        await asyncio.to_thread(_whose_statements, rig)


async def _has_no_call(rig: PageRig, name: str) -> bool:
    return not (await rig.control("account.show", name=name, movements=0))["live_calls"]


def _signed_in(rig: PageRig, name: str, path: str) -> Answer:
    visit = Visit(rig.place_of_page)
    visit.sign_in(name)
    return visit.get(path)


def _whose_statements(rig: PageRig) -> None:
    place = "/accounts/statement?name=prepaid"
    assert _signed_in(rig, "vera", place).status == 403
    fay = Visit(rig.place_of_page)
    fay.sign_in("fay")
    kept = fay.made(f"{place}&format=csv")
    assert kept.text.splitlines()[0].startswith("part,at,kind")
    assert kept.headers["content-disposition"].startswith('attachment; filename="statement-prepaid-20')
    assert {row.split(",")[0] for row in kept.text.splitlines()[1:]} == {
        "opening",
        "movement",
        "calls",
        "closing",
    }
    hostile = fay.made(f"/accounts/statement?{urlencode({'name': HOSTILE})}")
    assert hostile.status == 200
    assert "<script>" not in hostile.text
    assert hostile.text.count("\u202e") == 1  # in the form, so that it comes back as it is
    for query in ("month=2026-13", "from=2027-01-01&to=2026-01-01", "from=--help"):
        assert fay.made(f"{place}&{query}").status == 409, query
    assert fay.get("/accounts/statement?name=nobody").status == 404


def _what_others_get(rig: PageRig) -> None:
    operator, viewer = Visit(rig.place_of_page), Visit(rig.place_of_page)
    operator.sign_in("olga")
    viewer.sign_in("vera")
    shown = operator.get("/accounts/one?name=prepaid").text
    assert "invoice 77" in shown
    assert "Move the balance" not in shown
    fields = {"name": "prepaid", "kind": "top-up", "amount": "5", "reference": "mine", "text": "why not"}
    for visit in (operator, viewer):
        assert visit.post("/accounts/one", fields | {"csrf": visit.csrf()}).status == 403
    assert "/accounts" not in viewer.get("/").text
    for path in ("/accounts", "/accounts/one?name=prepaid"):
        assert viewer.get(path).status == 403
    assert operator.get("/accounts/one?name=nobody").status == 404
    assert operator.get("/accounts?after=zzz").text.count("none") == 1
    finance = Visit(rig.place_of_page)
    finance.sign_in("fay")
    own = fields | {"csrf": finance.csrf()}
    assert finance.post("/accounts/one", fields).status == 403  # without the secret of its session
    for wrong in ({"amount": "1e9"}, {"amount": "-5"}, {"currency": "eur"}, {"kind": "gift"}, {"text": ""}):
        assert finance.post("/accounts/one", own | wrong).status == 409, wrong
