"""The plain settings, each declared once: name, type, default, bound, meaning. What a start is given of them.

`[section] name` in a file, `SIDECAR_<SECTION>__<NAME>` in the environment, `section.name` on the command
line. Tables with entries of their own (`[accounts.NAME]`, `[gateways.NAME]`, ...) are in `entries`, VOS3000's
names in `vos3000`. A setting may also stand in a profile, unless its struct or its field says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_type_hints

import msgspec
from msgspec import Meta

from sidecar.config import values
from sidecar.config.declare import AtStart, FileOnly, Means, Setting, Shown, settings_of
from sidecar.config.values import Amount, Text
from sidecar.core.capture import CaptureRule
from sidecar.core.policy import RecordFlags
from sidecar.core.rating import RatingTerms
from sidecar.core.reloading import text_of
from sidecar.core.terms import DeadPeerBilling, RateBy, Redirection, Rounding, TransportName


class UnlistedSource(StrEnum):
    DROP = "drop"
    REJECT = "reject"


class ReferPolicy(StrEnum):
    REFUSE = "refuse"
    PASS = "pass"  # noqa: S105  # no password


class PaiOutside(StrEnum):
    KEEP = "keep"
    REMOVE = "remove"


class BrokerKind(StrEnum):
    EMBEDDED = "embedded"
    EXTERNAL = "external"


class StoreEngine(StrEnum):
    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogPlace(StrEnum):
    AUTO = "auto"
    STDERR = "stderr"
    JOURNAL = "journal"


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """`[section]`. Beside a field's type stand its meaning and what `declare` reads else."""

    section: ClassVar[tuple[str, ...]]
    in_profile: ClassVar[bool] = True
    at_start: ClassVar[bool] = False
    made_into: ClassVar[tuple[type[msgspec.Struct], ...]] = ()


Flag = bool
File = Path | None
HostPort = tuple[str, int]
HostPorts = Annotated[tuple[HostPort, ...], values.HOST_PORTS]
BilledNumbers = Annotated[tuple[str, ...], values.BILLED_NUMBERS]


class Node(Section, frozen=True, kw_only=True):
    section = ("node",)
    tenant: Annotated[
        str, values.NAME, FileOnly(), AtStart(), "Whose node this is; the first part of every topic."
    ] = "_"
    name: Annotated[
        str,
        values.NAME,
        FileOnly(),
        "This node's name, in topics and records.",
        Shown("the host name"),
        AtStart(),
    ] = ""
    data_dir: Annotated[
        Path,
        FileOnly(),
        "Journal, control socket, embedded broker, decks.",
        Shown("`./.sidecar`; `/var/lib/sidecar` where the settings are `/etc/sidecar/sidecar.toml`"),
        AtStart(),
    ] = Path(".sidecar")
    journal_key_file: Annotated[
        File,
        FileOnly(),
        "The keys of the journal's chain and of pseudonyms, made where there is no such file. On another "
        "disk than the data directory, whoever copies or changes the journal has not the key. Nodes that "
        "share a database have the same.",
        Shown("`journal.key` in the data directory"),
        AtStart(),
    ] = None
    time_zone: Annotated[
        str,
        values.ZONE,
        FileOnly(),
        "Of times that commands are given without an offset, as in `--from 2026-11-01`. Records are in UTC.",
    ] = "UTC"
    calls_max: Annotated[
        int,
        Meta(ge=1, le=100_000),
        "Calls at one time, and INVITEs whose refusal nobody acknowledged (of one peer a tenth of it at "
        "most); above it, 503.",
    ] = 20_000
    calls_per_s: Annotated[
        int | None,
        Meta(ge=1, le=100_000),
        "New calls in a second, of which a second's worth may come at once; above it, 503. Of this node "
        "alone.",
        Shown("no limit"),
    ] = None
    ringing_share_percent: Annotated[
        int,
        Meta(ge=1, le=100),
        "Calls of one peer group that are not answered yet, as a share of `calls_max`, once another group "
        "has sent a call too; above it, 480.",
    ] = 80
    emergency_places: Annotated[
        int,
        Meta(ge=1, le=10_000),
        "Beside `calls_max`, for emergency calls alone.",
    ] = 100
    drain_s: Annotated[
        int,
        Meta(ge=0, le=86_400),
        "So long SIGTERM lets calls that are up go on, and refuses new ones, before it ends the rest; less "
        "where none is left, or at a second SIGTERM.",
    ] = 0


class Store(Section, frozen=True, kw_only=True):
    section = ("store",)
    in_profile = False
    at_start = True
    engine: Annotated[
        StoreEngine,
        "Where the books are: `sqlite`, a file in the data directory; `postgresql`, a database that other "
        "nodes may share.",
    ] = StoreEngine.SQLITE
    dsn_file: Annotated[
        File,
        "A file that holds, on its first line, the connection string of the PostgreSQL database as libpq "
        "takes it: `host=... dbname=... user=... password=... sslmode=verify-full sslrootcert=...`, or "
        "`postgresql://...`.",
    ] = None
    lease_s: Annotated[
        int,
        Meta(ge=2, le=300),
        "So long after its last commit, by the clock of the database, other nodes on it take this one to be "
        "alive. Later they ask it by OPTIONS, and where it is silent too they end its calls and tell its "
        "records. At least twice `timers.heartbeat_s`.",
    ] = 3
    tranche_s: Annotated[
        int,
        Meta(ge=0, le=3_600),
        "PostgreSQL: about so long calls of accounts with a bound (prepaid, limits) go on while the database "
        "is away. This node holds so many seconds of what an account has reserved here in the last minute, "
        "in advance, and all nodes together at most a quarter of what it has: no call spends what is not "
        "there. 0: nothing is held, such calls get 503.",
    ] = 60
    away_calls_max: Annotated[
        int,
        Meta(ge=0, le=1_000_000),
        "PostgreSQL: so many new calls of accounts without a bound (postpaid) this node lets go while the "
        "database is away, each time: their accounts may have been changed meanwhile. Free and emergency "
        "calls are not counted.",
    ] = 10_000


class Sip(Section, frozen=True, kw_only=True):
    section = ("sip",)
    profile: Annotated[
        str,
        Text(r".{1,1000}", "a profile's name or path"),
        FileOnly(),
        "A profile of `sip_profiles/` by name, or the path of one (with a `/` or `.toml`).",
    ] = "loopback"
    listen_udp: Annotated[HostPorts, "Where SIP over UDP is received."] = ()
    listen_tcp: Annotated[HostPorts, "Where SIP over TCP is received."] = ()
    listen_tls: Annotated[HostPorts, "Where SIP over TLS is received."] = ()
    tls_certificate_file: Annotated[File, "Our certificate chain, PEM."] = None
    tls_key_file: Annotated[File, "Its private key, PEM."] = None
    tls_ca_file: Annotated[
        File,
        "CA file that peers' certificates are verified against, PEM. With it whoever connects needs one.",
    ] = None
    tls_check_interval_s: Annotated[
        int,
        Meta(ge=0, le=86_400),
        "How often it is looked whether the TLS files have changed, which are then in force for the "
        "handshakes to come; 0: with `sidecar node reload` alone. A wrong file is refused, and what was in "
        "force stays.",
    ] = 10
    unlisted_source: Annotated[UnlistedSource, "What a source in no peer group gets: nothing, or 403."] = (
        UnlistedSource.DROP
    )
    unlisted_refused_per_s: Annotated[
        int,
        Meta(ge=1, le=10_000),
        "INVITEs of one unlisted source that get the 403; the rest gets nothing.",
    ] = 100
    countries: Annotated[
        tuple[str, ...],
        values.COUNTRIES,
        "Where this node's callers are, by ISO 3166: `emergency_numbers` follows from it.",
    ] = ()
    emergency_numbers: Annotated[
        tuple[str, ...] | None,
        values.EMERGENCY_NUMBERS,
        "Numbers of emergency services, exactly as they are dialled. Calls to them from listed peers, as "
        "those to `urn:service:sos`, are free and marked, and refused or ended for no credit, rate, rule, "
        "time, limit or load; only a node that drains or cannot write its journal answers 503. They go where "
        "a route sends them.",
        Shown("those that the package phonenumbers has for `sip.countries`"),
    ] = None
    account_required: Annotated[
        Flag,
        "Refuse calls that no account rule claims; otherwise they are account `_`, postpaid without limit.",
    ] = False
    pass_503: Annotated[Flag, "Relay a gateway's 503 as 503; otherwise the caller sees 500."] = False
    failover_codes: Annotated[
        tuple[str, ...],
        values.FINAL_CODES,
        "Final responses of a gateway that send the call to the next one. Each gateway may have its own.",
        Shown("`5xx`"),
    ] = ("5xx",)
    refer: Annotated[
        ReferPolicy,
        "Transfers (REFER in a call, INVITE with Replaces or Join): 603 and 481 (`refuse`), or end "
        "to end (`pass`): the call that comes of it is billed as its own where it comes here.",
    ] = ReferPolicy.REFUSE
    pai_outside: Annotated[
        PaiOutside,
        "P-Asserted-Identity, Remote-Party-ID and P-Preferred-Identity of any message without Privacy that "
        "goes to a peer outside the trust domain (`peers.NAME.asserts_identity`): our Spec(T) of RFC 3325. "
        "With `Privacy: none` they pass, with any other they do not.",
    ] = PaiOutside.REMOVE
    redirect: Annotated[
        Redirection,
        "A 3xx of a gateway: the caller hears 480 (`reject`) or is sent there, perhaps past the bill "
        "(`pass`); or we call the Contacts that are gateways of ours (`follow`). Each gateway may "
        "have its own.",
    ] = Redirection.REJECT
    blocked_numbers: Annotated[
        tuple[str, ...],
        values.NUMBERS,
        "Called numbers, as received or billed, that are refused with 403; `0900*` is a beginning. Peers and "
        "accounts have their own: of all that apply to a call the longest pattern decides.",
    ] = ()
    allowed_numbers: Annotated[
        tuple[str, ...],
        values.NUMBERS,
        "With any, those alone may be called; a longer blocked pattern takes some of them out again.",
    ] = ()
    refused_cdr_per_s: Annotated[
        int,
        Meta(ge=1, le=1_000),
        "Refusals of one source that get a record each; the rest are counted in one record a minute.",
    ] = 10
    refused_cdr_all_per_s: Annotated[
        int | None,
        Meta(ge=1, le=10_000),
        "The same of all sources together, which can be made up.",
        Shown("200, or `refused_cdr_per_s` where that is more"),
    ] = None
    events_max: Annotated[
        int,
        Meta(ge=1_024, le=1_048_576),
        "Events that may wait between the SIP stack and the daemon; when full, new calls are refused.",
        FileOnly(),
    ] = 65_536

    def listeners(self) -> list[tuple[TransportName, HostPort]]:
        """Our SIP transports. Port 0: any free one, named in the `ready` line."""
        every = (
            (TransportName.UDP, self.listen_udp),
            (TransportName.TCP, self.listen_tcp),
            (TransportName.TLS, self.listen_tls),
        )
        return [(transport, place) for transport, places in every for place in places]


class Timers(Section, frozen=True, kw_only=True):
    section = ("timers",)
    ring_timeout_s: Annotated[int, Meta(ge=1, le=3_600), "No answer by then: 408."] = 120
    max_duration_s: Annotated[int, Meta(ge=1, le=604_800), "A call this long after its answer is ended."] = (
        14_400
    )
    no_response_failover_s: Annotated[
        int,
        Meta(ge=1, le=32),
        "A gateway that has not sent even a 100 by then: the next one. Each gateway may have its own.",
    ] = 4
    t1_ms: Annotated[
        int,
        Meta(ge=20, le=2_000),
        "RFC 3261's T1: repeats begin after it, and an answer without ACK is ended after 64*T1 (32 s).",
    ] = 500
    answer_hold_ms_max: Annotated[
        int, Meta(ge=50, le=30_000), "How long an answer may wait for the journal."
    ] = 2_000
    admission_wait_ms_max: Annotated[
        int,
        Meta(ge=50, le=30_000),
        "A new call that would wait for us longer, to be admitted and to be answered, gets 503: a node that "
        "is starved refuses early, and fails none that it has taken.",
    ] = 500
    auth_retry_s: Annotated[
        int,
        Meta(ge=1, le=120),
        "How long a call waits for its retry after a relayed 401, 407 or 422.",
    ] = 10
    options_interval_s: Annotated[
        int,
        Meta(ge=0, le=3_600),
        "How often each side of a call is asked by OPTIONS whether it is there; 0: never.",
    ] = 25
    retry_after_s: Annotated[int, Meta(ge=1, le=3_600), "Retry-After of our 503."] = 5
    heartbeat_s: Annotated[
        int,
        Meta(ge=1, le=60),
        "The journal's heartbeat: how exactly the end of a call is known after a crash.",
        FileOnly(),
        AtStart(),
    ] = 1
    snapshot_interval_s: Annotated[
        int,
        Meta(ge=1, le=3_600),
        "How often the watchdog compares the calls of the SIP stack with ours.",
        FileOnly(),
        AtStart(),
    ] = 10


class Billing(Section, frozen=True, kw_only=True):
    section = ("billing",)
    made_into = (RatingTerms, RecordFlags)
    rounding: Annotated[Rounding, "How the one rounding is done."]
    decimals: Annotated[int, Meta(ge=0, le=9), "Decimals of a charge."]
    fee_unit: Annotated[
        Decimal | None,
        Amount("1000000", greater_than_zero=True),
        "The smallest unit of a charge: it is rounded to a multiple of it.",
        Shown("10^-decimals"),
    ]
    hold_time_precision_ms: Annotated[
        int,
        Meta(ge=0, le=999),
        "Milliseconds above a whole second from which a second more is billed.",
    ]
    free_s: Annotated[int, Meta(ge=0, le=86_400), "The first seconds of each call, not billed."]
    free_numbers: Annotated[BilledNumbers, "Billed numbers at no charge; `49800*`."] = ()
    no_cdr_numbers: Annotated[
        BilledNumbers,
        "Billed numbers that are charged, but whose CDR is not published.",
    ] = ()
    strip_digits: Annotated[
        int,
        values.STRIP,
        "Digits stripped from the called number before the rate look-up; rules, accounts and peers first.",
    ] = 0
    rate_by: Annotated[
        RateBy,
        "The number that is looked up: as `dialled`, or the `routing_number` (`rn`) of one that is said to "
        "be ported (`npdi`, RFC 4694). Who sends the call says so: only for senders that are trusted.",
    ] = RateBy.DIALLED
    currency: Annotated[str, values.CURRENCY, "Currency of accounts that name none."] = "EUR"
    deck: Annotated[
        str,
        Text(r"[A-Za-z0-9_.-]{0,64}", "the name of a deck"),
        "The sell deck of accounts that name none.",
        Shown("the only deck there is"),
    ] = ""
    margin_floor: Annotated[
        Decimal | None,
        values.SHARE,
        "Gateways at which the first minute is expected to leave less than this share of its sale "
        'are not tried; with none left, 403. `"0"` forbids losses.',
        Shown("no floor"),
    ] = None
    exchange_rates: Annotated[
        File,
        "CSV of `base,quote,rate,valid_from` (1 base = rate quote): how purchases in another "
        "currency count in a margin.",
        Shown("none: such margins are unknown"),
    ] = None
    record_server_hang_up: Annotated[
        Flag,
        "Record and bill calls that the server ended. As a table, `record_server_hang_up.all` is this flag.",
    ]
    record_fault: Annotated[Flag, "Record and bill calls that a fault of this node ended."]
    record_zero_hold_time: Annotated[Flag, "CDRs for calls of 0 s."]
    record_illegal_call: Annotated[Flag, "CDRs for calls of unlisted sources."]
    dead_peer_billing: Annotated[
        DeadPeerBilling,
        "Until when a call is billed that ended because a side was gone (`dead_peer`): the `last_life` of "
        "both, or that of the `other_side`. By the first a caller who acknowledges and then ignores "
        "everything talks for up to 57 s and pays nothing.",
    ]
    prevent_overdraft_advance_min: Annotated[
        int,
        Meta(ge=1, le=15),
        "`slice_s` in minutes: another name of it.",
        Means("slice_s", 60),
    ] = 1
    slice_s: Annotated[
        int,
        Meta(ge=1, le=3_600),
        "So much of a call is reserved at its INVITE where its account reserves, and so much again shortly "
        "before that is used up, until the balance affords no more. Parallel calls share it by such slices.",
        Shown("60 x `prevent_overdraft_advance_min`"),
    ] = 60
    extend_guard_ms: Annotated[
        int,
        Meta(ge=50, le=10_000),
        "So long before a slice is used up the next is asked for. Where the journal is slow it is asked for "
        "earlier: by twice what the journal has lately taken, up to 5 s.",
    ] = 200
    store_away_s: Annotated[
        int,
        Meta(ge=0, le=3_600),
        "So much longer than its grant a call may last while the journal does not say whether there is more; "
        "then it is ended as `ledger_unreachable`. What is not granted in the end is not billed "
        "(`overrun_ms`). 0: it is ended on time.",
    ] = 0


_AS_THE_FLAG = Shown("`billing.record_server_hang_up`")


class RecordServerHangUp(Section, frozen=True, kw_only=True):
    """The flag `billing.record_server_hang_up`, for one reason alone: None where that is not said."""

    section = ("billing", "record_server_hang_up")
    timeout: Annotated[bool | None, "The same for timeouts alone.", _AS_THE_FLAG] = None
    credit: Annotated[bool | None, "The same for used-up credit alone.", _AS_THE_FLAG] = None
    admin: Annotated[bool | None, "The same for operators and drain alone.", _AS_THE_FLAG] = None
    policy: Annotated[bool | None, "The same for rules alone.", _AS_THE_FLAG] = None
    resource: Annotated[bool | None, "The same for limits and missing routes alone.", _AS_THE_FLAG] = None


class Mqtt(Section, frozen=True, kw_only=True):
    section = ("mqtt",)
    in_profile = False
    at_start = True
    broker: Annotated[
        BrokerKind,
        "`embedded`: a Mosquitto of our own on loopback; `external`: the one at `host`.",
    ] = BrokerKind.EMBEDDED
    host: Annotated[
        str,
        Text(r"[A-Za-z0-9_.:-]{0,255}", "a host name or an address"),
        "The external broker.",
    ] = ""
    port: Annotated[
        int,
        Meta(ge=0, le=65_535),
        "Its port, or the embedded broker's.",
        Shown("embedded: any free one; external: 1883, with TLS 8883"),
    ] = 0
    tls: Annotated[Flag, "TLS to the external broker."] = False
    ca_file: Annotated[
        File,
        "CA file that its certificate is verified against, PEM.",
        Shown("the system's"),
    ] = None
    certificate_file: Annotated[File, "Our certificate for it, PEM."] = None
    key_file: Annotated[File, "Its private key, PEM."] = None
    username: Annotated[str, Text(r"[^\x00-\x1f\x7f]{0,255}", "a user name"), "User name."] = ""
    password_file: Annotated[File, "A file that holds the password on its first line."] = None
    in_flight_max: Annotated[int, Meta(ge=1, le=1_000), "Messages sent and not yet acknowledged."] = 100
    status_interval_s: Annotated[int, Meta(ge=1, le=3_600), "How often the retained status is renewed."] = 10
    replay_users: Annotated[
        tuple[str, ...] | None,
        values.BROKER_USERS,
        "Users of the broker that may ask for records again, each on his own topic, `.../replay/USER`. The "
        "embedded broker has their passwords in `data_dir/broker/USER.password`, made at the first start; an "
        "external one must let only the user himself write that topic.",
        Shown("embedded: `biller`; external: nobody"),
    ] = None

    @property
    def embedded(self) -> bool:
        return self.broker is BrokerKind.EMBEDDED

    @property
    def asking_users(self) -> tuple[str, ...]:
        if self.replay_users is None:
            return ("biller",) if self.embedded else ()
        return self.replay_users

    @property
    def address(self) -> HostPort:
        """Of the broker; where ours is to listen, port 0 is any free one."""
        if self.embedded:
            return "127.0.0.1", self.port
        return self.host, self.port or (8883 if self.tls else 1883)


class Dns(Section, frozen=True, kw_only=True):
    section = ("dns",)
    servers: Annotated[
        tuple[HostPort, ...],
        values.DNS_SERVERS,
        "Resolvers that names of gateways are asked of; the next one where one does not answer.",
        Shown("those of `/etc/resolv.conf`"),
    ] = ()
    timeout_s: Annotated[
        int, Meta(ge=1, le=30), "A resolver that has not answered by then: the next one."
    ] = 2
    lifetime_s: Annotated[
        int,
        Meta(ge=1, le=60),
        "A question that no resolver has answered by then: what was heard last holds, and it is asked again.",
    ] = 5


class Metrics(Section, frozen=True, kw_only=True):
    section = ("metrics",)
    in_profile = False
    at_start = True
    listen: Annotated[HostPort, values.HOST_PORT, "Where Prometheus reads. It has no password."] = (
        "127.0.0.1",
        9494,
    )


class Hep(Section, frozen=True, kw_only=True):
    section = ("hep",)
    in_profile = False
    collector: Annotated[
        HostPort | None,
        values.COLLECTOR,
        "Who gets a copy of every SIP message of both legs of a call, over UDP by HEP version 3: Homer, "
        "heplify-server, sngrep.",
        Shown("nobody"),
    ] = None
    capture_id: Annotated[
        int, Meta(ge=1, le=4_294_967_295), "The number by which the collector knows this node."
    ] = 1
    password_file: Annotated[
        File, "A file that holds, on its first line, the key that the collector asks for."
    ] = None
    share_percent: Annotated[
        int, Meta(ge=1, le=100), "So many of a hundred calls; each whole or not at all."
    ] = 100
    accounts: Annotated[
        tuple[str, ...], values.ACCOUNT_NAMES, "Calls of these accounts alone.", Shown("of all")
    ] = ()

    @property
    def rule(self) -> CaptureRule | None:
        if self.collector is None:
            return None
        return CaptureRule(share_percent=self.share_percent, accounts=frozenset(self.accounts))


class Control(Section, frozen=True, kw_only=True):
    section = ("control",)
    in_profile = False
    at_start = True
    group: Annotated[
        str,
        Text(r"[A-Za-z0-9_.@-]{0,64}", "the name of a group of this machine"),
        "Its members may open the control socket, and so do everything; else the daemon's own user and root.",
        Shown("none"),
    ] = ""


class Web(Section, frozen=True, kw_only=True):
    section = ("web",)
    at_start = True
    in_profile = False
    listen: Annotated[
        HostPort | Path | None,
        values.LISTEN_PLACE,
        "Where the operators' page is. Beyond loopback it needs TLS: files here, or a proxy of `proxies`. A "
        "path is that of a unix socket for a reverse proxy, which is then believed; its mode is 0600, or "
        "0660 for `control.group`.",
        Shown("nowhere: there is no page"),
    ] = None
    certificate_file: Annotated[File, "The page's certificate chain, PEM."] = None
    key_file: Annotated[File, "Its private key, PEM."] = None
    dsn_file: Annotated[
        File,
        "PostgreSQL: a file with the connection string by which the page reads the books, such as that of a "
        "member of `sidecar_page`.",
        Shown("`store.dsn_file`"),
    ] = None
    proxies: Annotated[
        tuple[str, ...],
        values.NETWORKS,
        "Reverse proxies that are believed: their `X-Forwarded-For` and `X-Forwarded-Proto`, and "
        "`user_header`. Nobody else is served then.",
    ] = ()
    user_header: Annotated[
        str,
        Text(r"[A-Za-z0-9-]{0,64}", "the name of a header"),
        "In this header they say which user it is, whom they have made sure of: then nobody signs in with a "
        "password. They must take it out of what others send.",
        Shown("none"),
    ] = ""


class Log(Section, frozen=True, kw_only=True):
    section = ("log",)
    in_profile = False
    level: Annotated[LogLevel, "The least level that is logged."] = LogLevel.INFO
    file: Annotated[
        File,
        AtStart(),
        "Lines are appended to it. Once it was moved away, `sidecar node reopen-logs` or SIGUSR1 makes a new "
        "one.",
        Shown("none: as `log.to` says"),
    ] = None
    to: Annotated[
        LogPlace,
        AtStart(),
        "`stderr`; `journal`: systemd's, with a field for each key (`SIDECAR_CALL_ID`); `auto`: the journal "
        "where stderr leads to it (JOURNAL_STREAM), else stderr.",
    ] = LogPlace.AUTO


class GatewayCredentials(msgspec.Struct, frozen=True, kw_only=True):
    """What a gateway's challenges are answered with. The password stays in its file until the start."""

    gateway: str
    username: str
    password_file: Path
    realm: str = ""  # the only one that gets it; empty: any


class OwnAuthority(msgspec.Struct, frozen=True, kw_only=True):
    """The CA file of one peer group or gateway."""

    table: str  # peers or gateways
    name: str
    file: Path

    @property
    def setting(self) -> str:
        return f"{self.table}.{self.name}.tls_ca_file"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every plain setting, with the value that is in force, and what the tables tell others than the core."""

    node: Node
    store: Store
    sip: Sip
    timers: Timers
    billing: Billing
    record_server_hang_up: RecordServerHangUp
    mqtt: Mqtt
    dns: Dns
    metrics: Metrics
    hep: Hep
    control: Control
    web: Web
    log: Log
    profile_path: str = ""
    # Those an InviteReceived, CancelReceived or ByeReceived is to carry, in lower case.
    headers: tuple[str, ...] = ()
    credentials: tuple[GatewayCredentials, ...] = ()
    tls_authorities: tuple[OwnAuthority, ...] = ()


_SECTIONS = [
    kind for kind in get_type_hints(Settings).values() if isinstance(kind, type) and issubclass(kind, Section)
]
DECLARED: Mapping[tuple[str, ...], Setting] = {
    declared.path: declared
    for kind in _SECTIONS
    for declared in settings_of(
        kind,
        kind.section,
        in_profile=kind.in_profile,
        at_start=kind.at_start,
        made_into=kind.made_into,
    ).values()
}
SECTION_NAMES = tuple(dict.fromkeys(path[0] for path in DECLARED))


def plain(settings: Settings) -> dict[str, str]:
    """Each setting's value as a text, by its name."""
    of_section = {
        kind.section: getattr(settings, name)
        for name, kind in get_type_hints(Settings).items()
        if kind in _SECTIONS
    }
    return {one.dotted: text_of(getattr(of_section[path[:-1]], one.name)) for path, one in DECLARED.items()}


def in_force(value_of: Callable[[Setting], Any]) -> Settings:
    """The settings, each with the value that `value_of` gives."""
    sections = {}
    for name, kind in get_type_hints(Settings).items():
        if kind in _SECTIONS:
            given = {field: value_of(DECLARED[*kind.section, field]) for field in kind.__struct_fields__}
            sections[name] = kind(**given)
    return Settings(**sections)
