"""What is said on the control socket about calls: those that are up (`call.list`, `call.release`), what one
would cost (`cost`), and what would come of one that nobody makes (`route.try`)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec

from sidecar.wire.control import (
    PRINTABLE,
    AccountName,
    GatewayName,
    Moment,
    NameOnWire,
    NumberPattern,
    OperatorName,
    Params,
    PeerName,
    Result,
    Rows,
    Text,
)

TalkSeconds = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,8}(\.[0-9]{1,9})?$")]


class CallConditions(Params, frozen=True, kw_only=True):
    """Of calls that are up; all that are given must hold. Numbers are as received or billed, `4490*` is a
    beginning; the gateway is that of the last attempt."""

    account: AccountName | None = None
    peer: PeerName | None = None
    gateway: GatewayName | None = None
    callee: NumberPattern | None = None
    caller: NumberPattern | None = None
    older_than_s: Annotated[int, msgspec.Meta(ge=0, le=10_000_000)] | None = None  # since the INVITE


class CallListParams(CallConditions, frozen=True, kw_only=True):
    """`after` is the last call of the page before: `total` is then of those behind it."""

    after: UUID | None = None
    limit: Rows = 100


class CallReleaseParams(CallConditions, frozen=True, kw_only=True):
    """One call by its id, or all that the conditions hold of, of which one at least is given. Conditions
    leave emergency calls alone."""

    call_id: UUID | None = None
    operator: OperatorName
    text: Text = ""


class LiveCall(Result, frozen=True, kw_only=True):
    call_id: UUID
    phase: str
    account: str
    peer: str
    gateway: str | None
    caller: str
    callee: str
    invited_at: datetime
    answered_at: datetime | None
    talk_s: float  # whole milliseconds
    granted_s: int | None


class CallList(Result, frozen=True, kw_only=True):
    total: int  # calls that match; `calls` may hold fewer
    calls: tuple[LiveCall, ...]


class CallReleased(Result, frozen=True, kw_only=True):
    call_id: UUID | None = None
    released: bool = True
    count: int = 1  # calls that were ended


class CostParams(Params, frozen=True, kw_only=True):
    """What an account pays for a call of so many seconds; the answer is the charge, as a record has it.
    `peer` may be empty: then no peer's digits are stripped. `at`: now if not given."""

    number: NameOnWire
    account: AccountName
    peer: Annotated[str, msgspec.Meta(max_length=64, pattern=PRINTABLE)] = ""
    seconds: TalkSeconds = "60"
    caller: Annotated[str, msgspec.Meta(max_length=64, pattern=PRINTABLE)] = ""
    at: Moment | None = None


class RouteTryParams(Params, frozen=True, kw_only=True):
    """A call that is not made: the answer is core.trial.Trial. `address`: empty is the first of the peer's.
    `headers` and `tls_name` are for rules that ask them."""

    number: NameOnWire
    peer: PeerName
    seconds: TalkSeconds = "60"
    caller: Annotated[str, msgspec.Meta(max_length=64, pattern=PRINTABLE)] = ""
    address: Annotated[str, msgspec.Meta(max_length=45, pattern="^[0-9a-fA-F:.]*$")] = ""
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    tls_name: Annotated[str, msgspec.Meta(max_length=255, pattern=PRINTABLE)] = ""
