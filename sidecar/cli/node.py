"""`sidecar node ...`: the node as a whole."""

from __future__ import annotations

from typing import Annotated

import typer

from sidecar.cli.daemon import ConfigOption, JsonOption, SocketOption, ask, operator_name
from sidecar.cli.output import moment, print_fields, print_json, print_table, printable

app = typer.Typer(help="The node as a whole.", no_args_is_help=True)


@app.command("status")
def status(
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Show what the node is, where it listens, what it carries and what waits for the broker."""
    found = ask(socket, config, as_json, "node.status")
    if as_json:
        print_json(found)
        return
    found["sip"] = ", ".join(found["sip"])
    ends = found.pop("tls_files")
    found["tls_until"] = ", ".join(f"{moment(end)} ({name})" for name, end in ends.items())
    print_fields((name.replace("_", " "), value) for name, value in found.items())


@app.command("gateways")
def gateways(
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Show the gateways: which are up or down, since when, and what they answered to probes and
    registrations."""
    found = ask(socket, config, as_json, "node.gateways")
    if as_json:
        print_json(found)
        return
    print_table(
        (
            *(
                "gateway",
                "address",
                "state",
                "since",
                "calls>",
                "of>",
                "probe",
                "ms>",
                "registration",
                "until",
            ),
            *("name", "servers"),
        ),
        [
            (
                gateway["gateway"],
                f"{gateway['transport']}:{gateway['address']}",
                gateway["state"],
                moment(gateway["since"]),
                gateway["calls"],
                gateway["calls_max"],
                gateway["probe_answer"] if gateway["probed"] else "off",
                gateway["probe_ms"],
                " ".join(filter(None, (gateway["registration"], gateway["register_answer"]))),
                moment(gateway["registered_until"]),
                gateway["name_state"],
                " ".join(f"{one['address']}={one['state']}" for one in gateway["servers"]),
            )
            for gateway in found["gateways"]
        ],
    )


@app.command("reload")
def reload(
    operator: Annotated[
        str | None, typer.Option(help="Who reloads, for the log.", show_default="the user")
    ] = None,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Read the settings again and take over fraud rules, which look at the calls that are up, too; rules
    about numbers, which end those that they forbid; rules about callers, hours and prices, exchange rates
    and margin floors, for the next calls; and what the TLS files hold, for the next handshakes. All
    else waits for the next start; a mistake anywhere leaves all as it was (exit code 1)."""
    found = ask(socket, config, as_json, "node.reload", operator=operator or operator_name())
    if as_json:
        print_json(found)
        return
    for warning in found["warnings"]:
        typer.echo(printable(f"warning: {warning}"))
    rates, floors = found["exchange_rates"], found["margin_floors"]
    typer.echo(f"{'in force' if found['changed'] else 'nothing changed'}: {rates} exchange rates")
    typer.echo(f"fraud rules: {found['fraud_rules']}")
    typer.echo(f"accounts whose terms changed: {found['account_terms']}")
    if found["calls_ended"]:
        typer.echo(f"{found['calls_ended']} calls were ended, to numbers that are blocked now")
    if found["certificates_renewed"]:
        typer.echo("in force: other TLS files")
    for name, floor in floors.items():
        whose = "of the node" if name == "*" else f"of account {name}"
        typer.echo(printable(f"margin floor {whose}: {'none' if floor is None else floor}"))


@app.command("drain")
def drain(
    release: Annotated[
        bool, typer.Option("--release", help="End the live calls too, as admin/drain.")
    ] = False,
    operator: Annotated[
        str | None, typer.Option(help="Who drains, for the records.", show_default="the user")
    ] = None,
    text: Annotated[str, typer.Option(help="Why, for the records.")] = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Refuse new calls (503 with Retry-After) until the daemon is started again; live calls go on."""
    drained = ask(
        socket,
        config,
        as_json,
        "node.drain",
        release=release,
        operator=operator or operator_name(),
        text=text,
    )
    if as_json:
        print_json(drained)
    elif release:
        typer.echo(f"new calls are refused; {drained['released']} live calls are being ended")
    else:
        typer.echo(f"new calls are refused; {drained['live']} live calls go on (`sidecar call list`)")
