"""`sidecar retention ...`: what leaves the journal when it is old, and what is erased on request."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
import typer

from sidecar.cli.daemon import (
    ConfigOption,
    JsonOption,
    is_sqlite,
    operator_name,
    settings_of,
)
from sidecar.cli.output import Exit, fail, print_json

if TYPE_CHECKING:
    from sidecar.adapters.control_client import ControlClient
    from sidecar.adapters.exports import Format, Manifest
    from sidecar.adapters.sqlite import SqliteStore
    from sidecar.adapters.sqlite.sealing import Cut
    from sidecar.adapters.sqlite.snapshot import Snapshot
    from sidecar.config import Settings
    from sidecar.core.audit import Change
    from sidecar.core.cdr import Cdr
    from sidecar.ports import Erased

app = typer.Typer(help="Old calls, and numbers that are to be erased.", no_args_is_help=True)

FORMATS = ("jsonl", "parquet")
ARCHIVE = "archive.json"
REMOVAL_PAUSE_S = 0.05  # between two parts, while calls run
LEDGER = "ledger.jsonl"
PARTS = {"published": "cdrs", "kept-back": "suppressed"}

_T = TypeVar("_T")


class Archive(msgspec.Struct, frozen=True, kw_only=True):
    """Chained: it begins where the one before ended, and names it by its digest. Commits and movements are a
    journal's: in a database the ledger stays whole."""

    product: str
    until: datetime  # calls that ended before
    after_commit: str = ""  # number:hash of the last commit of the archive before
    until_commit: str = ""
    previous: str  # the SHA-256 of its archive.json; empty: this is the first
    published: str  # the SHA-256 of published/manifest.json
    kept_back: str
    ledger: str = ""  # of ledger.jsonl
    records: int
    movements: int = 0


@app.command("archive")
def archive(
    months: Annotated[
        int, typer.Option("--months", min=1, max=600, help="Whole months that stay, this one not counted.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new or empty folder.")],
    wanted: Annotated[str, typer.Option("--format", metavar="FORMAT", help=", ".join(FORMATS))] = "jsonl",
    text: Annotated[str, typer.Option("--text", help="Why, for the audit table.")] = "",
    dsn_file: Annotated[
        Path | None,
        typer.Option(
            help="PostgreSQL: a file with the connection string of who owns the tables.",
            show_default="store.dsn_file",
        ),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Write calls of older months, all revisions, and the ledger of that time into files, read them back, and
    remove them from the journal with their numbers. Balances stay, and `journal verify` and `journal check`
    hold as before. The daemon may run: it removes them itself then, a few at a time. In PostgreSQL they are
    the records of all nodes; the ledger stays there whole. Exit code 1 where the books or the archive do not
    hold."""
    from sidecar.adapters.exports import ExportError, Format
    from sidecar.adapters.store.bodies import DamagedError
    from sidecar.adapters.store.store import StoreError

    if wanted not in FORMATS:
        fail(Exit.USAGE, f"--format {wanted}: one of {', '.join(FORMATS)}", as_json=as_json)
    settings = settings_of(config, as_json=as_json)
    until = months_ago(datetime.now(UTC), months)
    try:
        if is_sqlite(config, as_json):
            found = _archived(settings, until, out, Format(wanted), text)
        else:
            from sidecar.cli.archive_all import archived_of_all

            found = archived_of_all(settings, dsn_file, until, out, Format(wanted), text)
    except (StoreError, DamagedError, OSError) as error:
        fail(Exit.NO, str(error), as_json=as_json)
    except ExportError as error:
        fail(Exit.USAGE, str(error), as_json=as_json)
    if isinstance(found, str):
        fail(Exit.NO, found, as_json=as_json)
    if as_json:
        print_json({"until": until, "archive": found})
    elif found is None:
        typer.echo(f"nothing that ended before {until:%Y-%m-%d} can go")
    else:
        ledger = f" and {found.movements} movements, up to commit {found.until_commit}"
        size = "The file keeps its size: new calls take the room"
        if not found.until_commit:
            ledger, size = "", "New calls take the room"
        typer.echo(f"{found.records} records{ledger}: in {out}, read back, and removed. {size}")


@app.command("erase")
def erase(
    number: Annotated[
        str, typer.Argument(metavar="NUMBER", help="Its digits, as they stand in the records.")
    ],
    text: Annotated[str, typer.Option("--text", help="Why, for the audit table.")] = "",
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Put a keyed pseudonym in the place of a number, in every record of the journal. Times and totals stay;
    the audit table has the pseudonym alone. A daemon that runs does it itself, a few records at a time; what
    it frees in the file is still there until calls take the room. Where none runs the file is written anew,
    which takes twice its room. Files that left the journal (backups, archives, what subscribers have) are not
    touched: erase there too."""
    from sidecar.adapters.control_client import ControlClient, DaemonUnreachableError
    from sidecar.adapters.sqlite.retention import rewrite
    from sidecar.adapters.store.store import StoreError
    from sidecar.ports import RetentionError
    from sidecar.wire.control import SOCKET_NAME, CommandError

    digits = number.removeprefix("+")
    settings = settings_of(config, as_json=as_json)
    is_rewritten = False
    try:
        with ControlClient(settings.node.data_dir / SOCKET_NAME) as daemon:
            done = _erase_by_daemon(daemon, digits, text)
    except DaemonUnreachableError:
        if not is_sqlite(config, as_json):
            why = (
                "a number in a database is erased by a node that runs, in the records of all: start this one,"
                " or give the command at another node of the database; the key of the pseudonyms"
                " (node.journal_key_file) has to be the same there"
            )
            fail(Exit.UNREACHABLE, why, as_json=as_json)
        change = change_of("retention.erase", "", text)
        try:
            done = _with_store(settings, lambda store: store.retention.erase(digits, change))
            rewrite(settings.node.data_dir)
        except StoreError as error:
            fail(Exit.NO, str(error), as_json=as_json)
        except RetentionError as error:
            fail(Exit.USAGE, str(error), as_json=as_json)
        is_rewritten = True
    except CommandError as error:
        fail(Exit.NO, error.text, as_json=as_json)
    if as_json:
        found = {"pseudonym": done.pseudonym, "records": done.records, "waiting": done.waiting}
        print_json({**found, "open_calls": done.open_calls, "rewritten": is_rewritten})
    else:
        freed = "" if is_rewritten else "; what this freed in the file stays there until calls take the room"
        typer.echo(f"{done.records} records: {done.pseudonym} stands in its place{freed}")
        if done.waiting or done.open_calls:
            typer.echo(
                f"{done.waiting} records wait for the broker and {done.open_calls} calls are not over: they"
                " still hold it. Ask again when they are"
            )
    if done.waiting or done.open_calls:
        raise typer.Exit(Exit.NO.value)


def months_ago(now: datetime, months: int) -> datetime:
    """The begin of the month that lies so many before this one."""
    at = now.year * 12 + now.month - 1 - months
    return datetime(at // 12, at % 12 + 1, 1, tzinfo=UTC)


# --- the archive --------------------------------------------------------------------------------------------


def _archived(
    settings: Settings, until: datetime, out: Path, wanted: Format, text: str
) -> Archive | str | None:
    """By the daemon, where it runs, else in the journal opened as the daemon opens it. A text says why
    nothing was removed, or what no longer holds; None: nothing can go."""
    from sidecar.adapters.control_client import ControlClient, DaemonUnreachableError
    from sidecar.wire.control import SOCKET_NAME, CommandError

    try:
        with ControlClient(settings.node.data_dir / SOCKET_NAME) as daemon:
            found = _prepared(settings, until, out, wanted)
            if isinstance(found, tuple):
                _remove_by_daemon(daemon, *found, until, out, text)
    except DaemonUnreachableError as error:
        if (out / ARCHIVE).exists():
            return (
                f"{error}; {out} is whole, and some of it may have been removed: start the daemon, ask again"
            )
        found = _with_store(settings, lambda store: _remove(settings, store, until, out, wanted, text))
    except CommandError as error:
        return f"{error.text}; {out} is whole, and some of it may have been removed"
    if not isinstance(found, tuple):
        return found
    return _wrong(settings) or found[1]


def _remove_by_daemon(
    daemon: ControlClient, cut: Cut, found: Archive, until: datetime, out: Path, text: str
) -> None:
    asked = {
        "commit": cut.link.number,
        "hash": cut.link.hash.hex(),
        "until": until.isoformat(),
        "archive": _digest(out / ARCHIVE),
        "records": found.records,
        "folder": str(out),
        "text": text,
        "operator": operator_name(),
    }
    while not daemon.call("retention.archive", asked)["done"]:
        time.sleep(REMOVAL_PAUSE_S)


def _erase_by_daemon(daemon: ControlClient, digits: str, text: str) -> Erased:
    from sidecar.ports import Erased

    asked = {"number": digits, "text": text, "operator": operator_name()}
    records = waiting = open_calls = 0
    after = [0, 0]
    while True:
        done = daemon.call("retention.erase", {**asked, "after": after})
        records, waiting, after = records + done["records"], waiting + done["waiting"], done["after"]
        open_calls = max(open_calls, done["open_calls"])  # the record of one may come where we have been
        if after is None:
            return Erased(
                pseudonym=done["pseudonym"], records=records, waiting=waiting, open_calls=open_calls
            )
        time.sleep(REMOVAL_PAUSE_S)


async def _remove(
    settings: Settings, store: SqliteStore, until: datetime, out: Path, wanted: Format, text: str
) -> tuple[Cut, Archive] | str | None:
    from sidecar.core.audit import told

    found = _prepared(settings, until, out, wanted)
    if isinstance(found, tuple):
        cut, archive = found
        digest = _digest(out / ARCHIVE)
        after = {"archive": digest, "until_commit": archive.until_commit, "records": archive.records}
        change = msgspec.structs.replace(change_of("retention.archive", str(out), text), after=told(after))
        await store.retention.remove(cut, _us(until), digest, change)
    return found


def _prepared(
    settings: Settings, until: datetime, out: Path, wanted: Format
) -> tuple[Cut, Archive] | str | None:
    """The journal proved, and what can go of it written and read back."""
    from sidecar.adapters.sqlite.snapshot import Snapshot

    with Snapshot(settings.node.data_dir) as journal:
        if wrong := _findings(settings, journal):
            return f"the journal does not hold, nothing was removed: {wrong}"
        begin, cut = journal.cuts(_us(until))
        if cut == begin:
            return None
        if fault := not_summed(settings):
            return fault
        found = _written(journal, begin, cut, until, out, wanted)
    if isinstance(found, str):
        return f"{out}: not as it was written, nothing was removed: {found}"
    return cut, found


def not_summed(settings: Settings) -> str:
    """Sums what the page of this node, which may not run, has not summed of the records that go: afterwards
    nobody can. Nothing is summed where there never was a page. Why it failed, or nothing."""
    from contextlib import closing
    from socket import gethostname

    import apsw

    from sidecar.adapters.sqlite.kept_sums import FILE_NAME, KeptSums
    from sidecar.config import node_name
    from sidecar.wiring.journal import books_of

    data_dir = settings.node.data_dir
    is_here = settings.web.listen is not None and data_dir.exists()
    if not is_here and not (data_dir / FILE_NAME).exists():
        return ""
    try:
        with closing(books_of(settings, node_name(settings, gethostname()))) as books:
            KeptSums(books, data_dir, settings.node.time_zone).catch_up()
    except apsw.Error as error:
        why = f"{data_dir / FILE_NAME}: {error}"
        return f"the sums that the page shows cannot be made, nothing was removed: {why}"
    return ""


def _wrong(settings: Settings) -> str:
    from sidecar.adapters.sqlite.snapshot import Snapshot

    with Snapshot(settings.node.data_dir) as journal:
        wrong = _findings(settings, journal)
    return f"after the removal: {wrong}" if wrong else ""


def _findings(settings: Settings, journal: Snapshot) -> str:
    from sidecar.adapters.store.keys import key_file_of, read_keys

    keys = read_keys(key_file_of(settings.node))
    return "; ".join([*journal.verify(keys, None).wrong, *journal.ledger_check()][:10])


def _us(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000


def _written(
    journal: Snapshot, begin: Cut, cut: Cut, until: datetime, out: Path, wanted: Format
) -> Archive | str:
    """Written, and read back; a text says what differs."""
    stored = {}
    for part, table in PARTS.items():
        first, last = (
            getattr(heads, "seq" if table == "cdrs" else table) for heads in (begin.heads, cut.heads)
        )
        stored[part] = journal.stored(table, first, last)
    records = exported(stored, out, wanted, {"ended_before": until.isoformat(), "commit": _text(cut)})
    if isinstance(records, str):
        return records
    movements = _write_ledger(out / LEDGER, journal.movements(begin.heads.ledger, cut.heads.ledger))
    if (lines := sum(1 for _ in (out / LEDGER).open("rb"))) != movements:
        return f"{LEDGER}: {lines} movements, {movements} were written"
    found = archive_of(
        out,
        until,
        records,
        previous=journal.archived(),
        after_commit=_text(begin),
        until_commit=_text(cut),
        ledger=_digest(out / LEDGER),
        movements=movements,
    )
    write_archive(out, found)
    return found


def exported(
    parts: Mapping[str, Iterable[Cdr]], out: Path, wanted: Format, filters: Mapping[str, str]
) -> int | str:
    """Records of each part in a folder of its own, all their revisions, read back: how many, or what
    differs."""
    from sidecar.adapters.exports import export as write
    from sidecar.adapters.exports import verify

    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    manifests: dict[str, Manifest] = {}
    for part, records in parts.items():
        manifests[part] = write(
            records,
            out / part,
            wanted,
            filters={**filters, "revisions": "all"},
            product=_product(),
            generated_at=datetime.now(UTC),
        )
    for part, manifest in manifests.items():
        read = verify(out / part)
        written = sum(file.records for file in manifest.files)
        if read.findings or read.records != written:
            return "; ".join(read.findings) or f"{part}: {read.records} records, {written} were written"
    return sum(file.records for one in manifests.values() for file in one.files)


def archive_of(out: Path, until: datetime, records: int, *, previous: str, **more: Any) -> Archive:
    from sidecar.adapters.exports.export import MANIFEST

    return Archive(
        product=_product(),
        until=until,
        previous=previous,
        published=_digest(out / "published" / MANIFEST),
        kept_back=_digest(out / "kept-back" / MANIFEST),
        records=records,
        **more,
    )


def write_archive(out: Path, found: Archive) -> str:
    """Its digest."""
    _write(out / ARCHIVE, [msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"])
    return _digest(out / ARCHIVE)


def _product() -> str:
    from sidecar.cli.version import product_version

    return f"sidecar {product_version()}"


def _write_ledger(path: Path, rows: Iterator[dict[str, object]]) -> int:
    count = 0

    def lines() -> Iterator[bytes]:
        nonlocal count
        for row in rows:
            count += 1
            yield msgspec.json.encode(row) + b"\n"

    _write(path, lines())
    return count


def _write(path: Path, content: Any) -> None:
    from sidecar.adapters.store.disk import synced

    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.writelines(content)
        file.flush()
        os.fsync(descriptor)
    synced(path.parent)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _text(cut: Cut) -> str:
    return f"{cut.link.number}:{cut.link.hash.hex()}"


# --- the store ----------------------------------------------------------------------------------------------


def change_of(action: str, subject: str, text: str) -> Change:
    from sidecar.core.audit import Change, Operator

    return Change(operator=Operator(operator_name(), os.getuid()), action=action, subject=subject, text=text)


def _with_store(settings: Settings, ask: Callable[[SqliteStore], Awaitable[_T]]) -> _T:
    """The journal, opened as the daemon opens it, which must not run."""
    import asyncio
    import socket

    from sidecar.adapters.clock import SystemClock
    from sidecar.adapters.sqlite import SqliteStore
    from sidecar.adapters.sqlite.file import FILE_NAME
    from sidecar.adapters.store.keys import key_file_of
    from sidecar.adapters.store.store import StoreError
    from sidecar.config import node_name

    async def opened() -> _T:
        if not (settings.node.data_dir / FILE_NAME).exists():
            raise StoreError(f"{settings.node.data_dir / FILE_NAME}: there is no journal")
        store = SqliteStore.open(
            settings.node.data_dir,
            node=node_name(settings, socket.gethostname()),
            boot_id=secrets.token_hex(8),
            clock=SystemClock(),
            key_file=key_file_of(settings.node),
        )
        try:
            return await ask(store)
        finally:
            await store.close()

    return asyncio.run(opened())
