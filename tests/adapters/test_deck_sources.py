"""Spreadsheets with our own columns, and templates of columns, values and little else."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from sidecar.adapters.deck_files import (
    DeckRefusedError,
    Template,
    TemplateError,
    read_deck,
    read_template,
    template_text,
)
from tests.adapters.workbooks import Cell, workbook

HEAD = ["prefix", "destination", "currency", "connect_fee", "price_per_minute", "initial_s", "increment_s"]
AT = datetime(2026, 3, 1, tzinfo=UTC)


def refusals(path: Path, template: Template | None = None) -> list[str]:
    with pytest.raises(DeckRefusedError) as refused:
        read_deck(path, template)
    return [str(error).removeprefix(f"{path}").lstrip(", :") for error in refused.value.errors]


def test_a_workbook_with_text_prefixes_is_the_same_deck_as_the_csv(tmp_path: Path) -> None:
    first: list[Cell] = ["0049", "Gerät", "EUR", 0, 0.1, 60, 6]
    rows: list[list[Cell]] = [list(HEAD), first, ["44", "UK", "GBP", "0.05", "0.2", 1, 1]]
    sheet = read_deck(workbook(tmp_path / "deck.xlsx", {"Rates": rows}))
    text = tmp_path / "deck.csv"
    text.write_text("\n".join(",".join(map(str, row)) for row in rows))
    assert sheet.revision == read_deck(text).revision
    assert [rate.prefix for rate in sheet] == ["0049", "44"]


def test_the_numbers_of_a_workbook_are_the_decimals_that_it_shows(tmp_path: Path) -> None:
    # 0.1 + 0.2 is stored as 0.30000000000000004 and shown as 0.3.
    rows: list[list[Cell]] = [list(HEAD), ["49", "x", "EUR", 5e-05, 0.1 + 0.2, 60, 60]]
    (rate,) = read_deck(workbook(tmp_path / "deck.xlsx", {"Rates": rows}))
    assert (rate.connect_fee, rate.steps[0].price) == (Decimal("0.00005"), Decimal("0.3"))


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ([49, "x", "EUR", 0, 1, 1, 1], "row 2, column prefix (A2): '49' is a number, not text"),
        (
            [491510000000, "x", "EUR", 0, 1, 1, 1],
            "row 2, column prefix (A2): '491510000000' is a number, not text",
        ),
        (
            ["4.9E+11", "x", "EUR", 0, 1, 1, 1],
            "row 2, column prefix (A2): '4.9E+11' is a spreadsheet's short form of a number, digits are lost",
        ),
        (["49", "x", "EUR", 0, "NaN", 1, 1], "row 2, column price_per_minute"),
        (["49", "x", "EUR", 0, -0.5, 1, 1], "row 2, column price_per_minute"),
        (["49", "x", "EUR", 0, 1e15, 1, 1], "row 2, column price_per_minute"),
        (["49", "x", "EUR", 0, 1, 1.5, 1], "row 2, column initial_s (F2): '1.5' is no number of seconds"),
        (["49", "x", "EUR", 0, 1, 1, 1, "more"], "row 1: column 8 has no name"),
    ],
)
def test_a_bad_cell_refuses_the_workbook_with_row_and_column(
    tmp_path: Path, row: list[Cell], error: str
) -> None:
    path = workbook(tmp_path / "deck.xlsx", {"Rates": [list(HEAD), row]})
    assert any(one.startswith(f"sheet Rates, {error}") for one in refusals(path)), refusals(path)


def test_what_is_no_workbook_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deck.xlsx"
    for content in (b"", b"prefix,destination", b"PK\x03\x04 cut short"):
        path.write_bytes(content)
        assert "is not a spreadsheet" in refusals(path)[0]
    empty = workbook(tmp_path / "empty.xlsx", {"Rates": []})
    assert refusals(empty)[0].startswith(
        "sheet Rates, row 1: has no column for prefix ('prefix'); has no column"
    )


CARRIER = Template(
    columns={"prefix": "Dial Code", "destination": "Country", "price_per_minute": "Rate (USD/min)"},
    values={"currency": "USD", "connect_fee": "0", "initial_s": "60", "increment_s": "6"},
    delimiter=";",
    decimal_comma=True,
)


def test_a_template_reads_a_carrier_s_own_columns(tmp_path: Path) -> None:
    path = tmp_path / "carrier.csv"
    path.write_text("Country;dial code ;Comment;Rate (USD/min)\nGermany;49;;0,0125\nUK;44;new;1\n")
    deck = read_deck(path, CARRIER)
    assert [(rate.prefix, rate.destination, rate.currency, str(rate.steps[0].price)) for rate in deck] == [
        ("44", "UK", "USD", "1"),
        ("49", "Germany", "USD", "0.0125"),
    ]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (
            "Country;Code;Rate (USD/min)\n",
            "row 1: has no column for prefix ('Dial Code'); the columns are 'Country', 'Code'",
        ),
        (
            "Country;Dial Code;Rate (USD/min);dial code\n",
            "row 1: has several columns for prefix: 'Dial Code'",
        ),
        ("Country;Dial Code;Rate (USD/min)\nx;49;1.00,50\n", "row 2, column Rate (USD/min): '1.00,50' has"),
        ("Country;Dial Code;Rate (USD/min)\nx;49\n", "row 2: "),
        ("Country;Dial Code;Rate (USD/min)\nx;49;1;2\n", "row 2: "),
        ("", "row 1: has no column for prefix"),
    ],
)
def test_a_file_that_does_not_fit_the_template_is_refused(tmp_path: Path, content: str, error: str) -> None:
    path = tmp_path / "carrier.csv"
    path.write_text(content)
    assert refusals(path, CARRIER)[0].startswith(error)


def test_a_template_may_take_numeric_prefixes_and_name_a_sheet(tmp_path: Path) -> None:
    sheets: dict[str, list[list[Cell]]] = {
        "Notes": [["hello"]],
        "Rates": [list(HEAD), [49, "x", "EUR", 0, 1, 1, 1]],
    }
    path = workbook(tmp_path / "deck.xlsx", sheets)
    deck = read_deck(path, Template(sheet="Rates", numeric_prefixes=True))
    assert [rate.prefix for rate in deck] == ["49"]
    assert refusals(path, Template(sheet="Prices"))[0].startswith("has no sheet 'Prices'")


def test_a_template_is_saved_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "carrier.toml"
    for template in (CARRIER, Template(), Template(sheet='A "quoted" sheet', numeric_prefixes=True)):
        path.write_text(template_text(template))
        assert read_template(path) == template


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('[columns]\ncode = "Code"', "'code' is not a column"),
        ('[columns]\nprefix = "Code"\n[values]\nprefix = "49"', "'prefix' has both"),
        ('colums = "x"', "unknown field"),
        ('delimiter = ";;"', "not one character"),
        ('delimiter = ","\ndecimal_comma = true', "another delimiter"),
        ("delimiter = 1", "Expected `str`"),
        ("[", "key part"),
        ("\xff", "codec"),
    ],
)
def test_a_bad_template_says_what_is_wrong(tmp_path: Path, text: str, error: str) -> None:
    path = tmp_path / "carrier.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(TemplateError, match=error):
        read_template(path)
    with pytest.raises(TemplateError, match="cannot be read"):
        read_template(tmp_path / "none.toml")
