"""What changes, and is in no link of the chain: one sum over all of its rows (core/chain), and how that
follows them.

Every table is in the chain or here, with every column: tests/adapters/test_sqlite_covered takes them from the
file itself. Open calls and balances change with each call, and what is carried forward goes where movements
of the chain were: the writer says what it does to them. All others are watched: temporary triggers on its
connection tell each row that comes or goes, so nothing that writes there needs to know of the sum, and
nothing can forget it.
"""

from __future__ import annotations

from typing import Final

import apsw

from sidecar.core.chain import ChainKey, Row, added

SUM_VERSION: Final = 1  # see the schema, step 14

_WATCHED: Final = {
    "boots": (
        "boot",
        "node",
        "epoch",
        "boot_id",
        "started_wall_ns",
        "heartbeat_wall_ns",
        "heartbeat_mono_ns",
    ),
    "accounts": ("name", "currency", "prepaid", "terms", "boot", "created_wall_ns"),
    "account_addresses": ("entry", "block", "account", "boot", "created_wall_ns"),
    "outbox_behind": ("seq", "queued_wall_ns"),
    "dead_letters": ("seq", "boot", "reason_code", "reason_name", "died_wall_ns"),
    "refusals": ("entry", "call_id", "body", "crc", "maybe_told"),
    "sealed": (
        "number",
        "hash",
        "seq",
        "suppressed",
        "ledger",
        "audit",
        "until_us",
        "archive",
        "removed_wall_ns",
    ),
    "kept_references": ("entry", "account", "reference", "kind", "amount"),
    "account_heads": ("entry", "account", "seq"),
    "chain_keys": ("key", "id", "since_wall_ns"),
    "stored_entries": (
        "entry",
        "kind",
        "name",
        "place",
        "first",
        "fields",
        "operator",
        "uid",
        "at_wall_ns",
        "text",
    ),
    "users": ("entry", "name", "role", "password_hash", "enabled"),
}
CARRIED: Final = (
    "SELECT entry, boot, account, currency, kind, amount, balance, call_id, revision, reference,"
    " booked_wall_ns, operator, text FROM ledger WHERE entry <= ?1"
)
CUT: Final = "SELECT number, key, seq, suppressed, ledger, audit, hash FROM commits WHERE number = ?1"
_LAST_CUT = "(SELECT {} FROM sealed JOIN commits USING (number, hash) ORDER BY number DESC LIMIT 1)"
_ROWS: Final = {
    "open_calls": "SELECT slot, boot, call_id, kind, account, currency, reserved, granted_s, body, crc,"
    " maybe_told FROM open_calls",
    "balances": "SELECT account, currency, boot, amount FROM balances",
    # What was carried forward lies before the chain, and so does the commit behind which that begins.
    "carried": CARRIED.replace("?1", _LAST_CUT.format("sealed.ledger")),
    "cut": CUT.replace("?1", _LAST_CUT.format("number")),
    # A copy that was kept before a migration has no epoch any more: it is that of its last boot.
    "store": "SELECT coalesce(nullif(epoch, ''), (SELECT epoch FROM boots ORDER BY boot DESC LIMIT 1)),"
    " epoch_base_seq, created_wall_ns FROM store",
    **{table: f"SELECT {', '.join(columns)} FROM {table}" for table, columns in _WATCHED.items()},  # noqa: S608
}
OPEN_CALLS: Final = _ROWS["open_calls"]
OPEN_CALL_ROW: Final = f"{OPEN_CALLS} WHERE slot = ?"
_ROWS_BEFORE: Final = {
    "open_calls": "SELECT slot, boot, call_id, kind, account, currency, reserved, granted_s, body"
    " FROM open_calls",
    "balances": "SELECT account, currency, amount FROM balances",
    "accounts": "SELECT name, currency, prepaid, terms FROM accounts",
    "account_addresses": "SELECT block, account FROM account_addresses",
    "stored_entries": "SELECT kind, name, place, first, fields, operator, uid, at_wall_ns, text"
    " FROM stored_entries",
    "users": "SELECT name, role, password_hash, enabled FROM users",
}


def state_sum(connection: apsw.Connection, key: ChainKey, version: int = SUM_VERSION) -> int:
    """Over the rows that are there."""
    tables = _ROWS if version else _ROWS_BEFORE
    return added(
        0,
        (key.state(table, trimmed(row)) for table, sql in tables.items() for row in connection.execute(sql)),
    )


def sum_version(connection: apsw.Connection) -> int:
    """A damaged file of before is asked, too."""
    sql = "SELECT EXISTS (SELECT 1 FROM pragma_table_info('store') WHERE name = 'sum_version')"
    is_there = connection.execute(sql).get
    return int(connection.execute("SELECT sum_version FROM store").get) if is_there else 0


def trimmed(row: Row) -> Row:
    """Without NULLs at its end: rows of before a column was added are hashed as they were."""
    last = len(row)
    while last and row[last - 1] is None:
        last -= 1
    return row if last == len(row) else row[:last]


class Watch:
    """What the running transaction adds to the sum by rows of watched tables."""

    def __init__(self, connection: apsw.Connection, key: ChainKey) -> None:
        self._key = key
        self._sum = 0
        connection.create_scalar_function("row_changed", self._note)  # type: ignore[arg-type]
        connection.execute("PRAGMA temp_store = MEMORY")  # also on a disk that takes nothing
        # Or a row that gives way to another one (INSERT OR REPLACE) would go unseen.
        connection.execute("PRAGMA recursive_triggers = ON")
        for table, columns in _WATCHED.items():
            new, old = (
                f"SELECT row_changed({sign}, '{table}', {', '.join(f'{of}.{name}' for name in columns)});"
                for sign, of in ((1, "NEW"), (-1, "OLD"))
            )
            for verb, told in (("INSERT", new), ("DELETE", old), ("UPDATE", old + new)):
                connection.execute(
                    f"CREATE TEMP TRIGGER {table}_{verb} AFTER {verb} ON main.{table} BEGIN {told} END"
                )

    def taken(self) -> int:
        """What came since it was last taken."""
        found, self._sum = self._sum, 0
        return found

    def _note(self, sign: int, table: str, *row: object) -> None:
        self._sum += sign * self._key.state(table, trimmed(row))
