"""A store on a real file, and what it has reported: for the tests of tests/adapters/test_sqlite_*.py."""

from __future__ import annotations

import asyncio
import tarfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import apsw

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.sqlite import SqliteStore
from sidecar.adapters.sqlite.file import FILE_NAME
from sidecar.adapters.store.keys import KEY_FILE_NAME
from sidecar.adapters.store.store import Pace
from sidecar.core.commands import StoreCommand
from sidecar.core.events import CallEvent
from sidecar.ports import Seen
from tests.adapters.store_calls import BOOT_ID

WAIT_S = 20.0
JOURNALS = Path(__file__).parent / "journals"


class AnyWatched:
    """The store, and everything that it told."""

    def __init__(self, store: Any) -> None:
        self.store: Any = store
        self.events: list[CallEvent] = []
        self.failing: list[bool] = []
        self.defects: list[UUID | None] = []
        self.commits: list[int] = []  # how many works each held
        self._told = asyncio.Event()
        store.on_outcome(self._on_outcome)
        store.on_failing(self._on_failing)
        store.on_defect(self._on_defect)
        store.on_commit(self._on_commit)

    def submit(self, *steps: Sequence[StoreCommand]) -> None:
        for step in steps:
            self.store.submit(step)

    async def written(self) -> None:
        """Until all that was submitted before is on disk."""
        await self.store.outbox.acknowledge([], [])

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self._told.clear()
                await self._told.wait()

    async def kinds(self) -> list[str]:
        """The names of the events so far, in order."""
        await self.written()
        return [type(event).__name__ for event in self.events]

    async def proved(self) -> None:
        assert await self.store.ledger_check() == []

    def outcome(self, call_id: UUID) -> CallEvent:
        (event,) = (event for event in self.events if event.call_id == call_id)
        return event

    def _on_outcome(self, events: Sequence[CallEvent]) -> None:
        self.events += events
        self._told.set()

    def _on_commit(self, steps: int, _duration_ns: int) -> None:
        self.commits.append(steps)
        self._told.set()

    def _on_failing(self, failing: bool) -> None:
        self.failing.append(failing)
        self._told.set()

    def _on_defect(self, call_id: UUID | None, _error: BaseException) -> None:
        self.defects.append(call_id)
        self._told.set()


class Watched(AnyWatched):
    """One on a file."""

    store: SqliteStore


@asynccontextmanager
async def opened(
    data_dir: Path,
    *,
    boot_id: str = BOOT_ID,
    vfs: str | None = None,
    queue_steps_max: int = 1_000,
    company_ms: int = 0,
    begin_anew: bool = False,
    seen: Seen | None = None,
) -> AsyncIterator[Watched]:
    store = SqliteStore.open(
        data_dir,
        node="n1",
        boot_id=boot_id,
        clock=SystemClock(),
        vfs=vfs,
        pace=Pace(queue_steps_max, 0, company_ms),
        begin_anew=begin_anew,
        seen=seen,
    )
    try:
        yield Watched(store)
    finally:
        await store.close()


def unpacked(name: str, data_dir: Path) -> Path:
    """One of the journals that an older version wrote, in a data directory, in the place of what is there."""
    data_dir.mkdir(exist_ok=True)
    for old in (FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm", KEY_FILE_NAME):
        (data_dir / old).unlink(missing_ok=True)
    with tarfile.open(JOURNALS / f"{name}.tar.xz") as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            (data_dir / member.name).write_bytes(content.read())
    return data_dir


def asked(data_dir: Path, sql: str, *values: str | int | bytes) -> list[tuple[object, ...]]:
    """Rows of the file, read by a connection of our own."""
    connection = apsw.Connection(str(data_dir / FILE_NAME), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        return list(connection.execute(sql, values))
    finally:
        connection.close()
