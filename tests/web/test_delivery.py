"""Delivery and the audit trail in a browser: what the broker refused is sent again, and it is seen who did
that."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from sidecar.core.users import Role
from sidecar.wire.report import EpochReport, Report, encode
from sidecar.wire.topics import report_topic
from tests.adapters.store_calls import call_id, whole_call
from tests.rig.node import until
from tests.subscriber.places import Place
from tests.subscriber.rig import Command
from tests.subscriber.test_with_node import client
from tests.web.rig import AnyStore, PageRig, Visit, chromium, desk, shots, sign_in, violations

HOSTILE = "<script>alert(1)</script>\u202e"
REFUSED = 0x87  # not authorized


async def test_dead_letters_are_sent_again_or_dropped_and_it_is_seen_who_did_that(tmp_path: Path) -> None:
    users = {"olga": Role.OPERATOR, "vera": Role.VIEWER}
    async with PageRig.of(tmp_path, users, _with_dead_letters) as rig, chromium() as browser:
        async with desk(browser, rig) as page:
            await sign_in(page, "olga")
            await page.get_by_role("link", name="Delivery").click()
            await page.get_by_role("link", name=str(call_id(3))[:13]).wait_for()
            await page.screenshot(path=shots(tmp_path) / "delivery.png", full_page=True)
            assert await violations(page) == []
            await page.get_by_role("button", name="Try again 1").click()
            await page.get_by_role("status").get_by_text("1 wait").wait_for()
            await page.get_by_label("Reason to drop 2").fill(f"{HOSTILE} of +4915112345678")
            await page.get_by_role("button", name="Drop 2").click()
            await page.get_by_role("status").get_by_text("1 dropped").wait_for()
            await page.get_by_role("button", name="Try all again").click()
            await page.get_by_role("cell", name="none").wait_for()
            await page.get_by_label("or of calls that ended from").fill("2026-01-01T00:00")
            await page.get_by_role("button", name="Send again").click()
            await page.get_by_role("status").get_by_text("records were sent again").wait_for()
            await page.get_by_label("From number").fill("1")
            await page.get_by_role("button", name="Send again").click()
            await page.get_by_role("status").wait_for()
            await page.get_by_role("link", name="Audit").click()
            await page.get_by_role("cell", name="dead-letter.drop").wait_for()
            text = await page.locator("main").inner_text()
            assert "<script>alert(1)</script>" in text
            assert "\u202e" not in text
            assert "+4915112****78" in text
            await page.screenshot(path=shots(tmp_path) / "audit.png", full_page=True)
            for dark in (False, True):
                await page.emulate_media(color_scheme="dark" if dark else "light")
                assert await violations(page) == []
            await page.get_by_label("Action").fill("dead-letter.retry")
            await page.get_by_role("button", name="Find").click()
            await page.get_by_role("cell", name="dead-letter.drop").wait_for(state="detached")
            await page.get_by_role("cell", name="dead-letter.retry").nth(1).wait_for()
        assert [one["operator"] for one in await rig.audited("dead-letter.drop")] == ["olga"]
        assert {one["operator"] for one in await rig.audited("cdr.replay")} == {"olga"}
        await asyncio.to_thread(_what_a_viewer_gets, rig)


async def test_a_subscriber_is_seen_with_its_gaps_as_it_tells_them(tmp_path: Path) -> None:
    users = {"olga": Role.OPERATOR, "vera": Role.VIEWER}
    async with PageRig.of(tmp_path, users) as rig, chromium() as browser:
        await rig.place("callee-rejected-busy", "callee-rejected-busy")
        password = rig.data / "broker" / "biller.password"
        words = ["--username", "biller", "--password-file", str(password)]
        place = Place("json-lines", str(tmp_path / "records"))
        command = Command(rig.daemon.broker, place, tmp_path / "subscriber.log", words)
        await command.start()
        await until(lambda: _holds(rig, "biller", 1))
        await command.stop()
        lacking = EpochReport(epoch="gone", held_seq=9, head_seq=9, missing=5, ranges=((3, 6), (8, 8)))
        told = Report(at=datetime.now(UTC), interval_s=30, epochs=(lacking,))
        topic = report_topic("_", "node", "biller", HOSTILE)
        async with client(rig.daemon.broker, "biller", {"biller": password.read_text().strip()}) as teller:
            await teller.publish(topic, encode(told), qos=1, retain=True)
            await teller.publish(topic + "2", b"\x93", qos=1)
            async with desk(browser, rig) as page:
                await sign_in(page, "olga")
                await page.goto("/delivery")
                await page.get_by_role("link", name="3–6").wait_for()
                text = await page.get_by_role("region", name="Table of subscribers").inner_text()
                assert "<script>alert(1)</script>" in text
                assert "\u202e" not in text
                for dark in (True, False):
                    await page.emulate_media(color_scheme="dark" if dark else "light")
                    assert await violations(page) == []
                await page.screenshot(path=shots(tmp_path) / "subscribers.png", full_page=True)
                await page.get_by_role("link", name="3–6").click()
                assert await page.get_by_label("From number").input_value() == "3"
                assert await page.get_by_label("to the last").input_value() == "6"
                await page.set_viewport_size({"width": 390, "height": 800})
                assert await page.evaluate("document.documentElement.scrollWidth") <= 390
            shown = await asyncio.to_thread(_seen_by, rig, "vera")
            assert "3–6" in shown
            assert "from_seq" not in shown
            await teller.publish(topic, b"", qos=1, retain=True)
            await until(lambda: _is_alone(rig))


async def _holds(rig: PageRig, user: str, seq: int) -> bool:
    found = (await rig.control("subscriber.list"))["subscribers"]
    return [
        (one["user"], epoch["held_seq"], epoch["missing"])
        for one in found
        for epoch in one["report"]["epochs"]
    ] == [(user, seq, 0)]


async def _is_alone(rig: PageRig) -> bool:
    return len((await rig.control("subscriber.list"))["subscribers"]) == 1


def _seen_by(rig: PageRig, name: str) -> str:
    visit = Visit(rig.place_of_page)
    visit.sign_in(name)
    return visit.get("/delivery").text


async def _with_dead_letters(store: AnyStore) -> None:
    for number in (1, 2, 3):
        for step in whole_call(number, HOSTILE):
            store.submit(step)
    await store.outbox.acknowledge([], [])  # everything before it is written
    await store.outbox.acknowledge([], [(seq, REFUSED) for seq in (1, 2, 3)])


def _what_a_viewer_gets(rig: PageRig) -> None:
    visit = Visit(rig.place_of_page)
    visit.sign_in("vera")
    shown = visit.get("/delivery").text
    for hidden in ("Try", "Drop", "Send", "Audit"):
        assert hidden not in shown, hidden
    assert visit.get("/audit").status == 403
    fields = {"csrf": visit.csrf(), "seq": "1", "text": "x", "from_seq": "1"}
    for deed in ("retry", "drop", "replay"):
        assert visit.post(f"/delivery/{deed}", fields).status == 403, deed
    operator = Visit(rig.place_of_page)
    operator.sign_in("olga")
    csrf = operator.csrf()
    for deed, wrong in (
        ("drop", {"seq": "1"}),
        ("drop", {"text": "x"}),
        ("replay", {"from_seq": "-1"}),
        ("replay", {"since": "soon"}),
    ):
        assert operator.post(f"/delivery/{deed}", wrong | {"csrf": csrf}).status == 409, wrong
    assert operator.get("/audit?before=2&by=nobody").text.count("nothing") == 1
    assert operator.get("/delivery?after=99999999999999999999").status == 200
