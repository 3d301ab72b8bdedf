"""`sidecar call ...`: the calls that are up."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from sidecar.cli.daemon import ConfigOption, JsonOption, SocketOption, ask, operator_name
from sidecar.cli.output import moment, print_json, print_table, printable

app = typer.Typer(help="The calls that are up.", no_args_is_help=True)


@app.command("list")
def list_calls(
    account: Annotated[str | None, typer.Option(help="Only calls of this account.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, the oldest first.")] = 100,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Show the calls that are up."""
    found = ask(socket, config, as_json, "call.list", account=account, limit=limit)
    if as_json:
        print_json(found)
        return
    print_table(
        ("call id", "phase", "account", "gateway", "caller", "callee", "invited", "talk s>", "granted s>"),
        [
            (
                call["call_id"],
                call["phase"],
                call["account"],
                call["gateway"],
                call["caller"],
                call["callee"],
                moment(call["invited_at"]),
                call["talk_s"] if call["answered_at"] else None,
                call["granted_s"],
            )
            for call in found["calls"]
        ],
    )
    if found["total"] != len(found["calls"]):
        typer.echo(f"{len(found['calls'])} of {found['total']} calls; --limit shows more")
    elif not found["calls"]:
        typer.echo("no call is up")


@app.command("release")
def release(
    call_id: Annotated[UUID, typer.Argument(help="The call's id, from `sidecar call list`.")],
    operator: Annotated[
        str | None, typer.Option(help="Who ends it, for the record.", show_default="the user")
    ] = None,
    text: Annotated[str, typer.Option(help="Why, for the record. Never sent to the callers.")] = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """End a call: both sides get a BYE (or a final response), the record says who ended it and why."""
    released = ask(
        socket,
        config,
        as_json,
        "call.release",
        call_id=str(call_id),
        operator=operator or operator_name(),
        text=text,
    )
    if as_json:
        print_json(released)
    else:
        typer.echo(f"released {printable(released['call_id'])}")
