"""The table of keys: every plain setting with its kind, unit, default, bound and meaning.

`[section] name` in a file, `SIDECAR_<SECTION>__<NAME>` in the environment, `section.name` on the command
line. Tables with entries of their own (`[accounts.NAME]`, `[gateways.NAME]`, ...) are in `entries.py`,
VOS3000's names in `vos3000.py`. A key with `in_profile` may also stand in a profile, whose value all else
overrides. README's configuration reference is made of these three.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sidecar.config import billing_keys, values
from sidecar.config.key import BrokerKind, Key, LogLevel, ReferPolicy, UnlistedSource
from sidecar.config.values import Choice, Text, Whole
from sidecar.core.terms import Redirection

_NO_FILE: Path | None = None

# --- [node] -------------------------------------------------------------------------------------------------
TENANT = Key("node", "tenant", values.NAME, "_", "Whose node this is; the first part of every topic.")
NODE_NAME = Key(
    "node", "name", values.NAME, "", "This node's name, in topics and records.", default_text="the host name"
)
DATA_DIR = Key(
    "node",
    "data_dir",
    values.PATH,
    Path(".sidecar"),
    "Journal, control socket, embedded broker, decks.",
    default_text="`./.sidecar`; `/var/lib/sidecar` where the settings are `/etc/sidecar/sidecar.toml`",
)
CALLS_MAX = Key(
    "node",
    "calls_max",
    Whole(1, 100_000),
    20_000,
    "Calls at one time, and INVITEs whose refusal nobody acknowledged; above it, 503.",
    in_profile=True,
)

# --- [sip] --------------------------------------------------------------------------------------------------
PROFILE = Key(
    "sip",
    "profile",
    Text(r".{1,1000}", "a profile's name or path"),
    "loopback",
    "A profile of `sip_profiles/` by name, or the path of one (with a `/` or `.toml`).",
)
_NOWHERE: tuple[tuple[str, int], ...] = ()
LISTEN_UDP = Key(
    "sip", "listen_udp", values.HOST_PORTS, _NOWHERE, "Where SIP over UDP is received.", in_profile=True
)
LISTEN_TCP = Key(
    "sip", "listen_tcp", values.HOST_PORTS, _NOWHERE, "Where SIP over TCP is received.", in_profile=True
)
LISTEN_TLS = Key(
    "sip", "listen_tls", values.HOST_PORTS, _NOWHERE, "Where SIP over TLS is received.", in_profile=True
)
TLS_CERTIFICATE = Key(
    "sip", "tls_certificate_file", values.PATH, _NO_FILE, "Our certificate chain, PEM.", in_profile=True
)
TLS_KEY = Key("sip", "tls_key_file", values.PATH, _NO_FILE, "Its private key, PEM.", in_profile=True)
TLS_CA = Key(
    "sip",
    "tls_ca_file",
    values.PATH,
    _NO_FILE,
    "Whom we believe certificates of peers, PEM.",
    in_profile=True,
)
UNLISTED_SOURCE = Key(
    "sip",
    "unlisted_source",
    Choice(UnlistedSource),
    UnlistedSource.DROP,
    "What a source in no peer group gets: nothing, or 403.",
    in_profile=True,
)
UNLISTED_REFUSED_PER_S = Key(
    "sip",
    "unlisted_refused_per_s",
    Whole(1, 10_000),
    100,
    "INVITEs of one unlisted source that get the 403; the rest gets nothing.",
    unit="1/s",
    in_profile=True,
)
ACCOUNT_REQUIRED = Key(
    "sip",
    "account_required",
    values.FLAG,
    False,
    "Refuse calls that no account rule claims; otherwise they are account `_`, postpaid without limit.",
    in_profile=True,
)
PASS_503 = Key(
    "sip",
    "pass_503",
    values.FLAG,
    False,
    "Relay a gateway's 503 as 503; otherwise the caller sees 500.",
    in_profile=True,
)
FAILOVER_CODES = Key(
    "sip",
    "failover_codes",
    values.FINAL_CODES,
    ("5xx",),
    "Final responses of a gateway that send the call to the next one. Each gateway may have its own.",
    default_text="`5xx`",
    in_profile=True,
)
REFER = Key(
    "sip",
    "refer",
    Choice(ReferPolicy),
    ReferPolicy.REFUSE,
    "Transfers (REFER in a call, INVITE with Replaces or Join): 603 and 481 (`refuse`), or end to end "
    "(`pass`): the call that comes of it is billed as its own where it comes here.",
    in_profile=True,
)
REDIRECT = Key(
    "sip",
    "redirect",
    Choice(Redirection),
    Redirection.REJECT,
    "A 3xx of a gateway: the caller hears 480 (`reject`) or is sent there, perhaps past the bill (`pass`); "
    "or we call the Contacts that are gateways of ours (`follow`). Each gateway may have its own.",
    in_profile=True,
)
BLOCKED_NUMBERS = Key(
    "sip",
    "blocked_numbers",
    values.NUMBERS,
    (),
    "Received numbers that are refused with 403; `0900*` is a beginning.",
    in_profile=True,
)
REFUSED_CDR_PER_S = Key(
    "sip",
    "refused_cdr_per_s",
    Whole(1, 1_000),
    10,
    "Refusals of one source that get a record each; the rest are counted in one record a minute.",
    unit="1/s",
    in_profile=True,
)
EVENTS_MAX = Key(
    "sip",
    "events_max",
    Whole(1_024, 1_048_576),
    65_536,
    "Events that may wait between the SIP stack and the daemon; when full, new calls are refused.",
)

# --- [timers] -----------------------------------------------------------------------------------------------
RING_TIMEOUT = Key(
    "timers", "ring_timeout_s", Whole(1, 3_600), 120, "No answer by then: 408.", unit="s", in_profile=True
)
MAX_DURATION = Key(
    "timers",
    "max_duration_s",
    Whole(1, 604_800),
    14_400,
    "A call this long after its answer is ended.",
    unit="s",
    in_profile=True,
)
NO_RESPONSE_FAILOVER = Key(
    "timers",
    "no_response_failover_s",
    Whole(1, 32),
    4,
    "A gateway that has not sent even a 100 by then: the next one. Each gateway may have its own.",
    unit="s",
    in_profile=True,
)
T1 = Key(
    "timers",
    "t1_ms",
    Whole(20, 2_000),
    500,
    "RFC 3261's T1: repeats begin after it, and an answer without ACK is ended after 64*T1 (32 s).",
    unit="ms",
    in_profile=True,
)
ANSWER_HOLD_MAX = Key(
    "timers",
    "answer_hold_ms_max",
    Whole(50, 30_000),
    2_000,
    "How long an answer may wait for the journal.",
    unit="ms",
    in_profile=True,
)
ADMISSION_WAIT_MAX = Key(
    "timers",
    "admission_wait_ms_max",
    Whole(50, 30_000),
    1_000,
    "While a call has waited so long to be admitted, new ones get 503: a node that is starved refuses early.",
    unit="ms",
    in_profile=True,
)
AUTH_RETRY = Key(
    "timers",
    "auth_retry_s",
    Whole(1, 120),
    10,
    "How long a call waits for its retry after a relayed 401, 407 or 422.",
    unit="s",
    in_profile=True,
)
OPTIONS_INTERVAL = Key(
    "timers",
    "options_interval_s",
    Whole(0, 3_600),
    25,
    "How often each side of a call is asked by OPTIONS whether it is there; 0: never.",
    unit="s",
    in_profile=True,
)
RETRY_AFTER = Key(
    "timers", "retry_after_s", Whole(1, 3_600), 5, "Retry-After of our 503.", unit="s", in_profile=True
)
HEARTBEAT = Key(
    "timers",
    "heartbeat_s",
    Whole(1, 60),
    1,
    "The journal's heartbeat: how exactly the end of a call is known after a crash.",
    unit="s",
)
SNAPSHOT_INTERVAL = Key(
    "timers",
    "snapshot_interval_s",
    Whole(1, 3_600),
    10,
    "How often the watchdog compares the calls of the SIP stack with ours.",
    unit="s",
)

# --- [mqtt] -------------------------------------------------------------------------------------------------
_BROKER_HOST = Text(r"[A-Za-z0-9_.:-]{0,255}", "a host name or an address")
BROKER = Key(
    "mqtt",
    "broker",
    Choice(BrokerKind),
    BrokerKind.EMBEDDED,
    "`embedded`: a Mosquitto of our own on loopback; `external`: the one at `host`.",
)
MQTT_HOST = Key("mqtt", "host", _BROKER_HOST, "", "The external broker.")
MQTT_PORT = Key(
    "mqtt",
    "port",
    Whole(0, 65535),
    0,
    "Its port, or the embedded broker's.",
    default_text="embedded: any free one; external: 1883, with TLS 8883",
)
MQTT_TLS = Key("mqtt", "tls", values.FLAG, False, "TLS to the external broker.")
MQTT_CA = Key(
    "mqtt",
    "ca_file",
    values.PATH,
    _NO_FILE,
    "Whom we believe its certificate, PEM.",
    default_text="the system's",
)
MQTT_CERTIFICATE = Key("mqtt", "certificate_file", values.PATH, _NO_FILE, "Our certificate for it, PEM.")
MQTT_KEY = Key("mqtt", "key_file", values.PATH, _NO_FILE, "Its private key, PEM.")
MQTT_USERNAME = Key("mqtt", "username", Text(r"[^\x00-\x1f\x7f]{0,255}", "a user name"), "", "User name.")
MQTT_PASSWORD = Key(
    "mqtt", "password_file", values.PATH, _NO_FILE, "A file that holds the password on its first line."
)
MQTT_IN_FLIGHT = Key(
    "mqtt", "in_flight_max", Whole(1, 1_000), 100, "Messages sent and not yet acknowledged.", unit="messages"
)
MQTT_STATUS_INTERVAL = Key(
    "mqtt", "status_interval_s", Whole(1, 3_600), 10, "How often the retained status is renewed.", unit="s"
)

# --- [metrics], [log] ---------------------------------------------------------------------------------------
METRICS_LISTEN = Key(
    "metrics", "listen", values.HOST_PORT, ("127.0.0.1", 9494), "Where Prometheus reads. It has no password."
)
LOG_LEVEL = Key("log", "level", Choice(LogLevel), LogLevel.INFO, "The least level that is logged.")

KEYS: tuple[Key[Any], ...] = (
    TENANT,
    NODE_NAME,
    DATA_DIR,
    CALLS_MAX,
    PROFILE,
    LISTEN_UDP,
    LISTEN_TCP,
    LISTEN_TLS,
    TLS_CERTIFICATE,
    TLS_KEY,
    TLS_CA,
    UNLISTED_SOURCE,
    UNLISTED_REFUSED_PER_S,
    ACCOUNT_REQUIRED,
    PASS_503,
    FAILOVER_CODES,
    REFER,
    REDIRECT,
    BLOCKED_NUMBERS,
    REFUSED_CDR_PER_S,
    EVENTS_MAX,
    RING_TIMEOUT,
    MAX_DURATION,
    NO_RESPONSE_FAILOVER,
    T1,
    ANSWER_HOLD_MAX,
    ADMISSION_WAIT_MAX,
    AUTH_RETRY,
    OPTIONS_INTERVAL,
    RETRY_AFTER,
    HEARTBEAT,
    SNAPSHOT_INTERVAL,
    *billing_keys.KEYS,
    BROKER,
    MQTT_HOST,
    MQTT_PORT,
    MQTT_TLS,
    MQTT_CA,
    MQTT_CERTIFICATE,
    MQTT_KEY,
    MQTT_USERNAME,
    MQTT_PASSWORD,
    MQTT_IN_FLIGHT,
    MQTT_STATUS_INTERVAL,
    METRICS_LISTEN,
    LOG_LEVEL,
)
BY_PATH: dict[tuple[str, ...], Key[Any]] = {key.path: key for key in KEYS}
SECTIONS = tuple(dict.fromkeys(key.path[0] for key in KEYS))
