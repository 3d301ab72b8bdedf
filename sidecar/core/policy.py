"""What the operator decided, as one immutable value: peers, gateways, routes, accounts, limits, flags, decks.

`config.py` builds it from files and environment, checked whole; `decide` reads it. A change at run time (an
account created, a deck activated) makes a new Policy and swaps it in: a call keeps what it took from the one
it began under.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec
from msgspec.structs import replace

from sidecar.core.gateway_health import ProbeTerms
from sidecar.core.hangup import TABLE
from sidecar.core.margin import ExchangeTable
from sidecar.core.numbers import StripRule
from sidecar.core.rating import RatingTerms
from sidecar.core.registration import RegisterTerms
from sidecar.core.tariff import Deck
from sidecar.core.terms import (
    CallerIdForm,
    Detail,
    HangupOrigin,
    NumberForm,
    Redirection,
    ServerReason,
    TransportName,
)

NO_ACCOUNT = "_"
SERVER_FAILURES = frozenset(range(500, 600))  # RFC 3261 §21.5


class ProxyHangup(msgspec.Struct, frozen=True, kw_only=True):
    """A trusted proxy's own words that *it* ended the call: where `header` (lower case; `reason` included) of
    its BYE, CANCEL or final response contains `contains`, the cause is `detail` of the server, not the
    party whose side the message came from."""

    header: str
    contains: str
    detail: Detail

    def __post_init__(self) -> None:
        if (HangupOrigin.SERVER, self.detail) not in TABLE:
            raise ValueError(f"{self.detail} is no cause of a server")


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """A group of source addresses that may send us calls, or that a gateway answers from."""

    name: str
    addresses: tuple[str, ...]  # CIDR blocks or single addresses, IPv4 or IPv6
    port: int = 0  # 0: any source port
    tls_names: tuple[str, ...] = ()
    strip_digits: int | None = None
    asserts_identity: bool = False  # inside the trust domain (RFC 3325): its headers say who calls and pays
    proxy_hangups: tuple[ProxyHangup, ...] = ()
    requests_per_s: int = 0  # of one address, outside of calls; 0: no limit


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    """Where leg B goes. `host` is a literal address."""

    name: str
    host: str
    port: int
    transport: TransportName = TransportName.UDP
    peer: str = ""  # the peer group that its address is in; its words are believed as that group's are
    strip_digits: int = 0  # of the number sent, before the buy rate is looked up
    calls_max: int | None = None
    no_response_failover_ms: int
    no_progress_failover_ms: int | None = None  # None: a 100 is waited on until the ring timeout
    failover_codes: frozenset[int]  # final responses that send the call to the next gateway
    username: str = ""  # ours there: its challenges are answered by us; without one they are the caller's
    caller_id: CallerIdForm = CallerIdForm.PASS
    caller_number: NumberForm = NumberForm.AS_IS
    add_headers: tuple[tuple[str, str], ...] = ()  # name, value
    remove_headers: tuple[str, ...] = ()  # lower case, with their compact forms
    probe: ProbeTerms | None = None  # None: it is not probed
    register: RegisterTerms | None = None  # None: it wants no registration
    record_server_hang_up: bool | None = None  # overrides the flag for calls whose last attempt went here
    redirect: Redirection | None = None  # None: the node's
    deck: str | None = None
    tax_rate: Decimal = Decimal(0)
    minimum_charge: Decimal = Decimal(0)


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway's part of the calls of its group: `weight` of the sum of all weights in it."""

    gateway: str
    weight: int = 1

    def __post_init__(self) -> None:
        if self.weight < 1:
            raise ValueError(f"weight {self.weight} of {self.gateway}: at least 1")


class RouteRule(msgspec.Struct, frozen=True, kw_only=True):
    """Calls whose received number begins with `prefix` try `gateways` in order; the longest prefix wins.
    A tuple in their place is a group: calls are spread over it by weight (`routing`)."""

    prefix: str
    gateways: tuple[str | tuple[Share, ...], ...]


class Account(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    currency: str
    prepaid: bool = False
    deck: str | None = None  # None: the default sell deck
    strip_digits: int | None = None
    calls_max: int | None = None
    carry_without_rate: bool | None = None  # None: refused if prepaid, carried otherwise
    margin_floor: Decimal | None = None  # least margin, as a share of the sale; None: the node's
    tax_rate: Decimal = Decimal(0)
    minimum_charge: Decimal = Decimal(0)


class AccountRule(msgspec.Struct, frozen=True, kw_only=True):
    """One way to know whose call it is; exactly one of the four matches is given. The first rule that applies
    wins."""

    account: str
    peer: str | None = None
    header: str | None = None  # lower case; read only from a peer with asserts_identity
    header_value: str | None = None
    tls_name: str | None = None
    called_prefix: str | None = None

    def __post_init__(self) -> None:
        if sum(m is not None for m in (self.peer, self.header, self.tls_name, self.called_prefix)) != 1:
            raise ValueError("an account rule has exactly one of peer, header, tls_name, called_prefix")
        if (self.header is None) != (self.header_value is None):
            raise ValueError("header and header_value go together")


class Timers(msgspec.Struct, frozen=True, kw_only=True):
    ring_timeout_ms: int
    max_duration_ms: int
    auth_retry_ms: int
    retry_after_s: int


class RecordFlags(msgspec.Struct, frozen=True, kw_only=True):
    """VOS3000's record parameters and our overrides. For a server hangup the most specific setting wins: the
    gateway's, then the reason's, then the global flag; `fault` stands apart, because our own faults are not
    the customer's."""

    record_server_hang_up: bool = True
    record_server_hang_up_by_reason: Mapping[ServerReason, bool] = {}
    record_fault: bool = True
    record_zero_hold_time: bool = True
    record_illegal_call: bool = True
    free_numbers: frozenset[str] = frozenset()
    no_cdr_numbers: frozenset[str] = frozenset()


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What comes of plain settings has no default here: it is declared in config.settings."""

    tenant: str
    node: str
    boot_id: str
    peers: Mapping[str, Peer]
    gateways: Mapping[str, Gateway]
    routes: tuple[RouteRule, ...]
    accounts: Mapping[str, Account]
    account_rules: tuple[AccountRule, ...] = ()
    account_required: bool
    calls_max: int
    timers: Timers
    blocked_numbers: frozenset[str] = frozenset()  # normalised numbers; a `*` suffix makes a prefix of it
    pass_503: bool
    redirect: Redirection
    strip_digits: int  # SERVER_BILLING_GATEWAY_ROUTE_PREFIX
    strip_rules: tuple[StripRule, ...] = ()
    rating: RatingTerms = RatingTerms()
    default_currency: str
    decks: Mapping[str, Deck] = {}
    default_deck: str = ""
    margin_floor: Decimal | None = None
    exchange: ExchangeTable = ExchangeTable()
    flags: RecordFlags = RecordFlags()
    q850_of_sip: Mapping[int, int] = {}  # overrides RFC 3398's mapping, code by code
    prevent_overdraft_advance_min: int  # accepted and reported; not yet in force
    refused_cdr_per_s: int

    def account_terms(self, name: str) -> Account:
        """The account's terms, with the node's margin floor where it has none; calls that nobody claims are
        account `_`: postpaid, without limit."""
        account = self.accounts.get(name) or Account(name=name, currency=self.default_currency)
        if account.margin_floor is None and self.margin_floor is not None:
            return replace(account, margin_floor=self.margin_floor)
        return account

    def with_account(self, account: Account) -> Policy:
        """This policy with one account more; where it has one of this name, that one stays."""
        return replace(self, accounts={account.name: account, **self.accounts})

    def with_deck(self, name: str, deck: Deck) -> Policy:
        return replace(self, decks={**self.decks, name: deck})

    def with_margin_terms(self, read: Policy) -> Policy:
        """This policy with the exchange rates and margin floors of another: those of the node and, of the
        accounts that both know, theirs."""
        return replace(
            self,
            exchange=read.exchange,
            margin_floor=read.margin_floor,
            accounts={
                name: replace(account, margin_floor=read.accounts[name].margin_floor)
                if name in read.accounts
                else account
                for name, account in self.accounts.items()
            },
        )


class Load(msgspec.Struct, kw_only=True):
    """How many calls are up, and which gateways are down: kept by the runtime, read by `decide`. Mutable on
    purpose, one per node.

    A call counts until its first cause, on the gateway of its last attempt; a challenged caller keeps its
    place.
    """

    calls: int = 0
    by_account: dict[str, int] = {}
    by_gateway: dict[str, int] = {}
    gateways_down: set[str] = set()  # by their probes or their registration: tried after all that are not


class Given(msgspec.Struct, frozen=True):
    """What a decision is made by beside the call and the event: the policy in force, and how full the node
    is."""

    policy: Policy
    load: Load
