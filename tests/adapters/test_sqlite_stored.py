"""What commands have made of peers, gateways, routes and account rules, read from a file at rest."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from sidecar.adapters.sqlite import StoreError, stored_entries
from sidecar.adapters.sqlite.file import FILE_NAME
from tests.adapters.sqlite_stores import opened
from tests.adapters.test_store_stored import CHANGE, entry, said


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_journal_that_nobody_has_open_is_read_without_a_trace(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        await watched.store.stored.keep([CHANGE], entries=[entry("a")])
    before = names_in(tmp_path)
    assert said(stored_entries(tmp_path)) == [("a", {})]
    assert names_in(tmp_path) == before


def test_where_there_is_no_journal_there_are_none(tmp_path: Path) -> None:
    assert stored_entries(tmp_path) == ()


def test_a_journal_of_before_there_were_any_has_none(tmp_path: Path) -> None:
    apsw.Connection(str(tmp_path / FILE_NAME)).execute("CREATE TABLE store (epoch TEXT)")
    assert stored_entries(tmp_path) == ()


def test_a_journal_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"no database at all" * 300)
    with pytest.raises(StoreError, match="cannot be read"):
        stored_entries(tmp_path)
