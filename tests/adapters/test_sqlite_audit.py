"""The audit table on a file whose disk fails, or that was damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.adapters.sqlite.file import FILE_NAME
from sidecar.ports import UnavailableError
from tests.adapters.sqlite_faulty_disk import FULL, faulty_disk
from tests.adapters.sqlite_stores import asked, opened
from tests.adapters.store_calls import admission, admitted, terms_of
from tests.adapters.test_store_audit import change, changes


async def test_while_the_disk_fails_nothing_is_noted_and_the_caller_is_told(tmp_path: Path) -> None:
    with faulty_disk() as disk:
        async with opened(tmp_path, vfs="faulty") as watched:
            disk.break_down(FULL)
            watched.submit(admission(admitted(1)))
            await watched.until(lambda: watched.failing == [True])
            with pytest.raises(UnavailableError):
                await watched.store.audit.write(change())
            disk.repair()
            await watched.until(lambda: watched.failing == [True, False])
            assert await changes(watched) == []


async def test_a_salvaged_file_keeps_its_entries(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        await watched.store.accounts.create(terms_of("acme"), change(after="{}", text="why"))
        before = await watched.store.audit.list()
    ((page,),) = asked(tmp_path, "SELECT pageno - 1 FROM dbstat WHERE name = 'cdrs_by_end'")
    with (tmp_path / FILE_NAME).open("r+b") as file:
        file.seek(int(str(page)) * 4096)
        file.write(b"\xff" * 4096)
    async with opened(tmp_path) as watched:
        assert watched.store.salvage is not None
        assert watched.store.salvage.saved["audit"] == 1
        assert [
            one for one in await watched.store.audit.list() if one.change.operator.name != "sidecar"
        ] == list(before), "but for the entry of the salvage itself"
