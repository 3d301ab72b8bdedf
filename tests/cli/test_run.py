"""`sidecar run` as a process: where it says it is, how it ends, and one clear error where it cannot start."""

from __future__ import annotations

import asyncio
import grp
import http.client
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from sidecar.adapters.metrics import METRICS
from tests.adapters.private import loose, modes, umask
from tests.adapters.sqlite_stores import unpacked
from tests.cli.test_commands import REPO, Done, environment, sidecar
from tests.cli.test_deck import HEAD
from tests.rig.node import until

OWN = f"127.0.{os.getpid() % 200 + 20}.1"
ANYWHERE = (
    "--set",
    f"sip.listen_udp={OWN}:0",
    "--set",
    "sip.listen_tcp=",
    "--set",
    f"metrics.listen={OWN}:0",
)


class Running:
    """A daemon with its data in `folder`, from its ready line on."""

    def __init__(self, folder: Path, *settings: str, umask: int = -1) -> None:
        self.settings = [word for setting in settings for word in ("--set", setting)]
        self.folder = folder
        self.umask = umask
        self.log: list[dict[str, Any]] = []
        self.ready: dict[str, Any] = {}

    async def __aenter__(self) -> Running:
        import sys

        self.child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sidecar.cli", "run", *ANYWHERE, *self.settings),
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
            cwd=self.folder,
            umask=self.umask,
        )
        assert self.child.stderr is not None
        async for line in self.child.stderr:
            self.ready = json.loads(line)
            self.log.append(self.ready)
            if self.ready["event"] == "ready":
                return self
        raise AssertionError(f"not ready: {self.ready}")

    async def __aexit__(self, *_: object) -> None:
        if self.child.returncode is None:
            self.child.terminate()
        await self.child.communicate()


async def test_ready_names_the_real_places_and_the_end_is_clean(tmp_path: Path) -> None:
    async with Running(tmp_path) as daemon:
        [sip] = daemon.ready["sip"]
        assert sip.startswith(f"udp:{OWN}:")
        assert not sip.endswith(":0")
        host, port = daemon.ready["broker"].rsplit(":", 1)
        with socket.create_connection((host, int(port))):
            pass
        status = (await sidecar("node", "status", "--json", cwd=tmp_path)).json
        assert (status["sip"], status["metrics"], status["broker"]) == (
            daemon.ready["sip"],
            daemon.ready["metrics"],
            daemon.ready["broker"],
        )
        assert "pjproject 2." in status["engine"]
    assert daemon.child.returncode == 0
    assert not (tmp_path / ".sidecar" / "control.sock").exists()


async def test_whatever_the_umask_and_whatever_was_there_its_data_is_for_this_user_alone(
    tmp_path: Path,
) -> None:
    data = tmp_path / ".sidecar"
    deck = tmp_path / "deck.csv"
    deck.write_text(f"{HEAD}\n44,,GBP,0,0.12,60,60\n")
    with umask(0):
        assert (
            await sidecar("deck", "import", str(deck), "--activate", "sell", "--new", cwd=tmp_path)
        ).exit_code == 0
        assert loose(data) == {}
        async with Running(tmp_path, umask=0) as daemon:
            assert [line for line in daemon.log if line["event"] == "data_dir_tightened"] == []
            assert "control.sock" in modes(data)
            assert loose(data) == {}
        assert "broker/mosquitto.db" in modes(data)
        for path in (data, *data.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        count = len(modes(data))
        async with Running(tmp_path, umask=0) as daemon:
            [told] = [line for line in daemon.log if line["event"] == "data_dir_tightened"]
            assert told["count"] == count
            assert told["modes_before"][str(Path(".sidecar") / "journal.db")] == "0644"
            assert told["modes_before"][".sidecar"] == "0755"
            assert loose(data) == {}


async def test_a_journal_of_an_older_version_is_brought_up_to_date_and_the_log_says_so(
    tmp_path: Path,
) -> None:
    data = unpacked("schema-1-killed", tmp_path / ".sidecar")
    then = json.loads((data / "told.json").read_text())
    async with Running(tmp_path) as daemon:
        [begun] = [line for line in daemon.log if line["event"] == "journal_copy_begins"]
        [told] = [line for line in daemon.log if line["event"] == "journal_migrated"]
        assert (begun["file"], begun["mb"]) == (".sidecar/journal.db", "0.1")
        assert (told["schema_before"], told["kept"]) == (1, ".sidecar/journal.db.schema-1")
        assert "to go back to the version before, put the kept copy in the place" in told["going_back"]
        status = (await sidecar("node", "status", "--json", cwd=tmp_path)).json
        assert status["outbox_head_seq"] == then["head_seq"] + len(then["open"])  # each got its record
        assert status["store_epoch"] == then["epoch"]
    assert (data / "journal.db.schema-1").exists()


async def test_a_group_may_use_the_control_socket_where_the_settings_name_one(tmp_path: Path) -> None:
    data, gid = tmp_path / ".sidecar", os.getgid()
    async with Running(tmp_path, f"control.group={grp.getgrgid(gid).gr_name}", umask=0):
        assert loose(data) == {".": "0710", "control.sock": "0660"}
        assert (data / "control.sock").stat().st_gid == data.stat().st_gid == gid
        assert (await sidecar("node", "status", cwd=tmp_path)).exit_code == 0
    async with Running(tmp_path) as daemon:
        assert [line["modes_before"] for line in daemon.log if "modes_before" in line] == [
            {".sidecar": "0710"}
        ]
        assert loose(data) == {}


@pytest.mark.parametrize("command", ["run", "check"])
async def test_a_group_that_is_not_there_is_one_clear_error(tmp_path: Path, command: str) -> None:
    settings = tmp_path / "sidecar.toml"
    settings.write_text('[control]\ngroup = "no_such_group"\n')
    done = await sidecar(command, "--config", str(settings), cwd=tmp_path)
    assert done.exit_code == 2
    assert "sidecar.toml:2: control.group: there is no group" in done.out + done.err
    assert not (tmp_path / ".sidecar").exists()


async def test_two_daemons_do_not_share_a_directory(tmp_path: Path) -> None:
    async with Running(tmp_path):
        second = await sidecar("run", *ANYWHERE, cwd=tmp_path)
        assert (second.exit_code, second.out) == (2, "")
        assert "in use" in second.err
        assert (await sidecar("node", "status", cwd=tmp_path)).exit_code == 0


def clear_error(done: Done, *words: str) -> None:
    assert (done.exit_code, done.out) == (2, "")
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err


@pytest.mark.parametrize("key", ["sip.listen_udp", "sip.listen_tcp", "metrics.listen"])
async def test_a_port_in_use_is_one_clear_error(tmp_path: Path, key: str) -> None:
    kind = socket.SOCK_DGRAM if key == "sip.listen_udp" else socket.SOCK_STREAM
    with socket.socket(type=kind) as taken:
        taken.bind((OWN, 0))
        if kind is socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]
        done = await sidecar("run", *ANYWHERE, "--set", f"{key}={OWN}:{port}", cwd=tmp_path)
    clear_error(done, key, str(port), "in use")
    assert len(done.err.splitlines()) == 1


async def test_a_directory_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = await sidecar("run", *ANYWHERE, "--set", f"node.data_dir={tmp_path}/file/data", cwd=tmp_path)
    clear_error(done, "node.data_dir", "file")


async def test_a_mistyped_key_is_one_clear_error_with_what_was_meant(tmp_path: Path) -> None:
    settings = tmp_path / "sidecar.toml"
    settings.write_text('[sip]\nporfile = "demo"\n')
    done = await sidecar("run", "--config", str(settings), cwd=tmp_path)
    clear_error(done, "sidecar.toml:2", "sip.profile")
    assert not (tmp_path / ".sidecar").exists()


def test_the_tests_run_the_code_of_this_clone() -> None:
    import sidecar.cli

    assert sidecar.cli.__file__ is not None
    assert Path(sidecar.cli.__file__).is_relative_to(REPO)


async def test_a_gateway_made_by_command_is_checked_listed_exported_and_outlasts_a_restart(
    tmp_path: Path,
) -> None:
    words = ("--set", "host=127.0.0.9", "--set", "port=5095", "--reason", "more")
    async with Running(tmp_path) as daemon:
        socket = ("--socket", daemon.ready["socket"])
        wrong = await sidecar("gateway", "add", "west", *words, "--set", "prot=1", *socket, cwd=tmp_path)
        assert (wrong.exit_code, wrong.err) == (
            1,
            "sidecar: prot: there is no such key; did you mean 'port'?\n",
        )
        assert (await sidecar("gateway", "add", "west", *words, *socket, cwd=tmp_path)).exit_code == 0
    checked = await sidecar("check", cwd=tmp_path)
    assert "gateway west" in checked.out
    async with Running(tmp_path) as daemon:
        listed = await sidecar("gateway", "list", "--socket", daemon.ready["socket"], cwd=tmp_path)
        assert "host=127.0.0.9 port=5095" in listed.out
        assert "command of " in listed.out
        policy = await sidecar("node", "gateways", "--socket", daemon.ready["socket"], cwd=tmp_path)
        assert "127.0.0.9:5095" in policy.out
    exported = await sidecar("export-settings", "--to", "all.toml", cwd=tmp_path)
    assert exported.exit_code == 0, exported.err
    checked = await sidecar("check", "--set", "sip.profile=./all.toml", cwd=tmp_path)
    assert checked.exit_code == 0, checked.err
    assert "gateways.west: was also made by a command of " in checked.out


async def test_the_metrics_port_serves_what_is_declared_and_nothing_else(tmp_path: Path) -> None:
    declared = {
        f"{one.name}_total" if one.kind == "counter" else one.name: one
        for one in METRICS
        if not one.name.startswith(("sidecar_node_dead", "sidecar_node_takeover"))  # of several nodes
    }
    async with Running(tmp_path) as daemon:
        host, port = daemon.ready["metrics"].rsplit(":", 1)

        def served() -> dict[str, str]:
            connection = http.client.HTTPConnection(host, int(port), timeout=30)
            connection.request("GET", "/metrics")
            lines = connection.getresponse().read().decode().splitlines()
            connection.close()
            types = (line.split() for line in lines if line.startswith("# TYPE "))
            return {name: kind for _, _, name, kind in types if not name.endswith("_created")}

        async def are_the_same() -> bool:  # what nobody knows yet is not told yet
            found = await asyncio.to_thread(served)
            assert found.keys() <= declared.keys()
            assert all(declared[name].kind == kind for name, kind in found.items())
            return found.keys() == declared.keys()

        await until(are_the_same)


async def test_the_metrics_port_says_whether_the_node_lives_and_takes_calls(tmp_path: Path) -> None:
    async with Running(tmp_path) as daemon:
        host, port = daemon.ready["metrics"].rsplit(":", 1)

        def ask(path: str) -> tuple[int, Any]:
            connection = http.client.HTTPConnection(host, int(port), timeout=30)
            connection.request("GET", path)
            answer = connection.getresponse()
            said = json.loads(answer.read())
            connection.close()
            return answer.status, said

        async def is_heard() -> bool:  # the SIP thread too
            status, said = await asyncio.to_thread(ask, "/healthz")
            assert (status, said["alive"]) == (200, True)
            return bool(said["loop_age_s"] is not None and said["sip_age_s"] is not None)

        await until(is_heard)
        assert await asyncio.to_thread(ask, "/readyz") == (200, {"ready": True, "why_not": []})
        assert (await sidecar("node", "drain", cwd=tmp_path)).exit_code == 0
        assert await asyncio.to_thread(ask, "/readyz") == (503, {"ready": False, "why_not": ["drain"]})
        assert (await asyncio.to_thread(ask, "/healthz"))[0] == 200


async def test_its_log_goes_into_a_file_that_is_opened_anew_by_command_and_by_signal(tmp_path: Path) -> None:
    log, ready = tmp_path / "sidecar.log", b'"event":"ready"'
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sidecar.cli", "run", *ANYWHERE, "--set", f"log.file={log}"),
        *("--set", "log.level=debug"),
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
        cwd=tmp_path,
    )
    try:
        await until(lambda: log.exists() and ready in log.read_bytes(), within_s=60)
        log.rename(tmp_path / "first")
        done = await sidecar("node", "reopen-logs", cwd=tmp_path)
        assert (done.exit_code, log.exists()) == (0, True), done
        log.rename(tmp_path / "second")
        child.send_signal(signal.SIGUSR1)
        await until(log.exists)
    finally:
        child.terminate()
        _, stderr = await child.communicate()
    assert (child.returncode, stderr) == (0, b"")
    assert log.stat().st_mode & 0o777 == 0o640


async def test_a_log_that_goes_to_no_file_is_not_opened_anew(tmp_path: Path) -> None:
    async with Running(tmp_path) as daemon:
        done = await sidecar("node", "reopen-logs", cwd=tmp_path)
        assert (done.exit_code, "log.file is not set" in done.err) == (1, True)
        daemon.child.send_signal(signal.SIGUSR1)
        assert (await sidecar("node", "status", cwd=tmp_path)).exit_code == 0


async def test_a_log_that_cannot_be_written_or_is_to_go_to_two_places_is_one_clear_error(
    tmp_path: Path,
) -> None:
    settings = tmp_path / "sidecar.toml"
    settings.write_text('[log]\nfile = "/no/such/folder/log"\n')
    done = await sidecar("run", "--config", str(settings), cwd=tmp_path)
    assert (done.exit_code, "log.file" in done.err) == (2, True), done
    settings.write_text('[log]\nfile = "x.log"\nto = "stderr"\n')
    done = await sidecar("check", "--config", str(settings), cwd=tmp_path)
    assert done.exit_code == 2
    assert "sidecar.toml:3: log.to: stderr: the log goes to log.file" in done.out + done.err
