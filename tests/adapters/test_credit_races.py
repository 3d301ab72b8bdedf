"""Many calls on one balance, on each engine: at once, with extensions and top-ups between, over seeds."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest
from msgspec.structs import replace

from sidecar.core.call import Call
from sidecar.core.events import Admitted, CreditRefused, GrantExtended
from sidecar.core.terms import Money
from tests.adapters.sqlite_stores import AnyWatched
from tests.adapters.store_calls import (
    admitted,
    answered,
    call_id,
    ended,
    ending,
    extension,
    first_slice,
    terms_of,
)
from tests.adapters.stores import Stores

SLICE_S = 10
SLICE = Decimal("0.0119")  # of it, with its tax
CALLS = 100


def granted(watched: AnyWatched) -> dict[int, Call]:
    """The calls that were admitted, with what each was last told."""
    calls: dict[int, Call] = {}
    numbers = {call_id(number): number for number in range(1, 1_001)}
    for event in watched.events:
        if isinstance(event, (Admitted, GrantExtended)):
            number = numbers[event.call_id]
            call = calls.get(number) or admitted(number, prepaid=True)
            calls[number] = replace(call, granted_s=event.granted_s, reserved=event.reserved)
    return calls


async def topped_up(watched: AnyWatched, amount: Decimal, reference: str) -> None:
    await watched.store.accounts.top_up("acme", Money(amount, "EUR"), reference)


@pytest.mark.parametrize("seed", range(4))
async def test_a_hundred_calls_at_once_on_credit_for_ten_overspend_nothing(stores: Stores, seed: int) -> None:
    chance = random.Random(seed)
    paid = 10 * SLICE
    async with stores.opened() as watched:
        await watched.store.accounts.create(terms_of("acme"))
        await topped_up(watched, paid, "first")
        calls = [admitted(number, prepaid=True) for number in range(1, CALLS + 1)]
        chance.shuffle(calls)
        watched.submit(*(first_slice(call, SLICE_S) for call in calls))
        await watched.written()
        assert len(granted(watched)) == 10
        assert sum(isinstance(event, CreditRefused) for event in watched.events) == CALLS - 10
        up = dict(granted(watched))
        for round_ in range(12):
            steps = [extension(call, (call.granted_s or 0) + SLICE_S) for call in up.values()]
            for number in [number for number in up if chance.random() < 0.15]:
                gone = up.pop(number)
                talk_ms = chance.randint(0, (gone.granted_s or 0) * 1000 + 500)
                steps.append(ending(ended(answered(gone), talk_ms)))
            steps += [first_slice(call, SLICE_S) for call in calls if chance.random() < 0.1]
            chance.shuffle(steps)
            watched.submit(*steps)
            if chance.random() < 0.5:
                more = SLICE * chance.randint(1, 3) + Decimal("0.0001")
                paid += more
                await topped_up(watched, more, f"{round_}")
            await watched.written()
            told = granted(watched)
            up = {number: told[number] for number in up}
            await watched.proved()
        watched.submit(*(ending(ended(answered(call), 1_000_000)) for call in granted(watched).values()))
        await watched.written()
        await watched.proved()
    rows = [Decimal(str(balance)) for (balance,) in stores.asked("SELECT balance FROM ledger ORDER BY entry")]
    assert min(rows) >= 0
    charged = stores.asked("SELECT amount FROM ledger WHERE kind = 'charge'")
    left = paid + sum(Decimal(str(amount)) for (amount,) in charged)
    assert rows[-1] == left >= 0
    assert stores.asked("SELECT count(*) FROM open_calls") == [(0,)]


async def test_a_thousand_calls_whose_balance_pays_for_all_are_all_admitted(stores: Stores) -> None:
    async with stores.opened() as watched:
        await watched.store.accounts.create(terms_of("acme"))
        await topped_up(watched, 1_000 * SLICE, "first")
        calls = [admitted(number, prepaid=True) for number in range(1, 1_001)]
        watched.submit(*(first_slice(call, SLICE_S) for call in calls))
        assert await watched.kinds() == ["Admitted"] * 1_000
        assert await watched.store.accounts.balance("acme") == (Money(Decimal("0.00000000"), "EUR"),)
        await topped_up(watched, 1_000 * SLICE, "second")
        watched.submit(*(extension(call, 2 * SLICE_S) for call in calls))
        await watched.written()
        assert {call.granted_s for call in granted(watched).values()} == {2 * SLICE_S}
        await watched.proved()
