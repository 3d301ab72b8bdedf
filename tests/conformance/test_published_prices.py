"""Published prices of other systems, recomputed. `rating.csv` names each source.

Where the published figure carries an artefact of the publisher's own arithmetic, the row has the exact
amount and says so: a binary float, units of 10^-9, or a Decimal rounded after each step.
"""

from __future__ import annotations

import csv
from decimal import Decimal
from pathlib import Path

import pytest

from sidecar.core.rating import RatingTerms, charge, hold_seconds
from sidecar.core.tariff import Rate, parse_steps
from sidecar.core.terms import Rounding

CASES = list(csv.DictReader((Path(__file__).parent / "rating.csv").read_text(encoding="utf-8").splitlines()))


@pytest.mark.parametrize("case", CASES, ids=[case["case"].replace(" ", "-") for case in CASES])
def test_the_charge_is_the_published_or_exact_one(case: dict[str, str]) -> None:
    rate = Rate(
        prefix="",
        currency="EUR",
        connect_fee=Decimal(case["connect_fee"]),
        steps=parse_steps(case["steps"]),
    )
    terms = RatingTerms(rounding=Rounding(case["rounding"]), decimals=int(case["decimals"]))
    result = charge(rate, hold_seconds(int(case["talk_s"]) * 1000, terms.hold_time_precision_ms), terms)
    assert (result.billed_s, result.total) == (int(case["billed_s"]), Decimal(case["charge"]))


def test_every_case_names_its_source() -> None:
    assert len(CASES) == 14
    assert all(case["source"] for case in CASES)
