"""Whose call it is: the rules of the profile, in their order, found by look-ups.

Each rule waits under a key of what it asks of an INVITE. An INVITE has a few keys (its peer, each header,
each beginning of its number), so what is asked does not grow with the rules; of those found the first in the
profile wins. A rule that names an account that does not exist is no match, and the next one may be.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Protocol

import msgspec

from sidecar.core.numbers import normalise
from sidecar.core.terms import Word


class AccountFrom(Word):
    HEADER = "header"  # the value of the header is the account's name
    ADDRESS = "address"  # the table of address blocks says it


class AccountRule(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One way to know whose call it is. With `account`: exactly one of the four matches says when the call is
    that account's. With `account_from`: the call itself says whose it is."""

    account: str | None = None
    account_from: AccountFrom | None = None
    peer: str | None = None
    header: str | None = None  # lower case; read only from a peer with asserts_identity
    header_value: str | None = None
    tls_name: str | None = None
    called_prefix: str | None = None

    def __post_init__(self) -> None:
        if (self.account is None) == (self.account_from is None):
            raise ValueError("an account rule has one of account, account_from")
        matches = [self.peer, self.header, self.tls_name, self.called_prefix]
        given = sum(match is not None for match in matches)
        if self.account is not None and given != 1:
            raise ValueError("an account rule has exactly one of peer, header, tls_name, called_prefix")
        by_header = self.account_from is AccountFrom.HEADER
        if self.account is None and (given != by_header or (self.header is not None) != by_header):
            raise ValueError("account_from = header has a header, account_from = address no match at all")
        if (self.header is None or by_header) != (self.header_value is None):
            raise ValueError("header and header_value go together")


_Key = tuple[str, ...]


class Invite(Protocol):
    """What rules ask of an InviteReceived."""

    @property
    def peer(self) -> str: ...
    @property
    def headers(self) -> Sequence[tuple[str, str]]: ...
    @property
    def tls_name(self) -> str: ...
    @property
    def request_user(self) -> str: ...


class AccountRules:
    """Immutable. Compiling costs as much as there are rules: not on the event loop."""

    __slots__ = ("_claims", "_header_names", "_prefix_lengths", "_rules")

    def __init__(self, rules: Iterable[AccountRule] = ()) -> None:
        self._rules = tuple(rules)
        self._claims: dict[_Key, list[tuple[int, AccountRule]]] = {}
        for place, rule in enumerate(self._rules):
            self._claims.setdefault(_key_of(rule), []).append((place, rule))
        prefixes = {rule.called_prefix for rule in self._rules if rule.called_prefix is not None}
        self._prefix_lengths = tuple(sorted({len(prefix) for prefix in prefixes}))
        self._header_names = frozenset(rule.header for rule in self._rules if rule.header is not None)

    def account_of(
        self,
        invite: Invite,
        *,
        asserts_identity: bool,
        accounts: Container[str],
        account_at: Callable[[], str | None],
    ) -> str | None:
        """The account of the first rule that applies, among `accounts`; None where nobody claims the call.
        `asserts_identity`: what headers say of the caller may be believed. `account_at`: that of the source
        address, asked where a rule wants it."""
        first, found = len(self._rules), None
        for key, said in self._keys(invite, asserts_identity, account_at):
            for place, rule in self._claims.get(key, ()):
                if place >= first:
                    break
                account = said if rule.account is None else rule.account
                if account in accounts:
                    first, found = place, account
                    break
        return found

    def _keys(
        self, invite: Invite, asserts_identity: bool, account_at: Callable[[], str | None]
    ) -> Iterator[tuple[_Key, str | None]]:
        """What the INVITE has that a rule may ask for, with the account that it names itself."""
        yield ("peer", invite.peer), None
        if self._header_names and asserts_identity:
            for name, value in invite.headers:
                if name in self._header_names:
                    yield ("header", name, value), None
                    yield ("header", name), value
        if invite.tls_name:
            yield ("tls_name", invite.tls_name), None
        if self._prefix_lengths:
            number = normalise(invite.request_user)
            for length in self._prefix_lengths:
                yield ("called_prefix", number[:length]), None
        if _BY_ADDRESS in self._claims:
            yield _BY_ADDRESS, account_at()

    def __iter__(self) -> Iterator[AccountRule]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AccountRules) and self._rules == other._rules

    __hash__ = None  # type: ignore[assignment]


_BY_ADDRESS: _Key = ("address",)


def _key_of(rule: AccountRule) -> _Key:
    if rule.account_from is AccountFrom.ADDRESS:
        return _BY_ADDRESS
    if rule.header is not None:
        named = ("header", rule.header)
        return named if rule.header_value is None else (*named, rule.header_value)
    for name in ("peer", "tls_name", "called_prefix"):
        value = getattr(rule, name)
        if value is not None:
            return name, value
    raise AssertionError("a rule without a match")
