"""Which deck and terms a charge would be rated by now, and what another number would change."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from sidecar.core.admit import side_terms
from sidecar.core.doctor import Observed, book_of
from sidecar.core.doctor.effects import Book, effect
from sidecar.core.doctor.vocabulary import Effect
from sidecar.core.rating import HOLD_S_MAX, RatingTerms
from sidecar.core.tariff import Deck, Rate, parse_steps
from sidecar.core.terms import ChargeSide
from tests.core.doctor_traffic import deck, policy

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
TERMS = RatingTerms()


def one(number: str = "4930", billed: str | None = "4930", **fields: Any) -> Observed:
    known: dict[str, Any] = {
        "call_id": UUID(int=1),
        "side": ChargeSide.SELL,
        "sender": "proxy",
        "account": "acme",
        "rule": "global",
        "billable_ms": 60_000,
        "at": AT,
    }
    return Observed(number=number, billed=billed, **{**known, **fields})


def rate(prefix: str, price: str, currency: str = "EUR", **terms: Any) -> Rate:
    return Rate(prefix=prefix, currency=currency, **{"steps": parse_steps(f"0:{price}/60/60"), **terms})


def book(*rates: Rate, terms: RatingTerms = TERMS) -> Book:
    found = Deck("now", rates)
    return lambda _: (found, terms)


def changed(calls: list[Observed], to: Mapping[str | None, str | None], by: Book, **expected: Any) -> None:
    found = effect(calls, lambda call: to.get(call.billed, call.billed), by)
    assert found == Effect(**{"calls": len(calls), "changed": 0, **expected})


def test_the_deck_is_that_of_the_account_or_the_gateway() -> None:
    own, bought = deck("own"), deck("buy", "USD")
    world = policy(
        accounts={"acme": None, "bell": None, "lost": None}, gateways={"g": 0, "dear": 0}, buy=bought
    )
    taxed = Decimal("0.19")
    world = replace(
        world,
        decks={**world.decks, "own": own},
        accounts={
            "acme": world.accounts["acme"],
            "bell": replace(world.accounts["bell"], deck="own", tax_rate=taxed),
            "lost": replace(world.accounts["lost"], deck="gone"),
        },
        gateways={
            "g": world.gateways["g"],
            "dear": replace(world.gateways["dear"], tax_rate=taxed),
            "free": replace(world.gateways["g"], deck=None),
        },
    )
    find = book_of(world)
    assert find(one()) == (world.decks["sell"], world.rating)
    assert find(one(account="bell")) == (own, side_terms(world.rating, world.accounts["bell"]))
    assert find(one(account="lost")) is None
    assert find(one(side=ChargeSide.BUY, sender="g")) == (bought, world.rating)
    dear = find(one(side=ChargeSide.BUY, sender="dear"))
    assert dear is not None
    assert dear[1].tax_rate == taxed
    assert find(one(side=ChargeSide.BUY, sender="free")) is None
    assert find(one(side=ChargeSide.BUY, sender="gone")) is None


def test_calls_are_counted_that_have_a_deck_and_those_whose_rate_is_another() -> None:
    by = book(rate("49", "0.1"), rate("44", "0.3"))
    calls = [one(), one(billed="4420"), one(billed="33")]
    changed(
        calls,
        {"4420": "4931", "33": "4930"},
        by,
        changed=2,
        rated_before=2,
        rated_after=3,
        before={"EUR": Decimal("0.4")},
        after={"EUR": Decimal("0.3")},
    )
    half: Book = lambda call: by(call) if call.billed == "4930" else None  # noqa: E731
    found = effect(calls, lambda call: call.billed, half)
    assert found is not None
    assert (found.calls, found.rated_before) == (1, 1)
    assert effect(calls, lambda call: call.billed, lambda _: None) is None


@pytest.mark.parametrize("number", [None, "", "x", "4930x", "\u0664\u0669"])
def test_what_is_no_number_has_no_rate(number: str | None) -> None:
    changed(
        [one(billed=number)],
        {},
        book(rate("", "0.1")),
        rated_before=0,
        rated_after=0,
        before={},
        after={},
    )


def test_a_blocked_row_is_no_rate_and_a_call_that_was_free_costs_nothing() -> None:
    by = book(rate("49", "0.1"), rate("44", "0", blocked=True, steps=()))
    changed(
        [one(billed="4420"), one(free=True)],
        {"4420": "4930"},
        by,
        changed=1,
        rated_before=1,
        rated_after=2,
        before={},
        after={"EUR": Decimal("0.1")},
    )


def test_a_call_is_rated_as_its_caller_at_its_time_and_charged_from_its_answer() -> None:
    by = book(
        rate("49", "0.1", effective_to=AT),
        rate("49", "0.2", effective_from=AT),
        rate("49", "0.7", caller_prefix="44"),
    )
    of_rows: list[tuple[dict[str, Any], str]] = [
        ({"at": AT - timedelta(seconds=1)}, "0.1"),
        ({"at": AT}, "0.2"),
        ({"rated_caller": "4420"}, "0.7"),
    ]
    for fields, cost in of_rows:
        found = effect([one(**fields)], lambda call: call.billed, by)
        assert found is not None
        assert found.before == {"EUR": Decimal(cost)}
    by_day = parse_steps("0:0.9/60/60@Mo-Su 08:00-18:00 UTC|0.1/60/60")
    dear_by_day = book(Rate(prefix="49", currency="EUR", steps=by_day))
    times: list[tuple[dict[str, Any], str]] = [
        ({"at": AT}, "0.9"),
        ({"at": AT.replace(hour=7), "answered_at": AT}, "0.9"),
        ({"at": AT, "answered_at": AT.replace(hour=20)}, "0.1"),
    ]
    for fields, cost in times:
        found = effect([one(**fields)], lambda call: call.billed, dear_by_day)
        assert found is not None
        assert found.before == {"EUR": Decimal(cost)}


def test_seconds_are_held_as_the_terms_say_within_what_can_be_charged() -> None:
    by = book(
        Rate(prefix="49", currency="EUR", steps=parse_steps("0:0.6/60/1")),
        terms=RatingTerms(hold_time_precision_ms=1, tax_rate=Decimal("0.5")),
    )
    for billable_ms, seconds in (
        (-1, 0),
        (1_000, 1),
        (1_001, 2),
        (HOLD_S_MAX * 1_000 + 5_000, HOLD_S_MAX),
    ):
        found = effect([one(billable_ms=billable_ms)], lambda call: call.billed, by)
        assert found is not None
        assert found.before == {"EUR": Decimal("0.015") * seconds}


def test_amounts_of_a_currency_are_added_and_of_two_are_kept_apart() -> None:
    by = book(rate("49", "0.1"), rate("44", "0.3", "USD"))
    found = effect([one(), one(billed="4420"), one()], lambda _: "4420", by)
    assert found is not None
    assert found.before == {"EUR": Decimal("0.2"), "USD": Decimal("0.3")}
    assert found.after == {"USD": Decimal("0.9")}
