"""One transaction of the database (see store/batch): a round trip before it for what its steps will ask, and
one after it for all that it writes and its COMMIT.

Locks are taken in one order: the epoch of the node (whoever ends that epoch waits for us, or we for him),
then the balances of all accounts that the steps will move, by their keys. What a job asks beside that is read
and locked when it is asked for; should two nodes then be in one another's way, the server says so and the
transaction is tried again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from uuid import UUID

import msgspec

from sidecar.adapters.postgresql.boots import LEASED, Marks, Own, ask_fence, tranches_of
from sidecar.adapters.postgresql.chain import AUDIT_IN_ORDER, Draft, as_stored, movement
from sidecar.adapters.postgresql.erasing import Erasing
from sidecar.adapters.postgresql.server import Server, Table
from sidecar.adapters.postgresql.spending import Spending
from sidecar.adapters.postgresql.stored import Stored
from sidecar.adapters.postgresql.waiting import Waiting
from sidecar.adapters.store.addresses import Addresses
from sidecar.adapters.store.batch import (
    ARCHIVED,
    OPEN_CALL,
    SEARCHED,
    BaseBatch,
    Written,
    held_columns,
    is_older,
)
from sidecar.adapters.store.bodies import crc_of
from sidecar.adapters.store.chain import salts
from sidecar.adapters.store.known import Known
from sidecar.adapters.store.ledger import MOVED, TERMS, BaseLedger, terms_of
from sidecar.adapters.store.suspense import Suspense
from sidecar.adapters.store.users import Users
from sidecar.adapters.store.work import Job, Work, nobody
from sidecar.core.account_books import Booked
from sidecar.core.account_terms import AccountTerms
from sidecar.core.amounts import EXACT
from sidecar.core.audit import Change
from sidecar.core.books import ZERO, Movement, MovementKind, Posting, call_of
from sidecar.core.cdr import Cdr
from sidecar.core.chain import Row
from sidecar.core.commands import Append, Audit, EntryKind, Reserve, Settle
from sidecar.core.events import StrayBye
from sidecar.core.tranches import Burned, Key, Reserved, give_back, resize
from sidecar.wire.cdr_codec import encode

STRAY_NS_MAX = 600_000_000_000  # by then its call was taken over, or is of nobody
_TYPES = {
    "amount": "numeric",
    "balance": "numeric",
    "body": "bytea",
    "boot": "int",
    "at_wall_ns": "bigint",
    "booked_wall_ns": "bigint",
    "call_id": "bytea",
    "crc": "bigint",
    "created_wall_ns": "bigint",
    "ended_us": "bigint",
    "epoch": "int",
    "found_by": "bytea",
    "granted_s": "int",
    "link": "bigint",
    "link_hash": "bytea",
    "maybe_told": "int",
    "prepaid": "int",
    "reserved": "numeric",
    "revision": "int",
    "salt": "bytea",
    "seq": "bigint",
    "slot": "bigint",
    "uid": "bigint",
    "written_wall_ns": "bigint",
}  # all others: text


def _table(
    name: str, columns: Sequence[str], conflict: str = "", same: Sequence[str] = (), last: str = ""
) -> Table:
    return Table(name, {column: _TYPES.get(column, "text") for column in columns}, conflict, same, last)


_CHANGING = [column for column in OPEN_CALL if column not in ("slot", "call_id")]
OPEN_CALLS = _table(
    "open_calls",
    ("node", *OPEN_CALL),
    f"ON CONFLICT (node, slot) DO UPDATE SET ({', '.join(_CHANGING)})"
    f" = ROW({', '.join(f'EXCLUDED.{column}' for column in _CHANGING)})",
)
HELD = (
    "UPDATE open_calls SET currency = one.currency, reserved = one.reserved, granted_s = one.granted_s"
    " FROM unnest(?2::bigint[], ?3::text[], ?4::numeric[], ?5::int[])"
    " AS one (slot, currency, reserved, granted_s)"
    " WHERE open_calls.node = ?1 AND open_calls.slot = one.slot"
)
_KEPT = ("found_by", "body", "crc", "salt", "link", "link_hash")
CDRS = _table(
    "cdrs",
    ("epoch", "seq", "written_wall_ns", *SEARCHED, *_KEPT),
    same=("epoch", "written_wall_ns", "boot", "link"),
    last="link_hash",
)
SUPPRESSED = _table("suppressed", (*SEARCHED, *_KEPT), same=("boot", "link"), last="link_hash")
_NOTE = ("boot", "at_wall_ns", "operator", "uid", "action", "subject", "before", "after", "text")
AUDIT = _table(
    "audit",
    (*_NOTE, "link", "link_hash"),
    same=("link",),
    last="link_hash",
)
LEDGER = _table(
    "ledger",
    (*MOVED, "link", "link_hash"),
    same=("boot", "booked_wall_ns", "link"),
    last="link_hash",
)
_BOOKED_AT = MOVED.index("booked_wall_ns")
BALANCES = _table(
    "balances",
    ("account", "currency", "boot", "amount"),
    "ON CONFLICT (account, currency) DO UPDATE SET boot = EXCLUDED.boot, amount = EXCLUDED.amount",
)
TRANCHES = _table(
    "tranches",
    ("node", "account", "currency", "boot", "amount"),
    "ON CONFLICT (node, account, currency) DO UPDATE SET boot = EXCLUDED.boot, amount = EXCLUDED.amount",
)
ACCOUNTS = _table("accounts", ("name", "currency", "prepaid", "terms", "boot", "created_wall_ns"))
_LOCKED = (
    "SELECT account, currency, amount FROM balances WHERE account = ANY(?)"
    " ORDER BY account, currency FOR UPDATE"
)


_RETURNED = "DELETE FROM tranches WHERE node = ? AND account = ? AND currency = ?"
_IS_OVER = (
    "SELECT leased_until < clock_timestamp() FROM nodes JOIN epochs USING (epoch) WHERE nodes.node = ?"
    " FOR UPDATE OF epochs"
)
_LIVING = "SELECT count(*) FROM nodes JOIN epochs USING (epoch) WHERE leased_until >= clock_timestamp()"


class Ledger(BaseLedger):
    def __init__(
        self, server: Server, boot: int, wall_ns: int, node: str, held: Mapping[Key, Decimal]
    ) -> None:
        """`held`: the tranches of the node before the transaction."""
        super().__init__(boot, wall_ns)
        self._server = server
        self._node = node
        self._held = held
        self.tranches_here: dict[Key, Decimal] = {}  # as they stand in this transaction, where it moves them
        self.reserved_here: dict[Key, Reserved] = {}
        self._returned: list[tuple[str, str, str]] = []

    def tranche(self, account: str, currency: str) -> Decimal:
        key = (account, currency)
        return self.tranches_here[key] if key in self.tranches_here else self._held.get(key, ZERO)

    def book(self, movements: Sequence[Movement]) -> None:
        super().book(movements)
        for one in movements:
            key = (one.account, one.currency)
            if one.kind is MovementKind.RESERVE:
                amount, times = self.reserved_here.get(key, Reserved())
                self.reserved_here[key] = Reserved(EXACT.subtract(amount, one.amount), times + 1)
            elif one.kind is MovementKind.TRANCHE:
                self.tranches_here[key] = EXACT.subtract(self.tranche(*key), one.amount)

    def return_of(self, node: str, movements: Sequence[Movement]) -> None:
        """Of another node: all of a tranche."""
        super().book(movements)
        self._returned += [(node, one.account, one.currency) for one in movements]

    def foresee(self, terms: Iterable[str], balances: Iterable[str]) -> Callable[[], None]:
        """In a pipeline: read, and lock, what will be asked; once that is over, what is returned takes it in.
        What is not there is asked for again: it may come meanwhile."""
        server, named, moved = self._server, sorted(terms), sorted(balances)
        known = server.ask(f"{TERMS} WHERE name = ANY(?)", (named,)) if named else list
        locked = server.ask(_LOCKED, (moved,)) if moved else list

        def take_in() -> None:
            for row in known():
                self._accounts[row[0]] = terms_of(row)
            for account, currency, amount in locked():
                self._balances[account, currency] = amount

        return take_in

    def _read_balance(self, account: str, currency: str) -> Decimal:
        # There may be no row to be locked; whoever wants to make it waits here.
        key = f"{account}\n{currency}"
        self._server.run(
            "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || ' ' || ?, 0))", (key,)
        )
        found = self._server.run(
            "SELECT amount FROM balances WHERE account = ? AND currency = ? FOR UPDATE", (account, currency)
        )
        return found[0][0] if found else ZERO

    def _read_account(self, name: str) -> AccountTerms | None:
        found = self._server.run(f"{TERMS} WHERE name = ?", (name,))
        return terms_of(found[0]) if found else None

    def _read_booked(self, account: str, reference: str) -> Booked | None:
        found = self._server.run(
            "SELECT kind, amount FROM ledger WHERE account = ?1 AND reference = ?2"
            " UNION ALL SELECT kind, amount FROM kept_references WHERE account = ?1 AND reference = ?2",
            (account, reference),
        )
        if not found:
            return None
        ((kind, amount), *_) = found
        return Booked(kind and MovementKind(kind), amount)

    def _read_charged(self, call_id: UUID) -> dict[tuple[str, str], Decimal]:
        rows = self._server.run(
            "SELECT account, currency, -sum(amount) FROM ledger WHERE call_id = ? AND kind = 'charge'"
            " GROUP BY account, currency",
            (call_id.bytes,),
        )
        return {(account, currency): amount for account, currency, amount in rows}

    def links(self) -> list[Row]:
        """What a link holds of the movements."""
        return list(map(movement, self._rows))

    def send(self, chain: Draft) -> None:
        """All that was posted."""
        server, boot = self._server, self._boot
        ACCOUNTS.send(server, [(*row, boot, self._wall_ns) for row in self._made()])
        for name, currency, prepaid, terms in self._retermed():
            server.send(
                "UPDATE accounts SET currency = ?, prepaid = ?, terms = ? WHERE name = ?",
                (currency, prepaid, terms, name),
            )
        rows = [(*row[1:_BOOKED_AT], *row[_BOOKED_AT + 1 :]) for row in self._rows]  # each of this boot, now
        LEDGER.send(server, rows, boot, self._wall_ns, chain.number, last=chain.last("ledger"))
        BALANCES.send(server, [(*key, boot, self._balances[key]) for key in sorted(self._moved)])
        held = [(self._node, *key, boot, left) for key, left in self.tranches_here.items() if left]
        TRANCHES.send(server, held)
        gone = [(self._node, *key) for key, left in self.tranches_here.items() if not left]
        for row in (*gone, *self._returned):
            server.send(_RETURNED, row)


class KeptRefusals:
    """Counts of refusals that have no record yet, kept for the start after a crash."""

    def __init__(self, server: Server, node: str) -> None:
        self._server = server
        self._node = node
        self._kept: list[Cdr] = []
        self._recorded: list[UUID] = []

    def keep(self, aggregates: Sequence[Cdr]) -> None:
        self._kept += aggregates

    def recorded(self, call_id: UUID) -> None:
        self._recorded.append(call_id)

    def send(self) -> None:
        for cdr in self._kept:
            body = encode(cdr)
            self._server.send(
                "INSERT INTO refusals (node, call_id, body, crc) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (call_id) DO UPDATE SET body = EXCLUDED.body, crc = EXCLUDED.crc",
                (self._node, cdr.call_id.bytes, body, crc_of(body)),
            )
        if self._recorded:
            gone = [one.bytes for one in self._recorded]
            self._server.send("DELETE FROM refusals WHERE call_id = ANY(?)", (gone,))


class Batch(BaseBatch):
    def __init__(
        self,
        server: Server,
        known: Known,
        own: Own,
        wall_ns: int,
        mono_ns: int,
        slack_s: float = 0.0,
    ) -> None:
        """The transaction is begun by `begin`. `slack_s`: so much longer lasts the lease."""
        self._slack_s = slack_s
        boot, node = own.boot, own.node
        self.ledger = Ledger(server, boot.boot, wall_ns, node, known.tranches)
        self.refusals = KeptRefusals(server, node)
        suspense = Suspense(server, self.ledger)
        spending = Spending(server, known, self.ledger)
        self.waiting = Waiting(server, own, wall_ns, 0, known.head_seq)
        self.addresses = Addresses(server, boot.boot, wall_ns)
        self.stored = Stored(server, node, wall_ns)
        self.users = Users(server)
        self.chain = Draft(own.key)
        self.erasing = Erasing(server, boot.boot, wall_ns, self.chain)
        self._server = server
        self._own = own
        self._epoch = own.epoch
        self._node = node
        self._up_before: dict[str, int] = {}  # by account: its open calls, once somebody asked
        self._up_here: dict[str, int] = {}  # and what this transaction adds to them
        super().__init__(known, boot, wall_ns, mono_ns, self.ledger, self.refusals, spending, suspense)

    def begin(self, works: Sequence[Work | UUID]) -> Marks:
        """One round trip: the epoch is ours until the end of the transaction, and what the works will ask is
        read and locked. FencedError."""
        asked_s = time.monotonic()
        with self._server.pipeline():
            self._server.begin()
            fenced = ask_fence(self._server, self._own)
            take_in = self._foresee(works)
        self._server.round_trip_s = time.monotonic() - asked_s
        marks = fenced()
        take_in()
        self.waiting.acknowledged_seq = marks.acknowledged_seq
        self.chain.begin(marks.link)
        return marks

    def _foresee(self, works: Sequence[Work | UUID]) -> Callable[[], None]:
        terms: set[str] = set()
        balances: set[str] = set()
        for work in works:
            if isinstance(work, UUID):
                continue
            if isinstance(work, Job):
                balances.update(work.accounts)
                continue
            for command in work:
                if isinstance(command, Append):
                    if command.kind is EntryKind.ADMITTED:
                        account = command.call.account
                        terms.add(account.name)
                        if account.calls_max is not None:
                            balances.add(account.name)
                elif isinstance(command, (Reserve, Settle)):
                    balances.add(command.account)
                elif not isinstance(command, Audit) and (slot := self._slot(call_of(command))) is not None:
                    balances.add(slot.open_call.account)
        return self.ledger.foresee(terms | balances, balances)

    # --- what the engine has --------------------------------------------------------------------------------

    def _read_recorded(self, call_id: UUID) -> int | None:
        ((found,),) = self._server.run(
            "SELECT max(revision) FROM (SELECT revision FROM cdrs WHERE call_id = ?1"
            " UNION ALL SELECT revision FROM suppressed WHERE call_id = ?1) AS of_it",
            (call_id.bytes,),
        )
        if found is None:
            ((until_us,),) = self._server.run("SELECT max(until_us) FROM archives")
            if until_us is not None and is_older(call_id, until_us):
                return ARCHIVED
        return found  # type: ignore[no-any-return]

    def _read_account_seq(self, account: str) -> int | None:
        ((found,),) = self._server.run(
            "SELECT max(seq) FROM (SELECT max(seq) AS seq FROM cdrs WHERE epoch = ?1 AND account = ?2"
            " UNION ALL SELECT seq FROM account_heads WHERE epoch = ?1 AND account = ?2) AS of_it",
            (self._epoch, account),
        )
        return found  # type: ignore[no-any-return]

    def calls_up(self, account: str, currency: str) -> int:
        self.balance(account, currency)  # locked: no other node admits one beside us
        if account not in self._up_before:
            sql = "SELECT count(*) FROM open_calls WHERE account = ? AND kind <> 'ending'"
            ((self._up_before[account],),) = self._server.run(sql, (account,))
        return self._up_before[account] + self._up_here.get(account, 0)

    def tranche(self, account: str, currency: str) -> Decimal:
        return self.ledger.tranche(account, currency)

    def resize(self, burned: Mapping[Key, Burned], tranche_s: int) -> None:
        ((nodes,),) = self._server.run(_LIVING)
        for key in sorted(burned):
            self.ledger.book(resize(key, burned[key], tranche_s, nodes, self))

    def give_back(self) -> None:
        """All that this node holds."""
        for key, held in sorted(self._remembered.tranches.items()):
            self.ledger.book(give_back(key, held, self))

    def return_tranches(self, node: str, change: Change) -> int | str:
        """Of another node, that will never start: of how many accounts, or why not. A start of it waits for
        us, or we see its lease."""
        found = self._server.run(_IS_OVER, (node,))
        if not found:
            return f"there is no node {node}: `sidecar node list`"
        if not found[0][0]:
            return f"node {node} lives, or has ended a moment ago: its lease is not over"
        held = tranches_of(self._server, node)
        for key, amount in held.items():
            self.ledger.return_of(node, give_back(key, amount, self))
        self.audit(change)
        return len(held)

    def committed(self) -> None:
        super().committed()
        for key, left in self.ledger.tranches_here.items():
            if left:
                self._remembered.tranches[key] = left
            else:
                self._remembered.tranches.pop(key, None)

    def _keep_call(self, posting: Posting) -> None:
        before, now = self._slot(posting.call_id), posting.open_call
        super()._keep_call(posting)
        if before is None and now is not None:  # those that end here give their places to the next commit
            self._up_here[now.account] = self._up_here.get(now.account, 0) + 1

    def serve(self, heard_at: Sequence[str], lease_s: float) -> None:
        """Calls come from now on, and with them regular commits."""
        self._server.run(
            "UPDATE epochs SET heard_at = ?, lease_s = ? WHERE epoch = ?",
            (" ".join(heard_at), lease_s, self._epoch),
        )

    def note_stray(self, bye: StrayBye) -> None:
        self._server.run("DELETE FROM stray_byes WHERE heard_wall_ns < ?", (bye.wall_ns - STRAY_NS_MAX,))
        body = msgspec.json.encode(bye).decode()
        self._server.run("INSERT INTO stray_byes (heard_wall_ns, body) VALUES (?, ?)", (bye.wall_ns, body))

    # --- its transaction ------------------------------------------------------------------------------------

    def send(self) -> None:
        """All that is to be written, in a pipeline."""
        server, boot, wall_ns = self._server, self._boot.boot, self._wall_ns
        if self._closed:
            gone = [one.slot for one in self._closed]
            server.send("DELETE FROM open_calls WHERE node = ? AND slot = ANY(?)", (self._node, gone))
        OPEN_CALLS.send(server, [(self._node, *row) for row in self._open_rows()])
        held = [
            (now.slot, *held_columns(now.open_call.reserved), now.open_call.granted_s)
            for now in self._held_alone()
        ]
        if held:
            server.send(HELD, (self._node, *map(list, zip(*held, strict=True))))
        notes = list(map(self._audited, self._changes))
        self._send_records(notes)
        self.ledger.send(self.chain)
        self.refusals.send()
        if notes:
            # The last lock that is taken: whoever reads on behind an entry misses none of another node.
            server.send(AUDIT_IN_ORDER)
            AUDIT.send(server, notes, self.chain.number, last=self.chain.last("audit"))
        if self._heartbeat_is_due():
            server.send(
                "UPDATE boots SET heartbeat_wall_ns = ?, heartbeat_mono_ns = ? WHERE boot = ?",
                (wall_ns, self._mono_ns, boot),
            )
        link = self.chain.link
        server.send(
            "UPDATE epochs SET commits = commits + 1, head_seq = ?, acknowledged_seq = ?,"  # noqa: S608
            f" {LEASED.format('(lease_s + ?)')}{', link = ?, link_hash = ?' if link else ''} WHERE epoch = ?",
            (self._head_seq, self.waiting.acknowledged_seq, self._slack_s, *(link or ()), self._epoch),
        )

    def _send_records(self, notes: Sequence[Row]) -> None:
        """And before them the link, over all that the transaction adds for good: its last row holds it."""
        server, chain, published, kept_back = self._server, self.chain, self._published, self._suppressed
        salted = salts(len(published) + len(kept_back))
        of_published, of_kept_back = salted[: len(published)], salted[len(published) :]
        places = [(self._epoch, one.seq, self._wall_ns) for one in published]
        chain.seal(
            {
                "cdrs": [
                    chain.record((*place, *one.opened), salt, (*one.numbers, one.body))
                    for place, one, salt in zip(places, published, of_published, strict=True)
                ],
                "suppressed": [
                    chain.record(one.opened, salt, (*one.numbers, one.body))
                    for one, salt in zip(kept_back, of_kept_back, strict=True)
                ],
                "ledger": self.ledger.links(),
                "erased": self.erasing.rows,
                "audit": list(map(as_stored, notes)),
            }
        )
        number, boot = chain.number, self._boot.boot
        rows = [(one.seq, *_row(one), salt) for one, salt in zip(published, of_published, strict=True)]
        CDRS.send(server, rows, self._epoch, self._wall_ns, boot, number, last=chain.last("cdrs"))
        rows = [(*_row(one), salt) for one, salt in zip(kept_back, of_kept_back, strict=True)]
        SUPPRESSED.send(server, rows, boot, number, last=chain.last("suppressed"))


def giving_back(tranches: Mapping[Key, Decimal]) -> Job:
    """All that the node holds."""
    return Job(run=Batch.give_back, done=nobody, accounts={account for account, _ in tranches})


def _row(one: Written) -> tuple[object, ...]:
    """But for what is the same in all of a transaction."""
    return (*one.opened[1:], *one.numbers, one.found_by, one.body, one.crc)
