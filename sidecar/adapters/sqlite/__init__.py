"""The store on one machine: journal, ledger, outbox and records in one SQLite file with one writer.

    submit -> pacing (what nobody waits for waits for company)
           -> writer (the thread: group commit, what to do when the disk fails; `work` is what it is given)
           -> batch (one transaction: the view that core/books asks, with `ledger` for its money, `waiting`
              for its outbox, `known` for what need not be asked)
           -> rows (many to a statement) -> commit -> report -> the event loop

`store` is the Store port and puts it together; `outbox`, `accounts`, `reader` and `revisions` are the others.
`snapshot` reads beside the daemon, for the page too (`books`), whose sums, of either engine, are `kept_sums`.
`file` opens and checks; `check` proves the sums.

`chain` is what each commit adds to the chain of hashes (core/chain), under one of `keys`; `chain_check` makes
it again, `checking` does so at the start and while calls run. `told` keeps the head outside the file, `loss`
is what a start finds missing of it, `place` whether the file is still the one that is open. `wal` and
`page_one` bring into reach what SQLite would pass over; `salvage` and `mend` save what a damaged file still
holds. A migration that changes rows of the chain breaks it.

`backup` copies a journal that is in use, and puts a copy back. `retention` takes old calls out (`sealing`)
and numbers that are to be forgotten (`erasing`). `replay` reads published records again.
"""

from sidecar.adapters.sqlite.check import ledger_check
from sidecar.adapters.sqlite.revisions import account_currencies, newest_records
from sidecar.adapters.sqlite.store import SqliteStore
from sidecar.adapters.sqlite.stored import stored_entries
from sidecar.adapters.store.store import StoreError

__all__ = [
    "SqliteStore",
    "StoreError",
    "account_currencies",
    "ledger_check",
    "newest_records",
    "stored_entries",
]
