"""The one thread that writes: takes what was submitted, commits it together, and reports on the event loop.

While one commit waits for the disk the next one gathers. On a fast disk that alone would make a commit of
nearly each step, so commits begin at least `commit_interval_ms` apart: an idle writer commits at once, a busy
one has company. The bridge's batches come further apart than that, so they do not wait for it. (What nobody
waits for is held back a little before it comes here: see `pacing`.)

When the engine reports a fault of what it writes to, the transaction is rolled back and the writer is
*failing*:
- admissions and answers that wait for an outcome get StepFailed, and so do new ones, at once;
- all else (ends, attempts, what the broker acknowledged) is kept in order and tried again, with growing
  pauses, until it is written. That is bounded by the calls that are up, because no call is admitted
  meanwhile. Where the engine is on another machine, steps of calls are kept on the node's disk too, and what
  waits is decided by the node itself, within bounds (core/away);
- what was committed, though nobody could say so, does no harm: a step that is repeated changes nothing, and
  an admission that was reported as failed is undone should it turn up.

A step that fails for a reason of its own (a defect) is found by running each step of its batch alone; it is
dropped and counted. Its call stays open in the journal, and the next start records it.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

from sidecar.adapters.store.work import MEMORY, Job, Kept, Report, Spool, Work
from sidecar.core.away import Away
from sidecar.core.books import Outcome, OutcomeKind, call_of
from sidecar.core.commands import Audit

STEPS_PER_COMMIT_MAX = 512
COMMIT_INTERVAL_MS_MIN = 3
RETRY_PAUSE_S_MIN = 0.02
RETRY_PAUSE_S_MAX = 2.0


class WritingThread(ABC):
    faults: tuple[type[Exception], ...]  # what can be done to the engine; any other error is a defect of ours

    def __init__(
        self, report: Callable[[Report], None], commit_interval_ms: int, spool: Spool = MEMORY
    ) -> None:
        self._report = report
        self._spool = spool
        self._commit_interval_s = commit_interval_ms / 1000
        self._queue: SimpleQueue[Sequence[Work] | None] = SimpleQueue()
        self._submitted = 0  # counted by the event loop
        self._taken = 0  # counted by the thread
        self._stopping = False
        # A daemon thread: a process that ends without `stop` is a crash, which the books survive, not a hang.
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._next_commit_s = 0.0
        self._is_enduring = False  # something is kept that is not written yet

    @abstractmethod
    def _commit(self, works: Sequence[Work]) -> None:
        """All of it in one transaction, and its report; raises one of `faults`, or (a defect) anything."""

    @abstractmethod
    def _recover(self, error: Exception) -> Sequence[Work]:
        """After a fault: writing is possible again, or it raises. Returns what is now known to have been
        written by the commit that failed."""

    @abstractmethod
    def _cause(self, error: Exception) -> str:
        """For the operator."""

    def _tend(self) -> None:  # noqa: B027 - not every engine has something to do
        """Between commits."""

    def _away(self, error: Exception) -> Away | None:
        """After a fault: what decides of calls until all is written again; None: they fail."""
        del error
        return None

    def _is_doubtful(self) -> bool:
        """After a fault: whether what was to be committed may have been."""
        return True

    def start(self) -> None:
        self._thread.start()

    def submit(self, works: Sequence[Work]) -> None:
        self._submitted += len(works)
        for start in range(0, len(works), STEPS_PER_COMMIT_MAX):
            self._queue.put(works[start : start + STEPS_PER_COMMIT_MAX])

    def waiting(self) -> int:
        return self._submitted - self._taken

    def _end(self) -> None:
        """Write what was submitted, then end the thread. Blocks; an engine that fails gets one last try."""
        self._queue.put(None)
        self._thread.join()

    # --- the thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        with suppress(OSError):
            Path("/proc/thread-self/comm").write_text(
                self._thread.name, "utf-8"
            )  # for `top -H` and profilers
        while not self._stopping:
            works = self._gather()
            try:
                if works:
                    self._write(works)
            except Exception as error:  # noqa: BLE001 - without this thread nothing is ever written again
                self._report(Report(defects=[(None, error)]))

    def _write(self, works: Sequence[Work]) -> None:
        try:
            self._commit(works)
        except self.faults as error:
            self._endure(works, error)
        except Exception:  # noqa: BLE001 - whatever it is, the other steps are not to suffer
            self._commit_apart(works)
        try:
            self._tend()
        except Exception as error:  # noqa: BLE001 - as for a fault: it is tried again
            self._endure((), error)

    def _gather(self) -> list[Work]:
        """All that waits, at least one, and less than twice STEPS_PER_COMMIT_MAX; None in the queue means
        stop."""
        queue, works = self._queue, list[Work]()
        more = queue.get()
        early_s = self._next_commit_s - time.monotonic()
        if early_s > 0 and more is not None:
            time.sleep(early_s)
        self._next_commit_s = time.monotonic() + self._commit_interval_s
        while more is not None:
            works += more
            self._taken += len(more)
            if len(works) >= STEPS_PER_COMMIT_MAX:
                return works
            try:
                more = queue.get_nowait()
            except Empty:
                return works
        self._stopping = True
        return works

    def _commit_apart(self, works: Sequence[Work]) -> None:
        """One of these steps has a defect: each gets a transaction of its own, and the one that fails is
        dropped."""
        for number, work in enumerate(works):
            try:
                self._commit([work])
            except self.faults as error:
                self._endure(works[number:], error)
                return
            except Exception as error:  # noqa: BLE001 - reported, and the writer lives
                if isinstance(work, Job):
                    self._report(Report(jobs=[(work, error)]))
                else:
                    call_id = next((call_of(one) for one in work if not isinstance(one, Audit)), None)
                    failed = [Outcome(call_id, OutcomeKind.STEP_FAILED)] if call_id else []
                    self._report(Report(outcomes=failed, defects=[(call_id, error)]))

    # --- failing --------------------------------------------------------------------------------------------

    def _endure(self, works: Sequence[Work], error: Exception) -> None:
        """Until everything that must be written is written."""
        self._is_enduring = True
        kept = Kept(self._spool, self._away(error))
        self._report(kept.take(works, failing=self._cause(error), doubtful=self._is_doubtful()))
        pause_s, complaint = RETRY_PAUSE_S_MIN, self._spool.complaint
        while True:
            self._stopping = self._stopping or not self._pause(pause_s, kept)
            try:
                kept.drop(self._recovered(error, kept))
                self._drain(kept)
            except Exception as again:  # noqa: BLE001 - whatever it is, what is kept must not be lost
                error = again
                cause = "; ".join(filter(None, (self._cause(again), complaint())))
                self._report(Report(failing=cause, decides=kept.decides))
                pause_s = min(2 * pause_s, RETRY_PAUSE_S_MAX)
                if self._stopping:
                    return  # the last try failed; the next start finds these calls open
                continue
            self._is_enduring = False
            self._report(Report(failing=""))
            return

    def _recovered(self, error: Exception, kept: Kept) -> Sequence[Work]:
        """A server may keep us waiting for seconds: what comes meanwhile is on the disk at once."""
        if self._spool is MEMORY:
            return self._recover(error)
        with ThreadPoolExecutor(1, "store-recovers") as thread:
            trying = thread.submit(self._recover, error)
            while not trying.done():
                if self._stopping:
                    wait((trying,))
                else:
                    self._stopping = not self._pause(RETRY_PAUSE_S_MIN, kept)
            return trying.result()

    def _pause(self, pause_s: float, kept: Kept) -> bool:
        """Wait, turning away what comes in meanwhile if it cannot wait; False if we are to stop."""
        until = time.monotonic() + pause_s
        while (left_s := until - time.monotonic()) > 0:
            try:
                works = self._queue.get(timeout=left_s)
            except Empty:
                return True
            is_last = works is None
            taken: list[Work] = []
            while works is not None:
                taken += works
                try:
                    works = self._queue.get_nowait()
                except Empty:
                    break
                is_last = works is None
            self._taken += len(taken)
            self._report(kept.take(taken))
            if is_last:
                return False
        return True

    def _drain(self, kept: Kept) -> None:
        while part := kept.first(STEPS_PER_COMMIT_MAX):
            try:
                self._commit(part)
            except self.faults:
                raise
            except Exception:  # noqa: BLE001 - as in _run
                self._commit_apart(part)
            kept.written(len(part))
            self._tend()
