from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sidecar.core.deck_merge import HISTORY, MergeError, merged
from sidecar.core.tariff import Deck, Rate, parse_steps

NOW = datetime(2026, 11, 27, tzinfo=UTC)
DAY = timedelta(days=1)

Row = tuple[str, str, datetime | None, datetime | None]


def row(
    prefix: str, price: str, since: datetime | None = None, until: datetime | None = None, caller: str = ""
) -> Rate:
    return Rate(
        prefix=prefix,
        currency="EUR",
        steps=parse_steps(f"0:{price}/60/1"),
        effective_from=since,
        effective_to=until,
        caller_prefix=caller,
    )


def told(deck: Deck) -> list[Row]:
    return [(one.prefix, f"{one.steps[0].price:f}", one.effective_from, one.effective_to) for one in deck]


def test_a_partial_list_goes_in_by_prefix_and_date() -> None:
    base = Deck("b", [row("33", "1"), row("44", "1"), row("44", "2", NOW + DAY), row("49", "1")])
    listed = Deck(
        "l", [row("33", "3"), row("44", "4", NOW + DAY), row("49", "5", NOW + 2 * DAY), row("7", "7")]
    )
    assert told(merged(base, listed, NOW, whole=False)) == [
        ("33", "1", None, NOW),
        ("33", "3", NOW, None),
        ("44", "1", None, NOW + DAY),
        ("44", "4", NOW + DAY, None),
        ("49", "1", None, NOW + 2 * DAY),
        ("49", "5", NOW + 2 * DAY, None),
        ("7", "7", NOW, None),
    ]


def test_a_whole_list_ends_what_it_does_not_name_and_says_all_that_is_to_come() -> None:
    base = Deck("b", [row("33", "1"), row("44", "1"), row("44", "2", NOW + DAY), row("49", "1", NOW + DAY)])
    listed = Deck("l", [row("44", "1")])
    assert told(merged(base, listed, NOW, whole=True)) == [
        ("33", "1", None, NOW),
        ("44", "1", None, NOW),
        ("44", "1", NOW, None),
    ]


@pytest.mark.parametrize("whole", [False, True])
def test_a_row_that_says_nothing_new_begins_nothing(whole: bool) -> None:
    base = Deck("b", [row("44", "1", NOW - DAY)])
    assert told(merged(base, Deck("l", [row("44", "1")]), NOW, whole=whole)) == told(base)


def test_rows_for_other_callers_are_other_rows() -> None:
    base = Deck("b", [row("44", "1"), row("44", "2", caller="33")])
    partial = merged(base, Deck("l", [row("44", "3", caller="33")]), NOW, whole=False)
    assert told(partial) == [("44", "1", None, None), ("44", "2", None, NOW), ("44", "3", NOW, None)]
    whole = merged(base, Deck("l", [row("44", "1")]), NOW, whole=True)
    assert told(whole) == [("44", "1", None, None), ("44", "2", None, NOW)]


def test_what_ended_long_ago_is_left_out() -> None:
    gone = NOW - HISTORY - DAY
    base = Deck("b", [row("44", "1", None, gone), row("44", "2", gone)])
    assert told(merged(base, Deck("l", [row("33", "1")]), NOW, whole=False)) == [
        ("33", "1", NOW, None),
        ("44", "2", gone, None),
    ]


def test_rows_that_cannot_both_be_meant_are_named() -> None:
    base = Deck("b", [row("44", "1")])
    with pytest.raises(MergeError, match=r"'44'.*which holds then"):
        merged(base, Deck("l", [row("44", "2", NOW, NOW + DAY)]), NOW, whole=False)
    with pytest.raises(MergeError, match="end before"):
        merged(base, Deck("l", [row("44", "2", None, NOW - DAY)]), NOW, whole=False)
