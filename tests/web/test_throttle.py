from __future__ import annotations

from sidecar.web.throttle import KEYS_MAX, OF_ADDRESS_MAX, OF_USER_MAX, WINDOW_S, Throttle


def test_a_user_is_held_wherever_the_guesses_come_from_and_let_go_with_time() -> None:
    throttle = Throttle()
    for number in range(OF_USER_MAX):
        assert not throttle.is_held("elsewhere", "vera", number)
        throttle.failed(f"192.0.2.{number}", "vera", number)
    assert throttle.is_held("elsewhere", "vera", OF_USER_MAX)
    assert not throttle.is_held("elsewhere", "ada", OF_USER_MAX)
    assert not throttle.is_held("elsewhere", "vera", WINDOW_S)
    throttle.failed("elsewhere", "vera", WINDOW_S)
    throttle.signed_in("elsewhere", "vera")
    assert not throttle.is_held("elsewhere", "vera", WINDOW_S)


def test_an_address_is_held_whatever_names_it_tries_also_past_those_that_it_gets_right() -> None:
    throttle = Throttle()
    for number in range(OF_ADDRESS_MAX):
        throttle.failed("192.0.2.1", "right", 0.0)
        throttle.signed_in("192.0.2.1", "right")
        throttle.failed("192.0.2.1", f"user {number}", 0.0)
    assert throttle.is_held("192.0.2.1", "user 1", 1.0)
    assert not throttle.is_held("192.0.2.2", "user 1", 1.0)


def test_the_table_is_bounded() -> None:
    throttle = Throttle()
    for number in range(KEYS_MAX):
        throttle.failed(f"address {number}", f"user {number}", 0.0)
    assert len(throttle) == KEYS_MAX
