from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from sidecar.cli.cost import cost

DECK = (
    "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s,steps,"
    "effective_from,effective_to\n"
    "44,United Kingdom,GBP,0.05,0.10,60,6,,,\n"
    "4420,London,GBP,0,,,,0:0.2/60/60;60:0.1/60/1,,\n"
    "41,Switzerland,CHF,0,1,1,1,,,2026-01-01T00:00:00Z\n"
)

app = typer.Typer()
app.command()(cost)


@pytest.fixture
def deck(tmp_path: Path) -> Path:
    path = tmp_path / "deck.csv"
    path.write_text(DECK)
    return path


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_answer_has_exactly_the_promised_keys(deck: Path) -> None:
    result = run("0044123456789", "--seconds", 75, "--deck", deck, "--strip", 2, "--decimals", 4, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "dialled": "0044123456789",
        "billed_number": "44123456789",
        "prefix": "44",
        "billed_s": 78,
        "charge": "0.1800",
        "currency": "GBP",
        "steps": "0:0.1/60/60;60:0.1/60/6",
    }


@pytest.mark.parametrize(
    ("rate_by", "billed_number"), [("dialled", "442012345"), ("routing_number", "41791234567")]
)
def test_a_ported_number_is_rated_as_the_node_is_told(deck: Path, rate_by: str, billed_number: str) -> None:
    ported = "+442012345;npdi;rn=+41791234567"
    result = run(
        ported,
        "--seconds",
        60,
        "--deck",
        deck,
        "--rate-by",
        rate_by,
        "--at",
        "2025-12-01T00:00:00Z",
        "--json",
    )
    assert json.loads(result.stdout)["billed_number"] == billed_number


def test_without_json_the_same_is_said_to_a_reader(deck: Path) -> None:
    result = run("+442012345", "--seconds", "120", "--deck", deck)
    assert result.exit_code == 0
    assert "charge         0.300000" in result.stdout.splitlines()


def test_an_explanation_leads_from_the_digits_to_the_charge(deck: Path) -> None:
    result = run("00442012345", "--strip", 2, "--seconds", 91, "--deck", deck, "--explain")
    assert result.exit_code == 0
    for text in ("candidates", "4420, 44", "0.1 per 60 s = 31/600", "exact sum", "half_up, to 6 decimals"):
        assert text in result.stdout


@pytest.mark.parametrize(
    ("talk", "billed_s"), [("21.049", 21), ("21.050", 22), ("21.0499999", 21), ("0", 0), ("0.05", 1)]
)
def test_talk_seconds_may_have_decimals(deck: Path, talk: str, billed_s: int) -> None:
    at = ("--at", "2025-06-01T00:00:00+00:00")
    result = run("4112345", "--seconds", talk, "--deck", deck, "--json", *at)
    assert json.loads(result.stdout)["billed_s"] == billed_s


@pytest.mark.parametrize(
    ("rounding", "charge"), [("up", "0.26"), ("down", "0.25"), ("half_up", "0.25"), ("half_even", "0.25")]
)
def test_the_rounding_is_the_one_asked_for(deck: Path, rounding: str, charge: str) -> None:
    words = ("442012", "--seconds", 91, "--deck", deck, "--json", "--decimals", 2, "--rounding", rounding)
    assert json.loads(run(*words).stdout)["charge"] == charge  # exactly 0.2516...


@pytest.mark.parametrize(
    "words",
    [
        ("33123", "--seconds", 60),
        ("0044123", "--seconds", 60, "--strip", 7),
        ("alice", "--seconds", 60),
        ("", "--seconds", 60),
        ("44%ff", "--seconds", 60),
        ("41123", "--seconds", 60, "--at", "2026-01-01T00:00:00Z"),
    ],
)
def test_no_rate_is_exit_code_1(deck: Path, words: tuple[object, ...]) -> None:
    result = run(*words, "--deck", deck, "--json")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "no rate" in result.stderr


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("44123", "--seconds", "x"), "--seconds"),
        (("44123", "--seconds", "-1"), "--seconds"),
        (("44123", "--seconds", "NaN"), "--seconds"),
        (("44123", "--seconds", "1e3"), "--seconds"),
        (("44123", "--seconds", "99999999"), "--seconds"),
        (("44123", "--seconds", "60", "--at", "yesterday"), "--at"),
        (("44123", "--seconds", "60", "--peer", "local"), "--peer"),
        (("44123", "--seconds", "60", "--account", "acme"), "--deck"),
        (("44123", "--seconds", "60", "--strip", "-1"), "--strip"),
        (("44123", "--seconds", "60", "--decimals", "10"), "--decimals"),
        (("44123", "--seconds", "60", "--rounding", "bankers"), "--rounding"),
        (("44123",), "--seconds"),
    ],
)
def test_bad_input_is_exit_code_2_and_names_the_option(
    deck: Path, words: tuple[str, ...], named: str
) -> None:
    result = run(*words, "--deck", deck)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert named in result.stderr


def test_a_bad_deck_is_exit_code_2_and_names_row_and_column(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(DECK + "49,x,EUR,0,NaN,60,60,,,\n48x,x,EUR,0,1,60,60,,,\n")
    result = run("44123", "--seconds", "60", "--deck", path)
    assert result.exit_code == 2
    assert "row 5, column price_per_minute" in result.stderr
    assert "row 6, column prefix" in result.stderr
    assert run("44123", "--seconds", "60", "--deck", tmp_path / "none.csv").exit_code == 2


def test_a_deck_that_asks_is_told_who_calls(tmp_path: Path) -> None:
    path = tmp_path / "by-caller.csv"
    head = "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s,caller_prefix\n"
    path.write_text(f"{head}44,UK,EUR,0,0.1,60,60,33\n44,UK,EUR,0,0.3,60,60,surcharge\n")
    for words, charge in ((("--caller", "33612"), "0.100000"), ((), "0.300000")):
        result = run("4420", "--seconds", 60, "--deck", path, "--json", *words)
        assert json.loads(result.stdout)["charge"] == charge
    assert run("4420", "--seconds", 60, "--deck", path, "--caller", "49").exit_code == 1
    refused = run("4420", "--seconds", 60, "--deck", path, "--caller", "0049")
    assert (refused.exit_code, "--caller: caller_prefix '0049'" in refused.stderr) == (2, True)
