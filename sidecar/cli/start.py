"""`sidecar run` and `sidecar check`: the daemon, and what a start would say."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from operator import add
from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli.daemon import ConfigOption, JsonOption, SocketOption
from sidecar.cli.output import Exit, fail, print_json, printable

if TYPE_CHECKING:
    from sidecar.config import Inputs
    from sidecar.config.problems import Problem

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting, such as sip.profile=demo. May be repeated."),
]


def run(
    config: ConfigOption = None,
    settings: SetOption = None,
    new: Annotated[
        bool,
        typer.Option(
            "--new", help="Begin with an empty journal, though the data directory had one that is gone."
        ),
    ] = False,
) -> None:
    """Run the daemon in the foreground. Its log, one JSON line per event, goes to standard error, or where
    log.file and log.to say; the event `ready` says where everything is. SIGTERM or Ctrl-C ends it: no new
    calls, live ones go on for node.drain_s or until a second one, then they are ended and recorded."""
    import asyncio

    from sidecar.adapters.broker import BrokerError
    from sidecar.adapters.logs import LogError, configure
    from sidecar.adapters.sockets.listening import ListenError
    from sidecar.adapters.store.store import FencedError, StoreAwayError, StoreError
    from sidecar.b2bua.hook import HookError
    from sidecar.config import ConfigError, load, machine
    from sidecar.ports import AccountError, DeckError
    from sidecar.wiring.files import inputs, log_place
    from sidecar.wiring.node import serve

    expected = (
        AccountError,
        BrokerError,
        ConfigError,
        DeckError,
        HookError,
        ListenError,
        StoreError,
    )
    try:
        given = inputs(command_line(settings), os.environ, config)
        loaded = load(given)
    except ConfigError as error:
        fail(Exit.UNREACHABLE if error.may_pass else Exit.USAGE, str(error))
    if problems := machine.problems(loaded.settings):
        fail(Exit.USAGE, "\n".join(map(str, problems)))
    try:
        writer = configure(loaded.settings.log.level.value, to=log_place(loaded.settings, os.environ))
    except LogError as error:
        fail(Exit.USAGE, str(error))
    errors: list[BaseException] = []
    restarts = False
    try:
        restarts = asyncio.run(serve(given, loaded, writer, begin_anew=new))
    except* expected as group:
        errors = _leaves(group)
    finally:
        writer.close()
    if errors:
        if any(isinstance(error, FencedError) for error in errors):
            fail(Exit.FENCED, "\n".join(map(str, errors)))
        may_pass = all(isinstance(error, StoreAwayError) for error in errors)
        fail(Exit.UNREACHABLE if may_pass else Exit.USAGE, "\n".join(map(str, errors)))
    if restarts:  # as the same process: it is the one that a service manager knows
        os.execv(sys.executable, [word for word in sys.orig_argv if word != "--new"])  # noqa: S606


def check(
    config: ConfigOption = None,
    settings: SetOption = None,
    machine: Annotated[
        bool,
        typer.Option(
            "--machine", help="Look at ports and the data directory too; not while the daemon runs."
        ),
    ] = False,
    against_running: Annotated[
        bool,
        typer.Option("--against-running", help="Say what a reload of the daemon would change, instead."),
    ] = False,
    as_json: JsonOption = False,
    socket: SocketOption = None,
) -> None:
    """Check settings, profile and decks whole, and say what is in force. Exit code 2 where a start would
    fail."""
    if against_running:
        from sidecar.cli.daemon import ask, operator_name
        from sidecar.cli.node import show_reload

        found = ask(socket, config, as_json, "node.reload", operator=operator_name(), dry_run=True)
        show_reload(found, as_json=as_json)
        return
    from msgspec.structs import replace

    from sidecar.config import report
    from sidecar.wiring.accounts import accounts_beside
    from sidecar.wiring.files import inputs
    from sidecar.wiring.journal import books_beside

    given = inputs(command_line(settings, as_json=as_json), os.environ, config)
    found = report.check(
        given,
        probe_machine=machine,
        beside=lambda loaded: tuple(map(add, accounts_beside(loaded), books_beside(loaded))),
    )
    if found.summary is not None:
        decks, wrong = _decks(given)
        found = replace(found, errors=wrong, summary=None if wrong else replace(found.summary, decks=decks))
    if as_json:
        print_json(
            {
                "errors": list(map(str, found.errors)),
                "warnings": list(map(str, found.warnings)),
                "settings": found.summary,
            }
        )
    else:
        for line in found.lines():
            typer.echo(printable(line))
    if found.errors:
        raise typer.Exit(Exit.USAGE.value)


def _decks(inputs: Inputs) -> tuple[dict[str, str], tuple[Problem, ...]]:
    from datetime import UTC, datetime

    from sidecar.adapters.deck_store import DeckStoreError
    from sidecar.config import load
    from sidecar.wiring.decks import decks_in_force

    try:
        return decks_in_force(load(inputs), datetime.now(UTC))
    except DeckStoreError as error:
        fail(Exit.USAGE, str(error))


def command_line(settings: list[str] | None, *, as_json: bool = False) -> Mapping[str, str]:
    given: dict[str, str] = {}
    for text in settings or ():
        key, equals, value = text.partition("=")
        if not equals:
            fail(Exit.USAGE, f"--set {text}: not KEY=VALUE", as_json=as_json)
        given[key.strip()] = value.strip()
    return given


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [
        leaf
        for one in group.exceptions
        for leaf in (_leaves(one) if isinstance(one, BaseExceptionGroup) else [one])
    ]
