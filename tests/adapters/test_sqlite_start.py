"""What is checked before the store opens, and what is said when it cannot be."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.sqlite import SqliteStore, StoreError
from sidecar.adapters.sqlite.file import (
    FILE_NAME,
    LOCK_NAME,
    DataDir,
    connect,
    connect_reader,
    move_wal,
    verify,
)
from sidecar.adapters.sqlite.migrations import SCHEMA_VERSION
from sidecar.adapters.sqlite.page_one import KEPT_NAME
from tests.adapters.private import loose, modes, umask
from tests.adapters.sqlite_stores import asked, opened
from tests.adapters.store_calls import whole_call

ROOT = Path(__file__).parents[2]


async def refused(data_dir: Path) -> str:
    with pytest.raises(StoreError) as found:
        SqliteStore.open(data_dir, node="n1", boot_id="b", clock=SystemClock())
    return str(found.value)


async def test_the_directory_is_made_for_this_user_alone(tmp_path: Path) -> None:
    data_dir = tmp_path / "a" / "b"
    async with opened(data_dir):
        assert data_dir.stat().st_mode & 0o777 == 0o700
        assert (data_dir / LOCK_NAME).stat().st_mode & 0o777 == 0o600


def test_a_commit_is_on_disk_when_it_returns_and_no_checkpoint_comes_unasked(tmp_path: Path) -> None:
    connection = connect(tmp_path / FILE_NAME)
    found = {name: connection.pragma(name) for name in ("journal_mode", "synchronous", "wal_autocheckpoint")}
    connection.close()
    assert found == {"journal_mode": "wal", "synchronous": 2, "wal_autocheckpoint": 0}


def test_the_wal_is_moved_whole_and_begun_anew_or_it_is_said_that_it_is_in_use(tmp_path: Path) -> None:
    writer = connect(tmp_path / FILE_NAME)
    writer.set_busy_timeout(0)
    writer.execute("CREATE TABLE one (x); INSERT INTO one VALUES (1)")
    wal = tmp_path / f"{FILE_NAME}-wal"
    reader = connect_reader(tmp_path / FILE_NAME)
    reader.execute("BEGIN; SELECT * FROM one")
    writer.execute("INSERT INTO one VALUES (2)")
    with pytest.raises(apsw.BusyError):
        move_wal(writer)
    assert wal.stat().st_size > 0
    reader.execute("COMMIT")
    move_wal(writer)
    assert wal.stat().st_size == 0
    reader.close()
    writer.close()


async def test_a_reader_can_change_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        watched.submit(*whole_call(1))
        await watched.written()
        reader = connect_reader(tmp_path / FILE_NAME)
        with pytest.raises(apsw.ReadOnlyError):
            reader.execute("UPDATE store SET head_seq = 9")
        reader.close()


@pytest.mark.parametrize("most", [0, 2**40])
@pytest.mark.parametrize("table", ["cdrs", "cdr_bodies"])
async def test_a_large_file_is_checked_without_the_bodies_of_its_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, most: int
) -> None:
    monkeypatch.setattr("sidecar.adapters.sqlite.file.VERIFIED_WHOLE_BYTES_MAX", most)
    async with opened(tmp_path) as watched:
        watched.submit(*whole_call(1))
    ((page,),) = asked(tmp_path, "SELECT rootpage - 1 FROM sqlite_schema WHERE name = ?", table)
    connection = connect(tmp_path / FILE_NAME)
    move_wal(connection)
    verify(connection)
    connection.close()
    with (tmp_path / FILE_NAME).open("r+b") as file:
        file.seek(int(str(page)) * 4096 + 5)  # where the page says that its cells begin
        file.write(b"\xff" * 3)
    connection = connect(tmp_path / FILE_NAME)
    if (table, most) == ("cdr_bodies", 0):
        verify(connection)
    else:
        with pytest.raises(apsw.CorruptError):
            verify(connection)
    connection.close()


async def test_whatever_the_umask_what_is_written_is_for_this_user_alone(tmp_path: Path) -> None:
    data_dir = tmp_path / "a" / "data"
    with umask(0):
        async with opened(data_dir) as watched:
            watched.submit(*whole_call(1))
            await watched.written()
            await watched.store.records.tail(0)
            assert {f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"} <= modes(data_dir).keys()
            assert loose(tmp_path / "a") == {}
            assert watched.store.tightened == {}
    assert loose(tmp_path / "a") == {}


async def test_what_was_looser_is_tightened_and_named_with_its_mode(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    async with opened(data_dir) as watched:
        watched.submit(*whole_call(1))
    (data_dir / "decks" / "old").mkdir(parents=True)
    (data_dir / "decks" / "old" / "x.csv").touch()
    (data_dir / "journal.db.damaged-1").touch()
    (data_dir / "tight").touch(mode=0o400)
    (data_dir / "readable").touch()
    outside = tmp_path / "outside"
    outside.touch()
    outside.chmod(0o644)
    (data_dir / "link").symlink_to(outside)
    with socket.socket(socket.AF_UNIX) as open_socket:
        open_socket.bind(str(data_dir / "some.sock"))
    (data_dir / "some.sock").chmod(0o660)
    before = {
        ".": 0o755,
        FILE_NAME: 0o644,
        "journal.db.damaged-1": 0o640,
        LOCK_NAME: 0o602,
        "decks": 0o2750,
        "decks/old": 0o701,
        "decks/old/x.csv": 0o700,
        "readable": 0o444,
    }
    for name, mode in before.items():
        (data_dir / name).chmod(mode)
    async with opened(data_dir, boot_id="next") as watched:
        assert watched.store.tightened == {str(data_dir / name): mode for name, mode in before.items()}
        assert len(await watched.store.records.tail(0)) == 1
        assert loose(data_dir) == {"tight": "0400", "readable": "0400", "some.sock": "0660"}
        assert outside.stat().st_mode & 0o777 == 0o644
    async with opened(data_dir, boot_id="again") as watched:
        assert watched.store.tightened == {}


async def test_a_directory_that_a_group_may_pass_shows_it_nothing(tmp_path: Path) -> None:
    data_dir, gid = tmp_path / "data", os.getgid()
    for mode in (0o755, 0o700):
        data_dir.mkdir(exist_ok=True)
        data_dir.chmod(mode)
        held = DataDir(data_dir, passed_by=gid)
        assert (data_dir.stat().st_mode & 0o7777, data_dir.stat().st_gid) == (0o710, gid)
        assert held.tightened == ({str(data_dir): 0o755} if mode == 0o755 else {})
        held.release()
    held = DataDir(data_dir)
    assert (loose(data_dir), held.tightened) == ({}, {str(data_dir): 0o710})
    held.release()


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives a directory to a group that it is not in")
def test_another_group_gets_the_directory(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o770)
    DataDir(data_dir, passed_by=54_321).release()
    assert (data_dir.stat().st_mode & 0o7777, data_dir.stat().st_gid) == (0o710, 54_321)


async def test_a_directory_that_is_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert str(tmp_path / "data") in await refused(tmp_path / "data")
    assert "not writable" in await refused(tmp_path / "data" / "below")


def test_a_directory_that_is_not_writable_is_one_clear_error(tmp_path: Path) -> None:
    # Root may write anywhere, so another user asks.
    tmp_path.chmod(0o555)
    script = (
        "import os, sys; from pathlib import Path; "
        "from sidecar.adapters.sqlite.file import DataDir, StoreError\n"
        f"data_dir = Path({str(tmp_path)!r})\n"
        "os.chdir('/')\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "try: DataDir(data_dir)\n"
        "except StoreError as error: sys.exit(str(error))\n"
    )
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert re.search(r"data_dir .*: not writable \(Permission denied\); give it to this user", said.stderr)


async def test_two_daemons_never_share_a_directory_and_the_second_names_the_first(tmp_path: Path) -> None:
    async with opened(tmp_path):
        said = await refused(tmp_path)
    assert said == f"data_dir {tmp_path}: in use by process {os.getpid()}; stop it or choose another"
    async with opened(tmp_path, boot_id="next"):
        pass


def test_the_lock_goes_with_the_process_that_held_it(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from sidecar.adapters.sqlite.file import DataDir\n"
        f"held = DataDir(Path({str(tmp_path)!r})); os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == -9
    DataDir(tmp_path).release()


async def test_a_file_of_another_version_is_not_touched(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    connection = apsw.Connection(str(tmp_path / FILE_NAME))
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    (tmp_path / KEPT_NAME).unlink()  # ours says that this is damage: test_sqlite_page_one.py
    before = (tmp_path / FILE_NAME).read_bytes()
    said = await refused(tmp_path)
    assert f"{FILE_NAME}: written by a newer version (its schema is 99, ours is {SCHEMA_VERSION})" in said
    assert "start that version. To go back" in said
    assert "(kept: none)" in said
    assert (tmp_path / FILE_NAME).read_bytes() == before


async def test_a_file_of_another_program_is_not_touched(tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / FILE_NAME))
    connection.execute("CREATE TABLE other (x)")
    connection.close()
    assert "written by another program" in await refused(tmp_path)


async def test_an_epoch_lasts_as_long_as_its_file(tmp_path: Path) -> None:
    async with opened(tmp_path / "one") as watched:
        first = watched.store.epoch
    async with opened(tmp_path / "one", boot_id="next") as watched:
        assert watched.store.epoch == first
    async with opened(tmp_path / "two") as watched:
        assert watched.store.epoch != first


async def test_a_new_epoch_goes_on_with_the_numbers_and_counts_its_rows_anew(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        watched.submit(*whole_call(1), *whole_call(2))
        first = watched.store.epoch
    asked(tmp_path, "UPDATE store SET epoch = ''")
    async with opened(tmp_path, boot_id="next") as watched:
        renewed = watched.store.epoch
        assert renewed not in ("", first)
        watched.submit(*whole_call(3))
        await watched.written()
        state = await watched.store.outbox.outbox_state()
        assert (state.head_seq, state.published) == (3, 1)
        epochs = [cdr.store_epoch for cdr in await watched.store.records.tail(0)]
        assert epochs == [first, first, renewed]
