"""What is said on the control socket about fraud rules and blocked numbers: `policy.*`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from sidecar.wire.control import PRINTABLE, OperatorName, Params, Reason, Result

BlockPattern = Annotated[str, msgspec.Meta(pattern=r"^(\+?[0-9#]{1,32}\*?|\*)$")]


class PolicyLiftParams(Params, frozen=True, kw_only=True):
    """Let go what a fraud rule holds: it is counted anew."""

    rule: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_.-]{1,64}$")]
    key: Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=PRINTABLE)]
    operator: OperatorName
    text: Reason


class PolicyBlockParams(Params, frozen=True, kw_only=True):
    """Refuse calls to this number, or with `*` after it to all that begin so, and end those that are up."""

    number: BlockPattern
    operator: OperatorName
    text: Reason


class PolicyUnblockParams(Params, frozen=True, kw_only=True):
    number: BlockPattern
    operator: OperatorName
    text: Reason


class FraudRuleShown(Result, frozen=True, kw_only=True):
    name: str
    scope: str
    measure: str
    threshold: str
    currency: str | None
    window_s: int
    mode: str
    lift_after_s: int
    fired: int  # since the start
    held: int


class HeldShown(Result, frozen=True, kw_only=True):
    """What a fraud rule holds."""

    rule: str
    key: str
    mode: str
    measured: str
    since: datetime
    until: datetime | None  # None: it is lifted by hand


class PolicyShown(Result, frozen=True, kw_only=True):
    """`held`: the first of them; the rules say how many there are."""

    fraud_rules: tuple[FraudRuleShown, ...]
    held: tuple[HeldShown, ...]


class PolicyBlocked(Result, frozen=True, kw_only=True):
    number: str  # without its +
    ended: int  # calls that were up


class PolicyUnblocked(Result, frozen=True, kw_only=True):
    number: str


class PolicyBlocks(Result, frozen=True, kw_only=True):
    """By command; those of the settings are not among them."""

    blocks: tuple[str, ...]


class PolicyLifted(Result, frozen=True, kw_only=True):
    lifted: HeldShown
