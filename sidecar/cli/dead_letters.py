"""`sidecar dead-letter ...`: records that the broker will never take, until somebody mends what it said."""

from __future__ import annotations

from typing import Annotated

import typer

from sidecar.cli.daemon import ConfigOption, JsonOption, OperatorOption, SocketOption
from sidecar.cli.node import NodeOption, ask_node
from sidecar.cli.output import Exit, fail, moment, print_done, print_fields, print_json, print_table

app = typer.Typer(help="Records that the broker will never take.", no_args_is_help=True)

SeqsArgument = Annotated[list[int] | None, typer.Argument(metavar="SEQ", min=1, help="Numbers of records.")]


@app.command("list")
def list_(
    after_seq: Annotated[int, typer.Option(min=0, help="Those after this number.")] = 0,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="At most so many.")] = 100,
    node: NodeOption = None,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Show dead letters and why the broker refused them. `sidecar node list` says of which nodes there are
    any."""
    found = ask_node(node, socket, config, as_json, "dead-letter.list", after_seq=after_seq, limit=limit)[
        "letters"
    ]
    if as_json:
        print_json(found)
        return
    print_table(
        ("seq>", "died", "reason", "bytes>", "account", "call"),
        [
            (
                one["seq"],
                moment(one["died_at"]),
                f"{one['reason']} (0x{one['reason_code']:02x})",
                one["bytes"],
                one["account"],
                one["call_id"],
            )
            for one in found
        ],
    )


@app.command("show")
def show(
    seq: Annotated[int, typer.Argument(min=1, help="The number of the record.")],
    node: NodeOption = None,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Show one dead letter with its record."""
    found = ask_node(node, socket, config, as_json, "dead-letter.show", seq=seq)
    if as_json:
        print_json(found)
        return
    print_fields(found["letter"].items())
    print_json(found["record"])


@app.command("retry")
def retry(
    seqs: SeqsArgument = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    operator: OperatorOption = "",
    node: NodeOption = None,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Send dead letters again, under their old numbers. Exit code 1 where none was one."""
    if bool(seqs) == everything:
        fail(Exit.USAGE, "give numbers, or --all", as_json=as_json)
    asked = {"operator": operator, "seqs": seqs or None}
    _say(ask_node(node, socket, config, as_json, "dead-letter.retry", **asked), "are sent again", as_json)


@app.command("drop")
def drop(
    seqs: Annotated[list[int], typer.Argument(metavar="SEQ", min=1, help="Numbers of records.")],
    text: Annotated[str, typer.Option(help="Why, for the log.")],
    operator: OperatorOption = "",
    node: NodeOption = None,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Never send these. Subscribers see a gap in the numbers; the records stay in the journal."""
    asked = {"operator": operator, "text": text, "seqs": seqs}
    _say(ask_node(node, socket, config, as_json, "dead-letter.drop", **asked), "are dropped", as_json)


def _say(done: dict[str, int], what: str, as_json: bool) -> None:
    print_done(done, f"{done['count']} dead letters {what}", as_json)
    if not done["count"]:
        raise typer.Exit(Exit.NO.value)
