"""Fraud rules: what is counted, for each of what, over how long, above which count a rule fires, and what it
does then. `fraud` counts.

A rule looks at facts that a record has too, so that what it does to live calls can be found out beforehand
from the calls of the past (`fraud_facts` makes both). It sees no emergency call.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from functools import cached_property
from hashlib import blake2b
from uuid import UUID

import msgspec

from sidecar.core.terms import Word
from sidecar.core.windows import Window

NANO = 10**9
WINDOW_S_MAX = 86_400
DESTINATIONS_MAX = 10_000
NODE_KEY = "*"
ANONYMOUS_CALLER = "anonymous"


class Scope(Word):
    """For each of what a rule counts."""

    ACCOUNT = "account"
    PREFIX = (
        "prefix"  # a destination: one of the rule's prefixes, or the one by which the deck sells the call
    )
    CALLER = "caller"  # the number in From; calls without one are not counted
    NODE = "node"  # all calls of it; of nodes that share a database each by itself


class Measure(Word):
    """What a rule counts."""

    CALLS_AT_ONCE = "calls_at_once"
    CALLS = "calls"  # that begin
    DESTINATIONS = "destinations"  # different numbers that are called
    MINUTES = "minutes"  # that are sold; those of calls that are up too
    MONEY = "money"  # that the account pays, with tax; what calls that are up have come to, too
    SHORT_CALLS = "short_calls"  # their share of the answered calls that ended
    UNBILLED_ENDS = "unbilled_ends"  # answered calls that end as dead_peer or no_ack, of which 0 s are billed


AT_BEGIN = frozenset({Measure.CALLS_AT_ONCE, Measure.CALLS, Measure.DESTINATIONS})
WHILE_UP = frozenset({Measure.MINUTES, Measure.MONEY})


class Mode(Word):
    """What a rule does when it has fired, beside the alarm."""

    WATCH = "watch"
    REFUSE = "refuse"  # new calls, with 403
    END = "end"  # new calls are refused, and those that are up are ended


class FraudRuleError(ValueError):
    """There can be no such rule: `field` is the setting that does not fit the others."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(f"{field}: {text}")
        self.field = field
        self.text = text


class FraudRule(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """`threshold` is in calls, numbers, minutes, units of `currency`, or a share of 1; a rule fires above it.
    One without `prefixes` looks at all calls."""

    name: str
    scope: Scope
    measure: Measure
    threshold: Decimal
    window_s: int = 0  # 0: of CALLS_AT_ONCE alone
    mode: Mode = Mode.WATCH
    lift_after_s: int = 3_600  # after it fired; 0: by hand
    currency: str = ""  # of MONEY alone
    least_calls: int = 20  # SHORT_CALLS: fewer have no share
    short_s: int = 6  # SHORT_CALLS: a call of at most so many seconds of talk
    prefixes: tuple[str, ...] = ()
    hours: tuple[Window, ...] = ()  # of the INVITE; none: any
    except_accounts: tuple[str, ...] = ()
    except_prefixes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        is_at_once, is_share = self.measure is Measure.CALLS_AT_ONCE, self.measure is Measure.SHORT_CALLS
        if is_at_once and self.window_s:
            raise FraudRuleError("window_s", "calls at once have no window")
        if not is_at_once and not 1 <= self.window_s <= WINDOW_S_MAX:
            raise FraudRuleError("window_s", f"{self.measure} needs a window of 1-{WINDOW_S_MAX} s")
        if (self.currency != "") != (self.measure is Measure.MONEY):
            raise FraudRuleError("currency", "is of the measure money alone, which has one")
        if is_share and self.threshold >= 1:
            raise FraudRuleError("threshold", "can never fire: no share is above 1")
        is_amount = is_share or self.measure in WHILE_UP
        if self.threshold < 0 or (not is_amount and self.threshold != self.threshold.to_integral_value()):
            raise FraudRuleError("threshold", f"{self.measure} are counted in whole numbers")
        if self.measure is Measure.DESTINATIONS and self.threshold > DESTINATIONS_MAX:
            raise FraudRuleError("threshold", f"at most {DESTINATIONS_MAX} numbers are kept apart")
        hidden = [one for one in self.prefixes if one.startswith(self.except_prefixes)]
        if self.except_prefixes and self.prefixes and len(hidden) == len(self.prefixes):
            raise FraudRuleError("prefixes", "can never fire: all of them are excepted")

    def __str__(self) -> str:
        above = " ".join(filter(None, (f"{self.measure} > {self.threshold}", self.currency)))
        within = f" in {self.window_s} s" if self.window_s else ""
        lifts = f"for {self.lift_after_s} s" if self.lift_after_s else "until lifted"
        return f"{self.mode} {self.scope}, {above}{within}, {lifts}"

    @cached_property
    def limit(self) -> int | Decimal:
        """The threshold in the units that are counted: calls, ms, billionths of money."""
        match self.measure:
            case Measure.MINUTES:
                return int(self.threshold * 60_000)
            case Measure.MONEY:
                return int(self.threshold * NANO)
            case Measure.SHORT_CALLS:
                return self.threshold
            case _:
                return int(self.threshold)

    @property
    def is_shared(self) -> bool:
        """Whether it counts the calls of all nodes that share a database."""
        return self.scope is not Scope.NODE

    @cached_property
    def identity(self) -> str:
        """The same of rules that are the same in everything."""
        return blake2b(msgspec.json.encode(self), digest_size=8).hexdigest()

    def measured(self, value: int | Decimal) -> Decimal:
        """What was counted, in the units of the threshold."""
        match self.measure:
            case Measure.MINUTES:
                return (Decimal(value) / 60_000).quantize(Decimal("0.001"))
            case Measure.MONEY:
                return (Decimal(value) / NANO).normalize() + Decimal(0)
            case Measure.SHORT_CALLS:
                return Decimal(value).quantize(Decimal("0.001"))
            case _:
                return Decimal(value)

    def key_of(self, facts: Facts) -> str | None:
        """What the call counts for; None: this rule does not look at it."""
        if facts.emergency or facts.account in self.except_accounts:
            return None
        if self.except_prefixes and facts.number.startswith(self.except_prefixes):
            return None
        prefix = facts.prefix
        if self.prefixes:
            if not facts.number.startswith(self.prefixes):
                return None
            prefix = max((one for one in self.prefixes if facts.number.startswith(one)), key=len)
        if self.hours and not any(window.holds_at(facts.invited_at) for window in self.hours):
            return None
        match self.scope:
            case Scope.ACCOUNT:
                return facts.account
            case Scope.PREFIX:
                return prefix
            case Scope.CALLER:
                return facts.caller if facts.caller not in ("", ANONYMOUS_CALLER) else None
            case Scope.NODE:
                return NODE_KEY


class Facts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What rules look at of a call; its live form and its record give the same."""

    call_id: UUID
    account: str
    caller: str
    number: str  # as billed; one that gives no rate as received, without its +
    prefix: str | None  # by which it is sold; None: at no rate
    emergency: bool
    invited_at: datetime
