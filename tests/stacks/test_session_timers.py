"""Session timers that pjsua2 insists on, towards itself and towards baresip, which knows none (RFC 4028)."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.demo.check import summary
from sidecar.demo.subscriber import Record
from tests.stacks.agent import Agent
from tests.stacks.rig import Stacks

INTERVAL_S = 90  # the shortest that RFC 4028 §4 lets anybody insist on
REFRESHED_MS = INTERVAL_S * 1000 // 2
PATIENCE_S = 2.0 * INTERVAL_S
TIMER = f"pjsua:{INTERVAL_S}"
PAIRS = (
    (TIMER, TIMER),  # the caller refreshes
    ("baresip", TIMER),  # the callee does
    (TIMER, "baresip"),  # the caller does, unasked
    (TIMER, "baresip"),  # it owes nothing, and stands still
    ("baresip", TIMER),  # the callee owes it, and stands still
    (TIMER, TIMER),  # the caller owes it, and stands still
)


@pytest.mark.timeout(400)
async def test_only_a_refresh_that_is_owed_and_does_not_come_ends_a_call(tmp_path: Path) -> None:
    """All at once, because each takes a minute and a half."""
    rig = Stacks(tmp_path, *(kind for pair in PAIRS for kind in pair))
    parties = [*rig.parties.values()]
    calls = [*zip(parties[::2], parties[1::2], strict=True)]
    async with rig.up(SIDECAR_TIMERS__OPTIONS_INTERVAL_S="0"):  # who stands still is not dead_peer
        for caller, callee in calls:
            await rig.talk(caller, callee)
        by_caller, by_callee, unasked, free, owed, owed_to_a_callee = calls
        free[0].freeze()
        owed[1].freeze()
        owed_to_a_callee[0].freeze()
        for refresher in (by_caller[0], by_callee[1], unasked[0]):
            await refreshed(refresher)
        for caller, callee in (by_caller, by_callee, unasked):
            await callee.do("hang_up")
            await caller.event("closed")
        await owed_to_a_callee[1].event("closed", within_s=PATIENCE_S)
        await owed[0].event("closed", within_s=PATIENCE_S)
        await free[1].do("hang_up")
        for one in (free[0], owed[1], owed_to_a_callee[0]):
            one.thaw()  # and answers our BYE
        records = {cdr["account"]: cdr for cdr in await rig.records(len(PAIRS))}
    accounts = dict(zip(rig.parties.values(), rig.parties, strict=True))
    found: list[Record] = [records[accounts[caller]] for caller, _ in calls]
    assert [summary(cdr) for cdr in found] == [
        *["callee/bye 200 16 answered"] * 4,
        "server/timeout/session_timer 408 102 answered timer/observed",
        "callee/bye 200 16 answered",
    ]
    for cdr in found[:3]:
        assert cdr["talk_ms"] >= REFRESHED_MS
        assert cdr["billable_ms"] == cdr["talk_ms"]


async def refreshed(agent: Agent) -> None:
    """Its own request in the middle of the interval, UPDATE where the other side allows it, is answered."""
    seen = 0
    while True:
        seen = await agent.event("answered", seen, within_s=PATIENCE_S, code=200)
        if agent.events[seen - 1]["talked_s"] >= INTERVAL_S // 2 - 1:
            return
