"""People who may use the page, as each engine keeps them."""

from __future__ import annotations

import pytest

from sidecar.adapters.store.store import StoreError
from sidecar.core.audit import Change, Operator
from sidecar.core.users import Role, User
from tests.adapters.stores import Stores

CHANGE = Change(operator=Operator("ann", 0), action="user.add", subject="vera")
VERA = User(name="vera", role=Role.VIEWER, password_hash="$argon2id$not-a-real-one")


def known(stores: Stores, name: str) -> User | None:
    with stores.books() as books:
        return books.user(name)


async def test_a_user_is_seen_by_another_process_at_once_and_outlasts_a_restart(stores: Stores) -> None:
    with pytest.raises(StoreError):
        known(stores, "vera")
    async with stores.opened() as watched:
        await watched.store.users.keep(VERA, CHANGE)
        assert known(stores, "vera") == VERA
        assert known(stores, "' OR 1=1 --") is None
        disabled = User(name="vera", role=Role.ADMIN, enabled=False)
        await watched.store.users.keep(disabled, CHANGE)
        assert known(stores, "vera") == disabled
    assert known(stores, "vera") == disabled
    async with stores.opened(boot_id="next") as watched:
        adam = User(name="Adam", role=Role.VIEWER)
        await watched.store.users.keep(adam, CHANGE)
        assert await watched.store.users.all() == (adam, disabled)
        assert [one.change for one in await watched.store.audit.list()] == [CHANGE] * 3
