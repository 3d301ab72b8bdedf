"""The Accounts port: balances and their movements, for the command line and for the policy of the next
call."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

import apsw

from sidecar.adapters.sqlite.batch import Batch
from sidecar.adapters.sqlite.file import Boot
from sidecar.adapters.sqlite.outbox import Write
from sidecar.adapters.sqlite.reader import Reader
from sidecar.core.terms import Money
from sidecar.ports import AccountError, Clock, LedgerEntry, StoredAccount

ENTRIES_MAX = 1_000


class SqliteAccounts:
    def __init__(self, reader: Reader, write: Write, boot: Boot, clock: Clock) -> None:
        self._reader = reader
        self._write = write
        self._boot = boot
        self._clock = clock

    async def create(self, name: str, currency: str, prepaid: bool) -> None:
        created_wall_ns = self._clock.wall_ns()

        def run(batch: Batch, connection: apsw.Connection) -> str | None:
            wanted = (currency, int(prepaid))
            found = connection.execute(
                "SELECT currency, prepaid FROM accounts WHERE name = ?", (name,)
            ).fetchone()
            if found is not None:
                if found == wanted:
                    return None
                kind = "prepaid" if found[1] else "postpaid"
                return f"account {name}: exists with other terms, {found[0]} {kind}"
            connection.execute(
                "INSERT INTO accounts (name, currency, prepaid, boot, created_wall_ns)"
                " VALUES (?, ?, ?, ?, ?)",
                (name, *wanted, self._boot.boot, created_wall_ns),
            )
            batch.books.open_balance(name, currency)
            return None

        _raise(await self._write(run))

    async def top_up(self, name: str, amount: Money, reference: str) -> Money:
        if not reference or not amount.amount.is_finite() or amount.amount <= 0:
            raise AccountError(f"account {name}: a top-up needs a reference and an amount above 0")

        def run(batch: Batch, connection: apsw.Connection) -> Money | str:
            found = connection.execute("SELECT currency FROM accounts WHERE name = ?", (name,)).fetchone()
            if found is None:
                return f"account {name}: not known; create it first"
            if found[0] != amount.currency:
                return f"account {name}: is kept in {found[0]}, not {amount.currency}"
            return batch.books.top_up(name, amount, reference)

        result = await self._write(run)
        _raise(result)
        assert isinstance(result, Money)
        return result

    async def all(self) -> Sequence[StoredAccount]:
        sql = "SELECT name, currency, prepaid FROM accounts ORDER BY name"
        return await self._reader.ask(
            lambda connection: tuple(
                StoredAccount(name=name, currency=currency, prepaid=bool(prepaid))
                for name, currency, prepaid in connection.execute(sql)
            )
        )

    async def balance(self, name: str) -> Sequence[Money]:
        sql = "SELECT amount, currency FROM balances WHERE account = ? ORDER BY currency"
        return await self._reader.ask(
            lambda connection: tuple(
                Money(Decimal(amount), currency) for amount, currency in connection.execute(sql, (name,))
            )
        )

    async def ledger(
        self, name: str, entries_max: int = 100, before_entry: int | None = None
    ) -> Sequence[LedgerEntry]:
        sql = (
            "SELECT entry, booked_wall_ns, kind, amount, currency, balance, call_id, revision, reference"
            " FROM ledger WHERE account = ? AND (?2 IS NULL OR entry < ?2) ORDER BY entry DESC LIMIT ?3"
        )

        values = (name, before_entry, max(1, min(entries_max, ENTRIES_MAX)))
        return await self._reader.ask(
            lambda connection: tuple(_entry(*row) for row in connection.execute(sql, values))
        )


def _entry(
    entry: int,
    booked_wall_ns: int,
    kind: str,
    amount: str,
    currency: str,
    balance: str,
    call_id: bytes | None,
    revision: int | None,
    reference: str | None,
) -> LedgerEntry:
    return LedgerEntry(
        entry=entry,
        booked_wall_ns=booked_wall_ns,
        kind=kind,
        amount=Money(Decimal(amount), currency),
        balance=Money(Decimal(balance), currency),
        call_id=str(UUID(bytes=call_id)) if call_id else None,
        revision=revision,
        reference=reference,
    )


def _raise(result: object) -> None:
    # A refusal is a value inside the transaction, so that the other steps of the commit are not disturbed.
    if isinstance(result, str):
        raise AccountError(result)
