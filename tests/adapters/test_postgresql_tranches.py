"""Tranches on the real server: taken and given back beside calls, and what becomes of them when the database
is away, or the node dies."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from math import inf
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from psycopg.conninfo import make_conninfo

from sidecar.adapters.postgresql import spool, writer
from sidecar.adapters.postgresql.writer import Alone
from sidecar.core.audit import Change, Operator
from sidecar.core.away import Away
from sidecar.core.books import MovementKind, OpenCall
from sidecar.core.commands import EntryKind
from sidecar.core.events import Admitted, AnswerRecorded, CreditRefused, GrantExtended, StepFailed
from sidecar.core.terms import Detail, HangupOrigin, Money
from sidecar.ports import AccountError, AuditFilter, Brought
from tests.adapters.sqlite_stores import AnyWatched
from tests.adapters.store_calls import (
    admission,
    admitted,
    answered,
    call_id,
    ended,
    ending,
    entry,
    extension,
    first_slice,
)
from tests.adapters.stores import PostgresqlStores
from tests.adapters.test_postgresql_nodes import LAPSED, books
from tests.adapters.test_postgresql_store import Way
from tests.adapters.test_store import with_balance
from tests.rig.node import until
from tests.rig.postgres import Postgres

MINUTE = Decimal("0.0714")  # what a slice of a minute reserves
HELD = "SELECT node, account, amount FROM tranches ORDER BY node, account"
MOVED = "SELECT amount FROM ledger WHERE kind = 'tranche' ORDER BY entry"


@pytest.fixture
def way(postgresql: Postgres) -> Iterator[Way]:
    made = Way(postgresql.port)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "RESIZE_S", 0.05)


def opened(stores: PostgresqlStores, **given: Any) -> AbstractAsyncContextManager[AnyWatched]:
    return stores.opened(**{"alone": Alone(tranche_s=60, calls_max=2), **given})


def slice_of(number: int) -> Any:
    return first_slice(admitted(number, prepaid=True), 60)


async def with_tranche(stores: PostgresqlStores, watched: AnyWatched, *held: Any) -> None:
    """Until the node holds that."""

    def holds() -> bool:
        watched.store.heartbeat(0, 0)  # it looks after commits
        return stores.asked(HELD) == [*held]

    await until(holds)


async def test_a_node_takes_what_its_calls_reserved_of_late_and_gives_it_back_at_its_end(
    postgresql_stores: PostgresqlStores, tmp_path: Path
) -> None:
    async with opened(postgresql_stores, kept_in=tmp_path / "kept.db") as watched:
        await with_balance(watched, "10")
        watched.submit(slice_of(1), slice_of(2))
        await with_tranche(postgresql_stores, watched, ("n1", "acme", 2 * MINUTE))
        assert await watched.store.accounts.balance("acme") == (Money(10 - 4 * MINUTE, "EUR"),)
        await watched.proved()
        moved = postgresql_stores.asked(MOVED)
        assert sum(amount for (amount,) in moved) == -2 * MINUTE
        for _ in range(3):
            watched.store.heartbeat(0, 0)
            await watched.written()
        assert postgresql_stores.asked(MOVED) == moved  # nothing moves where nothing changes
        watched.submit(
            *(ending(ended(answered(admitted(number, prepaid=True)), 60_000)) for number in (1, 2))
        )
        await watched.written()
    assert postgresql_stores.asked(HELD) == []
    assert postgresql_stores.asked("SELECT amount FROM balances") == [(10 - 2 * MINUTE,)]


# --- the database is away -----------------------------------------------------------------------------------


async def gone(watched: AnyWatched, way: Way) -> None:
    """The way is cut, which the node has noticed."""
    way.closed = True
    way.lose_the_next()
    watched.store.heartbeat(0, 0)
    await until(lambda: watched.store.failing)
    assert not watched.store.refusing


async def back(watched: AnyWatched, way: Way) -> None:
    way.closed = False
    await until(lambda: not watched.store.failing)
    await watched.written()


async def test_a_prepaid_call_goes_on_within_the_tranche_and_is_recorded_once(
    postgresql_stores: PostgresqlStores, way: Way, tmp_path: Path
) -> None:
    conninfo = make_conninfo(postgresql_stores.conninfo, port=way.port)
    async with opened(postgresql_stores, conninfo=conninfo, kept_in=tmp_path / "kept.db") as watched:
        await with_balance(watched, "10")
        watched.submit(slice_of(1), slice_of(2))
        await with_tranche(postgresql_stores, watched, ("n1", "acme", 2 * MINUTE))
        watched.events.clear()
        await gone(watched, way)
        call = admitted(3, prepaid=True)
        watched.submit(slice_of(3))
        await watched.until(lambda: len(watched.events) == 1)
        watched.submit(entry(EntryKind.ANSWERED, answered(call)), extension(call, 80))
        watched.submit(extension(admitted(1, prepaid=True), 3_600))  # of a call that was up: the rest
        watched.submit(extension(admitted(2, prepaid=True), 3_600), slice_of(4))
        await watched.until(lambda: len(watched.events) == 6)
        up, on, more, rest, nothing, refused = watched.events
        assert isinstance(up, Admitted)
        assert isinstance(on, AnswerRecorded)
        assert isinstance(more, GrantExtended)
        assert isinstance(rest, GrantExtended)
        assert (up.granted_s, more.granted_s, rest.granted_s) == (60, 80, 100)
        assert isinstance(nothing, StepFailed)
        assert isinstance(refused, CreditRefused)
        assert refused.detail is Detail.LEDGER_UNREACHABLE
        watched.submit(ending(ended(answered(replace(call, granted_s=80)), 75_000)))
        watched.submit(ending(ended(answered(replace(admitted(1, prepaid=True), granted_s=100)), 95_000)))
        await back(watched, way)
        assert len(watched.events) == 6  # nobody is told twice
        assert watched.store.let_go == {"tranche": 1, "unbounded": 0, "free": 0}
        assert watched.failing == []  # calls were taken all the time
        for number, talk_ms in ((1, 95_000), (3, 75_000)):
            assert [cdr.talk_ms for cdr in await watched.store.records.show(str(call_id(number)))] == [
                talk_ms
            ]
        spent = postgresql_stores.asked("SELECT -sum(amount) FROM ledger WHERE kind = 'charge'")
        assert spent == [(170 * MINUTE / 60,)]
        await watched.proved()
    assert postgresql_stores.asked("SELECT amount FROM balances") == [(10 - MINUTE - 170 * MINUTE / 60,)]
    assert postgresql_stores.asked(HELD) == []


async def test_calls_without_a_bound_go_on_up_to_one_and_free_ones_always(
    postgresql_stores: PostgresqlStores, way: Way, tmp_path: Path
) -> None:
    conninfo = make_conninfo(postgresql_stores.conninfo, port=way.port)
    async with opened(postgresql_stores, conninfo=conninfo, kept_in=tmp_path / "kept.db") as watched:
        await watched.written()
        await gone(watched, way)
        free = admitted(9)
        free = replace(free, pricing=replace(free.pricing, free=True))
        watched.submit(*(admission(admitted(number)) for number in (1, 2, 3)), admission(free))
        await watched.until(lambda: len(watched.events) == 4)
        kinds = {event.call_id: type(event) for event in watched.events}
        refused = {call_id(number) for number in (1, 2, 3) if kinds[call_id(number)] is CreditRefused}
        assert refused == {call_id(3)}
        assert kinds[free.call_id] is Admitted
        watched.submit(*(ending(ended(answered(one))) for one in (admitted(1), admitted(2), free)))
        await back(watched, way)
        assert watched.store.let_go == {"tranche": 0, "unbounded": 2, "free": 1}
        assert postgresql_stores.asked("SELECT count(*) FROM cdrs") == [(3,)]
        await watched.proved()


async def test_a_disk_that_takes_nothing_lets_no_call_go(
    postgresql_stores: PostgresqlStores, way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conninfo = make_conninfo(postgresql_stores.conninfo, port=way.port)
    monkeypatch.setattr(spool, "BYTES_MAX", 8 * spool._PAGE_BYTES)
    async with opened(postgresql_stores, conninfo=conninfo, kept_in=tmp_path / "kept.db") as watched:
        await with_balance(watched, "10")
        watched.submit(slice_of(1), slice_of(2))
        await with_tranche(postgresql_stores, watched, ("n1", "acme", 2 * MINUTE))
        watched.events.clear()
        await gone(watched, way)
        numbers = range(3, 40)
        watched.submit(*(first_slice(admitted(number, prepaid=True), 1) for number in numbers))
        await watched.until(lambda: len(watched.events) == len(numbers))
        up = {event.call_id for event in watched.events if isinstance(event, Admitted)}
        assert len(up) < len(numbers)
        assert watched.failing == [True]
        watched.submit(first_slice(admitted(50, prepaid=True), 1))
        await watched.until(lambda: len(watched.events) > len(numbers))
        assert isinstance(watched.events[-1], StepFailed)
        await back(watched, way)
        held = postgresql_stores.asked("SELECT call_id FROM open_calls")
        assert {one for (one,) in held} == {one.bytes for one in up | {call_id(1), call_id(2)}}
        await watched.proved()


async def test_what_was_perhaps_given_back_is_not_spent(
    postgresql_stores: PostgresqlStores, way: Way, tmp_path: Path
) -> None:
    """The commit whose outcome is not known has a call that would have been refused without the tranche."""
    conninfo = make_conninfo(postgresql_stores.conninfo, port=way.port)
    async with opened(postgresql_stores, conninfo=conninfo, kept_in=tmp_path / "kept.db") as watched:
        await with_balance(watched, "0.4284")
        watched.submit(slice_of(1))
        await with_tranche(postgresql_stores, watched, ("n1", "acme", MINUTE))
        watched.store._writer._resize_at_s = inf
        watched.submit(first_slice(admitted(2, prepaid=True), 240))
        await watched.written()
        watched.events.clear()
        way.closed = True
        way.lose_the_next()
        watched.submit(slice_of(3))
        await watched.until(lambda: len(watched.events) == 1)
        watched.submit(slice_of(4))
        await watched.until(lambda: len(watched.events) == 2)
        doubtful, refused = watched.events
        assert isinstance(doubtful, StepFailed)
        assert isinstance(refused, CreditRefused)
        await back(watched, way)
        await watched.proved()
    assert postgresql_stores.asked("SELECT amount FROM balances") == [(Decimal("0.0714"),)]


# --- the node dies ------------------------------------------------------------------------------------------


def left_by(file: Path, epoch: str) -> None:
    """As by a process that was killed while its database was away: it let a call go, which ended, and
    another one, and extended one that was up."""
    up = OpenCall(account="acme", granted_s=60, reserved=Money(MINUTE, "EUR"))
    alone = Away({("acme", "EUR"): 2 * MINUTE}, {call_id(1): up}.get, 0, lambda: 0)
    steps = [
        slice_of(3),
        extension(admitted(1, prepaid=True), 90),
        first_slice(admitted(4, prepaid=True), 30),
    ]
    kept: list[Any] = []
    for step in steps:
        own = alone.decide(step).kept
        assert own is not None
        kept.append(own)
    kept.append(ending(ended(answered(replace(admitted(3, prepaid=True), granted_s=60)), 60_000)))
    kept.append(ending(ended(answered(replace(admitted(1, prepaid=True), granted_s=90)), 90_000)))
    spooled = spool.FileSpool(file, epoch)
    spooled.put(dict(enumerate(kept, 1)))
    assert spooled.complaint() == ""
    spooled.close()


async def killed_with_tranche(stores: PostgresqlStores, file: Path) -> None:
    """A balance that has no more than two calls and the tranche of the node; it is killed with them."""
    async with opened(stores, kept_in=file) as watched:
        await with_balance(watched, "10")
        watched.submit(slice_of(1), slice_of(2))
        await with_tranche(stores, watched, ("n1", "acme", 2 * MINUTE))
        watched.store._writer._resize_at_s = inf
        left = Money(4 * MINUTE - 10, "EUR")
        why = Change(
            operator=Operator("ann"), action="account.adjust", subject="acme", text="spent elsewhere"
        )
        await watched.store.accounts.book(MovementKind.ADJUST, "acme", left, "r9", why)
        epoch = watched.store.epoch
        watched.store._writer._known.tranches = {}  # what it held is not given back
    left_by(file, epoch)
    assert stores.asked("SELECT amount FROM balances") == [(0,)]


async def test_what_a_killed_node_let_go_is_written_at_its_start_before_its_tranche_is_given_back(
    postgresql_stores: PostgresqlStores, tmp_path: Path
) -> None:
    file = tmp_path / "kept.db"
    await killed_with_tranche(postgresql_stores, file)
    shutil.copy(file, tmp_path / "copy")
    for boot_id in ("second", "third"):  # the other time as if it had been killed before the file was empty
        async with opened(postgresql_stores, boot_id=boot_id, kept_in=file) as watched:
            assert watched.store.brought == Brought(steps=5)
            assert postgresql_stores.asked(HELD) == []
            up = {call.call_id: call.granted_s for call, _ in watched.store.found_open()}
            assert up == {call_id(2): 60, call_id(4): 30}
            await watched.proved()
        # 60 and 90 s were charged, 60 and 30 s are held.
        assert postgresql_stores.asked("SELECT amount FROM balances") == [(0,)]
        lowest = postgresql_stores.asked("SELECT min(balance) FROM ledger WHERE kind <> 'adjust'")
        assert lowest >= [(0,)]
        shutil.copy(tmp_path / "copy", file)


async def test_the_tranche_of_a_node_that_was_taken_over_stays_its_own_until_it_starts(
    postgresql_stores: PostgresqlStores, tmp_path: Path
) -> None:
    file = tmp_path / "kept.db"
    await killed_with_tranche(postgresql_stores, file)
    postgresql_stores.asked(LAPSED)
    async with opened(postgresql_stores, node="n2", boot_id="other", kept_in=tmp_path / "2.db") as other:
        (seen,) = await books(other).others()
        taken = await books(other).take(seen)
        assert taken is not None
        watched = AnyWatched(taken)
        for number in (1, 2):  # of which it knows a minute each
            call = answered(replace(admitted(number, prepaid=True), granted_s=60))
            watched.submit(ending(ended(call, 60_000, Detail.CRASH_RECOVERED, HangupOrigin.SERVER)))
        watched.submit(slice_of(7))
        await watched.written()
        assert isinstance(watched.outcome(call_id(7)), CreditRefused)
        await taken.close()
        assert postgresql_stores.asked(HELD) == [("n1", "acme", 2 * MINUTE)]
    async with opened(postgresql_stores, boot_id="back", kept_in=file) as watched:
        # The other one found that the first call was up; this one knows how it ended, 30 s later.
        assert watched.store.brought == Brought(steps=5, revised=1)
        assert postgresql_stores.asked(HELD) == []
        await watched.proved()
        lowest = postgresql_stores.asked("SELECT min(balance) FROM ledger WHERE kind <> 'adjust'")
        assert lowest >= [(0,)]
        calls = {call.call_id for call, _ in watched.store.found_open()}
        assert calls == {call_id(4)}


async def test_what_a_node_holds_that_never_starts_again_comes_back_by_command(
    postgresql_stores: PostgresqlStores, tmp_path: Path
) -> None:
    await killed_with_tranche(postgresql_stores, tmp_path / "kept.db")
    why = Change(operator=Operator("ann"), action="node.forget", subject="n1", text="its disk is gone")
    async with opened(postgresql_stores, node="n2", boot_id="other", kept_in=tmp_path / "2.db") as other:
        accounts = other.store.accounts
        assert await accounts.tranches("acme") == (("n1", Money(2 * MINUTE, "EUR")),)
        for node, refusal in (("n1", "lives"), ("n2", "lives"), ("n9", "there is no node n9")):
            with pytest.raises(AccountError, match=refusal):
                await accounts.return_tranches(node, why)
        assert postgresql_stores.asked(HELD) == [("n1", "acme", 2 * MINUTE)]
        postgresql_stores.asked(LAPSED)
        assert await accounts.return_tranches("n1", why) == 1
        assert await accounts.return_tranches("n1", why) == 0
        assert await accounts.tranches("acme") == ()
        assert await accounts.balance("acme") == (Money(2 * MINUTE, "EUR"),)
        noted = await other.store.audit.list(0, 99, AuditFilter(action="node.forget"))
        assert [one.change.text for one in noted] == ["its disk is gone"] * 2
        await other.proved()
