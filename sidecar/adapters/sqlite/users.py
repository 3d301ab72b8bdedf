"""People who may use the page: the Users port, its part of a transaction, and what another process reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import apsw

from sidecar.adapters.sqlite.file import FILE_NAME, connect_reader
from sidecar.adapters.sqlite.reader import Reader
from sidecar.adapters.sqlite.rows import Table
from sidecar.adapters.store.store import StoreError
from sidecar.core.audit import Change
from sidecar.core.users import Role, User

if TYPE_CHECKING:
    from sidecar.adapters.sqlite.batch import Batch
    from sidecar.adapters.store.reading import Write

_COLUMNS = ("name", "role", "password_hash", "enabled")
_ROWS = Table("users", _COLUMNS)
_ALL = f"SELECT {', '.join(_COLUMNS)} FROM users"  # noqa: S608

Row = tuple[str, str, str | None, int]


class SqliteUsers:
    def __init__(self, reader: Reader, write: Write) -> None:
        self._reader = reader
        self._write = write

    async def all(self) -> Sequence[User]:
        return await self._reader.ask(users)

    async def keep(self, user: User, change: Change) -> None:
        def keep(batch: Batch) -> None:
            batch.users.keep(user)
            batch.audit(change)

        await self._write(keep)


class Users:
    """Within one transaction."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def keep(self, user: User) -> None:
        self._connection.execute("DELETE FROM users WHERE name = ?", (user.name,))
        row = (user.name, user.role.value, user.password_hash, int(user.enabled))
        _ROWS.write(self._connection, [row])


def users(connection: apsw.Connection) -> tuple[User, ...]:
    """By name."""
    return tuple(_user(*row) for row in connection.execute(f"{_ALL} ORDER BY name"))


def user(connection: apsw.Connection, name: str) -> User | None:
    row = connection.execute(f"{_ALL} WHERE name = ?", (name,)).fetchone()
    return None if row is None else _user(*row)


def _user(name: str, role: str, password_hash: str | None, enabled: int) -> User:
    return User(name=name, role=Role(role), password_hash=password_hash, enabled=bool(enabled))


def known_user(data_dir: Path, name: str) -> User | None:
    """As the journal of a data directory has it now, whether or not a daemon has it open. StoreError where
    that cannot be read."""
    file = data_dir / FILE_NAME
    try:
        connection = connect_reader(file)
    except apsw.Error as error:
        raise StoreError(f"{file}: cannot be read ({error})") from error
    try:
        # Whoever closes a file last would write the WAL into it: that is the daemon's to do.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        return user(connection, name)
    except apsw.Error as error:
        raise StoreError(f"{file}: cannot be read ({error})") from error
    finally:
        connection.close(force=True)
