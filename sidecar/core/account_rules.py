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


class _Claim(msgspec.Struct, frozen=True, gc=False):
    """A rule under its key, and the next one under the same key. It holds what a look-up needs and nothing
    else: among very many rules each further object is one more read that no cache has."""

    place: int  # in the profile
    account: str | None  # None: the call itself names it
    later: _Claim | None


_Claims = dict[str, _Claim]  # by key


class AccountRules:
    """Immutable. Compiling costs as much as there are rules: not on the event loop."""

    __slots__ = (
        "_address",
        "_header",
        "_header_value",
        "_peer",
        "_prefix",
        "_prefix_lengths",
        "_rules",
        "_tls_name",
    )

    def __init__(self, rules: Iterable[AccountRule] = ()) -> None:
        self._rules = tuple(rules)
        self._peer: _Claims = {}
        self._header_value: dict[str, _Claims] = {}  # by the header's name, then its value
        self._header: _Claims = {}  # by the name of a header that names the account
        self._tls_name: _Claims = {}
        self._prefix: _Claims = {}
        self._address: _Claims = {}  # one key: ""
        for place, rule in reversed(tuple(enumerate(self._rules))):
            claims, key = self._where(rule)
            claims[key] = _Claim(place, rule.account, claims.get(key))
        self._prefix_lengths = tuple(sorted({len(prefix) for prefix in self._prefix}))

    def _where(self, rule: AccountRule) -> tuple[_Claims, str]:
        if rule.peer is not None:
            return self._peer, rule.peer
        if rule.header is not None:
            if rule.header_value is None:
                return self._header, rule.header
            return self._header_value.setdefault(rule.header, {}), rule.header_value
        if rule.tls_name is not None:
            return self._tls_name, rule.tls_name.lower()
        if rule.called_prefix is not None:
            return self._prefix, rule.called_prefix
        return self._address, ""

    def claim(
        self,
        invite: Invite,
        *,
        asserts_identity: bool,
        accounts: Container[str],
        account_at: Callable[[], str | None],
    ) -> tuple[str, AccountRule] | None:
        """The account of the first rule that applies, among `accounts`; None where nobody claims the call.
        `asserts_identity`: headers count, because they come from inside the trust domain (RFC 3325).
        `account_at`: that of the source address, asked where a rule wants it."""
        first: _Claim | None = None
        found = ""
        for claim, named in self._claims_on(invite, asserts_identity, account_at):
            while claim is not None and (first is None or claim.place < first.place):
                account = named if claim.account is None else claim.account
                if account is not None and account in accounts:
                    first, found = claim, account
                    break
                claim = claim.later
        return None if first is None else (found, self._rules[first.place])

    def _claims_on(
        self, invite: Invite, asserts_identity: bool, account_at: Callable[[], str | None]
    ) -> Iterator[tuple[_Claim | None, str | None]]:
        """One look-up for each thing that a rule may ask of the INVITE, with the account that it names
        itself."""
        yield self._peer.get(invite.peer), None
        if asserts_identity and (self._header_value or self._header):
            for name, value in invite.headers:
                if (values := self._header_value.get(name)) is not None:
                    yield values.get(value), None
                if (claim := self._header.get(name)) is not None:
                    yield claim, value
        if invite.tls_name:
            yield self._tls_name.get(invite.tls_name.lower()), None
        if self._prefix_lengths:
            number = normalise(invite.request_user)
            for length in self._prefix_lengths:
                yield self._prefix.get(number[:length]), None
        if (claim := self._address.get("")) is not None:
            yield claim, account_at()

    def __iter__(self) -> Iterator[AccountRule]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AccountRules) and self._rules == other._rules

    __hash__ = None  # type: ignore[assignment]
