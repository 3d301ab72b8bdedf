"""The page of one of two nodes on a database: records, sums and accounts are those of both, and the other one
is seen and drained from it."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from sidecar.core.users import Role
from tests.cli.test_commands import sidecar
from tests.rig.listener import sell
from tests.rig.node import until
from tests.rig.postgres import Postgres
from tests.sipp.rig import Rig
from tests.web.rig import LASTING_S, LONG, PageRig, Visit, chromium, desk, shots, sign_in, violations

PAIR = "server-operator-release-in-call"


@pytest.fixture
async def dsns(tmp_path: Path, postgresql: Postgres) -> tuple[str, Path]:
    """Of a node; and a file with that of its page, which can only read."""
    owner, node = postgresql.new_database_with_roles("page_of_two")
    for name, dsn in (("owner", owner), ("page", make_conninfo(owner, user="page1"))):
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text(dsn)
    done = await sidecar("store", "prepare", "--dsn-file", str(tmp_path / "owner"))
    assert done.exit_code == 0, done.err
    return node, tmp_path / "page"


async def test_what_two_nodes_have_is_seen_and_done_on_the_page_of_one(
    tmp_path: Path, dsns: tuple[str, Path]
) -> None:
    dsn, page_dsn = dsns
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    two = Rig(tmp_path / "two", {"timers": LONG}, dsn=dsn)
    # Who proves the chains of all needs the keys of all.
    key = {"SIDECAR_NODE__JOURNAL_KEY_FILE": str(tmp_path / "key")}
    users = {"fay": Role.FINANCE, "olga": Role.OPERATOR, "vera": Role.VIEWER}
    async with (
        PageRig.of(
            tmp_path / "one",
            users,
            dsn=dsn,
            SIDECAR_NODE__NAME="one",
            SIDECAR_WEB__DSN_FILE=str(page_dsn),
            **key,  # type: ignore[arg-type]  # words
        ) as one,
        chromium() as browser,
    ):
        async with two.up(SIDECAR_NODE__NAME="two", **key):
            here = await one.place("caller-bye-in-call", "caller-bye-in-call", pause_ms=1_200)
            there = await two.place("caller-bye-in-call", "caller-bye-in-call", pause_ms=1_200)
            async with desk(browser, one) as page:
                await sign_in(page, "fay")
                await page.get_by_role("link", name="Records").click()
                await page.get_by_role("link", name=str(here["call_id"])[:13]).wait_for()
                await page.get_by_role("link", name=str(there["call_id"])[:13]).click()
                await page.get_by_text("Every figure comes out again.").wait_for()
                await page.get_by_text(f"{sell(there)['total']} EUR").first.wait_for()
                both = Decimal(sell(here)["net"]) + Decimal(sell(there)["net"])
                visit = Visit(one.place_of_page)
                await asyncio.to_thread(visit.sign_in, "fay")
                await until(lambda: asyncio.to_thread(_is_sum, visit, both))
                await page.goto("/accounts/one?name=prepaid")
                await page.get_by_label("Amount").fill("12.50")
                await page.get_by_label("Reference").fill("invoice 77")
                await page.get_by_label("Reason").fill("paid")
                await page.get_by_role("button", name="Book").click()
                await page.get_by_role("status").get_by_text("12.5").wait_for()
                assert await two.account("prepaid") == Decimal("12.5")
                await asyncio.to_thread(_who_reads_it, page_dsn)
            async with desk(browser, one) as page:
                await sign_in(page, "olga")
                await page.get_by_role("link", name="Node").click()
                await page.get_by_role("button", name="Is it as it was written?").click()
                await page.get_by_role("status").get_by_text("node two: ").wait_for()
                await page.get_by_role("status").get_by_text("It is", exact=True).wait_for()
                [verified] = await one.audited("journal.verify")
                assert verified["text"].startswith("up to commit one ")
                assert verified["text"].endswith(": as it was written")
                nodes = page.get_by_role("region", name="Table of nodes")
                await nodes.get_by_role("link", name="two").click()
                await page.get_by_role("heading", level=1, name="Node two").wait_for()
                await page.get_by_label("Reason").fill("update")
                await page.get_by_role("button", name="Refuse new calls").click()
                await page.get_by_role("status").get_by_text("New calls are refused").wait_for()
                assert [(await rig.status())["state"] for rig in (one, two)] == ["accepting", "drain"]
                await page.screenshot(path=shots(tmp_path) / "node-two.png", full_page=True)
                assert await violations(page) == []
                await page.get_by_label("Reason").fill("updated")
                await page.get_by_role("button", name="Take new calls").click()
                await page.get_by_role("status").get_by_text("New calls are taken").wait_for()
                assert (await two.status())["state"] == "accepting"
                [drained] = await one.audited("node.drain")
                assert (drained["operator"], drained["subject"], drained["text"]) == ("olga", "two", "update")

                await page.get_by_role("link", name="Delivery").click()
                await (
                    page.get_by_role("navigation", name="Of which node")
                    .get_by_role("link", name="two")
                    .click()
                )
                await page.get_by_label("From number").fill("1")
                await page.get_by_role("button", name="Send again").click()
                await page.get_by_role("status").get_by_text("1 records were sent again, up to 1.").wait_for()
                await two.listener.until(lambda: two.listener.again == 1)
                assert await violations(page) == []

                async def seen_and_released(dialled: str) -> None:
                    live = await two.live(dialled, answered=True)
                    await page.goto("/calls")
                    await page.get_by_text("no call is up").wait_for()
                    await page.get_by_role("link", name="All nodes").click()
                    row = page.get_by_role("row", name="two")
                    await row.get_by_role("link", name=f"Release call {live['call_id']}").wait_for()
                    await page.screenshot(path=shots(tmp_path) / "calls-of-all.png", full_page=True)
                    assert await violations(page) == []
                    await row.get_by_role("link", name=f"Release call {live['call_id']}").click()
                    await page.get_by_label("Reason").fill("enough")
                    await page.get_by_role("button", name="Release the call").click()
                    await page.get_by_role("status").get_by_text("was released").wait_for()

                released = await two.place(
                    PAIR, PAIR, pause_ms=LASTING_S * 1_000, patience_s=LASTING_S, meanwhile=seen_and_released
                )
                assert (released["operator"], released["operator_text"]) == ("olga", "enough")
            await asyncio.to_thread(_what_a_viewer_gets, one)
            assert (await two.status())["state"] == "accepting"
        # It has ended, and says nothing any more.
        await until(lambda: asyncio.to_thread(_is_not_heard, visit))
        refused = await asyncio.to_thread(visit.get, "/node?name=two")
        assert (refused.status, "node two is not heard" in refused.text) == (409, True)
        assert "no call is up" in (await asyncio.to_thread(visit.get, "/calls?nodes=all")).text


def _who_reads_it(page_dsn: Path) -> None:
    with psycopg.connect(page_dsn.read_text(), autocommit=True) as database:
        asked = "SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name = 'sidecar one page'"
        assert database.execute(asked).fetchall() == [("page1",)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            database.execute("DELETE FROM users")


def _is_not_heard(visit: Visit) -> bool:
    shown = visit.get("/node").text
    return "not heard" in shown and "/node?name=two" not in shown


def _is_sum(visit: Visit, sold: Decimal) -> bool:
    shown = visit.get("/revenue?by=account").text
    return f"{sold.normalize():f} EUR" in shown and "still to be summed" not in shown


def _what_a_viewer_gets(rig: PageRig) -> None:
    visit = Visit(rig.place_of_page)
    visit.sign_in("vera")
    assert "Table of nodes" in visit.get("/node?name=two").text
    assert visit.get("/node?name=three").status == 404
    fields = {"csrf": visit.csrf(), "text": "x", "name": "two"}
    assert visit.post("/node/drain", fields).status == 403
    assert "Release" not in visit.get("/calls?nodes=all").text


async def test_a_page_without_its_database_says_so_and_goes_on_with_it(
    tmp_path: Path, postgresql: Postgres
) -> None:
    dsn = postgresql.new_database("page_alone")
    async with PageRig.of(tmp_path, {"fay": Role.FINANCE}, dsn=dsn) as rig:
        visit = Visit(rig.place_of_page)
        await asyncio.to_thread(visit.sign_in, "fay")
        assert (await asyncio.to_thread(visit.get, "/records")).status == 200
        postgresql.kill()
        try:
            answer = await asyncio.to_thread(visit.get, "/records")
            assert (answer.status, "cannot be read" in answer.text) == (503, True)
        finally:
            postgresql.start()
        answer = await asyncio.to_thread(visit.get, "/records")
        assert (answer.status, "no record fits" in answer.text) == (200, True)
