"""CDRs of any content: every field of the type, text from any script, amounts of any scale."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import strategies as st

from sidecar.core.cdr import AttemptRecord, Cdr, ChargeRecord, ChargeStep, LegRecord, Party
from sidecar.core.terms import (
    ChargeSide,
    Confidence,
    Detail,
    Disposition,
    Evidence,
    HangupOrigin,
    RatingStatus,
    RevisionReason,
    Rounding,
    RouteFailure,
    ServerReason,
    TransportName,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
times = st.integers(0, 4_000_000_000_000_000).map(lambda us: _EPOCH + timedelta(microseconds=us))
amounts = st.builds(
    lambda digits, scale: Decimal(digits).scaleb(-scale), st.integers(-(10**15), 10**15), st.integers(0, 15)
)
counts = st.integers(0, 2**40)


def maybe(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | strategy


legs = st.builds(
    LegRecord,
    sip_call_id=texts,
    local_tag=texts,
    remote_tag=texts,
    local_address=texts,
    remote_address=texts,
    transport=st.sampled_from(TransportName),
)
parties = st.builds(Party, received=texts, sent=maybe(texts), billed=maybe(texts))
attempts = st.builds(
    AttemptRecord,
    gateway=texts,
    target=texts,
    started_at=times,
    ended_at=maybe(times),
    sip_code=st.integers(0, 699),
    failure=maybe(st.sampled_from(RouteFailure)),
    q850_cause=maybe(st.integers(1, 127)),
    reasons=st.lists(texts, max_size=2).map(tuple),
    late_answer_at=maybe(times),
)
steps = st.builds(
    ChargeStep,
    start_s=counts,
    billed_s=counts,
    increment_s=counts,
    price=amounts,
    per_s=counts,
    amount=st.sampled_from(["0.01", "1/3"]),
)
charges = st.builds(
    ChargeRecord,
    side=st.sampled_from(ChargeSide),
    party=texts,
    rating_status=st.sampled_from(RatingStatus),
    currency=maybe(st.sampled_from(["EUR", "USD"])),
    deck_revision=maybe(texts),
    strip_rule=maybe(texts),
    billed_number=maybe(texts),
    prefix=maybe(texts),
    destination=maybe(texts),
    steps=st.lists(steps, max_size=2).map(tuple),
    connect_fee=maybe(amounts),
    billed_s=counts,
    net=maybe(amounts),
    tax=maybe(amounts),
    total=maybe(amounts),
    rounding=st.sampled_from(Rounding),
    decimals=st.integers(0, 9),
)


# Made once: hypothesis checks each new strategy, and for so many fields that takes longer than the drawing.
_fields = st.fixed_dictionaries(
    {
        "tenant": texts,
        "node": texts,
        "boot_id": texts,
        "store_epoch": texts,
        "seq": maybe(counts),
        "account_prev_seq": maybe(counts),
        "call_id": st.uuids(),
        "revision": counts,
        "supersedes": maybe(counts),
        "revision_reason": maybe(st.sampled_from(RevisionReason)),
        "void": st.booleans(),
        "message_id": st.uuids(),
        "account": texts,
        "peer": texts,
        "gateway": maybe(texts),
        "leg_a": legs,
        "leg_b": maybe(legs),
        "caller": parties,
        "callee": parties,
        "session_id": maybe(texts),
        "p_charging_vector": maybe(texts),
        "attempts": st.lists(attempts, max_size=2).map(tuple),
        "invited_at": times,
        "ringing_at": maybe(times),
        "b_answered_at": maybe(times),
        "answered_at": maybe(times),
        "ended_at": times,
        "pdd_ms": maybe(counts),
        "ring_ms": maybe(counts),
        "talk_ms": counts,
        "billable_ms": counts,
        "hold_s": counts,
        "billed_s": counts,
        "detail": st.sampled_from(Detail),
        "sip_code": st.integers(0, 699),
        "q850_cause": st.integers(0, 127),
        "disposition": st.sampled_from(Disposition),
        "evidence": st.sampled_from(Evidence),
        "confidence": st.sampled_from(Confidence),
        "glare": st.booleans(),
        "proxy": maybe(texts),
        "operator": maybe(texts),
        "operator_text": maybe(texts),
        "charges": st.lists(charges, max_size=2).map(tuple),
        "granted_s": maybe(counts),
        "overrun_ms": counts,
        "refused_count": maybe(counts),
        "first_refused_at": maybe(times),
        "last_refused_at": maybe(times),
    }
)
_reasons = st.sampled_from(ServerReason)
_origins = st.sampled_from(HangupOrigin)
_flags: st.SearchStrategy[str | None] = st.none() | texts


@st.composite
def cdrs(draw: st.DrawFn) -> Cdr:
    origin = draw(_origins)
    suppressed_by = draw(_flags)
    return Cdr(
        hangup_origin=origin,
        server_reason=draw(_reasons) if origin is HangupOrigin.SERVER else None,
        recorded=suppressed_by is None,
        suppressed_by=suppressed_by,
        **draw(_fields),
    )
