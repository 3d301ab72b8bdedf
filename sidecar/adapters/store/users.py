"""People who may use the page: the Users port, and its part of a transaction."""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.adapters.store.batch import BaseBatch
from sidecar.adapters.store.reading import Asks, Reader, Write
from sidecar.core.audit import Change
from sidecar.core.users import Role, User

_ALL = "SELECT name, role, password_hash, enabled FROM users"


class Batch(BaseBatch):
    """Of either engine."""

    users: Users


class StoredUsers:
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

    def __init__(self, connection: Asks) -> None:
        self._connection = connection

    def keep(self, user: User) -> None:
        self._connection.execute("DELETE FROM users WHERE name = ?", (user.name,))
        self._connection.execute(
            "INSERT INTO users (name, role, password_hash, enabled) VALUES (?, ?, ?, ?)",
            (user.name, user.role.value, user.password_hash, int(user.enabled)),
        )


def users(connection: Asks) -> tuple[User, ...]:
    """By name."""
    return tuple(_user(*row) for row in connection.execute(f"{_ALL} ORDER BY name"))


def user(connection: Asks, name: str) -> User | None:
    return next((_user(*row) for row in connection.execute(f"{_ALL} WHERE name = ?", (name,))), None)


def _user(name: str, role: str, password_hash: str | None, enabled: int) -> User:
    return User(name=name, role=Role(role), password_hash=password_hash, enabled=bool(enabled))
