"""The store on one machine: journal, ledger, outbox and records in one SQLite file with one writer.

    submit -> pacing (what nobody waits for waits for company)
           -> writer (the thread: group commit, what to do when the disk fails; `work` is what it is given)
           -> batch (one transaction: the view that core/books asks, with `ledger` for its money, `waiting`
              for its outbox, `known` for what need not be asked)
           -> rows (many to a statement) -> commit -> report -> the event loop

`store` is the Store port and puts it together; `outbox`, `accounts`, `reader` and `revisions` are the others.
`snapshot` reads beside the daemon. `file` opens and checks; `salvage` and `mend` save what a damaged file
still holds; `check` proves the sums.
"""

from sidecar.adapters.sqlite.check import ledger_check
from sidecar.adapters.sqlite.file import StoreError
from sidecar.adapters.sqlite.revisions import newest_records
from sidecar.adapters.sqlite.salvage import Salvage
from sidecar.adapters.sqlite.store import SqliteStore

__all__ = ["Salvage", "SqliteStore", "StoreError", "ledger_check", "newest_records"]
