"""People who may use the page, as the journal keeps them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.sqlite import SqliteStore, StoreError, known_user
from sidecar.core.audit import Change, Operator
from sidecar.core.users import Role, User

CHANGE = Change(operator=Operator("ann", 0), action="user.add", subject="vera")
VERA = User(name="vera", role=Role.VIEWER, password_hash="$argon2id$not-a-real-one")


async def test_a_user_is_seen_by_another_process_at_once_and_outlasts_a_restart(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        known_user(tmp_path, "vera")
    store = SqliteStore.open(tmp_path, node="box", boot_id="boot", clock=SystemClock())
    await store.users.keep(VERA, CHANGE)
    assert known_user(tmp_path, "vera") == VERA
    assert known_user(tmp_path, "' OR 1=1 --") is None
    disabled = User(name="vera", role=Role.ADMIN, enabled=False)
    await store.users.keep(disabled, CHANGE)
    assert known_user(tmp_path, "vera") == disabled
    await store.close()
    assert known_user(tmp_path, "vera") == disabled
    store = SqliteStore.open(tmp_path, node="box", boot_id="next", clock=SystemClock())
    assert await store.users.all() == (disabled,)
    assert [one.change for one in await store.audit.list()] == [CHANGE, CHANGE]
    await store.close()
