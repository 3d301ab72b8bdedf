from __future__ import annotations

import pytest

from sidecar.web import show


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Zürich 東京", "Zürich 東京"),
        ("a\x1b[31mb\r\n", r"a\x1b[31mb\r\n"),
        ("\u202eevil\u2066", r"\u202eevil\u2066"),
        ("\ud800", r"\ud800"),
        ("x" * 10_000, "x" * 199 + "…"),
        (None, ""),
        (7, "7"),
    ],
)
def test_what_does_not_print_is_shown_by_its_code_and_what_is_long_is_cut(said: object, shown: str) -> None:
    assert show.text(said) == shown


def test_numbers_are_masked_unless_they_are_to_be_seen() -> None:
    assert show.number("+4915112345678") == "+4915112****78"
    assert show.number("+4915112345678", whole=True) == "+4915112345678"
    assert show.number(None) == ""


def test_times_and_counts_are_short() -> None:
    assert [show.duration(one) for one in (0.9, 65, 3_661, None)] == ["0:00", "1:05", "1:01:01", ""]
    assert show.moment("2026-11-27T14:00:01.123456Z") == "2026-11-27 14:00:01"
    assert show.clock("2026-11-27T14:00:01Z") == "14:00:01"
    assert [show.count(one) for one in (None, 0, 12_345)] == ["–", "0", "12\u202f345"]
    assert [show.share(one) for one in (None, 0.5)] == ["–", "50.0"]
