"""`sidecar call ...`: the calls that are up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from sidecar.cli.daemon import ConfigOption, JsonOption, OperatorOption, SocketOption, ask
from sidecar.cli.node import ask_node
from sidecar.cli.output import Exit, moment, print_done, print_json, print_table

app = typer.Typer(help="The calls that are up.", no_args_is_help=True)


Account = Annotated[str | None, typer.Option(help="Calls of this account.")]
Peer = Annotated[str | None, typer.Option(help="Calls that came from this peer group.")]
Gateway = Annotated[str | None, typer.Option(help="Calls whose last attempt went to this gateway.")]
Callee = Annotated[
    str | None, typer.Option(help="Calls to this number, as received or billed; `4490*` is a beginning.")
]
Caller = Annotated[str | None, typer.Option(help="Calls from this number; `4490*` is a beginning.")]
OlderThan = Annotated[
    int | None,
    typer.Option("--older-than", min=0, metavar="SECONDS", help="Calls that began so long ago, or longer."),
]


@app.command("list")
def list_calls(
    account: Account = None,
    peer: Peer = None,
    gateway: Gateway = None,
    callee: Callee = None,
    caller: Caller = None,
    older_than: OlderThan = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, the oldest first.")] = 100,
    all_nodes: Annotated[
        bool, typer.Option("--all-nodes", help="Of all nodes on the same database; of each at most so many.")
    ] = False,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Show the calls that are up: those that all given conditions hold of."""
    asked: dict[str, object] = {
        "account": account,
        "peer": peer,
        "gateway": gateway,
        "callee": callee,
        "caller": caller,
        "older_than_s": older_than,
        "limit": limit,
    }
    if all_nodes:
        found = _of_all_nodes(socket, config, as_json, asked)
    else:
        found = ask(socket, config, as_json, "call.list", **asked)
    if as_json:
        print_json(found)
        return
    names = ("call id", "phase", "account", "gateway", "caller", "callee", "invited", "talk s>", "granted s>")
    print_table(
        ("node", *names) if all_nodes else names,
        [
            (
                *((call["node"],) if all_nodes else ()),
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
    for one in found.get("not_heard", ()):
        typer.echo(f"node {one['node']} is not heard: {one['open_calls']} open calls in the books", err=True)


def _of_all_nodes(
    socket: Path | None, config: Path | None, as_json: bool, asked: dict[str, object]
) -> dict[str, Any]:
    """As of one, with the node of each call, and who is not heard."""
    own = ask(socket, config, as_json, "node.status")["node"]
    calls, total, silent = list[dict[str, Any]](), 0, list[dict[str, Any]]()
    for one in ask(socket, config, as_json, "node.list")["nodes"]:
        if one["node"] != own and one["state"] is None:
            if one["open_calls"]:
                silent.append({"node": one["node"], "open_calls": one["open_calls"]})
            continue
        name = None if one["node"] == own else one["node"]
        found = ask_node(name, socket, config, as_json, "call.list", **asked)
        total += found["total"]
        calls += [{**call, "node": one["node"]} for call in found["calls"]]
    return {"total": total, "calls": sorted(calls, key=lambda call: call["call_id"]), "not_heard": silent}


@app.command("release")
def release(
    call_id: Annotated[
        UUID | None,
        typer.Argument(help="The call's id, from `sidecar call list`.", show_default="all, by conditions"),
    ] = None,
    account: Account = None,
    peer: Peer = None,
    gateway: Gateway = None,
    callee: Callee = None,
    caller: Caller = None,
    older_than: OlderThan = None,
    operator: OperatorOption = "",
    text: Annotated[str, typer.Option(help="Why, for the record. Never sent to the callers.")] = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """End a call, or all that the conditions hold of (`sidecar call list` shows them by the same ones): both
    sides get a BYE (or a final response), the record says who ended it and why. Conditions leave emergency
    calls alone. Exit code 1 where there are none."""
    released = ask(
        socket,
        config,
        as_json,
        "call.release",
        call_id=str(call_id) if call_id is not None else None,
        account=account,
        peer=peer,
        gateway=gateway,
        callee=callee,
        caller=caller,
        older_than_s=older_than,
        operator=operator,
        text=text,
    )
    which = f"{released['count']} calls" if call_id is None else released["call_id"]
    print_done(released, f"released {which}", as_json)
    if not released["released"]:
        raise typer.Exit(Exit.NO.value)
