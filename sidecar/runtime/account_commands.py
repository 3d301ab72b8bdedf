"""What people may ask about accounts: who they are, what they have, where their calls come from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import reduce
from heapq import nsmallest
from typing import Any

from msgspec import UNSET
from msgspec.structs import asdict, replace

from sidecar.core.account_import import ROWS_MAX, Imported, totals_of
from sidecar.core.account_terms import AMOUNTS, AccountTerms, check_terms
from sidecar.core.addresses import canonical_block
from sidecar.core.audit import Change, Operator, told
from sidecar.core.books import MovementKind
from sidecar.core.policy import Account, Policy
from sidecar.core.rating import amount_text
from sidecar.core.records import utc
from sidecar.core.terms import Detail, Money
from sidecar.ports import AccountError, Accounts, Clock, LedgerEntry
from sidecar.runtime.calls import Calls
from sidecar.runtime.releasing import release_where
from sidecar.wire import control_accounts as say
from sidecar.wire.control import CommandError, ErrorCode, Method
from sidecar.wire.control_node import NodeForgetParams, NodeForgotten
from sidecar.wire.methods import served


class AccountCommands:
    def __init__(self, calls: Calls, accounts: Accounts, clock: Clock) -> None:
        self._calls = calls
        self._clock = clock
        self._import: tuple[str, list[Imported]] = ("", [])  # its rows so far
        self._accounts = accounts

    def methods(self) -> Mapping[str, Method]:
        return served(
            {
                "account.create": self.create,
                "account.set": self.set,
                "account.enable": self.enable,
                "account.disable": self.disable,
                "account.address": self.address,
                "account.show": self.show,
                "node.forget": self.forget_node,
                "account.list": self.list,
                "account.topup": self.topup,
                "account.adjust": self.adjust,
                "account.import_part": self.import_part,
                "account.import": self.bring,
                "account.ledger": self.ledger,
            }
        )

    async def create(self, wanted: say.AccountCreateParams, operator: Operator) -> say.AccountShown:
        policy = self._calls.policy
        fields = _fields(wanted)
        fields["currency"] = wanted.currency or policy.default_currency
        terms = _built(name=wanted.name, **fields)
        known = policy.accounts.get(wanted.name) if wanted.name in policy.settings_accounts else None
        if known is not None and replace(known.terms, disabled_by_command=False) != terms:
            raise CommandError(
                ErrorCode.REFUSED, f"account {wanted.name} is in the settings, with other terms: they hold"
            )
        change = Change(operator=operator, action="account.create", subject=wanted.name)
        blocks = [self._free_block(text, wanted.name) for text in wanted.addresses]
        addresses = [(block, _address_change(operator, wanted.name, block, given=True)) for block in blocks]

        async def create() -> None:
            await self._create(terms, change, addresses)
            self._calls.policies.change(lambda policy: policy.with_account(Account(**asdict(terms))))
            for block in blocks:
                self._calls.policies.change(_with_address(block, wanted.name))

        await asyncio.shield(create())  # in the store and in the policy, whatever becomes of who asked
        return await self.show(say.AccountShowParams(name=wanted.name), operator)

    async def set(self, wanted: say.AccountSetParams, operator: Operator) -> say.AccountShown:
        if wanted.name in self._calls.policy.settings_accounts:
            raise CommandError(
                ErrorCode.REFUSED, f"account {wanted.name} is in the settings: its terms are changed there"
            )
        fields = _fields(wanted)
        if not fields:
            raise CommandError(ErrorCode.INVALID_PARAMS, "nothing to set")
        return await self._change(wanted.name, fields, "account.set", wanted.text, operator)

    async def enable(self, wanted: say.AccountSwitchParams, operator: Operator) -> say.AccountShown:
        fields = {"disabled_by_command": False}
        return await self._change(wanted.name, fields, "account.enable", wanted.text, operator)

    async def disable(self, wanted: say.AccountSwitchParams, operator: Operator) -> say.AccountShown:
        fields = {"disabled_by_command": True}
        await self._change(wanted.name, fields, "account.disable", wanted.text, operator)
        await asyncio.shield(
            release_where(
                self._calls,
                lambda call: call.account.name == wanted.name,
                Detail.ACCOUNT_DISABLED,
                operator=operator.name,
                text=wanted.text,
            )
        )
        return await self.show(say.AccountShowParams(name=wanted.name), operator)

    async def _change(
        self, name: str, fields: Mapping[str, object], action: str, text: str, operator: Operator
    ) -> say.AccountShown:
        """In the store first: a call that the policy lets in on the terms of before is judged there again."""
        await self._account(name)
        change = Change(operator=operator, action=action, subject=name, text=text)

        async def make() -> None:
            terms = await self._accounts.change_terms(name, fields, change)
            self._calls.policies.change(lambda policy: policy.with_terms(terms))

        try:
            await asyncio.shield(make())
        except AccountError as error:
            raise CommandError(ErrorCode.REFUSED, str(error)) from error
        return await self.show(say.AccountShowParams(name=name), operator)

    async def address(self, wanted: say.AccountAddressParams, operator: Operator) -> say.AccountShown:
        account = await self._account(wanted.name)
        block = self._free_block(wanted.block, account.name)
        change = _address_change(operator, account.name, block, given=not wanted.remove)

        async def give() -> None:
            await self._accounts.add_address(account.name, block, change)
            self._calls.policies.change(_with_address(block, account.name))

        async def take() -> None:
            await self._accounts.remove_address(account.name, block, change)
            self._calls.policies.change(lambda policy: policy.without_address(block))

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
            **self._row(account, await self._accounts.calls_up([account.name])),
            addresses=tuple(block for block, _ in await self._accounts.addresses(wanted.name)),
            balances=tuple(map(_balance, balances)),
            tranches=tuple(
                say.Tranche(node=node, currency=held.currency, amount=amount_text(held.amount))
                for node, held in await self._accounts.tranches(wanted.name)
            ),
            movements=tuple(map(_movement, movements)),
        )

    async def forget_node(self, wanted: NodeForgetParams, operator: Operator) -> NodeForgotten:
        change = Change(operator=operator, action="node.forget", subject=wanted.node, text=wanted.text)
        try:
            count = await self._accounts.return_tranches(wanted.node, change)
        except AccountError as error:
            raise CommandError(ErrorCode.REFUSED, str(error)) from error
        return NodeForgotten(node=wanted.node, accounts=count)

    async def list(self, wanted: say.AccountListParams, _: Operator) -> say.AccountList:
        accounts = self._calls.policy.accounts
        names = nsmallest(wanted.limit, (name for name in accounts if name > wanted.after))
        up = await self._accounts.calls_up(names)
        return say.AccountList(
            accounts=tuple(say.AccountRow(**self._row(accounts[name], up)) for name in names)
        )

    async def ledger(self, wanted: say.AccountLedgerParams, _: Operator) -> say.MovementList:
        await self._account(wanted.name)
        found = await self._accounts.ledger(wanted.name, wanted.limit, wanted.before_entry)
        return say.MovementList(movements=tuple(map(_movement, found)))

    def _row(self, account: Account, up: Mapping[str, int] | None) -> dict[str, Any]:
        """`up`: as `Accounts.calls_up` says."""
        amounts = {name: getattr(account, name) for name in AMOUNTS}
        return {
            "name": account.name,
            "currency": account.currency,
            "kind": account.kind,
            **{name: one if one is None else amount_text(one) for name, one in amounts.items()},
            "enabled": account.is_open_at(self._clock.wall_ns()),
            "disabled_by_command": account.disabled_by_command,
            "valid_from": account.valid_from,
            "valid_to": account.valid_to,
            "zone": account.zone,
            "in_settings": account.name in self._calls.policy.settings_accounts,
            "live_calls": (self._calls.load.by_account if up is None else up).get(account.name, 0),
        }

    async def topup(self, wanted: say.AccountTopupParams, operator: Operator) -> say.ToppedUp:
        return await self._book(MovementKind.TOP_UP, wanted, "account.topup", operator)

    async def adjust(self, wanted: say.AccountAdjustParams, operator: Operator) -> say.ToppedUp:
        kind = MovementKind.CREDIT_NOTE if wanted.credit_note else MovementKind.ADJUST
        return await self._book(kind, wanted, "account.adjust", operator)

    async def _book(
        self,
        kind: MovementKind,
        wanted: say.AccountTopupParams | say.AccountAdjustParams,
        action: str,
        operator: Operator,
    ) -> say.ToppedUp:
        amount = Decimal(wanted.amount)
        if not amount:
            raise CommandError(ErrorCode.INVALID_PARAMS, "a movement is an amount other than 0")
        account = await self._account(wanted.name)
        currency = wanted.currency or account.currency
        try:
            balance = await self._accounts.book(
                kind,
                wanted.name,
                Money(amount, currency),
                wanted.reference,
                Change(operator=operator, action=action, subject=wanted.name, text=wanted.text),
            )
        except AccountError as error:
            raise CommandError(ErrorCode.REFUSED, str(error)) from error
        return say.ToppedUp(name=wanted.name, reference=wanted.reference, balance=_balance(balance))

    async def import_part(self, wanted: say.AccountImportPartParams, _: Operator) -> say.AccountsImportPart:
        import_id, rows = self._import
        if import_id != wanted.import_id:
            rows = []
        if len(rows) + len(wanted.rows) > ROWS_MAX:
            raise CommandError(ErrorCode.REFUSED, f"an import has at most {ROWS_MAX} accounts")
        self._import = wanted.import_id, [*rows, *wanted.rows]
        return say.AccountsImportPart(rows=len(self._import[1]))

    async def bring(self, wanted: say.AccountImportParams, operator: Operator) -> say.AccountsImported:
        import_id, rows = self._import
        if import_id != wanted.import_id or len(rows) != wanted.count:
            text = "the rows of this import are not here, or not all: begin again"
            raise CommandError(ErrorCode.REFUSED, text)
        self._import = "", []
        for row in rows:
            try:
                check_terms(row.terms)
            except ValueError as error:
                text = f"account {row.terms.name}: {error}"
                raise CommandError(ErrorCode.INVALID_PARAMS, text) from None
        if len({row.terms.name for row in rows}) < len(rows):
            raise CommandError(ErrorCode.INVALID_PARAMS, "two rows of one account")
        sums = {name: amount_text(amount) for name, amount in totals_of(rows).sums.items()}
        change = Change(
            operator=operator,
            action="account.import",
            subject=import_id,
            after=told({"accounts": len(rows), "sums": sums}),
            text=wanted.text,
        )

        async def bring() -> tuple[int, int]:
            done = await self._accounts.bring(rows, change)
            accounts = [Account(**asdict(row.terms)) for row in rows]
            self._calls.policies.change(lambda policy: reduce(Policy.with_account, accounts, policy))
            return done

        try:
            opened, booked = await asyncio.shield(bring())
        except AccountError as error:
            raise CommandError(ErrorCode.REFUSED, str(error)) from error
        return say.AccountsImported(count=len(rows), opened=opened, booked=booked, sums=sums)

    async def _account(self, name: str) -> Account:
        """From the settings, or created by a command."""
        if (account := self._calls.policy.accounts.get(name)) is not None:
            return account
        for stored in await self._accounts.stored(name):
            return Account(**asdict(stored))
        raise CommandError(
            ErrorCode.NOT_FOUND, f"there is no account {name}: `sidecar account create {name}` makes it"
        )

    async def _create(
        self, terms: AccountTerms, change: Change | None = None, addresses: Sequence[tuple[str, Change]] = ()
    ) -> None:
        """Does nothing where the store has the account on the same terms."""
        try:
            await self._accounts.create(terms, change, addresses)
        except AccountError as error:
            raise CommandError(ErrorCode.REFUSED, str(error)) from error


def _fields(wanted: say.AccountCreateParams | say.AccountSetParams) -> dict[str, Any]:
    """The terms that are given, as AccountTerms has them."""
    given = {
        name: value
        for name in AccountTerms.__struct_fields__
        if (value := getattr(wanted, name, UNSET)) is not UNSET and name != "name"
    }
    return {
        name: Decimal(value) if name in AMOUNTS and value is not None else value
        for name, value in given.items()
    }


def _built(**fields: Any) -> AccountTerms:
    try:
        terms = AccountTerms(**fields)
        check_terms(terms)
    except ValueError as error:
        raise CommandError(ErrorCode.INVALID_PARAMS, str(error)) from None
    return terms


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
        operator=entry.operator,
        text=entry.text,
    )
