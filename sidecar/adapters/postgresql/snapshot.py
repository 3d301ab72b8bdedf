"""The books of one moment, for commands that read many records: as sqlite/snapshot has them of a journal.
Records and accounts are those of all nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from types import TracebackType
from uuid import UUID

from sidecar.adapters.postgresql.chain import head_of
from sidecar.adapters.postgresql.chain_check import Told, said, verify
from sidecar.adapters.postgresql.looks import PostgresqlLook
from sidecar.adapters.postgresql.migrations import refuse_other
from sidecar.adapters.postgresql.records import HOLDS, PostgresqlSearch, by_invite, ledger_check
from sidecar.adapters.postgresql.server import looking
from sidecar.adapters.store.chain import Head, Verdict, by_id
from sidecar.adapters.store.ledger import stored_terms
from sidecar.adapters.store.records import conditions_of, record
from sidecar.adapters.store.store import StoreError
from sidecar.adapters.store.suspense import suspended
from sidecar.core.account_terms import AccountTerms
from sidecar.core.cdr import Cdr
from sidecar.core.chain import ChainKey
from sidecar.core.statement import LedgerLine
from sidecar.core.suspense import Suspended
from sidecar.ports import RecordFilter

ROWS_PER_READ = 1_000
_LINES = (
    "SELECT entry, kind, amount, call_id, revision, reference, operator, text, booked_wall_ns FROM ledger"
    " WHERE account = ? AND currency = ? AND entry > ? ORDER BY entry LIMIT ?"
)


class PostgresqlSnapshot(PostgresqlLook):
    """StoreError says why there is none, or, later, that the database is away."""

    def __init__(self, conninfo: str, node: str) -> None:
        self._conninfo = conninfo
        self._node = node
        self._open = ExitStack()

    def __enter__(self) -> PostgresqlSnapshot:
        with ExitStack() as stack:
            self._server = server = stack.enter_context(looking(self._conninfo, self._node))
            if not refuse_other(server):
                raise StoreError(f"{server.name}: no node has begun there")
            stack.enter_context(server.unhurried())
            stack.enter_context(server.moment())
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._open.__exit__(kind, error, trace)

    def head(self) -> Head | None:
        """How far the chain of this node has come; None: it has never begun."""
        if (found := head_of(self._server, self._node)) is None:
            return None
        epoch, link = found
        return Head(epoch=epoch, number=link.number, hash=link.hash.hex())

    def heads(self) -> dict[tuple[str, str], dict[str, int]]:
        """Of each tenant and node, the last number of each epoch. One that moved there from a journal has no
        tenant before its first start: it is that of the node's other epochs."""
        rows = self._server.run(
            "SELECT tenant, node, name, head_seq, max(tenant) OVER (PARTITION BY node) FROM epochs"
        )
        found: dict[tuple[str, str], dict[str, int]] = {}
        for tenant, node, name, head_seq, of_others in rows:
            found.setdefault((tenant or of_others, node), {})[name] = head_seq
        return found

    def verify(self, keys: Sequence[ChainKey], told: Told | None = None) -> dict[str, Verdict]:
        """Whether all is as it was written, of each node; "" is what is of none. `told`: commits of each that
        are known from elsewhere."""
        return verify(self._server, by_id(keys), told)

    def records(self, wanted: RecordFilter, *, latest_first: bool = False) -> Iterator[Cdr]:
        """The calls that fit, each by its highest revision, unless that is void; by their end, the earliest
        or the latest first. DamagedError names a record whose bytes are not those that were written."""
        table, keys = ("suppressed", ("entry",)) if wanted.suppressed else ("cdrs", ("epoch", "seq"))
        place = ("ended_us", *keys)
        conditions, values = conditions_of(wanted, PostgresqlSearch.has_name)
        beyond, order, first = ("<", "DESC", (1 << 63) - 1) if latest_first else (">", "ASC", -(1 << 63))
        conditions.append(f"({', '.join(place)}) {beyond} ({', '.join('?' * len(place))})")
        ordered = ", ".join(f"{column} {order}" for column in place)
        sql = (
            f"SELECT {', '.join(place)}, body, crc FROM {table} AS found"  # noqa: S608 - names of ours alone
            f" WHERE {' AND '.join(conditions)} AND {HOLDS} ORDER BY {ordered} LIMIT ?"
        )
        after: tuple[int, ...] = (first, *(0 for _ in keys))
        while rows := self._server.run(sql, (*values, *after, ROWS_PER_READ)):
            for *at, body, crc in rows:
                after = tuple(at)
                cdr = record(at[-1], body, crc)
                if not cdr.void and wanted.fits(cdr):
                    yield cdr

    def by_invite(self, since: datetime, until: datetime | None = None) -> Iterator[Cdr]:
        """The calls of this node whose INVITE came then or later, and before `until`; in the order of their
        ids."""
        for cdr in by_invite(self._server, self._node, since, 1 << 62):
            if until is None or cdr.invited_at < until:
                yield cdr

    def accounts(self) -> Sequence[AccountTerms]:
        return stored_terms(self._server)

    def account_lines(self, name: str, currency: str) -> Iterator[LedgerLine]:
        """The ledger of an account, as it was booked."""
        after = 0
        while rows := self._server.run(_LINES, (name, currency, after, ROWS_PER_READ)):
            after = rows[-1][0]
            for _, kind, amount, call_id, revision, reference, operator, text, wall_ns in rows:
                yield LedgerLine(
                    kind=kind,
                    amount=amount,
                    booked_at=datetime.fromtimestamp(0, UTC) + timedelta(microseconds=wall_ns // 1_000),
                    call_id=None if call_id is None else UUID(bytes=call_id),
                    revision=revision,
                    reference=reference,
                    operator=operator,
                    text=text,
                )

    def archived_until(self) -> None:
        """Nothing is archived."""

    def suspended(self, account: str | None = None) -> list[Suspended]:
        """What a person has to decide about: of one account, or of all."""
        return suspended(self._server, account)

    def check(self, keys: Sequence[ChainKey], *_: object) -> list[str]:
        """Everything that is not as it was written (not without keys) or does not add up, over all nodes; the
        second of a moment of its own."""
        found = said(self.verify(keys)) if keys else []
        with looking(self._conninfo, self._node) as server:
            return found + ledger_check(server)
