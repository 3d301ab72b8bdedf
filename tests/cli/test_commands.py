"""The `sidecar` command as a user runs it, against a node's real control socket."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from sidecar.adapters.sockets.control import ControlServer
from sidecar.core.gateway_health import Health
from sidecar.core.registration import RegistrationState
from sidecar.ports import GatewayStatus
from sidecar.runtime.reload import Reading
from tests.runtime.node_help import WALL_NS, Node, a_node

REPO = Path(__file__).resolve().parent.parent.parent


class Done(NamedTuple):
    exit_code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def environment(**more: str) -> dict[str, str]:
    """Without settings of the user's own, and without a terminal's width."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SIDECAR_", "SERVER_BILLING_", "COLUMNS"))
    }
    path = os.pathsep.join(filter(None, (str(REPO), kept.get("PYTHONPATH"))))
    return kept | {"PYTHONPATH": path} | more


async def sidecar(*words: str, cwd: Path | None = None, **more: str) -> Done:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "sidecar.cli", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(**more),
        cwd=cwd,
    )
    out, err = await child.communicate()
    assert child.returncode is not None
    return Done(child.returncode, out.decode(), err.decode())


class Served(NamedTuple):
    node: Node
    socket: Path

    async def says(self, *words: str) -> Done:
        return await sidecar(*words, "--socket", str(self.socket))


@asynccontextmanager
async def served_node(folder: Path) -> AsyncIterator[Served]:
    async with a_node(folder) as node:
        socket = folder / "data" / "control.sock"
        async with ControlServer(socket, node.admin.methods()).serving():
            yield Served(node, socket)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with served_node(tmp_path) as served:
        yield served


# --- calls and the node -------------------------------------------------------------------------------------


async def test_live_calls_are_a_plain_table_elsewhere_than_on_a_terminal(served: Served) -> None:
    call_id = await served.node.up("0044123")
    done = await served.says("call", "list")
    assert done.exit_code == 0
    header, row = done.out.splitlines()
    assert header.split()[:3] == ["call", "id", "phase"]
    assert row.split()[:6] == [str(call_id), "talking", "demo", "next_hop", "+4930123456", "0044123"]
    listed = (await served.says("call", "list", "--json")).json
    assert (listed["total"], listed["calls"][0]["callee"]) == (1, "0044123")


async def test_text_from_the_network_cannot_drive_the_terminal(served: Served) -> None:
    await served.node.up("00\x1b[2J44\n")
    done = await served.says("call", "list")
    assert "\x1b" not in done.out
    assert r"00\x1b[2J44\n" in done.out
    assert len(done.out.splitlines()) == 2


async def test_a_call_is_released_by_its_id_and_a_second_time_it_is_not_found(served: Served) -> None:
    call_id = await served.node.up()
    words = ("call", "release", str(call_id), "--operator", "ann", "--text", "fraud")
    assert (await served.says(*words)).out == f"released {call_id}\n"
    again = await served.says(*words)
    assert (again.exit_code, again.out) == (1, "")
    assert "sidecar call list" in again.err
    as_json = await served.says(*words, "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.err)["error"]["exit"] == 1


async def test_without_a_name_the_operator_is_the_user(served: Served) -> None:
    call_id = await served.node.up()
    done = await sidecar("call", "release", str(call_id), "--socket", str(served.socket), SUDO_USER="ann")
    assert done.exit_code == 0
    await served.node.closed(1)
    assert (await served.says("cdr", "show", str(call_id), "--json")).json[0]["operator"] == "ann"


async def test_drain_says_what_goes_on(served: Served) -> None:
    await served.node.up()
    assert "1 live calls go on" in (await served.says("node", "drain")).out
    assert (await served.says("node", "status", "--json")).json["state"] == "drain"
    status = (await served.says("node", "status")).out
    assert [line.split()[-1] for line in status.splitlines() if line.startswith(("state", "sip"))] == [
        "drain",
        "udp:127.0.0.1:5080",
    ]
    assert (await served.says("node", "drain", "--release", "--json")).json["released"] == 1


async def test_gateways_are_listed_with_what_is_known_of_them(served: Served) -> None:
    await served.node.up()
    shown = (await served.says("node", "gateways", "--json")).json["gateways"]
    assert [(one["gateway"], one["state"], one["probed"], one["calls"]) for one in shown] == [
        ("next_hop", "unknown", False, 1)
    ]
    served.node.gateways.append(
        GatewayStatus(
            gateway="next_hop",
            health=Health.DOWN,
            since_wall_ns=WALL_NS,
            is_probed=True,
            answer="no_response",
            probe_ms=1.5,
            registration=RegistrationState.REGISTERED,
            register_answer="200",
            registered_until_wall_ns=WALL_NS + 60_000_000_000,
        )
    )
    header, row = (await served.says("node", "gateways")).out.splitlines()
    assert header.split()[:3] == ["gateway", "address", "state"]
    since, until = "2026-09-21 14:13:20Z", "2026-09-21 14:14:20Z"
    assert row.split() == (
        f"next_hop udp:127.0.0.1:5090 down {since} 1 no_response 1.500 registered 200 {until}".split()
    )


async def test_settings_are_shown_with_where_they_were_given(served: Served) -> None:
    served.node.reloading.in_force = Reading(
        policy=served.node.calls.policy,
        plain={"billing.rounding": "half_up", "node.data_dir": "/data", "node.calls_max": "7"},
        given_at={"node.data_dir": "environment", "node.calls_max": "sidecar.toml:3"},
        at_start=frozenset({"node.data_dir"}),
    )
    _, *rows = (await served.says("node", "settings")).out.splitlines()
    assert [row.split() for row in rows] == [
        ["node.calls_max", "7", "sidecar.toml:3"],
        ["node.data_dir", "*", "/data", "environment"],
    ]
    shown = (await served.says("node", "settings", "--all", "--json")).json["settings"]
    assert shown[0] == {
        "name": "billing.rounding",
        "value": "half_up",
        "source": "default",
        "at_start": False,
    }


# --- accounts -----------------------------------------------------------------------------------------------


async def test_an_account_from_its_making_to_its_movements(served: Served) -> None:
    assert (await served.says("account", "create", "acme", "--prepaid")).exit_code == 0
    booked = await served.says("account", "topup", "acme", "12.50", "--reference", "invoice 7")
    assert booked.out == "acme: 12.50 EUR (reference invoice 7)\n"
    again = await served.says("account", "topup", "acme", "12.50", "--reference", "invoice 7", "--json")
    assert again.json["balance"] == {"currency": "EUR", "amount": "12.50"}
    shown = await served.says("account", "show", "acme")
    assert "12.50" in shown.out
    assert "invoice 7" in shown.out
    for zone, valid_from in (("UTC", "2026-03-01T00:00:00Z"), ("Europe/Berlin", "2026-02-28T23:00:00Z")):
        dated = ("account", "set", "acme", "--valid-from", "2026-03-01", "--zone", zone, "--json")
        assert (await served.says(*dated)).json["valid_from"] == valid_from
    assert (await served.says("account", "set", "acme", "--valid-from", "")).exit_code == 0
    assert (await served.says("account", "create", "acme")).exit_code == 1
    for options, blocks in (((), ["192.0.2.0/24"]), (("--remove",), [])):
        found = await served.says("account", "address", "acme", "192.0.2.0/24", *options, "--json")
        assert (found.exit_code, found.json["addresses"]) == (0, blocks)
    assert (await served.says("account", "address", "acme", "192.0.2.7/24")).exit_code == 2
    given = await served.says("account", "create", "bell", "--address", "192.0.2.7", "--address", "::1")
    assert "192.0.2.7/32" in given.out
    assert "::1/128" in given.out


@pytest.mark.parametrize(
    "words",
    [
        ("account", "topup", "acme", "NaN"),
        ("account", "topup", "acme", "1e400"),
        ("account", "topup", "acme", "1_0"),
        ("account", "topup", "acme", "١"),
        ("account", "topup", "acme", "0"),
        ("account", "topup", "acme", "5", "--currency", "XXX"),
        ("account", "create", "a" * 65),
        ("account", "create", "a\nb"),
        ("call", "release", "junk"),
        ("call", "list", "--limit", "0"),
        ("cdr", "search", "--origin", "somebody"),
        ("cdr", "search", "--from", "yesterday"),
        ("cdr", "search", "--cursor", "junk"),
        ("nothing",),
        ("call", "list", "--nothing"),
    ],
    ids=" ".join,
)
async def test_bad_input_is_exit_code_2_and_says_what_is_wrong(
    served: Served, words: tuple[str, ...]
) -> None:
    done = await served.says(*words)
    assert (done.exit_code, done.out) == (2, "")
    assert done.err
    assert "Traceback" not in done.err


# --- records ------------------------------------------------------------------------------------------------


async def test_records_are_shown_searched_and_tailed(served: Served) -> None:
    call_id = await served.node.whole("0044123", talk_ms=2_400)
    tail = await served.says("cdr", "tail")
    row = tail.out.splitlines()[1].split()
    assert row[2:] == [
        *(str(call_id), "demo", "+4930123456", "0044123", "0044123", "caller", "bye"),
        *("200/16", "2.400", "3", "0.030000", "EUR"),
    ]
    [line] = (await served.says("cdr", "tail", "--json")).out.splitlines()
    assert json.loads(line)["call_id"] == str(call_id)
    shown = await served.says("cdr", "show", str(call_id))
    assert "charges[0].total" in shown.out
    assert (await served.says("cdr", "show", str(call_id), "--json")).json[0]["talk_ms"] == 2_400
    words = ("--origin", "caller", "--detail", "bye", "--account", "demo", "--number", "0044*")
    found = (await served.says("cdr", "search", *words, "--from", "2026-01-01T00:00Z", "--json")).json
    assert [one["call_id"] for one in found["records"]] == [str(call_id)]
    assert found["cursor"] is None


async def test_a_search_that_finds_nothing_is_exit_code_1(served: Served) -> None:
    done = await served.says("cdr", "search", "--reason", "credit", "--json")
    assert (done.exit_code, done.json["records"]) == (1, [])
    unknown = await served.says("cdr", "show", str(UUID(int=7)))
    assert (unknown.exit_code, unknown.out) == (1, "")


async def test_follow_shows_records_as_they_come(served: Served) -> None:
    before = await served.node.whole()
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", "-m", "sidecar.cli", "cdr", "tail", "--follow", "--json"),
        *("--socket", str(served.socket)),
        stdout=asyncio.subprocess.PIPE,
        env=environment(),
    )
    assert child.stdout is not None
    assert json.loads(await child.stdout.readline())["call_id"] == str(before)
    later = await served.node.whole()
    assert json.loads(await child.stdout.readline())["call_id"] == str(later)
    child.terminate()
    await child.wait()


# --- where the daemon is ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("call", "list"),
        ("call", "release", str(UUID(int=7))),
        ("cdr", "tail"),
        ("cdr", "show", str(UUID(int=7))),
        ("cdr", "search"),
        ("node", "status"),
        ("node", "drain"),
        ("account", "create", "acme"),
        ("account", "show", "acme"),
        ("account", "topup", "acme", "5"),
    ],
    ids=" ".join,
)
async def test_without_a_daemon_every_command_is_exit_code_3(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = await sidecar(*words, "--json", cwd=tmp_path)
    assert (done.exit_code, done.out) == (3, "")
    assert "sidecar run" in json.loads(done.err)["error"]["message"]


async def test_the_daemon_is_found_where_the_settings_put_it(tmp_path: Path) -> None:
    async with served_node(tmp_path) as served:
        data_dir = str(served.socket.parent)
        settings = tmp_path / "sidecar.toml"
        settings.write_text(f'[node]\ndata_dir = "{data_dir}"\n[accounts]\nbroken = 1\n')
        assert (await sidecar("node", "status", "--config", str(settings))).exit_code == 0
        assert (await sidecar("node", "status", SIDECAR_NODE__DATA_DIR=data_dir)).exit_code == 0


async def test_settings_that_cannot_be_read_are_exit_code_2(tmp_path: Path) -> None:
    done = await sidecar("node", "status", "--config", str(tmp_path / "none.toml"))
    assert done.exit_code == 2
    assert "none.toml" in done.err


# --- check and the rest -------------------------------------------------------------------------------------


async def test_check_says_what_is_in_force(tmp_path: Path) -> None:
    done = await sidecar("check", "--set", "sip.profile=demo", "--json", cwd=tmp_path)
    assert done.exit_code == 0
    assert done.json["errors"] == []
    assert done.json["settings"]["gateways"]["next_hop"] == "udp 127.0.0.1 port 5090"


async def test_check_names_the_mistake_and_what_was_meant(tmp_path: Path) -> None:
    done = await sidecar("check", "--set", "sip.porfile=demo", cwd=tmp_path)
    assert done.exit_code == 2
    assert "sip.profile" in done.out
    assert (await sidecar("check", "--set", "junk", cwd=tmp_path)).exit_code == 2


async def test_help_lists_the_commands_and_the_exit_codes() -> None:
    done = await sidecar("--help")
    assert done.exit_code == 0
    for word in ("run", "check", "call", "cdr", "node", "account", "Exit codes"):
        assert word in done.out


async def test_the_version_names_the_engine_too() -> None:
    done = await sidecar("--version")
    assert done.exit_code == 0
    product, engine = done.out.splitlines()
    assert product.startswith("sidecar ")
    assert "pjproject 2." in engine
    assert "build" in engine


def test_the_command_starts_without_what_only_the_daemon_needs() -> None:
    import subprocess

    heavy = (
        "asyncio",
        "aiomqtt",
        "apsw",
        "rich",
        "structlog",
        "sidecar.b2bua",
        "sidecar.wiring",
        "prometheus_client",
    )
    code = f"import sys, sidecar.cli; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment()
    )
    assert done.stdout == "[]\n"


# --- dead letters -------------------------------------------------------------------------------------------


async def test_dead_letters_are_listed_retried_and_dropped(served: Served) -> None:
    calls = [await served.node.whole() for _ in range(2)]
    outbox = served.node.store.outbox
    await outbox.acknowledge([], [(1, 0x87), (2, 0x95)])
    listed = await served.says("dead-letter", "list")
    assert "Not authorized (0x87)" in listed.out
    assert str(calls[1]) in listed.out
    shown = await served.says("dead-letter", "show", "2", "--json")
    assert shown.json["record"]["call_id"] == str(calls[1])
    for words in (("retry",), ("retry", "1", "--all"), ("drop", "1")):
        assert (await served.says("dead-letter", *words)).exit_code == 2
    retried = await served.says("dead-letter", "retry", "1", "--operator", "ann")
    assert (retried.exit_code, retried.out) == (0, "1 dead letters are sent again\n")
    assert served.node.read_again == 1
    dropped = await served.says("dead-letter", "drop", "2", "--text", "too large")
    assert (dropped.exit_code, dropped.out) == (0, "1 dead letters are dropped\n")
    assert (await served.says("dead-letter", "retry", "--all")).exit_code == 1
    assert [row.seq for row in await outbox.pending(0, 9)] == [1]


# --- audit --------------------------------------------------------------------------------------------------


async def test_changes_are_listed_with_the_name_that_was_claimed_and_the_user(served: Served) -> None:
    await served.says("account", "create", "acme", "--operator", "ann")
    await sidecar(
        "account", "topup", "acme", "5", "--reference", "r1", "--socket", str(served.socket), SUDO_USER="bob"
    )
    header, made, paid = (await served.says("audit", "list")).out.splitlines()
    assert header.split() == [
        "entry",
        "at",
        "operator",
        "uid",
        "action",
        "subject",
        "before",
        "after",
        "text",
    ]
    assert made.split()[3:] == [
        "ann",
        str(os.getuid()),
        "account.create",
        "acme",
        '{"currency":"EUR","kind":"postpaid"}',
    ]
    assert paid.split()[3:6] == ["bob", str(os.getuid()), "account.topup"]
    [only] = (await served.says("audit", "list", "--by", "bob", "--json")).json
    assert only["after"] == {"balance": "5", "currency": "EUR", "reference": "r1"}
    words = (
        "--after",
        "1",
        "--limit",
        "1",
        "--action",
        "account.topup",
        "--subject",
        "acme",
        "--uid",
        str(os.getuid()),
    )
    assert (await served.says("audit", "list", *words, "--json")).json == [only]
    assert (await served.says("audit", "list", "--after", "2", "--json")).json == []
