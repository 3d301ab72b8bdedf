from __future__ import annotations

import contextlib
import csv
import hashlib
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.adapters.deck_files import COLUMNS, DeckRefusedError, canonical_chunks, read_deck
from sidecar.core.tariff import Rate, parse_steps

HEAD = "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s,steps"
LONG = HEAD + ",effective_from,effective_to,max_duration_s,default"
AT = datetime(2026, 3, 1, tzinfo=UTC)


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "deck.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def errors(folder: Path, text: str | bytes) -> list[str]:
    path = write(folder, text)
    with pytest.raises(DeckRefusedError) as refused:
        read_deck(path)
    return [str(error).removeprefix(str(path)).lstrip(", :") for error in refused.value.errors]


def test_a_deck_of_minutes_increments_and_steps(tmp_path: Path) -> None:
    deck = read_deck(
        write(
            tmp_path,
            f"{HEAD}\n49,Germany,EUR,0.05,0.02,60,6,\n4915,Germany Mobile,EUR,,,,,0:0.2/60/60;60:0.1/60/1\n",
        )
    )
    assert list(deck) == [
        Rate(
            prefix="49",
            destination="Germany",
            currency="EUR",
            connect_fee=Decimal("0.05"),
            steps=parse_steps("0:0.02/60/60;60:0.02/60/6"),
        ),
        Rate(
            prefix="4915",
            destination="Germany Mobile",
            currency="EUR",
            steps=parse_steps("0:0.2/60/60;60:0.1/60/1"),
        ),
    ]


def test_columns_may_stand_in_any_order_and_unneeded_ones_be_left_out(tmp_path: Path) -> None:
    deck = read_deck(
        write(tmp_path, "steps,currency, Prefix ,destination,connect_fee\n0:1/60/60,EUR,49,x,0\n")
    )
    assert [rate.prefix for rate in deck] == ["49"]
    deck = read_deck(write(tmp_path, f"{HEAD.removesuffix(',steps')}\r\n 49 , x ,EUR, 0.1 , 1, 1 ,1\r\n\r\n"))
    assert [(rate.prefix, rate.destination) for rate in deck] == [("49", "x")]


def test_a_byte_order_mark_as_spreadsheets_write_it_is_no_error(tmp_path: Path) -> None:
    assert len(read_deck(write(tmp_path, f"\ufeff{HEAD}\n49,x,EUR,0,1,1,1,\n"))) == 1


def test_an_empty_deck_is_a_deck(tmp_path: Path) -> None:
    assert len(read_deck(write(tmp_path, HEAD + "\n"))) == 0


def test_periods_maximum_and_default_row(tmp_path: Path) -> None:
    deck = read_deck(
        write(
            tmp_path,
            f"{LONG}\n"
            "49,old,EUR,0,1,1,1,,,2026-07-01T00:00:00+02:00,,\n"
            "49,new,EUR,0,1,1,1,,2026-07-01T00:00:00+02:00,,3600,\n"
            ",rest,EUR,0,9,60,60,,,,,yes\n",
        )
    )
    found = [deck.match("491", at) for at in (AT, datetime(2026, 6, 30, 22, tzinfo=UTC))]
    assert [(rate.destination, rate.max_duration_s) for rate in found if rate] == [
        ("old", None),
        ("new", 3600),
    ]
    rest = deck.match("1", AT)
    assert rest is not None
    assert rest.destination == "rest"


def test_a_price_of_more_than_nine_decimals_is_kept_exactly(tmp_path: Path) -> None:
    deck = read_deck(write(tmp_path, f"{HEAD}\n49,x,EUR,0,0.123456789012,60,6,\n"))
    (rate,) = deck
    assert [step.price for step in rate.steps] == [Decimal("0.123456789012")] * 2


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ("49,x,EUR,0,NaN,60,60,", "price_per_minute"),
        ("49,x,EUR,0,sNaN,60,60,", "price_per_minute"),
        ("49,x,EUR,0,Infinity,60,60,", "price_per_minute"),
        ("49,x,EUR,0,-Infinity,60,60,", "price_per_minute"),
        ("49,x,EUR,0,inf,60,60,", "price_per_minute"),
        ("49,x,EUR,0,-0.1,60,60,", "price_per_minute"),
        ("49,x,EUR,0,-0,60,60,", "price_per_minute"),
        ("49,x,EUR,0,+0.1,60,60,", "price_per_minute"),
        ("49,x,EUR,0,1e400,60,60,", "price_per_minute"),
        ("49,x,EUR,0,1E-3,60,60,", "price_per_minute"),
        ("49,x,EUR,0,1_0,60,60,", "price_per_minute"),
        ("49,x,EUR,0,\u0661,60,60,", "price_per_minute"),
        ("49,x,EUR,0,\uff11,60,60,", "price_per_minute"),
        ('49,x,EUR,0,"0,05",60,60,', "price_per_minute"),
        ("49,x,EUR,0,0.05 EUR,60,60,", "price_per_minute"),
        ("49,x,EUR,0,0x10,60,60,", "price_per_minute"),
        ("49,x,EUR,0,1000000000000,60,60,", "price_per_minute"),
        ("49,x,EUR,0,0.1234567890123,60,60,", "price_per_minute"),
        ("49,x,EUR,0,,60,60,", "price_per_minute"),
        ("49,x,EUR,NaN,1,60,60,", "connect_fee"),
        ("49,x,EUR,-1,1,60,60,", "connect_fee"),
        ("49,x,EUR,1e400,1,60,60,", "connect_fee"),
        ("49,x,EUR,0,1,0,60,", "initial_s"),
        ("49,x,EUR,0,1,60,0,", "increment_s"),
        ("49,x,EUR,0,1,60,-6,", "increment_s"),
        ("49,x,EUR,0,1,1.5,6,", "initial_s"),
        ("49,x,EUR,0,1,,6,", "initial_s"),
        ("49,x,EUR,0,1,60,,", "increment_s"),
        ("49,x,EUR,0,1,999999999,60,", "initial_s"),
        ("49,x,EUR,0,1,99999999,60,", "initial_s"),
        ("49x,x,EUR,0,1,60,60,", "prefix"),
        ("+49,x,EUR,0,1,60,60,", "prefix"),
        ("4 9,x,EUR,0,1,60,60,", "prefix"),
        ("4.9E+3,x,EUR,0,1,60,60,", "prefix"),
        ("\u0664\u0669,x,EUR,0,1,60,60,", "prefix"),
        ("49\u00b2,x,EUR,0,1,60,60,", "prefix"),
        ("123456789012345678,x,EUR,0,1,60,60,", "prefix"),
        (",x,EUR,0,1,60,60,", "prefix"),
        ("49,x,XXX,0,1,60,60,", "currency"),
        ("49,x,eur,0,1,60,60,", "currency"),
        ("49,x,,0,1,60,60,", "currency"),
        ("49," + "x" * 201 + ",EUR,0,1,60,60,", "destination"),
        ("49,x,EUR,0,,,,0:1/60/60;30:1/60/1", "steps"),
        ("49,x,EUR,0,,,,0:1/60/60;120:1/60/60;60:1/60/1", "steps"),
        ("49,x,EUR,0,,,,0:1/60/60;60:1/60/60;60:1/60/1", "steps"),
        ("49,x,EUR,0,,,,60:1/60/60", "steps"),
        ("49,x,EUR,0,,,,0:1/0/60", "steps"),
        ("49,x,EUR,0,,,,0:1/60", "steps"),
        ("49,x,EUR,0,,,,0:NaN/60/60", "steps"),
        ("49,x,EUR,0,1,,,0:1/60/60", "steps"),
        ("49,x,EUR,0,,60,60,0:1/60/60", "steps"),
        ("49,x,EUR,0,1,60,60", None),
        ("49,x,EUR,0,1,60,60,,", None),
        ("49", None),
    ],
)
def test_one_bad_row_refuses_the_deck_with_row_and_column(
    tmp_path: Path, row: str, column: str | None
) -> None:
    found = errors(tmp_path, f"{HEAD}\n48,good,EUR,0,1,60,60,\n{row}\n47,good,EUR,0,1,60,60,\n")
    assert len(found) == 1
    assert found[0].startswith("row 3, column " + column if column else "row 3: "), found


@pytest.mark.parametrize(
    ("cells", "column"),
    [
        (",,,yes", "default"),
        (",,,maybe", "default"),
        ("2026-01-01,,,", "effective_from"),
        ("2026-01-01T00:00:00,,,", "effective_from"),
        ("01.01.2026 00:00,,,", "effective_from"),
        ("2026-02-30T00:00:00Z,,,", "effective_from"),
        ("0001-01-01T00:00:00+10:00,,,", "effective_from"),
        (",1767225600,,", "effective_to"),
        ("2026-01-01T00:00:00Z,2026-01-01T01:00:00+01:00,,", "effective_to"),
        ("2026-01-01T00:00:00Z,2025-01-01T00:00:00Z,,", "effective_to"),
        (",,0,", "max_duration_s"),
        (",,-5,", "max_duration_s"),
        (",,1h,", "max_duration_s"),
    ],
)
def test_a_bad_period_maximum_or_default_refuses_the_deck(tmp_path: Path, cells: str, column: str) -> None:
    found = errors(tmp_path, f"{LONG}\n49,x,EUR,0,1,60,60,,{cells}\n")
    assert len(found) == 1
    assert found[0].startswith(f"row 2, column {column}")


@pytest.mark.parametrize(
    ("head", "error"),
    [
        ("", "column prefix: is missing"),
        (HEAD.replace("prefix", "code"), "column code: is not a column of a deck"),
        (HEAD.replace("prefix", "code"), "column prefix: is missing"),
        (HEAD.replace("currency,", ""), "column currency: is missing"),
        (HEAD.replace("price_per_minute,", ""), "column price_per_minute: is missing"),
        (HEAD.replace(",steps", "").replace("increment_s", "interval"), "column increment_s: is missing"),
        (HEAD + ",prefix", "column prefix: is named twice"),
        (HEAD.replace(",", ";"), "column prefix: is missing"),
    ],
)
def test_wrong_column_names_refuse_the_deck(tmp_path: Path, head: str, error: str) -> None:
    found = errors(tmp_path, head + "\n")
    assert any(one.endswith(error) and one.startswith("row 1") for one in found), found


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (f"{HEAD}\n48,x,EUR,0,1,1,1,\n49,M\xfcnchen,EUR,0,1,1,1,\n".encode("latin-1"), "row 3: byte 5"),
        (f"{HEAD}\n49,x,EUR,0,1,1,1,\n".encode("utf-16"), "is UTF-16"),
        (f'{HEAD}\n49,"x"y,EUR,0,1,1,1,\n', "row 2: is not CSV"),
        (f'{HEAD}\n49,"x,EUR,0,1,1,1,\n', "row 2: is not CSV"),
        (f"{HEAD}\n49,{'x' * 200_000},EUR,0,1,1,1,\n", "row 2: is not CSV"),
        (f"{HEAD}\n4\0009,x,EUR,0,1,1,1,\n", "row 2"),
        (b"PK\x03\x04\xff\xff", "row 1: byte 5"),
    ],
)
def test_what_is_no_csv_in_utf_8_is_refused(tmp_path: Path, content: str | bytes, error: str) -> None:
    assert errors(tmp_path, content)[0].startswith(error)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeckRefusedError, match=r"nowhere\.csv: cannot be read"):
        read_deck(tmp_path / "nowhere.csv")
    with pytest.raises(DeckRefusedError, match="cannot be read"):
        read_deck(tmp_path)


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        (",,,", ",,,", "two rows that differ begin at the same time"),
        ("2026-01-01T00:00:00Z,,,", "2026-01-01T01:00:00+01:00,,,", "two rows that differ begin"),
        (
            "2026-01-01T00:00:00Z,2026-07-01T00:00:00Z,,",
            "2026-03-01T00:00:00Z,2026-04-01T00:00:00Z,,",
            "which holds then?",
        ),
    ],
)
def test_rows_of_one_prefix_that_contradict_name_each_other(
    tmp_path: Path, first: str, second: str, text: str
) -> None:
    rows = f"49,x,EUR,0,1,60,60,,{first}\n48,x,EUR,0,1,60,60,,,,,\n49,x,EUR,0,2,60,60,,{second}\n"
    (found,) = errors(tmp_path, f"{LONG}\n{rows}")
    assert found.startswith("row 4, column prefix: '49' is in row 2 already: ")
    assert text in found


def test_a_list_may_hold_what_is_in_force_and_what_is_to_come(tmp_path: Path) -> None:
    rows = "49,x,EUR,0,1,60,60,,2026-01-01T00:00:00Z,,,\n49,x,EUR,0,2,60,60,,2026-07-01T00:00:00Z,,,\n"
    older, newer = read_deck(write(tmp_path, f"{LONG}\n{rows}{rows}"))
    assert older.effective_to == newer.effective_from == datetime(2026, 7, 1, tzinfo=UTC)


def test_a_prefix_with_leading_zeros_is_another_prefix(tmp_path: Path) -> None:
    assert (
        len(
            read_deck(write(tmp_path, f"{HEAD}\n49,x,EUR,0,1,1,1,\n049,x,EUR,0,1,1,1,\n490,x,EUR,0,1,1,1,\n"))
        )
        == 3
    )


def test_every_error_of_a_deck_is_listed_at_once(tmp_path: Path) -> None:
    found = errors(tmp_path, f"{HEAD}\n4x,x,XXX,-1,NaN,0,60,\n49,x,EUR,0,1,1,1,\n49,x,EUR,0,2,1,1,\n")
    assert [one.partition(":")[0] for one in found] == [
        "row 2, column prefix",
        "row 2, column price_per_minute",
        "row 2, column currency",
        "row 2, column connect_fee",
        "row 2, column initial_s",
        "row 4, column prefix",
    ]


def test_the_list_of_errors_is_bounded_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD + "\n" + "".join(f"x{row},x,EUR,0,1,1,1,\n" for row in range(1500)))
    with pytest.raises(DeckRefusedError, match="and 500 more errors") as refused:
        read_deck(path)
    assert (len(refused.value.errors), refused.value.count) == (1000, 1500)


def test_one_cause_is_named_once(tmp_path: Path) -> None:
    found = errors(tmp_path, HEAD + "\n" + "4,x,EURO,0,1,1,1,\n" * 1500)
    assert len(found) == 1
    assert found[0].startswith("row 2, column currency: ")
    assert found[0].endswith(" (and in 1499 more rows)")


def test_names_keep_their_letters_and_lose_what_cannot_be_shown(tmp_path: Path) -> None:
    text = f'{HEAD}\n1,"Co\u00adte\u00a0d\u2019Ivoire\n– \u202eMobile\x07",EUR,0,1,1,1,\n'
    text += "2, Æøå  漢字 ,EUR,0,1,1,1,\n"
    deck = read_deck(write(tmp_path, text))
    assert [rate.destination for rate in deck] == ["Cote d\u2019Ivoire – Mobile", "Æøå 漢字"]


def test_the_revision_is_the_digest_of_the_canonical_file(tmp_path: Path) -> None:
    text = (
        f'{HEAD}\n49,"a, b",EUR,0.00,0.020,60,60,\n44,UK,GBP,0,,,,0:0.2/60/60;60:0.1/60/1\n'
        "48,x,EUR,0,0.1234567891,1,1,\n"
    )
    deck = read_deck(write(tmp_path, text))
    canonical = b"".join(canonical_chunks(deck))
    assert deck.revision == hashlib.sha256(canonical).hexdigest()
    again = read_deck(write(tmp_path, canonical))
    assert again.revision == deck.revision
    assert list(again) == list(deck)
    assert canonical.decode().splitlines() == [
        ",".join(COLUMNS[:12]),
        "44,UK,GBP,0,,,,0:0.2/60/60;60:0.1/60/1,,,,",
        "48,x,EUR,0,,,,0:0.1234567891/60/1,,,,",
        '49,"a, b",EUR,0,0.02,60,60,,,,,',
    ]


def test_equal_decks_have_one_revision_however_they_are_written(tmp_path: Path) -> None:
    texts = [
        f"{HEAD}\n49,x,EUR,0.0,0.020,60,60,\n48,x,EUR,0,1,60,6,\n",
        f"{HEAD}\n48,x,EUR,0,1.000,60,6,\n49,x,EUR,,,,,0:0.02/60/60\n",
        f"{LONG}\r\n48,x,EUR,0,,,,0:1/60/60;60:1/60/6,,,,no\r\n49, x ,EUR,0,0.02,060,60,,,,,\r\n",
    ]
    assert len({read_deck(write(tmp_path, text)).revision for text in texts}) == 1
    assert (
        read_deck(write(tmp_path, texts[0].replace("49,x", "49,y"))).revision
        != read_deck(write(tmp_path, texts[0])).revision
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.text(max_size=8), max_size=12), max_size=6))
def test_no_table_of_junk_makes_the_reader_raise_anything_else(tmp_path: Path, rows: list[list[str]]) -> None:
    path = tmp_path / "junk.csv"
    with path.open("w", encoding="utf-8", errors="surrogatepass", newline="") as file:
        file.write(LONG + "\n")
        csv.writer(file).writerows(rows)
    with contextlib.suppress(DeckRefusedError):
        read_deck(path)


OWN = "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s"
OWN += ",grace_s,included_s,minimum_charge,blocked"


def test_a_row_may_have_terms_of_its_own(tmp_path: Path) -> None:
    text = f"{OWN}\n44,a,EUR,0,0.1,1,1,5,30,0.02,no\n4490,b,EUR,,,,,,,,yes\n33,c,EUR,0,0.1,1,1,,0,,\n"
    deck = read_deck(write(tmp_path, text))
    france, uk, premium = deck
    assert (uk.grace_s, uk.included_s, uk.minimum_charge, uk.blocked) == (5, 30, Decimal("0.02"), False)
    assert (france.grace_s, france.included_s, france.minimum_charge) == (0, 0, None)
    assert premium.blocked
    assert premium.steps == ()
    assert (deck.has_blocked, deck.match("449012", AT)) == (True, premium)
    canonical = b"".join(canonical_chunks(deck))
    assert canonical.splitlines()[0].decode().endswith(",default,grace_s,included_s,minimum_charge,blocked")
    again = read_deck(write(tmp_path, canonical))
    assert (again.revision, list(again)) == (deck.revision, list(deck))


def test_a_row_may_be_for_those_who_call_from_a_prefix(tmp_path: Path) -> None:
    head = "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s,caller_prefix\n"
    deck = read_deck(
        write(tmp_path, f"{head}44,a,EUR,0,0.1,1,1,\n44,a,EUR,0,0.2,1,1,33\n44,a,EUR,0,0.3,1,1,surcharge\n")
    )
    found = [deck.match("4420", AT, who) for who in ("49", "3361", "surcharge")]
    assert [one and f"{one.steps[0].price:f}" for one in found] == ["0.1", "0.2", "0.3"]
    again = read_deck(write(tmp_path, b"".join(canonical_chunks(deck))))
    assert (again.revision, list(again), again.asks_who_calls) == (deck.revision, list(deck), True)
    assert errors(tmp_path, f"{head}44,a,EUR,0,0.1,1,1,0044\n44,a,EUR,0,0.1,1,1,x\n") == [
        "row 2, column caller_prefix: caller_prefix '0044' begins with 0, as no country code does",
        "row 3, column caller_prefix: caller_prefix 'x' is neither digits nor 'surcharge'",
    ]


def test_a_deck_without_such_terms_keeps_its_revision(tmp_path: Path) -> None:
    text = f"{OWN}\n44,a,EUR,0,0.1,1,1,0,,,no\n"
    assert b"".join(canonical_chunks(read_deck(write(tmp_path, text)))).decode() == (
        "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s,steps,"
        "effective_from,effective_to,max_duration_s,default\n44,a,EUR,0,0.1,1,1,,,,,\n"
    )


def test_a_blocked_row_with_a_price_is_refused(tmp_path: Path) -> None:
    text = f"{OWN}\n44,a,EUR,0,0,1,1,,,,yes\n45,a,EUR,0.1,,,,,,,yes\n46,a,EUR,0,,,,,-1,x,maybe\n"
    assert errors(tmp_path, text) == [
        "row 2, column initial_s: is given, but the row is blocked: leave it empty",
        "row 2, column increment_s: is given, but the row is blocked: leave it empty",
        "row 3, column connect_fee: is given, but the row is blocked: leave it empty",
        "row 4, column blocked: 'maybe' is neither yes nor no nor empty",
        "row 4, column initial_s: is empty",
        "row 4, column increment_s: is empty",
        "row 4, column included_s: '-1' is not a whole number of up to 8 digits",
        "row 4, column minimum_charge: 'x' is not an amount (up to 9 digits, then up to 12 decimals)",
    ]
    assert errors(tmp_path, f"{OWN}\n44,a,EUR,0,0,,,,,,yes\n") == [
        "row 2, column price_per_minute: is given, but the row is blocked: leave it empty"
    ]
