"""`sidecar route try NUMBER --from PEER`: what would come of a call, by the code that decides about calls."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sidecar.cli.daemon import ConfigOption, Daemon, JsonOption, SocketOption
from sidecar.cli.output import Exit, fail, print_fields, print_json, print_table

_NUMBER = re.compile(r"[+0-9*#]|urn:", re.IGNORECASE)


class OrTry(TyperGroup):
    """`sidecar route NUMBER` is `sidecar route try NUMBER`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        return super().resolve_command(ctx, ["try", *args] if _NUMBER.match(args[0]) else args)


def try_(
    number: Annotated[str, typer.Argument(help="As dialled, or a URN.")],
    peer: Annotated[str, typer.Option("--from", metavar="PEER", help="The peer group that sends it.")],
    seconds: Annotated[str, typer.Option(metavar="S", help="Talk time, which is priced.")] = "60",
    caller: Annotated[str, typer.Option(metavar="NUMBER", help="Who calls: the user part of From.")] = "",
    address: Annotated[
        str, typer.Option(metavar="IP", help="It comes from there.", show_default="the first of the peer")
    ] = "",
    headers: Annotated[
        list[str] | None,
        typer.Option("--header", metavar="NAME=VALUE", help="It has this header, for account rules."),
    ] = None,
    tls_name: Annotated[str, typer.Option(metavar="NAME", help="Its certificate has this name.")] = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """What would come of a call: whose it is, what is stripped, where it goes in which order, what it costs,
    or why it is refused. Nothing is sent, reserved or counted. `try` may be left out. By what is in force,
    and how full the node is; where no daemon runs, by the settings, the journal and the decks. Exit code 1:
    it would be refused."""
    said = dict(_header(one, as_json) for one in headers or ())
    with Daemon(socket, config, as_json, else_try=True) as daemon:
        trial = daemon.ask(
            "route.try",
            number=number,
            peer=peer,
            seconds=seconds,
            caller=caller,
            address=address,
            headers=said,
            tls_name=tls_name,
        )
        trial["daemon"] = daemon.is_running
    if as_json:
        print_json(trial)
    else:
        _print(trial, number, peer)
    if trial["detail"] is not None:
        raise typer.Exit(Exit.NO.value)


def _print(trial: dict[str, Any], number: str, peer: str) -> None:
    rule, route, sell = trial["claimed_by"], trial["route"], trial["sell"]
    asked = ", ".join(f"{key} {value}" for key, value in (rule or {}).items() if value is not None)
    refused = None
    if trial["detail"] is not None:
        by = f" by {trial['rule']}" if trial["rule"] else ""
        refused = f"{trial['sip_code']}, {trial['detail']}{by}"
    added = f", {sell['added']} put in front" if sell["added"] else ""
    print_fields(
        (
            ("call", f"{number} from {peer}"),
            ("refused", refused),
            ("account", trial["account"]),
            ("by the rule", asked or "none: no rule applies"),
            ("strip", f"{sell['strip_rule']}: {sell['stripped']} off the front{added}"),
            ("billed number", sell["billed_number"] or "none"),
            ("route", "none matches" if route is None else route["prefix"] or '"", every number'),
            (
                "credit",
                "reserved first, if the balance allows it" if trial["is_reserved"] else None,
            ),
            ("daemon", None if trial["daemon"] else "none runs: nobody knows what is down or full"),
        )
    )
    print_table(
        ("", "who", "matched", "steps", "of", "billed s>", "costs>", ""),
        [
            ("pays", *_cells(sell), ""),
            *(
                (
                    "passed over" if one["is_passed_over"] else f"gateway {place}",
                    *(_cells(one["buy"]) if one["buy"] else (one["gateway"], *[""] * 5)),
                    "is down" if one["is_down"] else "",
                )
                for place, one in enumerate(trial["gateways"], 1)
            ),
        ],
    )


def _cells(line: dict[str, Any]) -> tuple[object, ...]:
    revision = line["deck_revision"]
    cost = line["rating_status"]
    if line["total"] is not None:
        cost = f"{line['total']} {line['currency'] or ''}"
    matched = "" if line["prefix"] is None else f"{line['prefix'] or '(default)'} {line['destination'] or ''}"
    deck = f"deck {revision[:12]}" if revision else "no deck"
    return line["party"], matched, line["rate"] or "", deck, line["billed_s"], cost


def _header(text: str, as_json: bool) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        fail(Exit.USAGE, f"--header {text}: not NAME=VALUE", as_json=as_json)
    return name, value
