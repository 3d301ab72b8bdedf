"""Peers that vanish in the call: real SIPp calls through the real daemon, asserted on the CDR that a
subscriber received."""

from __future__ import annotations

import asyncio
import os
import signal
from decimal import Decimal
from pathlib import Path

import pytest

from sidecar.demo.check import summary
from sidecar.demo.children import free_ports
from sidecar.demo.subscriber import Record
from tests.rig.listener import sell
from tests.sipp.conftest import MakeRig
from tests.sipp.rig import BUSY_MS, EARLY_MS, Rig

SHORT = {"SIDECAR_TIMERS__T1_MS": "40", "SIDECAR_TIMERS__OPTIONS_INTERVAL_S": "2"}
TIMER_F_MS = 64 * 40
STALL_S = 6.0

DEAD_PEER = "server/timeout/dead_peer 408 102 answered timer/observed"
SESSION_TIMER = "server/timeout/session_timer 408 102 answered timer/observed"
TRANSPORT_LOST = "server/fault/transport_lost 500 38 answered"


def assert_charged_as_billable(cdr: Record) -> None:
    assert Decimal(sell(cdr)["total"]) == Decimal(cdr["billed_s"]) / 100
    assert abs(cdr["billed_s"] * 1000 - cdr["billable_ms"]) <= 1000


@pytest.mark.parametrize("scenario", ["server-dead-caller-in-call", "server-dead-callee-in-call"])
async def test_a_peer_that_answers_no_options_is_billed_to_its_last_answer(
    make_rig: MakeRig, scenario: str
) -> None:
    async with make_rig(max_duration_s=60, **SHORT) as rig:
        cdr = await rig.place(scenario, scenario)
    assert summary(cdr) == DEAD_PEER
    # Its first OPTIONS after 1-2 s was the last that it answered; the next came 2 s later and had Timer F.
    assert 1000 - EARLY_MS <= cdr["billable_ms"] <= 2300 + BUSY_MS
    assert TIMER_F_MS + 2000 - EARLY_MS <= cdr["talk_ms"] - cdr["billable_ms"] <= TIMER_F_MS + 2700 + BUSY_MS
    assert_charged_as_billable(cdr)


async def test_a_peer_that_has_forgotten_the_call_is_billed_to_its_last_answer(make_rig: MakeRig) -> None:
    async with make_rig(max_duration_s=60, **SHORT) as rig:
        cdr = await rig.place("server-dead-callee-in-call", "server-dead-dialog-in-call")
    assert summary(cdr) == DEAD_PEER
    assert 1000 - EARLY_MS <= cdr["billable_ms"] <= 2300 + BUSY_MS
    assert 2000 - EARLY_MS <= cdr["talk_ms"] - cdr["billable_ms"] <= 2400 + BUSY_MS
    assert_charged_as_billable(cdr)


async def test_a_session_that_is_not_refreshed_is_billed_to_its_last_refresh(make_rig: MakeRig) -> None:
    async with make_rig(max_duration_s=60) as rig:
        scenario = "server-session-timer-in-call"
        cdr = await rig.place(scenario, scenario, pause_ms=1200)
    assert summary(cdr) == SESSION_TIMER
    assert 1200 - EARLY_MS <= cdr["billable_ms"] <= 1600 + BUSY_MS
    assert 2000 - EARLY_MS <= cdr["talk_ms"] - cdr["billable_ms"] <= 2300 + BUSY_MS
    assert_charged_as_billable(cdr)


async def test_a_caller_that_no_connection_leads_to_is_billed_to_its_last_life(tmp_path: Path) -> None:
    rig = Rig(tmp_path, max_duration_s=60)
    remote = f"{rig.host}:{free_ports(rig.host, 1)[0]}"
    async with rig.up(SIDECAR_SIP__LISTEN_TCP=remote, **SHORT):
        scenario = "server-transport-lost-caller-in-call"
        cdr = await rig.place(scenario, scenario, remote=remote, transport="t1")
    assert summary(cdr) == TRANSPORT_LOST
    assert cdr["leg_a"]["transport"] == "tcp"
    # Nothing was heard of it after its ACK, and the first OPTIONS came after 1-2 s.
    assert cdr["billable_ms"] <= 300 + BUSY_MS
    assert 1000 - EARLY_MS <= cdr["talk_ms"] <= 2700 + BUSY_MS
    assert_charged_as_billable(cdr)


async def test_a_bye_by_tcp_that_a_stalled_node_reads_late_is_billed_by_its_arrival(tmp_path: Path) -> None:
    rig = Rig(tmp_path, max_duration_s=60)
    remote = f"{rig.host}:{free_ports(rig.host, 1)[0]}"

    async def stall(dialled: str) -> None:
        await rig.live(dialled, answered=True)
        os.kill(rig.daemon.pid, signal.SIGSTOP)
        await asyncio.sleep(0.6 + STALL_S)
        os.kill(rig.daemon.pid, signal.SIGCONT)

    async with rig.up(SIDECAR_SIP__LISTEN_TCP=remote):
        cdr = await rig.place(
            *("caller-bye-in-call", "caller-bye-in-call"), remote=remote, transport="t1", meanwhile=stall
        )
    assert summary(cdr) == "caller/bye 200 16 answered"
    assert cdr["leg_a"]["transport"] == "tcp"
    assert 600 - EARLY_MS <= cdr["talk_ms"] <= 600 + BUSY_MS < STALL_S * 1000
    assert_charged_as_billable(cdr)


async def test_a_living_call_is_asked_and_goes_on(make_rig: MakeRig) -> None:
    async with make_rig(max_duration_s=60, SIDECAR_TIMERS__OPTIONS_INTERVAL_S="1") as rig:
        cdr = await rig.place("caller-bye-in-call", "caller-bye-in-call", pause_ms=3000)
        messages = await asyncio.to_thread((rig.folder / "caller-bye-in-call.uac.messages").read_text)
    assert summary(cdr) == "caller/bye 200 16 answered"
    assert 3000 - EARLY_MS <= cdr["billable_ms"] <= 3600 + BUSY_MS
    assert messages.count("\nOPTIONS sip:") >= 2
