from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.numbers import (
    BilledNumber,
    NumberParameters,
    StripPlan,
    StripRule,
    billed_number,
    mask,
    matches_list,
    normalise,
    number_parameters,
)
from sidecar.core.terms import RateBy

TRUNK = StripRule(name="trunk-de", prefix="0", strip=1, add="49")
INTERNATIONAL = StripRule(name="int", prefix="00", strip=2)
TECH = StripRule(name="tech", prefix="#77*", strip=4)


@pytest.mark.parametrize(
    ("dialled", "strip", "billed"),
    [
        ("0044123456789", 2, "44123456789"),
        ("01144123456789", 3, "44123456789"),
        ("01234567890", 1, "1234567890"),
        ("44123456789", 0, "44123456789"),
    ],
)
def test_the_global_length_strips_as_the_reference_table_says(dialled: str, strip: int, billed: str) -> None:
    number = billed_number(dialled, StripPlan(global_strip=strip))
    assert number == BilledNumber(
        received=dialled, normalised=dialled, billed=billed, rule="global", stripped=strip
    )


@pytest.mark.parametrize(
    ("user", "plan", "billed", "rule"),
    [
        # `+` is E.164: nothing is stripped, whatever the plan says.
        ("+4915112345678", StripPlan(global_strip=2, rules=(INTERNATIONAL,)), "4915112345678", "e164"),
        ("%2B49151", StripPlan(global_strip=2), "49151", "e164"),
        ("+", StripPlan(), None, "e164"),
        ("++49", StripPlan(), None, "e164"),
        ("+49#1", StripPlan(), None, "e164"),
        # Order: named rule (longest prefix first), account, peer, global.
        ("0044123", StripPlan(rules=(TRUNK, INTERNATIONAL), account_strip=5), "44123", "rule:int"),
        ("0151123", StripPlan(rules=(INTERNATIONAL, TRUNK), account_strip=5), "49151123", "rule:trunk-de"),
        (
            "9944123",
            StripPlan(rules=(TRUNK,), account_strip=2, peer_strip=1, global_strip=3),
            "44123",
            "account",
        ),
        ("9944123", StripPlan(account_strip=0, peer_strip=1), "9944123", "account"),
        ("9944123", StripPlan(peer_strip=1, global_strip=2), "944123", "peer"),
        ("9944123", StripPlan(global_strip=2), "44123", "global"),
        # Technical prefixes may be stripped and nothing else.
        ("#77*44123", StripPlan(rules=(TECH,)), "44123", "rule:tech"),
        ("%2377*44123", StripPlan(rules=(TECH,)), "44123", "rule:tech"),
        ("12#44123", StripPlan(global_strip=3), "44123", "global"),
        ("12#44123", StripPlan(global_strip=2), None, "global"),
        ("*100", StripPlan(), None, "global"),
        # Parameters, escapes, separators, in this order.
        ("0044-123.(456);isub=1", StripPlan(global_strip=2), "44123456", "global"),
        ("0044%2D123", StripPlan(global_strip=2), "44123", "global"),
        ("0044123%3Bx", StripPlan(global_strip=2), None, "global"),
        # Too short, empty, lettered.
        ("00", StripPlan(global_strip=2), None, "global"),
        ("0", StripPlan(global_strip=2), None, "global"),
        ("00", StripPlan(rules=(INTERNATIONAL,)), None, "rule:int"),
        ("", StripPlan(), None, "global"),
        (";x=1", StripPlan(), None, "global"),
        ("alice", StripPlan(global_strip=2), None, "global"),
        ("abc49151", StripPlan(global_strip=3), None, "global"),
        ("49151x", StripPlan(), None, "global"),
        ("49 151", StripPlan(), None, "global"),
        # Digits of other scripts are letters here; so are bytes that are no UTF-8.
        ("\u0664\u0669151", StripPlan(), None, "global"),
        ("%D9%A4151", StripPlan(), None, "global"),
        ("49%ff%fe", StripPlan(), None, "global"),
        ("49%zz", StripPlan(), None, "global"),
        ("²³", StripPlan(), None, "global"),
    ],
)
def test_the_number_is_normalised_and_stripped_by_the_first_rule_that_applies(
    user: str, plan: StripPlan, billed: str | None, rule: str
) -> None:
    number = billed_number(user, plan)
    assert (number.billed, number.rule) == (billed, rule)
    assert number.received == user


def test_what_was_normalised_is_kept_for_the_record() -> None:
    number = billed_number("+49-151-12;npdi", StripPlan())
    assert (number.normalised, number.billed) == ("+4915112", "4915112")


@given(st.text(), st.integers(0, 32))
def test_no_text_makes_it_raise_and_only_digits_come_out(user: str, strip: int) -> None:
    number = billed_number(user, StripPlan(global_strip=strip, rules=(TECH,)))
    assert number.billed is None or (number.billed.isascii() and number.billed.isdigit())
    matches_list(number.billed, frozenset({"49*"}))
    assert mask(user).isascii()


@given(st.binary())
def test_no_bytes_make_it_raise(user: bytes) -> None:
    for text in (
        user.decode("utf-8", "backslashreplace"),
        user.decode("latin-1"),
        user.decode("utf-8", "surrogateescape"),
        "".join(f"%{byte:02x}" for byte in user),
    ):
        billed_number(text, StripPlan(global_strip=1))
        assert mask(text).isprintable()


@given(st.text("0123456789", min_size=1, max_size=20), st.integers(0, 20))
def test_stripping_takes_exactly_that_many_digits(number: str, strip: int) -> None:
    billed = billed_number(number, StripPlan(global_strip=strip)).billed
    assert billed == (number[strip:] if strip < len(number) else None)


@pytest.mark.parametrize(
    ("number", "masked"),
    [
        ("+4915112345678", "+4915112****78"),
        ("4915112345678", "4915112****78"),
        ("44123456789", "44123****89"),
        ("123456789012345", "1234567******45"),
        ("12345678", "12****78"),
        ("1234567", "123****"),
        ("112", "***"),
        ("+", "+"),
        ("", ""),
        ("alice\r\n", "ali****"),
        ("a\x1bb\ud800cdefgh", "a?b?****gh"),
    ],
)
def test_logs_hide_at_least_four_characters(number: str, masked: str) -> None:
    assert mask(number) == masked


def test_a_masked_number_has_a_bounded_length() -> None:
    assert len(mask("1" * 100_000)) == 64


@pytest.mark.parametrize(
    ("billed", "patterns", "listed"),
    [
        ("112", {"112"}, True),
        ("1123", {"112"}, False),
        ("1123", {"112*"}, True),
        ("112", {"112*"}, True),
        ("11", {"112*"}, False),
        ("49151", {"*"}, True),
        ("49151", set(), False),
        (None, {"*"}, False),
    ],
)
def test_a_star_at_the_end_of_a_list_entry_matches_any_rest(
    billed: str | None, patterns: set[str], listed: bool
) -> None:
    assert matches_list(billed, frozenset(patterns)) is listed
    assert matches_list(billed, sorted(patterns)) is listed


@pytest.mark.parametrize(
    "make",
    [
        lambda: StripRule(name="", prefix="0", strip=1),
        lambda: StripRule(name="a b", prefix="0", strip=1),
        lambda: StripRule(name="a", prefix="", strip=1),
        lambda: StripRule(name="a", prefix="0x", strip=1),
        lambda: StripRule(name="a", prefix="0", strip=-1),
        lambda: StripRule(name="a", prefix="0", strip=33),
        lambda: StripRule(name="a", prefix="0", strip=1, add="+49"),
        lambda: StripPlan(global_strip=-1),
        lambda: StripPlan(account_strip=99),
        lambda: StripPlan(rules=(TRUNK, StripRule(name="other", prefix="0", strip=1))),
        lambda: StripPlan(rules=(TRUNK, StripRule(name="trunk-de", prefix="1", strip=1))),
    ],
)
def test_an_illegal_plan_cannot_be_built(make: object) -> None:
    with pytest.raises(ValueError, match="strip"):
        make()  # type: ignore[operator]


@given(
    st.text("0123456789+#*-.", max_size=12),
    st.sampled_from([StripPlan(), StripPlan(global_strip=2), StripPlan(rules=(TRUNK,), account_strip=1)]),
)
def test_what_was_taken_off_and_put_in_front_leads_to_the_billed_number(user: str, plan: StripPlan) -> None:
    number = billed_number(user, plan)
    if number.billed is not None:
        assert number.billed == number.added + number.normalised[number.stripped :]


def test_the_bounds_of_a_rule_and_of_a_plan_can_be_built() -> None:
    StripRule(name="a" * 64, prefix="0" * 32, strip=0, add="1" * 8)
    StripRule(name="A.z_0-9", prefix="#*0", strip=32)
    StripPlan(account_strip=32, peer_strip=32, global_strip=32)
    rules = tuple(StripRule(name=f"r{number}", prefix=f"{number}", strip=1) for number in range(1001))
    assert len(StripPlan(rules=rules[:1000]).rules) == 1000
    with pytest.raises(ValueError, match=r"^1001 strip rules: at most 1000$"):
        StripPlan(rules=rules)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: StripRule(name="a" * 65, prefix="0", strip=1), "^strip rule name 'a{65}': 1-64 letters"),
        (lambda: StripRule(name="a", prefix="0" * 33, strip=1), "^strip rule a: prefix '0{33}' is not 1-32"),
        (
            lambda: StripRule(name="a", prefix="0", strip=1, add="1" * 9),
            "^strip rule a: add '1{9}' is not 0-8",
        ),
        (lambda: StripRule(name="a", prefix="0", strip=33), "^strip rule a: 33 is not within 0-32$"),
        (lambda: StripPlan(account_strip=33), "^account strip: 33 is not within 0-32$"),
        (lambda: StripPlan(peer_strip=33), "^peer strip: 33 is not within 0-32$"),
        (lambda: StripPlan(global_strip=33), "^global strip: 33 is not within 0-32$"),
        (
            lambda: StripPlan(rules=(TRUNK, StripRule(name="other", prefix="0", strip=1))),
            "^two strip rules with the prefix '0'$",
        ),
        (
            lambda: StripPlan(rules=(TRUNK, StripRule(name="trunk-de", prefix="1", strip=1))),
            "^two strip rules with the name 'trunk-de'$",
        ),
    ],
)
def test_an_illegal_plan_is_refused_with_the_reason(make: Callable[[], object], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        make()


@pytest.mark.parametrize(
    ("user", "plan", "billed", "rule", "stripped", "added"),
    [
        ("+4915112345678", StripPlan(global_strip=2), "4915112345678", "e164", 1, ""),
        ("01511234567", StripPlan(rules=(TRUNK,), global_strip=2), "491511234567", "rule:trunk-de", 1, "49"),
        ("015-11", StripPlan(rules=(TRUNK,), global_strip=2), "491511", "rule:trunk-de", 1, "49"),
        ("0", StripPlan(rules=(TRUNK,)), None, "rule:trunk-de", 1, "49"),
        ("9944123", StripPlan(account_strip=2, peer_strip=1), "44123", "account", 2, ""),
        ("9944123", StripPlan(peer_strip=0, global_strip=2), "9944123", "peer", 0, ""),
        ("9944123", StripPlan(global_strip=6), "3", "global", 6, ""),
        ("99-44123", StripPlan(global_strip=6), "3", "global", 6, ""),
        ("99-44123", StripPlan(global_strip=7), None, "global", 7, ""),
    ],
)
def test_the_record_says_what_was_taken_off_and_put_in_front(
    user: str, plan: StripPlan, billed: str | None, rule: str, stripped: int, added: str
) -> None:
    number = billed_number(user, plan)
    assert (number.billed, number.rule, number.stripped, number.added) == (billed, rule, stripped, added)


def test_bytes_that_are_no_text_stay_readable_in_the_record() -> None:
    number = billed_number("49%ff%FE-1", StripPlan())
    assert (number.normalised, number.billed) == ("49\\xff\\xfe1", None)


def test_of_a_number_that_says_nothing_of_it_nothing_was_taken_off_or_put_in_front() -> None:
    number = BilledNumber(received="49", normalised="49", billed="49", rule="global")
    assert (number.stripped, number.added) == (0, "")


# --- parameters -----------------------------------------------------------------------------------------

LONDON = "2079460123"


@pytest.mark.parametrize(
    ("user", "normalised", "billed", "rule"),
    [
        # RFC 3966 §5.1.5: a global context completes a local number, and nothing is stripped of it.
        (f"{LONDON};phone-context=+44", f"+44{LONDON}", f"44{LONDON}", "e164"),
        ("(20) 7946-0123;phone-context=+44".replace(" ", ""), f"+44{LONDON}", f"44{LONDON}", "e164"),
        ("79460123;phone-context=+44-20", f"+44{LONDON}", f"44{LONDON}", "e164"),
        (f"{LONDON};PHONE-CONTEXT=%2B44", f"+44{LONDON}", f"44{LONDON}", "e164"),
        (f"{LONDON};npdi;phone-context=+44;rn=+1", f"+44{LONDON}", f"44{LONDON}", "e164"),
        # It says nothing of a global number.
        (f"+44{LONDON};phone-context=+49", f"+44{LONDON}", f"44{LONDON}", "e164"),
        (f"+44{LONDON};phone-context=example.com", f"+44{LONDON}", f"44{LONDON}", "e164"),
        # Local to a domain, to two places, or to none: it has no rate.
        (f"{LONDON};phone-context=example.com", LONDON, None, "phone_context"),
        (f"{LONDON};phone-context=44", LONDON, None, "phone_context"),
        (f"{LONDON};phone-context=+44;phone-context=+49", LONDON, None, "phone_context"),
        (f"{LONDON};phone-context=+", LONDON, None, "phone_context"),
        (f"{LONDON};phone-context=", LONDON, None, "phone_context"),
        (f"{LONDON};phone-context", LONDON, None, "phone_context"),
        ("*21#;phone-context=+44", "*21#", None, "phone_context"),
        (";phone-context=+44", "", None, "phone_context"),
        # Another parameter is no context.
        (f"{LONDON};x-phone-context=+44", LONDON, "79460123", "global"),
        (f"{LONDON};rn=+1;cic=+1234", LONDON, "79460123", "global"),
    ],
)
def test_a_phone_context_says_which_number_it_is(
    user: str, normalised: str, billed: str | None, rule: str
) -> None:
    found = billed_number(user, StripPlan(global_strip=2))
    assert (found.normalised, found.billed, found.rule) == (normalised, billed, rule)
    assert normalise(user) == normalised


@pytest.mark.parametrize(
    ("user", "billed", "rule"),
    [
        ("+4420123;npdi;rn=+442000000", "442000000", "routing_number"),
        ("4420123;rn=+44-2000-000;npdi=yes", "442000000", "routing_number"),
        ("4420123;NPDI;RN=%2B442000000", "442000000", "routing_number"),
        ("4420123;npdi;rn=442000000", "442000000", "routing_number"),
        ("4420123;npdi;rn=2000000;rn-context=+44", "442000000", "routing_number"),
        ("2079;phone-context=example.com;npdi;rn=+442000000", "442000000", "routing_number"),
        ("4420123;npdi;rn=2000000;rn-context=example.com", None, "routing_number"),
        ("4420123;npdi;rn=", None, "routing_number"),
        ("4420123;npdi;rn=abc", None, "routing_number"),
        # Not ported, or nobody has looked.
        ("4420123;npdi", "20123", "global"),
        ("4420123;rn=+442000000", "20123", "global"),
        ("4420123;npdi=no;rn=+442000000", "20123", "global"),
    ],
)
def test_a_ported_number_is_rated_by_its_routing_number_where_that_is_asked(
    user: str, billed: str | None, rule: str
) -> None:
    found = billed_number(user, StripPlan(global_strip=2, rate_by=RateBy.ROUTING_NUMBER))
    assert (found.billed, found.rule) == (billed, rule)
    assert found.normalised == normalise(user)  # by which it is routed
    assert billed_number(user, StripPlan(global_strip=2)).rule != "routing_number"


def test_the_parameters_of_a_number_are_kept_as_received() -> None:
    assert number_parameters("+4420123;npdi;rn=%2B44-2000000;cic=+16789;isub=1") == NumberParameters(
        routing_number="+44-2000000", npdi=True, cic="+16789"
    )
    assert number_parameters("+4420123") == NumberParameters()
    assert number_parameters("+4420123;cic=a;cic=b").cic == "a"


@given(st.text(alphabet="+0123456789;=phone-contextrndi%B2.*#a", max_size=80), st.sampled_from(RateBy))
def test_no_parameters_make_it_raise(parameters: str, rate_by: RateBy) -> None:
    found = billed_number(f"2079;{parameters}", StripPlan(rate_by=rate_by))
    assert found.billed is None or found.billed.isdigit()
