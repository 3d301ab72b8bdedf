"""`sidecar cdr ...`: the records that were written, from the running daemon, else from its journal. Numbers
are shown as they are."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from sidecar.cli.daemon import ConfigOption, Daemon, JsonOption, OperatorOption, SocketOption
from sidecar.cli.journal import moment_of
from sidecar.cli.node import NodeOption, ask_node
from sidecar.cli.output import Exit, fail, moment, print_fields, print_json, print_table
from sidecar.core.terms import Detail, HangupOrigin, ServerReason

app = typer.Typer(help="Call records.", no_args_is_help=True)

FOLLOW_INTERVAL_S = 0.5
SHOWN_MAX = 20  # calls of one Call-ID
COLUMNS = (
    "ended",
    "call id",
    "account",
    "caller",
    "dialled",
    "billed number",
    "ended by",
    "reason",
    "detail",
    "SIP/Q.850",
    "talk s>",
    "billed s>",
    "charge>",
    "",
)


@app.command("tail")
def tail(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with records as they come.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="So many of the last.")] = 20,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Show the last published records, those of all nodes on the same database, in the order in which they
    were written by the clocks of these; as JSON one per line. The daemon need not run."""
    with Daemon(socket, config, as_json, else_journal=True) as daemon:
        page = daemon.ask("cdr.tail", limit=limit)
        _print_records(page["records"], as_json, header=True)
        try:
            while follow:
                page = daemon.ask("cdr.tail", cursor=page["cursor"], limit=1000)
                _print_records(page["records"], as_json, header=False)
                if not page["records"]:
                    time.sleep(FOLLOW_INTERVAL_S)
        except KeyboardInterrupt:
            raise typer.Exit(0) from None


@app.command("show")
def show(
    call: Annotated[str, typer.Argument(metavar="CALL", help="The call's id, or a SIP Call-ID of it.")],
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Show everything that is known of a call: all revisions of its record, the one that holds last. A SIP
    Call-ID may be of several calls. The daemon need not run."""
    with Daemon(socket, config, as_json, else_journal=True) as daemon:
        found = [
            record["call_id"]
            for kept_back in (False, True)
            for record in _all_found(daemon, SHOWN_MAX, sip_call_id=call, suppressed=kept_back)["records"]
        ]
        if not found:
            try:
                found = [str(UUID(call))]
            except ValueError:
                fail(Exit.NO, f"no record has the Call-ID {call}", as_json=as_json)
        records = [
            record
            for call_id in dict.fromkeys(found)
            for record in daemon.ask("cdr.show", call_id=call_id)["records"]
        ]
    if as_json:
        print_json(records)
        return
    for record in records:
        kept_back = "" if record["recorded"] else f", kept back by {record['suppressed_by']}"
        title = f"{record['call_id']}, revision {record['revision']}{kept_back}"
        print_fields(flat_fields(record), title=title)


def _all_found(daemon: Daemon, limit: int, cursor: str | None = None, **conditions: object) -> dict[str, Any]:
    """One answer may hold too few: of what is not in columns the daemon looks at so many at a time."""
    records: list[dict[str, Any]] = []
    while True:
        found = daemon.ask("cdr.search", **conditions, limit=limit - len(records), cursor=cursor)
        records += found["records"]
        cursor = found["cursor"]
        if cursor is None or len(records) >= limit:
            return {"records": records, "cursor": cursor}


@app.command("search")
def search(
    origin: Annotated[HangupOrigin | None, typer.Option(help="Who ended the call.")] = None,
    reason: Annotated[ServerReason | None, typer.Option(help="Why the server ended it.")] = None,
    detail: Annotated[Detail | None, typer.Option(help="The cause.", metavar="DETAIL")] = None,
    account: Annotated[str | None, typer.Option(help="Whose call it was.")] = None,
    number: Annotated[
        str | None,
        typer.Option(help="The caller's or callee's, as received or billed; `49151*` is a beginning."),
    ] = None,
    gateway: Annotated[str | None, typer.Option(help="The gateway of the last attempt.")] = None,
    ended_from: Annotated[
        str | None,
        typer.Option(
            "--from",
            "--since",
            help="Ended then or later: 2026-11-01 (of node.time_zone), 2026-11-01T08:00Z.",
        ),
    ] = None,
    ended_to: Annotated[str | None, typer.Option("--to", "--until", help="Ended before.")] = None,
    charge_min: Annotated[
        str | None, typer.Option("--charge-min", metavar="AMOUNT", help="The account pays at least so much.")
    ] = None,
    charge_max: Annotated[
        str | None, typer.Option("--charge-max", metavar="AMOUNT", help="The account pays at most so much.")
    ] = None,
    currency: Annotated[
        str | None, typer.Option("--currency", metavar="CODE", help="Of both bounds, and of the calls found.")
    ] = None,
    sip_call_id: Annotated[
        str | None, typer.Option("--sip-call-id", metavar="CALL-ID", help="The Call-ID of either leg.")
    ] = None,
    tag: Annotated[str | None, typer.Option(metavar="TAG", help="A From or To tag of either leg.")] = None,
    session_id: Annotated[
        str | None, typer.Option("--session-id", metavar="ID", help="A Session-ID (RFC 7989), or half of it.")
    ] = None,
    suppressed: Annotated[
        bool, typer.Option("--suppressed", help="Records that were kept back, instead of published ones.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, the latest first.")] = 100,
    cursor: Annotated[str | None, typer.Option(help="Goes on where an earlier search ended.")] = None,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Find records: all conditions that are given must hold. The daemon need
    not run: then its journal is read. Exit code 1 where there are none."""
    if currency is None and (charge_min is not None or charge_max is not None):
        fail(Exit.USAGE, "--charge-min and --charge-max need --currency", as_json=as_json)
    conditions = {
        "origin": origin,
        "reason": reason,
        "detail": detail,
        "account": account,
        "number": number,
        "gateway": gateway,
        "ended_from": _moment("--from", ended_from, as_json, config),
        "ended_to": _moment("--to", ended_to, as_json, config),
        "suppressed": suppressed,
        "charge_min": charge_min,
        "charge_max": charge_max,
        "currency": currency,
        "sip_call_id": sip_call_id,
        "tag": tag,
        "session_id": session_id,
    }
    with Daemon(socket, config, as_json, else_journal=True) as daemon:
        found = _all_found(daemon, limit, cursor, **conditions)
    if as_json:
        print_json(found)
    else:
        _print_records(found["records"], as_json=False, header=True)
        if found["cursor"] is not None:
            typer.echo(f"there are more: --cursor {found['cursor']}")
    if not found["records"]:
        raise typer.Exit(Exit.NO.value)


@app.command("suppressed")
def suppressed(
    account: Annotated[str | None, typer.Option(help="Whose calls.")] = None,
    ended_from: Annotated[
        str | None,
        typer.Option(
            "--from",
            "--since",
            help="Ended then or later: 2026-11-01 (of node.time_zone), 2026-11-01T08:00Z.",
        ),
    ] = None,
    ended_to: Annotated[str | None, typer.Option("--to", "--until", help="Ended before.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, the latest first.")] = 1000,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Show the calls whose record was kept back, by which setting, what they cost or would have cost, and the
    sums by account, currency and setting. Exit code 1 where there are none."""
    conditions = {
        "suppressed": True,
        "account": account,
        "ended_from": _moment("--from", ended_from, as_json, config),
        "ended_to": _moment("--to", ended_to, as_json, config),
    }
    records: list[dict[str, Any]] = []
    cursor: str | None = None
    with Daemon(socket, config, as_json, else_journal=True) as daemon:
        while len(records) < limit:
            page = min(1000, limit - len(records))
            found = daemon.ask("cdr.search", **conditions, limit=page, cursor=cursor)
            records += found["records"]
            cursor = found["cursor"]
            if cursor is None:
                break
    sums = kept_back_sums(records)
    if as_json:
        print_json({"records": records, "sums": sums, "more": cursor is not None})
    elif records:
        print_table(
            (*COLUMNS, "kept back by"), [(*summary(record), record["suppressed_by"]) for record in records]
        )
        print_table(
            ("account", "kept back by", "charged", "calls>", "amount>", "currency"),
            [tuple(one.values()) for one in sums],
        )
        if cursor is not None:
            typer.echo(f"there are more than {limit}: --limit, or --to {records[-1]['ended_at']}")
    if not records:
        raise typer.Exit(Exit.NO.value)


def kept_back_sums(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the account pays or would have paid, by account, setting and currency."""
    from sidecar.core.amounts import EXACT
    from sidecar.core.records import is_charged

    sums: dict[tuple[str, str, str], tuple[int, Decimal]] = {}
    for record in records:
        for line in record["charges"]:
            if line["side"] == "sell":
                key = record["account"], record["suppressed_by"], line["currency"] or ""
                calls, amount = sums.get(key, (0, Decimal(0)))
                sums[key] = calls + 1, EXACT.add(amount, Decimal(line["total"] or 0))
    return [
        {
            "account": who,
            "suppressed_by": setting,
            "charged": is_charged(setting),
            "calls": calls,
            "amount": f"{amount:f}",
            "currency": currency,
        }
        for (who, setting, currency), (calls, amount) in sorted(sums.items())
    ]


@app.command("replay")
def replay(
    from_seq: Annotated[int | None, typer.Option(min=1, help="The first number.")] = None,
    to_seq: Annotated[
        int | None, typer.Option(min=1, help="The last number.", show_default="the last there is")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="From the first of a call that ended then: 2026-11-01, 2026-11-01T08:00Z."),
    ] = None,
    node: NodeOption = None,
    operator: OperatorOption = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Publish records again, under their old numbers and message ids, marked as replayed. Live ones go first.
    Numbers that were not sent are named. Exit code 1 where nothing was sent."""
    if (from_seq is None) == (since is None):
        fail(Exit.USAGE, "give --from-seq or --since", as_json=as_json)
    done: dict[str, Any] = {"sent": 0, "to_seq": 0, "waiting": [], "dead_letters": [], "absent": []}
    asked = {"from_seq": from_seq, "since": _moment("--since", since, as_json, config), "to_seq": to_seq}
    while True:
        page = ask_node(node, socket, config, as_json, "cdr.replay", **asked, operator=operator)
        done["sent"] += page["sent"]
        done["to_seq"] = page["to_seq"]
        for name in _NOT_SENT:
            done[name] += page[name]
        if page["next_seq"] is None:
            break
        asked = {"from_seq": page["next_seq"], "to_seq": to_seq}
    if as_json:
        print_json(done)
    else:
        typer.echo(f"{done['sent']} records were sent again, up to number {done['to_seq']}")
        for name, meaning in _NOT_SENT.items():
            if done[name]:
                ranges = ", ".join(f"{a}-{b}" if a != b else str(a) for a, b in done[name])
                typer.echo(f"not sent, {meaning}: {ranges}")
    if not done["sent"]:
        raise typer.Exit(Exit.NO.value)


_NOT_SENT = {
    "waiting": "they wait for the broker and come by themselves",
    "dead_letters": "dead letters (`sidecar dead-letter list`)",
    "absent": "not in the journal",
}


def _moment(option: str, text: str | None, as_json: bool, config: Path | None) -> str | None:
    found = moment_of(option, text, config, as_json=as_json)
    return None if found is None else found.isoformat()


def _print_records(records: Sequence[dict[str, Any]], as_json: bool, *, header: bool) -> None:
    if as_json:
        for record in records:
            print_json(record, one_line=True)
    elif records or header:
        print_table(COLUMNS, map(summary, records))


def summary(record: dict[str, Any]) -> tuple[object, ...]:
    """The cells of COLUMNS."""
    sell = next((line for line in record["charges"] if line["side"] == "sell"), None)
    charge = "" if sell is None else sell["rating_status"]
    if sell is not None and sell["total"] is not None and sell["currency"] is not None:
        charge = f"{sell['total']} {sell['currency']}"
    return (
        moment(record["ended_at"]),
        record["call_id"],
        record["account"],
        record["caller"]["received"],
        record["callee"]["received"],
        record["callee"]["billed"],
        record["hangup_origin"],
        record["server_reason"],
        record["detail"],
        f"{record['sip_code']}/{record['q850_cause']}",
        record["talk_ms"] / 1000,
        record["billed_s"],
        charge,
        f"rev {record['revision']}" if record["revision"] else "",
    )


def flat_fields(record: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every field that holds something, lists and objects with their path: `charges[0].prefix`."""
    for name, value in record.items():
        path = f"{prefix}{name}"
        match value:
            case dict():
                yield from flat_fields(value, f"{path}.")
            case list():
                for index, one in enumerate(value):
                    if isinstance(one, dict):
                        yield from flat_fields(one, f"{path}[{index}].")
                    else:
                        yield f"{path}[{index}]", one
            case None:
                pass
            case _:
                yield path, value
