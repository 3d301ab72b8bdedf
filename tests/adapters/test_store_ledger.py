"""The money adds up whatever happens in whatever order, and nothing that is repeated moves it twice."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.events import Admitted, CreditRefused
from sidecar.core.records import cdr_of, sell_total
from sidecar.core.terms import Detail, HangupOrigin, Money
from sidecar.ports import AccountError
from tests.adapters.store_calls import (
    NO_SERVER_RECORDS,
    POLICY,
    admission,
    admitted,
    answered,
    call_id,
    ended,
    ending,
    terms_of,
)
from tests.adapters.stores import PostgresqlStores, SqliteStores, Stores
from tests.rig.postgres import Postgres

_numbers = itertools.count(1)

ACCOUNTS = ("a", "b")  # a is prepaid, b is not

top_ups = st.tuples(st.just("top_up"), st.integers(1, 3), st.decimals("0.000001", "9", places=6))
begins = st.tuples(st.just("begin"), st.integers(1, 8), st.just(0))
ends = st.tuples(st.just("end"), st.integers(1, 8), st.integers(0, 400_000))
suppressions = st.tuples(st.just("suppress"), st.integers(1, 8), st.integers(0, 400_000))
revisions = st.tuples(st.just("revise"), st.integers(1, 8), st.integers(0, 400_000))
boots = st.tuples(st.just("boot"), st.just(0), st.just(0))
Action = tuple[str, int, int | Decimal]


def account_of(number: int) -> str:
    return ACCOUNTS[number % 2]


lives = given(
    st.lists(top_ups | begins | ends | suppressions | revisions | boots, max_size=30), st.integers(1, 3)
)


@settings(max_examples=60, deadline=None)
@lives
def test_opening_plus_top_ups_minus_charges_minus_reservations_is_the_balance(
    actions: list[Action], times: int
) -> None:
    """Against a model that knows only what was paid in and what each call's last record says."""
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(acted(SqliteStores(Path(name)), actions, times))


@settings(max_examples=8, deadline=None)
@lives
def test_the_balance_on_a_server_is_the_same_sum(
    postgresql: Postgres, actions: list[Action], times: int
) -> None:
    stores = PostgresqlStores(postgresql.conninfo, f"ledger{next(_numbers)}")
    asyncio.run(acted(stores, actions, times))


async def acted(stores: Stores, actions: list[Action], times: int) -> None:
    paid: dict[str, Decimal] = defaultdict(Decimal)
    references: set[tuple[str, str]] = set()
    owed: dict[int, Decimal] = {}
    revision: dict[int, int] = {}
    reserved: dict[int, Decimal] = {}
    rest = list(actions)
    boot = 0
    while rest or not boot:
        boot += 1
        async with stores.opened(boot_id=f"boot{boot}") as watched:
            for account in ACCOUNTS:
                await watched.store.accounts.create(terms_of(account, prepaid=account == "a"))
            while rest:
                kind, number, value = rest.pop(0)
                if kind == "boot":
                    break
                if kind == "top_up":
                    account = account_of(number)
                    for _ in range(times):
                        await watched.store.accounts.top_up(
                            account, euros(Decimal(value)), f"r{number} {value}"
                        )
                    if (f"{number} {value}", account) not in references:
                        paid[account] += Decimal(value)
                        references.add((f"{number} {value}", account))
                    continue
                call = admitted(number, account_of(number), prepaid=account_of(number) == "a")
                if kind == "begin":
                    for _ in range(times):
                        watched.events.clear()
                        watched.submit(admission(call))
                        await watched.written()
                    event = watched.outcome(call_id(number))
                    assert number not in owed or not isinstance(event, (Admitted, CreditRefused))
                    if isinstance(event, Admitted) and event.reserved:
                        reserved[number] = event.reserved.amount
                    continue
                talk_ms = int(value)
                over = ended(answered(call), talk_ms)
                policy = POLICY
                if kind == "suppress":
                    over = ended(answered(call), talk_ms, origin=HangupOrigin.SERVER, detail=Detail.DRAIN)
                    policy = NO_SERVER_RECORDS
                if kind == "revise":
                    if number not in owed:
                        continue
                    revision[number] = revision.get(number, 0) + 1
                    over = replace(over, revision=revision[number])
                for _ in range(times):
                    watched.submit(ending(over, policy))
                if kind == "revise" or number not in owed:
                    total = sell_total(cdr_of(over, policy))
                    owed[number] = total.amount if total else Decimal(0)
                    reserved.pop(number, None)
            await watched.written()
            await watched.proved()
            for account in ACCOUNTS:
                held = sum(
                    (amount for n, amount in [*owed.items(), *reserved.items()] if account_of(n) == account),
                    Decimal(0),
                )
                (balance,) = await watched.store.accounts.balance(account)
                assert balance.amount == paid[account] - held


def euros(amount: Decimal) -> Money:
    return Money(amount, "EUR")


async def test_amounts_are_exact_far_beyond_what_a_float_or_28_digits_hold(stores: Stores) -> None:
    huge, tiny = Decimal(123456789012345678901234567890), Decimal("0.000000000000000001")
    async with stores.opened() as watched:
        await watched.store.accounts.create(terms_of("a"))
        await watched.store.accounts.top_up("a", euros(huge), "huge")
        await watched.store.accounts.top_up("a", euros(tiny), "tiny")
        (balance,) = await watched.store.accounts.balance("a")
        assert str(balance.amount) == f"{huge}.{str(tiny)[2:] if 'E' not in str(tiny) else '0' * 17 + '1'}"
        await watched.proved()


async def test_a_sum_that_would_be_rounded_is_refused_whole(stores: Stores) -> None:
    async with stores.opened() as watched:
        await watched.store.accounts.create(terms_of("a"))
        await watched.store.accounts.top_up("a", euros(Decimal("1e60")), "huge")
        with pytest.raises(ArithmeticError):
            await watched.store.accounts.top_up("a", euros(Decimal("1e-60")), "tiny")
        assert await watched.store.accounts.balance("a") == (euros(Decimal("1e60")),)
        await watched.proved()


@pytest.mark.parametrize("amount", ["0", "-1", "NaN", "Infinity", "-Infinity", "sNaN"])
async def test_a_top_up_of_no_amount_is_refused(stores: Stores, amount: str) -> None:
    async with stores.opened() as watched:
        await watched.store.accounts.create(terms_of("a"))
        with pytest.raises(AccountError, match=r"amount other than 0|what takes away"):
            await watched.store.accounts.top_up("a", euros(Decimal(amount)), "r")


async def test_a_top_up_names_what_is_wrong_with_its_account(stores: Stores) -> None:
    async with stores.opened() as watched:
        accounts = watched.store.accounts
        with pytest.raises(AccountError, match="account a: not known; create it first"):
            await accounts.top_up("a", euros(Decimal(1)), "r")
        await accounts.create(terms_of("a"))
        with pytest.raises(AccountError, match="account a: is kept in EUR, not USD"):
            await accounts.top_up("a", Money(Decimal(1), "USD"), "r")
        with pytest.raises(AccountError, match="needs a reference"):
            await accounts.top_up("a", euros(Decimal(1)), "")


async def test_an_account_is_made_once_and_never_on_other_terms(stores: Stores) -> None:
    async with stores.opened() as watched:
        accounts = watched.store.accounts
        await accounts.create(terms_of("a"))
        await accounts.create(terms_of("a"))
        with pytest.raises(AccountError, match=r"account a: exists with other terms \(currency EUR\)"):
            await accounts.create(terms_of("a", "USD"))
        (account,) = await accounts.stored()
        assert (account.name, account.currency, account.prepaid) == ("a", "EUR", True)
        assert await accounts.balance("a") == (euros(Decimal(0)),)


async def test_the_ledger_is_listed_the_latest_first_and_in_pages(stores: Stores) -> None:
    async with stores.opened() as watched:
        accounts = watched.store.accounts
        for name in ("a", "b"):
            await accounts.create(terms_of(name))
            for number in range(5):
                await accounts.top_up(name, euros(Decimal(number + 1)), f"r{number}")
        first = await accounts.ledger("b", 2)
        assert [entry.reference for entry in first] == ["r4", "r3"]
        assert [entry.balance.amount for entry in first] == [15, 10]
        second = await accounts.ledger("b", 9, before_entry=first[-1].entry)
        assert [entry.reference for entry in second] == ["r2", "r1", "r0"]


async def test_what_is_asked_for_in_one_turn_is_one_commit_and_counts_once(stores: Stores) -> None:
    async with stores.opened() as watched:
        accounts = watched.store.accounts
        watched.commits.clear()
        _, _, first, again, second = await asyncio.gather(
            accounts.create(terms_of("a")),
            accounts.create(terms_of("a")),
            accounts.top_up("a", euros(Decimal(5)), "r"),
            accounts.top_up("a", euros(Decimal(5)), "r"),
            accounts.top_up("a", euros(Decimal(1)), "s"),
        )
        assert [one.amount for one in (first, again, second)] == [5, 5, 6]
        assert watched.commits == [5]
        assert len(await accounts.ledger("a")) == 2
        await watched.proved()


async def test_an_account_refused_in_one_turn_leaves_the_first_as_it_was(stores: Stores) -> None:
    async with stores.opened() as watched:
        accounts = watched.store.accounts
        found = await asyncio.gather(
            accounts.create(terms_of("a")),
            accounts.create(terms_of("a", "USD")),
            return_exceptions=True,
        )
        assert [type(one) for one in found] == [type(None), AccountError]
        assert [one.currency for one in await accounts.stored()] == ["EUR"]


async def test_accounts_have_their_own_references_and_balances(stores: Stores) -> None:
    order = ("b", "a", "c")
    async with stores.opened() as watched:
        for name in order:
            await watched.store.accounts.create(terms_of(name))
    async with stores.opened(boot_id="next") as watched:
        for amount, name in enumerate(order, 1):
            assert await watched.store.accounts.top_up(name, euros(Decimal(amount)), "r") == euros(
                Decimal(amount)
            )
        await watched.proved()
