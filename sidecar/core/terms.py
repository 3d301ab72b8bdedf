"""The glossary: each closed set of words that a CDR, a log line or a setting may use; small value types.

Nothing here decides anything. A word that is not in one of these sets cannot be published: the JSON Schema of
the CDR is generated from them, so a new word appears in the code, in the schema and in the reference
together.

Value types are `msgspec.Struct` rather than dataclasses: the same frozen, keyword-only semantics, but built
about five times faster (a call makes some thirty of them) and decodable with validation, which recovery and
the schema need.
"""

from __future__ import annotations

from decimal import Decimal
from enum import IntEnum, StrEnum

import msgspec


class Word(StrEnum):
    """A word of a closed set. Enum's own hash is a function in Python, and each event asks for several."""

    __hash__ = str.__hash__


class RateBy(Word):
    """Which number is looked up in a deck."""

    DIALLED = "dialled"
    ROUTING_NUMBER = "routing_number"  # `rn` of a number that was ported (RFC 4694), else the one dialled


class CallerBasis(Word):
    """What a caller's number rests on; see core/callers."""

    ASSERTED = "asserted"
    TRUSTED = "trusted"
    NO_NUMBER = "no_number"
    NO_COUNTRY = "no_country"
    FORGEABLE = "forgeable"


class UserPhone(Word):
    """What becomes of `user=phone` in the URIs that a gateway gets."""

    AS_IS = "as_is"
    ADD = "add"
    REMOVE = "remove"


class LegName(Word):
    """A: the caller's dialog, in which we are UAS. B: the callee's, in which we are UAC."""

    A = "a"
    B = "b"

    @property
    def other(self) -> LegName:
        return LegName.B if self is LegName.A else LegName.A


class DialogState(Word):
    """States of an INVITE dialog as RFC 4235 §3.7.1 names them."""

    TRYING = "trying"
    PROCEEDING = "proceeding"
    EARLY = "early"
    CONFIRMED = "confirmed"
    TERMINATED = "terminated"


class SavedLegState(Word):
    """How far a leg of a call of an earlier boot had come, as far as the journal tells."""

    OVER = "over"  # its peer has left it
    EARLY = "early"  # its INVITE has no 2xx
    ANSWERING = "answering"  # A: our 2xx may have left; B: its 2xx may have had no ACK
    ANSWERED = "answered"


class HangupOrigin(Word):
    """Who ended the call. `server` is this node: a limit, a rule, an operator, or a fault of ours."""

    CALLER = "caller"
    CALLEE = "callee"
    SERVER = "server"


class ServerReason(Word):
    """Why the server ended a call: present if and only if the hangup origin is `server`."""

    TIMEOUT = "timeout"
    CREDIT = "credit"
    ADMIN = "admin"
    POLICY = "policy"
    RESOURCE = "resource"
    FAULT = "fault"


class Detail(Word):
    """The closed set of causes; `hangup.TABLE` gives origin, reason and codes of each."""

    BYE = "bye"
    CANCEL = "cancel"
    REJECTED = "rejected"
    RING_TIMEOUT = "ring_timeout"
    MAX_DURATION = "max_duration"
    NO_ACK = "no_ack"
    DEAD_PEER = "dead_peer"
    SESSION_TIMER = "session_timer"
    GRANT_USED_UP = "grant_used_up"
    NO_CREDIT = "no_credit"
    SOURCE_NOT_ALLOWED = "source_not_allowed"
    NUMBER_BLOCKED = "number_blocked"
    DESTINATION_BLOCKED = "destination_blocked"
    ACCOUNT_DISABLED = "account_disabled"
    NO_RATE = "no_rate"
    RULE = "rule"
    OPERATOR = "operator"
    DRAIN = "drain"
    NODE_FULL = "node_full"
    PEER_LIMIT = "peer_limit"
    ACCOUNT_LIMIT = "account_limit"
    GATEWAY_LIMIT = "gateway_limit"
    NO_ROUTE = "no_route"
    GATEWAY_UNREACHABLE = "gateway_unreachable"
    LEDGER_UNREACHABLE = "ledger_unreachable"
    TRANSPORT_LOST = "transport_lost"
    JOURNAL = "journal"
    INTERNAL_ERROR = "internal_error"
    CRASH_RECOVERED = "crash_recovered"


class MaxDurationOf(Word):
    """Whose maximum duration it was that ended a call."""

    NODE = "node"
    ACCOUNT = "account"
    GATEWAY = "gateway"
    RATE = "rate"


class Disposition(Word):
    ANSWERED = "answered"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    NO_ANSWER = "no_answer"
    REFUSED = "refused"
    REFUSED_AGGREGATE = "refused_aggregate"
    FAILED = "failed"


class Evidence(Word):
    """What the end of the call is known from."""

    MESSAGE = "message"
    TIMER = "timer"
    PROVED = "proved"
    HEARTBEAT = "heartbeat"


class Confidence(Word):
    """How far the times of the end can be trusted."""

    OBSERVED = "observed"
    RECOVERED = "recovered"
    INFERRED = "inferred"


CONFIDENCE_OF: dict[Evidence, Confidence] = {
    Evidence.MESSAGE: Confidence.OBSERVED,
    Evidence.TIMER: Confidence.OBSERVED,
    Evidence.PROVED: Confidence.RECOVERED,
    Evidence.HEARTBEAT: Confidence.INFERRED,
}


class RatingStatus(Word):
    RATED = "rated"
    FREE = "free"
    NO_RATE = "no_rate"
    NOT_BILLABLE = "not_billable"


class ChargeSide(Word):
    """`sell`: what the account pays us. `buy`: what we pay the gateway."""

    SELL = "sell"
    BUY = "buy"


class Rounding(Word):
    UP = "up"
    DOWN = "down"
    HALF_UP = "half_up"
    HALF_EVEN = "half_even"


class RevisionReason(Word):
    LATE_EVIDENCE = "late_evidence"
    RERATE = "rerate"
    OPERATOR = "operator"


class DeadlineKind(IntEnum):
    """What a native timer was armed for, or found by itself. The numbers are the ones the bridge uses."""

    RING = 1  # no answer within ring_timeout_s of the first attempt
    MAX_DURATION = 2  # counted from our 2xx on leg A
    GRANT = 3  # counted from our 2xx on leg A
    HOLD = 4  # B's 2xx, or a decision that we owed, was held longer than answer_hold_ms_max
    NO_ACK = 5  # our 2xx on leg A was not acknowledged within 64*T1 (RFC 3261 §13.3.1.4)
    DEAD_PEER = 6  # nothing was heard of a side that was asked
    SESSION_TIMER = 7  # RFC 4028 §10: no refresh within the session interval
    EXTEND = 8  # counted from our 2xx on leg A: the grant will soon be used up; the call goes on


class LivenessCheck(Word):
    """How a side of a call shows that it is there."""

    ANY = "any"  # whatever is heard of it; it is asked by OPTIONS, and then once more by UPDATE or INFO
    OPTIONS = "options"  # by an answer to our OPTIONS, and nothing else
    OFF = "off"  # it is not asked, and never given up


class NatCheck(Word):
    AUTO = "auto"
    OFF = "off"


class LargeUdp(Word):
    """By which transport a request of more than 1300 bytes goes to a gateway that is reached by UDP."""

    TCP = "tcp"  # and by UDP where no connection is there in time
    UDP = "udp"


class DeadPeerBilling(Word):
    """Until when a call is billed that ended because a side was gone."""

    LAST_LIFE = "last_life"  # the last moment at which both sides are known to have lived
    OTHER_SIDE = "other_side"  # the last life of the other side


class RouteFailure(Word):
    """Why an attempt on leg B ended without a 2xx."""

    FINAL_RESPONSE = "final_response"  # a final response >= 300 arrived
    # not even a 100 within no_response_failover_s, or nothing but a 100 within no_progress_failover_s
    NO_RESPONSE = "no_response"
    UNREACHABLE = "unreachable"  # the request could not be sent, or the transport broke
    TRANSACTION_TIMEOUT = "transaction_timeout"  # Timer B (RFC 3261 §17.1.1.2)


class Redirection(Word):
    """What is done with a 3xx of B: the caller hears 480, or is sent there itself, or we go there."""

    REJECT = "reject"
    PASS = "pass"  # noqa: S105  # no password
    FOLLOW = "follow"


class Forks(Word):
    """What the caller is shown of several user agents behind one gateway (RFC 3261 §13.2.2.4)."""

    PASS = "pass"  # noqa: S105  # no password
    SINGLE = "single"


class TransportName(Word):
    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


class CallerIdForm(StrEnum):
    """How a gateway is told who calls; core/caller_id has the table."""

    PASS = "pass"  # noqa: S105 - no password
    FROM = "from"
    PAI = "pai"
    RPID = "rpid"


class NumberForm(StrEnum):
    """How the caller's number is written to a gateway."""

    AS_IS = "as_is"
    PLUS = "plus"
    NO_PLUS = "no_plus"


class Money(msgspec.Struct, frozen=True, gc=False):
    """An exact amount in one currency (ISO 4217 code). Amounts of two currencies are never added."""

    amount: Decimal
    currency: str

    def __add__(self, other: Money) -> Money:
        if other.currency != self.currency:
            raise ValueError(f"cannot add {other.currency} to {self.currency}")
        return Money(self.amount + other.amount, self.currency)
