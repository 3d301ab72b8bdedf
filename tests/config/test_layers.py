"""Command line over environment over settings file over profile over default; VOS3000's names; every key."""

from __future__ import annotations

from decimal import Decimal

import pytest

from sidecar.config import Loaded, vos3000
from sidecar.config.declare import Setting
from sidecar.config.settings import DECLARED
from sidecar.core.terms import Rounding, ServerReason
from tests.config.support import PROFILE, Start

PROFILE_TIMER = PROFILE + "[timers]\nring_timeout_s = 11\n"
FILE_TIMER = "[timers]\nring_timeout_s = 22\n"
ENVIRONMENT_TIMER = {"SIDECAR_TIMERS__RING_TIMEOUT_S": "33"}
LINE_TIMER: dict[str, object] = {"timers.ring_timeout_s": 44}


def ring_s(loaded: Loaded) -> int:
    return loaded.policy.timers.ring_timeout_ms // 1_000


def test_each_layer_overrides_the_one_below(start: Start) -> None:
    assert ring_s(start.load()) == 120
    assert ring_s(start.load(profile=PROFILE_TIMER)) == 11
    assert ring_s(start.load(FILE_TIMER, PROFILE_TIMER)) == 22
    assert ring_s(start.load(FILE_TIMER, PROFILE_TIMER, environ=ENVIRONMENT_TIMER)) == 33
    loaded = start.load(FILE_TIMER, PROFILE_TIMER, environ=ENVIRONMENT_TIMER, command_line=LINE_TIMER)
    assert ring_s(loaded) == 44


def test_it_is_known_where_each_value_in_force_was_given(start: Start) -> None:
    file = FILE_TIMER + "no_response_failover_s = 3\n[q850]\n486 = 18\n"  # a code is no setting
    loaded = start.load(file, PROFILE_TIMER, environ=ENVIRONMENT_TIMER)
    found = {name: place.rpartition("/")[2] for name, place in loaded.given_at.items()}
    assert found == {
        "sip.profile": "command line",
        "sip.listen_udp": "profile.toml:2",
        "timers.ring_timeout_s": "environment",
        "timers.no_response_failover_s": "sidecar.toml:3",
    }


def test_a_wrong_value_is_an_error_even_where_it_is_overridden(start: Start) -> None:
    problems = start.problems("[timers]\nring_timeout_s = 0\n", command_line=LINE_TIMER)
    assert start.shown(problems) == ["sidecar.toml:2: timers.ring_timeout_s: 0 is not within 1-3600"]


def test_the_command_line_takes_words_as_the_environment_does(start: Start) -> None:
    loaded = start.load(
        command_line={"timers.ring_timeout_s": "44", "sip.listen_udp": "127.0.3.1:0,[::1]:5080"}
    )
    assert ring_s(loaded) == 44
    assert [place for _, place in loaded.settings.sip.listeners()] == [("127.0.3.1", 0), ("::1", 5080)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"timers.ring_timeout": "1"}, "did you mean 'timers.ring_timeout_s'?"),
        ({"ring_timeout_s": "1"}, "command line: ring_timeout_s: there is no such key"),
        ({"timers.ring_timeout_s": "1.5"}, "expected a whole number, not '1.5'"),
        ({"timers.ring_timeout_s": True}, "expected a whole number, not True"),
        ({"": "1"}, "there is no such key"),
        ({"sip.profile": "lopback"}, "there is no profile 'lopback' (ours: "),
        ({"sip.profile": "./none.toml"}, "none.toml: there is no such file"),
    ],
)
def test_bad_words_on_the_command_line(start: Start, words: dict[str, object], expected: str) -> None:
    shown = start.shown(start.problems(profile=None, command_line=words))
    assert any(expected in line for line in shown), shown


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "SIDECAR_TIMERS__RING_TIMEOUT",
            "1",
            "there is no such setting; did you mean 'SIDECAR_TIMERS__RING_TIMEOUT_S'?",
        ),
        ("SIDECAR_TIMERS_RING_TIMEOUT_S", "1", "two underscores follow the section; did you mean"),
        ("SIDECAR_TIMERS__RING_TIMEOUT_S", "1e2", "expected a whole number, not '1e2'"),
        ("SIDECAR_TIMERS__RING_TIMEOUT_S", "٣", "expected a whole number"),
        ("SIDECAR_TIMERS__RING_TIMEOUT_S", "", "expected a whole number, not ''"),
        ("SIDECAR_SIP__PASS_503", "yes", "expected true, false, 1 or 0, not 'yes'"),
        ("SIDECAR_Q850__183", "16", "there is no such setting"),
        ("SIDECAR_ACCOUNTS__ACME__PREPAID", "1", "there is no such setting"),
        ("SIDECAR_TIMERS__RING_TIMEOUT_S__ALL", "1", "there is no such setting"),
        (
            "SERVER_BILLING_FEE_PRECISION",
            "5",
            "environment: SERVER_BILLING_FEE_PRECISION: 5 is not within 0-4",
        ),
        ("SERVER_BILLING_RECORD_SERVER_HANG_UP", "2", "expected true, false, 1 or 0, not '2'"),
    ],
)
def test_bad_variables(start: Start, name: str, text: str, expected: str) -> None:
    shown = start.shown(start.problems(environ={name: text}))
    assert len(shown) == 1
    assert expected in shown[0]


def test_variables_of_others_are_left_alone(start: Start) -> None:
    assert start.load(environ={"SIDECAR_HOME": "/x", "PATH": "/bin", "SIDECAR_": ""}).warnings == ()


def test_an_unknown_vos3000_variable_is_a_warning_with_a_suggestion(start: Start) -> None:
    warnings = start.load(environ={"SERVER_BILLING_FREE_TIMES": "1"}).warnings
    assert start.shown(warnings) == [
        "environment: SERVER_BILLING_FREE_TIMES: is not used; did you mean 'SERVER_BILLING_FREE_TIME'?"
    ]


# --- VOS3000 ------------------------------------------------------------------------------------------------

VOS3000 = """\
[vos3000]
SERVER_BILLING_RECORD_SERVER_HANG_UP = 0
SERVER_BILLING_GATEWAY_ROUTE_PREFIX = 2
SERVER_BILLING_RECORD_ZERO_HOLD_TIME = 0
SERVER_BILLING_RECORD_ILLEGAL_CALL = 0
SERVER_BILLING_HOLD_TIME_PRECISION = 999
SERVER_BILLING_FEE_PRECISTION = 2
SERVER_BILLING_FEE_UNIT = "0.05"
SERVER_BILLING_FREE_TIME = 3
SERVER_BILLING_FREE_E164S = "49800*;110"
SERVER_BILLING_NO_CDR_E164S = ["4930*"]
SERVER_BILLING_PREVENT_OVERDRAFT_ADVANCE_TIME = 5
"""


def assert_is_vos3000(loaded: Loaded) -> None:
    policy, flags, rating = loaded.policy, loaded.policy.flags, loaded.policy.rating
    assert (flags.record_server_hang_up, flags.record_zero_hold_time, flags.record_illegal_call) == (
        False,
    ) * 3
    assert policy.strip_digits == 2
    assert (rating.decimals, rating.fee_unit, rating.hold_time_precision_ms, rating.free_s) == (
        2,
        Decimal("0.05"),
        999,
        3,
    )
    assert (flags.free_numbers, flags.no_cdr_numbers) == (frozenset({"49800*", "110"}), frozenset({"4930*"}))
    assert policy.slice_s == 300
    assert loaded.warnings == ()


def test_vos3000_names_in_the_settings_file(start: Start) -> None:
    assert_is_vos3000(start.load(VOS3000))


def test_vos3000_names_as_plain_variables(start: Start) -> None:
    environ = {}
    for line in VOS3000.splitlines()[1:]:
        name, _, text = line.partition(" = ")
        environ[name] = text.strip('[]"')
    assert_is_vos3000(start.load(environ=environ))


def test_two_names_that_agree_are_no_error(start: Start) -> None:
    loaded = start.load(
        "[billing]\ndecimals = 3\n"
        "[vos3000]\nSERVER_BILLING_FEE_PRECISION = 3\nSERVER_BILLING_FEE_PRECISTION = 3\n"
    )
    assert loaded.policy.rating.decimals == 3


def test_a_higher_layer_may_disagree_by_the_other_name(start: Start) -> None:
    loaded = start.load(
        "[vos3000]\nSERVER_BILLING_FEE_PRECISION = 3\n", environ={"SIDECAR_BILLING__DECIMALS": "4"}
    )
    assert loaded.policy.rating.decimals == 4


def test_two_variables_that_disagree_are_an_error_that_names_both(start: Start) -> None:
    problems = start.problems(environ={"SIDECAR_BILLING__DECIMALS": "4", "SERVER_BILLING_FEE_PRECISION": "3"})
    assert len(problems) == 1
    assert "SERVER_BILLING_FEE_PRECISION" in str(problems[0])
    assert "SIDECAR_BILLING__DECIMALS" in str(problems[0])


def test_a_slice_is_a_minute_unless_something_is_said_of_it(start: Start) -> None:
    assert start.load().policy.slice_s == 60
    assert start.load("[billing]\nslice_s = 10\n").policy.slice_s == 10
    assert start.load("[billing]\nprevent_overdraft_advance_min = 2\n").policy.slice_s == 120
    two = "[billing]\nslice_s = 120\n[vos3000]\nSERVER_BILLING_PREVENT_OVERDRAFT_ADVANCE_TIME = 2\n"
    assert start.load(two).policy.slice_s == 120
    higher = {"SERVER_BILLING_PREVENT_OVERDRAFT_ADVANCE_TIME": "3"}
    assert start.load("[billing]\nslice_s = 10\n", environ=higher).policy.slice_s == 180


MINUTES, VOS_MINUTES = "prevent_overdraft_advance_min", "SERVER_BILLING_PREVENT_OVERDRAFT_ADVANCE_TIME"


@pytest.mark.parametrize(
    ("settings", "name", "said"),
    [
        (f"slice_s = 10\n{MINUTES} = 2\n", f"billing.{MINUTES}", ("'2 x 60'", "billing.slice_s", "10")),
        (f"slice_s = 10\n[vos3000]\n{VOS_MINUTES} = 2\n", VOS_MINUTES, ("'2 x 60'", "billing.slice_s", "10")),
        (f"{MINUTES} = 1\n[vos3000]\n{VOS_MINUTES} = 2\n", VOS_MINUTES, ("2", f"billing.{MINUTES}", "1")),
    ],
)
def test_names_of_the_slice_that_disagree_are_one_error_that_names_both(
    start: Start, settings: str, name: str, said: tuple[str, str, str]
) -> None:
    one, other, another = said
    (problem,) = start.shown(start.problems(f"[billing]\n{settings}"))
    where, _, text = problem.partition(f": {name}: ")
    assert where in ("sidecar.toml:3", "sidecar.toml:4")
    assert text == (
        f"says {one}, but {other} (sidecar.toml:2) says {another}: they are two names of one setting"
    )


def test_every_vos3000_name_of_the_manual_is_there() -> None:
    wanted = [
        "RECORD_SERVER_HANG_UP",
        "GATEWAY_ROUTE_PREFIX",
        "RECORD_ZERO_HOLD_TIME",
        "RECORD_ILLEGAL_CALL",
        "HOLD_TIME_PRECISION",
        "FEE_PRECISION",
        "FEE_PRECISTION",
        "FEE_UNIT",
        "FREE_TIME",
        "FREE_E164S",
        "NO_CDR_E164S",
        "PREVENT_OVERDRAFT_ADVANCE_TIME",
    ]
    assert sorted(vos3000.BY_NAME) == sorted(f"SERVER_BILLING_{name}" for name in wanted)


# --- the flag and its reasons -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        "[billing]\nrecord_server_hang_up.all = false\nrecord_server_hang_up.timeout = true\n",
        "[billing.record_server_hang_up]\nall = false\ntimeout = true\n",
        "billing.record_server_hang_up.timeout = true\n[vos3000]\nSERVER_BILLING_RECORD_SERVER_HANG_UP = 0\n",
    ],
)
def test_one_reason_may_override_the_flag(start: Start, settings: str) -> None:
    flags = start.load(settings).policy.flags
    assert not flags.record_server_hang_up
    assert flags.record_server_hang_up_by_reason == {ServerReason.TIMEOUT: True}


def test_the_same_from_the_environment(start: Start) -> None:
    environ = {
        "SIDECAR_BILLING__RECORD_SERVER_HANG_UP": "0",
        "SIDECAR_BILLING__RECORD_SERVER_HANG_UP__CREDIT": "1",
    }
    flags = start.load(environ=environ).policy.flags
    assert not flags.record_server_hang_up
    assert flags.record_server_hang_up_by_reason == {ServerReason.CREDIT: True}
    environ["SIDECAR_BILLING__RECORD_SERVER_HANG_UP__ALL"] = "1"
    assert len(start.problems(environ=environ)) == 1


def test_q850_codes_come_from_every_layer(start: Start) -> None:
    loaded = start.load(
        "[q850]\n486 = 18\n",
        PROFILE + "[q850]\n486 = 19\n600 = 21\n",
        environ={"SIDECAR_Q850__404": "3"},
        command_line={"q850.503": "42"},
    )
    assert loaded.policy.q850_of_sip == {486: 18, 600: 21, 404: 3, 503: 42}


# --- the table itself ---------------------------------------------------------------------------------------


OTHER_VALUES: dict[str, tuple[str, str]] = {  # TOML and text of a value that is not the default
    "boolean": ("true", "true"),
    "path": ('"x"', "x"),
    "decimal string": ('"0.5"', "0.5"),
    "address:port": ('"127.0.0.9:7"', "127.0.0.9:7"),
    "address:port or path": ('"/run/page.sock"', "/run/page.sock"),
    "list of address:port": ('["127.0.0.9:7"]', "127.0.0.9:7"),
    "list of string": ('["491*", "492"]', "491*,492"),
    "mqtt.replay_users": ('["biller", "auditor-2"]', "biller,auditor-2"),
    "sip.countries": ('["DE", "GB"]', "DE,GB"),
    "sip.emergency_numbers": ('["112"]', "112"),
    "list of CIDR": ('["192.0.2.0/24"]', "192.0.2.0/24"),
    "list of code": ('[404, "5xx"]', "404,5xx"),
}
WORDS = {
    "node.time_zone": "Europe/Berlin",
    "node.tenant": "t",
    "node.name": "n",
    "sip.profile": "demo",
    "sip.unlisted_source": "reject",
    "sip.redirect": "follow",
    "sip.pai_outside": "keep",
    "sip.refer": "pass",
    "billing.rounding": "up",
    "billing.rate_by": "routing_number",
    "billing.currency": "USD",
    "billing.dead_peer_billing": "other_side",
    "billing.deck": "demo",
    "mqtt.broker": "external",
    "store.engine": "postgresql",
    "mqtt.host": "b",
    "mqtt.username": "u",
    "control.group": "staff",
    "web.user_header": "X-User",
    "log.level": "debug",
    "log.to": "stderr",
}


@pytest.mark.parametrize("key", DECLARED.values(), ids=lambda key: key.dotted)
def test_every_key_reads_the_same_from_toml_and_from_text(key: Setting) -> None:
    import tomllib

    if key.kind.name == "string":
        toml, text = f'"{WORDS[key.dotted]}"', WORDS[key.dotted]
    elif key.kind.name == "integer":
        toml = text = key.kind.bound.split("–")[0]
    else:
        toml, text = OTHER_VALUES.get(key.dotted) or OTHER_VALUES[key.kind.name]
    raw = tomllib.loads(f"key = {toml}")["key"]
    assert key.kind.read(raw) == key.kind.read_text(text)


WHOLE_KEYS = [key for key in DECLARED.values() if type(key.default) is int]


@pytest.mark.parametrize("key", WHOLE_KEYS, ids=lambda key: key.dotted)
def test_every_default_is_within_its_own_bound(key: Setting) -> None:
    assert key.kind.read(key.default) == key.default


def test_a_path_in_a_file_is_relative_to_that_file_but_data_dir_is_not(start: Start) -> None:
    (start.folder / "cert.pem").write_text("")
    loaded = start.load(
        '[node]\ndata_dir = "state"\n[sip]\ntls_certificate_file = "cert.pem"\ntls_key_file = "cert.pem"\n'
    )
    assert loaded.settings.sip.tls_certificate_file == start.folder / "cert.pem"
    assert str(loaded.settings.node.data_dir) == "state"


def test_rounding_is_a_word(start: Start) -> None:
    assert start.load("[billing]\nrounding = 'half_even'\n").policy.rating.rounding is Rounding.HALF_EVEN
