"""Books that were put back by PostgreSQL's own tools."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from sidecar.adapters.store.keys import KEY_FILE_NAME
from sidecar.cli import app
from sidecar.ports import OutboxState, Seen
from sidecar.subscriber.record import from_message
from tests.adapters.sqlite_stores import AnyWatched
from tests.adapters.store_calls import admission, admitted, answered, call_id, ended, ending, whole_call
from tests.adapters.stores import PostgresqlStores
from tests.adapters.test_store import with_balance
from tests.rig.postgres import Postgres, postgres_folder


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


async def published(watched: AnyWatched, node: str) -> list[dict[str, Any]]:
    """What a subscriber has of it. (The calls of these tests name `n1`, whoever records them.)"""
    rows = await watched.store.outbox.pending(0, 1_000)
    records = (json.loads(from_message(row.topic, row.payload).text) for row in rows)
    return [record | {"node": node} for record in records]


async def test_a_server_goes_back_to_a_moment_by_its_base_backup_and_its_log(tmp_path: Path) -> None:
    """pg_basebackup and a WAL archive, as the reference has it. What was committed up to the moment is there,
    proved; what came after it is not, is found in a subscriber's sink, and by the head that was told."""
    with postgres_folder() as folder:
        server = Postgres(folder)
        server.start(**server.archiving())
        try:
            stores = PostgresqlStores(
                server.new_database("books"), "books", tmp_path / "data" / KEY_FILE_NAME
            )
            stores.key_file.parent.mkdir()
            async with stores.opened() as one, stores.opened(node="n2", boot_id="second") as other:
                await with_balance(one, "1000")
                one.submit(*whole_call(1, prepaid=True), admission(admitted(2)))
                await one.written()
                server.base_backup(folder / "base")  # while both run
                other.submit(*whole_call(11, prepaid=True))
                one.submit(*whole_call(3, prepaid=True))
                await other.written()
                await one.written()
                ((moment,),) = stores.asked("SELECT clock_timestamp()::text")
                one.submit(ending(ended(answered(admitted(2)))), *whole_call(4, prepaid=True))
                other.submit(*whole_call(12, prepaid=True))
                await one.written()
                await other.written()
                states = [await each.store.outbox.outbox_state() for each in (one, other)]
                told = [*await published(one, "n1"), *await published(other, "n2")]
            (tmp_path / "sink").write_text("".join(f"{json.dumps(record)}\n" for record in told))
            server.archived()
        finally:
            server.stop()
        restored = Postgres(folder / "base")
        try:
            restored.recover(server.archive, moment)
            await goes_on(restored, states, told, tmp_path)
        finally:
            restored.stop()


async def goes_on(
    restored: Postgres, states: Sequence[OutboxState], told: Sequence[dict[str, Any]], folder: Path
) -> None:
    stores = PostgresqlStores(restored.database("books"), "books", folder / "data" / KEY_FILE_NAME)
    (folder / "dsn").touch(mode=0o600)
    (folder / "dsn").write_text(stores.conninfo)
    config = folder / "sidecar.toml"
    store = f"[store]\nengine = 'postgresql'\ndsn_file = '{folder / 'dsn'}'\n"
    config.write_text(f"[node]\nname = 'n1'\ndata_dir = '{folder / 'data'}'\n{store}")

    def says(*words: str) -> Any:
        done = CliRunner().invoke(app, [*words, "--json", "--config", str(config)])
        return done.exit_code, json.loads(done.stdout)

    assert says("journal", "check") == (0, {"wrong": []})
    of_one, of_other = (f"{state.commit}:{state.commit_hash}" for state in states)
    for head in (of_one, f"n2={of_other}"):
        exit_code, found = says("journal", "verify", "--head", head)
        assert (exit_code, ": cut: its last commit is " in found["wrong"][0]) == (1, True), found
    exit_code, later = says("store", "compare", "--json-lines", str(folder / "sink"))
    assert (exit_code, [(one["node"], one["seq"]) for one in later["published_later"]]) == (
        1,
        [("n1", 3), ("n1", 4), ("n2", 2)],
    )
    one_seen, other_seen = Seen(states[0].epoch, states[0].head_seq), Seen(states[1].epoch)  # the will of n2
    async with (
        stores.opened(boot_id="third", seen=one_seen) as one,
        stores.opened(boot_id="fourth", seen=other_seen, node="n2") as other,
    ):
        for each, state, cause in (
            (one, states[0], "the broker was told of record 4, and 2 is the last one here"),
            (other, states[1], "the books were put back, or a standby has taken over"),
        ):
            assert each.store.loss is not None
            assert each.store.loss.cause.startswith(cause)
            assert each.store.epoch != state.epoch
        assert [call.call_id for call, _ in one.store.found_open()] == [call_id(2)]
        one.submit(ending(ended(answered(admitted(2)))), *whole_call(5, prepaid=True))
        other.submit(*whole_call(13, prepaid=True))
        await one.written()
        await other.written()
        await one.proved()
        numbers = stores.asked("SELECT node, name, seq FROM cdrs JOIN epochs USING (epoch) ORDER BY 1, seq")
        lost = {(one["node"], one["store_epoch"], one["seq"]) for one in later["published_later"]}
        kept = {(one["node"], one["store_epoch"], one["seq"]) for one in told} - lost
        assert len(lost) == 3
        assert not lost & set(numbers), "no number is given a second time"
        assert kept < set(numbers)
        assert [(node, seq) for node, _, seq in numbers] == [
            *(("n1", seq) for seq in (1, 2, 5, 6)),
            *(("n2", seq) for seq in (1, 2)),
        ]
    exit_code, again = says("store", "compare", "--json-lines", str(folder / "sink"))
    assert (exit_code, again) == (1, later), "whatever comes after"
