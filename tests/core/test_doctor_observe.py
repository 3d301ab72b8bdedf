"""What the doctor reads in a record."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from sidecar.core.cdr import Cdr
from sidecar.core.doctor import Observed, observed_of
from sidecar.core.terms import CallerBasis, ChargeSide, RatingStatus
from tests.core.doctor_traffic import calls, deck, policy


def bought_and_sold() -> Cdr:
    world = policy(peers={"proxy": 2}, gateways={"carrier": 3}, buy=deck("buy", "USD"))
    records = calls(["00442079460123"] * 9, world, sent=["555442079460123"] * 9)
    return next(cdr for cdr in records if cdr.answered_at)


def changed(cdr: Cdr, side: ChargeSide, **fields: Any) -> list[Observed]:
    charges = tuple(replace(one, **fields) if one.side is side else one for one in cdr.charges)
    return list(observed_of(replace(cdr, charges=charges)))


def test_each_charge_is_looked_at_with_what_it_was_rated_by() -> None:
    cdr = bought_and_sold()
    assert cdr.answered_at
    cdr = replace(
        cdr,
        b_answered_at=cdr.answered_at - timedelta(seconds=1),
        ended_at=cdr.answered_at + timedelta(seconds=7),
        billable_ms=6_500,
        caller_basis=CallerBasis.ASSERTED,
    )
    sold, bought = observed_of(cdr)
    assert sold == Observed(
        call_id=cdr.call_id,
        side=ChargeSide.SELL,
        sender="proxy",
        account="acme",
        rule="peer",
        number="00442079460123",
        billed="442079460123",
        other="442079460123",
        caller="493012345678",
        rated_caller="493012345678",
        prefix="44",
        deck_revision="sell",
        billable_ms=6_500,
        at=cdr.invited_at,
        answered_at=cdr.answered_at,
    )
    assert bought == replace(
        sold,
        side=ChargeSide.BUY,
        sender="carrier",
        rule="global",
        number="555442079460123",
        deck_revision="buy",
        billable_ms=8_000,
        answered_at=cdr.b_answered_at,
    )
    [_, unanswered] = observed_of(replace(cdr, b_answered_at=None))
    assert (unanswered.billable_ms, unanswered.answered_at) == (0, None)


def test_each_side_knows_the_number_of_the_other() -> None:
    cdr = bought_and_sold()
    sold, bought = changed(cdr, ChargeSide.BUY, billed_number="2079460123")
    assert (sold.other, bought.other) == ("2079460123", "442079460123")


@pytest.mark.parametrize(
    ("status", "free", "unrated"),
    [
        (RatingStatus.RATED, False, False),
        (RatingStatus.FREE, True, False),
        (RatingStatus.NO_RATE, False, True),
    ],
)
def test_what_was_free_is_told_from_what_has_no_rate(status: RatingStatus, free: bool, unrated: bool) -> None:
    sold, bought = changed(bought_and_sold(), ChargeSide.SELL, rating_status=status, strip_rule="")
    assert (sold.free, sold.carried_unrated, sold.rule) == (free, unrated, "global")
    assert (bought.free, bought.carried_unrated) == (False, False)


def test_records_without_a_call_and_numbers_that_are_none_are_passed_over() -> None:
    cdr = bought_and_sold()
    assert list(observed_of(replace(cdr, void=True))) == []
    for user, sides in (("", 1), ("7" * 41, 1), ("7" * 40, 2)):
        called = replace(cdr, callee=replace(cdr.callee, received=user))
        assert len(list(observed_of(called))) == sides
    assert [one.side for one in observed_of(replace(cdr, callee=replace(cdr.callee, sent=None)))] == ["sell"]


@pytest.mark.parametrize(
    ("billed", "stripped"), [("4930", 2), ("004930", 0), ("", 6), (None, None), ("494930", None)]
)
def test_how_many_digits_were_taken_off(billed: str | None, stripped: int | None) -> None:
    assert seen(billed).stripped == stripped


@pytest.mark.parametrize(
    ("billed", "prefix", "need", "is_keyed"),
    [
        ("004930", "0049", 2, True),
        ("004930", "004", 2, True),
        ("004930", "00", 2, False),
        ("004930", None, 2, False),
        ("4930", "4930", 2, False),
        ("04930", "04", 2, True),
        ("930", "930", 2, False),
        (None, "004", 2, True),
    ],
)
def test_a_deck_may_have_the_digits_that_were_left(
    billed: str | None, prefix: str | None, need: int, is_keyed: bool
) -> None:
    assert seen(billed, prefix).is_keyed(need) == is_keyed


def seen(billed: str | None, prefix: str | None = None) -> Observed:
    return Observed(
        call_id=UUID(int=1),
        side=ChargeSide.SELL,
        sender="proxy",
        account="acme",
        rule="global",
        number="004930",
        billed=billed,
        prefix=prefix,
        at=bought_and_sold().invited_at,
    )
