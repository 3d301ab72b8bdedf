"""What commands have made of peers, gateways, routes and account rules (see store/stored), in the file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

import apsw
import msgspec

from sidecar.adapters.sqlite.file import FILE_NAME, connect_reader
from sidecar.adapters.sqlite.rows import Table
from sidecar.adapters.store.store import StoreError
from sidecar.adapters.store.stored import COLUMNS, BaseStored, Row, entries_of
from sidecar.core.audit import RELOAD
from sidecar.core.stored import StoredEntry

_ROWS = Table("stored_entries", COLUMNS)
_ALL = f"SELECT {', '.join(COLUMNS)} FROM stored_entries ORDER BY place, kind, name"  # noqa: S608
_IS_THERE = "SELECT count(*) FROM sqlite_schema WHERE name = 'stored_entries'"
# Neither of the two ever shrinks.
_REVISION = "SELECT (SELECT count(*) FROM boots) + (SELECT count(*) FROM audit WHERE action = ?)"


def stored_rows(connection: apsw.Connection) -> Iterable[Row]:
    return connection.execute(_ALL)


def settings_revision(connection: apsw.Connection) -> int:
    return int(connection.execute(_REVISION, (RELOAD,)).get)


class Stored(BaseStored):
    def __init__(self, connection: apsw.Connection, wall_ns: int) -> None:
        super().__init__(wall_ns)
        self._connection = connection

    def _there(self) -> Iterable[Row]:
        return stored_rows(self._connection)

    def _remove(self, kind: str, name: str) -> None:
        self._connection.execute("DELETE FROM stored_entries WHERE kind = ? AND name = ?", (kind, name))

    def _add(self, rows: Sequence[Row]) -> None:
        _ROWS.write(self._connection, rows)


def stored_entries(data_dir: Path) -> Sequence[StoredEntry]:
    """Those in the journal of a data directory, whether or not a daemon has it open; none where there is no
    journal yet, or one of before there were any. StoreError where they cannot be read."""
    file = data_dir / FILE_NAME
    if not file.exists():
        return ()
    connection = None
    try:
        connection = _reader(file)
        return entries_of(stored_rows(connection)) if connection.execute(_IS_THERE).get else ()
    except (apsw.Error, msgspec.MsgspecError) as error:
        raise StoreError(f"{file}: cannot be read ({error})") from error
    finally:
        if connection is not None:
            connection.close(force=True)


def _reader(file: Path) -> apsw.Connection:
    if not file.with_name(f"{file.name}-wal").exists():
        # Nobody has it open, and a reader would leave a WAL beside it, before the start has looked at both.
        alone = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        return apsw.Connection(f"file:{quote(str(file.absolute()))}?immutable=1", flags=alone)
    connection = connect_reader(file)
    # Whoever closes a file last would write the WAL into it: that is the daemon's to do.
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    return connection
