"""A number leaves the records that hold it, and everything else stays as it was."""

from __future__ import annotations

import json

import psycopg
import pytest

from sidecar.core.audit import Change, Operator
from sidecar.ports import Erased, RetentionError
from tests.adapters.sqlite_stores import AnyWatched
from tests.adapters.store_calls import (
    admission,
    admitted,
    answered,
    call_id,
    ended,
    ending,
    whole_call,
)
from tests.adapters.stores import PostgresqlStores, Stores
from tests.adapters.test_store_revisions import NO_CDR

NUMBER = "4915112345678"


async def erased(watched: AnyWatched, number: str = NUMBER) -> Erased:
    change = Change(operator=Operator("op", 1), action="retention.erase", subject="")
    done: Erased = await watched.store.retention.erase(number, change)
    return done


@pytest.mark.parametrize("rows_per_look", [2, 2_000])
async def test_an_erased_number_is_nowhere_and_sums_are_as_they_were(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, rows_per_look: int
) -> None:
    monkeypatch.setattr("sidecar.adapters.store.retention.ROWS_PER_LOOK", rows_per_look)
    async with stores.opened() as watched:
        for number in range(1, 6):
            watched.submit(*whole_call(number))
        kept_back = admitted(6)
        watched.submit(admission(kept_back), ending(ended(answered(kept_back)), NO_CDR))
        watched.submit(admission(admitted(7)))
        await watched.written()
        await watched.store.outbox.acknowledge([1, 2, 3], [(4, 0x87)])
        (was,) = await watched.store.records.show(str(call_id(1)))
        balance = await watched.store.accounts.balance("acme")
        done = await erased(watched)
        assert (done.records, done.waiting, done.open_calls) == (4, 2, 1)
        (now,) = await watched.store.records.show(str(call_id(1)))
        assert (now.callee.received, now.callee.billed) == (f"00{done.pseudonym}", done.pseudonym)
        assert now.caller == was.caller
        assert [one.total for one in now.charges] == [one.total for one in was.charges]
        await watched.store.outbox.acknowledge([5], [])
        await watched.store.outbox.drop_dead([4])
        again = await erased(watched)
        assert (again.records, again.waiting, again.pseudonym) == (2, 0, done.pseudonym)
        for table in ("cdrs", "suppressed"):
            assert stores.asked(f"SELECT count(*) FROM {table} WHERE callee LIKE ?", f"%{NUMBER}%") == [(0,)]
        assert (await erased(watched)).records == 0
        noted = [one.change for one in await watched.store.audit.list()]
        assert {one.subject for one in noted} == {done.pseudonym}
        assert sum(json.loads(one.after or "")["records"] for one in noted) == 6
        assert NUMBER not in str(noted)
        assert await watched.store.accounts.balance("acme") == balance
        await watched.proved()


@pytest.mark.parametrize("number", ["", "123", "+4915112345678", "4915*"])
async def test_what_is_no_number_erases_nothing(stores: Stores, number: str) -> None:
    async with stores.opened() as watched:
        with pytest.raises(RetentionError, match="5 digits or more"):
            await erased(watched, number)


async def test_a_record_changes_by_an_erasure_alone(postgresql_stores: PostgresqlStores) -> None:
    async with postgresql_stores.opened() as watched:
        watched.submit(*whole_call(1))
        kept_back = admitted(2)
        watched.submit(admission(kept_back), ending(ended(answered(kept_back)), NO_CDR))
        await watched.store.outbox.acknowledge([1], [])
    for table in ("cdrs", "suppressed"):
        for change in ("caller = 'x'", "account = 'x'", "crc = crc + 1"):
            with pytest.raises(psycopg.errors.RaiseException, match=f"{table}: what was written"):
                postgresql_stores.asked(f"UPDATE {table} SET {change}")
    said = "INSERT INTO erased (link, call_id, revision, crc_before, crc, boot, erased_wall_ns) SELECT link,"
    postgresql_stores.asked(f"{said} call_id, revision, crc, 7, boot, 0 FROM cdrs")
    with pytest.raises(psycopg.errors.RaiseException):
        postgresql_stores.asked("UPDATE cdrs SET crc = 7, account = 'x'")
    postgresql_stores.asked("UPDATE cdrs SET crc = 7, caller = 'x'")
    with pytest.raises(psycopg.errors.RaiseException, match="never changed"):
        postgresql_stores.asked("DELETE FROM erased")
