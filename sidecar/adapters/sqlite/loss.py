"""What a start finds missing: commits that were told of (`told`, and the broker's retained status) and are
not in the file.

A WAL that was cut or deleted, a copy of an earlier day in the place of the journal, another journal: SQLite
opens each of them without a word. What was published from the commits that are gone cannot be taken back, so
a new epoch begins, no number is given out twice, and a call that is found open again gets its record under
another message id.
"""

from __future__ import annotations

from pathlib import Path

import apsw

from sidecar.adapters.sqlite.chain import heads_at
from sidecar.adapters.sqlite.file import renew_epoch
from sidecar.adapters.sqlite.sealing import last_cut
from sidecar.adapters.sqlite.told import TOLD_NAME, Told
from sidecar.adapters.store.store import StoreError
from sidecar.core.chain import Link
from sidecar.ports import Loss, Seen

_LEAVE_ALL_BEHIND = (
    "INSERT OR IGNORE INTO outbox_behind (seq, queued_wall_ns) SELECT seq, written_wall_ns FROM cdrs"
    " WHERE seq > (SELECT acknowledged_seq FROM store)"
)


def refuse_missing(file: Path, told: Told | None) -> None:
    """StoreError where there was a journal, as the file beside it says, and there is none."""
    if told is not None and not file.exists():
        raise StoreError(
            f"{file}: is gone: {file.with_name(TOLD_NAME).name} beside it says that there was one, up to"
            f" record {told.head_seq}. Put it back, restore a backup, or begin anew: `sidecar run --new`"
        )


def missing(connection: apsw.Connection, told: Told | None) -> str:
    """Why this is not the journal that was told of, or not all of it; empty: it is."""
    if told is None:
        return ""
    number: int = connection.execute("SELECT commit_number FROM store").get
    if number < told.link.number:
        return f"its last commit is {number}, and {told.link.number} was there"
    if told.link.number < last_cut(connection).link.number:
        return ""  # it was archived, and removed since
    link, _ = heads_at(connection, told.link.number)
    if link.hash != told.link.hash:
        return f"another journal: its commit {told.link.number} is not the one that was there"
    return ""


def contradicted(connection: apsw.Connection, seen: Seen | None) -> str:
    """Why what the broker has seen is not of this journal; empty: it is, or nobody knows."""
    if seen is None:
        return ""
    ((epoch, head_seq),) = connection.execute("SELECT epoch, head_seq FROM store")
    if seen.epoch == epoch:
        if seen.head_seq is None or seen.head_seq <= head_seq:
            return ""
        return f"the broker was told of record {seen.head_seq}, and {head_seq} is the last one here"
    if connection.execute("SELECT EXISTS (SELECT 1 FROM boots WHERE epoch = ?)", (seen.epoch,)).get:
        return ""
    return f"the broker has the status of epoch {seen.epoch}, which this journal never had"


def told_or_seen(connection: apsw.Connection, told: Told | None, seen: Seen | None) -> Told | None:
    """The most that is known from elsewhere; None: nothing is."""
    if seen is None:
        return told
    ((number, digest, head_seq, epoch),) = connection.execute(
        "SELECT commit_number, commit_hash, head_seq, epoch FROM store"
    )
    own = told or Told(Link(number, digest), head_seq, epoch)
    return own._replace(head_seq=max(own.head_seq, seen.head_seq or 0))


def begin_after_loss(connection: apsw.Connection, told: Told, cause: str, wall_ns: int) -> Loss:
    """A new epoch, above every number that was told of."""
    with connection:
        ((number, head_seq),) = connection.execute("SELECT commit_number, head_seq FROM store")
        connection.execute(_LEAVE_ALL_BEHIND)
        connection.execute(
            "UPDATE store SET commit_number = max(commit_number, ?1), head_seq = max(head_seq, ?2),"
            " acknowledged_seq = max(head_seq, ?2)",
            (told.link.number, told.head_seq),
        )
        renew_epoch(connection, wall_ns)
    return Loss(
        cause=cause,
        commits_lost=max(0, told.link.number - number),
        numbers_lost=max(0, told.head_seq - head_seq),
        calls_maybe_told=connection.execute("SELECT count(*) FROM open_calls WHERE maybe_told").get,
    )
