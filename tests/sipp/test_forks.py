"""A fork behind the gateway, by real user agents: two early dialogs, two PRACKs, and two answers."""

from __future__ import annotations

from sidecar.demo.check import summary
from tests.sipp.conftest import MakeRig


async def test_each_user_agent_of_a_fork_is_a_dialog_and_the_first_answer_is_the_call(
    make_rig: MakeRig,
) -> None:
    async with make_rig(max_duration_s=5) as rig:
        cdr = await rig.place("caller-bye-forked", "caller-bye-forked")
    assert summary(cdr) == "caller/bye 200 16 answered"
    [attempt] = cdr["attempts"]
    tone, phone = sorted(attempt["branches"], key=lambda one: "phone" in one["remote_tag"])
    assert ("tone" in tone["remote_tag"], "phone" in phone["remote_tag"]) == (True, True)
    assert tone["caller_tag"] != phone["caller_tag"]
    assert (phone["remote_tag"], phone["caller_tag"]) == (
        cdr["leg_b"]["remote_tag"],
        cdr["leg_a"]["local_tag"],
    )
    assert (tone["dropped"], phone["dropped"]) == (True, False)
    assert len([one for one in cdr["charges"] if one["side"] == "sell"]) == 1
