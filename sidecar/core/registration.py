"""Being registered at a gateway that wants it: RFC 3261 §10.2, as a table.

A binding is refreshed well before it ends. A refresh that nobody answers leaves it as it is until its time
is over: the registrar may be in trouble, and what it holds is good. A refusal ends it at once. After a
failure we wait, longer each time. Times are of the monotonic clock; `chance` is a number from 0 to below 1,
so that a thousand nodes that lost one registrar do not come back to it together.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec
from msgspec.structs import replace

EXPIRES_S_MAX: Final = 86_400
RETRY_S: Final = 10  # RFC 5626 §4.5's rule, from a shorter time to a shorter one
RETRY_S_MAX: Final = 600
START_SPREAD_S: Final = 2
CSEQ_STEP: Final = 4  # a request takes one number, and one for each answer to a challenge
_NS_PER_S: Final = 1_000_000_000


class RegistrationState(StrEnum):
    UNREGISTERED = "unregistered"  # not yet
    REGISTERED = "registered"
    FAILED = "failed"
    ENDED = "ended"  # we took it back, or tried to


class Outcome(StrEnum):
    ACCEPTED = "accepted"  # 2xx
    TOO_BRIEF = "too_brief"  # 423 with an interval that we can ask for
    REFUSED = "refused"  # any other answer
    UNANSWERED = "unanswered"  # none, 408, 5xx
    EXPIRED = "expired"  # the time of the binding is over


_S, _O = RegistrationState, Outcome
TABLE: Final[Mapping[tuple[RegistrationState, Outcome], RegistrationState]] = {
    (_S.UNREGISTERED, _O.ACCEPTED): _S.REGISTERED,
    (_S.UNREGISTERED, _O.TOO_BRIEF): _S.UNREGISTERED,
    (_S.UNREGISTERED, _O.REFUSED): _S.FAILED,
    (_S.UNREGISTERED, _O.UNANSWERED): _S.FAILED,
    (_S.REGISTERED, _O.ACCEPTED): _S.REGISTERED,
    (_S.REGISTERED, _O.TOO_BRIEF): _S.REGISTERED,
    (_S.REGISTERED, _O.REFUSED): _S.FAILED,
    (_S.REGISTERED, _O.UNANSWERED): _S.REGISTERED,
    (_S.REGISTERED, _O.EXPIRED): _S.FAILED,
    (_S.FAILED, _O.ACCEPTED): _S.REGISTERED,
    (_S.FAILED, _O.TOO_BRIEF): _S.FAILED,
    (_S.FAILED, _O.REFUSED): _S.FAILED,
    (_S.FAILED, _O.UNANSWERED): _S.FAILED,
}


class RegisterTerms(msgspec.Struct, frozen=True, kw_only=True):
    identity: str  # the address of record, a URI
    target: str  # the Request-URI: the domain of the registrar
    contact_user: str
    expires_s: int


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    state: RegistrationState = RegistrationState.UNREGISTERED
    due_ns: int  # when the next REGISTER leaves
    sent_ns: int | None = None  # when the one under way left
    sent_s: int = 0  # the interval that it asks for; 0 takes the binding back
    until_ns: int | None = None  # when the binding ends
    wanted_s: int  # what the next one asks for
    cseq: int = 1
    failures: int = 0  # in a row
    leaving: bool = False


def begin(terms: RegisterTerms, now_ns: int, chance: float) -> Registration:
    return Registration(due_ns=now_ns + int(chance * START_SPREAD_S * _NS_PER_S), wanted_s=terms.expires_s)


def is_due(registration: Registration, now_ns: int) -> bool:
    """One at a time (§10.2), and none after the end."""
    waits = registration.sent_ns is None and registration.state is not RegistrationState.ENDED
    return waits and registration.due_ns <= now_ns


def sent(registration: Registration, now_ns: int) -> Registration:
    """The REGISTER that leaves now: its interval is `sent_s`, its number is `cseq`."""
    return replace(
        registration,
        sent_ns=now_ns,
        sent_s=0 if registration.leaving else registration.wanted_s,
        cseq=registration.cseq + CSEQ_STEP,
    )


def outcome_of(sip_code: int, min_expires_s: int | None, asked_s: int) -> Outcome:
    """`sip_code` 0: nothing came."""
    if 200 <= sip_code < 300:
        return Outcome.ACCEPTED
    if sip_code == 423 and min_expires_s is not None and asked_s < min_expires_s <= EXPIRES_S_MAX:
        return Outcome.TOO_BRIEF
    if sip_code in (0, 408) or 500 <= sip_code < 600:
        return Outcome.UNANSWERED
    return Outcome.REFUSED


def answered(
    registration: Registration,
    *,
    sip_code: int,
    granted_s: int | None,
    min_expires_s: int | None,
    retry_after_s: int | None,
    now_ns: int,
    chance: float,
) -> Registration:
    """The REGISTER under way has its final response; `sip_code` 0: it gets none."""
    asked_s = registration.sent_s
    outcome = outcome_of(sip_code, min_expires_s, asked_s)
    after = replace(registration, sent_ns=None)
    if registration.leaving:
        is_bound = asked_s > 0 and outcome in (Outcome.ACCEPTED, Outcome.UNANSWERED)
        return replace(after, due_ns=now_ns) if is_bound else replace(after, state=RegistrationState.ENDED)
    after = replace(after, state=TABLE[registration.state, outcome])
    match outcome:
        case Outcome.ACCEPTED:
            held_s = asked_s if granted_s is None else max(1, min(granted_s, asked_s))
            held_ns = held_s * _NS_PER_S
            return replace(
                after,
                failures=0,
                until_ns=now_ns + held_ns,
                due_ns=now_ns + max(_NS_PER_S, int(held_ns * (0.8 + 0.1 * chance))),
            )
        case Outcome.TOO_BRIEF:
            assert min_expires_s is not None
            return replace(after, wanted_s=min_expires_s, due_ns=now_ns)
        case _:
            failures = registration.failures + 1
            wait_ns = _wait_ns(failures, retry_after_s, chance)
            until_ns = after.until_ns if after.state is RegistrationState.REGISTERED else None
            return replace(after, failures=failures, until_ns=until_ns, due_ns=now_ns + wait_ns)


def _wait_ns(failures: int, retry_after_s: int | None, chance: float) -> int:
    longest_s = min(RETRY_S_MAX, RETRY_S * 2 ** min(failures - 1, 10))
    wait_s = longest_s * (0.5 + 0.5 * chance)
    return int(max(wait_s, min(retry_after_s or 0, RETRY_S_MAX)) * _NS_PER_S)


def aged(registration: Registration, now_ns: int) -> Registration:
    """As it stands now: a binding whose time is over has failed."""
    if registration.until_ns is None or now_ns < registration.until_ns or registration.leaving:
        return registration
    return replace(registration, state=TABLE[registration.state, Outcome.EXPIRED], until_ns=None)


def leave(registration: Registration, now_ns: int) -> Registration:
    """The node stops: take back what is bound, once the REGISTER under way is answered."""
    if registration.state is RegistrationState.REGISTERED or registration.sent_ns is not None:
        return replace(registration, leaving=True, due_ns=now_ns)
    return replace(registration, leaving=True, state=RegistrationState.ENDED)
