"""Each kind of value, from TOML and from text, and what anything else gives."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.config import values
from sidecar.config.problems import Where, nearest, printable
from sidecar.config.settings import DECLARED
from sidecar.config.values import Amount, BadValueError, HostPort, Kind, ListOf, Network, Whole

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


def test_a_place_is_a_file_and_its_line() -> None:
    assert str(Where("a.toml", 3)) == "a.toml:3"
    assert str(Where("environment")) == "environment"
