"""`sidecar peer|gateway|route|account-rule ...`: entries of these tables that are kept beside the files.

What an entry may say is declared once (config/entries): a key of a profile is a key of `--set`, read and
checked by the same code. So the four groups of commands differ in their words alone."""

# No `annotations` from the future: typer reads those of the functions within `_app`.
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from sidecar.cli.daemon import ConfigOption, JsonOption, OperatorOption, ReasonOption, SocketOption, ask
from sidecar.cli.output import Exit, fail, print_done, print_fields, print_json, print_table, printable
from sidecar.cli.trial import OrTry, try_
from sidecar.core.stored import WORDS

_HELP = {
    "peers": "Peer groups: who may send calls.",
    "gateways": "Gateways: where calls go.",
    "routes": 'Routes: which gateways a number goes to. Its prefix names it; "" is every number.'
    " `sidecar route NUMBER --from PEER` says what would come of a call.",
    "account_rules": "Account rules: whose call it is; the first that applies.",
}
_EXAMPLES = {
    "peers": "addresses=192.0.2.0/24",
    "gateways": "host=192.0.2.9",
    "routes": "gateways=carrier,backup",
    "account_rules": "peer=acme",
}


def _app(table: str) -> typer.Typer:
    word = WORDS[table]
    group = OrTry if table == "routes" else None
    app = typer.Typer(help=_HELP[table], no_args_is_help=True, rich_markup_mode=None, cls=group)
    if table == "routes":
        app.command("try")(try_)
    # Of routes the longest prefix wins, and peers are disjoint.
    has_order = table in ("gateways", "account_rules")
    name_help = 'The prefix; "" is every number.' if table == "routes" else "Its name."
    name_argument = typer.Argument(metavar="PREFIX" if table == "routes" else "NAME", help=name_help)
    set_option = typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help=f"A key of it, such as {_EXAMPLES[table]}; a list with commas, or as TOML: [...]. Repeated.",
        autocompletion=lambda incomplete: _completed(table, incomplete),
    )
    unset_option = typer.Option("--unset", metavar="KEY", help="A key that gets its default again. Repeated.")
    before_option = typer.Option("--before", hidden=not has_order, help="Place it before this one.")
    after_option = typer.Option("--after", hidden=not has_order, help="Place it after this one.")
    first_help = "Before those of the files, or behind them."

    class WithKeys(TyperCommand):
        def format_epilog(self, ctx: Any, formatter: Any) -> None:
            super().format_epilog(ctx, formatter)
            with formatter.section("Keys (`sidecar reference settings` has them whole)"):
                formatter.write_dl([*_keys(table).items()])

    add_help = (
        f"Make a {word} while the daemon runs: it is checked with the files as a whole, kept, and outlasts a"
        " restart."
    )

    @app.command("add", cls=WithKeys, help=add_help)
    def add(
        name: Annotated[str, name_argument],
        settings: Annotated[list[str] | None, set_option] = None,
        before: Annotated[str | None, before_option] = None,
        after: Annotated[str | None, after_option] = None,
        first: Annotated[
            bool, typer.Option("--first", hidden=not has_order, help="Before those of the files.")
        ] = False,
        text: ReasonOption = "",
        operator: OperatorOption = "",
        as_json: JsonOption = False,
        socket: SocketOption = None,
        config: ConfigOption = None,
    ) -> None:
        done = ask(
            socket,
            config,
            as_json,
            f"{word}.add",
            name=name,
            set=_fields(table, settings, as_json),
            before=before,
            after=after,
            first=first,
            text=text,
            operator=operator,
        )
        _say(done, f"{word} {name}: made", as_json)

    set_help = f"Change a {word} that was made by command; one of a file is changed there."

    @app.command("set", cls=WithKeys, help=set_help)
    def set_(
        name: Annotated[str, name_argument],
        settings: Annotated[list[str] | None, set_option] = None,
        unset: Annotated[list[str] | None, unset_option] = None,
        before: Annotated[str | None, before_option] = None,
        after: Annotated[str | None, after_option] = None,
        first: Annotated[
            bool | None,
            typer.Option("--first/--last", hidden=not has_order, help=first_help, show_default=False),
        ] = None,
        text: ReasonOption = "",
        operator: OperatorOption = "",
        as_json: JsonOption = False,
        socket: SocketOption = None,
        config: ConfigOption = None,
    ) -> None:
        done = ask(
            socket,
            config,
            as_json,
            f"{word}.set",
            name=name,
            set=_fields(table, settings, as_json),
            unset=unset or [],
            before=before,
            after=after,
            first=first,
            text=text,
            operator=operator,
        )
        _say(done, f"{word} {name}: changed", as_json)

    @app.command("show", help=f"Show a {word}, and where it comes from.")
    def show(
        name: Annotated[str, name_argument],
        as_json: JsonOption = False,
        socket: SocketOption = None,
        config: ConfigOption = None,
    ) -> None:
        one = ask(socket, config, as_json, f"{word}.show", name=name)
        if as_json:
            print_json(one)
            return
        print_fields(
            (
                (word, one["name"]),
                *((key, _word(value)) for key, value in one["fields"].items()),
                ("from", one["source"]),
                ("reason", one["text"] or None),
            )
        )

    list_help = (
        f"List each {word} in the order in which they count, and the file and line or the command it is from."
    )

    @app.command("list", help=list_help)
    def list_(as_json: JsonOption = False, socket: SocketOption = None, config: ConfigOption = None) -> None:
        found = ask(socket, config, as_json, f"{word}.list")
        if as_json:
            print_json(found)
            return
        print_table(
            (word, "says", "from"),
            [
                (
                    "-" if one["name"] is None else one["name"] or '""',
                    " ".join(f"{key}={_word(value)}" for key, value in one["fields"].items()),
                    one["source"],
                )
                for one in found["entries"]
            ],
        )

    remove_help = f"Remove a {word} that was made by command. Refused while anything refers to it."

    @app.command("remove", help=remove_help)
    def remove(
        name: Annotated[str, name_argument],
        text: ReasonOption = "",
        operator: OperatorOption = "",
        as_json: JsonOption = False,
        socket: SocketOption = None,
        config: ConfigOption = None,
    ) -> None:
        done = ask(socket, config, as_json, f"{word}.remove", name=name, text=text, operator=operator)
        _say(done, f"{word} {name}: removed", as_json)

    return app


def _fields(table: str, words: list[str] | None, as_json: bool) -> dict[str, object]:
    """What `--set` says: words, but for lists as TOML has them; paths made absolute, from this folder."""
    import tomllib

    from sidecar.config import entries
    from sidecar.config.stored import is_path
    from sidecar.config.values import ListOf

    declared = entries.PROFILE_TABLES[table].fields()
    found: dict[str, object] = {}
    for text in words or ():
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals:
            fail(Exit.USAGE, f"--set {text}: not KEY=VALUE", as_json=as_json)
        if key in found:
            fail(Exit.USAGE, f"--set {key}: is given twice", as_json=as_json)
        field = declared.get(key)
        found[key] = value
        is_list = key == entries.NESTED or (field is not None and isinstance(field.kind, ListOf))
        if is_list and value.lstrip().startswith("["):
            try:
                found[key] = tomllib.loads(f"value = {value}")["value"]
            except tomllib.TOMLDecodeError as error:
                fail(Exit.USAGE, f"--set {key}: not TOML: {error}", as_json=as_json)
        elif field is not None and is_path(field) and value:
            found[key] = str(Path(value).absolute())
    return found


def _say(done: dict[str, Any], text: str, as_json: bool) -> None:
    print_done(done, text, as_json)
    for warning in () if as_json else done["warnings"]:
        typer.echo(f"warning: {printable(warning)}", err=True)


def _word(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case list():
            return (
                ",".join(map(_word, value))
                if all(isinstance(one, str | int) for one in value)
                else str(value)
            )
        case _:
            return str(value)


def _keys(table: str) -> dict[str, str]:
    from sidecar.config import entries

    kind = entries.PROFILE_TABLES[table]
    return {name: field.meaning for name, field in kind.fields().items() if name != kind.named_by}


def _completed(table: str, incomplete: str) -> list[str]:
    return [f"{name}=" for name in _keys(table) if name.startswith(incomplete)]


APPS = {word: _app(table) for table, word in WORDS.items()}
