"""What is read of the books of all nodes as of one moment, as sqlite/snapshot has it of a journal.

Numbers within an epoch are in the order of its commits: each commit holds the row of its epoch, from before
it takes a number until it is over. Entries that are kept back are numbered over all nodes: those of an epoch
are in the order of its commits, and a greater one of another epoch may be seen first. So records are marked
as read by epoch. That no other entry may come below one is known once all transactions are over that ran when
it was seen (`Marks.floor`): entries below are looked for no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sidecar.adapters.postgresql.records import PostgresqlSearch, of_call
from sidecar.adapters.postgresql.server import Server
from sidecar.adapters.store.books import (
    LOOK_S_MAX,
    NOTHING_CHARGED,
    CallCharge,
    Charged,
    Held,
    Marks,
    Place,
    Stored,
)
from sidecar.adapters.store.ledger import stored_terms
from sidecar.adapters.store.records import record, records_of
from sidecar.core.account_terms import AccountTerms
from sidecar.core.amounts import EXACT
from sidecar.core.cdr import Cdr
from sidecar.core.records import utc
from sidecar.ports import RecordFilter, RecordPage

BEHIND_MAX = 10_000  # kept back, and counted
# The cluster, the table (one that was put back is another one), and the timeline: a standby that has taken
# over may lack what was read of the server before.
_BOOKS = (
    "SELECT concat_ws(' ', system_identifier, 'epochs'::regclass::oid, timeline_id)"
    " FROM pg_control_system(), pg_control_checkpoint()"
)
_MARKED = "unnest(?1::int[], ?2::bigint[]) AS mark (epoch, number)"
_WITH_MORE = (
    f"SELECT epochs.epoch FROM epochs LEFT JOIN {_MARKED} USING (epoch)"  # noqa: S608 - texts of ours alone
    " WHERE head_seq > coalesce(number, base_seq) ORDER BY epochs.epoch"
)
_PUBLISHED = (
    "SELECT seq, call_id, revision, body, crc FROM cdrs WHERE epoch = ? AND seq > ? ORDER BY seq LIMIT ?"
)
_UNREAD = (
    f"FROM suppressed AS found JOIN boots USING (boot) LEFT JOIN {_MARKED} ON mark.epoch = boots.epoch"
    " WHERE found.entry > ?3 AND found.entry > coalesce(number, 0)"
)
_KEPT_BACK = (
    f"SELECT boots.epoch, found.entry, call_id, revision, body, crc {_UNREAD} ORDER BY found.entry LIMIT ?4"
)
_BEHIND = (
    "SELECT (SELECT coalesce(sum(greatest(0,"  # noqa: S608 - texts of ours alone
    " head_seq - greatest(base_seq, coalesce(number, 0), coalesce(gone, 0)))), 0)"
    f" FROM epochs LEFT JOIN {_MARKED} USING (epoch)"
    " LEFT JOIN (SELECT epoch, max(seq) AS gone FROM archived_epochs GROUP BY epoch) AS archived"
    " USING (epoch)), (SELECT count(*) FROM"
    f" (SELECT 1 {_UNREAD.replace('?2', '?4')} LIMIT {BEHIND_MAX}) AS few)"
)
_NOW = (
    "SELECT (SELECT coalesce(max(entry), 0) FROM suppressed),"
    " pg_snapshot_xmin(now)::text::bigint, pg_snapshot_xmax(now)::text::bigint"
    " FROM pg_current_snapshot() AS now"
)
_PLACES = (
    "SELECT call_id, epoch, FALSE, seq, revision FROM cdrs WHERE call_id = ANY(?1)"
    " UNION ALL SELECT call_id, epoch, TRUE, entry, revision FROM suppressed JOIN boots USING (boot)"
    " WHERE call_id = ANY(?1)"
)


class PostgresqlLook:
    """Within a moment of `server` (see `Server.moment`)."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def search(
        self, wanted: RecordFilter, records_max: int, cursor: str | None = None, within_s: float = LOOK_S_MAX
    ) -> RecordPage:
        return PostgresqlSearch(self._server, wanted).page(records_max, cursor, within_s)

    def revisions(self, call_id: UUID) -> tuple[Cdr, ...]:
        return records_of(of_call(self._server, call_id.bytes))

    def revision(self, call_id: UUID, revision: int) -> Cdr | None:
        """One record of a call, published or kept back."""
        rows = self._server.run(
            "SELECT body, crc FROM cdrs WHERE call_id = ?1 AND revision = ?2"
            " UNION ALL SELECT body, crc FROM suppressed WHERE call_id = ?1 AND revision = ?2",
            (call_id.bytes, revision),
        )
        return record(revision, *rows[0]) if rows else None

    def charges_of(self, call_id: UUID) -> list[CallCharge]:
        return [
            CallCharge(account, currency, amount, revision, utc(booked_wall_ns))
            for account, currency, amount, revision, booked_wall_ns in self._server.run(
                "SELECT account, currency, amount, revision, booked_wall_ns FROM ledger"
                " WHERE call_id = ? AND kind = 'charge' ORDER BY entry",
                (call_id.bytes,),
            )
        ]

    def account_terms(self, name: str) -> AccountTerms | None:
        return next(iter(stored_terms(self._server, name)), None)

    def held(self, account: str) -> list[Held]:
        return [
            Held(*row)
            for row in self._server.run(
                "SELECT currency, sum(reserved), count(*), '' AS node FROM open_calls"
                " WHERE account = ?1 AND reserved IS NOT NULL GROUP BY currency"
                " UNION ALL SELECT currency, amount, 0, node FROM tranches WHERE account = ?1"
                " ORDER BY node, currency",
                (account,),
            )
        ]

    def booked(self, account: str) -> object:
        """Entries of two currencies may come in another order than that of their numbers."""
        last = self._server.run("SELECT max(entry) FROM ledger WHERE account = ?", (account,))
        return (
            *last,
            *self._server.run("SELECT currency, amount FROM balances WHERE account = ?", (account,)),
        )

    def charged_since(
        self, account: str, currency: str, since_ns: int, known: Charged = NOTHING_CHARGED
    ) -> Charged:
        """Who books holds the balance: entries of an account and currency are in the order of the commits."""
        ((amount, entry),) = self._server.run(
            "SELECT coalesce(sum(amount), 0), coalesce(max(entry), ?4) FROM ledger WHERE account = ?1"
            " AND currency = ?2 AND kind = 'charge' AND booked_wall_ns >= ?3 AND entry > ?4",
            (account, currency, since_ns, known.entry),
        )
        return Charged(EXACT.subtract(known.amount, amount), entry)

    # --- for sums -------------------------------------------------------------------------------------------

    def books(self) -> str:
        return str(self._server.run(_BOOKS)[0][0])

    def removed_until(self) -> datetime | None:
        ((until_us,),) = self._server.run("SELECT max(until_us) FROM archives")
        return None if until_us is None else utc(until_us * 1_000)

    def behind(self, marks: Marks) -> int:
        """Of those that were kept back at most BEHIND_MAX are counted."""
        epochs, seqs, entries = _columns(marks)
        ((published, kept_back),) = self._server.run(_BEHIND, (epochs, seqs, marks.floor, entries))
        return int(published + kept_back)

    def stored_after(self, marks: Marks, rows_max: int) -> list[Stored]:
        epochs, seqs, entries = _columns(marks)
        found: list[Stored] = []
        for (epoch,) in self._server.run(_WITH_MORE, (epochs, seqs)):
            for seq, *row in self._server.run(_PUBLISHED, (epoch, marks.of(epoch)[0], rows_max - len(found))):
                found.append(_stored(epoch, False, seq, *row))
            if len(found) == rows_max:
                break
        kept_back = [
            _stored(epoch, True, *row)
            for epoch, *row in self._server.run(_KEPT_BACK, (epochs, entries, marks.floor, rows_max))
        ]
        self._raise_floor(marks, kept_back[-1].place.number if len(kept_back) == rows_max else None)
        return found + kept_back

    def _raise_floor(self, marks: Marks, read_until: int | None) -> None:
        """`read_until`: the last entry that was read, where there are more."""
        ((last, oldest_xid, next_xid),) = self._server.run(_NOW)
        if marks.ahead_xid > oldest_xid:
            return  # somebody may still write below
        reached = marks.ahead if read_until is None else min(marks.ahead, read_until)
        marks.floor = max(marks.floor, reached)
        if reached == marks.ahead:
            marks.ahead, marks.ahead_xid = last, next_xid

    def places_of(self, call_ids: Iterable[UUID]) -> Mapping[UUID, Sequence[Place]]:
        found: dict[UUID, list[Place]] = {call_id: [] for call_id in call_ids}
        for call_id, *place in self._server.run(_PLACES, ([one.bytes for one in found],)):
            found[UUID(bytes=call_id)].append(Place(*place))
        return found


def _columns(marks: Marks) -> tuple[list[int], list[int], list[int]]:
    return (
        [*marks.epochs],
        [seq for seq, _ in marks.epochs.values()],
        [entry for _, entry in marks.epochs.values()],
    )


def _stored(
    epoch: int, is_kept_back: bool, number: int, call_id: bytes, revision: int, body: bytes, crc: int
) -> Stored:
    return Stored(Place(epoch, is_kept_back, number, revision), UUID(bytes=call_id), body, crc)
