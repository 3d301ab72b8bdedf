"""The history of a node comes from another engine (see store/moving): all in one transaction, or nothing.

The database may have other nodes, which go on meanwhile. Accounts are those of all: where both places have
one, its terms have to be the same, its balance becomes the sum of both, and the balances of the movements
that come are told anew behind those that are there. While that is done nobody else moves a balance.

The chain of the node begins anew, under the key in force: a commit is over LINK_ROWS rows of a table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import groupby, islice
from typing import Any

import psycopg

from sidecar.adapters.postgresql.boots import hold
from sidecar.adapters.postgresql.chain import Draft, as_stored, movement, note
from sidecar.adapters.postgresql.migrations import migrate
from sidecar.adapters.postgresql.server import Server
from sidecar.adapters.store.chain import NAMED_MAX, salts
from sidecar.adapters.store.moving import (
    COLUMNS,
    NAMES,
    WITH_BODIES,
    History,
    Moved,
    Totals,
    balance_of,
    bodies_of,
    head_of,
    sum_of,
)
from sidecar.adapters.store.store import StoreError
from sidecar.core.amounts import EXACT
from sidecar.core.audit import Change, told
from sidecar.core.books import ZERO, MovementKind, suspense_reference
from sidecar.core.books_check import plain
from sidecar.core.chain import ORIGIN, ChainKey, Link, Row

_SHARED = {  # by what a row is known, and in what two of one thing have to agree
    "users": ("name", ("role", "password_hash", "enabled")),
    "accounts": ("name", ("currency", "prepaid", "terms")),
    "account_addresses": ("block", ("account",)),
}
_WHOSE = {"outbox_behind": "epoch = ANY(?2)", "refusals": "node = ?3", "stored_entries": "node = ?3"}
_ALL = "?1::int[] IS NOT NULL AND ?2::int[] IS NOT NULL AND ?3::text IS NOT NULL"  # each has its type
_BALANCE = (
    "INSERT INTO balances (account, currency, boot, amount) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (account, currency) DO UPDATE SET boot = EXCLUDED.boot, amount = EXCLUDED.amount"
)
_SAID_MAX = 10
LINK_ROWS = NAMED_MAX  # so that verify can name each of them

_Key = tuple[str, str]  # account, currency


def take_in(conninfo: str, node: str, history: History, change: Change, key: ChainKey) -> Moved:
    """`key`: of the chain. `change`: who does it, and why. StoreError: nothing was changed, and why."""
    try:
        server = Server(conninfo, f"sidecar {node} moves in")
    except psycopg.Error as error:
        raise StoreError(f"the database cannot be reached ({' '.join(str(error).split())})") from error
    try:
        migrate(server)
        hold(server, node)
        with server.unhurried(), server.transaction():
            return _TakingIn(server, node, history, key).moved(change)
    except psycopg.errors.UniqueViolation as error:
        said = f"{error.diag.table_name}: {error.diag.message_detail}"
        raise StoreError(f"{server.name}: {said} Nothing was changed.") from error
    except psycopg.Error as error:
        text = " ".join(str(error).split())
        raise StoreError(f"{server.name}: {text}. Nothing was changed.") from error
    finally:
        server.close()


class _TakingIn:
    """Within one transaction."""

    def __init__(self, server: Server, node: str, history: History, key: ChainKey) -> None:
        self._key = key
        self._link = Link(0, ORIGIN)
        self._server = server
        self._node = node
        self._history = history
        self._epochs = history.epochs()
        self._epoch_numbers: dict[str, int] = {}
        self._boots: dict[Any, int] = {}
        self._boot_epochs: dict[Any, int] = {}
        self._before: dict[_Key, Decimal] = {}  # the balances that were here

    def moved(self, change: Change) -> Moved:
        left, epoch = self._history.totals(), self._history.epoch
        if self._is_here():
            return Moved(node=self._node, epoch=epoch, left=left, done_before=True)
        self._begin()
        for table in ("cdrs", "suppressed", "outbox_behind", "dead_letters", "refusals"):
            self._copy(table)
        for table in ("open_calls", "stored_entries", "audit", "kept_references"):
            self._copy(table)
        self._archived()
        for table in _SHARED:
            self._share(table)
        self._move_money()
        self._server.run(
            "UPDATE epochs SET link = ?, link_hash = ? WHERE epoch = ?",
            (*self._link, self._epoch_numbers[epoch]),
        )
        found = self._totals()
        if wrong := left.differing(found):
            raise StoreError(f"the totals differ, and nothing was changed: {'; '.join(wrong[:_SAID_MAX])}")
        self._note(change)
        return Moved(node=self._node, epoch=epoch, left=left, found=found)

    def _is_here(self) -> bool:
        """StoreError where the node has other books here, or another has these."""
        of = self._server.run("SELECT node FROM epochs WHERE name = ?", (self._history.epoch,))
        if of and of[0][0] != self._node:
            raise StoreError(f"it was taken over already, as node {of[0][0]}: node.name is {self._node}")
        if not of and self._server.run("SELECT 1 FROM nodes WHERE node = ?", (self._node,)):
            raise StoreError(f"node {self._node} has begun books of its own in the database already")
        return bool(of)

    def _begin(self) -> None:
        for epoch in self._epochs:
            ((self._epoch_numbers[epoch.name],),) = self._server.run(
                "INSERT INTO epochs (node, name, created_wall_ns, base_seq, head_seq, acknowledged_seq)"
                " VALUES (?, ?, ?, ?, ?, ?) RETURNING epoch",
                (self._node, *epoch),
            )
        for boot, name, *marks in self._history.boots():
            number = self._boot_epochs[boot] = self._epoch_numbers[name]
            ((self._boots[boot],),) = self._server.run(
                "INSERT INTO boots"
                " (epoch, boot_id, started_wall_ns, heartbeat_wall_ns, heartbeat_mono_ns, chain_key)"
                " VALUES (?, ?, ?, ?, ?, ?) RETURNING boot",
                (number, *marks, self._key.id),
            )
        self._server.run(
            "INSERT INTO nodes (node, epoch) VALUES (?, ?)",
            (self._node, self._epoch_numbers[self._history.epoch]),
        )

    def _copy(self, table: str) -> None:
        columns = COLUMNS[table]
        whose = {"refusals": "node", "stored_entries": "node", "open_calls": "node"}.get(table)
        if table in ("cdrs", "outbox_behind", "dead_letters"):
            whose = "epoch"
        at = columns.index("boot") if "boot" in columns else None

        def rows() -> Iterator[tuple[object, ...]]:
            for row in self._history.rows(table):
                there = row if at is None else (*row[:at], self._boots[row[at]], *row[at + 1 :])
                if table == "cdrs" and at is not None:
                    yield (self._boot_epochs[row[at]], *there)
                elif whose == "epoch":
                    yield (self._epoch_of(row[0]), *there)
                else:
                    yield there if whose is None else (self._node, *there)

        names = columns if whose is None else (whose, *columns)
        if table in ("cdrs", "suppressed", "audit"):
            more = ("link", "link_hash") if table == "audit" else ("salt", "link", "link_hash")
            self._server.copy(table, (*names, *more), self._linked(table, rows()))
        else:
            self._server.copy(table, names, rows())

    # --- the chain ------------------------------------------------------------------------------------------

    def _linked(self, table: str, rows: Iterator[tuple[object, ...]]) -> Iterator[tuple[object, ...]]:
        """Each row with what it has of the chain, salt, number and hash, behind it."""
        while some := list(islice(rows, LINK_ROWS)):
            draft = Draft(self._key)
            draft.begin(self._link)
            salted: list[tuple[bytes, ...]] = [()] * len(some)
            if table in ("cdrs", "suppressed"):
                salted = [(salt,) for salt in salts(len(some))]
                hashed: list[Row] = []
                for row, (salt,) in zip(some, salted, strict=True):
                    *opened, caller, callee, billed, _, body, _ = row
                    hashed.append(draft.record(opened, salt, (caller, callee, billed, body)))
            else:
                hashed = [movement(row) if table == "ledger" else as_stored(row) for row in some]
            draft.seal({table: hashed})
            assert draft.link is not None, "rows make a link"
            self._link = draft.link
            for row, salt_of in zip(some, salted, strict=True):
                yield (*row, *salt_of, draft.link.number, draft.last(table) if row is some[-1] else None)

    def _epoch_of(self, seq: Any) -> int:
        """Numbers go on over the epochs of a node."""
        return next(self._epoch_numbers[epoch.name] for epoch in self._epochs if seq <= epoch.head_seq)

    def _share(self, table: str) -> None:
        """What is of all nodes, and may be here."""
        columns, here = COLUMNS[table], self._here(table)
        at = columns.index("boot") if "boot" in columns else None
        unlike, new = [], []
        for name, agreeing, row in self._known_by(table):
            if name not in here:
                new.append(row if at is None else (*row[:at], self._boots[row[at]], *row[at + 1 :]))
            elif here[name] != agreeing:
                unlike.append(name)
        if unlike:
            more = " ..." if len(unlike) > _SAID_MAX else ""
            raise StoreError(
                f"{NAMES[table]}: the database has others of the same name: {', '.join(unlike[:_SAID_MAX])}"
                f"{more}: make them the same first. Nothing was changed."
            )
        self._server.copy(table, columns, new)

    def _known_by(self, table: str) -> Iterator[tuple[str, tuple[object, ...], tuple[Any, ...]]]:
        key, agreeing = _SHARED[table]
        for row in self._history.rows(table):
            known = dict(zip(COLUMNS[table], row, strict=True))
            yield str(known[key]), tuple(known[name] for name in agreeing), row

    def _here(self, table: str) -> dict[str, tuple[object, ...]]:
        key, agreeing = _SHARED[table]
        return {
            name: tuple(rest)
            for name, *rest in self._server.run(f"SELECT {key}, {', '.join(agreeing)} FROM {table}")  # noqa: S608 - names of ours alone
        }

    def _archived(self) -> None:
        """Of the present epoch: what an earlier one had up to there is not told any more."""
        archived, epoch = self._history.archived(), self._epochs[-1]
        if archived is None:
            return
        number = self._epoch_numbers[epoch.name]
        ((entry,),) = self._server.run(
            "INSERT INTO archives (until_us, archive, suppressed, removed_wall_ns) VALUES (?, ?, 0, ?)"
            " RETURNING entry",
            (archived.until_us, archived.archive, archived.removed_wall_ns),
        )
        if archived.seq > epoch.base_seq:
            self._server.run(
                "INSERT INTO archived_epochs (archive, epoch, seq) VALUES (?, ?, ?)",
                (entry, number, archived.seq),
            )
        heads = ((number, account, seq) for account, seq in archived.account_heads if seq > epoch.base_seq)
        self._server.copy("account_heads", ("epoch", "account", "seq"), heads)

    # --- money ----------------------------------------------------------------------------------------------

    def _move_money(self) -> None:
        server = self._server
        server.run("LOCK TABLE balances IN EXCLUSIVE MODE")  # until our end nobody reads one to move it
        balances = list(self._history.rows("balances"))
        names = sorted({str(account) for account, *_ in balances})
        self._before = self._balances(names)
        self._copy_ledger()
        for account, currency, boot, amount in balances:
            server.run(
                _BALANCE, (account, currency, self._boots[boot], self._beside(account, currency, amount))
            )

    def _balances(self, names: Sequence[str]) -> dict[_Key, Decimal]:
        sql = "SELECT account, currency, amount FROM balances WHERE account = ANY(?)"
        return {
            (account, currency): amount for account, currency, amount in self._server.run(sql, (list(names),))
        }

    def _beside(self, account: Any, currency: Any, amount: Any) -> str:
        return plain(EXACT.add(Decimal(amount), self._before.get((account, currency), ZERO)))

    def _copy_ledger(self) -> None:
        """In its order. A decision about what is in suspense names its entry, which gets a new number."""
        columns = COLUMNS["ledger"][1:]
        kind, reference = columns.index("kind"), columns.index("reference")
        names = (*columns, "link", "link_hash")
        places = ", ".join("?" * len(names))
        insert = f"INSERT INTO ledger ({', '.join(names)}) VALUES ({places}) RETURNING entry"  # noqa: S608 - names of ours alone
        now_named: dict[object, str] = {}
        for is_suspense, some in groupby(
            self._movements(), key=lambda one: one[1][kind] == MovementKind.SUSPENSE
        ):
            if not is_suspense:
                self._server.copy("ledger", names, self._linked("ledger", (tuple(row) for _, row in some)))
                continue
            for entry, row in some:
                row[reference] = now_named.get(row[reference], row[reference])
                (linked,) = self._linked("ledger", iter([tuple(row)]))
                ((number,),) = self._server.run(insert, linked)
                now_named[suspense_reference(entry)] = suspense_reference(number)

    def _movements(self) -> Iterator[tuple[int, list[Any]]]:
        columns = COLUMNS["ledger"][1:]
        boot, balance = columns.index("boot"), columns.index("balance")
        account, currency = columns.index("account"), columns.index("currency")
        for entry, *row in self._history.rows("ledger"):
            there: list[Any] = row
            there[boot] = self._boots[there[boot]]
            there[balance] = self._beside(there[account], there[currency], there[balance])
            yield int(str(entry)), there

    # --- the totals, of what is here ------------------------------------------------------------------------

    def _totals(self) -> Totals:
        counts = {
            NAMES[table]: self._asked("count(*)", table)
            for table in COLUMNS
            if table not in _SHARED and table not in ("balances", "kept_references")
        }
        references = {tuple(row[:2]) for row in self._history.rows("kept_references")}
        kept = self._server.run("SELECT account, reference FROM kept_references")
        counts[NAMES["kept_references"]] = sum(row in references for row in kept)
        for table in _SHARED:
            here = self._here(table)
            same = (here.get(name) == agreeing for name, agreeing, _ in self._known_by(table))
            counts[NAMES[table]] = sum(same)
        for table in WITH_BODIES:
            counts[bodies_of(table)] = self._asked("coalesce(sum(crc), 0)::bigint", table)
        for name, number in self._epoch_numbers.items():
            ((head_seq,),) = self._server.run("SELECT head_seq FROM epochs WHERE epoch = ?", (number,))
            counts[head_of(name)] = head_seq
        sums = {
            sum_of(account, currency): amount
            for account, currency, amount in self._server.run(
                "SELECT account, currency, sum(amount) FROM ledger WHERE boot = ANY(?)"
                " GROUP BY account, currency",
                (list(self._boots.values()),),
            )
        }
        left = {(str(account), str(currency)) for account, currency, *_ in self._history.rows("balances")}
        balances = self._balances(sorted({account for account, _ in left}))
        for key in left & balances.keys():
            sums[balance_of(*key)] = EXACT.subtract(balances[key], self._before.get(key, ZERO))
        counts[NAMES["balances"]] = len(left & balances.keys())
        return Totals(counts=counts, sums=sums)

    def _asked(self, what: str, table: str) -> int:
        """Of the rows that came."""
        values = (list(self._boots.values()), list(self._epoch_numbers.values()), self._node)
        whose = _WHOSE.get(table, "boot = ANY(?1)")
        sql = f"SELECT {what} FROM {table} WHERE {whose} AND {_ALL}"  # noqa: S608 - names of ours alone
        return int(self._server.run(sql, values)[0][0])

    def _note(self, change: Change) -> None:
        boot = self._boots[self._history.boots()[-1].boot]
        before = told({"place": self._history.place, "head": self._history.head})
        by = change.operator
        ((wall_ns,),) = self._server.run(
            "SELECT (extract(epoch FROM clock_timestamp()) * 1000000000)::bigint"
        )
        row = (wall_ns, by.name, by.uid, change.action, change.subject, before, change.after, change.text)
        note(self._server, self._key, self._node, boot, row)
