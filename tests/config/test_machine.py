"""What only the machine can tell: ports and the data directory."""

from __future__ import annotations

import socket

import msgspec
import pytest

from sidecar.config import machine
from sidecar.core.terms import TransportName
from tests.config.support import PROFILE, Start

QUIET = "[metrics]\nlisten = '127.0.0.1:0'\n"


def test_a_free_machine_has_no_problem_and_is_left_as_it_was(start: Start) -> None:
    folder = start.folder / "a" / "b"
    settings = start.load(QUIET, command_line={"node.data_dir": str(folder)}).settings
    assert machine.problems(settings) == ()
    assert not folder.parent.exists()


@pytest.mark.parametrize(
    ("transport", "kind"), [(TransportName.UDP, socket.SOCK_DGRAM), (TransportName.TCP, socket.SOCK_STREAM)]
)
def test_a_port_in_use_is_named(start: Start, transport: TransportName, kind: socket.SocketKind) -> None:
    settings = start.load(QUIET).settings
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            other.listen()
        port = other.getsockname()[1]
        taken = {f"listen_{transport.value}": (("127.0.0.1", port),)}
        sip = msgspec.structs.replace(settings.sip, **taken)
        problems = machine.problems(msgspec.structs.replace(settings, sip=sip))
    assert [str(problem) for problem in problems] == [
        (
            f"this machine: sip.listen_{transport.value}: cannot listen on 127.0.0.1 port {port} "
            f"({transport.value.upper()}): Address already in use"
        )
    ]


def test_the_ports_of_metrics_and_of_the_embedded_broker_are_looked_at_too(start: Start) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        settings = start.load(f"[metrics]\nlisten = '127.0.0.1:{port}'\n[mqtt]\nport = {port}\n").settings
        problems = machine.problems(settings)
    assert [problem.key for problem in problems] == ["metrics.listen", "mqtt.port"]


def test_an_address_of_another_machine_is_named(start: Start) -> None:
    settings = start.load(QUIET, PROFILE.replace("127.0.0.1:0", "192.0.2.1:5080")).settings
    problems = machine.problems(settings)
    assert len(problems) == 1
    assert "cannot listen on 192.0.2.1 port 5080 (UDP): Cannot assign requested address" in str(problems[0])


@pytest.mark.parametrize(
    ("data_dir", "expected"),
    [
        ("{folder}/sidecar.toml/x", "sidecar.toml is not a directory"),
        ("/proc/sidecar", "/proc cannot be written"),
    ],
)
def test_a_data_directory_that_cannot_be_written(start: Start, data_dir: str, expected: str) -> None:
    words: dict[str, object] = {"node.data_dir": data_dir.format(folder=start.folder)}
    problems = machine.problems(start.load(QUIET, command_line=words).settings)
    assert len(problems) == 1
    assert expected in str(problems[0])
