"""What several nodes on one database need, beside what test_store asks of each engine."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest
from msgspec.structs import replace
from psycopg.conninfo import make_conninfo

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.postgresql import PostgresqlStore, server, stored_entries
from sidecar.adapters.postgresql.chain import AUDIT_IN_ORDER
from sidecar.adapters.postgresql.snapshot import PostgresqlSnapshot
from sidecar.adapters.postgresql.spool import found_in
from sidecar.adapters.store.keys import read_keys
from sidecar.adapters.store.store import StoreAwayError, StoreError
from sidecar.core.audit import RELOAD, Change, Operator
from sidecar.core.commands import EntryKind
from sidecar.core.events import Admitted
from sidecar.core.users import Role, User
from sidecar.ports import UnavailableError
from tests.adapters.store_calls import (
    admission,
    admitted,
    answered,
    call_id,
    ended,
    ending,
    entry,
    first_slice,
    terms_of,
    whole_call,
)
from tests.adapters.stores import PostgresqlStores
from tests.adapters.test_store import euros, with_balance
from tests.adapters.test_store_stored import entry as gateway
from tests.rig.node import until
from tests.rig.postgres import Postgres


async def test_two_nodes_never_reserve_more_than_a_balance_that_both_spend(
    postgresql_stores: PostgresqlStores,
) -> None:
    """Nor do they stand in one another's way: each commit moves many accounts, in another order."""
    accounts = [f"a{number}" for number in range(8)]
    opened = postgresql_stores.opened
    async with opened() as one, opened(node="n2", boot_id="second") as other:
        for account in accounts:
            await with_balance(one, "10", account)
        for round_ in range(10):
            for at, account in enumerate(accounts):
                one.submit(admission(admitted(1 + 100 * round_ + at, account, prepaid=True)))
            for at, account in enumerate(reversed(accounts)):
                other.submit(admission(admitted(10_001 + 100 * round_ + at, account, prepaid=True)))
            await asyncio.sleep(0)
        kinds = await one.kinds() + await other.kinds()
        # An hour costs 4.284 EUR: two calls get it, a third what is left.
        assert (kinds.count("Admitted"), kinds.count("CreditRefused")) == (24, 136)
        for account in accounts:
            (left,) = await other.store.accounts.balance(account)
            assert left.amount >= 0
        await one.proved()
        assert one.failing == other.failing == []


async def test_an_account_made_on_one_node_bounds_its_calls_on_another(
    postgresql_stores: PostgresqlStores,
) -> None:
    opened = postgresql_stores.opened
    async with opened() as one, opened(node="n2", boot_id="second") as other:
        await with_balance(one, "0.0001")
        other.submit(admission(admitted(1, prepaid=True)))
        assert await other.kinds() == ["CreditRefused"]


async def test_what_an_account_may_spend_in_a_month_is_one_sum_over_all_nodes(
    postgresql_stores: PostgresqlStores,
) -> None:
    """What calls of all nodes were charged, and what they hold."""
    terms = replace(terms_of("acme", prepaid=False), month_limit=Decimal("0.2"), low_balance=Decimal("0.1"))
    minute = first_slice(admitted(1), 60)  # 0.0714 EUR
    opened = postgresql_stores.opened
    async with opened() as one, opened(node="n2", boot_id="second") as other:
        await one.store.accounts.create(terms)
        one.submit(minute)
        await one.written()
        other.submit(first_slice(admitted(11), 60))
        await other.written()
        one.submit(first_slice(admitted(2), 60))
        assert await one.kinds() == ["Admitted", "Admitted"]
        third = cast("Admitted", one.events[1])
        assert (third.granted_s, third.rule) == (48, "spending_limit")
        other.submit(ending(ended(answered(admitted(11)), 30_000)))
        await other.written()
        other.submit(first_slice(admitted(12), 60))
        assert await other.kinds() == ["Admitted", "Admitted"]
        assert cast("Admitted", other.events[1]).granted_s == 30
        one.submit(first_slice(admitted(3), 60))
        assert (await one.kinds())[-1] == "CreditRefused"
        await one.proved()


async def test_each_node_numbers_its_own_records_and_finds_its_own_calls(
    postgresql_stores: PostgresqlStores,
) -> None:
    opened = postgresql_stores.opened
    async with opened() as one, opened(node="n2", boot_id="second") as other:
        one.submit(*whole_call(1), *whole_call(2), admission(admitted(3)))
        other.submit(*whole_call(11), admission(admitted(12)))
        await one.written()
        await other.written()
        assert one.store.epoch != other.store.epoch
        for watched, seqs in ((one, [1, 2]), (other, [1])):
            records = await watched.store.records.tail(0)
            assert [cdr.seq for cdr in records] == seqs
            assert {cdr.store_epoch for cdr in records} == {watched.store.epoch}
            assert [row.seq for row in await watched.store.outbox.pending(0, 9)] == seqs
        await other.store.outbox.acknowledge([1], [])
        assert (await one.store.outbox.outbox_state()).depth == 2
        assert [cdr.seq for cdr in await other.store.records.show(str(call_id(2)))] == [2]
    async with opened(boot_id="third") as one, opened(node="n2", boot_id="fourth") as other:
        assert [call.call_id for call, _ in one.store.found_open()] == [call_id(3)]
        assert [call.call_id for call, _ in other.store.found_open()] == [call_id(12)]
        await one.proved()


async def test_a_second_process_of_a_node_is_refused(
    postgresql_stores: PostgresqlStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.adapters.postgresql.boots.HELD_S_MAX", 0.0)
    async with postgresql_stores.opened():
        # It may only look so: the server may hold the lock of one that is gone for the length of its lease.
        with pytest.raises(StoreAwayError, match="another process writes as node n1"):
            async with postgresql_stores.opened(boot_id="second"):
                pass


async def test_a_server_that_goes_down_while_a_node_starts_is_away(
    postgresql_stores: PostgresqlStores,
) -> None:
    async with postgresql_stores.opened() as one:
        await one.proved()
    with psycopg.connect(postgresql_stores.conninfo) as before:
        before.execute("SELECT 1 FROM nodes FOR UPDATE")
        waits = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND query LIKE '%FROM nodes%' AND datname = current_database()"
        )
        with ThreadPoolExecutor(1) as thread:
            starting = thread.submit(open_once, postgresql_stores)
            await until(lambda: postgresql_stores.asked(waits) == [(True,)])
            with pytest.raises(StoreAwayError, match="terminating connection"):
                starting.result()


def open_once(stores: PostgresqlStores) -> None:
    PostgresqlStore.open(
        stores.conninfo, node="n1", boot_id="second", clock=SystemClock(), key_file=stores.key_file
    )


async def test_what_a_process_writes_whose_books_were_taken_over_is_refused(
    postgresql_stores: PostgresqlStores,
) -> None:
    async with postgresql_stores.opened() as watched:
        watched.submit(admission(admitted(1)))
        await watched.written()
        postgresql_stores.asked("UPDATE epochs SET boot = NULL")
        watched.submit(admission(admitted(2)), ending(ended(answered(admitted(1)))))
        await watched.until(lambda: watched.failing == [True] and len(watched.events) == 2)
        assert type(watched.outcome(call_id(2))).__name__ == "StepFailed"
        assert "taken over" in watched.store.failure
    assert postgresql_stores.asked("SELECT count(*) FROM cdrs") == [(0,)]
    assert postgresql_stores.asked("SELECT call_id FROM open_calls") == [(call_id(1).bytes,)]


async def test_a_server_that_has_lost_commits_is_written_to_no_more(
    postgresql_stores: PostgresqlStores,
) -> None:
    """A standby that was behind has taken over: numbers of this epoch would be given twice."""
    fenced = list[bool]()
    async with postgresql_stores.opened() as watched:
        cast("PostgresqlStore", watched.store).on_fenced(lambda: fenced.append(True))
        watched.submit(*whole_call(1), admission(admitted(2)))
        await watched.written()
        postgresql_stores.asked("UPDATE epochs SET commits = commits - 1")
        postgresql_stores.asked(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'sidecar n1 writes' AND datname = current_database()"
        )
        watched.submit(ending(ended(answered(admitted(2)))))
        await until(lambda: fenced and watched.store.failure)
        assert "the database has lost 1 commits" in watched.store.failure
    assert postgresql_stores.asked("SELECT count(*) FROM cdrs") == [(1,)]


async def test_a_server_that_is_killed_has_what_was_acknowledged_and_gets_the_rest_when_it_is_back(
    postgresql: Postgres, postgresql_stores: PostgresqlStores
) -> None:
    async with postgresql_stores.opened() as watched:
        await with_balance(watched, "1000")
        load = [whole_call(number, prepaid=True) for number in range(1, 401)]
        for steps in load[:200]:
            watched.submit(*steps[:-1])
            await asyncio.sleep(0)
        await watched.until(lambda: len(watched.events) > 50)
        postgresql.kill()
        for steps in load[200:]:
            watched.submit(steps[0])
        await watched.until(lambda: watched.store.failing)
        admitted_ids = {event.call_id for event in watched.events if type(event).__name__ == "Admitted"}
        up = [steps for number, steps in enumerate(load, 1) if call_id(number) in admitted_ids]
        for steps in up:
            watched.submit(steps[-1])
        await asyncio.to_thread(postgresql.start)
        await watched.until(lambda: not watched.store.failing)
        await watched.written()
        await watched.proved()
        ((records,),) = postgresql_stores.asked("SELECT count(*) FROM cdrs")
        assert records == len(up)
        assert postgresql_stores.asked("SELECT count(*) FROM open_calls") == [(0,)]
        assert watched.defects == []


async def test_a_server_that_is_frozen_is_away_and_gets_the_rest_when_it_goes_on(
    postgresql: Postgres, postgresql_stores: PostgresqlStores, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It keeps its links, and what it was sent: all that tells is that nothing comes. Once that is known,
    what comes does not wait for it, whatever is tried meanwhile."""
    file = tmp_path / "kept.db"
    monkeypatch.setattr(server, "CONNECT_S_MAX", 2)
    monkeypatch.setattr(server, "READ_S_MAX", 2.0)
    async with postgresql_stores.opened(kept_in=file) as watched:
        watched.submit(admission(admitted(1)), entry(EntryKind.ANSWERED, answered(admitted(1))))
        await watched.written()
        assert (await watched.store.outbox.outbox_state()).head_seq == 0
        with postgresql.frozen():
            watched.submit(admission(admitted(2)), ending(ended(answered(admitted(1)))))
            with pytest.raises(UnavailableError, match="the database cannot be read"):
                await watched.store.outbox.outbox_state()
            await watched.until(lambda: watched.store.failing)
            assert "no answer within 5 s" in watched.store.failure
            watched.submit(admission(admitted(3)))
            await watched.until(lambda: len(watched.events) == 4)
            said = [type(watched.outcome(call_id(number))).__name__ for number in (2, 3)]
            assert said == ["StepFailed", "StepFailed"]
            for number in range(4, 12):  # for longer than a try to connect takes
                watched.submit(admission(admitted(number)))
                async with asyncio.timeout(1):
                    await until(partial(_is_kept, file, call_id(number)))
                await asyncio.sleep(0.3)
            await watched.until(lambda: len(watched.events) == 12)
        await watched.until(lambda: not watched.store.failing)
        await watched.written()
        assert (await watched.store.outbox.outbox_state()).head_seq == 1
        await watched.proved()
        assert watched.defects == []
    assert postgresql_stores.asked("SELECT count(*) FROM open_calls") == [(0,)]


async def test_a_server_that_lets_nobody_write_is_away_and_gets_the_rest(postgresql: Postgres) -> None:
    """It became a standby, or rights were taken: no step of a call is dropped for that."""
    database = postgresql.new_database("refusing")
    stores = PostgresqlStores(database, "books")
    with suppress(psycopg.errors.DuplicateObject):
        stores.asked("CREATE ROLE sidecar_node")
    stores.asked("ALTER ROLE sidecar_node LOGIN")
    stores.asked("GRANT USAGE ON SCHEMA books TO sidecar_node")
    async with stores.opened():
        pass
    conninfo = make_conninfo(stores.conninfo, user="sidecar_node")
    async with stores.opened(conninfo=conninfo, boot_id="second") as watched:
        watched.submit(*whole_call(1)[:-1], *whole_call(2)[:-1])
        await watched.written()
        stores.asked("REVOKE INSERT ON cdrs FROM sidecar_node")
        watched.submit(whole_call(1)[-1])
        await watched.until(lambda: watched.store.failing)
        assert watched.store.failure.startswith("InsufficientPrivilege 42501")
        stores.asked("GRANT INSERT ON cdrs TO sidecar_node")
        await watched.until(lambda: not watched.store.failing)
        with psycopg.connect(database, autocommit=True) as server:
            server.execute("ALTER DATABASE refusing SET default_transaction_read_only = on")
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'sidecar n1 writes' AND datname = 'refusing'"
            )
            watched.submit(whole_call(2)[-1])
            await until(lambda: "session is read-only" in watched.store.failure)
            server.execute("SET default_transaction_read_only = off")
            server.execute("ALTER DATABASE refusing RESET default_transaction_read_only")
        await watched.until(lambda: not watched.store.failing)
        await watched.written()
        assert watched.defects == []
        await watched.proved()
    assert stores.asked("SELECT count(*) FROM cdrs") == [(2,)]
    assert stores.asked("SELECT count(*) FROM open_calls") == [(0,)]


def _is_kept(file: Path, call_id: UUID) -> bool:
    """Its admission, to be undone."""
    found = found_in(file)
    assert found is not None
    return call_id in found.steps


class Way:
    """The way to the server. `lose_the_next`: the next COMMIT gets there, its answer does not come back;
    `closed`: and nobody gets there meanwhile."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.closed = False
        self._armed = False
        self.lost = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def lose_the_next(self) -> None:
        self._armed = True

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                if self.closed:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._to))
                threading.Thread(target=self._there, args=(near, far), daemon=True).start()

    def _there(self, near: socket.socket, far: socket.socket) -> None:
        silent = threading.Event()
        threading.Thread(target=self._back, args=(near, far, silent), daemon=True).start()
        with suppress(OSError):
            while data := near.recv(65_536):
                if self._armed and b"COMMIT" in data:
                    self._armed = False
                    silent.set()
                far.sendall(data)
        _ended(far)

    def _back(self, near: socket.socket, far: socket.socket, silent: threading.Event) -> None:
        with suppress(OSError):
            while data := far.recv(65_536):
                if silent.is_set():
                    self.lost.set()
                    break
                near.sendall(data)
        _ended(near)


def _ended(end: socket.socket) -> None:
    """Also for a thread that waits for something from it."""
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@pytest.fixture
def way(postgresql: Postgres) -> Any:
    made = Way(postgresql.port)
    yield made
    made.close()


async def test_a_commit_whose_answer_was_lost_is_reported_as_what_it_was_and_written_once(
    postgresql_stores: PostgresqlStores, way: Way
) -> None:
    conninfo = make_conninfo(postgresql_stores.conninfo, port=way.port)
    async with postgresql_stores.opened(conninfo=conninfo) as watched:
        await with_balance(watched, "5")
        before = _commits(postgresql_stores)
        way.lose_the_next()
        watched.submit(admission(admitted(1, prepaid=True)))
        assert await watched.kinds() == ["Admitted"]
        assert way.lost.is_set()
        assert watched.failing == []
        assert _commits(postgresql_stores) == before + 1
        assert await watched.store.accounts.balance("acme") == (euros("0.71600000"),)
        way.lost.clear()
        way.lose_the_next()
        await watched.store.accounts.top_up("acme", euros("1"), "second")
        assert way.lost.is_set()
        assert await watched.store.accounts.balance("acme") == (euros("1.71600000"),)
        await watched.proved()


async def test_a_commit_whose_answer_was_lost_with_the_server_is_found_when_it_is_back(
    postgresql_stores: PostgresqlStores, way: Way
) -> None:
    """Its admission was told to have failed, so it is undone; what nobody waits for is not written again."""
    conninfo = make_conninfo(postgresql_stores.conninfo, port=way.port)
    note = Change(operator=Operator("test"), action="test", subject="once")
    async with postgresql_stores.opened(conninfo=conninfo) as watched:
        await with_balance(watched, "5")
        watched.submit(admission(admitted(2)))
        await watched.written()
        way.closed = True
        way.lose_the_next()
        watched.submit(
            admission(admitted(1, prepaid=True)),
            entry(EntryKind.ANSWERED, answered(admitted(2))),
            ending(ended(answered(admitted(2)))),
        )
        watched.store.note_soon(note)
        await watched.until(lambda: watched.store.failing)
        assert way.lost.is_set()
        assert type(watched.outcome(call_id(1))).__name__ == "StepFailed"
        way.closed = False
        await watched.until(lambda: not watched.store.failing)
        await watched.written()
        assert await watched.store.accounts.balance("acme") == (euros("4.92741000"),)
        assert [row.seq for row in await watched.store.outbox.pending(0, 9)] == [1]
        await watched.proved()
    assert postgresql_stores.asked("SELECT count(*) FROM audit WHERE subject = 'once'") == [(1,)]
    assert postgresql_stores.asked("SELECT count(*) FROM open_calls") == [(0,)]


def _commits(stores: PostgresqlStores) -> int:
    ((commits,),) = stores.asked("SELECT commits FROM epochs")
    return int(commits)


async def test_a_newer_schema_is_refused(postgresql_stores: PostgresqlStores) -> None:
    async with postgresql_stores.opened():
        pass
    postgresql_stores.asked("INSERT INTO schema_steps (step, name) VALUES (999, 'later')")
    with pytest.raises(StoreError, match="written by a newer version"):
        async with postgresql_stores.opened():
            pass


async def test_a_server_that_does_not_answer_is_said(postgresql_stores: PostgresqlStores) -> None:
    conninfo = make_conninfo(postgresql_stores.conninfo, port=1)
    with pytest.raises(StoreError, match=r"PostgreSQL host=127.0.0.1 port=1 .* cannot be reached"):
        async with postgresql_stores.opened(conninfo=conninfo):
            pass


@pytest.fixture
def stranger(tmp_path: Path) -> str:
    """The certificate of another authority."""
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=other"
    files = "-keyout other.key -out other.crt"
    command = ["openssl", *words.split(), *files.split()]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    return str(tmp_path / "other.crt")


async def test_the_link_is_tls_to_a_server_that_proves_itself(
    postgresql: Postgres, postgresql_stores: PostgresqlStores, tmp_path: Path, stranger: str
) -> None:
    trusted = tmp_path / "ca.crt"
    trusted.write_bytes(postgresql.certificate.read_bytes())
    to = postgresql_stores.conninfo
    proved = make_conninfo(to, sslmode="verify-full", sslrootcert=str(trusted))
    ((before,),) = postgresql_stores.asked("SELECT clock_timestamp()::text")
    async with postgresql_stores.opened(conninfo=proved) as watched:
        watched.submit(*whole_call(1))
        await watched.written()
        assert len(await watched.store.records.tail(0)) == 1
        links = postgresql_stores.asked(
            "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
            " WHERE application_name IN ('sidecar n1 reads', 'sidecar n1 writes')"
            " AND backend_start > ?::timestamptz",
            before,  # one of a test before may be ending still
        )
        assert links == [(True,), (True,)]
    with pytest.raises(StoreError, match="certificate verify failed"):
        async with postgresql_stores.opened(
            conninfo=make_conninfo(to, sslmode="verify-full", sslrootcert=stranger)
        ):
            pass


async def test_a_node_writes_with_the_rights_of_a_node_and_can_change_no_ledger(
    postgresql_stores: PostgresqlStores,
) -> None:
    schema = postgresql_stores.conninfo.rpartition("=")[2].strip("'")
    for role in ("sidecar_node", "sidecar_reader"):
        with suppress(psycopg.errors.DuplicateObject):
            postgresql_stores.asked(f"CREATE ROLE {role}")
        postgresql_stores.asked(f"ALTER ROLE {role} LOGIN")
        postgresql_stores.asked(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
    conninfo = make_conninfo(postgresql_stores.conninfo, user="sidecar_node")
    with pytest.raises(StoreError, match=r"its schema is none.*`sidecar store prepare`, as its owner"):
        stored_entries(conninfo, "n1")
    async with postgresql_stores.opened():
        pass  # its owner makes the tables
    assert stored_entries(conninfo, "n1") == ()
    async with postgresql_stores.opened(conninfo=conninfo, boot_id="second") as watched:
        await with_balance(watched, "5")
        watched.submit(*whole_call(1, prepaid=True))
        await watched.written()
        await watched.store.outbox.acknowledge([], [(1, 0x95)])
        assert await watched.store.outbox.retry_dead() == 1
        await watched.store.outbox.acknowledge([1], [])
        [cdr] = await watched.store.records.tail(0)
        change = Change(operator=Operator("ann", 0), action="retention.erase", subject="")
        number = cdr.callee.received.removeprefix("+")
        assert (await watched.store.retention.erase(number, change)).records == 1
        await watched.proved()
        assert watched.failing == watched.defects == []
    with psycopg.connect(conninfo, autocommit=True) as node:
        for statement in (
            "UPDATE ledger SET amount = 1",
            "DELETE FROM cdrs",
            "DELETE FROM audit",
            "DROP TABLE cdrs",
            "INSERT INTO archived_links VALUES ('n1', 1, 1, '', '')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                node.execute(statement.encode())
    reader = make_conninfo(postgresql_stores.conninfo, user="sidecar_reader")
    with psycopg.connect(reader, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM cdrs").fetchall() == [(1,)]
    with PostgresqlSnapshot(reader, "n1") as books:
        assert [one.wrong for one in books.verify(read_keys(postgresql_stores.key_file)).values()] == [[]]
    with psycopg.connect(reader, autocommit=True) as connection:
        for statement in ("DELETE FROM open_calls", "SELECT * FROM users"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


async def test_each_node_has_its_own_entries_and_settings_and_all_have_the_same_people(
    postgresql_stores: PostgresqlStores,
) -> None:
    opened = postgresql_stores.opened
    assert postgresql_stores.stored_entries() == ()  # nobody has made a table yet
    change = Change(operator=Operator("ann", 0), action=RELOAD, subject="")
    vera = User(name="vera", role=Role.VIEWER)
    async with opened() as one, opened(node="n2", boot_id="second") as other:
        await one.store.stored.keep([change], entries=[gateway("a")])
        await other.store.stored.keep([], entries=[gateway("b"), gateway("a")])
        await other.store.stored.keep([], entries=[gateway("b")])
        await one.store.users.keep(vera, change)
        assert [entry.name for entry in await one.store.stored.all()] == ["a"]
        assert [entry.name for entry in await other.store.stored.all()] == ["b"]
        revisions = [await each.store.stored.settings_revision() for each in (one, other)]
        assert revisions == [3, 1]
        assert await other.store.users.all() == (vera,)
    with pytest.raises(StoreError, match="cannot be read"):
        stored_entries(make_conninfo(postgresql_stores.conninfo, dbname="nowhere"), "n1")


async def test_entries_of_the_audit_table_are_in_the_order_of_their_commits(
    postgresql_stores: PostgresqlStores,
) -> None:
    """Whoever reads on behind the last one misses none that another node was still writing."""
    change = Change(operator=Operator("ann", 0), action="a", subject="one")
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'"
    async with postgresql_stores.opened() as watched, asyncio.TaskGroup() as group:
        await watched.store.audit.write(change)
        with psycopg.connect(postgresql_stores.conninfo) as other:
            other.execute(AUDIT_IN_ORDER.encode())
            other.execute(
                "INSERT INTO audit (boot, at_wall_ns, operator, action, subject, text, link)"
                " SELECT boot, 0, 'bob', 'b', 'two', '', 0 FROM audit"
            )
            writing = group.create_task(
                watched.store.audit.write(replace(change, subject="three")), name="write"
            )
            await until(lambda: writing.done() or postgresql_stores.asked(waits) != [(0,)])
            assert not writing.done()
        await writing
        assert [one.change.subject for one in await watched.store.audit.list(0)] == ["one", "two", "three"]


async def test_what_two_nodes_make_at_once_is_made_once_and_disturbs_nothing(
    postgresql_stores: PostgresqlStores,
) -> None:
    """As nodes do that start together with the same accounts in their settings."""
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'transactionid'"
    async with postgresql_stores.opened() as watched, asyncio.TaskGroup() as group:
        accounts = watched.store.accounts
        await accounts.create(terms_of("first"))
        with psycopg.connect(postgresql_stores.conninfo) as other:
            other.execute(
                "INSERT INTO accounts (name, currency, prepaid, boot, created_wall_ns)"
                " SELECT 'acme', currency, prepaid, boot, 0 FROM accounts"
            )
            made = [
                group.create_task(accounts.take_over([(terms_of(name), None)]), name=name)
                for name in ("acme", "beta")
            ]
            await until(lambda: postgresql_stores.asked(waits) != [(0,)])
        await asyncio.gather(*made)
        assert watched.commits[-1] == 2, "in one transaction, the second time"
        assert [one.name for one in await accounts.stored()] == ["acme", "beta", "first"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("UPDATE epochs SET head_seq = 4", "3 records, of 4 numbers given"),
        ("UPDATE epochs SET head_seq = 2", "3 records, of 2 numbers given"),
        ("UPDATE epochs SET base_seq = 1", "3 records, of 2 numbers given"),
        ("UPDATE cdrs SET seq = 5 WHERE seq = 2", "3 records, of 3 numbers given"),
        ("DELETE FROM cdrs WHERE seq = 2", "1 records for 2 numbers"),
        ("UPDATE epochs SET acknowledged_seq = 0", "1 rows that are not behind the mark"),
    ],
)
async def test_the_check_finds_numbers_that_are_not_there(
    postgresql_stores: PostgresqlStores, damage: str, said: str
) -> None:
    async with postgresql_stores.opened() as watched:
        watched.submit(*whole_call(1), *whole_call(2), *whole_call(3))
        await watched.written()
        await watched.store.outbox.acknowledge([1], [])
        postgresql_stores.forced("INSERT INTO outbox_behind SELECT epoch, 1, 0 FROM epochs")
        await watched.proved()
        postgresql_stores.forced(damage)
        assert any(one.endswith(said) for one in await watched.store.ledger_check())
