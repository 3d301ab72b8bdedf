"""What commands print: tables for people, JSON for programs, errors for both.

On a terminal wide enough a table is drawn by rich; elsewhere it is plain text in columns, never wrapped and
never cut. Text that came from the network is shown with its control characters escaped: it must not drive the
terminal.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from shutil import get_terminal_size
from typing import NoReturn, TextIO

import msgspec
import typer


class Exit(IntEnum):
    DONE = 0
    NO = 1
    USAGE = 2
    UNREACHABLE = 3
    FENCED = 4


EXIT_MEANINGS = {
    Exit.DONE: "done",
    Exit.NO: "no (no rate, not found, refused, a difference)",
    Exit.USAGE: "usage or bad input",
    Exit.UNREACHABLE: "no daemon answers",
    Exit.FENCED: "another node has taken over",
}

# How `sidecar run` ends, beside what any command may say.
RUN_ENDS = {
    "0": "SIGTERM or SIGINT ended it, calls and records first",
    "1": "a defect of ours: what is on standard error last; the next start recovers the calls",
    "2": "it did not start: settings, journal, addresses, broker; another start would not either",
    "3": "it did not start: nobody answers where its database is, or another process writes as this node;"
    " another start may",
    "4": "another node has taken over its books; the next start goes on in them",
    "by the signal": "SIGTERM before `ready`; SIGKILL at any time",
}


def fail(exit_code: Exit, text: str, *, as_json: bool = False) -> NoReturn:
    """Say what is wrong on standard error, and end."""
    if as_json:
        said = {"error": {"exit": exit_code.value, "message": text}}
        typer.echo(msgspec.json.encode(said).decode(), err=True)
    else:
        typer.echo("sidecar: " + printable(text, keep="\n"), err=True)
    raise typer.Exit(exit_code.value)


def open_text(path: Path) -> TextIO:
    """A file that the user asked for, to write; never through a link, which may lead anywhere: OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.fdopen(os.open(path, flags, 0o666), "w", encoding="utf-8", newline="")
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(error.errno, "is a link: nothing is written through one", str(path)) from None
        raise


def write_text(path: Path, text: str, *, as_json: bool = False) -> None:
    try:
        with open_text(path) as file:
            file.write(text)
    except OSError as error:
        fail(Exit.USAGE, f"{path}: {error.strerror}", as_json=as_json)


def print_json(value: object, *, one_line: bool = False) -> None:
    text = msgspec.json.encode(value)
    typer.echo((text if one_line else msgspec.json.format(text, indent=2)).decode())


def print_done(done: object, text: str, as_json: bool) -> None:
    """What was done: the whole answer, or a sentence."""
    if as_json:
        print_json(done)
    else:
        typer.echo(printable(text))


def printable(text: str, *, keep: str = "") -> str:
    r"""`text` with what is not printable as \xNN or \uNNNN."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.3f}"
        case _:
            return printable(str(value))


def moment(text: str | None) -> str | None:
    """A time of a record to the second, for tables: `2026-11-21 14:13:22Z`."""
    return None if text is None else f"{text[:19].replace('T', ' ')}Z"


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """A column whose name ends in `>` holds numbers: it is aligned to the right."""
    texts = [[cell(value) for value in row] for row in rows]
    names = [name.removesuffix(">") for name in columns]
    widths = [max(map(len, column)) for column in zip(names, *texts, strict=True)]
    # A table that is wider than the terminal reads better as long lines than folded in every cell.
    if sys.stdout.isatty() and sum(widths) + 2 * len(widths) <= get_terminal_size().columns:
        _print_rich(columns, texts, title)
        return
    if title:
        typer.echo(title)
    for line in (names, *texts):
        cells = (
            text.rjust(width) if name.endswith(">") else text.ljust(width)
            for name, text, width in zip(columns, line, widths, strict=True)
        )
        typer.echo("  ".join(cells).rstrip())


def print_fields(fields: Iterable[tuple[str, object]], *, title: str = "") -> None:
    """Names and values, one pair a line; values that are missing are left out."""
    print_table(("field", "value"), [(n, v) for n, v in fields if v is not None], title=title)


def print_said(said: Mapping[str, object], as_json: bool) -> None:
    """Named values as they are, one a line; in a table those that are missing are left out."""
    if as_json:
        print_json(said)
    else:
        print_fields((name, None if value is None else str(value)) for name, value in said.items())


def _print_rich(columns: Sequence[str], texts: Sequence[Sequence[str]], title: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False, collapse_padding=True
    )
    for name in columns:
        table.add_column(
            Text(name.removesuffix(">")), justify="right" if name.endswith(">") else "left", overflow="fold"
        )
    for row in texts:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)
