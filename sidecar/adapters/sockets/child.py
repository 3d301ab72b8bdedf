"""How a child process is ended."""

from __future__ import annotations

import asyncio
from contextlib import suppress


async def end(child: asyncio.subprocess.Process, within_s: float = 10.0) -> None:
    """SIGTERM, and SIGKILL to who does not hear it."""
    if child.returncode is None:
        with suppress(ProcessLookupError):
            child.terminate()
        try:
            async with asyncio.timeout(within_s):
                await child.wait()
        except TimeoutError:
            child.kill()
            await child.wait()
