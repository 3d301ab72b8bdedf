"""The tables whose entries the operator names or lists: peers, gateways, routes, rules, accounts, decks.

Each is a struct with one field for each key of an entry, declared as the plain settings are (`settings`); its
docstring is its meaning. A field without a default here has that of the core's struct which it is made into;
one that has none there either is required. What the entries mean together is checked in `crosscheck`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from sidecar.config import values
from sidecar.config.declare import Setting, Shown, settings_of
from sidecar.config.values import Amount, Choice, ListOf, Text
from sidecar.core import policy
from sidecar.core.account_rules import AccountFrom, AccountRule
from sidecar.core.account_terms import AccountKind
from sidecar.core.fraud_rules import WINDOW_S_MAX, FraudRule, Measure, Mode, Scope
from sidecar.core.numbers import StripRule
from sidecar.core.terms import (
    CallerIdForm,
    Detail,
    Forks,
    LargeUdp,
    LivenessCheck,
    NatCheck,
    NumberForm,
    Redirection,
    TransportName,
    UserPhone,
)
from sidecar.core.windows import Window

ONE_LINE = Text(r"[^\x00-\x1f\x7f]{1,200}", "1-200 printable characters")
STRIP = Meta(ge=0, le=32)

Name = Annotated[str, values.NAME]
CallsMax = Annotated[int | None, Meta(ge=1, le=100_000)]
SellStrip = Annotated[int | None, STRIP, "Digits stripped before the sell rate look-up."]
MarginFloor = Annotated[Decimal | None, values.SHARE, "The least margin, as a share of the sale."]
TaxRate = Annotated[Decimal, Amount("10"), '`"0.19"` is 19 %, on top of the net amount.', Shown('"0"')]
MinimumCharge = Annotated[
    Decimal, Amount(), "The least net amount of a call of which anything is billed.", Shown('"0"')
]


SHARED_RATE = (
    "Of nodes that share a database all together: each has a share, by what all took in the last seconds. So "
    "while calls move to another node, for 2 s, up to twice as many, and one more for each node."
)
CallsPerS = Annotated[int | None, Meta(ge=1, le=100_000)]
MaxDuration = Annotated[int | None, Meta(ge=1, le=604_800)]
BlockedNumbers = Annotated[
    tuple[str, ...],
    values.NUMBERS,
    "Called numbers that are refused with 403; `0900*` is a beginning. Of all lists that apply to a call, "
    "the node's (`sip.blocked_numbers`), its peer's and its account's, the longest pattern decides.",
]
AllowedNumbers = Annotated[
    tuple[str, ...],
    values.NUMBERS,
    "With any, those alone may be called; a longer blocked pattern takes some of them out again.",
]
CallerNumbers = Annotated[
    tuple[str, ...],
    values.NUMBERS,
    "With any, calls from other numbers get 403: the one that a peer of the trust domain asserts counts, "
    "else that of From, as received but for its `+`. `4930*` is a beginning.",
]
Hours = Annotated[
    tuple[Window, ...],
    values.WINDOWS,
    "With any, calls that begin at other times get 403; one that is up goes on.",
]
MaxPricePerMin = Annotated[
    Decimal | None,
    Amount(),
    "Calls that at any hour or second would cost more a minute, without tax, get 403.",
    Shown("no ceiling"),
]
MaxConnectFee = Annotated[Decimal | None, Amount(), "The same of the connect fee.", Shown("no ceiling")]


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """`heading` is how it is written: `[name.NAME]`, or `[[name]]` for an array of tables."""

    heading: ClassVar[str]
    made_into: ClassVar[tuple[type[msgspec.Struct], ...]] = ()
    names: ClassVar[values.Kind[str]] = values.NAME
    named_by: ClassVar[str] = ""  # of entries that are listed: the field by which commands name one

    @classmethod
    @cache
    def fields(cls) -> Mapping[str, Setting]:
        return settings_of(cls, made_into=cls.made_into)

    @classmethod
    def is_listed(cls) -> bool:
        return cls.heading.startswith("[[")


class ProxyHangups(Table, frozen=True, kw_only=True):
    """How a trusted proxy says in its BYE, CANCEL or final response that *it* ended the call."""

    heading = "[[peers.NAME.proxy_hangups]]"
    made_into = (policy.ProxyHangup,)
    header: Annotated[str, values.HEADER, "The header to look at; `reason` too."]
    contains: Annotated[str, ONE_LINE, "What its value then contains."]
    detail: Annotated[
        Detail,
        Choice(Detail, leave_out=(Detail.BYE, Detail.CANCEL, Detail.REJECTED)),
        "The cause that it means.",
    ]


class Peers(Table, frozen=True, kw_only=True):
    """Groups of addresses that may send us calls, or that a gateway answers from. None is in two groups."""

    heading = "[peers.NAME]"
    made_into = (policy.Peer,)
    addresses: Annotated[tuple[str, ...], values.NETWORKS, "CIDR blocks or addresses."]
    port: Annotated[int, Meta(ge=0, le=65_535), "Its source port; 0: any."]
    tls_names: Annotated[
        tuple[str, ...],
        values.WORDS,
        "Names of its certificate, one of which must be there: a domain among its alternative names, or its "
        "common name where there is none (RFC 5922); no wildcards.",
    ]
    tls_ca_file: Annotated[
        Path | None,
        "CA file of its own, PEM, relative to the profile: it calls over TLS alone, with a certificate that "
        "goes back to this one. Its name finds an account only where `tls_names` has it.",
        Shown("`sip.tls_ca_file`, over TLS"),
    ] = None
    strip_digits: Annotated[SellStrip, Shown("`billing.strip_digits`")]
    requests_per_s: Annotated[
        int,
        Meta(ge=0, le=100_000),
        "Requests of one of its addresses that belong to no call, with repeats; the rest is dropped. "
        "0: no limit.",
    ]
    calls_max: Annotated[
        CallsMax,
        "Calls that came from here, at one time; above it, 480. Of nodes that share a database all together, "
        "as others told within the last second: over by what they have begun since.",
        Shown("no limit"),
    ]
    calls_per_s: Annotated[
        CallsPerS,
        f"New calls in a second, of which a second's worth may come at once; above it, 480. {SHARED_RATE}",
        Shown("no limit"),
    ]
    shared_dialogs: Annotated[
        bool | None,
        "Each of its addresses may speak in the calls of all, as a pair of proxies does. Otherwise a call "
        "hears those alone that its INVITE or its answer came from, or named in Via, Contact or "
        "Record-Route; what others send into it is dropped, counted and logged.",
        Shown("true where it lists single addresses alone"),
    ]
    asserts_identity: Annotated[
        bool,
        "Inside the trust domain (RFC 3325): its headers may name the account, and P-Asserted-Identity and "
        "Remote-Party-ID pass from it, and to it whatever Privacy they have. A gateway is inside through the "
        "group of its address. What others assert is taken out of every message; what they get: "
        "`sip.pai_outside`.",
    ]
    caller_trusted: Annotated[
        bool,
        "Its From tells who calls, to decks that ask (`caller_prefix`). Otherwise the number that it asserts "
        "does, where it has `asserts_identity`; all other callers are of the surcharge class.",
    ]
    liveness: Annotated[
        LivenessCheck,
        "How it shows in a call that it is there: `any` message in its dialog, where it is asked by OPTIONS "
        "and, without an answer, once more by UPDATE or INFO; `options`: an answer to OPTIONS alone; `off`: "
        "it is not asked.",
    ]
    blocked_numbers: BlockedNumbers = ()
    allowed_numbers: AllowedNumbers = ()
    nat: Annotated[
        NatCheck,
        "A caller over UDP whose Contact is a private address other than its source, without Record-Route, "
        "is reached where its INVITE came from (`auto`), or at its Contact (`off`).",
    ]
    forks: Annotated[
        Forks,
        "Of calls from here, and to gateways here, whose INVITE is forked: `pass` shows the caller each user "
        "agent as a dialog of its own; `single` shows one, without the media of others, and asks the gateway "
        "not to fork (`Request-Disposition: no-fork`).",
    ]


class Gateways(Table, frozen=True, kw_only=True):
    """Where calls go."""

    heading = "[gateways.NAME]"
    made_into = (policy.Gateway,)
    host: Annotated[
        str,
        values.HOST_NAME,
        "Its address, or the name that DNS has it by (RFC 3263): its servers are then tried in the order and "
        "by the weight of SRV, in one attempt after another, and each is probed.",
    ]
    port: Annotated[
        int | None,
        Meta(ge=1, le=65_535),
        "Its port. An address needs one; of a name that has one no SRV records are asked for.",
        Shown("as DNS says, else 5060, for TLS 5061"),
    ] = None
    transport: Annotated[
        TransportName,
        "How it is reached. Of a name with neither `transport` nor `port` NAPTR and SRV records say it.",
    ]
    large_udp: Annotated[
        LargeUdp,
        "How an INVITE of more than 1300 bytes goes where `transport` is `udp` (RFC 3261 §18.1.1): by `tcp`, "
        "and by UDP where no connection is there within 3 s; or by `udp` at once.",
    ]
    tls_names: Annotated[
        tuple[str, ...],
        values.WORDS,
        "Names of its certificate, one of which must be there if `host` is not; asked for with a CA file.",
    ]
    tls_ca_file: Annotated[
        Path | None,
        "CA file of its own, PEM, relative to the profile: its certificate goes back to this one.",
        Shown("that of its peer group, else `sip.tls_ca_file`"),
    ] = None
    strip_digits: Annotated[int, STRIP, "Digits stripped before the buy rate look-up."]
    calls_max: Annotated[
        CallsMax,
        "Calls at one time; then the next gateway. Of nodes that share a database all together, as others "
        "told within the last second: over by what they have begun since.",
        Shown("no limit"),
    ]
    calls_per_s: Annotated[
        CallsPerS,
        "Attempts in a second, of which a second's worth may come at once; then the next gateway. "
        f"{SHARED_RATE}",
        Shown("no limit"),
    ]
    max_duration_s: Annotated[
        MaxDuration,
        "A call that it answered is ended so long after, where no other maximum is less.",
        Shown("`timers.max_duration_s`"),
    ]
    no_response_failover_s: Annotated[
        int | None,
        Meta(ge=1, le=32),
        "Not even a 100 by then: the next gateway.",
        Shown("`timers.no_response_failover_s`"),
    ] = None
    no_progress_failover_s: Annotated[
        int | None,
        Meta(ge=1, le=180),
        "Nothing but a 100 by then, no 18x: the next gateway, while one is left.",
        Shown("off"),
    ] = None
    failover_codes: Annotated[
        tuple[str, ...] | None,
        values.FINAL_CODES,
        "Its final responses that send the call to the next gateway.",
        Shown("`sip.failover_codes`"),
    ] = None
    username: Annotated[
        str,
        Text(r'[^"\\\x00-\x1f\x7f]{0,255}', 'printable characters but " and \\'),
        "Ours there: its 401 and 407 are answered by us. Without one they go to the caller.",
    ]
    password_file: Annotated[
        Path | None, "A file that holds its password on the first line; relative to the profile."
    ] = None
    realm: Annotated[
        str,
        Text(r"[^\x00-\x1f\x7f]{0,255}", "printable characters"),
        "The only realm that gets it.",
        Shown("any"),
    ] = ""
    caller_id: Annotated[
        CallerIdForm,
        "How it is told who calls: `pass` as received, `from` the asserted number in From alone, `pai` in "
        "P-Asserted-Identity, `rpid` in Remote-Party-ID.",
    ]
    caller_number: Annotated[
        NumberForm,
        "How From, and what `caller_id` makes, write it: `plus` puts a + before a number that begins with "
        "1-9, `no_plus` takes it off.",
    ]
    user_phone: Annotated[
        UserPhone,
        "`user=phone` in its Request-URI, To and From: `as_is` received (and in the place of a tel: URI), or "
        "`add` it where the user is a number, or `remove` it.",
    ]
    add_headers: Annotated[
        tuple[tuple[str, str], ...],
        values.HEADER_LINES,
        "Added to each INVITE that begins a call there; received ones of that name do not pass.",
    ]
    remove_headers: Annotated[
        tuple[str, ...],
        values.HEADER_NAMES,
        "Taken out of every message that passes to it, in-dialog requests and responses included.",
    ]
    probe_interval_s: Annotated[
        int,
        Meta(ge=0, le=3_600),
        "How often OPTIONS asks whether it is there; 0: never. While down, it is tried after all others.",
    ] = 0
    probe_timeout_s: Annotated[int, Meta(ge=1, le=32), "Such a probe has failed by then."] = 4
    probe_down_after: Annotated[int, Meta(ge=1, le=100), "So many failed in a row: it is down."] = 2
    probe_up_after: Annotated[int, Meta(ge=1, le=100), "So many good ones in a row: it is up again."] = 1
    probe_alive: Annotated[
        tuple[str, ...],
        ListOf(Text(r"[2-6](xx|[0-9]{2})", '`"200"`–`"699"`, `"2xx"`–`"6xx"`')),
        "The answers that are good.",
        Shown("all but 408, 500, 502, 503, 504"),
    ] = ()
    liveness: Annotated[
        LivenessCheck | None, "How it shows in a call that it is there.", Shown("that of its peer group")
    ]
    register: Annotated[
        bool,
        "We register there, and take that back when the node stops. While it fails, the gateway is down.",
    ] = False
    register_expires_s: Annotated[int, Meta(ge=60, le=86_400), "The interval that we ask for."] = 3_600
    register_user: Annotated[
        str, values.URI_USER, "Of our address of record there, and of our Contact.", Shown("`username`")
    ] = ""
    register_domain: Annotated[
        str,
        Text(r"[A-Za-z0-9.-]{1,255}|\[[0-9A-Fa-f:.]+\]", "a host name or an address"),
        "The registrar's domain: of the address of record, and what is asked. It is not looked up.",
        Shown("`host`"),
    ] = ""
    record_server_hang_up: Annotated[
        bool | None,
        "Overrides the flag, and its reasons, for calls whose last attempt went here.",
        Shown("`billing.record_server_hang_up`"),
    ]
    redirect: Annotated[
        Redirection | None, "What becomes of its 3xx: `reject`, `pass` or `follow`.", Shown("`sip.redirect`")
    ]
    deck: Annotated[Name | None, "The buy deck.", Shown("none: nothing is bought")]
    tax_rate: TaxRate
    minimum_charge: MinimumCharge


class Routes(Table, frozen=True, kw_only=True):
    """The longest prefix wins. Without any route all calls try all gateways, in the order of the file."""

    heading = "[[routes]]"
    made_into = (policy.RouteRule,)
    names = values.ROUTE_PREFIX
    named_by = "prefix"
    prefix: Annotated[
        str,
        values.ROUTE_PREFIX,
        'How the received number begins; `""` is every number. Or a URN, such as `urn:service:sos`, which is '
        "carried where a route names it or a service that it is within; others get 416 (RFC 5031). Calls to "
        "`urn:service:sos` are free, and refused or ended for no credit, rate, rule, time, limit or load.",
    ]
    gateways: Annotated[
        tuple[str | tuple[policy.Share, ...], ...],
        values.GATEWAYS,
        "Tried in this order. Over the gateways of a group calls are spread by weight; one that fails is "
        "followed by the others of its group, then by what comes after it.",
    ]


class AccountRules(Table, frozen=True, kw_only=True):
    """Whose call it is: the first rule that applies. One with `account` has one of `peer`, `header` (with
    `header_value`), `tls_name`, `called_prefix`; with `account_from` the call itself names the account, and
    it is no match where there is none of that name."""

    heading = "[[account_rules]]"
    made_into = (AccountRule,)
    named_by = "name"
    name: Annotated[
        Name | None, "Its name, where it has one: one that is made by command does not take it again."
    ] = None
    account: Annotated[str | None, values.ACCOUNT_NAME, "The account; it may be one that is made by command."]
    account_from: Annotated[
        AccountFrom | None,
        "`header`: the value of `header` is the account's name. `address`: the account of the longest block "
        "of `[account_addresses]`, and of those given by command, that holds the source address.",
    ]
    peer: Annotated[Name | None, "The call comes from this peer group."]
    header: Annotated[
        str | None, values.HEADER, "The INVITE has this header; only of peers with `asserts_identity`."
    ]
    header_value: Annotated[str | None, ONE_LINE, "Its value."]
    tls_name: Annotated[
        str | None, Text(r"[!-~]{1,255}", "a certificate name"), "The certificate has this name."
    ]
    called_prefix: Annotated[str | None, values.PREFIX, "The called number begins so."]


class StripRules(Table, frozen=True, kw_only=True):
    """Named rules, by how the called number begins. The longest prefix wins, and wins over any strip
    length."""

    heading = "[[strip_rules]]"
    made_into = (StripRule,)
    name: Annotated[str, values.NAME, "The name, as records show it."]
    prefix: Annotated[str, Text(r"[0-9#*]{1,32}", "1-32 of 0-9 # *"), "How the number begins."]
    strip: Annotated[int, STRIP, "Digits taken off."]
    add: Annotated[str, Text(r"[0-9]{0,8}", "0-8 digits"), "Digits put in front: the country code."]


class FraudRules(Table, frozen=True, kw_only=True):
    """What looks like fraud, counted in windows; names are unique over the settings file and the profile.
    `sidecar reference fraud` explains, with examples."""

    heading = "[[fraud_rules]]"
    made_into = (FraudRule,)
    name: Annotated[str, values.NAME, "The name, as records and alarms show it."]
    scope: Annotated[
        Scope,
        "For each of what is counted: `account`, destination `prefix`, `caller` (the number in From), or the "
        "`node` as a whole. Of nodes that share a database all count together, but those of scope `node`.",
    ]
    measure: Annotated[
        Measure,
        "What is counted: `calls_at_once`; `calls` that begin; `destinations`, different numbers; `minutes` "
        "and `money` sold, those of calls that are up too; `short_calls`, their share of the answered ones; "
        "`unbilled_ends`, answered calls that end as `dead_peer` or `no_ack` with 0 s billed.",
    ]
    threshold: Annotated[
        Decimal,
        values.QUANTITY,
        "Above it the rule fires: calls, numbers, minutes, units of the currency, or a share of 1. Of nodes "
        "that share a database, as others told within the last second: over by what they have let through "
        "since, and for each by a hundredth (`destinations`: a tenth) that it need not tell.",
    ]
    window_s: Annotated[
        int, Meta(ge=0, le=WINDOW_S_MAX), "Over how long it is counted; `calls_at_once` has none."
    ]
    mode: Annotated[
        Mode,
        "`watch`: an alarm, nothing else. `refuse`: new calls get 403 too. `end`: calls that are up are "
        "ended too.",
    ]
    lift_after_s: Annotated[
        int,
        Meta(ge=0, le=2_592_000),
        "So long after it fired it holds what it fired for; 0: until `sidecar policy lift`.",
    ]
    currency: Annotated[
        str,
        values.CURRENCY,
        "Of `money`: charges in others are not counted.",
        Shown("`billing.currency`"),
    ]
    least_calls: Annotated[
        int, Meta(ge=1, le=100_000), "`short_calls`: of fewer answered calls there is no share."
    ]
    short_s: Annotated[int, Meta(ge=0, le=3_600), "`short_calls`: a call of at most so much talk is short."]
    prefixes: Annotated[
        tuple[str, ...],
        values.BILLED_BEGINNINGS,
        "Only calls whose billed number begins so; in scope `prefix` each of them is counted by itself.",
        Shown("all calls; in scope `prefix`: each prefix of the sell deck"),
    ]
    hours: Annotated[
        tuple[Window, ...], values.WINDOWS, "Only calls that begin at these times.", Shown("always")
    ]
    except_accounts: Annotated[
        tuple[str, ...], values.ACCOUNT_NAMES, "Accounts whose calls it does not look at."
    ]
    except_prefixes: Annotated[
        tuple[str, ...], values.BILLED_BEGINNINGS, "Calls to numbers that begin so, neither."
    ]


class Groups(Table, frozen=True, kw_only=True):
    """What several accounts have in common, where an account says nothing itself."""

    heading = "[groups.NAME]"
    made_into = (policy.Account,)  # by way of its accounts
    deck: Annotated[Name | None, "The sell deck.", Shown("`billing.deck`")]
    margin_floor: Annotated[MarginFloor, Shown("`billing.margin_floor`")]
    max_duration_s: Annotated[
        MaxDuration,
        "A call is ended so long after its answer, where no other maximum is less.",
        Shown("`timers.max_duration_s`"),
    ]
    blocked_numbers: BlockedNumbers = ()
    allowed_numbers: AllowedNumbers = ()
    hours: Hours = ()
    max_price_per_min: MaxPricePerMin = None
    max_connect_fee: MaxConnectFee = None


class Accounts(Table, frozen=True, kw_only=True):
    """Who pays, and on what terms. Balances are in the journal, not here."""

    heading = "[accounts.NAME]"
    made_into = (policy.Account,)
    names = values.ACCOUNT_NAME
    currency: Annotated[str | None, values.CURRENCY, "Code of ISO 4217.", Shown("`billing.currency`")] = None
    kind: Annotated[
        AccountKind,
        "`prepaid`: calls as far as the balance goes. `postpaid`: as far as `credit_limit` goes, if there is "
        "one. `free`: nothing is charged.",
    ]
    prepaid: Annotated[bool, 'The same as `kind = "prepaid"`.'] = False
    credit_limit: Annotated[
        Decimal | None,
        Amount(),
        "How far the balance may go below 0: a prepaid account's overdraft, a postpaid one's limit.",
        Shown('prepaid: `"0"`; postpaid: no limit'),
    ]
    enabled: Annotated[
        bool,
        "`false`: it has no calls (403, `account_disabled`). `sidecar account disable` does the same at "
        "once, and outlasts restarts.",
    ]
    valid_from: Annotated[datetime | None, values.MOMENT, "No calls before.", Shown("–")]
    valid_to: Annotated[datetime | None, values.MOMENT, "No calls from then on.", Shown("–")]
    zone: Annotated[str, values.ZONE, "The time zone of its days and months."]
    day_limit: Annotated[
        Decimal | None,
        Amount(),
        "What its calls may cost in a day: those whose charge was booked in it, and what live ones hold. "
        "What goes beyond is refused, and a live call ended, by the rule `spending_limit` (403).",
        Shown("no limit"),
    ]
    month_limit: Annotated[Decimal | None, Amount(), "The same of a month.", Shown("no limit")]
    low_balance: Annotated[
        Decimal | None,
        Amount(),
        "An alarm (`low_balance`: log, metric, audit table, MQTT) once less is left: of the balance, and of "
        "`credit_limit`, without what live calls hold. Told again after it was above.",
        Shown("–"),
    ]
    group: Annotated[Name | None, "The group of accounts that it belongs to."] = None
    deck: Annotated[Name | None, "The sell deck.", Shown("the group's, else `billing.deck`")]
    strip_digits: Annotated[SellStrip, Shown("the peer's")]
    calls_max: Annotated[
        CallsMax,
        "Calls at one time, exactly, on all nodes that share a database; above it, 480.",
        Shown("no limit"),
    ]
    calls_per_s: Annotated[
        CallsPerS,
        f"New calls in a second, of which a second's worth may come at once; above it, 480. {SHARED_RATE}",
        Shown("no limit"),
    ]
    max_duration_s: Annotated[
        MaxDuration,
        "A call is ended so long after its answer, where no other maximum is less.",
        Shown("`timers.max_duration_s`"),
    ]
    blocked_numbers: BlockedNumbers = ()
    allowed_numbers: AllowedNumbers = ()
    caller_numbers: CallerNumbers = ()
    hours: Hours = ()
    max_price_per_min: MaxPricePerMin = None
    max_connect_fee: MaxConnectFee = None
    on_no_rate: Annotated[
        str | None,
        Text(r"refuse|carry", "refuse or carry"),
        "What happens to a call without a rate: `refuse` (403) or `carry` (unrated).",
        Shown("`refuse` if prepaid, else `carry`"),
    ] = None
    margin_floor: Annotated[MarginFloor, Shown("the group's, else `billing.margin_floor`")]
    tax_rate: TaxRate
    minimum_charge: MinimumCharge


class AccountAddresses(Table, frozen=True, kw_only=True):
    """`"BLOCK" = "ACCOUNT"`: whose calls come from which addresses, for `account_from = "address"`. Others
    are added by command: `sidecar account address`."""

    heading = "[account_addresses]"


class Decks(Table, frozen=True, kw_only=True):
    """`NAME = "file.csv"`: rate decks, relative to the file that names them; a word without `/` and `.csv` is
    one of ours."""

    heading = "[decks]"


PROFILE_TABLES: Mapping[str, type[Table]] = {
    "peers": Peers,
    "gateways": Gateways,
    "routes": Routes,
    "account_rules": AccountRules,
    "strip_rules": StripRules,
    "fraud_rules": FraudRules,
    "groups": Groups,
    "accounts": Accounts,
    "account_addresses": AccountAddresses,
    "decks": Decks,
}
SETTINGS_TABLES = {
    name: PROFILE_TABLES[name] for name in ("fraud_rules", "groups", "accounts", "account_addresses", "decks")
}
NESTED = "proxy_hangups"  # the one table within an entry, of a peer
