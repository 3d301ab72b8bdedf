"""kill -9 with many prepaid calls on a balance for a few of them, each a second at a time; with top-ups,
adjustments, and the account switched off and on at any moment: nothing is reserved that is not there, and
every cent is where the records say."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from sidecar.adapters.control_client import DaemonUnreachableError
from sidecar.demo.subscriber import Record
from tests.chaos.crash import Run
from tests.chaos.outcome import Chance, Outcome
from tests.faults.node import Node, phones
from tests.faults.phone import Plan
from tests.rig.broker import mosquitto
from tests.rig.listener import Listener, check_sequences, listening, sell

ACCOUNT: Final = "prepaid"
DIAL_S: Final = 2.0
TALK_S_MAX: Final = 6.0
PAID: Final = Decimal("0.005")  # for each call at the beginning of a round: it would pay half a second of it


def any_plan(chance: random.Random) -> Plan:
    """Most would go on until their credit is used up."""
    ring_s, answer_s = chance.random() * 0.1, 0.1 + chance.random() * 0.3
    match chance.randrange(8):
        case 0:
            return Plan(ring_s=ring_s, answer_s=None, cancel_s=0.3 + chance.random())
        case 1 | 2:
            return Plan(ring_s=ring_s, answer_s=answer_s, caller_bye_s=chance.random() * TALK_S_MAX)
        case 3:
            return Plan(ring_s=ring_s, answer_s=answer_s, callee_bye_s=chance.random() * TALK_S_MAX)
        case _:
            return Plan(ring_s=ring_s, answer_s=answer_s)


@dataclass
class Payments:
    """Top-ups, and adjustments that take away. One that a kill has cut is repeated under its reference:
    nobody knows whether it was booked."""

    node: Node
    made: dict[str, Decimal] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)

    async def pay(self, amount: Decimal) -> None:
        reference = f"payment {len(self.made)}"
        self.made[reference] = amount
        self.open.append(reference)
        await self.repeat()

    async def repeat(self) -> None:
        for reference in [*self.open]:
            amount = self.made[reference]
            words = {"name": ACCOUNT, "amount": f"{amount}", "reference": reference}
            method = "account.topup" if amount > 0 else "account.adjust"
            reason = {} if amount > 0 else {"text": "chaos"}
            if not await self._told(method, {**words, **reason}):
                return
            self.open.remove(reference)

    async def switch(self) -> None:
        """Off, and at once on again: what is asked for between finds a disabled account."""
        for method in ("account.disable", "account.enable"):
            await self._told(method, {"name": ACCOUNT})

    async def _told(self, method: str, words: dict[str, str]) -> bool:
        try:
            await self.node.control(method, **words)
        except (OSError, DaemonUnreachableError):
            return False
        return True

    @property
    def paid(self) -> Decimal:
        return sum(self.made.values(), Decimal(0))


async def _dial(run: Run, payments: Payments, calls: int, kills: bool) -> None:
    """All of them in DIAL_S, and top-ups between; then the end of the node, at any moment."""
    chance, loop = run.chance, asyncio.get_running_loop()
    killed_s = loop.time() + DIAL_S * (0.5 + chance.random()) if kills else float("inf")
    for _ in range(calls):
        if loop.time() >= killed_s:
            break
        number = f"1{len(run.plans):06}"
        run.plans[number] = any_plan(chance)
        run.caller.dial(number, run.plans[number], account=ACCOUNT)
        if chance.random() < 0.1:
            await payments.pay(Decimal(chance.choice([-3, -1, 2, 4, 8])) / 100)
        if chance.random() < 0.004:  # it ends all that are up
            await payments.switch()
        await asyncio.sleep(chance.expovariate(calls / DIAL_S))
    if kills:
        await asyncio.sleep(max(0.0, killed_s - loop.time()))
        run.node.kill()


async def credit(given: Chance) -> Outcome:
    """The last round is not killed: its calls end for credit."""
    chance, plans = given.draw(), dict[str, Plan]()
    timers = "ring_timeout_s = 20\nmax_duration_s = 60\nt1_ms = 100"
    node = Node(given.folder, timers=timers, billing="slice_s = 1", sip="refused_cdr_per_s = 1000")
    async with (
        mosquitto(node.folder) as broker,
        listening(broker.host, broker.port) as listener,
        phones(node, lambda invite: plans[invite.uri[4:11]]) as (caller, callee),
    ):
        run, payments = Run(node, caller, callee, chance, plans), Payments(node)
        left = run.left_up()
        for number in range(given.rounds + 1):
            async with node.up(**broker.settings()) as child:
                started_s = asyncio.get_running_loop().time()
                caller.peer = callee.peer = child.sip
                await payments.repeat()
                await payments.switch()  # it was off, perhaps
                await payments.pay(given.calls * PAID)
                await run.recovered(left, started_s)
                is_last = number == given.rounds
                await _dial(run, payments, given.calls, kills=not is_last)
                if is_last:
                    await payments.repeat()
                    await run.over(listener)
                left = run.left_up()
            run.found_open += node.open_entries()
    return _judged(run, payments, listener, given.rounds)


def _judged(run: Run, payments: Payments, listener: Listener, rounds: int) -> Outcome:
    node, records = run.node, listener.records
    told = Counter(one["callee"]["received"] for one in records if one["revision"] == 0)
    # Leg B's INVITE is the proof that a call was admitted.
    missing = {side.number for side in run.callee.sides.values()} - told.keys()
    duplicate = sum(Counter((one["call_id"], one["revision"]) for one in records).values()) - len(
        {(one["call_id"], one["revision"]) for one in records}
    )
    # An adjustment may take more than there is; a reservation may not.
    left = node.ask("SELECT balance FROM ledger WHERE kind = 'reserve'")
    lowest = min(Decimal(balance) for (balance,) in left)
    highest = {one["call_id"]: one for one in sorted(records, key=lambda one: int(one["revision"]))}
    charged = sum((_total(one) for one in highest.values()), Decimal(0))
    beyond = [one for one in records if one["granted_s"] and one["billable_ms"] > one["granted_s"] * 1000]
    ends = Counter(str(one["detail"]) for one in highest.values())
    broken = [
        text
        for text, is_broken in (
            ("records missing", bool(missing)),
            ("records twice", bool(duplicate)),
            ("overspent", lowest < 0),
            ("billed beyond the grant", bool(beyond)),
            ("ledger", node.balance(ACCOUNT) != payments.paid - charged),
        )
        if is_broken
    ]
    check_sequences(records)
    node.check_books()
    return Outcome(
        fault="credit",
        rounds=rounds,
        missing=len(missing),
        duplicate=duplicate,
        broken=broken,
        figures={
            "calls": str(len(run.plans)),
            "found open": str(run.found_open),
            "payments": str(len(payments.made)),
            "extensions": str(_extensions(node)),
            "lowest balance": f"{lowest:f}",
            **{name: str(ends[name]) for name in ("grant_used_up", "no_credit", "ledger_unreachable")},
        },
    )


def _total(record: Record) -> Decimal:
    return Decimal(sell(record)["total"] or 0)


def _extensions(node: Node) -> int:
    ((reserved, calls),) = node.ask(
        "SELECT count(*), count(DISTINCT call_id) FROM ledger WHERE kind = 'reserve'"
    )
    return int(reserved) - int(calls)
