"""The pages of `sidecar reference`, made of the declarations themselves; two are written by hand.

Each is also a Markdown file in `sidecar/reference/`, to be read and linked to without the program. A test
holds the files against what is made here; `python -m sidecar.cli.reference_pages` writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from sidecar.adapters.deck_files import MEANINGS, files, template, workbook
from sidecar.adapters.deck_files.columns import ROWS_MAX
from sidecar.adapters.metrics import METRICS
from sidecar.cli.output import EXIT_MEANINGS, RUN_ENDS
from sidecar.cli.reference import Topic
from sidecar.config import reference as settings_reference
from sidecar.core.windows import DAYS, EXAMPLES
from sidecar.wire import reference as record_reference
from sidecar.wire.control import ERROR_MEANINGS
from sidecar.wire.reference import table
from sidecar.wire.schema import cdr_schema

FOLDER = Path(__file__).resolve().parent.parent / "reference"


class Page(NamedTuple):
    markdown: Callable[[], str]
    values: Callable[[], Any] | None = None  # for --json; none: the Markdown as text


def text(topic: Topic) -> str:
    made = PAGES.get(topic)
    return made.markdown() if made is not None else (FOLDER / f"{topic}.md").read_text(encoding="utf-8")


def values(topic: Topic) -> Any:
    made = PAGES.get(topic)
    return made.values() if made is not None and made.values is not None else {"markdown": text(topic)}


_METRICS = """\
# Metrics

`http://<metrics.listen>/metrics`, for Prometheus. A counter has `_total` after its name, a histogram
`_bucket`, `_sum` and `_count`. `sidecar reference --file alerts.yml` prints alert rules (for a job named
`sidecar`; `sidecar reference runbook` says what to do), `--file dashboard.json` a dashboard for Grafana.
No label holds a phone number or an address; one metric alone has accounts,
`sidecar_waived_money`.
"""
_DECKS = """\
# Rate decks

A deck is a CSV, XLSX, XLS or ODS file, its columns in any order, named in the first row; lists with other
columns: `sidecar reference templates`. One bad row refuses the deck, and every error is listed with row and
column. The longest prefix wins. `steps` has prices in order of
time: `0:0.2/60/60;60:0.1/60/1` is 0.2 per 60 s in increments of 60 s, and from second 60 on 0.1 per 60 s by
the second. Prices by the time of day: `sidecar reference windows`.
"""
_TEMPLATES = """\
# Templates of price lists

`sidecar deck import FILE` reads a list by a template: one of those below, by `--template NAME`, or a TOML
file of one's own, by its path. Without `--template` the file is read by the template that knows most of
its columns, and it is said which, and what was taken for what; where two readings are possible the
command asks, with exit code 2. `--map OURS=THEIRS` and `--set KEY=VALUE` change a template for one
reading; `--save-template` keeps that. `--dry-run` shows how the first rows are read, and counts. `sidecar
deck templates NAME` prints a template to copy.

    prefix_strip = ["+", "00"]
    dates = "DD/MM/YYYY"
    [columns]
    prefix = ["Code", "Dial Code*"]
    price = "Rate (EUR/min)"
    increments = "Billing"
    [values]
    currency = "EUR"

CSV may be UTF-8, UTF-16 or Windows-1252, with any of `, ; tab |` between the columns, a `sep=` line,
packed as gz or as zip with one file; workbooks are XLSX, XLS and ODS, with the values that formulas last
came to. A column of dates is read by the day first or the month first as one of its dates proves; else
`dates` has to say so. Prices may have a currency, thousands, a decimal comma (a comma that could be
either is refused) or an exponent; what has more decimals than `decimals` is rounded, and counted. A row
that is blocked is no row for nothing: it refuses the call. Rows of one prefix with `days`, `hours`,
`period` or `step_start_s` are one price.

A file is at most {file_mib} MiB (a workbook {sheet_mib} MiB, read in a process with {memory_mib} MiB) and
{rows} rows of {columns} columns. One cause is named once, with file, sheet, row, column and the words of
the cell.
"""
_WINDOWS = """\
# Prices by the time of day

A step of a deck's `steps` may have several prices, `price/per_s/increment_s` each, with `|` between them.
What follows an `@` is the window in which a price holds. The first window that holds when an increment
begins decides; the one price without a window holds in all other times.

    0:0.3/60/60@Mo-Fr 08:00-18:00 Europe/Berlin|0.2/60/60

A window is `DAYS FROM-TO ZONE`. Days are {days}, alone, as a run, or with commas between them. Times are of
the 24-hour clock; the start is in the window, the end is not. Days or times may be left out, not both. The
zone is a name of the tz database. A window that ends before it begins lasts into the next day. An hour that
the clock skips in spring is in no window; one that it shows twice is in its window twice.
"""
_ERRORS = """\
# Exit codes and errors

A command says what is wrong on standard error; with `--json` it is `{"error": {"exit": ..., "message":
...}}`. Mistakes in a settings file, a profile or a deck are all shown at once, with file, line and key, or
row and column. What callers are told when a call is refused or ended: `sidecar reference hangups`.
"""


def _page(head: str, *tables: Iterator[str]) -> str:
    return "\n".join((head, "\n\n".join("\n".join(one) for one in tables))) + "\n"


def _metrics() -> str:
    rows = (
        (f"`{one.name}`", one.kind, ", ".join(f"`{label}`" for label in one.labels) or "–", one.meaning)
        for one in METRICS
    )
    return _page(_METRICS, table(("metric", "kind", "labels", "meaning"), rows))


def _decks() -> str:
    rows = ((f"`{name}`", said) for name, said in MEANINGS.items())
    return _page(_DECKS, table(("column", "meaning"), rows))


def _templates() -> str:
    head = _TEMPLATES.format(
        file_mib=files.FILE_BYTES_MAX >> 20,
        sheet_mib=files.SHEET_BYTES_MAX >> 20,
        memory_mib=workbook.MEMORY_MAX >> 20,
        rows=f"{ROWS_MAX:,}",
        columns=f"{workbook.COLUMNS_MAX:,}",
    )
    words: dict[str, list[str]] = {}
    for word, action in template.STATUS_WORDS.items():
        words.setdefault(action, []).append(f"`{word}`")
    return _page(
        head,
        table(
            ("template", "of", "what it is"),
            ((f"`{name}`", one.kind, one.title) for name, one in template.shipped_templates().items()),
        ),
        table(("key", "meaning"), ((f"`{key}`", said) for key, said in template.KEYS.items())),
        table(
            ("column of a list", "meaning"),
            ((f"`{name}`", said) for name, said in (MEANINGS | template.MORE_FIELDS).items()),
        ),
        table(
            ("column of records", "meaning"),
            ((f"`{name}`", said) for name, said in template.RECORD_FIELDS.items()),
        ),
        table(
            ("action", "words without a `[status]`"),
            ((f"`{one}`", ", ".join(all_)) for one, all_ in words.items()),
        ),
    )


def _windows() -> str:
    rows = ((f"`{window}`", said) for window, said in EXAMPLES.items())
    return _page(_WINDOWS.format(days=", ".join(DAYS)), table(("window", "holds"), rows))


def _errors() -> str:
    exits = ((str(code.value), said) for code, said in EXIT_MEANINGS.items())
    answers = ((str(code.value), code.name, said) for code, said in ERROR_MEANINGS.items())
    return _page(
        _ERRORS,
        table(("exit code", "meaning"), exits),
        table(("`sidecar run` ends with", "because"), iter(RUN_ENDS.items())),
        table(("error of the control socket", "name", "meaning"), answers),
    )


def _error_values() -> Any:
    return {
        "exit": {str(code.value): said for code, said in EXIT_MEANINGS.items()},
        "run": RUN_ENDS,
        "control_socket": {str(code.value): said for code, said in ERROR_MEANINGS.items()},
    }


def _commands() -> str:
    every = list(commands())
    parts = [
        _page(
            "# The command line\n", table(("command", ""), ((f"`{one.usage}`", one.about) for one in every))
        )
    ]
    for one in every:
        parts.append(f"## {one.name}\n\n{one.help}\n")
        if one.options:
            parts.append("\n".join(table(("option", "meaning"), one.options)) + "\n")
    return "\n".join(parts)


class Command(msgspec.Struct, frozen=True, kw_only=True):
    name: str  # `sidecar cdr show`
    usage: str  # with its arguments
    about: str  # the first sentence of its help
    help: str
    options: list[tuple[str, str]]


def commands() -> Iterator[Command]:
    """Every command, as typer knows it."""
    from typer.main import get_command

    from sidecar.cli import app

    yield from _commands_below("sidecar", get_command(app))


def _commands_below(name: str, command: Any) -> Iterator[Command]:
    for word, child in getattr(command, "commands", {}).items():
        yield from _commands_below(f"{name} {word}", child)
    if hasattr(command, "commands"):
        return
    said = " ".join((command.help or "").split())
    arguments = [_argument(one) for one in command.params if one.param_type_name == "argument"]
    yield Command(
        name=name,
        usage=" ".join((name, *arguments)),
        about=said.split(". ")[0].rstrip(".") + ".",
        help=said,
        options=[
            (", ".join(f"`{text}`" for text in (*one.opts, *one.secondary_opts)), one.help or "")
            for one in command.params
            if one.param_type_name == "option"
        ],
    )


def _argument(one: Any) -> str:
    name = (one.metavar or one.name.upper()) + (" ..." if one.nargs == -1 else "")
    return name if one.required else f"[{name}]"


PAGES: Mapping[Topic, Page] = {
    Topic.RECORD: Page(record_reference.record, cdr_schema),
    Topic.HANGUPS: Page(record_reference.hangups),
    Topic.SETTINGS: Page(settings_reference.markdown, settings_reference.values),
    Topic.DECKS: Page(_decks, lambda: MEANINGS),
    Topic.TEMPLATES: Page(_templates, lambda: template.KEYS),
    Topic.WINDOWS: Page(_windows, lambda: EXAMPLES),
    Topic.METRICS: Page(_metrics, lambda: [one._asdict() for one in METRICS]),
    Topic.COMMANDS: Page(_commands, lambda: list(commands())),
    Topic.ERRORS: Page(_errors, _error_values),
}


if __name__ == "__main__":
    for topic in PAGES:
        (FOLDER / f"{topic}.md").write_text(text(topic), encoding="utf-8")
