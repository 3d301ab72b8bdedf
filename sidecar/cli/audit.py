"""`sidecar audit ...`: what people changed."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from sidecar.cli.daemon import ConfigOption, JsonOption, SocketOption, ask
from sidecar.cli.output import moment, print_json, print_table

app = typer.Typer(help="Changes that people made.", no_args_is_help=True)


@app.command("list")
def list_(
    after_entry: Annotated[
        int | None, typer.Option("--after", min=0, help="Those after this entry.", show_default="the latest")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="At most so many.")] = 100,
    by: Annotated[str | None, typer.Option(help="By this operator.")] = None,
    uid: Annotated[int | None, typer.Option(min=0, max=2**32 - 1, help="By this user of the system.")] = None,
    action: Annotated[str | None, typer.Option(help="Such as account.topup.")] = None,
    subject: Annotated[str | None, typer.Option(help="Of this account, deck, call or node.")] = None,
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Show who changed what, the oldest first."""
    found: list[dict[str, Any]] = ask(
        socket,
        config,
        as_json,
        "audit.list",
        after_entry=after_entry,
        limit=limit,
        by=by,
        uid=uid,
        action=action,
        subject=subject,
    )["entries"]
    if as_json:
        print_json(found)
        return
    print_table(
        ("entry>", "at", "operator", "uid>", "action", "subject", "before", "after", "text"),
        [
            (
                entry["entry"],
                moment(entry["at"]),
                entry["operator"],
                entry["uid"],
                entry["action"],
                entry["subject"],
                _state(entry["before"]),
                _state(entry["after"]),
                entry["text"],
            )
            for entry in found
        ],
    )


def _state(state: object) -> str | None:
    return None if state is None else msgspec.json.encode(state).decode()
