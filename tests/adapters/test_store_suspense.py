"""A balance of which nobody knows whether it is right, and the decision about it."""

from __future__ import annotations

from decimal import Decimal

from sidecar.core.audit import Change, Operator
from sidecar.core.suspense import SuspenseDecision
from tests.adapters.store_calls import terms_of
from tests.adapters.stores import Stores
from tests.adapters.test_store import euros

CHANGE = Change(operator=Operator("ann", 1000), action="account.suspense", subject="acme", text="asked them")


async def test_an_account_that_may_have_been_there_is_open_until_a_person_decides(stores: Stores) -> None:
    async with stores.opened() as watched:
        accounts, suspense = watched.store.accounts, watched.store.suspense
        await accounts.take_over([(terms_of("known"), None)])
        await accounts.take_over([(terms_of("acme"), None), (terms_of("known"), None)], suspect=True)
        (found,) = await suspense.suspended()
        assert (found.account, found.currency, found.amount) == ("acme", "EUR", Decimal(0))
        assert await suspense.suspended("known") == []
        assert await suspense.clear("acme", [found.entry + 1], SuspenseDecision.BOOK, CHANGE) == []
        assert await suspense.suspended("acme") == [found]
    async with stores.opened(boot_id="later") as watched:
        suspense = watched.store.suspense
        assert await suspense.clear("acme", [], SuspenseDecision.BOOK, CHANGE) == [found]
        assert await suspense.clear("acme", [], SuspenseDecision.BOOK, CHANGE) == []
        assert await suspense.suspended() == []
        (noted,) = await watched.store.audit.list()
        assert (noted.change.operator, noted.change.text) == (CHANGE.operator, CHANGE.text)
        assert await watched.store.accounts.balance("acme") == (euros("0"),)
        await watched.proved()
