"""Entries that commands have made, read as if the profile had them; and all of it written as one profile."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from sidecar.config import Books, ConfigError, Inputs, Loaded, Settings, load
from sidecar.config.candidate import Candidate
from sidecar.config.export import profile_text, toml
from sidecar.config.stored import as_toml
from sidecar.config.values import BadValueError
from sidecar.core.stored import OutOfPlaceError, StoredEntry, placed, without
from tests.config.support import PROFILE, Start, deck_or_errors

READ_DECK = cache(deck_or_errors)  # two readings of one deck are not equal
AT = 1_795_770_012_000_000_000  # 2026-11-27 09:00:12Z


def made(table: str, name: str, *, first: bool = False, at: int = AT, **fields: Any) -> StoredEntry:
    return StoredEntry(table=table, name=name, fields=fields, operator="root", at_wall_ns=at, first=first)


ALT = made("gateways", "alt", host="127.0.0.1", port=5091)
ALL = made("routes", "", gateways=["alt", "carrier"])


def with_stored(inputs: Inputs, *stored: StoredEntry) -> Inputs:
    return replace(inputs, read_stored=lambda _: stored, read_deck=READ_DECK)


def loaded(start: Start, *stored: StoredEntry, profile: str = PROFILE) -> Loaded:
    return load(with_stored(start.inputs(profile=profile), *stored))


def policy_of(found: Loaded) -> dict[str, object]:
    """With tables that do not know themselves equal as what they hold."""
    policy = found.policy
    tables = {name: dict(getattr(policy, name)) for name in ("account_addresses", "settings_addresses")}
    return {**asdict(policy), **tables, "accounts": dict(policy.accounts)}


def settings_of(found: Loaded) -> Settings:
    """But for where the profile is, and for a name that means another one's value."""
    told = found.settings
    billing = replace(told.billing, prevent_overdraft_advance_min=1)
    return replace(told, profile_path="", sip=replace(told.sip, profile=""), billing=billing)


def errors(start: Start, *stored: StoredEntry, profile: str = PROFILE) -> str:
    with pytest.raises(ConfigError) as wrong:
        loaded(start, *stored, profile=profile)
    return str(wrong.value)


def test_what_a_command_made_is_read_as_if_the_profile_had_it(start: Start) -> None:
    rule = made("account_rules", "ours", account="acme", called_prefix="49")
    peer = made("peers", "far", addresses=["192.0.2.0/24"])
    found = loaded(start, ALT, ALL, peer, rule)
    written = PROFILE + (
        '[peers.far]\naddresses = ["192.0.2.0/24"]\n[gateways.alt]\nhost = "127.0.0.1"\nport = 5091\n'
        '[[routes]]\nprefix = ""\ngateways = ["alt", "carrier"]\n'
        '[[account_rules]]\naccount = "acme"\ncalled_prefix = "49"\n'
    )
    assert policy_of(found) == policy_of(loaded(start, profile=written))


def test_a_mistake_names_who_made_it_and_when(start: Start) -> None:
    said = errors(start, made("gateways", "alt", host="127.0.0.1", prt=5091))
    assert "command of root, 2026-11-27 09:00:12Z: gateways.alt.prt: there is no such key" in said
    assert "did you mean 'port'" in said


def test_a_gateway_that_a_route_names_cannot_be_taken_away(start: Start) -> None:
    assert "routes.\"\".gateways: there is no gateway 'alt'" in errors(start, ALL)


def test_what_the_file_names_holds_and_the_other_is_told(start: Start) -> None:
    found = loaded(start, made("gateways", "carrier", host="127.0.0.9", port=1))
    assert found.policy.gateways["carrier"].port == 5090
    [warning] = start.shown(found.warnings)
    assert warning == (
        "profile.toml:8: gateways.carrier: was also made by a command of root, 2026-11-27 09:00:12Z: "
        "what the file says holds"
    )


def test_rules_of_commands_come_behind_those_of_the_file_or_before_them(start: Start) -> None:
    profile = PROFILE + '[[account_rules]]\naccount = "filed"\npeer = "local"\n'
    behind = made("account_rules", "late", account="late", called_prefix="1")
    before = made("account_rules", "early", first=True, account="early", called_prefix="2")
    found = loaded(start, behind, before, profile=profile)
    assert [rule.account for rule in found.policy.account_rules] == ["early", "filed", "late"]
    assert [one.name for one in found.listed if one.table == "account_rules"] == ["early", None, "late"]
    assert [one.source.replace(f"{start.folder}/", "") for one in found.listed][-2] == "profile.toml:14"


def test_the_first_route_by_command_warns_that_it_alone_holds(start: Start) -> None:
    assert any("these alone hold" in str(one) for one in loaded(start, ALT, ALL).warnings)


def test_a_path_of_a_command_is_absolute(start: Start) -> None:
    said = errors(start, made("gateways", "alt", host="127.0.0.1", port=1, username="u", password_file="pw"))
    assert "gateways.alt.password_file: a path of a command is absolute" in said


def test_a_journal_that_cannot_be_read_is_a_warning(start: Start) -> None:
    found = load(replace(start.inputs(), read_stored=lambda _: "damaged"))
    assert any("what commands have made is not looked at: damaged" in str(one) for one in found.warnings)


def test_a_database_that_cannot_be_read_is_an_error(start: Start) -> None:
    """A start would fail, and what a reload puts in force is not to lack what commands have made."""
    (start.folder / "dsn").write_text("dbname=books")
    (start.folder / "dsn").chmod(0o600)
    settings = "[store]\nengine = 'postgresql'\ndsn_file = 'dsn'\n[node]\nname = 'n7'\n"
    asked = []

    def read(books: Books) -> str:
        asked.append(books)
        return "away"

    with pytest.raises(ConfigError) as caught:
        load(replace(start.inputs(settings), read_stored=read))
    [problem] = start.shown(caught.value.problems)
    assert problem == "sidecar.toml:3: store.dsn_file: what commands have made is not known: away"
    assert [(one.node, one.dsn_file) for one in asked] == [("n7", start.folder / "dsn")]


# --- words and places ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "key", "word", "means"),
    [
        ("gateways", "port", "5060", 5060),
        ("gateways", "register", "true", True),
        ("gateways", "username", "0815", "0815"),
        ("peers", "addresses", "192.0.2.0/24, 192.0.2.7", ["192.0.2.0/24", "192.0.2.7"]),
        ("peers", "blocked_numbers", "", []),
        ("routes", "gateways", [["a=2", "b"]], [["a=2", "b"]]),
        ("gateways", "minimum_charge", "0.5", "0.5"),
        ("gateways", "no_such_key", "1", "1"),
    ],
)
def test_a_word_means_what_toml_would_say(table: str, key: str, word: object, means: object) -> None:
    assert as_toml(table, {key: word}) == {key: means}


def test_a_word_of_the_wrong_kind_is_refused_in_the_words_of_its_kind() -> None:
    with pytest.raises(BadValueError, match="not within 1-65535"):
        as_toml("gateways", {"port": "70000"})


def test_the_entry_of_the_command_itself_is_named_by_its_key(start: Start) -> None:
    candidate = Candidate(start.inputs(), lambda loaded, _: loaded)
    told = candidate.look([made("gateways", "alt", at=0, host="127.0.0.1", port=5091, transport="upd")])
    assert told == ["transport: expected one of udp, tcp, tls, not 'upd'; did you mean 'udp'?"]
    assert candidate.fields("gateways", {"port": "x"}) == "port: expected a whole number, not 'x'"
    assert isinstance(candidate.look([ALT]), Loaded)


def names(entries: Sequence[StoredEntry]) -> str:
    return "".join(one.name for one in entries)


def test_entries_are_placed_beside_each_other() -> None:
    a, b, c = (made("account_rules", name) for name in "abc")
    assert names(placed([a, b], c)) == "abc"
    assert names(placed([a, b], c, before="b")) == "acb"
    assert names(placed([a, b, c], c, after="a")) == "acb"
    assert names(placed([a, b, c], a)) == "abc"
    assert names(without([a, b, c], "account_rules", "b")) == "ac"
    with pytest.raises(OutOfPlaceError, match="x was not made by a command"):
        placed([a], b, before="x")
    with pytest.raises(OutOfPlaceError, match="a stands behind those of the files"):
        placed([a], made("account_rules", "d", first=True), before="a")


# --- all of it as a profile ---------------------------------------------------------------------------------

RICH = """\
[sip]
listen_udp = ["127.0.0.1:0"]
[billing]
prevent_overdraft_advance_min = 2
[billing.record_server_hang_up]
all = false
timeout = true
[q850]
486 = 18
[decks]
demo = "demo"
[peers.local]
addresses = ["127.0.0.0/8"]
asserts_identity = true
[[peers.local.proxy_hangups]]
header = "reason"
contains = "no \\"credit\\""
detail = "no_credit"
[groups.all]
hours = ["Mo-Fr 08:00-18:00 Europe/Berlin"]
[accounts."ä.b"]
group = "all"
valid_from = 2026-01-01T00:00:00Z
prepaid = true
[account_addresses]
"192.0.2.0/24" = "ä.b"
[gateways.carrier]
host = "127.0.0.1"
port = 5090
failover_codes = []
username = "us"
password_file = "secret"
[[account_rules]]
account_from = "address"
[[strip_rules]]
name = "own"
prefix = "00"
strip = 2
[[fraud_rules]]
name = "many"
scope = "account"
measure = "calls"
threshold = 5
window_s = 60
mode = "watch"
"""


def exported(start: Start, inputs: Inputs, settings: str) -> tuple[Loaded, str]:
    text = profile_text(inputs)
    profile = start.folder / "elsewhere" / "exported.toml"
    profile.parent.mkdir(exist_ok=True)
    profile.write_text(text, encoding="utf-8")
    (start.folder / "after.toml").write_text(settings, encoding="utf-8")
    again = replace(
        inputs,
        config_file=start.folder / "after.toml",
        command_line={"sip.profile": str(profile)},
        environ={},
        read_stored=lambda _: (),
    )
    return load(again), text


def same(one: Loaded, other: Loaded) -> None:
    assert policy_of(one) == policy_of(other)
    assert settings_of(one) == settings_of(other)


def test_what_is_exported_loads_to_the_same_and_holds_no_secret(start: Start) -> None:
    (start.folder / "secret").write_text("hidden\n")
    inputs = start.inputs('[node]\ntenant = "t"\n', RICH, environ={"SIDECAR_TIMERS__RING_TIMEOUT_S": "7"})
    inputs = with_stored(inputs, ALT, ALL)
    before = load(inputs)
    after, text = exported(start, inputs, '[node]\ntenant = "t"\n')
    same(before, after)
    assert "hidden" not in text
    assert str(start.folder / "secret") in text
    assert '# tenant = "t"' in text


_NAMES = st.sampled_from(["a", "b.c", "d_e", "0"])
_GATEWAYS = st.fixed_dictionaries(
    {"host": st.sampled_from(["127.0.0.1", "127.0.0.2"]), "port": st.integers(1, 65_535)},
    optional={
        "calls_max": st.integers(1, 9),
        "add_headers": st.just(['X-A: b, "c" \\ d']),
        "failover_codes": st.sampled_from([[], ["503", "4xx"]]),
        "minimum_charge": st.sampled_from(["0", "0.25"]),
        "realm": st.just("it's \u00e4"),
    },
).map(lambda said: said | {"username": "us", "password_file": "/etc/hostname"} if "realm" in said else said)
_PREFIXES = st.sampled_from(["", "49", "+4930", "urn:service:sos"])


@st.composite
def stored(draw: st.DrawFn) -> list[StoredEntry]:
    gateways = draw(st.dictionaries(_NAMES, _GATEWAYS, max_size=3))
    to = st.lists(st.sampled_from(["carrier", *gateways]), min_size=1, unique=True)
    routes = draw(st.dictionaries(_PREFIXES, to, max_size=3))
    rules = draw(st.dictionaries(_NAMES, st.sampled_from(["1", "2", "3", "4"]), max_size=3))
    rules = {name: prefix for prefix, name in {prefix: name for name, prefix in rules.items()}.items()}
    found = [
        replace(made("gateways", name, first=draw(st.booleans())), fields=said)
        for name, said in gateways.items()
    ]
    found += [made("routes", prefix, gateways=gateways) for prefix, gateways in routes.items()]
    found += [
        made("account_rules", name, first=draw(st.booleans()), account="acme", called_prefix=prefix)
        for name, prefix in rules.items()
    ]
    return found


@given(stored())
def test_whatever_commands_made_is_exported_as_it_is(entries: list[StoredEntry]) -> None:
    with TemporaryDirectory() as folder:
        start = Start(Path(folder))
        inputs = with_stored(start.inputs(), *entries)
        same(load(inputs), exported(start, inputs, "")[0])


_LEAVES = st.one_of(st.booleans(), st.integers(-(2**53), 2**53), st.text(st.characters(codec="utf-8")))
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), _VALUES, max_size=4))
def test_toml_that_is_written_is_read_as_it_was(data: dict[str, Any]) -> None:
    assert tomllib.loads(toml(data)) == data
