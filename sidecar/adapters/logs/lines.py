r"""Logs: one event, one line of JSON, `at`, `level`, `logger` and `event` first: on stderr, in a file,
or with its fields in systemd's journal (`journal.py`).

What comes from the network cannot forge a line: everything but printable ASCII leaves as a JSON escape, and
every run of seven digits or more in a text is masked (`sidecar.core.numbers.mask`), except in the keys that
name a thing of ours. A value under a key that holds a number (`NUMBER_KEYS`) is masked whole, however it is
written.

The daemon never waits for whoever reads its log. A line is written at once if it can be taken at once;
else, also where the disk of its file is full, it waits in memory, at most `BUFFER_BYTES_MAX`, and leaves when
the reader or the room is back; beyond that the newest lines are dropped and counted, and a line
`log_lines_dropped` in their place says how many. A line has at most `LINE_BYTES_MAX` bytes, so a pipe takes
it whole or not at all (PIPE_BUF); longer texts are cut, with `...` at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import re
import select
import socket
import stat
import sys
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog

from sidecar.adapters.logs.journal import Journal
from sidecar.core.numbers import mask

LINE_BYTES_MAX = 4_096
BUFFER_BYTES_MAX = 4_194_304

NUMBER_KEYS = frozenset(
    {
        "number",
        "dialled",
        "billed_number",
        "caller",
        "callee",
        "user",
        "from_user",
        "request_user",
        "received",
        "sent_user",
    }
)
# Made by us, or a name of a dialog that is needed to find it in a trace: digits in them are no phone number.
_OWN_KEYS = frozenset(
    {"call_id", "sip_call_id", "message_id", "boot_id", "epoch", "store_epoch", "version", "socket", "path"}
)
_DIGITS = re.compile(r"\+?\d{7,}", re.ASCII)
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}

_quick = msgspec.json.Encoder().encode
_ascii = json.JSONEncoder(ensure_ascii=True, check_circular=False, separators=(",", ":")).encode


def configure(
    level: str = "info",
    *,
    to: int | Path | Journal = 2,
    wall_ns: Callable[[], int] = time.time_ns,
    cache: bool = True,
) -> LineWriter:
    """Send every log line of this process, those of the libraries too, through one writer: to a file
    descriptor, into a file, or to systemd's journal. LogError where the file cannot be opened."""
    writer = LineWriter(to)
    structlog.configure(
        processors=[_Renderer(wall_ns)],
        wrapper_class=_Levelled,
        logger_factory=lambda *names: _Sink(writer, names[0] if names else ""),
        cache_logger_on_first_use=cache,
    )
    logging.getLogger().handlers[:] = [_Foreign()]
    set_level(level)
    logging.captureWarnings(True)
    return writer


def set_level(level: str) -> None:
    """For every line from now on, also of loggers that have written before."""
    _Levelled.least = _LEVELS[level]
    logging.getLogger().setLevel(max(_LEVELS[level], logging.WARNING))


def ready(writer: LineWriter, *, wall_ns: Callable[[], int] = time.time_ns, **addresses: object) -> None:
    """The line that says that the daemon is up, and where: whoever started it waits for this, so no level
    hides it."""
    writer.write(_line(wall_ns(), "info", "sidecar", {"event": "ready", **addresses}))


class LogError(Exception):
    """The log's file cannot be opened; the text names it."""


class LineWriter:
    """Lines to one place, never waiting for its reader."""

    def __init__(self, to: int | Path | Journal, *, buffer_bytes_max: int = BUFFER_BYTES_MAX) -> None:
        self.path = to if isinstance(to, Path) else None
        self._outlet = _outlet_to(to)
        self._buffer_bytes_max = buffer_bytes_max
        self._lock = threading.Lock()  # the writer thread of the store and the metrics server log too
        self._buffer: deque[bytes] = deque()
        self._buffered_bytes = 0
        self._unreported = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting = False
        self.dropped = 0  # since the start
        self._journal = to if isinstance(to, Journal) else None

    @property
    def lost(self) -> int:
        """Lines since the start that nobody will read."""
        return self.dropped + (self._journal.lost if self._journal is not None else 0)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on, buffered lines leave as soon as the reader is back; until then, with the next line."""
        self._loop = loop

    def write(self, line: bytes) -> None:
        with self._lock:
            if self._buffer or self._unreported:
                self._flush()
            if not self._buffer and not self._unreported:
                taken = self._outlet.write(line)
                if taken == len(line):
                    return
                line = line[taken:]
            self._keep(line)

    def reopen(self) -> None:
        """Go on in the file that has the path now: who rotates logs has moved the one before away. No line
        is in neither or in both. LogError: it goes on where it went."""
        if self.path is None:
            raise LogError("log.file is not set: the log goes to no file")
        outlet = _file_outlet(self.path)
        with self._lock:
            self._flush()
            before, self._outlet = self._outlet, outlet
            before.close()
            self._flush()  # there may be room here

    def close(self) -> None:
        """Give the reader one last chance; what it does not take now is lost."""
        with self._lock:
            self._flush()
            if self._loop is not None and self._waiting and not self._loop.is_closed():
                self._loop.remove_writer(self._outlet.fd)
            self._loop = None
            self._outlet.close()
            self._outlet = _Outlet(-1, len)

    def _keep(self, line: bytes) -> None:
        # Once a line was dropped, all are until the reader has the rest and the report: one gap, told once.
        if self._unreported or self._buffered_bytes + len(line) > self._buffer_bytes_max:
            self.dropped += 1
            self._unreported += 1
        else:
            self._buffer.append(line)
            self._buffered_bytes += len(line)
        if self._loop is not None and not self._waiting:
            self._waiting = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process is ending
                self._loop.call_soon_threadsafe(self._await_reader)

    def _flush(self) -> None:
        while self._buffer or self._unreported:
            if not self._buffer:
                dropped = {"event": "log_lines_dropped", "count": self._unreported}
                self._unreported = 0
                self._buffer.append(_line(time.time_ns(), "warning", "sidecar.logs", dropped))
                self._buffered_bytes += len(self._buffer[0])
            line = self._buffer[0]
            taken = self._outlet.write(line)
            self._buffered_bytes -= taken
            if taken < len(line):
                self._buffer[0] = line[taken:]
                return
            self._buffer.popleft()

    def _await_reader(self) -> None:
        loop = self._loop
        if loop is not None:
            try:
                loop.add_writer(self._outlet.fd, self._reader_is_back)
            except OSError:  # a regular file cannot be waited for: the next line flushes
                self._waiting = False

    def _reader_is_back(self) -> None:
        with self._lock:
            self._flush()
            if not self._buffer and self._loop is not None:
                self._loop.remove_writer(self._outlet.fd)
                self._waiting = False


class _Outlet:
    """`write` says how many bytes were taken; `fd` can be waited for."""

    def __init__(
        self, fd: int, write: Callable[[bytes], int], close: Callable[[], None] = lambda: None
    ) -> None:
        self.fd = fd
        self.write = write
        self.close = close


def _outlet_to(place: int | Path | Journal) -> _Outlet:
    if isinstance(place, Path):
        return _file_outlet(place)
    if isinstance(place, Journal):
        return _Outlet(place.fileno(), place.take, place.close)
    return _outlet(place)


def _file_outlet(path: Path) -> _Outlet:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise LogError(f"log.file {path} cannot be opened: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise LogError(f"log.file {path} is no file")
    return _Outlet(fd, _room_taken(fd), lambda: os.close(fd))


def _outlet(fd: int) -> _Outlet:
    """O_NONBLOCK on the descriptor itself would change it for everybody who shares it (the shell, the other
    programs of the terminal), so each kind has its own way."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return _Outlet(-1, len)  # stderr is closed: nobody listens
    if stat.S_ISSOCK(mode):  # journald
        sock = socket.socket(fileno=os.dup(fd))
        flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
        return _Outlet(sock.fileno(), _errors_taken(lambda line: sock.send(line, flags)), sock.close)
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        try:
            # The same pipe or terminal, with flags of our own.
            own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            # A pipe that polls writable takes PIPE_BUF bytes; a terminal nearly always takes a line.
            return _Outlet(fd, _errors_taken(lambda line: os.write(fd, line) if poll.poll(0) else 0))
        return _Outlet(own, _errors_taken(lambda line: os.write(own, line)), lambda: os.close(own))
    return _Outlet(fd, _room_taken(fd))


def _room_taken(fd: int) -> Callable[[bytes], int]:
    """A file waits for no reader, but where its disk is full or fails there may be room again."""

    def taken(line: bytes) -> int:
        try:
            return os.write(fd, line)
        except OSError:
            return 0

    return taken


def _errors_taken(write: Callable[[bytes], int]) -> Callable[[bytes], int]:
    def taken(line: bytes) -> int:
        try:
            return write(line)
        except BlockingIOError:
            return 0
        except OSError:
            return len(line)  # the reader has gone for good (EPIPE): nothing to wait for

    return taken


class _Levelled(structlog.make_filtering_bound_logger(logging.DEBUG)):  # type: ignore[misc]  # made there
    """Below the least level nothing is done; the level may change."""

    least = logging.INFO

    def debug(self, event: str, *args: Any, **fields: Any) -> None:
        if self.least <= logging.DEBUG:
            super().debug(event, *args, **fields)

    def info(self, event: str, *args: Any, **fields: Any) -> None:
        if self.least <= logging.INFO:
            super().info(event, *args, **fields)

    def warning(self, event: str, *args: Any, **fields: Any) -> None:
        if self.least <= logging.WARNING:
            super().warning(event, *args, **fields)


class _Sink:
    """What structlog calls a logger: it takes finished lines."""

    def __init__(self, writer: LineWriter, name: str) -> None:
        self.name = name
        write = writer.write
        self.debug = self.info = self.warning = self.error = self.critical = self.msg = write
        self.exception = self.fatal = self.warn = self.log = write


class _Renderer:
    def __init__(self, wall_ns: Callable[[], int]) -> None:
        self._wall_ns = wall_ns

    def __call__(self, sink: Any, method: str, event: structlog.typing.EventDict) -> bytes:
        level = "error" if method == "exception" else method
        return _line(self._wall_ns(), level, sink.name, event)


class _Foreign(logging.Handler):
    """Records of the libraries and of `warnings`."""

    def emit(self, record: logging.LogRecord) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            log = structlog.get_logger(record.name)
            log.log(max(record.levelno, 10), "library", text=record.getMessage(), exc_info=record.exc_info)


def _line(wall_ns: int, level: str, name: str, event: Mapping[str, Any]) -> bytes:
    fields: dict[str, Any] = {"at": _stamp(wall_ns), "level": level}
    if name:
        fields["logger"] = name
    fields["event"] = None  # keeps its place
    for key, value in event.items():
        if key == "exc_info":
            if value:
                fields["exception"] = _safe(_trace(value), 2_500)
        else:
            fields[key] = _value(key, value, 1_000)
    line = _json(fields)
    for text_max in (200, 40):
        if len(line) < LINE_BYTES_MAX:
            break
        line = _json({k: _cut(v, text_max) for k, v in fields.items()})
    if len(line) >= LINE_BYTES_MAX:  # too many fields
        kept = ("at", "level", "logger", "event", "call_id")
        line = _json({k: _cut(fields[k], 40) for k in kept if k in fields})
    return line + b"\n"


def _json(fields: dict[str, Any]) -> bytes:
    """msgspec is six times quicker, but leaves what is not ASCII as it is."""
    try:
        line = _quick(fields)
    except UnicodeEncodeError:  # a lone surrogate
        return _ascii(fields).encode()
    return line if line.isascii() else _ascii(fields).encode()


_second = 0
_second_text = ""


def _stamp(wall_ns: int) -> str:
    global _second, _second_text  # noqa: PLW0603  # a day of log lines has few distinct seconds
    second, ns = divmod(wall_ns, 1_000_000_000)
    if second != _second:
        _second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        _second = second
    return f"{_second_text}.{ns // 1000:06d}Z"


def _value(key: str, value: object, text_max: int) -> Any:
    kind = type(value)
    if kind is str:
        return _text(key, value, text_max)  # type: ignore[arg-type]
    if kind is int or kind is bool or value is None:
        return value
    if kind is float:
        return value if math.isfinite(value) else str(value)  # type: ignore[arg-type]
    if isinstance(value, Mapping):
        return {_safe(str(k), 100): _value(str(k), v, text_max) for k, v in list(value.items())[:100]}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_value(key, item, text_max) for item in list(value)[:100]]
    if isinstance(value, bytes):
        return _text(key, value[: text_max + 1].decode("ascii", "backslashreplace"), text_max)
    return _text(key, str(value), text_max)


def _text(key: str, text: str, text_max: int) -> str:
    if key in NUMBER_KEYS:
        return mask(text)
    if key in _OWN_KEYS:
        return text[:text_max]
    return _safe(text, text_max)


def _safe(text: str, text_max: int) -> str:
    if len(text) > text_max:
        # Cut by whole digit runs, or a number cut short would no longer look like one.
        end = text_max
        while end > 0 and text[end - 1].isdigit():
            end -= 1
        text = text[:end] + "..."
    if "\x7f" in text:
        text = text.replace("\x7f", "?")  # DEL is the one control character that JSON leaves as it is
    return text if len(text) < 7 else _DIGITS.sub(lambda run: mask(run.group()), text)


def _cut(value: Any, text_max: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= text_max else value[:text_max] + "..."
    if isinstance(value, (dict, list)):
        return "..."
    return value


def _trace(exc_info: Any) -> str:
    if isinstance(exc_info, BaseException):
        error: BaseException | None = exc_info
    elif isinstance(exc_info, tuple):
        error = exc_info[1]
    else:
        error = sys.exc_info()[1]
    if error is None:
        return ""
    return "".join(traceback.format_exception(error, limit=-12))[-2_500:]
