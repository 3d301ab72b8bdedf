"""A damaged file is set aside whole, and what can still be read of it is copied into a new one.

A row is taken if SQLite can reach it, its types are right, and, where it holds a body, the checksum is that
of the bytes: so a record is either as it was written or missing, and never wrong. Sequence numbers go on
under a new epoch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from pathlib import Path

import apsw
import msgspec

from sidecar.adapters.sqlite.chain_check import verify_part, wrong_state
from sidecar.adapters.sqlite.check import ledger_check
from sidecar.adapters.sqlite.file import connect, move_wal
from sidecar.adapters.sqlite.mend import Mender
from sidecar.adapters.sqlite.migrations import SCHEMA_VERSION, open_migrated, run_steps
from sidecar.adapters.sqlite.page_one import give_page_one, is_damaged, kept_schema
from sidecar.adapters.sqlite.sealing import last_cut
from sidecar.adapters.sqlite.wal import composed, copied, hidden
from sidecar.adapters.store.batch import SEARCHED, searched
from sidecar.adapters.store.bodies import DamagedError, sound
from sidecar.adapters.store.chain import by_id
from sidecar.adapters.store.disk import synced
from sidecar.adapters.store.ledger import terms_of
from sidecar.adapters.store.packing import unpacked
from sidecar.adapters.store.store import StoreError
from sidecar.adapters.store.suspense import suspended
from sidecar.core.chain import ChainKey
from sidecar.core.found_by import keys_of
from sidecar.ports import Salvage
from sidecar.wire.cdr_codec import CdrError, decode

PROBES_MAX = 200_000  # seeks behind a place that cannot be read
PROBES_PER_PAGE = 64
PROBES_ONE_BY_ONE = 2_000
PROBES_STEP_MAX = 16

_BESIDE = ("-wal", "-shm")
_UNREADABLE = (apsw.CorruptError, apsw.IOError, apsw.NotADBError, apsw.SQLError)
# (table, its integer key, whether its rows hold a body); those that others refer to come first.
_TABLES = (
    ("boots", "boot", False),
    ("ledger", "entry", False),
    ("open_calls", "slot", True),
    ("refusals", "entry", True),
    ("cdr_bodies", "seq", True),
    ("cdrs", "seq", False),
    ("suppressed", "entry", True),
    ("outbox", "seq", False),  # until schema 3
    ("outbox_behind", "seq", False),
    ("dead_letters", "seq", False),
    ("audit", "entry", False),
    ("account_addresses", "entry", False),
    ("stored_entries", "entry", False),
    ("users", "entry", False),
    ("sealed", "number", False),
    ("kept_references", "entry", False),
    ("account_heads", "entry", False),
)

Row = tuple[object, ...]


def salvaged(
    file: Path,
    cause: str,
    wall_ns: int,
    vfs: str | None = None,
    head_seq_told: int = 0,
    keys: Sequence[ChainKey] = (),
) -> tuple[apsw.Connection, Salvage]:
    """A new file in the place of the damaged one, which nobody may have open; as any new file it has no epoch
    yet. `head_seq_told`: the last sequence number that is known from elsewhere.

    A crash while the rows are copied: the damaged file is still in its place, and the next start begins anew.
    A crash between the two renames: `finish_salvage` does the second.
    """
    fresh, read = _fresh(file), file.with_name(f"{file.name}.reading")
    salvage = Salvage(aside=_aside(file), cause=cause)
    try:
        for suffix in ("", *_BESIDE):
            fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
        target = connect(fresh, vfs)
        source = _connect_damaged(file, read, vfs)
        if source is None:
            run_steps(target)
            _renumber(target, head_seq_told, salvage)
            salvage.may_lack_accounts = True
        else:
            # Rows are copied as they are, and brought up to date as those of a sound file are.
            run_steps(target, _version(source))
            is_proven, marks_hold = _compared(source, keys, salvage)
            _copy(source, target, salvage)
            run_steps(target)
            # Where the mark is lost: better sent again than lost.
            is_lost = "outbox_behind" in salvage.unreadable or not marks_hold
            acknowledged = 0 if is_lost else _acknowledged(source)
            _index(target, salvage)
            head_seq = max(_head(source), head_seq_told)
            _mend(source, target, salvage, wall_ns, head_seq, acknowledged, is_proven=is_proven)
            with suppress(apsw.Error):
                source.close(force=True)
        move_wal(target)
        target.close()
        for suffix in ("", *_BESIDE):
            read.with_name(read.name + suffix).unlink(missing_ok=True)
            part = file.with_name(file.name + suffix)
            if suffix and (suffix == "-shm" or not part.exists() or not part.stat().st_size):
                part.unlink(missing_ok=True)  # says nothing
            elif part.exists():
                part.rename(file.with_name(salvage.aside.name + suffix))
        _written_down(salvage)
        finish_salvage(file)
    except OSError as error:
        raise StoreError(f"{file}: damaged, and cannot be set aside ({error.strerror})") from error
    return open_migrated(file, vfs)[0], salvage


_WRITTEN = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


def _written_down(salvage: Salvage) -> None:
    """The whole of it, for people: a log line may be cut, and is gone in a month."""
    salvage.report = salvage.aside.with_name(f"{salvage.aside.name}.report.json")
    body = msgspec.json.format(msgspec.json.encode(salvage, enc_hook=str), indent=2) + b"\n"
    descriptor = os.open(salvage.report, _WRITTEN, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())


def finish_salvage(file: Path) -> None:
    """Put the salvaged file in its place, if a crash did not let it get there."""
    fresh = _fresh(file)
    if fresh.exists() and not file.exists():
        for suffix in _BESIDE:
            # Of the damaged file, where a crash left it: SQLite would put it into the new one.
            file.with_name(file.name + suffix).unlink(missing_ok=True)
        fresh.rename(file)
        synced(file.parent)


def _fresh(file: Path) -> Path:
    return file.with_name(f"{file.name}.salvaged")


def _aside(file: Path) -> Path:
    number = 1
    while (aside := file.with_name(f"{file.name}.damaged-{number}")).exists():
        number += 1
    return aside


def _connect_damaged(file: Path, read: Path, vfs: str | None) -> apsw.Connection | None:
    """A copy, `read`, in which everything is where SQLite finds it: the pages of a WAL that it would pass
    over, and a first page that names the tables. None: nothing can be reached."""
    for suffix in ("", *_BESIDE):
        read.with_name(read.name + suffix).unlink(missing_ok=True)
    found, kept = hidden(file), kept_schema(file.parent)
    if found is not None:
        composed(file, found, read)
    else:
        copied(file, read)
    connection = _opened_for_reading(read, vfs)
    if kept is None or (connection is not None and not is_damaged(connection, kept)):
        return connection
    if connection is not None:
        connection.close(force=True)
    give_page_one(read, kept)
    return _opened_for_reading(read, vfs)


def _opened_for_reading(file: Path, vfs: str | None) -> apsw.Connection | None:
    try:
        connection = apsw.Connection(str(file), vfs=vfs)
        # Or a file that is shorter than its first page says would not be read at all.
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    except apsw.Error:
        return None
    return connection


def _version(source: apsw.Connection) -> int:
    """Its schema; ours where that cannot be told."""
    with suppress(apsw.Error):
        version = int(source.pragma("user_version"))
        if 0 < version <= SCHEMA_VERSION:
            return version
    return SCHEMA_VERSION


def _copy(source: apsw.Connection, target: apsw.Connection, salvage: Salvage) -> None:
    with target:
        there = {name for (name,) in target.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        for table, key, has_body in _TABLES:
            if table not in there:
                continue  # its schema has none
            _copy_table(source, target, salvage, table, key, has_body=has_body)
        _copy_accounts(source, target)
        for table in there.intersection(("cdrs", "outbox", "outbox_behind", "dead_letters")):
            target.execute(f"DELETE FROM {table} WHERE seq NOT IN (SELECT seq FROM cdr_bodies)")  # noqa: S608


def _compared(source: apsw.Connection, keys: Sequence[ChainKey], salvage: Salvage) -> tuple[bool, bool]:
    """With the chain: whether all that was added for good is as it was written, and whether the marks of the
    outbox are."""
    if not keys:
        return False, True
    try:
        verdict = verify_part(source, by_id(keys), 0)
        state = wrong_state(source, by_id(keys)) if verdict.commits else []
    except (*_UNREADABLE, UnicodeDecodeError):
        return False, True
    salvage.not_as_written += verdict.wrong + state
    # What was carried forward lies before the chain.
    is_whole = verdict.is_whole and not last_cut(source).link.number
    is_proven = is_whole and not verdict.wrong and verdict.commits > 0
    return is_proven, not any(text.startswith("store:") for text in state)


def _index(target: apsw.Connection, salvage: Salvage) -> None:
    """The search row of each record is made of the record itself: one that is lost, or says something else,
    costs nothing."""
    boots = dict[str, int](list(target.execute("SELECT boot_id, boot FROM boots")))
    last = max(boots.values(), default=1)
    columns = ", ".join((*SEARCHED, "found_by"))
    rows = []
    for seq, body, boot, written_ns, *found in target.execute(
        f"SELECT seq, body, cdrs.boot, written_wall_ns, {columns} FROM cdr_bodies LEFT JOIN cdrs USING (seq)"  # noqa: S608
    ):
        try:
            cdr = decode(unpacked(body))
        except CdrError:
            continue  # of a version that we do not know: as it was
        opened, numbers = searched(cdr, boot or boots.get(cdr.boot_id, last))
        says = (*opened, *numbers, keys_of(cdr))
        if says != tuple(found) and (*says[:-1], None) != tuple(found):
            rows.append((seq, written_ns or int(cdr.ended_at.timestamp()) * 10**9, *says))
    places = ", ".join("?" * (3 + len(SEARCHED)))
    with target:
        target.executemany(
            f"INSERT OR REPLACE INTO cdrs (seq, written_wall_ns, {columns}) VALUES ({places})",  # noqa: S608
            rows,
        )
    if rows:
        salvage.mended.append(f"{len(rows)} records: found again by what they say themselves")


def _mend(
    source: apsw.Connection,
    target: apsw.Connection,
    salvage: Salvage,
    wall_ns: int,
    head_seq: int,
    acknowledged: int,
    *,
    is_proven: bool,
) -> None:
    """`is_proven`: the ledger is as it was written, so it says what balances and reservations were."""
    with target:
        # Numbers may be missing now, and above the mark each has its record: what waits is named one by one.
        # Where the mark cannot be read all but the dead letters wait: better sent again than lost.
        target.execute(
            "INSERT OR IGNORE INTO outbox_behind (seq, queued_wall_ns) SELECT seq, written_wall_ns FROM cdrs"
            " WHERE seq > ? AND seq NOT IN (SELECT seq FROM dead_letters)",
            (acknowledged,),
        )
        _renumber(target, head_seq, salvage)
        kept = {} if is_proven else _balances(source)
        may_lack_end = not is_proven and ("ledger" in salvage.unreadable or "ledger" in salvage.dropped)
        salvage.may_lack_accounts = may_lack_end
        mender = Mender(target, wall_ns, is_proven=is_proven)
        salvage.mended += mender.mend(kept, may_lack_end=may_lack_end)
        salvage.suspended = sorted({one.account for one in suspended(target)})
        salvage.wrong = ledger_check(target)


def _renumber(target: apsw.Connection, head_seq: int, salvage: Salvage) -> None:
    """Go on above the highest number that anything still knows of: none is given out twice. What waits for
    the broker has been named before."""
    target.execute(
        "UPDATE store SET head_seq = max(?, (SELECT coalesce(max(seq), 0) FROM cdrs))", (head_seq,)
    )
    target.execute("UPDATE store SET acknowledged_seq = head_seq, epoch_base_seq = head_seq")
    salvage.lost_seqs = target.execute(
        "SELECT head_seq - (SELECT coalesce(max(seq), 0) FROM sealed) - (SELECT count(*) FROM cdrs)"
        " FROM store"
    ).get


def _copy_table(
    source: apsw.Connection,
    target: apsw.Connection,
    salvage: Salvage,
    table: str,
    key: str,
    *,
    has_body: bool,
) -> None:
    columns = [name for _, name, *_ in target.execute(f"PRAGMA table_info({table})")]
    names = ", ".join(map(str, columns))
    select = f"SELECT {names} FROM {table} NOT INDEXED"  # noqa: S608
    insert = f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608
    at, saved, dropped = columns.index(key), 0, 0
    for row in _readable(source, select, key, at, lambda: salvage.unreadable.append(table)):
        try:
            if has_body:
                sound(row[columns.index("body")], row[columns.index("crc")], table)  # type: ignore[arg-type]
            if table == "ledger":
                _amounts(row[columns.index("amount")], row[columns.index("balance")])
            target.execute(insert, row)
            saved += 1
        except (DamagedError, TypeError, apsw.ConstraintError, apsw.MismatchError, UnicodeDecodeError):
            dropped += 1
    salvage.saved[table] = saved
    if dropped:
        salvage.dropped[table] = dropped


def _amounts(*texts: object) -> None:
    for text in texts:
        try:
            sane = Decimal(str(text)).is_finite()
        except InvalidOperation:
            sane = False
        if not sane:
            raise DamagedError(f"not an amount: {text!r}")


def _readable(
    source: apsw.Connection, select: str, key: str, at: int, on_gap: Callable[[], None]
) -> Iterator[Row]:
    """Each row that can be reached, in the order of the key: in one go as far as possible, then from the
    first key behind the place that cannot be read, and so on."""
    after, probes_max = 0, min(PROBES_MAX, _pages(source) * PROBES_PER_PAGE)
    while True:
        try:
            for row in source.execute(f"{select} WHERE {key} > ? ORDER BY {key}", (after,)):
                after = _above(after, row[at])
                yield row
            return
        except (*_UNREADABLE, UnicodeDecodeError):
            on_gap()
            on_gap = _nothing  # said once
            ask = f"{select} WHERE {key} >= ? ORDER BY {key} LIMIT 1"
            behind = _behind(source, ask, at, after, probes_max)
            if behind is None:
                return
            after = _above(after, behind[at])
            yield behind


def _nothing() -> None:
    pass


def _above(after: int, key: object) -> int:
    """A page in a place where it does not belong gives keys that have been: going on with them never ends."""
    if not isinstance(key, int) or key <= after:
        raise apsw.CorruptError(f"key {key} after {after}")
    return key


def _behind(source: apsw.Connection, ask: str, at: int, after: int, probes_max: int) -> Row | None:
    """The next row that can be reached; None: there is none. A seek goes down to the page of its key, so it
    fails for as long as that is the one that cannot be read."""
    step = 1
    probe = after + 1
    for number in range(probes_max):
        try:
            row = source.execute(ask, (probe,)).fetchone()
            if row is not None:
                _above(probe - 1, row[at])
            return row
        except (*_UNREADABLE, UnicodeDecodeError):
            probe += step
            # A stretch as long as this is no page or two: it is gone over more quickly.
            step = step + 1 if number >= PROBES_ONE_BY_ONE and step < PROBES_STEP_MAX else step
    return None


def _pages(source: apsw.Connection) -> int:
    with suppress(*_UNREADABLE):
        return int(source.pragma("page_count"))
    return PROBES_MAX


def _head(source: apsw.Connection) -> int:
    with suppress(*_UNREADABLE):
        found = source.execute("SELECT head_seq FROM store").get
        if isinstance(found, int):
            return found
    return 0


def _acknowledged(source: apsw.Connection) -> int:
    """The mark of the outbox; in a file that had none yet, `outbox` named all that waits."""
    with suppress(*_UNREADABLE):
        if source.execute("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'outbox')").get:
            return 2**62
        found = source.execute("SELECT acknowledged_seq FROM store").get
        if isinstance(found, int):
            return found
    return 0


def _balances(source: apsw.Connection) -> dict[tuple[str, str], Decimal]:
    """Those that can be read."""
    found: dict[tuple[str, str], Decimal] = {}
    try:
        for account, currency, amount in source.execute("SELECT account, currency, amount FROM balances"):
            with suppress(DamagedError):
                _amounts(amount)
                found[str(account), str(currency)] = Decimal(str(amount))
    except _UNREADABLE:
        pass  # the ledger says what they were, but for what was lost at its end
    return found


def _copy_accounts(source: apsw.Connection, target: apsw.Connection) -> None:
    columns = ["name", "boot", "currency", "prepaid", "created_wall_ns"]
    columns += [name for _, name, *_ in target.execute("PRAGMA table_info(accounts)") if name == "terms"]
    rows: list[Row] = []
    with suppress(*_UNREADABLE):
        rows = source.execute(f"SELECT {', '.join(columns)} FROM accounts").fetchall()  # noqa: S608
    places = ", ".join("?" * len(columns))
    for row in rows:
        with suppress(ValueError, TypeError):
            terms_of((row[0], row[2], row[3], row[5] if len(row) > 5 else None))  # type: ignore[arg-type]
            target.execute(
                f"INSERT OR IGNORE INTO accounts ({', '.join(columns)}) VALUES ({places})",  # noqa: S608
                row,
            )
    # Whose balance was topped up was an account; that it was prepaid is the safe guess.
    target.execute(
        "INSERT OR IGNORE INTO accounts (name, boot, currency, prepaid, created_wall_ns)"
        " SELECT account, min(boot), currency, 1, min(booked_wall_ns) FROM ledger"
        " WHERE kind = 'top_up' GROUP BY account"
    )
