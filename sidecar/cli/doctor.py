"""`sidecar doctor`: what the recorded calls say about strip lengths and rates."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli.daemon import ConfigOption, JsonOption
from sidecar.cli.deck_force import policy_in_force, read_stored, stored_decks
from sidecar.cli.journal import AccountOption, GatewayOption, UntilOption, books, moment_of
from sidecar.cli.output import Exit, print_json, printable

if TYPE_CHECKING:
    from decimal import Decimal
    from pathlib import Path

    from sidecar.core.doctor import DeckFinding, Finding
    from sidecar.core.tariff import Deck

CHARGES_MAX = 200_000  # the latest so many are examined: 100 MB, and far more than a verdict needs


def doctor(
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Calls that ended then or later; a day ago if not given."),
    ] = None,
    until: UntilOption = None,
    gateway: GatewayOption = None,
    account: AccountOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Find numbers that are stripped wrongly, cannot exist or have no rate, each with evidence, the fix,
    and what the fix would change in calls and money; calls that were carried without a price; and decks with
    exit codes in their prefixes, or with prices that are others by a factor of 10, 60 or 100. The latest
    200,000 charges are examined. Reads the journal; the daemon need not run. Exit code 1 where something was
    found."""
    from sidecar.adapters.destinations import NUMBERING_PLAN
    from sidecar.core.doctor import (
        Observed,
        book_of,
        carried_unrated,
        deck_findings,
        diagnose,
        observed_of,
    )
    from sidecar.ports import RecordFilter

    begin = moment_of("--since", since, config, as_json=as_json) or datetime.now(UTC) - timedelta(days=1)
    end = moment_of("--until", until, config, as_json=as_json)
    policy = policy_in_force(config, as_json=as_json)
    charges = deque[Observed]()
    records = 0
    with books(config, as_json=as_json) as journal:
        # A call that was refused for want of a rate may have been kept back: it shows what is wrong all the
        # same.
        for suppressed in (False, True):
            wanted = RecordFilter(
                account=account, gateway=gateway, since=begin, until=end, suppressed=suppressed
            )
            for cdr in journal.records(wanted, latest_first=True):
                if len(charges) >= CHARGES_MAX:
                    break
                records += 1
                charges.extendleft(reversed([*observed_of(cdr)]))
    findings = diagnose(charges, NUMBERING_PLAN, book_of(policy))
    findings += carried_unrated(charges, findings, NUMBERING_PLAN)
    now = datetime.now(UTC)
    in_decks = [
        finding
        for name, deck in sorted(policy.decks.items())
        for finding in deck_findings(name, deck, _before(config, name, deck, as_json), NUMBERING_PLAN, now)
    ]
    if as_json:
        from sidecar.wire.plain import plain

        said = [{**plain(one), "share": round(one.share, 4)} for one in findings]
        print_json(
            {
                "since": begin,
                "until": end,
                "calls": records,
                "charges": len(charges),
                "findings": said,
                "deck_findings": plain(in_decks),
            }
        )
    else:
        for finding in findings:
            typer.echo(printable("\n".join(_lines(finding)), keep="\n"))
        for one in in_decks:
            typer.echo(printable("\n".join(_deck_lines(one)), keep="\n"))
        only = ", the latest of them" if len(charges) >= CHARGES_MAX else ""
        typer.echo(
            f"{len(findings) + len(in_decks)} findings in {len(charges)} charges{only}, of {records} calls "
            f"since {begin.isoformat()}"
        )
    if findings or in_decks:
        raise typer.Exit(Exit.NO.value)


def _before(config: Path | None, name: str, deck: Deck, as_json: bool) -> Deck | None:
    """What was in force under the name before this deck."""
    from sidecar.core.deck_history import SETTINGS, before

    store = stored_decks(None, config, as_json)
    earlier = before(store.history(name), datetime.now(UTC))
    settings = store.of_settings().get(name, "")
    revision = settings if earlier is None or earlier.revision == SETTINGS else earlier.revision
    return read_stored(store, revision, as_json) if revision and revision != deck.revision else None


def _deck_lines(finding: DeckFinding) -> Iterator[str]:
    yield (
        f"{finding.symptom.replace('_', ' ')}: deck {finding.deck}, {finding.rows} of {finding.of} rows "
        f"({finding.revision[:12]})"
    )
    yield f"    {finding.text}"
    yield f"    {', '.join(finding.examples)}"
    yield f"    fix: {finding.fix}"


def _lines(finding: Finding) -> Iterator[str]:
    yield (
        f"{finding.symptom.replace('_', ' ')}: {finding.side} side, {finding.subject}: {finding.calls} of "
        f"{finding.of} calls ({finding.share:.0%}) to {finding.numbers} numbers, "
        f"{finding.first_at:%Y-%m-%d %H:%M} to {finding.last_at:%Y-%m-%d %H:%M}"
    )
    yield f"    {finding.text}"
    for one in finding.examples:
        meant = f", should be {one.should_be}" if one.should_be else ""
        prefix = "no rate" if one.prefix is None else f"prefix {one.prefix or '(default)'}"
        yield f"    {one.call_id}  {one.number} billed as {one.billed or 'nothing'} ({prefix}){meant}"
    for fix in finding.fixes:
        yield f"    fix: {fix.text}"
    if (effect := finding.effect) is not None:
        yield (
            f"    then {effect.changed} of {effect.calls} calls are rated otherwise; "
            f"{effect.rated_after} have a rate (now {effect.rated_before}): "
            f"{_money(effect.after)} instead of {_money(effect.before)}"
        )


def _money(totals: dict[str, Decimal]) -> str:
    return " + ".join(f"{amount:f} {currency}" for currency, amount in sorted(totals.items())) or "nothing"
