"""Streams of events as no wire would ever give them: any order, any repetition, any gap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.admit import open_call
from sidecar.core.call import Call, Phase
from sidecar.core.commands import Command, Extend, NoteRefusal, Publish, Reserve, Settle, Suppress
from sidecar.core.credit import Grant, extend, grant
from sidecar.core.decide import decide
from sidecar.core.events import (
    AckReceived,
    Admitted,
    AnswerDropped,
    AnswerHeld,
    AnswerRecorded,
    AnswerRelayed,
    Branch,
    BridgeEvent,
    ByeReceived,
    CallEvent,
    CallFoundOpen,
    CallKept,
    CallLost,
    CancelReceived,
    Contact,
    CreditRefused,
    DeadlineReached,
    Event,
    Forked,
    GrantExtended,
    KeptLeg,
    KeptState,
    LegTerminated,
    Life,
    ProvisionalReceived,
    ReleaseRequested,
    RouteFailed,
    SessionRefreshed,
    StepFailed,
    TargetRefreshed,
    TransportFailed,
    WaitElapsed,
)
from sidecar.core.policy import Given, Load, Policy
from sidecar.core.terms import DeadlineKind, Detail, LegName, Money, RouteFailure
from tests.scenarios import world

# Each entry makes one event at a moment, for a call.
Maker = Callable[[int, Call, Grant | None], Event]


def bridge(event: type[BridgeEvent], /, **fields: Any) -> Maker:
    """Something that the bridge reports."""
    return lambda at_ms, call, _: event(**world.stamps(at_ms), bridge_id=call.bridge_id, **fields)


def store(event: type[CallEvent], /, **fields: Any) -> Maker:
    """Something that the store or the runtime reports."""
    return lambda at_ms, call, _: event(**world.stamps(at_ms), call_id=call.call_id, **fields)


def _admitted(at_ms: int, call: Call, granted: Grant | None) -> Event:
    return Admitted(
        **world.stamps(at_ms),
        call_id=call.call_id,
        granted_s=granted.granted_s if granted else None,
        reserved=granted.reserved if granted else None,
    )


def _extended(at_ms: int, call: Call, granted: Grant | None) -> Event:
    """As the books have it: more only where that was asked for."""
    reserved = Money(Decimal(0), "EUR") if granted is None else granted.reserved
    return GrantExtended(
        **world.stamps(at_ms),
        call_id=call.call_id,
        granted_s=granted.granted_s if granted else 0,
        reserved=reserved,
        final=granted.final if granted else True,
    )


def _b_leg(event: type[AnswerHeld] | type[AnswerDropped], attempt: int) -> Maker:
    return lambda at_ms, call, _: event(
        **world.stamps(at_ms),
        bridge_id=call.bridge_id,
        attempt=attempt,
        sip_code=200,
        leg=call.invite.leg,
    )


def failure(sip_code: int = 0, attempt: int = 1, *contacts: Contact) -> Maker:
    """An attempt that failed: by its final response, or (0) because nothing was heard."""
    cause = RouteFailure.FINAL_RESPONSE if sip_code else RouteFailure.NO_RESPONSE
    return bridge(RouteFailed, attempt=attempt, cause=cause, sip_code=sip_code, contacts=contacts)


def forked(attempt: int, *tags: str) -> Maker:
    """To tags of B's side, each with one on leg A."""

    def make(at_ms: int, call: Call, _: Grant | None) -> Event:
        branches = tuple(
            Branch(
                leg=replace(call.attempts[-1].leg if call.attempts else call.invite.leg, remote_tag=tag),
                caller=replace(call.invite.leg, local_tag=f"for-{tag}"),
                sip_code=180,
            )
            for tag in tags
        )
        return Forked(**world.stamps(at_ms), bridge_id=call.bridge_id, attempt=attempt, branches=branches)

    return make


def held(attempt: int) -> Maker:
    return _b_leg(AnswerHeld, attempt)


def bye(leg_name: LegName) -> Maker:
    return bridge(ByeReceived, leg_name=leg_name)


def life(leg_name: LegName) -> Maker:
    return bridge(Life, leg_name=leg_name)


def deadline(kind: DeadlineKind) -> Maker:
    return bridge(DeadlineReached, kind=kind)


def _retry(at_ms: int, call: Call, _: Grant | None) -> Event:
    return world.invite(at_ms, bridge_id=call.bridge_id + 1)


ADMITTED: Maker = _admitted
EXTENDED: Maker = _extended
RINGS = bridge(ProvisionalReceived, attempt=1, sip_code=180)
HELD = held(1)
RECORDED = store(AnswerRecorded)
RELAYED = bridge(AnswerRelayed)
ACK = bridge(AckReceived)
CHALLENGED = failure(407)
KEPT_STATE = KeptState(
    answered_mono_ns=0,
    answered_wall_ns=0,
    a=KeptLeg(invite_cseq=1, allows_update=False, knows_timer=False, ack_cseq=-1, ack_branch=""),
    b=KeptLeg(invite_cseq=7, allows_update=True, knows_timer=True, ack_cseq=7, ack_branch="z9hG4bKack"),
    session_s=0,
    peer_refreshes=False,
    we_refresh=False,
    refreshed=LegName.B,
    no_update=False,
    refresh_due_mono_ns=0,
    sdp=(),
    referrals=(),
)


def _kept(at_ms: int, call: Call, _: Grant | None) -> Event:
    return CallKept(
        **world.stamps(at_ms),
        bridge_id=call.bridge_id,
        leg_a=replace(call.invite.leg, local_cseq=20, remote_cseq=30),
        leg_b=replace(call.attempts[-1].leg if call.attempts else call.invite.leg, local_cseq=40),
        kept=KEPT_STATE,
    )


def _found(at_ms: int, call: Call, _: Grant | None) -> Event:
    now = {"now_mono_ns": world.mono_ns(at_ms), "now_wall_ns": world.wall_ns(at_ms)}
    return CallFoundOpen(**world.stamps(at_ms), call_id=call.call_id, **now)


KEPT: Maker = _kept
FOUND: Maker = _found
CLOSE_A, CLOSE_B = (bridge(LegTerminated, leg_name=leg_name) for leg_name in LegName)
ALIVE_A, ALIVE_B = (bridge(LegTerminated, leg_name=leg_name, alive=True) for leg_name in LegName)
WAITED = store(WaitElapsed)
CANCEL = bridge(CancelReceived)
BETA, STRANGER = (Contact(user="4930777", host=host) for host in ("10.0.2.1", "192.0.2.1"))

# Beginnings that lead somewhere; random events alone would hardly ever get a call answered.
ANSWERED: Sequence[Maker] = (HELD, RECORDED, RELAYED, ACK)
BEGINNINGS: Sequence[Sequence[Maker]] = (
    (),
    (store(CreditRefused),),
    (ADMITTED,),
    (ADMITTED, RINGS),
    (ADMITTED, CHALLENGED),
    (ADMITTED, CHALLENGED, _retry),
    (ADMITTED, RINGS, HELD),
    (ADMITTED, failure(302, 1, STRANGER, BETA)),
    (ADMITTED, failure(), bridge(ProvisionalReceived, attempt=2, sip_code=180)),
    (ADMITTED, *ANSWERED, KEPT),
)
TALKS: Sequence[Sequence[Maker]] = (
    (ADMITTED, HELD, RECORDED, RELAYED),
    (ADMITTED, RINGS, *ANSWERED),
    (ADMITTED, failure(503), held(2), *ANSWERED[1:]),
    (ADMITTED, failure(), held(2), *ANSWERED[1:]),
    (ADMITTED, failure(302, 1, BETA), held(2), *ANSWERED[1:]),
    (ADMITTED, CHALLENGED, _retry, held(2), *ANSWERED[1:]),
)
ANYTHING: Sequence[Maker] = (
    ADMITTED,
    EXTENDED,
    RECORDED,
    RELAYED,
    ACK,
    WAITED,
    KEPT,
    _retry,
    store(CreditRefused),
    store(StepFailed),
    store(CallLost),
    *(_b_leg(kind, attempt) for kind in (AnswerHeld, AnswerDropped) for attempt in (1, 2)),
    *(bridge(ProvisionalReceived, attempt=attempt, sip_code=183) for attempt in (1, 2)),
    *(forked(attempt, "one", "two") for attempt in (1, 2)),
    *(failure(sip_code, attempt) for attempt in (1, 2) for sip_code in (0, 503, 486, 401)),
    *(failure(302, attempt, STRANGER, BETA) for attempt in (1, 2)),
    *(bridge(CancelReceived, reasons=reasons) for reasons in ((), ("Q.850;cause=41",))),
    *(
        bridge(kind, leg_name=leg_name)
        for kind in (ByeReceived, Life, SessionRefreshed, TransportFailed, LegTerminated)
        for leg_name in LegName
    ),
    ALIVE_A,
    ALIVE_B,
    *(
        bridge(
            TargetRefreshed, leg_name=leg_name, remote_target="sip:x@10.0.0.1", local_cseq=2, remote_cseq=3
        )
        for leg_name in LegName
    ),
    *(deadline(kind) for kind in DeadlineKind),
    *(store(ReleaseRequested, detail=detail, operator="jane") for detail in (Detail.OPERATOR, Detail.RULE)),
)
# What a call in progress may see and still go on.
IN_CALL: Sequence[Maker] = (
    *map(life, LegName),
    *(ACK, ADMITTED, RECORDED, held(1), failure(503)),
    *(deadline(DeadlineKind.EXTEND), EXTENDED, store(StepFailed)),
)
# How most calls end, and what is seen of them afterwards.
ENDS: Sequence[Maker] = (
    *map(bye, LegName),
    *map(deadline, (DeadlineKind.GRANT, DeadlineKind.MAX_DURATION, DeadlineKind.DEAD_PEER)),
    CANCEL,
    store(ReleaseRequested, detail=Detail.OPERATOR, operator="jane"),
)
AFTERWARDS: Sequence[Maker] = (
    CLOSE_A,
    CLOSE_B,
    ALIVE_A,
    ALIVE_B,
    *map(bye, LegName),
    *(_b_leg(AnswerDropped, attempt) for attempt in (1, 2)),
    WAITED,
)

makers = st.one_of(
    st.builds(
        lambda beginning, tail: [*beginning, *tail],
        st.sampled_from([*BEGINNINGS, *TALKS]),
        st.lists(st.sampled_from(ANYTHING), max_size=12),
    ),
    st.builds(
        lambda beginning, talk, end, legs, after: [*beginning, *talk, end, *legs, *after],
        st.sampled_from([*TALKS, (ADMITTED, RINGS, HELD), *TALKS[1:]]),
        st.lists(st.sampled_from(IN_CALL), max_size=3),
        st.sampled_from(ENDS),
        st.sampled_from([(), (WAITED,), (CLOSE_B, CLOSE_A), (ALIVE_A, CLOSE_B)]),
        st.lists(st.sampled_from(AFTERWARDS), max_size=4),
    ),
)
# (milliseconds since the event before, how often it comes): 10 s are what the balance of a run affords.
_paces = st.tuples(
    st.one_of(st.integers(0, 4_000), st.sampled_from([1, 500, 3_999, 9_999])), st.sampled_from([1, 1, 2])
)
streams = st.lists(_paces, min_size=20, max_size=20).flatmap(
    lambda steps: makers.map(lambda made: list(zip(steps, made, strict=False)))
)


class Step(msgspec.Struct, frozen=True):
    """One decision: the event (None: the INVITE), the call before and after it, and what it asked for."""

    event: Event | None
    before: Call | None
    call: Call
    commands: tuple[Command, ...]


class Run:
    """A stream played to its end: legs closed, wait elapsed."""

    def __init__(
        self, policy: Policy, balance: Decimal = Decimal("0.0105"), load: Load | None = None
    ) -> None:
        self.policy = policy
        self.load = load or Load()
        self.steps: list[Step] = []
        self.call, commands = open_call(world.call_id(), world.invite(0), Given(policy, self.load))
        self.steps.append(Step(None, None, self.call, commands))
        self.granted: Grant | None = None
        for command in commands:
            if isinstance(command, Reserve):
                self.granted = grant(balance, command.rate, command.terms, command.total_s)
        self.balance = balance
        self.at_ms = 0

    def play(self, stream: Sequence[tuple[tuple[int, int], Maker]]) -> Run:
        for (wait_ms, times), make in stream:
            self.at_ms += wait_ms
            event = make(self.at_ms, self.call, self.granted)
            for _ in range(times):
                self.happens(event)
        return self

    def close(self) -> Run:
        """What the bridge and the runtime owe every call."""
        if self.call.kept is not None:  # and is taken up at once
            kept_ms = (self.call.kept.at.mono_ns - world.START_MONO_NS) // 1_000_000
            self.happens(_found(kept_ms, self.call, None))
        for make in (CLOSE_A, CLOSE_B, WAITED, CLOSE_A, CLOSE_B):
            self.happens(make(self.at_ms, self.call, self.granted))
        if self.call.phase is Phase.ADMITTING:
            self.happens(store(StepFailed)(self.at_ms, self.call, None))
        return self

    def happens(self, event: Event) -> None:
        before = self.call
        self.call, commands = decide(before, event, Given(self.policy, self.load))
        self.steps.append(Step(event, before, self.call, commands))
        for command in commands:
            if isinstance(command, Extend) and self.granted is not None:
                left = self.balance - self.granted.reserved.amount
                self.granted = extend(left, self.granted, command.rate, command.terms, command.total_s)

    def commands(self) -> list[Command]:
        return [command for step in self.steps for command in step.commands]

    @property
    def records(self) -> list[Publish | Suppress]:
        return [command for command in self.commands() if isinstance(command, (Publish, Suppress))]

    @property
    def refusals(self) -> list[NoteRefusal]:
        return [command for command in self.commands() if isinstance(command, NoteRefusal)]

    @property
    def settles(self) -> list[Settle]:
        return [command for command in self.commands() if isinstance(command, Settle)]
