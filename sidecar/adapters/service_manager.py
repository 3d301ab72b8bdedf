"""What the service manager is told (sd_notify(3), a protocol of systemd that others speak too): datagrams to
the socket that it names in NOTIFY_SOCKET, and a sign of life as often as it wants one. Where nobody has
started us that way, nothing is said."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager

import structlog

# What an end may take after it was last told of: calls that are ended, their legs, their records, the outbox.
STOP_S = 60
_ITS_OWN = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")

log = structlog.get_logger("sidecar.service_manager")


class ServiceManager:
    """Takes its variables out of `environ`: they are for this process, and not for those that it starts.
    Never waits, and never raises: what cannot be told is logged."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self.variables = {name: environ.pop(name) for name in _ITS_OWN if name in environ}
        self._place = self.variables.get("NOTIFY_SOCKET", "")
        if self._place.startswith("@"):  # unix(7): abstract, a name without a file
            self._place = "\0" + self._place[1:]
        meant = self.variables.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = self.variables.get("WATCHDOG_USEC", "") if meant else ""
        self.watchdog_s = int(usec) / 1e6 if usec.isdecimal() else 0.0  # 0: it does not ask for signs of life
        self._status = ""
        self._is_stopping = False

    def ready(self, status: str) -> None:
        self._status = status
        self._tell("READY=1", f"STATUS={status}")

    def restarting(self) -> None:
        """Another program takes over this process, and will be `ready`: for systemd that is a reload."""
        self._begin("restarting")

    def _begin(self, what: str) -> None:
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", f"STATUS={what}")

    @asynccontextmanager
    async def reloading(self) -> AsyncIterator[None]:
        """While the block runs, however it ends."""
        self._begin("reloading")
        try:
            yield
        finally:
            if not self._is_stopping:
                self.ready(self._status)

    def stopping(self, status: str) -> None:
        """To be said again while it takes: it is given STOP_S more each time."""
        self._is_stopping = True
        self._tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={STOP_S * 1_000_000}", f"STATUS={status}")

    async def watch(self, pulse: Callable[[], int]) -> None:
        """Give signs of life, three in the time that it allows. The event loop gives them, so it lives;
        `pulse` has to have changed since the last one, so what counts there does too."""
        before, stands_still = pulse(), False
        while self.watchdog_s:
            await asyncio.sleep(self.watchdog_s / 3)
            now = pulse()
            if now != before:
                self._tell("WATCHDOG=1")
            elif not stands_still and now:
                log.error("sip_thread_stands_still")
            before, stands_still = now, now == before

    def _tell(self, *said: str) -> None:
        if not self._place:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as door:
                door.sendto("\n".join(said).encode(), self._place)
        except OSError as error:
            log.error("service_manager_not_told", said=said[0], error=str(error))
