"""What commands have made of peers, gateways, routes and account rules (see store/stored): of each node its
own, as each has settings of its own."""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.adapters.postgresql.migrations import refuse_a_start
from sidecar.adapters.postgresql.server import Rows, Server, Table, looking
from sidecar.adapters.store.stored import COLUMNS, BaseStored, Row, entries_of
from sidecar.core.audit import RELOAD
from sidecar.core.stored import StoredEntry

_ROWS = Table(
    "stored_entries",
    {
        "node": "text",
        **dict.fromkeys(COLUMNS, "text"),
        "place": "int",
        "first": "int",
        "uid": "bigint",
        "at_wall_ns": "bigint",
    },
)
_ALL = f"SELECT {', '.join(COLUMNS)} FROM stored_entries WHERE node = ? ORDER BY place, kind, name"  # noqa: S608
_OF_NODE = "JOIN epochs USING (epoch) WHERE node = ?1"
# Neither of the two ever shrinks.
_REVISION = (
    f"SELECT (SELECT count(*) FROM boots {_OF_NODE})"  # noqa: S608 - texts of ours alone
    f" + (SELECT count(*) FROM audit JOIN boots USING (boot) {_OF_NODE} AND action = ?2)"
)


def stored_rows(server: Server, node: str) -> Rows:
    return server.run(_ALL, (node,))


def settings_revision(server: Server, node: str) -> int:
    return int(server.run(_REVISION, (node, RELOAD))[0][0])


class Stored(BaseStored):
    def __init__(self, server: Server, node: str, wall_ns: int) -> None:
        super().__init__(wall_ns)
        self._server = server
        self._node = node

    def _there(self) -> Rows:
        return stored_rows(self._server, self._node)

    def _remove(self, kind: str, name: str) -> None:
        self._server.run(
            "DELETE FROM stored_entries WHERE node = ? AND kind = ? AND name = ?", (self._node, kind, name)
        )

    def _add(self, rows: Sequence[Row]) -> None:
        _ROWS.send(self._server, [(self._node, *row) for row in rows])


def stored_entries(conninfo: str, node: str) -> Sequence[StoredEntry]:
    """Those of a node, whether or not it runs; none where the database has no tables of ours yet. StoreError
    where they cannot be read, or a start could not make the tables its own."""
    with looking(conninfo, node) as server:
        refuse_a_start(server)
        ((is_there,),) = server.run("SELECT to_regclass('stored_entries') IS NOT NULL")
        return entries_of(stored_rows(server, node)) if is_there else ()
