"""`sidecar deck ...`: rate decks in the data directory, and which of them is in force. Needs no daemon; a
daemon that runs is told of an activation.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidecar.cli.daemon import ConfigOption, JsonOption, SocketOption, operator_name, socket_path
from sidecar.cli.output import Exit, fail, print_fields, print_json, print_table, printable

if TYPE_CHECKING:
    from sidecar.adapters.deck_files import Template
    from sidecar.adapters.deck_store import DeckStore
    from sidecar.core.tariff import Deck, Rate

app = typer.Typer(help="Rate decks: import, compare, put in force, take back.", no_args_is_help=True)

DeckArgument = Annotated[
    str, typer.Argument(help="A name in force, or the beginning of a revision (6 digits at least).")
]
NameArgument = Annotated[str, typer.Argument(help="The name that settings use for the deck.")]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000_000, help="At most so many.")]
RATE_COLUMNS = (
    *("prefix", "destination", "currency", "fee>", "steps", "from", "to", "max s>"),
    *("grace s>", "included s>", "minimum>", "blocked", "callers"),
)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="CSV, XLSX or ODS.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check only; exit code 0 if accepted.")] = False,
    activate_as: Annotated[
        str | None, typer.Option("--activate", metavar="NAME", help="Put it in force under this name.")
    ] = None,
    template: Annotated[
        Path | None, typer.Option("--template", metavar="FILE", help="A saved column template.")
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="OURS=THEIRS", help="Where a column is in the file. Repeatable."),
    ] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="OURS=VALUE", help="What holds for every row. Repeatable."),
    ] = None,
    delimiter: Annotated[str | None, typer.Option(help="Of the CSV file, if not a comma.")] = None,
    decimal_comma: Annotated[bool, typer.Option("--decimal-comma", help="0,05 is 0.05.")] = False,
    sheet: Annotated[str | None, typer.Option(help="Of the workbook, if not the first.")] = None,
    numeric_prefixes: Annotated[
        bool, typer.Option("--numeric-prefixes", help="Take prefixes stored as numbers as they are.")
    ] = False,
    save_template: Annotated[
        Path | None, typer.Option("--save-template", metavar="FILE", help="Keep these options for later.")
    ] = None,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Read a deck, whole or not at all, and keep it under its revision. Prefixes without a destination get
    the name of their country and region.
    """
    from sidecar.adapters.deck_files import DeckRefusedError, canonical_chunks, read_deck, template_text

    options: dict[str, Any] = {
        "columns": _pairs("--map", columns, as_json),
        "values": _pairs("--set", values, as_json),
        "delimiter": delimiter,
        "decimal_comma": decimal_comma,
        "sheet": sheet,
        "numeric_prefixes": numeric_prefixes,
    }
    used = _template(template, {name: value for name, value in options.items() if value}, as_json)
    try:
        deck = read_deck(file, used, _name_of)
    except DeckRefusedError as error:
        fail(Exit.USAGE, str(error), as_json=as_json)
    if save_template is not None:
        save_template.write_text(template_text(used), encoding="utf-8")
    said = _summary(deck)
    if not dry_run:
        said |= _keep(
            deck, canonical_chunks(deck), file, activate_as, _store(socket, config, as_json), as_json
        )
        if activate_as is not None:
            said["daemon"] = _tell_daemon(socket, config, activate_as, as_json)
    _say(said, as_json)


@app.command("list")
def list_(as_json: JsonOption = False, socket: SocketOption = None, config: ConfigOption = None) -> None:
    """Show the decks that were imported, and the names under which they are in force."""
    from sidecar.adapters.deck_store import DeckStoreError

    try:
        decks = _store(socket, config, as_json).decks()
    except DeckStoreError as error:
        fail(Exit.NO, str(error), as_json=as_json)
    if as_json:
        print_json(decks)
        return
    print_table(
        ("revision", "rates>", "imported", "source", "in force as"),
        [(one.revision[:12], one.rates, one.imported_at, one.source, ", ".join(one.names)) for one in decks],
    )


@app.command("show")
def show(
    deck: DeckArgument,
    number: Annotated[str | None, typer.Option(help="Only the rates that could apply to it now.")] = None,
    limit: LimitOption = 100,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Show the rates of a deck. With --number those that could apply, the one that does first; exit code 1
    where none does."""
    found = _stored(_store(socket, config, as_json), deck, as_json)
    rates = list(islice(found, limit))
    if number is not None:
        if not (number.isascii() and number.isdigit()):
            fail(Exit.USAGE, f"--number: {number!r} is not digits", as_json=as_json)
        rates = list(found.candidates(number, datetime.now(UTC)))
        if not rates:
            fail(Exit.NO, f"no prefix of deck {found.revision[:12]} begins {number}", as_json=as_json)
    if as_json:
        print_json({**_summary(found), "rates": [_fields(rate) for rate in rates]})
        return
    title = f"{found.revision}, {len(found)} rates"
    print_table(RATE_COLUMNS, [tuple(_fields(rate).values()) for rate in rates], title=title)


@app.command("diff")
def diff(
    before: DeckArgument,
    after: DeckArgument,
    limit: LimitOption = 100,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Show what changes from one deck to another, by prefix. Exit code 1 where something does."""
    from sidecar.core.deck_diff import deck_changes

    store = _store(socket, config, as_json)
    changes = deck_changes(_stored(store, before, as_json), _stored(store, after, as_json))
    rows = [
        ("new" if one.before is None else "gone" if one.after is None else "changed", one)
        for one in islice(changes, limit)
    ]
    more = sum(1 for _ in changes)
    if as_json:
        print_json(
            {
                "changes": [
                    {
                        "change": word,
                        "before": None if one.before is None else _fields(one.before),
                        "after": None if one.after is None else _fields(one.after),
                    }
                    for word, one in rows
                ],
                "not_shown": more,
            }
        )
    else:
        lines: list[tuple[object, ...]] = []
        for word, one in rows:
            lines += [
                (sign, word, *_fields(rate).values())
                for sign, rate in (("-", one.before), ("+", one.after))
                if rate is not None
            ]
        print_table(("", "change", *RATE_COLUMNS), lines)
        if more:
            typer.echo(f"and {more} more changes: --limit shows them")
    if rows:
        raise typer.Exit(Exit.NO.value)


@app.command("activate")
def activate(
    deck: DeckArgument,
    name: NameArgument,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Put a deck in force under a name, at once. Calls that are up keep the rates that they began with."""
    from sidecar.adapters.deck_store import DeckStoreError

    store = _store(socket, config, as_json)
    try:
        done = store.activate(name, store.find(deck), datetime.now(UTC))
    except DeckStoreError as error:
        fail(Exit.NO, str(error), as_json=as_json)
    said = {"name": name, "revision": done.revision, "in_force_since": done.at}
    _say(said | {"daemon": _tell_daemon(socket, config, name, as_json)}, as_json)


@app.command("rollback")
def rollback(
    name: NameArgument, as_json: JsonOption = False, socket: SocketOption = None, config: ConfigOption = None
) -> None:
    """Put in force what was in force under the name before."""
    from sidecar.adapters.deck_store import DeckStoreError

    try:
        done = _store(socket, config, as_json).rollback(name, datetime.now(UTC))
    except DeckStoreError as error:
        fail(Exit.NO, str(error), as_json=as_json)
    said = {"name": name, "revision": done.revision, "in_force_since": done.at}
    _say(said | {"daemon": _tell_daemon(socket, config, name, as_json)}, as_json)


def _store(socket: Path | None, config: Path | None, as_json: bool) -> DeckStore:
    from sidecar.adapters.deck_store import DeckStore

    return DeckStore(socket_path(socket, config, as_json=as_json).parent / "decks")


def _stored(store: DeckStore, text: str, as_json: bool) -> Deck:
    from sidecar.adapters.deck_files import DeckRefusedError, read_deck
    from sidecar.adapters.deck_store import DeckStoreError

    try:
        revision = store.find(text)
        deck = read_deck(store.path(revision))
    except (DeckStoreError, DeckRefusedError) as error:
        fail(Exit.NO, str(error), as_json=as_json)
    if deck.revision != revision:
        fail(Exit.NO, f"{store.path(revision)} was changed: it is deck {deck.revision} now", as_json=as_json)
    return deck


def _keep(
    deck: Deck, content: Any, file: Path, name: str | None, store: DeckStore, as_json: bool
) -> dict[str, object]:
    from sidecar.adapters.deck_store import DeckStoreError

    now = datetime.now(UTC)
    try:
        kept = store.put(deck.revision, content, rates=len(deck), source=file.name, at=now)
        if name is not None:
            store.activate(name, deck.revision, now)
    except DeckStoreError as error:
        fail(Exit.NO, str(error), as_json=as_json)
    except OSError as error:
        fail(Exit.USAGE, f"{error.filename}: {error.strerror}", as_json=as_json)
    return {"imported_at": kept.imported_at, "in_force_as": name}


def _template(path: Path | None, options: dict[str, Any], as_json: bool) -> Template:
    import msgspec

    from sidecar.adapters.deck_files import Template, TemplateError, read_template

    try:
        saved = Template() if path is None else read_template(path)
        for table in ("columns", "values"):
            options[table] = getattr(saved, table) | options.get(table, {})
        return msgspec.convert(msgspec.structs.asdict(saved) | options, Template)
    except (TemplateError, msgspec.ValidationError) as error:
        fail(Exit.USAGE, str(error), as_json=as_json)


def _pairs(option: str, given: list[str] | None, as_json: bool) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals:
            fail(Exit.USAGE, f"{option} {text}: not NAME=VALUE", as_json=as_json)
        found[name.strip()] = value
    return found


def _name_of(prefix: str) -> str:
    from sidecar.adapters.destinations import destination_name  # large, and seldom needed

    return destination_name(prefix)


def _summary(deck: Deck) -> dict[str, object]:
    return {
        "revision": deck.revision,
        "rates": len(deck),
        "currencies": sorted({kind.currency for kind in deck.kinds}),
        "destinations": len(deck.destinations),
    }


def _fields(rate: Rate) -> dict[str, object]:
    from sidecar.core.rating import amount_text
    from sidecar.core.tariff import format_steps

    return {
        "prefix": rate.prefix,
        "destination": rate.destination,
        "currency": rate.currency,
        "connect_fee": amount_text(rate.connect_fee),
        "steps": format_steps(rate.steps),
        "effective_from": rate.effective_from,
        "effective_to": rate.effective_to,
        "max_duration_s": rate.max_duration_s,
        "grace_s": rate.grace_s or None,
        "included_s": rate.included_s,
        "minimum_charge": None if rate.minimum_charge is None else amount_text(rate.minimum_charge),
        "blocked": "yes" if rate.blocked else None,
        "caller_prefix": rate.caller_prefix,
    }


def _tell_daemon(socket: Path | None, config: Path | None, name: str, as_json: bool) -> str:
    """In words: whether the daemon that runs has taken the deck over."""
    from sidecar.adapters.control_client import ControlClient, DaemonUnreachableError
    from sidecar.wire.control import CommandError

    try:
        with ControlClient(socket_path(socket, config, as_json=as_json)) as client:
            client.call("deck.reload", {"name": name, "operator": operator_name()})
    except DaemonUnreachableError:
        return "none answers: it takes the deck over when it starts"
    except CommandError as error:
        return f"did not take it over: {error.text}"
    return "has taken it over"


def _say(said: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(said)
        return
    print_fields((name, printable(str(value))) for name, value in said.items() if value is not None)
