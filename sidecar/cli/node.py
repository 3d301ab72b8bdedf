"""`sidecar node ...`: the node as a whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from sidecar.adapters.control_client import ControlClient, DaemonUnreachableError
from sidecar.cli.daemon import (
    ConfigOption,
    Daemon,
    JsonOption,
    OperatorOption,
    ReasonOption,
    SocketOption,
    ask,
    socket_path,
)
from sidecar.cli.output import (
    Exit,
    fail,
    moment,
    print_done,
    print_fields,
    print_json,
    print_table,
    printable,
)
from sidecar.wire.control import DEFAULT, RESTART_ANSWER_S_MAX, CommandError

RESTART_S_MAX = 60  # a journal may have to be migrated

app = typer.Typer(help="The node as a whole.", no_args_is_help=True)


NameArgument = Annotated[
    str | None,
    typer.Argument(
        help="Another node on the same database, which is asked through it.", show_default="this node"
    ),
]

NodeOption = Annotated[
    str | None,
    typer.Option(
        "--node",
        help="Of another node on the same database, asked through this one.",
        show_default="this node",
    ),
]


@app.command("list")
def list_nodes(
    every_epoch: Annotated[
        bool, typer.Option("--epochs", help="Every epoch, those too that have ended, and their numbers.")
    ] = False,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Show the nodes on this node's database: which are heard, what they carry, the last commit, and the last
    number of each epoch. A subscriber that holds the numbers behind `base` up to `head` of each epoch has
    everything."""
    found = ask(socket, config, as_json, "node.list", every_epoch=every_epoch)
    if as_json:
        print_json(found)
        return
    if every_epoch:
        print_table(
            ("node", "epoch", "since", "", "base>", "head>", "at the broker up to>", "taken over"),
            [
                (
                    *(one["node"], one["epoch"], moment(one["since"])),
                    "" if one["is_present"] else "ended",
                    *(one["base_seq"], one["head_seq"], one["acknowledged_seq"], _taken_over(one)),
                )
                for one in found["nodes"]
            ],
        )
        return
    print_table(
        (
            *("node", "state", "calls>", "of>", "open in the books>", "epoch", "since", "last commit"),
            *("head>", "dead letters>", "taken over"),
        ),
        [
            (
                *(
                    one["node"],
                    one["state"] or "not heard",
                    one["calls"],
                    one["calls_max"],
                    one["open_calls"],
                ),
                *(one["epoch"], moment(one["since"]), moment(one["heartbeat_at"]), one["head_seq"]),
                *(one["dead_letters"], _taken_over(one)),
            )
            for one in found["nodes"]
        ],
    )
    for one in found["nodes"]:
        for account, terms in one["terms_differ"].items():
            said = ", ".join(f"{name} {text or 'not set'}" for name, text in terms.items())
            print(f"{one['node']}: accounts.{account}: {said} in its settings; the books have other terms")


def _taken_over(one: dict[str, Any]) -> str:
    by = one["taken_over_by"]
    return "" if by is None else f"by {by}, {moment(one['taken_over_at'])}"


def ask_node(
    name: str | None,
    socket: Path | None,
    config: Path | None,
    as_json: bool,
    method: str,
    **params: object,
) -> Any:
    """This node, or another one through it."""
    if name is None:
        return ask(socket, config, as_json, method, **params)
    given = {key: value for key, value in params.items() if value is not None}
    return ask(socket, config, as_json, "node.ask", node=name, what=method, asked=given)["answer"]


@app.command("status")
def status(
    name: NameArgument = None,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Show what the node is, where it listens, what it carries and what waits for the broker."""
    found = ask_node(name, socket, config, as_json, "node.status")
    if as_json:
        print_json(found)
        return
    found["sip"] = ", ".join(found["sip"])
    ends = found.pop("tls_files")
    found["tls_until"] = ", ".join(f"{moment(end)} ({name})" for name, end in ends.items())
    found["broker_passwords"] = ", ".join(
        f"{user}: {file}" for user, file in found["broker_passwords"].items()
    )
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


@app.command("subscribers")
def subscribers(
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Show the subscribers that may ask for records again, as they tell of themselves: when they were heard,
    up to which number they hold records, and what they lack, by epoch."""
    found = ask(socket, config, as_json, "subscriber.list")
    if as_json:
        print_json(found)
        return
    print_table(
        ("user", "client", "heard", "epoch", "holds up to>", "of>", "lacks>", "which"),
        [
            (
                *(one["user"], one["client"], moment(one["heard_at"]), epoch["epoch"][:8]),
                *(epoch["held_seq"], epoch["head_seq"], epoch["missing"]),
                ", ".join(f"{first}-{last}" for first, last in epoch["ranges"]),
            )
            for one in found["subscribers"]
            for epoch in one["report"]["epochs"]
        ],
    )


@app.command("settings")
def settings(
    every: Annotated[bool, typer.Option("--all", help="Those too that have their default.")] = False,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Show the plain settings that are in force, and where each was given. `*`: only a start changes it."""
    found = ask(socket, config, as_json, "node.settings")
    if not every:
        found["settings"] = [one for one in found["settings"] if one["source"] != DEFAULT]
    if as_json:
        print_json(found)
        return
    print_table(
        ("setting", "", "value", "given in"),
        [
            (one["name"], "*" if one["at_start"] else "", one["value"], one["source"])
            for one in found["settings"]
        ],
    )


@app.command("reload")
def reload(
    operator: OperatorOption = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")
    ] = False,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Read settings, profile, decks, passwords and TLS files again and put them in force, all or nothing,
    while calls run: those that are up go on with the routes, prices and limits that they began with. Exit
    code 1: something needs a restart, and is named; 2: something is wrong, with file, line and key. Both
    leave the node as it was. SIGHUP does the same."""
    found = ask(socket, config, as_json, "node.reload", operator=operator, dry_run=dry_run)
    show_reload(found, as_json=as_json)


def show_reload(found: dict[str, Any], *, as_json: bool) -> None:
    """Ends with exit code 1 where something needs a restart."""
    if as_json:
        print_json(found)
    else:
        for line in _reload_lines(found):
            typer.echo(printable(line))
    if found["needs_restart"]:
        raise typer.Exit(Exit.NO.value)


def _reload_lines(found: dict[str, Any]) -> Iterator[str]:
    yield from (f"warning: {warning}" for warning in found["warnings"])
    yield from found["differences"]
    if (more := found["differences_count"] - len(found["differences"])) > 0:
        yield f"and {more} more"
    if found["needs_restart"]:
        yield f"nothing was changed: {', '.join(found['needs_restart'])} from the next start on only"
    elif (revision := found["settings_revision"]) is not None:
        yield f"in force, as revision {revision} of the settings"
    elif not found["differences"]:
        yield "nothing changed"
    if found["certificates_renewed"]:
        yield "in force: other TLS files"
    if found["calls_ended"]:
        yield f"{found['calls_ended']} calls were ended, which are forbidden now"


@app.command("drain")
def drain(
    name: NameArgument = None,
    release: Annotated[
        bool, typer.Option("--release", help="End the live calls too, as admin/drain.")
    ] = False,
    operator: OperatorOption = "",
    text: ReasonOption = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Refuse new calls (503 with Retry-After) until `node accept`; live calls go on."""
    drained = ask_node(
        name,
        socket,
        config,
        as_json,
        "node.drain",
        release=release,
        operator=operator,
        text=text,
    )
    live = (
        f"{drained['released']} live calls are being ended"
        if release
        else f"{drained['live']} live calls go on (`sidecar call list`)"
    )
    print_done(drained, f"new calls are refused; {live}", as_json)


@app.command("forget")
def forget(
    name: Annotated[str, typer.Argument(help="A node that will never start again.")],
    text: Annotated[str, typer.Option("--reason", "--text", help="Why; in the audit table.")],
    operator: OperatorOption = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Give back what a dead node holds of accounts in advance (`sidecar account show`), where it will never
    start again. Else its next start does that, once it has written what it let go while the database was
    away: if you are wrong, that is charged all the same, and may take a balance below its floor. Refused
    while the node lives."""
    found = ask(socket, config, as_json, "node.forget", node=name, text=text, operator=operator)
    print_done(found, f"what node {name} held of {found['accounts']} accounts is back", as_json)


@app.command("reopen-logs")
def reopen_logs(
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Go on in a new log.file, after the old one was moved away, as SIGUSR1 does. Exit code 1: the log goes
    on where it went."""
    found = ask(socket, config, as_json, "node.reopen_logs")
    print_done(found, "the log goes on in a new file", as_json)


@app.command("restart")
def restart(
    operator: OperatorOption = "",
    text: ReasonOption = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Start the node again, by the program and the settings that are there now, in the same process; answered
    calls go on. They hear nothing for a second or two; calls that are not answered, and those that have an
    open transaction, are ended as admin/drain. Where `sidecar check` finds a mistake nothing is done (exit
    code 1)."""
    with Daemon(socket, config, as_json, answer_s_max=RESTART_ANSWER_S_MAX + 5) as daemon:
        asked = daemon.ask("node.restart", operator=operator, text=text)
    status = _started_again(socket, config, as_json, asked["boot_id"])
    done = {**asked, "boot_id": status["boot_id"], "calls_now": status["calls"]}
    print_done(done, f"started again: {asked['calls']} calls were up, {status['calls']} are", as_json)


def _started_again(socket: Path | None, config: Path | None, as_json: bool, boot_id: str) -> Any:
    """The status of the next boot."""
    until_s = time.monotonic() + RESTART_S_MAX
    while True:
        if time.monotonic() >= until_s:
            fail(Exit.UNREACHABLE, "the node has not come back: its log says why", as_json=as_json)
        time.sleep(0.1)
        try:
            with ControlClient(socket_path(socket, config, as_json=as_json)) as client:
                status = client.call("node.status", {})
        except (DaemonUnreachableError, CommandError):
            continue
        if status["boot_id"] != boot_id and status["sip"]:
            return status


@app.command("accept")
def accept(
    name: NameArgument = None,
    operator: OperatorOption = "",
    text: ReasonOption = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Undo `node drain`: take new calls again."""
    found = ask_node(name, socket, config, as_json, "node.accept", operator=operator, text=text)
    is_refusing = found["state"] != "accepting"
    text = f"new calls are still refused: {found['state']}" if is_refusing else "new calls are taken"
    print_done(found, text, as_json)
