"""The pages of the metrics port against clients that are slow, silent, rude or many; and both listeners of a
process that has no file descriptor left."""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path

import pytest

from sidecar.adapters.control_client import ControlClient
from sidecar.adapters.sockets.pages import CONNECTIONS_MAX, HEAD_BYTES_MAX, Page, PageServer

WITHIN_S = 30.0


def said(query: str, accept: str) -> Page:
    return HTTPStatus.OK, "text/plain", f"{query} {accept}".encode()


def broken(query: str, accept: str) -> Page:
    raise ValueError(query + accept)


@pytest.fixture
def port() -> Iterator[int]:
    server = PageServer({"/said": said, "/broken": broken}, request_s_max=WITHIN_S)
    yield server.start("127.0.0.1", 0)
    server.close()


def ask(port: int, path: str, method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WITHIN_S)
    connection.request(method, path, headers={"Accept": "a/b"})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


@pytest.mark.parametrize(
    ("path", "method", "expected"),
    [
        ("/said?x=1", "GET", (200, b"x=1 a/b")),
        ("/said", "HEAD", (200, b"")),
        ("/said", "POST", (405, b"Method Not Allowed\n")),
        ("/other", "GET", (404, b"there is /said, /broken\n")),
        ("/broken", "GET", (500, b"Internal Server Error\n")),
    ],
)
def test_a_page_is_found_by_its_path_and_read_only(
    port: int, path: str, method: str, expected: tuple[int, bytes]
) -> None:
    assert ask(port, path, method) == expected


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (b"GET /said HTTP/1.1\r\nX: " + b"x" * HEAD_BYTES_MAX * 2, b"431"),
        (b"junk\r\n\r\n", b"400"),
        (b"\x00\xff \x80 SIP/2.0\r\n\r\n", b"400"),
    ],
)
def test_what_is_no_request_is_told_so_and_hung_up_on(port: int, words: bytes, status: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=WITHIN_S) as client:
        client.sendall(words)
        heard = b""
        while data := client.recv(4096):
            heard += data
        assert heard.split(b" ")[1] == status


def test_who_says_nothing_is_hung_up_on() -> None:
    server = PageServer({"/said": said}, request_s_max=0.05)
    with socket.create_connection(("127.0.0.1", server.start("127.0.0.1", 0)), timeout=WITHIN_S) as client:
        client.sendall(b"GET /said HTTP/1.1\r\n")
        assert client.recv(1) == b""
    server.close()


def test_a_thousand_idle_connections_keep_nobody_out(port: int) -> None:
    with ExitStack() as stack:
        idle = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=WITHIN_S))
            for _ in range(1_000)
        ]
        assert ask(port, "/said?still") == (200, b"still a/b")
        poll = select.poll()
        for one in idle:
            poll.register(one, select.POLLIN)
        ended: set[int] = set()
        while len(ended) < 1_000 - CONNECTIONS_MAX:
            found = poll.poll(WITHIN_S * 1_000)
            assert found
            for number, _ in found:
                poll.unregister(number)
                ended.add(number)
        assert ask(port, "/said?and+still") == (200, b"and+still a/b")


OUT_OF_DESCRIPTORS = """
import asyncio, os, resource, sys, time
from http import HTTPStatus
from pathlib import Path
import msgspec
from sidecar.adapters.sockets import accepting
from sidecar.adapters.sockets.control import ControlServer
from sidecar.adapters.logs import configure
from sidecar.adapters.sockets.pages import PageServer
from sidecar.wire.control import Method, Nothing

async def answer(_, __):
    return "here"

seen = []
class Counting(accepting.Acceptor):
    def __init__(self, *words):
        super().__init__(*words)
        seen.append(self)

async def main():
    from sidecar.adapters.sockets import control, pages
    control.Acceptor = pages.Acceptor = Counting
    began = time.monotonic()
    def failures(_query, _accept):
        asked = [time.monotonic() - began, *(one.failures for one in seen)]
        return HTTPStatus.OK, "application/json", msgspec.json.encode(asked)
    server = PageServer({"/failures": failures}, request_s_max=60)
    await asyncio.to_thread(int)  # the first one imports what threads need, which takes a descriptor
    port = server.start("127.0.0.1", 0)
    async with ControlServer(Path(sys.argv[1]), {"ask": Method(Nothing, answer)}).serving():
        limit = len(os.listdir("/proc/self/fd")) + 8
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        print(port, flush=True)
        await asyncio.to_thread(sys.stdin.read)
    server.close()

configure()
asyncio.run(main())
"""


def test_both_listeners_outlive_a_process_without_descriptors_and_do_not_spin(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    child = subprocess.Popen(
        [sys.executable, "-c", OUT_OF_DESCRIPTORS, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    try:
        port = int(child.stdout.readline())
        with ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=WITHIN_S))
            for _ in range(5):
                one = stack.enter_context(socket.socket(socket.AF_UNIX))
                one.connect(os.fspath(path))
            failing: dict[str, bool] = {}
            while failing != {"metrics": True, "control": True}:
                line = json.loads(child.stderr.readline())
                if line["event"] in ("accept_failing", "accepts_again"):  # in turns, each once
                    fails = line["event"] == "accept_failing"
                    assert failing.get(line["listener"], False) != fails
                    failing[line["listener"]] = fails
        with ControlClient(path) as client:
            assert client.call("ask") == "here"
        status, body = ask(port, "/failures")
        up_s, *failures = json.loads(body)
        assert status == 200
        assert all(1 <= count <= up_s / 0.5 + 2 for count in failures), (up_s, failures)
    finally:
        child.stdin.close()
        child.wait(WITHIN_S)
        child.stdout.close()
        child.stderr.close()
    assert child.returncode == 0
