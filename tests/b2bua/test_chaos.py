"""Many calls at once, every step by chance: whatever crosses, each call ends once and leaves nothing."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

import pytest

from sidecar.core.commands import RelayAnswer, RelayFailure, Release, WireCommand
from sidecar.core.events import (
    AnswerDropped,
    AnswerHeld,
    BridgeEvent,
    Event,
    InviteReceived,
    LegTerminated,
    RouteFailed,
)
from sidecar.core.terms import LegName
from tests.b2bua.rig import ANSWER, Dialog, Rig
from tests.b2bua.scripted_ua import Message, ScriptedUA

CALLS = 150


class Crowd:
    """Callers and callees that do anything a hasty or lossy peer could do."""

    def __init__(self, rig: Rig, rng: random.Random) -> None:
        self.rig, self.rng = rig, rng
        self.sent: dict[str, Message] = {}
        self.answered: set[str] = set()
        self.tag = 0

    async def caller(self) -> None:
        agent = self.rig.caller
        while True:
            message = await agent.receive()
            if message.is_response:
                self.caller_hears(agent, message)
            elif message.method != "ACK" and self.rng.random() < 0.9:
                agent.reply(message, self.rng.choice((200, 200, 200, 481, 488, 491)), body=b"")

    def caller_hears(self, agent: ScriptedUA, message: Message) -> None:
        rng = self.rng
        invite = self.sent.get(message["Call-ID"])
        if invite is None or message.method != "INVITE" or message.cseq != 1:
            if message.method == "INVITE" and 200 <= message.code < 300 and rng.random() < 0.9 and invite:
                self.rig.in_dialog(agent, "ACK", Dialog.of_caller(invite, message), cseq=message.cseq)
            return
        if message.code < 200:
            if rng.random() < 0.15:
                self.rig.cancel(invite)
            return
        if message.code >= 300:
            if rng.random() < 0.9:
                self.rig.ack_failure(invite, message)
            return
        dialog = Dialog.of_caller(invite, message)
        if rng.random() < 0.9:
            self.rig.in_dialog(agent, "ACK", dialog, cseq=1)
        self.talk(agent, dialog, first_cseq=2)

    def talk(self, agent: ScriptedUA, dialog: Dialog, first_cseq: int) -> None:
        methods = ["INFO", "INVITE", "UPDATE", "OPTIONS", "REFER", "BYE"]
        for number, method in enumerate(self.rng.sample(methods, self.rng.randint(1, len(methods)))):
            extra = [agent.contact()] if method in ("INVITE", "UPDATE") else []
            self.rig.in_dialog(agent, method, dialog, *extra, cseq=first_cseq + number, body=ANSWER)

    async def callee(self) -> None:
        agent, rng = self.rig.gateway, self.rng
        while True:
            message = await agent.receive()
            if message.is_response or message.method == "ACK":
                continue
            if message.method != "INVITE" or "tag=" in message["To"]:
                if rng.random() < 0.9:
                    agent.reply(message, rng.choice((200, 200, 481, 500)))
                continue
            for _ in range(rng.randint(1, 3)):
                self.tag += 1
                tag = f"t{self.tag}" if rng.random() < 0.3 else "t"
                for code in rng.sample((100, 180, 183, 200, 486, 503), rng.randint(0, 4)):
                    agent.reply(message, code, tag=tag, body=ANSWER if rng.random() < 0.5 else b"")
                    if code == 200:
                        self.talk(agent, Dialog.of_callee(message, tag), first_cseq=1)


def decisions(rig: Rig, rng: random.Random) -> None:
    attempts: Counter[int] = Counter()

    def act(event: Event) -> Sequence[WireCommand]:
        if not isinstance(event, BridgeEvent):
            return ()
        i = event.bridge_id
        release = Release(bridge_id=i, sip_code=480, q850_cause=31, text="operator")
        if rng.random() < 0.05:
            return (release,)
        match event:
            case InviteReceived():
                attempts[i] = 1
                silence_ms = {"no_response_ms": rng.choice((20, 100)), "no_progress_ms": rng.choice((0, 50))}
                return (rig.route(event, **silence_ms),)
            case RouteFailed() if attempts[i] < 3 and rng.random() < 0.5:
                attempts[i] += 1
                invite = next(e for e in rig.events if isinstance(e, InviteReceived) and e.bridge_id == i)
                return (rig.route(invite, attempt=attempts[i], no_response_ms=100),)
            case RouteFailed():
                return (RelayFailure(bridge_id=i),)
            case AnswerHeld():
                return (RelayAnswer(bridge_id=i),)
        return ()

    rig.on_event = act


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_every_call_ends_once_and_nothing_stays_behind(seed: int) -> None:
    rng = random.Random(seed)
    async with Rig(t1_ms=10, answer_hold_ms_max=200) as rig, asyncio.TaskGroup() as tasks:
        decisions(rig, rng)
        crowd = Crowd(rig, rng)
        running = [
            tasks.create_task(endless(crowd.caller()), name="callers"),
            tasks.create_task(endless(crowd.callee()), name="callees"),
        ]
        for _ in range(CALLS):
            invite = rig.invite()
            crowd.sent[invite["Call-ID"]] = invite
            if rng.random() < 0.1:
                rig.caller.send(invite.raw)
            if rng.random() < 0.1:
                rig.cancel(invite)
            if rng.random() < 0.3:
                await asyncio.sleep(0)
        await until_empty(rig)
        for task in running:
            task.cancel()

        calls = {event.bridge_id for event in rig.events if isinstance(event, InviteReceived)}
        assert len(calls) == CALLS
        ended = Counter(
            (event.bridge_id, event.leg_name) for event in rig.events if isinstance(event, LegTerminated)
        )
        assert set(ended.values()) == {1}
        assert {i for i, leg in ended if leg is LegName.A} == calls
        over: Counter[int] = Counter()
        for event in rig.events:
            if isinstance(event, LegTerminated):
                over[event.bridge_id] += 1
            elif isinstance(event, BridgeEvent) and not isinstance(event, AnswerDropped):
                legs = sum((event.bridge_id, leg) in ended for leg in LegName)
                assert over[event.bridge_id] < legs, f"after the end: {event}"


async def endless(work: object) -> None:
    """A crowd ends when it is told to; a silence means that it has nothing more to hear."""
    assert asyncio.iscoroutine(work)
    try:
        await work
    except TimeoutError:
        await asyncio.Event().wait()


async def until_empty(rig: Rig) -> None:
    """Some calls would ring or talk for ever: they are released, as ring time and maximum would do."""
    async with asyncio.timeout(40):
        while (
            (stats := rig.hook.stats())["invites"] < CALLS
            or stats["live_calls"]
            or stats["transactions"]
            or stats["abandoned_legs"]
        ):
            if rig.caller.quiet and rig.gateway.quiet:
                rig.send(
                    *(
                        Release(bridge_id=number, sip_code=480, q850_cause=31, text="drain")
                        for number in range(1, CALLS + 1)
                    )
                )
            await asyncio.sleep(0.2)
