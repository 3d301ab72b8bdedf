"""Asking a node for records that were published before, and its answer (MQTT 5 request and response).

A request goes to `.../replay/<user>`, with a response topic at or below `.../replayed/<user>` and correlation
data. Each record comes on the response topic as it was published, under the same message id, with the user
property `replayed`; then one ReplayEnd with the same correlation data and the user property `replay_end`.
Both are MessagePack, a map each.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec

REPLAYED = "replayed"  # the user property of a record that was asked for
REPLAY_END = "replay_end"  # and of the answer that follows the last one
REPLAY_NUMBERS_MAX = 10_000  # of one request
REQUEST_BYTES_MAX = 1_024
CORRELATION_BYTES_MAX = 64

Range = tuple[int, int]  # numbers; both ends belong to it

_SEQ = msgspec.Meta(ge=1, le=2**63 - 1)
_Seq = Annotated[int, _SEQ]
_Epoch = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
_T = TypeVar("_T")


class ReplayError(ValueError):
    """Bytes that are no request, or no answer; the text says why."""


class ReplayRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    epoch: Annotated[_Epoch, "The `store_epoch` whose numbers are meant."]
    from_seq: Annotated[_Seq, "The first number."]
    to_seq: Annotated[
        _Seq | None, f"The last; null: all that the epoch has. At most {REPLAY_NUMBERS_MAX} are looked at."
    ] = None

    def __post_init__(self) -> None:
        if self.to_seq is not None and self.to_seq < self.from_seq:
            raise ValueError("to_seq is below from_seq")


class ReplayEnd(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the numbers `from_seq` to `to_seq`: each that is in none of the lists was sent."""

    epoch: Annotated[str, "As asked."]
    from_seq: Annotated[int, "As asked."]
    to_seq: Annotated[int, "The last number that was looked at; `from_seq - 1`: none."]
    sent: Annotated[int, "Records that were sent."] = 0
    waiting: Annotated[
        tuple[Range, ...], "[first, last] of numbers that will come: they wait for the broker."
    ]
    dead: Annotated[tuple[Range, ...], "Numbers held as dead letters: the broker would not take them."]
    absent: Annotated[tuple[Range, ...], "Numbers that the journal does not hold in this epoch."]
    head_seq: Annotated[
        int, "The last number of the epoch that the journal holds; 0: it does not know it."
    ] = 0
    error: Annotated[str, "Why nothing was done; empty: it was."] = ""


_request = msgspec.msgpack.Decoder(ReplayRequest)
_end = msgspec.msgpack.Decoder(ReplayEnd)
encode = msgspec.msgpack.Encoder().encode


def decode_request(payload: bytes) -> ReplayRequest:
    if len(payload) > REQUEST_BYTES_MAX:
        raise ReplayError(f"a request of {len(payload)} bytes; at most {REQUEST_BYTES_MAX}")
    return _decoded(_request, payload)


def decode_end(payload: bytes) -> ReplayEnd:
    return _decoded(_end, payload)


def _decoded(decoder: msgspec.msgpack.Decoder[_T], payload: bytes) -> _T:
    try:
        return decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ReplayError(str(error)) from error
