"""What the operator decided, as one immutable value: peers, gateways, routes, accounts, limits, flags, decks.

`config.py` builds it from files and environment, checked whole; `decide` reads it. A change at run time (an
account created, a deck activated) makes a new Policy and swaps it in: a call keeps what it took from the one
it began under.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any, Protocol

import msgspec
from msgspec.structs import asdict, replace

from sidecar.core.account_rules import AccountRules
from sidecar.core.account_terms import AccountTerms
from sidecar.core.addresses import AddressTable
from sidecar.core.capture import CaptureRule
from sidecar.core.fraud_rules import FraudRule
from sidecar.core.gateway_health import ProbeTerms
from sidecar.core.hangup import TABLE
from sidecar.core.margin import ExchangeTable
from sidecar.core.numbers import BilledNumber, StripRule
from sidecar.core.persistent_map import PersistentMap
from sidecar.core.rating import RatingTerms
from sidecar.core.registration import RegisterTerms
from sidecar.core.screening import NumberLists, Screening, number_rule
from sidecar.core.servers import Lookup, Server, ServerAt
from sidecar.core.tariff import Deck
from sidecar.core.terms import (
    CallerIdForm,
    DeadPeerBilling,
    Detail,
    Forks,
    HangupOrigin,
    LargeUdp,
    LivenessCheck,
    NatCheck,
    NumberForm,
    RateBy,
    Redirection,
    ServerReason,
    TransportName,
    UserPhone,
)
from sidecar.core.token_buckets import TokenBuckets
from sidecar.core.urns import urn_of, within

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
    caller_trusted: bool = False  # its From tells who calls, to decks that ask
    proxy_hangups: tuple[ProxyHangup, ...] = ()
    requests_per_s: int = 0  # of one address, outside of calls; 0: no limit
    calls_max: int | None = None
    calls_per_s: int | None = None
    numbers: NumberLists = NumberLists()
    liveness: LivenessCheck = LivenessCheck.ANY
    nat: NatCheck = NatCheck.AUTO
    forks: Forks = Forks.PASS
    shared_dialogs: bool | None = None  # None: where it lists single addresses alone

    @property
    def shares_dialogs(self) -> bool:
        """Each of its addresses may speak in the calls of all, as each of a pair of proxies does."""
        if self.shared_dialogs is not None:
            return self.shared_dialogs
        return all(
            block.partition("/")[2] in ("", "128" if ":" in block else "32") for block in self.addresses
        )


def peer_of(address: str, groups: Iterable[tuple[str, Iterable[str]]]) -> str:
    """The first group, of (name, blocks), that holds a literal address; empty: none does."""
    wanted = ip_address(address)
    return next((name for name, blocks in groups if any(wanted in _network(block) for block in blocks)), "")


_network = lru_cache(maxsize=100_000)(ip_network)  # each gateway asks all of them


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    """Where leg B goes. `host` is a literal address, or with `lookup` a name: then a call goes to one of its
    servers, and `at` gives the gateway as it is there."""

    name: str
    host: str
    port: int
    transport: TransportName = TransportName.UDP
    lookup: Lookup | None = None
    tls_names: tuple[str, ...] = ()  # of its certificate, beside `host`
    peer: str = ""  # the peer group that its address is in, and that says how far it is trusted
    strip_digits: int = 0  # of the number sent, before the buy rate is looked up
    calls_max: int | None = None
    calls_per_s: int | None = None
    max_duration_s: int | None = None  # None: that of the node, the account and the rate alone
    no_response_failover_ms: int
    no_progress_failover_ms: int | None = None  # None: a 100 is waited on until the ring timeout
    failover_codes: frozenset[int]  # final responses that send the call to the next gateway
    username: str = ""  # ours there: its challenges are answered by us; without one they are the caller's
    caller_id: CallerIdForm = CallerIdForm.PASS
    caller_number: NumberForm = NumberForm.AS_IS
    user_phone: UserPhone = UserPhone.AS_IS
    add_headers: tuple[tuple[str, str], ...] = ()  # name, value
    remove_headers: tuple[str, ...] = ()  # lower case, with their compact forms
    probe: ProbeTerms | None = None  # None: it is not probed
    register: RegisterTerms | None = None  # None: it wants no registration
    liveness: LivenessCheck | None = None  # None: that of its peer group
    large_udp: LargeUdp = LargeUdp.TCP
    record_server_hang_up: bool | None = None  # overrides the flag for calls whose last attempt went here
    redirect: Redirection | None = None  # None: the node's
    deck: str | None = None
    tax_rate: Decimal = Decimal(0)
    minimum_charge: Decimal = Decimal(0)

    def at(self, server: Server | None) -> Gateway:
        """At one of its servers; None: at its own address."""
        if server is None:
            return self
        return replace(self, host=server.host, port=server.port, transport=server.transport, peer=server.peer)

    @property
    def domain(self) -> str:
        """As the host of a URI: the name that was looked up, or the address."""
        if self.lookup is not None:
            return self.lookup.name
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def authority(self) -> str:
        """Host and port of a URI. RFC 3263 §4: a port that DNS said is not written there."""
        port = self.port if self.lookup is None else self.lookup.port
        return self.domain if port is None else f"{self.domain}:{port}"


class Share(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A gateway's part of the calls of its group: `weight` of the sum of all weights in it."""

    gateway: str
    weight: int = 1

    def __post_init__(self) -> None:
        if self.weight < 1:
            raise ValueError(f"weight {self.weight} of {self.gateway}: at least 1")


Targets = tuple[str | tuple[Share, ...], ...]
"""Gateways in the order in which they are tried. A tuple in the place of one is a group: calls are spread
over it by weight (`routing`)."""


class RouteRule(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Calls whose received number begins with `prefix` try `gateways`; the longest prefix wins. It may be a
    URN in lower case instead: calls to it, and to the services within it."""

    prefix: str
    gateways: Targets


class Routes:
    """The routes of a profile, immutable; asked by one look-up for each length that a prefix has."""

    __slots__ = ("_by_prefix", "_by_urn", "_lengths")

    def __init__(self, rules: Iterable[RouteRule] = ()) -> None:
        """Of two with one prefix the first holds."""
        kept: dict[Targets, Targets] = {}  # each list of gateways once: there are fewer of them than routes
        self._by_prefix: dict[str, Targets] = {}
        self._by_urn: dict[str, Targets] = {}
        for rule in rules:
            named = self._by_urn if urn_of(rule.prefix) else self._by_prefix
            named.setdefault(rule.prefix, kept.setdefault(rule.gateways, rule.gateways))
        self._lengths = tuple(sorted({len(prefix) for prefix in self._by_prefix}, reverse=True))

    def match(self, number: str) -> RouteRule | None:
        """That of the longest prefix of the number."""
        for length in self._lengths:
            if length <= len(number):
                gateways = self._by_prefix.get(prefix := number[:length])
                if gateways is not None:
                    return RouteRule(prefix=prefix, gateways=gateways)
        return None

    def match_urn(self, urn: str) -> RouteRule | None:
        """That of the longest service that it is within; no prefix of numbers is one."""
        found = max((service for service in self._by_urn if within(urn, service)), key=len, default="")
        gateways = self._by_urn.get(found)
        return None if gateways is None else RouteRule(prefix=found, gateways=gateways)

    @property
    def urns(self) -> tuple[str, ...]:
        """Those that are carried, with the services within them."""
        return tuple(self._by_urn)

    def __iter__(self) -> Iterator[RouteRule]:
        """By prefix."""
        all_of_them = self._by_prefix | self._by_urn
        return (RouteRule(prefix=prefix, gateways=all_of_them[prefix]) for prefix in sorted(all_of_them))

    def __len__(self) -> int:
        return len(self._by_prefix) + len(self._by_urn)

    def __eq__(self, other: object) -> bool:
        mine = (self._by_prefix, self._by_urn)
        return isinstance(other, Routes) and mine == (other._by_prefix, other._by_urn)

    __hash__ = None  # type: ignore[assignment]


class Account(AccountTerms, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Its terms, and what its calls are priced and bounded by."""

    deck: str | None = None  # None: the default sell deck
    strip_digits: int | None = None
    calls_max: int | None = None
    calls_per_s: int | None = None
    max_duration_s: int | None = None
    carry_without_rate: bool | None = None  # None: refused if prepaid, carried otherwise
    margin_floor: Decimal | None = None  # least margin, as a share of the sale; None: the node's
    tax_rate: Decimal = Decimal(0)
    minimum_charge: Decimal = Decimal(0)

    @property
    def terms(self) -> AccountTerms:
        return AccountTerms(**{name: getattr(self, name) for name in AccountTerms.__struct_fields__})

    def with_terms(self, terms: AccountTerms) -> Account:
        return replace(self, **asdict(terms))


class Timers(msgspec.Struct, frozen=True, kw_only=True):
    ring_timeout_ms: int
    max_duration_ms: int
    auth_retry_ms: int
    retry_after_s: int


class RecordFlags(msgspec.Struct, frozen=True, kw_only=True):
    """VOS3000's record parameters and our own. For a server hangup the most specific setting wins: the
    gateway's, then the reason's, then the global flag; `fault` stands apart, because our own faults are not
    the customer's."""

    record_server_hang_up: bool = True
    record_server_hang_up_by_reason: Mapping[ServerReason, bool] = {}
    record_fault: bool = True
    record_zero_hold_time: bool = True
    record_illegal_call: bool = True
    dead_peer_billing: DeadPeerBilling = DeadPeerBilling.LAST_LIFE
    free_numbers: frozenset[str] = frozenset()
    no_cdr_numbers: frozenset[str] = frozenset()


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What comes of plain settings has no default here: it is declared in config.settings."""

    tenant: str
    node: str
    boot_id: str
    settings_revision: int | None = None  # counts what was put in force, start by start and reload by reload
    peers: Mapping[str, Peer]
    gateways: Mapping[str, Gateway]
    routes: Routes
    accounts: PersistentMap[str, Account]
    account_rules: AccountRules = AccountRules()
    account_addresses: AddressTable = AddressTable()
    settings_addresses: AddressTable = AddressTable()  # those among them that no command takes away
    settings_accounts: Mapping[str, Account] = {}  # those whose terms no command changes
    account_required: bool
    calls_max: int
    calls_per_s: int | None = None
    ringing_share_percent: int  # of `calls_max`, for one peer group
    timers: Timers
    blocked_numbers: frozenset[str] = frozenset()  # patterns, as of `screening`
    allowed_numbers: frozenset[str] = frozenset()
    blocks: frozenset[str] = frozenset()  # patterns that are blocked by command
    emergency_numbers: frozenset[str] = frozenset()  # as dialled, never a beginning
    screenings: Mapping[str, Screening] = {}  # by account: those that have rules of their own
    pass_503: bool
    redirect: Redirection
    strip_digits: int  # SERVER_BILLING_GATEWAY_ROUTE_PREFIX
    strip_rules: tuple[StripRule, ...] = ()
    fraud_rules: tuple[FraudRule, ...] = ()
    rate_by: RateBy
    rating: RatingTerms = RatingTerms()
    default_currency: str
    decks: Mapping[str, Deck] = {}
    default_deck: str = ""
    margin_floor: Decimal | None = None
    exchange: ExchangeTable = ExchangeTable()
    flags: RecordFlags = RecordFlags()
    q850_of_sip: Mapping[int, int] = {}  # overrides RFC 3398's mapping, code by code
    slice_s: int  # of credit: what a call reserves, and is extended by
    extend_guard_ms: int  # so long before its end a grant is extended, at the latest
    store_away_s: int  # so much longer a call may last while nobody can say whether its grant is extended
    refused_cdr_per_s: int
    refused_cdr_all_per_s: int
    capture: CaptureRule | None = None

    def account_terms(self, name: str) -> Account:
        """The account's terms, with the node's margin floor where it has none; calls that nobody claims are
        account `_`: postpaid, without limit."""
        account = self.accounts.get(name) or Account(name=name, currency=self.default_currency)
        if account.margin_floor is not None or self.margin_floor is None:
            return account
        return replace(account, margin_floor=self.margin_floor)

    def with_account(self, account: Account) -> Policy:
        """This policy with one account more; where it has one of this name, that one stays."""
        if account.name in self.accounts:
            return self
        return replace(self, accounts=self.accounts.plus(account.name, account))

    def with_terms(self, terms: AccountTerms) -> Policy:
        """This policy with an account on these terms; what else it says of the account stays."""
        known = self.accounts.get(terms.name)
        account = Account(**asdict(terms)) if known is None else known.with_terms(terms)
        return replace(self, accounts=self.accounts.plus(terms.name, account))

    def with_address(self, block: str, account: str) -> Policy:
        return replace(self, account_addresses=self.account_addresses.plus(block, account))

    def without_address(self, block: str) -> Policy:
        """KeyError where it has none of it. What the settings say stays."""
        if self.settings_addresses.at(block) is not None:
            return self
        return replace(self, account_addresses=self.account_addresses.minus(block))

    def with_stored(self, accounts: Iterable[Account], addresses: Iterable[tuple[str, str]]) -> Policy:
        """The same of many, and of their address blocks, at a cost that grows with all of them. Where both
        have a name, or a block, what this policy says holds."""
        more = {account.name: account for account in accounts}
        return replace(
            self,
            accounts=PersistentMap({**more, **self.accounts}) if more else self.accounts,
            settings_accounts=self.accounts,
            account_addresses=AddressTable([*self.account_addresses, *addresses]),
            settings_addresses=self.account_addresses,
        )

    def number_rule(self, number: BilledNumber, account: str, peer: str) -> str | None:
        """The rule that forbids this number to be called; None: there is none."""
        lists = [("", NumberLists(blocked=self.blocked_numbers, allowed=self.allowed_numbers))]
        if (sender := self.peers.get(peer)) is not None:
            lists.append((f"peers.{peer}.", sender.numbers))
        if (screening := self.screenings.get(account)) is not None:
            lists.append((f"accounts.{account}.", screening.numbers))
        return number_rule(number, self.blocks, lists)

    def with_deck(self, name: str, deck: Deck) -> Policy:
        return replace(self, decks={**self.decks, name: deck})

    def with_blocks(self, blocks: frozenset[str]) -> Policy:
        return replace(self, blocks=blocks)


class Load(msgspec.Struct, kw_only=True):
    """How many calls are up (`capacity`), and which gateways are down: kept by the runtime, read by `decide`.
    Mutable on purpose, one per node."""

    is_draining: bool = False  # no new call is taken any more
    store_ms: int = 0  # what the store has taken, at the worst of late, over what a call waits for
    calls: int = 0
    by_account: dict[str, int] = {}
    by_gateway: dict[str, int] = {}
    by_gateway_elsewhere: dict[str, int] = {}  # on other nodes, as they told last
    suspended_accounts: set[str] = set()  # whose balance is not known to be right: core/suspense
    by_peer: dict[str, int] = {}
    by_peer_elsewhere: dict[str, int] = {}
    ringing_by_peer: dict[str, int] = {}  # those that are not answered
    senders: set[str] = set()  # the peer groups that have sent a call
    buckets: TokenBuckets = msgspec.field(default_factory=TokenBuckets)
    gateways_down: set[str] = set()  # by their probes or their registration: tried after all that are not
    servers: dict[str, tuple[Server, ...]] = {}  # of the gateways whose host is a name, as DNS said last
    servers_down: set[tuple[str, ServerAt]] = set()  # (gateway, server), by their probes: likewise


class FraudGate(Protocol):
    """The fraud rules, and what they have counted."""

    def refusal(self, call: Any) -> str | None:
        """The name of the rule that refuses a core.call.Call that nothing else does. Changes nothing."""


class Given(msgspec.Struct, frozen=True):
    """What a decision is made by beside the call and the event: the policy in force, and how full the node
    is."""

    policy: Policy
    load: Load
    fraud: FraudGate | None = None  # None: there are no such rules
