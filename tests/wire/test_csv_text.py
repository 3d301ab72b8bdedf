"""What leaves us as CSV runs in no spreadsheet, and comes back as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.wire.csv_text import harmless, restored


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+44*2", "-1+2", "@SUM(A1)", "\tx", "\r=1", '=HYPERLINK("http://x")', "'=1", "+49 30 123", "-"],
)
def test_a_text_that_could_be_a_formula_is_none(text: str) -> None:
    assert harmless(text) == f"'{text}"
    assert restored(harmless(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+4930123",
        "-0.250000",
        "0",
        "'s-Hertogenbosch",
        "a=b",
        " =1",
        "{}",
        "4930",
        "2026-12-01T00:00:00Z",
    ],
)
def test_numbers_and_other_texts_never_change(text: str) -> None:
    assert harmless(text) == text
    assert restored(text) == text


@given(st.text(alphabet="=+-@'\t\ra1.", max_size=8))
def test_every_text_comes_back(text: str) -> None:
    assert restored(harmless(text)) == text
    written = harmless(text)
    assert written[:1] not in tuple("=+-@\t\r") or written.lstrip("+-").replace(".", "", 1).isdigit()
