"""Alarms: what people should hear of at once and no record tells. Each is raised once for what it says, not
once for each call that it concerns.

A kind of alarm is a struct here: its name is the last part of the topic, its fields are the content. The log,
a metric and the audit table have every alarm too; the broker has it as an event, which is not numbered and
not sent again.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, ClassVar
from uuid import UUID

import msgspec

from sidecar.core.audit import NODE, Change, told
from sidecar.core.identity import name_id
from sidecar.core.numbers import mask
from sidecar.core.terms import Word

_NAMESPACE = UUID("b1f0d1b4-6f0d-5f0e-9d0a-6a1a3f1d7c55")


class AlarmKind(Word):
    LOW_BALANCE = "low_balance"
    FRAUD_RULE = "fraud_rule"
    NODE_TAKEN_OVER = "node_taken_over"
    NODE_IN_DOUBT = "node_in_doubt"
    BOOKS_SALVAGED = "books_salvaged"


class Alarm(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    kind: ClassVar[AlarmKind]
    raised_at: Annotated[datetime, "When what it says was found; UTC."]

    @property
    def subject(self) -> str:
        """What it is about, as the audit table names it: no number of a subscriber."""
        raise NotImplementedError


class LowBalance(Alarm, frozen=True, kw_only=True, tag=AlarmKind.LOW_BALANCE.value):
    """What an account may still spend fell below its threshold; once, until it was above it again."""

    kind = AlarmKind.LOW_BALANCE
    account: Annotated[str, "The account."]
    currency: Annotated[str, "ISO 4217."]
    available: Annotated[Decimal, "What it may still spend."]
    threshold: Annotated[Decimal, "Below which it is told."]

    @property
    def subject(self) -> str:
        return self.account


class FraudRuleFired(Alarm, frozen=True, kw_only=True, tag=AlarmKind.FRAUD_RULE.value):
    """A fraud rule found what it looks for; once, until it is lifted."""

    kind = AlarmKind.FRAUD_RULE
    rule: Annotated[str, "The rule's name."]
    mode: Annotated[str, "What it does: `watch`, `refuse` or `end`."]
    scope: Annotated[str, "What it counts for each of: `account`, `prefix`, `caller` or `node`."]
    key: Annotated[str, "Which of them it fired for: an account, a prefix, a caller's number, or the node."]
    measure: Annotated[str, "What it counts."]
    threshold: Annotated[Decimal, "Above which it fires."]
    measured: Annotated[Decimal, "What was counted."]
    currency: Annotated[str | None, "Of both, where money is counted."] = None
    window_s: Annotated[int, "Over how long it is counted; 0: at one moment."]
    until: Annotated[datetime | None, "When it lifts by itself; null: an operator lifts it."] = None
    account: Annotated[str | None, "Whose call it fired at; null: at calls that were up."] = None
    call_id: Annotated[UUID | None, "That call."] = None

    @property
    def subject(self) -> str:
        return self.rule


class NodeTakenOver(Alarm, frozen=True, kw_only=True, tag=AlarmKind.NODE_TAKEN_OVER.value):
    """Another node on the database was found dead, and who tells it has its books now; once for each
    time."""

    kind = AlarmKind.NODE_TAKEN_OVER
    dead: Annotated[str, "The node that is dead."]
    epoch: Annotated[str, "Its new epoch, in which its records follow."]
    calls: Annotated[int, "Its open calls, which are ended and recorded now."]
    silent_ms: Annotated[int, "From its last commit until its books were taken over."]

    @property
    def subject(self) -> str:
        return self.dead


class NodeInDoubt(Alarm, frozen=True, kw_only=True, tag=AlarmKind.NODE_IN_DOUBT.value):
    """Another node seems to be dead, and is not taken over: it did not answer the node that tells it while it
    lived either. Once for each of its starts."""

    kind = AlarmKind.NODE_IN_DOUBT
    dead: Annotated[str, "The node that seems to be dead."]
    heard_at: Annotated[tuple[str, ...], "Where it was asked by OPTIONS: `udp:192.0.2.1:5060`."]

    @property
    def subject(self) -> str:
        return self.dead


class BooksSalvaged(Alarm, frozen=True, kw_only=True, tag=AlarmKind.BOOKS_SALVAGED.value):
    """What was not as it was written was put aside, by a start or a take-over; the node goes on without."""

    kind = AlarmKind.BOOKS_SALVAGED
    books_of: Annotated[str, "Whose books: the node's own, or those of one that it takes over."]
    cause: Annotated[str, "What was found first."]
    rows: Annotated[int, "Rows that are lost."]
    accounts: Annotated[int, "Accounts of whose balance a person has to decide (`sidecar journal open`)."]
    aside: Annotated[str, "The file on the node's disk that has what was put aside."]

    @property
    def subject(self) -> str:
        return self.books_of


AnyAlarm = LowBalance | FraudRuleFired | NodeTakenOver | NodeInDoubt | BooksSalvaged


def alarm_id(tenant: str, node: str, boot_id: str, number: int) -> UUID:
    """Of the so-manieth alarm of a boot: made once, however often it is sent."""
    return name_id(_NAMESPACE, f"{tenant}/{node}/{boot_id}/{number}")


def audited(alarm: AnyAlarm) -> Change:
    """The alarm as an entry of the audit table, which erasing a number does not reach: a caller's is masked
    there, and `call_id` names the record that has it."""
    said = msgspec.to_builtins(alarm, builtin_types=(Decimal,))
    if isinstance(alarm, FraudRuleFired) and alarm.scope == "caller":
        said["key"] = mask(alarm.key)
    after = {name: format(one, "f") if isinstance(one, Decimal) else one for name, one in said.items()}
    return Change(operator=NODE, action=f"alarm.{alarm.kind.value}", subject=alarm.subject, after=told(after))
