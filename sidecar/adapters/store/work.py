"""What the writer is given, what it tells, and what it keeps while the disk fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol
from uuid import UUID

import msgspec

from sidecar.core.alarms import LowBalance
from sidecar.core.books import Outcome, OutcomeKind
from sidecar.core.chain import Link
from sidecar.core.commands import Append, EntryKind, Extend, StoreCommand
from sidecar.ports import OutboxRow, UnavailableError

Step = tuple[StoreCommand, ...]


class Batch(Protocol):
    """One transaction of an engine. Jobs use what its own class offers beside this."""

    def run(self, step: Sequence[StoreCommand]) -> None: ...
    def forget(self, call_id: UUID) -> None: ...


_WAITING = (EntryKind.ADMITTED, EntryKind.ANSWERED)


class Job(msgspec.Struct, eq=False):
    """Something other than a call's step that is to be written, by a method of the batch. `done` gets its
    result, or the error, on the loop.

    `lasting`: kept and tried again until written; others fail at once and may be asked for again.
    """

    run: Callable[[Any], Any]
    done: Callable[[Any, BaseException | None], None]
    lasting: bool = False
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
    is_fenced: bool = False  # another process writes in our place: we never will again
    defects: Sequence[tuple[UUID | None, BaseException]] = ()


class Kept:
    """What must still be written, in order. Of several entries of one call only the last is kept: each holds
    the whole call, so the calls that are up bound the list."""

    def __init__(self) -> None:
        self.works: list[Work] = []
        self._entry_at: dict[UUID, int] = {}

    def take(self, works: Sequence[Work], failing: str | None = None) -> Report:
        """Keep what can wait; the report says what could not."""
        outcomes: list[Outcome] = []
        jobs: list[tuple[Job, BaseException | None]] = []
        for work in works:
            if isinstance(work, Job):
                if work.lasting:
                    self.works.append(work)
                else:
                    jobs.append((work, UnavailableError("the store cannot write at present")))
            elif (waiting := waiting_call(work)) is not None:
                outcomes.append(Outcome(waiting, OutcomeKind.STEP_FAILED))
                if any(isinstance(c, Append) and c.kind is EntryKind.ADMITTED for c in work):
                    self.works.append(Job(run=_forgetting(waiting), done=_nobody, lasting=True))
            else:
                self._keep(work)
        return Report(outcomes=outcomes, jobs=jobs, failing=failing)

    def written(self, count: int) -> None:
        del self.works[:count]
        self._entry_at = {call_id: at - count for call_id, at in self._entry_at.items() if at >= count}

    def drop(self, works: Sequence[Work]) -> None:
        """These were written after all."""
        if works:
            gone = set(map(id, works))
            self.works = [work for work in self.works if id(work) not in gone]
            self._entry_at.clear()  # what comes for their calls is appended

    def _keep(self, step: Step) -> None:
        if len(step) == 1 and isinstance(step[0], Append):
            call_id = step[0].call.call_id
            at = self._entry_at.get(call_id)
            if at is not None:
                self.works[at] = step
                return
            self._entry_at[call_id] = len(self.works)
        self.works.append(step)


def waiting_call(step: Step) -> UUID | None:
    """The call that waits for the outcome of this step: it is to be admitted, its answer is held, or its
    grant will soon be used up."""
    for command in step:
        if isinstance(command, Extend):
            return command.call_id
        if isinstance(command, Append) and command.kind in _WAITING:
            return command.call.call_id
    return None


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


def _forgetting(call_id: UUID) -> Callable[[Batch], None]:
    return lambda batch: batch.forget(call_id)


def _nobody(_result: Any, _error: BaseException | None) -> None:
    pass
