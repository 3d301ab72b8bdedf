"""`sidecar store`: the database of nodes whose books are in PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sidecar.cli.daemon import ConfigOption, JsonOption, settings_of
from sidecar.cli.output import Exit, fail, print_json

app = typer.Typer(help="The database of nodes whose books are in PostgreSQL.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """One command is a group too."""


@app.command("prepare")
def prepare(
    dsn_file: Annotated[
        Path | None,
        typer.Option(
            help="A file with the connection string of who owns the tables, or is to own them.",
            show_default="store.dsn_file",
        ),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Make the tables, or bring them to the schema of this version, and give the roles sidecar_node and
    sidecar_reader, where the server has them, their rights. A node whose user owns the tables does it itself
    at its start. May be repeated; no node may run that is of an older version."""
    try:
        from sidecar.adapters.postgresql.dsn import read_dsn
        from sidecar.adapters.postgresql.migrations import SCHEMA_VERSION
        from sidecar.adapters.postgresql.migrations import prepare as made
    except ImportError as error:
        fail(Exit.USAGE, f"{error}: pip install 'sip-billing-sidecar[node,postgresql]'", as_json=as_json)
    from sidecar.adapters.store.store import StoreError

    file = dsn_file or settings_of(config, as_json=as_json).store.dsn_file
    if file is None:
        fail(Exit.USAGE, "give --dsn-file, or set store.dsn_file", as_json=as_json)
    try:
        before = made(read_dsn(file))
    except StoreError as error:
        fail(Exit.NO, str(error), as_json=as_json)
    if as_json:
        print_json({"schema_before": before, "schema": SCHEMA_VERSION})
    else:
        typer.echo(f"schema {SCHEMA_VERSION}, before {before or 'none'}")
