"""Calls that are rated again, read from a file; and the sums over many."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.adapters.sqlite import StoreError, newest_records, revisions
from sidecar.core.records import sell_total
from tests.adapters.sqlite_stores import opened
from tests.adapters.store_calls import (
    admission,
    admitted,
    answered,
    call_id,
    ended,
    ending,
    whole_call,
)
from tests.adapters.test_store_revisions import NO_CDR, again, newest


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
