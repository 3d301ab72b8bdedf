"""Whom a node asks, and what it makes of answers that come, come late, or do not come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from sidecar.core.alarms import NodeInDoubt, NodeTakenOver
from sidecar.core.commands import AskGateway, Snapshot, WireCommand
from sidecar.core.events import RequestEnded, StrayBye
from sidecar.core.takeover import Node
from sidecar.core.terms import RouteFailure
from sidecar.ports import NodeStore, UnavailableError
from sidecar.runtime import takeover
from sidecar.runtime.takeover import Carrying, Takeovers
from tests.rig.node import until
from tests.runtime.node_help import StoppedClock, a_node

ALIVE = Node(
    name="n1",
    epoch=1,
    boot=7,
    writer="n1",
    heard_at=("udp:192.0.2.1:5060", "tcp:192.0.2.1:5060"),
    is_over=False,
    has_work=False,
)
DEAD = replace(ALIVE, is_over=True, has_work=True)


class World:
    """The database and the SIP side, whose parts the test plays."""

    heard_at: Sequence[str] = ("udp:192.0.2.2:5060",)

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.is_away = False
        self.looks = 0
        self.asked: list[AskGateway] = []
        self.taken: list[Node] = []
        self.noted: list[StrayBye] = []
        self.alarms: list[NodeTakenOver | NodeInDoubt] = []
        self.clock = StoppedClock()
        self.takeovers: Takeovers

    async def serve(self, heard_at: Sequence[str], lease_s: float) -> None:
        pass

    async def others(self) -> Sequence[Node]:
        self.looks += 1
        if self.is_away:
            raise UnavailableError("away")
        return list(self.nodes)

    async def take(self, dead: Node) -> NodeStore | None:
        self.taken.append(dead)
        return None

    def note_stray(self, bye: StrayBye) -> None:
        self.noted.append(bye)

    async def strays(self) -> Sequence[StrayBye]:
        return self.noted

    def on_fenced(self, notify: Any) -> None:
        pass

    def ask(self, requests: Sequence[AskGateway]) -> None:
        self.asked += requests

    def send(self, commands: Sequence[WireCommand | Snapshot]) -> None:
        pass

    def set_accepting(self, detail: str) -> None:
        pass

    async def looked(self, times: int = 2) -> None:
        """Until it has looked so often, and acted on it."""
        until_look = self.looks + times
        await until(lambda: self.looks >= until_look)

    async def question(self) -> list[AskGateway]:
        """The next one: a request to each address."""
        await until(lambda: len(self.asked) >= 2)
        found, self.asked = self.asked[:2], self.asked[2:]
        return found

    def answers(self, request: AskGateway, cause: RouteFailure, code: int = 0) -> None:
        ended = RequestEnded(
            mono_ns=self.clock.mono_ns(),
            wall_ns=self.clock.wall_ns(),
            request_id=request.request_id,
            cause=cause,
            sip_code=code,
        )
        assert list(self.takeovers.of_own([ended])) == [ended]

    async def is_silent(self) -> None:
        for request in await self.question():
            self.answers(request, RouteFailure.NO_RESPONSE)


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(takeover, "LOOK_S", 0.005)
    made = World()

    def carry(name: str, store: NodeStore, control: object) -> Carrying:
        raise AssertionError(name)

    async with a_node(tmp_path) as node, asyncio.TaskGroup() as tasks:
        made.takeovers = Takeovers(
            own="n2",
            nodes=made,
            lease_s=3,
            hook=made,
            clock=made.clock,
            carry=carry,
            calls=node.calls,
            may_take=lambda: True,
            raise_alarm=made.alarms.append,
        )
        made.takeovers.started.set()
        task = tasks.create_task(made.takeovers.run(), name="takeovers")
        yield made
        task.cancel()


async def test_a_node_is_asked_at_each_of_its_addresses_and_one_answer_is_enough(world: World) -> None:
    world.nodes = [ALIVE]
    udp, tcp = await world.question()
    assert (udp.host, udp.port, udp.transport, tcp.transport) == ("192.0.2.1", 5060, "udp", "tcp")
    world.answers(udp, RouteFailure.FINAL_RESPONSE, 503)
    world.answers(tcp, RouteFailure.UNREACHABLE)
    world.nodes = [DEAD]
    for _ in range(3):  # each time anew: it may die meanwhile
        udp, tcp = await world.question()
        world.answers(udp, RouteFailure.NO_RESPONSE)
        world.answers(tcp, RouteFailure.FINAL_RESPONSE, 200)
    assert world.taken == []
    await world.is_silent()
    await until(lambda: world.taken == [DEAD])


async def test_one_that_was_silent_while_it_lived_is_left_and_a_person_is_told_once(world: World) -> None:
    world.nodes = [ALIVE]
    await world.is_silent()
    with capture_logs() as lines:
        world.nodes = [DEAD]
        for _ in range(3):
            await world.is_silent()
        await world.looked()
    assert world.taken == []
    assert [(line["event"], line["node"]) for line in lines] == [("node_in_doubt", "n1")]
    assert [(alarm.kind, alarm.subject) for alarm in world.alarms] == [("node_in_doubt", "n1")]
    assert world.takeovers.counters.dead == {"n1": True}


async def test_what_was_asked_before_its_lease_was_over_says_nothing_of_it_now(world: World) -> None:
    world.nodes = [ALIVE]
    before = await world.question()
    world.nodes = [DEAD]
    now = await world.question()
    for request in before:
        world.answers(request, RouteFailure.NO_RESPONSE)
    await world.looked()
    assert world.taken == []
    for request in now:
        world.answers(request, RouteFailure.NO_RESPONSE)
    await until(lambda: world.taken == [DEAD])


async def test_a_question_whose_end_is_never_told_is_no_silence(world: World) -> None:
    world.nodes = [DEAD]
    await world.question()
    world.clock.pass_ms(7_000)
    await world.is_silent()
    await until(lambda: world.taken == [DEAD])


async def test_while_the_database_is_away_nobody_is_taken_over(world: World) -> None:
    world.nodes = [DEAD]
    question = await world.question()
    world.is_away = True
    await world.looked()
    for request in question:
        world.answers(request, RouteFailure.NO_RESPONSE)
    await world.looked()
    world.is_away = False
    await world.is_silent()
    await until(lambda: world.taken == [DEAD])


async def test_a_new_process_of_the_node_is_asked_by_itself(world: World) -> None:
    world.nodes = [ALIVE]
    await world.is_silent()
    world.nodes = [replace(ALIVE, boot=8)]
    udp, _ = await world.question()
    world.answers(udp, RouteFailure.FINAL_RESPONSE, 200)
    world.nodes = [replace(DEAD, boot=8)]
    await world.is_silent()
    await until(lambda: len(world.taken) == 1)


async def test_a_bye_that_nobody_knows_is_noted_for_others(world: World) -> None:
    bye = StrayBye(mono_ns=1, wall_ns=1, peer="p", sip_call_id="c", local_tag="a", remote_tag="b")
    assert list(world.takeovers.of_own([bye])) == [bye]
    assert world.noted == [bye]
