"""The wall clock is set, by an hour either way, while calls are up and between two starts: libfaketime, which
leaves the monotonic clock as it is."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from time import monotonic
from uuid import UUID

import pytest

from sidecar.demo.subscriber import Record
from tests.faults.conftest import MakeNode
from tests.faults.node import phones
from tests.faults.phone import Plan
from tests.rig.broker import mosquitto
from tests.rig.listener import check_sequences, listening
from tests.rig.node import until

TALK_S = 1.0
BUSY_S = 3.0
HOUR_S = 3600


def set_clock(folder: Path, shift: str) -> None:
    """In one step: the library reads the file at each look at the clock."""
    (folder / "next").write_text(shift)
    (folder / "next").rename(folder / "clock")


def faketime(folder: Path) -> dict[str, str]:
    [library] = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(folder / "clock"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


# Under libfaketime a commit may take seconds (1 of 35 took more than one): no call is to fail for that here.
PATIENT = "admission_wait_ms_max = 30000\nanswer_hold_ms_max = 30000"


@pytest.mark.parametrize("hours", [1, -1])
async def test_a_clock_that_is_set_in_a_call_changes_nothing_that_is_billed_and_the_record_says_so(
    make_node: MakeNode, tmp_path: Path, hours: int
) -> None:
    node = make_node(timers=PATIENT)
    set_clock(tmp_path, "+0s")
    async with (
        mosquitto(node.folder) as broker,
        listening(broker.host, broker.port) as listener,
        phones(node) as (caller, callee),
        node.up(**broker.settings(), **faketime(tmp_path)) as child,
    ):
        caller.peer = callee.peer = child.sip
        before = await caller.place("1000", Plan(caller_bye_s=0.1))
        dialled_s = monotonic()
        during = caller.dial("1001", Plan())
        await node.live("1001", answered=True)
        live_s = monotonic()
        set_clock(tmp_path, f"{hours * HOUR_S:+}s")
        await asyncio.sleep(TALK_S)
        least_ms = (monotonic() - live_s) * 1000
        during.hang_up_asked.set()
        await during.ended.wait()
        most_ms = (monotonic() - dialled_s) * 1000
        after = await caller.place("1002", Plan(caller_bye_s=TALK_S))
        records = await listener.of([side.call_id for side in (before, during, after)])

        async def is_told() -> bool:
            return await node.metric("sidecar_clock_steps_total") == 1

        await until(is_told)
    assert [one["clock_step"] for one in records] == [False, True, False]
    for one, least, most in zip(
        records[1:], (least_ms, TALK_S * 1000), (most_ms, (TALK_S + BUSY_S) * 1000), strict=True
    ):
        assert least - 50 <= one["talk_ms"] == one["billable_ms"] <= most
    on_the_wall = records[1]["ended_at"] - records[1]["answered_at"]
    assert abs(on_the_wall - timedelta(hours=hours)) < timedelta(milliseconds=most_ms)
    check_sequences(listener.records)
    node.check_books()


async def test_a_clock_that_goes_back_over_a_start_is_told_and_ids_go_on(
    make_node: MakeNode, tmp_path: Path
) -> None:
    node = make_node(timers=PATIENT)
    set_clock(tmp_path, "+0s")
    async with (
        mosquitto(node.folder) as broker,
        listening(broker.host, broker.port) as listener,
        phones(node) as (caller, callee),
    ):
        settings = {**broker.settings(), **faketime(tmp_path)}
        sides, behind_s = [], 0.0
        status: Record = {}
        for shift in ("+0s", f"-{HOUR_S}s"):
            set_clock(tmp_path, shift)
            async with node.up(**settings) as child:
                caller.peer = callee.peer = child.sip
                sides.append(await caller.place("1000", Plan(caller_bye_s=0.1)))
                await listener.of([sides[-1].call_id])
                behind_s = await node.metric("sidecar_clock_behind_seconds")
                status = await node.status()
        first, second = await listener.of([side.call_id for side in sides])
        told = [json.loads(line) for line in node.log.read_text().splitlines() if "clock_behind" in line]
    assert second["invited_at"] < first["invited_at"]
    assert UUID(first["call_id"]) < UUID(second["call_id"])
    assert HOUR_S - 60 < behind_s <= HOUR_S
    assert abs(status["clock_behind_s"] - behind_s) < BUSY_S
    assert [line["level"] for line in told] == ["warning"]
    check_sequences(listener.records)
    node.check_books()
