"""Records are found again."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from msgspec.structs import replace

from sidecar.adapters.store import search
from sidecar.core.cdr import Cdr
from sidecar.core.commands import Publish, Suppress
from sidecar.core.found_by import key_of
from sidecar.core.records import cdr_of, utc
from sidecar.core.terms import Detail, HangupOrigin, ServerReason
from sidecar.ports import RecordFilter
from tests.adapters.sqlite_stores import AnyWatched
from tests.adapters.store_calls import (
    MS,
    NO_SERVER_RECORDS,
    POLICY,
    WALL_NS,
    admitted,
    answered,
    call_id,
    ended,
    ending,
    whole_call,
)
from tests.adapters.stores import Stores

MINUTE_NS = 60_000_000_000


def record(number: int, account: str = "acme", **change: object) -> Cdr:
    call = admitted(number, account, at_ns=WALL_NS + number * MINUTE_NS)
    return replace(cdr_of(ended(answered(call)), POLICY), **change)


async def filled(watched: AnyWatched) -> None:
    """1, 2: acme; 3: other; 4: released by an operator; 5: other numbers and gateway; 6: suppressed."""
    released = ended(
        answered(admitted(4, at_ns=WALL_NS + 4 * MINUTE_NS)),
        origin=HangupOrigin.SERVER,
        detail=Detail.OPERATOR,
    )
    five = record(5)
    for cdr in (
        record(1),
        record(2),
        record(3, "other"),
        cdr_of(released, POLICY),
        replace(
            five,
            gateway="gw2",
            caller=replace(five.caller, received="+33*1"),
            callee=replace(five.callee, received="0033145", billed="33145"),
        ),
    ):
        watched.submit((Publish(cdr=cdr),))
    kept = ended(answered(admitted(6)), origin=HangupOrigin.SERVER, detail=Detail.OPERATOR)
    watched.submit(ending(kept, NO_SERVER_RECORDS))
    await watched.written()


AT_3 = record(3).ended_at


FOUND = [
    (RecordFilter(), [5, 4, 3, 2, 1]),
    (RecordFilter(account="other"), [3]),
    (RecordFilter(origin=HangupOrigin.SERVER), [4]),
    (RecordFilter(reason=ServerReason.ADMIN), [4]),
    (RecordFilter(detail=Detail.BYE), [5, 3, 2, 1]),
    (RecordFilter(gateway="gw2"), [5]),
    (RecordFilter(number="004915112345678"), [4, 3, 2, 1]),
    (RecordFilter(number="4915112345678"), [4, 3, 2, 1]),
    (RecordFilter(number="4915*"), [4, 3, 2, 1]),
    (RecordFilter(number="4915"), []),
    (RecordFilter(number="+4930*"), [4, 3, 2, 1]),
    (RecordFilter(number="+33*1"), [5]),
    (RecordFilter(number="+33?1"), []),
    (RecordFilter(number="[+]33*"), []),
    (RecordFilter(since=AT_3), [5, 4, 3]),
    (RecordFilter(until=AT_3), [2, 1]),
    (RecordFilter(since=AT_3, until=AT_3 + timedelta(seconds=1)), [3]),
    (RecordFilter(account="acme", number="33*", since=utc(WALL_NS)), [5]),
    (RecordFilter(suppressed=True), [6]),
    (RecordFilter(suppressed=True, account="nobody"), []),
    (RecordFilter(account="' OR 1 --"), []),
]


async def test_a_search_finds_what_fits_the_latest_first(stores: Stores) -> None:
    async with stores.opened() as watched:
        await filled(watched)
        for wanted, numbers in FOUND:
            page = await watched.store.records.search(wanted)
            assert [cdr.call_id for cdr in page.records] == [call_id(n) for n in numbers], wanted
            assert page.cursor is None, wanted


async def test_pages_follow_one_another_also_where_ends_fall_together(stores: Stores) -> None:
    async with stores.opened() as watched:
        at = record(1).ended_at
        for number in range(1, 8):
            watched.submit(
                (Publish(cdr=record(number, ended_at=at if number < 5 else at + timedelta(hours=1))),)
            )
        await watched.written()
        found: list[Cdr] = []
        cursor = None
        for _ in range(3):
            page = await watched.store.records.search(RecordFilter(), 3, cursor)
            found += page.records
            cursor = page.cursor
        assert cursor is None
        assert [cdr.seq for cdr in found] == [7, 6, 5, 4, 3, 2, 1]


async def test_a_cursor_that_no_search_gave_is_refused(stores: Stores) -> None:
    async with stores.opened() as watched:
        for cursor in ("", "x", "1", "1.x", "1;2"):
            with pytest.raises(ValueError, match="cursor"):
                await watched.store.records.search(RecordFilter(), 3, cursor)


async def test_the_tail_goes_on_from_any_number(stores: Stores) -> None:
    async with stores.opened() as watched:
        for number in range(1, 6):
            watched.submit(*whole_call(number))
        await watched.written()
        assert [cdr.seq for cdr in await watched.store.records.tail(2, 2)] == [3, 4]
        assert await watched.store.records.tail(5) == ()


async def test_a_call_that_is_not_known_has_no_records(stores: Stores) -> None:
    async with stores.opened() as watched:
        for name in ("", "no-uuid", "00000000-0000-0000-0000-000000000000"):
            assert await watched.store.records.show(name) == ()


async def test_the_columns_that_are_searched_say_what_the_record_says(stores: Stores) -> None:
    columns = "revision, account, origin, reason, detail, gateway, caller, callee, billed, ended_us"
    async with stores.opened() as watched:
        await filled(watched)
        five = record(5)
        [kept] = (await watched.store.records.search(RecordFilter(suppressed=True))).records
    [published] = stores.asked(f"SELECT {columns} FROM cdrs WHERE seq = 5")
    [suppressed] = stores.asked(f"SELECT {columns} FROM suppressed")
    ended_us = [int(one.ended_at.timestamp()) * 1_000_000 + one.ended_at.microsecond for one in (five, kept)]
    numbers = ("+33*1", "0033145", "33145")
    assert published == (0, "acme", "caller", None, "bye", "gw2", *numbers, ended_us[0])
    numbers = (kept.caller.received, kept.callee.received, str(kept.callee.billed))
    assert suppressed == (0, "acme", "server", "admin", "operator", "gw1", *numbers, ended_us[1])
    assert len({*numbers}) == 3


def on_the_wire(cdr: Cdr, number: int) -> Cdr:
    """With names of its own on both legs."""
    leg = replace(
        cdr.leg_a, sip_call_id=f"a{number}@caller", local_tag=f"at{number}", remote_tag=f"af{number}"
    )
    other = replace(leg, sip_call_id=f"b{number}@us", local_tag=f"bf{number}", remote_tag=f"bt{number}")
    return replace(
        cdr, leg_a=leg, leg_b=other, session_id=f"{number:032x};remote={number + 0xABC0:032X}", revision=0
    )


NAMED = [
    RecordFilter(sip_call_id="a7@caller"),
    RecordFilter(sip_call_id="b7@us"),
    RecordFilter(tag="at7"),
    RecordFilter(tag="bt7", sip_call_id="b7@us"),
    RecordFilter(session_id=f"{7:032X}"),
    RecordFilter(session_id=f"{7 + 0xABC0:032x};remote={7:032x}"),
]


async def test_a_record_is_found_by_its_names_on_the_wire(stores: Stores) -> None:
    async with stores.opened() as watched:
        for number in range(1, 10):
            watched.submit((Publish(cdr=on_the_wire(record(number), number)),))
        await watched.written()
        for wanted in NAMED:
            page = await watched.store.records.search(wanted)
            assert [cdr.call_id for cdr in page.records] == [call_id(7)], wanted
            assert not (await watched.store.records.search(replace(wanted, account="other"))).records


async def test_names_that_share_their_bytes_are_told_apart(stores: Stores) -> None:
    assert key_of("plumless") == key_of("buckeroo")  # CRC-32
    async with stores.opened() as watched:
        for number, name in enumerate(("plumless", "buckeroo"), 1):
            cdr = record(number)
            watched.submit((Publish(cdr=replace(cdr, leg_a=replace(cdr.leg_a, sip_call_id=name))),))
        await watched.written()
        page = await watched.store.records.search(RecordFilter(sip_call_id="plumless"))
        assert [cdr.call_id for cdr in page.records] == [call_id(1)]


async def test_a_page_of_calls_by_charge_looks_at_so_many_and_goes_on(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.adapters.store.records.LOOKED_AT_MAX", 2)
    async with stores.opened() as watched:
        await filled(watched)
        wanted = RecordFilter(currency="EUR", charge_max=Decimal(0))
        cursor, pages = None, 0
        while True:
            page = await watched.store.records.search(wanted, 3, cursor)
            pages += 1
            assert page.records == ()
            if (cursor := page.cursor) is None:
                break
        assert pages == 3
        wanted = RecordFilter(currency="EUR")
        one = await watched.store.records.search(wanted, 1)
        two = await watched.store.records.search(wanted, 10, one.cursor)
        assert [cdr.call_id for cdr in (*one.records, *two.records)] == [call_id(n) for n in (5, 4, 3)]


async def test_of_each_call_the_record_that_holds_is_found(stores: Stores) -> None:
    async with stores.opened() as watched:
        for number in (1, 2, 3):
            watched.submit((Publish(cdr=record(number)),))
        await watched.written()
        again = replace(record(1), revision=1, supersedes=0, revision_reason="operator")
        void = replace(record(2), revision=1, supersedes=0, revision_reason="operator", void=True)
        for cdr in (again, void):
            watched.submit((Publish(cdr=cdr),))
        await watched.written()
        page = await watched.store.records.search(RecordFilter(holds=True))
        assert [(cdr.call_id, cdr.revision) for cdr in page.records] == [(call_id(3), 0), (call_id(1), 1)]
        shown = await watched.store.records.show(str(call_id(1)))
        assert [cdr.revision for cdr in shown] == [0, 1]


async def test_the_latest_calls_are_there_by_their_invites(stores: Stores) -> None:
    """For fraud rules: each by the record that holds, published or kept back, the earliest first."""
    async with stores.opened() as watched:
        for number in (1, 2, 3, 4):
            watched.submit((Publish(cdr=record(number)),))
        await watched.written()
        watched.submit((Publish(cdr=replace(record(2), revision=1, supersedes=0, revision_reason="rerate")),))
        watched.submit((Suppress(cdr=replace(record(4), revision=1, supersedes=0, void=True)),))
        watched.submit((Suppress(cdr=record(5)),))
        await watched.written()

        def found(number: int, calls_max: int) -> list[tuple[UUID, int]]:
            with watched.store.by_invite(utc((WALL_NS // MS + number) * MS), calls_max) as calls:
                return [(cdr.call_id, cdr.revision) for cdr in calls]

        assert found(2, 100) == [(call_id(2), 1), (call_id(3), 0), (call_id(5), 0)]
        assert found(0, 1)[-1] == (call_id(5), 0)


@pytest.mark.parametrize("scanned_max", [1, 2, 3])
async def test_a_search_looks_at_so_many_rows_at_a_time_and_finds_the_same(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, scanned_max: int
) -> None:
    for name, value in {"SORTED_MAX": 1, "SCANNED_MAX": scanned_max}.items():
        monkeypatch.setattr(search, name, value)
    async with stores.opened() as watched:
        await filled(watched)
        all_steps = 0
        for wanted, numbers in FOUND:
            monkeypatch.setattr(search, "SCAN_S_MAX", 0)
            found, cursor, steps = list[Cdr](), None, 0
            while True:
                page = await watched.store.records.search(wanted, 2, cursor)
                found += page.records
                steps += 1
                if (cursor := page.cursor) is None:
                    break
            assert [cdr.call_id for cdr in found] == [call_id(n) for n in numbers], wanted
            assert steps <= 7, wanted
            all_steps += steps
            monkeypatch.setattr(search, "SCAN_S_MAX", 60)
            whole = await watched.store.records.search(wanted, 100)
            assert (len(whole.records), whole.cursor) == (len(numbers), None), wanted
        assert all_steps > 2 * len(FOUND) if scanned_max == 1 else all_steps < 3 * len(FOUND)
