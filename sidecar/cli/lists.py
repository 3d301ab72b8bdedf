"""How a command reads a price list: its options, the reading, what it says of it. One for all commands, so
that `cost`, `rerate` and `deck diff` read a file exactly as `deck import` does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidecar.cli.output import Exit, fail, printable

if TYPE_CHECKING:
    from sidecar.adapters.deck_files import Choice, ListRead

TemplateOption = Annotated[
    str | None,
    typer.Option(
        "--template",
        metavar="NAME|FILE",
        help="How the file is written: one of `sidecar deck templates`, or a file of one's own.",
        show_default="guessed",
    ),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="OURS=THEIRS", help="Where a column is in the file. Repeatable."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="What holds for every row (`currency=EUR`), or a key of the template (`zone=Europe/Berlin`). "
        "Repeatable.",
    ),
]


def choice_of(
    template: str | None,
    columns: list[str] | None,
    values: list[str] | None,
    *,
    as_json: bool,
    **options: Any,
) -> Choice:
    """What the options say; `options` are further keys of a template, None or False where not given."""
    from sidecar.adapters.deck_files import Choice

    said: dict[str, Any] = {name: value for name, value in options.items() if value not in (None, False)}
    mapped: dict[str, Any] = dict(_pairs("--map", columns, as_json))
    if mapped:
        # A column's place where there is no header.
        said["columns"] = {
            name: int(one) if one.isdigit() and _headless(values) else one for name, one in mapped.items()
        }
    if values:
        said["values"] = dict(_pairs("--set", values, as_json))
    return Choice(template=template, options=said)


def read_file(file: Path, choice: Choice, *, as_json: bool) -> ListRead:
    """The list, or the end of the command with exit code 2 and all that is wrong."""
    from sidecar.adapters.deck_files import AmbiguousListError, DeckRefusedError, TemplateError, read_list

    try:
        return read_list(file, choice, destination_of)
    except (DeckRefusedError, TemplateError) as error:
        fail(Exit.USAGE, str(error), as_json=as_json)
    except AmbiguousListError as error:
        fail(Exit.USAGE, f"{file} {error}", as_json=as_json)


def said_of(read: ListRead) -> dict[str, object]:
    """What was taken for what, and the counts."""
    return {
        "template": f"{read.template}, guessed" if read.guessed else read.template,
        "columns": {ours: theirs for ours, theirs in read.took if read.template != "own" or ours != theirs},
        "notes": list(read.notes),
        "counts": read.counts,
    }


def print_read(read: ListRead, *, first: bool) -> None:
    """The same for people; with the first rows as they were read."""
    said = said_of(read)
    typer.echo(f"template   {said['template']}")
    if said["columns"]:
        took = "; ".join(f"{ours} = {theirs}" for ours, theirs in read.took)
        typer.echo(printable(f"columns    {took}"))
    for note in read.notes:
        typer.echo(printable(f"note       {note}"))
    typer.echo(f"counts     {', '.join(f'{name} {count}' for name, count in read.counts.items())}")
    for row, cells in read.first if first else ():
        typer.echo(printable(f"row {row:<6} " + ", ".join(f"{ours} {text}" for ours, text in cells.items())))


def destination_of(prefix: str) -> str:
    from sidecar.adapters.destinations import destination_name  # large, and seldom needed

    return destination_name(prefix)


def _headless(values: list[str] | None) -> bool:
    return "header=false" in (values or ())


def _pairs(option: str, given: list[str] | None, as_json: bool) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals:
            fail(Exit.USAGE, f"{option} {text}: not NAME=VALUE", as_json=as_json)
        found[name.strip()] = value
    return found
