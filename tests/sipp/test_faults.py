"""Our own faults, real ones: a journal that another process holds locked, a daemon that is killed, a bug."""

from __future__ import annotations

import asyncio
import sys

import pytest

from sidecar.demo.check import summary
from sidecar.demo.subscriber import Record
from tests.rig.listener import sell
from tests.rig.node import PERIOD_S, until
from tests.sipp.conftest import MakeRig
from tests.sipp.rig import BUSY_MS, Rig


async def _locked_from_ringing_to_the_end(rig: Rig, dialled: str) -> None:
    await rig.live(dialled)
    async with rig.journal_locked():
        while await rig.daemon.live_calls():  # noqa: ASYNC110
            await asyncio.sleep(PERIOD_S)


@pytest.mark.parametrize(
    ("scenario", "ending", "hold_ms_max"),
    [
        ("server-journal-stalled-while-held", "server/fault/journal 500 41 failed timer/observed", 2_000),
        ("callee-bye-while-held", "callee/bye 480 16 rejected", 2_000),
        # Held from 2 s to 6 s after the 180: the CANCEL comes at 4 s, and either side may be late by 2 s.
        ("caller-cancel-while-held", "caller/cancel 487 16 cancelled", 4_000),
    ],
)
async def test_an_answer_that_is_not_on_disk_is_not_sold(
    make_rig: MakeRig, scenario: str, ending: str, hold_ms_max: int
) -> None:
    times = {
        "RING_TIMEOUT_S": "30",
        "ANSWER_HOLD_MS_MAX": str(hold_ms_max),
        "ADMISSION_WAIT_MS_MAX": "30000",  # a machine that is starved refuses no call
    }
    async with make_rig(**{f"SIDECAR_TIMERS__{name}": value for name, value in times.items()}) as rig:

        async def lock(dialled: str) -> None:
            await _locked_from_ringing_to_the_end(rig, dialled)

        cdr = await rig.place(scenario, scenario, meanwhile=lock)
    assert summary(cdr) == ending
    assert cdr["answered_at"] is None
    assert cdr["b_answered_at"] is not None
    assert (cdr["talk_ms"], cdr["billable_ms"], sell(cdr)["total"]) == (0, 0, "0")


async def test_a_call_that_the_node_did_not_survive_is_ended_and_recorded_by_the_next_start(
    make_rig: MakeRig,
) -> None:
    async with make_rig(max_duration_s=60) as rig:

        async def killed_and_started(dialled: str) -> None:
            call = await rig.live(dialled, answered=True)
            killed.append(call["call_id"])
            await asyncio.sleep(3.0)  # past one heartbeat at the least, on the busiest machine
            rig.kill()
            async with rig.up() as child:
                await until(lambda: rig.open_entries() == 0)
                shown.extend(await child.command("cdr", "show", call["call_id"]))

        killed: list[str] = []
        shown: list[Record] = []
        scenario = "server-crash-in-call"
        await rig.place_unrecorded(scenario, scenario, meanwhile=killed_and_started)
    (cdr,) = shown
    assert summary(cdr) == "server/fault/crash_recovered 500 41 answered proved/recovered"
    assert cdr["call_id"] == killed[0]
    assert 3_000 <= cdr["talk_ms"] == cdr["billable_ms"]
    assert sell(cdr)["total"] == f"{cdr['billed_s'] / 100:.6f}"


async def test_a_bug_ends_one_call_and_the_node_lives(make_rig: MakeRig) -> None:
    """The daemon runs with a decision that raises when a session is refreshed; nothing else is changed."""
    async with make_rig(program=(sys.executable, "-m", "tests.sipp.faulty_daemon")) as rig:
        scenario = "server-internal-error-in-call"
        cdr = await rig.place(scenario, "caller-bye-in-call")
        later = await rig.place("callee-rejected-busy", "callee-rejected-busy")
    assert summary(cdr) == "server/fault/internal_error 500 41 answered"
    assert summary(later) == "callee/rejected 486 17 rejected"


@pytest.mark.real_timer
@pytest.mark.timeout(90)
async def test_an_answer_that_is_never_acknowledged_ends_after_64_t1(make_rig: MakeRig) -> None:
    async with make_rig(max_duration_s=60) as rig:
        cdr = await rig.place("server-no-ack", "caller-bye-in-call", patience_s=45)
    assert summary(cdr) == "server/timeout/no_ack 408 102 answered timer/observed"
    assert 31_500 <= cdr["talk_ms"] <= 33_500 + BUSY_MS
