"""`sidecar retention archive` and `erase`, on a journal that the store has written."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sidecar.adapters.sqlite.books import SqliteBooks
from sidecar.adapters.sqlite.kept_sums import FILE_NAME, KeptSums
from sidecar.cli.retention import months_ago
from tests.adapters.sqlite_stores import asked
from tests.adapters.test_kept_sums import of_file, of_journal
from tests.adapters.test_sqlite_retention import NUMBER, HandClock, acknowledge_all, fill, opened
from tests.cli.test_commands import Done, sidecar


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    clock = HandClock()
    async with opened(tmp_path / "data", clock) as watched:
        await fill(watched, clock)
        await acknowledge_all(watched)
    return tmp_path / "data"


async def says(data: Path, *words: str) -> Done:
    return await sidecar(*words, cwd=data.parent, SIDECAR_NODE__DATA_DIR=str(data), SIDECAR_NODE__NAME="n1")


def archive(data: Path, name: str, *more: str) -> tuple[str, ...]:
    return ("retention", "archive", "--out", str(data.parent / name), "--months", *more)


@pytest.mark.parametrize(
    ("now", "months", "begin"),
    [
        ("2026-11-27T10:00Z", 1, "2026-10-01T00:00Z"),
        ("2026-11-01T00:00Z", 12, "2025-11-01T00:00Z"),
        ("2026-01-31T23:59Z", 1, "2025-12-01T00:00Z"),
    ],
)
def test_whole_months_stay(now: str, months: int, begin: str) -> None:
    assert months_ago(datetime.fromisoformat(now), months) == datetime.fromisoformat(begin)


def count(data: Path) -> int:
    [(found,)] = asked(data, "SELECT (SELECT count(*) FROM cdrs) + (SELECT count(*) FROM suppressed)")
    return int(str(found))


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
async def test_old_months_are_archived_proved_and_removed(data: Path, form: str) -> None:
    before = count(data)
    done = await says(data, *archive(data, "first", "1", "--format", form, "--json", "--text", "monthly"))
    assert done.exit_code == 0, done.err
    found = done.json["archive"]
    folder = data.parent / "first"
    assert found["records"] == before - count(data) > 0
    for part, name in (("published", "published"), ("kept-back", "kept_back")):
        assert (await says(data, "cdr", "verify", str(folder / part))).exit_code == 0
        digest = hashlib.sha256((folder / part / "manifest.json").read_bytes()).hexdigest()
        assert digest == found[name]
    rows = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    assert len(rows) == found["movements"]
    assert found["previous"] == ""
    assert (await says(data, "journal", "verify")).exit_code == 0
    assert (await says(data, "journal", "check")).exit_code == 0
    [(text, after)] = asked(data, "SELECT text, after FROM audit WHERE action = 'retention.archive'")
    assert text == "monthly"
    assert json.loads(str(after))["until_commit"] == found["until_commit"]
    again = await says(data, *archive(data, "second", "1"))
    assert again.exit_code == 0
    assert "nothing" in again.out
    assert not (data.parent / "second").exists()


async def test_what_the_page_has_not_summed_is_summed_before_it_goes(data: Path) -> None:
    """The page was on, and is not."""
    sums = KeptSums(SqliteBooks(data), data, "UTC")
    sums.advance(7)
    whole = of_journal(data)
    done = await says(data, *archive(data, "out", "1"))
    assert done.exit_code == 0, done.err
    assert sums.behind() == 0
    assert of_file(sums, 7) == whole != of_journal(data)


async def test_nothing_goes_that_the_page_could_not_sum(data: Path) -> None:
    before = count(data)
    (data / FILE_NAME).mkdir()
    done = await says(data, *archive(data, "out", "1"))
    assert done.exit_code == 1
    assert "sums that the page shows" in done.err
    assert count(data) == before


async def test_where_there_is_no_page_nothing_is_summed(data: Path) -> None:
    assert (await says(data, *archive(data, "out", "1"))).exit_code == 0
    assert not (data / FILE_NAME).exists()


async def test_a_journal_that_does_not_hold_loses_nothing(data: Path) -> None:
    before = count(data)
    asked(data, "UPDATE cdrs SET account = 'x' WHERE seq = 2")
    done = await says(data, *archive(data, "out", "1"))
    # Set aside as at any start; what is proved, or says itself what it is, is archived from the new file.
    assert done.exit_code == 0, done.err
    assert (data / "journal.db.damaged-1").exists()
    [found] = [json.loads(path.read_text()) for path in (data.parent / "out").glob("archive.json")]
    assert count(data) + found["records"] == before
    assert (await says(data, "journal", "verify")).exit_code == 0
    assert (await says(data, "journal", "check")).exit_code == 0


async def test_a_folder_that_holds_an_archive_is_not_written_to(data: Path) -> None:
    (data.parent / "out" / "published").mkdir(parents=True)
    (data.parent / "out" / "published" / "manifest.json").write_text("{}")
    done = await says(data, *archive(data, "out", "1"))
    assert done.exit_code == 2
    assert "holds an export already" in done.err
    assert asked(data, "SELECT count(*) FROM sealed") == [(0,)]


async def test_a_number_is_erased_and_what_still_holds_it_is_said(data: Path) -> None:
    done = await says(data, "retention", "erase", f"+{NUMBER}", "--text", "asked for", "--json")
    assert done.exit_code == 1  # one call is not over
    assert (done.json["records"], done.json["open_calls"]) == (101, 1)
    shown = await says(data, "cdr", "export", "--out", str(data.parent / "export"), "--format", "jsonl")
    assert shown.exit_code == 0, shown.err
    text = next((data.parent / "export").glob("cdrs-*")).read_text()
    assert NUMBER not in text
    assert done.json["pseudonym"] in text
    assert (await says(data, "journal", "verify")).exit_code == 0


async def test_where_there_is_no_journal_none_is_made(tmp_path: Path) -> None:
    done = await says(tmp_path / "data", "retention", "erase", NUMBER)
    assert done.exit_code == 1
    assert "there is no journal" in done.err
    assert not (tmp_path / "data").exists()


def test_months_are_of_utc() -> None:
    assert months_ago(datetime(2026, 3, 1, tzinfo=UTC), 1).tzinfo is UTC
