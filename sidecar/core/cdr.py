"""The CDR, version 1: its one definition. README.md explains it field by field; the JSON Schema is generated
from here.

Expand, never rename: a field may be added, a breaking change is a new topic version. Readers ignore unknown
fields and key on `call_id`, keeping the highest `revision`. Times are UTC with microseconds; amounts are
decimal strings on the wire, null where unrated.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from sidecar.core.identity import name_id
from sidecar.core.margin import ExchangeRate
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


class Party(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One party's number: as received on leg A, as sent on leg B, and as billed (null where it gives no
    rate)."""

    received: str
    sent: str | None = None
    billed: str | None = None


class LegRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    sip_call_id: str
    local_tag: str
    remote_tag: str
    local_address: str
    remote_address: str
    transport: TransportName


class AttemptRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One INVITE on leg B."""

    gateway: str
    target: str
    started_at: datetime
    ended_at: datetime | None = None
    sip_code: int = 0
    failure: RouteFailure | None = None
    q850_cause: int | None = None
    reasons: tuple[str, ...] = ()
    heard_code: int = 0  # 180 once it rang, else the highest provisional heard
    late_answer_at: datetime | None = None  # a 2xx that came too late; it got ACK and BYE


class ChargeStep(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one step of the rate came to; the amount is exact: a decimal or a fraction `n/d`."""

    start_s: int
    billed_s: int
    increment_s: int
    price: Decimal
    per_s: int
    amount: str


class ChargeRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One side of the bill, with all that it is computed from: `explain` computes it again without a deck.
    The fields from `stripped` on are null in records of earlier writers.
    """

    side: ChargeSide
    party: str  # the account (sell) or the gateway (buy)
    rating_status: RatingStatus
    currency: str | None = None
    deck_revision: str | None = None
    strip_rule: str | None = None
    billed_number: str | None = None
    prefix: str | None = None
    destination: str | None = None
    steps: tuple[ChargeStep, ...] = ()
    connect_fee: Decimal | None = None
    billed_s: int = 0
    net: Decimal | None = None
    tax: Decimal | None = None
    total: Decimal | None = None
    rounding: Rounding
    decimals: int
    stripped: int | None = None  # characters off the front of the number, the + of E.164 among them
    added: str | None = None  # digits put there instead
    rate: str | None = None  # the steps of the row that matched, as a deck writes them
    billable_ms: int | None = None
    hold_s: int | None = None
    hold_time_precision_ms: int | None = None
    free_s: int | None = None
    minimum_charge: Decimal | None = None
    fee_unit: Decimal | None = None  # null: 10^-decimals
    tax_rate: Decimal | None = None
    candidates: tuple[str, ...] | None = (
        None  # prefixes that could apply, longest first: `prefix` is the first
    )


class MarginRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Net sold minus net bought. `exchange` is the rate by which another currency was taken into account."""

    currency: str
    amount: Decimal
    exchange: ExchangeRate | None = None


class Cdr(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    version: int = 1
    # identity
    tenant: str
    node: str
    boot_id: str
    store_epoch: str = ""  # the three that only the outbox transaction knows
    seq: int | None = None  # null in a suppressed record: it takes no number
    account_prev_seq: int | None = None
    call_id: UUID
    revision: int = 0
    supersedes: int | None = None
    revision_reason: RevisionReason | None = None
    revised_by: str | None = None  # who had the call re-rated, and why
    revised_text: str | None = None
    void: bool = False
    message_id: UUID
    # who and where
    account: str
    peer: str
    gateway: str | None = None
    leg_a: LegRecord
    leg_b: LegRecord | None = None
    caller: Party
    callee: Party
    session_id: str | None = None
    p_charging_vector: str | None = None
    attempts: tuple[AttemptRecord, ...] = ()
    # when
    invited_at: datetime
    ringing_at: datetime | None = None
    b_answered_at: datetime | None = None
    answered_at: datetime | None = None
    ended_at: datetime
    pdd_ms: int | None = None  # INVITE on A to the first 18x or 2xx of B
    ring_ms: int | None = None
    talk_ms: int = 0
    billable_ms: int = 0
    hold_s: int = 0
    billed_s: int = 0
    # who ended it
    hangup_origin: HangupOrigin
    server_reason: ServerReason | None = None
    detail: Detail
    sip_code: int
    q850_cause: int
    disposition: Disposition
    evidence: Evidence
    confidence: Confidence
    glare: bool = False
    proxy: str | None = None
    operator: str | None = None
    operator_text: str | None = None
    rule: str | None = None  # which rule, where the detail is `rule` and a setting made it
    # what it costs
    recorded: bool = True
    suppressed_by: str | None = None  # the setting that kept the record back
    charges: tuple[ChargeRecord, ...] = ()
    margin: MarginRecord | None = None  # null where a side has no amount, or two currencies no rate
    granted_s: int | None = None
    overrun_ms: int = 0
    # refused_aggregate only: what the minute held
    refused_count: int | None = None
    first_refused_at: datetime | None = None
    last_refused_at: datetime | None = None

    def __post_init__(self) -> None:
        if (self.hangup_origin is HangupOrigin.SERVER) != (self.server_reason is not None):
            raise ValueError("server_reason is present if and only if the hangup origin is server")
        if self.recorded == (self.suppressed_by is not None):
            raise ValueError("a record is either recorded or names what suppressed it")


def message_id(call_id: UUID, revision: int) -> UUID:
    """The id of one revision: derived, so a repeated publication carries the same one."""
    return name_id(call_id, str(revision))
