"""Decks in force by command: checked, noted, at a time to come, over a start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from sidecar.adapters.deck_files import canonical_chunks, read_deck
from sidecar.core.audit import Operator
from sidecar.core.deck_history import Activation, Import
from sidecar.core.records import utc
from sidecar.ports import DeckError
from sidecar.runtime.deck_commands import put_in_force_at_start
from sidecar.wire import control_decks as say
from sidecar.wire.control import CommandError
from sidecar.wiring.decks import Decks
from tests.runtime.node_help import WALL_NS, Node, a_node

ANN = Operator("ann", 1000)
NOW = utc(WALL_NS)
HOUR = timedelta(hours=1)
HEAD = "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s\n"


class Place:
    def __init__(self, folder: Path, node: Node) -> None:
        self.node = node
        self.book = Decks(folder / "data" / "decks")
        self._file = folder / "deck.csv"

    def deck(self, price: str, currency: str = "EUR", by: Import | None = None) -> str:
        self._file.write_text(f"{HEAD}00,All,{currency},0,{price},1,1\n")
        deck = read_deck(self._file)
        self.book.put(deck.revision, canonical_chunks(deck), rates=1, source="deck.csv", at=NOW, by=by)
        return deck.revision

    async def activate(
        self, revision: str, at: datetime | None = None, name: str = "demo"
    ) -> say.DeckActivated:
        wanted = say.DeckActivateParams(
            name=name, revision=revision, at=at, operator="ann", text="Friday's list", origin="ssh 192.0.2.1"
        )
        return await self.node.admin.decks.activate(wanted, ANN)

    async def watched(self, holds: Callable[[], bool]) -> None:
        """An hour passes while somebody watches what is to come, until something holds."""
        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self.node.admin.decks.watch(), name="decks")
            self.node.clock.pass_ms(3_600_000)
            while not holds() or any(not one.came and not one.refused for one in self.book.history("demo")):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            watching.cancel()

    @property
    def in_force(self) -> str:
        return self.node.calls.policy.decks["demo"].revision

    async def told(self) -> list[tuple[str, str, str, str]]:
        entries = await self.node.store.audit.list()
        return [
            (one.change.action, one.change.operator.name, one.change.text, one.change.after or "")
            for one in entries
            if one.change.action.startswith("deck.")
        ]

    async def start(self, now: datetime) -> str:
        """What a start at a time would have in force."""
        policy = self.node.calls.policy
        after = await put_in_force_at_start(policy, policy, self.book, self.node.store.audit, now)
        return after.decks["demo"].revision


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Place]:
    async with a_node(tmp_path) as node:
        yield Place(tmp_path, node)


async def test_a_deck_put_in_force_is_noted_with_who_when_from_where_and_why(here: Place) -> None:
    revision = here.deck("6")
    done = await here.activate(revision)
    assert (here.in_force, done.at) == (revision, NOW)
    (entry,) = await here.told()
    assert entry[:3] == ("deck.activate", "ann", "Friday's list")
    assert revision in entry[3]
    assert "ssh 192.0.2.1" in entry[3]
    (kept,) = here.book.history("demo")
    assert (kept.operator, kept.uid, kept.origin, kept.text) == (
        "ann",
        1000,
        "ssh 192.0.2.1",
        "Friday's list",
    )
    assert await here.start(NOW) == revision
    assert len(await here.told()) == 1


async def test_a_deck_that_was_stored_while_no_daemon_ran_is_noted_at_the_start_and_once(here: Place) -> None:
    by = Import(operator="ann", uid=1000, text="Friday's list")
    revision = here.deck("6", by=by)
    for _ in range(2):
        await here.start(NOW)
        [(action, who, why, after)] = await here.told()
        assert (action, who, why) == ("deck.import", "ann", "Friday's list")
        assert "deck.csv" in after
    [entry] = await here.node.store.audit.list()
    assert (entry.change.subject, entry.change.operator.uid) == (revision, 1000)
    here.deck("7")  # of the settings
    await here.start(NOW)
    assert len(await here.told()) == 1


async def test_a_deck_that_the_settings_would_refuse_is_refused(here: Place) -> None:
    before = here.in_force
    dollars = here.deck("6", "USD")
    for at in (None, NOW + HOUR):
        with pytest.raises(CommandError, match="kept in EUR, but the deck has rates in USD"):
            await here.activate(dollars, at)
    facts = await here.node.admin.decks.check(say.DeckCheckParams(name="demo", revision=dollars), ANN)
    assert "USD" in facts.errors[0]
    assert (here.in_force, here.book.histories(), await here.told()) == (before, {}, [])


async def test_a_name_that_nobody_is_rated_by_is_refused(here: Place) -> None:
    with pytest.raises(CommandError, match="did you mean 'demo'"):
        await here.activate(here.deck("6"), name="dmo")


async def test_what_was_looked_at_must_still_be_in_force(here: Place) -> None:
    wanted = say.DeckActivateParams(
        name="demo", revision=here.deck("6"), operator="ann", instead_of=here.in_force
    )
    await here.activate(here.deck("7"))
    with pytest.raises(CommandError, match="meanwhile"):
        await here.node.admin.decks.activate(wanted, ANN)


async def test_a_deck_to_come_comes_at_its_time_and_not_before(here: Place) -> None:
    before, revision = here.in_force, here.deck("6")
    assert (await here.activate(revision, NOW + HOUR)).pending == (NOW + HOUR,)
    assert here.in_force == await here.start(NOW + HOUR - timedelta(microseconds=1)) == before
    await here.watched(lambda: here.in_force == revision)
    assert here.in_force == revision
    assert [entry[0] for entry in await here.told()] == ["deck.activate", "deck.in_force"]


async def test_a_file_that_cannot_be_read_for_a_while_ends_nothing(here: Place, tmp_path: Path) -> None:
    revision = here.deck("6")
    await here.activate(revision, NOW + HOUR)
    file = tmp_path / "data" / "decks" / "active.json"
    kept = file.read_bytes()
    file.write_bytes(b"{")
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(here.node.admin.decks.watch(), name="decks")
        here.node.clock.pass_ms(3_600_000)
        await asyncio.sleep(0.2)
        assert not watching.done()
        file.write_bytes(kept)
        while here.in_force != revision:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        watching.cancel()


async def test_a_deck_whose_time_came_while_no_daemon_ran_is_in_force_at_the_start(here: Place) -> None:
    revision = here.deck("6")
    await here.activate(revision, NOW + HOUR)
    assert await here.start(NOW + 2 * HOUR) == revision
    assert [entry[0] for entry in await here.told()] == ["deck.activate", "deck.in_force"]
    assert await here.start(NOW + 2 * HOUR) == revision
    assert len(await here.told()) == 2


async def test_what_is_to_come_can_be_taken_back(here: Place) -> None:
    before = here.in_force
    await here.activate(here.deck("6"), NOW + HOUR)
    wanted = say.DeckCancelParams(name="demo", operator="bob", text="not yet")
    assert len((await here.node.admin.decks.cancel(wanted, Operator("bob", 1))).revisions) == 1
    assert await here.start(NOW + 2 * HOUR) == before
    assert (await here.told())[-1][:3] == ("deck.cancel", "bob", "not yet")
    with pytest.raises(CommandError, match="nothing is to come"):
        await here.node.admin.decks.cancel(wanted, ANN)


async def test_a_deck_that_became_wrong_meanwhile_does_not_come_into_force(here: Place) -> None:
    before, dollars = here.in_force, here.deck("6", "USD")
    one = Activation(revision=dollars, at=NOW + HOUR, given_at=NOW, noted=False, came=False)
    here.book.activate("demo", one, NOW)
    await here.watched(lambda: bool(here.book.history("demo")[0].refused))
    assert here.in_force == before
    here.book.activate("demo", Activation(revision=dollars, at=NOW + 2 * HOUR, came=False), NOW + 2 * HOUR)
    assert await here.start(NOW + 2 * HOUR) == before


async def test_a_start_does_not_take_over_what_does_not_suit_the_settings_any_more(here: Place) -> None:
    dollars = here.deck("6", "USD")
    here.book.activate("demo", Activation(revision=dollars, at=NOW), NOW)
    with pytest.raises(DeckError, match="kept in EUR"):
        await here.start(NOW)


async def test_the_first_deck_is_rolled_back_to_that_of_the_settings(here: Place) -> None:
    before, revision = here.in_force, here.deck("6")
    wanted = say.DeckRollbackParams(name="demo", operator="ann")
    with pytest.raises(CommandError, match="no other deck"):
        await here.node.admin.decks.rollback(wanted, ANN)
    await here.activate(revision)
    assert (await here.node.admin.decks.rollback(wanted, ANN)).revision == here.in_force == before
    assert (await here.node.admin.decks.rollback(wanted, ANN)).revision == here.in_force == revision
    assert [entry[0] for entry in await here.told()] == ["deck.activate", "deck.rollback", "deck.rollback"]


async def test_a_command_without_a_daemon_is_noted_by_the_next_start_once(here: Place) -> None:
    revision = here.deck("6")
    one = Activation(revision=revision, at=NOW, given_at=NOW, operator="ann", noted=False, came=False)
    here.book.activate("demo", one, NOW)
    for _ in range(2):
        assert await here.start(NOW) == revision
    assert [entry[:2] for entry in await here.told()] == [("deck.activate", "ann"), ("deck.in_force", "ann")]
