"""The way of one call as a ladder: what went between the caller, the node and the gateways, as its record
tells it, each with its time since the INVITE."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from sidecar.core.cdr import AttemptRecord, Cdr
from sidecar.core.terms import Detail, HangupOrigin, RouteFailure

_MS = timedelta(milliseconds=1)


class Way(StrEnum):
    """From whom to whom."""

    TO_NODE = "caller to node"
    TO_CALLER = "node to caller"
    TO_GATEWAY = "node to gateway"
    FROM_GATEWAY = "gateway to node"
    TO_BOTH = "node to both"
    FORWARD = "caller to gateway"
    BACKWARD = "gateway to caller"


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    at_ms: float
    way: Way
    text: str


def ladder(cdr: Cdr) -> list[Rung]:
    """In the order of time; what happened at one moment in that of the call."""

    def rung(at: datetime, way: Way, text: str) -> Rung:
        return Rung(at_ms=max(0.0, (at - cdr.invited_at) / _MS), way=way, text=text)

    rungs = [rung(cdr.invited_at, Way.TO_NODE, "INVITE")]
    for attempt in cdr.attempts:
        rungs.append(rung(attempt.started_at, Way.TO_GATEWAY, f"INVITE {attempt.gateway}"))
        if attempt.ended_at is not None and not _is_answer(attempt):
            rungs.append(rung(attempt.ended_at, Way.FROM_GATEWAY, _failure(attempt)))
        if attempt.late_answer_at is not None:
            rungs.append(rung(attempt.late_answer_at, Way.FROM_GATEWAY, "2xx, too late"))
    if cdr.ringing_at is not None:
        rungs.append(rung(cdr.ringing_at, Way.BACKWARD, "180 rings"))
    if cdr.b_answered_at is not None:
        rungs.append(rung(cdr.b_answered_at, Way.FROM_GATEWAY, "2xx answers"))
    if cdr.answered_at is not None:
        rungs.append(rung(cdr.answered_at, Way.TO_CALLER, "2xx, once it was on disk"))
    rungs += (rung(cdr.ended_at, way, text) for way, text in _end(cdr))
    return sorted(rungs, key=lambda one: one.at_ms)


def _is_answer(attempt: AttemptRecord) -> bool:
    return 200 <= attempt.sip_code < 300


def _failure(attempt: AttemptRecord) -> str:
    if attempt.sip_code:
        return str(attempt.sip_code)
    return {
        RouteFailure.NO_RESPONSE: "no response in time",
        RouteFailure.UNREACHABLE: "unreachable",
        RouteFailure.TRANSACTION_TIMEOUT: "no final response in time",
    }.get(attempt.failure or RouteFailure.FINAL_RESPONSE, "given up")


def _end(cdr: Cdr) -> list[tuple[Way, str]]:
    match cdr.hangup_origin:
        case HangupOrigin.CALLER if cdr.detail is Detail.CANCEL:
            return [(Way.FORWARD, "CANCEL"), (Way.TO_CALLER, str(cdr.sip_code))]
        case HangupOrigin.CALLER:
            return [(Way.FORWARD, "BYE")]
        case HangupOrigin.CALLEE if cdr.answered_at is None:
            came = bool(cdr.attempts) and cdr.attempts[-1].ended_at is not None
            return [(Way.TO_CALLER if came else Way.BACKWARD, str(cdr.sip_code))]
        case HangupOrigin.CALLEE:
            return [(Way.BACKWARD, "BYE")]
        case _ if cdr.answered_at is not None:
            return [(Way.TO_BOTH, "BYE")]
        case _:
            return [(Way.TO_CALLER, str(cdr.sip_code))]
