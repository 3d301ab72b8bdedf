"""The calls that are up: every event meets its call here, and every decision is carried out here.

One table, one place where `decide` is called. A decision that raises is a broken promise of our own code:
it ends that one call as server/fault, is counted, and the node lives on.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple
from uuid import UUID

import structlog
from msgspec.structs import replace

from sidecar.core import capacity, hangup
from sidecar.core.admit import open_call, refused_by_bridge
from sidecar.core.audit import Change
from sidecar.core.call import Call, Phase, Stamp
from sidecar.core.cdr import Cdr
from sidecar.core.commands import (
    Audit,
    Capture,
    Command,
    NoteRefusal,
    Publish,
    Reject,
    Release,
    Snapshot,
    StoreCommand,
    Suppress,
    WireCommand,
)
from sidecar.core.credit import forgotten_ms
from sidecar.core.decide import decide, is_over, may_answer_late
from sidecar.core.events import (
    Admitted,
    BridgeEvent,
    ByeReceived,
    CallEvent,
    CallFoundOpen,
    CallLost,
    Event,
    GrantExtended,
    InviteReceived,
    InviteRefused,
    MessageDropped,
    ReleaseDue,
    ReleaseRequested,
    SnapshotTaken,
    StepFailed,
    StrayBye,
    WaitElapsed,
)
from sidecar.core.identity import call_id_of
from sidecar.core.policy import Given, Load, Policy
from sidecar.core.records import utc
from sidecar.core.recovery import RECOVERED_IDS, clock_shift, is_unexplained, left_at_another
from sidecar.core.refusals import RefusalWindow
from sidecar.core.setting_up import is_retry
from sidecar.core.terms import Detail, HangupOrigin
from sidecar.ports import Clock, Control, Meter, Store
from sidecar.runtime.fraud import FraudWatch
from sidecar.runtime.policies import Generation, Policies
from sidecar.runtime.turns import CALLS_PER_TURN, in_turns
from sidecar.runtime.unrated import Unrated

# The record of an ending call waits this long for its legs: a crossing BYE or a late 2xx then stands in
# revision 0.
RECORD_WAIT_NS = 1_000_000_000
# RFC 3261 §17.1.1.2: so long a caller repeats an INVITE that it heard nothing of (64*T1, at the largest T1
# that can be set).
REPEATS_NS = 128_000_000_000
# A call that the bridge does not hold may be younger than the snapshot; after this it is lost.
SNAPSHOT_GRACE_NS = 2_000_000_000
# Calls of an earlier boot that are ended: 2000 of them within 4 s, at two BYEs each.
RECOVERED_PER_S = 625
RECOVERED_PER_TURN = 25
RECOVERED_PAUSE_S = 0.04
INVITES_PER_TURN = 20  # that are decided about in one turn: what calls that are up need comes between
AGGREGATES_KEPT_PER_BEAT = 100  # 2 kB each: a flood from many sources is not to fill the disk's time
TOLD_WITHIN_S = 5.0  # the bridge says that it has carried out what it was told

_NOBODY = 0

log = structlog.get_logger("sidecar.calls")

Fault = Callable[[UUID, Exception], None]


class _ToBegin(NamedTuple):
    """What is put in force with the snapshot of this number."""

    snapshot: int
    policy: Callable[[], Policy]
    done: asyncio.Future[None]
    new_peers: frozenset[str]


class Calls:
    """`on_fault` hears of broken promises, with the call they hit. Ids go on from `last_known_wall_ns`, of an
    earlier boot, where the clock went back since."""

    def __init__(
        self,
        *,
        policy: Policy,
        control: Control,
        store: Store,
        clock: Clock,
        meter: Meter,
        on_fault: Fault,
        last_known_wall_ns: int = 0,
        fraud: FraudWatch | None = None,
    ) -> None:
        self._fraud = fraud or FraudWatch((), clock=clock)
        self.policies = Policies(Given(policy, Load(), self._fraud))
        self.state = ""  # why new calls are refused: drain, journal; empty: they are accepted
        self.is_stopping = False  # a drain that is not undone
        self._control = control
        self._store = store
        self.clock = clock
        self._meter = meter
        self._on_fault = on_fault
        self._refusals = RefusalWindow(policy.refused_cdr_per_s, policy.refused_cdr_all_per_s)
        self._unrated = Unrated(meter)
        # Calls are found by UUID.int: a UUID hashes and compares itself in Python.
        self._calls: dict[int, Call] = {}
        self._id_ms = last_known_wall_ns // 1_000_000  # the wall clock in the id of the last call
        self._by_bridge_id: dict[int, int] = {}
        # INVITEs that nobody has looked at yet, with what was in force when the bridge let them in, and what
        # came for them since; the bridge bounds them.
        self._backlog: deque[tuple[BridgeEvent, Generation]] = deque()
        self._in_backlog: Counter[int] = Counter()  # how many by bridge id
        self._is_working = False  # on the backlog, in the next turn
        self._challenged: dict[tuple[str, ...], int] = {}  # by `_caller`: those that may come back
        self._waiting: dict[int, int] = {}  # calls in ENDING or AWAITING_RETRY: until when, monotonic
        self._wire: list[WireCommand | Snapshot] = []
        self.snapshots_asked = self.snapshots_seen = 0  # the bridge answers each, in their order
        self._to_begin: _ToBegin | None = None
        # What the bridge held in the last snapshot and nobody here knew: released if still there in the next.
        self._orphans: frozenset[int] = frozenset()
        self._recovered: deque[int] = deque()  # calls of an earlier boot whose legs are to be released
        # Those of another node whose callee has not answered: what it says to that INVITE goes there.
        self._unheard: set[int] = set()
        # Of calls that an earlier boot has admitted: the same INVITE again is no new call.
        self._admitted_before: frozenset[tuple[str, ...]] = frozenset()
        self._repeats_until_ns = 0

    @property
    def given(self) -> Given:
        """What the next decision is made by."""
        return self.policies.now.given

    @property
    def policy(self) -> Policy:
        """For calls that begin now."""
        return self.policies.now.given.policy

    @property
    def fraud(self) -> FraudWatch:
        return self._fraud

    @property
    def load(self) -> Load:
        return self.policies.now.given.load

    def begin_with(self, policy: Policy) -> None:
        """A reload: calls that begin from now on have this policy, whole; those that are up keep theirs, with
        its gateways, limits and flags, until they are over."""
        rules = self.policy.fraud_rules
        self.policies.begin(Given(policy, self.load, self._fraud))
        self._refusals.change_limits(policy.refused_cdr_per_s, policy.refused_cdr_all_per_s)
        if rules != policy.fraud_rules:
            self._fraud.change_rules(policy.fraud_rules, self.live())

    async def begin_with_when_told(self, policy: Callable[[], Policy], new_peers: frozenset[str]) -> None:
        """The same, once the bridge has carried out what it was told before: its events come in order, so
        what it let in until then is of the policy before. An INVITE of `new_peers` is of the policy after."""
        self.snapshots_asked += 1
        done = asyncio.get_running_loop().create_future()
        self._to_begin = _ToBegin(self.snapshots_asked, policy, done, new_peers)
        self._control.send([Snapshot()])
        try:
            async with asyncio.timeout(TOLD_WITHIN_S):
                await done
        except TimeoutError:  # it has stopped, or stalls: it will not have kept the old settings for ever
            log.error("settings_not_confirmed", by="bridge")
            self._begin_what_waits()

    def _begin_what_waits(self, *, only_if: bool = True) -> None:
        if only_if and (waiting := self._to_begin) is not None:
            self._to_begin = None
            self.begin_with(waiting.policy())
            if not waiting.done.done():
                waiting.done.set_result(None)

    # --- events -----------------------------------------------------------------------------------------

    def on_bridge_events(self, events: Sequence[Event]) -> None:
        """Calls that are up come first: where there is more to do than can be done, new ones wait, and the
        bridge refuses what would wait for long."""
        for event in events:
            if isinstance(event, BridgeEvent):
                if (waiting := self._to_begin) is not None and isinstance(event, InviteReceived):
                    self._begin_what_waits(only_if=event.peer in waiting.new_peers)
                key = self._by_bridge_id.get(event.bridge_id)
                if key is not None and event.bridge_id not in self._in_backlog:
                    self._apply(self._calls[key], event)
                elif isinstance(event, InviteReceived) or event.bridge_id in self._in_backlog:
                    self._in_backlog[event.bridge_id] += 1
                    self._backlog.append((event, self.policies.now))
            elif isinstance(event, SnapshotTaken):
                self._on_snapshot(event)
            elif isinstance(event, InviteRefused):
                self._on_refused(event)
            elif isinstance(event, MessageDropped):
                log.warning(
                    "message_dropped",
                    peer=event.peer,
                    source=event.source,
                    method=event.method,
                    sip_call_id=event.sip_call_id,
                    reason=event.reason,
                )
        if not self._is_working:
            self._work_backlog()
        self._send()

    def _work_backlog(self) -> None:
        self._is_working = False
        invites = 0
        while self._backlog:
            event = self._backlog[0][0]
            invites += isinstance(event, InviteReceived)
            if invites > INVITES_PER_TURN:
                self._is_working = True
                asyncio.get_running_loop().call_soon(self._work_backlog)
                break
            self._take_next()
        self._send()

    def _take_next(self) -> None:
        event, generation = self._backlog.popleft()
        self._in_backlog[event.bridge_id] -= 1
        if not self._in_backlog[event.bridge_id]:
            del self._in_backlog[event.bridge_id]
        key = self._by_bridge_id.get(event.bridge_id)
        if key is not None:
            self._apply(self._calls[key], event)
        elif isinstance(event, InviteReceived):
            self._on_invite(event, generation)

    def on_store_events(self, events: Sequence[CallEvent]) -> None:
        for event in events:
            call = self._calls.get(event.call_id.int)
            if call is not None:
                self._note_answer(call, event)
                self._apply(call, event)
        self._send()

    def _note_answer(self, call: Call, event: CallEvent) -> None:
        """How long the store takes, and we to ask it: so much earlier an extension is asked for."""
        asked = call.extending
        if isinstance(event, Admitted):
            self._note_took(event, call.invite.mono_ns)
        elif asked is not None and isinstance(event, GrantExtended):
            self._note_took(event, asked.mono_ns)
            has_more = event.granted_s > (call.granted_s or 0)
            self._meter.grant_answered("extended" if has_more else "refused")
        elif asked is not None and isinstance(event, StepFailed):
            self._meter.grant_answered("failed")

    def _note_took(self, event: CallEvent, asked_ns: int) -> None:
        took_ms = (event.mono_ns - asked_ns) // 1_000_000
        self.load.store_ms = max(self.load.store_ms, took_ms)

    def _on_invite(self, invite: InviteReceived, generation: Generation) -> None:
        known = self._calls.get(self._challenged.get(_caller(invite), _NOBODY))
        if known is not None and is_retry(known, invite):
            del self._by_bridge_id[known.bridge_id]
            self._by_bridge_id[invite.bridge_id] = known.call_id.int
            self._capture(known, invite.bridge_id)
            self._apply(known, invite)
            return
        if _transaction(invite) in self._admitted_before:
            log.info("invite_repeated", peer=invite.peer, sip_call_id=invite.leg.sip_call_id)
            self._wire.append(_over(invite.bridge_id))
            return
        call_id = self._call_id(invite)
        try:
            call, commands = open_call(call_id, invite, generation.given)
        except Exception as error:  # noqa: BLE001  # a broken promise is counted, and ends one call
            self._meter.promise_broken("open_call")
            self._on_fault(call_id, error)
            self._wire.append(_release(invite.bridge_id))
            return
        log.debug("call_begun", call_id=call_id, peer=invite.peer, callee=invite.request_user)
        self._by_bridge_id[invite.bridge_id] = call_id.int
        self._keep(None, call, generation)
        self._fraud.opened(call)
        self._capture(call, invite.bridge_id)
        self._perform(commands, invite)

    def _capture(self, call: Call, bridge_id: int) -> None:
        rule = self.policy.capture
        if rule is not None:
            takes = rule.takes(call.call_id, call.account.name)
            self._wire.append(Capture(bridge_id=bridge_id, correlation_id=str(call.call_id) if takes else ""))

    def _on_refused(self, event: InviteRefused) -> None:
        if self._refusals.counted(event.detail, event.invite.leg, utc(event.wall_ns)):
            self._meter.call_refused(event.detail.value)
            return
        call_id = self._call_id(event.invite)
        try:
            _, commands = refused_by_bridge(call_id, event, self.given)
        except Exception as error:  # noqa: BLE001  # a broken promise is counted, and costs one record
            self._meter.promise_broken("refused_by_bridge")
            self._on_fault(call_id, error)
            return
        self._perform(commands, event.invite)

    def _call_id(self, invite: InviteReceived) -> UUID:
        """Ids grow, whatever the clock does: a step back is waited out."""
        self._id_ms = max(self._id_ms, invite.wall_ns // 1_000_000)
        policy = self.policy
        return call_id_of(policy.tenant, policy.node, policy.boot_id, invite.bridge_id, self._id_ms)

    def _apply(self, call: Call, event: Event, change: Change | None = None) -> None:
        try:
            after, commands = decide(call, event, self.policies.of(call.call_id.int))
        except Exception as error:  # noqa: BLE001  # ours, whatever it is: this call pays, others do not
            self._meter.promise_broken("decide")
            self._on_fault(call.call_id, error)
            after, commands = self._fault(call, event)
        if after is not call:
            self._keep(call, after)
        if commands:
            self._perform(commands, after.invite, change)

    def _fault(self, call: Call, event: Event) -> tuple[Call, tuple[Command, ...]]:
        lost = CallLost(call_id=call.call_id, mono_ns=event.mono_ns, wall_ns=event.wall_ns)
        try:
            after, commands = decide(call, lost, self.policies.of(call.call_id.int))
        except Exception as error:  # noqa: BLE001  # a broken promise is counted, and ends one call
            self._on_fault(call.call_id, error)
        else:
            if after is not call or not isinstance(event, WaitElapsed):
                return after, commands
        # Even the end of the call is broken: free the line and forget the call. Its journal entry is still
        # open, so the next start writes its record.
        capacity.occupy(call, self.load, -1)
        self._forget(call)
        return call, (_release(call.bridge_id),)

    # --- the table --------------------------------------------------------------------------------------

    def _keep(self, before: Call | None, call: Call, begins_in: Generation | None = None) -> None:
        if begins_in is not None:
            self.policies.begun(call.call_id.int, begins_in)
        capacity.changed(before, call, self.policies.of(call.call_id.int).policy, self.load)
        if before is None or before.phase is not call.phase:
            self._on_phase(before, call)
        if call.answered is not None and (before is None or before.answered is None):
            self._fraud.answered(call)
        if is_over(call) and not may_answer_late(call):  # then until the bridge has given up too
            self._forget(call)
        else:
            self._calls[call.call_id.int] = call

    def _on_phase(self, before: Call | None, call: Call) -> None:
        self._meter.phase_changed(before.phase if before else None, call.phase)
        if call.phase is Phase.TALKING:
            self._unrated.answered(call, self.clock.mono_ns())
        if call.phase not in capacity.UP:
            self._fraud.left(call)
        if before is not None and before.phase in (Phase.AWAITING_RETRY, Phase.ENDING):
            self._waiting.pop(call.call_id.int, None)
            self._challenged.pop(_caller(call.invite), None)
        if call.phase is Phase.AWAITING_RETRY:
            self._challenged[_caller(call.invite)] = call.call_id.int
            self._waiting[call.call_id.int] = (
                self.clock.mono_ns()
                + self.policies.of(call.call_id.int).policy.timers.auth_retry_ms * 1_000_000
            )
        elif call.phase is Phase.ENDING and call.recovery is None:
            self._waiting[call.call_id.int] = self.clock.mono_ns() + RECORD_WAIT_NS

    def _forget(self, call: Call) -> None:
        self._fraud.left(call)
        self._calls.pop(call.call_id.int, None)
        self._by_bridge_id.pop(call.bridge_id, None)
        self.policies.over(call.call_id.int)
        self._meter.phase_changed(call.phase, None)

    # --- commands ---------------------------------------------------------------------------------------

    def _perform(
        self, commands: Sequence[Command], invite: InviteReceived, change: Change | None = None
    ) -> None:
        step: list[StoreCommand] = []
        for command in commands:
            if isinstance(command, StoreCommand):
                step.append(command)
            elif isinstance(command, WireCommand):
                self._wire.append(command)
            elif isinstance(command, NoteRefusal):
                self._note_refusal(command, invite)
        if step:
            last = step[-1]
            if isinstance(last, (Publish, Suppress)):
                self._meter.call_ended(last.cdr)
                self._fraud.recorded(last.cdr)
                _log_end(last.cdr)
            if change is not None:
                step.append(Audit(change=change))
            self._store.submit(step)

    def _note_refusal(self, command: NoteRefusal, invite: InviteReceived) -> None:
        self._meter.call_refused(command.cdr.detail)
        if self._store.failing:
            return  # contract: while the journal fails only counters are kept
        cdr = self._refusals.note(command.cdr, invite.leg.branch, invite.leg.remote_cseq)
        if cdr is not None:
            self._store.submit((_recording(cdr),))

    def _send(self) -> None:
        if self._wire:
            wire, self._wire = self._wire, []
            self._control.send(wire)

    # --- the watchdog -----------------------------------------------------------------------------------

    def tick(self, *, snapshot: bool) -> None:
        """Once a heartbeat: waits that are over, aggregates that are due, and a look at what the bridge
        holds."""
        mono_ns, wall_ns = self.clock.mono_ns(), self.clock.wall_ns()
        for key in [key for key, until in self._waiting.items() if until <= mono_ns]:
            call = self._calls.get(key)
            if call is None:
                del self._waiting[key]
            else:
                self._apply(call, WaitElapsed(call_id=call.call_id, mono_ns=mono_ns, wall_ns=wall_ns))
        self._publish_aggregates(all_of_them=False)
        self._fraud.tick()
        self.load.store_ms = forgotten_ms(self.load.store_ms)
        self.load.buckets.forget_full(mono_ns)
        if mono_ns >= self._repeats_until_ns:
            self._admitted_before = frozenset()
        if snapshot:
            self.snapshots_asked += 1
            self._wire.append(Snapshot())
        self._send()

    def _publish_aggregates(self, *, all_of_them: bool) -> None:
        for cdr in self._refusals.due(utc(self.clock.wall_ns()), all_of_them=all_of_them):
            self._store.submit((_recording(cdr),))
        if not self._store.failing and (changed := self._refusals.changed(AGGREGATES_KEPT_PER_BEAT)):
            self._store.keep_refusals(changed)

    def _on_snapshot(self, event: SnapshotTaken) -> None:
        """No call stays open for ever: what only we hold is ended, what only the bridge holds is released."""
        self.snapshots_seen += 1
        if self._to_begin is not None and self.snapshots_seen >= self._to_begin.snapshot:
            self._begin_what_waits()
        for bridge_id in [known for known in self._by_bridge_id if known not in event.bridge_ids]:
            call = self._calls[self._by_bridge_id[bridge_id]]
            if call.recovery is not None and call.phase is Phase.ENDING:  # no leg of it will be told of
                self._apply(
                    call, WaitElapsed(call_id=call.call_id, mono_ns=event.mono_ns, wall_ns=event.wall_ns)
                )
                continue
            if event.mono_ns - call.invite.mono_ns < SNAPSHOT_GRACE_NS or call.phase is Phase.AWAITING_RETRY:
                continue
            if call.phase is Phase.ENDED:
                if bridge_id not in event.given_up_ids:
                    self._forget(call)
            elif call.phase is not Phase.ENDING:
                self._meter.promise_broken("call lost")
                self._apply(
                    call, CallLost(call_id=call.call_id, mono_ns=event.mono_ns, wall_ns=event.wall_ns)
                )
        orphans = event.bridge_ids - self._by_bridge_id.keys()
        self._wire.extend(map(_release, orphans & self._orphans))
        self._orphans = orphans

    # --- people -----------------------------------------------------------------------------------------

    def live(self) -> Sequence[Call]:
        return [call for call in self._calls.values() if call.phase in capacity.UP]

    def oldest(self, calls_max: int, account: str | None = None) -> Sequence[Call]:
        """The first live calls, the oldest first: the table is in the order of the INVITEs."""
        calls = (
            call
            for call in self._calls.values()
            if call.phase in capacity.UP and (account is None or call.account.name == account)
        )
        return list(islice(calls, calls_max))

    def open_count(self) -> int:
        """Calls whose record is not yet handed to the store, but for those that are kept."""
        done = (Phase.ENDED, Phase.KEPT)
        return sum(call.phase not in done for call in self._calls.values())

    def count(self, phase: Phase) -> int:
        return sum(call.phase is phase for call in self._calls.values())

    def find(self, call_id: UUID) -> Call | None:
        call = self._calls.get(call_id.int)
        return call if call is not None and call.phase in capacity.UP else None

    def holds(self, call_id: UUID) -> bool:
        """Whether anything may still happen to the call: until then only it may revise its record."""
        return call_id.int in self._calls

    def release(
        self,
        call_id: UUID,
        detail: Detail,
        operator: str | None = None,
        text: str = "",
        change: Change | None = None,
        *,
        rule: str | None = None,
    ) -> bool:
        """End a live call for an operator, or by a rule; False where it is not live, or not to be ended by
        one. `change` is noted in the step that ends the call."""
        call = self.find(call_id)
        if call is None:
            return False
        self._apply(
            call,
            ReleaseRequested(
                call_id=call_id,
                mono_ns=self.clock.mono_ns(),
                wall_ns=self.clock.wall_ns(),
                detail=detail,
                operator=operator,
                text=text,
                rule=rule,
            ),
            change,
        )
        self._send()
        return self.find(call_id) is None

    # --- calls of an earlier boot -------------------------------------------------------------------------

    def recover(self, found: Iterable[tuple[Call, CallFoundOpen]]) -> Sequence[WireCommand | Snapshot]:
        """Take them over. What is returned is for the bridge, before it hears anything; what is then left of
        them is to be released (`release_recovered`)."""
        now = Stamp(self.clock.mono_ns(), self.clock.wall_ns())
        found = [*found]
        self._admitted_before = frozenset(_transaction(call.invite) for call, _ in found)
        self._repeats_until_ns = now.mono_ns + REPEATS_NS
        for bridge_id, (saved, event) in enumerate(found, RECOVERED_IDS):
            self._take_up(saved, event, bridge_id, now)
        self._record_found_refusals()
        wire, self._wire = self._wire, []
        return wire

    async def recover_of_other(
        self,
        found: Sequence[tuple[Call, CallFoundOpen]],
        first_bridge_id: int,
        strays: Sequence[StrayBye] = (),
    ) -> None:
        """Those of a node that is gone, to be released too; beside calls that are up, a part in each turn.
        `strays`: BYEs that came meanwhile to who did not know their calls."""
        byes = {bye.sip_call_id: bye for bye in strays}
        for start in range(0, len(found), CALLS_PER_TURN):
            now = Stamp(self.clock.mono_ns(), self.clock.wall_ns())
            part = found[start : start + CALLS_PER_TURN]
            for bridge_id, (saved, event) in enumerate(part, first_bridge_id + start):
                # None goes on here: its peers speak to the address that is gone.
                self._take_up(replace(saved, kept=None), event, bridge_id, now, of_other_node=True)
                if saved.b_answered is None:
                    self._unheard.add(saved.call_id.int)
                if byes:
                    self._left_at_another(saved.call_id.int, byes)
            self._send()
            await asyncio.sleep(0)
        self._record_found_refusals()

    def left_elsewhere(self, strays: Sequence[StrayBye]) -> None:
        """Before they are released, once the bridge knows them: BYEs that came while it did not."""
        byes = {bye.sip_call_id: bye for bye in strays}
        for key, call in list(self._calls.items()) if byes else ():
            if is_unexplained(call):
                self._left_at_another(key, byes)
        self._send()

    def _left_at_another(self, key: int, byes: Mapping[str, StrayBye]) -> None:
        """Its peer considers the call ended: the other side hears of it, and the record says who it was."""
        call = self._calls.get(key)
        if call is None:
            return
        for leg in (call.invite.leg, *(one.leg for one in call.attempts[-1:])):
            bye = byes.get(leg.sip_call_id)
            leg_name = left_at_another(call, bye, self.policy) if bye is not None else None
            if bye is not None and leg_name is not None:
                due = ReleaseDue(
                    call_id=call.call_id, mono_ns=self.clock.mono_ns(), wall_ns=self.clock.wall_ns()
                )
                self._apply(call, due)
                heard = ByeReceived(
                    bridge_id=call.bridge_id,
                    mono_ns=bye.mono_ns,
                    wall_ns=bye.wall_ns,
                    leg_name=leg_name,
                    reasons=bye.reasons,
                    headers=bye.headers,
                )
                self._apply(self._calls[key], heard)
                return

    def _take_up(
        self, saved: Call, event: CallFoundOpen, bridge_id: int, now: Stamp, *, of_other_node: bool = False
    ) -> None:
        call = replace(saved, bridge_id=bridge_id)
        known = Stamp(event.mono_ns, event.wall_ns) if saved.recovery is None else saved.recovery.last_known
        try:
            event = replace(
                event,
                shift_ns=clock_shift(known, now, of_other_node=of_other_node),
                now_mono_ns=now.mono_ns,
                now_wall_ns=now.wall_ns,
            )
            after, commands = decide(call, event, self.given)
        except Exception as error:  # noqa: BLE001  # a broken promise is counted, and ends one call
            self._meter.promise_broken("recover")
            self._on_fault(call.call_id, error)
            return
        self._by_bridge_id[after.bridge_id] = after.call_id.int
        self._keep(None, after, self.policies.now)
        self._perform(commands, after.invite)
        self._capture(after, after.bridge_id)
        if after.phase is Phase.ENDING:
            self._recovered.append(after.call_id.int)
        elif after.phase is Phase.TALKING:
            self._fraud.joined(after)

    def _record_found_refusals(self) -> None:
        for cdr in self._store.found_refusals():
            self._store.submit((_recording(cdr),))

    async def release_recovered(self) -> None:
        """End what is left of them, at a pace that neither their peers nor we are flooded by; a turn that
        came late makes up for it."""
        began_ns, all_of_them = self.clock.mono_ns(), len(self._recovered)
        while self._recovered:
            due = (self.clock.mono_ns() - began_ns) * RECOVERED_PER_S // 1_000_000_000
            released = all_of_them - len(self._recovered)
            self.release_some(max(RECOVERED_PER_TURN, due - released))
            await asyncio.sleep(RECOVERED_PAUSE_S)

    def release_some(self, calls_max: int) -> None:
        mono_ns, wall_ns = self.clock.mono_ns(), self.clock.wall_ns()
        for _ in range(min(calls_max, len(self._recovered))):
            key = self._recovered.popleft()
            call = self._calls.get(key)
            if call is not None:
                self._apply(call, ReleaseDue(call_id=call.call_id, mono_ns=mono_ns, wall_ns=wall_ns))
                if key in self._unheard:
                    self._waiting[key] = mono_ns + RECORD_WAIT_NS
        self._send()

    def on_store_failing(self, failing: bool) -> None:
        """No new call without a journal; live ones go on, their ends are kept until they can be written."""
        if self.state != Detail.DRAIN.value:
            self._accept(Detail.JOURNAL.value if failing else "")

    def _accept(self, refusing: str) -> None:
        self.state = refusing
        self._control.set_accepting(refusing)

    def drain(self, *, stopping: bool = False) -> None:
        """Refuse new calls, also those that the bridge has taken and that nobody here has seen yet."""
        self.is_stopping |= stopping
        self.load.is_draining = True
        self._accept(Detail.DRAIN.value)

    def accept(self) -> None:
        """Undo a drain; in vain where the node is about to end."""
        if self.load.is_draining and not self.is_stopping:
            self.load.is_draining = False
            self._accept(Detail.JOURNAL.value if self._store.refusing else "")

    async def close(self) -> None:
        """At the end of the node: record what is still waiting, then nothing more."""
        mono_ns, wall_ns = self.clock.mono_ns(), self.clock.wall_ns()
        async for known in in_turns([*self._calls.values()]):
            call = self._calls.get(known.call_id.int)
            if call is not None and call.phase in (Phase.ENDING, Phase.AWAITING_RETRY):
                self._apply(call, WaitElapsed(call_id=call.call_id, mono_ns=mono_ns, wall_ns=wall_ns))
        self.publish_refusals()

    def publish_refusals(self) -> None:
        """All that were counted, without waiting for the end of their minute; and what nobody has looked at
        yet is refused."""
        while self._backlog:
            self._take_next()
        self._send()
        self._publish_aggregates(all_of_them=True)


def _recording(cdr: Cdr) -> Publish | Suppress:
    return Publish(cdr=cdr) if cdr.recorded else Suppress(cdr=cdr)


def _caller(invite: InviteReceived) -> tuple[str, ...]:
    """What a challenged INVITE and its retry have in common. One dialog may hold several challenged calls:
    each number is a call of its own."""
    return invite.peer, invite.leg.sip_call_id, invite.leg.remote_tag, invite.request_user


def _transaction(invite: InviteReceived) -> tuple[str, ...]:
    """What an INVITE and its repeats have in common, and nothing else has."""
    leg = invite.leg
    return leg.sip_call_id, leg.remote_tag, str(leg.remote_cseq), leg.branch


def _log_end(cdr: Cdr) -> None:
    """At level debug: the CDR says all this and more, and a busy node ends a thousand calls a second."""
    log.debug(
        "call_ended",
        call_id=cdr.call_id,
        account=cdr.account,
        callee=cdr.callee.received,
        origin=cdr.hangup_origin,
        detail=cdr.detail,
        talk_ms=cdr.talk_ms,
        suppressed_by=cdr.suppressed_by,
    )


def _over(bridge_id: int) -> Reject:
    """For a repeated INVITE whose call ended with an earlier boot, and has its record."""
    cause = hangup.TABLE[HangupOrigin.SERVER, Detail.CRASH_RECOVERED]
    return Reject(
        bridge_id=bridge_id,
        sip_code=cause.sip_code,
        q850_cause=cause.q850_cause,
        text=Detail.CRASH_RECOVERED.value,
    )


def _release(bridge_id: int) -> Release:
    """For a line that no decision can be made about."""
    return Release(bridge_id=bridge_id, sip_code=500, q850_cause=41, text=Detail.INTERNAL_ERROR.value)
