"""Calls that are rated again: the record, the outbox and the ledger move together, and once."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.adapters.sqlite import StoreError, newest_records, revisions
from sidecar.core.cdr import Cdr
from sidecar.core.margin import ExchangeTable
from sidecar.core.policy import RecordFlags
from sidecar.core.records import cdr_of, sell_total
from sidecar.core.rerate import rerate, revised
from sidecar.core.tariff import Deck, Rate, per_minute_steps
from sidecar.core.terms import RevisionReason
from sidecar.wire.cdr_codec import decode
from tests.adapters.sqlite_stores import Watched, opened
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
from tests.adapters.test_store import euros, with_balance

NO_CDR = replace(POLICY, flags=RecordFlags(no_cdr_numbers=frozenset({"49*"})))


def deck(price: str) -> Deck:
    steps = per_minute_steps(Decimal(price), 60, 60)
    return Deck(f"at {price}", [Rate(prefix="49", currency="EUR", steps=steps)])


def again(cdr: Cdr, price: str) -> Cdr:
    found = rerate(cdr, deck(price), None)
    assert found is not None
    return revised(cdr, found.after, ExchangeTable(), "ann", "wrong deck", cdr.ended_at)


async def newest(watched: Watched, number: int = 1) -> Cdr:
    return (await watched.store.records.show(str(call_id(number))))[-1]


@pytest.mark.parametrize("prepaid", [False, True])
@pytest.mark.parametrize(
    ("price", "balance"), [("1", "-2.38000000"), ("0.01", "-0.02380000"), ("0", "0.00000000")]
)
async def test_a_revision_is_published_and_the_ledger_gets_the_difference(
    tmp_path: Path, prepaid: bool, price: str, balance: str
) -> None:
    async with opened(tmp_path) as watched:
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


async def test_a_revision_that_is_repeated_moves_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        watched.submit(*whole_call(1))
        await watched.written()
        wanted = again(await newest(watched), "1")
        assert list(await watched.store.revisions.revise([wanted, wanted])) == [True, False]
        for _ in range(3):
            assert list(await watched.store.revisions.revise([wanted])) == [False]
        assert len(await watched.store.accounts.ledger("acme")) == 2
        assert len(await watched.store.records.show(str(call_id(1)))) == 2
        await watched.proved()


async def test_only_a_call_that_is_over_is_revised(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
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


async def test_a_call_whose_record_was_kept_back_is_charged_anew_and_stays_back(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        call = admitted(1)
        watched.submit(admission(call), ending(ended(answered(call)), NO_CDR))
        await watched.written()
        before = await newest(watched)
        assert not before.recorded
        assert list(await watched.store.revisions.revise([again(before, "1")])) == [True]
        assert await watched.store.outbox.pending(0, 10) == ()
        assert await watched.store.accounts.balance("acme") == (euros("-2.38000000"),)
        await watched.proved()


async def test_a_restart_knows_what_was_revised(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        watched.submit(*whole_call(1))
        await watched.written()
        wanted = again(await newest(watched), "1")
        await watched.store.revisions.revise([wanted])
    async with opened(tmp_path, boot_id="later") as watched:
        assert list(await watched.store.revisions.revise([wanted])) == [False]
        assert list(await watched.store.revisions.revise([again(await newest(watched), "2")])) == [True]
        assert await watched.store.accounts.balance("acme") == (euros("-4.76000000"),)
        await watched.proved()


@settings(max_examples=15, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["0", "0.013", "1", "7"])), max_size=12))
async def test_however_often_calls_are_rated_anew_the_ledger_sums_to_the_newest(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str]]
) -> None:
    async with opened(tmp_path_factory.mktemp("store")) as watched:
        for number in (1, 2, 3):
            watched.submit(*whole_call(number, f"account {number % 2}"))
        await watched.written()
        for number, price in steps:
            assert list(await watched.store.revisions.revise([again(await newest(watched, number), price)]))
        owed = {"account 0": Decimal(0), "account 1": Decimal(0)}
        for number in (1, 2, 3):
            cdr = await newest(watched, number)
            total = sell_total(cdr)
            owed[cdr.account] += total.amount if total else 0
        for account, amount in owed.items():
            assert [-one.amount for one in await watched.store.accounts.balance(account)] == [amount]
        await watched.proved()


# --- the records that hold ----------------------------------------------------------------------------------


async def test_the_records_that_hold_are_read_page_by_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revisions, "PAGE_ROWS", 3)
    async with opened(tmp_path) as watched:
        for number in range(1, 9):
            watched.submit(*whole_call(number, f"account {number % 2}"))
        kept_back = admitted(9)
        watched.submit(admission(kept_back), ending(ended(answered(kept_back)), NO_CDR))
        await watched.written()
        await watched.store.revisions.revise([again(await newest(watched, number), "1") for number in (2, 9)])
        found = list(newest_records(tmp_path))
        assert {(cdr.call_id, cdr.revision) for cdr in found} == {
            (call_id(number), int(number in (2, 9))) for number in range(1, 10)
        }
        assert len(found) == 9
        ours = {cdr.call_id for cdr in newest_records(tmp_path, account="account 1")}
        assert ours == {call_id(number) for number in (1, 3, 5, 7)}
        ends = found[0].ended_at
        assert list(newest_records(tmp_path, until=ends)) == []
        assert len(list(newest_records(tmp_path, since=ends))) == 9
        assert len(list(newest_records(tmp_path, gateway="gw1"))) == 9
        assert list(newest_records(tmp_path, gateway="other")) == []


async def test_what_is_revised_while_it_is_read_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revisions, "PAGE_ROWS", 2)
    async with opened(tmp_path) as watched:
        for number in range(1, 7):
            watched.submit(*whole_call(number))
        await watched.written()
        seen = []
        for cdr in newest_records(tmp_path):
            seen.append(cdr.call_id)
            await watched.store.revisions.revise([again(cdr, "1")])
        assert sorted(seen) == sorted(call_id(number) for number in range(1, 7))
        assert {cdr.revision for cdr in newest_records(tmp_path)} == {1}


def test_no_journal_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no journal"):
        list(newest_records(tmp_path))
