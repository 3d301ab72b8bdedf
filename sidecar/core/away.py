"""What a node decides by itself while the books cannot be asked, by the functions that they ask too.

    admission   with a Reserve       out of the node's tranche; else server/resource ledger_unreachable
                nothing to reserve   free and emergency calls always; others (postpaid without a limit) so
                                     many in one outage: what their accounts may do was changed, perhaps
    answer      of a call that is open: recorded
    extension   out of the tranche; where that has no more, nobody answers: core/extending

An account is what the node's settings, and the changes that it has followed, say: an admission comes here
once core/admit has let it. What ends meanwhile gives nothing back: its record has yet to be written, and the
rest of a tranche only ever falls. So whatever is granted here is covered by money that nobody else has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from msgspec.structs import replace

from sidecar.core.account_terms import AccountKind, AccountTerms
from sidecar.core.amounts import EXACT
from sidecar.core.books import ZERO, Charged, OpenCall, Outcome, OutcomeKind, call_of, post
from sidecar.core.call import Call
from sidecar.core.commands import Append, EntryKind, Extend, Extended, Publish, StoreCommand, Suppress
from sidecar.core.terms import Detail, Word
from sidecar.core.tranches import Key


class Ground(Word):
    """Why a call was admitted."""

    TRANCHE = "tranche"
    UNBOUNDED = "unbounded"
    FREE = "free"


class Decided(NamedTuple):
    """What whoever waits is told, and (None: nothing) what is to be written when the books are back."""

    outcome: Outcome
    kept: tuple[StoreCommand, ...] | None = None
    ground: Ground | None = None  # of an admission


class Away:
    """From the moment at which the books are gone until all that was kept is written."""

    def __init__(
        self,
        tranches: Mapping[Key, Decimal],
        calls: Callable[[UUID], OpenCall | None],
        calls_max: int,
        wall_ns: Callable[[], int],
    ) -> None:
        """`calls`: those that the books held open. `calls_max`: of accounts without a bound."""
        self._rests = dict(tranches)
        self._calls = calls
        self._unbounded_left = calls_max
        self._own: dict[UUID, OpenCall | None] = {}  # changed since; None: it is over
        self.wall_ns = wall_ns

    def rest(self, key: Key) -> Decimal:
        return self._rests.get(key, ZERO)

    def decide(self, step: Sequence[StoreCommand]) -> Decided:
        """Of a step that somebody waits for."""
        call_id = call_of(step[0])
        extend = next((one for one in step if isinstance(one, Extend)), None)
        append = next((one for one in step if isinstance(one, Append)), None)
        if extend is not None:
            return self._extended(extend)
        if append is not None and append.kind is EntryKind.ADMITTED:
            return self._admitted(append, step)
        if append is not None and self.open_call(call_id) is not None:
            outcome = Outcome(call_id, OutcomeKind.ANSWER_RECORDED)
            return Decided(outcome, (replace(append, decided=True),))
        return _failed(call_id)

    def note(self, step: Sequence[StoreCommand]) -> None:
        """One that nobody waits for: a record closes its call."""
        for command in step:
            if isinstance(command, (Publish, Suppress)):
                self.forget(command.cdr.call_id)

    def forget(self, call_id: UUID) -> None:
        self._own[call_id] = None

    def _admitted(self, append: Append, step: Sequence[StoreCommand]) -> Decided:
        call = append.call
        ground = Ground.TRANCHE if len(step) > 1 else Ground.FREE if _is_free(call) else Ground.UNBOUNDED
        if ground is Ground.UNBOUNDED and self._unbounded_left <= 0:
            return _unreachable(call.call_id)
        posting = post(step, self)
        if posting.open_call is None or posting.entry is None:
            return _unreachable(call.call_id)
        assert posting.outcome is not None
        if ground is Ground.UNBOUNDED:
            self._unbounded_left -= 1
        self._take(call.call_id, None, posting.open_call)
        return Decided(posting.outcome, (replace(posting.entry, decided=True),), ground)

    def _extended(self, asked: Extend) -> Decided:
        before = self.open_call(asked.call_id)
        posting = post((asked,), self)
        after, outcome = posting.open_call, posting.outcome
        if before is None or after is None or outcome is None or after.reserved is None:
            return _failed(asked.call_id)
        granted_s = after.granted_s or 0
        if granted_s <= (before.granted_s or 0):
            return _failed(asked.call_id)
        self._take(asked.call_id, before, after)
        kept = Extended(call_id=asked.call_id, granted_s=granted_s, reserved=after.reserved)
        return Decided(outcome, (kept,))

    def _take(self, call_id: UUID, before: OpenCall | None, after: OpenCall) -> None:
        self._own[call_id] = after
        if after.reserved is not None:
            had = before.reserved.amount if before is not None and before.reserved is not None else ZERO
            key = (after.account, after.reserved.currency)
            self._rests[key] = EXACT.subtract(self.rest(key), EXACT.subtract(after.reserved.amount, had))

    # --- the view: whose balance is what is left of the tranche, and nothing below it ----------------------

    def account(self, name: str) -> AccountTerms | None:
        del name  # nobody knows its terms as they are by now
        return None

    def balance(self, account: str, currency: str) -> Decimal:
        return self.rest((account, currency))

    def open_call(self, call_id: UUID) -> OpenCall | None:
        return self._own[call_id] if call_id in self._own else self._calls(call_id)

    def tranche(self, account: str, currency: str) -> Decimal:
        del account, currency  # it is the balance
        return ZERO

    def recorded(self, call_id: UUID) -> int | None:
        del call_id  # of a call that is about to begin
        return None

    def calls_up(self, account: str, currency: str) -> int | None:
        del account, currency  # core/capacity counts those of this node
        return None

    # What follows is asked for a record, or by terms.

    def held(self, account: str, currency: str) -> Decimal:
        del account, currency
        return ZERO

    def charged_since(self, account: str, currency: str, since_ns: int) -> Decimal:
        del account, currency, since_ns
        return ZERO

    def charged(self, call_id: UUID) -> Charged:
        del call_id
        return {}

    def head_seq(self) -> int:
        return 0

    def account_seq(self, account: str) -> int | None:
        del account
        return None


def _is_free(call: Call) -> bool:
    return call.is_emergency or call.pricing.free or call.account.kind is AccountKind.FREE


def _failed(call_id: UUID) -> Decided:
    return Decided(Outcome(call_id, OutcomeKind.STEP_FAILED))


def _unreachable(call_id: UUID) -> Decided:
    return Decided(Outcome(call_id, OutcomeKind.CREDIT_REFUSED, detail=Detail.LEDGER_UNREACHABLE))
