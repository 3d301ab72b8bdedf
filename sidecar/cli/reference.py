"""`sidecar reference`: what there is to know by name."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from sidecar.cli.daemon import JsonOption
from sidecar.cli.output import print_json


class Topic(StrEnum):
    RECORD = "record"
    HANGUPS = "hangups"
    SETTINGS = "settings"
    DECKS = "decks"
    TEMPLATES = "templates"
    WINDOWS = "windows"
    METRICS = "metrics"
    RUNBOOK = "runbook"
    COMMANDS = "commands"
    ERRORS = "errors"
    MONEY = "money"
    OPERATION = "operation"
    SUBSCRIBER = "subscriber"
    FRAUD = "fraud"
    PAGE = "page"
    INSTALLATION = "installation"


class File(StrEnum):
    ALERTS = "alerts.yml"
    DASHBOARD = "dashboard.json"


ABOUT = {
    Topic.RECORD: "every field of the CDR; with --json its JSON Schema",
    Topic.HANGUPS: "who ended a call and why, and what each side is told",
    Topic.SETTINGS: "every setting: type, default, bound, meaning",
    Topic.DECKS: "the columns of a rate deck, and its steps",
    Topic.TEMPLATES: "how price lists and records of carriers are read",
    Topic.WINDOWS: "how a price by the time of day is written",
    Topic.METRICS: "what Prometheus reads",
    Topic.RUNBOOK: "each alert: its cause, what to look at, what is promised meanwhile; --file: the rules",
    Topic.COMMANDS: "every command with its options",
    Topic.ERRORS: "exit codes, and errors of the control socket",
    Topic.MONEY: "how a charge comes about, margins, disputes",
    Topic.OPERATION: "how the node behaves: routes, gateways, limits, transfers, floods",
    Topic.SUBSCRIBER: "taking every record once: what to set, what brokers lose, replays",
    Topic.FRAUD: "fraud rules: what they count and do, how they are tried, examples",
    Topic.PAGE: "the page for operators: who may see and do what, proxies, bounds",
    Topic.INSTALLATION: "the package, the unit, upgrades",
}


def reference(
    topic: Annotated[Topic | None, typer.Argument(help="Without one: the list of topics.")] = None,
    file: Annotated[
        File | None, typer.Option(help="Print a file for Prometheus or Grafana instead.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """What there is to know by name, as Markdown: fields of the record, settings, metrics, commands."""
    from sidecar.cli import reference_pages

    if file is not None:
        typer.echo((reference_pages.FOLDER / file).read_text(encoding="utf-8"), nl=False)
    elif topic is None and as_json:
        print_json(ABOUT)
    elif topic is None:
        typer.echo("\n".join(f"{name.value:<12} {about}" for name, about in ABOUT.items()))
    elif as_json:
        print_json(reference_pages.values(topic))
    else:
        typer.echo(reference_pages.text(topic), nl=False)
