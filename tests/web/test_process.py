"""The page as a process: with TLS, without the daemon starting it, and what keeps it from being served."""

from __future__ import annotations

import asyncio
import grp
import os
import socket
import stat
import sys
from pathlib import Path

from sidecar.adapters.sockets.child import end
from sidecar.core.users import Role
from sidecar.demo.children import environment, free_ports
from sidecar.web.server import NICER
from tests.b2bua.authority import Authority
from tests.rig.node import until
from tests.sipp.rig import Rig
from tests.web.rig import HASH, PageRig, Visit

SIDECAR = (sys.executable, "-m", "sidecar.cli")


async def test_with_its_own_certificate_the_page_speaks_tls_alone(tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path / "ca").sign("page")
    async with PageRig.of(
        tmp_path,
        {"vera": Role.VIEWER},
        SIDECAR_WEB__CERTIFICATE_FILE=certificate,
        SIDECAR_WEB__KEY_FILE=key,
    ) as rig:
        assert rig.place_of_page.startswith("https://")
        visit = Visit(rig.place_of_page)
        answer = await asyncio.to_thread(visit.sign_in, "vera")
        [cookie] = answer.cookies
        assert cookie.startswith("__Host-sidecar=")
        assert "Secure" in cookie
        assert "max-age" in answer.headers["strict-transport-security"]
        assert (await asyncio.to_thread(visit.get, "/")).status == 200
        [ready] = [line for line in rig.lines() if line["event"] == "page_ready"]
        own = os.getpriority(os.PRIO_PROCESS, rig.daemon.pid)
        assert os.getpriority(os.PRIO_PROCESS, ready["pid"]) == min(own + NICER, 19)
        with socket.create_connection((visit.host, visit.port), timeout=30) as plain:
            plain.sendall(b"GET /sign-in HTTP/1.1\r\nhost: plain\r\n\r\n")
            assert not plain.recv(100).startswith(b"HTTP")


def _over(path: Path, request: str) -> str:
    """What a proxy gets at a unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(30)
        connection.connect(str(path))
        connection.sendall(f"GET {request}\r\nconnection: close\r\n\r\n".encode())
        answer = b""
        while part := connection.recv(65_536):
            answer += part
    return answer.decode()


async def test_a_proxy_at_a_unix_socket_is_believed_and_nobody_else_may_open_it(tmp_path: Path) -> None:
    rig, path = Rig(tmp_path), tmp_path / "page.sock"

    async def is_served() -> bool:
        return path.is_socket() and "200 OK" in await asyncio.to_thread(
            _over, path, "/sign-in HTTP/1.1\r\nhost: p"
        )

    group = grp.getgrgid(os.getgid()).gr_name
    settings = {"SIDECAR_WEB__USER_HEADER": "X-User", "SIDECAR_CONTROL__GROUP": group}
    async with rig.up(SIDECAR_WEB__LISTEN=str(path), **settings):
        await rig.control("user.add", name="ada", role="admin", operator="test")
        await until(is_served)
        found = path.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, os.getgid())
        head = (
            "/audit HTTP/1.1\r\nhost: p\r\nx-forwarded-for: 192.0.2.9, 192.0.2.7\r\nx-forwarded-proto: https"
        )
        shown = await asyncio.to_thread(_over, path, f"{head}\r\nx-user: ada")
        assert "HTTP/1.1 200" in shown
        assert "set-cookie: __Host-sidecar=" in shown
        assert "HTTP/1.1 303" in await asyncio.to_thread(_over, path, head)
        refused = await asyncio.to_thread(_over, path, head.replace("/audit", "/api/node.status"))
        assert "HTTP/1.1 401" in refused
        wrong = head.replace("/audit", "/api/node.status") + "\r\nauthorization: Bearer ada.wrong"
        assert "HTTP/1.1 401" in await asyncio.to_thread(_over, path, wrong)
        [noted] = (await rig.control("audit.list", action="api.refused"))["entries"]
        assert (noted["operator"], noted["subject"]) == ("ada", "192.0.2.7")
    assert not path.exists()


async def test_the_page_may_be_a_unit_of_its_own_beside_a_daemon_that_comes_and_goes(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    [port] = free_ports(rig.host, 1)
    visit = Visit(f"http://{rig.host}:{port}/")
    async with rig.up():
        await rig.control("user.add", name="vera", role="viewer", password_hash=HASH, operator="test")
        child = await asyncio.create_subprocess_exec(
            *(*SIDECAR, "web", "--set", f"web.listen={rig.host}:{port}"), env=environment(**rig.settings())
        )
        await until(lambda: _is_there(visit))
        assert (await asyncio.to_thread(visit.sign_in, "vera")).status == 303
    try:
        assert "does not answer" in (await asyncio.to_thread(visit.get, "/calls")).text
        assert (await asyncio.to_thread(visit.get, "/records")).status == 200
        refused = await asyncio.to_thread(Visit(f"http://{rig.host}:{port}/").sign_in, "vera")
        assert refused.status == 503  # nobody could note it
    finally:
        await end(child)
    assert child.returncode is not None


async def _is_there(visit: Visit) -> bool:
    try:
        return (await asyncio.to_thread(visit.get, "/sign-in")).status == 200
    except OSError:
        return False


async def test_what_keeps_it_from_being_served_is_one_clear_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = f"127.0.0.1:{taken.getsockname()[1]}"
        for command, listen, said in (
            ("web", busy, "web.listen"),
            ("run", busy, "web.listen: cannot listen"),
            ("web", "0.0.0.0:0", "name the one address"),
            ("web", "192.0.2.1:0", "passwords would go in the clear"),
            ("run", "192.0.2.1:0", "passwords would go in the clear"),
        ):
            child = await asyncio.create_subprocess_exec(
                *(*SIDECAR, command, "--set", f"web.listen={listen}"),
                stderr=asyncio.subprocess.PIPE,
                cwd=tmp_path,
                env=environment(),
            )
            _, complaint = await child.communicate()
            assert (child.returncode, said in complaint.decode()) == (2, True), complaint.decode()
