"""Asking the running daemon: which one, what it answered, and how a refusal becomes an exit code."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidecar.adapters.control_client import ANSWER_S_MAX, ControlClient, DaemonUnreachableError
from sidecar.cli.output import Exit, fail
from sidecar.wire.control import RESTART_ANSWER_S_MAX, SOCKET_NAME, CommandError, ErrorCode

if TYPE_CHECKING:
    from sidecar.cli.journal_client import AtRest
    from sidecar.config import Settings

SocketOption = Annotated[
    Path | None,
    typer.Option("--socket", help="The daemon's control socket, instead of the settings' data_dir."),
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="The settings file of the daemon.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
OperatorOption = Annotated[
    str,
    typer.Option(
        help="Who does it, as it will be noted.",
        show_default="the user",
        callback=lambda name: name or operator_name(),
    ),
]
NO_JOURNAL = "the books of this node are in PostgreSQL (store.engine)"
ReasonOption = Annotated[str, typer.Option("--text", "--reason", help="Why, for the audit table.")]


class Daemon:
    """The connection of one command. Every refusal ends the command with its exit code."""

    def __init__(
        self,
        socket: Path | None,
        config: Path | None,
        as_json: bool,
        *,
        else_journal: bool = False,
        else_try: bool = False,
        answer_s_max: float = ANSWER_S_MAX,
    ) -> None:
        """Where none runs and no socket was named: `else_journal`, its journal is asked instead; `else_try`,
        what a start would put in force."""
        self._as_json = as_json
        self._client: ControlClient | AtRest = ControlClient(
            socket_path(socket, config, as_json=as_json), answer_s_max=answer_s_max
        )
        self._config = config
        self._instead = "" if socket is not None else "journal" if else_journal else "try" if else_try else ""

    def __enter__(self) -> Daemon:
        try:
            self._client.__enter__()
        except DaemonUnreachableError as error:
            if not self._instead:
                fail(Exit.UNREACHABLE, str(error), as_json=self._as_json)
            self._ask_instead(str(error))
        return self

    def _ask_instead(self, unreachable: str) -> None:
        from socket import gethostname

        from sidecar.adapters.store.store import StoreError
        from sidecar.cli.journal_client import JournalClient, TrialClient
        from sidecar.config import ConfigError, node_name
        from sidecar.ports import DeckError

        is_trial = self._instead == "try"
        settings = settings_of(self._config, as_json=self._as_json)
        self._client = (
            TrialClient(self._config)
            if is_trial
            else JournalClient(settings, node_name(settings, gethostname()))
        )
        try:
            self._client.__enter__()
        except (ConfigError, DeckError) as error:
            fail(Exit.USAGE, str(error), as_json=self._as_json)
        except StoreError as error:
            fail(Exit.UNREACHABLE, f"{unreachable}\n{error}", as_json=self._as_json)

    @property
    def is_running(self) -> bool:
        return isinstance(self._client, ControlClient)

    def __exit__(self, *_: object) -> None:
        self._client.__exit__()

    def ask(self, method: str, **params: object) -> Any:
        """The result. Parameters that are None are left out."""
        given = {name: value for name, value in params.items() if value is not None}
        try:
            return self._client.call(method, given)
        except CommandError as error:
            is_wrong = error.code in (ErrorCode.INVALID_PARAMS, ErrorCode.WRONG_SETTINGS)
            exit_code = Exit.USAGE if is_wrong else Exit.NO
            fail(exit_code, error.text, as_json=self._as_json)
        except DaemonUnreachableError as error:
            fail(Exit.UNREACHABLE, str(error), as_json=self._as_json)


def ask(socket: Path | None, config: Path | None, as_json: bool, method: str, **params: object) -> Any:
    """One question to the daemon."""
    with Daemon(socket, config, as_json, answer_s_max=RESTART_ANSWER_S_MAX + 5) as daemon:
        return daemon.ask(method, **params)


def socket_path(socket: Path | None, config: Path | None, *, as_json: bool = False) -> Path:
    """Where the daemon of these settings has its socket. Only `node.data_dir` is looked at: whether all else
    is right is the daemon's business, and decks may be large."""
    return socket if socket is not None else data_dir(config, as_json=as_json) / SOCKET_NAME


def data_dir(config: Path | None, environ: Mapping[str, str] = os.environ, *, as_json: bool = False) -> Path:
    """Where the node of these settings keeps its journal."""
    return settings_of(config, environ, as_json=as_json).node.data_dir


def settings_of(
    config: Path | None,
    environ: Mapping[str, str] = os.environ,
    *,
    as_json: bool = False,
    command_line: Mapping[str, str] | None = None,
) -> Settings:
    """The plain settings, without what only a start needs to look at: decks, profile. With a `command_line`
    they are those of a process of its own, which does not begin with a wrong one."""
    from msgspec.structs import replace

    from sidecar.config import places
    from sidecar.config.layers import Effective, command_line_layer, environment_layer, file_layer
    from sidecar.config.problems import Findings
    from sidecar.config.source import empty_document, read_document

    findings = Findings()
    is_system = config is None and places.SYSTEM_SETTINGS.exists()
    file = places.SYSTEM_SETTINGS if is_system else config
    document = empty_document() if file is None else read_document(file, findings)
    if document is None:
        fail(Exit.USAGE, "\n".join(map(str, findings.errors)), as_json=as_json)
    given = command_line_layer(command_line or {}, findings)
    effective = Effective([given, environment_layer(environ, findings), file_layer(document, findings)])
    if command_line is not None and findings.errors:
        fail(Exit.USAGE, "\n".join(map(str, findings.errors)), as_json=as_json)
    settings = effective.settings
    if is_system and not effective.is_given("node.data_dir"):
        return replace(settings, node=replace(settings.node, data_dir=places.SYSTEM_DATA_DIR))
    return settings


def is_sqlite(config: Path | None, as_json: bool) -> bool:
    """Whether the journal is a file in the data directory."""
    from sidecar.config.settings import StoreEngine

    return settings_of(config, as_json=as_json).store.engine is StoreEngine.SQLITE


def sqlite_settings(config: Path | None, *, as_json: bool = False, what: str = "this command") -> Settings:
    """Those of a node whose journal is a file, which the command reads or writes itself: it ends where the
    books are in a database."""
    settings = settings_of(config, as_json=as_json)
    if not is_sqlite(config, as_json):
        fail(Exit.USAGE, f"{what} is for an SQLite journal only: {NO_JOURNAL}", as_json=as_json)
    return settings


def operator_name() -> str:
    """Who gives this command, as the record will name him: the login behind sudo, else the user."""
    import getpass

    return os.environ.get("SUDO_USER") or getpass.getuser()
