"""The chain of commits in a real file: whatever is changed behind the back of the daemon is named."""

from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path

import apsw
import pytest

from sidecar.adapters.sqlite import StoreError
from sidecar.adapters.sqlite.file import FILE_NAME
from sidecar.adapters.sqlite.snapshot import Snapshot
from sidecar.adapters.sqlite.told import read_told
from sidecar.adapters.store.chain import Verdict
from sidecar.adapters.store.keys import KEY_FILE_NAME, add_key, read_keys
from sidecar.core.audit import Change, Operator
from sidecar.core.commands import EntryKind
from sidecar.core.stored import StoredEntry
from sidecar.core.terms import Detail, HangupOrigin, Money
from sidecar.core.users import Role, User
from tests.adapters.sqlite_stores import asked, opened
from tests.adapters.store_calls import (
    NO_SERVER_RECORDS,
    admission,
    admitted,
    answered,
    ended,
    ending,
    entry,
    terms_of,
    whole_call,
)

NOTE = Change(operator=Operator("ann", 1000), action="deck.reload", subject="retail")


async def filled(data_dir: Path, calls: int = 6) -> None:
    """Records published and kept back, movements, notes, and calls that are up; a commit for each step."""
    async with opened(data_dir) as watched:
        await watched.store.accounts.create(terms_of("acme"), addresses=[("192.0.2.0/24", NOTE)])
        await watched.store.accounts.top_up("acme", Money(Decimal(100), "EUR"), "first")
        for number in range(1, calls + 1):
            for step in whole_call(number, "acme", prepaid=True):
                watched.submit(step)
                await watched.written()
        refused = ended(admitted(101, "beta"), 500, Detail.OPERATOR, HangupOrigin.SERVER)
        for step in (admission(admitted(101, "beta")), ending(refused, NO_SERVER_RECORDS)):
            watched.submit(step)
        route = StoredEntry(table="routes", name="49", fields={"gateways": ["a"]}, operator="ann")
        await watched.store.stored.keep([NOTE], entries=[route])
        await watched.store.users.keep(User(name="vera", role=Role.VIEWER), NOTE)
        watched.submit(
            admission(admitted(201, "acme", prepaid=True)),
            admission(admitted(202, "beta")),
            entry(EntryKind.ANSWERED, answered(admitted(202, "beta"))),
        )
        await watched.written()


def verified(data_dir: Path) -> Verdict:
    keys, told = read_keys(data_dir / KEY_FILE_NAME), read_told(data_dir)
    with Snapshot(data_dir) as journal:
        return journal.verify(keys, told)


def changed(data_dir: Path, *statements: str) -> None:
    """By somebody who does not ask the daemon."""
    connection = apsw.Connection(str(data_dir / FILE_NAME))
    for (name,) in list(connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")):
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute("PRAGMA foreign_keys = OFF")
    for statement in statements:
        connection.execute(statement)
    connection.close()


async def test_a_journal_is_as_it_was_written_also_over_restarts(tmp_path: Path) -> None:
    await filled(tmp_path)
    async with opened(tmp_path, boot_id="next") as watched:
        watched.submit(*whole_call(301, "beta"))
        await watched.written()
        verdict = verified(tmp_path)  # while it runs
        state = await watched.store.outbox.outbox_state()
    assert verdict.wrong == []
    [(rows,)] = asked(
        tmp_path,
        "SELECT (SELECT count(*) FROM cdrs) + (SELECT count(*) FROM suppressed)"
        " + (SELECT count(*) FROM ledger) + (SELECT count(*) FROM audit)",
    )
    assert verdict.entries == rows
    assert (state.commit_hash, verdict.link.hash.hex()) == (verdict.link.hash.hex(), state.commit_hash)
    assert verified(tmp_path).wrong == []


FIFTH = "SELECT number FROM commits ORDER BY number LIMIT 1 OFFSET 4"
SWAP = (
    "UPDATE ledger SET entry = -3 WHERE entry = 3; UPDATE ledger SET entry = 3 WHERE entry = 6;"
    "UPDATE ledger SET entry = 6 WHERE entry = -3"
)
INSERT = (
    "INSERT INTO ledger SELECT 999, boot, account, currency, kind, amount, balance, NULL, NULL, 'x', 1,"
    " NULL, NULL FROM ledger WHERE entry = 1"
)
CHANGES: dict[str, tuple[str, str]] = {
    "an amount of the ledger": (
        "UPDATE ledger SET amount = '-9' WHERE entry = 3",
        "ledger entry 3 was changed",
    ),
    "a balance of the ledger": (
        "UPDATE ledger SET balance = '9' WHERE entry = 3",
        "ledger entry 3 was changed",
    ),
    "the call of a movement": ("UPDATE ledger SET call_id = x'00' WHERE entry = 4", "ledger entry 4"),
    "a movement that is gone": ("DELETE FROM ledger WHERE entry = 5", "ledger entry 5 is gone"),
    "two movements that changed places": (SWAP, "ledger entry 3 was changed"),
    "a movement put in at the end": (INSERT, "was inserted"),
    "the account of a record": ("UPDATE cdrs SET account = 'other' WHERE seq = 2", "record 2"),
    "the number by which a record is found": ("UPDATE cdrs SET caller = '+1' WHERE seq = 2", "record 2"),
    "a record's own bytes": (
        "UPDATE cdr_bodies SET body = (SELECT body FROM cdr_bodies WHERE seq = 3) WHERE seq = 2",
        "record 2 was changed",
    ),
    "bytes and checksum of a record": (
        "UPDATE cdr_bodies SET (body, crc) = (SELECT body, crc FROM cdr_bodies WHERE seq = 3) WHERE seq = 2",
        "record 2",
    ),
    "a record that is gone": (
        "DELETE FROM cdrs WHERE seq = 2; DELETE FROM cdr_bodies WHERE seq = 2",
        "record 2",
    ),
    "a record's body that is gone": ("DELETE FROM cdr_bodies WHERE seq = 2", "record 2"),
    "what was kept back": ("UPDATE suppressed SET detail = 'bye' WHERE entry = 1", "record kept back 1"),
    "a note of the audit table": ("UPDATE audit SET operator = 'bob' WHERE entry = 2", "audit entry 2"),
    "a note that is gone": ("DELETE FROM audit WHERE entry = 2", "audit entry 2 is gone"),
    "a commit that is gone": (f"DELETE FROM commits WHERE number = ({FIFTH})", "a commit before it is gone"),
    "a commit's hash": (
        f"UPDATE commits SET hash = zeroblob(16) WHERE number = ({FIFTH})",
        "was changed, or a commit before it is gone",
    ),
    "a balance": ("UPDATE balances SET amount = '1000' WHERE account = 'acme'", "what changes"),
    "what an open call holds": (
        "UPDATE open_calls SET reserved = '0.1' WHERE reserved IS NOT NULL",
        "what changes",
    ),
    "an open call that is gone": ("DELETE FROM open_calls WHERE reserved IS NULL", "what changes"),
    "the terms of an account": ("UPDATE accounts SET prepaid = 0 WHERE name = 'acme'", "what changes"),
    "whose address it is": ("UPDATE account_addresses SET account = 'beta'", "what changes"),
    "a route made by command": ("UPDATE stored_entries SET fields = '{}'", "what changes"),
    "who may use the page": ("UPDATE users SET role = 'admin'", "what changes"),
    "the mark of the outbox": ("UPDATE store SET acknowledged_seq = head_seq", "the seal"),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_whatever_is_changed_is_named(tmp_path: Path, name: str) -> None:
    await filled(tmp_path)
    statement, said = CHANGES[name]
    changed(tmp_path, *statement.split(";"))
    found = verified(tmp_path).wrong
    assert any(said in text for text in found), found


LAST_COMMITS = (
    "DELETE FROM commits WHERE number > {0}",
    "DELETE FROM ledger WHERE entry > {1}",
    "DELETE FROM cdrs WHERE seq > {2}",
    "DELETE FROM cdr_bodies WHERE seq > {2}",
)


async def test_a_tail_that_was_cut_row_by_row_is_missed(tmp_path: Path) -> None:
    await filled(tmp_path, calls=3)
    # To the end of the second call: all rows fit one another.
    [(number, entries, seq)] = asked(
        tmp_path,
        "SELECT number, ledger, seq FROM commits WHERE seq = 2 ORDER BY number LIMIT 1",
    )
    changed(tmp_path, *(sql.format(number, entries, seq) for sql in LAST_COMMITS))
    changed(tmp_path, "DELETE FROM suppressed", "DELETE FROM audit WHERE entry > 2")
    assert any(text.startswith("cut: ") for text in verified(tmp_path).wrong)


async def test_an_older_copy_of_the_whole_file_is_missed(tmp_path: Path) -> None:
    await filled(tmp_path, calls=2)
    shutil.copy(tmp_path / FILE_NAME, tmp_path / "copy")
    async with opened(tmp_path, boot_id="next") as watched:
        watched.submit(*whole_call(301, "beta"))
        await watched.written()
        head = (
            (await watched.store.outbox.outbox_state()).commit,
            (await watched.store.outbox.outbox_state()).commit_hash,
        )
    with Snapshot(tmp_path) as journal:
        assert journal.missing(head) == ""
    for suffix in ("-wal", "-shm"):
        (tmp_path / (FILE_NAME + suffix)).unlink(missing_ok=True)
    (tmp_path / "copy").rename(tmp_path / FILE_NAME)
    (found,) = verified(tmp_path).wrong
    assert "last commit is" in found
    with Snapshot(tmp_path) as journal:  # what a status or an export told says so too
        assert "was there" in journal.missing(head)


async def test_a_swapped_journal_of_another_node_is_another_journal(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    await filled(one, calls=2)
    await filled(other, calls=4)
    shutil.copy(other / FILE_NAME, one / FILE_NAME)
    shutil.copy(other / KEY_FILE_NAME, one / KEY_FILE_NAME)
    (found,) = verified(one).wrong
    assert "another journal" in found


async def test_without_the_key_nothing_can_be_said(tmp_path: Path) -> None:
    await filled(tmp_path, calls=1)
    (tmp_path / KEY_FILE_NAME).unlink()
    other = add_key(tmp_path / KEY_FILE_NAME)
    found = verified(tmp_path).wrong
    assert found
    assert all("is not at hand" in text for text in found)
    assert all(other.id not in text for text in found)


async def test_a_start_without_the_key_file_is_refused_and_a_new_key_is_the_operators_to_make(
    tmp_path: Path,
) -> None:
    await filled(tmp_path, calls=1)
    (tmp_path / KEY_FILE_NAME).unlink()
    with pytest.raises(StoreError, match="put the file back"):
        async with opened(tmp_path):
            pass
    assert not (tmp_path / KEY_FILE_NAME).exists()


async def test_keys_change_and_what_each_wrote_is_verified_by_it(tmp_path: Path) -> None:
    await filled(tmp_path, calls=2)
    add_key(tmp_path / KEY_FILE_NAME)
    async with opened(tmp_path, boot_id="next") as watched:
        watched.submit(*whole_call(301, "acme", prepaid=True))
        await watched.written()
    assert asked(tmp_path, "SELECT DISTINCT key FROM commits ORDER BY key") == [(1,), (2,)]
    assert verified(tmp_path).wrong == []
    changed(tmp_path, "UPDATE ledger SET amount = '-9' WHERE entry = 3")
    assert any("ledger entry 3 was changed" in text for text in verified(tmp_path).wrong)


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "no key in it"), ("12\n", "line 1: not 64"), ("# mine\n\nzz\n", "line 3: not 64")],
)
def test_a_key_file_that_is_none_is_refused(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / KEY_FILE_NAME
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(StoreError, match=said):
        read_keys(file)


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    add_key(tmp_path / KEY_FILE_NAME)
    (tmp_path / KEY_FILE_NAME).chmod(0o640)
    with pytest.raises(StoreError, match="chmod 0600"):
        read_keys(tmp_path / KEY_FILE_NAME)


async def test_a_personal_part_that_is_erased_leaves_the_chain_as_it_was(tmp_path: Path) -> None:
    await filled(tmp_path)
    [key] = read_keys(tmp_path / KEY_FILE_NAME)
    for table, number in (("cdrs JOIN cdr_bodies USING (seq)", "seq"), ("suppressed", "entry")):
        [(caller, callee, billed, body, salt)] = asked(
            tmp_path, f"SELECT caller, callee, billed, body, salt FROM {table} WHERE {number} = 1"
        )
        assert isinstance(salt, bytes)
        digest = key.personal(salt, (caller, callee, billed, body)).hex()
        where = "cdr_bodies" if number == "seq" else "suppressed"
        heads = "cdrs" if number == "seq" else "suppressed"
        changed(
            tmp_path,
            f"UPDATE {where} SET body = x'00', crc = 0, salt = NULL, personal = x'{digest}'"
            f" WHERE {number} = 1",
            f"UPDATE {heads} SET caller = 'erased', callee = 'erased', billed = NULL WHERE {number} = 1",
        )
    assert verified(tmp_path).wrong == []


async def test_salts_are_not_used_twice(tmp_path: Path) -> None:
    await filled(tmp_path)
    found = asked(tmp_path, "SELECT salt FROM cdr_bodies UNION ALL SELECT salt FROM suppressed")
    assert all(isinstance(salt, bytes) and len(salt) == 16 for (salt,) in found)
    assert len(set(found)) == len(found) == 7


async def test_a_reader_may_begin_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.adapters.sqlite.chain.FULL_EVERY", 4)
    await filled(tmp_path)
    [key] = read_keys(tmp_path / KEY_FILE_NAME)
    from sidecar.adapters.sqlite.chain_check import verify
    from sidecar.adapters.store.chain import by_id

    numbers = [number for (number,) in asked(tmp_path, "SELECT number FROM commits ORDER BY number")]
    whole = verified(tmp_path)
    connection = apsw.Connection(str(tmp_path / FILE_NAME))
    rests = [verify(connection, by_id([key]), after=int(str(number))) for number in numbers]
    connection.close()
    assert all(rest.wrong == [] and rest.link == whole.link for rest in rests)
    assert [rest.commits for rest in rests] == list(range(len(numbers) - 1, -1, -1))


async def test_a_call_costs_less_than_a_hundred_bytes_more(tmp_path: Path) -> None:
    """The worst case: a prepaid call whose steps have each a commit of their own."""
    await filled(tmp_path, calls=400)
    [(pages,)] = asked(tmp_path, "SELECT sum(pgsize) FROM dbstat WHERE name = 'commits'")
    [(salts,)] = asked(tmp_path, "SELECT sum(length(salt) + 1) FROM cdr_bodies")
    assert (int(str(pages)) + int(str(salts))) / 400 < 100


async def test_a_change_that_came_to_nothing_leaves_nothing_in_the_sum(tmp_path: Path) -> None:
    user = User(name="ann", role=Role.ADMIN, password_hash="x", enabled=True)
    async with opened(tmp_path) as watched:
        with pytest.raises(AttributeError):
            await watched.store.users.keep(user, "no change")  # type: ignore[arg-type]
        watched.submit(*whole_call(1, "beta"))
        await watched.written()
        assert await watched.store.users.all() == ()
    assert verified(tmp_path).wrong == []
