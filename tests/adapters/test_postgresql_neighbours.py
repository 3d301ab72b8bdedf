"""What nodes on one database tell one another."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from msgspec.structs import replace

from sidecar.adapters.postgresql import neighbours
from sidecar.core.audit import Change, Operator
from sidecar.core.fraud_told import Counted, FraudCounts, FraudHold
from sidecar.ports import Asked, FraudTold, Neighbours, News, NodeSilentError, Seen, Told
from tests.adapters.store_calls import admission, admitted, terms_of, whole_call
from tests.adapters.stores import PostgresqlStores

TOLD = Told(state="accepting", calls=3, calls_max=100, version="1", by_gateway={"gw1": 3})
ANN = Operator("ann", 1000)


def change(action: str) -> Change:
    return Change(operator=ANN, action=action, subject="acme")


async def told_and_heard(there: Neighbours) -> News:
    await there.wait(60.0)
    return await there.exchange(TOLD)


async def asked_of(there: Neighbours) -> Asked:
    """What was told before wakes it too."""
    while not (found := (await told_and_heard(there)).asked):
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
        assert (await there.exchange(TOLD)).terms == ()
        making = group.create_task(accounts.create(terms_of("acme")), name="asks")
        news = await told_and_heard(there)  # woken by what was told
        assert ([terms.name for terms in news.terms], news.addresses) == (["acme"], {"acme": []})
        assert not making.done()  # it was heard; that it is in force is told with the next round
        assert (await there.exchange(TOLD)).terms == ()
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
            while not (news := await told_and_heard(there)).terms:
                pass
            assert [one.disabled_by_command for one in news.terms] == [terms]
            assert news.addresses == {"acme": blocks}
            await there.exchange(TOLD)
            await task
        # What it was started with it has read; what it carries the other has heard.
        assert (await one.store.neighbours.exchange(TOLD)).others == {"n2": TOLD}


async def test_a_node_that_is_silent_keeps_nobody_waiting_for_ever(
    postgresql_stores: PostgresqlStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "HEARD_S_MAX", 0.1)
    monkeypatch.setattr(neighbours, "ANSWER_S_MAX", 0.2)
    opened = postgresql_stores.opened
    async with opened() as one, opened(node="n2", boot_id="second") as other:
        there = other.store.neighbours
        await there.exchange(TOLD)
        await one.store.accounts.create(terms_of("acme"))
        asking = one.store.neighbours
        with pytest.raises(NodeSilentError, match="does not look: nothing was done"):
            await asking.ask("n2", "node.drain", b"{}", ANN)
        assert (await there.exchange(TOLD)).asked == []

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
        await other.store.neighbours.exchange(TOLD)
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


COUNTS = FraudCounts(rules={"r1": {"acme": Counted(3, 4, 1, (7, 2**32 - 1))}}, lifts_heard=2)


def found(node: str, since_ms: int, identity: str = "i1", rule: str = "calls") -> FraudHold:
    return FraudHold(
        rule=rule,
        identity=identity,
        key="acme",
        node=node,
        measured=Decimal("0.25"),
        since_ms=since_ms,
        until_ms=since_ms + 1_000,
    )


async def test_fraud_counts_are_told_when_they_change_and_stay_when_a_node_is_silent(
    postgresql_stores: PostgresqlStores,
) -> None:
    opened = postgresql_stores.opened
    async with opened() as one:
        here = one.store.neighbours
        async with opened(node="n2", boot_id="second") as other:
            news = await other.store.neighbours.exchange(TOLD, FraudTold(counts=COUNTS))
            assert (news.fraud.counts, list(news.fraud.holds)) == ({}, [])
            (said, age_ms) = (await here.exchange(TOLD, FraudTold())).fraud.counts["n2"]
            assert said == COUNTS
            assert 0 <= age_ms < 60_000
            await other.store.neighbours.exchange(TOLD, FraudTold())
            assert (await here.exchange(TOLD, FraudTold())).fraud.counts == {}
        postgresql_stores.asked("UPDATE fraud_counts SET told_at = told_at - interval '1 hour' RETURNING 1")
    async with opened(boot_id="third") as one:
        (said, age_ms) = (await one.store.neighbours.exchange(TOLD, FraudTold())).fraud.counts["n2"]
        assert said == COUNTS
        assert age_ms >= 3_600_000
        postgresql_stores.asked("UPDATE fraud_counts SET told_at = told_at - interval '1 day' RETURNING 1")
        assert (await one.store.neighbours.exchange(TOLD, FraudTold())).fraud.counts == {}


async def test_what_a_rule_finds_at_two_nodes_is_of_the_first_until_it_is_over_or_lifted(
    postgresql_stores: PostgresqlStores,
) -> None:
    async with (
        postgresql_stores.opened() as one,
        postgresql_stores.opened(node="n2", boot_id="second") as other,
    ):
        here, there = one.store.neighbours, other.store.neighbours
        claims = [found("n1", 500), found("n1", 500, rule="minutes")]
        news = await here.exchange(TOLD, FraudTold(claims=claims))
        assert news.fraud.claimed == {("calls", "acme"), ("minutes", "acme")}
        news = await there.exchange(TOLD, FraudTold(claims=[found("n2", 400)]))
        assert news.fraud.claimed == set()
        assert list(news.fraud.holds) == [
            replace(one, change=change) for change, one in enumerate(claims, news.fraud.holds[0].change)
        ]
        seen = news.fraud.holds[-1].change
        for claim in (
            found("n2", 1_500),  # it is over
            found("n1", 1_600, identity="i2"),  # of a rule that was changed
        ):
            news = await there.exchange(TOLD, FraudTold(claims=[claim], hold_seen=seen))
            assert news.fraud.claimed == {("calls", "acme")}
            [hold] = news.fraud.holds
            assert replace(hold, change=0) == claim
            seen = hold.change
        change = await here.lift(claim)
        [lifted] = (await there.exchange(TOLD, FraudTold(hold_seen=seen))).fraud.holds
        assert lifted == replace(claim, is_lifted=True, change=change)
        news = await there.exchange(TOLD, FraudTold(claims=[found("n2", 1_700, "i2")], hold_seen=change))
        assert news.fraud.claimed == {("calls", "acme")}
        await here.lift(found("n1", 0, rule="other"))  # what the journal alone has made it hold
        await there.exchange(TOLD, FraudTold(counts=COUNTS))
        forever = replace(found("n1", 0, rule="by-hand"), until_ms=None)
        await here.exchange(TOLD, FraudTold(claims=[forever]))
    left = "SELECT count(*) FROM fraud_counts UNION ALL SELECT count(*) FROM fraud_holds"
    for days, expected in ((0, [(1,), (4,)]), (2, [(0,), (1,)])):
        for table, when in (("fraud_counts", "told_at"), ("fraud_holds", "changed_at")):
            postgresql_stores.asked(
                f"UPDATE {table} SET {when} = {when} - interval '{days} days' RETURNING 1"
            )
        async with postgresql_stores.opened(boot_id=f"later{days}") as later:
            await later.store.neighbours.exchange(TOLD, FraudTold())
            assert postgresql_stores.asked(left) == expected, "what is over for a day is forgotten"
