"""What is held and what is missing, against plain sets."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from sidecar.subscriber.progress import Begin, Progress, Ranges
from sidecar.subscriber.record import Source
from sidecar.wire.status import Status
from tests.subscriber.records import SOURCE

numbers = st.integers(1, 60)
ranges = st.tuples(numbers, st.integers(0, 12)).map(lambda one: (one[0], one[0] + one[1]))


def plain(found: Ranges) -> set[int]:
    return {number for first, last in found for number in range(first, last + 1)}


@given(st.lists(ranges, max_size=30), ranges)
def test_ranges_are_a_set_of_numbers(added: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    found, known = Ranges(), set[int]()
    for first, last in added:
        found.add(first, last)
        known |= set(range(first, last + 1))
    assert plain(found) == known
    assert found.last == max(known, default=0)
    assert all(number in found for number in known)
    assert not any(number in found for number in set(range(80)) - known)
    kept = list(found)
    assert all(before[1] + 1 < after[0] for before, after in itertools.pairwise(kept))
    assert plain(Ranges(found.missing(*asked))) == set(range(asked[0], asked[1] + 1)) - known


def test_what_lies_between_two_numbers_is_missing() -> None:
    progress = Progress()
    for seq in (3, 4, 8):
        progress.take(SOURCE, seq)
    assert progress.missing() == {SOURCE: ((5, 7),)}


def test_the_last_lost_message_is_found_by_the_head_of_the_status() -> None:
    progress = Progress()
    progress.take(SOURCE, 1)
    progress.take(SOURCE, 2)
    assert progress.missing() == {}
    progress.told("_", "node1", Status(epoch=SOURCE.epoch, head_seq=3, published=3))
    assert progress.missing() == {SOURCE: ((3, 3),)}


def test_the_first_numbers_of_an_epoch_are_found_by_what_was_published_in_it() -> None:
    progress = Progress()
    progress.take(SOURCE, 12)
    progress.told("_", "node1", Status(epoch=SOURCE.epoch, head_seq=12, published=4))
    assert progress.missing() == {SOURCE: ((9, 11),)}


def test_all_that_the_books_have_given_is_wanted_wherever_the_subscriber_began() -> None:
    progress = Progress(begin=Begin.NOW)
    progress.take(SOURCE, 7)
    assert progress.missing() == {}
    gone = Source("_", "n2", "ended")
    for _ in range(2):
        progress.expected(SOURCE, 4, 9)
        progress.expected(gone, 0, 2)
        assert progress.missing() == {SOURCE: ((5, 6), (8, 9)), gone: ((1, 2),)}
    progress.take(gone, 1)
    progress.take(gone, 2)
    progress.expected(gone, 2, 2)
    assert gone not in progress.missing()


def test_who_begins_now_misses_nothing_of_before() -> None:
    progress = Progress(begin=Begin.NOW)
    old = Status(epoch=SOURCE.epoch, head_seq=9, published=9)
    progress.told("_", "node1", old, is_fresh=False)
    progress.told("_", "node1", Status(epoch=SOURCE.epoch, head_seq=12, published=12))
    assert progress.missing() == {}
    progress.take(SOURCE, 14)
    assert progress.missing() == {SOURCE: ((13, 13),)}


def test_epochs_and_nodes_are_counted_apart() -> None:
    progress = Progress()
    progress.take(SOURCE, 5)
    progress.take(Source("_", "node1", "e2"), 1)
    progress.take(Source("_", "node2", "e1"), 9)
    assert progress.missing() == {}


def test_a_will_says_that_the_node_is_down_and_changes_no_number() -> None:
    progress = Progress()
    progress.told("_", "node1", Status(epoch=SOURCE.epoch, head_seq=2, published=2))
    assert progress.is_up(SOURCE)
    progress.told("_", "node1", Status(epoch=SOURCE.epoch))
    assert not progress.is_up(SOURCE)
    assert progress.missing() == {SOURCE: ((1, 2),)}
    assert progress.is_current(SOURCE)


@given(st.integers(1, 40).flatmap(lambda head: st.tuples(st.just(head), st.sets(st.integers(1, head)))))
def test_held_and_missing_are_all_that_was_published(given_: tuple[int, set[int]]) -> None:
    head, heard = given_
    progress = Progress()
    progress.told("_", "node1", Status(epoch=SOURCE.epoch, head_seq=head, published=head))
    for seq in heard:
        progress.take(SOURCE, seq)
    missing = plain(Ranges(progress.missing().get(SOURCE, ())))
    assert missing == set(range(1, head + 1)) - heard
