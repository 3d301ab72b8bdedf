"""The Accounts port: balances and their movements, for the command line and for the policy of the next
call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from uuid import UUID

from msgspec.structs import replace

from sidecar.adapters.store.addresses import Addresses
from sidecar.adapters.store.batch import BaseBatch
from sidecar.adapters.store.ledger import stored_terms
from sidecar.adapters.store.reading import Reader, Write
from sidecar.core.account_import import Imported
from sidecar.core.account_terms import AccountTerms, check_terms
from sidecar.core.audit import Change
from sidecar.core.books import MovementKind
from sidecar.core.terms import Money
from sidecar.ports import AccountError, LedgerEntry

ENTRIES_MAX = 1_000


class Batch(BaseBatch):
    """Of either engine."""

    addresses: Addresses


class StoredAccounts:
    def __init__(self, reader: Reader, write: Write) -> None:
        self._reader = reader
        self._write = write

    async def create(
        self,
        terms: AccountTerms,
        change: Change | None = None,
        addresses: Sequence[tuple[str, Change]] = (),
    ) -> None:
        # A refusal is a value inside the transaction, so that the other steps of the commit are not
        # disturbed.
        if refusal := await self._write(lambda batch: _create(batch, terms, change, addresses)):
            raise AccountError(refusal)

    async def take_over(
        self, wanted: Sequence[tuple[AccountTerms, Change | None]], *, suspect: bool = False
    ) -> None:
        if wanted and (refusal := await self._write(lambda batch: batch.take_over(wanted, suspect=suspect))):
            raise AccountError(refusal)

    async def change_terms(self, name: str, fields: Mapping[str, object], change: Change) -> AccountTerms:
        changed = await self._write(lambda batch: _change_terms(batch, name, fields, change))
        if isinstance(changed, str):
            raise AccountError(changed)
        return changed

    async def bring(self, rows: Sequence[Imported], change: Change) -> tuple[int, int]:
        done: tuple[int, int] | str = await self._write(lambda batch: batch.bring(rows, change))
        if isinstance(done, str):
            raise AccountError(done)
        return done

    async def add_address(self, name: str, block: str, change: Change) -> None:
        if refusal := await self._write(lambda batch: _add_addresses(batch, name, [(block, change)])):
            raise AccountError(refusal)

    async def remove_address(self, name: str, block: str, change: Change) -> None:
        if refusal := await self._write(lambda batch: _remove_address(batch, name, block, change)):
            raise AccountError(refusal)

    async def addresses(self, name: str | None = None) -> Sequence[tuple[str, str]]:
        sql = (
            "SELECT block, account FROM account_addresses"
            " WHERE CAST(?1 AS TEXT) IS NULL OR account = ?1 ORDER BY block"
        )
        return await self._reader.ask(lambda connection: tuple(connection.execute(sql, (name,))))

    async def book(
        self, kind: MovementKind, name: str, amount: Money, reference: str, change: Change | None = None
    ) -> Money:
        balance = await self._write(lambda batch: _book(batch, kind, name, amount, reference, change))
        if isinstance(balance, str):
            raise AccountError(balance)
        return balance

    async def top_up(self, name: str, amount: Money, reference: str, change: Change | None = None) -> Money:
        return await self.book(MovementKind.TOP_UP, name, amount, reference, change)

    async def stored(self, name: str | None = None) -> Sequence[AccountTerms]:
        return await self._reader.ask(lambda connection: stored_terms(connection, name))

    async def balance(self, name: str) -> Sequence[Money]:
        sql = "SELECT amount, currency FROM balances WHERE account = ? ORDER BY currency"
        return await self._reader.ask(
            lambda connection: tuple(
                Money(Decimal(amount), currency) for amount, currency in connection.execute(sql, (name,))
            )
        )

    async def calls_up(self, names: Sequence[str]) -> Mapping[str, int] | None:
        del names
        return None

    async def tranches(self, name: str) -> Sequence[tuple[str, Money]]:
        del name
        return ()

    async def return_tranches(self, node: str, change: Change) -> int:
        del node, change
        raise AccountError("this node keeps its books alone (store.engine): there are no others")

    async def ledger(
        self, name: str, entries_max: int = 100, before_entry: int | None = None
    ) -> Sequence[LedgerEntry]:
        sql = (
            "SELECT entry, booked_wall_ns, kind, amount, currency, balance, call_id, revision, reference,"
            " operator, text FROM ledger"
            " WHERE account = ?1 AND (CAST(?2 AS BIGINT) IS NULL OR entry < ?2) ORDER BY entry DESC LIMIT ?3"
        )

        values = (name, before_entry, max(1, min(entries_max, ENTRIES_MAX)))
        return await self._reader.ask(
            lambda connection: tuple(_entry(*row) for row in connection.execute(sql, values))
        )


def _create(
    batch: Batch, wanted: AccountTerms, change: Change | None, addresses: Sequence[tuple[str, Change]]
) -> str:
    """Empty, or why nothing of it was done."""
    for block, _ in addresses:
        if refusal := _taken(batch, wanted.name, block):
            return refusal
    return batch.open_account(wanted, change) or _add_addresses(batch, wanted.name, addresses)


def _change_terms(
    batch: Batch, name: str, fields: Mapping[str, object], change: Change
) -> AccountTerms | str:
    known = batch.account(name)
    if known is None:
        return f"account {name}: not known; create it first"
    try:
        wanted = replace(known, **fields)
        check_terms(wanted)
    except ValueError as error:
        return f"account {name}: {error}"
    return batch.set_terms(wanted, change) or wanted


def _book(
    batch: Batch, kind: MovementKind, name: str, amount: Money, reference: str, change: Change | None
) -> Money | str:
    refusal = batch.book(kind, name, amount, reference, change)
    return refusal or Money(batch.balance(name, amount.currency), amount.currency)


def _add_addresses(batch: Batch, name: str, addresses: Sequence[tuple[str, Change]]) -> str:
    for block, change in addresses:
        if refusal := _taken(batch, name, block):
            return refusal
        if batch.addresses.account_of(block) is None:
            batch.addresses.add(block, name)
            batch.audit(change)
    return ""


def _taken(batch: Batch, name: str, block: str) -> str:
    account = batch.addresses.account_of(block)
    return "" if account in (None, name) else f"{block} is an address block of account {account}"


def _remove_address(batch: Batch, name: str, block: str, change: Change) -> str:
    if batch.addresses.account_of(block) != name:
        return f"{block} is no address block that account {name} was given by command"
    batch.addresses.remove(block)
    batch.audit(change)
    return ""


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
    operator: str | None,
    text: str | None,
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
        operator=operator,
        text=text,
    )
