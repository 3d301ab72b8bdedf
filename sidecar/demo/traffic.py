"""A day's calls in a journal, without SIP: each is put to `decide` event by event, as the bridge would tell
it, and what it asks of the store is what the store writes. So records, charges and margins are those of real
calls; only the wire is made up."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.sqlite import SqliteStore
from sidecar.core import events as on
from sidecar.core.admit import open_call
from sidecar.core.commands import Command, StoreCommand
from sidecar.core.decide import decide
from sidecar.core.identity import call_id_of
from sidecar.core.policy import Given, Load, Policy
from sidecar.core.terms import Detail, LegName, RouteFailure, TransportName
from sidecar.ports import NodeStore

DAY_S = 86_400
PORTION = 500  # calls to a commit
MS = 1_000_000
PEER = "local"
# Each with its weight. Of final responses 200 is an answer, and 0 a caller who gives up.
ACCOUNTS = (("acme", 5), ("globex", 3), ("initech", 2))
NUMBERS = (("4930", 6), ("49151", 5), ("4420", 4), ("447700", 2), ("331", 2), ("1212", 2), ("8835", 1))
ANSWERS = ((200, 62), (486, 14), (480, 7), (404, 5), (503, 4), (0, 8))
PROFILE = """
[sip]
listen_udp = ["127.0.0.1:0"]
blocked_numbers = ["0900*"]

[peers.local]
addresses = ["127.0.0.0/8"]
asserts_identity = true

[gateways.west]
host = "127.0.0.1"
port = 5090
deck = "wholesale"

[gateways.east]
host = "127.0.0.2"
port = 5090
deck = "wholesale"

[[routes]]
prefix = ""
gateways = ["west", "east"]

[decks]
retail = "retail"
wholesale = "wholesale"
"""


def profile() -> str:
    """Of a node that has carried this traffic: what the page reckons with is what the calls were made by."""
    text = PROFILE
    for name, _ in ACCOUNTS:
        text += f'\n[accounts.{name}]\ncurrency = "EUR"\ndeck = "retail"\n'
        text += f'\n[[account_rules]]\naccount = "{name}"\nheader = "x-account"\nheader_value = "{name}"\n'
    return text


class MadeClock(SystemClock):
    """As it stood at the call that is being written."""

    wall = 0

    def wall_ns(self) -> int:
        return self.wall


async def write(data: Path, policy: Policy, calls: int, until_ns: int, seed: int = 1) -> None:
    """Calls of the day before `until_ns`, most of them by day, into a journal that nobody has open."""
    clock = MadeClock()
    clock.wall = until_ns - DAY_S * 1_000 * MS
    store = SqliteStore.open(data, node=policy.node, boot_id=policy.boot_id, clock=clock)
    try:
        await fill(store, clock, policy, calls, until_ns, seed)
    finally:
        await store.close()


async def fill(
    store: NodeStore, clock: MadeClock, policy: Policy, calls: int, until_ns: int, seed: int = 1
) -> None:
    """`clock`: that of the store."""
    chance = random.Random(seed)  # noqa: S311  # the same each time is what is wanted
    begins_ms = sorted(_moment_ms(chance, until_ns // MS) for _ in range(calls))
    for start in range(0, calls, PORTION):
        for number in range(start, min(calls, start + PORTION)):
            for step in _steps(chance, number + 1, begins_ms[number], policy):
                store.submit(step)
        clock.wall = begins_ms[min(calls, start + PORTION) - 1] * MS
        await store.outbox.acknowledge([], [])  # all that was submitted before is written
        rows = await store.outbox.pending(0, 2 * PORTION)
        await store.outbox.acknowledge([row.seq for row in rows], [])


def _moment_ms(chance: random.Random, until_ms: int) -> int:
    """Fewest at four in the morning, UTC."""
    while True:
        at_ms = until_ms - chance.randrange(1_000_000, DAY_S * 1000)
        busy = (1 - math.cos((at_ms / 1000 / 3600 - 4) * math.tau / 24)) / 2
        if chance.random() < 0.1 + 0.9 * busy:
            return at_ms


class _Made:
    """One call, and what it asks of the store."""

    def __init__(self, invite: on.InviteReceived, call_id: UUID, given: Given) -> None:
        self.steps: list[Sequence[StoreCommand]] = []
        self._given = given
        self.call, commands = open_call(call_id, invite, given)
        self._keep(commands)

    def happens(self, event: on.Event) -> None:
        self.call, commands = decide(self.call, event, self._given)
        self._keep(commands)

    def _keep(self, commands: Sequence[Command]) -> None:
        if step := [one for one in commands if isinstance(one, StoreCommand)]:
            self.steps.append(step)


def _steps(
    chance: random.Random, number: int, at_ms: int, policy: Policy
) -> Sequence[Sequence[StoreCommand]]:
    call_id = call_id_of(policy.tenant, policy.node, policy.boot_id, number, at_ms)
    made = _Made(_invite(chance, number, at_ms), call_id, Given(policy, Load()))

    def told(after_ms: float) -> dict[str, Any]:
        return {**_stamps(at_ms + int(after_ms)), "bridge_id": number}

    def known(after_ms: float) -> dict[str, Any]:
        return {**_stamps(at_ms + int(after_ms)), "call_id": call_id}

    if not made.call.attempts:  # refused at once
        return made.steps
    ring_ms = 1_000 + chance.expovariate(1 / 6_000)
    made.happens(on.Admitted(**known(2)))
    rings_ms = chance.uniform(80, 900)
    made.happens(on.ProvisionalReceived(**told(rings_ms), attempt=1, sip_code=180))
    code = _drawn(chance, ANSWERS)
    if code == 0:
        made.happens(on.CancelReceived(**told(ring_ms)))
        return _over(made, told, ring_ms + 20, 487)
    if code != 200:
        attempt = 1
        while made.call.attempts[-1].number == attempt:  # 503: the next gateway, which has no better one
            failed = {"cause": RouteFailure.FINAL_RESPONSE, "sip_code": code, "heard_code": 180}
            made.happens(on.RouteFailed(**told(ring_ms), attempt=attempt, **failed))
            attempt += 1
        return _over(made, told, ring_ms + 20, code)
    leg = replace(made.call.attempts[-1].leg, remote_tag="callee", local_cseq=1)
    made.happens(on.AnswerHeld(**told(ring_ms), attempt=1, sip_code=200, leg=leg))
    made.happens(on.AnswerRecorded(**known(ring_ms + 1)))
    made.happens(on.AnswerRelayed(**told(ring_ms + 2)))
    made.happens(on.AckReceived(**told(ring_ms + 40)))
    end_ms = ring_ms + 40 + min(chance.lognormvariate(math.log(70_000), 1.1), 3_600_000)
    if chance.random() < 0.02:
        operator: dict[str, Any] = {"detail": Detail.OPERATOR, "operator": "demo", "text": "made traffic"}
        made.happens(on.ReleaseRequested(**known(end_ms), **operator))
    else:
        by = LegName.A if chance.random() < 0.6 else LegName.B
        made.happens(on.ByeReceived(**told(end_ms), leg_name=by))
    return _over(made, told, end_ms + 20, 0)


def _over(made: _Made, told: Any, after_ms: float, code: int) -> Sequence[Sequence[StoreCommand]]:
    for leg_name in LegName:
        made.happens(on.LegTerminated(**told(after_ms), leg_name=leg_name, sip_code=code, alive=True))
    return made.steps


def _invite(chance: random.Random, number: int, at_ms: int) -> on.InviteReceived:
    callee = _drawn(chance, NUMBERS) + f"{chance.randrange(10**6, 10**7)}"
    caller = f"4989{chance.randrange(10**6, 10**7)}"
    host = "127.0.0.1"
    leg = on.LegIdentity(
        sip_call_id=f"made-{number}@{host}",
        local_tag=f"ours{number}",
        remote_tag=f"theirs{number}",
        local_uri=f"sip:{callee}@{host}",
        remote_uri=f"sip:{caller}@{host}",
        remote_target=f"sip:{caller}@{host}:5060",
        remote_cseq=1,
        branch=f"z9hG4bKmade{number}",
        local_address=f"{host}:5080",
        remote_address=f"{host}:5060",
        transport=TransportName.UDP,
    )
    return on.InviteReceived(
        **_stamps(at_ms),
        bridge_id=number,
        leg=leg,
        peer=PEER,
        request_uri=f"sip:{callee}@{host}",
        request_user=callee,
        from_user=caller,
        headers=(("x-account", str(_drawn(chance, ACCOUNTS))),),
        b_token=f"{chance.getrandbits(128):032x}",
    )


def _stamps(at_ms: int) -> dict[str, Any]:
    return {"mono_ns": at_ms * MS, "wall_ns": at_ms * MS}


def _drawn(chance: random.Random, weighted: Sequence[tuple[Any, int]]) -> Any:
    return chance.choices([one for one, _ in weighted], [weight for _, weight in weighted])[0]
