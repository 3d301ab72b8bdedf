"""Who ended the call, why, and until when it is billed: one table, one classifier for codes.

The first cause that ends the call is written once and never overwritten by what follows from it: the BYE that
we send to the other leg is a consequence, not a cause. A row that is missing here is a defect: `row` raises,
the call is released as server/fault, and the counter of broken promises moves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum

import msgspec

from sidecar.core.terms import Detail, Disposition, Evidence, HangupOrigin, MaxDurationOf, ServerReason

CALLER, CALLEE, SERVER = HangupOrigin.CALLER, HangupOrigin.CALLEE, HangupOrigin.SERVER


class BillableUntil(Enum):
    """The moment that ends what is sold."""

    NEVER = "never"  # the cause lies before any answer (said by a proxy in a call: until the BYE)
    END = "end"  # the BYE, theirs or ours
    GRANT = "grant"  # the grant was used up: not a millisecond more
    A_LIFE = "a_life"  # A's last sign of life after our 2xx
    LAST_LIFE = "last_life"  # the last moment at which both sides are known to have lived
    LAST_REFRESH = "last_refresh"  # RFC 4028: the last session refresh
    RECOVERED = "recovered"  # our BYE if both legs proved that the call was up, else the last heartbeat


class Row(msgspec.Struct, frozen=True):
    origin: HangupOrigin
    reason: ServerReason | None
    sip_code: int  # what A is told, or would be; 0: as received
    q850_cause: int  # 0: mapped from the code that was received
    until: BillableUntil


_T, _C, _A, _P, _R, _F = (
    ServerReason.TIMEOUT,
    ServerReason.CREDIT,
    ServerReason.ADMIN,
    ServerReason.POLICY,
    ServerReason.RESOURCE,
    ServerReason.FAULT,
)
_END, _LIFE, _NEVER = BillableUntil.END, BillableUntil.LAST_LIFE, BillableUntil.NEVER

# The three ring timeouts differ in what B was heard to say: ITU-T Q.850 19 "no answer from user (user
# alerted)", 18 "no user responding", 102 "recovery on timer expiry".
RING_ALERTED, RING_NOT_ALERTED, RING_SILENT = 19, 18, 102

TABLE: Mapping[tuple[HangupOrigin, Detail], Row] = {
    (CALLER, Detail.BYE): Row(CALLER, None, 200, 16, _END),
    (CALLEE, Detail.BYE): Row(CALLEE, None, 200, 16, _END),
    (CALLER, Detail.CANCEL): Row(CALLER, None, 487, 16, _NEVER),
    (CALLEE, Detail.REJECTED): Row(CALLEE, None, 0, 0, _NEVER),
    (SERVER, Detail.RING_TIMEOUT): Row(SERVER, _T, 408, RING_ALERTED, _NEVER),
    (SERVER, Detail.MAX_DURATION): Row(SERVER, _T, 408, 16, _END),
    (SERVER, Detail.NO_ACK): Row(SERVER, _T, 408, 102, BillableUntil.A_LIFE),
    (SERVER, Detail.DEAD_PEER): Row(SERVER, _T, 408, 102, _LIFE),
    (SERVER, Detail.SESSION_TIMER): Row(SERVER, _T, 408, 102, BillableUntil.LAST_REFRESH),
    (SERVER, Detail.GRANT_USED_UP): Row(SERVER, _C, 402, 16, BillableUntil.GRANT),
    (SERVER, Detail.NO_CREDIT): Row(SERVER, _C, 402, 21, _NEVER),
    (SERVER, Detail.SOURCE_NOT_ALLOWED): Row(SERVER, _P, 403, 21, _END),
    (SERVER, Detail.NUMBER_BLOCKED): Row(SERVER, _P, 403, 21, _END),
    (SERVER, Detail.DESTINATION_BLOCKED): Row(SERVER, _P, 403, 21, _END),
    (SERVER, Detail.ACCOUNT_DISABLED): Row(SERVER, _P, 403, 21, _END),
    (SERVER, Detail.NO_RATE): Row(SERVER, _P, 403, 21, _END),
    (SERVER, Detail.RULE): Row(SERVER, _P, 403, 21, _END),
    (SERVER, Detail.OPERATOR): Row(SERVER, _A, 480, 31, _END),
    (SERVER, Detail.DRAIN): Row(SERVER, _A, 480, 31, _END),
    (SERVER, Detail.NODE_FULL): Row(SERVER, _R, 503, 42, _NEVER),
    (SERVER, Detail.PEER_LIMIT): Row(SERVER, _R, 480, 34, _NEVER),
    (SERVER, Detail.ACCOUNT_LIMIT): Row(SERVER, _R, 480, 34, _NEVER),
    (SERVER, Detail.GATEWAY_LIMIT): Row(SERVER, _R, 500, 34, _NEVER),
    (SERVER, Detail.NO_ROUTE): Row(SERVER, _R, 500, 3, _NEVER),
    (SERVER, Detail.GATEWAY_UNREACHABLE): Row(SERVER, _R, 500, 38, _NEVER),
    (SERVER, Detail.LEDGER_UNREACHABLE): Row(SERVER, _R, 503, 42, _END),
    (SERVER, Detail.TRANSPORT_LOST): Row(SERVER, _F, 500, 38, _LIFE),
    (SERVER, Detail.JOURNAL): Row(SERVER, _F, 500, 41, _LIFE),
    (SERVER, Detail.INTERNAL_ERROR): Row(SERVER, _F, 500, 41, _LIFE),
    (SERVER, Detail.CRASH_RECOVERED): Row(SERVER, _F, 500, 41, BillableUntil.RECOVERED),
}


class Hangup(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The first cause of a call's end."""

    origin: HangupOrigin
    detail: Detail
    sip_code: int
    q850_cause: int
    evidence: Evidence
    refused: bool = False  # never admitted
    glare: bool = False  # the other side's BYE crossed ours
    proxy: str | None = None
    operator: str | None = None
    operator_text: str | None = None
    max_duration_of: MaxDurationOf | None = None  # of `max_duration`
    rule: str | None = None  # the name of the rule that refused the call, or ended it

    def __post_init__(self) -> None:
        if (self.origin, self.detail) not in TABLE:
            raise ValueError(f"no such cause: {self.origin}/{self.detail}")

    @property
    def row(self) -> Row:
        return TABLE[self.origin, self.detail]

    @property
    def reason(self) -> ServerReason | None:
        return self.row.reason


def hangup(
    origin: HangupOrigin,
    detail: Detail,
    evidence: Evidence,
    *,
    sip_code: int = 0,
    q850_cause: int = 0,
    refused: bool = False,
    proxy: str | None = None,
    operator: str | None = None,
    operator_text: str | None = None,
    rule: str | None = None,
    max_duration_of: MaxDurationOf | None = None,
) -> Hangup:
    """The cause with the table's codes, where no better ones (received ones) are given."""
    row = TABLE[origin, detail]
    return Hangup(
        origin=origin,
        detail=detail,
        sip_code=sip_code or row.sip_code,
        q850_cause=q850_cause or row.q850_cause,
        evidence=evidence,
        refused=refused,
        proxy=proxy,
        operator=operator,
        operator_text=operator_text,
        rule=rule,
        max_duration_of=max_duration_of,
    )


def ring_timeout_cause(heard_code: int) -> int:
    """Q.850 cause of a ring timeout: 180 says that B alerted (RFC 3261 §21.1.2), any other provisional that B
    was there, 0 that nothing was heard."""
    if heard_code == 180:
        return RING_ALERTED
    return RING_NOT_ALERTED if heard_code else RING_SILENT


# RFC 3398 §8.2.6.1: SIP status to ISUP cause. 488 and 606 depend on a Warning there: 31, normal unspecified.
# Later codes by our choice: 607 and 608 (RFC 8197, RFC 8688) as 603; 433 (RFC 5079) is a call rejected for
# what the caller hides, 580 (RFC 3312) one for which resources are missing.
_Q850_OF_SIP: Mapping[int, int] = {
    400: 41, 401: 21, 402: 21, 403: 21, 404: 1, 405: 63, 406: 79, 407: 21, 408: 102, 410: 22, 413: 127,
    414: 127, 415: 79, 416: 127, 420: 127, 421: 127, 423: 127, 433: 24, 480: 18, 481: 41, 482: 25, 483: 25,
    484: 28, 485: 1, 486: 17, 487: 16, 488: 31, 500: 41, 501: 79, 502: 38, 503: 41, 504: 102, 505: 127,
    513: 127, 580: 47, 600: 17, 603: 21, 604: 1, 606: 31, 607: 21, 608: 21,
}  # fmt: skip
# RFC 3261 §8.1.3.2: an unknown code is handled as x00 of its class. A redirection that nobody follows: Q.850
# 23.
_Q850_OF_CLASS: Mapping[int, int] = {3: 23, 4: 41, 5: 41, 6: 17}


def q850_of_sip(sip_code: int, overrides: Mapping[int, int]) -> int:
    """The Q.850 cause of a final response >= 300; `overrides` (the setting [q850]) wins."""
    found = overrides.get(sip_code) or _Q850_OF_SIP.get(sip_code)
    return found or _Q850_OF_CLASS.get(sip_code // 100, 127)


def q850_of_reasons(reasons: Iterable[str]) -> int | None:
    """The cause of the first well-formed `Q.850` value (RFC 3326 §2), 1..127; None where there is none. A
    header field may hold several values."""
    for field in reasons:
        for value in _VALUES.findall(field):
            protocol, *parameters = [part.strip() for part in _PARTS.findall(value)] or [""]
            if protocol.upper() == "Q.850" and (cause := _cause_of(parameters)):
                return cause
    return None


# Text in quotes holds no separators. `"?`: a quote that is never closed reaches to the end.
_VALUES = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
_PARTS = re.compile(r'(?:[^;"]|"(?:[^"\\]|\\.)*"?)+')
_CAUSE = re.compile(r"cause\s*=\s*([0-9]{1,3})", re.IGNORECASE | re.ASCII)


def _cause_of(parameters: Iterable[str]) -> int | None:
    for parameter in parameters:
        if (match := _CAUSE.fullmatch(parameter)) and 1 <= int(match[1]) <= 127:
            return int(match[1])
    return None


def disposition(cause: Hangup, *, answered: bool) -> Disposition:
    """What became of the call in one word. `answered` means that our 2xx left on leg A."""
    if cause.refused:
        return Disposition.REFUSED
    if answered:
        return Disposition.ANSWERED
    match cause.origin, cause.detail:
        case HangupOrigin.CALLER, _:
            return Disposition.CANCELLED
        case HangupOrigin.CALLEE, _:
            return Disposition.REJECTED
        case _, Detail.RING_TIMEOUT:
            return Disposition.NO_ANSWER
        case _:
            return Disposition.FAILED
