"""A node that does not get to its decisions refuses new calls early, and fails none that it took."""

from __future__ import annotations

import sys

import pytest

from tests.chaos.overload import REFUSED, offered
from tests.faults.conftest import MakeNode
from tests.faults.phone import Phone, Plan, Side
from tests.rig.listener import listening
from tests.rig.node import until

CALLS_MAX = 400


async def dialled(caller: Phone, number: int) -> Side:
    """A call that has got its first response."""
    side = caller.dial(str(number), Plan(caller_bye_s=0.05))
    await until(lambda: side.codes)
    return side


async def test_while_decisions_are_late_new_calls_are_refused_and_those_before_are_kept(
    make_node: MakeNode,
) -> None:
    node = make_node(timers="admission_wait_ms_max = 300\nanswer_hold_ms_max = 30000")
    stall = node.folder / "stall"
    program = (sys.executable, "-m", "tests.faults.stalled_daemon")
    async with (
        await Phone.listen(f"{node.network}.3", node.gateway_port, lambda _: Plan()),
        await Phone.listen(f"{node.network}.2") as caller,
        node.up(program, STALL=str(stall)) as child,
        listening(*child.broker) as listener,
    ):
        caller.peer = child.sip
        talking = caller.dial("10000", Plan())
        await node.live("10000", answered=True)
        stall.touch()
        tried = [await dialled(caller, 10001)]
        while not tried[-1].final and len(tried) < CALLS_MAX:
            tried.append(await dialled(caller, 10001 + len(tried)))
        *taken, refused = tried
        assert refused.final_response is not None
        assert (refused.final, refused.final_response["Retry-After"]) == (503, "5")
        caller.hang_up(talking)
        await talking.ended.wait()  # the bridge needs no decision for that
        stall.unlink()
        await caller.all_ended(within_s=30)
        again = await caller.place("19999", Plan(caller_bye_s=0.05))
        kept = [talking, *taken, again]
        records = await listener.of([side.call_id for side in (*kept, refused)], within_s=15)
        await node.empty()
        overload = await node.metric("sidecar_bridge_total", '"refused_overload"')
    said = {one["leg_a"]["sip_call_id"]: (one["detail"], one["disposition"]) for one in records}
    assert said == {
        **{side.call_id: ("bye", "answered") for side in kept},
        refused.call_id: ("node_full", "refused"),
    }
    assert len(listener.records) == len(said)
    assert overload == 1
    node.check_books()


@pytest.mark.timeout(240)
async def test_of_more_calls_than_can_be_carried_the_rest_is_refused_and_those_taken_are_kept(
    make_node: MakeNode,
) -> None:
    """SIPp offers 4000 a second: no answer of a callee is taken back, and then all is as before."""
    node = make_node(timers="admission_wait_ms_max = 200\nmax_duration_s = 10\nt1_ms = 200")
    counts = await offered(node, 4000, 6000, [])
    print(counts)
    assert counts["refused_overload"] > 0
    assert (counts["exceptions"], counts["after"], counts["open"]) == (0, 1, 0)
    assert not [what for what in counts if what.endswith((" journal", " internal_error"))]
    assert {what for what in counts if what.startswith("refused") and " " in what} <= set(REFUSED)
    assert counts["answered bye"] > 0
