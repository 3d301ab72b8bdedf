"""A call as it stands: both dialogs, the attempts, the stamps, its prices, and the first cause of its end.

Immutable: `decide` returns the next one. It is also what the journal keeps (one whole call per entry), so
everything that a later recovery or a CDR needs is a field here, and nothing else is.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec
from msgspec.structs import replace

from sidecar.core.callers import RatedCaller
from sidecar.core.dialog import Signal, after
from sidecar.core.events import (
    Branch,
    Event,
    InviteReceived,
    KeptState,
    LegIdentity,
    LegTerminated,
    Silence,
)
from sidecar.core.hangup import Hangup
from sidecar.core.margin import ExchangeRate
from sidecar.core.numbers import BilledNumber
from sidecar.core.policy import Account
from sidecar.core.rating import RatingTerms
from sidecar.core.servers import Server
from sidecar.core.tariff import SURCHARGE, Deck, Rate
from sidecar.core.terms import DeadPeerBilling, DialogState, LegName, Money, RouteFailure, Word
from sidecar.core.urns import is_emergency


class Phase(Word):
    """Where the call is on its way; `decide.TABLE` says which events each phase knows."""

    ADMITTING = "admitting"  # the admitted entry is being written
    ROUTING = "routing"  # leg B's INVITE is out
    ANSWERING = "answering"  # B's 2xx is held, the answered entry is being written
    TALKING = "talking"  # our 2xx was let go
    KEPT = "kept"  # the bridge has let go of it, for the next start to take up (core/keeping)
    ENDING = "ending"  # the first cause is known; the record waits for the legs, a second at the most
    AWAITING_RETRY = "awaiting_retry"  # a 401, 407 or 422 was relayed: the caller may try the same call again
    ENDED = "ended"  # the record was handed to the store; legs may still close


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """One moment on both clocks: durations come from `mono_ns`, what people read from `wall_ns`."""

    mono_ns: int
    wall_ns: int


class Pricing(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one side of the call costs, frozen when that side began; the charge is computed from this
    alone."""

    number: BilledNumber
    terms: RatingTerms
    rate: Rate | None = None  # None: no rate found, the call is carried unrated
    deck_revision: str | None = None
    candidates: tuple[str, ...] = ()  # prefixes that could apply, the longest first: that of `rate`
    free: bool = False  # the billed number is on the FREE list
    blocked: bool = False  # the row that matches is blocked: no rate, and no call either


def pricing_of(
    number: BilledNumber,
    terms: RatingTerms,
    deck: Deck | None,
    at: datetime,
    caller: RatedCaller | None = None,
) -> Pricing:
    """What a deck says of a number at `at` (aware); None: of a caller that nothing is known of."""
    found: tuple[Rate, ...] = ()
    if deck is not None and number.billed is not None:
        found = deck.candidates(number.billed, at, SURCHARGE if caller is None else caller.looked_up)
    return Pricing(
        number=number,
        terms=terms,
        rate=found[0] if found and not found[0].blocked else None,
        candidates=tuple(rate.prefix for rate in found),
        deck_revision=deck.revision if deck is not None else None,
        blocked=bool(found) and found[0].blocked,
    )


class Attempt(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    number: int  # from 1
    gateway: str
    server: Server | None = None  # where the gateway's host is a name: the one that the call went to
    target: str
    sent_user: str
    sent_caller: str = ""  # the user of From; empty: as received
    leg: LegIdentity
    buy: Pricing | None = None  # None: the gateway has no buy deck
    exchange: ExchangeRate | None = None  # from the currency bought in to the one sold in, where they differ
    started: Stamp
    ended: Stamp | None = None
    heard_code: int = 0  # 180 once it rang, else the highest provisional; 100 is known only where it failed
    sip_code: int = 0
    failure: RouteFailure | None = None
    reasons: tuple[str, ...] = ()
    late_answer: Stamp | None = None
    branches: tuple[Branch, ...] = ()  # where there is more than one
    dropped_tags: tuple[str, ...] = ()  # To tags whose 2xx got ACK and BYE


class DeadPeer(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The side that was gone, and what is billed of the call."""

    leg_name: LegName
    asked: tuple[str, ...]
    heard: str
    heard_at: Stamp | None = None
    billing: DeadPeerBilling = DeadPeerBilling.LAST_LIFE


class Recovery(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Of a call that an earlier boot left open; see core/recovery."""

    last_known: Stamp  # it was up: the last heartbeat of its boot, or what its entry itself proves
    released: Stamp | None = None  # our BYE: the first, where this boot is killed too
    ended_not_after: Stamp | None = None  # None: `Call.ended` is no mere lower bound
    shift_ns: int = 0  # see recovery.clock_shift


class Kept(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Of a call that the next start is to take up."""

    at: Stamp
    state: KeptState


class Redirect(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a 3xx sends the call: a gateway of ours, and the number to send there."""

    gateway: str
    user: str


class Call(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    call_id: UUID
    boot_id: str
    settings_revision: int | None = None  # of the policy that it began under
    bridge_id: int
    phase: Phase
    invite: InviteReceived
    account: Account
    pricing: Pricing
    caller: RatedCaller | None = None  # None: of an earlier version
    emergency: bool = False  # its number is one of `emergency_numbers`
    gateways: tuple[str, ...]  # those still to be tried after the current attempt
    redirects: tuple[Redirect, ...] = ()  # to be tried before them
    redirects_taken: int = 0  # in the whole call
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
    dead_peer: DeadPeer | None = None
    recovery: Recovery | None = None
    kept: Kept | None = None
    a_bye_challenge: int = 0  # see LegTerminated
    b_bye_challenge: int = 0
    granted_s: int | None = None  # of talking, in all so far; None: nothing is reserved for it
    reserved: Money | None = None  # for all of that
    extending: Stamp | None = None  # when the books were asked for more; None: no answer is owed
    bounded_by: str | None = None  # the rule that bounds the grant, where it is not the balance
    final: Stamp | None = None  # since when that is the last grant: the books have refused more
    hangup: Hangup | None = None
    ended: Stamp | None = None
    revision: int = 0
    revised: Stamp | None = None  # when what its record says changed last

    @property
    def is_emergency(self) -> bool:
        """It is refused or ended for nothing that is ours to say, and costs nothing (`urns`)."""
        return self.emergency or is_emergency(self.invite.request_uri)


def stamp_of(event: Event) -> Stamp:
    return Stamp(event.mono_ns, event.wall_ns)


def with_attempt(call: Call, attempt: Attempt) -> Call:
    """The call with the attempt of the same number replaced."""
    attempts = tuple(attempt if known.number == attempt.number else known for known in call.attempts)
    return replace(call, attempts=attempts)


def with_dead_peer(call: Call, silence: Silence, at: Stamp, billing: DeadPeerBilling) -> Call:
    heard_at = None
    if silence.heard_ago_ms is not None:
        ago_ns = silence.heard_ago_ms * 1_000_000
        heard_at = Stamp(at.mono_ns - ago_ns, at.wall_ns - ago_ns)
    gone = DeadPeer(
        leg_name=silence.leg_name,
        asked=silence.asked,
        heard=silence.heard,
        heard_at=heard_at,
        billing=billing,
    )
    return replace(call, dead_peer=gone)


def alive(call: Call, leg_name: LegName, stamp: Stamp) -> Call:
    """The call with a sign of life. Of A only those after our 2xx count: they prove that A has got it."""
    if leg_name is LegName.B:
        return replace(call, b_life=stamp)
    return replace(call, a_life=stamp) if call.answered is not None else call


def closed(call: Call, event: LegTerminated) -> Call:
    """The call after the last event of one leg, which may prove that its peer lived until then."""
    if event.alive:
        call = alive(call, event.leg_name, stamp_of(event))
    if event.leg_name is LegName.A:
        state_a = after(call.state_a, Signal.CLOSED)
        return replace(call, state_a=state_a, a_bye_challenge=event.bye_challenge)
    if call.attempts and call.attempts[-1].ended is None:
        attempt = replace(
            call.attempts[-1], ended=stamp_of(event), sip_code=event.sip_code, reasons=event.reasons
        )
        call = with_attempt(call, attempt)
    state_b = after(call.state_b, Signal.CLOSED)
    return replace(call, state_b=state_b, b_bye_challenge=event.bye_challenge)


def legs_closed(call: Call) -> bool:
    return call.state_a is DialogState.TERMINATED and call.state_b is DialogState.TERMINATED
