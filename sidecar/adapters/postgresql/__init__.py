"""The store of several nodes: their journals, ledger, outboxes and records in one PostgreSQL database.

    submit -> pacing -> writer (as for SQLite; here the transaction, and a COMMIT whose outcome is unknown)
           -> batch (what its steps will ask, read and locked at once; rows, a statement for each table)

While the server is away, what must be written is kept in memory and in a file (spool); bringing moves over
what a killed process has left in it.

The page reads on connections of its own (`books`), each of its `looks` as of one moment.

Rules are in core/books, and what is no engine's is in adapters/store. The driver is psycopg in the writer's
own thread: core/books asks its view as it goes, and a job is the same program on either engine. With asyncpg
all that may be asked had to be read beforehand, and SQL would run on the event loop.

Keys: (epoch, seq) for what is published, and an epoch is one node's; call_id and account are those of all
nodes. A process writes as a node while its boot is the one that the epoch names: each transaction asks for
that row first (`boots.fence`), so what another boot has taken over is refused, and begins a lease anew. Other
nodes may take over where it has run out (`leases`); a start of the node itself takes its lock, or sees that
the lease is over.
"""

from sidecar.adapters.postgresql.store import PostgresqlStore
from sidecar.adapters.postgresql.stored import stored_entries

__all__ = ["PostgresqlStore", "stored_entries"]
