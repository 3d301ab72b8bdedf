"""One transaction of the file (see store/batch), written by a few statements at its end.

What jobs may write are the methods of this class and of its parts, `ledger`, `suspense`, `refusals`,
`waiting`, `addresses`, `sealing` and `erasing`: none gets the connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import apsw

from sidecar.adapters.sqlite.chain import Draft, Marks
from sidecar.adapters.sqlite.changing import OPEN_CALL_ROW
from sidecar.adapters.sqlite.erasing import Erasing
from sidecar.adapters.sqlite.known import Known
from sidecar.adapters.sqlite.ledger import Ledger
from sidecar.adapters.sqlite.refusals import KeptRefusals
from sidecar.adapters.sqlite.rows import Table, delete_keys
from sidecar.adapters.sqlite.sealing import Sealing, was_removed
from sidecar.adapters.sqlite.spending import Spending
from sidecar.adapters.sqlite.stored import Stored
from sidecar.adapters.sqlite.waiting import Waiting
from sidecar.adapters.store.addresses import Addresses
from sidecar.adapters.store.batch import ARCHIVED, OPEN_CALL, SEARCHED, BaseBatch, held_columns
from sidecar.adapters.store.chain import salts
from sidecar.adapters.store.known import Boot
from sidecar.adapters.store.suspense import Suspense
from sidecar.adapters.store.users import Users

OPEN_CALLS = Table("open_calls", OPEN_CALL, replace=True)
CDRS = Table("cdrs", ["seq", "written_wall_ns", *SEARCHED, "found_by"])
CDR_BODIES = Table("cdr_bodies", ["seq", "body", "crc", "salt"])
SUPPRESSED = Table("suppressed", ["entry", *SEARCHED, "body", "crc", "salt", "found_by"])
AUDIT = Table(
    "audit",
    ["entry", "boot", "at_wall_ns", "operator", "uid", "action", "subject", "before", "after", "text"],
)


class Batch(BaseBatch):
    def __init__(
        self, connection: apsw.Connection, known: Known, boot: Boot, wall_ns: int, mono_ns: int
    ) -> None:
        self.chain = Draft(known.chain)
        self.ledger = Ledger(connection, boot.boot, wall_ns, self.chain)
        self.refusals = KeptRefusals(connection)
        suspense = Suspense(connection, self.ledger)
        spending = Spending(connection, known, self.ledger, self.chain.next_ledger - 1)
        self.waiting = Waiting(connection, boot.boot, wall_ns, known.acknowledged_seq, known.head_seq)
        self.addresses = Addresses(connection, boot.boot, wall_ns)
        self.stored = Stored(connection, wall_ns)
        self.users = Users(connection)
        self.sealing = Sealing(connection, wall_ns, self.chain)
        self.erasing = Erasing(connection, known.chain.key)
        self._connection = connection
        self._known = known
        super().__init__(known, boot, wall_ns, mono_ns, self.ledger, self.refusals, spending, suspense)

    # --- the view: the file, and what this batch has posted -------------------------------------------------

    def _read_recorded(self, call_id: UUID) -> int | None:
        found: int | None = self._connection.execute(
            "SELECT max(revision) FROM (SELECT max(revision) AS revision FROM cdrs WHERE call_id = ?1"
            " UNION ALL SELECT max(revision) FROM suppressed WHERE call_id = ?1)",
            (call_id.bytes,),
        ).get
        if found is None and was_removed(self._connection, call_id):
            return ARCHIVED
        return found

    def _read_account_seq(self, account: str) -> int | None:
        found: int | None = self._connection.execute(
            "SELECT max(seq) FROM (SELECT max(seq) AS seq FROM cdrs WHERE account = ?1"
            " UNION ALL SELECT seq FROM account_heads WHERE account = ?1)",
            (account,),
        ).get
        return found

    # --- its transaction ------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write everything, and the link of the chain over it."""
        connection = self._connection
        if self._heartbeat_is_due():
            connection.execute(
                "UPDATE boots SET heartbeat_wall_ns = ?, heartbeat_mono_ns = ? WHERE boot = ?",
                (self._wall_ns, self._mono_ns, self._boot.boot),
            )
        self._write_open_calls()
        tables = (
            self._write_published(),
            self._write_suppressed(),
            self.ledger.flush(),
            [(self.chain.next_audit + at, *self._audited(one)) for at, one in enumerate(self._changes)],
        )
        AUDIT.write(connection, tables[-1])
        self.chain.write(connection, tables, Marks(self._head_seq, self.waiting.acknowledged_seq))

    def committed(self) -> None:
        super().committed()
        self._known.acknowledged_seq = self.waiting.acknowledged_seq
        self.chain.committed()

    # --- from postings to rows ------------------------------------------------------------------------------

    def _write_published(self) -> Sequence[tuple[object, ...]]:
        """Returns what the chain holds of them."""
        of, wall_ns, salted = self._published, self._wall_ns, salts(len(self._published))
        heads = [(one.seq, wall_ns, *one.opened, *one.numbers, one.found_by) for one in of]
        CDRS.write(self._connection, heads)
        bodies = zip(of, salted, strict=True)
        CDR_BODIES.write(self._connection, [(one.seq, one.body, one.crc, salt) for one, salt in bodies])
        return [
            (one.seq, wall_ns, *one.opened, self.chain.personal(salt, (*one.numbers, one.body)))
            for one, salt in zip(of, salted, strict=True)
        ]

    def _write_suppressed(self) -> Sequence[tuple[object, ...]]:
        of = list(enumerate(self._suppressed, self.chain.next_suppressed))
        salted = salts(len(of))
        rows = [
            (entry, *one.opened, *one.numbers, one.body, one.crc, salt, one.found_by)
            for (entry, one), salt in zip(of, salted, strict=True)
        ]
        SUPPRESSED.write(self._connection, rows)
        return [
            (entry, *one.opened, self.chain.personal(salt, (*one.numbers, one.body)))
            for (entry, one), salt in zip(of, salted, strict=True)
        ]

    # --- open calls -----------------------------------------------------------------------------------------

    def _write_open_calls(self) -> None:
        connection, chain = self._connection, self.chain
        closed = [one.slot for one in self._closed]
        delete_keys(connection, "open_calls", "slot", closed)
        for slot in closed:
            chain.take_open(slot)
        rows = self._open_rows()
        OPEN_CALLS.write(connection, rows)
        for row in rows:
            chain.put_open(row[0], row)
        for now in self._held_alone():
            held = (*held_columns(now.open_call.reserved), now.open_call.granted_s, now.slot)
            connection.execute(
                "UPDATE open_calls SET currency = ?, reserved = ?, granted_s = ? WHERE slot = ?", held
            )
            for row in connection.execute(OPEN_CALL_ROW, (now.slot,)):
                chain.put_open(now.slot, row)
