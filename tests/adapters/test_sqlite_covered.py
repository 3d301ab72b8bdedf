"""Every bit of the journal is under a sum: each column of each table is changed behind the daemon's back, and
that is noticed. A new table or column cannot be forgotten: both are taken from the file."""

from __future__ import annotations

import shutil
from pathlib import Path

import apsw

from sidecar.adapters.sqlite.checking import checked_at_start
from sidecar.adapters.sqlite.file import FILE_NAME, verify
from sidecar.adapters.sqlite.snapshot import Snapshot
from sidecar.adapters.store.bodies import DamagedError
from sidecar.adapters.store.keys import KEY_FILE_NAME, read_keys
from sidecar.core.audit import Change, Operator
from sidecar.core.stored import StoredEntry
from sidecar.core.users import Role, User
from tests.adapters.store_calls import admission, admitted, terms_of, whole_call
from tests.adapters.test_sqlite_retention import HandClock, acknowledge_all, fill, opened, removed
from tests.adapters.test_store_refusals import held

NOTE = Change(operator=Operator("ann", 1000), action="deck.reload", subject="retail")
# Made of the record, which is under the chain itself: a start does not make them anew to compare.
AT_START_NOT = {"cdr_bodies.crc", "suppressed.crc", "cdrs.found_by", "suppressed.found_by"}


async def filled(data_dir: Path) -> None:
    """Something in every table."""
    clock = HandClock()
    async with opened(data_dir, clock) as watched:
        store = watched.store
        await fill(watched, clock)
        await acknowledge_all(watched)
        await removed(watched, data_dir)
        await store.accounts.create(terms_of("acme"), addresses=[("192.0.2.0/24", NOTE)])
        route = StoredEntry(table="routes", name="49", fields={"gateways": ["a"]}, operator="ann")
        await store.stored.keep([NOTE], entries=[route])
        await store.users.keep(User(name="ann", role=Role.ADMIN, password_hash="x", enabled=True), NOTE)
        for number in range(601, 605):
            watched.submit(*whole_call(number, "acme"))
        watched.submit(admission(admitted(700, "acme")))
        store.keep_refusals([held(1, 2)])
        await watched.written()
        head = (await store.outbox.outbox_state()).head_seq
        await store.outbox.acknowledge([head - 1], [(head, 0x87)])


def laid_open(data_dir: Path) -> list[tuple[str, str, str]]:
    """Without the triggers that keep rows from being changed; every table, column and type."""
    connection = apsw.Connection(str(data_dir / FILE_NAME))
    for (name,) in list(connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")):
        connection.execute(f"DROP TRIGGER {name}")
    found = list(
        connection.execute(
            "SELECT one.name, two.name, two.type"
            " FROM sqlite_schema AS one, pragma_table_info(one.name) AS two"
            " WHERE one.type = 'table' AND one.name NOT LIKE 'sqlite_%' AND one.name != 'probe'"
        )
    )
    connection.close()
    return found


def other(value: object) -> object:
    """As little as can be."""
    if isinstance(value, bytes):
        return bytes([*value[:-1], value[-1] ^ 1]) if value else b"x"
    if isinstance(value, str):
        return value[:-1] + chr(ord(value[-1]) ^ 1) if value else "x"
    assert isinstance(value, int)
    return value + 1_000_000  # that no other row has


def changed(data_dir: Path, table: str, column: str, kind: str) -> None:
    connection = apsw.Connection(str(data_dir / FILE_NAME))
    connection.execute("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON")
    [(key,)] = connection.execute("SELECT name FROM pragma_table_info(?) WHERE pk = 1", (table,))
    [(row, value)] = connection.execute(f"SELECT {key}, {column} FROM {table} LIMIT 1")
    if value is None:
        value = {"INTEGER": 0, "TEXT": "", "BLOB": b""}[kind]
    connection.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (other(value), row))
    assert connection.changes() == 1
    connection.close()


def found_at_start(data_dir: Path) -> bool:
    connection = apsw.Connection(str(data_dir / FILE_NAME))
    try:
        verify(connection)
        return bool(checked_at_start(connection, data_dir / KEY_FILE_NAME))
    except (DamagedError, apsw.Error):
        return True
    finally:
        connection.close(force=True)


async def test_a_change_of_any_column_is_found_by_the_check_and_by_the_start(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    await filled(whole)
    keys = read_keys(whole / KEY_FILE_NAME)
    with Snapshot(whole) as journal:
        assert journal.check(keys, None) == []
    assert not found_at_start(whole)
    unnoticed = []
    for table, column, kind in laid_open(whole):
        data_dir = tmp_path / "changed"
        shutil.copytree(whole, data_dir)
        changed(data_dir, table, column, kind)
        with Snapshot(data_dir) as journal:
            if not journal.check(keys, None):
                unnoticed.append(f"{table}.{column}: check")
        if f"{table}.{column}" not in AT_START_NOT and not found_at_start(data_dir):
            unnoticed.append(f"{table}.{column}: start")
        shutil.rmtree(data_dir)
    assert unnoticed == []
