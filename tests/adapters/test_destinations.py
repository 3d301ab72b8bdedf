from __future__ import annotations

import pytest

from sidecar.adapters.destinations import destination_name


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("49", "Germany"),
        ("4930", "Germany, Berlin"),
        ("4915", "Germany"),
        ("1", "United States"),
        ("1416", "Canada, Ontario"),
        ("1876", "Jamaica"),
        ("7727", "Kazakhstan"),
        ("870", "+870"),  # Inmarsat: a code of no country
        ("999", ""),
        ("0044", ""),
        ("", ""),
    ],
)
def test_a_prefix_is_named_by_country_and_region(prefix: str, name: str) -> None:
    assert destination_name(prefix) == name
