"""An account with little money on three nodes, of which one is cut off from the database, one sleeps and is
fenced, one is killed: each lets calls go as far as it may, and together they spend no more than there is."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path

from psycopg.conninfo import make_conninfo

from sidecar.cli.output import Exit
from tests.faults.cluster import OneOf, Proxy, cluster, know_each_other, up
from tests.faults.node import phones
from tests.faults.phone import Phone, Plan, Side
from tests.rig.broker import mosquitto
from tests.rig.listener import listening
from tests.rig.node import until
from tests.rig.postgres import Postgres

PAID = Decimal("2.4")
SHORT = Plan(caller_bye_s=0.1)


class Dialler:
    """Calls at one node, one after the other, until it is told to stop."""

    def __init__(self, phone: Phone) -> None:
        self.phone = phone
        self.sides: list[Side] = []
        self.stops = False

    async def run(self) -> None:
        while not self.stops:
            side = self.phone.dial("1001", SHORT, account="prepaid")
            self.sides.append(side)
            await side.ended.wait()
            await asyncio.sleep(0.05)

    def finals(self) -> list[int]:
        return [side.final for side in self.sides]


async def test_no_node_spends_what_another_one_holds(tmp_path: Path, postgresql: Postgres) -> None:
    dsn = postgresql.new_database("tranches1")
    async with AsyncExitStack() as stack:
        way = await stack.enter_async_context(Proxy(postgresql.port))
        nodes = cluster(tmp_path, dsn, 3)
        for node in nodes:
            node._lines["billing"] = "slice_s = 2"
        cut, asleep, killed = nodes
        (cut.folder / "dsn").write_text(make_conninfo(dsn, port=way.port))
        first, callee = await stack.enter_async_context(phones(cut))
        broker = await stack.enter_async_context(mosquitto(tmp_path))
        listener = await stack.enter_async_context(listening(broker.host, broker.port))
        ups = [await stack.enter_async_context(AsyncExitStack()) for _ in nodes]
        for node, its in zip(nodes, ups, strict=True):
            await its.enter_async_context(up(node, broker))
        await know_each_other(nodes)
        await cut.top_up("prepaid", str(PAID))
        callee.peer = cut.daemon.sip
        others = [
            await stack.enter_async_context(await Phone.listen(f"{cut.of_phones}.2")) for _ in nodes[1:]
        ]
        diallers = [Dialler(phone) for phone in (first, *others)]
        async with asyncio.TaskGroup() as tasks:
            for node, dialler in zip(nodes, diallers, strict=True):
                dialler.phone.peer = node.daemon.sip
                tasks.create_task(dialler.run(), name=node.name)
            holds = "SELECT count(*) FROM tranches WHERE amount >= 0.02"
            await until(lambda: cut.ask(holds) == [(3,)])
            lasting = others[0].dial("1002", Plan(), account="prepaid")
            diallers[1].sides.append(lasting)
            await asleep.live("1002", answered=True)
            way.cut()
            os.kill(asleep.daemon.pid, signal.SIGSTOP)
            diallers[1].stops = True
            await until(lambda: 503 in diallers[0].finals())  # what it holds is used up
            assert await cut.metric("sidecar_calls_let_go_total", '"tranche"') > 0
            await until(lambda: bool(killed.told("node_taken_over")))
            os.kill(asleep.daemon.pid, signal.SIGCONT)
            assert await asleep.daemon.ended() == Exit.FENCED
            diallers[2].stops = True
            killed.kill()
            await killed.daemon.ended()
            for node, its in zip(nodes[1:], ups[1:], strict=True):
                await its.aclose()
                await its.enter_async_context(up(node, broker))
            await spent(killed)
            way.is_cut = False
            for dialler in diallers:
                dialler.stops = True
        answered = [side for dialler in diallers for side in dialler.sides if side.final == 200]
        records = await listener.of([side.call_id for side in answered])
        for its in ups:
            await its.aclose()
    assert len({one["call_id"] for one in records}) == len(answered)
    first_ones = [one["call_id"] for one in listener.records if one["revision"] == 0]
    assert len(first_ones) == len(set(first_ones))
    assert cut.ask("SELECT * FROM tranches") == []
    assert cut.ask("SELECT min(balance) >= 0 FROM ledger WHERE account = 'prepaid'") == [(True,)]
    ((spent_here, charged),) = cut.ask(
        "SELECT -sum(amount) FILTER (WHERE kind = 'adjust'), -sum(amount) FILTER (WHERE kind = 'charge')"
        " FROM ledger WHERE account = 'prepaid'"
    )
    assert cut.balance("prepaid") == PAID - spent_here - charged >= 0
    cut.check_books()


async def spent(node: OneOf) -> None:
    """By somebody else, all that no node holds; nobody else books meanwhile, but what comes back."""
    balance = await node.account("prepaid")
    words = {"amount": f"{-balance:f}", "reference": "spent", "text": "spent elsewhere"}
    await node.control("account.adjust", name="prepaid", currency="EUR", operator="ann", **words)
