"""Files of older versions: brought up to date with all that is in them, a copy kept, at whatever moment the
start is cut short; and what is said where that cannot be."""

from __future__ import annotations

import os
import pickle
import resource
import shutil
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import msgspec
import pytest

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.sqlite import SqliteStore, StoreError, newest_records
from sidecar.adapters.sqlite.file import FILE_NAME
from sidecar.adapters.sqlite.migrations import SCHEMA_VERSION, STEPS
from sidecar.adapters.sqlite.page_one import KEPT_NAME
from sidecar.adapters.sqlite.snapshot import Snapshot
from sidecar.adapters.sqlite.told import TOLD_NAME
from sidecar.ports import RecordFilter
from tests.adapters.journals.make import told_of
from tests.adapters.private import loose, umask
from tests.adapters.sqlite_stores import JOURNALS, Watched, asked, opened, unpacked
from tests.adapters.store_calls import whole_call

OLD = sorted(path.name.removesuffix(".tar.xz") for path in JOURNALS.glob("*.tar.xz"))


def told(data_dir: Path) -> Any:
    found = msgspec.json.decode((data_dir / "told.json").read_bytes())
    for account in (*found["accounts"], *(call["account"] for call in found["open"])):
        if "prepaid" in account:  # until schema 8
            account["kind"] = "prepaid" if account.pop("prepaid") else "postpaid"
    return found


async def read_again(watched: Watched) -> Any:
    found = await told_of(watched.store, [call for call, _ in watched.store.found_open()])
    return msgspec.json.decode(msgspec.json.encode(found))


def covers(now: object, then: object, place: str = "") -> None:
    """Everything of then is there now; there may be more fields."""
    if isinstance(then, dict):
        assert isinstance(now, dict), place
        for key, value in then.items():
            covers(now.get(key), value, f"{place}.{key}")
    elif isinstance(then, list):
        assert isinstance(now, list), place
        assert len(now) == len(then), place
        for number, value in enumerate(then):
            covers(now[number], value, f"{place}[{number}]")
    else:
        assert now == then, place


async def holds_what_was_told(data_dir: Path, *, epoch_renewed: bool = False) -> None:
    then = told(data_dir)
    if epoch_renewed:
        then.update(epoch=None, published=0)
    async with opened(data_dir, boot_id="now") as watched:
        now = await read_again(watched)
        if epoch_renewed:
            assert now["epoch"] != told(data_dir)["epoch"]
            now["epoch"] = None
        covers(now, then)
        watched.submit(*whole_call(99, "beta"))
        await watched.written()
        (record,) = await watched.store.records.tail(then["head_seq"])
        assert record.seq == then["head_seq"] + 1
        assert record.account_prev_seq == max(
            cdr["seq"] for cdr in then["records"] if cdr["account"] == "beta"
        )
        await watched.proved()


def schema(data_dir: Path, name: str = FILE_NAME) -> int:
    connection = sqlite3.connect(data_dir / name)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return int(version)


class Kept(NamedTuple):
    version: int
    rows: dict[str, list[Any]]


def contents(file: Path) -> Kept:
    """All rows but the row of the epoch, read with another library than ours."""
    connection = sqlite3.connect(file)
    names = [
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        if name != "store"
    ]
    rows = {name: connection.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in names}
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return Kept(version, rows)


async def refused(data_dir: Path, vfs: str | None = None) -> str:
    with pytest.raises(StoreError) as found:
        SqliteStore.open(data_dir, node="n1", boot_id="b", clock=SystemClock(), vfs=vfs)
    return str(found.value)


def copies(data_dir: Path) -> list[str]:
    return sorted(path.name for path in data_dir.glob(f"{FILE_NAME}.*"))


def test_steps_are_numbered_without_a_gap() -> None:
    assert [int(name.partition("_")[0]) for name in STEPS] == list(range(1, SCHEMA_VERSION + 1))


def test_there_is_a_journal_of_each_older_schema() -> None:
    assert {name.split("-")[1] for name in OLD} >= {str(number) for number in range(1, SCHEMA_VERSION)}


@pytest.mark.parametrize("name", OLD)
async def test_an_older_file_opens_with_its_calls_balances_and_waiting_records(
    tmp_path: Path, name: str
) -> None:
    await holds_what_was_told(unpacked(name, tmp_path))
    assert schema(tmp_path) == SCHEMA_VERSION


@pytest.mark.parametrize("name", OLD)
async def test_it_has_the_schema_of_a_new_file(tmp_path: Path, name: str) -> None:
    def tables(data_dir: Path) -> dict[object, object]:
        return dict(asked(data_dir, "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'"))  # type: ignore[arg-type]

    async with opened(unpacked(name, tmp_path / "old")), opened(tmp_path / "new") as watched:
        assert watched.store.migrated is None
    assert tables(tmp_path / "old") == tables(tmp_path / "new")
    assert copies(tmp_path / "new") == []


@pytest.mark.parametrize("name", OLD)
async def test_the_file_as_it_was_is_kept_beside_it(tmp_path: Path, name: str) -> None:
    before = contents(unpacked(name, tmp_path / "before") / FILE_NAME)
    data_dir = unpacked(name, tmp_path / "data")
    with umask(0):
        async with opened(data_dir) as watched:
            migrated = watched.store.migrated
    assert migrated is not None
    assert migrated.kept == data_dir / f"{FILE_NAME}.schema-{before.version}"
    assert (migrated.schema_before, migrated.schema_after) == (before.version, SCHEMA_VERSION)
    assert "what was written since" in migrated.going_back
    assert contents(migrated.kept) == before
    assert loose(data_dir) == {}
    assert copies(data_dir) == [migrated.kept.name]
    async with opened(data_dir) as watched:
        assert watched.store.migrated is None
    assert copies(data_dir) == [migrated.kept.name]


async def test_the_copy_is_on_disk_before_it_has_its_name_and_its_name_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = unpacked("schema-1-killed", tmp_path)
    synced = []

    def noted(descriptor: int) -> None:
        what = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((what.name, schema(data_dir), copies(data_dir)))

    monkeypatch.setattr(os, "fsync", noted)
    async with opened(data_dir):
        pass
    begun, kept = f"{FILE_NAME}.copying", f"{FILE_NAME}.schema-1"
    assert synced[:2] == [(begun, 1, [begun]), (tmp_path.name, 1, [kept])]


async def test_numbers_go_on_after_the_highest_of_an_older_file_though_some_are_gone(tmp_path: Path) -> None:
    data_dir = unpacked("schema-1-closed", tmp_path)
    for table in ("cdrs", "cdr_bodies", "outbox"):
        asked(data_dir, f"DELETE FROM {table} WHERE seq IN (2, 5)")
    async with opened(data_dir) as watched:
        assert (await watched.store.outbox.outbox_state()).head_seq == 9


async def test_a_copy_that_was_marked_before_its_first_boot_goes_on_with_its_numbers(tmp_path: Path) -> None:
    """Schema 1 without its row of `store`, as a kept copy is: the row is made anew, without an epoch."""
    data_dir = unpacked("schema-1-closed", tmp_path)
    asked(data_dir, "DELETE FROM store")
    await holds_what_was_told(data_dir, epoch_renewed=True)


@pytest.mark.parametrize("name", OLD)
async def test_each_time_that_the_copy_is_put_in_place_an_epoch_begins(tmp_path: Path, name: str) -> None:
    data_dir = unpacked(name, tmp_path)
    async with opened(data_dir) as watched:
        assert watched.store.migrated is not None
        kept = watched.store.migrated.kept
        epochs = {watched.store.epoch}
    saved = kept.read_bytes()
    for _ in range(2):
        kept.rename(data_dir / FILE_NAME)
        (data_dir / TOLD_NAME).unlink()  # with it, what is not in the copy is missed: test_sqlite_loss.py
        await holds_what_was_told(data_dir, epoch_renewed=True)
        async with opened(data_dir) as watched:
            assert watched.store.epoch not in epochs
            epochs.add(watched.store.epoch)
        kept.write_bytes(saved)


async def test_a_copy_of_schema_1_has_no_epoch_for_its_own_version_either(tmp_path: Path) -> None:
    """Version 1 began an epoch where table `store` was empty, and took the highest number of a record."""
    data_dir = unpacked("schema-1-killed", tmp_path)
    async with opened(data_dir):
        pass
    connection = sqlite3.connect(data_dir / f"{FILE_NAME}.schema-1")
    assert connection.execute("SELECT count(*) FROM store").fetchone() == (0,)
    assert connection.execute("SELECT max(seq) FROM cdrs").fetchone() == (11,)
    connection.close()


async def test_a_copy_is_never_overwritten(tmp_path: Path) -> None:
    data_dir = unpacked("schema-1-closed", tmp_path)
    (data_dir / f"{FILE_NAME}.schema-1").write_bytes(b"of somebody else")
    (data_dir / f"{FILE_NAME}.schema-1-3").write_bytes(b"and another")
    (data_dir / f"{FILE_NAME}.schema-10").write_bytes(b"of a later version")
    async with opened(data_dir) as watched:
        assert watched.store.migrated is not None
        assert watched.store.migrated.kept.name == f"{FILE_NAME}.schema-1-2"
    assert contents(data_dir / f"{FILE_NAME}.schema-1-2").version == 1
    assert (data_dir / f"{FILE_NAME}.schema-1").read_bytes() == b"of somebody else"
    assert (data_dir / f"{FILE_NAME}.schema-1-3").read_bytes() == b"and another"


async def test_a_start_that_fails_again_and_again_keeps_one_copy(tmp_path: Path) -> None:
    data_dir = unpacked("schema-1-closed", tmp_path)
    for _ in range(3):
        async with opened(data_dir) as watched:
            assert watched.store.migrated is not None
            assert watched.store.migrated.kept.name == f"{FILE_NAME}.schema-1"
        unpacked("schema-1-closed", tmp_path)  # as if no step had been taken
    assert copies(data_dir) == [f"{FILE_NAME}.schema-1"]


async def test_a_file_that_was_written_to_since_the_copy_is_copied_again(tmp_path: Path) -> None:
    data_dir = unpacked("schema-1-closed", tmp_path)
    async with opened(data_dir):
        pass
    unpacked("schema-1-killed", tmp_path)  # the same file, after one more boot of the old version
    async with opened(data_dir) as watched:
        assert watched.store.migrated is not None
        assert watched.store.migrated.kept.name == f"{FILE_NAME}.schema-1-2"
    assert len(contents(data_dir / f"{FILE_NAME}.schema-1").rows["cdrs"]) == 9
    assert len(contents(data_dir / f"{FILE_NAME}.schema-1-2").rows["cdrs"]) == 11


async def test_half_a_copy_is_made_anew(tmp_path: Path) -> None:
    data_dir = unpacked("schema-1-closed", tmp_path)
    for suffix in ("", "-journal", "-wal", "-shm"):
        (data_dir / f"{FILE_NAME}.copying{suffix}").write_bytes(b"half")
    await holds_what_was_told(data_dir)
    assert copies(data_dir) == [f"{FILE_NAME}.schema-1"]
    assert list(data_dir.glob("*.copying*")) == []


class Images(apsw.VFS):
    """The files as they would be found if the process was killed before each write, sync and removal."""

    def __init__(self, data_dir: Path, images: Path) -> None:
        self._data_dir = data_dir
        self._images = images
        self._last = b""
        images.mkdir()
        super().__init__("images", "")

    def take(self) -> None:
        files = [(path.name, path.read_bytes()) for path in sorted(self._data_dir.iterdir())]
        if (now := pickle.dumps(files)) != self._last:
            self._last = now
            image = self._images / f"{len(list(self._images.iterdir())):04}"
            shutil.copytree(self._data_dir, image)

    def xOpen(self, name: Any, flags: list[int]) -> ImagedFile:  # noqa: N802
        return ImagedFile(self, name, flags)

    def xDelete(self, name: str, sync: bool) -> None:  # noqa: N802
        self.take()
        super().xDelete(name, sync)


class ImagedFile(apsw.VFSFile):
    def __init__(self, images: Images, name: Any, flags: list[int]) -> None:
        self._images = images
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._images.take()
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._images.take()
        super().xSync(flags)


async def test_wherever_the_start_is_killed_the_next_one_brings_the_file_up_to_date(tmp_path: Path) -> None:
    data_dir = unpacked("schema-1-killed", tmp_path / "data")
    vfs = Images(data_dir, tmp_path / "images")
    async with opened(data_dir, vfs="images"):
        pass
    vfs.unregister()
    seen = set()
    for image in sorted((tmp_path / "images").iterdir()):
        found = [schema(image), *sorted(path.name for path in image.glob(f"{FILE_NAME}.schema-*"))]
        seen.add(tuple(found))
        for copy in image.glob(f"{FILE_NAME}.schema-*"):
            assert contents(copy).version == 1
            assert len(contents(copy).rows["cdrs"]) == 11
        await holds_what_was_told(image)
        assert copies(image) == [f"{FILE_NAME}.schema-1"]
    kept = f"{FILE_NAME}.schema-1"
    assert seen == {(1,), *((version, kept) for version in range(1, SCHEMA_VERSION + 1))}


async def test_a_copy_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    data_dir = unpacked("schema-1-closed", tmp_path)
    before = contents(data_dir / FILE_NAME)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        said = await refused(data_dir)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert said.startswith(f"{data_dir / FILE_NAME}: no copy can be kept before it is brought up to date (")
    assert contents(data_dir / FILE_NAME) == before
    await holds_what_was_told(data_dir)
    assert copies(data_dir) == [f"{FILE_NAME}.schema-1"]


async def test_a_disk_without_room_for_the_copy_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = unpacked("schema-1-killed", tmp_path)
    before = contents(data_dir / FILE_NAME)
    size = (data_dir / FILE_NAME).stat().st_size
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * size - 1))
    assert await refused(data_dir) == (
        f"{data_dir / FILE_NAME}: to bring it from schema 1 to {SCHEMA_VERSION} takes 0.3 MB, for a copy that"
        f" is kept and for the changes; {data_dir} has 0.3 MB free: make room"
    )
    assert contents(data_dir / FILE_NAME) == before
    assert copies(data_dir) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * size))
    await holds_what_was_told(data_dir)


async def test_a_newer_file_names_the_copies_that_one_could_go_back_to(tmp_path: Path) -> None:
    data_dir = unpacked("schema-1-closed", tmp_path)
    async with opened(data_dir):
        pass
    asked(data_dir, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    (data_dir / KEPT_NAME).unlink()  # a newer version leaves its own
    said = await refused(data_dir)
    assert f"(kept: {data_dir / FILE_NAME}.schema-1)" in said
    assert schema(data_dir) == SCHEMA_VERSION + 1


async def test_a_newer_file_is_not_salvaged_by_us(tmp_path: Path) -> None:
    data_dir = unpacked("schema-1-closed", tmp_path)
    asked(data_dir, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with (data_dir / FILE_NAME).open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)
    assert "written by a newer version" in await refused(data_dir)
    assert copies(data_dir) == []


@pytest.mark.parametrize("name", OLD)
async def test_who_only_reads_says_what_an_older_file_needs(tmp_path: Path, name: str) -> None:
    data_dir = unpacked(name, tmp_path)
    before = contents(data_dir / FILE_NAME)
    wanted = rf"its schema is {before.version}, ours is {SCHEMA_VERSION}: start the daemon .* once"
    with pytest.raises(StoreError, match=wanted):
        Snapshot(data_dir)
    with pytest.raises(StoreError, match=wanted):
        next(newest_records(data_dir))
    assert contents(data_dir / FILE_NAME) == before
    await holds_what_was_told(data_dir)
    with Snapshot(data_dir) as snapshot:
        assert {cdr.call_id for cdr in snapshot.records(RecordFilter())} <= {
            cdr.call_id for cdr in newest_records(data_dir)
        }
    asked(data_dir, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    for read in (Snapshot, lambda folder: next(newest_records(folder))):
        with pytest.raises(StoreError, match="written by a newer version"):
            read(data_dir)


@pytest.mark.parametrize("name", OLD)
async def test_a_damaged_older_file_is_salvaged_into_the_newest_schema(tmp_path: Path, name: str) -> None:
    data_dir = unpacked(name, tmp_path)
    then = told(data_dir)
    asked(data_dir, "PRAGMA wal_checkpoint(TRUNCATE)")
    ((page,),) = asked(
        data_dir, "SELECT pageno - 1 FROM dbstat WHERE name = 'cdrs_by_end' AND pagetype = 'leaf'"
    )
    with (data_dir / FILE_NAME).open("r+b") as file:
        file.seek(int(str(page)) * 4096)
        file.write(b"\xff" * 4096)
    async with opened(data_dir, boot_id="now") as watched:
        salvage = watched.store.salvage
        assert salvage is not None
        assert (salvage.lost_seqs, salvage.wrong, salvage.dropped) == (0, [], {})
        now = await read_again(watched)
        assert now["epoch"] != then["epoch"]
        covers(now, {**then, "epoch": now["epoch"], "published": 0})
    assert schema(data_dir) == SCHEMA_VERSION
    assert copies(data_dir) == [f"{FILE_NAME}.damaged-1", f"{FILE_NAME}.damaged-1.report.json"]
