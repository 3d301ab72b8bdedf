"""Calls of an earlier boot: what is adopted of each, and what its end is known from."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from sidecar.core.call import Call, Phase, Stamp
from sidecar.core.commands import Adopt, Append, EntryKind, Publish, Release
from sidecar.core.decide import decide
from sidecar.core.events import (
    ByeReceived,
    CallFoundOpen,
    Event,
    LegIdentity,
    LegTerminated,
    ReleaseDue,
    StrayBye,
)
from sidecar.core.policy import Given, Load, Policy
from sidecar.core.recovery import RECOVERED_IDS, REPEATED_NS, clock_shift, left_at_another
from sidecar.core.terms import Detail, Evidence, HangupOrigin, LegName, SavedLegState
from tests.core.streams import (
    ADMITTED,
    ANSWERED,
    CANCEL,
    HELD,
    RECORDED,
    RELAYED,
    RINGS,
    WAITED,
    Maker,
    Run,
    bye,
    failure,
)
from tests.scenarios import world
from tests.scenarios.world import gateways, policy_of

OVER, EARLY, ANSWERING, ANSWERED_LEG = SavedLegState
TALKING = (ADMITTED, *ANSWERED)
FOUND_MS = 60_000


def at(ms: int) -> Stamp:
    return Stamp(world.mono_ns(ms), world.wall_ns(ms))


def saved(*makers: Maker, policy: Policy | None = None) -> Call:
    """A call to which that has happened, one a second, as an entry could hold it."""
    run = Run(policy or policy_of()).play([((1_000, 1), make) for make in makers])
    return replace(run.call, bridge_id=RECOVERED_IDS)


def found(call: Call, heartbeat_ms: int = 50_000, shift_ns: int = 0) -> CallFoundOpen:
    return CallFoundOpen(**world.stamps(heartbeat_ms), call_id=call.call_id, shift_ns=shift_ns)


def adopted(call: Call, policy: Policy | None = None) -> Adopt | None:
    _, commands = decide(call, found(call), Given(policy or policy_of(), Load()))
    return next((one for one in commands if isinstance(one, Adopt)), None)


class Recovered:
    """The call from its start on, with the records that it came to."""

    def __init__(self, call: Call, shift_ns: int = 0) -> None:
        self.call = call
        self.commands: list[object] = []
        self.happens(found(call, shift_ns=shift_ns))

    def happens(self, event: Event) -> None:
        self.call, commands = decide(self.call, event, Given(policy_of(), Load()))
        self.commands += commands

    def is_due(self, ms: int = FOUND_MS) -> None:
        self.happens(ReleaseDue(**world.stamps(ms), call_id=self.call.call_id))

    def closes(self, ms: int, *, a: bool, b: bool) -> None:
        for leg_name, alive in ((LegName.A, a), (LegName.B, b)):
            closed = LegTerminated(
                **world.stamps(ms), bridge_id=self.call.bridge_id, leg_name=leg_name, alive=alive
            )
            self.happens(closed)

    def says_bye(self, leg_name: LegName, ms: int) -> None:
        self.happens(ByeReceived(**world.stamps(ms), bridge_id=self.call.bridge_id, leg_name=leg_name))


# --- what is adopted ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("makers", "a_state", "b_state"),
    [
        ((), EARLY, EARLY),  # Route may have followed: its entry is that of the admission
        ((ADMITTED, RINGS), EARLY, EARLY),
        ((ADMITTED, HELD), ANSWERING, ANSWERING),
        ((ADMITTED, HELD, RECORDED), ANSWERING, ANSWERING),
        ((ADMITTED, HELD, RECORDED, RELAYED), ANSWERING, ANSWERED_LEG),
        (TALKING, ANSWERED_LEG, ANSWERED_LEG),
        ((*TALKING, bye(LegName.A)), OVER, ANSWERED_LEG),
        ((*TALKING, bye(LegName.B)), ANSWERED_LEG, OVER),
        ((ADMITTED, RINGS, CANCEL), EARLY, EARLY),
        ((ADMITTED, HELD, CANCEL), EARLY, ANSWERING),
        ((ADMITTED, failure(486)), EARLY, OVER),
    ],
    ids=[
        "admitting",
        "ringing",
        "held",
        "recorded",
        "relayed",
        "talking",
        "left by a",
        "left by b",
        "cancelled",
        "cancelled while held",
        "rejected",
    ],
)
def test_each_leg_is_adopted_as_far_as_its_entry_tells(
    makers: tuple[Maker, ...], a_state: SavedLegState, b_state: SavedLegState
) -> None:
    call = saved(*makers)
    command = adopted(call)
    assert command is not None
    assert (command.a_state, command.b_state) == (a_state, b_state)
    assert (command.bridge_id, command.leg_a) == (RECOVERED_IDS, call.invite.leg)
    assert (command.route is not None) == (b_state is EARLY)
    assert (command.leg_b is not None) == (call.b_answered is not None)


def test_attempts_that_others_followed_are_adopted_for_what_may_still_come_of_them() -> None:
    both = policy_of(routes=("alpha", "beta"))
    call = saved(ADMITTED, failure(), RINGS, policy=both)
    command = adopted(call, both)
    assert command is not None
    assert (command.attempt, command.gateway) == (2, "beta")
    (first,) = command.given_up
    assert (first.attempt, first.gateway, first.leg) == (1, "alpha", call.attempts[0].leg)


def test_the_invite_of_a_gateway_that_is_in_the_settings_no_more_is_not_cancelled() -> None:
    call = saved(ADMITTED, RINGS)
    others = {name: one for name, one in gateways().items() if name != "alpha"}
    command = adopted(call, policy_of(gateways=others, routes=("beta",)))
    assert command is not None
    assert (command.a_state, command.b_state, command.route) == (EARLY, OVER, None)


def test_what_a_500_is_made_of_is_kept_until_the_call_is_answered() -> None:
    lines = ("Via: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKa1", "CSeq: 1 INVITE")
    call = saved(ADMITTED, HELD, RECORDED)
    call = replace(call, invite=replace(call.invite, echoed=lines))
    command = adopted(call)
    assert command is not None
    assert command.echoed == lines
    answered, _ = decide(call, RELAYED(9_000, call, None), Given(policy_of(), Load()))
    assert answered.invite.echoed == ()


# --- the end ------------------------------------------------------------------------------------------------


def test_a_release_says_what_the_caller_is_told() -> None:
    run = Recovered(saved(*TALKING))
    run.is_due()
    (release,) = (one for one in run.commands if isinstance(one, Release))
    assert (release.sip_code, release.q850_cause, release.text) == (500, 41, "crash_recovered")
    (entry,) = (one for one in run.commands if isinstance(one, Append))
    assert entry.kind is EntryKind.ENDING
    assert entry.call.recovery is not None
    assert entry.call.recovery.released == at(FOUND_MS)


@pytest.mark.parametrize(
    ("a", "b", "evidence", "ended_ms"),
    [
        (True, True, Evidence.PROVED, FOUND_MS),
        (True, False, Evidence.HEARTBEAT, 50_000),
        (False, True, Evidence.HEARTBEAT, 50_000),
        (False, False, Evidence.HEARTBEAT, 50_000),
    ],
)
def test_two_answers_prove_that_the_call_was_up(a: bool, b: bool, evidence: Evidence, ended_ms: int) -> None:
    run = Recovered(saved(*TALKING))
    run.is_due()
    run.closes(FOUND_MS + 10, a=a, b=b)
    assert run.call.phase is Phase.ENDED
    assert run.call.hangup is not None
    assert (run.call.hangup.evidence, run.call.ended) == (evidence, at(ended_ms))


def test_an_answer_before_our_bye_proves_nothing() -> None:
    """Signs of life that the entry holds are of the boot that was killed."""
    run = Recovered(saved(*TALKING))
    run.closes(FOUND_MS, a=True, b=True)
    assert run.call.hangup is not None
    assert run.call.hangup.evidence is Evidence.HEARTBEAT


def test_a_call_that_is_found_again_ended_with_its_first_bye() -> None:
    first = Recovered(saved(*TALKING))
    first.is_due(FOUND_MS)
    again = Recovered(first.call)
    again.is_due(FOUND_MS + 3_000)
    again.closes(FOUND_MS + 3_010, a=True, b=True)
    assert again.call.ended == at(FOUND_MS)
    assert sum(isinstance(one, Release) for one in again.commands) == 1


def test_the_heartbeats_of_a_boot_that_only_recovered_do_not_count() -> None:
    first = Recovered(saved(*TALKING))
    first.is_due()
    second = replace(found(first.call), **world.stamps(90_000))
    call, _ = decide(first.call, second, Given(policy_of(), Load()))
    assert call.ended == at(50_000)


@pytest.mark.parametrize("leg_name", list(LegName))
def test_a_peers_own_bye_is_its_own_and_dates_the_end_to_32_s(leg_name: LegName) -> None:
    run = Recovered(saved(*TALKING))
    run.says_bye(leg_name, FOUND_MS)
    run.closes(FOUND_MS + 10, a=False, b=False)
    cause, recovery = run.call.hangup, run.call.recovery
    assert cause is not None
    assert recovery is not None
    origin = HangupOrigin.CALLER if leg_name is LegName.A else HangupOrigin.CALLEE
    assert (cause.origin, cause.detail, cause.evidence) == (origin, Detail.BYE, Evidence.MESSAGE)
    assert (run.call.ended, recovery.ended_not_after) == (at(50_000), at(FOUND_MS))


def test_a_bye_that_was_repeated_for_its_whole_time_is_32_s_old() -> None:
    run = Recovered(saved(*TALKING))
    run.says_bye(LegName.A, 120_000)
    assert run.call.ended == at(120_000 - REPEATED_NS // 1_000_000)


def test_the_second_bye_of_two_is_a_crossing() -> None:
    run = Recovered(saved(*TALKING))
    run.says_bye(LegName.B, FOUND_MS)
    run.says_bye(LegName.A, FOUND_MS + 5)
    assert run.call.hangup is not None
    assert (run.call.hangup.origin, run.call.hangup.glare) == (HangupOrigin.CALLEE, True)


def test_a_call_that_its_peer_has_ended_is_not_released() -> None:
    run = Recovered(saved(*TALKING))
    run.says_bye(LegName.A, FOUND_MS)
    run.is_due(FOUND_MS + 40)
    assert not [one for one in run.commands if isinstance(one, Release)]


def test_a_bye_in_a_call_whose_cause_was_written_changes_nothing() -> None:
    run = Recovered(saved(*TALKING, bye(LegName.A)))
    run.says_bye(LegName.B, FOUND_MS)
    assert run.call.hangup is not None
    assert (run.call.hangup.origin, run.call.hangup.glare) == (HangupOrigin.CALLER, True)
    assert run.call.ended == at(6_000)


def test_a_cancel_in_a_call_whose_cause_was_written_changes_nothing() -> None:
    run = Recovered(saved(ADMITTED, RINGS, CANCEL))
    before = run.call
    run.happens(CANCEL(FOUND_MS, run.call, None))
    assert run.call == before


def test_answers_that_come_after_the_record_restate_it() -> None:
    run = Recovered(saved(*TALKING))
    run.is_due()
    run.happens(WAITED(FOUND_MS + 1, run.call, None))
    assert run.call.phase is Phase.ENDED
    run.closes(FOUND_MS + 10, a=True, b=True)
    records = [one.cdr for one in run.commands if isinstance(one, Publish)]
    assert [(one.revision, one.evidence) for one in records] == [
        (0, Evidence.HEARTBEAT),
        (1, Evidence.PROVED),
    ]
    assert records[1].ended_not_after is None


# --- the clock ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "now", "shift_ns"),
    [
        (Stamp(1_000, 5_000), Stamp(1_500, 5_500), 0),
        (Stamp(1_000, 5_000), Stamp(1_500, 99_000), 0),  # the wall clock was set; the machine ran on
        (Stamp(1_000, 5_000), Stamp(100, 7_000), 2_900),  # started anew: 2000 later
        (Stamp(1_000, 5_000), Stamp(100, 3_000), 900),  # and its wall clock went back: no time has passed
    ],
)
def test_the_monotonic_clock_of_a_machine_that_was_started_anew_goes_on(
    last: Stamp, now: Stamp, shift_ns: int
) -> None:
    assert clock_shift(last, now) == shift_ns
    assert now.mono_ns + shift_ns >= last.mono_ns


@pytest.mark.parametrize(
    ("last", "now", "shift_ns"),
    [
        (Stamp(1_000, 5_000), Stamp(90_000, 7_000), -87_000),
        (Stamp(90_000, 5_000), Stamp(1_000, 7_000), 91_000),
        (Stamp(1_000, 5_000), Stamp(90_000, 3_000), -89_000),  # its wall clock is behind: no time has passed
    ],
)
def test_the_monotonic_clock_of_another_machine_says_nothing(last: Stamp, now: Stamp, shift_ns: int) -> None:
    assert clock_shift(last, now, of_other_node=True) == shift_ns


def test_a_bye_that_came_to_a_node_that_did_not_know_its_call_is_known_by_its_dialog_and_its_peer() -> None:
    policy, call = policy_of(), saved(*TALKING)
    callee = policy.gateways[call.attempts[-1].gateway].peer

    def heard(leg: LegIdentity, peer: str) -> StrayBye:
        return StrayBye(
            **world.stamps(1),
            peer=peer,
            sip_call_id=leg.sip_call_id,
            local_tag=leg.local_tag,
            remote_tag=leg.remote_tag,
        )

    a, b = call.invite.leg, call.attempts[-1].leg
    assert left_at_another(call, heard(a, call.invite.peer), policy) is LegName.A
    assert left_at_another(call, heard(b, callee), policy) is LegName.B
    assert left_at_another(call, heard(a, "strangers"), policy) is None
    bye_of_a = heard(a, call.invite.peer)
    assert left_at_another(call, replace(bye_of_a, sip_call_id="other"), policy) is None
    assert left_at_another(call, replace(bye_of_a, local_tag="other"), policy) is None
    assert left_at_another(call, replace(bye_of_a, remote_tag="other"), policy) is None


def test_events_of_another_clock_are_those_of_the_calls() -> None:
    """The machine has started anew: this boot counts from 0, 60 s after the call came."""
    shift_ns = world.mono_ns(FOUND_MS)
    run = Recovered(saved(*TALKING), shift_ns)
    due = ReleaseDue(mono_ns=0, wall_ns=world.wall_ns(FOUND_MS), call_id=run.call.call_id)
    run.happens(due)
    for leg_name in LegName:
        run.happens(
            LegTerminated(
                mono_ns=10, wall_ns=due.wall_ns, bridge_id=RECOVERED_IDS, leg_name=leg_name, alive=True
            )
        )
    assert run.call.hangup is not None
    assert (run.call.hangup.evidence, run.call.ended) == (Evidence.PROVED, at(FOUND_MS))
