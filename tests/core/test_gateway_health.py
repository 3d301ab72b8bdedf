"""Probes: what counts as an answer, and how many it takes."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core import gateway_health
from sidecar.core.gateway_health import TABLE, Health, ProbeTerms, Probing, Sign, overall, sign_of
from sidecar.core.registration import RegistrationState

S = 1_000_000_000
TERMS = ProbeTerms(interval_ms=10_000, timeout_ms=4_000, down_after=2, up_after=3)


def after(*codes: int, terms: ProbeTerms = TERMS) -> Probing:
    """The state after answers, ten seconds apart; 0: none came."""
    probing = gateway_health.begin(terms, 0, 0)
    for number, code in enumerate(codes):
        probing = gateway_health.sent(probing, number * 10 * S)
        probing = gateway_health.answered(probing, terms, code, number * 10 * S + S, 0.5)
    return probing


def test_every_state_has_a_row_for_every_sign() -> None:
    assert set(TABLE) == set(product(Health, Sign))


@pytest.mark.parametrize(
    ("codes", "health"),
    [
        ((), Health.UNKNOWN),
        ((200,), Health.UP),
        ((0,), Health.UNKNOWN),
        ((0, 0), Health.DOWN),
        ((0, 200), Health.UP),
        ((200, 0), Health.UP),
        ((200, 0, 200, 0), Health.UP),  # in a row, not in all
        ((200, 503, 0), Health.DOWN),
        ((0, 0, 200), Health.DOWN),
        ((0, 0, 200, 200), Health.DOWN),
        ((0, 0, 200, 200, 0, 200, 200), Health.DOWN),
        ((0, 0, 200, 404, 200), Health.UP),
        ((0, 0, 200, 200, 200, 0), Health.UP),
        ((0, 0, 200, 200, 200, 0, 0), Health.DOWN),
    ],
)
def test_so_many_in_a_row_change_the_state(codes: tuple[int, ...], health: Health) -> None:
    assert after(*codes).health is health


def test_one_of_each_is_enough_where_the_thresholds_are_1() -> None:
    terms = ProbeTerms(interval_ms=1_000, timeout_ms=4_000, down_after=1, up_after=1)
    assert after(0, terms=terms).health is Health.DOWN
    assert after(0, 486, terms=terms).health is Health.UP


@pytest.mark.parametrize("code", [200, 202, 302, 401, 403, 404, 405, 407, 480, 483, 488, 501, 505, 600, 603])
def test_whoever_answers_is_there(code: int) -> None:
    assert sign_of(code, ()) is Sign.GOOD


@pytest.mark.parametrize("code", [0, 100, 180, 199, 408, 500, 502, 503, 504])
def test_but_for_answers_that_say_otherwise(code: int) -> None:
    assert sign_of(code, ()) is Sign.BAD


def test_the_profile_may_say_what_counts() -> None:
    alive = ("2xx", "404", "500")
    good = {code for code in range(200, 700) if sign_of(code, alive) is Sign.GOOD}
    assert good == {*range(200, 300), 404, 500}
    assert sign_of(0, alive) is Sign.BAD


def test_probes_are_an_interval_apart_and_the_first_ones_spread() -> None:
    assert [gateway_health.begin(TERMS, S, chance).due_ns for chance in (0, 0.5)] == [S, 2 * S]
    assert gateway_health.begin(replace(TERMS, interval_ms=1_000), 0, 0.5).due_ns == S // 2
    first = gateway_health.begin(TERMS, S, 0)
    assert [gateway_health.is_due(first, now_ns) for now_ns in (S - 1, S)] == [False, True]
    probing = gateway_health.sent(gateway_health.begin(TERMS, 0, 0), 0)
    assert not gateway_health.is_due(probing, 99 * S)  # one at a time
    dues = [gateway_health.answered(probing, TERMS, 200, 2 * S, chance).due_ns for chance in (0, 0.5, 0.999)]
    assert dues == [9 * S, 10 * S, pytest.approx(11 * S, rel=1e-3)]


def test_a_probe_that_takes_longer_than_the_interval_is_followed_at_once() -> None:
    probing = gateway_health.sent(gateway_health.begin(TERMS, 0, 0), 0)
    assert gateway_health.answered(probing, TERMS, 0, 30 * S, 0.5).due_ns == 30 * S


@given(st.lists(st.sampled_from([0, 200, 404, 503]), max_size=30))
def test_it_is_down_only_after_so_many_bad_ones_and_up_only_after_a_good_one(codes: list[int]) -> None:
    health = after(*codes).health
    signs = [sign_of(code, ()) for code in codes]
    if health is Health.UNKNOWN:
        assert Sign.GOOD not in signs
    if health is Health.UP:
        assert Sign.GOOD in signs
        assert signs[-2:] != [Sign.BAD] * 2
    if health is Health.DOWN:
        assert [Sign.BAD] * 2 in [signs[i : i + 2] for i in range(len(signs))]
        assert signs[-3:] != [Sign.GOOD] * 3


@pytest.mark.parametrize(
    ("probed", "registration", "health"),
    [
        (None, None, Health.UNKNOWN),
        (Health.UP, None, Health.UP),
        (Health.DOWN, None, Health.DOWN),
        (Health.UP, RegistrationState.REGISTERED, Health.UP),
        (Health.UP, RegistrationState.UNREGISTERED, Health.UNKNOWN),
        (Health.UP, RegistrationState.FAILED, Health.DOWN),
        (Health.DOWN, RegistrationState.REGISTERED, Health.DOWN),
        (Health.UNKNOWN, RegistrationState.REGISTERED, Health.UNKNOWN),
        (None, RegistrationState.REGISTERED, Health.UP),
        (None, RegistrationState.UNREGISTERED, Health.UNKNOWN),
        (None, RegistrationState.FAILED, Health.DOWN),
        (None, RegistrationState.ENDED, Health.UNKNOWN),
    ],
)
def test_a_gateway_is_down_by_its_probes_or_by_its_registration(
    probed: Health | None, registration: RegistrationState | None, health: Health
) -> None:
    assert overall(probed, registration) is health
