"""Whether a gateway can be called, from what it answers to our OPTIONS (RFC 3261 §11), as a table.

A gateway that we do not know yet is called like one that is up. Times are of the monotonic clock; `chance`
is a number from 0 to below 1: probes of many gateways, and of many nodes to one gateway, do not leave
together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Final

import msgspec
from msgspec.structs import replace

from sidecar.core.registration import RegistrationState

START_SPREAD_MS: Final = 2_000
_NS_PER_MS: Final = 1_000_000

# Where the profile does not say what counts: an answer shows that SIP is spoken there, whatever it thinks
# of OPTIONS or of us. But these say that no call would get anywhere: nobody behind it answers, or it is out
# of order.
FAILING: Final = frozenset({408, 500, 502, 503, 504})


class Health(StrEnum):
    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


class Sign(StrEnum):
    GOOD = "good"
    BAD = "bad"


class Threshold(StrEnum):
    """How many signs in a row it takes."""

    ONE = "one"
    DOWN_AFTER = "down_after"
    UP_AFTER = "up_after"


_H, _G, _T = Health, Sign, Threshold
TABLE: Final[Mapping[tuple[Health, Sign], tuple[Health, Threshold]]] = {
    (_H.UNKNOWN, _G.GOOD): (_H.UP, _T.ONE),
    (_H.UNKNOWN, _G.BAD): (_H.DOWN, _T.DOWN_AFTER),
    (_H.UP, _G.GOOD): (_H.UP, _T.ONE),
    (_H.UP, _G.BAD): (_H.DOWN, _T.DOWN_AFTER),
    (_H.DOWN, _G.GOOD): (_H.UP, _T.UP_AFTER),
    (_H.DOWN, _G.BAD): (_H.DOWN, _T.ONE),
}


class ProbeTerms(msgspec.Struct, frozen=True, kw_only=True):
    interval_ms: int
    timeout_ms: int
    down_after: int
    up_after: int
    alive: tuple[str, ...] = ()  # codes and classes, `404`, `2xx`; empty: all but FAILING


class Probing(msgspec.Struct, frozen=True, kw_only=True):
    health: Health = Health.UNKNOWN
    in_a_row: int = 0  # signs that speak for another state than `health`
    due_ns: int  # when the next probe leaves
    sent_ns: int | None = None  # when the one under way left


def begin(terms: ProbeTerms, now_ns: int, chance: float) -> Probing:
    spread_ms = min(START_SPREAD_MS, terms.interval_ms)
    return Probing(due_ns=now_ns + int(chance * spread_ms * _NS_PER_MS))


def is_due(probing: Probing, now_ns: int) -> bool:
    return probing.sent_ns is None and probing.due_ns <= now_ns


def sent(probing: Probing, now_ns: int) -> Probing:
    return replace(probing, sent_ns=now_ns)


def sign_of(sip_code: int, alive: tuple[str, ...]) -> Sign:
    """`sip_code` 0: nothing came."""
    if alive:
        is_good = str(sip_code) in alive or f"{sip_code // 100}xx" in alive
    else:
        is_good = sip_code >= 200 and sip_code not in FAILING
    return Sign.GOOD if is_good else Sign.BAD


def answered(probing: Probing, terms: ProbeTerms, sip_code: int, now_ns: int, chance: float) -> Probing:
    """The probe under way has its final response; `sip_code` 0: it gets none."""
    sign = sign_of(sip_code, terms.alive)
    health, threshold = TABLE[probing.health, sign]
    in_a_row = 0 if health is probing.health else probing.in_a_row + 1
    if in_a_row < _needed(threshold, terms):
        health = probing.health
    else:
        in_a_row = 0
    interval_ns = int(terms.interval_ms * _NS_PER_MS * (0.9 + 0.2 * chance))
    left_ns = now_ns if probing.sent_ns is None else probing.sent_ns
    return Probing(health=health, in_a_row=in_a_row, due_ns=max(now_ns, left_ns + interval_ns))


def _needed(threshold: Threshold, terms: ProbeTerms) -> int:
    match threshold:
        case Threshold.ONE:
            return 1
        case Threshold.DOWN_AFTER:
            return terms.down_after
        case Threshold.UP_AFTER:
            return terms.up_after


def of_all(servers: Collection[Health]) -> Health:
    """Of a gateway with several servers: one that is up is enough. With none it can be called nowhere."""
    if Health.UP in servers:
        return Health.UP
    return Health.UNKNOWN if Health.UNKNOWN in servers else Health.DOWN


def overall(probed: Health | None, registration: RegistrationState | None) -> Health:
    """What routing goes by; None: it is not probed, or wants no registration."""
    if probed is Health.DOWN or registration is RegistrationState.FAILED:
        return Health.DOWN
    if probed is Health.UP and registration in (None, RegistrationState.REGISTERED):
        return Health.UP
    if probed is None and registration is RegistrationState.REGISTERED:
        return Health.UP
    return Health.UNKNOWN
