"""Books that were put back by PostgreSQL's own tools."""

from __future__ import annotations

from decimal import Decimal

from sidecar.ports import Seen
from tests.adapters.store_calls import admission, admitted, answered, call_id, ended, ending, whole_call
from tests.adapters.stores import PostgresqlStores
from tests.adapters.test_store import with_balance
from tests.rig.postgres import Postgres


async def test_a_dump_that_is_put_back_begins_new_epochs_above_what_was_told(
    postgresql: Postgres,
) -> None:
    """What was booked after it is gone, and no number of it is given a second time: each node finds by the
    broker that its books are older, and the call that was open then gets its record under another id."""
    stores = PostgresqlStores(postgresql.new_database("backup"), "books")
    async with stores.opened() as one, stores.opened(node="n2", boot_id="second") as other:
        await with_balance(one, "1000")
        one.submit(*whole_call(1, prepaid=True), admission(admitted(2)))
        other.submit(*whole_call(11, prepaid=True))
        await one.written()
        await other.written()
        dump = postgresql.dump("backup")  # while both run
        one.submit(ending(ended(answered(admitted(2)))), *whole_call(3, prepaid=True))
        other.submit(*whole_call(12, prepaid=True))
        await one.written()
        await other.written()
        seen = [Seen(epoch=each.store.epoch, head_seq=head) for each, head in ((one, 3), (other, 2))]
        (told,) = await one.store.records.show(str(call_id(2)))
    restored = f"{postgresql.put_back(dump, 'restored')} options='-c search_path=books'"
    blind = f"{postgresql.put_back(dump, 'blind')} options='-c search_path=books'"
    async with stores.opened(boot_id="third", seen=Seen(seen[0].epoch), conninfo=blind) as one:
        loss = one.store.loss  # the will of a node has no head
        assert loss is not None
        assert loss.cause.startswith("the books were put back, or a standby has taken over")
        assert (loss.calls_maybe_told, one.store.epoch != seen[0].epoch) == (1, True)
        blind_epoch = one.store.epoch
    async with stores.opened(boot_id="fourth", conninfo=blind) as one:
        assert (one.store.loss, one.store.epoch) == (None, blind_epoch), "once"
    async with (
        stores.opened(boot_id="third", seen=seen[0], conninfo=restored) as one,
        stores.opened(boot_id="fourth", seen=seen[1], node="n2", conninfo=restored) as other,
    ):
        for each, lost, told_of in ((one, 2, seen[0]), (other, 1, seen[1])):
            loss = each.store.loss
            assert loss is not None
            assert (loss.numbers_lost, each.store.epoch != told_of.epoch) == (lost, True)
        assert [call.call_id for call, _ in one.store.found_open()] == [call_id(2)]
        one.submit(ending(ended(answered(admitted(2)))))
        other.submit(*whole_call(13, prepaid=True))
        await one.written()
        await other.written()
        epochs = [
            (node.node, node.is_present, node.base_seq, node.head_seq)
            for node in await one.store.neighbours.seen(every_epoch=True)
        ]
        assert epochs == [("n1", False, 0, 1), ("n1", True, 3, 4), ("n2", False, 0, 1), ("n2", True, 2, 3)]
        (again,) = await one.store.records.show(str(call_id(2)))
        assert again.message_id != told.message_id
        (balance,) = await one.store.accounts.balance("acme")
        assert balance.amount < Decimal(1000)
        await one.proved()
