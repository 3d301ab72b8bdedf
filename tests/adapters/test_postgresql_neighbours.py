"""What nodes on one database tell one another."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.adapters.postgresql import neighbours
from sidecar.core.audit import Change, Operator
from sidecar.ports import Asked, Neighbours, NodeSilentError, Seen, Told
from tests.adapters.store_calls import admission, admitted, terms_of, whole_call
from tests.adapters.stores import PostgresqlStores

TOLD = Told(state="accepting", calls=3, calls_max=100, version="1", by_gateway={"gw1": 3})
ANN = Operator("ann", 1000)


def change(action: str) -> Change:
    return Change(operator=ANN, action=action, subject="acme")


async def asked_of(there: Neighbours) -> Asked:
    """What was told before wakes it too."""
    while not (found := (await there.exchange(TOLD, 60.0)).asked):
        pass
    (asked,) = found
    return asked


async def test_whoever_changes_an_account_waits_until_the_other_nodes_go_by_it(
    postgresql_stores: PostgresqlStores,
) -> None:
    opened = postgresql_stores.opened
    async with (
        opened() as one,
        opened(node="n2", boot_id="second") as other,
        asyncio.TaskGroup() as group,
    ):
        accounts, there = one.store.accounts, other.store.neighbours
        assert (await there.exchange(TOLD, 0.0)).terms == ()
        making = group.create_task(accounts.create(terms_of("acme")), name="asks")
        news = await there.exchange(TOLD, 60.0)  # woken by what was told
        assert ([terms.name for terms in news.terms], news.addresses) == (["acme"], {"acme": []})
        assert not making.done()  # it was heard; that it is in force is told with the next round
        assert (await there.exchange(TOLD, 0.0)).terms == ()
        await making
        for doing, terms, blocks in (
            (accounts.add_address("acme", "192.0.2.0/24", change("give")), False, ["192.0.2.0/24"]),
            (
                accounts.change_terms("acme", {"disabled_by_command": True}, change("off")),
                True,
                ["192.0.2.0/24"],
            ),
            (accounts.remove_address("acme", "192.0.2.0/24", change("take")), True, []),
        ):
            task = group.create_task(doing, name="asks")
            while not (news := await there.exchange(TOLD, 60.0)).terms:
                pass
            assert [one.disabled_by_command for one in news.terms] == [terms]
            assert news.addresses == {"acme": blocks}
            await there.exchange(TOLD, 0.0)
            await task
        # What it was started with it has read; what it carries the other has heard.
        assert (await one.store.neighbours.exchange(TOLD, 0.0)).others == {"n2": TOLD}


async def test_a_node_that_is_silent_keeps_nobody_waiting_for_ever(
    postgresql_stores: PostgresqlStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "HEARD_S_MAX", 0.1)
    monkeypatch.setattr(neighbours, "ANSWER_S_MAX", 0.2)
    opened = postgresql_stores.opened
    async with opened() as one, opened(node="n2", boot_id="second") as other:
        there = other.store.neighbours
        await there.exchange(TOLD, 0.0)
        await one.store.accounts.create(terms_of("acme"))
        asking = one.store.neighbours
        with pytest.raises(NodeSilentError, match="does not look: nothing was done"):
            await asking.ask("n2", "node.drain", b"{}", ANN)
        assert (await there.exchange(TOLD, 0.0)).asked == []

        monkeypatch.setattr(neighbours, "ANSWER_S_MAX", 3.0)

        async def asked_in_vain() -> None:
            with pytest.raises(NodeSilentError, match="may yet do it"):
                await asking.ask("n2", "node.drain", b'{"a":1}', ANN)

        async with asyncio.TaskGroup() as group:
            group.create_task(asked_in_vain(), name="asks")
            asked = await asked_of(there)
            assert (asked.method, asked.params, asked.operator) == ("node.drain", b'{"a":1}', ANN)
        monkeypatch.setattr(neighbours, "ANSWER_S_MAX", 20.0)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(asking.ask("n2", "node.drain", b"{}", ANN), name="asks")
            asked = await asked_of(there)
            await there.answer(asked.request, b'{"result":1}')
        assert task.result() == b'{"result":1}'
        assert postgresql_stores.asked("SELECT count(*) FROM node_requests") == [(0,)]


async def test_all_nodes_are_seen_with_their_epochs_and_last_numbers(
    postgresql_stores: PostgresqlStores,
) -> None:
    opened = postgresql_stores.opened
    async with opened() as one, opened(node="n2", boot_id="second") as other:
        one.submit(*whole_call(1), *whole_call(2), admission(admitted(3)))
        other.submit(*whole_call(11))
        await one.written()
        await other.written()
        assert await other.store.accounts.calls_up(["acme", "beta"]) == {"acme": 1}
        await other.store.neighbours.exchange(TOLD, 0.0)
        found = await one.store.neighbours.seen()
        assert [(node.node, node.epoch, node.head_seq, node.open_calls) for node in found] == [
            ("n1", one.store.epoch, 2, 1),
            ("n2", other.store.epoch, 1, 0),
        ]
        assert [node.told for node in found] == [None, TOLD]
        first = one.store.epoch
    told_of = Seen(epoch=first, head_seq=9)  # more than is here: it was put back, and begins anew
    async with opened(boot_id="third", seen=told_of) as one:
        found = await one.store.neighbours.seen(every_epoch=True)
        assert [(node.node, node.is_present, node.base_seq, node.head_seq) for node in found] == [
            ("n1", False, 0, 2),
            ("n1", True, 9, 9),
            ("n2", True, 0, 1),
        ]
