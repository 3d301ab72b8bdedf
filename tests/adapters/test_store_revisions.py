"""Calls that are rated again: the record, the outbox and the ledger move together, and once."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pytest
from msgspec.structs import replace

from sidecar.core.cdr import Cdr
from sidecar.core.margin import ExchangeTable
from sidecar.core.policy import RecordFlags
from sidecar.core.records import cdr_of
from sidecar.core.rerate import rerate, revised
from sidecar.core.tariff import Deck, Rate, per_minute_steps
from sidecar.core.terms import RevisionReason
from sidecar.wire.cdr_codec import decode
from tests.adapters.sqlite_stores import AnyWatched
from tests.adapters.store_calls import (
    POLICY,
    admission,
    admitted,
    answered,
    call_id,
    ended,
    ending,
    whole_call,
)
from tests.adapters.stores import Stores
from tests.adapters.test_store import euros, with_balance

NO_CDR = replace(POLICY, flags=RecordFlags(no_cdr_numbers=frozenset({"49*"})))


def deck(price: str) -> Deck:
    steps = per_minute_steps(Decimal(price), 60, 60)
    return Deck(f"at {price}", [Rate(prefix="49", currency="EUR", steps=steps)])


def again(cdr: Cdr, price: str) -> Cdr:
    found = rerate(cdr, deck(price), None)
    assert found is not None
    return revised(cdr, found.after, ExchangeTable(), "ann", "wrong deck", cdr.ended_at)


async def newest(watched: AnyWatched, number: int = 1) -> Cdr:
    records: Sequence[Cdr] = await watched.store.records.show(str(call_id(number)))
    return records[-1]


@pytest.mark.parametrize("prepaid", [False, True])
@pytest.mark.parametrize(
    ("price", "balance"), [("1", "-2.38000000"), ("0.01", "-0.02380000"), ("0", "0.00000000")]
)
async def test_a_revision_is_published_and_the_ledger_gets_the_difference(
    stores: Stores, prepaid: bool, price: str, balance: str
) -> None:
    async with stores.opened() as watched:
        if prepaid:
            await with_balance(watched, "5")
        watched.submit(*whole_call(1, prepaid=prepaid))
        await watched.written()
        before = await newest(watched)
        wanted = again(before, price)
        assert list(await watched.store.revisions.revise([wanted])) == [True]
        first, second = await watched.store.outbox.pending(0, 10)
        assert (first.seq, second.seq, second.message_id) == (1, 2, str(wanted.message_id))
        sent = decode(second.payload)
        assert (sent.revision, sent.supersedes, sent.revision_reason) == (1, 0, RevisionReason.RERATE)
        assert (sent.revised_by, sent.revised_text, sent.account_prev_seq) == ("ann", "wrong deck", 1)
        assert replace(sent, seq=None, store_epoch="", account_prev_seq=None) == wanted
        owed = Decimal(balance) + (5 if prepaid else 0)
        assert [one.amount for one in await watched.store.accounts.balance("acme")] == [owed]
        await watched.proved()


async def test_a_revision_that_is_repeated_moves_nothing(stores: Stores) -> None:
    async with stores.opened() as watched:
        watched.submit(*whole_call(1))
        await watched.written()
        wanted = again(await newest(watched), "1")
        assert list(await watched.store.revisions.revise([wanted, wanted])) == [True, False]
        for _ in range(3):
            assert list(await watched.store.revisions.revise([wanted])) == [False]
        assert len(await watched.store.accounts.ledger("acme")) == 2
        assert len(await watched.store.records.show(str(call_id(1)))) == 2
        await watched.proved()


async def test_only_a_call_that_is_over_is_revised(stores: Stores) -> None:
    async with stores.opened() as watched:
        call = admitted(1)
        watched.submit(admission(call))
        await watched.written()
        early = again(cdr_of(ended(answered(call)), POLICY), "1")
        assert list(await watched.store.revisions.revise([early])) == [False]
        watched.submit(ending(ended(answered(call))))
        await watched.written()
        late = replace(early, revision=2, supersedes=1)
        assert list(await watched.store.revisions.revise([late, early])) == [False, True]
        await watched.proved()


async def test_a_call_whose_record_was_kept_back_is_charged_anew_and_stays_back(stores: Stores) -> None:
    async with stores.opened() as watched:
        call = admitted(1)
        watched.submit(admission(call), ending(ended(answered(call)), NO_CDR))
        await watched.written()
        before = await newest(watched)
        assert not before.recorded
        assert list(await watched.store.revisions.revise([again(before, "1")])) == [True]
        assert await watched.store.outbox.pending(0, 10) == ()
        assert await watched.store.accounts.balance("acme") == (euros("-2.38000000"),)
        await watched.proved()


async def test_a_restart_knows_what_was_revised(stores: Stores) -> None:
    async with stores.opened() as watched:
        watched.submit(*whole_call(1))
        await watched.written()
        wanted = again(await newest(watched), "1")
        await watched.store.revisions.revise([wanted])
    async with stores.opened(boot_id="later") as watched:
        assert list(await watched.store.revisions.revise([wanted])) == [False]
        assert list(await watched.store.revisions.revise([again(await newest(watched), "2")])) == [True]
        assert await watched.store.accounts.balance("acme") == (euros("-4.76000000"),)
        await watched.proved()
