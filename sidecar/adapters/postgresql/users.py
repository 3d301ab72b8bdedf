"""What another process reads of the people who may use the page."""

from __future__ import annotations

from sidecar.adapters.postgresql.server import looking
from sidecar.adapters.store.users import user
from sidecar.core.users import User


def known_user(conninfo: str, node: str, name: str) -> User | None:
    """As the database has it now. StoreError where that cannot be read."""
    with looking(conninfo, node) as server:
        return user(server, name)
