"""`sidecar doctor`: what the recorded calls say about strip lengths and missing rates."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidecar.cli.daemon import ConfigOption, Daemon, JsonOption, SocketOption
from sidecar.cli.output import Exit, fail, print_json, printable

if TYPE_CHECKING:
    from sidecar.core.cdr import Cdr
    from sidecar.core.doctor import Effect, Finding

RECORDS_MAX = 200_000  # the latest so many of the period
PAGE = 1000


def doctor(
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="ISO 8601 with offset; a day ago if not given.")
    ] = None,
    gateway: Annotated[str | None, typer.Option(help="Only calls whose last attempt went there.")] = None,
    deck: Annotated[
        Path | None,
        typer.Option(
            "--deck", metavar="FILE", help="Tell what a fix would change, in calls and money, by it."
        ),
    ] = None,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Find numbers that were stripped wrongly, cannot exist, or have no rate; each with the fix. Exit code
    1 where something was found.
    """
    from sidecar.adapters.deck_files import DeckRefusedError, parse_stamp, read_deck
    from sidecar.adapters.destinations import destination_name, is_plausible
    from sidecar.core.doctor import diagnose, observed_of, what_if
    from sidecar.core.rating import RatingTerms

    try:
        start = datetime.now(UTC) - timedelta(days=1) if since is None else parse_stamp(since)
        rates = None if deck is None else read_deck(deck)
    except (ValueError, DeckRefusedError) as error:
        fail(Exit.USAGE, str(error), as_json=as_json)
    with Daemon(socket, config, as_json) as daemon:
        observed = [one for cdr in records_since(daemon, start, gateway=gateway) for one in observed_of(cdr)]
    findings = diagnose(observed, is_plausible, destination_name)
    said: list[tuple[Finding, Effect | None]] = []
    for finding in findings:
        effect = None
        if rates is not None and finding.strip is not None:
            concerned = [
                one
                for one in observed
                if (one.side, one.party, one.rule) == (finding.side, finding.party, finding.rule)
            ]
            effect = what_if(concerned, finding.strip, rates, RatingTerms())
        said.append((finding, effect))
    if as_json:
        print_json([{"finding": finding, "effect": effect} for finding, effect in said])
    else:
        for finding, effect in said:
            typer.echo(printable("\n".join(_lines(finding, effect)), keep="\n"))
        typer.echo(f"{len(findings)} findings in {len(observed)} charges since {start.isoformat()}")
    if findings:
        raise typer.Exit(Exit.NO.value)


def records_since(daemon: Daemon, start: datetime, **conditions: object) -> Iterator[Cdr]:
    """The records that hold of calls that ended at `start` or later, the latest first."""
    import msgspec

    from sidecar.wire.cdr_codec import decode_json

    cursor: str | None = None
    for _ in range(RECORDS_MAX // PAGE):
        page: dict[str, Any] = daemon.ask(
            "cdr.search", ended_from=start.isoformat(), limit=PAGE, cursor=cursor, **conditions
        )
        for record in page["records"]:
            yield decode_json(msgspec.json.encode(record))
        cursor = page.get("cursor")
        if cursor is None:
            return


def _lines(finding: Finding, effect: Effect | None) -> list[str]:
    examples = ", ".join(f"{number} billed as {billed or 'nothing'}" for number, billed in finding.examples)
    what = finding.symptom.replace("_", " ")
    lines = [
        f"{what}: {finding.calls} of {finding.of} calls, {finding.side} side, {finding.party}",
        f"    such as {examples}",
        f"    {finding.fix}",
    ]
    if effect is not None:
        lines.append(
            f"    with {effect.strip} digits stripped {effect.rated_after} of {effect.calls} calls are rated "
            f"(now {effect.rated_before}): {_money(effect.after)} instead of {_money(effect.before)}"
        )
    return lines


def _money(totals: dict[str, Any]) -> str:
    return " + ".join(f"{amount:f} {currency}" for currency, amount in sorted(totals.items())) or "nothing"
