"""The `sidecar` command. One module per group of commands; what is slow to import is imported by the command
that needs it, so that `sidecar --help` is quick.

What exit codes mean is in `output.Exit`.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from sidecar.cli import (
    accounts,
    audit,
    backup,
    calls,
    cost,
    dead_letters,
    deck,
    doctor,
    entries,
    explain,
    export_settings,
    handover,
    journal,
    node,
    policy,
    reconcile,
    records,
    reference,
    rerate,
    retention,
    start,
    store,
    subscribe,
    tokens,
    users,
    web,
)
from sidecar.cli.output import EXIT_MEANINGS

app = typer.Typer(
    name="sidecar",
    help="A billing sidecar for SIP: who ended each call, why, and what it costs, over MQTT.",
    epilog=f"Exit codes: {'; '.join(f'{code.value} {said}' for code, said in EXIT_MEANINGS.items())}.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        from sidecar.cli.version import version_text

        typer.echo(version_text())
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Ours and the engine's.")
    ] = False,
) -> None:
    """Options of `sidecar` itself."""


app.command("run")(start.run)
app.command("check")(start.check)
app.command("subscribe")(subscribe.subscribe)
app.command("web")(web.web)
app.command("cost")(cost.cost)
app.command("rerate")(rerate.rerate)
app.command("doctor")(doctor.doctor)
app.command("export-settings")(export_settings.export_settings)
app.command("reference")(reference.reference)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.add_typer(calls.app, name="call")
records.app.command("explain")(explain.explain)
records.app.command("export")(handover.export)
records.app.command("verify")(handover.verify)
records.app.command("summary")(handover.summary)
records.app.command("reconcile")(reconcile.reconcile)
app.add_typer(records.app, name="cdr")
app.add_typer(node.app, name="node")
app.add_typer(journal.app, name="journal")
app.add_typer(store.app, name="store")
app.add_typer(dead_letters.app, name="dead-letter")
app.add_typer(accounts.app, name="account")
for word, group in entries.APPS.items():
    app.add_typer(group, name=word)
app.add_typer(audit.app, name="audit")
app.add_typer(policy.app, name="policy")
app.add_typer(deck.app, name="deck")
app.add_typer(retention.app, name="retention")
app.add_typer(users.app, name="user")
app.add_typer(tokens.app, name="token")


def main() -> None:
    """The entry point. A reader that goes away (`sidecar cdr tail | head`) is no error."""
    try:
        app()
    except BrokenPipeError:
        # What is still buffered would fail again when the interpreter flushes it.
        sys.stdout = None
        raise SystemExit(0) from None
