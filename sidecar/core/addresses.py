"""Blocks of addresses, and whose they are: the longest block that holds an address counts.

An IPv4 address that is mapped into IPv6 (`::ffff:192.0.2.1`, RFC 4291 §2.5.5.2) is that IPv4 address, and a
block of mapped addresses the IPv4 block: a listener for both families shows them so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from sidecar.core.persistent_map import PersistentMap

_MAPPED = IPv6Network("::ffff:0:0/96")
_BITS = {4: 32, 6: 128}

_Key = tuple[int, int, int]  # IP version, length of the block, its bits


def canonical_block(text: str) -> str:
    """A block or a single address in its canonical form; ValueError with what is wrong."""
    try:
        network = ip_network(text)
    except ValueError:
        try:
            meant = ip_network(text, strict=False)
        except ValueError:
            raise ValueError(
                f"{text!r} is no address block: 192.0.2.0/24, 2001:db8::/32 or an address"
            ) from None
        raise ValueError(f"{text!r} has bits set behind its mask: {meant} holds it") from None
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        bits = int(network.network_address) & 0xFFFF_FFFF
        return str(IPv4Network((bits, network.prefixlen - 96)))
    return str(network)


class AddressTable:
    """Immutable: `plus` and `minus` return another, at a cost that does not grow with the table."""

    __slots__ = ("_accounts", "_lengths")

    def __init__(self, entries: Iterable[tuple[str, str]] = ()) -> None:
        """Blocks, each with its account; of one block the first entry holds."""
        accounts: dict[_Key, str] = {}
        lengths: dict[tuple[int, int], int] = {}  # (version, length): how many blocks
        for text, account in entries:
            key = _key(text)
            if key not in accounts:
                accounts[key] = account
                lengths[key[:2]] = lengths.get(key[:2], 0) + 1
        self._accounts = PersistentMap(accounts)
        self._lengths = _longest_first(lengths)

    def account_of(self, address: str) -> str | None:
        """Of the longest block that holds the address (`192.0.2.1:5060`, `[2001:db8::1]:5060`)."""
        found = _bits_of(address)
        if found is None:
            return None
        version, bits = found
        for block_version, length in self._lengths:
            if block_version == version:
                key = (version, length, bits >> (_BITS[version] - length))
                account = self._accounts.get(key)
                if account is not None:
                    return account
        return None

    def at(self, text: str) -> str | None:
        """Whose this very block is."""
        return self._accounts.get(_key(text))

    def plus(self, text: str, account: str) -> AddressTable:
        """With this block, in the place of the same one."""
        key = _key(text)
        known = key in self._accounts
        lengths = dict(self._lengths)
        lengths[key[:2]] = lengths.get(key[:2], 0) + (not known)
        return _table(self._accounts.plus(key, account), lengths)

    def minus(self, text: str) -> AddressTable:
        """Without this block; KeyError where it is not there."""
        key = _key(text)
        lengths = dict(self._lengths)
        lengths[key[:2]] -= 1
        if not lengths[key[:2]]:
            del lengths[key[:2]]
        return _table(self._accounts.minus(key), lengths)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """(block, account), by version, bits and length."""
        by_bits = {
            (version, bits << (_BITS[version] - length), length): account
            for (version, length, bits), account in self._accounts.items()
        }
        for (version, bits, length), account in sorted(by_bits.items()):
            network = (IPv4Network if version == 4 else IPv6Network)((bits, length))
            yield str(network), account

    def __len__(self) -> int:
        return len(self._accounts)


def _table(accounts: PersistentMap[_Key, str], lengths: dict[tuple[int, int], int]) -> AddressTable:
    made = AddressTable.__new__(AddressTable)
    made._accounts = accounts
    made._lengths = _longest_first(lengths)
    return made


def _longest_first(lengths: dict[tuple[int, int], int]) -> dict[tuple[int, int], int]:
    return dict(sorted(lengths.items(), reverse=True))


def _key(text: str) -> _Key:
    network = ip_network(canonical_block(text))
    length = network.prefixlen
    return network.version, length, int(network.network_address) >> (_BITS[network.version] - length)


@lru_cache(maxsize=4096)  # callers come again and again from the same few addresses
def _bits_of(address: str) -> tuple[int, int] | None:
    """(version, bits); None for what is no literal address."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and (host.endswith("]") or ":" not in host):
        address = host
    try:
        found = ip_address(address.strip("[]").partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(found, "ipv4_mapped", None)
    found = found if mapped is None else mapped
    return found.version, int(found)
