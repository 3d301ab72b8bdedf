"""Price lists as carriers send them: formats and faults, by the shipped templates and by others."""

from __future__ import annotations

import gzip
import io
import zipfile
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.adapters.deck_files import (
    AmbiguousListError,
    Choice,
    DeckRefusedError,
    ListRead,
    Template,
    TemplateError,
    read_list,
    read_template,
    shipped_templates,
    template_text,
)
from sidecar.adapters.deck_files.cells import parse_increments, parse_price
from sidecar.adapters.deck_files.prefixes import Codes, fewest_prefixes
from sidecar.adapters.deck_files.template import STATUS_WORDS, template_of
from sidecar.core.steps import format_steps
from sidecar.core.tariff import Rate
from tests.adapters.workbooks import Cell, Formula, workbook

DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
NOON = datetime(2026, 12, 6, 12, 0)  # noqa: DTZ001 - a cell has no zone
JUNE = datetime(2026, 6, 30)  # noqa: DTZ001


def lists(
    folder: Path,
    content: str | bytes,
    choice: Choice | Template | str | None = None,
    name: str = "list.csv",
    **options: Any,
) -> ListRead:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    if not isinstance(choice, Choice):
        choice = Choice(template=choice, options=options)
    return read_list(path, choice)


def refused(folder: Path, content: str | bytes, choice: Any = None, **options: Any) -> list[str]:
    with pytest.raises(DeckRefusedError) as caught:
        lists(folder, content, choice, **options)
    return [
        str(error).removeprefix(str(folder / options.get("name", "list.csv"))).lstrip(", :")
        for error in caught.value.errors
    ]


def prices(read: ListRead) -> dict[str, str]:
    return {
        one.prefix: f"{format_steps(one.steps)} {one.currency}" if not one.blocked else "blocked"
        for one in read.deck
    }


def by_prefix(read: ListRead) -> dict[str, Rate]:
    return {one.prefix: one for one in read.deck}


# --- the shipped templates


def test_every_shipped_template_is_what_it_would_be_saved_as(tmp_path: Path) -> None:
    shipped = shipped_templates()
    assert {"own", "any", "carrier-az"} <= shipped.keys()
    for name, template in shipped.items():
        assert template.title
        path = tmp_path / f"{name}.toml"
        path.write_text(template_text(template))
        assert read_template(path) == template


NEXT = (
    "Category,Country,Network,Prefix,Rate,Connection fee,Initial increment,Recurring increment,Reject calls,"
    "Next rate,Effective at\n"
    "International,Sampleland,Mobile,88801,0.2,0.01,30,6,false,0.25,2026-12-05T00:00:00.000Z\n"
    "International,Sampleland,Fixed,8880,0.01,0.0,60,60,false,,\n"
    "International,Sampleland,Special,888066,,,,,true,,\n"
    "Origin based,Sampleland,Fixed,8880,0.4,0.0,60,60,false,,\n"
)


def test_a_list_with_the_next_rate_and_its_date(tmp_path: Path) -> None:
    read = lists(tmp_path, NEXT)
    assert (read.template, read.guessed) == ("next-rate", True)
    now, later, blocked = [one for one in read.deck if len(one.prefix) > 4]
    assert (now.prefix, now.steps[0].price, now.connect_fee) == ("88801", Decimal("0.2"), Decimal("0.01"))
    moment = datetime(2026, 12, 5, tzinfo=UTC)
    assert (now.effective_from, now.effective_to) == (None, moment)
    assert (later.steps[0].price, later.effective_from, later.effective_to) == (Decimal("0.25"), moment, None)
    assert (blocked.prefix, blocked.blocked) == ("888066", True)
    at = datetime(2026, 11, 1, tzinfo=UTC)
    assert [
        rate.steps[0].price
        for rate in (read.deck.match("88801", at, "49"), read.deck.match("8880", at, "surcharge"))
        if rate
    ] == [Decimal("0.2"), Decimal("0.4")]
    any_caller = read.deck.match("8880", at, "49")
    assert any_caller is not None
    assert (any_caller.destination, any_caller.steps[0].price) == ("Sampleland Fixed", Decimal("0.01"))


def test_rows_by_the_caller(tmp_path: Path) -> None:
    text = "Prefix,Rate,Currency,Increment,Origin\n44,1,EUR,1/1,33\n44,2,EUR,1/1,+49\n44,3,EUR,1/1,\n"
    read = lists(tmp_path, text + "44,4,EUR,1/1,Surcharge\n")
    assert sorted((one.caller_prefix, int(one.steps[0].price)) for one in read.deck) == [
        *(("", 3), ("33", 1), ("49", 2), ("surcharge", 4))
    ]
    (found,) = refused(tmp_path, text + "44,4,EUR,1/1,EEA\n")
    assert (
        found == "row 5, column Origin: 'EEA' is no beginning of a caller's number, and no word of [callers]"
    )


AZ = (
    "Muster Telecom AG;;;;;\r\nA-Z price list, valid from 05-Dec-26;;;;;\r\n;;;;;\r\n"
    "Destination;Dial Codes;Rate (EUR/min);Increment;Effective Date;Status\r\n"
    "Ålesund;47;0,0200;60/60;05-Dec-26;Unchanged\r\n"
    "Ålesund Mobile;474;0,0500;30/6;06-Dec-26;Increase\r\n"
    "Destination;Dial Codes;Rate (EUR/min);Increment;Effective Date;Status\r\n"
    "Ålesund Special;47820;0,0000;1/1;26-Nov-26;Blocked\r\n"
    "Ålesund Old;4799;0,0700;1/1;10-Dec-26;Closed\r\n"
    ";;;;;\r\nAll prices excl. VAT;;;;;\r\nCall +47 22 for questions;;;;;\r\n"
)


@pytest.mark.parametrize("encoding", ["windows-1252", "utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_a_list_with_title_footer_and_status_words(tmp_path: Path, encoding: str) -> None:
    read = lists(tmp_path, AZ.encode(encoding))
    assert read.template == "carrier-az"
    assert prices(read) == {
        "47": "0:0.02/60/60 EUR",
        "474": "0:0.05/60/30;30:0.05/60/6 EUR",
        "47820": "blocked",
        "4799": "0:0.07/60/1 EUR",
    }
    rates = by_prefix(read)
    assert rates["47"].destination == "Ålesund"
    assert rates["47"].effective_from == datetime(2026, 12, 5, tzinfo=UTC)
    assert (rates["4799"].effective_from, rates["4799"].effective_to) == (
        None,
        datetime(2026, 12, 10, tzinfo=UTC),
    )
    assert [(one.prefix, one.at) for one in read.ended] == [("4799", datetime(2026, 12, 10, tzinfo=UTC))]
    assert read.counts["repeated headers"] == 1
    assert ("currency", "EUR, as 'Rate (EUR/min)' says") in read.took


def test_a_workbook_with_title_rows_dates_and_footer(tmp_path: Path) -> None:
    rows: list[list[Cell]] = [
        ["Muster Telecom AG"],
        ["Valid from", date(2026, 12, 5)],
        [],
        ["Destination", "Dial Code", "Rate\n(USD/min)", "Increment", "Effective Date", "Status"],
        ["Norway", "47", 0.02, "60/60", date(2026, 12, 5), "Unchanged"],
        ["Norway Mobile", 474, Formula("C5*2.5", 0.05), "30/6", NOON, "Increase"],
        ["All prices excl. VAT"],
    ]
    path = workbook(tmp_path / "list.xlsx", {"Rates": rows})
    read = read_list(path, Choice())
    assert prices(read) == {"47": "0:0.02/60/60 USD", "474": "0:0.05/60/30;30:0.05/60/6 USD"}
    assert by_prefix(read)["474"].effective_from == datetime(2026, 12, 6, 12, tzinfo=UTC)
    berlin = read_list(path, Choice(options={"values": {"zone": "Europe/Berlin"}}))
    assert by_prefix(berlin)["47"].effective_from == datetime(2026, 12, 4, 23, tzinfo=UTC)


def test_a_list_of_ranges(tmp_path: Path) -> None:
    text = (
        "Code,Code Name,Rate,Effective Date,End Date,Billing Increment,SF\n"
        "4700-4709,Fixed,0.0200,05.12.2026,,60/60,0\n474,Mobile,0.0500,05.12.2026,,1/1,0\n4920-4922,x,1,05.12.2026,,1+1,0\n"
    )
    read = lists(tmp_path, text)
    assert read.template == "code-ranges"
    assert [one.prefix for one in read.deck] == ["470", "474", "4920", "4921", "4922"]
    assert "columns that are not used: SF" in read.notes
    other = lists(tmp_path, text, values={"currency": "CHF"})
    assert {one.currency for one in other.deck} == {"CHF"}


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_a_list_without_a_header_has_its_columns_by_place(tmp_path: Path, end: str) -> None:
    cells = ["*", "47", "Norway", "30", "6", "0.02", "0", "1", "0", "6", "00:00:00", "23:59:59", *"603115"]
    read = lists(tmp_path, "\t".join(cells) + end)
    assert read.template == "positions-tab"
    assert prices(read) == {"47": "0:0.02/60/30;30:0.02/60/6 USD"}


def test_a_list_with_included_seconds(tmp_path: Path) -> None:
    text = (
        "Code,Destination,Connect Cost,Included Seconds,Per Minute Cost,Increment,Precedence\n"
        "95,Sampleland,0.1,30,0.21,60,0\n \n"
    )
    read = lists(tmp_path, text)
    assert read.template == "included-seconds"
    (rate,) = read.deck
    assert (rate.included_s, rate.connect_fee, format_steps(rate.steps)) == (
        30,
        Decimal("0.1"),
        "0:0.21/60/60",
    )


def test_a_list_in_pence(tmp_path: Path) -> None:
    read = lists(tmp_path, "Destination,Prefix,Call cost (ppm),Base call cost (p)\nWales,4429,2.5,1.5\n")
    assert prices(read) == {"4429": "0:0.025/60/1 GBP"}
    assert by_prefix(read)["4429"].connect_fee == Decimal("0.015")


OWN = "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s"


def test_our_own_columns_take_prices_as_people_write_them(tmp_path: Path) -> None:
    cells = ["$0.0123", ".05", "5E-05", "0.012300000000000001", "0.01 USD", "US$ 0.5", "USD0.25", '"1,234.5"']
    text = OWN + "\n" + "".join(f"{44 + n},x,USD,0,{cell},1,1\n" for n, cell in enumerate(cells))
    read = lists(tmp_path, text)
    assert [str(one.steps[0].price) for one in read.deck] == [
        *("0.0123", "0.05", "0.00005", "0.0123", "0.01", "0.5", "0.25", "1234.5")
    ]
    assert read.counts["prices rounded"] == 1
    assert refused(tmp_path, f"{text}60,x,USD,0,-1,1,1\n61,x,USD,0,€1,1,1\n62,x,USD,0,(0.5),1,1\n") == [
        "row 10, column price_per_minute: '-1' is negative (and in 1 more rows)",
        "row 11, column price_per_minute: '€1' is not in USD",
    ]


def test_a_misspelt_column_of_ours_is_not_passed_over(tmp_path: Path) -> None:
    (error,) = refused(tmp_path, OWN + ",efective_from\n44,x,USD,0,1,1,1,2026-12-01\n")
    assert error.startswith("row 1: 'efective_from' is no column; there are prefix, destination")


# --- where the table is

PLAIN = Template(
    columns={
        "prefix": ["Code", "Dial*"],
        "destination": "Name",
        "price_per_minute": "Rate",
        "increments": "Inc",
    },
    values={"currency": "EUR"},
)
ROWS = "Code,Name,Rate,Inc\n44,UK,0.01,60/60\n33,France,0.02,1/1\n"
READ = {"44": "0:0.01/60/60 EUR", "33": "0:0.02/60/1 EUR"}


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        (ROWS, ","),
        (ROWS.replace(",", ";"), ";"),
        (ROWS.replace(",", "\t"), "\t"),
        (ROWS.replace(",", "|"), "|"),
    ],
)
def test_the_delimiter_is_found(tmp_path: Path, text: str, delimiter: str) -> None:
    assert prices(lists(tmp_path, text, PLAIN)) == READ
    assert prices(lists(tmp_path, "Our list\n\n" + text, PLAIN)) == READ
    assert prices(lists(tmp_path, f"sep={delimiter}\r\n{text}", PLAIN)) == READ


@pytest.mark.parametrize(
    "text",
    [
        ROWS.replace("Code", "dial\u00a0 code"),
        '"Code\n","N\u00adame",Rate,Inc\n44,UK,0.01,60/60\n33,France,0.02,1/1\n',
        "x,y\nsome words,,,\n" + ROWS,
        ROWS + "\n,,,\n",
        ROWS.replace("33,", "Code,Name,Rate,Inc\n33,"),
        "Code,Name,Rate,Inc,More,\n44,UK,0.01,60/60,a,b\n33,France,0.02,1/1,,\n",
    ],
)
def test_the_header_is_found_by_its_names(tmp_path: Path, text: str) -> None:
    assert prices(lists(tmp_path, text, PLAIN)) == READ


def test_a_table_ends_where_the_template_says(tmp_path: Path) -> None:
    footer = "\nAll rates in EUR,,,\n99,no,0.5,1/1\n"
    with_footer = Template(**{**_fields(PLAIN), "end": ["all rates*"]})
    assert prices(lists(tmp_path, ROWS + footer, with_footer)) == READ
    at_blank = Template(**{**_fields(PLAIN), "blank_row_ends": True})
    assert prices(lists(tmp_path, ROWS + ",,,\n99,no,0.5,1/1\n", at_blank)) == READ
    noted = Template(**{**_fields(PLAIN), "notes": True})
    assert prices(lists(tmp_path, ROWS + "Only for customers,,,\n,see our terms,,\n", noted)) == READ
    assert refused(tmp_path, ROWS + "Only for customers,,,\n,see our terms,,\n", PLAIN) == [
        "row 4, column Code: 'Only for customers' is no code of digits",
        "row 5, column Code: is empty",
    ]


def _fields(template: Template) -> dict[str, Any]:
    return {name: getattr(template, name) for name in template.__struct_fields__}


def test_a_wrong_mapping_is_one_error_that_lists_the_columns(tmp_path: Path) -> None:
    (found,) = refused(tmp_path, "A,B\n1,2\n1,2\n", PLAIN)
    assert found == (
        "row 1: has no column for prefix ('Code' or 'Dial*'); has no column for destination ('Name'); "
        "has no column for price_per_minute ('Rate'); has no column for increments ('Inc'); "
        "the columns are 'A', 'B'"
    )
    (found,) = refused(tmp_path, "A,B\n1,2\n1,2\n")
    assert found.startswith("row 1: no template knows it: has no column for prefix; has no column for price_")
    assert found.endswith("; the columns are 'A', 'B'")


def test_two_columns_that_could_be_the_price_are_asked_about(tmp_path: Path) -> None:
    text = "Prefix,Destination,Rate,New Rate,Increment,Currency\n44,UK,0.01,0.02,60/60,EUR\n"
    with pytest.raises(
        AmbiguousListError, match=r"price_per_minute could be 'Rate' or 'New Rate'\. --map price_per"
    ):
        lists(tmp_path, text)
    read = lists(
        tmp_path,
        text,
        columns={"prefix": "Prefix", "price": "New Rate", "increments": "Increment", "currency": "Currency"},
    )
    assert prices(read) == {"44": "0:0.02/60/60 EUR"}


def test_sheets(tmp_path: Path) -> None:
    def rows(prefix: str, price: float) -> list[list[Cell]]:
        return [["Code", "Name", "Rate", "Inc"], [prefix, "x", price, "60/60"]]

    sheets: dict[str, list[list[Cell]]] = {
        "Notes": [["hello"]],
        "Rates EUR": rows("44", 0.5),
        "Rates USD": rows("33", 0.25),
    }
    path = workbook(tmp_path / "list.xlsx", sheets)
    fields = {**_fields(PLAIN), "values": {}}

    def read(**more: Any) -> dict[str, str]:
        return prices(read_list(path, Choice(template=Template(**{**fields, **more}))))

    currencies = {"*EUR": "EUR", "*USD": "USD"}
    both = {"44": "0:0.5/60/60 EUR", "33": "0:0.25/60/60 USD"}
    assert read(sheet="*", currencies=currencies) == both
    assert read(sheet=["Rates*"], currencies=currencies) == both
    assert read(sheet="rates usd", currencies=currencies) == {"33": "0:0.25/60/60 USD"}
    with pytest.raises(AmbiguousListError, match="'Rates EUR' and 'Rates USD' have a table: --sheet NAME"):
        read(currencies=currencies)
    with pytest.raises(
        DeckRefusedError, match="has no sheet 'Prices', but 'Notes', 'Rates EUR', 'Rates USD'"
    ):
        read(sheet="Prices")
    with pytest.raises(DeckRefusedError, match="sheet Notes, row 1: has no column for prefix"):
        read(sheet=["Notes", "Rates EUR"], currencies=currencies)
    with pytest.raises(
        DeckRefusedError, match="sheet Rates EUR, row 2, column currency: is nowhere: --set currency=EUR"
    ):
        read(sheet="Rates EUR")


def test_one_prefix_in_two_sheets_is_named_with_both(tmp_path: Path) -> None:
    rows: list[list[Cell]] = [["Code", "Name", "Rate", "Inc"], ["44", "x", 1, "1/1"]]
    other: list[list[Cell]] = [*rows[:1], ["44", "x", 2, "1/1"]]
    path = workbook(tmp_path / "list.xlsx", {"A": rows, "B": other})
    with pytest.raises(
        DeckRefusedError, match=r"sheet B, row 2, column Code \(A2\): '44' is in row 2 of sheet A already"
    ):
        read_list(path, Choice(template=Template(**{**_fields(PLAIN), "sheet": "*"})))


# --- packed files, and files of strangers


def test_packed_files(tmp_path: Path) -> None:
    assert prices(lists(tmp_path, gzip.compress(ROWS.encode()), PLAIN, name="list.csv.gz")) == READ
    assert (
        prices(lists(tmp_path, zipped({"a/list.csv": ROWS.encode(), "__MACOSX/._list": b"x"}), PLAIN)) == READ
    )
    book = workbook(
        tmp_path / "in.xlsx", {"R": [["Code", "Name", "Rate", "Inc"], ["44", "x", 1, "1/1"]]}
    ).read_bytes()
    assert prices(lists(tmp_path, gzip.compress(book), PLAIN)) == {"44": "0:1/60/1 EUR"}
    assert prices(lists(tmp_path, zipped({"list.xlsx": book}), PLAIN)) == {"44": "0:1/60/1 EUR"}


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def test_what_cannot_be_a_list_is_refused_in_a_word(tmp_path: Path) -> None:
    for content, name, error in (
        (zipped({"a.csv": b"x", "b.csv": b"y"}), "list.csv", "holds 2 files, not one: 'a.csv', 'b.csv'"),
        (zipped({}), "list.zip", ""),
        (zipped({"a.zip": zipped({"b.csv": b"x"})}), "list.zip", "holds another packed file: unpack it"),
        (gzip.compress(ROWS.encode())[:-12], "list.gz", "is not gzip that can be read"),
        (b"PK\x03\x04 cut short", "list.zip", "is not a zip file that can be read"),
        (
            b"<html><table><tr><td>Code</td>",
            "list.xls",
            "is not a spreadsheet that can be read: it is an HTML page",
        ),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"x" * 600,
            "list.xls",
            "is not a spreadsheet that can be read",
        ),
        (b'Code,Name,Rate,Inc\n44,"UK"x,1,1/1\n', "list.csv", "row 2: is not CSV"),
        (b"Code,Name,Rate,Inc\n44," + b"x" * (1 << 20) + b",1,1/1\n", "list.csv", "has a line of more than"),
        (b"Code,Name,Rate,Inc\n44,\xff,1,1/1\n", "list.csv", "row 2: byte 4 of the line is not UTF-8"),
        (b"Code,Name,Rate,Inc\n", "list.csv", "has no rates"),
        (b"", "list.csv", "row 1: has no column for prefix"),
        (b"\x00" * 600, "list.csv", ""),
    ):
        (found,) = refused(tmp_path, content, PLAIN, name=name)
        assert found.startswith(error), (found, error)


def test_a_cell_far_out_costs_no_memory(tmp_path: Path) -> None:
    rows: list[list[Cell]] = [["Code", "Name", "Rate", "Inc"], ["44", "UK", 0.01, "60/60"]]
    path = workbook(tmp_path / "list.xlsx", {"Rates": rows})
    for place, row in (("AX1048576", 1048576), ("XFD1048576", 1048576), ("XFD3", 3)):
        stray = f'<row r="{row}"><c r="{place}" t="inlineStr"><is><t> </t></is></c></row></sheetData>'
        far = tmp_path / "far.xlsx"
        with zipfile.ZipFile(path) as source, zipfile.ZipFile(far, "w") as copy:
            for one in source.infolist():
                body = source.read(one).decode()
                copy.writestr(one.filename, body.replace("</sheetData>", stray))
        with pytest.raises(DeckRefusedError, match="remove cells that stand alone"):
            read_list(far, Choice(template=PLAIN))


MANIFEST = (
    b'<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">'
    b'<manifest:file-entry manifest:full-path="/" '
    b'manifest:media-type="application/vnd.oasis.opendocument.spreadsheet"/></manifest:manifest>'
)


def test_an_open_document_sheet(tmp_path: Path) -> None:
    cells = [["Code", "Name", "Rate", "Inc"], ["44", "UK", "0.01", "60/60"]]
    rows = "".join(
        "<table:table-row>"
        + "".join(
            f'<table:table-cell office:value-type="string"><text:p>{cell}</text:p></table:table-cell>'
            for cell in row
        )
        + "</table:table-row>"
        for row in cells
    )
    spaces = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
        for name in ("office", "table", "text")
    )
    content = (
        f"<office:document-content {spaces}><office:body><office:spreadsheet>"
        f'<table:table table:name="Rates">{rows}</table:table>'
        "</office:spreadsheet></office:body></office:document-content>"
    )
    book = zipped(
        {
            "mimetype": b"application/vnd.oasis.opendocument.spreadsheet",
            "content.xml": content.encode(),
            "META-INF/manifest.xml": MANIFEST,
        }
    )
    assert prices(lists(tmp_path, book, PLAIN, name="list.ods")) == {"44": "0:0.01/60/60 EUR"}


@pytest.mark.parametrize(
    "cell", ["1" + " " * 60_000 + "x", "x" + "\t" * 60_000 + "y", "1," * 40_000, "-" * 90_000]
)
def test_a_cell_made_to_be_slow_is_none(tmp_path: Path, cell: str) -> None:
    template = Template(**{**_fields(PLAIN), "prefix_ranges": True, "prefix_split": ","})
    for text in (f'"{cell}",UK,1,1/1', f'44,UK,"{cell}",1/1', f'44,UK,1,"{cell}"'):
        assert len(refused(tmp_path, f"Code,Name,Rate,Inc\n{text}\n", template)) == 1


def test_lists_and_ranges_do_not_become_more_rates_than_a_deck_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.adapters.deck_files.translate.ROWS_MAX", 1000)
    template = Template(**{**_fields(PLAIN), "prefix_ranges": True})
    rows = "".join(f"{n}001-{n}998,UK,1,1/1\n" for n in range(10, 90))
    assert refused(tmp_path, "Code,Name,Rate,Inc\n" + rows, template) == [
        "has more than 1000 rates, with its lists and ranges"
    ]


def test_an_error_in_a_formula_is_no_price(tmp_path: Path) -> None:
    path = workbook(
        tmp_path / "list.xlsx", {"R": [["Code", "Name", "Rate", "Inc"], ["44", "UK", "#N/A", "1/1"]]}
    )
    with zipfile.ZipFile(path) as source:
        parts = {one.filename: source.read(one) for one in source.infolist()}
    sheet = "xl/worksheets/sheet1.xml"
    parts[sheet] = parts[sheet].replace(
        b't="inlineStr"><is><t>#N/A</t></is>', b't="e"><f>1/0</f><v>#DIV/0!</v>'
    )
    (found,) = refused(tmp_path, zipped(parts), PLAIN, name="list.xlsx")
    assert found.startswith("sheet R, row 2, column Rate (C2): ")


# --- codes


@pytest.mark.parametrize(
    ("codes", "cell", "country", "found"),
    [
        (Codes(split=";,"), "4477;4478", "", ["4477", "4478"]),
        (Codes(split=";,"), "74, 75,", "", ["74", "75"]),
        (Codes(split=" "), "38\u00a039", "", ["38", "39"]),
        (Codes(split=",\n"), "38,\n39", "", ["38", "39"]),
        (Codes(split=","), "74,75", "44", ["4474", "4475"]),
        (Codes(split=","), "", "44", []),
        (Codes(ranges=True), "4470-4479", "", ["447"]),
        (Codes(ranges=True), "7700-7702", "44", ["447700", "447701", "447702"]),
        (Codes(ranges=True), "7700\u201302", "", ["7700", "7701", "7702"]),
        (Codes(ranges=True), "00-99", "44", [f"44{n}" for n in range(10)]),
        (Codes(ranges=True, split=";"), "1-3; 5", "", ["1", "2", "3", "5"]),
        (Codes(ranges=True, strip=["+"]), "+4470 - +4472", "", ["4470", "4471", "4472"]),
        (Codes(strip=["+", "00", "011"]), "+44", "", ["44"]),
        (Codes(strip=["+", "00", "011"]), "0044", "", ["44"]),
        (Codes(strip=["+", "00", "011"]), "01144", "", ["44"]),
        (Codes(drop=" -.()", strip=["+"]), " +44 (20)\u202f7-9.4", "", ["442079 4".replace(" ", "")]),
    ],
)
def test_codes(codes: Codes, cell: str, country: str, found: list[str]) -> None:
    assert codes.prefixes(cell, country) == found


@pytest.mark.parametrize(
    ("codes", "cell", "error"),
    [
        (Codes(), "4477;4478", "is no code of digits"),
        (Codes(), "+44", "is no code of digits"),
        (Codes(), "44 20", "is no code of digits"),
        (Codes(), "4.47E+11", "digits are lost"),
        (Codes(split=","), "4,47E+11", "digits are lost"),
        (Codes(ranges=True), "4479-4470", "ends before it begins"),
        (Codes(ranges=True), "44-447", "not of one length"),
        (Codes(), "\u0664\u0664", "is no code of digits"),
        (Codes(), "1" * 18, "more than 17 digits"),
        (Codes(ranges=True), "10000001-99999998", None),
        (
            Codes(ranges=True, split=","),
            ",".join(f"1{n:04d}1-1{n:04d}8" for n in range(2600)),
            "more than 20000",
        ),
    ],
)
def test_codes_that_are_none(codes: Codes, cell: str, error: str | None) -> None:
    if error is None:
        assert len(codes.prefixes(cell)) < 140  # a few for each digit, not ninety million
        return
    with pytest.raises(ValueError, match=error):
        codes.prefixes(cell)


@given(st.integers(1, 3), st.data())
def test_a_range_is_the_fewest_prefixes(width: int, data: st.DataObject) -> None:
    low = data.draw(st.integers(0, 10**width - 1))
    high = data.draw(st.integers(low, 10**width - 1))
    found = list(fewest_prefixes(str(low).zfill(width), str(high).zfill(width)))
    covered = [n for n in range(10**width) if any(str(n).zfill(width).startswith(one) for one in found)]
    assert covered == list(range(low, high + 1))
    assert all(not a.startswith(b) for a in found for b in found if a is not b)
    for one in found:  # none of ten that a shorter one could stand for
        family = {one[:-1] + digit for digit in "0123456789"}
        assert len(one) == 1 or not family <= set(found)


def test_codes_of_two_columns_and_of_numbers(tmp_path: Path) -> None:
    template = Template(
        columns={"country_code": "CC", "prefix": "AC", "price_per_minute": "Rate"},
        values={"currency": "EUR", "increments": "60/60"},
        prefix_split=",",
        prefix_ranges=True,
        numeric_prefixes=True,
    )
    rows: list[list[Cell]] = [["CC", "AC", "Rate"], [44, "7700-7709,20", 1], ["33", None, 2], [49.0, 151, 3]]
    read = read_list(workbook(tmp_path / "list.xlsx", {"R": rows}), Choice(template=template))
    assert prices(read) == {
        "44770": "0:1/60/60 EUR",
        "4420": "0:1/60/60 EUR",
        "33": "0:2/60/60 EUR",
        "49151": "0:3/60/60 EUR",
    }
    for cell, error in (
        (
            1234567890123456.0,
            "'1234567890123456' is a number of more than 15 digits: a spreadsheet has rounded it",
        ),
        (4.5, "'4.5' is no code of digits"),
        (True, "'yes' is no code of digits"),
        (date(2026, 12, 1), "'2026-12-01' is no code of digits"),
        ("4.47E+11", "'4.47E+11' is a spreadsheet's short form of a number, digits are lost"),
    ):
        path = workbook(tmp_path / "list.xlsx", {"R": [["CC", "AC", "Rate"], [None, cell, 1]]})
        with pytest.raises(DeckRefusedError) as caught:
            read_list(path, Choice(template=template))
        assert f"sheet R, row 2, column AC (B2): {error}" in str(caught.value)


# --- prices


@pytest.mark.parametrize(
    ("cell", "comma", "amount", "currency"),
    [
        ("0.0123", None, "0.0123", ""),
        ("0,0123", None, "0.0123", ""),
        ("0,0123", True, "0.0123", ""),
        ("1.234,5", None, "1234.5", ""),
        ("1,234.5", None, "1234.5", ""),
        ("1.234,5", True, "1234.5", ""),
        ("1,234", False, "1234", ""),
        ("1,234", True, "1.234", ""),
        ("1,234,567", None, "1234567", ""),
        ("1'234.5", None, "1234.5", ""),
        ("1\u202f234,5", True, "1234.5", ""),
        ("€0.5", None, "0.5", "EUR"),
        ("0.5 €", None, "0.5", "EUR"),
        ("GBP 0.5", None, "0.5", "GBP"),
        ("0.5eur", None, "0.5", "EUR"),
        ("C$0.5", None, "0.5", "CAD"),
        (".5", None, "0.5", ""),
        ("+0.5", None, "0.5", ""),
        ("5e-2", None, "0.05", ""),
        ("0.5/min", None, "0.5", ""),
    ],
)
def test_prices_as_people_write_them(cell: str, comma: bool | None, amount: str, currency: str) -> None:
    found = parse_price(cell, comma)
    assert (found.amount, found.currency) == (Decimal(amount), currency)


@pytest.mark.parametrize(
    "cell",
    [
        *(
            "",
            "x",
            "n/a",
            "#N/A",
            "1.2.3",
            "1,2,3",
            "0.1 0.2",
            "1 2",
            "1,23.4",
            "-1",
            "(1)",
            "1e999999",
            "0x10",
            "1_0",
        ),
        *("\u0661", "€1$", "EUR 1 USD", "1,234", "12,34.5", "--1", "1-", "inf", "nan", "1%", "0.5/km"),
    ],
)
def test_prices_that_are_none(cell: str) -> None:
    with pytest.raises(ValueError, match=r"^(is|has|names) "):
        parse_price(cell, None)


def priced(price: str, **template: Any) -> Choice:
    columns = {"prefix": "P", "price_per_minute": "R", "connect_fee": "F"}
    values = {"currency": "EUR", "increments": "60/60"}
    return Choice(template=Template(**{"columns": columns, "values": values, "delimiter": ";", **template}))


@pytest.mark.parametrize(
    ("price", "template", "found"),
    [
        ("1.34", {"scale": "0.01"}, "0.0134"),
        ("1.34p", {}, "0.0134"),
        ("1.34p", {"scale": "0.01"}, "0.0134"),
        ("150", {"scale": "0.0001"}, "0.015"),
        ("0.001", {"per_s": 1}, "0.06"),
        ("0.001/sec", {}, "0.06"),
        ("0.3", {"per_s": 1800}, "0.01"),
        ("0.0123456789123", {"decimals": 4}, "0.0123"),
        ("0.00005", {"decimals": 5}, "0.00005"),
    ],
)
def test_scales_and_decimals(tmp_path: Path, price: str, template: dict[str, Any], found: str) -> None:
    read = lists(tmp_path, f"P;R;F\n44;{price};0\n", priced(price, **template))
    assert [f"{one.steps[0].price:f}" for one in read.deck] == [found]
    assert read.counts.get("prices rounded", 0) == (1 if "123456" in price else 0)


@pytest.mark.parametrize(
    ("price", "template", "error"),
    [
        ("0.004", {"decimals": 2}, "would be 0 with 2 decimals"),
        ("1.34p", {"scale": "0.0001"}, "is in hundredths, and the template's scale is 0.0001"),
        ("€1.34", {"scale": "0.01"}, "names a currency, and the template's scale is 0.01"),
        ("$1", {}, "is not in EUR"),
        ("", {}, "is empty"),
        ("9999999999", {}, "is above"),
    ],
)
def test_prices_that_the_template_cannot_mean(
    tmp_path: Path, price: str, template: dict[str, Any], error: str
) -> None:
    (found,) = refused(tmp_path, f"P;R;F\n44;{price};0\n", priced(price, **template))
    assert found.startswith("row 2, column R: ")
    assert error in found


def test_decimal_commas_and_points_do_not_mix(tmp_path: Path) -> None:
    read = lists(tmp_path, "P;R;F\n44;0,05;0,01\n45;1.250,5;0\n46;1,234;0\n", priced(""))
    assert [f"{one.steps[0].price:f}" for one in read.deck] == ["0.05", "1250.5", "1.234"]
    assert "could be either" not in str(read)
    (found,) = refused(tmp_path, "P;R;F\n44;0.05;0\n45;0,05;0\n", priced(""))
    assert found == "row 3, column R: '0,05' has ',' where thousands would not have it"


def test_the_currency_is_of_the_cell_the_column_the_header_or_the_template(tmp_path: Path) -> None:
    head = "Prefix,Destination,Increment,"
    for text, currencies in (
        (head + "Rate\n44,x,1/1,€1\n33,x,1/1,£1\n", ["GBP", "EUR"]),
        (head + "Rate,Currency\n44,x,1/1,1,chf\n33,x,1/1,$1,USD\n", ["USD", "CHF"]),
        (head + "Rate (SEK)\n44,x,1/1,1\n", ["SEK"]),
        (head + "Price in €\n44,x,1/1,1\n", ["EUR"]),
    ):
        assert [one.currency for one in lists(tmp_path, text).deck] == currencies
    for text, error in (
        (head + "Rate\n44,x,1/1,1\n", "is nowhere: --set currency=EUR says which"),
        (head + "Rate\n44,x,1/1,$1\n", "is only named as $: --set currency=USD says which"),
        (head + "Rate,Currency\n44,x,1/1,1,crowns\n", "'crowns' is no currency such as EUR"),
        (head + "Rate,Currency\n44,x,1/1,€1,USD\n", "'€1' is not in USD"),
    ):
        assert error in refused(tmp_path, text)[0]
    (found,) = refused(tmp_path, head + "Rate (SEK)\n44,x,1/1,1\n", values={"currency": "EUR"})
    assert "'Rate (SEK)' names SEK, and the template says EUR" in found


# --- increments


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("60/60", (60, 60)),
        ("30/6", (30, 6)),
        ("1+1", (1, 1)),
        ("60s", (60, 60)),
        (" 60 / 1 sec", (60, 1)),
        ("1-1", (1, 1)),
        (60.0, (60, 60)),
        ("0/60/60", (60, 60)),
        ("60/1/1", (60, 1)),
        ("50/30/6", (54, 6)),
    ],
)
def test_increments(cell: str | float, found: tuple[int, int]) -> None:
    assert parse_increments(cell) == found


@pytest.mark.parametrize(
    "cell",
    ["30-Jun", "Jun-30", "30/06/2026", "2026-06-30 00:00:00", datetime(2026, 6, 30), date(2026, 6, 30)],  # noqa: DTZ001
)
def test_an_increment_that_a_spreadsheet_made_a_date_is_refused(cell: str | date) -> None:
    with pytest.raises(ValueError, match="is a date, which a spreadsheet makes of 30/6"):
        parse_increments(cell)


@pytest.mark.parametrize("cell", ["", "x", "0/60", "60/0", "60/60/60/60", "1.5", "60min", True])
def test_increments_that_are_none(cell: str | bool) -> None:
    with pytest.raises(ValueError, match=r"^(is no|has an) increment"):
        parse_increments(cell)


def test_increments_in_three_cells_and_none_at_all(tmp_path: Path) -> None:
    text = (
        "Prefix,Rate,Currency,Minimum Seconds,First Interval,Next Interval\n44,1,EUR,60,30,6\n45,1,EUR,,1,1\n"
    )
    assert prices(lists(tmp_path, text)) == {"44": "0:1/60/60;60:1/60/6 EUR", "45": "0:1/60/1 EUR"}
    (found,) = refused(tmp_path, "Prefix,Rate,Currency\n44,1,EUR\n")
    assert (
        found == "row 2, column increments: is nowhere: --set increments=60/60 says what holds for all rows"
    )
    read = lists(tmp_path, "Prefix,Rate,Currency\n44,1,EUR\n", values={"increments": "30/6"})
    assert prices(read) == {"44": "0:1/60/30;30:1/60/6 EUR"}


# --- by time

TIMED = Template(
    columns={
        "prefix": "Code",
        "price_per_minute": "Rate",
        "increments": "Inc",
        "days": "Days",
        "hours": "Hours",
    },
    values={"currency": "EUR"},
    zone="Europe/Berlin",
)


def test_peak_and_off_peak_are_rows_with_days_and_hours(tmp_path: Path) -> None:
    text = "Code,Rate,Inc,Days,Hours\n44,0.3,60/60,Mon-Fri,08:00-18:00\n44,0.2,60/60,,\n"
    text += "33,0.1,30/6,All,00:00-24:00\n"
    assert prices(lists(tmp_path, text, TIMED)) == {
        "44": "0:0.3/60/60@Mo-Fr 08:00-18:00 Europe/Berlin|0.2/60/60 EUR",
        "33": "0:0.1/60/30;30:0.1/60/6 EUR",
    }
    whole_week = (
        "Code,Rate,Inc,Days,Hours\n44,0.3,1/1,weekdays,8:00-17:59:59\n44,0.2,1/1,Mon-Fri,18:00-8:00\n"
        "44,0.1,1/1,Sat,08:00-00:00\n44,0.1,1/1,Mon,00:00-08:00\n44,0.15,1/1,Sun,\n"
    )
    assert prices(lists(tmp_path, whole_week, TIMED)) == {
        "44": "0:0.3/60/1@Mo-Fr 08:00-18:00 Europe/Berlin|0.2/60/1@Mo-Fr 18:00-08:00 Europe/Berlin"
        "|0.1/60/1@Sa 08:00-24:00 Europe/Berlin|0.1/60/1@Mo 00:00-08:00 Europe/Berlin|0.15/60/1 EUR"
    }


def test_peak_is_a_word_of_the_template(tmp_path: Path) -> None:
    fields = {**_fields(TIMED), "periods": {"Peak": "Mo-Fr 07:00-19:00", "off-peak": ""}}
    fields["columns"] = {
        "prefix": "Code",
        "price_per_minute": "Rate",
        "increments": "Inc",
        "period": "Period",
    }
    text = "Code,Rate,Inc,Period\n44,0.3,60/1,PEAK\n44,0.2,60/1,Off-Peak\n"
    assert prices(lists(tmp_path, text, Template(**fields))) == {
        "44": "0:0.3/60/60@Mo-Fr 07:00-19:00 Europe/Berlin|0.2/60/60;"
        "60:0.3/60/1@Mo-Fr 07:00-19:00 Europe/Berlin"
        "|0.2/60/1 EUR"
    }
    assert (
        "'night' is no word of [periods]"
        in refused(tmp_path, text + "44,1,1/1,Night\n", Template(**fields))[0]
    )


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ("44,0.3,1/1,Mon-Fri,08:00-18:00\n", "prefix 44: some times of the week have no price"),
        (
            "44,0.3,1/1,Mon,08:00-18:00\n44,0.2,1/1,,\n44,0.1,1/1,Mon,17:00-19:00\n",
            "rows 2 and 4 hold at the same",
        ),
        ("44,0.3,1/1,,\n44,0.2,1/1,,\n", "rows 2 and 3 hold at the same times"),
        ("44,0.3,60/1,Mon,\n44,0.2,30/1,,\n", "rows 2 and 3 differ in their first increment"),
        ("44,0.3,1/1,Mon-Tomorrow,\n", "'Mon-Tomorrow' is no day"),
        ("44,0.3,1/1,1-5,\n", "'1-5' is no day"),
        ("44,0.3,1/1,Mon,morning\n", "'morning' is no span"),
        ("44,0.3,1/1,Mon,08:00-25:00\n", "is no time of day"),
    ],
)
def test_times_that_contradict_or_are_none(tmp_path: Path, rows: str, error: str) -> None:
    assert error in refused(tmp_path, "Code,Rate,Inc,Days,Hours\n" + rows, TIMED)[0]


def test_one_row_for_each_step(tmp_path: Path) -> None:
    template = Template(
        columns={"prefix": "Code", "price_per_minute": "Rate", "increments": "Inc", "step_start_s": "From"},
        values={"currency": "EUR"},
    )
    text = "Code,Rate,Inc,From\n44,0.3,60/60,0\n33,1,1/1,0\n44,0.1,6/6,60\n"
    assert prices(lists(tmp_path, text, template)) == {
        "44": "0:0.3/60/60;60:0.1/60/6 EUR",
        "33": "0:1/60/1 EUR",
    }
    (found,) = refused(tmp_path, "Code,Rate,Inc,From\n44,0.3,60/60,30\n", template)
    assert "gap: the first step starts at 30 s" in found


# --- dates


def dated(order: str = "", **more: Any) -> Choice:
    columns: dict[str, Any] = {
        "prefix": "P",
        "price_per_minute": "R",
        "effective_from": "From",
        "effective_to": "To",
    }
    values = {"currency": "EUR", "increments": "60/60"}
    return Choice(template=Template(columns=columns, values=values, dates=order, delimiter=";", **more))


@pytest.mark.parametrize(
    "cell",
    [
        *("2026-12-01", "2026/12/1", "01.12.2026", "1.12.26", "01-Dec-26", "1 December 2026", "Dec 1, 2026"),
        *(
            "20261201",
            "46357",
            "46357.0",
            "2026-12-01T00:00:00Z",
            "2026-12-01 01:00:00+01:00",
            "01-DEC-2026 00:00",
        ),
        *("2026-12-01T00:00:00.000Z", "1st Dec 2026", "01/Dec/2026", "12-1-2026 12:00 AM"),
    ],
)
def test_dates_in_all_forms(tmp_path: Path, cell: str) -> None:
    order = "MM/DD/YYYY" if cell.startswith("12-1") else ""
    (rate,) = lists(tmp_path, f"P;R;From;To\n44;1;{cell};\n", dated(order)).deck
    assert rate.effective_from == DECEMBER


def test_a_column_settles_which_number_is_the_day(tmp_path: Path) -> None:
    def starts(*cells: str, order: str = "") -> list[str]:
        rows = "".join(f"{44 + n};1;{cell};\n" for n, cell in enumerate(cells))
        read = lists(tmp_path, "P;R;From;To\n" + rows, dated(order))
        return [f"{one.effective_from:%d.%m}" for one in read.deck]

    read = lists(tmp_path, "P;R;From;To\n44;1;01/02/2026;\n45;1;02/13/2026;\n", dated())
    assert "From is MM/DD/YYYY, as one of its dates shows" in read.notes
    assert starts("01/02/2026", "13/02/2026") == ["01.02", "13.02"]
    assert starts("13/02/2026", "01/02/2026") == ["13.02", "01.02"]
    assert starts("01/02/2026", "02/13/2026", "03/04/2026") == ["02.01", "13.02", "04.03"]
    assert starts("01/02/2026", order="MM/DD/YYYY") == ["02.01"]
    assert starts("05/05/2026") == ["05.05"]
    (found,) = refused(tmp_path, "P;R;From;To\n44;1;01/02/2026;\n45;1;03/04/2026;\n", dated())
    assert found.startswith(
        "row 2, column From: '01/02/2026' could be 1.2. or 2.1.: --set dates=DD/MM/YYYY or --set"
    )
    (found,) = refused(tmp_path, "P;R;From;To\n44;1;13/02/2026;01/02/2027\n", dated())
    assert found.startswith("row 2, column To: '01/02/2027' could be 1.2. or 2.1.: --set dates=")
    (found,) = refused(tmp_path, "P;R;From;To\n44;1;13/02/2026;\n45;1;02/13/2026;\n", dated())
    assert found == "row 3, column From: '02/13/2026' is no date, as DD/MM/YYYY"


@pytest.mark.parametrize(
    "cell", ["soon", "31.02.2026", "2026-13-01", "00.00.2026", "01-Foo-26", "1.5", "2026-12-01 25:00"]
)
def test_dates_that_are_none(tmp_path: Path, cell: str) -> None:
    (found,) = refused(tmp_path, f"P;R;From;To\n44;1;{cell};\n", dated())
    assert found == f"row 2, column From: {cell!r} is no date"


def test_the_last_day_may_be_meant_with_it(tmp_path: Path) -> None:
    text = "P;R;From;To\n44;1;2026-12-01;2026-12-31\n"
    (rate,) = lists(tmp_path, text, dated(zone="Europe/Berlin")).deck
    assert rate.effective_to == datetime(2026, 12, 30, 23, tzinfo=UTC)
    (rate,) = lists(tmp_path, text, dated(end_inclusive=True)).deck
    assert rate.effective_to == datetime(2027, 1, 1, tzinfo=UTC)


# --- status


def test_status_words_are_those_of_the_template(tmp_path: Path) -> None:
    template = Template(
        columns={"prefix": "P", "price_per_minute": "R", "status": "S", "effective_from": "D"},
        values={"currency": "EUR", "increments": "1/1"},
        status={"Teurer": "replace", "weg": "end", "gesperrt": "block", "intern": "leave_out"},
    )
    text = "P,R,S,D\n1,1,teurer,2026-12-01\n2,,WEG,2026-12-01\n3,0,Gesperrt,\n4,5,intern,\n5,1,,\n"
    text += "6,1,weg,\n7,1,new,\n"
    read = lists(tmp_path, text, template)
    assert prices(read) == {"1": "0:1/60/1 EUR", "3": "blocked", "5": "0:1/60/1 EUR", "7": "0:1/60/1 EUR"}
    assert [(one.prefix, one.at) for one in read.ended] == [("2", DECEMBER), ("6", None)]
    assert refused(tmp_path, text + "8,1,perhaps,\n9,1,perhaps,\n", template) == [
        "row 9, column S: 'perhaps' is no word of [status]: add it to the template (and in 1 more rows)"
    ]
    assert set(STATUS_WORDS.values()) == {"add", "replace", "end", "block"}


def test_a_row_that_is_not_blocked_needs_a_price(tmp_path: Path) -> None:
    (found,) = refused(tmp_path, NEXT.replace(",,,,,true,,", ",,,1,1,false,,"))
    assert found == "row 4, column Rate: is empty"


# --- templates as files


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('title = "x"\n[columns]\ncode = "Code"\n', ", line 3: 'code' is not a column of a deck"),
        (
            '[columns]\nprefix = "P"\n\n[values]\nprefix = "49"\n',
            ", line 5: 'prefix' has both a column and a value",
        ),
        ('colums = "x"\n', "unknown field `colums`"),
        ('\ndelimiter = ";;"\n', ", line 2: 'delimiter' is ';;', not one character"),
        ("per_s = 0\n", ", line 1: 'per_s' is not within 1-86400"),
        ('scale = "0,01"\n', ", line 1: 'scale' is '0,01', not a number such as 0.01"),
        ('zone = "Berlin"\n', ", line 1: 'zone' 'Berlin' is not a time zone such as Europe/Berlin"),
        ('dates = "YYYY"\n', ", line 1: 'dates' is neither DD/MM/YYYY nor MM/DD/YYYY"),
        ('encoding = "martian"\n', ", line 1: 'encoding' 'martian' is not known"),
        ('header = false\n[columns]\nprefix = "Code"\n', ", line 3: 'prefix' must be a place from 1 on"),
        ("[columns]\nprefix = 2\n", ", line 2: 'prefix' must be a name"),
        ('optional = ["status"]\n', ", line 1: 'status' is in optional, but not in columns"),
        ('prefix_ranges = true\nprefix_drop = "-"\n', ", line 1: 'prefix_ranges' needs the dash"),
        ('[columns]\nstatus = "S"\n[status]\ngone = "vanish"\n', ", line 4: 'gone' is 'vanish', none of add"),
        ('decimals = "six"\n', "Expected `int`"),
        ('kind = "invoice"\n', "Invalid enum value 'invoice'"),
    ],
)
def test_a_bad_template_says_file_line_and_key(tmp_path: Path, text: str, error: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(TemplateError) as caught:
        read_template(path)
    assert str(caught.value).startswith(str(path))
    assert error in str(caught.value)


def test_a_template_is_found_by_name_or_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(template_text(PLAIN))
    assert prices(lists(tmp_path, ROWS, str(path))) == READ
    with pytest.raises(TemplateError, match="carrier-ax: is neither a file nor one of any, carrier-az"):
        lists(tmp_path, ROWS, "carrier-ax")


def test_set_gives_a_key_of_the_template_too(tmp_path: Path) -> None:
    read = lists(tmp_path, ROWS, PLAIN, values={"scale": "0.01", "decimals": "4", "currency": "GBP"})
    assert prices(read) == {"44": "0:0.0001/60/60 GBP", "33": "0:0.0002/60/1 GBP"}
    with pytest.raises(TemplateError, match="'zone' 'Mars' is not a time zone"):
        lists(tmp_path, ROWS, PLAIN, values={"zone": "Mars"})
    with pytest.raises(TemplateError, match="'curency' is not a column of a deck"):
        lists(tmp_path, ROWS, PLAIN, values={"curency": "GBP"})


def test_columns_by_place_without_a_file(tmp_path: Path) -> None:
    template = template_of(
        {
            "header": False,
            "columns": {"prefix": 1, "price": 3},
            "values": {"currency": "EUR", "increments": "1/1"},
        }
    )
    assert prices(lists(tmp_path, "44;x;0,5\n33;y;0,25\n", template)) == {
        "44": "0:0.5/60/1 EUR",
        "33": "0:0.25/60/1 EUR",
    }
    assert refused(tmp_path, "44;x\n", template)[0].startswith(
        "row 1: has no column for prefix ('at least 3 cells')"
    )
