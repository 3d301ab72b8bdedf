"""Log lines to systemd's journal, with their fields, by its own protocol ("Native Journal Protocol"):
`journalctl SIDECAR_CALL_ID=...` finds a call, `-p warning` what is worse than usual.

MESSAGE is the line as it would stand on stderr, so that whoever reads lines finds the same; each plain field
of it is a field here too, `call_id` as SIDECAR_CALL_ID.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

SOCKET = Path("/run/systemd/journal/socket")
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # syslog(3)


def stderr_is_journal(environ: Mapping[str, str], fd: int = 2) -> bool:
    """systemd names in JOURNAL_STREAM the socket that it gave a service as stderr (systemd.exec(5)); what
    redirects stderr leaves the variable."""
    try:
        end = os.fstat(fd)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{end.st_dev}:{end.st_ino}"


class Journal:
    """A connected datagram socket, which never waits. OSError where there is no journal."""

    def __init__(self, path: Path = SOCKET) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self.lost = 0  # lines, while there was no journal

    def fileno(self) -> int:
        """Can be waited for: it is writable once the journal has room again."""
        return self._socket.fileno()

    def take(self, line: bytes) -> int:
        """How many bytes of a whole line were taken: all or none. A journal that was started again is found
        again; while there is none, lines are lost and counted."""
        datagram = _datagram(line)
        for is_last in (False, True):
            try:
                self._socket.send(datagram)
            except BlockingIOError:
                return 0
            except OSError:
                if is_last or not self._reconnected():
                    break
            else:
                return len(line)
        self.lost += 1
        return len(line)

    def close(self) -> None:
        self._socket.close()

    def _reconnected(self) -> bool:
        try:
            self._socket.connect(str(self._path))
        except OSError:
            return False
        return True


def _datagram(line: bytes) -> bytes:
    text = line.rstrip(b"\n")
    fields = {"MESSAGE": text, "SYSLOG_IDENTIFIER": b"sidecar"}
    for key, value in (json.loads(text) if text else {}).items():
        if key == "level":
            fields["PRIORITY"] = b"%d" % _PRIORITIES.get(str(value), 5)
        elif key != "at" and isinstance(value, (str, int, float)):
            name = "".join(letter if letter.isalnum() else "_" for letter in key.upper())
            plain = value if isinstance(value, str) else json.dumps(value)
            fields[f"SIDECAR_{name}"[:64]] = plain.encode(errors="backslashreplace")
    return b"".join(_field(name.encode(), value) for name, value in fields.items())


def _field(name: bytes, value: bytes) -> bytes:
    if b"\n" not in value:
        return b"%s=%s\n" % (name, value)
    return b"%s\n%s%s\n" % (name, struct.pack("<Q", len(value)), value)
