"""`sidecar cdr explain`: from the dialled digits to the charge, reckoned again from the record alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from sidecar.cli.daemon import ConfigOption, Daemon, JsonOption, SocketOption
from sidecar.cli.output import Exit, fail, print_fields, print_json, printable

if TYPE_CHECKING:
    pass


def explain(
    call_id: Annotated[UUID, typer.Argument(help="The call's id.")],
    revision: Annotated[
        int | None, typer.Option(min=0, help="Of the record.", show_default="the one that holds")
    ] = None,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Show how the charges of a call come about, step by step from the digits on. They are computed again
    from the record alone; a difference is shown, and gives exit code 1."""
    from msgspec.json import encode

    from sidecar.core.explain_call import explain_call
    from sidecar.wire.cdr_codec import decode_json

    with Daemon(socket, config, as_json) as daemon:
        found = daemon.ask("cdr.show", call_id=str(call_id))["records"]
        records = {one["revision"]: decode_json(encode(one)) for one in found}
        cdr = records.get(max(records) if revision is None else revision)
        if cdr is None:
            fail(Exit.NO, f"call {call_id} has no revision {revision}", as_json=as_json)
    explained = explain_call(cdr)
    if as_json:
        print_json(
            {
                "call_id": call_id,
                "revision": cdr.revision,
                "charges": explained.charges,
                "margin": dict(explained.margin) or None,
                "differences": explained.all_differences,
            }
        )
    else:
        for line in explained.charges:
            title = f"{line.side}: {line.party} {'pays' if line.side == 'sell' else 'is paid'}"
            print_fields(line.lines, title=title)
            typer.echo()
        if explained.margin:
            print_fields(explained.margin, title="margin")
            typer.echo()
        for text in explained.all_differences:
            typer.echo(printable(f"difference: {text}"))
        if not explained.all_differences:
            typer.echo(f"revision {cdr.revision}: every figure comes out again")
    if explained.all_differences:
        raise typer.Exit(Exit.NO.value)
