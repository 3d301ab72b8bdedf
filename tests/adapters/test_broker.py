"""The embedded broker, as a real child process."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.adapters import broker as broker_module
from sidecar.adapters.broker import BrokerError, BrokerSettings, EmbeddedBroker, config_text
from tests.adapters.broker_help import running_broker
from tests.adapters.private import loose, modes, umask


def accepts(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def ended(pidfd: int, within_s: float) -> bool:
    return bool(select.select([pidfd], [], [], within_s)[0])


async def test_a_started_broker_accepts_connections_and_a_stopped_one_is_gone(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as broker:
        assert broker.port not in (0, 1883)
        assert accepts(broker.host, broker.port)
        assert broker.pid is not None
        pidfd = os.pidfd_open(broker.pid)
    assert not accepts(broker.host, broker.port)
    assert ended(pidfd, 0)
    os.close(pidfd)


async def test_whatever_the_umask_what_it_writes_is_for_this_user_alone(tmp_path: Path) -> None:
    with umask(0):
        async with running_broker(tmp_path / "data"):
            assert loose(tmp_path / "data") == {}
            (tmp_path / "data" / "broker" / "mosquitto.conf").chmod(0o644)
        async with running_broker(tmp_path / "data"):
            pass
    names = modes(tmp_path / "data").keys()
    assert {f"broker/{name}" for name in ("mosquitto.conf", "mosquitto.db", "mosquitto.log", "port")} < names
    assert loose(tmp_path / "data") == {}


async def test_the_next_start_takes_the_same_port(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as first:
        port = first.port
    async with running_broker(tmp_path) as second:
        assert second.port == port


async def test_the_next_start_takes_another_port_where_the_last_one_is_taken(tmp_path: Path) -> None:
    async with running_broker(tmp_path) as first:
        port = first.port
    with socket.create_server(("127.0.0.1", port), reuse_port=False):
        async with running_broker(tmp_path) as second:
            assert second.port != port


async def test_a_killed_broker_comes_back_on_its_port(tmp_path: Path) -> None:
    async with running_broker(tmp_path, watched=True) as broker:
        assert broker.pid is not None
        port, first_pid = broker.port, broker.pid
        pidfd = os.pidfd_open(first_pid)
        os.kill(first_pid, signal.SIGKILL)
        async with asyncio.timeout(10):
            await broker.started_again(after_restarts=0)
        assert ended(pidfd, 0)
        os.close(pidfd)
        assert broker.port == port
        assert broker.pid != first_pid
        assert accepts(broker.host, broker.port)


async def test_a_broker_whose_port_is_taken_meanwhile_comes_back_when_it_is_free(tmp_path: Path) -> None:
    pauses: list[float] = []
    taken: list[socket.socket] = []

    async def take_and_give_back(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 1:
            taken.append(socket.create_server((broker.host, broker.port)))
        elif len(pauses) == 3:
            taken.pop().close()

    broker = EmbeddedBroker(BrokerSettings(directory=tmp_path / "broker"), sleep=take_and_give_back)
    await broker.start()
    async with asyncio.TaskGroup() as tasks:
        watch = tasks.create_task(broker.watch(), name="broker")
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            await broker.started_again(after_restarts=0)
        assert accepts(broker.host, broker.port)
        watch.cancel()
    await broker.stop()
    assert pauses == [0.1, 0.2, 0.4]


async def test_a_stopped_broker_ends_with_the_daemon_all_the_same(tmp_path: Path) -> None:
    broker = EmbeddedBroker(BrokerSettings(directory=tmp_path / "broker"))
    await broker.start()
    assert broker.pid is not None
    pidfd = os.pidfd_open(broker.pid)
    os.kill(broker.pid, signal.SIGSTOP)
    await broker.stop()
    assert ended(pidfd, 0)
    os.close(pidfd)


DAEMON = """
import asyncio, sys
from pathlib import Path
from sidecar.adapters.broker import BrokerSettings, EmbeddedBroker

async def main():
    broker = EmbeddedBroker(BrokerSettings(directory=Path(sys.argv[1]) / "broker"))
    await broker.start()
    print(broker.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_the_broker_dies_with_a_daemon_that_is_killed(tmp_path: Path) -> None:
    daemon = subprocess.Popen(
        [sys.executable, "-c", DAEMON, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert daemon.stdout is not None
    with daemon.stdout:
        pid = int(daemon.stdout.readline())
        pidfd = os.pidfd_open(pid)
        daemon.kill()
        daemon.wait()
        assert ended(pidfd, 10)
        os.close(pidfd)


async def test_a_broker_left_over_from_a_killed_daemon_is_ended_first(tmp_path: Path) -> None:
    # Stopped, it cannot act on the signal that the kernel sends at the daemon's death.
    daemon = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        DAEMON,
        str(tmp_path),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert daemon.stdout is not None
    pid = int(await daemon.stdout.readline())
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGSTOP)
    daemon.kill()
    await daemon.wait()
    assert not ended(pidfd, 0)
    async with running_broker(tmp_path) as broker:
        assert ended(pidfd, 0)
        assert accepts(broker.host, broker.port)
    os.close(pidfd)


async def test_a_foreign_process_under_the_old_pid_is_left_alone(tmp_path: Path) -> None:
    bystander = await asyncio.create_subprocess_exec("sleep", "60")
    (tmp_path / "broker").mkdir()
    (tmp_path / "broker" / "mosquitto.pid").write_text(f"{bystander.pid}\n")
    async with running_broker(tmp_path):
        assert bystander.returncode is None
    bystander.kill()
    assert await bystander.wait() == -signal.SIGKILL


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match=rf"127\.0\.0\.1:{port} is in use"):
            await EmbeddedBroker(BrokerSettings(directory=tmp_path / "broker", port=port)).start()


async def test_a_line_that_mosquitto_does_not_know_is_shown(tmp_path: Path) -> None:
    settings = BrokerSettings(directory=tmp_path / "broker", extra=("no_such_key 1",))
    with pytest.raises(BrokerError, match="no_such_key"):
        await EmbeddedBroker(settings).start()


async def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "broker").write_text("a file where the directory should be")
    with pytest.raises(BrokerError, match=str(tmp_path / "broker")):
        await EmbeddedBroker(BrokerSettings(directory=tmp_path / "broker")).start()


async def test_a_missing_mosquitto_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only = tmp_path / "bin"
    only.mkdir()
    (only / "setpriv").symlink_to("/usr/bin/setpriv")
    monkeypatch.setattr(broker_module, "SEARCH_PATH", str(only))
    with pytest.raises(BrokerError, match="apt-get install mosquitto"):
        await EmbeddedBroker(BrokerSettings(directory=tmp_path / "broker")).start()


def test_an_address_that_others_can_reach_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="loopback"):
        BrokerSettings(directory=tmp_path, host="0.0.0.0")


def test_the_configuration_says_what_the_product_relies_on(tmp_path: Path) -> None:
    lines = config_text(BrokerSettings(directory=tmp_path), 40000).splitlines()
    for line in (
        "listener 40000 127.0.0.1",
        "allow_anonymous true",
        "persistence true",
        "autosave_on_changes true",
        "max_queued_messages 1000000",
        "max_inflight_messages 1000",
    ):
        assert line in lines
    assert any(line.startswith("user ") for line in lines)
