"""What surrounds one call, kept to its contract: the bridge, the store, the clock. The peers answer what we
send them; what else they do is the ladder's script."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from msgspec.structs import replace

from sidecar.core.admit import open_call
from sidecar.core.books import Outcome, OutcomeKind, as_granted
from sidecar.core.call import Call, Phase
from sidecar.core.cdr import Cdr
from sidecar.core.commands import (
    Adopt,
    Append,
    ArmDeadline,
    Command,
    EntryKind,
    Extend,
    NoteRefusal,
    Reject,
    RelayAnswer,
    RelayFailure,
    Release,
    Route,
    Settle,
    StoreCommand,
    WireCommand,
)
from sidecar.core.decide import decide, is_over
from sidecar.core.events import (
    Admitted,
    AnswerRecorded,
    AnswerRelayed,
    ByeReceived,
    CallFoundOpen,
    Contact,
    CreditRefused,
    DeadlineReached,
    Event,
    GrantExtended,
    LegIdentity,
    LegTerminated,
    ReleaseDue,
    RouteFailed,
    Silence,
    StepFailed,
    WaitElapsed,
)
from sidecar.core.policy import Given, Load, Policy
from sidecar.core.recovery import RECOVERED_IDS
from sidecar.core.terms import DeadlineKind, LegName, Money, RouteFailure, SavedLegState
from tests.core.memory_books import MemoryBooks
from tests.scenarios import world

COMMIT_MS = 1
RELEASE_MS = 10  # until it is the turn of a call of an earlier boot
ROUND_TRIP_MS = 10  # a peer's answer to what we send
RECORD_WAIT_MS = 1_000
TIMER_F_MS = 32_000  # 64*T1: a request of ours is given up

Reasons = tuple[str, ...]
Headers = tuple[tuple[str, str], ...]


class Environment:
    """Wire commands are obeyed at once, store commands a millisecond later, deadlines when they are due."""

    def __init__(self, policy: Policy, *, balance: Decimal = Decimal(0), load: Load | None = None) -> None:
        self.policy = policy
        self.load = load or Load()
        self.strict = True  # a move that its peer cannot make raises
        self.call: Call | None = None
        self.wire: list[str] = []
        self.entries: list[EntryKind] = []
        self.settled: list[Money | None] = []
        self.records: list[Cdr] = []
        self.refusals: list[Cdr] = []
        self.reserved: Money | None = None
        self.books = MemoryBooks()
        self.books.set_terms(policy.account_terms("acme").terms)  # as a start takes them over
        if balance:
            self.books.top_up("acme", Money(balance, "EUR"), "1")
        self._now_ms = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._script: set[int] = set()  # of the queue: what the ladder says, and no crash undoes
        self._count = 0
        self._bridge_id = 1
        self._disk = ""
        self._late_ms = 0
        self._deaf: set[LegName] = set()
        self._gone: set[LegName] = set()  # knows no call any more
        self._challenges: dict[LegName, int] = {}
        self._answers_bye_ms = dict.fromkeys(LegName, ROUND_TRIP_MS)
        self._open: set[LegName] = set()  # legs that the bridge still has to report
        self._heard_code = 0
        self._answer_held = False
        self._answered = False
        self._answered_ms: int | None = None
        self._armed: dict[DeadlineKind, ArmDeadline] = {}
        self._acknowledged = False
        self._ended = False  # the wire knows that the call is over
        self.crashed = False
        self._lost = False  # the bridge holds it no more: its legs are never reported

    @property
    def record(self) -> Cdr:
        """The record that counts: of the highest revision, or of the refusal."""
        return (*self.refusals, *self.records)[-1]

    # --- the bridge -----------------------------------------------------------------------------------------

    def _invite(self, words: Sequence[str]) -> None:
        self._open.add(LegName.A)
        if words == ["again"]:
            self._bridge_id += 1
            self._ended = self._answered = False
            self._happens(world.invite(self._now_ms, bridge_id=self._bridge_id))
            return
        number = words[0] if words else "4930123456"
        invite = world.invite(self._now_ms, number=number)
        self._at(self._now_ms + world.ANSWER_HOLD_MS_MAX, self._admission_overdue)
        self.call, commands = open_call(world.call_id(), invite, Given(self.policy, self.load))
        self._perform(commands)

    def _bye(self, leg_name: LegName, reasons: Reasons, headers: Headers) -> None:
        self._gone.add(leg_name)
        self._happens(ByeReceived(**self._here(), leg_name=leg_name, reasons=reasons, headers=headers))
        self._end_wire(ended_by=leg_name)

    def _route_failed(
        self,
        cause: RouteFailure,
        sip_code: int = 0,
        reasons: Reasons = (),
        headers: Headers = (),
        contacts: tuple[Contact, ...] = (),
        early_media: bool = False,
    ) -> None:
        if self.crashed:  # no attempt of this boot: the leg is over, and that is all
            self._close(LegName.B, sip_code, alive=True)
            return
        self._open.discard(LegName.B)
        self._happens(
            RouteFailed(
                **self._here(),
                attempt=self._attempt(),
                cause=cause,
                sip_code=sip_code,
                reasons=reasons,
                headers=headers,
                early_media_relayed=early_media,
                heard_code=self._heard_code,
                contacts=contacts,
            )
        )

    def _end_wire(self, ended_by: LegName | None = None) -> None:
        """Final response, CANCEL or BYE went to each leg that needs one; the peers answer unless deaf."""
        if self._ended:
            return
        self._ended = True
        self._end_leg(LegName.A, self._answered and ended_by is not LegName.A, 0)
        self._end_leg(
            LegName.B, self._answer_held and ended_by is not LegName.B, 0 if self._answer_held else 487
        )

    def _end_leg(self, leg_name: LegName, confirmed: bool, sip_code: int) -> None:
        if leg_name in self._deaf:
            self._at(self._now_ms + TIMER_F_MS, lambda: self._close(leg_name, 0, alive=False))
        else:
            at_ms = self._now_ms + self._answers_bye_ms[leg_name]
            alive = confirmed and leg_name not in self._challenges and leg_name not in self._gone
            self._at(at_ms, lambda: self._close(leg_name, sip_code, alive=alive))

    def _close(self, leg_name: LegName, sip_code: int, alive: bool) -> None:
        if leg_name in self._open:
            self._open.discard(leg_name)
            ended = LegTerminated(
                **self._here(),
                leg_name=leg_name,
                sip_code=sip_code,
                alive=alive,
                bye_challenge=self._challenges.get(leg_name, 0),
            )
            self._happens(ended)

    def _deadline(self, kind: DeadlineKind, silence: Silence | None = None) -> None:
        if not self._ended and self._open:
            reached = DeadlineReached(**self._here(), kind=kind, heard_code=self._heard_code, silence=silence)
            self._happens(reached)
            if kind not in (DeadlineKind.RING, DeadlineKind.EXTEND):
                self._end_wire()

    def _hold_expired(self) -> None:
        if self._answer_held and not self._answered:
            self._deadline(DeadlineKind.HOLD)

    def _admission_overdue(self) -> None:
        if self.call is not None and self.call.phase is Phase.ADMITTING:
            self._deadline(DeadlineKind.HOLD)

    def _relay_answer(self) -> None:
        if self._ended:
            return
        self._answered, self._answered_ms = True, self._now_ms
        self._at(self._now_ms + TIMER_F_MS, self._unacknowledged)
        self._happens(AnswerRelayed(**self._here()))

    def _unacknowledged(self) -> None:
        if not self._acknowledged:
            self._deadline(DeadlineKind.NO_ACK)

    def _arm(self, command: ArmDeadline) -> None:
        """From now, or from our 2xx on leg A. Each takes the place of the one before of its kind; GRANT and
        MAX_DURATION are one."""
        is_limit = command.kind in (DeadlineKind.GRANT, DeadlineKind.MAX_DURATION)
        kind = DeadlineKind.GRANT if is_limit else command.kind
        self._armed[kind] = command

        def fire() -> None:
            rings = not self._answer_held
            if self._armed.get(kind) is command and (kind is DeadlineKind.RING) == rings:
                self._deadline(command.kind)

        begun_ms = self._now_ms if kind is DeadlineKind.RING else self._answered_ms or self._now_ms
        self._at(max(self._now_ms, begun_ms + command.after_ms) + self._late_ms, fire)

    def _route(self, command: Route) -> None:
        self._open.add(LegName.B)
        self._heard_code = 0

        def silent(heard_code: int) -> Callable[[], None]:
            def give_up() -> None:
                heard = self._heard_code > heard_code or self._answer_held or self._ended
                if not heard and self._attempt() == command.attempt and LegName.B in self._open:
                    self._route_failed(RouteFailure.NO_RESPONSE)

            return give_up

        self._at(self._now_ms + command.no_response_ms, silent(0))
        if command.no_progress_ms:
            self._at(self._now_ms + command.no_progress_ms, silent(100))

    def _obey(self, command: WireCommand) -> None:
        match command:
            case Route():
                dialled = self.call is None or command.user == self.call.invite.request_user
                self.wire.append(
                    f"route {command.attempt} {command.gateway}{'' if dialled else ' ' + command.user}"
                )
                self._route(command)
            case RelayAnswer():
                self.wire.append("answer")
                self._relay_answer()
            case RelayFailure():
                contacts = " with contacts" if command.keep_contacts else ""
                self.wire.append(f"fail {command.sip_code or 'as received'}{contacts}")
                self._end_wire()
            case Reject():
                pause = f" retry-after {command.retry_after_s}" if command.retry_after_s else ""
                self.wire.append(f"reject {command.sip_code} {command.q850_cause} {command.text}{pause}")
                self._end_wire()
            case Release():
                self.wire.append(f"release {command.sip_code} {command.q850_cause} {command.text}")
                self._end_wire()
            case Adopt():
                self.wire.append("adopt")
                self._bridge_id = command.bridge_id
                states = {LegName.A: command.a_state, LegName.B: command.b_state}
                self._open = {leg for leg, state in states.items() if state is not SavedLegState.OVER}
                self._ended = False
            case ArmDeadline():
                is_report = command.kind is DeadlineKind.EXTEND
                self.wire.append(f"arm {'extend' if is_report else command.text} {command.after_ms}")
                self._arm(command)
            case _:
                raise ValueError(f"no such command: {command}")

    # --- the store ------------------------------------------------------------------------------------------

    def _commit(self, step: Sequence[StoreCommand]) -> None:
        kinds = {command.kind for command in step if isinstance(command, Append)}
        waits = kinds & {EntryKind.ADMITTED, EntryKind.ANSWERED} or isinstance(step[0], Extend)
        if self._disk and waits:
            if self._disk == "fails":
                self._happens(StepFailed(**self._stamps(), call_id=world.call_id()))
            return  # what nobody waits for is kept, and written later
        posting = self.books.post(step)
        self.settled += [command.total for command in step if isinstance(command, Settle)]
        if posting.record is not None:
            self.records.append(posting.record.cdr)
        stamps = {**self._stamps(), "call_id": posting.call_id}
        match posting.outcome:
            case Outcome(kind=OutcomeKind.ADMITTED, granted_s=granted_s, reserved=reserved):
                self.reserved = reserved
                self._happens(Admitted(**stamps, granted_s=granted_s, reserved=reserved))
            case Outcome(
                kind=OutcomeKind.GRANT_EXTENDED, granted_s=granted_s, reserved=reserved, final=final
            ):
                assert granted_s is not None
                assert reserved is not None
                self.reserved = reserved
                self._happens(GrantExtended(**stamps, granted_s=granted_s, reserved=reserved, final=final))
            case Outcome(kind=OutcomeKind.CREDIT_REFUSED):
                self._happens(CreditRefused(**stamps))
            case Outcome(kind=OutcomeKind.ANSWER_RECORDED):
                self._happens(AnswerRecorded(**stamps))
            case Outcome(kind=OutcomeKind.STEP_FAILED):
                self._happens(StepFailed(**stamps))

    @property
    def _journal(self) -> Call | None:
        """The call as the journal holds it open."""
        entry = self.books.entries.get(world.call_id())
        if entry is None:
            return None
        saved = msgspec.msgpack.decode(msgspec.msgpack.encode(entry.call), type=Call)
        return as_granted(saved, self.books.open[world.call_id()])

    # --- one call -------------------------------------------------------------------------------------------

    def _happens(self, event: Event) -> None:
        assert self.call is not None, "an event before the INVITE"
        before = self.call
        self.call, commands = decide(before, event, Given(self.policy, self.load))
        waits = self.call.phase in (Phase.ENDING, Phase.AWAITING_RETRY) and self.call.recovery is None
        if self.call.phase is not before.phase and waits:
            wait_ms = RECORD_WAIT_MS if self.call.phase is Phase.ENDING else self.policy.timers.auth_retry_ms
            self._at(self._now_ms + wait_ms, self._wait_elapsed(self.call.phase))
        self._perform(commands)

    def _wait_elapsed(self, phase: Phase) -> Callable[[], None]:
        def elapsed() -> None:
            if self.call is not None and self.call.phase is phase:
                self._happens(WaitElapsed(**self._stamps(), call_id=world.call_id()))

        return elapsed

    def _perform(self, commands: Sequence[Command]) -> None:
        step = [command for command in commands if isinstance(command, StoreCommand)]
        self.entries += [command.kind for command in step if isinstance(command, Append)]
        if step:
            self._at(self._now_ms + COMMIT_MS, lambda: self._commit(step))
        for command in commands:
            if isinstance(command, WireCommand):
                self._obey(command)
            elif isinstance(command, NoteRefusal):
                self.refusals.append(command.cdr)

    def _attempt(self) -> int:
        assert self.call is not None
        return self.call.attempts[-1].number if self.call.attempts else 0

    def _b_leg(self) -> LegIdentity:
        """Leg B as its 2xx completes it."""
        assert self.call is not None
        return replace(self.call.attempts[-1].leg, remote_tag="callee", local_cseq=1)

    def _crash(self, heartbeat_ms: int) -> None:
        """kill -9, then the next start: what is left is the last journal entry, and what the peers know."""
        self.crashed = True
        self._queue = [one for one in self._queue if one[1] in self._script]
        heapq.heapify(self._queue)
        self._open.clear()
        saved = self._journal
        if saved is None:
            return
        self.call = replace(saved, bridge_id=RECOVERED_IDS)
        self._happens(CallFoundOpen(**world.stamps(heartbeat_ms), call_id=world.call_id()))
        if self.call.phase is Phase.ENDING:
            due = lambda: self._happens(ReleaseDue(**self._stamps(), call_id=world.call_id()))  # noqa: E731
            self._at(self._now_ms + RELEASE_MS, due)

    def _at(self, at_ms: int, action: Callable[[], object], *, script: bool = False) -> None:
        self._count += 1
        if script:
            self._script.add(self._count)
        heapq.heappush(self._queue, (at_ms, self._count, action))  # type: ignore[misc]

    def _stamps(self) -> dict[str, Any]:
        return world.stamps(self._now_ms)

    def _here(self) -> dict[str, Any]:
        return {**self._stamps(), "bridge_id": self._bridge_id}

    @property
    def is_over(self) -> bool:
        return self.call is not None and (
            is_over(self.call) or (self._lost and self.call.phase is Phase.ENDED)
        )
