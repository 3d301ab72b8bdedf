"""What somebody may send who is not a browser, and what he gets: refused, bounded, logged."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sidecar.core.users import Role
from sidecar.web.server import CONNECTIONS_MAX
from tests.rig.node import until
from tests.web.rig import PASSWORD, PageRig, Visit

ADMIN, VIEWER = "ada", "vera"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[PageRig]:
    async with PageRig.of(tmp_path, {ADMIN: Role.ADMIN, VIEWER: Role.VIEWER}) as rig:
        yield rig


async def test_only_who_knows_the_password_gets_in_and_each_try_is_noted(rig: PageRig) -> None:
    def tries() -> None:
        visit = Visit(rig.place_of_page)
        assert visit.get("/").headers["location"] == "/sign-in?next=%2F"
        assert visit.get("/now/series").headers["location"].startswith("/sign-in")
        assert visit.get("/now/stream").status == 204
        wrong, unknown = visit.sign_in(VIEWER, "wrong"), visit.sign_in("nobody")
        assert (wrong.status, unknown.status) == (403, 403)
        assert wrong.text.replace(VIEWER, "nobody") == unknown.text
        planted = Visit(rig.place_of_page, "sidecar=planted-by-somebody-else")
        answer = planted.sign_in(VIEWER)
        [cookie] = answer.cookies
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert "planted" not in planted.cookie
        first = planted.cookie
        assert planted.get("/").status == 200
        again = Visit(rig.place_of_page, first)
        assert again.post("/sign-out", {"csrf": again.csrf()}).status == 303
        assert Visit(rig.place_of_page, first).get("/").status == 303

    await asyncio.to_thread(tries)
    signed_in = await rig.audited("page.sign_in")
    assert [(one["operator"], one["subject"]) for one in signed_in] == [(VIEWER, "127.0.0.1")]
    refused = await rig.audited("page.sign_in_refused")
    assert [(one["operator"], one["text"]) for one in refused] == [(VIEWER, "wrong"), ("nobody", "wrong")]
    assert [one["operator"] for one in await rig.audited("page.sign_out")] == [VIEWER]
    assert PASSWORD not in rig.log.read_text()


async def test_a_name_is_not_guessed_at_for_long(rig: PageRig) -> None:
    def guess() -> list[int]:
        visit = Visit(rig.place_of_page)
        return [visit.sign_in(VIEWER, f"guess {number}").status for number in range(12)]

    assert await asyncio.to_thread(guess) == [403] * 10 + [429] * 2
    assert (await asyncio.to_thread(Visit(rig.place_of_page).sign_in, VIEWER)).status == 429
    assert (await asyncio.to_thread(Visit(rig.place_of_page).sign_in, ADMIN)).status == 303
    refused = [line for line in rig.lines() if line["event"] == "page_sign_in_refused"]
    assert {line["why"] for line in refused} == {"wrong", "too many failures"}


async def test_who_is_disabled_is_out_and_another_role_counts_at_once(rig: PageRig) -> None:
    visit = Visit(rig.place_of_page)
    await asyncio.to_thread(visit.sign_in, VIEWER)
    await rig.daemon.command("user", "set", VIEWER, "--role", "rater", "--operator", "ann")
    assert "rater" in (await asyncio.to_thread(visit.get, "/")).text
    shown = await rig.daemon.command("user", "disable", VIEWER, "--reason", "left us", "--operator", "ann")
    assert shown == {"name": VIEWER, "role": "rater", "has_password": True, "enabled": False}
    assert (await asyncio.to_thread(visit.get, "/")).status == 303
    assert (await asyncio.to_thread(visit.sign_in, VIEWER)).status == 403
    [*_, last] = await rig.audited("user.set")
    assert (last["operator"], last["subject"], last["text"]) == ("ann", VIEWER, "left us")
    assert "argon2" not in str(await rig.audited("user.add"))


async def test_another_password_ends_every_session_but_the_one_that_changed_it(rig: PageRig) -> None:
    def change() -> None:
        own, other = Visit(rig.place_of_page), Visit(rig.place_of_page)
        own.sign_in(VIEWER)
        other.sign_in(VIEWER)
        new = {"new": "another one of mine", "again": "another one of mine"}
        fields = {"csrf": own.csrf(), "old": PASSWORD, **new}
        for wrong in ({"old": "wrong"}, {"again": "no"}, {"new": "short", "again": "short"}):
            assert own.post("/password", fields | wrong).status == 409
        assert own.post("/password", fields | {"csrf": ""}).status == 403
        assert own.post("/password", fields).headers["location"] == "/"
        assert own.get("/").status == 200
        assert other.get("/").status == 303
        assert Visit(rig.place_of_page).sign_in(VIEWER).status == 403
        assert other.sign_in(VIEWER, new["new"]).status == 303

    await asyncio.to_thread(change)
    [*_, last] = await rig.audited("user.set")
    assert (last["operator"], last["subject"], last["after"]["password_changed"]) == (VIEWER, VIEWER, True)


async def test_a_user_made_on_the_command_line_signs_in(rig: PageRig, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("a long enough password\nnot this line\n")
    await rig.daemon.command("user", "add", "olga", "--role", "operator", "--password-file", str(file))
    visit = Visit(rig.place_of_page)
    assert (await asyncio.to_thread(visit.sign_in, "olga", "a long enough password")).status == 303
    assert [one["name"] for one in await rig.daemon.command("user", "list")] == [ADMIN, "olga", VIEWER]


async def test_what_another_site_has_sent_is_not_taken(rig: PageRig) -> None:
    def attack() -> None:
        visit = Visit(rig.place_of_page)
        visit.sign_in(ADMIN)
        csrf = visit.csrf()
        for origin in ("https://evil.example", "null", "", f"http://{rig.host}"):
            answer = visit.post("/sign-out", {"csrf": csrf}, origin=origin)
            assert answer.status == 403, origin
        assert visit.post("/sign-out", {}).status == 403
        assert visit.post("/sign-out", {"csrf": "guessed"}).status == 403
        assert visit.get("/sign-out").status == 405
        assert visit.get("/").status == 200  # all that while nobody was signed out
        for place in ("//evil.example", "/\\evil.example", "https://evil.example", "\t//evil.example"):
            fields = {"name": ADMIN, "password": PASSWORD, "next": place}
            assert Visit(rig.place_of_page).post("/sign-in", fields).headers["location"] == "/"

    await asyncio.to_thread(attack)


async def test_every_answer_says_that_it_is_in_no_frame_and_runs_nothing_else(rig: PageRig) -> None:
    def look() -> None:
        visit = Visit(rig.place_of_page)
        signed_in = Visit(rig.place_of_page)
        signed_in.sign_in(ADMIN)
        answers = [
            visit.get(path) for path in ("/", "/sign-in", "/nowhere", "/assets/page.js", "/now/stream")
        ]
        answers += [signed_in.get("/"), visit.send("PUT", "/"), visit.post("/sign-in", {}, origin="null")]
        for answer in answers:
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "script-src 'self';" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-frame-options"] == "DENY"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "server" not in answer.headers
        assert signed_in.get("/").headers["cache-control"] == "no-store"
        assert visit.send("PUT", "/").status == 405
        for path in ("../page.py", "..%2fpage.py", "%2e%2e/%2e%2e/ports.py", "/etc/passwd", "page.js%00"):
            assert visit.get(f"/assets/{path}").status == 404, path

    await asyncio.to_thread(look)


async def test_what_is_too_large_or_no_form_is_refused(rig: PageRig) -> None:
    def attack() -> None:
        visit = Visit(rig.place_of_page)
        own = {"origin": rig.place_of_page.rstrip("/")}
        assert visit.send("POST", "/sign-in", b"a" * 65_537, own).status == 413
        chunked = own | {"transfer-encoding": "chunked"}
        chunk = b"10000\r\n" + b"a" * 65_536 + b"\r\n"
        assert visit.send("POST", "/sign-in", chunk * 2 + b"0\r\n\r\n", chunked).status == 413
        assert visit.send("POST", "/sign-in", b"&".join([b"a=b"] * 101), own).status == 400
        assert visit.send("POST", "/sign-in", b"\xff\xfe=1", own).status == 400
        assert visit.get("/sign-in?next=" + "a" * 5_000).status == 414
        with _connected(visit, visit.host) as raw:
            raw.setblocking(True)
            raw.sendall(b"GET / HTTP/1.1\r\nx-long: " + b"a" * 20_000)
            assert raw.recv(100).startswith(b"HTTP/1.1 400")
        hostile = {"name": "<script>alert(1)</script>\u202e\x1b[31m", "password": "x"}
        answer = visit.post("/sign-in", hostile)
        assert answer.status == 403
        assert "<script>alert" not in answer.text
        assert "\u202e" not in answer.text
        assert "\x1b" not in answer.text

    await asyncio.to_thread(attack)
    assert not [line for line in rig.lines() if line["event"] == "library" and line["level"] == "error"]


async def test_who_is_slow_or_takes_many_connections_does_not_keep_others_out(rig: PageRig) -> None:
    page = Visit(rig.place_of_page)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(_connected(page, rig.stranger)) for _ in range(70)]
        for one in slow[:60]:
            one.sendall(b"GET / HTTP/1.1\r\nhost: slow\r\n")

        def closed() -> int:
            return sum(map(_is_closed, slow))

        await until(lambda: closed() >= 10)  # those beyond the most of one address
        assert (await asyncio.to_thread(page.get, "/sign-in")).status == 200
        refused = [line for line in rig.lines() if line["event"] == "page_connections_refused"]
        assert {line["address"] for line in refused} == {rig.stranger}
        await until(lambda: closed() == 70)  # the others, since their heads do not end
        assert (await asyncio.to_thread(page.get, "/sign-in")).status == 200


async def test_of_500_connections_at_once_no_more_than_the_most_are_kept_and_the_node_goes_on(
    rig: PageRig,
) -> None:
    page = Visit(rig.place_of_page)
    with contextlib.ExitStack() as stack:
        hosts = [f"127.9.{number % 10}.1" for number in range(500)]  # fifty of each: less than one may have
        crowd = [stack.enter_context(_connected(page, host)) for host in hosts]

        def closed() -> int:
            return sum(map(_is_closed, crowd))

        await until(lambda: closed() >= 500 - CONNECTIONS_MAX)
        assert (await rig.control("node.status"))["state"] == "accepting"
        refused = [line for line in rig.lines() if line["event"] == "page_connections_refused"]
        assert refused
        await until(lambda: closed() == 500)  # those that say nothing go after some seconds
        assert (await asyncio.to_thread(page.get, "/sign-in")).status == 200


@contextlib.contextmanager
def _connected(page: Visit, from_host: str) -> Iterator[socket.socket]:
    with socket.create_connection((page.host, page.port), timeout=30, source_address=(from_host, 0)) as one:
        one.setblocking(False)
        yield one


def _is_closed(one: socket.socket) -> bool:
    try:
        return one.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


async def test_a_page_that_is_killed_is_there_again_and_goes_with_its_node(tmp_path: Path) -> None:
    async with PageRig.of(tmp_path, {}) as rig:
        await until(lambda: len(_ready_pages(rig)) == 1)
        [first] = _ready_pages(rig)
        os.kill(first, signal.SIGKILL)
        await until(lambda: len(_ready_pages(rig)) == 2)
        await until(rig.is_served)
    assert not await rig.is_served()


def _ready_pages(rig: PageRig) -> list[int]:
    return [line["pid"] for line in rig.lines() if line["event"] == "page_ready"]


async def test_a_proxy_says_who_it_is_and_nobody_else_may(tmp_path: Path) -> None:
    rig = PageRig(tmp_path)
    proxies = f"{rig.network}.3"
    settings = {"SIDECAR_WEB__PROXIES": proxies, "SIDECAR_WEB__USER_HEADER": "X-Remote-User"}
    async with rig.up(SIDECAR_WEB__LISTEN=f"{rig.host}:0", **settings):
        place = rig.ready["page"]
        await rig.daemon.command("user", "add", VIEWER, "--role", "viewer", "--no-password")

        def ask(user: str, source: str) -> tuple[int, str, list[str]]:
            visit = Visit(place, source=source)
            forwarded = {"x-forwarded-for": "10.9.9.9, 192.0.2.7", "x-forwarded-proto": "https"}
            answer = visit.send("GET", "/", None, {"x-remote-user": user, **forwarded})
            return answer.status, answer.text, answer.cookies

        async def is_served() -> bool:
            try:
                return bool(await asyncio.to_thread(ask, VIEWER, proxies))
            except OSError:
                return False

        await until(is_served)
        status, text, [cookie] = await asyncio.to_thread(ask, VIEWER, proxies)
        assert (status, VIEWER in text) == (200, True)
        assert cookie.startswith("__Host-sidecar=")
        assert "Secure" in cookie
        assert (await asyncio.to_thread(ask, VIEWER, rig.host))[0] == 403
        assert (await asyncio.to_thread(ask, "nobody", proxies))[0] == 303
