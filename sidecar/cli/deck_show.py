"""`sidecar deck show` and `diff`: what a deck holds, what will hold when, and what changes from one to
another."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli.cost import CallerOption, caller_looked_up
from sidecar.cli.daemon import ConfigOption, JsonOption, SocketOption
from sidecar.cli.deck_force import DeckArgument, read_named, read_stored, stored_decks
from sidecar.cli.journal import moment_of
from sidecar.cli.lists import MapOption, SetOption, TemplateOption, choice_of, read_file
from sidecar.cli.output import Exit, fail, print_json, print_table

if TYPE_CHECKING:
    from sidecar.adapters.deck_files import Choice
    from sidecar.adapters.deck_store import DeckStore
    from sidecar.core.deck_diff import RateChange
    from sidecar.core.tariff import Deck, Rate

EitherArgument = Annotated[
    str, typer.Argument(help="A file, a name in force, or the beginning of a revision.")
]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000_000, help="At most so many.")]
RATE_COLUMNS = (
    *("prefix", "destination", "currency", "fee>", "steps", "from", "to", "max s>"),
    *("grace s>", "included s>", "minimum>", "blocked", "callers"),
)


def show(
    deck: DeckArgument,
    number: Annotated[
        str | None, typer.Option(help="Only the rates that could apply to it, and what will hold when.")
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="With --number: then, instead of now.")
    ] = None,
    caller: CallerOption = None,
    limit: LimitOption = 100,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Show the rates of a deck. With --number those that could apply at a time, the one that does first,
    and which will hold from when on, by rows to come and by decks that are to come into force under the
    name; exit code 1 where none holds at that time."""
    store = stored_decks(socket, config, as_json)
    when = moment_of("--at", at, config, as_json=as_json) or datetime.now(UTC)
    if number is None:
        found = read_named(store, deck, socket, config, as_json)
        rates = list(islice(found, limit))
        if as_json:
            print_json({**summary(found), "rates": [fields(rate) for rate in rates]})
            return
        title = f"{found.revision}, {len(found)} rates"
        print_table(RATE_COLUMNS, [tuple(fields(rate).values()) for rate in rates], title=title)
        return
    if not (number.isascii() and number.isdigit()):
        fail(Exit.USAGE, f"--number: {number!r} is not digits", as_json=as_json)
    decks = list(_decks_from(store, deck, when, socket, config, as_json))
    found = decks[0][1]
    caller = caller_looked_up(caller, as_json=as_json)
    rates = list(found.candidates(number, when, caller))
    coming = list(_coming(decks, number, caller))
    origin = _made_from(store, found, rates[0]) if rates else None
    if as_json:
        print_json(
            {
                **summary(found),
                "at": when,
                "made_from": origin,
                "rates": [fields(rate) for rate in rates],
                "holds": [
                    {"since": since, "revision": revision, "rate": None if rate is None else fields(rate)}
                    for since, revision, rate in coming
                ],
            }
        )
    else:
        print_table(RATE_COLUMNS, [tuple(fields(rate).values()) for rate in rates])
        if origin is not None:
            typer.echo(
                f"made from deck {origin['deck']} ({origin['revision'][:12]}), "
                f"prefix {origin['source_prefix']}, where a minute is {origin['paid_per_min']}"
            )
        for since, revision, rate in coming[1:]:
            typer.echo(f"from {since.isoformat()}, deck {revision[:12]}:")
            if rate is None:
                typer.echo("no rate")
            else:
                print_table(RATE_COLUMNS, [tuple(fields(rate).values())])
    if not rates:
        fail(Exit.NO, f"no prefix of deck {found.revision[:12]} begins {number} then", as_json=as_json)


def _made_from(store: DeckStore, deck: Deck, rate: Rate) -> dict[str, str] | None:
    """Where the row of a derived deck comes from."""
    from sidecar.adapters.deck_store import DeckStoreError

    begin = "" if rate.effective_from is None else rate.effective_from.isoformat()
    wanted = (rate.prefix, rate.caller_prefix, begin)
    try:
        rows = csv.DictReader(store.sources(deck.revision).decode().splitlines())
    except DeckStoreError:
        return None
    return next(
        (row for row in rows if (row["prefix"], row["caller_prefix"], row["effective_from"]) == wanted), None
    )


def _decks_from(
    store: DeckStore, text: str, when: datetime, socket: Path | None, config: Path | None, as_json: bool
) -> Iterator[tuple[datetime, Deck]]:
    """The deck that holds at a time, and those that are to follow it under the name, with their times."""
    from sidecar.core.deck_history import SETTINGS, in_force, pending

    history = store.histories().get(text, [])
    held = in_force(history, when)
    revision = text if held is None or held.revision == SETTINGS else held.revision
    yield when, read_named(store, revision, socket, config, as_json)
    for one in pending(history, when):
        if one.revision != SETTINGS:
            yield one.at, read_stored(store, one.revision, as_json)


def _coming(
    decks: list[tuple[datetime, Deck]], number: str, caller: str
) -> Iterator[tuple[datetime, str, Rate | None]]:
    """Which rate holds from when on: the first now, then each change."""
    told: tuple[str, Rate | None] | None = None
    ends: list[tuple[datetime, Deck] | None] = [*decks[1:], None]
    for (begin, deck), following in zip(decks, ends, strict=True):
        times = {begin}
        for rate in deck.periods(number):
            times |= {at for at in (rate.effective_from, rate.effective_to) if at is not None and at > begin}
        for at in sorted(times):
            if following is not None and at >= following[0]:
                break
            rate_then = deck.match(number, at, caller)
            if told != (deck.revision, rate_then):
                told = (deck.revision, rate_then)
                yield at, deck.revision, rate_then


def diff(
    before: EitherArgument,
    after: EitherArgument,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Leave out what was otherwise before; now if not given."),
    ] = None,
    template: TemplateOption = None,
    columns: MapOption = None,
    values: SetOption = None,
    limit: LimitOption = 100,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Show what changes from one deck to another, by prefix and from when on: new, closed, raised, lowered,
    or changed otherwise. Exit code 1 where something does."""
    from sidecar.core.deck_diff import deck_changes

    store = stored_decks(socket, config, as_json)
    begin = moment_of("--since", since, config, as_json=as_json) or datetime.now(UTC)
    choice = choice_of(template, columns, values, as_json=as_json)
    old, new = (read_either(store, one, choice, socket, config, as_json) for one in (before, after))
    changes = deck_changes(old, new, begin)
    shown: list[RateChange] = []
    counts = Counter[str]()
    for change in changes:
        counts[change.word.value] += 1
        if len(shown) < limit:
            shown.append(change)
    more = counts.total() - len(shown)
    if as_json:
        print_json(
            {
                "counts": counts,
                "changes": [
                    {
                        "change": one.word.value,
                        "prefix": one.prefix,
                        "since": one.since,
                        "percent": one.percent,
                        "before": None if one.before is None else fields(one.before),
                        "after": None if one.after is None else fields(one.after),
                    }
                    for one in shown
                ],
                "not_shown": more,
            }
        )
    else:
        lines: list[tuple[object, ...]] = []
        for one in shown:
            percent = "" if one.percent is None else f"{one.percent:+} %"
            lines += [
                (sign, one.word.value, percent, *fields(rate).values())
                for sign, rate in (("-", one.before), ("+", one.after))
                if rate is not None
            ]
        print_table(("", "change", "by>", *RATE_COLUMNS), lines)
        typer.echo(", ".join(f"{count} {word}" for word, count in sorted(counts.items())) or "no change")
        if more:
            typer.echo(f"and {more} more changes: --limit shows them")
    if shown:
        raise typer.Exit(Exit.NO.value)


def read_either(
    store: DeckStore, text: str, choice: Choice, socket: Path | None, config: Path | None, as_json: bool
) -> Deck:
    """The deck of a file, read by `choice`, or a stored one."""
    if Path(text).is_file():
        return read_file(Path(text), choice, as_json=as_json).deck
    return read_named(store, text, socket, config, as_json)


def summary(deck: Deck) -> dict[str, object]:
    return {
        "revision": deck.revision,
        "rates": len(deck),
        "currencies": sorted({kind.currency for kind in deck.kinds}),
        "destinations": len(deck.destinations),
    }


def fields(rate: Rate) -> dict[str, object]:
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
