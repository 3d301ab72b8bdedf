"""What a node kept of the end of a call while its database was away, against the record that another node has
made of that call meanwhile."""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from sidecar.core.cdr import Cdr, message_id
from sidecar.core.terms import Detail, RevisionReason


def is_same_end(kept: Cdr, held: Cdr) -> bool:
    return (kept.hangup_origin, kept.detail, kept.ended_at) == (
        held.hangup_origin,
        held.detail,
        held.ended_at,
    )


def restated(kept: Cdr, held: Cdr, at: datetime) -> Cdr | None:
    """The next revision of the record that holds, by what was kept; None where that record knows better than
    that the call was found open, or nothing new."""
    if held.detail is not Detail.CRASH_RECOVERED or held.void or is_same_end(kept, held):
        return None
    revision = held.revision + 1
    return replace(
        kept,
        revision=revision,
        supersedes=held.revision,
        revision_reason=RevisionReason.LATE_EVIDENCE,
        revised_at=at,
        message_id=message_id(kept.call_id, revision),
        # Whoever was told the record that was wrong is told this one.
        recorded=kept.recorded or held.recorded,
        suppressed_by=None if held.recorded else kept.suppressed_by,
    )
