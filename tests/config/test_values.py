"""Each kind of value, from TOML and from text, and what anything else gives."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.config import values
from sidecar.config.problems import (
    ConfigError,
    Findings,
    Problem,
    Where,
    lines,
    nearest,
    printable,
    quoted,
)
from sidecar.config.settings import DECLARED
from sidecar.config.values import Amount, BadValueError, HostPort, Kind, ListOf, Network, Text, Whole

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.dates()
    | st.times()
    | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
KINDS = sorted({id(key.kind): key.kind for key in DECLARED.values()}.values(), key=lambda kind: kind.name)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.name} {kind.bound}")
@settings(max_examples=30, deadline=None)
@given(raw=ANYTHING)
def test_a_kind_reads_a_value_or_says_that_it_is_bad(kind: Kind[Any], raw: object) -> None:
    assert len(refusal(lambda: kind.read(raw))) < 5_000
    assert len(refusal(lambda: kind.read_text(str(raw)))) < 5_000


def refusal(read: Callable[[], object]) -> str:
    """Why, or nothing. Anything but BadValueError comes through."""
    try:
        read()
    except BadValueError as error:
        return str(error)
    return ""


@given(st.integers())
def test_a_whole_number_is_read_within_its_bound_alone(number: int) -> None:
    kind = Whole(-5, 1_000)
    if -5 <= number <= 1_000:
        assert kind.read(number) == kind.read_text(str(number)) == number
    else:
        with pytest.raises(BadValueError):
            kind.read(number)
        with pytest.raises(BadValueError):
            kind.read_text(str(number))


@given(st.decimals(min_value=0, max_value=999, places=6, allow_nan=False))
def test_an_amount_is_read_exactly(amount: Decimal) -> None:
    assert Amount("1000").read(f"{amount:f}") == amount


@given(st.ip_addresses(), st.integers(0, 65_535))
def test_any_address_and_port_is_read_or_refused_by_its_use(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> None:
    text = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
    if address.is_unspecified or address.is_multicast or getattr(address, "scope_id", None):
        with pytest.raises(BadValueError):
            HostPort().read(text)
    else:
        assert HostPort().read(text) == (str(address), port)


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_a_block_with_host_bits_is_refused_with_the_block_that_was_meant(
    address: ipaddress.IPv4Address, length: int
) -> None:
    meant = ipaddress.ip_network(f"{address}/{length}", strict=False)
    if meant.network_address == address:
        assert Network().read(f"{address}/{length}") == str(meant)
    else:
        with pytest.raises(BadValueError) as caught:
            Network().read(f"{address}/{length}")
        assert caught.value.suggestion == str(meant)


def test_a_list_is_words_with_commas_in_text() -> None:
    assert ListOf(Whole(0, 9)).read_text("1, 2,3") == (1, 2, 3)
    assert ListOf(Whole(0, 9)).read_text(" ") == ()
    assert values.VOS_NUMBERS.read_text("49*;110,112") == ("49*", "110", "112")


def test_a_list_has_a_maximum() -> None:
    with pytest.raises(BadValueError, match="10001 entries: at most 10000"):
        ListOf(Whole(0, 99_999)).read(list(range(10_001)))


@pytest.mark.parametrize(
    ("word", "nearest_word"),
    [("PREPAYED", "prepaid"), ("decimal", "decimals"), ("", None), ("zzzzzz", None), ("x" * 10_000, None)],
)
def test_the_nearest_name_is_near(word: str, nearest_word: str | None) -> None:
    assert nearest(word, ["prepaid", "decimals", "currency"]) == nearest_word


@given(st.text())
def test_whatever_is_shown_is_one_line_of_printable_characters(text: str) -> None:
    assert printable(text).isprintable()


def test_what_can_be_printed_is_shown_as_it_is() -> None:
    assert printable("ü'\"\\") == "ü'\"\\"
    assert printable("\x1b\u2028") == "\\x1b\\u2028"


def test_of_very_many_names_none_is_looked_for() -> None:
    known = [f"name{number}" for number in range(2_000)]
    assert nearest("Name0", known) == "name0"
    assert nearest("Name0", [*known, "more"]) is None


def test_a_problem_is_one_line_with_what_was_probably_meant() -> None:
    problem = Problem(where=Where("a\n", 3), key="b\n", text="c\n", suggestion="d\n")
    assert str(problem) == "a\\n:3: b\\n: c\\n; did you mean 'd\\\\n'?"
    assert str(Problem(where=Where("a"), key="", text="c")) == "a: c"
    assert (quoted("x" * 58), quoted("x" * 59)) == (f"'{'x' * 58}'", f"'{'x' * 56}...")


def test_each_problem_is_told_once_and_passes_if_all_may() -> None:
    findings, where = Findings(), Where("a")
    findings.raise_if_any()
    for _ in range(2):
        findings.warn(where, "key", "well", "meant")
        findings.error(where, "key", "no", "meant", may_pass=True)
    with pytest.raises(ConfigError) as caught:
        findings.raise_if_any()
    error = Problem(where=where, key="key", text="no", suggestion="meant", may_pass=True)
    warning = Problem(where=where, key="key", text="well", suggestion="meant")
    assert (caught.value.problems, caught.value.warnings) == ((error,), (warning,))
    assert caught.value.may_pass
    assert str(caught.value) == "a: key: no; did you mean 'meant'?"
    findings.error(where, "key", "other")
    both = ConfigError(findings.errors)
    assert str(both) == "a: key: no; did you mean 'meant'?\na: key: other"
    assert not both.may_pass
    assert not ConfigError([Problem(where=where, key="", text="no")]).may_pass


def test_a_hundred_problems_are_shown() -> None:
    many = [Problem(where=Where("a"), key="", text=str(number)) for number in range(101)]
    assert lines(many[:100]) == [f"a: {number}" for number in range(100)]
    assert lines(many) == [*lines(many[:100]), "... and 1 more"]


def test_a_place_is_a_file_and_its_line() -> None:
    assert str(Where("a.toml", 3)) == "a.toml:3"
    assert str(Where("environment")) == "environment"


LABEL = "a" * 63
ZERO_OR_ONE, CODE, TIMES = values.VOS_FLAG, values.FINAL_CODES.item, values.WINDOWS.item


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        (ZERO_OR_ONE, 1, True),
        (ZERO_OR_ONE, True, True),
        (values.FLAG, False, False),
        (values.SHARE, "1", Decimal(1)),
        (values.NAME, "a" * 64, "a" * 64),
        (Text(".*", "anything"), "a" * 1_000, "a" * 1_000),
        (values.PATH, "a" * 1_000, Path("a" * 1_000)),
        (values.MOMENT, datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)),
        (values.HOST_NAME, ".".join([LABEL] * 3 + ["a" * 61]), ".".join([LABEL] * 3 + ["a" * 61])),
        (values.HOST_NAME, "1.example", "1.example"),
        (CODE, 699, "699"),
        (values.HEADER_LINES.item, "X-One : two: three", ("X-One", "two: three")),
        (values.HEADER_NAMES.item, "X-One", "x-one"),
        (values.HEADER_NAMES.item, "Allow", "allow"),
    ],
)
def test_what_is_just_within_the_bound_is_read(kind: Kind[Any], raw: object, value: object) -> None:
    assert kind.read(raw) == value


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (values.FLAG, " FALSE", False),
        (values.FLAG, "0", False),
        (values.FLAG, "true", True),
        (values.FLAG, "1", True),
        (values.MOMENT, "2026-03-01T00:00:00Z", datetime(2026, 3, 1, tzinfo=UTC)),
        (values.HEADER_NAMES.item, "X-One", "x-one"),
        (values.HOST_PORT, "[::1]:0", ("::1", 0)),
    ],
)
def test_a_word_is_read(kind: Kind[Any], text: str, value: object) -> None:
    assert kind.read_text(text) == value


@pytest.mark.parametrize(
    ("kind", "raw", "why"),
    [
        (ZERO_OR_ONE, 1.0, "expected 0 or 1, not 1.0"),
        (values.SHARE, "1.000001", "1.000001 is not within the bound: 0–1"),
        (Text(".*", "anything"), "a" * 1_001, "expected anything, not "),
        (values.PATH, "a\0b", "expected a path, not "),
        (values.PATH, "a" * 1_001, "expected a path, not "),
        (values.MOMENT, 1, "expected a date and time, not 1"),
        (values.MOMENT, "soon", "expected a date and time, not 'soon'"),
        (values.MOMENT, "2026-03-01T00:00:00", "'2026-03-01T00:00:00' has no offset from UTC"),
        (values.HOST_PORT, "[127.0.0.1:1", "'[127.0.0.1' is not a literal"),
        (values.HOST_PORT, "127.0.0.1]:1", "'127.0.0.1]' is not a literal"),
        (values.HOST_NAME, 1, "expected an address or a DNS name, not 1"),
        (values.HOST_NAME, "192.0.2.256", "'192.0.2.256' is not a literal"),
        (values.HOST_NAME, ".".join([LABEL] * 3 + ["a" * 62]), "is no address and no DNS name"),
        (Network(), 1, "expected a CIDR block or an address, not 1"),
        (CODE, True, 'expected a code such as 503, or a class such as "5xx", not True'),
        (TIMES, 1, "expected times such as `Mo-Fr 08:00-18:00 Europe/Berlin`, not 1"),
        (values.HEADER_NAMES.item, "Via", "via"),
        (values.HEADER_LINES.item, "Allow: INVITE", "allow is for the caller to say"),
        (values.HEADER_LINES.item, "X-One", "expected Name: value on one line, not 'X-One'"),
    ],
)
def test_what_is_no_such_value_is_refused_and_why(kind: Kind[Any], raw: object, why: str) -> None:
    assert why in refusal(lambda: kind.read(raw))


def test_an_instant_without_an_offset_is_suggested_in_utc() -> None:
    with pytest.raises(BadValueError) as caught:
        values.MOMENT.read("2026-03-01T00:00:00")
    assert caught.value.suggestion == "2026-03-01T00:00:00Z"


def test_a_list_may_be_as_long_as_its_maximum() -> None:
    assert len(ListOf(Whole(0, 99_999)).read(list(range(10_000)))) == 10_000


def test_a_class_of_codes_is_all_of_its_hundred_but_those_that_are_dealt_with_otherwise() -> None:
    assert values.final_codes(["6xx", "404"]) == {*range(600, 700), 404}
    assert values.final_codes(["4xx"]) == {*range(400, 500)} - {401, 407, 422, 487}
    assert values.final_codes(["3xx"]) == {*range(300, 400)}
