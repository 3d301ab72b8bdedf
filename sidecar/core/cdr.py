"""The CDR, version 1: its one definition, each field with its meaning. The JSON Schema and the reference
(`sidecar reference record`) are made of it.

Expand, never rename: a field may be added, a breaking change is a new topic version. Readers ignore unknown
fields and key on `call_id`, keeping the highest `revision`. Times are UTC with microseconds; amounts are
decimal strings on the wire, null where unrated.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

import msgspec

from sidecar.core.identity import name_id
from sidecar.core.margin import ExchangeRate
from sidecar.core.terms import (
    CallerBasis,
    ChargeSide,
    Confidence,
    Detail,
    Disposition,
    Evidence,
    HangupOrigin,
    LegName,
    MaxDurationOf,
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

    received: Annotated[str, "As it came on leg A."]
    sent: Annotated[str | None, "As it left on leg B."] = None
    billed: Annotated[str | None, "As it was rated; null where it gives no rate."] = None


class LegRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    sip_call_id: Annotated[str, "Call-ID."]
    local_tag: Annotated[str, "Our tag."]
    remote_tag: Annotated[str, "Theirs."]
    local_address: Annotated[str, "Our `address:port`."]
    remote_address: Annotated[str, "Theirs."]
    transport: Annotated[TransportName, "`udp`, `tcp` or `tls`."]
    bye_challenge: Annotated[
        int | None,
        "401 or 407: it challenged our BYE, and we have no password that it takes; it may think that the "
        "call is up.",
    ] = None


class BranchRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One user agent that answered the INVITE of an attempt, by its To tag."""

    remote_tag: Annotated[str, "Its To tag."]
    caller_tag: Annotated[str | None, "Ours on leg A, in its place; null: the caller was not told of it."] = (
        None
    )
    sip_code: Annotated[int, "The response that made its dialog; 0: a 2xx that was not relayed."] = 0
    dropped: Annotated[bool, "Its 2xx came second, or too late: it got ACK and BYE."] = False


class AttemptRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One INVITE on leg B."""

    gateway: Annotated[str, "The gateway."]
    target: Annotated[str, "The Request-URI."]
    started_at: Annotated[datetime, "The INVITE."]
    ended_at: Annotated[datetime | None, "Its failure."] = None
    sip_code: Annotated[int, "The final response; 0: none came."] = 0
    failure: Annotated[
        RouteFailure | None,
        "`final_response`, `no_response` (nothing, or nothing but a 100, in time), `unreachable` or "
        "`transaction_timeout`.",
    ] = None
    q850_cause: Annotated[int | None, "Of a Reason header that came with it."] = None
    reasons: Annotated[tuple[str, ...], "Reason headers, as received."] = ()
    address: Annotated[
        str | None, "Where it went, as `udp:192.0.2.1:5060`, if the gateway's `host` is a name."
    ] = None
    heard_code: Annotated[
        int,
        "180 once it rang, else the highest provisional; 0: none. 100 is told only of attempts that "
        "failed or rang too long.",
    ] = 0
    late_answer_at: Annotated[
        datetime | None, "A 2xx that came too late, or of a second branch: it got ACK and BYE."
    ] = None
    branches: Annotated[
        tuple[BranchRecord, ...],
        "Where more than one user agent answered the INVITE: each of them. The one whose 2xx was relayed has "
        "the tags of `leg_a` and `leg_b`.",
    ] = ()


class LivenessRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Why a side of the call was held to be gone."""

    leg: Annotated[LegName, "Which: `a`, the caller's, or `b`, the callee's."]
    asked: Annotated[
        tuple[str, ...],
        "The methods that it was asked by, and did not answer; or the one that its 408 or 481 answered.",
    ]
    heard: Annotated[str | None, "What was last heard of it in its dialog, as `INFO` or `200 OPTIONS`."] = (
        None
    )
    heard_at: Annotated[datetime | None, "And when."] = None


class ChargeStep(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one step of the rate came to; the amount is exact: a decimal or a fraction `n/d`."""

    start_s: Annotated[int, "From this billed second on."]
    billed_s: Annotated[int, "Seconds charged in this step."]
    increment_s: Annotated[int, "In increments of so many."]
    price: Annotated[Decimal, "Price."]
    per_s: Annotated[int, "Per so many seconds."]
    amount: Annotated[str, "Exact, unrounded: a decimal or a fraction `n/d`."]


class ChargeRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One side of the bill, with all that it is computed from: `explain` computes it again without a deck.
    The fields from `stripped` on are null in records of earlier writers.
    """

    side: Annotated[ChargeSide, "`sell` (the account pays) or `buy` (the gateway is paid)."]
    party: Annotated[str, "The account or the gateway."]
    rating_status: Annotated[
        RatingStatus, "`rated`, `free` (FREE list), `no_rate`, or `not_billable` (0 s, grace)."
    ]
    currency: Annotated[str | None, "ISO 4217."] = None
    deck_revision: Annotated[str | None, "The deck that was in force."] = None
    strip_rule: Annotated[
        str | None,
        "What was stripped by: `e164`, `rule:NAME`, `account`, `peer` or `global`; or which number it is: "
        "`routing_number`, or `phone_context` (local to a domain: it has no rate).",
    ] = None
    billed_number: Annotated[str | None, "The number that was looked up."] = None
    prefix: Annotated[str | None, "The prefix that matched."] = None
    destination: Annotated[str | None, "The deck's name for it."] = None
    steps: Annotated[tuple[ChargeStep, ...], "How the amount came about."] = ()
    connect_fee: Annotated[Decimal | None, "Charged once."] = None
    billed_s: Annotated[int, "Seconds in whole increments."] = 0
    net: Annotated[Decimal | None, "Rounded, once."] = None
    tax: Annotated[Decimal | None, "Exact: net × rate."] = None
    total: Annotated[Decimal | None, "What is owed; null where unrated."] = None
    rounding: Annotated[Rounding, "`up`, `down`, `half_up` or `half_even`."]
    decimals: Annotated[int, "Of the rounding."]
    stripped: Annotated[
        int | None, "Characters taken off the front of the number, the `+` of E.164 among them."
    ] = None
    added: Annotated[str | None, "Digits put in front instead."] = None
    rate: Annotated[str | None, "The steps of the matched row, as a deck writes them."] = None
    billable_ms: Annotated[int | None, "Milliseconds that this side bills."] = None
    hold_s: Annotated[int | None, "The same in whole seconds."] = None
    hold_time_precision_ms: Annotated[
        int | None, "From so many milliseconds on the next second is billed."
    ] = None
    free_s: Annotated[int | None, "The first seconds, not billed."] = None
    minimum_charge: Annotated[Decimal | None, "The least net amount."] = None
    fee_unit: Annotated[Decimal | None, "The net amount is a multiple of it; null: of 10^-decimals."] = None
    tax_rate: Annotated[Decimal | None, "`0.19` is 19 %."] = None
    candidates: Annotated[
        tuple[str, ...] | None,
        "The prefixes of the deck that could apply, the longest first: that is `prefix`; empty text: "
        "the default row.",
    ] = None
    caller_class: Annotated[
        str | None,
        "The callers that the row is for: how their numbers begin, or `surcharge`; null: any caller.",
    ] = None
    grace_s: Annotated[int | None, "Up to so many seconds the row charges nothing; null: none."] = None
    included_s: Annotated[int | None, "The row's seconds in place of `free_s`; null: none."] = None
    rate_minimum_charge: Annotated[
        Decimal | None, "The row's minimum in place of `minimum_charge`; null: none."
    ] = None


class MarginRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Net sold minus net bought. `exchange` is the rate by which another currency was taken into account."""

    currency: Annotated[str, "That of the sale."]
    amount: Annotated[Decimal, "Net sold minus net bought, exact."]
    exchange: Annotated[
        ExchangeRate | None, "The exchange rate that was needed, of `billing.exchange_rates` at the INVITE."
    ] = None


class Cdr(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    version: Annotated[int, "1."] = 1
    # identity
    tenant: Annotated[str, "Whose node it was."]
    node: Annotated[str, "The node."]
    boot_id: Annotated[str, "One start of the node."]
    store_epoch: Annotated[str, "One life of the journal; new when it is created or restored."] = ""
    seq: Annotated[
        int | None, "Number within the epoch, gapless over published records; null in a suppressed one."
    ] = None
    account_prev_seq: Annotated[int | None, "The number before this one of the same account."] = None
    call_id: Annotated[UUID, "The call. Ours: several callers may use one SIP Call-ID."]
    revision: Annotated[int, "0, then 1, 2, ...: the highest holds."] = 0
    supersedes: Annotated[int | None, "The revision that this one replaces."] = None
    revision_reason: Annotated[RevisionReason | None, "`late_evidence`, `rerate` or `operator`."] = None
    revised_at: Annotated[datetime | None, "When this revision was made."] = None
    revised_by: Annotated[str | None, "Who had the call re-rated."] = None
    revised_text: Annotated[str | None, "And why."] = None
    void: Annotated[bool, "The call is to be forgotten: nothing is charged."] = False
    message_id: Annotated[UUID, "Of this revision; the same when it is sent again."]
    settings_revision: Annotated[
        int | None,
        "The settings that the call began under: counted by the store, at each start and each reload that "
        "changed something (`sidecar audit list`). Null: of an earlier version.",
    ] = None
    # who and where
    account: Annotated[str, "Whose call it was; `_` where nobody claimed it."]
    peer: Annotated[str, "The peer group that the INVITE came from."]
    gateway: Annotated[str | None, "The gateway of the last attempt."] = None
    leg_a: Annotated[LegRecord, "Caller to us."]
    leg_b: Annotated[LegRecord | None, "Us to callee: the last attempt."] = None
    caller: Annotated[
        Party, "The caller's number, from the From header; `billed`: as a peer that may asserts it."
    ]
    caller_basis: Annotated[
        CallerBasis | None,
        "What `caller.billed` rests on, for decks that ask who calls: it is `asserted` by a peer that may, "
        "or the From of one that is `trusted`; or the caller is of the surcharge class: `no_number`, "
        "`no_country` that it could be of, or a `forgeable` From.",
    ] = None
    callee: Annotated[Party, "The called number, from the Request-URI."]
    routing_number: Annotated[str | None, "`rn` of the called number (RFC 4694), as received."] = None
    npdi: Annotated[bool, "Its `npdi`: somebody has looked up whether it is ported."] = False
    cic: Annotated[str | None, "Its `cic`: the carrier, as received."] = None
    emergency: Annotated[
        bool, "To an emergency service, `urn:service:sos` (RFC 5031): free, and under no limit."
    ] = False
    attest: Annotated[
        str | None, "Of the caller's Identity header (RFC 8588): `A`, `B` or `C`. Nobody has verified it."
    ] = None
    origid: Annotated[str | None, "Its `origid`: where the call comes from. Nobody has verified it."] = None
    session_id: Annotated[str | None, "RFC 7989, as received."] = None
    p_charging_vector: Annotated[str | None, "RFC 7315, as received."] = None
    attempts: Annotated[tuple[AttemptRecord, ...], "Every INVITE on leg B, in order."] = ()
    # when
    invited_at: Annotated[datetime, "The INVITE on leg A."]
    ringing_at: Annotated[datetime | None, "The first 180 of B."] = None
    b_answered_at: Annotated[datetime | None, "B's 2xx: what is bought begins."] = None
    answered_at: Annotated[datetime | None, "Our 2xx left on A: what is sold begins."] = None
    ended_at: Annotated[datetime, "The first cause of the end."]
    ended_not_before: Annotated[
        datetime | None,
        "After a crash: the call ended in this interval, of which `ended_at` is the start; null where its "
        "end is known.",
    ] = None
    ended_not_after: Annotated[datetime | None, "The end of the interval."] = None
    pdd_ms: Annotated[int | None, "Post-dial delay: the INVITE on A to the first 18x or 2xx of B."] = None
    ring_ms: Annotated[int | None, "The first 180 to the answer or the end."] = None
    talk_ms: Annotated[int, "Answer to hangup."] = 0
    billable_ms: Annotated[
        int, "What of it is sold: until the moment that the reference of hangups names, at most the grant."
    ] = 0
    hold_s: Annotated[int, "The same in whole seconds, by the hold-time precision."] = 0
    billed_s: Annotated[int, "After free seconds, in whole increments."] = 0
    clock_step: Annotated[
        bool,
        "The wall clock was set during the call, by a second or more: its times do not say how long it took.",
    ] = False
    # who ended it
    hangup_origin: Annotated[HangupOrigin, "Who ended it: `caller`, `callee` or `server`."]
    server_reason: Annotated[
        ServerReason | None,
        "Why the server did: `timeout`, `credit`, `admin`, `policy`, `resource` or `fault`; present "
        "if and only if the origin is `server`.",
    ] = None
    detail: Annotated[Detail, "The cause: see the reference of hangups."]
    sip_code: Annotated[int, "What A was told, or B's own final response."]
    q850_cause: Annotated[int, "ITU-T Q.850."]
    disposition: Annotated[
        Disposition,
        "`answered`, `rejected`, `cancelled`, `no_answer`, `refused` (never admitted), "
        "`refused_aggregate` (many refusals of one source in a minute) or `failed`.",
    ]
    evidence: Annotated[
        Evidence,
        "What the end is known from: `message`, `timer`, `proved` (both legs said after a crash that "
        "they were up) or `heartbeat`.",
    ]
    confidence: Annotated[
        Confidence, "How far its time is to be trusted: `observed`, `recovered` or `inferred`."
    ]
    glare: Annotated[bool, "Messages of both sides crossed."] = False
    proxy: Annotated[str | None, "The trusted proxy that said it ended the call."] = None
    operator: Annotated[str | None, "Who ended it by command."] = None
    operator_text: Annotated[str | None, "And why."] = None
    max_duration_of: Annotated[
        MaxDurationOf | None,
        "Where the detail is `max_duration`: whose it was, the least of all, `node`, `account`, `gateway` or "
        "`rate`.",
    ] = None
    rule: Annotated[
        str | None,
        "Which rule refused or ended it: a setting, with the pattern that matched, `spending_limit`, or the "
        "name of a fraud rule.",
    ] = None
    liveness: Annotated[
        LivenessRecord | None, "Where the detail is `dead_peer`: what was asked, and what was last heard."
    ] = None
    # what it costs
    recorded: Annotated[bool, "False in a suppressed record, which never leaves the journal."] = True
    suppressed_by: Annotated[str | None, "The setting that kept it back."] = None
    charges: Annotated[tuple[ChargeRecord, ...], "What the account pays, and what the gateway is paid."] = ()
    margin: Annotated[
        MarginRecord | None,
        "What is left; null where a side has no amount, or the two currencies have no exchange rate.",
    ] = None
    granted_s: Annotated[int | None, "Prepaid: the seconds that were reserved."] = None
    overrun_ms: Annotated[int, "Talk beyond the grant: not billed."] = 0
    # refused_aggregate only: what the minute held
    refused_count: Annotated[int | None, "`refused_aggregate` only: how many."] = None
    first_refused_at: Annotated[datetime | None, "The first of them."] = None
    last_refused_at: Annotated[datetime | None, "The last."] = None

    def __post_init__(self) -> None:
        if (self.hangup_origin is HangupOrigin.SERVER) != (self.server_reason is not None):
            raise ValueError("server_reason is present if and only if the hangup origin is server")
        if self.recorded == (self.suppressed_by is not None):
            raise ValueError("a record is either recorded or names what suppressed it")


def message_id(call_id: UUID, revision: int, epoch: str = "") -> UUID:
    """The id of one revision: derived, so a repeated publication carries the same one. `epoch`: where a
    record of the call may have been published and lost, and this one may say something else."""
    return name_id(call_id, f"{revision}/{epoch}" if epoch else str(revision))
