"""What somebody waits for is committed at once; what nobody waits for goes along, or has its time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from sidecar.adapters.store.pacing import COMPANY_MS_MAX
from sidecar.core.commands import EntryKind, StoreCommand
from sidecar.core.records import cdr_of
from sidecar.core.terms import Money
from tests.adapters.sqlite_stores import Watched, asked, opened
from tests.adapters.store_calls import (
    POLICY,
    admission,
    admitted,
    answered,
    call_id,
    ended,
    ending,
    entry,
    extension,
    terms_of,
    whole_call,
)

FOR_EVER_MS = 3_600_000

Step = tuple[StoreCommand, ...]
NOBODY_WAITS = {
    **{
        kind.value: entry(kind, answered(admitted()))
        for kind in EntryKind
        if kind not in (EntryKind.ADMITTED, EntryKind.ANSWERED)
    },
    "record": ending(ended(answered(admitted()))),
}


async def begun(watched: Watched) -> list[int]:
    """With one call that is up; the commits from now on."""
    watched.submit(admission(admitted()))
    await watched.until(lambda: bool(watched.events and watched.commits))
    watched.commits.clear()
    return watched.commits


@pytest.mark.parametrize("step", NOBODY_WAITS.values(), ids=NOBODY_WAITS.keys())
async def test_a_step_that_nobody_waits_for_goes_along_with_the_next_admission(
    tmp_path: Path, step: Step
) -> None:
    async with opened(tmp_path, company_ms=FOR_EVER_MS) as watched:
        found = await begun(watched)
        watched.submit(step, step)
        watched.submit(admission(admitted(2)))
        await watched.store.accounts.create(terms_of("a"))  # a commit after that one
        assert found in ([4], [3, 1])
        assert len(watched.events) == 2


@pytest.mark.parametrize("step", NOBODY_WAITS.values(), ids=NOBODY_WAITS.keys())
async def test_it_does_not_make_a_commit_of_its_own_before_its_time(tmp_path: Path, step: Step) -> None:
    async with opened(tmp_path, company_ms=FOR_EVER_MS) as watched:
        await begun(watched)
        before = asked(tmp_path, "SELECT kind FROM open_calls")
        watched.submit(step)
        for _ in range(3):  # reads, each on a turn of its own
            assert await watched.store.outbox.pending(0, 1) == ()
        assert asked(tmp_path, "SELECT kind FROM open_calls") == before
    assert asked(tmp_path, "SELECT kind FROM open_calls") != before  # written at the close at the latest


async def test_an_extension_which_is_asked_for_early_goes_along_too(tmp_path: Path) -> None:
    async with opened(tmp_path, company_ms=FOR_EVER_MS) as watched:
        found = await begun(watched)
        watched.submit(extension(admitted(), 120))
        for _ in range(3):  # reads, each on a turn of its own
            assert await watched.store.outbox.pending(0, 1) == ()
        assert (len(watched.events), found) == (1, [])
        watched.submit(admission(admitted(2)))
        await watched.until(lambda: len(watched.events) == 3)
        assert found in ([2], [])


@pytest.mark.parametrize("kind", [EntryKind.ADMITTED, EntryKind.ANSWERED])
async def test_a_step_that_somebody_waits_for_does_not_wait(tmp_path: Path, kind: EntryKind) -> None:
    async with opened(tmp_path, company_ms=FOR_EVER_MS) as watched:
        await begun(watched)
        watched.submit(entry(kind, answered(admitted())))
        await watched.until(lambda: len(watched.events) == 2)
        ((stored,),) = asked(tmp_path, "SELECT kind FROM open_calls")
        assert stored == (kind.value if kind is EntryKind.ANSWERED else EntryKind.ADMITTED.value)


JOBS: dict[str, Callable[[Watched], Awaitable[Any]]] = {
    "create": lambda watched: watched.store.accounts.create(terms_of("b")),
    "top up": lambda watched: watched.store.accounts.top_up("a", Money(Decimal(1), "EUR"), "r"),
    "revise": lambda watched: watched.store.revisions.revise(
        [replace(cdr_of(ended(answered(admitted())), POLICY), revision=1, supersedes=0)]
    ),
    "retry": lambda watched: watched.store.outbox.retry_dead(),
    "drop": lambda watched: watched.store.outbox.drop_dead([1]),
}


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS.keys())
async def test_what_a_person_asks_for_does_not_wait_and_takes_along_what_came_before(
    tmp_path: Path, job: Callable[[Watched], Awaitable[Any]]
) -> None:
    async with opened(tmp_path, company_ms=FOR_EVER_MS) as watched:
        await watched.store.accounts.create(terms_of("a"))
        await begun(watched)
        watched.submit(ending(ended(answered(admitted()))))
        await job(watched)
        (first, *_) = await watched.store.records.show(str(call_id(1)))
        assert first.revision == 0


async def test_acknowledgements_and_heartbeats_wait_for_company_too(tmp_path: Path) -> None:
    async with opened(tmp_path, company_ms=FOR_EVER_MS) as watched:
        watched.submit(*whole_call(1))
        await watched.store.accounts.create(terms_of("a"))
        await watched.until(lambda: len(watched.events) == 2)
        found = watched.commits
        found.clear()
        clock = watched.store._clock
        watched.store.heartbeat(clock.mono_ns(), clock.wall_ns())
        acknowledged = watched.store._loop.create_task(
            watched.store.outbox.acknowledge([1], []), name="acknowledge"
        )
        assert len(await watched.store.outbox.pending(0, 9)) == 1
        assert found == []
        assert not acknowledged.done()
        await watched.store.accounts.create(terms_of("b"))
        await acknowledged
        assert found == [3]
        assert await watched.store.outbox.pending(0, 9) == ()


async def test_without_company_it_is_written_when_its_time_has_come(tmp_path: Path) -> None:
    async with opened(tmp_path, company_ms=1) as watched:
        found = await begun(watched)
        for number in range(3):
            watched.submit(*NOBODY_WAITS.values())
            await watched.until(lambda number=number: len(found) > number)  # type: ignore[misc]
        await watched.store.outbox.acknowledge([1], [])
        assert asked(tmp_path, "SELECT count(*) FROM open_calls") == [(0,)]
        assert await watched.store.outbox.pending(0, 9) == ()


def test_company_is_not_waited_for_longer_than_is_promised() -> None:
    assert 0 < COMPANY_MS_MAX <= 10


async def test_a_full_queue_counts_what_is_held_back(tmp_path: Path) -> None:
    async with opened(tmp_path, company_ms=FOR_EVER_MS, queue_steps_max=3) as watched:
        watched.submit(*[entry(EntryKind.ATTEMPT, admitted(9))] * 2, admission(admitted(1)))
        watched.submit(admission(admitted(2)))
        await watched.until(lambda: len(watched.events) == 2)
        kinds = {event.call_id: type(event).__name__ for event in watched.events}
        assert kinds == {call_id(1): "Admitted", call_id(2): "StepFailed"}
