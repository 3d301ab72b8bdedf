"""What only the machine can tell: ports and the data directory."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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


def test_the_port_of_the_page_is_looked_at_and_that_of_a_broker_elsewhere_is_not(start: Start) -> None:
    settings = start.load(QUIET).settings
    with socket.socket(socket.AF_INET6) as other:
        other.bind(("::1", 0))
        other.listen()
        port = other.getsockname()[1]
        web = msgspec.structs.replace(settings.web, listen=("::1", port))
        found = machine.problems(msgspec.structs.replace(settings, web=web))
        path = msgspec.structs.replace(settings.web, listen=start.folder / "page.sock")
        assert machine.problems(msgspec.structs.replace(settings, web=path)) == ()
    assert [str(problem) for problem in found] == [
        f"this machine: web.listen: cannot listen on ::1 port {port} (TCP): Address already in use"
    ]
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        outside = start.load(f"{QUIET}[mqtt]\nbroker = 'external'\nhost = '127.0.0.1'\nport = {port}\n")
        assert machine.problems(outside.settings) == ()


def test_a_port_whose_connections_have_just_ended_is_free(start: Start) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as every daemon does
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as caller:
            called, _ = other.accept()
            called.close()  # first: so the port is kept for a while
            assert caller.recv(1) == b""
    settings = start.load(f"[metrics]\nlisten = '127.0.0.1:{port}'\n").settings
    assert machine.problems(settings) == ()


def test_a_log_file_must_be_in_a_folder_that_is_there(start: Start) -> None:
    settings = start.load(QUIET).settings

    def found(file: Path) -> list[str]:
        log = msgspec.structs.replace(settings.log, file=file)
        return [str(problem) for problem in machine.problems(msgspec.structs.replace(settings, log=log))]

    assert found(start.folder / "sidecar.toml") == []
    assert found(start.folder / "new.log") == []
    missing = start.folder / "missing" / "new.log"
    assert found(missing) == [f"this machine: log.file: {missing} cannot be written by this user"]


@contextmanager
def limited(what: int, most: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(what)
    resource.setrlimit(what, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(what, (soft, hard))


@pytest.mark.parametrize(("more_bytes", "is_enough"), [(-(2**25), False), (2**25, True)])
def test_what_a_start_needs_of_memory_must_be_there(start: Start, more_bytes: int, is_enough: bool) -> None:
    settings = start.load(QUIET).settings
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    with limited(resource.RLIMIT_AS, used + 384 * 2**20 + more_bytes):
        found = machine.problems(settings)
    text = "this machine: too little memory to start: 384 MB more cannot be had (ulimit -v?)"
    assert list(map(str, found)) == ([] if is_enough else [text])


def test_a_data_directory_that_takes_no_byte_is_named(start: Start) -> None:
    settings = start.load(QUIET).settings
    with limited(resource.RLIMIT_FSIZE, 0):
        [found] = machine.problems(settings)
    assert (found.key, found.text[-30:]) == ("node.data_dir", "cannot be written: File too large"[-30:])


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
