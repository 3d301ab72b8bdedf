"""What only the machine can tell: whether our addresses can be bound and the data directory written.

Asked at the start, before anything is opened, so that a port in use or a full disk is one clear error and not
a traceback from the middle of the start. Between this look and the real bind another process may still take
the port: then the bind itself reports it.
"""

from __future__ import annotations

import mmap
import os
import socket
import tempfile
from pathlib import Path

from sidecar.config.problems import Problem, Where
from sidecar.config.settings import Settings
from sidecar.core.terms import TransportName

_WHERE = Where("this machine")

# What a start takes up, stacks of threads among it, and what has to be left to take calls; see
# b2bua/native/memory.cpp.
START_BYTES = 384 << 20


def problems(settings: Settings) -> tuple[Problem, ...]:
    """Everything that would keep a start with these settings from succeeding here and now."""
    found = [_memory(), _data_dir(settings.node.data_dir), _log_file(settings.log.file)]
    for transport, place in settings.sip.listeners():
        kind = socket.SOCK_DGRAM if transport is TransportName.UDP else socket.SOCK_STREAM
        found.append(_address(f"sip.listen_{transport.value}", *place, kind))
    found.append(_address("metrics.listen", *settings.metrics.listen, socket.SOCK_STREAM))
    if isinstance(settings.web.listen, tuple):
        found.append(_address("web.listen", *settings.web.listen, socket.SOCK_STREAM))
    if settings.mqtt.embedded:
        found.append(_address("mqtt.port", *settings.mqtt.address, socket.SOCK_STREAM))
    return tuple(problem for problem in found if problem is not None)


def _memory() -> Problem | None:
    try:
        mmap.mmap(-1, START_BYTES).close()
    except OSError:
        text = f"too little memory to start: {START_BYTES >> 20} MB more cannot be had (ulimit -v?)"
        return Problem(where=_WHERE, key="", text=text)
    return None


def _address(key: str, host: str, port: int, kind: socket.SocketKind) -> Problem | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, kind) as probe:
            if kind is socket.SOCK_STREAM:
                # Connections of a daemon that has just ended must not keep the next one from starting.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            if kind is socket.SOCK_STREAM:
                probe.listen(1)
    except OSError as error:
        transport = "UDP" if kind is socket.SOCK_DGRAM else "TCP"
        text = f"cannot listen on {host} port {port} ({transport}): {error.strerror}"
        return Problem(where=_WHERE, key=key, text=text)
    return None


def _log_file(path: Path | None) -> Problem | None:
    if path is None or os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        return None
    return Problem(where=_WHERE, key="log.file", text=f"{path} cannot be written by this user")


def _data_dir(path: Path) -> Problem | None:
    """Tries the folder, or the nearest one above it that exists, by making a file in it."""
    folder = path.absolute()
    try:
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir():
            text = f"{folder} is not a directory"
        else:
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(b"\0")
                return None
    except OSError as error:
        text = f"{folder} cannot be written: {error.strerror}"
    return Problem(where=_WHERE, key="node.data_dir", text=text)
