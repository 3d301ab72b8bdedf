"""The other end of the control socket, for a command that asks one thing and ends: blocking, and quick to
import."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import msgspec

from sidecar.wire.control import ANSWER_BYTES_MAX, CommandError, ErrorCode

CONNECT_S_MAX = 2.0
# The daemon gives up a request after ten seconds (adapters/control.py), so this ends only where nobody
# answers.
ANSWER_S_MAX = 15.0


class DaemonUnreachableError(Exception):
    """Nobody answers at the socket. The text says what to do."""


class ControlClient:
    """Use as a context manager. Errors of the daemon are raised as CommandError, with its code and text."""

    def __init__(self, path: Path, *, answer_s_max: float = ANSWER_S_MAX) -> None:
        self._path = path
        self._answer_s_max = answer_s_max
        self._socket: socket.socket | None = None
        self._rest = b""
        self._next_id = 0

    def __enter__(self) -> ControlClient:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(CONNECT_S_MAX)
        try:
            connection.connect(os.fsencode(self._path))
        except (OSError, ValueError) as error:
            connection.close()
            raise DaemonUnreachableError(self._why(error)) from error
        connection.settimeout(self._answer_s_max)
        self._socket = connection
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def call(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """The result of one method, as JSON gives it. Raises CommandError and DaemonUnreachableError."""
        self._next_id += 1
        request = {"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params or {}}
        assert self._socket is not None, "not connected"
        try:
            self._socket.sendall(msgspec.json.encode(request) + b"\n")
            answer = msgspec.json.decode(self._line(self._socket))
        except (OSError, msgspec.DecodeError) as error:
            raise DaemonUnreachableError(f"{self._path}: no answer to {method}: {error}") from error
        if not isinstance(answer, dict):
            raise DaemonUnreachableError(f"{self._path}: what answers there is no sidecar")
        if (refusal := answer.get("error")) is not None:
            raise CommandError(ErrorCode(refusal["code"]), refusal["message"])
        return answer["result"]

    def _line(self, connection: socket.socket) -> bytes:
        chunks, size = [self._rest], len(self._rest)
        while b"\n" not in chunks[-1]:
            chunk = connection.recv(262_144)
            size += len(chunk)
            if not chunk or size > ANSWER_BYTES_MAX:
                raise OSError("the connection was closed" if not chunk else "the answer has no end")
            chunks.append(chunk)
        line, _, self._rest = b"".join(chunks).partition(b"\n")
        return line

    def _why(self, error: Exception) -> str:
        if isinstance(error, PermissionError):
            return (
                f"{self._path}: permission denied: run this as the user that runs the sidecar, as root,"
                " or as one in the group of control.group"
            )
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            return (
                f"no sidecar is running at {self._path}: start one with `sidecar run`, "
                f"or name the right place with --socket, --config or SIDECAR_NODE__DATA_DIR"
            )
        return f"{self._path}: {error}"
