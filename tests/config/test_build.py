"""What comes out: the defaults, every field of a full profile; nothing but ConfigError for anything else."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.config import ConfigError, Inputs, entries, load, places
from sidecar.config.settings import DECLARED, SECTION_NAMES, LogLevel, ReferPolicy, UnlistedSource
from sidecar.core import caller_id
from sidecar.core.account_rules import AccountRule
from sidecar.core.numbers import StripRule
from sidecar.core.policy import Account, Gateway, Peer, ProxyHangup, RouteRule, Share, Timers
from sidecar.core.screening import NumberLists, Screening
from sidecar.core.servers import Lookup
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
)
from sidecar.core.windows import parse_window
from tests.config.support import PROFILE, Start, deck_or_errors, exchange_or_errors

TIMERS = Timers(ring_timeout_ms=120_000, max_duration_ms=14_400_000, auth_retry_ms=10_000, retry_after_s=5)


def embedded(tmp_path: Path) -> Inputs:
    """No settings file at all."""
    return Inputs(
        read_deck=deck_or_errors,
        read_exchange=exchange_or_errors,
        host_name="box",
        boot_id="boot",
        system_file=tmp_path / "none.toml",
    )


def test_without_any_file_there_is_a_whole_node_on_loopback(tmp_path: Path) -> None:
    loaded = load(embedded(tmp_path))
    policy, own = loaded.policy, loaded.settings
    assert loaded.warnings == ()
    assert own.sip.listeners() == [
        (TransportName.UDP, ("127.0.0.1", 5080)),
        (TransportName.TCP, ("127.0.0.1", 5080)),
    ]
    assert [(gateway.host, gateway.port) for gateway in policy.gateways.values()] == [("127.0.0.1", 5090)]
    assert own.metrics.listen == ("127.0.0.1", 9494)
    assert (own.mqtt.embedded, own.mqtt.address) == (True, ("127.0.0.1", 0))
    assert own.node.data_dir == Path(".sidecar")
    assert (own.timers.heartbeat_s, own.timers.options_interval_s, own.timers.retry_after_s) == (1, 25, 5)
    assert (own.node.calls_max, own.timers.answer_hold_ms_max, own.timers.t1_ms) == (
        20_000,
        2_000,
        500,
    )
    assert own.timers.admission_wait_ms_max == 500
    assert (own.sip.unlisted_source, own.log.level) == (UnlistedSource.DROP, LogLevel.INFO)
    assert policy.timers == TIMERS
    assert (policy.tenant, policy.node, policy.boot_id) == ("_", "box", "boot")
    assert tuple(policy.routes) == (RouteRule(prefix="", gateways=("next_hop",)),)
    assert policy.gateways["next_hop"].no_response_failover_ms == 4_000


def test_the_default_deck_sells_a_second_for_a_cent(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    from sidecar.core.rating import charge

    policy = load(embedded(tmp_path)).policy
    rate = policy.decks[policy.default_deck].match("491511234567", datetime(2026, 1, 1, tzinfo=UTC))
    assert rate is not None
    assert charge(rate, 5, policy.rating).total == Decimal("0.05")
    assert policy.accounts["prepaid"].prepaid
    assert not policy.account_terms("demo").prepaid


def test_the_demo_profile_has_short_timers_and_a_blocked_number(tmp_path: Path) -> None:
    policy = load(msgspec.structs.replace(embedded(tmp_path), command_line={"sip.profile": "demo"})).policy
    assert (policy.timers.ring_timeout_ms, policy.timers.max_duration_ms) == (3_000, 5_000)
    assert policy.blocked_numbers == {"0900*"}


@pytest.mark.parametrize("name", places.packaged_profiles())
def test_every_profile_of_ours_loads_without_a_warning(tmp_path: Path, name: str) -> None:
    loaded = load(msgspec.structs.replace(embedded(tmp_path), command_line={"sip.profile": name}))
    assert loaded.warnings == ()
    assert Path(loaded.settings.profile_path).stem == name


def test_a_profile_is_found_by_its_path_relative_to_the_file_that_names_it(start: Start) -> None:
    (start.folder / "mine.toml").write_text(PROFILE)
    loaded = start.load("[sip]\nprofile = 'mine.toml'\n", profile=None)
    assert loaded.settings.profile_path == str(start.folder / "mine.toml")


def test_the_system_file_is_read_where_no_other_is_named(tmp_path: Path) -> None:
    inputs = embedded(tmp_path)
    inputs.system_file.write_text("[timers]\nring_timeout_s = 7\n")
    loaded = load(inputs)
    assert loaded.policy.timers.ring_timeout_ms == 7_000
    assert loaded.settings.node.data_dir == Path("/var/lib/sidecar")


def test_a_data_directory_that_the_system_file_names_is_the_one_used(tmp_path: Path) -> None:
    inputs = embedded(tmp_path)
    inputs.system_file.write_text("[node]\ndata_dir = '/srv/sidecar'\n")
    assert load(inputs).settings.node.data_dir == Path("/srv/sidecar")


def test_a_start_says_which_files_it_has_read(start: Start) -> None:
    """A reload waits for those alone until nobody writes them."""
    (start.folder / "rates.csv").write_text("base,quote,rate,valid_from\nUSD,EUR,0.9,2026-01-01T00:00:00Z\n")
    (start.folder / "secret").write_text("s3cret\n")
    (start.folder / "dsn").write_text("host=127.0.0.1 dbname=books\n")
    billing = "[billing]\nexchange_rates = 'rates.csv'\n"
    store = "[store]\nengine = 'postgresql'\ndsn_file = 'dsn'\n"
    files = start.load(billing + store, PROFILE + CREDENTIALS).files
    demo = places.packaged_decks()["demo"]
    assert files == (
        *(start.folder / name for name in ("profile.toml", "sidecar.toml", "rates.csv", "dsn", "secret")),
        demo,
    )
    assert start.load().files == (start.profile_file, demo)


def test_a_named_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: there is no such file"):
        load(msgspec.structs.replace(embedded(tmp_path), config_file=tmp_path / "none.toml"))


FULL = """\
[node]
calls_max = 100
calls_per_s = 50
ringing_share_percent = 60
[sip]
countries = ["DE", "GB"]
listen_udp = ["192.0.2.1:5080"]
listen_tcp = ["192.0.2.1:5080"]
unlisted_source = "reject"
unlisted_refused_per_s = 5
pass_503 = true
redirect = "follow"
refer = "pass"
account_required = true
blocked_numbers = ["0900*", "+4990"]
allowed_numbers = ["*"]
refused_cdr_per_s = 3
[peers.proxy]
addresses = ["198.51.100.0/24", "2001:db8::1"]
port = 5060
strip_digits = 3
requests_per_s = 250
calls_max = 40
calls_per_s = 9
liveness = "options"
shared_dialogs = true
nat = "off"
forks = "single"
blocked_numbers = ["1*"]
allowed_numbers = ["12"]
asserts_identity = true
[[peers.proxy.proxy_hangups]]
header = "Reason"
contains = "admin"
detail = "operator"
[gateways.one]
host = "203.0.113.1"
port = 5060
transport = "tcp"
strip_digits = 4
calls_max = 30
no_response_failover_s = 2
no_progress_failover_s = 8
failover_codes = [503, "404", "3xx"]
caller_id = "pai"
caller_number = "no_plus"
add_headers = ["X-Trunk:  a: b", "P-Charge-Info: <sip:1@x>"]
remove_headers = ["Subject", "x-internal"]
record_server_hang_up = false
max_duration_s = 1800
calls_per_s = 8
liveness = "off"
large_udp = "udp"
redirect = "reject"
deck = "sell"
tax_rate = "0.07"
minimum_charge = "0.01"
[gateways.two]
host = "203.0.113.2"
port = 5062
[[routes]]
prefix = "49"
gateways = ["two", "one"]
[[account_rules]]
account = "acme"
header = "X-Account"
header_value = "acme"
[[account_rules]]
account = "acme"
called_prefix = "222"
[[strip_rules]]
name = "trunk"
prefix = "0"
strip = 1
add = "49"
[accounts.acme]
currency = "EUR"
deck = "sell"
strip_digits = 2
calls_max = 5
max_duration_s = 600
calls_per_s = 7
blocked_numbers = ["+44*"]
allowed_numbers = ["4*"]
caller_numbers = ["+4930*"]
hours = ["Mo-Fr 08:00-18:00 Europe/Berlin"]
max_price_per_min = "0.5"
max_connect_fee = "0"
on_no_rate = "refuse"
tax_rate = "0.19"
minimum_charge = "0.02"
[decks]
sell = "demo"
"""


CREDENTIALS = """
[gateways.trunk]
host = "127.0.0.2"
port = 5091
username = "us"
password_file = "secret"
realm = "carrier.example"
"""


def test_a_gateways_credentials_are_a_name_for_the_core_and_a_file_for_the_bridge(start: Start) -> None:
    (start.folder / "secret").write_text("s3cret\n")
    loaded = start.load(profile=PROFILE + CREDENTIALS)
    assert loaded.policy.gateways["trunk"].username == "us"
    (credentials,) = loaded.settings.credentials
    assert credentials.password_file == start.folder / "secret"
    assert (credentials.gateway, credentials.username, credentials.realm) == (
        "trunk",
        "us",
        "carrier.example",
    )
    assert "s3cret" not in repr(loaded)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CREDENTIALS, "gateways.trunk.password_file: there is no file"),
        (
            CREDENTIALS.replace('password_file = "secret"\n', ""),
            "gateways.trunk.username: needs password_file",
        ),
        (
            CREDENTIALS.replace('username = "us"\n', ""),
            "gateways.trunk.password_file: needs username beside it",
        ),
        (CREDENTIALS.replace('"us"', "'u\"s'"), "gateways.trunk.username: "),
    ],
)
def test_half_a_pair_of_credentials_is_an_error(start: Start, text: str, expected: str) -> None:
    assert any(expected in str(problem) for problem in start.problems(profile=PROFILE + text))


def test_every_field_of_a_profile_reaches_the_policy(start: Start) -> None:
    loaded = start.load(profile=FULL)
    policy = loaded.policy
    assert policy.peers == {
        "proxy": Peer(
            name="proxy",
            addresses=("198.51.100.0/24", "2001:db8::1/128"),
            port=5060,
            strip_digits=3,
            asserts_identity=True,
            requests_per_s=250,
            calls_max=40,
            calls_per_s=9,
            liveness=LivenessCheck.OPTIONS,
            shared_dialogs=True,
            nat=NatCheck.OFF,
            forks=Forks.SINGLE,
            numbers=NumberLists(blocked=frozenset({"1*"}), allowed=frozenset({"12"})),
            proxy_hangups=(ProxyHangup(header="reason", contains="admin", detail=Detail.OPERATOR),),
        )
    }
    assert policy.gateways == {
        "one": Gateway(
            name="one",
            host="203.0.113.1",
            port=5060,
            transport=TransportName.TCP,
            strip_digits=4,
            calls_max=30,
            no_response_failover_ms=2_000,
            no_progress_failover_ms=8_000,
            failover_codes=frozenset({503, 404, *range(300, 400)}),
            caller_id=CallerIdForm.PAI,
            caller_number=NumberForm.NO_PLUS,
            add_headers=(("X-Trunk", "a: b"), ("P-Charge-Info", "<sip:1@x>")),
            remove_headers=("subject", "s", "x-internal"),
            record_server_hang_up=False,
            max_duration_s=1_800,
            calls_per_s=8,
            liveness=LivenessCheck.OFF,
            large_udp=LargeUdp.UDP,
            redirect=Redirection.REJECT,
            deck="sell",
            tax_rate=Decimal("0.07"),
            minimum_charge=Decimal("0.01"),
        ),
        "two": Gateway(
            name="two",
            host="203.0.113.2",
            port=5062,
            no_response_failover_ms=4_000,
            failover_codes=frozenset(range(500, 600)),
        ),
    }
    assert tuple(policy.routes) == (RouteRule(prefix="49", gateways=("two", "one")),)
    assert tuple(policy.account_rules) == (
        AccountRule(account="acme", header="x-account", header_value="acme"),
        AccountRule(account="acme", called_prefix="222"),
    )
    assert policy.strip_rules == (StripRule(name="trunk", prefix="0", strip=1, add="49"),)
    assert policy.accounts == {
        "acme": Account(
            name="acme",
            currency="EUR",
            deck="sell",
            strip_digits=2,
            calls_max=5,
            max_duration_s=600,
            calls_per_s=7,
            carry_without_rate=False,
            tax_rate=Decimal("0.19"),
            minimum_charge=Decimal("0.02"),
        )
    }
    assert (policy.calls_max, policy.pass_503, policy.account_required) == (100, True, True)
    assert policy.redirect is Redirection.FOLLOW
    assert (policy.blocked_numbers, policy.refused_cdr_per_s) == (frozenset({"0900*", "4990"}), 3)
    assert policy.allowed_numbers == {"*"}
    assert policy.emergency_numbers == {"110", "112", "999"}
    assert (policy.calls_per_s, policy.ringing_share_percent) == (50, 60)
    assert policy.refused_cdr_all_per_s == 200
    assert policy.screenings == {
        "acme": Screening(
            numbers=NumberLists(blocked=frozenset({"44*"}), allowed=frozenset({"4*"})),
            caller_numbers=frozenset({"4930*"}),
            hours=(parse_window("Mo-Fr 08:00-18:00 Europe/Berlin"),),
            max_price_per_min=Decimal("0.5"),
            max_connect_fee=Decimal(0),
        )
    }
    assert policy.default_deck == "sell"
    assert loaded.settings.node.calls_max == 100
    assert loaded.settings.sip.refer is ReferPolicy.PASS
    assert loaded.settings.headers == (
        "session-id",
        "p-charging-vector",
        "x-account",
        "p-asserted-identity",
        "remote-party-id",
        "privacy",
        "reason",
    )
    assert loaded.settings.sip.unlisted_source is UnlistedSource.REJECT
    assert loaded.settings.sip.unlisted_refused_per_s == 5


@pytest.mark.parametrize("form", CallerIdForm)
def test_who_calls_is_read_only_where_a_gateway_is_told(start: Start, form: CallerIdForm) -> None:
    profile = PROFILE.replace("port = 5090", f"port = 5090\ncaller_id = '{form.value}'")
    headers = start.load(profile=profile).settings.headers
    assert headers[:2] == ("session-id", "p-charging-vector")
    assert set(headers[2:]) == (set() if form is CallerIdForm.PASS else {*caller_id.HEADERS_READ})


def test_without_routes_every_number_tries_every_gateway_in_the_order_of_the_file(start: Start) -> None:
    profile = PROFILE + "[gateways.a]\nhost = '127.0.0.2'\nport = 1\n"
    assert tuple(start.load(profile=profile).policy.routes) == (
        RouteRule(prefix="", gateways=("carrier", "a")),
    )


def test_a_group_of_a_route_has_a_weight_for_each_gateway(start: Start) -> None:
    more = "".join(
        f"[gateways.{name}]\nhost = '127.0.0.2'\nport = {port}\n" for port, name in enumerate("ab", 1)
    )
    profile = PROFILE + more + "[[routes]]\nprefix = ''\ngateways = [['a=90', 'carrier'], 'b']\n"
    loaded = start.load(profile=profile)
    share = (Share(gateway="a", weight=90), Share(gateway="carrier", weight=1))
    assert tuple(loaded.policy.routes) == (RouteRule(prefix="", gateways=(share, "b")),)
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("words", "codes"),
    [
        ("", set()),
        ("5xx", set(range(500, 600))),
        ("404,5XX,503", {404, *range(500, 600)}),
        ("4xx", set(range(400, 500)) - {401, 407, 422, 487}),
    ],
)
def test_every_gateway_fails_over_by_the_codes_of_the_node(start: Start, words: str, codes: set[int]) -> None:
    loaded = start.load(environ={"SIDECAR_SIP__FAILOVER_CODES": words})
    assert loaded.policy.gateways["carrier"].failover_codes == codes


def test_an_account_takes_its_currency_from_the_default(start: Start) -> None:
    (start.folder / "usd.csv").write_text(
        places.packaged_decks()["demo"].read_text(encoding="utf-8").replace("EUR", "USD"), encoding="utf-8"
    )
    profile = PROFILE.replace('demo = "demo"', 'demo = "usd.csv"')
    loaded = start.load("[billing]\ncurrency = 'USD'\n[accounts.a]\n", profile)
    assert loaded.policy.accounts["a"].currency == "USD"
    assert loaded.policy.default_currency == "USD"


def test_an_external_broker(start: Start) -> None:
    (start.folder / "pw").write_text("secret")
    text = (
        "[mqtt]\nbroker = 'external'\nhost = 'b.example'\ntls = true\nusername = 'u'\npassword_file = 'pw'\n"
    )
    mqtt = start.load(text).settings.mqtt
    assert (mqtt.embedded, mqtt.address, mqtt.tls) == (False, ("b.example", 8883), True)
    assert (mqtt.username, mqtt.password_file) == ("u", start.folder / "pw")
    assert start.load(text.replace("tls = true", "tls = false")).settings.mqtt.address[1] == 1883


@pytest.mark.parametrize(
    ("host", "node"),
    [("box.example", "box.example"), ("b/o+x#", "b-o-x-"), ("", "node"), ("ü" * 99, "-" * 64)],
)
def test_the_host_name_becomes_a_node_name(tmp_path: Path, host: str, node: str) -> None:
    assert load(msgspec.structs.replace(embedded(tmp_path), host_name=host)).policy.node == node


# --- anything else ------------------------------------------------------------------------------------------

UNREADABLE: list[tuple[str, Callable[[Path], object], str]] = [
    ("a folder", lambda path: path.mkdir(), "is not a file"),
    (
        "not UTF-8",
        lambda path: path.write_bytes(b"[log]\nlevel = '\xff'\n"),
        "x.toml:2: is not UTF-8 (byte 0xff)",
    ),
    ("a zero byte", lambda path: path.write_bytes(b"[log]\n\0"), "x.toml:2: not TOML"),
    ("UTF-16", lambda path: path.write_bytes("[log]".encode("utf-16")), "x.toml:1: is not UTF-8"),
    ("34 MB", lambda path: path.write_bytes(b"#" * 34_000_000), "is larger than 33554432 bytes"),
]


def test_a_file_that_cannot_be_read_is_one_clear_line(tmp_path: Path) -> None:
    memory = Path("/proc/self/mem")  # a file whose first byte nobody may read, not even root
    with pytest.raises(ConfigError, match=r"/proc/self/mem: cannot be read: Input/output error"):
        load(msgspec.structs.replace(embedded(tmp_path), config_file=memory))


@pytest.mark.parametrize(
    ("make", "expected"), [row[1:] for row in UNREADABLE], ids=[row[0] for row in UNREADABLE]
)
@pytest.mark.parametrize("is_profile", [False, True])
def test_a_file_that_is_no_settings_file(
    tmp_path: Path, make: Callable[[Path], object], expected: str, is_profile: bool
) -> None:
    make(tmp_path / "x.toml")
    inputs = embedded(tmp_path)
    if is_profile:
        inputs = msgspec.structs.replace(inputs, command_line={"sip.profile": str(tmp_path / "x.toml")})
    else:
        inputs = msgspec.structs.replace(inputs, config_file=tmp_path / "x.toml")
    with pytest.raises(ConfigError, match=re.escape(expected)):
        load(inputs)


def test_a_system_file_that_cannot_be_looked_at_is_an_error_and_not_left_out(tmp_path: Path) -> None:
    system_file = tmp_path / ("a" * 300)
    with pytest.raises(ConfigError, match="cannot be read: File name too long"):
        load(msgspec.structs.replace(embedded(tmp_path), system_file=system_file))


def test_an_empty_settings_file_is_the_defaults(start: Start) -> None:
    assert start.load("").policy.timers == TIMERS


NAMES = st.sampled_from(
    [
        *SECTION_NAMES,
        *entries.PROFILE_TABLES,
        *(key.name for key in DECLARED.values()),
        "q850",
        "vos3000",
        "486",
        "all",
    ]
    + [field for table in entries.PROFILE_TABLES.values() for field in table.fields()]
    + ["proxy_hangups", "local", "carrier"]
) | st.text(max_size=3)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(
        ["127.0.0.1:0", "127.0.0.1", "10.0.0.0/8", "demo", "../x.csv", "EUR", "0", "carrier", "local"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(NAMES, VALUES, max_size=5), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
def test_any_document_gives_a_policy_or_a_config_error(
    start: Start, document: dict[str, object], is_profile: bool
) -> None:
    text = toml(document)
    problems = start.problems("", text) if is_profile else start.problems(text)
    assert all(str(problem).isprintable() for problem in problems)


@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_bytes_give_a_policy_or_a_config_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(content)
    for inputs in (
        msgspec.structs.replace(embedded(tmp_path), config_file=file),
        msgspec.structs.replace(embedded(tmp_path), command_line={"sip.profile": str(file)}),
    ):
        with suppress(ConfigError):
            load(inputs)


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
def test_a_good_profile_with_one_change_gives_a_policy_or_a_config_error(
    start: Start, data: st.DataObject
) -> None:
    lines = FULL.splitlines()
    at = data.draw(st.integers(0, len(lines) - 1))
    change = data.draw(st.sampled_from(["drop", "twice", "swap", "zero", "cut"]))
    match change:
        case "drop":
            del lines[at]
        case "twice":
            lines.insert(at, lines[at])
        case "swap":
            lines[at], lines[at - 1] = lines[at - 1], lines[at]
        case "zero":
            lines[at] = re.sub(r"[0-9]+", "0", lines[at])
        case _:
            lines[at] = lines[at][: len(lines[at]) // 2]
    start.problems(profile="\n".join(lines))


@given(
    st.dictionaries(st.text(max_size=30) | NAMES.map("SIDECAR_{}".format), st.text(max_size=10), max_size=4)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_environment_gives_a_policy_or_a_config_error(start: Start, environ: dict[str, str]) -> None:
    words = {name: text for name, text in environ.items() if "." in name}
    start.problems(environ=environ, command_line=words)


def toml(value: object) -> str:
    """A document as TOML; None is left out."""
    if isinstance(value, dict):
        return "".join(f"{basic(key)} = {inline(item)}\n" for key, item in value.items() if item is not None)
    raise AssertionError(value)


def inline(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case float():
            return repr(value)
        case str():
            return basic(value)
        case list():
            return f"[{', '.join(inline(item) for item in value if item is not None)}]"
        case dict():
            pairs = [f"{basic(key)} = {inline(item)}" for key, item in value.items() if item is not None]
            return f"{{{', '.join(pairs)}}}"
        case _:
            raise AssertionError(value)


def basic(text: str) -> str:
    escaped = "".join(char if char.isalnum() and char.isascii() else f"\\U{ord(char):08x}" for char in text)
    return f'"{escaped}"'


@pytest.mark.parametrize(
    ("lines", "lookup", "port"),
    [
        ("", Lookup(name="gw.test"), 5060),
        ("port = 5070", Lookup(name="gw.test", port=5070), 5070),
        ("transport = 'udp'", Lookup(name="gw.test", transport=TransportName.UDP), 5060),
        ("transport = 'udp'\nport = 1", Lookup(name="gw.test", port=1, transport=TransportName.UDP), 1),
    ],
)
def test_a_name_is_looked_up_as_far_as_the_settings_do_not_say_it(
    start: Start, lines: str, lookup: Lookup, port: int
) -> None:
    gateway = start.load(profile=PROFILE + f"[gateways.x]\nhost = 'GW.test.'\n{lines}\n").policy.gateways["x"]
    assert (gateway.host, gateway.lookup, gateway.port, gateway.peer) == ("gw.test", lookup, port, "")
    literal = start.load().policy.gateways["carrier"]
    assert (literal.lookup, literal.peer) == (None, "local")
