"""A node between user agents, each of them a customer and a gateway at once."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Final

from sidecar.demo.check import summary
from sidecar.demo.children import Daemon
from sidecar.demo.subscriber import Record
from tests.rig.listener import Listener, listening, sell
from tests.rig.node import Node
from tests.stacks.agent import WITHIN_S, Agent, Baresip, Pjsua, up

PROFILE: Final = """
[sip]
listen_udp = ["{host}:0"]

[decks]
sell = "{deck}"

[billing]
deck = "sell"
"""
PARTY: Final = """
[peers.{name}]
addresses = ["{host}/32"]

[gateways.{name}]
host = "{host}"
port = {port}
no_response_failover_s = 30

[[routes]]
prefix = "{prefix}"
gateways = ["{name}"]

[[account_rules]]
account = "{name}"
peer = "{name}"

[accounts.{name}]
currency = "EUR"
"""
# A cent a second, by the second.
DECK: Final = (
    "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s,steps\n"
    "1,All,EUR,0,0.60,1,1,\n2,All,EUR,0,0.60,1,1,\n"
)
NAMES: Final = ("alice", "bob", "carol", *(f"party-{number}" for number in range(4, 13)))
CLOCKS_MS: Final = 50  # the reading of two clocks, and whole milliseconds


class Span:
    """What a talk lasts at least and at most, as whoever drives both sides sees it: what it asks for happens
    after, and an event that it reads has happened before."""

    def __init__(self) -> None:
        self.asked_at, self.seen_at = time.monotonic(), 0.0

    def begun(self) -> Span:
        self.seen_at = time.monotonic()
        return self

    def check(self, cdr: Record, end: Span) -> None:
        least_ms, most_ms = (end.asked_at - self.seen_at) * 1000, (end.seen_at - self.asked_at) * 1000
        assert least_ms - CLOCKS_MS <= cdr["talk_ms"] <= most_ms + CLOCKS_MS, cdr["talk_ms"]
        stamps_ms = (cdr["ended_at"] - cdr["answered_at"]).total_seconds() * 1000
        assert abs(stamps_ms - cdr["talk_ms"]) <= CLOCKS_MS
        assert cdr["invited_at"] <= cdr["ringing_at"] <= cdr["b_answered_at"] <= cdr["answered_at"]
        assert Decimal(sell(cdr)["total"]) == Decimal(cdr["billed_s"]) / 100


class Stacks(Node):
    """127.x.y.2 is alice, .3 bob, and so on. A kind is `baresip`, `pjsua`, or `pjsua:90`, which insists on a
    session timer of so many seconds."""

    def __init__(self, folder: Path, *kinds: str) -> None:
        super().__init__(folder)
        self.listener: Listener
        self.parties: dict[str, Agent] = {}
        for number, (name, kind) in enumerate(zip(NAMES, kinds, strict=False), start=1):
            what, _, session_expires_s = kind.partition(":")
            at = folder / name, f"{self.network}.{number + 1}", f"{number + 10}0"
            self.parties[name] = (
                Baresip(*at) if what == "baresip" else Pjsua(*at, int(session_expires_s or 0))
            )

    def profile_text(self) -> str:
        deck = self.folder / "deck.csv"
        deck.write_text(DECK)
        text = PROFILE.format(host=self.host, deck=deck)
        for name, one in self.parties.items():
            text += PARTY.format(name=name, host=one.host, port=one.port, prefix=one.number)
        return text

    @asynccontextmanager
    async def up(self, program: Sequence[str] = (), **settings: str) -> AsyncIterator[Daemon]:
        async with (
            up(*self.parties.values()),
            super().up(program, **settings) as child,
            listening(*child.broker) as self.listener,
        ):
            yield child

    def uri(self, of: Agent) -> str:
        host, port = self.daemon.sip
        return f"sip:{of.number}@{host}:{port}"

    async def ring(self, caller: Agent, callee: Agent) -> None:
        await caller.do("dial", uri=self.uri(callee))
        await callee.event("incoming")
        await caller.event("ringing")

    async def talk(self, caller: Agent, callee: Agent) -> Span:
        await self.ring(caller, callee)
        start = Span()
        await callee.do("answer")
        await caller.event("established")
        await callee.event("established")
        return start.begun()

    async def ended(self, *agents: Agent) -> None:
        for one in agents:
            await one.event("closed")

    async def records(self, count: int = 1) -> list[Record]:
        """One of each call, in their order: the last, where a BYE that crossed ours was more than a second in
        coming. A party that was frozen may send its own before it reads ours."""
        await self.listener.until(lambda: len(self._calls()) >= count, WITHIN_S)
        await self.empty()
        found = [(one["call_id"], one["revision"], summary(one)) for one in self.listener.records]
        assert len(self._calls()) == count, found
        return sorted(self._calls().values(), key=lambda one: str(one["invited_at"]))

    def _calls(self) -> dict[str, Record]:
        by_revision = sorted(self.listener.records, key=lambda one: int(one["revision"]))
        return {str(one["call_id"]): one for one in by_revision}
