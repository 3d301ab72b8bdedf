"""`sidecar subscribe`: records from the broker into a file or a database, each once. It needs no daemon on
this machine, and nothing but the extra `subscriber`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sidecar.cli.output import Exit, fail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.subscriber import Sink, Subscriber
    from sidecar.subscriber.heads import Head

RANGES_SHOWN_MAX = 10


def subscribe(
    broker: Annotated[
        str | None,
        typer.Argument(metavar="HOST[:PORT]", help="The broker.", show_default="none, with --check"),
    ] = None,
    json_lines: Annotated[
        Path | None, typer.Option("--json-lines", metavar="FILE", help="One record per line.")
    ] = None,
    sqlite: Annotated[Path | None, typer.Option("--sqlite", metavar="FILE", help="An SQLite file.")] = None,
    postgresql: Annotated[
        str | None,
        typer.Option(
            "--postgresql",
            metavar="CONNINFO",
            help="As libpq takes it: a URI or `dbname=...`; the password rather in PGPASSWORD or ~/.pgpass.",
        ),
    ] = None,
    username: Annotated[
        str | None, typer.Option(help="The broker's user; who has none cannot ask for a replay.")
    ] = None,
    password_file: Annotated[Path | None, typer.Option(help="Its first line is the password.")] = None,
    tls: Annotated[
        bool, typer.Option("--tls", help="TLS, by the system's certificates or --ca-file.")
    ] = False,
    ca_file: Annotated[Path | None, typer.Option(help="CA of the broker's certificate, PEM.")] = None,
    certificate_file: Annotated[Path | None, typer.Option(help="Our certificate, PEM.")] = None,
    key_file: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant alone.")] = None,
    node: Annotated[str | None, typer.Option(help="Of this node alone.")] = None,
    client_id: Annotated[
        str, typer.Option(help="The MQTT client id.", show_default="one that is made with the sink")
    ] = "",
    begin: Annotated[
        str,
        typer.Option(
            help="Of a node that was never heard before: `first`, all of its epoch, or `now`.",
            metavar="WHERE",
        ),
    ] = "first",
    session_expiry_s: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="So long the broker keeps records while we are away.")
    ] = 604_800,
    until_complete: Annotated[
        bool, typer.Option("--until-complete", help="End when nothing is missing.")
    ] = False,
    heads: Annotated[
        Path | None,
        typer.Option(
            "--heads",
            metavar="FILE",
            help="What `sidecar node list --epochs --json` printed: all of it is wanted, of all nodes.",
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Say what of --heads the file or database lacks, and end: exit code 1 where it lacks any.",
        ),
    ] = False,
) -> None:
    """Write every record once, into one file or database; acknowledge it when it is there; ask for what is
    missing. SIGTERM or Ctrl-C ends it; the log is on standard error."""
    try:
        from sidecar.subscriber import Begin, SinkError, Subscriber, SubscriberSettings, TlsFiles
        from sidecar.subscriber.heads import HeadsError, read_heads
    except ModuleNotFoundError as error:
        fail(Exit.USAGE, f"{error.name} is missing: pip install 'sip-billing-sidecar[subscriber]'")
    import logging

    if begin not in set(Begin):
        fail(Exit.USAGE, f"--begin {begin}: first or now")
    if (certificate_file is None) != (key_file is None):
        fail(Exit.USAGE, "--certificate-file and --key-file belong together")
    expected: Sequence[Head] = ()
    if heads is not None:
        try:
            expected = read_heads(heads)
        except HeadsError as error:
            fail(Exit.USAGE, str(error))
    if check:
        if heads is None:
            fail(Exit.USAGE, "--check compares with --heads")
        _check(_sink(json_lines, sqlite, postgresql), expected)
        return
    if broker is None:
        fail(Exit.USAGE, "give the broker, or --check")
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", force=True
    )
    host, port = _place(broker, 8883 if tls or ca_file else 1883)
    files = TlsFiles(ca=ca_file, certificate=certificate_file, key=key_file)
    settings = SubscriberSettings(
        host=host,
        port=port,
        username=username,
        password=None if password_file is None else _password(password_file),
        tls=files if tls or ca_file is not None or certificate_file is not None else None,
        tenant=tenant,
        node=node,
        client_id=client_id,
        begin=Begin(begin),
        session_expiry_s=session_expiry_s,
        heads=tuple(expected),
    )
    subscriber = Subscriber(settings, _sink(json_lines, sqlite, postgresql))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: subscriber.stop())
    try:
        subscriber.run(Subscriber.is_complete if until_complete else None)
    except (SinkError, OSError) as error:
        fail(Exit.NO, str(error))
    _say(subscriber)


def _check(sink: Sink, heads: Sequence[Head]) -> None:
    """Of each node and epoch."""
    from sidecar.cli.output import print_table
    from sidecar.subscriber import Progress, SinkError
    from sidecar.subscriber.heads import expect

    try:
        progress = Progress(sink.open())
        sink.close()
    except (SinkError, OSError) as error:
        fail(Exit.NO, str(error))
    expect(progress, heads)
    rows, lacks = [], 0
    for source, base_seq, head_seq in heads:
        missing = progress.positions[source].held.missing(base_seq + 1, head_seq)
        lacking = sum(last - first + 1 for first, last in missing)
        lacks += lacking
        which = ", ".join(f"{first}-{last}" for first, last in missing[:RANGES_SHOWN_MAX])
        rows.append((source.tenant, source.node, source.epoch, head_seq - base_seq, lacking, which))
    print_table(("tenant", "node", "epoch", "given>", "lacks>", "which"), rows)
    if lacks:
        raise typer.Exit(Exit.NO.value)
    typer.echo("everything is here")


def _say(subscriber: Subscriber) -> None:
    counters = subscriber.counters
    typer.echo(
        f"{counters.records} records, {counters.replayed} of them replayed; {counters.again} came again;"
        f" {counters.rejected} rejected"
    )


def _place(text: str, default_port: int) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        return text.strip("[]"), default_port
    if not port.isdigit() or not 1 <= int(port) <= 65_535 or not host:
        fail(Exit.USAGE, f"{text}: not HOST or HOST:PORT")
    return host.strip("[]"), int(port)


def _password(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").split("\n", 1)[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        fail(Exit.USAGE, f"--password-file {file}: {error}")


def _sink(json_lines: Path | None, sqlite: Path | None, postgresql: str | None) -> Sink:
    if sum(one is not None for one in (json_lines, sqlite, postgresql)) != 1:
        fail(Exit.USAGE, "give one of --json-lines, --sqlite and --postgresql")
    if json_lines is not None:
        from sidecar.subscriber.sinks.json_lines import JsonLinesSink

        return JsonLinesSink(json_lines)
    if sqlite is not None:
        from sidecar.subscriber.sinks.sqlite import SqliteSink

        return SqliteSink(sqlite)
    try:
        from sidecar.subscriber.sinks.postgresql import PostgresqlSink
    except ImportError:
        fail(Exit.USAGE, "psycopg is missing: pip install 'sip-billing-sidecar[subscriber,postgresql]'")
    assert postgresql is not None
    return PostgresqlSink(postgresql)
