"""What commands have made of peers, gateways, routes and account rules, as each engine keeps it."""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.core.audit import RELOAD, Change, Operator
from sidecar.core.stored import StoredEntry
from tests.adapters.stores import Stores

CHANGE = Change(operator=Operator("ann", 0), action="gateway.add", subject="alt", text="a new carrier")


def entry(name: str, **fields: object) -> StoredEntry:
    return StoredEntry(table="gateways", name=name, fields=fields, operator="ann", uid=0, text="why")


def said(entries: Sequence[StoredEntry]) -> list[tuple[str, object]]:
    return [(one.name, dict(one.fields)) for one in entries]


async def test_entries_outlast_a_restart_in_their_order_with_who_made_them(stores: Stores) -> None:
    async with stores.opened() as watched:
        kept = [entry("b", port=1), entry("a", hosts=["x", {"y": True}])]
        await watched.store.stored.keep([CHANGE], entries=kept)
    async with stores.opened(boot_id="next") as watched:
        found = await watched.store.stored.all()
        assert said(found) == [("b", {"port": 1}), ("a", {"hosts": ["x", {"y": True}]})]
        assert {(one.operator, one.uid, one.text) for one in found} == {("ann", 0, "why")}
        assert all(one.at_wall_ns for one in found)
        noted = [one.change for one in await watched.store.audit.list()]
        assert [one for one in noted if one.action == "gateway.add"] == [CHANGE]


async def test_what_is_not_kept_again_is_gone_and_the_rest_has_its_time(stores: Stores) -> None:
    async with stores.opened() as watched:
        stored = watched.store.stored
        await stored.keep([CHANGE], entries=[entry("a"), entry("b"), entry("c")])
        a, _, c = before = await stored.all()
        await stored.keep([CHANGE], entries=[c, a, entry("d")])
        after = await stored.all()
        assert [one.name for one in after] == ["c", "a", "d"]
        assert after[:2] == (c, a)
        assert stores.stored_entries() == after != before


async def test_the_revision_of_the_settings_grows_with_each_start_and_each_reload(stores: Stores) -> None:
    async with stores.opened() as watched:
        before = await watched.store.stored.settings_revision()
        for action in (RELOAD, "gateway.add"):
            await watched.store.audit.write(Change(operator=Operator("ann", 0), action=action, subject=""))
        assert await watched.store.stored.settings_revision() == before + 1
    async with stores.opened(boot_id="next") as watched:
        assert await watched.store.stored.settings_revision() == before + 2
