"""What commands have made of peers, gateways, routes and account rules, as the journal keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import apsw
import pytest

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.sqlite import SqliteStore, StoreError, stored_entries
from sidecar.adapters.sqlite.file import FILE_NAME
from sidecar.core.audit import Change, Operator
from sidecar.core.stored import StoredEntry

CHANGE = Change(operator=Operator("ann", 0), action="gateway.add", subject="alt", text="a new carrier")


def entry(name: str, **fields: object) -> StoredEntry:
    return StoredEntry(table="gateways", name=name, fields=fields, operator="ann", uid=0, text="why")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def opened(folder: Path) -> SqliteStore:
    return SqliteStore.open(folder, node="box", boot_id="boot", clock=SystemClock())


def said(entries: Sequence[StoredEntry]) -> list[tuple[str, object]]:
    return [(one.name, dict(one.fields)) for one in entries]


async def test_entries_outlast_a_restart_in_their_order_with_who_made_them(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await store.stored.keep([CHANGE], entries=[entry("b", port=1), entry("a", hosts=["x", {"y": True}])])
    await store.close()
    store = opened(tmp_path)
    try:
        found = await store.stored.all()
        assert said(found) == [("b", {"port": 1}), ("a", {"hosts": ["x", {"y": True}]})]
        assert {(one.operator, one.uid, one.text) for one in found} == {("ann", 0, "why")}
        assert all(one.at_wall_ns for one in found)
        [noted] = [one.change for one in await store.audit.list() if one.change.action == "gateway.add"]
        assert noted == CHANGE
    finally:
        await store.close()


async def test_what_is_not_kept_again_is_gone_and_the_rest_has_its_time(tmp_path: Path) -> None:
    store = opened(tmp_path)
    try:
        await store.stored.keep([CHANGE], entries=[entry("a"), entry("b"), entry("c")])
        a, _, c = before = await store.stored.all()
        await store.stored.keep([CHANGE], entries=[c, a, entry("d")])
        after = await store.stored.all()
        assert [one.name for one in after] == ["c", "a", "d"]
        assert after[:2] == (c, a)
        assert stored_entries(tmp_path) == after != before
    finally:
        await store.close()


async def test_a_journal_that_nobody_has_open_is_read_without_a_trace(tmp_path: Path) -> None:
    store = opened(tmp_path)
    await store.stored.keep([CHANGE], entries=[entry("a")])
    await store.close()
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
