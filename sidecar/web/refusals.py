"""Who was refused: each in the log, and in the audit table as many a minute as do not fill it."""

from __future__ import annotations

import time

import structlog
from anyio.to_thread import run_sync

from sidecar.web.node import DaemonUnreachableError, Node
from sidecar.wire.control import CommandError
from sidecar.wire.control_users import Deed

NOTED_PER_MIN = 60
NAME_LENGTH_MAX = 64

log = structlog.get_logger("sidecar.web")


class Refusals:
    """Of one kind; `event` is what the log calls it."""

    def __init__(self, node: Node, deed: Deed, event: str) -> None:
        self._event = event
        self._node = node
        self._deed = deed
        self._minute = self._noted = 0

    async def note(self, name: str, address: str, why: str) -> None:
        log.warning(self._event, name=name, address=address, why=why)
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            self._minute, self._noted = minute, 0
        self._noted += 1
        if self._noted > NOTED_PER_MIN:
            return
        shown = "".join(c for c in name if c.isprintable())[:NAME_LENGTH_MAX] or "?"
        try:
            await run_sync(self._node.note, self._deed, shown, address or "unix", why)
        except (CommandError, DaemonUnreachableError) as error:
            log.warning("page_not_noted", deed=self._deed.value, error=str(error))
