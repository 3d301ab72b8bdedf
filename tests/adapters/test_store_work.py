"""What is kept while the disk fails, in which order, and what cannot wait for it."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.adapters.store.work import Batch, Job, Kept, Work, waiting_call
from sidecar.core.books import Outcome, OutcomeKind
from sidecar.core.commands import EntryKind, Publish
from sidecar.ports import UnavailableError
from tests.adapters.store_calls import admission, admitted, answered, call_id, ended, ending, entry, extension

ATTEMPT, ESTABLISHED = EntryKind.ATTEMPT, EntryKind.ESTABLISHED


def job(*, lasting: bool = False) -> Job:
    def done(_result: Any, _error: BaseException | None) -> None: ...

    def run(_batch: Batch) -> None: ...

    return Job(run=run, done=done, lasting=lasting)


def failed(number: int) -> Outcome:
    return Outcome(call_id(number), OutcomeKind.STEP_FAILED)


@pytest.mark.parametrize(
    "step",
    [
        admission(admitted()),
        admission(admitted(prepaid=True)),
        entry(EntryKind.ANSWERED, admitted()),
        extension(admitted(prepaid=True), 120),
    ],
)
def test_an_admission_an_answer_and_an_extension_wait(step: Any) -> None:
    assert waiting_call(step) == call_id(1)


@pytest.mark.parametrize("step", [entry(ATTEMPT, admitted()), ending(ended(answered(admitted())))])
def test_all_else_does_not_wait(step: Any) -> None:
    assert waiting_call(step) is None


def test_what_cannot_wait_fails_and_only_a_failed_admission_is_undone() -> None:
    """An answer's call was admitted and stays so: its reservation is still needed."""
    kept = Kept()
    more = extension(admitted(3), 120)
    works: list[Work] = [entry(EntryKind.ANSWERED, answered(admitted(1))), admission(admitted(2)), more]
    report = kept.take(works, "why")
    assert (report.outcomes, report.failing, report.jobs) == ([failed(1), failed(2), failed(3)], "why", [])
    [undone] = kept.works
    assert isinstance(undone, Job)
    assert undone.lasting


def test_a_job_is_kept_where_it_lasts_and_fails_where_it_does_not() -> None:
    kept, lasting, other = Kept(), job(lasting=True), job()
    report = kept.take([lasting, other])
    assert kept.works == [lasting]
    [(found, error)] = report.jobs
    assert found is other
    assert isinstance(error, UnavailableError)
    assert (report.outcomes, report.failing) == ([], None)


def test_of_the_entries_of_a_call_the_last_is_kept_in_the_place_of_the_first() -> None:
    first, second = entry(ATTEMPT, admitted(1)), entry(ESTABLISHED, answered(admitted(1)))
    other, end = entry(ATTEMPT, admitted(2)), ending(ended(answered(admitted(1))))
    kept = Kept()
    kept.take([first, other])
    kept.take([second, end])
    assert kept.works == [second, other, end]


def test_a_step_with_more_than_an_entry_is_kept_whole() -> None:
    both: Work = (*entry(ATTEMPT, admitted(1)), *ending(ended(answered(admitted(1)))))
    kept = Kept()
    kept.take([entry(ATTEMPT, admitted(1)), both, both])
    assert kept.works == [entry(ATTEMPT, admitted(1)), both, both]


def test_a_record_without_an_entry_is_kept_each_time() -> None:
    record = ending(ended(answered(admitted(1))))
    [publish] = [command for command in record if isinstance(command, Publish)]
    kept = Kept()
    kept.take([(publish,), (publish,)])
    assert kept.works == [(publish,), (publish,)]


def test_what_was_written_is_kept_no_longer_and_the_places_of_the_others_move_up() -> None:
    steps = [entry(ATTEMPT, admitted(number)) for number in (1, 2, 3)]
    kept = Kept()
    kept.take(steps)
    kept.written(1)
    assert kept.works == steps[1:]
    again = [entry(ESTABLISHED, answered(admitted(number))) for number in (2, 3, 1)]
    kept.take(again)
    assert kept.works == again  # the call whose entry was written has a new one, after all others
