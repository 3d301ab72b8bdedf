"""What subscribers have, beside what the books have: records that were published after the moment to which
the books were put back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sidecar.cli.output import print_table, printable

SHOWN_MAX = 100  # on a terminal; --json has all

JsonLinesSinks = Annotated[
    list[Path] | None,
    typer.Option("--json-lines", metavar="FILE", help="A subscriber's records, one per line."),
]
SqliteSinks = Annotated[
    list[Path] | None, typer.Option("--sqlite", metavar="FILE", help="A subscriber's SQLite file.")
]

# Of tenant and node: the last number of each epoch that the books have; None: it is over, and all are there.
Known = Mapping[tuple[str, str], Mapping[str, int | None]]


class SinkError(Exception):
    """It cannot be read."""


def records_of(json_lines: Iterable[Path], sqlite: Iterable[Path]) -> Iterator[dict[str, Any]]:
    import sqlite3
    from contextlib import closing

    for path in json_lines:
        try:
            with path.open("rb") as lines:
                for line in lines:
                    if line.endswith(b"\n"):  # else it is being written
                        yield json.loads(line)
        except (OSError, ValueError) as error:
            raise SinkError(f"{path}: {error}") from error
    for path in sqlite:
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
                for (text,) in connection.execute(
                    "SELECT record FROM sidecar_cdrs ORDER BY node, epoch, seq"
                ):
                    yield json.loads(text)
        except (sqlite3.Error, ValueError) as error:
            raise SinkError(f"{path}: {error}") from error


def not_known(records: Iterable[dict[str, Any]], known: Known) -> Iterator[dict[str, Any]]:
    """Of those nodes what the books cannot have, each once."""
    seen: set[str] = set()
    for record in records:
        heads = known.get((record["tenant"], record["node"]))
        if heads is None or record["message_id"] in seen:
            continue
        head = heads.get(record["store_epoch"], 0)
        if head is not None and record["seq"] > head:
            seen.add(record["message_id"])
            yield record


def show(records: Sequence[dict[str, Any]]) -> None:
    if not records:
        return
    print_table(
        ("node", "epoch", "number>", "call", "rev>", "account", "ended", "origin", "detail", "sold for"),
        [_row(one) for one in records[:SHOWN_MAX]],
    )
    if len(records) > SHOWN_MAX:
        typer.echo(f"and {len(records) - SHOWN_MAX} more: --json shows them")


def _row(record: dict[str, Any]) -> tuple[object, ...]:
    sold = " + ".join(
        f"{charge['total']} {charge['currency']}"
        for charge in record["charges"]
        if charge["side"] == "sell" and charge["total"] is not None
    )
    names = ("call_id", "revision", "account", "ended_at", "hangup_origin", "detail")
    shown = (printable(str(record[name])) for name in names)
    return printable(record["node"]), record["store_epoch"][:8], record["seq"], *shown, sold
