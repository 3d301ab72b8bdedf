"""What commands have made of peers, gateways, routes and account rules: the StoredEntries port, and its part
of a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import apsw
import msgspec
from msgspec.structs import replace

from sidecar.adapters.sqlite.file import FILE_NAME, connect_reader
from sidecar.adapters.sqlite.reader import Reader
from sidecar.adapters.sqlite.rows import Table
from sidecar.adapters.store.bodies import storable
from sidecar.adapters.store.store import StoreError
from sidecar.core.account_terms import AccountTerms
from sidecar.core.audit import RELOAD, Change
from sidecar.core.stored import StoredEntry
from sidecar.ports import AccountError

if TYPE_CHECKING:
    from sidecar.adapters.sqlite.batch import Batch
    from sidecar.adapters.store.reading import Write

_COLUMNS = ("kind", "name", "place", "first", "fields", "operator", "uid", "at_wall_ns", "text")
_ROWS = Table("stored_entries", _COLUMNS)
_ALL = f"SELECT {', '.join(_COLUMNS)} FROM stored_entries ORDER BY place, kind, name"  # noqa: S608
_IS_THERE = "SELECT count(*) FROM sqlite_schema WHERE name = 'stored_entries'"
# Neither of the two ever shrinks.
_REVISION = "SELECT (SELECT count(*) FROM boots) + (SELECT count(*) FROM audit WHERE action = ?)"
_ENCODER = msgspec.json.Encoder(order="sorted")

Row = tuple[Any, ...]


class SqliteStoredEntries:
    def __init__(self, reader: Reader, write: Write) -> None:
        self._reader = reader
        self._write = write

    async def all(self) -> Sequence[StoredEntry]:
        return await self._reader.ask(_entries)

    async def keep(
        self,
        changes: Sequence[Change],
        terms: Sequence[tuple[AccountTerms, Change]] = (),
        entries: Sequence[StoredEntry] | None = None,
    ) -> None:
        def keep(batch: Batch) -> None:
            if refusal := batch.take_over(terms):
                raise AccountError(refusal)  # which takes all of it back
            if entries is not None:
                batch.stored.keep(entries)
            for change in changes:
                batch.audit(change)

        await self._write(keep)

    async def settings_revision(self) -> int:
        return await self._reader.ask(lambda connection: int(connection.execute(_REVISION, (RELOAD,)).get))


class Stored:
    """Within one transaction."""

    def __init__(self, connection: apsw.Connection, wall_ns: int) -> None:
        self._connection = connection
        self._wall_ns = wall_ns

    def keep(self, entries: Sequence[StoredEntry]) -> None:
        """These are all that there are from now on; what is as it was is not written again."""
        dated = (replace(one, at_wall_ns=one.at_wall_ns or self._wall_ns) for one in entries)
        wanted = {_row(one, place) for place, one in enumerate(dated)}
        there = set(self._connection.execute(_ALL))
        for row in there - wanted:
            self._connection.execute("DELETE FROM stored_entries WHERE kind = ? AND name = ?", row[:2])
        _ROWS.write(self._connection, sorted(wanted - there))


def stored_entries(data_dir: Path) -> Sequence[StoredEntry]:
    """Those in the journal of a data directory, whether or not a daemon has it open; none where there is no
    journal yet, or one of before there were any. StoreError where they cannot be read."""
    file = data_dir / FILE_NAME
    if not file.exists():
        return ()
    connection = None
    try:
        connection = _reader(file)
        return _entries(connection) if connection.execute(_IS_THERE).get else ()
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


def _entries(connection: apsw.Connection) -> tuple[StoredEntry, ...]:
    return tuple(_entry(*row) for row in connection.execute(_ALL))


def _row(one: StoredEntry, place: int) -> Row:
    fields = _ENCODER.encode(one.fields).decode()
    operator, text = storable(one.operator), storable(one.text)
    return (one.table, one.name, place, int(one.first), fields, operator, one.uid, one.at_wall_ns, text)


def _entry(
    kind: str,
    name: str,
    place: int,
    first: int,
    fields: str,
    operator: str,
    uid: int | None,
    at_wall_ns: int,
    text: str,
) -> StoredEntry:
    return StoredEntry(
        table=kind,
        name=name,
        fields=msgspec.json.decode(fields, type=dict[str, Any]),
        operator=operator,
        uid=uid,
        at_wall_ns=at_wall_ns,
        text=text,
        first=bool(first),
    )
