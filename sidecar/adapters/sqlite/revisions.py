"""The records that hold, for whoever computes them anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw

from sidecar.adapters.sqlite.file import FILE_NAME, connect_reader
from sidecar.adapters.sqlite.migrations import refuse_other
from sidecar.adapters.store.bodies import sound
from sidecar.adapters.store.store import StoreError
from sidecar.core.cdr import Cdr
from sidecar.wire.cdr_codec import decode

PAGE_ROWS = 500
TABLES = (("cdrs", "cdr_bodies", "seq"), ("suppressed", "suppressed", "entry"))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


def newest_records(
    data_dir: Path,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    account: str | None = None,
    gateway: str | None = None,
) -> Iterator[Cdr]:
    """The records that hold, published and kept back, of calls that ended in the half-open period, as the
    file says when the first is asked for: what is written meanwhile is left out.

    Read without the daemon, which may run: a page at a time, so that no long reader keeps the WAL from being
    taken up. StoreError where there is no journal.
    """
    file = data_dir / FILE_NAME
    if not file.exists():
        raise StoreError(f"there is no journal {file}")
    connection = connect_reader(file)
    try:
        refuse_other(connection, file)
        heads = {
            heads: connection.execute(f"SELECT coalesce(max({key}), 0) FROM {heads}").get  # noqa: S608
            for heads, _, key in TABLES
        }
        wanted = [
            ("ended_us >= ?", None if since is None else (since - _EPOCH) // _US),
            ("ended_us < ?", None if until is None else (until - _EPOCH) // _US),
            ("account = ?", account),
            ("gateway = ?", gateway),
        ]
        conditions = [(sql, value) for sql, value in wanted if value is not None]
        for names in TABLES:
            yield from _newest(connection, names, conditions, heads)
    except apsw.Error as error:
        raise StoreError(f"{file}: cannot be read ({error})") from error
    finally:
        connection.close(force=True)


def account_currencies(data_dir: Path) -> dict[str, str]:
    """By account, what it is kept in: all that a start knew, and those that commands have made since.
    StoreError where there is no journal."""
    file = data_dir / FILE_NAME
    if not file.exists():
        raise StoreError(f"there is no journal {file}")
    connection = connect_reader(file)
    try:
        refuse_other(connection, file)
        return dict(connection.execute("SELECT name, currency FROM accounts"))
    except apsw.Error as error:
        raise StoreError(f"{file}: cannot be read ({error})") from error
    finally:
        connection.close(force=True)


def _newest(
    connection: apsw.Connection,
    names: tuple[str, str, str],
    conditions: Sequence[tuple[str, str | int]],
    ends: dict[str, int],
) -> Iterator[Cdr]:
    """The records of one of the two tables that no later revision supersedes, the earliest end first."""
    heads, bodies, key = names
    later = [
        f"NOT EXISTS (SELECT 1 FROM {table} AS later WHERE later.call_id = one.call_id"  # noqa: S608
        f" AND later.revision > one.revision AND later.{number} <= {ends[table]})"
        for table, _, number in TABLES
    ]
    where = " AND ".join(
        [*(sql for sql, _ in conditions), f"{key} <= {ends[heads]}", f"(ended_us, {key}) > (?, ?)", *later]
    )
    # The bodies are read of the rows of this page alone, as a search does it.
    sql = (
        f"SELECT found.ended_us, {key}, body, crc FROM"  # noqa: S608 - names and numbers of ours alone
        f" (SELECT ended_us, {key} FROM {heads} AS one WHERE {where}"
        f" ORDER BY ended_us, {key} LIMIT {PAGE_ROWS}) AS found"
        f" CROSS JOIN {bodies} USING ({key}) ORDER BY found.ended_us, {key}"
    )
    values = [value for _, value in conditions]
    after = (-(2**63), 0)
    while True:
        rows = list(connection.execute(sql, (*values, *after)))
        for _, number, body, crc in rows:
            yield decode(sound(body, crc, f"record {number}"))
        if len(rows) < PAGE_ROWS:
            return
        after = rows[-1][:2]
