"""Takes connections from a listening socket, on the running event loop.

asyncio's own server, where the process has no file descriptor left, asks and complains a hundred times a
second. Here it is told once, and asked again after a pause; who waits meanwhile stays in the kernel's queue.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

import structlog

PAUSE_S = 0.5
_OUT_OF = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = structlog.get_logger("sidecar.accepting")


class Acceptor:
    """Each connection of `listener`, which does not block, goes to `take`."""

    def __init__(self, listener: socket.socket, take: Callable[[socket.socket], None], name: str) -> None:
        self._listener = listener
        self._take = take
        self._name = name  # for the log
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._is_failing = False
        self.failures = 0  # times that there was nothing to take a connection with
        self._loop.add_reader(listener, self._accept)

    def close(self) -> None:
        """The listener stays with whoever made it."""
        self._loop.remove_reader(self._listener)
        if self._pause is not None:
            self._pause.cancel()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno not in _OUT_OF:
                raise
            self.failures += 1
            if not self._is_failing:
                self._is_failing = True
                log.error("accept_failing", listener=self._name, error=str(error))
            self._loop.remove_reader(self._listener)
            self._pause = self._loop.call_later(PAUSE_S, self._again)
            return
        if self._is_failing:
            self._is_failing = False
            log.warning("accepts_again", listener=self._name)
        connection.setblocking(False)
        self._take(connection)

    def _again(self) -> None:
        self._loop.add_reader(self._listener, self._accept)


async def streams(connection: socket.socket, limit: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """As `asyncio.open_connection` gives them."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
