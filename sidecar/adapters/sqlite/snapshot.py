"""The records of a data directory as they stand at one moment, for programs beside the daemon: exports, sums,
the doctor.

Read from the file itself, in one read transaction: what is counted and what is written out are the same
calls, however many are made meanwhile, and the daemon need not run, nor does it notice. (Only its WAL cannot
be begun anew while a snapshot is open.) Nothing here can change the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import reduce
from heapq import merge
from pathlib import Path
from types import TracebackType
from uuid import UUID

import apsw

from sidecar.adapters.sqlite.chain_check import verify
from sidecar.adapters.sqlite.check import ledger_check
from sidecar.adapters.sqlite.file import FILE_NAME, connect_reader
from sidecar.adapters.sqlite.file import verify as verify_pages
from sidecar.adapters.sqlite.loss import missing
from sidecar.adapters.sqlite.migrations import refuse_other
from sidecar.adapters.sqlite.reader import HAS_NAME, SqliteSearch, revisions_of
from sidecar.adapters.sqlite.sealing import Cut, last_cut, movements, next_cut, records
from sidecar.adapters.sqlite.told import Told
from sidecar.adapters.store.bodies import sound
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
from sidecar.adapters.store.chain import Head, Verdict, by_id
from sidecar.adapters.store.ledger import stored_terms
from sidecar.adapters.store.records import conditions_of, first_call_id
from sidecar.adapters.store.store import StoreError
from sidecar.adapters.store.suspense import suspended
from sidecar.core.account_terms import AccountTerms
from sidecar.core.amounts import EXACT
from sidecar.core.cdr import Cdr
from sidecar.core.chain import ChainKey, Link
from sidecar.core.records import utc
from sidecar.core.statement import LedgerLine
from sidecar.core.suspense import Suspended
from sidecar.ports import RecordFilter, RecordPage
from sidecar.wire.cdr_codec import decode

# A call counts by its highest revision alone, wherever that stands: it may have been kept back, and an
# earlier one published, or the other way round.
_HIGHEST = (
    "NOT EXISTS (SELECT 1 FROM cdrs AS later"
    " WHERE later.call_id = found.call_id AND later.revision > found.revision)"
    " AND NOT EXISTS (SELECT 1 FROM suppressed AS later"
    " WHERE later.call_id = found.call_id AND later.revision > found.revision)"
)
# By the index on the end of calls: no sorter, so memory does not grow with what is asked.
_PUBLISHED = (
    "SELECT found.seq, body, crc FROM cdrs AS found INDEXED BY cdrs_by_end CROSS JOIN cdr_bodies USING (seq)"
    " WHERE {} ORDER BY found.ended_us {order}, found.seq {order}"
)
_SUPPRESSED = (
    "SELECT found.entry, body, crc FROM suppressed AS found INDEXED BY suppressed_by_end"
    " WHERE {} ORDER BY found.ended_us {order}, found.entry {order}"
)
_BY_INVITE = (
    "SELECT found.call_id, body, crc FROM {} WHERE found.call_id >= ? AND found.call_id < ? AND {}"
    " ORDER BY found.call_id"
)
_BY_CALL = (
    "cdrs AS found INDEXED BY cdrs_by_call CROSS JOIN cdr_bodies USING (seq)",
    "suppressed AS found INDEXED BY suppressed_by_call",
)
_SEQ_AFTER = (
    "SELECT seq, call_id, revision, body, crc FROM cdrs JOIN cdr_bodies USING (seq)"
    " WHERE seq > ? ORDER BY seq LIMIT ?"
)
_ENTRY_AFTER = (
    "SELECT entry, call_id, revision, body, crc FROM suppressed WHERE entry > ? ORDER BY entry LIMIT ?"
)
_PLACES = (
    "SELECT 0, seq, revision FROM cdrs WHERE call_id = ?1"
    " UNION ALL SELECT 1, entry, revision FROM suppressed WHERE call_id = ?1"
)
_EVER = "found.ended_us >= -9223372036854775808"


_CLOCK_SET_NS = 86_400 * 10**9  # at most so far back, while records come


class Snapshot:
    """StoreError says why a data directory has no journal that could be read."""

    def __init__(self, data_dir: Path) -> None:
        file = data_dir / FILE_NAME
        if not file.exists():
            raise StoreError(f"{file}: there is no journal; `sidecar run` makes one, --config names another")
        try:
            self._connection = connect_reader(file)
            # Whoever closes a file last would write the WAL into it: that is the daemon's to do.
            self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self._connection.execute("BEGIN")
            refuse_other(self._connection, file)
        except apsw.Error as error:
            raise StoreError(f"{file}: cannot be read ({error})") from error
        except StoreError:
            self._connection.close(force=True)
            raise

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close(force=True)

    def head(self) -> Head:
        """How far the journal has come."""
        ((epoch, number, digest),) = self._connection.execute(
            "SELECT epoch, commit_number, commit_hash FROM store"
        )
        return Head(epoch=epoch, number=number, hash=digest.hex())

    def verify(self, keys: Sequence[ChainKey], told: Told | None) -> Verdict:
        """Whether all is as it was written. `told`: read before this snapshot was begun."""
        verdict = verify(self._connection, by_id(keys))
        if gone := missing(self._connection, told):
            verdict.wrong.append(f"cut, or not the journal that was here: {gone}")
        return verdict

    def check(self, keys: Sequence[ChainKey], told: Told | None) -> list[str]:
        """All that can be asked: pages, chain and what changes (not without keys), then the sums."""
        found: list[str] = []
        try:
            verify_pages(self._connection)
            found = self.verify(keys, told).wrong if keys else found
            return found + self.ledger_check()
        except (apsw.CorruptError, ArithmeticError, ValueError) as error:
            return [*found, f"cannot be read to its end ({error!r})"]

    def missing(self, head: tuple[int, str]) -> str:
        """Why a head that was told elsewhere, number and hash, is not of this journal; empty: it is."""
        number, digest = head
        return missing(self._connection, Told(Link(number, bytes.fromhex(digest)), 0, ""))

    def cuts(self, until_us: int) -> tuple[Cut, Cut]:
        """Where the journal begins; and the last commit before which only calls lie that ended before."""
        return last_cut(self._connection), next_cut(self._connection, until_us)

    def stored(self, table: str, after: int, until: int) -> Iterator[Cdr]:
        """All revisions, published (`cdrs`) or kept back (`suppressed`), behind one number up to another."""
        return records(self._connection, table, after, until)

    def movements(self, after: int, until: int) -> Iterator[dict[str, object]]:
        """Of the ledger, as they are archived."""
        return movements(self._connection, after, until)

    def account_terms(self, name: str) -> AccountTerms | None:
        return next(iter(stored_terms(self._connection, name)), None)

    def accounts(self) -> Sequence[AccountTerms]:
        return stored_terms(self._connection)

    def archived_until(self) -> datetime | None:
        """Movements that were booked before are archived, and no longer here."""
        until_us: int | None = self._connection.execute("SELECT max(until_us) FROM sealed").get
        return None if until_us is None else utc(until_us * 1_000)

    def held(self, account: str) -> list[Held]:
        """What calls that are up hold of an account, by currency."""
        calls: dict[str, list[Decimal]] = {}
        for currency, amount in self._connection.execute(
            "SELECT currency, reserved FROM open_calls WHERE account = ? AND reserved IS NOT NULL", (account,)
        ):
            calls.setdefault(currency, []).append(Decimal(amount))
        return [
            Held(currency, reduce(EXACT.add, amounts), len(amounts))
            for currency, amounts in sorted(calls.items())
        ]

    def charged_since(
        self, account: str, currency: str, since_ns: int, known: Charged = NOTHING_CHARGED
    ) -> Charged:
        """What calls were charged since then, less what was given back. `known`: an earlier answer to the
        same question, which what was booked after it is added to."""
        amount, entry = known
        entry = entry or self._entry_before(since_ns - _CLOCK_SET_NS)
        for at, kind, line in self._connection.execute(
            "SELECT entry, kind, iif(kind = 'charge' AND currency = ? AND booked_wall_ns >= ?, amount, '0')"
            " FROM ledger WHERE account = ? AND entry > ? ORDER BY entry",
            (currency, since_ns, account, entry),
        ):
            amount, entry = EXACT.subtract(amount, Decimal(line)) if kind == "charge" else amount, at
        return Charged(amount, entry)

    def _entry_before(self, wall_ns: int) -> int:
        """A movement before which none was booked then or later, unless the clock was set back by more."""
        first, last = 0, self._connection.execute("SELECT max(entry) FROM ledger").get or 0
        while first < last:
            middle = (first + last + 1) // 2
            booked: int = self._connection.execute(
                "SELECT booked_wall_ns FROM ledger WHERE entry >= ? ORDER BY entry LIMIT 1", (middle,)
            ).get
            first, last = (middle, last) if booked < wall_ns else (first, middle - 1)
        return first

    def booked(self, account: str) -> object:
        """The last entry of its ledger."""
        found: int | None = self._connection.execute(
            "SELECT max(entry) FROM ledger WHERE account = ?", (account,)
        ).get
        return found

    def account_lines(self, name: str, currency: str) -> Iterator[LedgerLine]:
        """The ledger of an account, as it was booked."""
        cut = last_cut(self._connection).heads.ledger
        for entry, kind, amount, call_id, revision, reference, operator, text, at in self._connection.execute(
            "SELECT entry, kind, amount, call_id, revision, reference, operator, text, booked_wall_ns"
            " FROM ledger WHERE account = ? AND currency = ? ORDER BY entry",
            (name, currency),
        ):
            yield LedgerLine(
                kind=kind,
                amount=Decimal(amount),
                booked_at=utc(at),
                call_id=None if call_id is None else UUID(bytes=call_id),
                revision=revision,
                reference=reference,
                operator=operator,
                text=text,
                is_carried=entry <= cut,
            )

    def books(self) -> str:
        return self.head().epoch

    def removed_until(self) -> datetime | None:
        return self.archived_until()

    def behind(self, marks: Marks) -> int:
        last = self._connection.execute(
            "SELECT (SELECT max(seq) FROM cdrs), (SELECT max(entry) FROM suppressed)"
        )
        return sum(
            max(0, (number or 0) - read)
            for row in last
            for number, read in zip(row, marks.of(0), strict=True)
        )

    def stored_after(self, marks: Marks, rows_max: int) -> list[Stored]:
        """The published ones first."""
        seq, entry = marks.of(0)
        return [
            Stored(Place(0, is_kept_back, number, revision), UUID(bytes=call_id), body, crc)
            for is_kept_back, after, sql in ((False, seq, _SEQ_AFTER), (True, entry, _ENTRY_AFTER))
            for number, call_id, revision, body, crc in self._connection.execute(sql, (after, rows_max))
        ]

    def places_of(self, call_ids: Iterable[UUID]) -> Mapping[UUID, Sequence[Place]]:
        return {
            call_id: [
                Place(0, bool(is_kept_back), number, revision)
                for is_kept_back, number, revision in self._connection.execute(_PLACES, (call_id.bytes,))
            ]
            for call_id in call_ids
        }

    def revision(self, call_id: UUID, revision: int) -> Cdr | None:
        """One record of a call, published or kept back."""
        for table, source in zip(("cdrs", "suppressed"), _BY_CALL, strict=True):
            for body, crc in self._connection.execute(
                f"SELECT body, crc FROM {source} WHERE found.call_id = ? AND found.revision = ?",  # noqa: S608
                (call_id.bytes, revision),
            ):
                return decode(sound(body, crc, f"the record of call {call_id} in {table}"))
        return None

    def revisions(self, call_id: UUID) -> tuple[Cdr, ...]:
        """All records of a call, published or kept back, the one that holds last."""
        return revisions_of(self._connection, call_id.bytes)

    def search(
        self, wanted: RecordFilter, records_max: int, cursor: str | None = None, within_s: float = LOOK_S_MAX
    ) -> RecordPage:
        """As the Records port; see `Search.page`."""
        return SqliteSearch(self._connection, wanted).page(records_max, cursor, within_s)

    def charges_of(self, call_id: UUID) -> list[CallCharge]:
        """What was booked for a call, in its order."""
        return [
            CallCharge(account, currency, Decimal(amount), revision, utc(booked_wall_ns))
            for account, currency, amount, revision, booked_wall_ns in self._connection.execute(
                "SELECT account, currency, amount, revision, booked_wall_ns FROM ledger"
                " WHERE call_id = ? AND kind = 'charge' ORDER BY entry",
                (call_id.bytes,),
            )
        ]

    def archived(self) -> str:
        """The digest of the manifest of what was archived last; empty: nothing was."""
        found: str | None = self._connection.execute(
            "SELECT archive FROM sealed ORDER BY number DESC LIMIT 1"
        ).get
        return found or ""

    def suspended(self, account: str | None = None) -> list[Suspended]:
        """What a person has to decide about: of one account, or of all."""
        return suspended(self._connection, account)

    def ledger_check(self) -> list[str]:
        """See `check.ledger_check`."""
        return ledger_check(self._connection)

    def by_invite(
        self, since: datetime, until: datetime | None = None, calls_max: int | None = None
    ) -> Iterator[Cdr]:
        """The calls whose INVITE came then or later, and before `until`, each by its highest revision,
        published or kept back, unless that is void; in the order of their ids, which is that of the INVITEs.
        `calls_max`: at most about so many, the latest."""
        first, last = first_call_id(since), first_call_id(until) if until is not None else b"\xff" * 17
        if calls_max is not None:
            for table in ("cdrs", "suppressed"):
                found: bytes | None = self._connection.execute(
                    f"SELECT call_id FROM {table} WHERE call_id >= ? ORDER BY call_id DESC LIMIT 1 OFFSET ?",  # noqa: S608
                    (first, calls_max),
                ).get
                first = max(first, found or b"")
        asked = (_BY_INVITE.format(table, _HIGHEST) for table in _BY_CALL)
        for call_id, body, crc in merge(*(self._connection.execute(sql, (first, last)) for sql in asked)):
            cdr = decode(sound(body, crc, f"the record of call {UUID(bytes=call_id)}"))
            if not cdr.void:
                yield cdr

    def records(self, wanted: RecordFilter, *, latest_first: bool = False) -> Iterator[Cdr]:
        """The calls that fit, each by its highest revision, unless that is void; by their end, the earliest
        or the latest first. DamagedError names a record whose bytes are not those that were written."""
        conditions, values = conditions_of(wanted, HAS_NAME)
        sql = _SUPPRESSED if wanted.suppressed else _PUBLISHED
        # sql: names and texts of ours alone; what is asked for is bound.
        for key, body, crc in self._connection.execute(
            sql.format(" AND ".join((_EVER, *conditions, _HIGHEST)), order="DESC" if latest_first else "ASC"),
            values,
        ):
            cdr = decode(sound(body, crc, f"record {key}"))
            if not cdr.void and wanted.fits(cdr):
                yield cdr
