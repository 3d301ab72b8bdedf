"""What only the machine can tell: whether our addresses can be bound and the data directory written.

Asked at the start, before anything is opened, so that a port in use or a full disk is one clear error and not
a traceback from the middle of the start. Between this look and the real bind another process may still take
the port: then the bind itself reports it.
"""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

from sidecar.config.problems import Problem, Where
from sidecar.config.settings import Settings
from sidecar.core.terms import TransportName

_WHERE = Where("this machine")


def problems(settings: Settings) -> tuple[Problem, ...]:
    """Everything that would keep a start with these settings from succeeding here and now."""
    found = [_data_dir(settings.node.data_dir)]
    for transport, place in settings.sip.listeners():
        kind = socket.SOCK_DGRAM if transport is TransportName.UDP else socket.SOCK_STREAM
        found.append(_address(f"sip.listen_{transport.value}", *place, kind))
    found.append(_address("metrics.listen", *settings.metrics.listen, socket.SOCK_STREAM))
    if settings.mqtt.embedded:
        found.append(_address("mqtt.port", *settings.mqtt.address, socket.SOCK_STREAM))
    return tuple(problem for problem in found if problem is not None)


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
