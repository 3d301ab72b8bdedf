"""`sidecar rerate`: what recorded calls would be sold for otherwise. Nothing is changed."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli.daemon import ConfigOption, Daemon, JsonOption, SocketOption
from sidecar.cli.doctor import records_since
from sidecar.cli.output import Exit, fail, print_json, print_table
from sidecar.core.terms import Rounding

if TYPE_CHECKING:
    from decimal import Decimal

    from sidecar.core.rerate import Rerated

COLUMNS = ("account", "destination", "gateway", "currency", "calls>", "before>", "after>", "difference>")
EXPORTED = (
    *("call_id", "account", "gateway", "received", "billed_before", "prefix_before", "total_before"),
    *("currency_before", "billed_after", "prefix_after", "total_after", "currency_after"),
)


def rerate(
    deck: Annotated[Path, typer.Option("--deck", metavar="FILE", help="The deck to rate with.")],
    strip: Annotated[
        int | None,
        typer.Option("--strip", metavar="N", min=0, max=32, help="Digits to strip, if otherwise than then."),
    ] = None,
    rounding: Annotated[Rounding, typer.Option("--rounding")] = Rounding.HALF_UP,
    decimals: Annotated[int, typer.Option("--decimals", min=0, max=9, help="Of each charge.")] = 6,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="ISO 8601 with offset; a day ago if not given.")
    ] = None,
    account: Annotated[str | None, typer.Option(help="Only calls of this account.")] = None,
    gateway: Annotated[str | None, typer.Option(help="Only calls whose last attempt went there.")] = None,
    export: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write the calls that differ, one a row.")
    ] = None,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Rate recorded calls with another deck or strip length, and show by account, destination and gateway
    what would change. Exit code 1 where something would.
    """
    from msgspec import structs

    from sidecar.adapters.deck_files import DeckRefusedError, parse_stamp, read_deck
    from sidecar.core.numbers import StripPlan
    from sidecar.core.rating import RatingTerms, amount_text
    from sidecar.core.rerate import changes
    from sidecar.core.rerate import rerate as again

    try:
        start = datetime.now(UTC) - timedelta(days=1) if since is None else parse_stamp(since)
        rates = read_deck(deck)
    except (ValueError, DeckRefusedError) as error:
        fail(Exit.USAGE, str(error), as_json=as_json)
    terms = RatingTerms(rounding=rounding, decimals=decimals)
    plan = None if strip is None else StripPlan(global_strip=strip)
    with Daemon(socket, config, as_json) as daemon:
        records = records_since(daemon, start, account=account, gateway=gateway)
        calls = [found for cdr in records if (found := again(cdr, rates, plan, terms))]
    rows = changes(calls)
    if export is not None:
        _write(export, calls)
    if as_json:
        said = [{**structs.asdict(one), "difference": one.difference} for one in rows]
        print_json({"calls": len(calls), "changes": said})
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
        typer.echo(f"{sum(one.differs for one in calls)} of {len(calls)} calls differ")
    if rows:
        raise typer.Exit(Exit.NO.value)


def _write(path: Path, calls: list[Rerated]) -> None:
    from sidecar.core.rating import amount_text

    def text(amount: Decimal | None) -> str:
        return "" if amount is None else amount_text(amount)

    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(EXPORTED)
        for one in calls:
            if one.differs:
                table.writerow(
                    (
                        *(one.cdr.call_id, one.cdr.account, one.cdr.gateway or "", one.cdr.callee.received),
                        *(one.before.billed_number or "", one.before.prefix or "", text(one.before.total)),
                        *(one.before.currency or "", one.billed or "", one.prefix or "", text(one.total)),
                        one.currency or "",
                    )
                )
