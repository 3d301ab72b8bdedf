from __future__ import annotations

from sidecar.web.looks import INTERVAL_S, KEPT_MAX, Looks

KEY = ("billing", "call.list", "192.0.2.1")


def asked(looks: Looks, now_s: float, key: tuple[str, str, str] = KEY) -> int | None:
    found = looks.unnoted(key, now_s)
    if found is not None:
        looks.noted(key, now_s)
    return found


def test_who_polls_is_noted_once_an_interval_with_how_often() -> None:
    looks = Looks()
    assert [asked(looks, at_s) for at_s in range(5)] == [0, None, None, None, None]
    for other in (("other", *KEY[1:]), (KEY[0], "cdr.show", KEY[2]), (*KEY[:2], "192.0.2.2")):
        assert asked(looks, 5, other) == 0
    assert asked(looks, INTERVAL_S - 0.1) is None
    assert asked(looks, INTERVAL_S) == 5
    assert asked(looks, 2 * INTERVAL_S) == 0


def test_a_look_that_could_not_be_noted_has_to_be_the_next_time() -> None:
    looks = Looks()
    assert looks.unnoted(KEY, 0) == 0
    assert looks.unnoted(KEY, 1) == 0


def test_whoever_comes_from_everywhere_takes_no_more_memory() -> None:
    looks = Looks()
    for number in range(KEPT_MAX + 1):
        assert asked(looks, 0, (*KEY[:2], str(number))) == 0
    assert asked(looks, 1, (*KEY[:2], "0")) == 0
    assert asked(looks, 1, (*KEY[:2], str(KEPT_MAX))) is None
