"""Tranches on the real server: taken and given back beside calls, and what becomes of them when the database
is away, or the node dies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import Any

import pytest

from sidecar.adapters.postgresql import writer
from sidecar.adapters.postgresql.writer import Alone
from sidecar.core.terms import Money
from tests.adapters.sqlite_stores import AnyWatched
from tests.adapters.store_calls import admitted, answered, ended, ending, first_slice
from tests.adapters.stores import PostgresqlStores
from tests.adapters.test_postgresql_store import Way
from tests.adapters.test_store import with_balance
from tests.rig.node import until
from tests.rig.postgres import Postgres

MINUTE = Decimal("0.0714")  # what a slice of a minute reserves
HELD = "SELECT node, account, amount FROM tranches ORDER BY node, account"
MOVED = "SELECT amount FROM ledger WHERE kind = 'tranche' ORDER BY entry"


@pytest.fixture
def way(postgresql: Postgres) -> Iterator[Way]:
    made = Way(postgresql.port)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "RESIZE_S", 0.05)


def opened(stores: PostgresqlStores, **given: Any) -> AbstractAsyncContextManager[AnyWatched]:
    return stores.opened(**{"alone": Alone(tranche_s=60, calls_max=2), **given})


def slice_of(number: int) -> Any:
    return first_slice(admitted(number, prepaid=True), 60)


async def with_tranche(stores: PostgresqlStores, watched: AnyWatched, *held: Any) -> None:
    """Until the node holds that."""

    def holds() -> bool:
        watched.store.heartbeat(0, 0)  # it looks after commits
        return stores.asked(HELD) == [*held]

    await until(holds)


async def test_a_node_takes_what_its_calls_reserved_of_late_and_gives_it_back_at_its_end(
    postgresql_stores: PostgresqlStores,
) -> None:
    async with opened(postgresql_stores) as watched:
        await with_balance(watched, "10")
        watched.submit(slice_of(1), slice_of(2))
        await with_tranche(postgresql_stores, watched, ("n1", "acme", 2 * MINUTE))
        assert await watched.store.accounts.balance("acme") == (Money(10 - 4 * MINUTE, "EUR"),)
        await watched.proved()
        for _ in range(3):
            watched.store.heartbeat(0, 0)
            await watched.written()
        assert postgresql_stores.asked(MOVED) == [(-2 * MINUTE,)]  # nothing moves where nothing changes
        watched.submit(
            *(ending(ended(answered(admitted(number, prepaid=True)), 60_000)) for number in (1, 2))
        )
        await watched.written()
    assert postgresql_stores.asked(HELD) == []
    assert postgresql_stores.asked("SELECT amount FROM balances") == [(10 - 2 * MINUTE,)]
