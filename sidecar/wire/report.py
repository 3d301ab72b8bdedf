"""What a subscriber tells a node of itself: how far it has come, and what it lacks. To
`.../report/<user>/<client>` at QoS 1, retained, so that a node that starts finds the last of each: when it
has something else to tell, and at an interval. MessagePack, one map.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from sidecar.wire.replay import Range

REPORT_BYTES_MAX = 8_192
EPOCHS_MAX = 8
RANGES_MAX = 10

_Seq = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class ReportError(ValueError):
    """Bytes that are no report; the text says why."""


class EpochReport(msgspec.Struct, frozen=True, kw_only=True):
    epoch: Annotated[str, msgspec.Meta(min_length=1, max_length=64), "The `store_epoch`."]
    held_seq: Annotated[_Seq, "The highest number that is held; 0: none is."]
    head_seq: Annotated[_Seq, "The highest number that the node is known to have given."]
    missing: Annotated[_Seq, "How many numbers up to there are wanted and not held."]
    ranges: Annotated[
        tuple[Range, ...],
        msgspec.Meta(max_length=RANGES_MAX),
        f"[first, last] of the first of them, {RANGES_MAX} at most.",
    ]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    at: Annotated[datetime, msgspec.Meta(tz=True), "When it was made, by the subscriber's clock."]
    interval_s: Annotated[
        int, msgspec.Meta(ge=1, le=86_400), "So long after this the next one comes at the latest."
    ]
    epochs: Annotated[
        tuple[EpochReport, ...],
        msgspec.Meta(max_length=EPOCHS_MAX),
        f"That of now first, then others that lack something; {EPOCHS_MAX} at most.",
    ]


_report = msgspec.msgpack.Decoder(Report)
encode = msgspec.msgpack.Encoder().encode


def decode_report(payload: bytes) -> Report:
    if len(payload) > REPORT_BYTES_MAX:
        raise ReportError(f"a report of {len(payload)} bytes; at most {REPORT_BYTES_MAX}")
    try:
        return _report.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ReportError(str(error)) from error
