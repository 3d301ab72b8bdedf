"""The answered call: which sign of life is whose, and what the journal keeps of it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from sidecar.core.call import Stamp, closed, legs_closed
from sidecar.core.commands import Append, EntryKind
from sidecar.core.decide import is_over, may_answer_late
from sidecar.core.events import LegTerminated, SessionRefreshed, TargetRefreshed
from sidecar.core.terms import DialogState, LegName, RouteFailure
from tests.core.streams import (
    ACK,
    ADMITTED,
    CLOSE_A,
    CLOSE_B,
    HELD,
    RECORDED,
    RELAYED,
    WAITED,
    Maker,
    Run,
    bridge,
    bye,
    failure,
    life,
)
from tests.scenarios import world
from tests.scenarios.world import policy_of

A, B = LegName
RELAYED_AT_MS = 4_000  # by then A has its 2xx, and nothing was heard of it


def played(*makers: Maker) -> Run:
    """The events, one a second, after the 2xx."""
    run = Run(policy_of(routes=("alpha", "beta")))
    return run.play([((1_000, 1), make) for make in (ADMITTED, HELD, RECORDED, RELAYED, *makers)])


def at(ms: int) -> Stamp:
    return Stamp(world.mono_ns(ms), world.wall_ns(ms))


def target(leg_name: LegName) -> Maker:
    return bridge(
        TargetRefreshed, leg_name=leg_name, remote_target="sip:new@10.0.0.7", local_cseq=12, remote_cseq=34
    )


REFRESHED = [bridge(SessionRefreshed, leg_name=leg_name) for leg_name in LegName]


@pytest.mark.parametrize(
    ("maker", "leg_name"),
    [
        (ACK, A),
        (life(A), A),
        (life(B), B),
        (REFRESHED[0], A),
        (REFRESHED[1], B),
        (target(A), A),
        (target(B), B),
    ],
)
def test_a_sign_of_life_is_of_the_leg_that_gave_it(maker: Maker, leg_name: LegName) -> None:
    before, after = played().call, played(maker).call
    assert before.a_life is None
    heard = at(RELAYED_AT_MS + 1_000)
    assert (after.a_life, after.b_life) == ((heard, before.b_life) if leg_name is A else (None, heard))


def test_only_the_first_sign_of_a_is_journaled_and_the_last_is_kept() -> None:
    run = played(life(B), ACK, life(A), ACK, life(B))
    entries = [one for step in run.steps[5:] for one in step.commands]
    assert len(entries) == 1
    assert isinstance(entries[0], Append)
    assert entries[0].kind is EntryKind.ESTABLISHED
    assert entries[0].call.a_life == at(RELAYED_AT_MS + 2_000)
    assert (run.call.a_life, run.call.b_life) == (at(RELAYED_AT_MS + 4_000), at(RELAYED_AT_MS + 5_000))


def test_what_is_heard_of_a_before_our_2xx_proves_nothing() -> None:
    run = Run(policy_of()).play([((1_000, 1), make) for make in (ADMITTED, HELD, life(A), ACK, life(B))])
    assert (run.call.a_life, run.call.b_life) == (None, at(5_000))


@pytest.mark.parametrize("maker", REFRESHED)
def test_a_refresh_of_the_session_is_kept(maker: Maker) -> None:
    assert played(ACK).call.refreshed is None
    assert played(ACK, maker).call.refreshed == at(RELAYED_AT_MS + 2_000)


@pytest.mark.parametrize("leg_name", LegName)
def test_a_new_target_is_journaled_with_its_numbers_and_of_its_leg_alone(leg_name: LegName) -> None:
    before, run = played(ACK).call, played(ACK, target(leg_name))
    after = run.call
    [entry] = run.steps[-1].commands
    assert entry == Append(kind=EntryKind.REFRESHED, call=after)
    legs = [(call.invite.leg, call.attempts[-1].leg) for call in (before, after)]
    place = int(leg_name is B)
    changed = replace(legs[0][place], remote_target="sip:new@10.0.0.7", local_cseq=12, remote_cseq=34)
    assert legs[1][place] == changed
    assert legs[1][1 - place] == legs[0][1 - place]


# --- closed legs --------------------------------------------------------------------------------------------


def terminated(leg_name: LegName, *, alive: bool = False) -> LegTerminated:
    return LegTerminated(
        **world.stamps(9_000),
        bridge_id=1,
        leg_name=leg_name,
        sip_code=487,
        alive=alive,
        reasons=("Q.850;cause=16",),
    )


def test_the_end_of_leg_b_ends_the_attempt_under_way_and_no_other() -> None:
    call = Run(policy_of()).play([((1_000, 1), ADMITTED)]).call
    [attempt] = closed(call, terminated(B)).attempts
    assert (attempt.ended, attempt.sip_code, attempt.reasons) == (at(9_000), 487, ("Q.850;cause=16",))
    assert closed(call, terminated(A)).attempts == call.attempts
    before = replace(call, attempts=(replace(call.attempts[0], ended=at(5_000), sip_code=503),))
    assert closed(before, terminated(B)).attempts == before.attempts


@pytest.mark.parametrize("leg_name", LegName)
def test_a_leg_that_closes_proves_its_life_only_where_its_peer_answered(leg_name: LegName) -> None:
    call = played(ACK, life(B)).call
    assert closed(call, terminated(leg_name)).a_life == call.a_life
    assert closed(call, terminated(leg_name)).b_life == call.b_life
    after = closed(call, terminated(leg_name, alive=True))
    assert (after.a_life, after.b_life) == (
        (at(9_000), call.b_life) if leg_name is A else (call.a_life, at(9_000))
    )


def test_a_call_is_over_when_it_is_recorded_and_both_legs_are_closed() -> None:
    call = played(ACK, bye(A), CLOSE_A, CLOSE_B, WAITED).call
    assert is_over(call)
    for name in ("state_a", "state_b"):
        open_leg = replace(call, **{name: DialogState.CONFIRMED})
        assert not legs_closed(open_leg)
        assert not is_over(open_leg)
    assert not is_over(replace(call, phase=played().call.phase))


@pytest.mark.parametrize(
    ("failures", "may"), [((None,), False), ((0,), True), ((503,), False), ((503, 0), True), ((0, 503), True)]
)
def test_only_an_attempt_that_was_given_up_unheard_may_be_answered_late(
    failures: tuple[int | None, ...], may: bool
) -> None:
    run = Run(policy_of(routes=("alpha", "beta"))).play([((1_000, 1), ADMITTED)])
    for number, sip_code in enumerate(failures, 1):
        if sip_code is not None:
            run.play([((1_000, 1), failure(sip_code, number))])
    assert may_answer_late(run.call) == may
    heard = [
        replace(one, late_answer=at(9_000)) if one.failure is RouteFailure.NO_RESPONSE else one
        for one in run.call.attempts
    ]
    assert not may_answer_late(replace(run.call, attempts=tuple(heard)))
