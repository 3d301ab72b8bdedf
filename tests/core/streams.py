"""Streams of events as no wire would ever give them: any order, any repetition, any gap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import strategies as st

from sidecar.core.admit import open_call
from sidecar.core.call import Call, Phase
from sidecar.core.commands import Command, NoteRefusal, Publish, Reserve, Settle, Suppress
from sidecar.core.credit import Grant, grant
from sidecar.core.decide import decide
from sidecar.core.events import (
    AckReceived,
    Admitted,
    AnswerDropped,
    AnswerHeld,
    AnswerRecorded,
    AnswerRelayed,
    BridgeEvent,
    ByeReceived,
    CallEvent,
    CallLost,
    CancelReceived,
    CreditRefused,
    DeadlineReached,
    Event,
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
from sidecar.core.terms import DeadlineKind, Detail, LegName, RouteFailure
from tests.scenarios import world

# Each entry makes one event at a moment, for a call.
Maker = Callable[[int, Call, Grant | None], Event]


def _bridge(event: type[BridgeEvent], /, **fields: Any) -> Maker:
    return lambda at_ms, call, _: event(**world.stamps(at_ms), bridge_id=call.bridge_id, **fields)


def _store(event: type[CallEvent], /, **fields: Any) -> Maker:
    return lambda at_ms, call, _: event(**world.stamps(at_ms), call_id=call.call_id, **fields)


def _admitted(at_ms: int, call: Call, granted: Grant | None) -> Event:
    return Admitted(
        **world.stamps(at_ms),
        call_id=call.call_id,
        granted_s=granted.granted_s if granted else None,
        reserved=granted.reserved if granted else None,
    )


def _b_leg(event: type[AnswerHeld] | type[AnswerDropped], attempt: int) -> Maker:
    return lambda at_ms, call, _: event(
        **world.stamps(at_ms),
        bridge_id=call.bridge_id,
        attempt=attempt,
        sip_code=200,
        leg=call.invite.leg,
    )


def _retry(at_ms: int, call: Call, _: Grant | None) -> Event:
    return world.invite(at_ms, bridge_id=call.bridge_id + 1)


ADMITTED: Maker = _admitted
RINGS = _bridge(ProvisionalReceived, attempt=1, sip_code=180)
HELD = _b_leg(AnswerHeld, 1)
RECORDED = _store(AnswerRecorded)
RELAYED = _bridge(AnswerRelayed)
ACK = _bridge(AckReceived)
CHALLENGED = _bridge(RouteFailed, attempt=1, cause=RouteFailure.FINAL_RESPONSE, sip_code=407)
CLOSE_A, CLOSE_B = (_bridge(LegTerminated, leg_name=leg_name) for leg_name in LegName)
WAITED = _store(WaitElapsed)

# Beginnings that lead somewhere; random events alone would hardly ever get a call answered.
BEGINNINGS: Sequence[Sequence[Maker]] = (
    (),
    (ADMITTED,),
    (ADMITTED, RINGS),
    (ADMITTED, CHALLENGED),
    (ADMITTED, CHALLENGED, _retry),
    (ADMITTED, RINGS, HELD),
    (ADMITTED, HELD, RECORDED, RELAYED),
    (ADMITTED, RINGS, HELD, RECORDED, RELAYED, ACK),
)
ANYTHING: Sequence[Maker] = (
    ADMITTED,
    RECORDED,
    RELAYED,
    ACK,
    WAITED,
    _retry,
    _store(CreditRefused),
    _store(StepFailed),
    _store(CallLost),
    *(_b_leg(kind, attempt) for kind in (AnswerHeld, AnswerDropped) for attempt in (1, 2)),
    *(_bridge(ProvisionalReceived, attempt=attempt, sip_code=183) for attempt in (1, 2)),
    *(
        _bridge(RouteFailed, attempt=attempt, cause=cause, sip_code=sip_code)
        for attempt in (1, 2)
        for cause, sip_code in (
            (RouteFailure.NO_RESPONSE, 0),
            (RouteFailure.FINAL_RESPONSE, 503),
            (RouteFailure.FINAL_RESPONSE, 486),
            (RouteFailure.FINAL_RESPONSE, 401),
        )
    ),
    *(_bridge(CancelReceived, reasons=reasons) for reasons in ((), ("Q.850;cause=41",))),
    *(
        _bridge(kind, leg_name=leg_name)
        for kind in (ByeReceived, Life, SessionRefreshed, TransportFailed, LegTerminated)
        for leg_name in LegName
    ),
    *(_bridge(LegTerminated, leg_name=leg_name, alive=True) for leg_name in LegName),
    *(
        _bridge(
            TargetRefreshed, leg_name=leg_name, remote_target="sip:x@10.0.0.1", local_cseq=2, remote_cseq=3
        )
        for leg_name in LegName
    ),
    *(_bridge(DeadlineReached, kind=kind) for kind in DeadlineKind),
    *(_store(ReleaseRequested, detail=detail, operator="jane") for detail in (Detail.OPERATOR, Detail.RULE)),
)

makers = st.builds(
    lambda beginning, tail: [*beginning, *tail],
    st.sampled_from(BEGINNINGS),
    st.lists(st.sampled_from(ANYTHING), max_size=12),
)
streams = st.lists(st.tuples(st.integers(0, 4_000), st.integers(1, 2)), min_size=20, max_size=20).flatmap(
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

    def __init__(self, policy: Policy, balance: Decimal = Decimal("0.0105")) -> None:
        self.policy = policy
        self.load = Load()
        self.steps: list[Step] = []
        self.call, commands = open_call(world.call_id(), world.invite(0), Given(policy, self.load))
        self.steps.append(Step(None, None, self.call, commands))
        self.granted: Grant | None = None
        for command in commands:
            if isinstance(command, Reserve):
                self.granted = grant(balance, command.rate, command.terms, command.max_duration_s)
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
        for make in (CLOSE_A, CLOSE_B, WAITED, CLOSE_A, CLOSE_B):
            self.happens(make(self.at_ms, self.call, self.granted))
        if self.call.phase is Phase.ADMITTING:
            self.happens(_store(StepFailed)(self.at_ms, self.call, None))
        return self

    def happens(self, event: Event) -> None:
        before = self.call
        self.call, commands = decide(before, event, Given(self.policy, self.load))
        self.steps.append(Step(event, before, self.call, commands))

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
