"""`sidecar store`: the database of nodes whose books are in PostgreSQL."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sidecar.cli.daemon import ConfigOption, JsonOption, OperatorOption, ReasonOption, is_sqlite, settings_of
from sidecar.cli.output import Exit, fail, print_json, print_table, printable
from sidecar.cli.sinks import SHOWN_MAX, JsonLinesSinks, SinkError, SqliteSinks, not_known, records_of, show

app = typer.Typer(help="The database of nodes whose books are in PostgreSQL.", no_args_is_help=True)


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


@app.command("compare")
def compare(
    json_lines: JsonLinesSinks = None,
    sqlite: SqliteSinks = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show what subscribers have and the database has not: once it was put back (a dump, a base backup with
    its log, a standby that was behind), the records that nodes had published after that moment. Exit code 1
    where there are any. Nodes may run."""
    import socket

    from sidecar.adapters.store.store import StoreError
    from sidecar.config import node_name
    from sidecar.wiring.journal import published_heads

    if not json_lines and not sqlite:
        fail(Exit.USAGE, "name a subscriber's sink: --json-lines or --sqlite", as_json=as_json)
    settings = settings_of(config, as_json=as_json)
    if is_sqlite(config, as_json):
        fail(
            Exit.USAGE, "the books of this node are in a journal: `sidecar restore` shows it", as_json=as_json
        )
    try:
        known = published_heads(settings, node_name(settings, socket.gethostname()))
        later = list(not_known(records_of(json_lines or (), sqlite or ()), known))
    except StoreError as error:
        fail(Exit.UNREACHABLE, str(error), as_json=as_json)
    except SinkError as error:
        fail(Exit.USAGE, str(error), as_json=as_json)
    if as_json:
        print_json({"published_later": later})
    else:
        show(later)
        typer.echo(f"{len(later)} records were published, and are not in the database")
    if later:
        raise typer.Exit(Exit.NO.value)


class From(StrEnum):
    SQLITE = "sqlite"


class To(StrEnum):
    POSTGRESQL = "postgresql"


@app.command("migrate")
def migrate(
    source: Annotated[From, typer.Option("--from", help="Where they are: the data directory's journal.")],
    target: Annotated[To, typer.Option("--to", help="Where they go: the database of store.dsn_file.")],
    dsn_file: Annotated[
        Path | None,
        typer.Option(
            help="A file with the connection string of who owns the tables; for a journal of which a part was"
            " archived.",
            show_default="store.dsn_file",
        ),
    ] = None,
    operator: OperatorOption = "",
    text: ReasonOption = "",
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Move the whole history of this node: records, ledger, balances, accounts, open calls, audit, outbox.
    The node must not run, and its settings name the database (store.engine, store.dsn_file). All of it is
    there afterwards, as totals of both ends show, or nothing was changed. The node goes on with its numbers
    in its epoch. The journal stays as journal.db.moved. Given again it says that it is done."""
    import socket

    from sidecar.adapters.store.store import StoreError
    from sidecar.config import node_name
    from sidecar.core.audit import Change, Operator
    from sidecar.wiring.moving import move_to_postgresql

    del source, target  # there is one of each
    settings = settings_of(config, as_json=as_json)
    node = node_name(settings, socket.gethostname())
    change = Change(operator=Operator(operator, os.getuid()), action="store.migrate", subject=node, text=text)
    try:
        moved = move_to_postgresql(settings, node, change, dsn_file)
    except StoreError as error:
        fail(Exit.NO, str(error), as_json=as_json)
    if as_json:
        print_json(moved)
        return
    if moved.found is None:
        typer.echo(
            f"done before: epoch {moved.epoch} of node {moved.node} is in the database. Nothing was changed"
        )
        return
    counts = [(name, count, moved.found.counts[name]) for name, count in moved.left.counts.items()]
    sums = [(name, f"{amount:f}", f"{moved.found.sums[name]:f}") for name, amount in moved.left.sums.items()]
    print_table(
        ("total", "sqlite>", "postgresql>"),
        [(printable(name), mine, its) for name, mine, its in (*counts, *sums[:SHOWN_MAX])],
    )
    if len(sums) > SHOWN_MAX:
        typer.echo(f"and {len(sums) - SHOWN_MAX} more sums, which are the same too: --json shows them")
    typer.echo(f"moved: node {moved.node} goes on in epoch {moved.epoch}")
