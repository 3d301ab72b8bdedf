"""Each bound on both of its sides, and each rule in the case next to the one where it holds."""

from __future__ import annotations

import pytest

from sidecar.config import entries
from sidecar.config.declare import Setting
from sidecar.config.settings import DECLARED
from sidecar.config.values import BadValueError
from tests.config.support import PROFILE, Start

TABLES: list[type[entries.Table]] = [*entries.PROFILE_TABLES.values(), entries.ProxyHangups]
WHOLE = [one for one in DECLARED.values() if one.kind.name == "integer"]
WHOLE += [one for table in TABLES for one in table.fields().values() if one.kind.name == "integer"]


@pytest.mark.parametrize("setting", WHOLE, ids=lambda setting: setting.dotted)
def test_a_bound_holds_the_numbers_that_the_reference_names(setting: Setting) -> None:
    least, most = map(int, setting.kind.bound.split("–"))
    assert (setting.kind.read(least), setting.kind.read(most)) == (least, most)
    for beyond in (least - 1, most + 1):
        with pytest.raises(BadValueError, match=f"^{beyond} is not within {least}-{most}$"):
            setting.kind.read(beyond)


EXTERNAL = '[mqtt]\nbroker = "external"\nhost = "b.example"\ntls = true\n'
PAIR = "a certificate and its private key go together"


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        ('certificate_file = "sidecar.toml"\n', [f"sidecar.toml:5: mqtt.certificate_file: {PAIR}"]),
        ('key_file = "sidecar.toml"\n', [f"sidecar.toml:5: mqtt.certificate_file: {PAIR}"]),
        ('certificate_file = "sidecar.toml"\nkey_file = "sidecar.toml"\n', []),
    ],
)
def test_a_certificate_for_the_broker_and_its_key_go_together(
    start: Start, lines: str, shown: list[str]
) -> None:
    assert start.shown(start.problems(EXTERNAL + lines)) == shown


@pytest.mark.parametrize(
    "line",
    [
        "host = 'b'",
        "tls = true",
        "ca_file = 'sidecar.toml'",
        "certificate_file = 'sidecar.toml'",
        "key_file = 'sidecar.toml'",
        "username = 'u'",
        "password_file = 'sidecar.toml'",
    ],
)
def test_what_is_of_an_external_broker_is_an_error_with_ours(start: Start, line: str) -> None:
    shown = start.shown(start.problems(f"[mqtt]\n{line}\n"))
    key = line.split(" ", maxsplit=1)[0]
    assert shown == [f'sidecar.toml:2: mqtt.{key}: is of an external broker: set mqtt.broker = "external"']


@pytest.mark.parametrize("key", ["ca_file", "certificate_file", "key_file"])
def test_what_is_of_tls_is_an_error_without_it(start: Start, key: str) -> None:
    text = EXTERNAL.replace("tls = true", "tls = false") + f"{key} = 'sidecar.toml'\n"
    shown = start.shown(start.problems(text))
    assert f"sidecar.toml:5: mqtt.{key}: is of TLS: set mqtt.tls = true" in shown


@pytest.mark.parametrize(
    ("host", "count"),
    [("b.example", 1), ("localhost", 0), ("127.0.0.1", 0), ("::1", 0), ("128.0.0.1", 1)],
)
def test_a_password_in_the_clear_is_a_warning_unless_it_stays_here(
    start: Start, host: str, count: int
) -> None:
    text = f"[mqtt]\nbroker = 'external'\nhost = '{host}'\nusername = 'u'\npassword_file = 'sidecar.toml'\n"
    warnings = start.load(text).warnings
    assert len(warnings) == count
    assert all("sidecar.toml:5: mqtt.password_file: the password" in one for one in start.shown(warnings))


@pytest.mark.parametrize("given", ["tls_certificate_file", "tls_key_file", ""])
def test_tls_needs_a_certificate_and_a_key(start: Start, given: str) -> None:
    line = f"{given} = 'sidecar.toml'\n" if given else ""
    text = f"[sip]\nlisten_tls = ['127.0.0.1:0']\n{line}"
    assert start.shown(start.problems(text)) == [
        "sidecar.toml:2: sip.listen_tls: needs sip.tls_certificate_file and sip.tls_key_file"
    ]


@pytest.mark.parametrize("other", ["[sip]\nlisten_tls", "[metrics]\nlisten"])
def test_two_listeners_at_one_place_are_an_error(start: Start, other: str) -> None:
    place = "['127.0.0.1:6000']" if "tls" in other else "'127.0.0.1:6000'"
    files = {f"sip.tls_{name}_file": str(start.folder / "sidecar.toml") for name in ("certificate", "key")}
    tcp = {"sip.listen_tcp": "127.0.0.1:6000"}
    at_once = start.problems(f"{other} = {place}\n", command_line={**files, **tcp})
    assert len(at_once) == 1
    assert "TCP too" in str(at_once[0])
    assert start.problems(f"{other} = {place}\n", command_line=files) == ()


@pytest.mark.parametrize(("progress_s", "count"), [(9, 0), (10, 1)])
def test_a_wait_that_the_ring_timeout_cuts_is_a_warning_from_where_they_are_equal(
    start: Start, progress_s: int, count: int
) -> None:
    profile = PROFILE.replace("port = 5090", f"port = 5090\nno_progress_failover_s = {progress_s}")
    assert len(start.load("[timers]\nring_timeout_s = 10\n", profile).warnings) == count


@pytest.mark.parametrize(("response_s", "count"), [(9, 0), (10, 2)])
def test_a_next_gateway_that_is_never_tried_is_a_warning_for_each(
    start: Start, response_s: int, count: int
) -> None:
    profile = PROFILE + "[gateways.b]\nhost = '127.0.0.2'\nport = 1\n"
    text = f"[timers]\nring_timeout_s = 10\nno_response_failover_s = {response_s}\n"
    assert len(start.load(text, profile).warnings) == count


def test_twenty_thousand_accounts_are_read_and_each_is_found_on_its_line(start: Start) -> None:
    text = "".join(f"[accounts.a{number}]\nprepaid = true\n" for number in range(20_000))
    assert len(start.load(text).policy.accounts) == 20_000
    shown = start.shown(start.problems(text + "calls_max = 0\n"))
    assert shown == ["sidecar.toml:40001: accounts.a19999.calls_max: 0 is not within 1-100000"]


def test_every_account_with_the_same_mistake_is_named_and_none_is_compared_with_all(start: Start) -> None:
    text = "".join(f"[accounts.a{number}]\ndeck = 'none'\n" for number in range(20_000))
    assert len(start.problems(text)) == 20_000


FLAGS = ("record_server_hang_up", "record_fault", "record_zero_hold_time", "record_illegal_call")


@pytest.mark.parametrize("name", FLAGS)
def test_each_flag_is_its_own(start: Start, name: str) -> None:
    flags = start.load(f"[billing]\n{name} = false\n").policy.flags
    assert [flag for flag in FLAGS if not getattr(flags, flag)] == [name]
