"""The doctor's table: made traffic for each symptom, and clean traffic on which it is silent."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from sidecar.adapters.destinations import destination_name, is_plausible
from sidecar.core.doctor import Finding, Observed, Symptom, diagnose, what_if
from sidecar.core.numbers import StripPlan, StripRule, billed_number
from sidecar.core.rating import RatingTerms
from sidecar.core.tariff import Deck, Rate, parse_steps
from sidecar.core.terms import ChargeSide, RatingStatus

AT = datetime(2026, 3, 1, tzinfo=UTC)
DECK = Deck(
    "r",
    [
        Rate(prefix=prefix, currency="EUR", steps=parse_steps("0:0.6/60/60"))
        for prefix in ("44", "49", "1", "41")
    ],
)
INTERNATIONAL = StripRule(name="int", prefix="00", strip=2)


def numbers(prefix: str, count: int, codes: tuple[str, ...] = ("4420", "4930", "1212")) -> list[str]:
    generator = random.Random(prefix)
    lengths = {"4420": 8, "4930": 7, "1212": 7}
    return [
        prefix + code + str(generator.randrange(10 ** (lengths[code] - 1), 10 ** lengths[code]))
        for code in generator.choices(codes, k=count)
    ]


def sold(dialled: list[str], plan: StripPlan, party: str = "acme") -> list[Observed]:
    found = []
    for user in dialled:
        number = billed_number(user, plan)
        rate = DECK.match(number.billed, AT) if number.billed else None
        found.append(
            Observed(
                side=ChargeSide.SELL,
                party=party,
                rule=number.rule,
                number=number.normalised,
                billed=number.billed,
                status=RatingStatus.RATED if rate else RatingStatus.NO_RATE,
                hold_s=60,
                at=AT,
            )
        )
    return found


def found(observed: list[Observed]) -> list[Finding]:
    return diagnose(observed, is_plausible, destination_name)


@pytest.mark.parametrize(
    ("dialled", "plan", "symptom", "strip"),
    [
        (numbers("00", 20), StripPlan(), Symptom.NOT_STRIPPED, 2),
        (numbers("011", 20), StripPlan(), Symptom.NOT_STRIPPED, 3),
        (numbers("00", 20), StripPlan(global_strip=3), Symptom.OVER_STRIPPED, 2),
        (numbers("", 20), StripPlan(global_strip=1), Symptom.OVER_STRIPPED, 0),
        (numbers("00", 20), StripPlan(global_strip=1), Symptom.PARTIAL_STRIP, 2),
        (numbers("77#", 20), StripPlan(global_strip=2), Symptom.NOT_STRIPPED, 3),
        (numbers("77#", 20), StripPlan(), Symptom.NOT_STRIPPED, 3),
        (numbers("77#", 20), StripPlan(global_strip=4), Symptom.OVER_STRIPPED, 3),
        (numbers("9955", 20), StripPlan(), Symptom.NOT_STRIPPED, 4),
        (numbers("00", 15) + numbers("011", 15), StripPlan(global_strip=2), Symptom.MIXED_PREFIXES, None),
        (numbers("00", 15) + numbers("", 15), StripPlan(), Symptom.MIXED_PREFIXES, None),
        (
            [f"030{n}" for n in range(1234567, 1234577)],
            StripPlan(global_strip=1),
            Symptom.TRUNK_WITHOUT_COUNTRY_CODE,
            1,
        ),
        ([f"999{n}" for n in range(12345, 12365)], StripPlan(), Symptom.IMPLAUSIBLE_NUMBER, None),
    ],
)
def test_made_traffic_shows_its_one_symptom(
    dialled: list[str], plan: StripPlan, symptom: Symptom, strip: int | None
) -> None:
    findings = found(sold(dialled, plan))
    assert [(one.symptom, one.strip) for one in findings] == [(symptom, strip)]
    assert findings[0].calls >= 10
    assert findings[0].examples
    assert findings[0].fix


@pytest.mark.parametrize(
    ("dialled", "plan"),
    [
        (numbers("", 50), StripPlan()),
        (numbers("00", 50), StripPlan(global_strip=2)),
        (numbers("011", 50), StripPlan(global_strip=3)),
        (numbers("77#", 50), StripPlan(global_strip=3)),
        (numbers("00", 25) + numbers("", 25), StripPlan(rules=(INTERNATIONAL,))),
        (numbers("+", 50), StripPlan(global_strip=2)),
        ([*numbers("00", 50), "0", "alice", "00123"], StripPlan(global_strip=2)),
    ],
)
def test_clean_traffic_is_passed_over_in_silence(dialled: list[str], plan: StripPlan) -> None:
    assert found(sold(dialled, plan)) == []


def test_a_gateway_prefix_left_on_the_number_that_is_bought_is_that_gateway_s_under_strip() -> None:
    bought = Observed(
        side=ChargeSide.BUY,
        party="carrier-2",
        rule="global",
        number="22217342625719",
        billed="22217342625719",
        other="17342625719",
    )
    (finding,) = found([bought, *sold(numbers("00", 20), StripPlan(global_strip=2))])
    assert (finding.symptom, finding.party, finding.strip) == (Symptom.UNDER_STRIPPED, "carrier-2", 3)
    assert finding.fix == "set the strip length of gateway carrier-2 to 3"
    assert finding.examples == (("22217342625719", "22217342625719"),)


def test_a_destination_that_the_deck_lacks_is_named() -> None:
    (finding,) = found(sold([f"003312345{n}" for n in range(6780, 6785)], StripPlan(global_strip=2)))
    assert finding.symptom is Symptom.UNRATED_DESTINATION
    assert "France" in finding.fix


def test_senders_are_judged_apart() -> None:
    observed = sold(numbers("00", 20), StripPlan(peer_strip=2), "good") + sold(
        numbers("00", 20), StripPlan(peer_strip=3), "bad"
    )
    (finding,) = found(observed)
    assert (finding.party, finding.fix) == ("bad", "set the strip length of peer bad to 2")


def test_what_another_length_would_change_is_told_in_calls_and_money() -> None:
    observed = sold(numbers("00", 20), StripPlan())
    effect = what_if(observed, 2, DECK, RatingTerms(decimals=2))
    assert (effect.calls, effect.rated_before, effect.rated_after) == (20, 0, 20)
    assert (effect.before, effect.after) == ({}, {"EUR": Decimal("12.00")})
