"""Terms of accounts: what cannot be built, when an account is open, from when a limit counts."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from sidecar.core.account_terms import AccountKind, AccountTerms, check_terms


def terms(**given: Any) -> AccountTerms:
    return AccountTerms(**{"name": "acme", "currency": "EUR", **given})


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 10**9


@pytest.mark.parametrize(
    ("given", "floor", "bounded"),
    [
        ({}, None, False),
        ({"kind": AccountKind.PREPAID}, "0", True),
        ({"kind": AccountKind.PREPAID, "credit_limit": Decimal(5)}, "-5", True),
        ({"credit_limit": Decimal(100)}, "-100", True),
        ({"credit_limit": Decimal(0)}, "0", True),
        ({"kind": AccountKind.FREE}, None, False),
        ({"day_limit": Decimal(1)}, None, True),
    ],
)
def test_how_far_a_balance_may_go(given: dict[str, Any], floor: str | None, bounded: bool) -> None:
    found = terms(**given)
    assert (found.floor, found.is_bounded) == (None if floor is None else Decimal(floor), bounded)


@pytest.mark.parametrize(
    "given",
    [
        {"kind": AccountKind.FREE, "credit_limit": Decimal(1)},
        {"kind": AccountKind.FREE, "month_limit": Decimal(1)},
        {"valid_from": datetime(2026, 3, 1)},  # noqa: DTZ001 - what is refused
        {"valid_from": datetime(2026, 3, 2, tzinfo=UTC), "valid_to": datetime(2026, 3, 1, tzinfo=UTC)},
        {"credit_limit": Decimal(-1)},
        {"day_limit": Decimal("NaN")},
        {"zone": "Mars/Base"},
        {"currency": "ZZZ"},
    ],
)
def test_terms_that_contradict_themselves_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_terms(terms(**given))


def test_a_life_is_half_open_and_a_switch_counts_at_once() -> None:
    begin, end = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
    found = terms(valid_from=begin, valid_to=end)
    assert [
        found.is_open_at(int(at.timestamp()) * 10**9 + more) for at in (begin, end) for more in (-1, 0)
    ] == [
        False,
        True,
        True,
        False,
    ]
    assert not terms(enabled=False).is_open_at(0)
    assert not terms(disabled_by_command=True).is_open_at(0)


@pytest.mark.parametrize(
    ("zone", "at", "day", "month"),
    [
        ("UTC", "2026-03-31T23:59+00:00", "2026-03-31T00:00Z", "2026-03-01T00:00Z"),
        (
            "Europe/Berlin",
            "2026-03-31T22:00Z",
            "2026-04-01T00:00+02:00",
            "2026-04-01T00:00+02:00",
        ),
        # The clock was put forward on the 29th: the month began at another offset.
        (
            "Europe/Berlin",
            "2026-03-30T12:00Z",
            "2026-03-30T00:00+02:00",
            "2026-03-01T00:00+01:00",
        ),
        (
            "America/New_York",
            "2026-11-01T06:30+00:00",
            "2026-11-01T00:00-04:00",
            "2026-11-01T00:00-04:00",
        ),
    ],
)
def test_a_limit_counts_from_midnight_in_the_accounts_zone(zone: str, at: str, day: str, month: str) -> None:
    found = terms(zone=zone, day_limit=Decimal(1), month_limit=Decimal(2))
    assert list(found.spending_limits(ns(at))) == [(Decimal(1), ns(day)), (Decimal(2), ns(month))]
