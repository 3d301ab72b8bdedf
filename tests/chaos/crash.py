"""kill -9 with calls in every phase: ringing, held, talking, ending; prepaid and not. The next start finds
them open, and now and then it is killed too."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from sidecar.demo.subscriber import Record
from tests.chaos.outcome import Chance, Outcome
from tests.faults.node import Node, phones
from tests.faults.phone import Phone, Plan, Side
from tests.rig.broker import mosquitto
from tests.rig.listener import Listener, check_sequences, listening, sell
from tests.rig.node import until

PROMISED_S = 5.0  # from the start of the node to the BYE (or 500, or CANCEL) of a leg
PROMISED_SHARE = 0.99
DIAL_S = 1.5  # at the least
CALLS_PER_S_MAX = 150  # these phones are slower than the node
OVER_S = 60.0
GIVEN_UP_S = 30.0
TOP_UP = 1_000
PREPAID = ("prepaid", "other")


def any_plan(chance: random.Random) -> Plan:
    """Half of them would go on for long; the others end about when the node does."""
    ring_s, answer_s = chance.random() * 0.2, 0.2 + chance.random() * 0.4
    match chance.randrange(10):
        case 0:
            return Plan(ring_s=ring_s, answer_s=answer_s, reject=486)
        case 1:
            return Plan(ring_s=ring_s, answer_s=answer_s, cancel_s=chance.random() * 0.8)
        case 2 | 3:
            return Plan(ring_s=ring_s, answer_s=None)
        case 4:
            return Plan(ring_s=ring_s, answer_s=answer_s, callee_bye_s=chance.random() * 2)
        case 5:
            return Plan(ring_s=ring_s, answer_s=answer_s, caller_bye_s=chance.random() * 2)
        case 6:  # it answers while nobody is there
            return Plan(ring_s=ring_s, answer_s=1 + chance.random() * 3)
        case _:
            return Plan(ring_s=ring_s, answer_s=answer_s)


@dataclass
class Legs:
    """Those that a killed node left in the network."""

    left: int = 0
    late: int = 0  # ended by us, but not within PROMISED_S
    never: list[Side] = field(default_factory=list)
    slowest_s: float = 0.0

    def judge(self, sides: Iterable[Side], started_s: float) -> None:
        for side in sides:
            if side.ended_by == "me" or side.gave_up:
                continue  # its own doing, before we came to it
            self.left += 1
            if side.told_s is None:
                self.never.append(side)
                continue
            took_s = side.told_s - started_s
            self.slowest_s = max(self.slowest_s, took_s)
            self.late += took_s > PROMISED_S


def is_up(side: Side) -> bool:
    return side.told_s is None and side.ended_by == "" and side.final < 300 and not side.gave_up


@dataclass
class Run:
    node: Node
    caller: Phone
    callee: Phone
    chance: random.Random
    plans: dict[str, Plan] = field(default_factory=dict)
    legs: Legs = field(default_factory=Legs)
    judged: set[int] = field(default_factory=set)  # whether it is told of its end is asked once
    found_open: int = 0

    def sides(self) -> list[Side]:
        return [*self.caller.sides.values(), *self.callee.sides.values()]

    def left_up(self) -> list[Side]:
        """Without INVITEs that had no response yet: they are repeated, and are calls of the next boot."""
        callers = [side for side in self.caller.sides.values() if side.codes]
        sides = [*callers, *self.callee.sides.values()]
        left = [side for side in sides if is_up(side) and id(side) not in self.judged]
        self.judged |= {id(side) for side in left}
        return left

    async def dial_until_killed(self, calls: int) -> None:
        loop = asyncio.get_running_loop()
        dial_s = max(DIAL_S, calls / CALLS_PER_S_MAX)
        killed_s = loop.time() + dial_s * (0.5 + self.chance.random())
        for _ in range(calls):
            if loop.time() >= killed_s:
                break
            number = f"1{len(self.plans):06}"
            self.plans[number] = any_plan(self.chance)
            self.caller.dial(number, self.plans[number], account=self.chance.choice((*PREPAID, "", "")))
            await asyncio.sleep(self.chance.expovariate(calls / dial_s))
        await asyncio.sleep(max(0.0, killed_s - loop.time()))
        self.node.kill()

    async def recovered(self, left: list[Side], started_s: float) -> None:
        def are_told() -> bool:
            return not any(map(is_up, left))

        loop = asyncio.get_running_loop()
        while loop.time() - started_s < GIVEN_UP_S and not are_told():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        self.legs.judge(left, started_s)

    async def over(self, listener: Listener) -> None:
        """Until the node holds no call, and every record has come."""
        await self.node.empty(OVER_S)
        await until(lambda: self.node.open_entries() == 0, OVER_S)
        head = (await self.node.status())["outbox_head_seq"]
        await listener.until(lambda: len(listener.records) + listener.again >= head, OVER_S)


async def crash(given: Chance) -> Outcome:
    chance, plans = given.draw(), dict[str, Plan]()
    node = Node(given.folder, timers="ring_timeout_s = 20\nmax_duration_s = 60\nt1_ms = 100")
    async with (
        mosquitto(node.folder) as broker,
        listening(broker.host, broker.port) as listener,
        phones(node, lambda invite: plans[invite.uri[4:11]]) as (caller, callee),
    ):
        run = Run(node, caller, callee, chance, plans)
        left: list[Side] = []
        for number in range(given.rounds + 1):
            async with node.up(**broker.settings()) as child:
                started_s = asyncio.get_running_loop().time()
                caller.peer = callee.peer = child.sip
                if number == 0:
                    for account in PREPAID:
                        await child.command("account", "topup", account, str(TOP_UP))
                await run.recovered(left, started_s)
                if number == given.rounds:
                    await run.over(listener)
                    break
                await run.dial_until_killed(given.calls)
                left = run.left_up()
            run.found_open += node.open_entries()
            if chance.random() < 0.2:
                await node.killed_while_it_starts(0.3 + chance.random())
    return _judged(run, listener, given.rounds)


def _judged(run: Run, listener: Listener, rounds: int) -> Outcome:
    records, legs = listener.records, run.legs
    told = Counter(one["callee"]["received"] for one in records if one["revision"] == 0)
    # Leg B's INVITE is the proof that a call was admitted.
    missing = {side.number for side in run.callee.sides.values()} - told.keys()
    ids = Counter((one["call_id"], one["revision"]) for one in records)
    duplicate = sum(count - 1 for count in (*told.values(), *ids.values()))
    twice = sum(side.byes > 1 for side in run.sides())
    # Killed between the 100 and the entry: nobody knows of the call any more, and nothing has left on B.
    unadmitted = [side for side in legs.never if side.number not in told and set(side.codes) == {100}]
    for side in legs.never:
        if side not in unadmitted:
            print(f"never told: {side.number}, heard {side.codes}, {side.plan}", flush=True)
    known = legs.left - len(unadmitted)
    never = len(legs.never) - len(unadmitted)
    in_time = 1 - (legs.late + never) / known if known else 1.0
    wrong = sum(_is_wrong(one, run) for one in records)
    broken = [
        text
        for text, is_broken in (
            ("records missing", bool(missing)),
            ("records twice", bool(duplicate)),
            ("legs heard two BYEs", bool(twice)),
            ("legs left up", in_time < PROMISED_SHARE),
            ("wrong origin or interval", bool(wrong)),
            ("ledger", not _adds_up(run.node, records)),
        )
        if is_broken
    ]
    check_sequences(records)
    run.node.check_books()
    recovered = Counter(one["evidence"] for one in records if one["detail"] == "crash_recovered")
    return Outcome(
        fault="kill -9",
        rounds=rounds,
        missing=len(missing),
        duplicate=duplicate,
        broken=broken,
        figures={
            "calls": str(len(run.plans)),
            "found open": str(run.found_open),
            "legs left": str(known),
            "ended within 5 s": f"{in_time:.2%}",
            "slowest": f"{legs.slowest_s:.1f} s",
            "never": str(never),
            "only 100": str(len(unadmitted)),
            "two BYEs": str(twice),
            "proved": str(recovered["proved"]),
            "heartbeat": str(recovered["heartbeat"]),
            "by a peer": str(
                sum(one["ended_not_after"] is not None for one in records) - recovered["heartbeat"]
            ),
            "wrong": str(wrong),
        },
    )


def _is_wrong(record: Record, run: Run) -> bool:
    """A peer is said to have ended the call, and did not; or it did so outside of the interval."""
    phone = {"caller": run.caller, "callee": run.callee}.get(record["hangup_origin"])
    if phone is None or record["detail"] != "bye":
        return False
    leg = record["leg_a"] if phone is run.caller else record["leg_b"]
    side = phone.sides[leg["sip_call_id"]]
    if side.hung_up_at is None:
        return True
    begin, end = record["ended_not_before"], record["ended_not_after"]
    return end is not None and not begin <= side.hung_up_at <= end


def _adds_up(node: Node, records: Iterable[Record]) -> bool:
    highest = {one["call_id"]: one for one in sorted(records, key=lambda one: int(one["revision"]))}
    for account in PREPAID:
        charged = sum(Decimal(sell(o)["total"] or 0) for o in highest.values() if o["account"] == account)
        if node.balance(account) != TOP_UP - charged:
            return False
    return True
