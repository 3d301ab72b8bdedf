"""The writer's thread on PostgreSQL: one connection, a few round trips for a commit of any size.

A COMMIT whose answer is lost with the connection may have been done. Each commit has a number, which it
writes: the next connection asks for it first, behind a lock that the lost transaction held. Where it was
done, it is reported as done, and none of it is written again. That is tried at once; while the server is away
a step of it gets StepFailed as for any fault, and an admission that was done after all is undone.

What comes later the node decides by itself meanwhile (core/away), out of the tranches that it takes and gives
back beside the commits, as long as there is a file of its own to keep it in (`spool`). What it granted is in
them until it is written, so none is given back before that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import NamedTuple
from uuid import UUID

import psycopg

from sidecar.adapters.postgresql.batch import Batch, giving_back
from sidecar.adapters.postgresql.boots import FencedError, Marks, Own, fence, hold, recall
from sidecar.adapters.postgresql.leases import rest
from sidecar.adapters.postgresql.server import CONFLICTS, FAULTS, REFUSALS, Server, SilentError
from sidecar.adapters.postgresql.spool import FileSpool
from sidecar.adapters.store.known import Known
from sidecar.adapters.store.work import MEMORY, Job, Report, Work, nobody, worked
from sidecar.adapters.store.writer import WritingThread
from sidecar.core.away import Away
from sidecar.core.books import ZERO, OpenCall
from sidecar.core.tranches import Burn, Burned, Key, is_worthwhile, wish
from sidecar.ports import Clock

CONFLICTS_MAX = 5  # of one commit, one after the other
# The next commit begins the lease anew when it is nearly done: where commits take long, it outlasts two.
SLACK_S_MAX = 10.0
RESIZE_S = 1.0
RESIZED_MAX = 512  # at once
LOOK_AGAIN_S = 10.0


class Alone(NamedTuple):
    """What the node may do while the database is away: see `[store]` of the settings."""

    tranche_s: int = 0
    calls_max: int = 0


class _Doubtful(NamedTuple):
    """A commit whose outcome is not known."""

    number: int
    works: Sequence[Work]
    batch: Batch
    report: Report


class Writer(WritingThread):
    faults = (*FAULTS, *REFUSALS, FencedError)

    def __init__(
        self,
        server: Server,
        connect: Callable[[], Server],
        own: Own,
        marks: Marks,
        clock: Clock,
        report: Callable[[Report], None],
        commit_interval_ms: int,
        spool: FileSpool | None,
        alone: Alone | None,
    ) -> None:
        super().__init__(report, commit_interval_ms, spool or MEMORY)
        self._file = spool
        self._server: Server | None = server
        self._connect = connect
        self._own = own
        self._clock = clock
        self._known: Known = recall(server, own, marks)
        self._commits = marks.commits  # that were acknowledged
        self._doubtful: _Doubtful | None = None
        self._slack_s = 0.0
        self._alone = alone
        self._tranche_s = alone.tranche_s if alone is not None and spool is not None else 0
        self._burn = Burn(time.monotonic())
        self._resize_at_s = 0.0
        self._wished: dict[Key, tuple[Decimal, float]] = {}  # when it was last looked at the balance for it

    def stop(self) -> None:
        self._end()
        if self._known.tranches and not self._is_enduring:
            with suppress(*self.faults):
                self._commit([giving_back(self._known.tranches)])
        if self._server is not None:
            with suppress(*FAULTS):
                rest(self._server, self._own)
            self._server.close()
        if self._file is not None:
            self._file.close()

    def _commit(self, works: Sequence[Work]) -> None:
        for attempt in range(CONFLICTS_MAX):
            try:
                return self._commit_once(works)
            except CONFLICTS:
                if attempt + 1 == CONFLICTS_MAX:
                    raise
        return None

    def _commit_once(self, works: Sequence[Work]) -> None:
        server = self._server
        if server is None:
            raise psycopg.OperationalError("not connected")
        began_ns = time.perf_counter_ns()
        doubtful: _Doubtful | None = None
        try:
            clock = self._clock
            batch = Batch(server, self._known, self._own, clock.wall_ns(), clock.mono_ns(), self._slack_s)
            marks = self._unless_fenced(partial(batch.begin, works))
            jobs = worked(works, batch)
            report = Report(
                outcomes=batch.outcomes,
                outbox_rows=batch.outbox_rows,
                low_balances=batch.low_balances,
                jobs=jobs,
                steps=len(works),
            )
            with server.pipeline():
                batch.send()
                doubtful = _Doubtful(marks.commits + 1, works, batch, report)
                server.send("COMMIT")
        except BaseException as error:
            if doubtful is not None and server.broken:
                self._doubtful = doubtful
                is_silent = isinstance(error, SilentError)
                if isinstance(error, FAULTS) and not is_silent and self._resolved_at_once():
                    return
            elif not server.broken:
                with suppress(*FAULTS):
                    server.run("ROLLBACK")
            raise
        batch.committed()
        self._burn.add(batch.ledger.reserved_here)
        self._commits = marks.commits + 1
        report.commit_ns = time.perf_counter_ns() - began_ns
        self._slack_s = min(2 * report.commit_ns / 1e9, SLACK_S_MAX)
        self._report(report)

    # --- tranches -------------------------------------------------------------------------------------------

    def _tend(self) -> None:
        """Not before all that was kept is written: what of it was granted is in the tranches still."""
        now_s = time.monotonic()
        if self._is_enduring or self._own.is_taken or now_s < self._resize_at_s:
            return
        self._resize_at_s = now_s + RESIZE_S
        if burned := self._to_resize(now_s):
            accounts = {account for account, _ in burned}
            run = partial(Batch.resize, burned=burned, tranche_s=self._tranche_s)
            self._commit([Job(run=run, done=nobody, accounts=accounts)])

    def _to_resize(self, now_s: float) -> dict[Key, Burned]:
        """Of accounts that should have another tranche, if they can pay it: that is looked at now and then
        only."""
        found: dict[Key, Burned] = {}
        wished: dict[Key, tuple[Decimal, float]] = {}
        for key in self._burn.turn(now_s) | self._known.tranches.keys():
            burned = self._burn.of(key, now_s)
            want, held = wish(burned, self._tranche_s), self._known.tranches.get(key, ZERO)
            if not is_worthwhile(held, want):
                continue
            before, at_s = self._wished.get(key, (ZERO, -LOOK_AGAIN_S))
            if now_s - at_s < LOOK_AGAIN_S and not is_worthwhile(before, want):
                wished[key] = (before, at_s)
            elif len(found) < RESIZED_MAX:
                found[key], wished[key] = burned, (want, now_s)
        self._wished = wished
        return found

    # --- failing --------------------------------------------------------------------------------------------

    def _is_doubtful(self) -> bool:
        return self._doubtful is not None

    def _away(self, error: Exception) -> Away | None:
        if self._alone is None or self._file is None or self._own.is_taken or isinstance(error, FencedError):
            return None
        held, known = dict(self._known.tranches), self._known
        if self._doubtful is not None:  # it may have given back what we believe to hold
            for key, left in self._doubtful.batch.ledger.tranches_here.items():
                held[key] = min(left, held.get(key, ZERO))

        def open_call(call_id: UUID) -> OpenCall | None:
            slot = known.open.get(call_id.int)
            return slot.open_call if slot is not None else None

        return Away(held, open_call, self._alone.calls_max, self._clock.wall_ns)

    def _resolved_at_once(self) -> bool:
        """Whether the doubtful commit is known to be done, and was reported: the link alone was lost."""
        with suppress(*self.faults):
            if (done := self._reconnected()) is not None:
                self._report(done.report)
                return True
        return False

    def _reconnected(self) -> _Doubtful | None:
        """Raises one of `faults`, or the connection is there; the doubtful commit, if it was done."""
        if self._server is not None:
            self._server.close()
            self._server = None
        server, done = self._connect(), self._doubtful
        try:
            if not self._own.is_taken:
                hold(server, self._own.node)
            with server.transaction():
                marks = self._unless_fenced(partial(self._not_less, server))
                self._commits = marks.commits
                if done is not None and marks.commits == done.number:
                    done.batch.committed()
                else:
                    done = None
                    head_bridge_id = self._known.head_bridge_id  # of this boot, not in the database
                    self._known = recall(server, self._own, marks)
                    self._known.head_bridge_id = head_bridge_id
        except BaseException:
            server.close()
            raise
        self._server, self._doubtful = server, None
        return done

    def _not_less(self, server: Server) -> Marks:
        marks = fence(server, self._own)
        if marks.commits < self._commits:
            raise FencedError(
                f"the database has lost {self._commits - marks.commits} commits that it had acknowledged:"
                " did a standby take over that was behind? The next start begins a new epoch"
            )
        return marks

    def _unless_fenced(self, begin: Callable[[], Marks]) -> Marks:
        try:
            return begin()
        except FencedError:
            if self._file is not None:
                self._file.is_over()
            self._report(Report(is_fenced=True))
            raise

    def _recover(self, error: Exception) -> Sequence[Work]:
        server = self._server
        if server is not None and not server.broken and not isinstance(error, (*REFUSALS, FencedError)):
            server.run("SELECT 1")
            return ()
        done = self._reconnected()
        if done is None:
            return ()
        # Who waited for a step of it was told that it failed, and whoever asked for a job that does not last.
        jobs = [(job, outcome) for job, outcome in done.report.jobs if job.lasting]
        self._report(Report(outbox_rows=done.report.outbox_rows, jobs=jobs))
        return done.works

    def _cause(self, error: Exception) -> str:
        code = getattr(error, "sqlstate", None)
        name = f"{type(error).__name__} {code}" if code else type(error).__name__
        text = " ".join(str(error).split())
        return f"{name}: {text}" if text else name
