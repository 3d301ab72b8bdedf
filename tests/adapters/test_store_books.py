"""What the page reads of the books, on either engine."""

from __future__ import annotations

from contextlib import ExitStack
from decimal import Decimal

import psycopg
import pytest

from sidecar.adapters.postgresql import books as of_postgresql
from sidecar.adapters.store.books import Held
from sidecar.adapters.store.store import StoreError
from sidecar.core.account_terms import AccountTerms
from tests.adapters.store_calls import admission, admitted, call_id, whole_call
from tests.adapters.stores import PostgresqlStores, Stores
from tests.adapters.test_store import with_balance
from tests.adapters.test_store_revisions import again, newest


async def test_a_look_has_what_is_known_of_a_call_and_of_an_account(stores: Stores) -> None:
    async with stores.opened() as watched:
        await with_balance(watched, "5")
        watched.submit(*whole_call(1, prepaid=True), *whole_call(2, prepaid=True))
        watched.submit(admission(admitted(9, prepaid=True)))
        await watched.written()
        with stores.books() as books:
            with books.look() as look:
                first, before = look.charged_since("acme", "EUR", 0), look.booked("acme")
                [held] = look.held("acme")
                assert look.booked("nobody") == look.booked("none")
            revised = again(await newest(watched), "0.5")
            await watched.store.revisions.revise([revised])
            await watched.written()
            with books.look() as look:
                assert look.booked("acme") != before
                assert [cdr.revision for cdr in look.revisions(call_id(1))] == [0, 1]
                booked = look.charges_of(call_id(1))
                assert [one.revision for one in booked] == [0, 1]
                now = look.charged_since("acme", "EUR", 0, first)
                assert now.amount - first.amount == -booked[1].amount
                assert look.charged_since("acme", "EUR", 0).amount == now.amount
                assert look.charged_since("acme", "EUR", 2**62).amount == 0
                terms = look.account_terms("acme")
                assert isinstance(terms, AccountTerms)
                assert (terms.name, look.account_terms("nobody")) == ("acme", None)
        assert (held.currency, held.calls, held.node) == ("EUR", 1, "")
        assert held.amount > 0


async def test_what_a_node_holds_for_calls_to_come_is_held_too(postgresql_stores: PostgresqlStores) -> None:
    stores = postgresql_stores
    async with stores.opened() as watched:
        await with_balance(watched, "5")
        stores.forced("INSERT INTO tranches SELECT 'n1', 'acme', 'EUR', max(boot), 2 FROM boots")
        with stores.books() as books, books.look() as look:
            assert look.held("acme") == [Held("EUR", Decimal(2), 0, "n1")]


async def test_a_page_reads_alone_and_outlives_its_connections(
    postgresql_stores: PostgresqlStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = postgresql_stores
    async with stores.opened() as watched:
        watched.submit(*whole_call(1))
        await watched.written()
        with stores.books() as books:
            with pytest.raises(StoreError, match="read-only transaction"), books.look() as look:
                look._server.run("DELETE FROM users")  # type: ignore[attr-defined]
            with books.look() as look:
                ((until_ms, pid),) = look._server.run(  # type: ignore[attr-defined]
                    "SELECT setting, pg_backend_pid() FROM pg_settings WHERE name = 'statement_timeout'"
                )
                assert 0 < int(until_ms) < 10_000
            with psycopg.connect(stores.conninfo, autocommit=True) as connection:
                connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
            with books.look() as look:
                assert len(look.revisions(call_id(1))) == 1
            monkeypatch.setattr(of_postgresql, "WAIT_S_MAX", 0.01)
            with ExitStack() as looks:
                for _ in range(of_postgresql.LOOKS_MAX):
                    looks.enter_context(books.look())
                with pytest.raises(StoreError, match="too much at once"), books.look():
                    pass
