"""Log lines: one event, one line, no number in it; and a reader that does not read."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import tty
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from sidecar.adapters.logs import (
    LINE_BYTES_MAX,
    Journal,
    LineWriter,
    LogError,
    configure,
    ready,
    stderr_is_journal,
)

WALL_NS = 1_790_000_000_123_456_789
NUMBER = "+4915112345678"
# File systems of our own, whoever we are.
NAMESPACE = (
    "unshare",
    "--user",
    "--map-root-user",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
)
MASKED = "+4915112****78"


class Log:
    """Logging into a file, and the lines that came out."""

    def __init__(self, path: Path, level: str = "info") -> None:
        self._path = path
        self._file = path.open("wb", buffering=0)
        self.writer = configure(level, to=self._file.fileno(), wall_ns=lambda: WALL_NS, cache=False)
        self.log = structlog.get_logger("sidecar.test")

    @property
    def raw(self) -> list[bytes]:
        return self._path.read_bytes().splitlines(keepends=True)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.raw]

    def close(self) -> None:
        self.writer.close()
        self._file.close()


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path / "log")
    yield log
    log.close()


# --- what a line looks like ---------------------------------------------------------------------------------


def test_a_line_says_when_how_bad_who_and_what_first(out: Log) -> None:
    call_id = uuid4()
    out.log.bind(call_id=call_id).info("call_ended", detail="bye", talk_ms=61_000, glare=False, gateway=None)
    assert out.raw == [
        b'{"at":"2026-09-21T14:13:20.123456Z","level":"info","logger":"sidecar.test","event":"call_ended",'
        b'"call_id":"%s","detail":"bye","talk_ms":61000,"glare":false,"gateway":null}\n'
        % str(call_id).encode()
    ]


def test_what_is_below_the_level_is_not_written(out: Log) -> None:
    out.log.debug("detail")
    out.log.warning("trouble")
    assert [line["event"] for line in out.lines] == ["trouble"]


def test_the_ready_line_is_written_at_every_level(tmp_path: Path) -> None:
    log = Log(tmp_path / "quiet", level="error")
    ready(log.writer, sip=["udp 127.0.0.1:5080"], metrics="127.0.0.1:9494", broker="127.0.0.1:40001")
    (line,) = log.lines
    assert line["event"] == "ready"
    assert line["sip"] == ["udp 127.0.0.1:5080"]
    assert line["broker"] == "127.0.0.1:40001"
    log.close()


def test_an_exception_is_told_in_the_same_line(out: Log) -> None:
    try:
        raise RuntimeError(f"no such number {NUMBER}\nforged line")
    except RuntimeError:
        out.log.exception("promise_broken")
    (line,) = out.lines
    assert line["level"] == "error"
    assert "RuntimeError" in line["exception"]
    assert MASKED in line["exception"]


def test_the_libraries_and_warnings_go_the_same_way(out: Log) -> None:
    logging.getLogger("asyncio").error("task of %s failed", NUMBER)
    logging.getLogger("paho").info("chatter")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    first, second = out.lines
    assert (first["logger"], first["level"], first["text"]) == (
        "asyncio",
        "error",
        f"task of {MASKED} failed",
    )
    assert second["logger"] == "py.warnings"


# --- what the network must not do to it ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '"Eve\r\n{"event":"ready"}',
        "\x1b[2J\x1b]0;owned\x07",
        "line\x85separator\u2028and\u2029paragraph",
        "\x9b31m and \x7f",
        "\udcff lone surrogate",
        '{"event":"call_ended","origin":"server"}',
    ],
)
def test_text_from_the_network_stays_inside_its_line(out: Log, text: str) -> None:
    out.log.info(
        "invite", display_name=text, nested={"reasons": (text,)}, raw=text.encode("utf-8", "replace")
    )
    (raw,) = out.raw
    assert raw.endswith(b"\n")
    assert all(0x20 <= byte < 0x7F for byte in raw[:-1])
    assert json.loads(raw)["event"] == "invite"


@given(st.text(), st.binary(), st.text(alphabet="+0123456789 \r\n-a", min_size=0, max_size=60))
def test_no_text_breaks_a_line_or_leaks_a_number(text: str, raw: bytes, digits: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        writer = configure("info", to=ours.fileno(), cache=False)
        structlog.get_logger().info("event", text=text, raw=raw, digits=digits, both=[digits + text])
        line = theirs.recv(2 * LINE_BYTES_MAX)
        writer.close()
    assert line.count(b"\n") == 1
    assert all(0x20 <= byte < 0x7F for byte in line[:-1])
    content = json.loads(line)
    for run in digits.replace("+", " ").split():
        if len(run) >= 7 and run.isdigit():
            assert run not in content["digits"]


@pytest.mark.parametrize(
    "key", ["number", "dialled", "billed_number", "caller", "callee", "from_user", "request_user"]
)
@pytest.mark.parametrize("number", [NUMBER, "0049 (151) 1234-5678", "004915112345678;npdi", "110", "alice"])
def test_a_key_that_holds_a_number_is_masked_whole(out: Log, key: str, number: str) -> None:
    out.log.info("invite", **{key: number})
    (line,) = out.lines
    assert line[key] != number
    assert "*" in line[key]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"sip:{NUMBER}@192.0.2.1:5060;user=phone", f"sip:{MASKED}@192.0.2.1:5060;user=phone"),
        ("tel:004915112345678", "tel:0049151******78"),
        ("q=1 rate 0.012345 at 127.0.0.1:5080", "q=1 rate 0.012345 at 127.0.0.1:5080"),
        ("x" * 993 + "4915112345678", "x" * 993 + "..."),  # cut before the number, not inside it
    ],
)
def test_numbers_in_other_texts_are_masked_too(out: Log, text: str, expected: str) -> None:
    out.log.info("invite", text=text, nested=[{"deep": text}])
    (line,) = out.lines
    assert line["text"] == expected
    assert line["nested"] == [{"deep": expected}]


def test_the_ids_that_a_trace_is_searched_by_stay_whole(out: Log) -> None:
    ids = {"call_id": "12345678-1234-5678-1234-567812345678", "sip_call_id": "20260921141320@pbx.example"}
    out.log.info("invite", **ids)
    (line,) = out.lines
    assert ids.items() <= line.items()


def test_a_line_fits_into_a_pipe_in_one_piece(out: Log) -> None:
    out.log.info("invite", one="\x00" * 5_000, two="y" * 5_000, many={str(n): "z" * 500 for n in range(200)})
    out.log.info("invite", call_id="c", **{f"field{n}": "z" * 900 for n in range(300)})
    assert all(len(raw) <= LINE_BYTES_MAX for raw in out.raw)
    assert [line["event"] for line in out.lines] == ["invite", "invite"]
    assert out.lines[1]["call_id"] == "c"


def test_odd_values_do_not_stop_the_logging(out: Log) -> None:
    out.log.info(
        "odd", nan=float("nan"), infinite=float("-inf"), number={1: 2}, path=Path("/x"), error=OSError("no")
    )
    (line,) = out.lines
    assert line["nan"] == "nan"
    assert line["error"] == "no"


# --- a reader that does not read ----------------------------------------------------------------------------


def numbered(number: int) -> bytes:
    return b"%06d " % number + b"x" * 992 + b"\n"


def drain(reader: int) -> bytes:
    os.set_blocking(reader, False)
    taken = b""
    try:
        while chunk := os.read(reader, 65_536):
            taken += chunk
    except BlockingIOError:
        pass
    return taken


@pytest.fixture(params=["pipe", "socket", "terminal"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """A reading and a writing end."""
    if request.param == "pipe":
        reader, writer = os.pipe()
    elif request.param == "terminal":
        reader, writer = os.openpty()
        tty.setraw(writer)
    else:
        left, right = socket.socketpair()
        reader, writer = left.detach(), right.detach()
    yield reader, writer
    for fd in (reader, writer):
        os.close(fd)


def test_a_blocked_reader_holds_nothing_up_and_loses_nothing_below_the_bound(ends: tuple[int, int]) -> None:
    reader, fd = ends
    writer = LineWriter(fd)
    began_s = time.perf_counter()
    for number in range(2_000):
        writer.write(numbered(number))
    assert time.perf_counter() - began_s < 5
    assert writer.dropped == 0
    taken = drain(reader)
    while len(taken) < 2_000 * 1_000:
        writer.write(b"")  # the next event
        more = drain(reader)
        assert more
        taken += more
    assert taken == b"".join(numbered(number) for number in range(2_000))
    writer.close()


def test_beyond_the_bound_lines_are_dropped_and_their_number_stands_in_their_place(
    ends: tuple[int, int],
) -> None:
    reader, fd = ends
    writer = LineWriter(fd, buffer_bytes_max=10_000)
    for number in range(2_000):
        writer.write(numbered(number))
    assert writer.dropped > 1_000
    taken = bytearray()
    for number in range(2_000, 10_000):
        writer.write(numbered(number))
        taken += drain(reader)
        if taken.endswith(numbered(number)):
            break
    expected = 0
    for line in taken.splitlines(keepends=True):
        if line.startswith(b"{"):
            report = json.loads(line)
            assert report["event"] == "log_lines_dropped"
            expected += report["count"]
        else:
            assert line == numbered(expected)
            expected += 1
    writer.close()


async def test_buffered_lines_leave_by_themselves_once_the_reader_is_back(ends: tuple[int, int]) -> None:
    reader, fd = ends
    writer = LineWriter(fd)
    loop = asyncio.get_running_loop()
    writer.attach(loop)
    for number in range(1_000):
        writer.write(numbered(number))
    os.set_blocking(reader, False)
    taken = bytearray()
    done = asyncio.Event()

    def readable() -> None:
        taken.extend(os.read(reader, 65_536))
        if len(taken) >= 1_000 * 1_000:
            done.set()

    loop.add_reader(reader, readable)
    async with asyncio.timeout(10):
        await done.wait()
    loop.remove_reader(reader)
    assert bytes(taken) == b"".join(numbered(number) for number in range(1_000))
    writer.close()


def test_the_shared_descriptor_stays_as_it_was(ends: tuple[int, int]) -> None:
    _, fd = ends
    before = fcntl.fcntl(fd, fcntl.F_GETFL)
    LineWriter(fd).close()
    assert fcntl.fcntl(fd, fcntl.F_GETFL) == before


def test_a_reader_that_has_gone_is_no_error() -> None:
    reader, fd = os.pipe()
    writer = LineWriter(fd)
    os.close(reader)
    writer.write(numbered(1))
    writer.close()
    os.close(fd)
    LineWriter(fd).write(numbered(2))  # closed: nobody listens


def test_a_reader_that_had_gone_before_the_start_is_no_error_either() -> None:
    reader, fd = os.pipe()
    os.close(reader)
    writer = LineWriter(fd)
    writer.write(numbered(1))
    writer.close()
    os.close(fd)


# --- a file that is rotated ---------------------------------------------------------------------------------


def test_a_file_that_was_moved_away_is_opened_anew_and_no_line_is_lost_or_torn(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.log"
    writer = LineWriter(path)
    done = threading.Event()

    def write_all() -> None:
        for number in range(20_000):
            writer.write(numbered(number))
        done.set()

    thread = threading.Thread(target=write_all)
    thread.start()
    rotated: list[Path] = []
    while not done.is_set():
        rotated.append(path.rename(tmp_path / f"sidecar.log.{len(rotated):05d}"))
        writer.reopen()
    thread.join()
    writer.close()
    assert len(rotated) > 1
    assert b"".join(one.read_bytes() for one in (*rotated, path)) == b"".join(map(numbered, range(20_000)))


def test_where_it_cannot_be_opened_anew_the_log_goes_on_where_it_went(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    writer = LineWriter(folder / "sidecar.log")
    folder.rename(tmp_path / "away")
    with pytest.raises(LogError, match=r"log\.file .*/log/sidecar\.log cannot be opened: No such file"):
        writer.reopen()
    writer.write(numbered(1))
    writer.close()
    assert (tmp_path / "away" / "sidecar.log").read_bytes() == numbered(1)


@pytest.mark.parametrize("path", ["/dev/null", "/no/such/folder/sidecar.log"])
def test_what_is_no_file_is_refused(path: str) -> None:
    with pytest.raises(LogError, match=path):
        LineWriter(Path(path))


FULL_DISK = """
import os, sys
from pathlib import Path
from sidecar.adapters.logs import LineWriter
os.system("mount -t tmpfs -o size=64k tmpfs " + sys.argv[1]) == 0 or sys.exit("no file system")
numbered = lambda number: b"%06d " % number + b"x" * 992 + b"\\n"
path = Path(sys.argv[1], "log")
writer = LineWriter(path, buffer_bytes_max=100_000)
for number in range(500):
    writer.write(numbered(number))
assert writer.lost > 300, writer.lost
for number in range(500, 505):  # there is room again
    sys.stdout.buffer.write(path.read_bytes())
    os.truncate(path, 0)
    writer.write(numbered(number))
sys.stdout.buffer.write(path.read_bytes())
"""


def test_a_full_disk_holds_nothing_up_and_what_had_no_room_is_written_or_counted(tmp_path: Path) -> None:
    done = subprocess.run(
        [*NAMESPACE, sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = 0
    for line in done.stdout.splitlines(keepends=True):
        if line.startswith(b"{"):
            expected += json.loads(line)["count"]
        else:
            assert line == numbered(expected)
            expected += 1
    assert expected == 505


# --- systemd's journal --------------------------------------------------------------------------------------

# A journald of our own, which takes /run for itself and ends with its namespace.
JOURNALD = """
mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal /run/log/journal || exit 1
/lib/systemd/systemd-journald 2>&1 &
until [ -S /run/systemd/journal/socket ]; do kill -0 $! || exit 1; done
"$@" || exit 1
journalctl --sync; SYSTEMD_COLORS=0 exec journalctl -D /run/log/journal -o json SYSLOG_IDENTIFIER=sidecar
"""
LINES = """
import structlog
from sidecar.adapters.logs import Journal, configure
writer = configure("info", to=Journal())
log = structlog.get_logger("sidecar.test")
log.info("call_ended", call_id="0198", talk_ms=61000, glare=False, text='a "b"\\nPRIORITY=0', nested={"a": 1})
try:
    raise RuntimeError("no")
except RuntimeError:
    log.exception("promise_broken")
log.warning("odd", bad="\\udcff", number="+4915112345678")
assert writer.lost == 0
"""


def test_a_real_journald_has_each_field_of_each_line() -> None:
    done = subprocess.run(
        [*NAMESPACE, "sh", "-c", JOURNALD, "sh", sys.executable, "-c", LINES],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ended, broken, odd = (json.loads(line) for line in done.stdout.splitlines())
    assert ended["PRIORITY"] == "6"
    assert ended["SIDECAR_EVENT"] == "call_ended"
    assert ended["SIDECAR_LOGGER"] == "sidecar.test"
    assert (ended["SIDECAR_CALL_ID"], ended["SIDECAR_TALK_MS"], ended["SIDECAR_GLARE"]) == (
        "0198",
        "61000",
        "false",
    )
    assert ended["SIDECAR_TEXT"] == 'a "b"\nPRIORITY=0'
    assert "SIDECAR_NESTED" not in ended
    assert json.loads(ended["MESSAGE"])["nested"] == {"a": 1}
    assert (broken["PRIORITY"], broken["SIDECAR_EVENT"]) == ("3", "promise_broken")
    assert broken["SIDECAR_EXCEPTION"].endswith("RuntimeError: no\n")
    assert (odd["PRIORITY"], odd["SIDECAR_NUMBER"]) == ("4", MASKED)


def test_a_journal_that_does_not_read_holds_nothing_up_and_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    reader = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    reader.bind(str(path))
    writer = LineWriter(Journal(path), buffer_bytes_max=100_000)
    for number in range(500):
        writer.write(b'{"event":"%d"}\n' % number + b"")
    taken = b""
    while b"SIDECAR_EVENT=499\n" not in taken:
        try:
            taken += reader.recv(10_000)
        except BlockingIOError:
            writer.write(b'{"event":"more"}\n')
    assert [b"SIDECAR_EVENT=%d\n" % number in taken for number in range(500)] == [True] * 500
    assert writer.lost == 0
    reader.close()
    path.unlink()
    writer.write(b'{"event":"nobody"}\n')
    lost = writer.lost
    assert lost >= 1
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as again:
        again.bind(str(path))
        writer.write(b'{"event":"back"}\n')
        again.setblocking(False)
        assert b"SIDECAR_EVENT=back\n" in again.recv(10_000)
    assert writer.lost == lost
    writer.close()


def test_stderr_is_the_journal_where_systemd_says_so_and_nobody_has_redirected_it() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        end = os.fstat(ours.fileno())
        environ = {"JOURNAL_STREAM": f"{end.st_dev}:{end.st_ino}"}
        assert stderr_is_journal(environ, ours.fileno())
        assert not stderr_is_journal(environ, theirs.fileno())
        assert not stderr_is_journal({}, ours.fileno())
