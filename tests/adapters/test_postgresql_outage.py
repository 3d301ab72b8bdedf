"""What a node keeps on its own disk while the database is away, and what becomes of it."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
from msgspec.structs import replace
from psycopg.conninfo import make_conninfo

from sidecar.adapters.postgresql import PostgresqlStore, spool
from sidecar.adapters.postgresql.spool import FileSpool, found_in
from sidecar.core.audit import Change, Operator
from sidecar.core.call import Call
from sidecar.core.cdr import Cdr
from sidecar.core.commands import Append, Audit, EntryKind, Extended, StoreCommand
from sidecar.core.terms import Detail, HangupOrigin
from sidecar.ports import Brought
from sidecar.wire.steps import decode_step, encode_forgotten, encode_step
from tests.adapters.sqlite_stores import AnyWatched
from tests.adapters.store_calls import (
    NO_SERVER_RECORDS,
    admission,
    admitted,
    answered,
    call_id,
    ended,
    ending,
    entry,
    whole_call,
)
from tests.adapters.stores import PostgresqlStores
from tests.adapters.test_postgresql_nodes import LAPSED, books
from tests.adapters.test_postgresql_store import Way
from tests.adapters.test_store import euros, with_balance
from tests.rig.node import until
from tests.rig.postgres import Postgres

Step = tuple[StoreCommand, ...]


@pytest.fixture
def way(postgresql: Postgres) -> Iterator[Way]:
    made = Way(postgresql.port)
    yield made
    made.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kept.db"


def up(number: int, **fields: Any) -> Any:
    return answered(admitted(number, prepaid=True, **fields))


def by_bye(number: int, talk_ms: int = 61_000) -> Step:
    return ending(ended(up(number), talk_ms))


def found_at_start(number: int) -> Step:
    return ending(ended(up(number), 5_000, Detail.CRASH_RECOVERED, HangupOrigin.SERVER))


def left_in(file: Path, epoch: str, *steps: Step | UUID) -> None:
    """As by a process that was killed while its database was away."""
    kept = FileSpool(file, epoch)
    kept.put(dict(enumerate(steps, 1)))
    assert kept.complaint() == ""
    kept.close()


def steps_in(file: Path) -> Sequence[Any]:
    found = found_in(file)
    assert found is not None
    assert found.damage == ""
    return found.steps


async def records_of(watched: AnyWatched, number: int) -> Sequence[Cdr]:
    return cast("Sequence[Cdr]", await watched.store.records.show(str(call_id(number))))


def cut(way: Way) -> None:
    """Nobody gets there, and what is there is lost."""
    way.closed = True
    way.lose_the_next()


def decided(kind: EntryKind, call: Call) -> Step:
    return (Append(kind=kind, call=call, decided=True),)


# --- a step as bytes ----------------------------------------------------------------------------------------


def test_a_step_comes_back_as_it_was() -> None:
    change = Change(operator=Operator("bob\udc80"), action="call.release", subject="x", text="why \udcff")
    odd = admitted(1)
    odd = replace(odd, invite=replace(odd.invite, from_user="\\udc80"))
    for step in (
        entry(EntryKind.ENDING, ended(answered(odd))),
        by_bye(1),
        ending(ended(answered(odd), detail=Detail.DRAIN, origin=HangupOrigin.SERVER), NO_SERVER_RECORDS),
        decided(EntryKind.ADMITTED, replace(odd, granted_s=60, reserved=euros("0.0714"))),
        decided(EntryKind.ANSWERED, answered(odd)),
        (Extended(call_id=call_id(1), granted_s=120, reserved=euros("0.1428")),),
    ):
        assert decode_step(encode_step(step)) == step
    for step in (admission(odd), entry(EntryKind.ANSWERED, odd)):  # somebody waits
        with pytest.raises(TypeError):
            encode_step(step)
    with_note = decode_step(encode_step((*by_bye(1), Audit(change=change))))
    assert not isinstance(with_note, UUID)
    assert with_note[:2] == by_bye(1)
    (noted,) = with_note[2:]
    assert isinstance(noted, Audit)
    assert noted.change.text == "why \\udcff"
    assert decode_step(encode_forgotten(call_id(1))) == call_id(1)


# --- while it is away ---------------------------------------------------------------------------------------


async def test_what_is_kept_is_on_the_disk_until_it_is_written(
    postgresql_stores: PostgresqlStores, way: Way, file: Path
) -> None:
    conninfo = make_conninfo(postgresql_stores.conninfo, port=way.port)
    async with postgresql_stores.opened(conninfo=conninfo, kept_in=file) as watched:
        await with_balance(watched, "10")
        watched.submit(*(admission(admitted(number, prepaid=True)) for number in (1, 2)))
        await watched.written()
        assert await asyncio.to_thread(lambda: file.stat().st_mode & 0o777) == 0o600
        assert steps_in(file) == []
        cut(way)
        watched.submit(entry(EntryKind.ATTEMPT, admitted(2, prepaid=True)))
        await watched.until(lambda: watched.store.failing)
        watched.submit(admission(admitted(3, prepaid=True)))
        await watched.until(lambda: len(watched.events) == 3)
        watched.submit(by_bye(1))
        watched.submit(entry(EntryKind.ENDING, ended(up(2))))
        kept = [entry(EntryKind.ENDING, ended(up(2))), call_id(3), by_bye(1)]
        await until(lambda: steps_in(file) == kept)
        way.closed = False
        await watched.until(lambda: not watched.store.failing)
        await watched.written()
        assert steps_in(file) == []
        assert [cdr.detail for cdr in await records_of(watched, 1)] == [Detail.BYE]
        await watched.proved()
    assert steps_in(file) == []


async def test_a_disk_that_takes_nothing_is_said_and_delays_nothing(
    postgresql_stores: PostgresqlStores, way: Way, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "BYTES_MAX", 4 * spool._PAGE_BYTES)
    conninfo = make_conninfo(postgresql_stores.conninfo, port=way.port)
    async with postgresql_stores.opened(conninfo=conninfo, kept_in=file) as watched:
        await with_balance(watched, "100")
        watched.submit(*(admission(admitted(number, prepaid=True)) for number in range(1, 9)))
        await watched.written()
        cut(way)
        watched.submit(*(by_bye(number) for number in range(1, 9)))
        said = "what is kept meanwhile is in memory alone"
        await until(lambda: said in watched.store.failure)
        assert "FullError" in watched.store.failure
        way.closed = False
        await watched.until(lambda: not watched.store.failing)
        await watched.proved()
    assert postgresql_stores.asked("SELECT count(*) FROM cdrs") == [(8,)]
    assert steps_in(file) == []


# --- at the next start --------------------------------------------------------------------------------------


async def test_what_a_killed_process_kept_is_written_once_before_open_calls_are_looked_at(
    postgresql_stores: PostgresqlStores, file: Path, tmp_path: Path
) -> None:
    async with postgresql_stores.opened() as watched:
        epoch = watched.store.epoch
        await with_balance(watched, "20")
        watched.submit(*(admission(admitted(number, prepaid=True)) for number in (1, 2, 3, 4)))
        await watched.written()
    left_in(file, epoch, entry(EntryKind.ENDING, ended(up(2))), by_bye(1), call_id(4))
    shutil.copy(file, tmp_path / "copy")
    for round_ in range(2):  # the second as if it had been killed before the file was empty
        async with postgresql_stores.opened(boot_id=f"later{round_}", kept_in=file) as watched:
            assert watched.store.brought == Brought(steps=3)
            (record,) = await records_of(watched, 1)
            assert (record.hangup_origin, record.detail, record.talk_ms) == (
                HangupOrigin.CALLER,
                Detail.BYE,
                61_000,
            )
            calls = {call.call_id: call for call, _ in watched.store.found_open()}
            assert calls.keys() == {call_id(2), call_id(3)}
            assert calls[call_id(2)].hangup is not None
            assert [row.seq for row in await watched.store.outbox.pending(0, 9)] == [1]
            # Two calls of an hour are held; the third was charged, the fourth given back.
            assert await watched.store.accounts.balance("acme") == (euros("11.35941000"),)
            await watched.proved()
            assert steps_in(file) == []
        shutil.copy(tmp_path / "copy", file)
        assert watched.store.brought.set_aside is None


async def test_what_a_node_kept_that_was_taken_over_is_late_evidence(
    postgresql_stores: PostgresqlStores, file: Path
) -> None:
    """The second call had an end of its own at the node that took over; the third had not ended there yet.
    Of the fourth the end was kept, and no record yet."""
    opened = postgresql_stores.opened
    async with opened() as one:
        epoch = one.store.epoch
        await with_balance(one, "20")
        one.submit(*(admission(admitted(number, prepaid=True)) for number in (1, 2, 3, 4)))
        await one.written()
    postgresql_stores.asked(LAPSED)
    async with opened(node="n2", boot_id="second") as other:
        (seen,) = await books(other).others()
        taken = await cast("PostgresqlStore", other.store).take(seen)
        assert taken is not None
        watched = AnyWatched(taken)
        watched.submit(found_at_start(1), by_bye(2, 9_000), found_at_start(4))
        await watched.written()
        await taken.close()
    kept = (entry(EntryKind.ENDING, ended(up(4))), by_bye(1), by_bye(2), by_bye(3))
    left_in(file, epoch, *kept)
    for round_ in range(2):
        async with opened(boot_id=f"later{round_}", kept_in=file) as back:
            said = back.store.brought
            assert (said.steps, said.revised, len(said.left)) == (4, 2 - 2 * round_, 1)
            assert str(call_id(2)) in said.left[0]
            assert said.set_aside is not None
            assert len(steps_in(said.set_aside)) == 4
            for number in (1, 4):
                first, late = await records_of(back, number)
                assert (first.detail, late.detail) == (Detail.CRASH_RECOVERED, Detail.BYE)
                assert (late.revision, late.supersedes, late.revision_reason) == (1, 0, "late_evidence")
                assert (late.talk_ms, late.message_id != first.message_id) == (61_000, True)
            for number, detail in ((2, Detail.BYE), (3, Detail.BYE)):
                assert [cdr.detail for cdr in await records_of(back, number)] == [detail]
            await back.proved()
            spent = postgresql_stores.asked("SELECT -sum(amount) FROM ledger WHERE kind = 'charge'")
            assert spent == [(Decimal("0.22848000"),)]  # 61 s three times, and 9 s
        left_in(file, epoch, *kept)


async def test_nothing_is_kept_once_another_process_writes_in_our_place(
    postgresql_stores: PostgresqlStores, way: Way, file: Path
) -> None:
    """Its calls end because it was fenced: that is no end that the books do not know."""
    conninfo = make_conninfo(postgresql_stores.conninfo, port=way.port)
    fenced: list[bool] = []
    async with postgresql_stores.opened(conninfo=conninfo, kept_in=file) as watched:
        books(watched).on_fenced(lambda: fenced.append(True))
        await with_balance(watched, "10")
        watched.submit(*(admission(admitted(number, prepaid=True)) for number in (1, 2)))
        await watched.written()
        cut(way)
        watched.submit(entry(EntryKind.ATTEMPT, admitted(2, prepaid=True)))
        await watched.until(lambda: watched.store.failing)
        watched.submit(by_bye(1))
        await until(lambda: by_bye(1) in steps_in(file))
        postgresql_stores.asked("UPDATE epochs SET boot = NULL")
        way.closed = False
        await until(lambda: bool(fenced))
        watched.submit(by_bye(2))
    assert steps_in(file)[-1] == by_bye(1)
    assert postgresql_stores.asked("SELECT count(*) FROM cdrs") == [(0,)]


# --- damage -------------------------------------------------------------------------------------------------


def flipped(file: Path) -> None:
    """A row that is not as it was written."""
    with sqlite3.connect(file) as connection:
        ((body,),) = connection.execute("SELECT body FROM kept WHERE number = 1")
        connection.execute("UPDATE kept SET body = ? WHERE number = 1", (body[:-1] + b"\x7f",))
    connection.close()


def torn(file: Path) -> None:
    file.write_bytes(b"\x00" * file.stat().st_size)


def cut_off(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size - 5_000)


def strange(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE epoch SET name = 'elsewhere'")
    connection.close()


@pytest.mark.parametrize(
    ("damaging", "written", "said"),
    [
        (flipped, 1, "step 1: its checksum"),
        (torn, 0, "NotADBError"),
        (cut_off, None, ""),
        (strange, 0, "it is of epoch elsewhere, which this database never had"),
    ],
)
async def test_a_file_that_is_damaged_is_set_aside_and_said(
    postgresql_stores: PostgresqlStores, file: Path, damaging: Any, written: int | None, said: str
) -> None:
    async with postgresql_stores.opened() as watched:
        epoch = watched.store.epoch
        await with_balance(watched, "20")
        watched.submit(*(admission(admitted(number, prepaid=True)) for number in (1, 2)))
        await watched.written()
    left_in(file, epoch, by_bye(1), by_bye(2))
    damaging(file)
    async with postgresql_stores.opened(boot_id="later", kept_in=file) as watched:
        brought = watched.store.brought
        assert said in brought.damage
        assert brought.damage
        assert brought.set_aside is not None
        assert brought.set_aside.exists()
        assert steps_in(file) == []
        ((records,),) = postgresql_stores.asked("SELECT count(*) FROM cdrs")
        assert written is None or records == written
        assert len(watched.store.found_open()) == 2 - records
        watched.submit(*whole_call(7))
        await watched.written()
        await watched.proved()
        assert watched.failing == []
