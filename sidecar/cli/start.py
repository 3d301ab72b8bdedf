"""`sidecar run` and `sidecar check`: the daemon, and what a start would say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli.daemon import ConfigOption, JsonOption
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
    """Run the daemon in the foreground. Its log, one JSON line per event, goes to standard error; the event
    `ready` says where everything is. SIGTERM or Ctrl-C ends it: live calls are ended and recorded."""
    import asyncio

    from sidecar import wiring
    from sidecar.adapters.broker import BrokerError
    from sidecar.adapters.control import ControlSocketError
    from sidecar.adapters.logs import configure
    from sidecar.adapters.metrics import MetricsError
    from sidecar.adapters.sqlite import StoreError
    from sidecar.b2bua.hook import HookError
    from sidecar.config import ConfigError, load, machine
    from sidecar.ports import AccountError, DeckError

    expected = (
        AccountError,
        BrokerError,
        ControlSocketError,
        DeckError,
        HookError,
        MetricsError,
        StoreError,
    )
    try:
        given = wiring.inputs(_command_line(settings), os.environ, config)
        loaded = load(given)
    except ConfigError as error:
        fail(Exit.USAGE, str(error))
    if problems := machine.problems(loaded.settings):
        fail(Exit.USAGE, "\n".join(map(str, problems)))
    writer = configure(loaded.settings.log.level.value)
    errors: list[BaseException] = []
    try:
        asyncio.run(wiring.serve(given, loaded, writer, begin_anew=new))
    except* expected as group:
        errors = _leaves(group)
    finally:
        writer.close()
    if errors:
        fail(Exit.USAGE, "\n".join(map(str, errors)))


def check(
    config: ConfigOption = None,
    settings: SetOption = None,
    machine: Annotated[
        bool,
        typer.Option(
            "--machine", help="Look at ports and the data directory too; not while the daemon runs."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check settings, profile and decks whole, and say what is in force. Exit code 2 where a start would
    fail."""
    from msgspec.structs import replace

    from sidecar import wiring
    from sidecar.config import report

    inputs = wiring.inputs(_command_line(settings, as_json=as_json), os.environ, config)
    found = report.check(inputs, probe_machine=machine, beside=wiring.accounts_beside)
    if not found.errors and (wrong := _wrong_decks(inputs)):
        found = replace(found, errors=wrong, summary=None)
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


def _wrong_decks(inputs: Inputs) -> tuple[Problem, ...]:
    """Of those that commands have put in force."""
    from datetime import UTC, datetime

    from sidecar import wiring
    from sidecar.adapters.deck_store import DeckStoreError
    from sidecar.config import load

    try:
        return wiring.wrong_decks(load(inputs), datetime.now(UTC))
    except DeckStoreError as error:
        fail(Exit.USAGE, str(error))


def _command_line(settings: list[str] | None, *, as_json: bool = False) -> Mapping[str, str]:
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
