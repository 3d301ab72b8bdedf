"""The whole history of a node from its SQLite journal into the database that its settings name."""

# ruff: noqa: PLC0415 - a node on SQLite may have no psycopg

from __future__ import annotations

from pathlib import Path

from sidecar.adapters.sqlite.leaving import leaving
from sidecar.adapters.store.keys import key_at, key_file_of
from sidecar.adapters.store.moving import Moved
from sidecar.adapters.store.store import StoreError
from sidecar.config import Settings
from sidecar.core.audit import Change


def move_to_postgresql(settings: Settings, node: str, change: Change, dsn_file: Path | None = None) -> Moved:
    """The journal is left only when all of it is in the database. `dsn_file`: of who owns the tables, where
    that is not the node's user. StoreError says what is in the way; then nothing was changed."""
    try:
        from sidecar.adapters.postgresql.dsn import read_dsn
        from sidecar.adapters.postgresql.moving import take_in
    except ImportError as error:
        raise StoreError(f"{error}: pip install 'sip-billing-sidecar[node,postgresql]'") from error
    file = dsn_file or settings.store.dsn_file
    if file is None:
        raise StoreError("store.dsn_file: names the file with the connection string of the database")
    dsn = read_dsn(file)
    key_file = key_file_of(settings.node)
    with leaving(settings.node.data_dir, key_file) as left:
        moved = take_in(dsn, node, left.history, change, key_at(key_file))
        left.leave()
    return moved
