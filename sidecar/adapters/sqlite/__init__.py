"""The store on one machine: journal, ledger, outbox and records in one SQLite file with one writer.

`store` puts it together: `file` opens and checks, `writer` commits, `batch` is one transaction, `ledger` the
money in it, `rows` many rows in one statement; `outbox`, `accounts` and `reader` are the other ports; `check`
proves the sums.
"""

from sidecar.adapters.sqlite.check import ledger_check
from sidecar.adapters.sqlite.file import StoreError
from sidecar.adapters.sqlite.store import SqliteStore

__all__ = ["SqliteStore", "StoreError", "ledger_check"]
