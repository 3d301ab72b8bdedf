"""A damaged file is set aside whole, and what can still be read of it is copied into a new one.

A row is taken if SQLite can reach it, its types are right, and, where it holds a body, the checksum is that
of the bytes: so a record is either as it was written or missing, and never wrong. Sequence numbers go on
under a new epoch.

Money: each ledger row says the balance after it. Where rows between two others are gone, their sum is known,
and one row of kind `lost` stands for them. A reservation whose call is gone is released. What cannot be
mended is named in the report, with the calls concerned: `ledger_check` names it too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from uuid import UUID

import apsw
import msgspec

from sidecar.adapters.sqlite.check import ledger_check
from sidecar.adapters.sqlite.file import StoreError, connect, open_checked, renew_epoch
from sidecar.adapters.sqlite.ledger import EXACT, ZERO, Kind, plain
from sidecar.adapters.sqlite.rows import DamagedError, sound

PROBES_MAX = 200_000  # keys asked one by one behind a place that cannot be read

_UNREADABLE = (apsw.CorruptError, apsw.IOError, apsw.NotADBError, apsw.SQLError)
# (table, its integer key, whether its rows hold a body); those that others refer to come first.
_TABLES = (
    ("boots", "boot", False),
    ("ledger", "entry", False),
    ("open_calls", "slot", True),
    ("cdr_bodies", "seq", True),
    ("cdrs", "seq", False),
    ("suppressed", "entry", True),
    ("outbox", "seq", False),
    ("dead_letters", "seq", False),
)
_LEDGER = "boot, account, currency, kind, amount, balance, call_id, revision, reference, booked_wall_ns"

Row = tuple[object, ...]


class Salvage(msgspec.Struct, kw_only=True):
    """For the log and the operator: where the damaged file is, what was saved, and what does not add up."""

    aside: Path
    cause: str
    saved: dict[str, int] = {}
    dropped: dict[str, int] = {}  # rows that could be reached and were not what was written
    lost_seqs: int = 0
    mended: list[str] = []
    wrong: list[str] = []


def salvaged(file: Path, cause: str, wall_ns: int, vfs: str | None = None) -> tuple[apsw.Connection, Salvage]:
    """A new file in the place of the damaged one. Nobody may have it open."""
    salvage = Salvage(aside=_set_aside(file), cause=cause)
    connection = open_checked(file, vfs)
    source = connect_damaged(salvage.aside, vfs)
    if source is not None:
        _copy(source, connection, salvage, wall_ns)
        source.close(force=True)
    renew_epoch(connection, wall_ns)
    return connection, salvage


def connect_damaged(file: Path, vfs: str | None) -> apsw.Connection | None:
    try:
        return connect(file, vfs)
    except apsw.Error:
        return None  # not even its first page: nothing can be reached


def _set_aside(file: Path) -> Path:
    number = 1
    while (aside := file.with_name(f"{file.name}.damaged-{number}")).exists():
        number += 1
    try:
        # The WAL first: a crash between the two leaves a file that is found damaged again, and no WAL that
        # does not belong to it.
        for suffix in ("-wal", "-shm", ""):
            part = file.with_name(file.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
    except OSError as error:
        raise StoreError(f"{file}: damaged, and cannot be set aside ({error.strerror})") from error
    return aside


def _copy(source: apsw.Connection, target: apsw.Connection, salvage: Salvage, wall_ns: int) -> None:
    # One transaction: a crash in the middle leaves an empty store beside the damaged file that was set aside.
    with target:
        for table, key, has_body in _TABLES:
            _copy_table(source, target, salvage, table, key, has_body=has_body)
        _copy_accounts(source, target)
        for table in ("cdrs", "cdr_bodies"):
            other = "cdr_bodies" if table == "cdrs" else "cdrs"
            target.execute(f"DELETE FROM {table} WHERE seq NOT IN (SELECT seq FROM {other})")  # noqa: S608
        for table in ("outbox", "dead_letters"):
            target.execute(f"DELETE FROM {table} WHERE seq NOT IN (SELECT seq FROM cdrs)")  # noqa: S608
        head, kept = target.execute("SELECT coalesce(max(seq), 0), count(*) FROM cdrs").fetchone() or (0, 0)
        salvage.lost_seqs = int(str(head)) - int(str(kept))
        _mend_ledger(target, salvage, wall_ns)
        salvage.wrong = ledger_check(target)


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
    for row in _readable(source, select, key, at):
        try:
            if has_body:
                sound(row[columns.index("body")], row[columns.index("crc")])  # type: ignore[arg-type]
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


def _readable(source: apsw.Connection, select: str, key: str, at: int) -> Iterator[Row]:
    """Each row that can be reached, in the order of the key: in one go as far as possible, then key by key
    past the place that cannot be read, and so on."""
    after = 0
    while True:
        try:
            for row in source.execute(f"{select} WHERE {key} > ? ORDER BY {key}", (after,)):
                after = int(str(row[at]))
                yield row
            return
        except _UNREADABLE:
            for probe in range(after + 1, after + PROBES_MAX):
                found = _one(source, f"{select} WHERE {key} = ?", probe)
                if found is not None:
                    yield found
                    after = probe
                    break
            else:
                return


def _one(source: apsw.Connection, select: str, key: int) -> Row | None:
    try:
        return source.execute(select, (key,)).fetchone()
    except _UNREADABLE:
        return None


def _copy_accounts(source: apsw.Connection, target: apsw.Connection) -> None:
    try:
        rows = source.execute(
            "SELECT name, boot, currency, prepaid, created_wall_ns FROM accounts"
        ).fetchall()
    except _UNREADABLE:
        # Whose balance was topped up was an account; that it was prepaid is the safe guess.
        rows = target.execute(
            "SELECT DISTINCT account, min(boot), currency, 1, min(booked_wall_ns) FROM ledger"
            " WHERE kind = 'top_up' GROUP BY account"
        ).fetchall()
    for row in rows:
        target.execute("INSERT OR IGNORE INTO accounts VALUES (?, ?, ?, ?, ?)", row)


def _mend_ledger(target: apsw.Connection, salvage: Salvage, wall_ns: int) -> None:
    rows = target.execute(f"SELECT entry, {_LEDGER} FROM ledger ORDER BY entry").fetchall()  # noqa: S608
    taken = {row[0] for row in rows}
    balances: dict[tuple[str, str], Decimal] = defaultdict(lambda: ZERO)
    last_entry, boot = 0, 1
    for row in rows:
        entry, boot, account, currency, _, amount, balance, *_ = row  # type: ignore[assignment]
        key = (str(account), str(currency))
        lost = EXACT.subtract(EXACT.subtract(Decimal(str(balance)), Decimal(str(amount))), balances[key])
        balances[key] = Decimal(str(balance))
        if lost:
            free = next((n for n in range(int(str(entry)) - 1, last_entry, -1) if n not in taken), None)
            if free is not None:
                taken.add(free)
                before = plain(EXACT.subtract(Decimal(str(balance)), Decimal(str(amount))))
                _book(target, free, boot, key, Kind.LOST, lost, before, None, wall_ns)
                salvage.mended.append(f"{key[0]}: movements of {plain(lost)} {key[1]} before entry {entry}")
        last_entry = int(str(entry))
    _release_lost_reservations(target, salvage, balances, boot, wall_ns)
    for (account, currency), amount in balances.items():
        target.execute("INSERT INTO balances VALUES (?, ?, ?, ?)", (account, currency, boot, plain(amount)))
    target.execute("INSERT OR IGNORE INTO balances SELECT name, currency, boot, '0' FROM accounts")


def _release_lost_reservations(
    target: apsw.Connection,
    salvage: Salvage,
    balances: dict[tuple[str, str], Decimal],
    boot: int,
    wall_ns: int,
) -> None:
    held: dict[tuple[bytes, str, str], Decimal] = defaultdict(lambda: ZERO)
    for call_id, account, currency, amount in target.execute(
        "SELECT call_id, account, currency, amount FROM ledger WHERE kind IN ('reserve', 'release')"
        " AND call_id NOT IN (SELECT call_id FROM open_calls)"
    ):
        held[call_id, account, currency] = EXACT.subtract(held[call_id, account, currency], Decimal(amount))
    for (call_id, account, currency), amount in held.items():
        if amount:
            key = (account, currency)
            balances[key] = EXACT.add(balances[key], amount)
            _book(target, None, boot, key, Kind.RELEASE, amount, plain(balances[key]), call_id, wall_ns)
            salvage.mended.append(
                f"{account}: {plain(amount)} {currency} held by the lost call {UUID(bytes=call_id)}"
            )


def _book(
    target: apsw.Connection,
    entry: int | None,
    boot: int,
    key: tuple[str, str],
    kind: Kind,
    amount: Decimal,
    balance: str,
    call_id: bytes | None,
    wall_ns: int,
) -> None:
    target.execute(
        f"INSERT INTO ledger (entry, {_LEDGER}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, ?)",  # noqa: S608
        (entry, boot, *key, kind.value, plain(amount), balance, call_id, wall_ns),
    )
