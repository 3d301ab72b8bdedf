"""Asking the running daemon: which one, what it answered, and how a refusal becomes an exit code."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidecar.adapters.control_client import ControlClient, DaemonUnreachableError
from sidecar.cli.output import Exit, fail
from sidecar.wire.control import SOCKET_NAME, CommandError, ErrorCode

if TYPE_CHECKING:
    from sidecar.config import Settings

SocketOption = Annotated[
    Path | None,
    typer.Option("--socket", help="The daemon's control socket, instead of the settings' data_dir."),
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="The settings file of the daemon.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Daemon:
    """The connection of one command. Every refusal ends the command with its exit code."""

    def __init__(self, socket: Path | None, config: Path | None, as_json: bool) -> None:
        self._as_json = as_json
        self._client = ControlClient(socket_path(socket, config, as_json=as_json))

    def __enter__(self) -> Daemon:
        try:
            self._client.__enter__()
        except DaemonUnreachableError as error:
            fail(Exit.UNREACHABLE, str(error), as_json=self._as_json)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.__exit__()

    def ask(self, method: str, **params: object) -> Any:
        """The result. Parameters that are None are left out."""
        given = {name: value for name, value in params.items() if value is not None}
        try:
            return self._client.call(method, given)
        except CommandError as error:
            exit_code = Exit.USAGE if error.code is ErrorCode.INVALID_PARAMS else Exit.NO
            fail(exit_code, error.text, as_json=self._as_json)
        except DaemonUnreachableError as error:
            fail(Exit.UNREACHABLE, str(error), as_json=self._as_json)


def ask(socket: Path | None, config: Path | None, as_json: bool, method: str, **params: object) -> Any:
    """One question to the daemon."""
    with Daemon(socket, config, as_json) as daemon:
        return daemon.ask(method, **params)


def socket_path(socket: Path | None, config: Path | None, *, as_json: bool = False) -> Path:
    """Where the daemon of these settings has its socket. Only `node.data_dir` is looked at: whether all else
    is right is the daemon's business, and decks may be large."""
    return socket if socket is not None else data_dir(config, as_json=as_json) / SOCKET_NAME


def data_dir(config: Path | None, environ: Mapping[str, str] = os.environ, *, as_json: bool = False) -> Path:
    """Where the node of these settings keeps its journal."""
    return settings_of(config, environ, as_json=as_json).node.data_dir


def settings_of(
    config: Path | None, environ: Mapping[str, str] = os.environ, *, as_json: bool = False
) -> Settings:
    """The plain settings, without what only a start needs to look at: decks, profile."""
    from msgspec.structs import replace

    from sidecar.config import places
    from sidecar.config.layers import Effective, environment_layer, file_layer
    from sidecar.config.problems import Findings
    from sidecar.config.source import empty_document, read_document

    findings = Findings()
    is_system = config is None and places.SYSTEM_SETTINGS.exists()
    file = places.SYSTEM_SETTINGS if is_system else config
    document = empty_document() if file is None else read_document(file, findings)
    if document is None:
        fail(Exit.USAGE, "\n".join(map(str, findings.errors)), as_json=as_json)
    effective = Effective([environment_layer(environ, findings), file_layer(document, findings)])
    settings = effective.settings
    if is_system and not effective.is_given("node.data_dir"):
        return replace(settings, node=replace(settings.node, data_dir=places.SYSTEM_DATA_DIR))
    return settings


def operator_name() -> str:
    """Who gives this command, as the record will name him: the login behind sudo, else the user."""
    import getpass

    return os.environ.get("SUDO_USER") or getpass.getuser()
