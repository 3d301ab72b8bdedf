"""What the writer is given, what it tells, and what it keeps while the disk fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol
from uuid import UUID

import msgspec

from sidecar.core.alarms import LowBalance
from sidecar.core.away import Away, Decided
from sidecar.core.books import Outcome, OutcomeKind
from sidecar.core.chain import Link
from sidecar.core.commands import WAITING, Append, EntryKind, Extend, Extended, StoreCommand
from sidecar.ports import OutboxRow, UnavailableError

Step = tuple[StoreCommand, ...]


class Batch(Protocol):
    """One transaction of an engine. Jobs use what its own class offers beside this."""

    def run(self, step: Sequence[StoreCommand]) -> None: ...
    def forget(self, call_id: UUID) -> None: ...


# While calls go on and cannot be written: then no more are let go, but emergency calls. Of each call two or
# three are kept.
KEPT_WORKS_MAX = 200_000


class Job(msgspec.Struct, eq=False):
    """Something other than a call's step that is to be written, by a method of the batch. `done` gets its
    result, or the error, on the loop.

    `lasting`: kept and tried again until written; others fail at once and may be asked for again. `accounts`:
    whose terms and balances it will ask, which are read, and locked, at the beginning.
    """

    run: Callable[[Any], Any]
    done: Callable[[Any, BaseException | None], None]
    lasting: bool = False
    accounts: Collection[str] = ()
    result: Any = None


Work = Step | Job


class Report(msgspec.Struct):
    """What one commit, or one failure, has to tell the event loop."""

    outcomes: Sequence[Outcome] = ()
    outbox_rows: Sequence[OutboxRow] = ()
    low_balances: Sequence[LowBalance] = ()
    jobs: Sequence[tuple[Job, BaseException | None]] = ()
    link: Link | None = None  # how far the chain goes now
    steps: int = 0
    commit_ns: int = 0
    failing: str | None = None  # None: no change; empty: writing again
    decides: bool | None = None  # while it fails, whether calls are let go all the same; None: no change
    let_go: Mapping[str, int] = {}  # so many new ones were, and why (core/away.Ground)
    is_fenced: bool = False  # another process writes in our place: we never will again
    defects: Sequence[tuple[UUID | None, BaseException]] = ()


class Spool(Protocol):
    """Where steps that are kept outlive the process. Never raises."""

    def put(self, works: Mapping[int, Step | UUID]) -> None:
        """Under these numbers, in whose order they are; those of before that have one are replaced. A call's
        id: its admission is to be undone."""

    def remove(self, numbers: Collection[int]) -> None: ...
    def complaint(self) -> str:
        """Why what is kept would be lost with the process; empty: it would not."""


class _Memory:
    """For an engine whose own file is what fails."""

    def put(self, works: Mapping[int, Step | UUID]) -> None:
        pass

    def remove(self, numbers: Collection[int]) -> None:
        pass

    def complaint(self) -> str:
        return ""


MEMORY: Spool = _Memory()


class Kept:
    """What must still be written, in order. Of several entries of one call only the last is kept: each holds
    the whole call, so the calls that are up bound the list. Jobs are kept in memory alone, but for admissions
    to be undone.

    With `away` calls go on: what it decides is told once the spool has it on the disk. The admission of such
    a call, the last of its extensions and its last entry are kept beside its record.
    """

    def __init__(self, spool: Spool = MEMORY, away: Away | None = None) -> None:
        self._spool = spool
        self._away = away
        self._works: dict[int, Work] = {}  # by numbers that ascend
        self._next = 1
        self._entry_at: dict[UUID, int] = {}
        self._extended_at: dict[UUID, int] = {}

    @property
    def decides(self) -> bool:
        return self._away is not None and not self._spool.complaint()

    @property
    def works(self) -> list[Work]:
        return list(self._works.values())

    def first(self, count: int) -> list[Work]:
        return list(islice(self._works.values(), count))

    def take(self, works: Sequence[Work], failing: str | None = None, *, doubtful: bool = False) -> Report:
        """Keep what can wait; the report says what could not. `doubtful`: they may have been written."""
        told: list[Decided] = []
        jobs: list[tuple[Job, BaseException | None]] = []
        lasting: dict[int, Step | UUID] = {}
        for work in works:
            if isinstance(work, Job):
                if work.lasting:
                    self._append(work)
                else:
                    jobs.append((work, UnavailableError("the store cannot write at present")))
            elif (waiting := waiting_call(work)) is None:
                if self._away is not None:
                    self._away.note(work)
                lasting[self._keep(work)] = work
            elif not doubtful and (decided := self._decided(work)) is not None:
                told.append(decided)
                if decided.kept is not None:
                    lasting[self._keep(decided.kept)] = decided.kept
            else:
                told.append(Decided(Outcome(waiting, OutcomeKind.STEP_FAILED)))
                if _is_admission(work):
                    lasting[self._append(forgetting(waiting))] = waiting
        if lasting:
            self._spool.put(lasting)
        if self._away is not None and not self.decides:
            told = self._taken_back(told)
        let_go = Counter(one.ground.value for one in told if one.ground is not None)
        return Report(
            outcomes=[one.outcome for one in told],
            jobs=jobs,
            failing=failing,
            decides=self.decides,
            let_go=let_go,
        )

    def _decided(self, step: Step) -> Decided | None:
        if self._away is None or not self.decides:
            return None
        if len(self._works) >= KEPT_WORKS_MAX and _is_admission(step, but_emergencies=True):
            return None
        return self._away.decide(step)

    def _taken_back(self, told: Sequence[Decided]) -> list[Decided]:
        """What was decided is not on the disk: whoever waits hears that it failed, and no call begins."""
        undone: dict[int, Step | UUID] = {}
        for one in told:
            call_id = one.outcome.call_id
            if one.ground is not None and self._away is not None:
                self._away.forget(call_id)
                undone[self._append(forgetting(call_id))] = call_id
        if undone:
            self._spool.put(undone)
        return [
            one if one.kept is None else Decided(Outcome(one.outcome.call_id, OutcomeKind.STEP_FAILED))
            for one in told
        ]

    def written(self, count: int) -> None:
        """The first of them."""
        self._remove(list(islice(self._works, count)))

    def drop(self, works: Sequence[Work]) -> None:
        """These were written after all."""
        if works:
            gone = set(map(id, works))
            self._remove([number for number, work in self._works.items() if id(work) in gone])

    def _remove(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            del self._works[number]
        for places in (self._entry_at, self._extended_at):
            for call_id in [call_id for call_id, at in places.items() if at not in self._works]:
                del places[call_id]
        if numbers:
            self._spool.remove(numbers)

    def _keep(self, step: Step) -> int:
        if len(step) == 1:
            (command,) = step
            if isinstance(command, Extended):
                return self._keep_at(self._extended_at, command.call_id, step)
            # Without its admission what follows would be of a call that nobody knows.
            if isinstance(command, Append) and command.kind is not EntryKind.ADMITTED:
                return self._keep_at(self._entry_at, command.call.call_id, step)
        return self._append(step)

    def _keep_at(self, places: dict[UUID, int], call_id: UUID, step: Step) -> int:
        at = places.setdefault(call_id, self._next)
        if at == self._next:
            return self._append(step)
        self._works[at] = step
        return at

    def _append(self, work: Work) -> int:
        number = self._next
        self._works[number] = work
        self._next += 1
        return number


def waiting_call(step: Step) -> UUID | None:
    """The call that waits for the outcome of this step: it is to be admitted, its answer is held, or its
    grant will soon be used up."""
    for command in step:
        if isinstance(command, Extend):
            return command.call_id
        if isinstance(command, Append) and command.kind in WAITING:
            return command.call.call_id
    return None


def _is_admission(step: Step, *, but_emergencies: bool = False) -> bool:
    return any(
        isinstance(one, Append)
        and one.kind is EntryKind.ADMITTED
        and not (but_emergencies and one.call.is_emergency)
        for one in step
    )


def worked(works: Sequence[Work], batch: Batch) -> list[tuple[Job, BaseException | None]]:
    """Run them in the transaction; the jobs among them, for the report."""
    jobs: list[tuple[Job, BaseException | None]] = []
    for work in works:
        if isinstance(work, Job):
            work.result = work.run(batch)
            jobs.append((work, None))
        else:
            batch.run(work)
    return jobs


def forgetting(call_id: UUID) -> Job:
    """Undo its admission, should it have been written."""
    return Job(run=lambda batch: batch.forget(call_id), done=nobody, lasting=True)


def nobody(*_: object) -> None:
    pass
