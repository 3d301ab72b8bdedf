from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.addresses import AddressTable, canonical_block

# Few bits, so that blocks hold each other and addresses lie in them.
V4 = st.builds(lambda bits: IPv4Address(bits << 28 | bits), st.integers(0, 15))
V6 = st.builds(lambda bits: IPv6Address(bits << 124 | bits), st.integers(0, 15))
BLOCKS = st.one_of(
    st.builds(
        lambda a, n: str(ip_network((a, n), strict=False)), V4, st.sampled_from([0, 1, 2, 4, 28, 31, 32])
    ),
    st.builds(
        lambda a, n: str(ip_network((a, n), strict=False)), V6, st.sampled_from([0, 1, 3, 4, 64, 127, 128])
    ),
)
ENTRIES = st.lists(st.tuples(BLOCKS, st.sampled_from("abcd")), max_size=12)


def naive(entries: dict[str, str], address: IPv4Address | IPv6Address) -> str | None:
    holding = [text for text in entries if address in ip_network(text)]
    return entries[max(holding, key=lambda text: ip_network(text).prefixlen)] if holding else None


def written(address: IPv4Address | IPv6Address) -> str:
    return f"{address}:5060" if address.version == 4 else f"[{address}]:5060"


@given(ENTRIES, st.lists(BLOCKS), V4 | V6)
def test_the_longest_block_counts_however_the_table_came_about(
    entries: list[tuple[str, str]], gone: list[str], address: IPv4Address | IPv6Address
) -> None:
    at_once, one_by_one, expected = AddressTable(reversed(entries)), AddressTable(), dict(entries)
    for text, account in entries:
        one_by_one = one_by_one.plus(text, account)
    for text in gone:
        if text in expected:
            at_once, one_by_one = at_once.minus(text), one_by_one.minus(text)
            del expected[text]
    for table in (at_once, one_by_one):
        assert table.account_of(written(address)) == naive(expected, address)
        assert dict(table) == expected
        assert len(table) == len(expected)
        assert all(table.at(text) == account for text, account in expected.items())


@pytest.mark.parametrize(
    ("address", "account"),
    [
        ("192.0.2.7:5060", "one"),
        ("192.0.2.8:5060", "net"),
        ("192.0.2.8", "net"),
        ("[::ffff:192.0.2.7]:5060", "one"),
        ("::ffff:192.0.2.8", "net"),
        ("192.0.3.1:5060", None),
        ("[2001:db8::1]:5060", "six"),
        ("[2001:db8::1%eth0]:5060", "six"),
        ("2001:db8::1", "six"),
        ("[2001:db9::1]:5060", None),
        ("[::c000:207]:5060", None),  # the same bits, another family
        ("sip.example.com:5060", None),
        ("", None),
    ],
)
def test_an_address_is_looked_up_as_it_is_written_in_the_invite(address: str, account: str | None) -> None:
    blocks = [("192.0.2.0/24", "net"), ("192.0.2.7", "one"), ("2001:db8::/32", "six")]
    assert AddressTable(blocks).account_of(address) == account


def test_of_one_block_the_first_entry_holds() -> None:
    table = AddressTable([("192.0.2.0/24", "a"), ("::ffff:192.0.2.0/120", "b")])
    assert list(table) == [("192.0.2.0/24", "a")]
    assert list(table.minus("192.0.2.0/24")) == []
    assert table.minus("192.0.2.0/24").account_of("192.0.2.1:5060") is None
    with pytest.raises(KeyError):
        table.minus("192.0.2.0/25")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("2001:DB8:0::/32", "2001:db8::/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
    ],
)
def test_a_block_is_kept_in_one_form(text: str, expected: str) -> None:
    assert canonical_block(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("192.0.2.7/24", "bits set behind its mask: 192.0.2.0/24 holds it"),
        ("2001:db8::1/32", "bits set behind its mask: 2001:db8::/32 holds it"),
        ("192.0.2.0/33", "no address block"),
        ("carrier", "no address block"),
        ("", "no address block"),
    ],
)
def test_a_block_that_is_none_is_said_to_be_so(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        canonical_block(text)


def test_an_address_is_an_address() -> None:
    assert ip_address("192.0.2.1").version == 4
