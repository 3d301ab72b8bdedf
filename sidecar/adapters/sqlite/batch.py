"""One transaction: the steps of many decisions, worked out in memory and written by a few statements at its
end.

Nothing is written before `flush`, so a step that is refused (no credit) or repeated simply adds nothing, and
no savepoint is needed. Nothing that outlives the transaction is changed before `committed`: after a rollback
the batch is thrown away and `Known` still says what the file says.

Repeating a step changes nothing: an admitted call is admitted once, a revision is recorded once, and a step
whose record exists already is dropped whole, with its Settle.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import apsw
import msgspec

from sidecar.adapters.sqlite.file import Boot
from sidecar.adapters.sqlite.known import Known, OpenCall
from sidecar.adapters.sqlite.ledger import Books
from sidecar.adapters.sqlite.rows import Table, crc_of, delete_keys
from sidecar.core.call import Call
from sidecar.core.cdr import Cdr
from sidecar.core.commands import Append, EntryKind, Publish, Reserve, Settle, StoreCommand, Suppress
from sidecar.core.terms import Money
from sidecar.ports import OutboxRow
from sidecar.wire.cdr_codec import CONTENT_VERSION, encode, encode_published
from sidecar.wire.entries import encode_call
from sidecar.wire.topics import cdr_topic

OPEN_CALLS = Table(
    "open_calls",
    ("slot", "boot", "call_id", "kind", "account", "currency", "reserved", "granted_s", "body", "crc"),
    replace=True,
)
_SEARCHED = (
    "boot",
    "call_id",
    "revision",
    "account",
    "origin",
    "reason",
    "detail",
    "gateway",
    "caller",
    "callee",
    "billed",
    "ended_us",
)
CDRS = Table("cdrs", ["seq", *_SEARCHED])
CDR_BODIES = Table("cdr_bodies", ["seq", "body", "crc"])
SUPPRESSED = Table("suppressed", [*_SEARCHED, "body", "crc"])
OUTBOX = Table("outbox", ["seq", "queued_wall_ns"])

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What a step came to, still without the stamps of its commit."""

    call_id: UUID
    kind: str  # the name of the event
    granted_s: int | None = None
    reserved: Money | None = None


ADMITTED, CREDIT_REFUSED, ANSWER_RECORDED, STEP_FAILED = (
    "admitted",
    "credit_refused",
    "answer_recorded",
    "step_failed",
)
HEARTBEAT_AGE_NS_MAX = 100_000_000  # it rewrites a page: not in each of five hundred commits a second
ACCOUNTS_KNOWN_MAX = 100_000


class Batch:
    def __init__(
        self, connection: apsw.Connection, known: Known, boot: Boot, wall_ns: int, mono_ns: int
    ) -> None:
        self.books = Books(connection, boot.boot, wall_ns)
        self.outcomes: list[Outcome] = []
        self.outbox_rows: list[OutboxRow] = []
        self._connection = connection
        self._known = known
        self._boot = boot
        self._wall_ns = wall_ns
        self._mono_ns = mono_ns
        self._head_seq = known.head_seq
        self._next_slot = known.next_slot
        self._head_bridge_id = known.head_bridge_id
        self._heartbeat_mono_ns = known.heartbeat_mono_ns
        self._open: dict[int, OpenCall | None] = {}  # changed in this batch; None: closed
        self._entries: dict[int, tuple[EntryKind, Call]] = {}  # by slot: only the last of a call is written
        self._recorded: dict[int, int] = {}
        self._account_seqs: dict[str, int] = {}
        self._cdrs: list[tuple[object, ...]] = []
        self._bodies: list[tuple[int, bytes, int]] = []
        self._suppressed: list[tuple[object, ...]] = []

    def run(self, step: Sequence[StoreCommand]) -> None:
        """All of one step, or (refused, repeated) nothing of it."""
        cdr: Cdr | None = None
        for command in step:
            if isinstance(command, (Publish, Suppress)):
                cdr = command.cdr
                if self._is_recorded(cdr.call_id, cdr.revision):
                    return
        reserve: Reserve | None = None
        for command in step:
            if isinstance(command, Append):
                if command.kind is not EntryKind.ADMITTED:
                    self._append(command.kind, command.call)
                elif not self._admit(command.call, reserve):
                    return
            elif isinstance(command, Reserve):
                reserve = command
            elif isinstance(command, Settle):
                self._settle(command, cdr.revision if cdr else 0)
            elif isinstance(command, Publish):
                self._publish(command.cdr)
            elif isinstance(command, Suppress):
                self._suppress(command.cdr)
            else:
                raise TypeError(f"not a store command: {type(command).__name__}")

    def is_newest(self, call_id: UUID, revision: int) -> bool:
        """Whether the call is closed, and this the revision of its record that holds."""
        is_closed = self._open_call(call_id) is None and self._is_recorded(call_id, revision)
        return is_closed and not self._is_recorded(call_id, revision + 1)

    def forget(self, call_id: UUID) -> None:
        """Undo an admission that was reported as failed, in case its commit reached the disk all the same."""
        known = self._open_call(call_id)
        if known is not None:
            self._release(call_id, known)
            self._close(call_id)

    def flush(self) -> None:
        """Write everything. A heartbeat goes along where the last is old: a commit proves that the node
        lived."""
        connection = self._connection
        closed = [
            self._known.open[key].slot
            for key, now in self._open.items()
            if now is None and key in self._known.open
        ]
        delete_keys(connection, "open_calls", "slot", closed)
        OPEN_CALLS.write(connection, self._open_rows())
        for slot in self._settled_slots():
            connection.execute(
                "UPDATE open_calls SET currency = NULL, reserved = NULL WHERE slot = ?", (slot,)
            )
        if self._head_seq != self._known.head_seq:
            connection.execute("UPDATE store SET head_seq = ?", (self._head_seq,))
        CDRS.write(connection, self._cdrs)
        CDR_BODIES.write(connection, self._bodies)
        OUTBOX.write(connection, [(seq, self._wall_ns) for seq, _, _ in self._bodies])
        SUPPRESSED.write(connection, self._suppressed)
        self.books.flush()
        if self._mono_ns - self._known.heartbeat_mono_ns >= HEARTBEAT_AGE_NS_MAX:
            self._heartbeat_mono_ns = self._mono_ns
            connection.execute(
                "UPDATE boots SET heartbeat_wall_ns = ?, heartbeat_mono_ns = ? WHERE boot = ?",
                (self._wall_ns, self._mono_ns, self._boot.boot),
            )

    def committed(self) -> None:
        """The transaction is on disk: what was found out in it holds."""
        known = self._known
        known.head_seq = self._head_seq
        known.next_slot = self._next_slot
        known.head_bridge_id = self._head_bridge_id
        known.heartbeat_mono_ns = self._heartbeat_mono_ns
        for key, now in self._open.items():
            if now is None:
                known.open.pop(key, None)
            else:
                known.open[key] = now
        if len(known.account_seqs) > ACCOUNTS_KNOWN_MAX:
            known.account_seqs.clear()
        known.account_seqs.update(self._account_seqs)

    # --- calls ----------------------------------------------------------------------------------------------

    def _admit(self, call: Call, reserve: Reserve | None) -> bool:
        call_id = call.call_id
        known = self._open_call(call_id)
        if known is not None:
            self.outcomes.append(Outcome(call_id, ADMITTED, known.granted_s, known.reserved))
            return False
        if self._is_new(call):
            pass  # the usual case, known without asking the file
        elif self._is_recorded(call_id, 0):
            self.outcomes.append(Outcome(call_id, STEP_FAILED))
            return False
        granted_s, reserved = None, None
        if reserve is not None:
            found = self.books.reserve(reserve)
            if found is None:
                self.outcomes.append(Outcome(call_id, CREDIT_REFUSED))
                return False
            granted_s, reserved = found.granted_s, found.reserved
            call = msgspec.structs.replace(call, granted_s=granted_s, reserved=reserved)
        account = reserve.account if reserve else call.account.name
        slot, self._next_slot = self._next_slot, self._next_slot + 1
        self._open[call_id.int] = OpenCall(slot=slot, account=account, granted_s=granted_s, reserved=reserved)
        self._entries[slot] = (EntryKind.ADMITTED, call)
        self.outcomes.append(Outcome(call_id, ADMITTED, granted_s, reserved))
        return True

    def _append(self, kind: EntryKind, call: Call) -> None:
        known = self._open_call(call.call_id)
        if known is not None:
            self._open[call.call_id.int] = known
            self._entries[known.slot] = (kind, call)
        if kind is EntryKind.ANSWERED:
            # Never admitted, or closed already: an answer that nobody recorded must not be let go.
            kind_of_outcome = STEP_FAILED if known is None else ANSWER_RECORDED
            self.outcomes.append(Outcome(call.call_id, kind_of_outcome))

    def _settle(self, command: Settle, revision: int) -> None:
        known = self._open_call(command.call_id)
        if known is not None:
            self._release(command.call_id, known)
        fresh = known is not None and known.fresh
        self.books.charge(command.account, command.total, command.call_id, revision, fresh=fresh)

    def _release(self, call_id: UUID, known: OpenCall) -> None:
        if known.reserved is not None:
            self.books.release(known.account, known.reserved, call_id)
        self._open[call_id.int] = msgspec.structs.replace(known, reserved=None, fresh=False)

    # --- records --------------------------------------------------------------------------------------------

    def _publish(self, cdr: Cdr) -> None:
        seq = self._head_seq + 1
        body = encode_published(cdr, self._boot.epoch, seq, self._account_seq(cdr.account))
        self._head_seq = self._account_seqs[cdr.account] = seq
        self._cdrs.append((seq, *self._searched(cdr)))
        self._bodies.append((seq, body, crc_of(body)))
        self.outbox_rows.append(
            OutboxRow(
                seq=seq,
                topic=cdr_topic(cdr.tenant, cdr.node, cdr.account, cdr.hangup_origin),
                payload=body,
                message_id=str(cdr.message_id),
                content_version=CONTENT_VERSION,
            )
        )
        self._record(cdr)

    def _suppress(self, cdr: Cdr) -> None:
        body = encode(cdr)
        self._suppressed.append((*self._searched(cdr), body, crc_of(body)))
        self._record(cdr)

    def _record(self, cdr: Cdr) -> None:
        self._recorded[cdr.call_id.int] = cdr.revision
        self._close(cdr.call_id)

    def _close(self, call_id: UUID) -> None:
        known = self._open_call(call_id)
        if known is None:
            return
        if known.reserved is not None:
            # A record without a Settle would leak the reservation for ever.
            self._release(call_id, known)
        self._entries.pop(known.slot, None)
        self._open[call_id.int] = None

    def _searched(self, cdr: Cdr) -> tuple[object, ...]:
        return (
            self._boot.boot,
            cdr.call_id.bytes,
            cdr.revision,
            cdr.account,
            cdr.hangup_origin.value,
            cdr.server_reason.value if cdr.server_reason else None,
            cdr.detail.value,
            cdr.gateway,
            cdr.caller.received,
            cdr.callee.received,
            cdr.callee.billed,
            (cdr.ended_at - _EPOCH) // _US,
        )

    # --- what is known, in this batch or before it ----------------------------------------------------------

    def _open_call(self, call_id: UUID) -> OpenCall | None:
        key = call_id.int
        if key in self._open:
            return self._open[key]
        return self._known.open.get(key)

    def _is_new(self, call: Call) -> bool:
        """The bridge counts its calls: one with a higher number than any before it has never been here."""
        if call.boot_id != self._boot.boot_id or call.bridge_id <= self._head_bridge_id:
            return False
        self._head_bridge_id = call.bridge_id
        return True

    def _is_recorded(self, call_id: UUID, revision: int) -> bool:
        in_batch = self._recorded.get(call_id.int)
        if in_batch is not None and in_batch >= revision:
            return True
        if self._open_call(call_id) is not None:
            return False  # it is open exactly because it has no record
        key = (call_id.bytes, revision)
        execute = self._connection.execute
        return (
            execute("SELECT 1 FROM cdrs WHERE call_id = ? AND revision >= ?", key).fetchone() is not None
            or execute("SELECT 1 FROM suppressed WHERE call_id = ? AND revision >= ?", key).fetchone()
            is not None
        )

    def _account_seq(self, account: str) -> int | None:
        found = self._account_seqs.get(account)
        if found is None and account in (seqs := self._known.account_seqs):
            found = seqs[account]
        elif found is None:
            found = self._connection.execute("SELECT max(seq) FROM cdrs WHERE account = ?", (account,)).get
        return found

    def _settled_slots(self) -> list[int]:
        """Calls that were settled and stay open, without a new entry: their reservation is gone all the
        same."""
        return [
            now.slot
            for now in self._open.values()
            if now is not None and now.reserved is None and not now.fresh and now.slot not in self._entries
        ]

    def _open_rows(self) -> list[tuple[object, ...]]:
        rows: list[tuple[object, ...]] = []
        for known in self._open.values():
            if known is not None and known.slot in self._entries:
                kind, call = self._entries[known.slot]
                body = encode_call(call)
                reserved = known.reserved
                rows.append(
                    (
                        known.slot,
                        self._boot.boot,
                        call.call_id.bytes,
                        kind.value,
                        known.account,
                        reserved.currency if reserved else None,
                        f"{reserved.amount:f}" if reserved else None,
                        known.granted_s,
                        body,
                        crc_of(body),
                    )
                )
        return rows
