"""Old calls leave the journal, and it stays what it was: its chain, its sums, what a repeated step does."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace

from sidecar.adapters.sqlite import SqliteStore
from sidecar.adapters.sqlite.retention import rewrite
from sidecar.adapters.sqlite.sealing import Cut
from sidecar.adapters.sqlite.snapshot import Snapshot
from sidecar.adapters.store.keys import KEY_FILE_NAME, add_key, read_keys
from sidecar.adapters.store.store import Pace
from sidecar.core.audit import Change, Operator
from sidecar.core.call import Call
from sidecar.core.chain import Link
from sidecar.core.commands import EntryKind, StoreCommand
from sidecar.core.identity import call_id_of
from sidecar.core.terms import Detail, HangupOrigin, Money
from sidecar.ports import AccountError, Erased, RetentionError
from tests.adapters.sqlite_stores import Watched, asked
from tests.adapters.store_calls import (
    NO_SERVER_RECORDS,
    WALL_NS,
    admission,
    admitted,
    answered,
    call_id,
    ended,
    ending,
    entry,
    terms_of,
)

DAY_NS = 86_400 * 10**9
UNTIL_NS = WALL_NS + 50 * DAY_NS
CHANGE = Change(operator=Operator("op", 1), action="retention.archive", subject="n1")


class HandClock:
    def __init__(self) -> None:
        self.now_ns = WALL_NS

    def wall_ns(self) -> int:
        return self.now_ns

    def mono_ns(self) -> int:
        return self.now_ns - WALL_NS + 10**13


@asynccontextmanager
async def opened(data_dir: Path, clock: HandClock, boot_id: str = "6f1c2a") -> AsyncIterator[Watched]:
    store = SqliteStore.open(
        data_dir, node="n1", boot_id=boot_id, clock=clock, pace=Pace(commit_interval_ms=0, company_ms=0)
    )
    try:
        yield Watched(store)
    finally:
        await store.close()


def steps(
    number: int, at_ns: int, account: str = "a", *, kept_back: bool = False
) -> list[tuple[StoreCommand, ...]]:
    call = of(number, at_ns, account)
    end = (
        ended(answered(call), detail=Detail.MAX_DURATION, origin=HangupOrigin.SERVER)
        if kept_back
        else ended(answered(call))
    )
    return [
        admission(call),
        entry(EntryKind.ANSWERED, answered(call)),
        ending(end, NO_SERVER_RECORDS) if kept_back else ending(end),
    ]


def of(number: int, at_ns: int, account: str = "a") -> Call:
    call = admitted(number, account, prepaid=True, at_ns=at_ns)
    return replace(call, call_id=call_id_of("_", "n1", "6f1c2a", number, at_ns // 10**6))


async def fill(watched: Watched, clock: HandClock) -> None:
    """A hundred days, a call a day, each in commits of its own; one that is up all the time; top-ups."""
    accounts = watched.store.accounts
    for name in ("a", "b"):
        await accounts.create(terms_of(name))
        await accounts.top_up(name, Money(Decimal(1_000), "EUR"), "first")
    watched.submit(admission(of(500, WALL_NS, "b")))
    for day in range(100):
        clock.now_ns = WALL_NS + day * DAY_NS
        for step in steps(day + 1, clock.now_ns, "ab"[day % 2] if day % 3 else "c", kept_back=day % 10 == 9):
            watched.submit(step)
            await watched.written()
        if day == 20:
            await accounts.top_up("a", Money(Decimal(5), "EUR"), "second")
    # A record of old is stated anew when its first revision is old enough to go.
    [old] = await watched.store.records.show(str(of(3, WALL_NS + 2 * DAY_NS).call_id))
    charges = tuple(
        replace(charge, total=charge.total + 1, net=charge.net + 1)
        if charge.total is not None and charge.net is not None
        else charge
        for charge in old.charges
    )
    [written] = await watched.store.revisions.revise(
        [replace(old, revision=1, seq=None, charges=charges, store_epoch="", message_id=of(900, 1).call_id)]
    )
    assert written


async def acknowledge_all(watched: Watched) -> None:
    await watched.written()
    head = (await watched.store.outbox.outbox_state()).head_seq
    await watched.store.outbox.acknowledge(range(1, head + 1), [])


@contextmanager
def snapshot(data_dir: Path) -> Iterator[Snapshot]:
    with Snapshot(data_dir) as found:
        yield found


def proved(data_dir: Path) -> None:
    with snapshot(data_dir) as journal:
        assert journal.verify(read_keys(data_dir / KEY_FILE_NAME), None).wrong == []
        assert journal.ledger_check() == []


async def removed(watched: Watched, data_dir: Path, until_ns: int = UNTIL_NS) -> Cut:
    with snapshot(data_dir) as journal:
        _, cut = journal.cuts(until_ns // 1_000)
    await watched.store.retention.remove(cut, until_ns // 1_000, "d" * 64, CHANGE)
    return cut


def balances(data_dir: Path) -> list[tuple[object, ...]]:
    return asked(data_dir, "SELECT account, currency, amount FROM balances ORDER BY account")


@pytest.mark.parametrize("rows_per_part", [1, 7, 20_000])
async def test_old_calls_go_and_chain_sums_and_numbers_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_per_part: int
) -> None:
    monkeypatch.setattr("sidecar.adapters.sqlite.sealing.ROWS_PER_PART", rows_per_part)
    clock = HandClock()
    async with opened(tmp_path, clock) as watched:
        await fill(watched, clock)
        await acknowledge_all(watched)
        before = balances(tmp_path)
        cut = await removed(watched, tmp_path)
        assert cut.heads.seq == 45  # of fifty days; each tenth is kept back
        proved(tmp_path)
        assert balances(tmp_path) == before
        assert asked(tmp_path, "SELECT min(seq), count(*) FROM cdrs") == [(46, 46)]
        assert asked(tmp_path, "SELECT count(*) FROM cdr_bodies") == [(46,)]
        assert asked(tmp_path, "SELECT count(*) FROM suppressed") == [(5,)]
        # The call that is up, and the one that was stated anew, keep what is theirs.
        kept = asked(
            tmp_path,
            "SELECT kind, count(*) FROM ledger WHERE entry <= ? GROUP BY kind ORDER BY kind",
            cut.heads.ledger,
        )
        assert kept == [("carried", 3), ("charge", 1), ("reserve", 1)]
        watched.submit(*steps(600, clock.now_ns + DAY_NS, "a"))
        await watched.written()
        [*_, last] = await watched.store.outbox.pending(0, 10)
        [record] = await watched.store.records.tail(last.seq - 1)
        assert record.account_prev_seq is not None
        proved(tmp_path)
    async with opened(tmp_path, clock, "next") as watched:
        assert [call.call_id for call, _ in watched.store.found_open()] == [of(500, WALL_NS).call_id]
        proved(tmp_path)


async def test_what_is_repeated_for_a_call_that_is_gone_changes_nothing(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as watched:
        await fill(watched, clock)
        await acknowledge_all(watched)
        before = balances(tmp_path)
        [old] = await watched.store.records.show(str(of(7, WALL_NS + 6 * DAY_NS).call_id))
        await removed(watched, tmp_path)
    async with opened(tmp_path, clock, "next") as watched:
        head = (await watched.store.outbox.outbox_state()).head_seq
        for step in steps(7, WALL_NS + 6 * DAY_NS, "c"):
            watched.submit(step)
        assert await watched.kinds() == ["StepFailed", "StepFailed"]
        again = replace(old, revision=1, seq=None, message_id=call_id(77), store_epoch="")
        assert list(await watched.store.revisions.revise([again])) == [False]
        for reference, amount in (("first", 1_000), ("second", 5)):
            await watched.store.accounts.top_up("a", Money(Decimal(amount), "EUR"), reference)
            with pytest.raises(AccountError, match=f"{reference}' is booked already, as top_up {amount}"):
                await watched.store.accounts.top_up("a", Money(Decimal(9), "EUR"), reference)
        assert balances(tmp_path) == before
        assert (await watched.store.outbox.outbox_state()).head_seq == head
        proved(tmp_path)


async def test_an_accounts_last_number_outlasts_its_records(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as watched:
        for step in steps(1, WALL_NS, "rare"):
            watched.submit(step)
        for step in steps(2, WALL_NS, "a"):
            watched.submit(step)
        await acknowledge_all(watched)
        clock.now_ns += 60 * DAY_NS
        await removed(watched, tmp_path)
    async with opened(tmp_path, clock, "next") as watched:
        watched.submit(*steps(3, clock.now_ns, "rare"))
        await watched.written()
        [record] = await watched.store.records.tail(0)
        assert (record.seq, record.account_prev_seq) == (3, 1)
        proved(tmp_path)


async def test_what_the_broker_has_not_is_not_removed(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as watched:
        await fill(watched, clock)
        await watched.store.outbox.acknowledge([*range(1, 20), 21, 22], [(20, 0x87)])
        assert (await removed(watched, tmp_path)).heads.seq == 19
        await watched.store.outbox.drop_dead([20])
        assert (await removed(watched, tmp_path)).heads.seq == 22
        proved(tmp_path)
        assert [row.seq for row in await watched.store.outbox.pending(0, 1)] == [23]


async def test_what_is_not_archived_cannot_be_deleted_and_what_was_cut_is_noted(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as watched:
        await fill(watched, clock)
        await acknowledge_all(watched)
        cut = await removed(watched, tmp_path)
        with pytest.raises(Exception, match="the ledger is never changed"):
            asked(tmp_path, "DELETE FROM ledger WHERE entry > ?", cut.heads.ledger)
        assert asked(tmp_path, "SELECT action, subject FROM audit") == [("retention.archive", "n1")]
        assert (await removed(watched, tmp_path)) == cut  # again: nothing to do


async def test_a_row_behind_the_cut_that_was_changed_is_named(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as watched:
        await fill(watched, clock)
        await acknowledge_all(watched)
        await removed(watched, tmp_path)
    asked(tmp_path, "UPDATE cdrs SET account = 'x' WHERE seq = 50")
    with snapshot(tmp_path) as journal:
        [wrong] = journal.verify(read_keys(tmp_path / KEY_FILE_NAME), None).wrong
    assert "record 50" in wrong


async def test_old_calls_go_a_few_at_a_time_beside_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.adapters.sqlite.retention.ROWS_PER_STEP", 20)
    clock = HandClock()
    async with opened(tmp_path, clock) as watched:
        await fill(watched, clock)
        await acknowledge_all(watched)
        until = datetime.fromtimestamp(UNTIL_NS // 10**9, UTC)
        with snapshot(tmp_path) as journal:
            _, cut = journal.cuts(UNTIL_NS // 1_000)
        retention = watched.store.retention
        wrong = Link(cut.link.number, bytes(16))
        later = link_behind(tmp_path, cut.link.number)
        for link in (wrong, later):
            with pytest.raises(RetentionError, match="is not one up to which calls before"):
                await retention.remove_some(link, until, "d" * 64, CHANGE)
        before, number = balances(tmp_path), 600
        while not await retention.remove_some(cut.link, until, "d" * 64, CHANGE):
            number += 1
            for step in steps(number, clock.now_ns + DAY_NS, "a"):
                watched.submit(step)
            await watched.written()
            proved(tmp_path)
        assert number > 605
        assert await retention.remove_some(cut.link, until, "d" * 64, CHANGE)
        proved(tmp_path)
        assert asked(tmp_path, "SELECT min(seq) FROM cdrs") == [(46,)]
        assert [row[:2] for row in balances(tmp_path)] == [row[:2] for row in before]
        assert asked(tmp_path, "SELECT action, subject FROM audit") == [("retention.archive", "n1")]
    async with opened(tmp_path, clock, "next") as watched:
        assert watched.store.salvage is None
        proved(tmp_path)


def link_behind(data_dir: Path, number: int) -> Link:
    sql = "SELECT number, hash FROM commits WHERE number > ? ORDER BY number LIMIT 1 OFFSET 20"
    [(found, digest)] = asked(data_dir, sql, number)
    assert isinstance(found, int)
    assert isinstance(digest, bytes)
    return Link(found, digest)


async def test_a_journal_that_was_salvaged_has_its_old_calls_cut_off_as_before(tmp_path: Path) -> None:
    """Its chain begins anew, with a link for each day that was."""
    clock = HandClock()
    async with opened(tmp_path, clock) as watched:
        await fill(watched, clock)
        await acknowledge_all(watched)
    before = balances(tmp_path)
    asked(tmp_path, "UPDATE balances SET amount = '7' WHERE account = 'a'")
    async with opened(tmp_path, clock, "next") as watched:
        assert watched.store.salvage is not None
        proved(tmp_path)
        await acknowledge_all(watched)
        cut = await removed(watched, tmp_path)
        assert cut.heads.seq == 45
        proved(tmp_path)
        assert balances(tmp_path) == before
        assert asked(tmp_path, "SELECT min(seq), count(*) FROM cdrs") == [(46, 46)]


# --- erasure ------------------------------------------------------------------------------------------------

NUMBER = "4915112345678"


async def erased(watched: Watched, number: str = NUMBER) -> Erased:
    change = Change(operator=Operator("op", 1), action="retention.erase", subject="")
    return await watched.store.retention.erase(number, change)


@pytest.mark.parametrize("rows_per_look", [7, 2_000])
async def test_an_erased_number_is_nowhere_and_totals_and_chain_are_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_per_look: int
) -> None:
    monkeypatch.setattr("sidecar.adapters.store.retention.ROWS_PER_LOOK", rows_per_look)
    clock = HandClock()
    async with opened(tmp_path, clock) as watched:
        await fill(watched, clock)
        await acknowledge_all(watched)
    add_key(tmp_path / KEY_FILE_NAME)  # what follows is written under another key
    async with opened(tmp_path, clock, "next") as watched:
        watched.submit(*steps(700, clock.now_ns, "a"))
        await acknowledge_all(watched)
        before = balances(tmp_path)
        one = of(5, WALL_NS + 4 * DAY_NS).call_id
        [was] = await watched.store.records.show(str(one))
        done = await erased(watched)
        assert (done.records, done.waiting, done.open_calls) == (102, 0, 1)
        proved(tmp_path)
        assert balances(tmp_path) == before
        [now] = await watched.store.records.show(str(one))
        assert now.callee.received == f"00{done.pseudonym}"
        assert now.callee.billed == done.pseudonym
        assert now.caller == was.caller
        assert [charge.total for charge in now.charges] == [charge.total for charge in was.charges]
        for table in ("cdr_bodies", "suppressed"):
            held = asked(tmp_path, f"SELECT count(*) FROM {table} WHERE instr(body, ?)", NUMBER.encode())
            assert held == [(0,)]
        assert asked(tmp_path, "SELECT count(*) FROM cdrs WHERE callee GLOB ?", f"*{NUMBER}*") == [(0,)]
        noted = asked(tmp_path, "SELECT subject, after FROM audit")
        assert {subject for subject, _ in noted} == {done.pseudonym}
        assert sum(json.loads(str(after))["records"] for _, after in noted) == 102
        assert NUMBER not in str(noted)
        again = await erased(watched)
        assert (again.records, again.pseudonym) == (0, done.pseudonym)


async def test_no_page_of_the_file_holds_an_erased_number(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as watched:
        for number in range(1, 41):
            for step in steps(number, clock.now_ns, kept_back=number % 4 == 0):
                watched.submit(step)
        await acknowledge_all(watched)
        await erased(watched)
    rewrite(tmp_path)
    for path in list(tmp_path.iterdir()):  # noqa: ASYNC240
        assert NUMBER.encode() not in path.read_bytes(), path
    proved(tmp_path)


async def test_what_is_still_to_be_published_is_erased_when_it_was(tmp_path: Path) -> None:
    clock = HandClock()
    async with opened(tmp_path, clock) as watched:
        await fill(watched, clock)
        await watched.store.outbox.acknowledge(range(1, 11), [])
        done = await erased(watched)
        assert (done.records, done.waiting) == (10 + 10, 81)
        await acknowledge_all(watched)
        assert (await erased(watched)).records == 81
        proved(tmp_path)


@pytest.mark.parametrize("number", ["", "123", "+4915112345678", "4915*"])
async def test_what_is_no_number_erases_nothing(tmp_path: Path, number: str) -> None:
    async with opened(tmp_path, HandClock()) as watched:
        with pytest.raises(RetentionError, match="5 digits or more"):
            await erased(watched, number)


@pytest.mark.parametrize("seed", range(3))
async def test_removing_and_erasing_at_any_moments_leaves_everything_proved(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    clock = HandClock()
    async with opened(tmp_path, clock) as watched:
        await fill(watched, clock)
        await acknowledge_all(watched)
        before = balances(tmp_path)
        for _ in range(4):
            await removed(watched, tmp_path, WALL_NS + chance.randrange(100) * DAY_NS)
            proved(tmp_path)
        await erased(watched)
        await removed(watched, tmp_path, WALL_NS + 99 * DAY_NS)
        proved(tmp_path)
        assert balances(tmp_path) == before
