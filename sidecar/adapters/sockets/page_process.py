"""The operators' page as a child of the daemon: a process of its own, whose work no call waits for. The
daemon makes its socket, so it knows the port, an address that is in use is an error of the start, and a page
that dies is there again at the same place. The child dies with the daemon, however that ends."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import structlog

from sidecar.adapters.sockets.child import end
from sidecar.adapters.sockets.listening import listening

DELAY_S_MAX = 10.0
STEADY_S = 30.0
END_S_MAX = 5.0

log = structlog.get_logger("sidecar.page")


def place(listener: socket.socket, *, is_tls: bool) -> str:
    """Where a browser finds it, or a proxy: `unix:/run/page.sock`."""
    at = listener.getsockname()
    if not isinstance(at, tuple):
        return f"unix:{os.fsdecode(at)}"
    host = f"[{at[0]}]" if ":" in at[0] else at[0]
    return f"{'https' if is_tls else 'http'}://{host}:{at[1]}/"


class PageProcess:
    """Run `run` as a task. `settings` and `config` are those of the daemon, whose environment it has too."""

    def __init__(
        self,
        listen: tuple[str, int] | Path,
        group: int | None,
        settings: Mapping[str, object],
        config: Path | None,
        *,
        is_tls: bool,
    ) -> None:
        self._listener = listening(listen, group, "web.listen")
        self._path = listen if isinstance(listen, Path) else None
        self.place = place(self._listener, is_tls=is_tls)
        words = [f"--fd={self._listener.fileno()}", *(["--config", str(config)] if config else [])]
        for name, value in settings.items():
            words += ["--set", f"{name}={value}"]
        # The kernel tells the child, whatever becomes of us (prctl(2), PR_SET_PDEATHSIG).
        setpriv = shutil.which("setpriv")
        before = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
        self._command = [*before, sys.executable, "-m", "sidecar.cli", "web", *words]

    async def run(self) -> None:
        """Start it again whenever it dies. Ends only by being cancelled."""
        delay_s = 0.5
        loop = asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            try:
                status = await self._once()
                log.error("page_died", status=status)
            except OSError as error:
                log.error("page_not_started", error=str(error))
            delay_s = 0.5 if loop.time() - began_s > STEADY_S else min(delay_s * 2, DELAY_S_MAX)
            await asyncio.sleep(delay_s)

    async def _once(self) -> int:
        child = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.DEVNULL, pass_fds=(self._listener.fileno(),)
        )
        try:
            return await child.wait()
        finally:
            await end(child, END_S_MAX)

    def close(self) -> None:
        self._listener.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
