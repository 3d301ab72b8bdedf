"""The history of a node from a journal into a database, as `sidecar store migrate` moves it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from sidecar.adapters.postgresql.moving import take_in
from sidecar.adapters.sqlite.file import FILE_NAME
from sidecar.adapters.sqlite.leaving import MOVED_NAME, leaving
from sidecar.adapters.store.keys import KEY_FILE_NAME, key_at
from sidecar.adapters.store.moving import Moved
from sidecar.adapters.store.store import StoreError
from sidecar.core.audit import Change, Operator
from sidecar.core.call import Call
from sidecar.core.suspense import SuspenseDecision
from sidecar.core.terms import Money
from sidecar.ports import AccountError, Seen
from tests.adapters.journals.make import closed_part, told_of
from tests.adapters.sqlite_stores import asked, opened
from tests.adapters.store_calls import (
    WALL_NS,
    answered,
    call_id,
    ended,
    ending,
    terms_of,
    whole_call,
)
from tests.adapters.stores import PostgresqlStores
from tests.adapters.test_sqlite_retention import DAY_NS, HandClock, acknowledge_all, fill, of, removed, steps
from tests.adapters.test_sqlite_retention import opened as archived_opened
from tests.adapters.test_store import with_balance

CHANGE = Change(operator=Operator("ann", 1000), action="store.migrate", subject="n1", text="a second node")


def moved(data_dir: Path, to: PostgresqlStores, node: str = "n1") -> Moved:
    with leaving(data_dir, data_dir / KEY_FILE_NAME) as left:
        found = take_in(to.conninfo, node, left.history, CHANGE, key_at(to.key_file))
        left.leave()
        return found


def rows_of(to: PostgresqlStores) -> Sequence[Any]:
    tables = to.asked(
        "SELECT table_name::text FROM information_schema.tables WHERE table_schema = current_schema()"
    )
    return [(table, to.asked(f'SELECT * FROM "{table}" ORDER BY 1, 2')) for (table,) in sorted(tables)]


async def test_all_that_a_journal_tells_a_database_tells_after_it(
    tmp_path: Path, postgresql_stores: PostgresqlStores
) -> None:
    """In two epochs, with open calls, revisions, records kept back, dead letters, and rows that wait."""
    before = await closed_part(tmp_path)
    found = moved(tmp_path, postgresql_stores)
    assert found.found == found.left
    assert found.left.counts["published records"] == before["head_seq"] > 8
    assert found.left.sums["balance of acme EUR"] == Decimal(before["balances"]["acme"][0])
    assert (tmp_path / MOVED_NAME).exists()
    assert not (tmp_path / FILE_NAME).exists()
    async with postgresql_stores.opened(boot_id="boot-4") as watched:
        opened_calls: list[Call] = [call for call, _ in watched.store.found_open()]
        after = await told_of(watched.store, opened_calls)
        for told in (before, after):
            for of in told["ledger"].values():  # numbered anew, in the same order
                for line in of:
                    line.pop("entry")
        *after["audit"], noted = after["audit"]
        before["audit"] = list(before["audit"])
        assert (noted["change"]["action"], noted["change"]["text"]) == ("store.migrate", "a second node")
        for told in (before, after):
            for one in told["audit"]:
                one.pop("entry")
        for name, said in before.items():
            assert after[name] == said, name


async def test_the_node_goes_on_with_its_numbers_in_its_epoch(
    tmp_path: Path, postgresql_stores: PostgresqlStores
) -> None:
    before = await closed_part(tmp_path)
    moved(tmp_path, postgresql_stores)
    head = before["head_seq"]
    seen = Seen(epoch=before["epoch"], head_seq=head)
    async with postgresql_stores.opened(boot_id="boot-4", seen=seen) as watched:
        assert (watched.store.loss, watched.store.epoch) == (None, before["epoch"])
        for call, _ in watched.store.found_open():
            watched.submit(ending(ended(answered(call))))
        watched.submit(*whole_call(40, "acme", prepaid=True))
        await watched.written()
        state = await watched.store.outbox.outbox_state()
        assert state.head_seq == head + len(before["open"]) + 1
        (last,) = await watched.store.records.tail(state.head_seq - 1, 9)
        assert (last.call_id, last.store_epoch) == (call_id(40), before["epoch"])
        assert last.account_prev_seq is not None
        await watched.store.outbox.acknowledge(
            [row.seq for row in await watched.store.outbox.pending(0, 99)], []
        )
        await watched.proved()


async def test_a_second_run_finds_it_done_and_changes_nothing(
    tmp_path: Path, postgresql_stores: PostgresqlStores
) -> None:
    await closed_part(tmp_path)
    moved(tmp_path, postgresql_stores)
    there = rows_of(postgresql_stores)
    assert moved(tmp_path, postgresql_stores).done_before
    (tmp_path / MOVED_NAME).rename(tmp_path / FILE_NAME)  # killed just before it had this name
    assert moved(tmp_path, postgresql_stores).done_before
    assert (tmp_path / MOVED_NAME).exists()
    assert rows_of(postgresql_stores) == there
    with pytest.raises(StoreError, match="taken over already, as node n1"):
        moved(tmp_path, postgresql_stores, "n2")


async def test_a_run_that_does_not_come_to_its_end_leaves_nothing(
    tmp_path: Path, postgresql_stores: PostgresqlStores
) -> None:
    """The last rows of it do not fit: what was booked under a reference there is another thing here."""
    await closed_part(tmp_path)
    async with postgresql_stores.opened(node="n2", boot_id="second") as watched:
        await watched.store.accounts.create(terms_of("acme"))
        await watched.store.accounts.top_up("acme", Money(Decimal(7), "EUR"), "invoice 2")
    there = rows_of(postgresql_stores)
    with pytest.raises(StoreError, match=r"(?s)ledger: .*\(acme, invoice 2\).* Nothing was changed"):
        moved(tmp_path, postgresql_stores)
    assert rows_of(postgresql_stores) == there
    assert (tmp_path / FILE_NAME).exists()
    async with opened(tmp_path, boot_id="boot-4") as journal:
        assert await journal.store.ledger_check() == []


async def test_an_account_of_both_places_has_the_sum_of_both_balances(
    tmp_path: Path, postgresql_stores: PostgresqlStores
) -> None:
    before = await closed_part(tmp_path)
    async with postgresql_stores.opened(node="n2", boot_id="second") as other:
        await with_balance(other, "1000")
        other.submit(*whole_call(101, prepaid=True), *whole_call(102, "_"))
        await other.written()
        (mine,) = await other.store.accounts.balance("acme")
        moved(tmp_path, postgresql_stores)
        (both,) = await other.store.accounts.balance("acme")
        assert both.amount == mine.amount + Decimal(before["balances"]["acme"][0])
        other.submit(*whole_call(103, prepaid=True), *whole_call(104, "_"))
        await other.written()
        await other.proved()
        assert other.failing == []


async def test_an_account_with_other_terms_is_named_and_nothing_is_moved(
    tmp_path: Path, postgresql_stores: PostgresqlStores
) -> None:
    await closed_part(tmp_path)
    async with postgresql_stores.opened(node="n2", boot_id="second") as other:
        await other.store.accounts.create(terms_of("acme", prepaid=False))
    there = rows_of(postgresql_stores)
    with pytest.raises(StoreError, match="accounts: the database has others of the same name: acme:"):
        moved(tmp_path, postgresql_stores)
    assert rows_of(postgresql_stores) == there


async def test_what_was_decided_about_a_balance_in_suspense_is_decided_there(
    tmp_path: Path, postgresql_stores: PostgresqlStores
) -> None:
    async with opened(tmp_path) as journal:
        wanted = [(terms_of(name), None) for name in ("acme", "beta")]
        await journal.store.accounts.take_over(wanted, suspect=True)
        assert await journal.store.suspense.clear("acme", [], SuspenseDecision.BOOK, CHANGE)
        (open_one,) = await journal.store.suspense.suspended()
    async with postgresql_stores.opened(node="n2", boot_id="second") as other:
        for number in range(1, 4):  # its entries have the numbers that those of the journal had
            await with_balance(other, str(number), f"other{number}")
    moved(tmp_path, postgresql_stores)
    async with postgresql_stores.opened(boot_id="boot-2") as watched:
        (found,) = await watched.store.suspense.suspended()
        assert (found.account, open_one.account) == ("beta", "beta")
        assert found.entry != open_one.entry
        assert await watched.store.suspense.clear("beta", [], SuspenseDecision.BOOK, CHANGE)
        assert await watched.store.suspense.suspended() == []
        await watched.proved()


async def test_a_journal_that_is_in_use_or_not_as_it_was_written_is_not_moved(
    tmp_path: Path, postgresql_stores: PostgresqlStores
) -> None:
    async with opened(tmp_path) as journal:
        journal.submit(*whole_call(1))
        await journal.written()
        with pytest.raises(StoreError, match="in use by process"):
            moved(tmp_path, postgresql_stores)
    asked(tmp_path, "UPDATE cdr_bodies SET crc = crc + 1")
    with pytest.raises(StoreError, match="is not as it was written"):
        moved(tmp_path, postgresql_stores)
    with pytest.raises(StoreError, match="there is no journal"):
        moved(tmp_path / "elsewhere", postgresql_stores)
    assert rows_of(postgresql_stores) == []


async def test_a_journal_of_which_a_part_was_archived_stays_one(
    tmp_path: Path, postgresql_stores: PostgresqlStores
) -> None:
    """What is gone is not booked, recorded or restated a second time, and no number of an account is lost."""
    clock = HandClock()
    async with archived_opened(tmp_path, clock) as journal:
        journal.submit(*steps(1, WALL_NS - DAY_NS, "rare"))
        await fill(journal, clock)
        await acknowledge_all(journal)
        before = await journal.store.accounts.balance("a")
        [old] = await journal.store.records.show(str(of(7, WALL_NS + 6 * DAY_NS, "a").call_id))
        assert (await removed(journal, tmp_path)).heads.seq > 40
        head = (await journal.store.outbox.outbox_state()).head_seq
    found = moved(tmp_path, postgresql_stores)
    assert found.found == found.left
    assert found.left.counts["references of archived movements"] == 3
    async with postgresql_stores.opened(boot_id="next") as watched:
        await watched.proved()
        watched.submit(*steps(7, WALL_NS + 6 * DAY_NS, "c"))
        assert await watched.kinds() == ["StepFailed", "StepFailed"]
        again = replace(old, revision=1, seq=None, message_id=call_id(77), store_epoch="")
        assert list(await watched.store.revisions.revise([again])) == [False]
        accounts = watched.store.accounts
        await accounts.top_up("a", Money(Decimal(1_000), "EUR"), "first")
        with pytest.raises(AccountError, match="first' is booked already, as top_up 1000"):
            await accounts.top_up("a", Money(Decimal(9), "EUR"), "first")
        assert await accounts.balance("a") == before
        assert (await watched.store.outbox.outbox_state()).head_seq == head
        watched.submit(*steps(900, clock.now_ns + DAY_NS, "rare"))
        await watched.written()
        [record] = await watched.store.records.tail(head)
        assert (record.account, record.account_prev_seq) == ("rare", 1)
        await watched.proved()
