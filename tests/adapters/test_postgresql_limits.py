"""Limits that hold over all nodes of a database."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from sidecar.core.commands import StoreCommand
from sidecar.core.events import Admitted, CreditRefused
from sidecar.core.terms import Detail
from tests.adapters.store_calls import admission, admitted, answered, call_id, ended, ending
from tests.adapters.stores import PostgresqlStores


async def test_an_account_has_so_many_calls_on_all_nodes_and_never_one_more(
    postgresql_stores: PostgresqlStores,
) -> None:
    """Both admit at once, in commits of many; calls that end give their places back."""
    few = replace(admitted(1, "_").account, calls_max=5)

    def asked(number: int) -> tuple[StoreCommand, ...]:
        return admission(replace(admitted(number, "_"), account=few))

    opened = postgresql_stores.opened
    async with opened() as one, opened(node="n2", boot_id="second") as other:
        for number in range(1, 11):
            one.submit(asked(number))
            other.submit(asked(100 + number))
            await asyncio.sleep(0)
        kinds = await one.kinds() + await other.kinds()
        assert (kinds.count("Admitted"), kinds.count("CreditRefused")) == (5, 15)
        refused = [event for event in (*one.events, *other.events) if isinstance(event, CreditRefused)]
        assert {(event.detail, event.rule) for event in refused} == {(Detail.ACCOUNT_LIMIT, "calls_max")}
        up = [event.call_id for event in other.events if isinstance(event, Admitted)]
        mine = [event.call_id for event in one.events if isinstance(event, Admitted)]
        ending_one = next(number for number in range(1, 111) if call_id(number) in (*mine, *up))
        (one if call_id(ending_one) in mine else other).submit(
            ending(ended(answered(admitted(ending_one, "_"))))
        )
        await one.written()
        await other.written()
        other.submit(asked(200), asked(201))
        assert (await other.kinds())[-2:] == ["Admitted", "CreditRefused"]
        await one.proved()
