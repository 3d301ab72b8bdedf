"""`sidecar rerate`: what recorded calls would cost otherwise; with --apply, what they cost from now on."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidecar.cli.daemon import (
    ConfigOption,
    Daemon,
    JsonOption,
    OperatorOption,
    SocketOption,
    is_sqlite,
    settings_of,
    socket_path,
)
from sidecar.cli.journal import books, moment_of
from sidecar.cli.lists import MapOption, SetOption, TemplateOption, choice_of, read_file
from sidecar.cli.output import Exit, fail, open_text, print_json, print_table
from sidecar.core.policy import NO_ACCOUNT
from sidecar.core.terms import ChargeSide, Rounding

if TYPE_CHECKING:
    from decimal import Decimal

    from sidecar.adapters.deck_files import Choice
    from sidecar.core.cdr import Cdr
    from sidecar.core.rerate import Rerated
    from sidecar.core.tariff import Deck

PROGRESS_CALLS = 10_000
COLUMNS = ("account", "destination", "gateway", "currency", "calls>", "before>", "after>", "difference>")
EXPORTED = (
    *("call_id", "revision", "ended_at", "account", "gateway", "received", "destination"),
    *("billed_before", "prefix_before", "total_before", "currency_before"),
    *("billed_after", "prefix_after", "total_after", "currency_after", "outcome"),
)
SHOWN = "shown"
LEFT_SHOWN_MAX = 1000  # --export has them all


def rerate(
    deck: Annotated[
        str,
        typer.Option(
            "--deck", metavar="FILE|NAME", help="A file, or an imported deck: its name or revision."
        ),
    ],
    template: TemplateOption = None,
    columns: MapOption = None,
    values: SetOption = None,
    strip: Annotated[
        int | None,
        typer.Option(
            "--strip",
            metavar="N",
            min=0,
            max=32,
            help="Digits to strip, if otherwise than then. Numbers with a named rule keep it.",
        ),
    ] = None,
    side: Annotated[ChargeSide, typer.Option(help="What accounts pay, or what gateways are paid.")] = (
        ChargeSide.SELL
    ),
    rounding: Annotated[
        Rounding | None,
        typer.Option("--rounding", help="How each charge is rounded.", show_default="as recorded"),
    ] = None,
    decimals: Annotated[
        int | None,
        typer.Option("--decimals", min=0, max=9, help="Of each charge.", show_default="as recorded"),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Ended then or later, such as 2026-11-01.",
            show_default="a day ago",
        ),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Ended before.")] = None,
    account: Annotated[str | None, typer.Option(help="Only calls of this account.")] = None,
    gateway: Annotated[str | None, typer.Option(help="Only calls whose last attempt went there.")] = None,
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="FILE", help="Write the calls that differ, CSV, one a row."),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply/--dry-run", help="Revise the calls, or only show what would change.")
    ] = False,
    operator: OperatorOption = "",
    text: Annotated[str | None, typer.Option(metavar="WHY", help="Why, for the records.")] = None,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Rate recorded calls with another deck or strip length, and show by account, destination and gateway
    what would change. Exit code 1 where something would.

    With --apply each call that differs gets a revision of its record, published like the first, and its
    account's ledger the difference. Calls that the deck has no rate for, or one in another currency than
    the account's, are left as they are, and named; exit code 1 where a call could not be revised. Repeated,
    it changes nothing.
    """
    from msgspec import structs

    from sidecar.adapters.sqlite import StoreError, account_currencies, newest_records
    from sidecar.core.numbers import StripPlan
    from sidecar.core.rating import amount_text
    from sidecar.core.rerate import changes
    from sidecar.core.rerate import rerate as again
    from sidecar.ports import RecordFilter

    is_known = socket is None or config is not None
    if apply and not text:
        fail(Exit.USAGE, "--apply needs --text: it stands in every revised record", as_json=as_json)
    start = moment_of("--since", since, config, as_json=as_json) or datetime.now(UTC) - timedelta(days=1)
    end = moment_of("--until", until, config, as_json=as_json)
    data_dir = socket_path(socket, config, as_json=as_json).parent
    choice = choice_of(template, columns, values, as_json=as_json)
    rates = _deck(deck, choice, data_dir / "decks", apply, as_json)
    plan = None if strip is None else StripPlan(global_strip=strip)
    outcomes: Counter[str] = Counter()
    left_alone: list[tuple[str, str]] = []  # calls that could not be revised, and why

    currencies: dict[str, str] = {}
    if is_known:
        currencies[NO_ACCOUNT] = settings_of(config, as_json=as_json).billing.currency

    def records() -> Iterator[Cdr]:
        if not is_known or is_sqlite(config, as_json):
            currencies.update(account_currencies(data_dir))
            yield from newest_records(data_dir, since=start, until=end, account=account, gateway=gateway)
            return
        with books(config, as_json=as_json) as database:
            currencies.update((one.name, one.currency) for one in database.accounts())
            for suppressed in (False, True):
                yield from database.records(
                    RecordFilter(
                        account=account, gateway=gateway, since=start, until=end, suppressed=suppressed
                    )
                )

    def found() -> Iterator[Rerated]:
        for number, cdr in enumerate(records(), 1):
            if number % PROGRESS_CALLS == 0:
                typer.echo(f"{number} calls read, {outcomes['differ']} differ", err=True)
            terms = _terms(cdr, side, rounding, decimals)
            one = again(cdr, rates, plan, terms, side, currencies.get(cdr.account))
            if one is not None:
                outcomes["calls"] += 1
                outcomes["differ"] += one.differs
                yield one

    try:
        with ExitStack() as stack:
            calls: Iterator[tuple[Rerated, str]] = ((one, SHOWN) for one in found())
            if apply:
                daemon = stack.enter_context(Daemon(socket, config, as_json))
                calls = _applied(found(), daemon, operator, text or "")
            table = None
            if export is not None:
                table = csv.writer(stack.enter_context(open_text(export)))
                table.writerow(EXPORTED)
            rows = changes(_noted(calls, outcomes, left_alone, table))
    except StoreError as error:
        fail(Exit.UNREACHABLE, str(error), as_json=as_json)
    except OSError as error:
        fail(Exit.USAGE, f"{error.filename}: {error.strerror}", as_json=as_json)
    left = {word: count for word, count in sorted(outcomes.items()) if word not in _COUNTED}
    if as_json:
        said = [{**structs.asdict(one), "difference": one.difference} for one in rows]
        print_json(
            {
                "calls": outcomes["calls"],
                "differ": outcomes["differ"],
                "revised": outcomes["revised"],
                "left": left,
                "left_calls": [{"call_id": call_id, "why": why} for call_id, why in left_alone],
                "deck_revision": rates.revision,
                "changes": said,
            }
        )
    else:
        print_table(
            COLUMNS,
            [
                (
                    *(one.account, one.destination, one.gateway, one.currency, one.calls),
                    *map(amount_text, (one.before, one.after, one.difference)),
                )
                for one in rows
            ],
        )
        typer.echo(f"{outcomes['differ']} of {outcomes['calls']} calls differ")
        if apply:
            typer.echo(f"{outcomes['revised']} revised")
        for word, count in left.items():
            typer.echo(f"{count} {'left as they are' if apply else 'would be left as they are'}: {word}")
        for call_id, why in left_alone if apply else ():
            typer.echo(f"{call_id} not revised: {why}")
    if rows if not apply else left:
        raise typer.Exit(Exit.NO.value)


_COUNTED = ("calls", "differ", "revised", SHOWN)


def _deck(text: str, choice: Choice, folder: Path, keep: bool, as_json: bool) -> Deck:
    """The deck of a file, or an imported one. What is applied is kept: records name it."""
    from sidecar.adapters.deck_files import DeckRefusedError, canonical_chunks, read_deck
    from sidecar.adapters.deck_store import DeckStore, DeckStoreError

    store = DeckStore(folder)
    file = Path(text)
    try:
        if not file.is_file():
            return read_deck(store.path(store.find(text, datetime.now(UTC))))
        deck = read_file(file, choice, as_json=as_json).deck
        if keep:
            now = datetime.now(UTC)
            store.put(deck.revision, canonical_chunks(deck), rates=len(deck), source=file.name, at=now)
    except (DeckStoreError, DeckRefusedError) as error:
        fail(Exit.USAGE, f"--deck {text}: {error}", as_json=as_json)
    return deck


def _terms(cdr: Any, side: ChargeSide, rounding: Rounding | None, decimals: int | None) -> Any:
    """The terms of the record with what the command line says otherwise; None: nothing."""
    if rounding is None and decimals is None:
        return None
    from msgspec.structs import replace

    from sidecar.core.explain_call import terms_of
    from sidecar.core.rating import RatingTerms

    line = next((one for one in cdr.charges if one.side is side), None)
    own = (line and terms_of(line)) or RatingTerms()
    return replace(
        own,
        rounding=own.rounding if rounding is None else rounding,
        decimals=own.decimals if decimals is None else decimals,
    )


def _applied(
    found: Iterator[Rerated], daemon: Daemon, operator: str, text: str
) -> Iterator[tuple[Rerated, str]]:
    """Each call with what became of it. The daemon gets a few at a time, and the next when those are on
    disk: calls that are up never wait for more."""
    from msgspec import Raw
    from msgspec.json import encode

    from sidecar.wire.control import REQUEST_BYTES_MAX
    from sidecar.wire.control_records import RERATED_MAX

    waiting: list[tuple[Rerated, Raw]] = []

    def sent() -> list[tuple[Rerated, str]]:
        said = [said for _, said in waiting]
        answer = daemon.ask("rerate.apply", operator=operator, text=text, calls=said) if said else {}
        done = list(zip((one for one, _ in waiting), answer.get("outcomes", ()), strict=True))
        waiting.clear()
        return done

    for one in found:
        if not one.differs or one.hindrance is not None:
            yield one, SHOWN
            continue
        said = Raw(encode({"call_id": one.cdr.call_id, "revision": one.cdr.revision, "charge": one.after}))
        if sum(len(bytes(other)) for _, other in waiting) + len(bytes(said)) > REQUEST_BYTES_MAX // 2:
            yield from sent()
        waiting.append((one, said))
        if len(waiting) == RERATED_MAX:
            yield from sent()
    yield from sent()


def _noted(
    calls: Iterator[tuple[Rerated, str]],
    outcomes: Counter[str],
    left_alone: list[tuple[str, str]],
    table: Any,
) -> Iterator[Rerated]:
    """The calls, counted by what became of them, and written into the table."""
    for one, word in calls:
        if one.differs:
            outcome = one.hindrance or word
            outcomes[outcome] += 1
            if outcome not in (SHOWN, "revised") and len(left_alone) < LEFT_SHOWN_MAX:
                left_alone.append((str(one.cdr.call_id), outcome))
            if table is not None:
                table.writerow(map(_cell, _row(one, outcome)))
        yield one


def _row(one: Rerated, outcome: str) -> tuple[object, ...]:
    cdr, before, after = one.cdr, one.before, one.after
    return (
        *(cdr.call_id, cdr.revision, cdr.ended_at.isoformat(), cdr.account, cdr.gateway or ""),
        *(cdr.callee.received, after.destination or before.destination or ""),
        *(before.billed_number or "", before.prefix or "", _text(before.total), before.currency or ""),
        *(after.billed_number or "", after.prefix or "", _text(after.total), after.currency or "", outcome),
    )


def _cell(value: object) -> object:
    from sidecar.wire.csv_text import harmless

    return harmless(value) if isinstance(value, str) else value


def _text(amount: Decimal | None) -> str:
    from sidecar.core.rating import amount_text

    return "" if amount is None else amount_text(amount)
