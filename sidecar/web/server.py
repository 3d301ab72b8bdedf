"""The page's own process: uvicorn on a socket that the daemon made, or one of its own."""

from __future__ import annotations

import asyncio
import math
import os
import socket
import ssl
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import h11
import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from sidecar.adapters.sockets.page_process import place
from sidecar.adapters.store.books import Books
from sidecar.config import Settings
from sidecar.web.app import page_of
from sidecar.web.command import Commands
from sidecar.web.node import Node

CONNECTIONS_MAX = 300
OF_ONE_ADDRESS_MAX = 60  # a browser has six; a reverse proxy is not one address's worth
HEAD_BYTES_MAX = 16_384
HEAD_S_MAX = 5.0  # from the first byte that may come to the end of a request's head
WRITE_S_MAX = 20.0  # a reader that takes nothing for so long is gone
KEPT_ALIVE_S = 15
BACKLOG = 128
END_S_MAX = 1
TELL_S = 10.0
NICER = 5  # than the daemon: where the processor is wanted by both, calls have three times as much of it

log = structlog.get_logger("sidecar.web")


class WebError(Exception):
    """The page cannot be served; the text says what to do."""


def run(settings: Settings, books: Books, listener: socket.socket, commands: Commands) -> None:
    """Until SIGTERM or Ctrl-C. Raises WebError."""
    os.nice(NICER)
    by_address: dict[str, int] = {}
    node = Node(settings, books)

    class Bounded(_Bounded):
        of_address = by_address
        refusals = _Refusals()
        of_address_max = (
            CONNECTIONS_MAX
            if settings.web.proxies or isinstance(settings.web.listen, Path)
            else OF_ONE_ADDRESS_MAX
        )

    config = uvicorn.Config(
        page_of(settings.web, node, commands),
        http=Bounded,
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # the guard knows whom to believe
        server_header=False,
        timeout_keep_alive=KEPT_ALIVE_S,
        timeout_graceful_shutdown=END_S_MAX,
        h11_max_incomplete_event_size=HEAD_BYTES_MAX,
        backlog=BACKLOG,
    )
    certificate, key = settings.web.certificate_file, settings.web.key_file
    if certificate is not None and key is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise WebError(f"web.certificate_file, web.key_file: {error}") from None
        config.load()
        config.ssl = context
    log.info("page_ready", pid=os.getpid(), page=place(listener, is_tls=certificate is not None))
    with suppress(KeyboardInterrupt):
        asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


class _Refusals:
    """Connections that were one too many: the log is told of the first, then of all at most so often."""

    def __init__(self) -> None:
        self._untold = 0
        self._told_s = -math.inf

    def add(self, address: str) -> None:
        self._untold += 1
        now_s = time.monotonic()
        if now_s - self._told_s >= TELL_S:
            log.warning("page_connections_refused", count=self._untold, address=address)
            self._untold, self._told_s = 0, now_s


class _Bounded(H11Protocol):
    """A connection that neither sends its request nor reads its answer is closed; so is one too many."""

    of_address: dict[str, int]
    of_address_max: int
    refusals: _Refusals

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._counted = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        there = self.of_address.get(address, 0)
        if len(self.connections) > CONNECTIONS_MAX or there >= self.of_address_max:
            transport.abort()
            self.refusals.add(address)
            return
        self._counted = address
        self.of_address[address] = there + 1
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        if self._counted:
            self.of_address[self._counted] -= 1
            if not self.of_address[self._counted]:
                del self.of_address[self._counted]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._await_head()
        elif self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_S_MAX, self.transport.abort)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._head_timer is not None:  # of a request that came with this one, and is answered too
            self._head_timer.cancel()
            self._head_timer = None

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(WRITE_S_MAX, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
