"""Peers that vanish: OPTIONS inside the dialogs, connections that break."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sidecar.core.events import (
    DeadlineReached,
    LegTerminated,
    Life,
    TransportFailed,
)
from sidecar.core.terms import DeadlineKind, LegName, LivenessCheck, TransportName
from tests.b2bua.answered import answered_call
from tests.b2bua.rig import Dialog, Rig
from tests.b2bua.scripted_ua import ScriptedUA

BOTH = (TransportName.UDP, TransportName.TCP)
INTERVAL_MS = 300
BUSY_S = 2.0  # what other tests on the same cores may cost


# --- OPTIONS ------------------------------------------------------------------------------------------------


async def test_both_sides_are_asked_at_the_interval_and_every_answer_is_a_sign_of_life() -> None:
    # Longer than the second within which a leg's life is reported once.
    async with Rig(options_interval_ms=1200) as rig:
        await rig.answered_call()
        answered = time.monotonic()
        for agent in (rig.caller, rig.gateway):
            asked = await agent.expect("OPTIONS")
            assert "tag=" in asked["From"]
            assert "tag=" in asked["To"]
            agent.reply(asked, 200)
        assert 0.3 <= time.monotonic() - answered <= 1.2 + BUSY_S
        assert {(await rig.until(Life)).leg_name for _ in range(2)} == set(LegName)
        for agent in (rig.caller, rig.gateway):
            agent.reply(await agent.expect("OPTIONS"), 200)
        assert 1.0 <= time.monotonic() - answered <= 2.4 + BUSY_S
        assert {(await rig.until(Life)).leg_name for _ in range(2)} == set(LegName)
        assert not [event for event in rig.events if isinstance(event, DeadlineReached)]


@pytest.mark.parametrize("code", [401, 405, 488, 500, 501, 603])
async def test_a_refusal_is_a_sign_of_life_too(code: int) -> None:
    async with Rig(options_interval_ms=INTERVAL_MS) as rig:
        await rig.answered_call()
        for _ in range(2):
            rig.caller.reply(await rig.caller.expect("OPTIONS"), 200)
            rig.gateway.reply(await rig.gateway.expect("OPTIONS"), code)
        # Of both: the other side's 200 alone would give one.
        assert {(await rig.until(Life)).leg_name for _ in range(2)} == set(LegName)


@pytest.mark.parametrize("code", [408, 481])
@pytest.mark.parametrize("who", ["caller", "callee"])
async def test_a_peer_that_does_not_know_the_dialog_is_dead(who: str, code: int) -> None:
    async with Rig(options_interval_ms=INTERVAL_MS) as rig:
        await rig.answered_call()
        near, far = (rig.caller, rig.gateway) if who == "caller" else (rig.gateway, rig.caller)
        near.reply(await near.expect("OPTIONS"), code)
        assert (await rig.until(DeadlineReached)).kind is DeadlineKind.DEAD_PEER
        far.reply(await far.expect("OPTIONS"), 200)
        for agent in (near, far):
            bye = await agent.expect("BYE")
            assert bye["Reason"] == 'Q.850;cause=102;text="dead_peer"'
            agent.reply(bye, 200)
        await rig.until(LegTerminated)
        await rig.until(LegTerminated)
        assert rig.hook.stats()["live_calls"] == 0


@pytest.mark.parametrize("who", ["caller", "callee"])
async def test_a_peer_that_answers_nothing_for_64_t1_is_dead(who: str) -> None:
    async with Rig(options_interval_ms=INTERVAL_MS, t1_ms=10) as rig:
        await rig.answered_call()
        living, dead = (rig.gateway, rig.caller) if who == "caller" else (rig.caller, rig.gateway)
        asked_at = 0.0

        async def answer_all() -> None:
            nonlocal asked_at
            while (asked := await living.receive()).method == "OPTIONS":
                asked_at = asked_at or time.monotonic()
                living.reply(asked, 200)
            assert asked.method == "BYE"
            living.reply(asked, 200)

        await answer_all()
        assert 0.3 <= time.monotonic() - asked_at <= 0.9 + BUSY_S  # 64*T1: Timer F
        reached = await rig.until(DeadlineReached)
        assert reached.kind is DeadlineKind.DEAD_PEER
        assert reached.silence is not None
        assert reached.silence.leg_name is (LegName.A if who == "caller" else LegName.B)
        assert reached.silence.asked == ("OPTIONS", "INFO")
        assert reached.silence.heard == ("ACK" if who == "caller" else "200 INVITE")
        assert reached.silence.heard_ago_ms is not None
        assert reached.silence.heard_ago_ms >= 640
        await dead.expect("OPTIONS")
        await dead.expect("INFO")
        await dead.expect("BYE")  # no third question while these are open
        legs = [await rig.until(LegTerminated) for _ in range(2)]
        assert [leg.alive for leg in legs] == [True, False]


# --- other signs of life ------------------------------------------------------------------------------------


@asynccontextmanager
async def a_call(
    who: str, *headers: str, check: LivenessCheck = LivenessCheck.ANY, t1_ms: int = 50
) -> AsyncIterator[tuple[Rig, ScriptedUA, Dialog, ScriptedUA, Dialog]]:
    """With the side that the test is about, and the other, which answers OPTIONS and sends `headers` too."""
    async with Rig(options_interval_ms=INTERVAL_MS, t1_ms=t1_ms, of_callers={"liveness": check}) as rig:
        a, b = await answered_call(rig, *headers, in_invite=headers, liveness=check)
        near, far = (rig.caller, a), (rig.gateway, b)
        if who == "callee":
            near, far = far, near
        far[0].answers = frozenset({"OPTIONS"})
        yield rig, *near, *far


def given_up(rig: Rig) -> list[DeadlineReached]:
    return [event for event in rig.events if isinstance(event, DeadlineReached)]


@pytest.mark.parametrize("who", ["caller", "callee"])
@pytest.mark.parametrize(
    ("allow", "method"),
    [
        ("Allow: INVITE, ACK, BYE, UPDATE", "UPDATE"),
        ("Allow: INVITE,ACK,BYE,UPDATES", "INFO"),
        ("X-Allow: UPDATE", "INFO"),
    ],
)
async def test_a_peer_that_ignores_options_is_asked_by_what_it_knows(
    who: str, allow: str, method: str
) -> None:
    async with a_call(who, allow) as (rig, near, _, _, _):
        for _ in range(3):
            options = await near.expect("OPTIONS")
            asked = await near.expect(method)
            assert asked.cseq > options.cseq
            assert not asked.body
            assert ("Contact" in asked) == (method == "UPDATE")  # RFC 3311 §5.1
            near.reply(asked, 200)
        await rig.until(Life)
        assert not given_up(rig)


@pytest.mark.parametrize("code", [401, 405, 491, 500, 501, 603])
async def test_a_refusal_of_the_second_question_is_life(code: int) -> None:
    async with a_call("callee") as (rig, near, _, _, _):
        for _ in range(2):
            await near.expect("OPTIONS")
            near.reply(await near.expect("INFO"), code)
        await near.expect("OPTIONS")
        assert not given_up(rig)


@pytest.mark.parametrize("code", [408, 481])
async def test_a_second_question_in_a_dialog_that_is_not_there_ends_the_call(code: int) -> None:
    async with a_call("callee") as (rig, near, _, _, _):
        await near.expect("OPTIONS")
        near.reply(await near.expect("INFO"), code)
        silence = (await rig.until(DeadlineReached)).silence
        assert silence is not None
        assert (silence.asked, silence.heard) == (("OPTIONS", "INFO"), f"{code} INFO")


SIGNS = ["request", "old request", "broken request", "200", "501"]


@pytest.mark.parametrize("who", ["caller", "callee"])
@pytest.mark.parametrize("sign", SIGNS)
async def test_a_peer_that_is_heard_at_all_is_alive(who: str, sign: str) -> None:
    async with a_call(who, t1_ms=500) as (rig, near, dialog, far, far_dialog):
        for cseq in range(20, 24):
            # None is answered. The next comes once this one is over, and no second question before it.
            await near.expect("OPTIONS")
            if sign.isdigit():
                rig.in_dialog(far, "MESSAGE", far_dialog, cseq=cseq)
                near.reply(await near.expect("MESSAGE"), int(sign))
                await far.expect(int(sign))
            elif sign == "broken request":
                rig.in_dialog(near, "MESSAGE", dialog, cseq=cseq, body=b"x=1")
                await near.expect(400)
            elif sign == "old request" and cseq > 20:  # RFC 3261 §12.2.2
                rig.in_dialog(near, "MESSAGE", dialog, cseq=cseq - 19)
                await near.expect(500)
            else:
                rig.in_dialog(near, "MESSAGE", dialog, cseq=cseq)
                far.reply(await far.expect("MESSAGE"), 200)
                await near.expect(200)
        assert not given_up(rig)


@pytest.mark.parametrize("who", ["caller", "callee"])
@pytest.mark.parametrize("code", [408, 481])
async def test_that_a_relayed_request_finds_no_dialog_is_no_life(who: str, code: int) -> None:
    async with a_call(who) as (rig, near, _, far, far_dialog):
        await near.expect("OPTIONS")
        rig.in_dialog(far, "MESSAGE", far_dialog, cseq=20)
        near.reply(await near.expect("MESSAGE"), code)
        await far.expect(code)
        await near.expect("INFO")
        silence = (await rig.until(DeadlineReached)).silence
        assert silence is not None
        assert silence.asked == ("OPTIONS", "INFO")
        assert not [e for e in rig.events if isinstance(e, Life) and e.leg_name is silence.leg_name]


@pytest.mark.parametrize("who", ["caller", "callee"])
async def test_by_options_alone_nothing_else_is_life(who: str) -> None:
    async with a_call(who, check=LivenessCheck.OPTIONS) as (rig, near, dialog, far, _):
        far.answers |= {"MESSAGE"}
        await near.expect("OPTIONS")
        rig.in_dialog(near, "MESSAGE", dialog, cseq=20)
        await near.expect(200)
        silence = (await rig.until(DeadlineReached)).silence
        assert silence is not None
        assert silence.asked == ("OPTIONS",)
        assert silence.heard == "MESSAGE"
        await near.expect("BYE")


async def test_a_peer_whose_liveness_is_off_is_not_asked() -> None:
    async with a_call("caller", check=LivenessCheck.OFF) as (rig, near, _, far, _):
        await asyncio.sleep(1.0)
        assert near.everything[-1].method == "INVITE"  # its 200
        assert far.everything[-1].method == "ACK"
        assert not given_up(rig)


async def test_an_open_options_goes_no_further_once_the_call_has_ended() -> None:
    async with Rig(options_interval_ms=INTERVAL_MS, t1_ms=20) as rig:
        _, _, b = await rig.answered_call()
        await rig.caller.expect("OPTIONS")
        await rig.gateway.expect("OPTIONS")
        rig.in_dialog(rig.gateway, "BYE", b, cseq=1)
        await rig.gateway.expect(200)
        rig.caller.reply(await rig.caller.expect("BYE"), 200)
        await rig.until(LegTerminated)
        await rig.until(LegTerminated)
        repeats = len(rig.caller.repeats)
        await asyncio.sleep(0.3)
        assert len(rig.caller.repeats) == repeats


async def test_without_an_interval_nobody_is_asked() -> None:
    async with Rig() as rig:
        await rig.answered_call()
        await asyncio.sleep(0.3)
        assert rig.caller.quiet
        assert rig.gateway.quiet


# --- connections --------------------------------------------------------------------------------------------


async def test_a_connection_that_breaks_does_not_end_the_call_where_another_can_be_opened() -> None:
    async with Rig(transports=BOTH, options_interval_ms=400, t1_ms=20) as rig:
        gateway = rig.adopt(await ScriptedUA.tcp_server(f"{rig.network}.3"))
        await answered_call(rig, gateway=gateway)
        gateway.hang_up()
        for _ in range(2):
            rig.caller.reply(await rig.caller.expect("OPTIONS"), 200)
            gateway.reply(await gateway.expect("OPTIONS"), 200)
        assert not [event for event in rig.events if isinstance(event, TransportFailed)]


async def test_a_peer_that_no_connection_leads_to_has_time_to_come_back() -> None:
    async with Rig(transports=BOTH, options_interval_ms=400, t1_ms=2000) as rig:
        rig.gateway.answers = frozenset({"OPTIONS"})
        caller = rig.adopt(await ScriptedUA.tcp_client(rig.address("tcp"), f"{rig.network}.2"))
        a, _ = await answered_call(rig, caller=caller)
        for cseq in (2, 3):  # once it is there again, all of its time begins anew
            caller.close()
            await asyncio.sleep(1.5)  # it is asked in vain after 400 ms, and once more 8 s later
            caller = rig.adopt(await ScriptedUA.tcp_client(rig.address("tcp"), f"{rig.network}.2"))
            rig.in_dialog(caller, "INFO", a, cseq=cseq)
            rig.gateway.reply(await rig.gateway.expect("INFO"), 200)
            await caller.until(200, "INFO")
            caller.reply(await caller.until("OPTIONS"), 200)
            await rig.settled(rig.caller)
        assert not [event for event in rig.events if isinstance(event, TransportFailed)]


async def test_a_peer_that_no_connection_leads_to_any_more_is_a_lost_transport() -> None:
    async with Rig(transports=BOTH, options_interval_ms=400, t1_ms=20) as rig:
        caller = rig.adopt(await ScriptedUA.tcp_client(rig.address("tcp"), f"{rig.network}.2"))
        await answered_call(rig, caller=caller)
        caller.close()  # its Contact names the port of the connection, where nobody listens
        assert (await rig.until(TransportFailed)).leg_name is LegName.A
        while (asked := await rig.gateway.receive()).method == "OPTIONS":
            rig.gateway.reply(asked, 200)
        assert asked["Reason"] == 'Q.850;cause=38;text="transport_lost"'


async def test_a_peer_that_opens_the_new_connection_itself_is_asked_there() -> None:
    async with Rig(transports=BOTH, options_interval_ms=600, t1_ms=20) as rig:
        caller = rig.adopt(await ScriptedUA.tcp_client(rig.address("tcp"), f"{rig.network}.2"))
        a, _ = await answered_call(rig, caller=caller)
        caller.close()
        again = rig.adopt(await ScriptedUA.tcp_client(rig.address("tcp"), f"{rig.network}.2"))
        rig.in_dialog(again, "INFO", a, cseq=2)
        rig.gateway.reply(await rig.gateway.expect("INFO"), 200)
        await again.expect(200)
        again.reply(await again.expect("OPTIONS"), 200)
        assert not [event for event in rig.events if isinstance(event, TransportFailed)]


async def test_a_request_that_cannot_be_passed_on_has_the_peer_asked_and_the_call_ended() -> None:
    async with Rig(transports=BOTH, t1_ms=20) as rig:
        caller = rig.adopt(await ScriptedUA.tcp_client(rig.address("tcp"), f"{rig.network}.2"))
        _, b = await answered_call(rig, caller=caller)
        caller.close()
        rig.in_dialog(rig.gateway, "INFO", b, cseq=1)
        assert (await rig.gateway.receive()).code in (500, 503, 504)
        assert (await rig.until(TransportFailed)).leg_name is LegName.A
        assert (await rig.gateway.expect("BYE"))["Reason"] == 'Q.850;cause=38;text="transport_lost"'
