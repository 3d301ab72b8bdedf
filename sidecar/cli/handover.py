"""`sidecar cdr export`, `verify` and `summary`: records for other programs, and what they come to."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli.daemon import ConfigOption, JsonOption
from sidecar.cli.journal import (
    AccountOption,
    GatewayOption,
    SinceOption,
    UntilOption,
    ZoneOption,
    books,
    moment_of,
)
from sidecar.cli.output import Exit, fail, print_json, print_table, printable
from sidecar.core.terms import HangupOrigin, ServerReason
from sidecar.core.totals import GroupBy

if TYPE_CHECKING:
    from sidecar.core.totals import Amounts, Revenue


class CallMoment(StrEnum):
    START = "start"
    END = "end"


FORMATS = ("csv", "jsonl", "parquet")
COLUMNS = (
    "group",
    "origin",
    "reason",
    "calls>",
    "talk s>",
    "billed s>",
    "unrated>",
    "revenue>",
    "cost>",
    "not charged>",
    "talk s>",
    "would have cost>",
    "kept back by",
)


def export(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="A folder without an export; made if need be.")
    ],
    wanted: Annotated[str, typer.Option("--format", metavar="FORMAT", help=", ".join(FORMATS))] = "csv",
    since: SinceOption = None,
    until: UntilOption = None,
    account: AccountOption = None,
    gateway: GatewayOption = None,
    origin: Annotated[HangupOrigin | None, typer.Option(help="Who ended the call.")] = None,
    reason: Annotated[ServerReason | None, typer.Option(help="Why the server ended it.")] = None,
    number: Annotated[
        str | None, typer.Option(help="The caller's or callee's; `49151*` is a beginning.")
    ] = None,
    suppressed: Annotated[
        bool, typer.Option("--suppressed", help="Records that were kept back, instead of published ones.")
    ] = False,
    by: Annotated[
        CallMoment, typer.Option("--by", help="Whether --since and --until ask when calls began or ended.")
    ] = CallMoment.END,
    zone: ZoneOption = None,
    revised_since: Annotated[
        str | None,
        typer.Option(
            "--revised-since",
            metavar="TIME",
            help="Calls whose record was revised then or later, whenever they were.",
        ),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Write records to files, each call by its highest revision, with a manifest and control totals. Reads
    the journal; the daemon need not run."""
    from sidecar.adapters.exports import ExportError, Format, JournalHead
    from sidecar.adapters.exports import export as write
    from sidecar.cli.version import product_version
    from sidecar.ports import RecordFilter
    from sidecar.wire.plain import plain

    if wanted not in FORMATS:
        fail(Exit.USAGE, f"--format {wanted}: one of {', '.join(FORMATS)}", as_json=as_json)
    asked = RecordFilter(
        account=account,
        gateway=gateway,
        origin=origin,
        reason=reason,
        number=number,
        since=moment_of("--since", since, config, as_json=as_json, zone=zone),
        until=moment_of("--until", until, config, as_json=as_json, zone=zone),
        suppressed=suppressed,
        by_start=by is CallMoment.START,
        revised_since=moment_of("--revised-since", revised_since, config, as_json=as_json, zone=zone),
    )
    said = plain(asked).items()
    filters = {name: value for name, value in said if value or (name, value) == ("suppressed", False)}
    if filters.pop("by_start", False):
        filters["by"] = by.value
    if zone is not None:
        filters["zone"] = zone
    with books(config, as_json=as_json) as journal:
        head = journal.head()
        try:
            manifest = write(
                journal.records(asked),
                out,
                Format(wanted),
                filters=filters,
                product=f"sidecar {product_version()}",
                generated_at=datetime.now(UTC),
                journal=None
                if head is None
                else JournalHead(epoch=head.epoch, commit=head.number, commit_hash=head.hash),
            )
        except ExportError as error:
            fail(Exit.USAGE, str(error), as_json=as_json)
    if as_json:
        print_json(plain(manifest))
        return
    totals = manifest.control_totals.all
    typer.echo(
        f"{totals.records} records, {totals.talk_ms / 1000:.3f} s talked, {totals.billed_s} s billed; "
        f"sold for {_money(totals.sell)}, bought for {_money(totals.buy)}"
    )
    for file in manifest.files:
        typer.echo(f"{out / file.name}  {file.records} records, {file.bytes} bytes")
    typer.echo(f"check: sidecar cdr verify {out}, or cd {out} && sha256sum -c SHA256SUMS")


def verify(
    place: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of an export, or its manifest.")],
    as_json: JsonOption = False,
) -> None:
    """Check an export: digests, records and control totals, made again from its files, against its manifest.
    Exit code 1 where anything differs. Needs neither journal nor daemon."""
    from sidecar.adapters.exports import ExportError
    from sidecar.adapters.exports import verify as read_back

    try:
        found = read_back(place)
    except ExportError as error:
        fail(Exit.USAGE, str(error), as_json=as_json)
    if as_json:
        print_json(found)
    else:
        for text in found.findings:
            typer.echo(printable(text))
        verdict = f"{len(found.findings)} findings" if found.findings else "as its manifest says"
        typer.echo(f"{found.records} records in {found.files} files: {verdict}")
    if found.findings:
        raise typer.Exit(Exit.NO.value)


def summary(
    since: SinceOption = None,
    until: UntilOption = None,
    by: Annotated[GroupBy | None, typer.Option("--by", help="One row for each of these.")] = None,
    account: AccountOption = None,
    gateway: GatewayOption = None,
    zone: ZoneOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """What calls brought in, by who ended them and why; and what those would have cost that a record flag
    kept free. Reads the journal; the daemon need not run."""
    from itertools import chain

    from sidecar.core.totals import revenue
    from sidecar.ports import RecordFilter
    from sidecar.wire.plain import plain

    begin = moment_of("--since", since, config, as_json=as_json, zone=zone)
    end = moment_of("--until", until, config, as_json=as_json, zone=zone)
    with books(config, as_json=as_json) as journal:
        records = chain.from_iterable(
            journal.records(
                RecordFilter(account=account, gateway=gateway, since=begin, until=end, suppressed=suppressed)
            )
            for suppressed in (False, True)
        )
        rows = revenue(records, by)
    if as_json:
        print_json({"since": begin, "until": end, "by": by, "rows": plain(rows)})
        return
    columns = COLUMNS if by is not None else COLUMNS[1:]
    print_table(
        [by.value if by is not None and name == "group" else name for name in columns],
        [_cells(row)[-len(columns) :] for row in rows],
    )


def _cells(row: Revenue) -> tuple[object, ...]:
    charged, waived = row.charged, row.waived
    return (
        row.group,
        row.origin,
        row.reason,
        charged.calls,
        charged.talk_ms / 1000,
        charged.billed_s,
        charged.unrated,
        _money(charged.sell),
        _money(charged.buy),
        waived.calls or None,
        waived.talk_ms / 1000 if waived.calls else None,
        _money(waived.sell) if waived.calls else None,
        ", ".join(f"{setting}: {calls}" for setting, calls in sorted(row.waived_by.items())),
    )


def _money(amounts: dict[str, Amounts]) -> str:
    """Each currency by itself."""
    shown = [f"{one.total:f} {currency}" for currency, one in sorted(amounts.items()) if one.total]
    return " + ".join(shown) or "0"
