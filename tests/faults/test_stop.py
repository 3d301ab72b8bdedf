"""SIGTERM under load: SIPp calls on and on, and no leg is left without its BYE."""

from __future__ import annotations

import csv
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sidecar.adapters.sockets.child import end
from sidecar.demo.children import SCENARIOS, free_ports, listens
from sidecar.demo.subscriber import Record
from tests.bench.load import sipp
from tests.faults.conftest import MakeNode
from tests.faults.node import phones as two_phones
from tests.faults.phone import Plan
from tests.rig.broker import mosquitto
from tests.rig.listener import check_sequences, listening
from tests.rig.node import until

STOPS = 2
CALLS_PER_S = 500
UP_MIN = 120  # calls, before the node is told to stop


class Phones:
    """SIPp, and what it says in its tables once a second."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)

    def total(self, column: str) -> int:
        return self._last("statistics.csv", column)

    def messages(self, name: str) -> int:
        """How often one of the scenario has gone or come: 4_ACK_Sent."""
        return self._last("*_counts.csv", name)

    def _last(self, table: str, column: str) -> int:
        for path in self.folder.glob(table):
            with path.open() as file:
                rows = [row for row in csv.DictReader(file, delimiter=";") if row[column]]
            return int(rows[-1][column]) if rows else 0
        return 0


@asynccontextmanager
async def phones(folder: Path, scenario: str, place: tuple[str, int], *more: str) -> AsyncIterator[Phones]:
    table = Phones(folder)
    tables = ("-fd", "1", "-trace_counts", "-trace_stat", "-stf", "statistics.csv")
    child = await sipp(folder, SCENARIOS / f"{scenario}.xml", place, *tables, *more)
    try:
        await until(lambda: listens(*place))
        yield table
    finally:
        await end(child)


def legs_up(callers: Phones, callees: Phones) -> tuple[int, int]:
    talking = callers.messages("4_ACK_Sent") - callers.messages("5_BYE_Recv")
    return talking, callees.total("CurrentCall")


def called_in(records: list[Record]) -> int:
    return sum(bool(one["attempts"]) for one in records)


@pytest.mark.timeout(240)
async def test_a_node_that_is_stopped_under_load_leaves_no_leg_up(make_node: MakeNode) -> None:
    node = make_node(timers="max_duration_s = 120")
    callee_at = (f"{node.network}.3", node.gateway_port)
    called = 0
    async with mosquitto(node.folder) as broker, listening(broker.host, broker.port) as listener:
        for stop in range(STOPS):
            caller_at = (f"{node.network}.2", free_ports(f"{node.network}.2", 1)[0])
            folder = node.folder / f"stop-{stop}"
            load = ("-r", str(CALLS_PER_S), "-s", "100", "-key", "account", "none")
            async with (
                phones(folder / "b", "caller-bye-in-call.uas", callee_at) as callees,
                node.up(**broker.settings()) as child,
                phones(
                    folder / "a", "server-drain-in-call.uac", caller_at, ":".join(map(str, child.sip)), *load
                ) as callers,
            ):
                await until(lambda: callees.messages("4_ACK_Recv") >= UP_MIN)
                assert await child.stop() == 0
                assert node.open_entries() == 0
                await until(lambda: legs_up(callers, callees) == (0, 0))
                called += callees.messages("0_INVITE_Recv")
        async with node.up():  # for what the broker has not got yet
            await listener.until(lambda: called_in(listener.records) >= called)
        assert called_in(listener.records) == called
    said = Counter(f"{one['disposition']} {one['detail']}" for one in listener.records)
    print(said)
    refusals = {f"{one} {why}" for one in ("refused", "refused_aggregate") for why in ("drain", "node_full")}
    assert said.keys() <= {"answered drain", "failed drain", *refusals}
    assert said["answered drain"] >= STOPS * UP_MIN
    check_sequences(listener.records)
    node.check_books()


async def test_a_call_goes_on_while_the_node_drains_until_it_ends_or_a_second_signal_ends_it(
    make_node: MakeNode,
) -> None:
    node = make_node()
    async with mosquitto(node.folder) as broker, listening(broker.host, broker.port) as listener:
        settings = {**broker.settings(), "SIDECAR_NODE__DRAIN_S": "600"}
        for second_signal in (False, True):
            async with two_phones(node) as (caller, callee), node.up(**settings) as child:
                caller.peer = callee.peer = child.sip
                side = caller.dial("1000", Plan())
                await node.live("1000", answered=True)
                await child.command("node", "drain")
                assert (await caller.place("1001", Plan(caller_bye_s=0))).final == 503
                assert (await child.command("node", "accept"))["state"] == "accepting"
                assert (await caller.place("1002", Plan(caller_bye_s=0))).final == 200
                os.kill(child.pid, signal.SIGTERM)
                await until(lambda: "draining" in node.log.read_text())
                refused = await caller.place("1003", Plan(caller_bye_s=0))
                assert refused.final == 503
                if second_signal:
                    os.kill(child.pid, signal.SIGINT)
                else:
                    caller.hang_up(side)
                assert await child.ended() == 0
                [record] = await listener.of([side.call_id])
                assert record["detail"] == ("drain" if second_signal else "bye")
                await side.ended.wait()
    assert node.open_entries() == 0
    node.check_books()
