"""What is said on the control socket about records: `cdr.*`, `dead-letter.*` and `rerate.apply`."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec

from sidecar.core.cdr import ChargeRecord
from sidecar.core.terms import Detail, HangupOrigin, ServerReason
from sidecar.wire.control import (
    ROWS_MAX,
    AccountName,
    Amount,
    Currency,
    GatewayName,
    Moment,
    NameOnWire,
    NumberPattern,
    OperatorName,
    Params,
    Reason,
    Result,
    Rows,
    Seq,
)

REPLAYED_MAX = 500  # numbers of one request: below the queue that a broker keeps for a subscriber
RERATED_MAX = 16  # calls of one request: live ones do not wait for more


class DeadLetterListParams(Params, frozen=True, kw_only=True):
    after_seq: Seq = 0
    limit: Rows = 100


class DeadLetterShowParams(Params, frozen=True, kw_only=True):
    seq: Seq


class DeadLetterRetryParams(Params, frozen=True, kw_only=True):
    """Without `seqs`: all of them."""

    operator: OperatorName
    seqs: Annotated[tuple[Seq, ...], msgspec.Meta(min_length=1, max_length=ROWS_MAX)] | None = None


class DeadLetterDropParams(Params, frozen=True, kw_only=True):
    operator: OperatorName
    text: Reason
    seqs: Annotated[tuple[Seq, ...], msgspec.Meta(min_length=1, max_length=ROWS_MAX)]


class Restated(Params, frozen=True, kw_only=True):
    """One line of the charges of a call, anew: `charge` as in a CDR. `revision` is the one that it was made
    from."""

    call_id: UUID
    revision: Annotated[int, msgspec.Meta(ge=0)]
    charge: ChargeRecord


class RerateApplyParams(Params, frozen=True, kw_only=True):
    operator: OperatorName
    text: Reason
    calls: Annotated[tuple[Restated, ...], msgspec.Meta(min_length=1, max_length=RERATED_MAX)]


class CdrShowParams(Params, frozen=True, kw_only=True):
    call_id: UUID


class CdrTailParams(Params, frozen=True, kw_only=True):
    """The last `limit` records of all nodes; with `cursor` the first `limit` of those that came since. With
    `after_seq` those of this node alone, the first `limit` behind that number."""

    cursor: Annotated[str, msgspec.Meta(max_length=100_000, pattern="^[0-9:,;-]+$")] | None = None
    after_seq: Seq | None = None
    limit: Rows = 20


class CdrReplayParams(Params, frozen=True, kw_only=True):
    """Publish records again, on their own topics, marked as replayed: numbers from `from_seq`, or from the
    first of a call that ended at `since` or later, to `to_seq` or the last. At most `limit` numbers; for the
    rest ask again from `next_seq`."""

    operator: OperatorName
    from_seq: Seq | None = None
    to_seq: Seq | None = None
    since: Moment | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=REPLAYED_MAX)] = REPLAYED_MAX


class CdrSearchParams(Params, frozen=True, kw_only=True):
    """All that are given must hold. The period is half-open and asks when the call ended. `number` is the
    caller's or the callee's, as received or as billed. The latest first; `cursor` continues a search.
    `suppressed` asks for the records that were kept back instead of those that were published. `charge_min`
    and `charge_max` bound what the account pays, in `currency`: an answer may then hold fewer records than
    `limit`, and yet a cursor, because only so many are looked at for one answer. `sip_call_id` is of either
    leg, `tag` a From or To tag of either, `session_id` a Session-ID (RFC 7989) or half of it."""

    origin: HangupOrigin | None = None
    reason: ServerReason | None = None
    detail: Detail | None = None
    account: AccountName | None = None
    number: NumberPattern | None = None
    gateway: GatewayName | None = None
    ended_from: Moment | None = None
    ended_to: Moment | None = None
    suppressed: bool = False
    currency: Currency | None = None
    charge_min: Amount | None = None
    charge_max: Amount | None = None
    sip_call_id: NameOnWire | None = None
    tag: NameOnWire | None = None
    session_id: NameOnWire | None = None
    cursor: Annotated[str, msgspec.Meta(pattern="^[0-9]{1,19}([.][0-9]{1,19}){1,2}$")] | None = None
    limit: Rows = 100


class DeadLetterShown(Result, frozen=True, kw_only=True):
    """`reason` is the broker's, with its code of MQTT 5."""

    seq: int
    died_at: datetime
    reason_code: int
    reason: str
    bytes: int
    call_id: UUID
    account: str


class DeadLetterList(Result, frozen=True, kw_only=True):
    letters: tuple[DeadLetterShown, ...]  # by seq


class DeadLetterRecord(Result, frozen=True, kw_only=True):
    letter: DeadLetterShown
    record: msgspec.Raw


class DeadLettersDone(Result, frozen=True, kw_only=True):
    count: int  # of those that were dead letters


class RerateOutcome(StrEnum):
    REVISED = "revised"
    CHANGED = "changed"  # there is a later revision, or none at all
    BUSY = "busy"  # the call is not quite over: late evidence may still come


class RerateApplied(Result, frozen=True, kw_only=True):
    outcomes: tuple[RerateOutcome, ...]  # in the order of the calls


class CdrRevisions(Result, frozen=True, kw_only=True):
    """Records are JSON, by the schema in sidecar/wire."""

    records: tuple[msgspec.Raw, ...]  # by revision; the last one holds


class CdrTail(Result, frozen=True, kw_only=True):
    records: tuple[msgspec.Raw, ...]
    next_seq: int  # what to give as `after_seq` next, for those of this node alone
    cursor: str | None = None  # what to give as `cursor` next; null after `after_seq`


class CdrReplayed(Result, frozen=True, kw_only=True):
    """What became of the numbers up to `to_seq`. Ranges are [first, last]."""

    sent: int
    to_seq: int
    next_seq: int | None  # null: there is no more
    waiting: tuple[tuple[int, int], ...]  # they wait for the broker, and come by themselves
    dead_letters: tuple[tuple[int, int], ...]  # the broker would not take them
    absent: tuple[tuple[int, int], ...]  # the journal does not hold them


class CdrFound(Result, frozen=True, kw_only=True):
    """It may hold fewer records than were asked for, and yet a cursor to go on by: so much was looked at."""

    records: tuple[msgspec.Raw, ...]
    cursor: str | None  # null: there is no more
