"""Pages over HTTP, for Prometheus and for whoever watches that the node lives: GET, one answer, and the
connection is closed.

It has a thread and an event loop of its own, so it answers while the calls' loop stands still, and whatever
connects there costs the calls nothing. Bounded: connections (the oldest makes room for a new one, so idle
ones keep nobody out), bytes and time of a request, time of an answer.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus

import structlog

from sidecar.adapters.sockets.accepting import Acceptor, streams
from sidecar.adapters.sockets.listening import ListenError, at_address

CONNECTIONS_MAX = 32
HEAD_BYTES_MAX = 8_192
REQUEST_S_MAX = 5.0
ANSWER_S_MAX = 10.0

log = structlog.get_logger("sidecar.pages")


Page = tuple[HTTPStatus, str, bytes]  # status, content type, body

# By path; given the query and the Accept header, in the thread of the pages.
Pages = Mapping[str, Callable[[str, str], Page]]


class PageServer:
    """Between `start` and `close`."""

    def __init__(
        self, pages: Pages, *, connections_max: int = CONNECTIONS_MAX, request_s_max: float = REQUEST_S_MAX
    ) -> None:
        self._pages = pages
        self._connections_max = connections_max
        self._request_s_max = request_s_max
        self._connections: dict[asyncio.Task[None], socket.socket] = {}  # the oldest first
        self._loop = asyncio.new_event_loop()
        self._ending: asyncio.Event
        self._thread: threading.Thread | None = None

    def start(self, host: str, port: int) -> int:
        """The port; 0 takes a free one. Raises ListenError."""
        try:
            listener = at_address(host, port, "metrics.listen")
        except ListenError:
            self._loop.close()
            raise
        listener.setblocking(False)
        self._ending = asyncio.Event()
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=(self._serve(listener),), name="pages", daemon=True
        )
        self._thread.start()
        return int(listener.getsockname()[1])

    def close(self) -> None:
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join()
            self._thread = None
        self._loop.close()

    async def _serve(self, listener: socket.socket) -> None:
        with listener:
            async with asyncio.TaskGroup() as tasks:

                def take(connection: socket.socket) -> None:
                    if len(self._connections) >= self._connections_max:
                        oldest = next(iter(self._connections))
                        del self._connections[oldest]
                        oldest.cancel()
                    task = tasks.create_task(self._connection(connection), name="page")
                    self._connections[task] = connection
                    task.add_done_callback(self._ended)

                acceptor = Acceptor(listener, take, "metrics")
                await self._ending.wait()
                acceptor.close()
                for task in list(self._connections):
                    task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._connections.pop(task, None)

    async def _connection(self, connection: socket.socket) -> None:
        with connection:  # also where it is cancelled before it has a stream
            reader, writer = await streams(connection, HEAD_BYTES_MAX)
            try:
                page, method = await self._page(reader)
                async with asyncio.timeout(ANSWER_S_MAX):
                    writer.write(_answer(page, method))
                    writer.write_eof()
                    await writer.drain()
                    await reader.read()  # until the other side has closed: else what it still says resets it
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                pass  # it went away, or says nothing, or does not read
            finally:
                writer.transport.abort()

    async def _page(self, reader: asyncio.StreamReader) -> tuple[Page, str]:
        try:
            async with asyncio.timeout(self._request_s_max):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), ""
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _plain(HTTPStatus.BAD_REQUEST), ""
        method, target, _ = words
        path, _, query = target.partition("?")
        make = self._pages.get(path)
        if make is None:
            return _plain(HTTPStatus.NOT_FOUND, f"there is {', '.join(self._pages)}"), method
        if method not in ("GET", "HEAD"):
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED), method
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        try:
            return make(query, headers.get("accept", "")), method
        except Exception:
            log.exception("page_failed", path=path)
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR), method


def _plain(status: HTTPStatus, text: str = "") -> Page:
    return status, "text/plain; charset=utf-8", f"{text or status.phrase}\n".encode()


def _answer(page: Page, method: str) -> bytes:
    status, content_type, body = page
    fields = {
        "Content-Type": content_type,
        "Content-Length": len(body),
        "Cache-Control": "no-store",
        "Connection": "close",
    }
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        fields["Allow"] = "GET, HEAD"
    lines = (f"{name}: {value}\r\n" for name, value in fields.items())
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\n{''.join(lines)}\r\n"
    return head.encode() + (b"" if method == "HEAD" else body)
