"""`sidecar policy ...`: the fraud rules, what they hold, and what they would have done."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sidecar.cli.daemon import ConfigOption, JsonOption, OperatorOption, ReasonOption, SocketOption, ask
from sidecar.cli.journal import UntilOption, books, moment_of
from sidecar.cli.output import Exit, fail, moment, print_done, print_json, print_table, printable
from sidecar.core.fraud_rules import Mode

if TYPE_CHECKING:
    from sidecar.core.fraud import Firing
    from sidecar.core.fraud_replay import Hit
    from sidecar.core.fraud_rules import FraudRule

app = typer.Typer(help="Fraud rules: what they hold, and what they would have done.", no_args_is_help=True)


@app.command("show")
def show(as_json: JsonOption = False, socket: SocketOption = None, config: ConfigOption = None) -> None:
    """Show the fraud rules in force, and what each holds now, since when and until when."""
    found = ask(socket, config, as_json, "policy.show")
    if as_json:
        print_json(found)
        return
    print_table(
        ("rule", "scope", "measure", "above>", "in s>", "mode", "lifts after s>", "fired>", "holds>"),
        [
            (
                one["name"],
                one["scope"],
                one["measure"],
                " ".join(filter(None, (one["threshold"], one["currency"]))),
                one["window_s"],
                one["mode"],
                one["lift_after_s"] or "by hand",
                one["fired"],
                one["held"],
            )
            for one in found["fraud_rules"]
        ],
    )
    if found["held"]:
        print_table(
            ("rule", "holds", "mode", "measured>", "since", "until"),
            [
                (
                    one["rule"],
                    one["key"],
                    one["mode"],
                    one["measured"],
                    moment(one["since"]),
                    moment(one["until"]) or "lifted by hand",
                )
                for one in found["held"]
            ],
        )
    else:
        typer.echo("no rule holds anything")


@app.command("lift")
def lift(
    rule: Annotated[str, typer.Argument(help="The rule's name.")],
    key: Annotated[str, typer.Argument(help="What it holds, as `sidecar policy show` has it.")],
    text: Annotated[str, typer.Option(help="Why, for the audit table.")],
    operator: OperatorOption = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Let go what a fraud rule holds. It is counted anew from then on, and may fire again."""
    lifted = ask(
        socket,
        config,
        as_json,
        "policy.lift",
        rule=rule,
        key=key,
        text=text,
        operator=operator,
    )
    print_done(lifted, f"{rule} holds {key} no longer", as_json)


Number = Annotated[str, typer.Argument(help="The called number; `4490*` is a beginning.")]


@app.command("block")
def block(
    number: Number,
    text: ReasonOption,
    operator: OperatorOption = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Refuse calls to a number from now on, also where a list allows it, and end those that are up. It
    outlasts a restart."""
    blocked = ask(socket, config, as_json, "policy.block", number=number, text=text, operator=operator)
    print_done(blocked, f"{blocked['number']} is blocked; {blocked['ended']} calls were ended", as_json)


@app.command("unblock")
def unblock(
    number: Number,
    text: ReasonOption,
    operator: OperatorOption = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Take back a block that was set by command; what the settings block stays."""
    unblocked = ask(socket, config, as_json, "policy.unblock", number=number, text=text, operator=operator)
    print_done(unblocked, f"{unblocked['number']} is blocked by command no longer", as_json)


@app.command("blocks")
def blocks(as_json: JsonOption = False, socket: SocketOption = None, config: ConfigOption = None) -> None:
    """Show the numbers that are blocked by command; `sidecar audit list --action policy.block` says by whom
    and why."""
    found = ask(socket, config, as_json, "policy.blocks")
    if as_json:
        print_json(found)
        return
    for pattern in found["blocks"]:
        typer.echo(printable(pattern))


@app.command("try")
def try_(
    rule: Annotated[str, typer.Argument(help="The rule's name.")],
    since: Annotated[str, typer.Option(metavar="TIME", help="Calls that came then or later.")],
    until: UntilOption = None,
    rules: Annotated[
        Path | None,
        typer.Option(help="A file with [[fraud_rules]], instead of those of the settings and the profile."),
    ] = None,
    mode: Annotated[
        Mode | None, typer.Option(help="As if it had this mode.", show_default="the rule's own")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Show so many of the calls.")] = 100,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show what a fraud rule would have done to the calls of the journal: when it would have fired, which
    calls it would have refused or ended, and what would not have been sold. Reads the journal; the daemon
    need not run. Exit code 1 where it would have fired."""
    from msgspec.structs import replace

    from sidecar.core.fraud import Firing, FraudWindows
    from sidecar.core.fraud_replay import Replay

    begin = moment_of("--since", since, config, as_json=as_json)
    end = moment_of("--until", until, config, as_json=as_json)
    assert begin is not None
    found = _rule(rule, rules, config, as_json)
    found = found if mode is None else replace(found, mode=mode)
    firings: list[Firing] = []
    hits: list[Hit] = []
    counts: Counter[str] = Counter()
    money: defaultdict[str, int] = defaultdict(int)
    with books(config, as_json=as_json) as journal:
        calls = _counted(journal.by_invite(begin, end), counts)
        for one in Replay(FraudWindows([found]), enforced=True).see(calls):
            if isinstance(one, Firing):
                firings.append(one)
                continue
            counts["ended" if one.ended else "refused"] += 1
            if one.nano:
                money[one.currency] += one.nano
            if len(hits) < limit:
                hits.append(one)
    summary = {
        "rule": found.name,
        "mode": found.mode.value,
        "since": begin,
        "until": end,
        "calls": counts["calls"],
        "fired": len(firings),
        "refused": counts["refused"],
        "ended": counts["ended"],
        "not_sold": {currency: _amount(nano) for currency, nano in sorted(money.items())},
    }
    if as_json:
        print_json(
            {
                **summary,
                "firings": [_said_of_firing(one) for one in firings],
                "hits": [_said_of_hit(one) for one in hits],
            }
        )
    else:
        _print(summary, firings, hits)
    if firings:
        raise typer.Exit(Exit.NO.value)


def _counted(calls: Any, counts: Counter[str]) -> Any:
    for cdr in calls:
        counts["calls"] += 1
        yield cdr


def _rule(name: str, file: Path | None, config: Path | None, as_json: bool) -> FraudRule:
    import os

    from sidecar.cli.daemon import settings_of
    from sidecar.config import ConfigError, load
    from sidecar.config.crosscheck_fraud import rules_of_file
    from sidecar.config.problems import nearest
    from sidecar.wiring.files import inputs

    try:
        if file is not None:
            currency = settings_of(config, as_json=as_json).billing.currency
            found = {one.name: one for one in rules_of_file(file, currency)}
        else:
            policy = load(inputs({}, os.environ, config)).policy
            found = {one.name: one for one in policy.fraud_rules}
    except ConfigError as error:
        fail(Exit.USAGE, str(error), as_json=as_json)
    if name not in found:
        near = nearest(name, found)
        fail(
            Exit.USAGE,
            f"there is no fraud rule {name}" + (f"; did you mean {near}?" if near else ""),
            as_json=as_json,
        )
    return found[name]


def _amount(nano: int) -> str:
    from sidecar.core.rating import amount_text

    return amount_text(Decimal(nano) / 10**9)


def _at(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat(timespec="milliseconds")


def _said_of_firing(one: Firing) -> dict[str, Any]:
    from sidecar.core.rating import amount_text

    return {
        "at": _at(one.at_ms),
        "key": one.key,
        "measured": amount_text(one.measured),
        "until": None if one.until_ms is None else _at(one.until_ms),
        "call_id": None if one.call_id is None else str(one.call_id),
    }


def _said_of_hit(one: Hit) -> dict[str, Any]:
    return {
        "at": _at(one.at_ms),
        "done": "ended" if one.ended else "refused",
        "call_id": str(one.cdr.call_id),
        "account": one.cdr.account,
        "caller": one.cdr.caller.received,
        "callee": one.cdr.callee.received,
        "not_sold": _amount(one.nano),
        "currency": one.currency or None,
    }


def _print(summary: dict[str, Any], firings: list[Firing], hits: list[Hit]) -> None:
    if firings:
        print_table(
            ("fires at", "for", "measured>", "until"),
            [
                (moment(f["at"]), f["key"], f["measured"], moment(f["until"]))
                for f in map(_said_of_firing, firings)
            ],
        )
    if hits:
        print_table(
            ("at", "", "call id", "account", "caller", "callee", "not sold>"),
            [
                (
                    moment(h["at"]),
                    h["done"],
                    h["call_id"],
                    h["account"],
                    h["caller"],
                    h["callee"],
                    f"{h['not_sold']} {h['currency'] or ''}",
                )
                for h in map(_said_of_hit, hits)
            ],
        )
    not_sold = " + ".join(f"{amount} {code}" for code, amount in summary["not_sold"].items()) or "nothing"
    of = f"{summary['calls']} calls since {summary['since'].isoformat()}"
    typer.echo(
        f"{summary['rule']} ({summary['mode']}), {of}: fires {summary['fired']} times,"
        f" refuses {summary['refused']}, ends {summary['ended']};"
        f" not sold: {not_sold}"
    )
