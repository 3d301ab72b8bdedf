"""A call as it stands: both dialogs, the attempts, the stamps, its prices, and the first cause of its end.

Immutable: `decide` returns the next one. It is also what the journal keeps (one whole call per entry), so
everything that a later recovery or a CDR needs is a field here, and nothing else is.
"""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID

import msgspec

from sidecar.core.events import InviteReceived, LegIdentity
from sidecar.core.hangup import Hangup
from sidecar.core.numbers import BilledNumber
from sidecar.core.policy import Account
from sidecar.core.rating import RatingTerms
from sidecar.core.tariff import Rate
from sidecar.core.terms import DialogState, Money, RouteFailure


class Phase(StrEnum):
    """Where the call is on its way; `decide.TABLE` says which events each phase knows."""

    ADMITTING = "admitting"  # the admitted entry is being written
    ROUTING = "routing"  # leg B's INVITE is out
    ANSWERING = "answering"  # B's 2xx is held, the answered entry is being written
    TALKING = "talking"  # our 2xx was let go
    ENDING = "ending"  # the first cause is known; the record waits for the legs, a second at the most
    AWAITING_RETRY = "awaiting_retry"  # a 401, 407 or 422 was relayed: the caller may try the same call again
    ENDED = "ended"  # the record was handed to the store; legs may still close


class Stamp(msgspec.Struct, frozen=True):
    """One moment on both clocks: durations come from `mono_ns`, what people read from `wall_ns`."""

    mono_ns: int
    wall_ns: int


class Pricing(msgspec.Struct, frozen=True, kw_only=True):
    """What one side of the call costs, frozen when that side began; the charge is computed from this
    alone."""

    number: BilledNumber
    terms: RatingTerms
    rate: Rate | None = None  # None: no rate found, the call is carried unrated
    deck_revision: str | None = None
    free: bool = False  # the billed number is on the FREE list


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    number: int  # from 1
    gateway: str
    target: str
    sent_user: str
    leg: LegIdentity
    buy: Pricing | None = None  # None: the gateway has no buy deck
    started: Stamp
    ended: Stamp | None = None
    heard_code: int = 0  # the highest provisional
    sip_code: int = 0
    failure: RouteFailure | None = None
    reasons: tuple[str, ...] = ()
    late_answer: Stamp | None = None


class Call(msgspec.Struct, frozen=True, kw_only=True):
    call_id: UUID
    boot_id: str
    bridge_id: int
    phase: Phase
    invite: InviteReceived
    account: Account
    pricing: Pricing
    gateways: tuple[str, ...]  # those still to be tried after the current attempt
    state_a: DialogState = DialogState.PROCEEDING
    state_b: DialogState = DialogState.TERMINATED
    attempts: tuple[Attempt, ...] = ()
    ringing: Stamp | None = None
    first_heard: Stamp | None = None  # the first 18x or 2xx of B: the end of the post-dial delay
    b_answered: Stamp | None = None
    answered: Stamp | None = None
    a_life: Stamp | None = None  # the last proof that A lives after our 2xx
    b_life: Stamp | None = None
    refreshed: Stamp | None = None  # the last RFC 4028 refresh
    granted_s: int | None = None
    reserved: Money | None = None
    hangup: Hangup | None = None
    ended: Stamp | None = None
    revision: int = 0
