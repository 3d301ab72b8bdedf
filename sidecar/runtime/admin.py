"""What people may ask of a running node, method by method (wire/methods); the control socket only carries
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

from sidecar.core.audit import SIGNAL, Change, Operator, told
from sidecar.core.gateway_health import Health
from sidecar.core.policy import Gateway
from sidecar.core.records import utc
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
    Neighbours,
    Records,
    Replays,
    Retention,
    Revisions,
    StoredEntries,
    Suspense,
    Users,
)
from sidecar.runtime.account_commands import AccountCommands
from sidecar.runtime.block_commands import BlockCommands
from sidecar.runtime.call_commands import CallCommands
from sidecar.runtime.calls import Calls
from sidecar.runtime.deck_commands import DeckCommands, DeckSource
from sidecar.runtime.entry_commands import Candidate, EntryCommands
from sidecar.runtime.fraud_commands import FraudCommands
from sidecar.runtime.journal_commands import JournalCommands
from sidecar.runtime.neighbours import Neighbourhood
from sidecar.runtime.record_commands import DeadLetterCommands, RecordCommands
from sidecar.runtime.releasing import release_live
from sidecar.runtime.reload import DIFFERENCES_TOLD_MAX, BadSettingsError, Reloading
from sidecar.runtime.replay import Replayer
from sidecar.runtime.subscribers import Subscribers
from sidecar.runtime.trial_commands import TrialCommands
from sidecar.runtime.user_commands import UserCommands
from sidecar.wire import control_node as say
from sidecar.wire.control import DEFAULT, CommandError, ErrorCode, Method, Nothing, in_one_line
from sidecar.wire.control_node import ACCEPTING
from sidecar.wire.methods import Handler, served

NodeState = Callable[[], Awaitable[say.NodeStatus]]

_T = TypeVar("_T")

log = structlog.get_logger("sidecar.admin")


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
        reloading: Reloading,
        names: Callable[[], Sequence[NameStatus]] = tuple,
        decks: DeckSource | None = None,
        deck_book: DeckBook | None = None,
        replayer: Replayer | None = None,
        replays: Replays | None = None,
        stored: StoredEntries | None = None,
        candidate: Candidate | None = None,
        users: Users | None = None,
        subscribers: Subscribers | None = None,
        restart: Callable[[], None] | None = None,
        reopen_log: Callable[[], str | None] = lambda: None,
        would_start: Callable[[], Awaitable[Sequence[str]]] | None = None,
        neighbours: Neighbours | None = None,
        version: str = "",
    ) -> None:
        self.call = CallCommands(calls, audit, clock)
        self.blocks = BlockCommands(calls, audit)
        self.accounts = AccountCommands(calls, accounts, clock)
        self.fraud = FraudCommands(calls.fraud, audit, neighbours, calls.policy.node)
        self.trials = TrialCommands(lambda: calls.given, clock)
        self.records = RecordCommands(calls, records, revisions, replayer, replays, clock)
        self.journal = JournalCommands(calls, suspense, accounts, retention)
        self.dead_letters = DeadLetterCommands(dead_letters, read_again)
        self.entries = EntryCommands(stored, candidate, reloading) if stored and candidate else None
        self.users = UserCommands(users, audit) if users is not None else None
        self.subscribers = subscribers or Subscribers(clock)
        self.neighbourhood = Neighbourhood(calls, neighbours, version=version, methods=self.methods)
        self._calls = calls
        self._audit = audit
        self._clock = clock
        self._status = status
        self._gateways = gateways
        self._names = names
        self._reloading = reloading
        self._restart = restart
        self._reopen_log = reopen_log
        self._would_start = would_start  # what a start would say is wrong
        self.decks = DeckCommands(calls, audit, clock, decks, deck_book, reloading)

    def methods(self) -> Mapping[str, Method]:
        own: Mapping[str, Handler] = {
            "node.drain": self.node_drain,
            "node.accept": self.node_accept,
            "node.reload": self.node_reload,
            "node.restart": self.node_restart,
            "node.reopen_logs": self.node_reopen_logs,
            "node.status": self.node_status,
            "node.gateways": self.node_gateways,
            "node.settings": self.node_settings,
            "audit.list": self.audit_list,
        }
        return {
            **served(own),
            **self.call.methods(),
            **self.decks.methods(),
            **self.accounts.methods(),
            **self.fraud.methods(),
            **self.blocks.methods(),
            **self.trials.methods(),
            **self.records.methods(),
            **self.dead_letters.methods(),
            **self.subscribers.methods(),
            **self.neighbourhood.methods(),
            **self.journal.methods(),
            **(self.entries.methods() if self.entries is not None else {}),
            **(self.users.methods() if self.users is not None else {}),
        }

    # --- calls and the node ---------------------------------------------------------------------------------

    async def node_drain(self, wanted: say.NodeDrainParams, operator: Operator) -> say.NodeDrained:
        after = {"state": Detail.DRAIN.value, "release": wanted.release}
        await self._noted(self._of_state("node.drain", operator, after, wanted.text), self._calls.drain)
        live = self._calls.load.calls
        if wanted.release:
            await asyncio.shield(release_live(self._calls, operator.name, wanted.text))
        return say.NodeDrained(draining=True, live=live, released=live if wanted.release else 0)

    async def node_accept(self, wanted: say.NodeAcceptParams, operator: Operator) -> say.NodeAccepts:
        if self._calls.is_stopping:
            raise CommandError(ErrorCode.REFUSED, "the node is about to end")
        change = self._of_state("node.accept", operator, {"state": ACCEPTING}, wanted.text)
        await self._noted(change, self._calls.accept)
        return say.NodeAccepts(state=self._calls.state or ACCEPTING)

    async def node_reopen_logs(self, _: Nothing, __: Operator) -> say.NodeLogsReopened:
        if (fault := self._reopen_log()) is not None:
            raise CommandError(ErrorCode.REFUSED, fault)
        return say.NodeLogsReopened(reopened=True)

    async def node_restart(self, wanted: say.NodeRestartParams, operator: Operator) -> say.NodeRestarts:
        if self._restart is None or self._would_start is None:
            raise CommandError(ErrorCode.REFUSED, "whoever runs this node has to start it again")
        if wrong := await self._would_start():
            raise CommandError(ErrorCode.REFUSED, in_one_line(wrong))
        async with self._reloading.lock:
            if self._calls.is_stopping:
                raise CommandError(ErrorCode.REFUSED, "the node is about to end")
            restarts = say.NodeRestarts(boot_id=self._calls.policy.boot_id, calls=self._calls.load.calls)
            change = self._of_state("node.restart", operator, {"state": "restart"}, wanted.text)
            await self._noted(change, self._restart)
        return restarts

    def _of_state(self, action: str, operator: Operator, after: Mapping[str, object], text: str) -> Change:
        return Change(
            operator=operator,
            action=action,
            subject=self._calls.policy.node,
            before=told({"state": self._calls.state or ACCEPTING, "calls": self._calls.load.calls}),
            after=told(after),
            text=text,
        )

    async def node_reload(self, wanted: say.NodeReloadParams, operator: Operator) -> say.NodeReloaded:
        """See runtime/reload."""
        try:
            done = await self._reloading.reload(operator, dry_run=wanted.dry_run)
        except BadSettingsError as error:
            raise CommandError(ErrorCode.WRONG_SETTINGS, in_one_line(error.errors)) from None
        return say.NodeReloaded(
            settings_revision=done.revision,
            differences=tuple(map(str, done.differences[:DIFFERENCES_TOLD_MAX])),
            differences_count=len(done.differences),
            needs_restart=tuple(done.needs_restart),
            account_terms=done.account_terms,
            calls_ended=done.calls_ended,
            certificates_renewed=done.certificates_renewed,
            warnings=tuple(done.warnings),
        )

    async def reload_when(self, asked: asyncio.Event) -> None:
        """For a signal. Whatever is wrong, the log alone is told, and calls go on."""
        while True:
            await asked.wait()
            asked.clear()
            try:
                done = await self._reloading.reload(SIGNAL)
            except BadSettingsError as error:
                log.error("reload_refused", operator=SIGNAL.name, errors=error.errors)
            except Exception:  # a store that fails, or a defect of ours
                log.exception("reload_failed", operator=SIGNAL.name)
            else:
                if done.needs_restart:
                    log.error("reload_refused", operator=SIGNAL.name, needs_restart=done.needs_restart)

    async def node_status(self, _: Nothing, __: Operator) -> say.NodeStatus:
        return await self._status()

    async def node_settings(self, _: Nothing, __: Operator) -> say.SettingList:
        in_force = self._reloading.in_force
        return say.SettingList(
            settings_revision=self._calls.policy.settings_revision,
            settings=tuple(
                say.SettingShown(
                    name=name,
                    value=value,
                    source=in_force.given_at.get(name, DEFAULT),
                    at_start=name in in_force.at_start,
                )
                for name, value in sorted(in_force.plain.items())
            ),
        )

    async def node_gateways(self, _: Nothing, __: Operator) -> say.GatewayList:
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
            calls_elsewhere=self._calls.load.by_gateway_elsewhere.get(gateway.name, 0),
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
        asked = AuditFilter(
            before_entry=wanted.before_entry,
            operator=wanted.by,
            uid=wanted.uid,
            action=wanted.action,
            subject=wanted.subject,
        )
        found = await self._audit.list(wanted.after_entry, wanted.limit, asked)
        return say.AuditList(entries=tuple(map(_audited, found)))


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
