"""Looking whether the records of this node are as they were written, slowly while calls run.

A thousand of them take some milliseconds, once a second, on a connection of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from sidecar.adapters.postgresql.boots import OF_NODE
from sidecar.adapters.postgresql.records import CHECKED, looked_at, wrong_outbox
from sidecar.adapters.postgresql.server import Reader, Server
from sidecar.ports import UnavailableError

ROWS_PER_LOOK_MAX = 1_000
_PUBLISHED = (
    f"SELECT epoch, seq, {CHECKED} FROM cdrs WHERE {OF_NODE.format('?1')} AND (epoch, seq) > (?2, ?3)"  # noqa: S608
    " ORDER BY epoch, seq LIMIT ?4"
)
_KEPT_BACK = (
    f"SELECT entry, {CHECKED} FROM suppressed WHERE entry > ?2"  # noqa: S608
    f" AND boot IN (SELECT boot FROM boots WHERE {OF_NODE.format('?1')}) ORDER BY entry LIMIT ?3"
)


class Rounds:
    """From the first record to the last, published and kept back, then the numbers, then again."""

    def __init__(self, reader: Reader, node: str) -> None:
        self._reader = reader
        self._node = node
        self._published = (0, 0)
        self._kept_back: int | None = None  # None: the published ones are looked at

    async def go_on(self) -> Sequence[str]:
        try:
            return await self._reader.ask(self._look)
        except UnavailableError:
            return []  # it is away, which the writer says
        except psycopg.Error as error:
            return [f"cannot be read ({' '.join(str(error).split())})"]

    def close(self) -> None:
        self._reader.close()

    def _look(self, server: Server) -> list[str]:
        if self._kept_back is None:
            rows = server.run(_PUBLISHED, (self._node, *self._published, ROWS_PER_LOOK_MAX))
            found = [said for _, _, *row in rows for said in looked_at(row)[1]]
            if rows:
                self._published = rows[-1][:2]
            if len(rows) < ROWS_PER_LOOK_MAX:
                self._kept_back = 0
            return found
        rows = server.run(_KEPT_BACK, (self._node, self._kept_back, ROWS_PER_LOOK_MAX))
        found = [said for _, *row in rows for said in looked_at(row)[1]]
        if rows:
            self._kept_back = rows[-1][0]
        if len(rows) < ROWS_PER_LOOK_MAX:
            self._published, self._kept_back = (0, 0), None
            with server.moment():
                found += wrong_outbox(server, self._node)
        return found
