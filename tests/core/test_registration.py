"""Registering: refreshed in time, 423 obeyed, failures waited out, taken back at the end."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core import registration as reg
from sidecar.core.registration import (
    TABLE,
    Outcome,
    RegisterTerms,
    Registration,
    RegistrationState,
    outcome_of,
)

S = 1_000_000_000
TERMS = RegisterTerms(
    identity="sip:us@carrier.example", target="sip:carrier.example", contact_user="us", expires_s=3_600
)
NEW = reg.begin(TERMS, 0, 0)


def told(
    registration: Registration,
    sip_code: int,
    *,
    at_s: float,
    granted_s: int | None = None,
    min_expires_s: int | None = None,
    retry_after_s: int | None = None,
    chance: float = 0,
) -> Registration:
    """A REGISTER leaves and is answered at once."""
    now_ns = int(at_s * S)
    return reg.answered(
        reg.sent(registration, now_ns),
        sip_code=sip_code,
        granted_s=granted_s,
        min_expires_s=min_expires_s,
        retry_after_s=retry_after_s,
        now_ns=now_ns,
        chance=chance,
    )


def wait_s(registration: Registration, since_s: float) -> float:
    return registration.due_ns / S - since_s


def test_every_state_has_a_row_for_what_may_happen_in_it() -> None:
    """Only a binding can expire; after the end there is nothing to answer."""
    states = set(RegistrationState) - {RegistrationState.ENDED}
    answers = set(Outcome) - {Outcome.EXPIRED}
    assert set(TABLE) == set(product(states, answers)) | {(RegistrationState.REGISTERED, Outcome.EXPIRED)}


@pytest.mark.parametrize(
    ("code", "min_expires_s", "outcome"),
    [
        (199, None, Outcome.REFUSED),
        (200, None, Outcome.ACCEPTED),
        (299, None, Outcome.ACCEPTED),
        (300, None, Outcome.REFUSED),
        (423, 3_601, Outcome.TOO_BRIEF),
        (423, 86_400, Outcome.TOO_BRIEF),
        (423, 7_200, Outcome.TOO_BRIEF),
        (423, None, Outcome.REFUSED),
        (423, 3_600, Outcome.REFUSED),  # what we asked for
        (423, 86_401, Outcome.REFUSED),
        (401, None, Outcome.REFUSED),
        (403, None, Outcome.REFUSED),
        (301, None, Outcome.REFUSED),
        (603, None, Outcome.REFUSED),
        (0, None, Outcome.UNANSWERED),
        (408, None, Outcome.UNANSWERED),
        (500, None, Outcome.UNANSWERED),
        (503, None, Outcome.UNANSWERED),
        (599, None, Outcome.UNANSWERED),
        (600, None, Outcome.REFUSED),
    ],
)
def test_what_an_answer_means(code: int, min_expires_s: int | None, outcome: Outcome) -> None:
    assert outcome_of(code, min_expires_s, 3_600) is outcome


@pytest.mark.parametrize(
    ("granted_s", "chance", "refresh_s"), [(None, 0, 2880), (100, 0, 80), (100, 0.5, 85), (9_999, 0, 2880)]
)
def test_a_binding_is_refreshed_before_it_ends(granted_s: int | None, chance: float, refresh_s: int) -> None:
    bound = told(NEW, 200, at_s=5, granted_s=granted_s, chance=chance)
    assert bound.state is RegistrationState.REGISTERED
    assert wait_s(bound, 5) == refresh_s
    assert not reg.is_due(bound, bound.due_ns - 1)
    assert reg.is_due(bound, bound.due_ns)


@pytest.mark.parametrize("granted_s", [0, 1, 2])
def test_a_registrar_that_grants_next_to_nothing_is_asked_once_a_second_at_most(granted_s: int) -> None:
    bound = told(NEW, 200, at_s=5, granted_s=granted_s)
    assert wait_s(bound, 5) >= 1
    assert bound.until_ns == (5 + max(1, granted_s)) * S


def test_the_first_ones_are_spread_over_two_seconds() -> None:
    assert [reg.begin(TERMS, S, chance).due_ns for chance in (0, 0.5)] == [S, 2 * S]
    assert (NEW.state, NEW.wanted_s) == (RegistrationState.UNREGISTERED, 3_600)


def test_423_is_obeyed_at_once_and_remembered() -> None:
    brief = told(NEW, 423, at_s=5, min_expires_s=7_200)
    assert (brief.state, wait_s(brief, 5)) == (RegistrationState.UNREGISTERED, 0)
    again = reg.sent(brief, 5 * S)
    assert again.sent_s == 7_200
    bound = told(brief, 200, at_s=5)
    assert (bound.until_ns, reg.sent(bound, bound.due_ns).sent_s) == (7_205 * S, 7_200)


def test_423_that_asks_for_what_it_got_is_a_refusal() -> None:
    brief = told(NEW, 423, at_s=5, min_expires_s=7_200)
    refused = told(brief, 423, at_s=5, min_expires_s=7_200)
    assert (refused.state, refused.failures) == (RegistrationState.FAILED, 1)
    assert wait_s(refused, 5) >= 5


def test_a_refresh_that_nobody_answers_leaves_the_binding_until_its_time_is_over() -> None:
    bound = told(NEW, 200, at_s=0, granted_s=100)
    silent = told(bound, 0, at_s=80)
    assert (silent.state, silent.until_ns) == (RegistrationState.REGISTERED, 100 * S)
    assert wait_s(silent, 80) == 5
    assert reg.aged(silent, 100 * S - 1) is silent
    over = reg.aged(silent, 100 * S)
    assert (over.state, over.until_ns) == (RegistrationState.FAILED, None)
    assert reg.aged(over, 200 * S) is over
    assert told(over, 200, at_s=101).state is RegistrationState.REGISTERED


def test_a_refresh_that_is_refused_ends_the_binding() -> None:
    refused = told(told(NEW, 200, at_s=0), 403, at_s=80)
    assert (refused.state, refused.until_ns) == (RegistrationState.FAILED, None)


def test_a_binding_may_end_while_its_refresh_is_under_way() -> None:
    bound = reg.sent(told(NEW, 200, at_s=0, granted_s=100), 99 * S)
    over = reg.aged(bound, 100 * S)
    assert over.state is RegistrationState.FAILED
    back = reg.answered(
        over,
        sip_code=200,
        granted_s=50,
        min_expires_s=None,
        retry_after_s=None,
        now_ns=101 * S,
        chance=0,
    )
    assert (back.state, back.until_ns) == (RegistrationState.REGISTERED, 151 * S)


def test_each_failure_in_a_row_is_waited_out_longer_up_to_a_bound() -> None:
    waits, registration, now_s = [], NEW, 0.0
    for _ in range(9):
        registration = told(registration, 403, at_s=now_s, chance=0.9999999)
        waits.append(round(wait_s(registration, now_s)))
        now_s = registration.due_ns / S
    assert waits == [10, 20, 40, 80, 160, 320, 600, 600, 600]
    assert told(registration, 200, at_s=now_s).failures == 0


def test_chance_shortens_a_wait_by_half_at_most() -> None:
    assert wait_s(told(NEW, 403, at_s=0, chance=0), 0) == 5
    assert wait_s(told(NEW, 403, at_s=0, chance=0.5), 0) == 7.5


@pytest.mark.parametrize(("retry_after_s", "wait"), [(120, 120), (1, 5), (90_000, 600)])
def test_retry_after_is_heeded_within_the_bound(retry_after_s: int, wait: int) -> None:
    assert wait_s(told(NEW, 503, at_s=0, retry_after_s=retry_after_s), 0) == wait


def test_one_at_a_time_with_numbers_that_leave_room_for_challenges() -> None:
    first = reg.sent(NEW, 0)
    assert not reg.is_due(first, 10**6 * S)
    second = reg.sent(told(NEW, 200, at_s=0), 0)
    assert [NEW.cseq, first.cseq, second.cseq] == [1, 5, 9]


# --- the end ------------------------------------------------------------------------------------------------


def test_what_is_bound_is_taken_back() -> None:
    leaving = reg.leave(told(NEW, 200, at_s=0), 9 * S)
    assert reg.is_due(leaving, 9 * S)
    assert reg.sent(leaving, 9 * S).sent_s == 0
    for code in (200, 0, 403, 500):
        assert told(leaving, code, at_s=9).state is RegistrationState.ENDED


@pytest.mark.parametrize("code", [None, 403])
def test_what_is_not_bound_needs_no_taking_back(code: int | None) -> None:
    gone = reg.leave(NEW if code is None else told(NEW, code, at_s=0), 9 * S)
    assert gone.state is RegistrationState.ENDED
    assert not reg.is_due(gone, 10**6 * S)


@pytest.mark.parametrize(("code", "is_bound"), [(200, True), (0, True), (503, True), (403, False)])
def test_a_register_under_way_is_answered_first(code: int, is_bound: bool) -> None:
    leaving = reg.leave(reg.sent(NEW, 0), S)
    assert not reg.is_due(leaving, 2 * S)
    after = reg.answered(
        leaving,
        sip_code=code,
        granted_s=None,
        min_expires_s=None,
        retry_after_s=None,
        now_ns=2 * S,
        chance=0,
    )
    assert reg.is_due(after, 2 * S) == is_bound
    assert (after.state is RegistrationState.ENDED) != is_bound
    if is_bound:
        assert after.due_ns == 2 * S
        assert reg.sent(after, 2 * S).sent_s == 0


def test_a_binding_does_not_expire_while_it_is_taken_back() -> None:
    leaving = reg.sent(reg.leave(told(NEW, 200, at_s=0, granted_s=100), 99 * S), 99 * S)
    assert reg.aged(leaving, 101 * S) is leaving


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 200, 200, 401, 403, 408, 423, 500, 503]),
            st.none() | st.integers(0, 10**10),
            st.none() | st.integers(0, 10**10),
            st.none() | st.integers(0, 10**10),
            st.floats(0, 1, exclude_max=True),
        ),
        max_size=20,
    )
)
def test_whatever_is_answered_the_next_one_is_at_least_a_second_away_but_for_423(
    answers: list[tuple[int, int | None, int | None, int | None, float]],
) -> None:
    registration = NEW
    for code, granted_s, min_expires_s, retry_after_s, chance in answers:
        now_ns = registration.due_ns
        registration = reg.aged(registration, now_ns)
        before, registration = (
            registration,
            told(
                registration,
                code,
                at_s=now_ns / S,
                granted_s=granted_s,
                min_expires_s=min_expires_s,
                retry_after_s=retry_after_s,
                chance=chance,
            ),
        )
        if registration.due_ns - now_ns < 0.999 * S:
            assert code == 423
            assert registration.wanted_s > before.wanted_s  # so it ends, at the bound
        assert registration.wanted_s <= reg.EXPIRES_S_MAX
        assert (registration.until_ns is not None) == (registration.state is RegistrationState.REGISTERED)
