from __future__ import annotations

from sidecar.web.sessions import AGE_S_MAX, IDLE_S_MAX, OF_ONE_USER_MAX, SESSIONS_MAX, Sessions


def test_a_session_is_found_by_its_token_alone_until_it_was_idle_too_long() -> None:
    sessions = Sessions()
    token, session = sessions.begin("vera", 0.0)
    other, _ = sessions.begin("vera", 0.0)
    assert token != other
    assert sessions.find("x" + token[1:], 1.0) is None
    assert sessions.find(token, IDLE_S_MAX) is session
    assert sessions.find(token, 2.0 * IDLE_S_MAX) is session
    assert sessions.find(token, 3.0 * IDLE_S_MAX + 1) is None
    assert sessions.find(token, 0.0) is None


def test_one_that_is_used_all_the_time_ends_too() -> None:
    sessions = Sessions()
    token, _ = sessions.begin("vera", 0.0)
    for at_s in range(0, AGE_S_MAX + 1, IDLE_S_MAX):
        assert sessions.find(token, at_s) is not None
    assert sessions.find(token, AGE_S_MAX + 1) is None


def test_there_are_so_many_at_most_of_one_user_and_of_all_and_the_one_least_seen_gives_way() -> None:
    sessions = Sessions()
    first, _ = sessions.begin("vera", 0.0)
    second, _ = sessions.begin("vera", 0.0)
    sessions.find(first, 1.0)
    for _ in range(OF_ONE_USER_MAX - 1):
        sessions.begin("vera", 1.0)
    assert sessions.find(second, 1.0) is None
    assert sessions.find(first, 1.0) is not None
    for number in range(SESSIONS_MAX):
        sessions.begin(f"user {number}", 2.0)
    assert len(sessions) == SESSIONS_MAX
    assert sessions.find(first, 2.0) is None
    sessions.end_all_of("user 7")
    assert len(sessions) == SESSIONS_MAX - 1
