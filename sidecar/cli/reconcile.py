"""`sidecar cdr reconcile`: a carrier's records or invoice lines against what we bought of it."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli.daemon import ConfigOption, JsonOption
from sidecar.cli.journal import GatewayOption, books, moment_of
from sidecar.cli.lists import MapOption, SetOption, TemplateOption, choice_of
from sidecar.cli.output import Exit, fail, print_json, print_table, printable

if TYPE_CHECKING:
    from sidecar.adapters.deck_files import Choice, RecordsRead
    from sidecar.core.reconcile import Finding, OurCall, TheirLine

COLUMNS = (
    *("what", "row>", "called", "destination", "started", "seconds>", "ours>"),
    *("amount>", "ours>", "currency", "call id"),
)
TOTALS = ("currency", "calls>", "ours>", "seconds>", "ours>", "amount>", "ours>", "difference>")


def reconcile(
    file: Annotated[Path, typer.Argument(help="The carrier's file, in any form that `deck import` reads.")],
    template: TemplateOption = None,
    columns: MapOption = None,
    values: SetOption = None,
    gateway: GatewayOption = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Our calls answered then or later.", show_default="as the file's"),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Our calls answered before.")] = None,
    time_s: Annotated[
        int, typer.Option("--time-s", min=0, max=86_400, help="So far apart a call may be dated.")
    ] = 60,
    seconds: Annotated[
        int, typer.Option("--seconds", min=0, max=86_400, help="So many billed seconds may differ.")
    ] = 1,
    amount: Annotated[str, typer.Option("--amount", metavar="X", help="So much a price may differ.")] = "0",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Show so many differences.")] = 100,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Hold a carrier's own records, or the lines of its invoice, against our buy side: calls that one side
    does not have, seconds and prices that differ, totals per currency. Exit code 1 where money differs. Reads
    the journal; the daemon need not run."""
    from itertools import chain

    from sidecar.core.amounts import parse_amount
    from sidecar.core.reconcile import Tolerance, our_call
    from sidecar.core.reconcile import reconcile as compare
    from sidecar.ports import RecordFilter
    from sidecar.wire.plain import plain

    try:
        tolerance = Tolerance(time=timedelta(seconds=time_s), seconds=seconds, amount=parse_amount(amount))
    except ValueError as error:
        fail(Exit.USAGE, f"--amount: {error}", as_json=as_json)
    read = _read(file, choice_of(template, columns, values, as_json=as_json), as_json)
    begin = moment_of("--since", since, config, as_json=as_json)
    end = moment_of("--until", until, config, as_json=as_json)
    dated = [line.started_at for line in read.lines if line.started_at is not None]
    if begin is None and end is None and not dated:
        fail(
            Exit.USAGE, "the file has no times: --since and --until say of which calls it is", as_json=as_json
        )
    begin = begin or (min(dated) - tolerance.time if dated else None)
    end = end or (max(dated) + tolerance.time + timedelta(microseconds=1) if dated else None)
    with books(config, as_json=as_json) as journal:
        records = chain.from_iterable(
            journal.records(RecordFilter(gateway=gateway, since=begin, suppressed=suppressed))
            for suppressed in (False, True)
        )
        ours = [
            call
            for cdr in records
            if (call := our_call(cdr)) is not None and _is_in(call.started_at, begin, end)
        ]
    found = compare(read.lines, ours, tolerance)
    counts = Counter(one.kind.value for one in found.findings)
    if as_json:
        print_json(
            {
                "template": read.template,
                "matched": found.matched,
                "money_differs": found.money_differs,
                "counts": counts,
                "findings": [plain(one) for one in found.findings[:limit]],
                "not_shown": max(0, len(found.findings) - limit),
                "totals": [{**plain(one), "difference": f"{one.difference:f}"} for one in found.totals],
            }
        )
    else:
        typer.echo(f"template   {read.template}{', guessed' if read.guessed else ''}")
        for note in read.notes:
            typer.echo(printable(f"note       {note}"))
        if found.findings:
            print_table(COLUMNS, [_row(one) for one in found.findings[:limit]])
        if len(found.findings) > limit:
            typer.echo(f"and {len(found.findings) - limit} more: --limit shows them")
        print_table(
            TOTALS,
            [
                (
                    *(one.currency, one.their_calls, one.our_calls, one.their_seconds, one.our_seconds),
                    *(f"{one.theirs:f}", f"{one.ours:f}", f"{one.difference:f}"),
                )
                for one in found.totals
            ],
        )
        said = ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "nothing differs"
        typer.echo(f"{found.matched} matched; {said}")
    if found.money_differs:
        raise typer.Exit(Exit.NO.value)


def _read(file: Path, choice: Choice, as_json: bool) -> RecordsRead:
    from sidecar.adapters.deck_files import AmbiguousListError, DeckRefusedError, TemplateError, read_records

    try:
        return read_records(file, choice)
    except (DeckRefusedError, TemplateError) as error:
        fail(Exit.USAGE, str(error), as_json=as_json)
    except AmbiguousListError as error:
        fail(Exit.USAGE, f"{file} {error}", as_json=as_json)


def _is_in(moment: datetime, begin: datetime | None, end: datetime | None) -> bool:
    return (begin is None or moment >= begin) and (end is None or moment < end)


def _row(one: Finding) -> tuple[object, ...]:
    theirs: TheirLine | None = one.theirs
    ours: OurCall | None = one.ours
    either = theirs or ours
    assert either is not None
    return (
        *(one.kind.value, theirs.row if theirs else None, either.called, either.destination or either.prefix),
        *(either.started_at, theirs.seconds if theirs else None, ours.seconds if ours else None),
        *(_text(theirs.amount) if theirs else None, _text(ours.amount) if ours else None),
        *(either.currency, ours.call_id if ours else None),
    )


def _text(amount: Decimal | None) -> str:
    return "no rate" if amount is None else f"{amount:f}"
