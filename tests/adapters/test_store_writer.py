"""The thread that writes, whatever the engine: what it takes together, what it keeps while that fails, how it
ends. The engine here is a list, which fails as a test tells it to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from sidecar.adapters.store.work import Job, Report, Work
from sidecar.adapters.store.writer import STEPS_PER_COMMIT_MAX, WritingThread
from sidecar.core.books import Outcome, OutcomeKind
from sidecar.core.commands import Append, EntryKind
from tests.adapters.store_calls import admission, admitted, answered, call_id, ended, ending, entry

WITHIN_S = 20.0


class FaultError(Exception):
    pass


class DefectError(Exception):
    pass


class Listing(WritingThread):
    """`fails(works)` is called at each commit, `recovers()` at each recovery; what is to fail raises."""

    faults = (FaultError,)

    def __init__(self, commit_interval_ms: int = 0) -> None:
        super().__init__(self._told, commit_interval_ms)
        self.commits: list[list[Work]] = []
        self.reports: list[Report] = []
        self.fails: Callable[[Sequence[Work]], None] = lambda _: None
        self.recovers: Callable[[], None] = lambda: None
        self.tends: Callable[[], None] = lambda: None
        self.names: Callable[[], None] = lambda: None
        self.committing, self.may_commit = threading.Event(), threading.Event()
        self.may_commit.set()
        self.tried = 0
        self.done_after_all: Sequence[Work] = ()

    def _commit(self, works: Sequence[Work]) -> None:
        self.tried += 1
        self.committing.set()
        assert self.may_commit.wait(WITHIN_S)
        self.fails(works)
        self.commits.append([*works])

    def _recover(self, error: Exception) -> Sequence[Work]:
        self.recovers()
        return self.done_after_all

    def _cause(self, error: Exception) -> str:
        self.names()
        return str(error)

    def _tend(self) -> None:
        self.tends()

    def _told(self, report: Report) -> None:
        self.reports.append(report)

    def end(self) -> None:
        self.may_commit.set()
        self._end()

    @property
    def written(self) -> list[Work]:
        return [work for commit in self.commits for work in commit]

    @property
    def failing(self) -> list[str]:
        return [one.failing for one in self.reports if one.failing is not None]

    def until(self, holds: Callable[[], bool]) -> None:
        until_s = time.monotonic() + WITHIN_S
        while not holds():
            assert time.monotonic() < until_s
            time.sleep(0.002)


@pytest.fixture
def writer() -> Iterator[Listing]:
    listing = Listing()
    listing.start()
    yield listing
    listing.end()


def steps(first: int, last: int) -> list[Work]:
    return [ending(ended(answered(admitted(number)))) for number in range(first, last + 1)]


def failing_times(times: int, error: Exception) -> Callable[[Sequence[Work]], None]:
    left = [error] * times

    def fail(_works: Sequence[Work]) -> None:
        if left:
            raise left.pop()

    return fail


def test_what_comes_while_a_commit_lasts_is_counted_and_goes_with_the_next_in_order(writer: Listing) -> None:
    writer.may_commit.clear()
    one, *others = steps(1, 4)
    writer.submit([one])
    assert writer.committing.wait(WITHIN_S)
    assert writer.waiting() == 0
    writer.submit(others[:1])
    writer.submit(others[1:])
    assert writer.waiting() == len(others)
    writer.may_commit.set()
    writer.until(lambda: writer.commits == [[one], others])
    assert writer.waiting() == 0


def test_no_commit_holds_twice_as_much_as_one_may(writer: Listing) -> None:
    """Or all that comes in a stall of the disk would be in one transaction, and would fail together."""
    writer.may_commit.clear()
    many = steps(1, 3 * STEPS_PER_COMMIT_MAX + 7)
    writer.submit(many[:1])
    assert writer.committing.wait(WITHIN_S)
    writer.submit(many[1:9])
    writer.submit(many[9:])
    writer.may_commit.set()
    writer.until(lambda: writer.written == many)
    assert max(map(len, writer.commits)) < 2 * STEPS_PER_COMMIT_MAX
    assert len(writer.commits) == 4


def test_the_interval_between_commits_is_of_milliseconds() -> None:
    listing = Listing(commit_interval_ms=30)
    listing.start()
    first, second = steps(1, 2)
    listing.submit([first])
    listing.until(lambda: listing.written == [first])
    listing.submit([second])
    listing.until(lambda: listing.written == [first, second])
    listing.end()


def test_all_that_was_submitted_before_the_end_is_written(writer: Listing) -> None:
    writer.may_commit.clear()
    many = steps(1, STEPS_PER_COMMIT_MAX + 20)
    writer.submit(many[:1])
    assert writer.committing.wait(WITHIN_S)
    writer.submit(many[1:])
    writer.end()
    assert writer.written == many


def test_what_turns_out_to_be_written_is_not_written_again(writer: Listing) -> None:
    writer.fails = failing_times(1, FaultError("no answer"))
    first, second = steps(1, 2)
    writer.done_after_all = [first]
    writer.submit([first])
    writer.until(lambda: writer.failing == ["no answer", ""])
    writer.submit([second])
    writer.until(lambda: writer.written == [second])


def test_while_it_fails_ends_are_kept_in_order_and_what_waits_is_turned_away_at_once(writer: Listing) -> None:
    writer.recovers = lambda: None if writer.commits or may_recover.is_set() else _raise(FaultError("still"))
    may_recover = threading.Event()
    writer.fails = failing_times(1, FaultError("full"))
    first, second, third = steps(1, 3)
    writer.submit([first])
    writer.until(lambda: writer.failing[:2] == ["full", "still"])
    writer.submit([admission(admitted(9))])
    writer.submit([second])
    failed = Outcome(call_id(9), OutcomeKind.STEP_FAILED)
    writer.until(lambda: any(failed in one.outcomes for one in writer.reports))
    assert writer.commits == []
    may_recover.set()
    writer.until(lambda: writer.failing[-1] == "")
    undone = writer.written[1]
    assert isinstance(undone, Job)  # should the admission turn up after all
    assert [writer.written[0], *writer.written[2:]] == [first, second]
    writer.submit([third])
    writer.until(lambda: writer.written[-1] == third)


def test_a_fault_in_the_middle_of_what_is_kept_writes_none_of_it_twice_and_leaves_none_out(
    writer: Listing,
) -> None:
    many = steps(1, 2 * STEPS_PER_COMMIT_MAX + 5)
    writer.may_commit.clear()
    writer.submit(many[:1])
    assert writer.committing.wait(WITHIN_S)
    writer.submit(many[1:])
    writer.fails = lambda _: _raise(FaultError("EIO")) if writer.tried in (1, 3) else None
    writer.may_commit.set()
    writer.until(lambda: writer.written == many and writer.failing[-1] == "")


def test_the_end_of_one_that_fails_is_a_last_try(writer: Listing) -> None:
    """It does not wait for a disk that may never be back, and says that it failed."""
    writer.fails = lambda _: _raise(FaultError("full"))
    writer.submit(steps(1, 1))
    writer.until(lambda: writer.failing[:1] == ["full"])
    tried = writer.tried
    writer.end()
    assert writer.tried > tried
    assert (writer.written, writer.failing[-1]) == ([], "full")


def test_the_last_try_writes_what_was_kept_where_it_can(writer: Listing) -> None:
    may_recover = threading.Event()
    writer.recovers = lambda: None if may_recover.is_set() else _raise(FaultError("still"))
    writer.fails = failing_times(1, FaultError("full"))
    [kept] = steps(1, 1)
    writer.submit([kept])
    writer.until(lambda: "still" in writer.failing)
    may_recover.set()
    writer.end()
    assert writer.written == [kept]


def test_one_with_a_defect_is_dropped_and_told_and_the_others_are_written(writer: Listing) -> None:
    first, wrong, last = steps(1, 3)
    heard: list[BaseException | None] = []
    job = Job(run=lambda _: None, done=lambda _, error: heard.append(error))

    def fail(works: Sequence[Work]) -> None:
        if wrong in works or job in works:
            raise DefectError

    writer.fails = fail
    writer.may_commit.clear()
    writer.submit([first])
    assert writer.committing.wait(WITHIN_S)
    writer.submit([wrong, job, last])
    writer.may_commit.set()
    writer.until(lambda: writer.written == [first, last])
    [(call, error)] = [defect for one in writer.reports for defect in one.defects]
    assert (call, type(error)) == (call_id(2), DefectError)
    assert [one.outcomes for one in writer.reports if one.defects] == [
        [Outcome(call_id(2), OutcomeKind.STEP_FAILED)]
    ]
    [(told, of_job)] = [done for one in writer.reports for done in one.jobs]
    assert (told, type(of_job)) == (job, DefectError)
    assert writer.failing == []


def test_a_fault_beside_a_defect_keeps_what_was_not_yet_written(writer: Listing) -> None:
    first, wrong, last = steps(1, 3)
    faults = [FaultError("full")]

    def fail(works: Sequence[Work]) -> None:
        if wrong in works:
            raise DefectError
        if last in works and faults:
            raise faults.pop()

    writer.fails = fail
    writer.may_commit.clear()
    writer.submit([first])
    assert writer.committing.wait(WITHIN_S)
    writer.submit([wrong, last])
    writer.may_commit.set()
    writer.until(lambda: writer.written == [first, last] and writer.failing == ["full", ""])


def test_a_defect_in_dealing_with_a_fault_is_told_and_the_thread_lives(writer: Listing) -> None:
    defects = [DefectError()]
    writer.names = lambda: _raise(defects.pop()) if defects else None
    writer.fails = failing_times(1, FaultError("full"))
    writer.submit(steps(1, 1))
    writer.until(lambda: any(one.defects for one in writer.reports))
    [[(call, error)]] = [one.defects for one in writer.reports if one.defects]
    assert (call, type(error)) == (None, DefectError)
    [second] = steps(2, 2)
    writer.submit([second])
    writer.until(lambda: writer.written == [second])


def test_what_fails_between_commits_is_recovered_from_too(writer: Listing) -> None:
    faults = [FaultError("checkpoint")]
    writer.tends = lambda: _raise(faults.pop()) if faults else None
    writer.submit(steps(1, 1))
    writer.until(lambda: writer.failing == ["checkpoint", ""])
    writer.submit(steps(2, 2))
    writer.until(lambda: len(writer.written) == 2)


def test_entries_of_a_call_that_come_while_it_fails_are_one(writer: Listing) -> None:
    writer.recovers = lambda: None if may_recover.is_set() else _raise(FaultError("still"))
    may_recover = threading.Event()
    writer.fails = failing_times(1, FaultError("full"))
    writer.submit([entry(EntryKind.ATTEMPT, admitted(1))])
    writer.until(lambda: "still" in writer.failing)
    writer.submit([entry(EntryKind.ESTABLISHED, answered(admitted(1)))])
    writer.until(lambda: writer.waiting() == 0)
    may_recover.set()
    writer.until(lambda: writer.failing[-1] == "")
    [[command]] = [[*work] for work in writer.written if not isinstance(work, Job)]
    assert isinstance(command, Append)
    assert command.kind is EntryKind.ESTABLISHED


def _raise(error: Exception) -> Any:
    raise error
