"""`sidecar token ...`: programs that may use the API of the page (web/api)."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import Annotated
from urllib.parse import quote

import typer

from sidecar.cli.daemon import ConfigOption, JsonOption, OperatorOption, ReasonOption, SocketOption, ask
from sidecar.cli.output import print_json, print_table
from sidecar.core.users import Role

app = typer.Typer(help="Programs that may use the API of the page.", no_args_is_help=True)

DAYS = 365
DAYS_MAX = 3_650
COLUMNS = ("name", "role", "expires_at", "revoked")

NameArgument = Annotated[str, typer.Argument(help="The program's name, as the audit table will have it.")]


@app.command("add")
def add(
    name: NameArgument,
    role: Annotated[Role, typer.Option(help="What it may ask and do.")],
    days: Annotated[int, typer.Option(min=1, max=DAYS_MAX, help="It expires after so many.")] = DAYS,
    text: ReasonOption = "",
    operator: OperatorOption = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a token, and print it, once: the node keeps a hash of it alone."""
    secret = secrets.token_urlsafe(32)
    made = ask(
        socket,
        config,
        as_json,
        "token.add",
        name=name,
        role=role,
        digest=hashlib.sha256(secret.encode()).hexdigest(),
        expires_at=(datetime.now(UTC) + timedelta(days=days)).replace(microsecond=0),
        operator=operator,
        text=text,
    )
    # The name leads to it, and is no secret.
    token = f"{quote(name, safe='')}.{secret}"
    if as_json:
        print_json({**made, "token": token})
    else:
        print(token)


@app.command("revoke")
def revoke(
    name: NameArgument,
    text: ReasonOption = "",
    operator: OperatorOption = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """It is refused from the next request on; another of its name may be made."""
    done = ask(socket, config, as_json, "token.revoke", name=name, operator=operator, text=text)
    _print([done], as_json)


@app.command("list")
def list_(as_json: JsonOption = False, socket: SocketOption = None, config: ConfigOption = None) -> None:
    """Show the tokens that there are, never what they are."""
    _print(ask(socket, config, as_json, "token.list")["tokens"], as_json)


def _print(tokens: list[dict[str, object]], as_json: bool) -> None:
    if as_json:
        print_json(tokens)
    else:
        print_table(COLUMNS, ([one[column] for column in COLUMNS] for one in tokens))
