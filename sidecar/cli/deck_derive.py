"""`sidecar deck derive` and `deck export`: a deck to sell by from those that are paid by, and decks as
files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli import deck_force
from sidecar.cli.daemon import ConfigOption, JsonOption, OperatorOption, SocketOption, settings_of
from sidecar.cli.deck_show import summary
from sidecar.cli.journal import moment_of
from sidecar.cli.output import Exit, fail, print_said

if TYPE_CHECKING:
    from sidecar.core.deck_derive import Margin, Origin

SOURCE_COLUMNS = (
    "prefix",
    "caller_prefix",
    "effective_from",
    "deck",
    "revision",
    "source_prefix",
    "paid_per_min",
)


def derive(
    sources: Annotated[
        list[str], typer.Option("--from", metavar="DECK", help="A name in force or a revision. Repeatable.")
    ],
    margin: Annotated[str, typer.Option(metavar="PERCENT", help="Put on what is paid.")] = "0",
    margin_min: Annotated[
        str, typer.Option("--margin-min", metavar="AMOUNT", help="And at least so much a minute.")
    ] = "0",
    rank: Annotated[int, typer.Option(min=1, max=100, help="Of the prices of a prefix: 1 the cheapest.")] = 1,
    decimals: Annotated[int, typer.Option(min=0, max=9, help="Prices are rounded up to so many.")] = 4,
    increments: Annotated[
        str, typer.Option(metavar="FIRST/NEXT", help="At least these seconds, such as 60/60.")
    ] = "1/1",
    exceptions: Annotated[
        list[str] | None,
        typer.Option(
            "--for",
            metavar="PREFIX=WHAT",
            help="Numbers that begin so: `35%`, a price a minute, or `none`: not sold. Repeatable.",
        ),
    ] = None,
    currency: Annotated[
        str | None, typer.Option(help="To sell in; that of the sources if they have one alone.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="By what holds then and later; now if not given."),
    ] = None,
    activate_as: Annotated[
        str | None, typer.Option("--activate", metavar="NAME", help="Put it in force under this name.")
    ] = None,
    yes: deck_force.YesOption = False,
    new: deck_force.NewOption = False,
    operator: OperatorOption = "",
    text: deck_force.TextOption = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a deck to sell by, of one or several that gateways are paid by: a revision as any other, that
    says where each of its rows comes from (`deck show --number`, `deck export --sources`)."""
    from sidecar.adapters.deck_files import read_exchange_rates, with_revision
    from sidecar.adapters.deck_store import DeckStoreError
    from sidecar.core.deck_check import currencies_of
    from sidecar.core.deck_derive import DeriveError, Wanted, derived
    from sidecar.core.margin import ExchangeTable

    store, now = deck_force.stored_decks(socket, config, as_json), datetime.now(UTC)
    when = (moment_of("--at", at, config, as_json=as_json) or now).astimezone(UTC)
    decks = [deck_force.read_named(store, one, socket, config, as_json) for one in sources]
    found = sorted({one for deck in decks for one in currencies_of(deck)})
    if currency is None and len(found) != 1:
        fail(Exit.USAGE, f"the sources are in {', '.join(found)}: --currency says which", as_json=as_json)
    exchange = ExchangeTable()
    if found != [currency or found[0]]:
        path = settings_of(config, as_json=as_json).billing.exchange_rates
        exchange = exchange if path is None else read_exchange_rates(path)
    first_s, next_s = _increments(increments, as_json)
    wanted = Wanted(
        currency=currency or found[0],
        margin=_margin(margin, margin_min, as_json),
        rank=rank,
        decimals=decimals,
        initial_s=first_s,
        increment_s=next_s,
        exceptions=_exceptions(exceptions or [], as_json),
        exchange=exchange,
    )
    try:
        deck, origins = derived(decks, wanted, when)
        deck = with_revision(deck)
        revisions = tuple(one.revision for one in decks)
        source = f"derived from {', '.join(sources)}"
        deck_force.keep(deck, source, operator, text, socket, config, as_json, made_of=revisions)
        store.put_sources(deck.revision, _source_lines(origins, sources, revisions))
    except (DeriveError, DeckStoreError) as error:
        fail(Exit.NO, str(error), as_json=as_json)
    except OSError as error:
        fail(Exit.USAGE, f"{error.filename}: {error.strerror}", as_json=as_json)
    said = {**summary(deck), "made_of": revisions}
    if activate_as is not None:
        given = deck_force.Wanted(
            activate_as,
            yes=yes,
            new=new,
            operator=operator,
            text=text,
            socket=socket,
            config=config,
            as_json=as_json,
        )
        deck_force.put_in_force(deck, given, said)
    else:
        print_said(said, as_json)


def export(
    deck: deck_force.DeckArgument,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="A new file, .csv or .xlsx.")],
    columns: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="OURS=THEIRS", help="Only these columns, so named. Repeatable."),
    ] = None,
    delimiter: Annotated[str, typer.Option(help="Of CSV.")] = ",",
    decimal_comma: Annotated[bool, typer.Option("--decimal-comma", help="0,05 is 0.05.")] = False,
    template: Annotated[
        str | None,
        typer.Option("--template", metavar="NAME|FILE", help="As it would be read by this template."),
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="Only what holds then, without dates.")
    ] = None,
    sources: Annotated[
        bool, typer.Option("--sources", help="Of a deck that was derived: where each row comes from, CSV.")
    ] = False,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Write a deck to a file, CSV or XLSX, with our columns, others, or those of a template."""
    from sidecar.adapters.deck_files import TemplateError, find_template
    from sidecar.adapters.deck_files.writing import WriteError, write_deck
    from sidecar.adapters.deck_store import DeckStoreError

    store = deck_force.stored_decks(socket, config, as_json)
    found = deck_force.read_named(store, deck, socket, config, as_json)
    names: dict[str, str] = {}
    for text in columns or ():
        ours, equals, theirs = text.partition("=")
        if not equals:
            fail(Exit.USAGE, f"--map {text}: not OURS=THEIRS", as_json=as_json)
        names[ours.strip()] = theirs
    if len(delimiter) != 1 or (decimal_comma and delimiter == "," and out.suffix.lower() != ".xlsx"):
        fail(Exit.USAGE, f"--delimiter {delimiter!r}: one character, no decimal comma", as_json=as_json)
    try:
        if sources:
            with out.open("xb") as file:
                file.write(store.sources(found.revision))
            rates = len(found)
        else:
            rates = write_deck(
                out,
                found,
                names=names,
                template=None if template is None else find_template(template)[1],
                delimiter=delimiter,
                decimal_comma=decimal_comma,
                at=moment_of("--at", at, config, as_json=as_json),
            )
    except TemplateError as error:
        fail(Exit.USAGE, str(error), as_json=as_json)
    except (WriteError, DeckStoreError) as error:
        fail(Exit.NO, str(error), as_json=as_json)
    except OSError as error:
        fail(Exit.USAGE, f"{error.filename}: {error.strerror}", as_json=as_json)
    said = {"revision": found.revision, "rates": rates, "file": str(out)}
    print_said(said, as_json)


def _source_lines(origins: list[Origin], names: list[str], revisions: tuple[str, ...]) -> Iterator[bytes]:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(SOURCE_COLUMNS)
    for one in origins:
        rows.writerow(
            (
                *(one.prefix, one.caller_prefix),
                "" if one.effective_from is None else one.effective_from.isoformat(),
                *(names[one.source], revisions[one.source], one.source_prefix, f"{one.paid_per_min:f}"),
            )
        )
    yield text.getvalue().encode()


def _margin(percent: str, least: str, as_json: bool) -> Margin:
    from sidecar.core.amounts import parse_amount
    from sidecar.core.deck_derive import Margin

    try:
        return Margin(percent=parse_amount(percent.rstrip("%").strip()), least_per_min=parse_amount(least))
    except ValueError as error:
        fail(Exit.USAGE, f"margin: {error}", as_json=as_json)


def _increments(text: str, as_json: bool) -> tuple[int, int]:
    first, slash, following = text.partition("/")
    if not (slash and first.isdecimal() and following.isdecimal() and int(first) and int(following)):
        fail(Exit.USAGE, f"--increments {text}: not such as 60/60", as_json=as_json)
    return int(first), int(following)


def _exceptions(given: list[str], as_json: bool) -> dict[str, Margin | Decimal | None]:
    from sidecar.core.amounts import parse_amount
    from sidecar.core.tariff import check_prefix

    found: dict[str, Margin | Decimal | None] = {}
    for text in given:
        prefix, equals, what = text.partition("=")
        try:
            check_prefix(prefix)
            if not (equals and prefix):
                raise ValueError("not PREFIX=WHAT")
            if what == "none":
                found[prefix] = None
            elif what.endswith("%"):
                found[prefix] = _margin(what, "0", as_json)
            else:
                found[prefix] = parse_amount(what)
        except ValueError as error:
            fail(Exit.USAGE, f"--for {text}: {error}", as_json=as_json)
    return found
