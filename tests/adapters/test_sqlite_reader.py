"""Records of before there was a column for their names on the wire; and what such a search costs."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sidecar.adapters.sqlite.file import FILE_NAME
from sidecar.core.commands import Publish
from sidecar.ports import RecordFilter
from tests.adapters.sqlite_stores import asked, opened
from tests.adapters.store_calls import call_id
from tests.adapters.test_store_records import on_the_wire, record


async def test_a_record_of_before_is_found_by_its_names_all_the_same(tmp_path: Path) -> None:
    async with opened(tmp_path) as watched:
        for number in range(1, 10):
            watched.submit((Publish(cdr=on_the_wire(record(number), number)),))
        await watched.written()
        with sqlite3.connect(tmp_path / FILE_NAME) as journal:
            journal.execute("UPDATE cdrs SET found_by = NULL")
        journal.close()
        page = await watched.store.records.search(RecordFilter(sip_call_id="a7@caller"))
        assert [cdr.call_id for cdr in page.records] == [call_id(7)]


async def test_a_name_is_looked_up_in_an_index_alone(tmp_path: Path) -> None:
    async with opened(tmp_path):
        plan = str(
            asked(
                tmp_path,
                "EXPLAIN QUERY PLAN SELECT ended_us, seq FROM cdrs WHERE ended_us >= 5 AND"
                " (found_by IS NULL OR instr(found_by, 'abc')) ORDER BY ended_us DESC, seq DESC LIMIT 9",
            )
        )
    assert "USING COVERING INDEX cdrs_by_end (ended_us>?)" in plan
    assert "TEMP B-TREE" not in plan
