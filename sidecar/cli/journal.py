"""The journal of a node, read without asking the node: `sidecar journal ...`, and for commands that count,
hand over or examine many records."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli.daemon import (
    ConfigOption,
    JsonOption,
    OperatorOption,
    SocketOption,
    ask,
    is_sqlite,
    settings_of,
    sqlite_settings,
)
from sidecar.cli.output import Exit, fail, moment, print_json, print_table, printable

if TYPE_CHECKING:
    from sidecar.adapters.postgresql.snapshot import PostgresqlSnapshot
    from sidecar.adapters.sqlite.snapshot import Snapshot
    from sidecar.core.chain import ChainKey

app = typer.Typer(help="The journal as a whole.", no_args_is_help=True)

SinceOption = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Calls that ended then or later: 2026-11-01, 2026-11-01T08:00Z."),
]
ZoneOption = Annotated[
    str | None,
    typer.Option("--zone", metavar="ZONE", help="Of times without an offset; node.time_zone if not given."),
]
UntilOption = Annotated[str | None, typer.Option(metavar="TIME", help="Calls that ended before.")]
AccountOption = Annotated[str | None, typer.Option(help="Calls of this account alone.")]
GatewayOption = Annotated[str | None, typer.Option(help="Calls whose last attempt went there alone.")]


def moment_of(
    option: str,
    text: str | None,
    config: Path | None,
    *,
    as_json: bool = False,
    zone: str | None = None,
) -> datetime | None:
    """A time with its offset, or of the zone: that of the settings if none is given. Ends the command where
    it is none."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail(Exit.USAGE, f"{option} {text}: not a time like 2026-11-01 or 2026-11-01T08:00Z", as_json=as_json)
    if moment.utcoffset() is not None:
        return moment
    if zone is None:
        zone = settings_of(config, as_json=as_json).node.time_zone
    from sidecar.core import windows

    try:
        windows.check_zone(zone)
    except ValueError:
        fail(Exit.USAGE, f"--zone {zone}: is no zone such as Europe/Berlin", as_json=as_json)
    try:
        return windows.instant_of(moment, zone)
    except ValueError as error:
        fail(Exit.USAGE, f"{option} {error}", as_json=as_json)


@contextmanager
def snapshot(config: Path | None, *, as_json: bool = False) -> Iterator[Snapshot]:
    """The records of the node of these settings, as they stand now; it need not run. Exit code 3 where there
    is no journal, 2 where the books are in a database, 1 where a record in it is damaged."""
    from sidecar.adapters.sqlite.snapshot import Snapshot
    from sidecar.adapters.store.bodies import DamagedError
    from sidecar.adapters.store.store import StoreError

    try:
        with Snapshot(sqlite_settings(config, as_json=as_json).node.data_dir) as opened:
            yield opened
    except StoreError as error:
        fail(Exit.UNREACHABLE, str(error), as_json=as_json)
    except DamagedError as error:
        fail(Exit.NO, str(error), as_json=as_json)


@contextmanager
def books(config: Path | None, *, as_json: bool = False) -> Iterator[Snapshot | PostgresqlSnapshot]:
    """As `snapshot`, whatever engine keeps them; in a database, records and accounts of all nodes."""
    from socket import gethostname

    from sidecar.adapters.store.bodies import DamagedError
    from sidecar.adapters.store.store import StoreError
    from sidecar.config import node_name
    from sidecar.wiring.journal import snapshot_of

    settings = settings_of(config, as_json=as_json)
    try:
        with snapshot_of(settings, node_name(settings, gethostname())) as opened:
            yield opened
    except StoreError as error:
        fail(Exit.UNREACHABLE, str(error), as_json=as_json)
    except DamagedError as error:
        fail(Exit.NO, str(error), as_json=as_json)


@app.command("verify")
def verify(
    head: Annotated[
        str | None,
        typer.Option(
            metavar="[NODE=]NUMBER:HASH",
            help="A commit that was told elsewhere (status, export): it must be among them. NODE is this one"
            " where it is not given; others are in PostgreSQL alone.",
        ),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Check that the journal is as it was written: its chain of keyed hashes, made again from its rows. Exit
    code 1 where it is not; the first entry that does not fit is named. The daemon may run. In PostgreSQL each
    node has a chain: all are checked, and the key file needs the keys of all."""
    from sidecar.adapters.sqlite.told import read_told
    from sidecar.adapters.store.keys import key_file_of, read_keys
    from sidecar.adapters.store.store import StoreError

    node, asked = _link_of(head, as_json=as_json)
    settings = settings_of(config, as_json=as_json)
    try:
        keys = read_keys(key_file_of(settings.node))
    except StoreError as error:
        fail(Exit.UNREACHABLE, str(error), as_json=as_json)
    if not is_sqlite(config, as_json):
        _verify_all(config, keys, node, asked, as_json=as_json)
        return
    if node:
        fail(Exit.USAGE, f"--head {head}: a journal has one node", as_json=as_json)
    told = read_told(settings.node.data_dir)
    with snapshot(config, as_json=as_json) as journal:
        verdict = journal.verify(keys, told)
        if asked is not None and (gone := journal.missing(asked)):
            verdict.wrong.append(gone)
    verdict.wrong += verdict.unsound
    if as_json:
        found = {"commit": verdict.link.number, "hash": verdict.link.hash.hex(), "commits": verdict.commits}
        print_json({**found, "entries": verdict.entries, "wrong": verdict.wrong})
    else:
        for text in verdict.wrong:
            typer.echo(printable(text))
        said = f"{len(verdict.wrong)} findings" if verdict.wrong else "as it was written"
        typer.echo(
            f"{verdict.entries} entries in {verdict.commits} commits, up to"
            f" {verdict.link.number}:{verdict.link.hash.hex()}: {said}"
        )
    if verdict.wrong:
        raise typer.Exit(Exit.NO.value)


def _verify_all(
    config: Path | None,
    keys: Sequence[ChainKey],
    node: str,
    asked: tuple[int, str] | None,
    *,
    as_json: bool,
) -> None:
    """The chains of all nodes in the database."""
    from socket import gethostname

    from sidecar.config import node_name
    from sidecar.core.chain import Link

    own = node or node_name(settings_of(config, as_json=as_json), gethostname())
    told = {own: [Link(asked[0], bytes.fromhex(asked[1]))]} if asked is not None else {}
    with books(config, as_json=as_json) as found:
        from sidecar.adapters.postgresql.chain_check import said
        from sidecar.adapters.postgresql.snapshot import PostgresqlSnapshot

        assert isinstance(found, PostgresqlSnapshot), "the settings were asked"
        verdicts = found.verify(keys, told)
    wrong = said(verdicts)
    chains = [(name, of) for name, of in verdicts.items() if name]
    if as_json:
        nodes = [
            {"node": name, "commit": of.link.number, "hash": of.link.hash.hex(), "commits": of.commits}
            | {"entries": of.entries}
            for name, of in chains
        ]
        print_json({"nodes": nodes, "entries": sum(of.entries for _, of in chains), "wrong": wrong})
    else:
        for text in wrong:
            typer.echo(printable(text))
        for name, of in chains:
            holds = "as it was written" if of.is_whole and not of.unsound else "and no further"
            typer.echo(
                printable(
                    f"node {name}: {of.entries} entries in {of.commits} commits, up to"
                    f" {of.link.number}:{of.link.hash.hex()}: {holds}"
                )
            )
        typer.echo(f"{len(wrong)} findings" if wrong else "all is as it was written")
    if wrong:
        raise typer.Exit(Exit.NO.value)


@app.command("check")
def check(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Check that the journal is as it was written, as `journal verify` does where the keys of the chain are
    at hand, and that everything adds up: balances, reservations, charges, numbers, the outbox. Exit code 1
    where it does not. The daemon may run."""
    from sidecar.adapters.sqlite.told import read_told
    from sidecar.adapters.store.keys import key_file_of, read_keys
    from sidecar.adapters.store.store import StoreError

    node = settings_of(config, as_json=as_json).node
    key_file = key_file_of(node)
    try:
        keys = read_keys(key_file) if key_file.exists() else ()
    except StoreError as error:
        fail(Exit.UNREACHABLE, str(error), as_json=as_json)
    told = read_told(node.data_dir)
    with books(config, as_json=as_json) as journal:
        wrong = journal.check(keys, told)
    if as_json:
        print_json({"wrong": wrong})
    else:
        for text in wrong:
            typer.echo(printable(text))
        typer.echo(f"{len(wrong)} findings" if wrong else "everything adds up")
    if wrong:
        raise typer.Exit(Exit.NO.value)


@app.command("open")
def list_open(
    account: Annotated[str | None, typer.Option(help="Of this account alone.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """List what a salvage left open: sums that balances have, and of which a damaged journal no longer says
    why. Until `journal book` or `journal release` decides, prepaid accounts with such a sum carry no call.
    Exit code 1 where anything is open. The daemon may run."""
    from sidecar.core.rating import amount_text
    from sidecar.core.records import utc

    with books(config, as_json=as_json) as journal:
        found = journal.suspended(account)
    if as_json:
        print_json(
            [
                {
                    "entry": one.entry,
                    "account": one.account,
                    "currency": one.currency,
                    "amount": amount_text(one.amount),
                    "call_id": None if one.call_id is None else str(one.call_id),
                    "found_at": utc(one.booked_wall_ns).isoformat(),
                }
                for one in found
            ]
        )
    elif found:
        print_table(
            ("entry>", "account", "amount>", "currency", "call", "found"),
            [
                (
                    one.entry,
                    one.account,
                    amount_text(one.amount),
                    one.currency,
                    "" if one.call_id is None else str(one.call_id),
                    moment(utc(one.booked_wall_ns).isoformat()),
                )
                for one in found
            ],
        )
        for account_name, currency in sorted({(one.account, one.currency) for one in found}):
            total = sum(
                one.amount for one in found if (one.account, one.currency) == (account_name, currency)
            )
            typer.echo(printable(f"{account_name}: {amount_text(Decimal(total))} {currency} to be decided"))
    else:
        typer.echo("nothing is open")
    if found:
        raise typer.Exit(Exit.NO.value)


EntriesOption = Annotated[
    list[int] | None,
    typer.Option("--entry", help="This entry alone; it may be repeated.", show_default="all that are open"),
]
ReasonOption = Annotated[str, typer.Option("--text", help="Why, for the audit table.")]


@app.command("book")
def book(
    account: Annotated[str, typer.Argument(help="The account's name.")],
    text: ReasonOption,
    entries: EntriesOption = None,
    operator: OperatorOption = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Let what is open of an account stand: its balance is right as it is, and the sums are booked as `lost`.
    May be repeated."""
    _decide("book", account, text, entries, operator, as_json, socket, config)


@app.command("release")
def release(
    account: Annotated[str, typer.Argument(help="The account's name.")],
    text: ReasonOption,
    entries: EntriesOption = None,
    operator: OperatorOption = "",
    as_json: JsonOption = False,
    socket: SocketOption = None,
    config: ConfigOption = None,
) -> None:
    """Take what is open of an account out of its balance, as if what is missing had never been: a charge that
    is lost is given back, a top-up that is lost is taken away. May be repeated."""
    _decide("release", account, text, entries, operator, as_json, socket, config)


def _decide(
    decision: str,
    account: str,
    text: str,
    entries: list[int] | None,
    operator: str,
    as_json: bool,
    socket: Path | None,
    config: Path | None,
) -> None:
    done = ask(
        socket,
        config,
        as_json,
        f"journal.{decision}",
        account=account,
        entries=entries or [],
        text=text,
        operator=operator,
    )
    if as_json:
        print_json(done)
        return
    if done["cleared"]:
        print_table(
            ("entry>", "amount>", "currency", "call"),
            [(one["entry"], one["amount"], one["currency"], one["call_id"]) for one in done["cleared"]],
        )
    what = "booked" if decision == "book" else "released"
    typer.echo(printable(f"{account}: {len(done['cleared'])} entries {what}, {done['left']} still open"))
    for balance in done["balances"]:
        typer.echo(printable(f"{account}: balance {balance['amount']} {balance['currency']}"))


@app.command("new-key")
def new_key(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Add a key for the chain of the journal; it is in force from the next start on. Those before it stay in
    the file: without them nobody can verify what was written under them. Nodes on one PostgreSQL best have
    the same file: copy it to each."""
    from sidecar.adapters.store.keys import add_key, key_file_of
    from sidecar.adapters.store.store import StoreError

    file = key_file_of(settings_of(config, as_json=as_json).node)
    try:
        key = add_key(file)
    except StoreError as error:
        fail(Exit.USAGE, str(error), as_json=as_json)
    if as_json:
        print_json({"key": key.id, "file": str(file)})
    else:
        typer.echo(f"key {key.id} in {file}, in force from the next start on")


def _link_of(head: str | None, *, as_json: bool) -> tuple[str, tuple[int, str] | None]:
    """Of which node, if it says so."""
    if head is None:
        return "", None
    node, _, link = head.rpartition("=")
    number, _, digest = link.partition(":")
    if not number.isdecimal() or not re.fullmatch("[0-9a-f]{32}", digest):
        fail(Exit.USAGE, f"--head {head}: not NUMBER:HASH or NODE=NUMBER:HASH", as_json=as_json)
    return node, (int(number), digest)
