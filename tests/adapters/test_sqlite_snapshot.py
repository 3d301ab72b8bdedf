"""A snapshot of a journal that a daemon writes: each call once, by its highest revision."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import apsw
import pytest
from msgspec.structs import replace

from sidecar.adapters.sqlite.file import FILE_NAME
from sidecar.adapters.sqlite.snapshot import Snapshot
from sidecar.adapters.store.bodies import DamagedError
from sidecar.adapters.store.store import StoreError
from sidecar.core.cdr import Cdr, message_id
from sidecar.core.commands import Publish, Suppress
from sidecar.core.terms import RevisionReason
from sidecar.core.totals import revenue
from sidecar.ports import RecordFilter
from tests.adapters.sqlite_stores import asked, opened
from tests.adapters.store_calls import call_id, whole_call
from tests.adapters.test_store_records import AT_3, filled, record


def revised(cdr: Cdr, **change: object) -> Cdr:
    number = cdr.revision + 1
    return replace(
        cdr,
        revision=number,
        supersedes=cdr.revision,
        revision_reason=RevisionReason.LATE_EVIDENCE,
        message_id=message_id(cdr.call_id, number),
        **change,
    )


def ids(data_dir: Path, **wanted: object) -> list[UUID]:
    with Snapshot(data_dir) as snapshot:
        return [cdr.call_id for cdr in snapshot.records(RecordFilter(**wanted))]  # type: ignore[arg-type]


async def test_records_come_by_their_end_the_earliest_first(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        await filled(watched)
        assert ids(tmp_path) == [call_id(number) for number in (1, 2, 3, 4, 5)]
        with Snapshot(tmp_path) as snapshot:
            latest = [cdr.call_id for cdr in snapshot.records(RecordFilter(), latest_first=True)]
        assert latest == ids(tmp_path)[::-1]
        assert ids(tmp_path, since=AT_3, until=AT_3 + timedelta(seconds=1)) == [call_id(3)]
        assert ids(tmp_path, account="acme", gateway="gw2") == [call_id(5)]
        assert ids(tmp_path, number="33*") == [call_id(5)]
        assert ids(tmp_path, suppressed=True) == [call_id(6)]


async def test_the_highest_revision_counts_and_a_void_one_does_not(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        first, second, third = record(1), record(2), record(3)
        later = revised(first, talk_ms=1)
        moved = revised(third, recorded=False, suppressed_by="SERVER_BILLING_RECORD_SERVER_HANG_UP")
        for cdr in (first, second, third, later, revised(later, talk_ms=2), revised(second, void=True)):
            watched.submit((Publish(cdr=cdr),))
        watched.submit((Suppress(cdr=moved),))
        await watched.written()
        with Snapshot(tmp_path) as snapshot:
            [held] = snapshot.records(RecordFilter())
            [kept] = snapshot.records(RecordFilter(suppressed=True))
        assert (held.call_id, held.revision, held.talk_ms) == (call_id(1), 2, 2)
        assert (kept.call_id, kept.revision) == (call_id(3), 1)


async def test_what_is_written_meanwhile_is_not_in_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        watched.submit(*whole_call(1))
        await watched.written()
        with Snapshot(tmp_path) as snapshot:
            assert len(list(snapshot.records(RecordFilter()))) == 1
            watched.submit(*whole_call(2))
            await watched.written()
            assert len(list(snapshot.records(RecordFilter()))) == 1
        assert len(ids(tmp_path)) == 2


async def test_revenue_is_what_the_ledger_has_charged(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        for number in range(1, 30):
            watched.submit(*whole_call(number))
        await watched.written()
        await watched.proved()
    charged = asked(tmp_path, "SELECT currency, amount FROM ledger WHERE kind = 'charge'")
    with Snapshot(tmp_path) as snapshot:
        rows = revenue(snapshot.records(RecordFilter()))
    assert {currency for currency, _ in charged} == {"EUR"}
    assert rows[0].charged.sell["EUR"].total == -sum(Decimal(str(amount)) for _, amount in charged)


async def test_a_closed_journal_is_read_and_left_as_it_is(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        await filled(watched)
    before = (tmp_path / FILE_NAME).read_bytes()
    assert len(ids(tmp_path)) == 5
    assert (tmp_path / FILE_NAME).read_bytes() == before


@pytest.mark.parametrize(
    ("bounds", "found"),
    [
        ({"currency": "EUR"}, 5),
        ({"currency": "USD"}, 0),
        ({"currency": "EUR", "charge_min": Decimal("0.07259")}, 5),
        ({"currency": "EUR", "charge_min": Decimal(1)}, 0),
        ({"currency": "EUR", "charge_max": Decimal("0.01")}, 0),
    ],
)
async def test_records_are_found_by_their_charge(
    tmp_path: Path, bounds: dict[str, object], found: int
) -> None:
    async with opened(tmp_path) as watched:
        await filled(watched)
        assert len(ids(tmp_path, **bounds)) == found
        page = await watched.store.records.search(RecordFilter(**bounds), 100)  # type: ignore[arg-type]
        assert (len(page.records), page.cursor) == (found, None)


@pytest.mark.parametrize("scanned_max", [1, 2, 3, 50_000])
@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"number": "33*"},
        {"number": "nobody"},
        {"account": "acme", "gateway": "gw2"},
        {"gateway": ""},
        {"since": AT_3},
        {"until": AT_3},
        {"suppressed": True},
        {"sip_call_id": "a5@192.0.2.1", "holds": True},
        {"currency": "EUR"},
    ],
)
async def test_a_search_looks_at_so_many_rows_at_a_time_and_finds_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scanned_max: int, wanted: dict[str, object]
) -> None:
    monkeypatch.setattr("sidecar.adapters.store.search.SORTED_MAX", 1)
    monkeypatch.setattr("sidecar.adapters.store.search.SCANNED_MAX", scanned_max)
    async with opened(tmp_path) as watched:
        await filled(watched)
        asked, found, cursor, steps = RecordFilter(**wanted), list[UUID](), None, 0  # type: ignore[arg-type]
        with Snapshot(tmp_path) as snapshot:
            while True:
                page = snapshot.search(asked, 2, cursor, 0)
                found += [cdr.call_id for cdr in page.records]
                steps += 1
                if (cursor := page.cursor) is None:
                    break
            assert snapshot.search(asked, 100, within_s=60).cursor is None
        assert found == ids(tmp_path, **wanted)[::-1]
        is_dense = wanted.keys() <= {"since", "until", "suppressed"}  # each row that is looked at is one
        assert steps > 1 if scanned_max == 1 and not is_dense else steps <= 3


def test_bounds_without_a_currency_are_no_question() -> None:
    with pytest.raises(ValueError, match="currency"):
        RecordFilter(charge_min=Decimal(1))


async def test_a_damaged_record_is_named_and_a_missing_journal_too(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        await filled(watched)
    connection = apsw.Connection(str(tmp_path / FILE_NAME))
    connection.execute("UPDATE cdr_bodies SET crc = crc + 1 WHERE seq = 3")
    connection.close()
    with pytest.raises(DamagedError, match="record 3"):
        ids(tmp_path)
    with pytest.raises(StoreError, match="there is no journal"):
        ids(tmp_path / "elsewhere")
    (tmp_path / FILE_NAME).write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(StoreError, match="cannot be read"):
        ids(tmp_path)
