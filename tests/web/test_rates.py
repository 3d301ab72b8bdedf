"""Rates in a browser: a number through the whole way; a price list that is looked at, weighed, put in force
and taken back by a rater, and by nobody who is none."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

from playwright.async_api import Page

from sidecar.core.users import Role
from sidecar.web.uploads import UPLOAD_BYTES_MAX
from tests.web.rig import PageRig, Visit, chromium, desk, shots, sign_in, violations

HOSTILE = "<script>alert(1)</script>\u202e\x1b[31m" + "x" * 10_000
HEAD = "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s\n"
LIST = HEAD + f"49,{HOSTILE[:60]},EUR,0,0.30,60,60\n41,Switzerland,EUR,0,0.50,60,60\n"
DIALLED, NUMBER = "0044123456789", "0049301234567"


async def test_a_price_list_is_looked_at_put_in_force_and_taken_back(tmp_path: Path) -> None:
    users = {
        "rita": Role.RATER,
        "vera": Role.VIEWER,
        "fay": Role.FINANCE,
        "olga": Role.OPERATOR,
        "adam": Role.ADMIN,
    }
    async with PageRig.of(tmp_path, users) as rig, chromium() as browser:
        await rig.place("caller-bye-in-call", "caller-bye-in-call", dialled=DIALLED, pause_ms=1_200)
        before = (await rig.control("deck.check", name="demo"))["revision"]
        async with desk(browser, rig) as page:
            await sign_in(page, "rita")
            await page.get_by_role("link", name="Rates").click()
            await _looked_at(page, tmp_path / "rates")
            await page.get_by_label("File").set_input_files(_file(f"../{HOSTILE[:25]}.csv", LIST + "4,x\n"))
            await page.get_by_role("button", name="Read it").click()
            await page.get_by_role("alert").get_by_text("row 4").wait_for()
            await _looked_at(page, tmp_path / "rates-refused")
            await page.get_by_role("button", name="Forget it").click()
            await page.get_by_role("status").get_by_text("is forgotten").wait_for()
            await page.get_by_label("File").set_input_files(_file("new prices.csv", LIST))
            await page.get_by_role("combobox", name="For the deck").select_option("demo")
            await page.get_by_role("button", name="Read it").click()
            await page.get_by_role("cell", name="Switzerland").wait_for()
            await _looked_at(page, tmp_path / "rates-list")
            await page.get_by_role("button", name="Keep it as a deck").click()
            await page.get_by_role("heading", level=1, name="Deck").wait_for()
            await page.get_by_text("calls of the last days would have no rate").wait_for()
            await _looked_at(page, tmp_path / "rates-deck")
            deck = page.url.partition("revision=")[2].partition("&")[0]
            assert not list((rig.data / "uploads").glob("*"))

            await page.get_by_label("From").last.fill(
                f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%dT%H:%M}"
            )
            await _put_in_force(page)
            await page.get_by_text("to come", exact=True).wait_for()
            await _looked_at(page, tmp_path / "rates-name")
            await page.get_by_label("Reason to take back").fill("too early")
            await page.get_by_role("button", name="Take back").click()
            await page.get_by_text("not in force: taken back by rita").wait_for()
            assert (await rig.control("deck.check", name="demo"))["revision"] == before

            await page.goto(f"/rates/deck?revision={deck}&name=demo")
            await _put_in_force(page)
            await page.locator("td").get_by_text("in force", exact=True).wait_for()
            assert (await rig.control("deck.check", name="demo"))["revision"] == deck
            await page.get_by_label("Billed number").fill("49301234567")
            await page.get_by_role("button", name="Show prices").click()
            await page.get_by_role("cell", name="0:0.3/60/60 EUR").wait_for()
            await page.get_by_role("link", name="Rates").click()
            await page.get_by_label("Number as dialled").fill(NUMBER)
            await page.get_by_role("combobox", name="From the peer").select_option("local")
            await page.get_by_role("button", name="Show the way").click()
            await page.get_by_text("0.300000 EUR").first.wait_for()
            await page.get_by_role("rowheader", name="main").wait_for()
            await _looked_at(page, tmp_path / "rates-route")
            await page.get_by_label("or of the account").fill("demo")
            await page.get_by_role("button", name="Show the way").click()
            await page.get_by_role("heading", name="demo pays 0.300000 EUR").wait_for()

            await page.goto("/rates/name?name=demo")
            await page.get_by_label("Reason", exact=True).fill("the wrong list")
            await page.get_by_role("button", name="Roll back").click()
            await (
                page.get_by_role("status")
                .get_by_text(f"Deck {before[:12]} is in force as demo again")
                .wait_for()
            )
            assert (await rig.control("deck.check", name="demo"))["revision"] == before
        for action in ("deck.import", "deck.activate", "deck.cancel", "deck.rollback"):
            assert "rita" in {one["operator"] for one in await rig.audited(action)}, action
        assert [one["subject"] for one in await rig.audited("deck.import")] == [deck]
        await asyncio.to_thread(_who_may_not, rig, deck)
        await asyncio.to_thread(_what_is_refused, rig, deck)


def _file(name: str, content: str) -> Any:
    return {"name": name, "mimeType": "text/csv", "buffer": content.encode()}


async def _looked_at(page: Page, name: Path) -> None:
    """Without a violation in light and dark, on a desk and in a hand."""
    await page.get_by_role("heading", level=1).wait_for()
    place = shots(name.parent)
    for dark in (True, False) if name.name in ("rates-deck", "rates-name") else (False,):
        await page.emulate_media(color_scheme="dark" if dark else "light")
        assert await violations(page) == []
    await page.screenshot(path=place / f"{name.name}.png", full_page=True)
    text = await page.locator("body").inner_text()
    assert "\u202e" not in text
    assert "\x1b" not in text
    await page.set_viewport_size({"width": 390, "height": 800})
    await page.screenshot(path=place / f"{name.name}-phone.png", full_page=True)
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390, name
    await page.set_viewport_size({"width": 1280, "height": 900})


async def _put_in_force(page: Page) -> None:
    await page.get_by_label("Reason", exact=True).fill(f"new {HOSTILE[:26]}")
    await page.get_by_label("all the same").check()
    await page.get_by_role("button", name="Put in force").click()
    await page.get_by_role("status").get_by_text("force as demo").wait_for()


def _who_may_not(rig: PageRig, deck: str) -> None:
    seen = ("/rates", "/rates/name?name=demo", f"/rates/deck?revision={deck}", "/rates/route?number=1")
    done = ("lists", f"lists/{'a' * 32}", f"lists/{'a' * 32}/keep", "activate", "rollback", "cancel")
    vera, fay, olga, adam = (Visit(rig.place_of_page) for _ in range(4))
    for visit, name in ((vera, "vera"), (fay, "fay"), (olga, "olga"), (adam, "adam")):
        visit.sign_in(name)
    assert "Roll back" in adam.get(seen[1]).text
    assert "Put in force" in adam.get(f"{seen[2]}&name=demo").text
    for path in seen:
        assert vera.get(path).status == 403, path
    assert "Rates" not in vera.get("/").text
    for visit, path in product((fay, olga), seen[:3]):
        shown = visit.get(path)
        assert shown.status == 200, path
        for hidden in ("Read it", "Roll back", "Take back", "Put in force"):
            assert hidden not in shown.text, (path, hidden)
    for visit in (vera, fay, olga):
        fields = {"csrf": visit.csrf(), "name": "demo", "revision": deck, "text": "x", "yes": "1"}
        for deed in done:
            assert visit.post(f"/rates/{deed}", fields).status == 403, deed
    assert _sent(fay, fay.csrf(), b"x").status == 403
    assert list((rig.data / "uploads").glob("*")) == []


def _what_is_refused(rig: PageRig, deck: str) -> None:
    rita, adam = Visit(rig.place_of_page), Visit(rig.place_of_page)
    rita.sign_in("rita")
    adam.sign_in("adam")
    csrf = rita.csrf()
    assert _sent(rita, "another", LIST.encode()).status == 403
    assert _sent(rita, csrf, b"").status == 413
    assert _sent(rita, csrf, b"x", length=UPLOAD_BYTES_MAX + 1).status == 413
    stranger = _sent(Visit(rig.place_of_page), csrf, LIST.encode())
    assert (stranger.status, stranger.headers["location"]) == (303, "/sign-in")
    headers = {
        "content-type": "multipart/form-data; boundary=edge",
        "origin": f"http://{rita.host}:{rita.port}",
    }
    for path in ("/accounts/one", "/rates/activate", "/sign-out"):  # none of them takes files
        assert rita.send("POST", path, b"--edge--", headers).status == 403, path
    cut_off = _sent(rita, csrf, LIST.encode(), end=b"")
    assert (cut_off.status, "cut off" in cut_off.text) == (413, True)
    kept = _sent(rita, csrf, LIST.encode())
    assert kept.status == 303
    place = kept.headers["location"]
    assert rita.get(place).status == 200
    assert adam.get(place).status == 404
    for wrong in (
        {"template": "/etc/passwd"},
        {"values": "--config"},
        {"how": "merge"},
        {"values": "x=\x00"},
    ):
        assert rita.post(place, {"csrf": csrf, **wrong}).status in (303, 409), wrong
        assert rita.get(place).status == 409, wrong
        assert rita.post(f"{place}/keep", {"csrf": csrf}).status == 409, wrong
    assert rita.post(place, {"csrf": csrf}).status == 303
    assert rita.get(place).status == 200
    told = {"csrf": csrf, "name": "demo", "revision": deck, "text": "x"}
    for deed, fields in (
        ("activate", told | {"instead_of": deck, "yes": "1"}),
        ("activate", told | {"instead_of": _held(rita), "text": ""}),
        ("activate", told | {"instead_of": _held(rita)}),
        ("activate", told | {"name": "--help"}),
        ("activate", told | {"revision": "../../x"}),
        ("rollback", told | {"instead_of": deck}),
        ("rollback", told | {"text": ""}),
        ("cancel", told),
    ):
        assert rita.post(f"/rates/{deed}", fields).status == 409, (deed, fields)
    for path in ("name?name=nobody", f"deck?revision={'0' * 64}"):
        assert rita.get(f"/rates/{path}").status == 404, path
    for path in ("route?number=1&peer=nobody", "route?number=1", "name?name=demo&number=abc"):
        assert rita.get(f"/rates/{path}").status == 409, path
    for _ in range(9):
        assert _sent(rita, csrf, LIST.encode(), template="none").status == 303
    assert rita.get(place).status == 404
    assert len(list((rig.data / "uploads").glob("*"))) == 8


def _held(visit: Visit) -> str:
    return visit.get("/rates/name?name=demo").text.partition("deck?revision=")[2][:64]


def _sent(
    visit: Visit, csrf: str, content: bytes, end: bytes = b"--", template: str = "", length: int | None = None
) -> Any:
    part = b'--edge\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    body = (
        part % (b"csrf", b"", csrf.encode())
        + part % (b"template", b"", template.encode())
        + part % (b"file", b'; filename="../../a.csv"', content)
    )
    headers = {
        "content-type": "multipart/form-data; boundary=edge",
        "origin": f"http://{visit.host}:{visit.port}",
        **({} if length is None else {"content-length": str(length)}),
    }
    return visit.send("POST", "/rates/lists", body + b"--edge" + end + b"\r\n", headers)
