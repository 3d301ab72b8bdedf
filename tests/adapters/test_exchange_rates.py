from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from sidecar.adapters.deck_files import DeckRefusedError, read_exchange_rates

HEAD = "base,quote,rate,valid_from\n"


def test_a_table_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rates.csv"
    path.write_text(HEAD + "USD,EUR,0.917,2026-03-01T00:00:00Z\n\nUSD,EUR,0.9,2026-03-02T00:00:00+01:00\n")
    found = read_exchange_rates(path).rate("USD", "EUR", datetime(2026, 3, 1, 23, 30, tzinfo=UTC))
    assert found is not None
    assert found.rate == Decimal("0.9")


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ("USD,EUR,NaN,2026-03-01T00:00:00Z", "row 2, column rate"),
        ("USD,EUR,0,2026-03-01T00:00:00Z", "row 2: rate is 0"),
        ("USD,USD,1,2026-03-01T00:00:00Z", "row 2: USD against itself"),
        ("USD,EUR,-1,2026-03-01T00:00:00Z", "row 2, column rate"),
        ("US,EUR,1,2026-03-01T00:00:00Z", "row 2, column base"),
        ("USD,EUR,1,2026-03-01", "row 2, column valid_from"),
        ("USD,EUR,1", "row 2: 3 cells"),
        ("USD,EUR,1,2026-03-01T00:00:00Z\nUSD,EUR,2,2026-03-01T01:00:00+01:00", "row 3, column valid_from"),
        ('"', "cannot be read"),
    ],
)
def test_one_bad_row_refuses_the_table(tmp_path: Path, rows: str, error: str) -> None:
    path = tmp_path / "rates.csv"
    path.write_text(HEAD + rows + "\n")
    with pytest.raises(DeckRefusedError) as refused:
        read_exchange_rates(path)
    assert error in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"a,b\n", b"base,quote,rate\n", b"\xff"])
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rates.csv"
    path.write_bytes(content)
    with pytest.raises(DeckRefusedError):
        read_exchange_rates(path)
    with pytest.raises(DeckRefusedError, match="cannot be read"):
        read_exchange_rates(tmp_path / "none.csv")
