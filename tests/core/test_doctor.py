"""The doctor's table: made traffic for each symptom, and clean traffic on which it must be silent."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.adapters.destinations import NUMBERING_PLAN
from sidecar.core.cdr import Cdr
from sidecar.core.doctor import Finding, Standing, Symptom, book_of, diagnose, observed_of
from sidecar.core.doctor.cohorts import FLOOR, SAMPLE_MAX, cohort_of, cohorts, sampled
from sidecar.core.numbers import StripRule
from sidecar.core.policy import Policy
from sidecar.core.terms import ChargeSide, Disposition
from tests.core.doctor_traffic import PRICES, calls, deck, e164, in_front, misdialled, national, policy
from tests.wire.cdrs import cdrs

N = 200
GERMAN = StripRule(name="trunk", prefix="0", strip=1, add="49")
INTERNATIONAL = StripRule(name="international", prefix="00", strip=2)


def examined(records: Sequence[Cdr], world: Policy | None = None) -> list[Finding]:
    observed = [one for cdr in records for one in observed_of(cdr)]
    return diagnose(observed, NUMBERING_PLAN, *([book_of(world)] if world else []))


def sold(dialled: Sequence[str], world: Policy) -> list[Finding]:
    return examined(calls(dialled, world), world)


def test_the_shares_that_the_thresholds_rest_on() -> None:
    numbers = e164(1_000)
    shares = [
        sum(NUMBERING_PLAN.standing(number[cut:]) is Standing.VALID for number in numbers) / len(numbers)
        for cut in range(4)
    ]
    assert shares[0] > 0.85
    assert max(shares[1:]) < 0.25


def test_of_many_numbers_some_are_looked_at_evenly_and_of_each_its_latest_call() -> None:
    [one] = observed_of(calls(e164(1), policy())[0])
    numbers = [f"{number}" for number in range(10_000, 10_000 + 5 * SAMPLE_MAX // 2)]
    later = [replace(one, number=number, at=one.at + timedelta(1)) for number in numbers]
    sample = sampled([*later, *(replace(one, number=number) for number in reversed(numbers))])
    assert sample == later[::3]
    assert sampled(later[:5]) == later[:5]


def test_a_number_is_of_the_longest_beginning_and_e164_begins_with_a_digit_but_0() -> None:
    sample = [one for cdr in calls(e164(N) + in_front("77#", e164(N)), policy()) for one in observed_of(cdr)]
    sample = [one for one in sample if one.side is ChargeSide.SELL]
    known = cohorts(sample, NUMBERING_PLAN)
    assert [cohort.digits for cohort in known] == ["77#", ""]
    found = [cohort_of(number, known) for number in ("77#44", "7744", "0044", "#44", "*44")]
    assert found == [*known, None, None, None]


def test_what_few_of_many_numbers_have_in_front_is_misdialled_and_no_habit() -> None:
    few = in_front("00", e164(FLOOR + 10))
    assert sold([*e164(1_000), *few], policy()) == []
    assert len(sold([*e164(N), *few], policy())) == 1


# --- the table of symptoms ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialled", "strip", "symptom", "should_strip"),
    [
        pytest.param(in_front("00", e164(N)), 0, "not_stripped", 2, id="00-by-0"),
        pytest.param(in_front("011", e164(N)), 0, "not_stripped", 3, id="011-by-0"),
        pytest.param(in_front("9955", e164(N)), 0, "not_stripped", 4, id="tech-prefix-by-0"),
        pytest.param(in_front("77#", e164(N)), 0, "not_stripped", 3, id="tech-prefix-with-mark-by-0"),
        pytest.param(in_front("77*", e164(N)), 0, "not_stripped", 3, id="tech-prefix-with-star-by-0"),
        pytest.param(in_front("0011", e164(N)), 0, "not_stripped", 4, id="australia-0011-by-0"),
        pytest.param(in_front("810", e164(N)), 0, "not_stripped", 3, id="russia-810-by-0"),
        pytest.param(in_front("010", e164(N)), 0, "not_stripped", 3, id="japan-010-by-0"),
        pytest.param(in_front("00", e164(N)), 3, "over_stripped", 2, id="00-by-3"),
        pytest.param(in_front("00", e164(N)), 4, "over_stripped", 2, id="00-by-4"),
        pytest.param(in_front("011", e164(N)), 4, "over_stripped", 3, id="011-by-4"),
        pytest.param(e164(N), 1, "over_stripped", 0, id="e164-by-1"),
        pytest.param(e164(N), 2, "over_stripped", 0, id="e164-by-2"),
        pytest.param(in_front("9955", e164(N)), 5, "over_stripped", 4, id="tech-prefix-by-5"),
        pytest.param(in_front("77#", e164(N)), 4, "over_stripped", 3, id="tech-prefix-with-mark-by-4"),
        pytest.param(in_front("00", e164(N)), 1, "partial_strip", 2, id="00-by-1"),
        pytest.param(in_front("011", e164(N)), 2, "partial_strip", 3, id="011-by-2-reads-as-1"),
        pytest.param(in_front("9955", e164(N)), 2, "partial_strip", 4, id="tech-prefix-by-2"),
        pytest.param(in_front("77#00", e164(N)), 3, "under_stripped", 5, id="tech-prefix-off-00-left"),
        pytest.param(in_front("0011", e164(N)), 1, "under_stripped", 4, id="australia-0-off-011-left"),
        pytest.param(in_front("995500", e164(N)), 4, "under_stripped", 6, id="digits-off-00-left"),
        pytest.param(
            in_front("1010288011", e164(N)), 7, "under_stripped", 10, id="carrier-code-off-011-left"
        ),
    ],
)
def test_a_wrong_strip_length_is_named_with_the_right_one(
    dialled: list[str], strip: int, symptom: str, should_strip: int
) -> None:
    (finding,) = sold(dialled, policy(strip=strip))
    assert (finding.symptom, finding.should_strip) == (symptom, should_strip)
    assert finding.subject == "peer proxy"
    assert finding.calls >= 0.9 * len(dialled)
    [fix] = finding.fixes
    assert (fix.setting, fix.value) == ("billing.strip_digits", str(should_strip))
    assert "SERVER_BILLING_GATEWAY_ROUTE_PREFIX" in fix.text
    assert all(one.should_be == one.number[should_strip:] for one in finding.examples)


def test_0044_by_three_matches_switzerland_and_is_seen() -> None:
    """The trap as it is told: 0044123456789 by 3 gives 4123456789, which matches prefix 41."""
    (finding,) = sold([f"0044123456{last}" for last in range(700, 760)], policy(strip=3))
    assert (finding.symptom, finding.strip, finding.should_strip) == (Symptom.OVER_STRIPPED, 3, 2)
    assert {one.prefix for one in finding.examples} == {"41"}
    assert finding.examples[0].should_be == "4" + (finding.examples[0].billed or "")


def test_manchester_that_reads_as_basel_is_seen_although_both_are_valid() -> None:
    (finding,) = sold([f"0044161{number}" for number in range(4960000, 4962000, 37)], policy(strip=3))
    assert (finding.symptom, finding.should_strip) == (Symptom.OVER_STRIPPED, 2)


@pytest.mark.parametrize(
    ("country", "code", "caller", "added"),
    [
        ("DE", "49", "+493012345678", "49"),
        ("GB", "44", "+442079460123", "44"),
        ("ZA", "27", "anonymous", "CC"),
    ],
)
def test_a_trunk_prefix_stripped_without_country_code_is_seen(
    country: str, code: str, caller: str, added: str
) -> None:
    world = policy(strip=1)
    (finding,) = examined(calls(national(N, country, code), world, callers=[caller]), world)
    assert finding.symptom is Symptom.TRUNK_WITHOUT_COUNTRY_CODE
    [fix] = finding.fixes
    assert fix.value == f'name = "trunk", prefix = "0", strip = 1, add = "{added}"'


def test_0_and_strip_1_read_as_north_america_is_seen() -> None:
    """01234567890 by 1 gives 1234567890, which matches prefix 1."""
    (finding,) = sold([f"0123456{number}" for number in range(7000, 7900, 9)], policy(strip=1))
    assert finding.symptom is Symptom.TRUNK_WITHOUT_COUNTRY_CODE
    assert {one.prefix for one in finding.examples} == {"1"}


def test_a_country_without_trunk_prefix_keeps_its_0() -> None:
    world = policy()
    dialled = [f"06{number}" for number in range(69800000, 69900000, 997)]
    (finding,) = examined(calls(dialled, world, callers=["+390669812345"]), world)
    assert finding.fixes[0].value == 'name = "trunk", prefix = "0", strip = 0, add = "39"'
    assert finding.examples[0].should_be == "39" + finding.examples[0].number


def test_a_rule_that_forgot_the_country_code_is_named_itself() -> None:
    forgot = StripRule(name="national", prefix="0", strip=1)
    (finding,) = sold(
        national(N, "DE", "49") + in_front("00", e164(N)), policy(rules=[forgot, INTERNATIONAL])
    )
    assert (finding.symptom, finding.subject) == (Symptom.TRUNK_WITHOUT_COUNTRY_CODE, "rule national")
    assert (finding.fixes[0].setting, finding.fixes[0].value) == ("strip_rules.national.add", "49")


@pytest.mark.parametrize(
    ("dialled", "strip", "settings_given"),
    [
        pytest.param(
            in_front("00", e164(N)) + in_front("011", e164(N, 1)), 2, ["00", "011"], id="00-and-011"
        ),
        pytest.param(in_front("00", e164(N)) + in_front("011", e164(N, 1)), 0, ["00", "011"], id="neither"),
        pytest.param(in_front("00", e164(N)) + e164(N, 1), 2, ["00", ""], id="00-and-e164"),
        pytest.param(
            in_front("9955", e164(N)) + in_front("00", e164(N, 1)), 4, ["00", "9955"], id="tech-and-00"
        ),
        pytest.param(in_front("00", e164(N)) + national(N, "DE", "49"), 2, ["0", "00"], id="00-and-trunk"),
    ],
)
def test_mixed_prefixes_are_named_with_a_rule_for_each(
    dialled: list[str], strip: int, settings_given: list[str]
) -> None:
    (finding,) = sold(dialled, policy(strip=strip))
    assert finding.symptom is Symptom.MIXED_PREFIXES
    rules = {fix.value for fix in finding.fixes if fix.setting == "[[strip_rules]]"}
    assert len(rules) == len([prefix for prefix in settings_given if prefix])
    assert all(any(f'prefix = "{prefix}"' in rule for rule in rules) for prefix in settings_given if prefix)
    assert any(fix.value == "0" for fix in finding.fixes) == ("" in settings_given)
    assert finding.effect is not None
    assert finding.effect.rated_after == finding.effect.calls


def test_accounts_that_dial_each_in_their_own_way_get_a_length_each() -> None:
    world = policy(strip=2, accounts={"acme": None, "bell": None})
    records = calls(in_front("00", e164(N)), world) + calls(e164(N, 1), world, account="bell")
    (finding,) = examined(records, world)
    assert finding.symptom is Symptom.MIXED_PREFIXES
    assert [(fix.setting, fix.value) for fix in finding.fixes] == [
        ("accounts.acme.strip_digits", "2"),
        ("accounts.bell.strip_digits", "0"),
    ]


def test_numbers_that_cannot_exist_are_told_from_those_that_were_stripped_wrongly() -> None:
    (finding,) = sold([f"21{number}" for number in range(100, 160)], policy())
    assert finding.symptom is Symptom.IMPLAUSIBLE_NUMBERS
    assert (finding.calls, finding.fixes[0].setting) == (60, "")
    world = policy()
    lengths = calls(in_front("+", [f"1212{n}" for n in range(2000, 2040)]), world)
    assert [one.symptom for one in examined(lengths)] == [Symptom.IMPLAUSIBLE_NUMBERS]


def test_a_destination_that_the_deck_lacks_is_named() -> None:
    without = deck("none-of-france", prices={k: v for k, v in PRICES.items() if not k.startswith("33")})
    world = policy(strip=2, sell=without)
    findings = sold(in_front("00", e164(1_000)), world)
    assert {one.symptom for one in findings} == {Symptom.UNRATED_DESTINATION}
    assert all("France" in one.fixes[0].text for one in findings)
    assert findings[0].subject == "sell deck none-of-fran"


def test_a_prefix_shorter_than_the_country_code_is_no_price_of_that_country() -> None:
    world = policy(strip=2, sell=deck(prices={k: v for k, v in PRICES.items() if k != "27"} | {"2": "0.9"}))
    (finding,) = sold(in_front("00", e164(1_000)), world)
    assert finding.symptom is Symptom.IMPLAUSIBLE_RATE
    assert "27" in finding.fixes[0].text


# --- the buy side -------------------------------------------------------------------------------------------


def test_a_gateway_prefix_left_on_what_is_bought_is_that_gateways_under_strip() -> None:
    """As a real record had it: 222 17342625719 rated by prefix 2, where 17342625719 was received."""
    world = policy(gateways={"carrier-2": 0}, buy=deck("buy", "USD", PRICES | {"2": "0.5"}))
    one = calls(["17342625719"], world, gateway="carrier-2", sent=["22217342625719"])
    others = calls(in_front("+", e164(N)), world, gateway="carrier-2")
    (finding,) = examined([*one, *others], world)
    assert (finding.symptom, finding.subject, finding.side) == ("under_stripped", "gateway carrier-2", "buy")
    assert (finding.strip, finding.should_strip, finding.calls) == (0, 3, 1)
    assert (finding.fixes[0].setting, finding.fixes[0].value) == ("gateways.carrier-2.strip_digits", "3")
    [example] = finding.examples
    assert (example.number, example.prefix, example.should_be) == ("22217342625719", "2", "17342625719")


def test_many_of_them_are_one_finding_with_what_it_costs() -> None:
    numbers = e164(N)
    world = policy(gateways={"carrier-2": 0, "carrier-3": 3}, buy=deck("buy", "USD"))
    records = calls(numbers, world, gateway="carrier-2", sent=in_front("222", numbers))
    records += calls(numbers, world, gateway="carrier-3", sent=in_front("333", numbers))
    (finding,) = examined(records, world)
    assert (finding.subject, finding.should_strip, finding.calls) == ("gateway carrier-2", 3, N)
    assert finding.effect is not None
    assert (finding.effect.rated_before, finding.effect.rated_after) == (0, N)
    bought = [line for cdr in records[N:] for line in cdr.charges if line.side is ChargeSide.BUY]
    assert Fraction(finding.effect.after["USD"]) == sum(Fraction(line.total or 0) for line in bought)


def test_a_deck_that_is_keyed_by_the_gateways_prefix_means_it() -> None:
    numbers = e164(N)
    keyed = deck("buy", "USD", {"222" + prefix: price for prefix, price in PRICES.items()})
    world = policy(gateways={"carrier-2": 0}, buy=keyed)
    assert examined(calls(numbers, world, gateway="carrier-2", sent=in_front("222", numbers)), world) == []


# --- what it says of each -----------------------------------------------------------------------------------


def test_what_the_fix_would_change_is_told_in_calls_and_money_per_currency() -> None:
    numbers = e164(N)
    wrong, right = policy(strip=3), policy(strip=2)
    records = calls(in_front("00", numbers), wrong)
    (finding,) = examined(records, wrong)
    effect = finding.effect
    assert effect is not None
    assert effect.calls == N
    for told, world in ((effect.before, wrong), (effect.after, right)):
        lines = [cdr.charges[0] for cdr in calls(in_front("00", numbers), world)]
        assert {"EUR": sum(Fraction(line.total or 0) for line in lines)} == {
            currency: Fraction(amount) for currency, amount in told.items()
        }


def test_evidence_has_counts_the_share_the_period_and_calls_to_look_at() -> None:
    world = policy(peers={"good": 2, "bad": 0})
    good, bad = (calls(in_front("00", e164(N)), world, peer=peer) for peer in ("good", "bad"))
    (finding,) = examined(good + bad, world)
    assert (finding.subject, finding.calls, finding.of, finding.numbers) == ("peer bad", N, N, N)
    assert finding.share == 1.0
    assert (finding.first_at, finding.last_at) == (bad[0].invited_at, bad[-1].invited_at)
    assert {one.call_id for one in finding.examples} <= {cdr.call_id for cdr in bad}
    assert len(finding.examples) == 5
    assert (finding.fixes[0].setting, finding.fixes[0].value) == ("peers.bad.strip_digits", "2")


def test_an_account_s_own_length_is_the_setting_that_is_named() -> None:
    (finding,) = sold(in_front("00", e164(N)), policy(strip=2, accounts={"acme": 0}))
    assert finding.fixes[0].setting == "accounts.acme.strip_digits"


def test_of_two_senders_under_the_global_length_only_the_one_that_is_wrong_gets_its_own() -> None:
    world = policy(strip=2, peers={"a": None, "b": None})
    records = calls(in_front("00", e164(N)), world, peer="a") + calls(
        in_front("011", e164(N)), world, peer="b"
    )
    (finding,) = examined(records, world)
    assert (finding.fixes[0].setting, finding.fixes[0].value) == ("peers.b.strip_digits", "3")


# --- silence ------------------------------------------------------------------------------------------------

CLEAN = {
    "e164": (e164(1_000), policy()),
    "e164 with +": (in_front("+", e164(1_000)), policy(strip=2)),
    "00": (in_front("00", e164(1_000)), policy(strip=2)),
    "011": (in_front("011", e164(1_000)), policy(strip=3)),
    "0011": (in_front("0011", e164(1_000)), policy(strip=4)),
    "technical prefix": (in_front("9955", e164(1_000)), policy(strip=4)),
    "technical prefix with mark": (in_front("77#", e164(1_000)), policy(strip=3)),
    "technical prefix, then 00": (in_front("99500", e164(1_000)), policy(strip=5)),
    "carrier selection": (in_front("1010288", e164(1_000)), policy(strip=7)),
    "outside line 9": (in_front("9", e164(1_000)), policy(strip=1)),
    "outside line 9, to the US alone": (in_front("9", e164(1_000, 0, ("US",))), policy(strip=1)),
    "outside line 0": (in_front("0", e164(1_000)), policy(strip=1)),
    "00 and +": (in_front("00", e164(500)) + in_front("+", e164(500, 1)), policy(strip=2)),
    "rules": (
        in_front("00", e164(500)) + national(500, "DE", "49") + in_front("+", e164(500, 1)) + e164(500, 2),
        policy(rules=[INTERNATIONAL, GERMAN]),
    ),
    "a deck keyed with 00": (
        in_front("00", e164(1_000)),
        policy(sell=deck("k", prices={"00" + k: v for k, v in PRICES.items()})),
    ),
}


@pytest.mark.parametrize("name", CLEAN)
def test_a_right_setting_is_passed_over_in_silence_whatever_a_few_callers_dial(name: str) -> None:
    dialled, world = CLEAN[name]
    assert sold([*dialled, *misdialled(len(dialled) // 30)], world) == []


@pytest.mark.parametrize("country", ["GB", "DE", "US", "FR", "IT", "ES", "IN", "BR", "CN", "CH", "ZA"])
@pytest.mark.parametrize(("front", "strip"), [("", 0), ("00", 2), ("011", 3), ("9955", 4), ("77#", 3)])
def test_traffic_to_one_country_alone_is_no_finding(country: str, front: str, strip: int) -> None:
    assert sold(in_front(front, e164(300, 0, (country,))), policy(strip=strip)) == []


# A code and a deck of one country alone, whose ranges the tables know badly or not at all: Solomon Islands,
# Niue, Tonga, Palau, Saint Helena. Germans who dial 067740000 may mean Nochern, but here nobody sells it.
@pytest.mark.parametrize("number", ["67740000", "6834000", "67620000", "6807750000", "29022000"])
@pytest.mark.parametrize("caller", ["+493012345678", "anonymous"])
def test_an_outside_line_0_to_one_island_is_no_finding(number: str, caller: str) -> None:
    made = random.Random(number)
    digits = len(number) - 4
    numbers = {number[:4] + "".join(made.choices("0123456789", k=digits)) for _ in range(200)}
    world = policy(strip=1, sell=deck("island", prices={number[:3]: "0.90"}))
    records = calls(in_front("0", sorted(numbers)), world, callers=(caller,))
    assert len(numbers) >= FLOOR
    assert examined(records, world) == []


def test_several_carriers_each_in_its_own_way_are_passed_over_in_silence() -> None:
    peers = {"pbx": 1, "wholesale": 4, "retail": 2, "us": 3, "plain": 0}
    gateways = {"g1": 0, "g2": 3}
    world = policy(peers=peers, gateways=gateways, buy=deck("buy", "USD"))
    records = []
    fronts = {"pbx": "9", "wholesale": "9955", "retail": "00", "us": "011", "plain": ""}
    for seed, (peer, front) in enumerate(fronts.items()):
        numbers = e164(600, seed)
        dialled = in_front(front, numbers)
        records += calls(dialled, world, peer=peer, gateway="g1", sent=numbers, seed=1)
        records += calls(dialled, world, peer=peer, gateway="g2", sent=in_front("555", numbers), seed=2)
    assert examined(records, world) == []


@pytest.mark.parametrize("front", ["00", "011", "0", "9955", "222", ""])
@pytest.mark.parametrize("strip", [0, 1, 2, 5])
def test_below_the_floor_nothing_is_concluded(front: str, strip: int) -> None:
    assert sold(in_front(front, e164(FLOOR - 1)), policy(strip=strip)) == []


def test_one_number_dialled_a_thousand_times_is_one_number() -> None:
    assert sold(["00442079460123"] * 1_000, policy()) == []


def test_a_minute_of_refusals_in_one_record_is_no_call() -> None:
    world = policy()
    [cdr] = calls(["00442079460123"], world)
    aggregated = replace(cdr, disposition=Disposition.REFUSED_AGGREGATE, refused_count=9)
    assert list(observed_of(aggregated)) == []


@settings(max_examples=150, deadline=None)
@given(st.lists(cdrs(), max_size=FLOOR - 1))
def test_no_record_whatever_makes_it_raise_or_speak_below_the_floor(records: list[Cdr]) -> None:
    world = policy()
    assert [one for one in examined(records, world) if one.symptom is not Symptom.UNDER_STRIPPED] == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text("0123456789+#*%;a", min_size=1, max_size=20), min_size=FLOOR, max_size=80),
    st.integers(0, 6),
)
def test_no_digits_whatever_make_it_raise(dialled: list[str], strip: int) -> None:
    for finding in sold(dialled, policy(strip=strip)):
        assert 0 < finding.calls <= finding.of
        assert finding.fixes
        assert finding.text


def test_amounts_of_two_currencies_are_told_apart() -> None:
    both = deck("two", prices={k: v for k, v in PRICES.items() if k[0] != "1"})
    dollars = deck("usd", "USD", {"1": "0.01"})
    sell = type(both)("two", [*both, *dollars])
    (finding,) = sold(in_front("00", e164(N)), policy(strip=0, sell=sell))
    assert finding.effect is not None
    assert set(finding.effect.after) == {"EUR", "USD"}
    assert all(amount > 0 for amount in finding.effect.after.values())
