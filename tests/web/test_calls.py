"""Calls that are up, in a browser: seen, found and released by who may."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sidecar.core.users import Role
from tests.rig.node import until
from tests.web.rig import LASTING_S, PageRig, Visit, chromium, desk, shots, sign_in, violations

HOSTILE = "%3Cscript%3Ealert(1)%3C/script%3E%E2%80%AE%1B%5B31m" + "x" * 400
PAIR = "server-operator-release-in-call"


async def test_a_call_is_found_and_released_by_an_operator_and_a_viewer_only_sees_it(tmp_path: Path) -> None:
    users = {"olga": Role.OPERATOR, "vera": Role.VIEWER}
    async with PageRig.of(tmp_path, users) as rig, chromium() as browser:

        async def work(dialled: str) -> None:
            live = await rig.live(dialled, answered=True)
            async with desk(browser, rig) as page:
                await sign_in(page, "olga")
                await page.get_by_role("link", name="Calls").click()
                rows = page.locator("tbody tr")
                await page.get_by_role("cell", name="0044123****89").wait_for()
                await rows.nth(1).wait_for()
                for dark in (False, True):
                    await page.emulate_media(color_scheme="dark" if dark else "light")
                    await page.screenshot(path=shots(tmp_path) / f"calls-{dark}.png", full_page=True)
                    assert await violations(page) == []
                await page.get_by_role("link", name="Whole numbers").click()
                await page.get_by_role("cell", name=dialled).wait_for()
                text = await page.locator("tbody").inner_text()
                assert "%3cscript%3ealert(1)" in text
                assert "x" * 200 not in text
                await page.get_by_role("link", name="Mask numbers").click()
                await page.get_by_label("Phase").select_option("talking")
                await rows.nth(1).wait_for(state="detached")
                await page.locator("#by-talk").click()
                await page.locator("th[aria-sort=ascending]", has_text="Talk").wait_for()
                await page.get_by_role("link", name=f"Release call {live['call_id']}").click()
                await page.get_by_label("Reason").fill("asked to <b>end</b> it")
                await page.screenshot(path=shots(tmp_path) / "release.png")
                assert await violations(page) == []
                await page.get_by_role("button", name="Release the call").click()
                await page.get_by_role("status").get_by_text("was released").wait_for()

        async with _trying(rig.host, rig.gateways["silent"]):
            await _ring(rig)
            sip_call_id = await rig.place_unrecorded(
                PAIR, PAIR, pause_ms=LASTING_S * 1_000, patience_s=LASTING_S, meanwhile=work
            )
            [record] = await rig.records(sip_call_id, 1)
            assert (record["operator"], record["operator_text"]) == ("olga", "asked to <b>end</b> it")
            looks = await rig.audited("page.look")
            assert [(one["operator"], one["subject"]) for one in looks] == [("olga", "/calls page=1")]
            await asyncio.to_thread(_what_a_viewer_gets, rig)


def _what_a_viewer_gets(rig: PageRig) -> None:
    visit = Visit(rig.place_of_page)
    visit.sign_in("vera")
    shown = visit.get("/calls").text
    assert "Release" not in shown
    assert "Number begins" not in shown
    assert "Whole numbers" not in shown
    call_id = "00000000-0000-8000-8000-000000000000"
    for path in ("/calls?whole=1", "/calls?number=44", f"/calls/{call_id}/release"):
        assert visit.get(path).status == 403, path
    csrf = visit.csrf()
    assert visit.post(f"/calls/{call_id}/release", {"csrf": csrf, "reason": "x"}).status == 403
    assert visit.get("/calls?sort=nothing&page=999999999&phase=%3Cscript%3E").status == 200


class _Trying(asyncio.DatagramProtocol):
    """A gateway that says 100 to an INVITE, and nothing else."""

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        first, *lines = data.decode().split("\r\n")
        if first.startswith("INVITE"):
            kept = [line for line in lines if line.startswith(("Via", "From", "To", "Call-ID", "CSeq"))]
            self._transport.sendto("\r\n".join(["SIP/2.0 100 Trying", *kept, "", ""]).encode(), addr)


@asynccontextmanager
async def _trying(host: str, port: int) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(_Trying, local_addr=(host, port))
    try:
        yield
    finally:
        transport.close()


async def _ring(rig: PageRig) -> None:
    """A call that nobody answers, by a caller of a hostile name."""
    host, port = rig.daemon.sip
    with socket.socket(type=socket.SOCK_DGRAM) as phone:
        phone.bind((rig.host, 0))
        own = f"{rig.host}:{phone.getsockname()[1]}"
        lines = (
            f"INVITE sip:0344123@{host}:{port} SIP/2.0",
            f"Via: SIP/2.0/UDP {own};branch=z9hG4bKhostile",
            "Max-Forwards: 70",
            f"From: <sip:{HOSTILE}@{own}>;tag=1",
            f"To: <sip:0344123@{host}>",
            "Call-ID: hostile",
            "CSeq: 1 INVITE",
            f"Contact: <sip:x@{own}>",
            "Content-Length: 0",
            "",
            "",
        )
        phone.sendto("\r\n".join(lines).encode(), (host, port))

        async def is_up() -> bool:
            return bool(await rig.daemon.live_calls())

        await until(is_up)
