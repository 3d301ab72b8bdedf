"""Counts of refusals that have no record yet, over the end of a boot."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec.structs import replace

from sidecar.core.cdr import Cdr, message_id
from sidecar.core.commands import Publish
from sidecar.core.hangup import SERVER, hangup
from sidecar.core.records import aggregate, cdr_of
from sidecar.core.terms import Detail, Evidence
from sidecar.ports import Seen
from tests.adapters.store_calls import POLICY, admitted
from tests.adapters.store_calls import ended as ended_call
from tests.adapters.stores import Stores

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def held(number: int, count: int) -> Cdr:
    cause = hangup(SERVER, Detail.NUMBER_BLOCKED, Evidence.MESSAGE, refused=True)
    call = replace(ended_call(admitted(number)), hangup=cause)
    return aggregate(cdr_of(call, POLICY), count, NOON, NOON)


async def test_the_last_count_is_found_and_goes_with_its_record_however_often_it_is_written(
    stores: Stores,
) -> None:
    async with stores.opened() as watched:
        assert watched.store.found_refusals() == []
        watched.store.keep_refusals([held(1, 2), held(2, 5)])
        watched.store.keep_refusals([held(1, 7)])
        await watched.written()
    async with stores.opened(boot_id="b2") as watched:
        found = watched.store.found_refusals()
        assert [one.refused_count for one in found] == [7, 5]
        assert [one.message_id for one in found] == [held(1, 7).message_id, held(2, 5).message_id]
        watched.submit(*((Publish(cdr=one),) for one in found))
        watched.submit(*((Publish(cdr=one),) for one in found))
        # As a crash between the record and the removal would leave it.
        watched.store.keep_refusals(found[:1])
        await watched.written()
        watched.submit((Publish(cdr=found[0]),))
        await watched.written()
        assert [one.refused_count for one in await watched.store.records.tail(0, 10)] == [7, 5]
        assert stores.asked("SELECT count(*) FROM refusals") == [(0,)]
        await watched.proved()


async def test_a_count_that_may_have_been_told_in_another_epoch_gets_another_message_id(
    stores: Stores,
) -> None:
    async with stores.opened() as watched:
        watched.store.keep_refusals([held(1, 2)])
        await watched.written()
    async with stores.opened(boot_id="b2", seen=Seen("another one")) as watched:
        [found] = watched.store.found_refusals()
        assert found.message_id == message_id(found.call_id, 0, watched.store.epoch)


async def test_a_damaged_count_is_passed_over(stores: Stores) -> None:
    async with stores.opened() as watched:
        watched.store.keep_refusals([held(1, 2), held(2, 5)])
        await watched.written()
    stores.asked("UPDATE refusals SET crc = crc + 1 WHERE entry = 1")
    async with stores.opened(boot_id="b2") as watched:
        assert [one.refused_count for one in watched.store.found_refusals()] == [5]
