"""`sidecar user ...`: people who may use the page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sidecar.cli.daemon import ConfigOption, JsonOption, OperatorOption, ReasonOption, SocketOption, ask
from sidecar.cli.output import Exit, fail, print_json, print_table
from sidecar.core.users import Role

app = typer.Typer(help="People who may use the page.", no_args_is_help=True)

PASSWORD_LENGTH_MIN = 10
PASSWORD_BYTES_MAX = 1_000

NameArgument = Annotated[str, typer.Argument(help="The user's name.")]
PasswordFileOption = Annotated[
    Path | None,
    typer.Option(help="Its first line is the password; `-`: standard input.", show_default="it is asked for"),
]


@app.command("add")
def add(
    name: NameArgument,
    role: Annotated[Role, typer.Option(help="What the user may see and do.")],
    password_file: PasswordFileOption = None,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="A reverse proxy says who it is (web.user_header).")
    ] = False,
    text: ReasonOption = "",
    operator: OperatorOption = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a user."""
    user = ask(
        socket,
        config,
        as_json,
        "user.add",
        name=name,
        role=role,
        password_hash=None if no_password else _hashed(password_file, as_json),
        operator=operator,
        text=text,
    )
    _show(user, as_json)


@app.command("set")
def set_(
    name: NameArgument,
    role: Annotated[Role | None, typer.Option(help="Another role, from the next request on.")] = None,
    password: Annotated[bool, typer.Option("--password", help="Ask for another password.")] = False,
    password_file: PasswordFileOption = None,
    enable: Annotated[bool, typer.Option("--enable", help="One that was disabled.")] = False,
    text: ReasonOption = "",
    operator: OperatorOption = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Change a user."""
    user = ask(
        socket,
        config,
        as_json,
        "user.set",
        name=name,
        role=role,
        password_hash=_hashed(password_file, as_json) if password or password_file else None,
        enabled=enable or None,
        operator=operator,
        text=text,
    )
    _show(user, as_json)


@app.command("disable")
def disable(
    name: NameArgument,
    text: ReasonOption = "",
    operator: OperatorOption = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """The user is signed out with the next request, and stays out."""
    _show(
        ask(socket, config, as_json, "user.set", name=name, enabled=False, operator=operator, text=text),
        as_json,
    )


@app.command("list")
def list_(as_json: JsonOption = False, socket: SocketOption = None, config: ConfigOption = None) -> None:
    """Show who may use the page."""
    found = ask(socket, config, as_json, "user.list")["users"]
    if as_json:
        print_json(found)
    else:
        print_table(COLUMNS, map(_row, found))


COLUMNS = ("name", "role", "password", "enabled")


def _show(user: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(user)
    else:
        print_table(COLUMNS, [_row(user)])


def _row(user: dict[str, Any]) -> tuple[object, ...]:
    return user["name"], user["role"], user["has_password"], user["enabled"]


def _hashed(file: Path | None, as_json: bool) -> str:
    """Argon2's text: the password itself does not leave this process."""
    try:
        from argon2 import PasswordHasher
    except ImportError:
        fail(
            Exit.USAGE,
            "argon2-cffi is not installed: pip install 'sip-billing-sidecar[web]'",
            as_json=as_json,
        )
    password = _asked() if file is None else _first_line(file, as_json)
    if len(password) < PASSWORD_LENGTH_MIN or len(password.encode()) > PASSWORD_BYTES_MAX:
        fail(
            Exit.USAGE,
            f"a password has {PASSWORD_LENGTH_MIN} characters or more, in {PASSWORD_BYTES_MAX} bytes",
            as_json=as_json,
        )
    return PasswordHasher().hash(password)


def _asked() -> str:
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


def _first_line(file: Path, as_json: bool) -> str:
    import sys

    try:
        text = sys.stdin.readline() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(Exit.USAGE, f"{file}: {error}", as_json=as_json)
    return text.split("\n", 1)[0].rstrip("\r")
