"""What is said on the control socket: JSON-RPC 2.0, one request and one answer per line, methods named as on
the command line (`sidecar call release` is `call.release`). Both sides are built from this: who asks and who
answers. What the methods take and answer is in the modules beside it, by subject (control_calls, ...), and
declared as a table in wire/methods.

Parameters are objects with the fields of those structs, all checked before anything is done; a field that is
not known is an error, because a mistyped filter that is ignored shows the wrong calls. Amounts are decimal
strings.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from enum import IntEnum
from typing import Annotated, Any

import msgspec

from sidecar.core.audit import Operator

SOCKET_NAME = "control.sock"
REQUEST_BYTES_MAX = 65_536  # one request line, its newline included
ANSWER_BYTES_MAX = 33_554_432
ROWS_MAX = 1_000  # of one answer: a CDR is 2 to 6 kB
ERRORS_SHOWN_MAX = 10  # of a file that is wrong
DEFAULT = "default"  # where a setting comes from that nobody gave


class ErrorCode(IntEnum):
    """JSON-RPC's own codes, then ours (from the range that it leaves to servers)."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603
    NOT_FOUND = -32001
    REFUSED = -32002
    BUSY = -32003
    TIMED_OUT = -32004
    WRONG_SETTINGS = -32005


ERROR_MEANINGS = {
    ErrorCode.PARSE_ERROR: "The request is no JSON.",
    ErrorCode.INVALID_REQUEST: "It is no JSON-RPC request, or too long.",
    ErrorCode.METHOD_NOT_FOUND: "There is no such method.",
    ErrorCode.INVALID_PARAMS: "A parameter is missing, unknown or out of its bound.",
    ErrorCode.INTERNAL_ERROR: "A defect of ours; the log has more.",
    ErrorCode.NOT_FOUND: "There is no such call, account, deck or letter.",
    ErrorCode.REFUSED: "It is there, but this cannot be done to it.",
    ErrorCode.WRONG_SETTINGS: "The settings are wrong: all is as it was.",
    ErrorCode.BUSY: "Too many requests at once: ask again.",
    ErrorCode.TIMED_OUT: "No answer in time: what was asked for may have been done.",
}


class CommandError(Exception):
    """An answer that is an error. The text says what to do, and holds no secret."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def in_one_line(errors: Sequence[str]) -> str:
    """The first of them: a file may hold thousands."""
    return "; ".join(errors[:ERRORS_SHOWN_MAX])


RESTART_ANSWER_S_MAX = (
    120.0  # before it is answered, settings and decks are checked as a start would read them
)


class Method(msgspec.Struct, frozen=True):
    """What serves one method: `handle` gets `params`, already checked, and who asks; what it returns becomes
    the result, within so many seconds."""

    params: type[msgspec.Struct]
    handle: Callable[[Any, Operator], Awaitable[object]]
    within_s: float | None = None  # None: as the socket gives every request


PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
OperatorName = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=PRINTABLE)]
Text = Annotated[str, msgspec.Meta(max_length=200, pattern=PRINTABLE)]
Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=PRINTABLE)]
AccountName = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=PRINTABLE)]
Currency = Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")]
# Plain digits with at most one point: no sign, exponent or special value.
Amount = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$")]
Rows = Annotated[int, msgspec.Meta(ge=1, le=ROWS_MAX)]
Seq = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
NameOnWire = Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]  # a Call-ID or a tag
# A called or calling number, or the beginning of one with `*` after it.
NumberPattern = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=PRINTABLE)]
PeerName = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=PRINTABLE)]
GatewayName = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=PRINTABLE)]


class Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Nothing(Params, frozen=True, kw_only=True):
    """The method has no parameters."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    pass
