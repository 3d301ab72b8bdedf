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
from typing import TypeVar

import msgspec
import structlog

from sidecar.core.audit import Change, Operator, told
from sidecar.core.gateway_health import Health
from sidecar.core.policy import Gateway, Policy
from sidecar.core.rating import amount_text
from sidecar.core.records import utc
from sidecar.core.tariff import Deck
from sidecar.core.terms import Detail
from sidecar.ports import (
    Accounts,
    AuditEntry,
    AuditFilter,
    AuditTrail,
    Clock,
    DeadLetters,
    DeckBook,
    GatewayStatus,
    NameStatus,
    Records,
    Replays,
    Retention,
    Revisions,
    Suspense,
)
from sidecar.runtime.account_commands import AccountCommands
from sidecar.runtime.block_commands import BlockCommands
from sidecar.runtime.call_commands import CallCommands
from sidecar.runtime.calls import Calls
from sidecar.runtime.deck_commands import DeckCommands, DeckSource
from sidecar.runtime.fraud_commands import FraudCommands
from sidecar.runtime.journal_commands import JournalCommands
from sidecar.runtime.record_commands import DeadLetterCommands, RecordCommands
from sidecar.runtime.replay import Replayer
from sidecar.wire import control as say
from sidecar.wire.control import CommandError, ErrorCode, Method

NodeState = Callable[[], Awaitable[say.NodeStatus]]
# The settings as they are now, or what is wrong with them. Asked in a thread.
SettingsSource = Callable[[], "Reread | Sequence[str]"]
# Take over what the TLS files hold now: whether it is something else, or what is wrong with them.
Renewal = Callable[[], Awaitable["bool | Sequence[str]"]]

ERRORS_SHOWN_MAX = 10
RULES_TOLD_MAX = 100  # of each list that has changed, in the audit table
ACCEPTING = "accepting"  # the state of a node that takes new calls

_T = TypeVar("_T")

log = structlog.get_logger("sidecar.admin")


class Reread(msgspec.Struct, frozen=True, kw_only=True):
    """What a start would find in the settings now."""

    policy: Policy
    warnings: Sequence[str] = ()


class Admin:
    """`methods()` is what the control socket serves."""

    def __init__(
        self,
        *,
        calls: Calls,
        accounts: Accounts,
        audit: AuditTrail,
        suspense: Suspense,
        retention: Retention,
        records: Records,
        revisions: Revisions,
        clock: Clock,
        status: NodeState,
        dead_letters: DeadLetters,
        read_again: Callable[[], None],
        gateways: Callable[[], Sequence[GatewayStatus]],
        names: Callable[[], Sequence[NameStatus]] = tuple,
        decks: DeckSource | None = None,
        deck_book: DeckBook | None = None,
        deck_settings: Mapping[str, Deck] = {},
        settings: SettingsSource | None = None,
        replayer: Replayer | None = None,
        replays: Replays | None = None,
        renew_certificates: Renewal | None = None,
    ) -> None:
        self.call = CallCommands(calls, audit, clock)
        self.blocks = BlockCommands(calls, audit)
        self.accounts = AccountCommands(calls, accounts, clock)
        self.fraud = FraudCommands(calls.fraud, audit)
        self.records = RecordCommands(calls, records, revisions, status, replayer, replays, clock)
        self.journal = JournalCommands(calls, suspense, accounts, retention)
        self.dead_letters = DeadLetterCommands(dead_letters, read_again)
        self._calls = calls
        self._audit = audit
        self._clock = clock
        self._status = status
        self._gateways = gateways
        self._names = names
        self._settings = settings
        self._renew_certificates = renew_certificates
        # Files are read and taken over by one command after the other: else what was read first could come
        # into force last.
        self._reloading = asyncio.Lock()
        self.decks = DeckCommands(calls, audit, clock, decks, deck_book, deck_settings, self._reloading)

    def methods(self) -> Mapping[str, Method]:
        return {
            "node.drain": Method(say.NodeDrainParams, self.node_drain),
            "node.reload": Method(say.NodeReloadParams, self.node_reload),
            "node.status": Method(say.Nothing, self.node_status),
            "node.gateways": Method(say.Nothing, self.node_gateways),
            "audit.list": Method(say.AuditListParams, self.audit_list),
            **self.call.methods(),
            **self.decks.methods(),
            **self.accounts.methods(),
            **self.fraud.methods(),
            **self.blocks.methods(),
            **self.records.methods(),
            **self.dead_letters.methods(),
            **self.journal.methods(),
        }

    # --- calls and the node ---------------------------------------------------------------------------------

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
        """Fraud rules, which look at the calls that are up, too; rules about numbers, which end those that
        they forbid; rules about callers, hours and prices, exchange rates, margin floors and terms of
        accounts, for calls and attempts that begin from now on; and TLS files, for handshakes to come. What
        is wrong in any of them refuses them whole."""
        if self._settings is None:
            raise CommandError(ErrorCode.REFUSED, "this node reads its settings only when it starts")
        async with self._reloading:
            before = self._calls.policy
            read = await asyncio.to_thread(_reloaded, self._settings, before)
            if not isinstance(read, _Reloaded):
                raise CommandError(ErrorCode.REFUSED, "; ".join(read[:ERRORS_SHOWN_MAX]))
            terms = self.accounts.reread(read.found.policy)
            renewed = await self._renew_certificates() if self._renew_certificates is not None else False
            if not isinstance(renewed, bool):
                raise CommandError(ErrorCode.REFUSED, "; ".join(renewed))
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
                    lambda: self._calls.reread(found),
                )
            await self.accounts.take_over(terms, operator)
            ended = await asyncio.shield(self._calls.end_forbidden()) if read.changed else 0
        log.info("settings_reloaded", operator=operator.name, changed=read.changed, **read.after)
        return say.NodeReloaded(
            exchange_rates=len(read.found.policy.exchange),
            margin_floors=read.floors,
            fraud_rules=len(read.found.policy.fraud_rules),
            changed=read.changed or bool(terms),
            account_terms=len(terms),
            calls_ended=ended,
            certificates_renewed=renewed,
            warnings=tuple(read.found.warnings),
        )

    async def node_status(self, _: say.Nothing, __: Operator) -> say.NodeStatus:
        return await self._status()

    async def node_gateways(self, _: say.Nothing, __: Operator) -> say.GatewayList:
        watched = {status.gateway: status for status in self._gateways()}
        named = {status.gateway: status for status in self._names()}
        return say.GatewayList(
            gateways=tuple(
                self._gateway(gateway, watched.get(name, GatewayStatus(gateway=name)), named.get(name))
                for name, gateway in self._calls.policy.gateways.items()
            )
        )

    def _gateway(self, gateway: Gateway, status: GatewayStatus, name: NameStatus | None) -> say.GatewayShown:
        return say.GatewayShown(
            gateway=gateway.name,
            address=gateway.authority,
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
            name_state=None if name is None else name.state.value,
            servers=tuple(
                say.ServerShown(
                    address=str(server),
                    priority=server.priority,
                    weight=server.weight,
                    state=status.servers.get(server.at, Health.UNKNOWN).value,
                )
                for server in (() if name is None else name.servers)
            ),
        )

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


class _Reloaded(msgspec.Struct, frozen=True):
    """Those of the settings beside those in force: `before` and `after` hold what differs."""

    found: Reread
    floors: dict[str, str | None]
    changed: bool
    before: Mapping[str, object]
    after: Mapping[str, object]


def _reloaded(settings: SettingsSource, policy: Policy) -> _Reloaded | Sequence[str]:
    """In a thread: it reads files, and looks at every account."""
    found = settings()
    if not isinstance(found, Reread):
        return found
    after = policy.with_reread(found.policy)
    floors_before, floors = _margin_floors(policy), _margin_floors(after)
    differ = sorted(
        name for name in floors_before.keys() | floors if floors_before.get(name) != floors.get(name)
    )
    return _Reloaded(
        found,
        floors,
        bool(differ) or after.exchange != policy.exchange or bool(_other_rules(policy, after)),
        {
            "exchange_rates": len(policy.exchange),
            "margin_floors": {name: floors_before.get(name) for name in differ},
            **_other_rules(policy, after),
        },
        {
            "exchange_rates": len(after.exchange),
            "margin_floors": {name: floors.get(name) for name in differ},
            **_other_rules(after, policy),
        },
    )


def _other_rules(policy: Policy, other: Policy) -> dict[str, object]:
    """The rules of the one that are not in the other, where the two differ."""
    said: dict[str, object] = {}
    if policy.fraud_rules != other.fraud_rules:
        fraud_rules = {rule.name: str(rule) for rule in policy.fraud_rules if rule not in other.fraud_rules}
        said["fraud_rules"] = fraud_rules
    mine, theirs = policy.static_rules(), other.static_rules()
    for name in sorted(mine.keys() | theirs):
        if mine.get(name) != theirs.get(name):
            said[name] = sorted(mine.get(name, frozenset()) - theirs.get(name, frozenset()))[:RULES_TOLD_MAX]
    return said


def _margin_floors(policy: Policy) -> dict[str, str | None]:
    return {
        name: None if floor is None else amount_text(floor)
        for name, floor in {"*": policy.margin_floor, **policy.margin_floors()}.items()
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


def _moment(wall_ns: int | None) -> datetime | None:
    return None if wall_ns is None else utc(wall_ns)
