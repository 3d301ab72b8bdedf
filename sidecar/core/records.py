"""Which record a call owes, and what stands in it: the CDR is computed from the Call alone, plus the record
settings.

The decision is one function, `suppressed_by`, which names the setting that keeps a record back, or nothing:

| hangup origin | setting that is asked                                                                |
|---------------|--------------------------------------------------------------------------------------|
| caller/callee | none: always recorded                                                                |
| server        | the gateway's override, else the reason's, else SERVER_BILLING_RECORD_SERVER_HANG_UP |
| server, fault | record_fault                                                                         |
| any, 0 s      | SERVER_BILLING_RECORD_ZERO_HOLD_TIME as well                                         |
| any           | SERVER_BILLING_NO_CDR_E164S as well: charged as usual, not published                 |

With the server-hangup flag (or record_fault) off there is neither CDR nor charge; what the call would have
cost stands in the journal.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import assert_never

import msgspec

from sidecar.core.amounts import amount_of_e12, exact_text
from sidecar.core.call import Attempt, Call, DeadPeer, Pricing, Stamp
from sidecar.core.cdr import (
    AttemptRecord,
    BranchRecord,
    Cdr,
    ChargeRecord,
    ChargeStep,
    LegRecord,
    LivenessRecord,
    MarginRecord,
    Party,
    message_id,
)
from sidecar.core.events import LegIdentity
from sidecar.core.hangup import BillableUntil, Hangup, disposition, q850_of_reasons
from sidecar.core.margin import ExchangeTable, margin
from sidecar.core.numbers import StripPlan, billed_number, matches_list, number_parameters
from sidecar.core.passport import attestation
from sidecar.core.policy import Gateway, Policy, RecordFlags
from sidecar.core.rating import Charge, Segment, charge, hold_seconds
from sidecar.core.steps import RateStep, format_steps
from sidecar.core.terms import (
    CONFIDENCE_OF,
    ChargeSide,
    Confidence,
    DeadPeerBilling,
    Detail,
    Disposition,
    LegName,
    Money,
    RatingStatus,
    RevisionReason,
    ServerReason,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOTHING = Decimal(0)
_NO_STRIP = StripPlan()
_NO_EXCHANGE = ExchangeTable()
RATE_TEXTS_MAX = 4096
SERVER_HANG_UP = "SERVER_BILLING_RECORD_SERVER_HANG_UP"
ZERO_HOLD_TIME = "SERVER_BILLING_RECORD_ZERO_HOLD_TIME"
ILLEGAL_CALL = "SERVER_BILLING_RECORD_ILLEGAL_CALL"
NO_CDR = "SERVER_BILLING_NO_CDR_E164S"
RECORD_FAULT = "record_fault"


CLOCK_STEP_NS = 1_000_000_000


def utc(wall_ns: int) -> datetime:
    """UTC with microseconds; no float is involved."""
    return _EPOCH + timedelta(0, 0, wall_ns // 1000)


def suppressed_by(
    cause: Hangup, hold_s: int, billed: str | None, gateway: Gateway | None, flags: RecordFlags
) -> str | None:
    """The name of the setting that keeps this record back; None: it is recorded."""
    reason = cause.reason
    if reason is ServerReason.FAULT:
        if not flags.record_fault:
            return RECORD_FAULT
    elif reason is not None and (setting := _server_hang_up(reason, gateway, flags)):
        return setting
    if cause.detail is Detail.SOURCE_NOT_ALLOWED and not flags.record_illegal_call:
        return ILLEGAL_CALL
    if hold_s == 0 and not flags.record_zero_hold_time:
        return ZERO_HOLD_TIME
    if matches_list(billed, flags.no_cdr_numbers):
        return NO_CDR
    return None


def _server_hang_up(reason: ServerReason, gateway: Gateway | None, flags: RecordFlags) -> str | None:
    if gateway is not None and gateway.record_server_hang_up is not None:
        return None if gateway.record_server_hang_up else f"{SERVER_HANG_UP} (gateway {gateway.name})"
    if reason in flags.record_server_hang_up_by_reason:
        return None if flags.record_server_hang_up_by_reason[reason] else f"{SERVER_HANG_UP} ({reason})"
    return None if flags.record_server_hang_up else SERVER_HANG_UP


def is_charged(suppressed: str | None) -> bool:
    """Whether a call is charged although (or because) its record is what it is: only the flags for server
    hangups and faults waive the charge. (Zero-duration and illegal calls have none to waive.)"""
    return suppressed is None or not suppressed.startswith((SERVER_HANG_UP, RECORD_FAULT))


def sell_total(cdr: Cdr) -> Money | None:
    """What the account owes for the call; None where nothing is charged."""
    if not is_charged(cdr.suppressed_by):
        return None
    for line in cdr.charges:
        if line.side is ChargeSide.SELL and line.total and line.currency:
            return Money(line.total, line.currency)
    return None


def _ms(begin: Stamp | None, end: Stamp | None) -> int:
    """Whole milliseconds by the monotonic clock; 0 where one of the two never happened."""
    if begin is None or end is None or end.mono_ns <= begin.mono_ns:
        return 0
    return (end.mono_ns - begin.mono_ns) // 1_000_000


def billable_ms(call: Call, cause: Hangup) -> int:
    """Milliseconds to bill before the grant bounds them: never more than answer to hangup."""
    if call.answered is None or call.a_life is None:
        return 0  # nobody ever proved that A got our 2xx
    match cause.row.until:
        case BillableUntil.NEVER | BillableUntil.END | BillableUntil.GRANT | BillableUntil.RECOVERED:
            until = call.ended
        case BillableUntil.A_LIFE:
            until = call.a_life
        case BillableUntil.LAST_LIFE:
            until = _last_life(call, call.a_life)
        case BillableUntil.LAST_REFRESH:
            until = call.refreshed or call.a_life
        case unexpected:
            assert_never(unexpected)
    return _ms(call.answered, until and _earlier(until, call.ended))


def _last_life(call: Call, a_life: Stamp) -> Stamp:
    b_life = call.b_life or call.b_answered
    gone = call.dead_peer
    if gone is None or gone.billing is DeadPeerBilling.LAST_LIFE:
        return _earlier(a_life, b_life)
    return a_life if gone.leg_name is LegName.B else b_life or a_life


def _earlier(stamp: Stamp, other: Stamp | None) -> Stamp:
    return stamp if other is None or stamp.mono_ns <= other.mono_ns else other


def cdr_of(call: Call, policy: Policy) -> Cdr:
    """The record of a call whose first cause is known. Times of the end, charges and the record decision
    included."""
    cause, ended = call.hangup, call.ended
    if cause is None or ended is None:
        raise ValueError("a call that has not ended has no CDR")
    invite = call.invite
    last = call.attempts[-1] if call.attempts else None
    talk_ms = _ms(call.answered, ended)
    until_ms = billable_ms(call, cause)
    granted_ms = until_ms if call.granted_s is None else min(until_ms, call.granted_s * 1000)
    sell = sell_charge(call, granted_ms)
    hold_s = hold_seconds(granted_ms, call.pricing.terms.hold_time_precision_ms)
    gateway = policy.gateways.get(last.gateway) if last else None
    suppressed = suppressed_by(cause, hold_s, call.pricing.number.billed, gateway, policy.flags)
    headers = dict(invite.headers)
    not_after = call.recovery.ended_not_after if call.recovery is not None else None
    charges = (sell, *_buy_charges(call, last, ended))
    said, attested = number_parameters(invite.request_user), attestation(invite.passports)
    return Cdr(
        tenant=policy.tenant,
        node=policy.node,
        boot_id=call.boot_id,
        call_id=call.call_id,
        revision=call.revision,
        supersedes=call.revision - 1 if call.revision else None,
        revision_reason=RevisionReason.LATE_EVIDENCE if call.revision else None,
        revised_at=utc(call.revised.wall_ns) if call.revised is not None else None,
        message_id=message_id(call.call_id, call.revision),
        settings_revision=call.settings_revision,
        account=call.account.name,
        peer=invite.peer,
        gateway=last.gateway if last else None,
        leg_a=_leg(invite.leg, call.a_bye_challenge),
        leg_b=_leg(last.leg, call.b_bye_challenge) if last else None,
        caller=_caller(call, last),
        caller_basis=call.caller.basis if call.caller else None,
        callee=Party(
            received=invite.request_user,
            sent=last.sent_user if last else None,
            billed=call.pricing.number.billed,
        ),
        routing_number=said.routing_number,
        npdi=said.npdi,
        cic=said.cic,
        emergency=call.is_emergency,
        attest=attested.attest,
        origid=attested.origid,
        session_id=headers.get("session-id"),
        p_charging_vector=headers.get("p-charging-vector"),
        attempts=tuple(_attempt(attempt, invite.leg.local_tag) for attempt in call.attempts),
        invited_at=utc(invite.wall_ns),
        ringing_at=utc(call.ringing.wall_ns) if call.ringing else None,
        b_answered_at=utc(call.b_answered.wall_ns) if call.b_answered else None,
        answered_at=utc(call.answered.wall_ns) if call.answered else None,
        ended_at=utc(ended.wall_ns),
        pdd_ms=_ms(Stamp(invite.mono_ns, invite.wall_ns), call.first_heard) if call.first_heard else None,
        ring_ms=_ms(call.ringing, call.answered or ended) if call.ringing else None,
        talk_ms=talk_ms,
        billable_ms=granted_ms,
        hold_s=hold_s,
        billed_s=sell.billed_s,
        clock_step=_clock_was_set(call, ended),
        hangup_origin=cause.origin,
        server_reason=cause.reason,
        detail=cause.detail,
        sip_code=cause.sip_code,
        q850_cause=cause.q850_cause,
        disposition=disposition(cause, answered=call.answered is not None),
        evidence=cause.evidence,
        confidence=_confidence(call, cause),
        ended_not_before=utc(ended.wall_ns) if not_after else None,
        ended_not_after=utc(not_after.wall_ns) if not_after else None,
        glare=cause.glare,
        proxy=cause.proxy,
        operator=cause.operator,
        operator_text=cause.operator_text,
        max_duration_of=cause.max_duration_of,
        rule=cause.rule,
        liveness=_liveness(call.dead_peer) if call.dead_peer else None,
        recorded=suppressed is None,
        suppressed_by=suppressed,
        charges=charges,
        margin=margin_of(charges, utc(invite.wall_ns), _exchange(last)),
        granted_s=call.granted_s,
        overrun_ms=until_ms - granted_ms,
    )


def _confidence(call: Call, cause: Hangup) -> Confidence:
    """A message dates the end, but for one after a crash: nobody knows for how long it was repeated."""
    dated = CONFIDENCE_OF[cause.evidence]
    is_bound = call.recovery is not None and call.recovery.ended_not_after is not None
    return Confidence.RECOVERED if is_bound and dated is Confidence.OBSERVED else dated


def _clock_was_set(call: Call, ended: Stamp) -> bool:
    """A clock that is slewed moves too: by 500 ppm (adjtimex(2)), 7 s in a call of four hours."""
    known = (call.ringing, call.b_answered, call.answered, call.a_life, call.b_life, call.refreshed)
    stamps = [Stamp(call.invite.mono_ns, call.invite.wall_ns), *filter(None, known), ended]
    offsets_ns = [stamp.wall_ns - stamp.mono_ns for stamp in stamps]
    monos_ns = [stamp.mono_ns for stamp in stamps]
    slewed_ns = (max(monos_ns) - min(monos_ns)) // 1000
    return max(offsets_ns) - min(offsets_ns) >= CLOCK_STEP_NS + slewed_ns


def aggregate(template: Cdr, count: int, first: datetime, last: datetime) -> Cdr:
    """One record for `count` refusals of one source and reason in one minute, made from the first that was
    held back."""
    return msgspec.structs.replace(
        template,
        disposition=Disposition.REFUSED_AGGREGATE,
        refused_count=count,
        first_refused_at=first,
        last_refused_at=last,
        ended_at=last,
    )


def sell_charge(call: Call, billable: int) -> ChargeRecord:
    """The line that the account pays, for `billable` milliseconds."""
    account = call.account
    return charge_line(
        ChargeSide.SELL, account.name, call.pricing, billable, _at(call.answered), account.currency
    )


def _buy_charges(call: Call, last: Attempt | None, ended: Stamp) -> Iterable[ChargeRecord]:
    """What the answering gateway is owed: from B's 2xx to the BYE on B, whatever A got of it."""
    if last is None or last.buy is None:
        return ()
    billable = _ms(call.b_answered, ended)
    return (charge_line(ChargeSide.BUY, last.gateway, last.buy, billable, _at(call.b_answered)),)


def _exchange(last: Attempt | None) -> ExchangeTable:
    """What the call took with it: a table that is read anew meanwhile is for later calls."""
    return ExchangeTable([last.exchange]) if last is not None and last.exchange is not None else _NO_EXCHANGE


def margin_of(charges: Iterable[ChargeRecord], at: datetime, table: ExchangeTable) -> MarginRecord | None:
    """What is left of the sale; None where a side has no amount or the two currencies no rate at `at`."""
    nets: dict[ChargeSide, Money] = {}
    for line in charges:
        if line.net is None or line.currency is None:
            return None
        nets[line.side] = Money(line.net, line.currency)
    if len(nets) != len(ChargeSide):
        return None
    found = margin(nets[ChargeSide.SELL], nets[ChargeSide.BUY], at, table)
    if found is None:
        return None
    return MarginRecord(currency=found.amount.currency, amount=found.amount.amount, exchange=found.exchange)


def _at(stamp: Stamp | None) -> datetime | None:
    return None if stamp is None else utc(stamp.wall_ns)


def charge_line(
    side: ChargeSide,
    party: str,
    pricing: Pricing,
    billable: int,
    answered_at: datetime | None,
    currency: str | None = None,
) -> ChargeRecord:
    """One side's line for `billable` milliseconds. `currency` is that of a line without a rate: an amount of
    0 has one, too."""
    terms, rate, number = pricing.terms, pricing.rate, pricing.number
    hold_s = hold_seconds(billable, terms.hold_time_precision_ms)
    cost: Charge | None = None
    if pricing.free:
        status, total = RatingStatus.FREE, _NOTHING
    elif hold_s == 0:
        status, total = RatingStatus.NOT_BILLABLE, _NOTHING
    elif rate is None:
        status, total = RatingStatus.NO_RATE, None
    else:
        cost = charge(rate, hold_s, terms, answered_at)
        status, total = cost.status, cost.total
    return ChargeRecord(
        side=side,
        party=party,
        rating_status=status,
        currency=rate.currency if rate else currency,
        deck_revision=pricing.deck_revision,
        strip_rule=number.rule,
        billed_number=number.billed,
        prefix=rate.prefix if rate else None,
        destination=rate.destination if rate else None,
        steps=tuple(map(_step, cost.segments)) if cost else (),
        connect_fee=cost.connect_fee if cost else None,
        billed_s=cost.billed_s if cost else 0,
        net=cost.net if cost else total,
        tax=cost.tax if cost else total,
        total=total,
        rounding=terms.rounding,
        decimals=terms.decimals,
        stripped=number.stripped,
        added=number.added,
        rate=_rate_text(rate.steps) if rate else None,
        billable_ms=billable,
        hold_s=hold_s,
        hold_time_precision_ms=terms.hold_time_precision_ms,
        free_s=terms.free_s,
        minimum_charge=terms.minimum_charge,
        fee_unit=terms.fee_unit,
        tax_rate=terms.tax_rate,
        candidates=pricing.candidates,
        caller_class=(rate.caller_prefix or None) if rate else None,
        grace_s=(rate.grace_s or None) if rate else None,
        included_s=rate.included_s if rate else None,
        rate_minimum_charge=rate.minimum_charge if rate else None,
    )


@lru_cache(maxsize=RATE_TEXTS_MAX)  # a pure memo: many calls, few prices
def _rate_text(steps: tuple[RateStep, ...]) -> str:
    return format_steps(steps)


_price = lru_cache(maxsize=RATE_TEXTS_MAX)(amount_of_e12)


@lru_cache(maxsize=RATE_TEXTS_MAX)
def _amount_text(segment: Segment) -> str:
    return exact_text(segment.amount)


def _step(segment: Segment) -> ChargeStep:
    return ChargeStep(
        start_s=segment.start_s,
        billed_s=segment.seconds,
        increment_s=segment.increment_s,
        price=_price(segment.price_e12),
        per_s=segment.per_s,
        amount=_amount_text(segment),
    )


def _leg(leg: LegIdentity, bye_challenge: int) -> LegRecord:
    return LegRecord(
        sip_call_id=leg.sip_call_id,
        local_tag=leg.local_tag,
        remote_tag=leg.remote_tag,
        local_address=leg.local_address,
        remote_address=leg.remote_address,
        transport=leg.transport,
        bye_challenge=bye_challenge or None,
    )


def _attempt(attempt: Attempt, caller_tag: str) -> AttemptRecord:
    return AttemptRecord(
        gateway=attempt.gateway,
        target=attempt.target,
        started_at=utc(attempt.started.wall_ns),
        ended_at=utc(attempt.ended.wall_ns) if attempt.ended else None,
        sip_code=attempt.sip_code,
        failure=attempt.failure,
        q850_cause=q850_of_reasons(attempt.reasons),
        reasons=attempt.reasons,
        address=None if attempt.server is None else str(attempt.server),
        heard_code=attempt.heard_code,
        late_answer_at=utc(attempt.late_answer.wall_ns) if attempt.late_answer else None,
        branches=_branches(attempt, caller_tag) if attempt.branches or attempt.dropped_tags else (),
    )


def _liveness(gone: DeadPeer) -> LivenessRecord:
    return LivenessRecord(
        leg=gone.leg_name,
        asked=gone.asked,
        heard=gone.heard or None,
        heard_at=utc(gone.heard_at.wall_ns) if gone.heard_at else None,
    )


def _branches(attempt: Attempt, caller_tag: str) -> tuple[BranchRecord, ...]:
    """Those that were told of, then those of which only a 2xx is known; none where there is but one.
    `caller_tag` is leg A's: of the one that was answered."""
    found = {
        branch.leg.remote_tag: BranchRecord(
            remote_tag=branch.leg.remote_tag,
            caller_tag=branch.caller.local_tag,
            sip_code=branch.sip_code,
            dropped=branch.leg.remote_tag in attempt.dropped_tags,
        )
        for branch in attempt.branches
    }
    if tag := attempt.leg.remote_tag:
        answered = BranchRecord(remote_tag=tag, caller_tag=caller_tag, sip_code=attempt.sip_code)
        found.setdefault(tag, answered)
    for tag in attempt.dropped_tags:
        found.setdefault(tag, BranchRecord(remote_tag=tag, dropped=True))
    return tuple(found.values()) if len(found) > 1 else ()


def _caller(call: Call, last: Attempt | None) -> Party:
    user = call.invite.from_user
    sent = last.sent_caller if last is not None and last.sent_caller else user
    billed = call.caller.number if call.caller else billed_number(user, _NO_STRIP).billed
    return Party(received=user, sent=sent, billed=billed)
