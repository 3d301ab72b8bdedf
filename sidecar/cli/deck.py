"""`sidecar deck ...`: rate decks in the data directory, and which of them is in force (`deck_force`). Needs
no daemon; one that runs puts them in force itself.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli import deck_derive, deck_force, deck_show
from sidecar.cli.daemon import ConfigOption, JsonOption, OperatorOption, SocketOption
from sidecar.cli.journal import moment_of
from sidecar.cli.lists import (
    MapOption,
    SetOption,
    TemplateOption,
    choice_of,
    print_read,
    read_file,
    said_of,
)
from sidecar.cli.output import (
    Exit,
    fail,
    print_json,
    print_said,
    print_table,
    write_text,
)

if TYPE_CHECKING:
    from sidecar.core.tariff import Deck

app = typer.Typer(help="Rate decks: import, compare, put in force, take back.", no_args_is_help=True)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="CSV, XLSX, XLS or ODS, also packed (gz, zip).")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check only; exit code 0 if accepted.")] = False,
    activate_as: Annotated[
        str | None, typer.Option("--activate", metavar="NAME", help="Put it in force under this name.")
    ] = None,
    at: deck_force.AtOption = None,
    merge: Annotated[
        str | None,
        typer.Option(
            "--merge", metavar="NAME", help="A partial list: put it into the deck in force as NAME."
        ),
    ] = None,
    replace: Annotated[
        str | None,
        typer.Option("--replace", metavar="NAME", help="A whole list: what it does not name there ends."),
    ] = None,
    date: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Of the list, for rows without a date; --at, else now."),
    ] = None,
    yes: deck_force.YesOption = False,
    new: deck_force.NewOption = False,
    operator: OperatorOption = "",
    text: deck_force.TextOption = "",
    template: TemplateOption = None,
    columns: MapOption = None,
    values: SetOption = None,
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
    """Read a price list, whole or not at all, and keep it under its revision. Without a template the file's
    own columns decide how it is read, and it is said what was taken for what; exit code 2 where two readings
    are possible. Of one prefix a newer row ends the older one; prefixes without a destination get the name
    of their country and region. With --merge or --replace what is kept is the deck in force with the list in
    it. Exit code 1 where it is not put in force.
    """
    from sidecar.adapters.deck_files import template_text
    from sidecar.core.deck_history import SETTINGS, in_force

    choice = choice_of(
        template,
        columns,
        values,
        as_json=as_json,
        delimiter=delimiter,
        decimal_comma=decimal_comma,
        sheet=sheet,
        numeric_prefixes=numeric_prefixes,
    )
    read = read_file(file, choice, as_json=as_json)
    deck = read.deck
    if save_template is not None:
        write_text(save_template, template_text(choice.templates()[read.template]), as_json=as_json)
    source, made_of = file.name, tuple[str, ...]()
    store = deck_force.stored_decks(socket, config, as_json)
    when = deck_force.time_to_come(at, config, as_json)
    if merge is not None or replace is not None:
        name = merge or replace or ""
        listed = deck.revision
        begin = moment_of("--date", date, config, as_json=as_json) or when or datetime.now(UTC)
        whole = replace is not None
        held = in_force(store.history(name), begin)
        base = deck_force.read_named(
            store,
            name if held is None or held.revision == SETTINGS else held.revision,
            socket,
            config,
            as_json,
        )
        ended = {one.prefix: one.at or begin.astimezone(UTC) for one in read.ended}
        deck = _merged(base, deck, begin.astimezone(UTC), ended, whole=whole, as_json=as_json)
        source, made_of = f"{file.name} {'replaces' if whole else 'into'} {name}", (listed,)
    said = deck_show.summary(deck)
    if as_json:
        said |= said_of(read)
        if dry_run:
            said["first"] = [{"row": row} | cells for row, cells in read.first]
    else:
        print_read(read, first=dry_run)
    if not dry_run:
        said["imported_at"] = deck_force.keep(
            deck, source, operator, text, socket, config, as_json, made_of=made_of
        )
        said["in_force_as"] = activate_as
    if activate_as is None or dry_run:
        print_said(said, as_json)
        return
    wanted = deck_force.Wanted(
        activate_as,
        at=when,
        yes=yes,
        new=new,
        operator=operator,
        text=text,
        socket=socket,
        config=config,
        as_json=as_json,
    )
    deck_force.put_in_force(deck, wanted, said)


@app.command("templates")
def templates(
    name: Annotated[str | None, typer.Argument(help="Show the template itself, to copy and change.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the templates that come with the product, by which `deck import` reads price lists."""
    from sidecar.adapters.deck_files import TemplateError, find_template, shipped_templates, template_text

    if name is not None:
        try:
            _, found = find_template(name)
        except TemplateError as error:
            fail(Exit.USAGE, str(error), as_json=as_json)
        typer.echo(template_text(found), nl=False)
        return
    shipped = shipped_templates()
    if as_json:
        print_json([{"name": one, "kind": shipped[one].kind, "title": shipped[one].title} for one in shipped])
        return
    print_table(
        ("template", "of", "what it is"), [(one, had.kind, had.title) for one, had in shipped.items()]
    )


@app.command("list")
def list_(as_json: JsonOption = False, socket: SocketOption = None, config: ConfigOption = None) -> None:
    """Show the decks that were imported, and the names under which they are in force."""
    from sidecar.adapters.deck_store import DeckStoreError

    try:
        decks = deck_force.stored_decks(socket, config, as_json).decks(datetime.now(UTC))
    except DeckStoreError as error:
        fail(Exit.NO, str(error), as_json=as_json)
    if as_json:
        print_json(decks)
        return
    print_table(
        ("revision", "rates>", "imported", "source", "in force as"),
        [(one.revision[:12], one.rates, one.imported_at, one.source, ", ".join(one.names)) for one in decks],
    )


app.command("show")(deck_show.show)
app.command("diff")(deck_show.diff)
app.command("derive")(deck_derive.derive)
app.command("export")(deck_derive.export)
app.command("activate")(deck_force.activate)
app.command("rollback")(deck_force.rollback)
app.command("pending")(deck_force.pending)
app.command("cancel")(deck_force.cancel)
app.command("history")(deck_force.history)


def _merged(
    base: Deck, listed: Deck, at: datetime, ended: dict[str, datetime], *, whole: bool, as_json: bool
) -> Deck:
    from sidecar.adapters.deck_files import with_revision
    from sidecar.core.deck_merge import MergeError, merged

    try:
        return with_revision(merged(base, listed, at, whole=whole, ended=ended))
    except MergeError as error:
        fail(Exit.NO, f"the list does not go into deck {base.revision[:12]}: {error}", as_json=as_json)
