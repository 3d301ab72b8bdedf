"""What people may ask of a running node, method by method (wire/control.py); the control socket only carries
it.

Reading never waits for the writer, and nothing here changes a call, a balance or a setting except through the
same doors as everything else: `Calls` for calls and the policy, the ledger for money. Every change is noted
(core/audit): what the store writes, in its transaction; what is changed in memory alone, on disk before it is
made. While the store cannot write nothing is changed, but for a call that is released: its end is kept and
written later, as every end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Protocol, TypeVar
from uuid import UUID

import msgspec
import structlog

from sidecar.core.addresses import canonical_block
from sidecar.core.audit import Change, Operator, told
from sidecar.core.call import Call
from sidecar.core.cdr import Cdr, ChargeRecord
from sidecar.core.explain_call import explain_call
from sidecar.core.policy import Account, Gateway, Load, Policy
from sidecar.core.rating import amount_text
from sidecar.core.records import utc
from sidecar.core.rerate import revised
from sidecar.core.tariff import Deck
from sidecar.core.terms import Detail, Money
from sidecar.ports import (
    AccountError,
    Accounts,
    AuditEntry,
    AuditFilter,
    AuditTrail,
    Clock,
    DeadLetter,
    DeadLetters,
    GatewayStatus,
    LedgerEntry,
    RecordFilter,
    Records,
    Revisions,
)
from sidecar.wire import control as say
from sidecar.wire.cdr_codec import decode, encode_json
from sidecar.wire.control import CommandError, ErrorCode, Method

NodeState = Callable[[], Awaitable[say.NodeStatus]]
# The deck that is in force under a name, or why there is none. It may take seconds: asked in a thread.
DeckSource = Callable[[str], Deck | Sequence[str]]

# The settings as they are now, or what is wrong with them. Asked in a thread.
SettingsSource = Callable[[], "Reread | Sequence[str]"]

ERRORS_SHOWN_MAX = 10
ACCEPTING = "accepting"  # the state of a node that takes new calls

_T = TypeVar("_T")

log = structlog.get_logger("sidecar.admin")


class Reread(msgspec.Struct, frozen=True, kw_only=True):
    """What a start would find in the settings now."""

    policy: Policy
    warnings: Sequence[str] = ()


class LiveCalls(Protocol):
    """What `Calls` offers to people."""

    @property
    def policy(self) -> Policy: ...
    @property
    def state(self) -> str: ...
    @property
    def load(self) -> Load: ...

    def change_policy(self, change: Callable[[Policy], Policy]) -> Policy: ...
    def live(self) -> Sequence[Call]: ...
    def oldest(self, calls_max: int, account: str | None = None) -> Sequence[Call]: ...
    def find(self, call_id: UUID) -> Call | None: ...
    def holds(self, call_id: UUID) -> bool: ...
    def release(
        self, call_id: UUID, detail: Detail, operator: str, text: str, change: Change | None = None
    ) -> bool: ...
    def drain(self) -> None: ...
    async def release_live(self, operator: str, text: str) -> None: ...


class Admin:
    """`methods()` is what the control socket serves."""

    def __init__(
        self,
        *,
        calls: LiveCalls,
        accounts: Accounts,
        audit: AuditTrail,
        records: Records,
        revisions: Revisions,
        clock: Clock,
        status: NodeState,
        dead_letters: DeadLetters,
        read_again: Callable[[], None],
        gateways: Callable[[], Sequence[GatewayStatus]],
        decks: DeckSource | None = None,
        settings: SettingsSource | None = None,
    ) -> None:
        self._calls = calls
        self._accounts = accounts
        self._audit = audit
        self._records = records
        self._revisions = revisions
        self._clock = clock
        self._status = status
        self._dead_letters = dead_letters
        self._read_again = read_again
        self._gateways = gateways
        self._decks = decks
        self._settings = settings
        # Files are read and taken over by one command after the other: else what was read first could come
        # into force last.
        self._reloading = asyncio.Lock()

    def methods(self) -> Mapping[str, Method]:
        return {
            "call.list": Method(say.CallListParams, self.call_list),
            "call.release": Method(say.CallReleaseParams, self.call_release),
            "node.drain": Method(say.NodeDrainParams, self.node_drain),
            "node.reload": Method(say.NodeReloadParams, self.node_reload),
            "node.status": Method(say.Nothing, self.node_status),
            "node.gateways": Method(say.Nothing, self.node_gateways),
            "account.create": Method(say.AccountCreateParams, self.account_create),
            "account.address": Method(say.AccountAddressParams, self.account_address),
            "account.show": Method(say.AccountShowParams, self.account_show),
            "account.topup": Method(say.AccountTopupParams, self.account_topup),
            "deck.reload": Method(say.DeckReloadParams, self.deck_reload),
            "dead-letter.list": Method(say.DeadLetterListParams, self.dead_letter_list),
            "dead-letter.show": Method(say.DeadLetterShowParams, self.dead_letter_show),
            "dead-letter.retry": Method(say.DeadLetterRetryParams, self.dead_letter_retry),
            "dead-letter.drop": Method(say.DeadLetterDropParams, self.dead_letter_drop),
            "audit.list": Method(say.AuditListParams, self.audit_list),
            "rerate.apply": Method(say.RerateApplyParams, self.rerate_apply),
            "cdr.show": Method(say.CdrShowParams, self.cdr_show),
            "cdr.tail": Method(say.CdrTailParams, self.cdr_tail),
            "cdr.search": Method(say.CdrSearchParams, self.cdr_search),
        }

    # --- calls and the node ---------------------------------------------------------------------------------

    async def call_list(self, wanted: say.CallListParams, _: Operator) -> say.CallList:
        load, account = self._calls.load, wanted.account
        total = load.calls if account is None else load.by_account.get(account, 0)
        calls = self._calls.oldest(wanted.limit, account) if total else ()
        return say.CallList(total=total, calls=tuple(map(self._live_call, calls)))

    async def call_release(self, wanted: say.CallReleaseParams, operator: Operator) -> say.CallReleased:
        change = Change(
            operator=operator, action="call.release", subject=str(wanted.call_id), text=wanted.text
        )
        if not self._calls.release(wanted.call_id, Detail.OPERATOR, operator.name, wanted.text, change):
            raise CommandError(
                ErrorCode.NOT_FOUND,
                f"call {wanted.call_id} is not up: `sidecar call list` shows those that are",
            )
        return say.CallReleased(call_id=wanted.call_id)

    async def node_drain(self, wanted: say.NodeDrainParams, operator: Operator) -> say.NodeDrained:
        before = {"state": self._calls.state or ACCEPTING, "calls": self._calls.load.calls}
        change = Change(
            operator=operator,
            action="node.drain",
            subject=self._calls.policy.node,
            before=told(before),
            after=told({"state": Detail.DRAIN.value, "release": wanted.release}),
            text=wanted.text,
        )
        await self._noted(change, self._calls.drain)
        live = self._calls.load.calls
        if wanted.release:
            await asyncio.shield(self._calls.release_live(operator.name, wanted.text))
        return say.NodeDrained(draining=True, live=live, released=live if wanted.release else 0)

    async def node_reload(self, wanted: say.NodeReloadParams, operator: Operator) -> say.NodeReloaded:
        """Exchange rates and margin floors, for calls and attempts that begin from now on. What is wrong in
        the settings refuses them whole."""
        if self._settings is None:
            raise CommandError(ErrorCode.REFUSED, "this node reads its settings only when it starts")
        async with self._reloading:
            before = self._calls.policy
            read = await asyncio.to_thread(_margin_terms, self._settings, before)
            if not isinstance(read, _MarginTerms):
                raise CommandError(ErrorCode.REFUSED, "; ".join(read[:ERRORS_SHOWN_MAX]))
            if read.changed:
                change = Change(
                    operator=operator,
                    action="node.reload",
                    subject=before.node,
                    before=told(read.before),
                    after=told(read.after),
                )
                found = read.found.policy
                await self._noted(
                    change,
                    lambda: self._calls.change_policy(lambda policy: policy.with_margin_terms(found)),
                )
        log.info("margin_terms_reloaded", operator=operator.name, changed=read.changed, **read.after)
        return say.NodeReloaded(
            exchange_rates=len(read.found.policy.exchange),
            margin_floors=read.floors,
            changed=read.changed,
            warnings=tuple(read.found.warnings),
        )

    async def node_status(self, _: say.Nothing, __: Operator) -> say.NodeStatus:
        return await self._status()

    async def node_gateways(self, _: say.Nothing, __: Operator) -> say.GatewayList:
        watched = {status.gateway: status for status in self._gateways()}
        return say.GatewayList(
            gateways=tuple(
                self._gateway(gateway, watched.get(name, GatewayStatus(gateway=name)))
                for name, gateway in self._calls.policy.gateways.items()
            )
        )

    def _gateway(self, gateway: Gateway, status: GatewayStatus) -> say.GatewayShown:
        return say.GatewayShown(
            gateway=gateway.name,
            address=f"[{gateway.host}]:{gateway.port}"
            if ":" in gateway.host
            else f"{gateway.host}:{gateway.port}",
            transport=gateway.transport.value,
            state=status.health.value,
            since=_moment(status.since_wall_ns),
            calls=self._calls.load.by_gateway.get(gateway.name, 0),
            calls_max=gateway.calls_max,
            probed=status.is_probed,
            probe_answer=status.answer,
            probe_ms=None if status.probe_ms is None else round(status.probe_ms, 3),
            probes=status.probes,
            probes_failed=status.probes_failed,
            registration=status.registration.value if status.registration is not None else None,
            register_answer=status.register_answer,
            registered_until=_moment(status.registered_until_wall_ns),
        )

    def _live_call(self, call: Call) -> say.LiveCall:
        talked_ns = self._clock.mono_ns() - call.answered.mono_ns if call.answered else 0
        return say.LiveCall(
            call_id=call.call_id,
            phase=call.phase.value,
            account=call.account.name,
            peer=call.invite.peer,
            gateway=call.attempts[-1].gateway if call.attempts else None,
            caller=call.invite.from_user,
            callee=call.invite.request_user,
            invited_at=utc(call.invite.wall_ns),
            answered_at=utc(call.answered.wall_ns) if call.answered else None,
            talk_s=talked_ns // 1_000_000 / 1_000,
            granted_s=call.granted_s,
        )

    # --- accounts -------------------------------------------------------------------------------------------

    async def account_create(self, wanted: say.AccountCreateParams, operator: Operator) -> say.AccountShown:
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
        return await self.account_show(say.AccountShowParams(name=wanted.name), operator)

    async def account_address(self, wanted: say.AccountAddressParams, operator: Operator) -> say.AccountShown:
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
        return await self.account_show(say.AccountShowParams(name=wanted.name), operator)

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

    async def account_show(self, wanted: say.AccountShowParams, _: Operator) -> say.AccountShown:
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

    async def account_topup(self, wanted: say.AccountTopupParams, operator: Operator) -> say.ToppedUp:
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
        for stored in await self._accounts.all():
            if stored.name == name:
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

    # --- decks ----------------------------------------------------------------------------------------------

    async def deck_reload(self, wanted: say.DeckReloadParams, operator: Operator) -> say.DeckReloaded:
        """From now on calls are rated by it; those that are up keep the rate that they began with."""
        if self._decks is None:
            raise CommandError(ErrorCode.REFUSED, "this node takes decks over only when it starts")
        async with self._reloading:
            found = await asyncio.to_thread(self._decks, wanted.name)
            if not isinstance(found, Deck):
                raise CommandError(ErrorCode.REFUSED, "; ".join(found[:ERRORS_SHOWN_MAX]))
            before = self._calls.policy.decks.get(wanted.name)
            if before is None or before.revision != found.revision:
                change = Change(
                    operator=operator,
                    action="deck.reload",
                    subject=wanted.name,
                    before=None if before is None else told(_deck(before)),
                    after=told(_deck(found)),
                )
                await self._noted(
                    change,
                    lambda: self._calls.change_policy(lambda policy: policy.with_deck(wanted.name, found)),
                )
        return say.DeckReloaded(name=wanted.name, revision=found.revision, rates=len(found))

    # --- dead letters ---------------------------------------------------------------------------------------

    async def dead_letter_list(self, wanted: say.DeadLetterListParams, _: Operator) -> say.DeadLetterList:
        found = await self._dead_letters.dead_letters(wanted.after_seq, wanted.limit)
        return say.DeadLetterList(letters=tuple(map(_letter, found)))

    async def dead_letter_show(self, wanted: say.DeadLetterShowParams, _: Operator) -> say.DeadLetterRecord:
        for letter in await self._dead_letters.dead_letters(wanted.seq - 1, 1):
            if letter.seq == wanted.seq:
                record = msgspec.Raw(encode_json(decode(letter.payload)))
                return say.DeadLetterRecord(letter=_letter(letter), record=record)
        raise CommandError(ErrorCode.NOT_FOUND, f"{wanted.seq} is no dead letter")

    async def dead_letter_retry(
        self, wanted: say.DeadLetterRetryParams, operator: Operator
    ) -> say.DeadLettersDone:
        """Into the outbox again, under their old numbers, so that subscribers see no number twice."""
        change = Change(operator=operator, action="dead-letter.retry", subject=_seqs(wanted.seqs))
        count = await self._dead_letters.retry_dead(wanted.seqs, change)
        self._read_again()
        return say.DeadLettersDone(count=count)

    async def dead_letter_drop(
        self, wanted: say.DeadLetterDropParams, operator: Operator
    ) -> say.DeadLettersDone:
        """Never sent: subscribers see the gap. The records themselves stay in the journal."""
        change = Change(
            operator=operator, action="dead-letter.drop", subject=_seqs(wanted.seqs), text=wanted.text
        )
        count = await self._dead_letters.drop_dead(wanted.seqs, change)
        return say.DeadLettersDone(count=count)

    # --- changes and who made them --------------------------------------------------------------------------

    async def _noted(self, change: Change, make: Callable[[], _T]) -> _T:
        """For what is changed in memory: noted on disk, then made; both, or neither, whatever becomes of the
        one who asked."""

        async def both() -> _T:
            await self._audit.write(change)
            return make()

        return await asyncio.shield(both())

    async def audit_list(self, wanted: say.AuditListParams, _: Operator) -> say.AuditList:
        asked = AuditFilter(operator=wanted.by, uid=wanted.uid, action=wanted.action, subject=wanted.subject)
        found = await self._audit.list(wanted.after_entry, wanted.limit, asked)
        return say.AuditList(entries=tuple(map(_audited, found)))

    # --- rerating -------------------------------------------------------------------------------------------

    async def rerate_apply(self, wanted: say.RerateApplyParams, operator: Operator) -> say.RerateApplied:
        """Restate calls with charges that were computed elsewhere. Each must come out of its own record
        again, or nothing is written."""
        outcomes = [say.RerateOutcome.CHANGED] * len(wanted.calls)
        made: dict[int, Cdr] = {}
        changes: list[Change] = []
        for place, asked in enumerate(wanted.calls):
            if self._calls.holds(asked.call_id):
                outcomes[place] = say.RerateOutcome.BUSY
                continue
            known = await self._records.show(str(asked.call_id))
            if known and known[-1].revision == asked.revision:
                cdr = made[place] = self._restated(known[-1], asked, wanted.text, operator)
                changes.append(
                    Change(
                        operator=operator,
                        action="rerate.apply",
                        subject=str(cdr.call_id),
                        before=told(_revision(known[-1], asked.charge)),
                        after=told(_revision(cdr, asked.charge)),
                        text=wanted.text,
                    )
                )
        done = await self._revisions.revise([*made.values()], changes)
        for place, written in zip(made, done, strict=True):
            if written:
                outcomes[place] = say.RerateOutcome.REVISED
        return say.RerateApplied(outcomes=tuple(outcomes))

    def _restated(self, cdr: Cdr, asked: say.Restated, text: str, operator: Operator) -> Cdr:
        line = asked.charge
        if not any(
            (line.side, line.party) == (known.side, known.party)
            and known.billable_ms in (None, line.billable_ms)
            for known in cdr.charges
        ):
            wrong = f"call {asked.call_id} has no such charge: its party and its time stay as they are"
            raise CommandError(ErrorCode.INVALID_PARAMS, wrong)
        restated = revised(cdr, line, self._calls.policy.exchange, operator.name, text)
        if differences := explain_call(restated).all_differences:
            known = explain_call(cdr).all_differences  # what was wrong before is not this revision's doing
            if new := [difference for difference in differences if difference not in known]:
                raise CommandError(ErrorCode.INVALID_PARAMS, f"call {asked.call_id}: {'; '.join(new)}")
        return restated

    # --- records --------------------------------------------------------------------------------------------

    async def cdr_show(self, wanted: say.CdrShowParams, _: Operator) -> say.CdrRevisions:
        found = await self._records.show(str(wanted.call_id))
        if not found:
            up = "it is still up" if self._calls.find(wanted.call_id) else "`sidecar cdr search` finds others"
            raise CommandError(ErrorCode.NOT_FOUND, f"call {wanted.call_id} has no record: {up}")
        return say.CdrRevisions(records=_records(found))

    async def cdr_tail(self, wanted: say.CdrTailParams, _: Operator) -> say.CdrTail:
        after_seq = wanted.after_seq
        if after_seq is None:
            after_seq = max(0, (await self._status()).outbox_head_seq - wanted.limit)
        found = await self._records.tail(after_seq, wanted.limit)
        last_seq = found[-1].seq if found else None
        return say.CdrTail(records=_records(found), next_seq=after_seq if last_seq is None else last_seq)

    async def cdr_search(self, wanted: say.CdrSearchParams, _: Operator) -> say.CdrFound:
        if wanted.currency is None and (wanted.charge_min or wanted.charge_max):
            raise CommandError(ErrorCode.INVALID_PARAMS, "charge_min and charge_max need a currency")
        asked = RecordFilter(
            origin=wanted.origin,
            reason=wanted.reason,
            detail=wanted.detail,
            account=wanted.account,
            number=wanted.number,
            gateway=wanted.gateway,
            since=wanted.ended_from,
            until=wanted.ended_to,
            suppressed=wanted.suppressed,
            currency=wanted.currency,
            charge_min=None if wanted.charge_min is None else Decimal(wanted.charge_min),
            charge_max=None if wanted.charge_max is None else Decimal(wanted.charge_max),
        )
        page = await self._records.search(asked, wanted.limit, wanted.cursor)
        return say.CdrFound(records=_records(page.records), cursor=page.cursor)


def _records(cdrs: Sequence[Cdr]) -> tuple[msgspec.Raw, ...]:
    return tuple(msgspec.Raw(encode_json(cdr)) for cdr in cdrs)


class _MarginTerms(msgspec.Struct, frozen=True):
    """Those of the settings beside those in force: `before` and `after` hold what differs."""

    found: Reread
    floors: dict[str, str | None]
    changed: bool
    before: Mapping[str, object]
    after: Mapping[str, object]


def _margin_terms(settings: SettingsSource, policy: Policy) -> _MarginTerms | Sequence[str]:
    """In a thread: it reads files, and looks at every account."""
    found = settings()
    if not isinstance(found, Reread):
        return found
    after = policy.with_margin_terms(found.policy)
    floors_before, floors = _margin_floors(policy), _margin_floors(after)
    differ = sorted(
        name for name in floors_before.keys() | floors if floors_before.get(name) != floors.get(name)
    )
    return _MarginTerms(
        found,
        floors,
        bool(differ) or after.exchange != policy.exchange,
        {
            "exchange_rates": len(policy.exchange),
            "margin_floors": {name: floors_before.get(name) for name in differ},
        },
        {"exchange_rates": len(after.exchange), "margin_floors": {name: floors.get(name) for name in differ}},
    )


def _margin_floors(policy: Policy) -> dict[str, str | None]:
    return {
        name: None if floor is None else amount_text(floor)
        for name, floor in {"*": policy.margin_floor, **policy.margin_floors()}.items()
    }


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


def _deck(deck: Deck) -> Mapping[str, object]:
    return {"revision": deck.revision, "rates": len(deck)}


def _seqs(seqs: Sequence[int] | None) -> str:
    return "all" if seqs is None else " ".join(map(str, seqs))


def _revision(cdr: Cdr, restated: ChargeRecord) -> Mapping[str, object]:
    """What a record says in the line that is restated."""
    total = next(
        (line.total for line in cdr.charges if (line.side, line.party) == (restated.side, restated.party)),
        None,
    )
    return {
        "revision": cdr.revision,
        "side": restated.side.value,
        "party": restated.party,
        "total": None if total is None else amount_text(total),
    }


def _audited(entry: AuditEntry) -> say.AuditShown:
    change = entry.change
    return say.AuditShown(
        entry=entry.entry,
        at=utc(entry.at_wall_ns),
        operator=change.operator.name,
        uid=change.operator.uid,
        action=change.action,
        subject=change.subject,
        before=msgspec.Raw((change.before or "null").encode()),
        after=msgspec.Raw((change.after or "null").encode()),
        text=change.text,
    )


def _letter(letter: DeadLetter) -> say.DeadLetterShown:
    cdr = decode(letter.payload)
    return say.DeadLetterShown(
        seq=letter.seq,
        died_at=utc(letter.died_wall_ns),
        reason_code=letter.reason_code,
        reason=letter.reason_name,
        bytes=len(letter.payload),
        call_id=cdr.call_id,
        account=cdr.account,
    )


def _moment(wall_ns: int | None) -> datetime | None:
    return None if wall_ns is None else utc(wall_ns)


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
