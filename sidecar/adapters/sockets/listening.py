"""Where others connect to: an address, or the path of a unix socket, whose mode is the only door: 0600, or
0660 for a group."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

BACKLOG = 128
PATH_BYTES_MAX = 107  # sun_path of Linux, without its closing zero


class ListenError(Exception):
    """It cannot be listened on. The text says why and what to do."""


def listening(place: tuple[str, int] | Path, group: int | None, setting: str) -> socket.socket:
    """`group`: of whom may open a path, too. Raises ListenError."""
    if isinstance(place, Path):
        return at_path(place, group, setting)
    return at_address(*place, setting)


def at_address(host: str, port: int, setting: str) -> socket.socket:
    """Port 0 takes a free one. Raises ListenError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            advice = "is in use: end what listens there, or choose another port (0 takes a free one)"
        else:
            advice = f"cannot be listened on: {error.strerror or error}"
        raise ListenError(f"{setting} {host}:{port} {advice}") from None


def at_path(path: Path, group: int | None, setting: str) -> socket.socket:
    """`group`: its number; whoever is in it may connect, too. Raises ListenError."""
    if len(os.fsencode(path)) > PATH_BYTES_MAX:
        raise ListenError(
            f"{path}: the path of a socket has at most {PATH_BYTES_MAX} bytes: choose a shorter {setting}"
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            if _is_served(path):
                raise ListenError(f"{path}: a sidecar is already running there (`sidecar node status`)")
            path.unlink()  # left behind by a daemon that was killed
        # Linux takes the mode of the name from the socket, so there is no moment at which others could
        # connect.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(os.fsencode(path))
        if group is not None:
            _give(path, group)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ListenError(f"{path}: {error.strerror}: is {setting} writable?") from error
    except ListenError:
        listener.close()
        raise
    return listener


def _give(path: Path, group: int) -> None:
    """The group before the mode: no other group may connect, not even for a moment."""
    try:
        os.chown(path, -1, group)
        path.chmod(0o660)
    except OSError as error:
        path.unlink()
        raise ListenError(
            f"{path}: cannot be given to group {group} of control.group ({error.strerror}):"
            f" only root, or a user in that group, can"
        ) from error


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fsencode(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # a full backlog, say: somebody is there
    return True
