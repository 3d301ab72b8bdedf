"""What people may ask about accounts: who they are, what they have, where their calls come from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from sidecar.core.addresses import canonical_block
from sidecar.core.audit import Change, Operator, told
from sidecar.core.policy import Account, Policy
from sidecar.core.rating import amount_text
from sidecar.core.records import utc
from sidecar.core.terms import Money
from sidecar.ports import AccountError, Accounts, LedgerEntry
from sidecar.runtime.calls import Calls
from sidecar.wire import control as say
from sidecar.wire.control import CommandError, ErrorCode, Method


class AccountCommands:
    def __init__(self, calls: Calls, accounts: Accounts) -> None:
        self._calls = calls
        self._accounts = accounts

    def methods(self) -> Mapping[str, Method]:
        return {
            "account.create": Method(say.AccountCreateParams, self.create),
            "account.address": Method(say.AccountAddressParams, self.address),
            "account.show": Method(say.AccountShowParams, self.show),
            "account.topup": Method(say.AccountTopupParams, self.topup),
        }

    async def create(self, wanted: say.AccountCreateParams, operator: Operator) -> say.AccountShown:
        policy = self._calls.policy
        account = Account(
            name=wanted.name, currency=wanted.currency or policy.default_currency, prepaid=wanted.prepaid
        )
        known = policy.accounts.get(wanted.name)
        if known is not None and (known.currency, known.prepaid) != (account.currency, account.prepaid):
            raise CommandError(ErrorCode.REFUSED, f"account {wanted.name} exists with other terms")
        terms = told({"currency": account.currency, "prepaid": account.prepaid})
        change = Change(operator=operator, action="account.create", subject=account.name, after=terms)
        blocks = [self._free_block(text, account.name) for text in wanted.addresses]
        addresses = [(block, _address_change(operator, account.name, block, given=True)) for block in blocks]

        async def create() -> None:
            await self._create(account, change, addresses)
            self._calls.change_policy(lambda policy: policy.with_account(account))
            for block in blocks:
                self._calls.change_policy(_with_address(block, account.name))

        await asyncio.shield(create())  # in the store and in the policy, whatever becomes of who asked
        return await self.show(say.AccountShowParams(name=wanted.name), operator)

    async def address(self, wanted: say.AccountAddressParams, operator: Operator) -> say.AccountShown:
        account = await self._account(wanted.name)
        block = self._free_block(wanted.block, account.name)
        change = _address_change(operator, account.name, block, given=not wanted.remove)

        async def give() -> None:
            await self._create(account)
            await self._accounts.add_address(account.name, block, change)
            self._calls.change_policy(_with_address(block, account.name))

        async def take() -> None:
            await self._accounts.remove_address(account.name, block, change)
            self._calls.change_policy(lambda policy: policy.without_address(block))

        try:
            await asyncio.shield(take() if wanted.remove else give())
        except AccountError as error:
            raise CommandError(ErrorCode.REFUSED, str(error)) from error
        return await self.show(say.AccountShowParams(name=wanted.name), operator)

    def _free_block(self, text: str, account: str) -> str:
        """The block in its canonical form, if it is nobody else's."""
        try:
            block = canonical_block(text)
        except ValueError as error:
            raise CommandError(ErrorCode.INVALID_PARAMS, str(error)) from None
        other = self._calls.policy.account_addresses.at(block)
        if other not in (None, account):
            raise CommandError(ErrorCode.REFUSED, f"{block} is an address block of account {other}")
        return block

    async def show(self, wanted: say.AccountShowParams, _: Operator) -> say.AccountShown:
        account = await self._account(wanted.name)
        balances = await self._accounts.balance(wanted.name)
        movements: Sequence[LedgerEntry] = ()
        if wanted.movements:
            movements = await self._accounts.ledger(wanted.name, wanted.movements)
        return say.AccountShown(
            name=account.name,
            currency=account.currency,
            prepaid=account.prepaid,
            addresses=tuple(block for block, _ in await self._accounts.addresses(wanted.name)),
            live_calls=self._calls.load.by_account.get(wanted.name, 0),
            balances=tuple(map(_balance, balances)),
            movements=tuple(map(_movement, movements)),
        )

    async def topup(self, wanted: say.AccountTopupParams, operator: Operator) -> say.ToppedUp:
        amount = Decimal(wanted.amount)
        if not amount:
            raise CommandError(ErrorCode.INVALID_PARAMS, "a top-up is an amount above 0")
        account = await self._account(wanted.name)
        await self._create(account)
        currency = wanted.currency or account.currency
        try:
            balance = await self._accounts.top_up(
                wanted.name,
                Money(amount, currency),
                wanted.reference,
                Change(operator=operator, action="account.topup", subject=wanted.name),
            )
        except AccountError as error:
            raise CommandError(ErrorCode.REFUSED, str(error)) from error
        return say.ToppedUp(name=wanted.name, reference=wanted.reference, balance=_balance(balance))

    async def _account(self, name: str) -> Account:
        """From the settings, or created by a command."""
        if (account := self._calls.policy.accounts.get(name)) is not None:
            return account
        for stored in await self._accounts.stored(name):
            return Account(name=name, currency=stored.currency, prepaid=stored.prepaid)
        raise CommandError(
            ErrorCode.NOT_FOUND, f"there is no account {name}: `sidecar account create {name}` makes it"
        )

    async def _create(
        self, account: Account, change: Change | None = None, addresses: Sequence[tuple[str, Change]] = ()
    ) -> None:
        """Does nothing where the store has the account on the same terms."""
        try:
            await self._accounts.create(account.name, account.currency, account.prepaid, change, addresses)
        except AccountError as error:
            raise CommandError(ErrorCode.REFUSED, str(error)) from error


def _address_change(operator: Operator, account: str, block: str, *, given: bool) -> Change:
    state = told({"block": block})
    return Change(
        operator=operator,
        action="account.address",
        subject=account,
        before=None if given else state,
        after=state if given else None,
    )


def _with_address(block: str, account: str) -> Callable[[Policy], Policy]:
    return lambda policy: policy.with_address(block, account)


def _balance(money: Money) -> say.Balance:
    return say.Balance(currency=money.currency, amount=amount_text(money.amount))


def _movement(entry: LedgerEntry) -> say.Movement:
    return say.Movement(
        entry=entry.entry,
        booked_at=utc(entry.booked_wall_ns),
        kind=entry.kind,
        amount=amount_text(entry.amount.amount),
        currency=entry.amount.currency,
        balance=amount_text(entry.balance.amount),
        call_id=entry.call_id,
        reference=entry.reference,
    )
