"""Which parts of a sender's numbers count as stripped wrongly, and what is said of them; by a small plan."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from sidecar.core.doctor import Finding, NumberingPlan, Observed, Standing
from sidecar.core.doctor.cohorts import Cohort, Kind
from sidecar.core.doctor.diagnosis import NO_BOOK
from sidecar.core.doctor.effects import Book
from sidecar.core.doctor.strips import (
    Sender,
    _reads_worse,
    _symptom,
    contradictions,
    finding,
    senders,
    strip_findings,
)
from sidecar.core.doctor.vocabulary import Effect, Example, Fix, Symptom
from sidecar.core.rating import RatingTerms
from sidecar.core.tariff import Deck, Rate, parse_steps
from sidecar.core.terms import ChargeSide
from tests.core.test_doctor_destinations import AT, BUY, PLAN, SELL, numbers, one

NONE, POSSIBLE, VALID = Standing.NONE, Standing.POSSIBLE, Standing.VALID
ACCESS = Cohort(kind=Kind.ACCESS, digits="00", strip=2)
MARKED = Cohort(kind=Kind.TECHNICAL, digits="77#", strip=3)
LEARNED = Cohort(kind=Kind.TECHNICAL, digits="9955", strip=4)
TRUNK = Cohort(kind=Kind.TRUNK, digits="0", strip=1)
GERMAN = Cohort(kind=Kind.TRUNK, digits="0", strip=1, add="49")
BY_49 = Deck("now", [Rate(prefix="49", currency="EUR", steps=parse_steps("0:0.1/60/60"))])
SOLD_49: Book = lambda _: (BY_49, RatingTerms())  # noqa: E731


def dialled(
    front: str, strip: int, count: int = 20, *, first: int = 0, begin: str = "49", **fields: Any
) -> list[Observed]:
    """Calls to different numbers with `front` before them, of which so many digits were stripped."""
    return [
        one(first + place, front + number, **{"billed": (front + number)[strip:] or None, **fields})
        for place, number in enumerate(numbers(count, begin))
    ]


def national(strip: int, count: int = 20, first: int = 0, **fields: Any) -> list[Observed]:
    """0 in the place of 49."""
    return [
        one(first + place, f"0{number[2:]}", **{"billed": f"0{number[2:]}"[strip:], **fields})
        for place, number in enumerate(numbers(count, "491"))
    ]


def sender(
    calls: list[Observed],
    side: ChargeSide = SELL,
    kind: str = "global",
    name: str = "proxy",
    alone: bool = True,
) -> Sender:
    return Sender(side=side, kind=kind, name=name, calls=tuple(calls), alone=alone)


def found(calls: list[Observed], book: Book = NO_BOOK, **of: Any) -> list[Finding]:
    return strip_findings(sender(calls, **of), PLAN, book)[0]


# --- whose numbers they are ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "kind", "alone", "subject", "setting"),
    [
        (SELL, "account", False, "account it", "accounts.it.strip_digits"),
        (SELL, "rule", False, "rule it", "strip_rules.it.strip"),
        (BUY, "gateway", False, "gateway it", "gateways.it.strip_digits"),
        (SELL, "peer", False, "peer it", "peers.it.strip_digits"),
        (SELL, "global", False, "peer it", "peers.it.strip_digits"),
        (SELL, "global", True, "peer it", "billing.strip_digits"),
        (BUY, "e164", False, "gateway it", "peers.it.strip_digits"),
    ],
)
def test_a_sender_is_named_by_the_setting_of_its_length(
    side: ChargeSide, kind: str, alone: bool, subject: str, setting: str
) -> None:
    it = sender([], side, kind, "it", alone)
    assert (it.subject, it.setting) == (subject, setting)


def test_charges_are_grouped_by_the_setting_that_their_length_comes_from() -> None:
    calls = [
        one(0, "1", rule="rule:trunk"),
        one(1, "1", rule="peer"),
        one(2, "1", rule="global"),
        one(3, "1", rule="account"),
        one(4, "1", rule="e164"),
        one(5, "1", rule="phone_context"),
        one(6, "1", rule="routing_number", sender="other"),
        one(7, "1", rule="global", side=BUY, sender="carrier"),
        one(8, "1", rule="global"),
    ]
    told = [(it.side, it.kind, it.name, len(it.calls), it.alone) for it in senders(calls)]
    assert told == [
        ("buy", "gateway", "carrier", 1, False),
        ("sell", "account", "acme", 1, False),
        ("sell", "e164", "other", 1, False),
        ("sell", "e164", "proxy", 2, False),
        ("sell", "global", "proxy", 2, True),
        ("sell", "peer", "proxy", 1, False),
        ("sell", "rule", "trunk", 1, False),
    ]
    two = senders([*calls, one(9, "1", sender="other")])
    assert [it.alone for it in two if it.kind == "global"] == [False, False]


# --- which numbers read worse than they ought to ------------------------------------------------------------


def worse(
    *parts: tuple[int, Standing, Standing], cohort: Cohort = ACCESS, strip: int | None = 0, codes: int = 1
) -> bool:
    """Of so many numbers each: how well they read as they ought to be, and how well as they were billed."""
    known: dict[str, Standing] = {}
    sample: list[Observed] = []
    for count, meant, billed in parts:
        for _ in range(count):
            place = len(sample)
            number = f"{cohort.digits}{place % codes + 10}{place:04}"
            known[cohort.should_be(number)], known[f"9{place:04}"] = meant, billed
            sample.append(one(place, number, billed=f"9{place:04}"))
    plan = NumberingPlan(
        standing=lambda number: known.get(number, NONE),
        country_code=lambda number: number[:2],
        area=lambda _: "",
    )
    return _reads_worse(sample, cohort, strip, plan)


def test_seven_of_ten_must_read_worse_and_hardly_any_better() -> None:
    assert worse((14, VALID, NONE), (6, NONE, NONE))
    assert not worse((13, VALID, NONE), (7, NONE, NONE))
    assert worse((14, POSSIBLE, NONE), (2, NONE, VALID), (4, NONE, NONE))
    assert not worse((14, POSSIBLE, NONE), (3, NONE, VALID), (3, NONE, NONE))
    assert not worse((12, VALID, NONE), (2, POSSIBLE, VALID), (6, NONE, NONE))


@pytest.mark.parametrize(
    ("cohort", "strip", "is_wrong"),
    [
        (ACCESS, 3, True),
        (ACCESS, None, False),
        (MARKED, 4, True),
        (Cohort(kind=Kind.TECHNICAL, digits="7*", strip=2), 3, True),
        (LEARNED, 5, False),
        (GERMAN, 0, True),
    ],
    ids=str,
)
def test_where_both_read_equally_well_a_code_in_front_decides(
    cohort: Cohort, strip: int | None, is_wrong: bool
) -> None:
    assert worse((20, VALID, VALID), cohort=cohort, strip=strip) == is_wrong
    assert not worse((20, NONE, NONE), cohort=cohort, strip=strip)


def test_what_is_possible_as_billed_is_wrong_without_a_code_in_four_countries_alone() -> None:
    assert worse((20, VALID, POSSIBLE), cohort=LEARNED, codes=4)
    assert not worse((20, VALID, POSSIBLE), cohort=LEARNED, codes=3)
    assert worse((20, VALID, POSSIBLE), cohort=MARKED)
    assert worse((20, VALID, NONE), cohort=LEARNED)
    assert worse((4, VALID, POSSIBLE), (10, VALID, NONE), (6, NONE, NONE), cohort=LEARNED, codes=4)
    assert not worse((10, VALID, POSSIBLE), (10, NONE, NONE), cohort=LEARNED, codes=4)
    assert not worse((20, VALID, VALID), cohort=LEARNED, codes=4)


def test_what_was_billed_as_it_ought_to_be_is_not_wrong() -> None:
    right = dialled("00", 2)
    assert not _reads_worse(right, ACCESS, 2, PLAN)
    assert _reads_worse([*right[:6], *dialled("00", 0, 14, first=20)], ACCESS, 2, PLAN)


def test_behind_a_trunk_prefix_of_a_country_that_is_not_known_what_is_valid_is_right() -> None:
    assert worse((14, NONE, POSSIBLE), (6, NONE, VALID), cohort=TRUNK)
    assert not worse((13, NONE, NONE), (7, NONE, VALID), cohort=TRUNK)


@pytest.mark.parametrize(
    ("side", "cohort", "strip", "symptom"),
    [
        (SELL, ACCESS, 0, "not_stripped"),
        (SELL, ACCESS, 1, "partial_strip"),
        (SELL, ACCESS, 3, "over_stripped"),
        (SELL, Cohort(kind=Kind.TECHNICAL, digits="77#00", strip=5), 3, "under_stripped"),
        (SELL, Cohort(kind=Kind.TECHNICAL, digits="77#00", strip=5), 2, "partial_strip"),
        (BUY, ACCESS, 0, "under_stripped"),
        (BUY, ACCESS, 1, "under_stripped"),
        (BUY, ACCESS, 3, "over_stripped"),
        (SELL, GERMAN, 0, "trunk_without_country_code"),
        (SELL, GERMAN, 1, "trunk_without_country_code"),
        (SELL, GERMAN, 2, "over_stripped"),
    ],
    ids=str,
)
def test_what_a_wrong_length_is_called(side: ChargeSide, cohort: Cohort, strip: int, symptom: str) -> None:
    assert _symptom(sender([], side), cohort, strip, []) == symptom


@pytest.mark.parametrize(
    ("billed", "symptom"),
    [
        (None, "not_stripped"),
        ("49493012", "not_stripped"),
        ("949493012", "not_stripped"),
        ("9493012", "partial_strip"),
        ("1493012"[:6], "partial_strip"),
        ("93013", "over_stripped"),
    ],
)
def test_where_the_digits_do_not_show_it_the_lengths_tell(billed: str | None, symptom: str) -> None:
    assert _symptom(sender([]), ACCESS, None, [one(0, "00493012", billed=billed)]) == symptom
    calls = [one(0, "00493012", billed=billed), one(1, "00493012", billed="4" * 20)]
    assert _symptom(sender([]), ACCESS, None, calls) == symptom


def test_a_national_number_of_which_nothing_was_billed_lacks_a_country_code() -> None:
    nothing = [one(0, "0493012", billed=None)]
    assert _symptom(sender([]), GERMAN, None, nothing) == "trunk_without_country_code"


# --- what is said -------------------------------------------------------------------------------------------


def test_all_that_is_said_of_a_wrong_length() -> None:
    calls = dialled("00", 0, 25)
    more = dialled("00", 2, 5, first=100, begin="491")
    [told] = found([*calls, *more], SOLD_49)
    assert told == Finding(
        symptom=Symptom.NOT_STRIPPED,
        side=SELL,
        subject="peer proxy",
        text="numbers that begin with 00 want 2 stripped, 0 were: digits that are not the number's own were "
        "left on it",
        calls=25,
        of=30,
        numbers=25,
        first_at=AT,
        last_at=AT + timedelta(seconds=24),
        examples=tuple(
            Example(
                call_id=calls[place].call_id,
                number=calls[place].number,
                billed=calls[place].number,
                prefix="49",
                should_be=calls[place].number[2:],
            )
            for place in (0, 5, 10, 15, 20)
        ),
        fixes=(
            Fix(
                text="set billing.strip_digits to 2 (SERVER_BILLING_GATEWAY_ROUTE_PREFIX)",
                setting="billing.strip_digits",
                value="2",
            ),
        ),
        digits="00",
        strip=0,
        should_strip=2,
        effect=Effect(
            calls=30,
            changed=25,
            rated_before=5,
            rated_after=30,
            before={"EUR": Decimal(0)},
            after={"EUR": Decimal(0)},
        ),
    )


def test_at_most_five_calls_are_shown_evenly_and_the_latest_of_a_number() -> None:
    few = [one(0, "1"), one(1, "1"), one(2, "2")]
    told = finding(Symptom.NOT_STRIPPED, sender(few), few, "text", [])
    assert [example.call_id for example in told.examples] == [few[1].call_id, few[2].call_id]
    assert (told.calls, told.of, told.numbers, told.subject) == (3, 3, 2, "peer proxy")
    assert (told.first_at, told.last_at) == (AT, AT + timedelta(seconds=2))
    assert [example.should_be for example in told.examples] == [None, None]
    many = [one(place, str(100 + place)) for place in range(14)]
    told = finding(Symptom.NOT_STRIPPED, sender(many), many, "text", [], subject="it", of=99)
    assert [example.number for example in told.examples] == ["100", "102", "104", "106", "108"]
    assert (told.subject, told.of) == ("it", 99)


@pytest.mark.parametrize(
    ("calls", "text"),
    [
        (
            dialled("00", 3),
            "numbers that begin with 00 want 2 stripped, 3 were: digits of the number itself are gone",
        ),
        (dialled("", 1), "numbers in E.164 want 0 stripped, 1 were: digits of the number itself are gone"),
        (
            dialled("77#", 0, billed=None),
            (
                "numbers that begin with 77# want 3 stripped, and nothing was left to bill: digits that are "
                "not the number's own were left on it"
            ),
        ),
        (
            national(0, prefix=None),
            (
                "numbers that begin with 0 are national: without a country code in place of the trunk prefix "
                "they are read as numbers of another country, or as none"
            ),
        ),
    ],
)
def test_the_text_says_what_they_want_and_got(calls: list[Observed], text: str) -> None:
    assert [one.text for one in found(calls)] == [text]


def test_below_twenty_numbers_that_were_stripped_alike_nothing_is_said() -> None:
    assert found([*dialled("00", 0, 19), *dialled("00", 2, 20, first=100, begin="491")]) == []
    assert len(found([*dialled("00", 0, 20), *dialled("00", 2, 20, first=100, begin="491")])) == 1


def test_the_part_with_the_most_calls_comes_first() -> None:
    calls = [*dialled("00", 0, 20), *dialled("00", 1, 30, first=100, begin="491", prefix=None)]
    assert [(one.symptom, one.calls) for one in found(calls)] == [("partial_strip", 30), ("not_stripped", 20)]


def test_numbers_with_a_plus_have_no_length() -> None:
    assert strip_findings(sender(dialled("00", 0), kind="e164"), PLAN, NO_BOOK) == ([], [])


def test_calls_whose_deck_has_the_digits_are_explained_and_no_finding() -> None:
    keyed = dialled("00", 0, prefix="0049")
    assert strip_findings(sender(keyed), PLAN, NO_BOOK) == ([], keyed)
    wrong = dialled("00", 0)
    assert strip_findings(sender(wrong), PLAN, NO_BOOK)[1] == wrong
    assert found([*keyed, *dialled("", 0, first=100, begin="491")]) == [], "two lengths, and both are right"


def test_calls_to_what_is_no_number_are_counted_and_left_alone() -> None:
    service = one(500, "#1", billed="#1")
    [told] = found([*dialled("00", 0), service], SOLD_49)
    assert (told.calls, told.of) == (20, 21)
    [told] = found([*dialled("00", 2), *dialled("", 2, first=100, begin="491"), service], SOLD_49)
    assert told.effect is not None
    assert (told.calls, told.effect.calls, told.effect.rated_after) == (20, 41, 40)


# --- trunk prefixes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "caller", "fix"),
    [
        (
            {},
            "4930",
            Fix(
                text='a strip rule: name = "trunk", prefix = "0", strip = 1, add = "49"',
                setting="[[strip_rules]]",
                value='name = "trunk", prefix = "0", strip = 1, add = "49"',
            ),
        ),
        (
            {},
            None,
            Fix(
                text='a strip rule: name = "trunk", prefix = "0", strip = 1, add = "CC", with your country '
                "code for CC",
                setting="[[strip_rules]]",
                value='name = "trunk", prefix = "0", strip = 1, add = "CC"',
            ),
        ),
        (
            {"kind": "rule", "name": "home"},
            "4930",
            Fix(text='strip_rules.home: strip = 1, add = "49"', setting="strip_rules.home.add", value="49"),
        ),
        (
            {"kind": "rule", "name": "home"},
            None,
            Fix(
                text='strip_rules.home: strip = 1, add = "CC", with your country code for CC',
                setting="strip_rules.home.add",
                value="CC",
            ),
        ),
        (
            {"kind": "gateway", "name": "carrier", "side": BUY},
            "4930",
            Fix(text="send carrier international numbers: a gateway's strip length adds no country code"),
        ),
    ],
)
def test_a_trunk_prefix_wants_a_rule_with_a_country_code(
    of: dict[str, Any], caller: str | None, fix: Fix
) -> None:
    [told] = found(national(1, caller=caller), **of)
    assert told.symptom == "trunk_without_country_code"
    assert told.fixes == (fix,)
    assert (told.digits, told.strip, told.should_strip) == ("0", 1, 1)
    meant = {example.should_be for example in told.examples}
    assert meant == ({None} if caller is None else {f"49{one.number[1:]}" for one in told.examples})


def test_a_country_code_that_leaves_every_call_without_a_rate_is_not_proposed() -> None:
    calls = national(1, caller="4930")
    elsewhere = Deck("now", [Rate(prefix="1", currency="EUR", steps=parse_steps("0:0.1/60/60"))])
    assert found(calls, lambda _: (elsewhere, RatingTerms())) == []
    both = Deck("now", [*elsewhere, *BY_49])
    [told] = found(calls, lambda _: (both, RatingTerms()))
    assert told.effect is not None
    assert (told.effect.rated_before, told.effect.rated_after) == (20, 20)
    [told] = found(national(1), SOLD_49)  # of which country is not known: they stay as they are
    assert told.effect is not None
    assert (told.effect.changed, told.effect.rated_after) == (0, 0)
    [told] = found(national(0, prefix=None), lambda _: (elsewhere, RatingTerms()))
    assert told.effect is not None
    assert told.effect.changed == 0


def test_a_length_that_leaves_every_call_without_a_rate_is_proposed() -> None:
    coded = Deck("now", [Rate(prefix="00", currency="EUR", steps=parse_steps("0:0.1/60/60"))])
    [told] = found(dialled("00", 0, prefix="00"), lambda _: (coded, RatingTerms()))
    assert told.effect is not None
    assert (told.effect.rated_before, told.effect.rated_after) == (20, 0)


# --- numbers of different make ------------------------------------------------------------------------------


def test_all_that_is_said_where_numbers_of_different_make_share_a_length() -> None:
    coded, plain = dialled("00", 2), dialled("", 2, first=100, begin="491")
    [told] = found([*coded, *plain], SOLD_49)
    assert (told.symptom, told.calls, told.of) == ("mixed_prefixes", 20, 40)
    assert told.text == (
        "numbers of different make share one strip length: numbers that begin with 00 want 2 stripped; "
        "numbers in E.164 want 0 stripped"
    )
    value = 'name = "begins-00", prefix = "00", strip = 2'
    assert told.fixes == (
        Fix(text=f"a strip rule: {value}", setting="[[strip_rules]]", value=value),
        Fix(
            text="set billing.strip_digits to 0 (SERVER_BILLING_GATEWAY_ROUTE_PREFIX)",
            setting="billing.strip_digits",
            value="0",
        ),
    )
    assert {example.should_be for example in told.examples} == {one.number for one in told.examples}
    assert told.effect is not None
    assert (told.effect.changed, told.effect.rated_after) == (20, 40)
    assert (told.digits, told.strip, told.should_strip) == ("", None, None)
    [told] = found([*dialled("00", 0), *dialled("", 0, first=100, begin="491")])
    assert {example.should_be for example in told.examples} == {one.number[2:] for one in told.examples}


def test_a_trunk_prefix_that_was_stripped_too_far_is_of_another_make() -> None:
    calls = [*dialled("77#", 3, first=100), *national(2, caller="4930")]
    [told] = found(calls)
    assert told.symptom == "mixed_prefixes"
    assert "numbers that begin with 0 want 1 stripped and 49 added" in told.text
    assert [fix.value for fix in told.fixes] == [
        'name = "begins-77x", prefix = "77#", strip = 3',
        'name = "trunk", prefix = "0", strip = 1, add = "49"',
    ]
    [alone] = found(national(2, caller="4930"))
    assert alone.symptom == "over_stripped"
    [both] = found([*dialled("77#", 0, first=100), *national(2, caller="4930")])
    assert (both.symptom, both.calls) == ("mixed_prefixes", 40)


def test_national_numbers_are_told_apart_from_the_mixture() -> None:
    calls = [
        *dialled("00", 2),
        *dialled("", 2, first=100, begin="491"),
        *national(1, first=200, caller="4930"),
    ]
    told = found(calls)
    assert [one.symptom for one in told] == ["mixed_prefixes", "trunk_without_country_code"]


def test_a_gateway_has_one_length_so_each_make_wants_an_entry() -> None:
    calls = [*dialled("00", 2), *dialled("", 2, first=100, begin="491")]
    [told] = found(calls, side=BUY, kind="gateway", name="carrier")
    assert told.fixes == (
        Fix(
            text="a gateway has one strip length: route each kind of number to a gateway entry of its own, "
            "with its own strip_digits (00: 2, E.164: 0)"
        ),
    )


def by_account(*accounts: str, first: str = "acme") -> list[Observed]:
    coded = dialled("00", 2, account=first)
    return [*coded, *(
        one(100 + place, number, billed=number[2:], account=accounts[place % len(accounts)])
        for place, number in enumerate(numbers(60, "491"))
    )]  # fmt: skip


def test_accounts_that_dial_each_in_one_way_get_a_length_each() -> None:
    [told] = found(by_account("bell"))
    assert told.fixes == (
        Fix(text="set accounts.acme.strip_digits to 2", setting="accounts.acme.strip_digits", value="2"),
        Fix(text="set accounts.bell.strip_digits to 0", setting="accounts.bell.strip_digits", value="0"),
    )
    assert found(by_account("bell"), kind="peer", alone=False)[0].fixes == told.fixes
    for kind in ("rule", "account"):
        assert all(
            "accounts.bell" not in fix.setting for fix in found(by_account("bell"), kind=kind)[0].fixes
        )
    assert found(by_account("acme"))[0].fixes[0].setting == "[[strip_rules]]", "one account, two ways"
    [told] = found([*dialled("00", 2), *dialled("", 2, 380, first=100, begin="491")])
    assert told.fixes[0].setting == "[[strip_rules]]", "there is one account alone"
    [told] = found([*by_account("bell"), *national(2, first=300, account="carl", caller="4930")])
    assert told.fixes[0].setting == "[[strip_rules]]", "a length adds no country code"
    assert len(found(by_account(*(f"a{number}" for number in range(19))))[0].fixes) == 20
    assert len(found(by_account(*(f"a{number}" for number in range(20))))[0].fixes) == 2


@pytest.mark.parametrize(("own", "other", "settled"), [(19, 1, True), (18, 1, False)])
def test_a_twentieth_of_an_account_s_calls_may_be_dialled_otherwise(
    own: int, other: int, settled: bool
) -> None:
    calls = [
        *dialled("00", 2, 20, account="bell"),
        *dialled("", 2, 40 - own, first=100, begin="491", account="carl"),
        *dialled("", 2, own, first=200, begin="492"),
        *dialled("00", 2, other, first=300, begin="493"),
    ]
    [told] = found(calls)
    assert (told.fixes[0].setting == "accounts.acme.strip_digits") == settled


# --- digits that the record itself proves -------------------------------------------------------------------


def bought(number: str, other: str | None, place: int = 0, **fields: Any) -> Observed:
    return one(place, number, side=BUY, other=other, **{"prefix": None, **fields})


def proved(*calls: Observed, kind: str = "gateway", book: Book = NO_BOOK) -> list[Finding]:
    return contradictions(sender([*calls], BUY, kind, "carrier"), PLAN, book)[0]


RIGHT = numbers(2)[1]


@pytest.mark.parametrize(
    "call",
    [
        bought(RIGHT, RIGHT),
        bought(f"222{RIGHT}", None),
        bought(f"222{RIGHT}", RIGHT, billed=RIGHT),
        bought(f"222{RIGHT}", RIGHT, billed=RIGHT[1:]),
        bought(f"222{RIGHT}1", RIGHT),
        bought(f"222{RIGHT}", RIGHT, prefix="2224"),
        bought(f"222{RIGHT[1:]}", RIGHT[1:]),
        bought(f"262{RIGHT[:-3]}", RIGHT[:-3]),
    ],
)
def test_what_proves_nothing(call: Observed) -> None:
    assert proved(call) == []


def test_one_call_proves_the_digits_that_were_left_on_its_number() -> None:
    [told] = proved(bought(f"222{RIGHT}", RIGHT), bought("1", None, 9))
    assert (told.symptom, told.digits, told.strip, told.should_strip) == ("under_stripped", "222", 0, 3)
    assert (told.calls, told.of, told.subject) == (1, 2, "gateway carrier")
    assert told.fixes == (
        Fix(
            text="set gateways.carrier.strip_digits to 3", setting="gateways.carrier.strip_digits", value="3"
        ),
    )
    assert proved(bought(f"222{RIGHT}", RIGHT), kind="peer") == []
    [partly] = proved(bought(f"222{RIGHT}", RIGHT, billed=f"2{RIGHT}"))
    assert (partly.strip, partly.digits) == (2, "222")
    [added] = proved(bought(f"222{RIGHT}", RIGHT, billed=None))
    assert (added.strip, added.text.count("nothing was left to bill")) == (None, 1)
    assert [one.digits for one in proved(bought(f"2{RIGHT}", RIGHT, billed=None))] == ["2"]


def test_what_is_a_number_with_the_digits_in_front_proves_nothing() -> None:
    every = NumberingPlan(
        standing=lambda number: VALID if number else NONE, country_code=lambda _: "", area=lambda _: ""
    )
    carrier = sender([bought(f"222{RIGHT}", RIGHT)], BUY, "gateway", "carrier")
    assert contradictions(carrier, every, NO_BOOK) == ([], [])


def test_digits_of_two_kinds_are_two_findings_each_with_its_own_calls() -> None:
    calls = [
        bought(f"{front}{number}", number, place)
        for place, (front, number) in enumerate(
            [("333", RIGHT), ("222", RIGHT), ("333", numbers(3)[2]), ("222", numbers(4)[3])]
        )
    ]
    calls.append(bought(calls[2].number, calls[2].other, 8, billed=calls[2].number[1:]))
    told, explained = contradictions(sender(calls, BUY, "gateway", "carrier"), PLAN, SOLD_49)
    assert [(one.digits, one.calls, one.strip) for one in told] == [("222", 2, 0), ("333", 3, 0)]
    assert [one.effect and (one.effect.calls, one.effect.rated_after) for one in told] == [(2, 2), (3, 3)]
    assert {one.call_id for one in explained} == {one.call_id for one in calls}
    [together] = proved(
        *[one for one in calls if one.number.startswith("222")], bought(RIGHT, RIGHT, 9), book=SOLD_49
    )
    assert together.effect is not None
    assert together.effect.calls == 3, "the length would hold for all of them"
