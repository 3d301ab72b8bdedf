"""What is asked for and when: against a node and a broker that lose, hold back and refuse by chance."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.subscriber.asking import Ask, Asking, AskLimits
from sidecar.subscriber.progress import Progress, Ranges
from sidecar.subscriber.record import Source
from sidecar.wire.replay import ReplayEnd
from sidecar.wire.status import Status
from tests.subscriber.records import SOURCE

LIMITS = AskLimits(numbers_max=10)


def gap_of(*held: int, head: int) -> Progress:
    progress = Progress()
    for seq in held:
        progress.take(SOURCE, seq)
    progress.told("_", "node1", Status(epoch=SOURCE.epoch, head_seq=head, published=head))
    return progress


def test_a_gap_is_asked_for_once_it_is_no_longer_under_way() -> None:
    progress, asking = gap_of(1, 2, 5, head=5), Asking(LIMITS)
    assert asking.due(progress, 10.0) == []
    assert asking.due(progress, 11.9) == []
    assert asking.due(progress, 12.0) == [Ask(source=SOURCE, from_seq=3, to_seq=4)]


def test_one_request_is_under_way_at_a_time_and_no_larger_than_a_queue_takes() -> None:
    progress, asking = gap_of(head=100), Asking(LIMITS)
    asking.due(progress, 0.0)
    (ask,) = asking.due(progress, 2.0)
    assert (ask.from_seq, ask.to_seq) == (1, 10)
    assert asking.due(progress, 3.0) == []
    for seq in range(1, 11):
        progress.take(SOURCE, seq)
    asking.ended(
        ask, ReplayEnd(epoch="e1", from_seq=1, to_seq=10, waiting=(), dead=(), absent=()), progress, 3.1
    )
    (ask,) = asking.due(progress, 3.1)
    assert (ask.from_seq, ask.to_seq) == (11, 20)


def test_a_node_that_is_down_is_not_asked() -> None:
    progress, asking = gap_of(head=3), Asking(LIMITS)
    asking.due(progress, 0.0)
    progress.told("_", "node1", Status(epoch="e1"))
    assert asking.due(progress, 5.0) == []


def test_numbers_that_are_accounted_for_are_left_alone_for_a_while() -> None:
    progress, asking = gap_of(head=6), Asking(LIMITS)
    asking.due(progress, 0.0)
    (ask,) = asking.due(progress, 2.0)
    end = ReplayEnd(
        epoch="e1", from_seq=1, to_seq=6, sent=1, waiting=((1, 2),), dead=((3, 3),), absent=((4, 4),)
    )
    progress.take(SOURCE, 5)  # it was sent; 6 was lost again
    asking.ended(ask, end, progress, 3.0)
    assert asking.due(progress, 12.9) == []
    (ask,) = asking.due(progress, 13.0)
    assert (ask.from_seq, ask.to_seq) == (1, 2)
    assert plain(asking.excused(SOURCE, 13.0)) == {3, 4}
    assert plain(asking.excused(SOURCE, 603.0)) == set()


def test_a_node_that_refuses_or_keeps_silent_is_asked_ever_less_often() -> None:
    progress, asking = gap_of(head=3), Asking(LIMITS)
    asked: list[float] = []
    for second in range(2_000):
        if due := asking.due(progress, float(second)):
            asked.append(second)
            if len(asked) == 1:
                asking.refused(due[0], float(second))
    assert asked == [2, 62, 62 + 30 + 120, 62 + 30 + 120 + 30 + 240, 482 + 30 + 480, 992 + 30 + 900]


def test_the_end_of_an_epoch_that_is_over_is_asked_for() -> None:
    progress, asking = gap_of(1, 2, head=2), Asking(LIMITS)
    progress.told("_", "node1", Status(epoch="e2", head_seq=4, published=0))
    (ask,) = asking.due(progress, 0.0)
    assert (ask.source, ask.from_seq) == (SOURCE, 3)
    end = ReplayEnd(epoch="e1", from_seq=3, to_seq=4, sent=2, waiting=(), dead=(), absent=(), head_seq=4)
    progress.take(SOURCE, 3)
    asking.ended(ask, end, progress, 1.0)
    assert progress.positions[SOURCE].is_over
    assert progress.missing() == {SOURCE: ((4, 4),)}
    assert asking.due(progress, 1.0) == []
    (ask,) = asking.due(progress, 13.0)
    assert (ask.source, ask.from_seq, ask.to_seq) == (SOURCE, 4, 4)


@settings(max_examples=200)
@given(
    seed=st.integers(0, 2**32),
    head=st.integers(1, 120),
    loss=st.floats(0, 0.9),
    dead=st.sets(st.integers(1, 120), max_size=10),
)
def test_whatever_is_lost_on_the_way_in_the_end_all_is_held_but_what_the_node_cannot_send(
    seed: int, head: int, loss: float, dead: set[int]
) -> None:
    chance = random.Random(seed)
    progress, asking = Progress(), Asking(AskLimits(numbers_max=20, later_s=1.0))
    progress.told("_", "node1", Status(epoch="e1", head_seq=head, published=head))
    dead &= set(range(1, head + 1))
    for seq in set(range(1, head + 1)) - dead:
        if chance.random() >= loss:
            progress.take(SOURCE, seq)
    now_s = 0.0
    while plain(Ranges(progress.missing().get(SOURCE, ()))) > dead and now_s < 100_000:
        now_s += 0.5
        for ask in asking.due(progress, now_s):
            assert ask.to_seq - ask.from_seq < 20
            if chance.random() < loss / 3:
                continue  # the request is lost, or its answer
            wanted = range(ask.from_seq, ask.to_seq + 1)
            for seq in set(wanted) - dead:
                if chance.random() >= loss:
                    progress.take(SOURCE, seq)
            named = tuple((seq, seq) for seq in wanted if seq in dead)
            end = ReplayEnd(
                epoch="e1", from_seq=ask.from_seq, to_seq=ask.to_seq, waiting=(), dead=named, absent=()
            )
            asking.ended(ask, end, progress, now_s)
    assert plain(Ranges(progress.missing().get(SOURCE, ()))) == dead


def plain(found: Ranges) -> set[int]:
    return {number for first, last in found for number in range(first, last + 1)}


def test_nodes_are_asked_side_by_side() -> None:
    progress, asking = gap_of(head=3), Asking(LIMITS)
    progress.told("_", "node2", Status(epoch="f1", head_seq=2, published=2))
    asking.due(progress, 0.0)
    assert {ask.source for ask in asking.due(progress, 2.0)} == {SOURCE, Source("_", "node2", "f1")}
