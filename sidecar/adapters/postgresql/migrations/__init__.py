"""The schema of the books on PostgreSQL, one numbered file for each step, as beside it for SQLite. A step is
taken in a transaction of its own with its number, by one program at a time; a landed step is never edited.

Rights are given at the end of each migration, and by `prepare`, to two roles where the server has them (an
administrator makes them, and makes whoever runs a node a member; `sidecar_owner`, say, owns the tables):

    sidecar_node    reads and writes what a node does; changes no entry of the ledger or of the audit table,
                    and of a record what an erasure does
    sidecar_reader  reads, but for who may use the page
    sidecar_page    reads that too: it is the page's own process
"""

from __future__ import annotations

from importlib import resources

import psycopg

from sidecar.adapters.postgresql.dsn import name_of
from sidecar.adapters.postgresql.server import Server
from sidecar.adapters.store.store import StoreError

STEPS = sorted(one.name for one in resources.files(__name__).iterdir() if one.name.endswith(".sql"))
SCHEMA_VERSION = len(STEPS)
_LOCK = 0x51DECA14  # of pg_advisory_xact_lock: one program migrates
_GROWING = (
    "kept_references",
    "ledger",
    "audit",
    "suppressed",
    "erased",
    "boots",
    "epochs",
    "account_changes",
)
_CHANGING = (
    "open_calls",
    "stray_byes",
    "cdrs",
    "outbox_behind",
    "dead_letters",
    "refusals",
    "accounts",
    "balances",
    "stored_entries",
    "node_states",
    "tranches",
)
_FOR_NODES = (  # with hashes of passwords, and numbers
    "users",
    "node_requests",
    "fraud_counts",
    "fraud_holds",
)
_ARCHIVED = ("archives", "archived_epochs", "archived_links", "account_heads")  # by who owns the tables
_READ = (*_ARCHIVED, *_GROWING, *_CHANGING, "nodes", "account_addresses", "schema_steps")
_RIGHTS: dict[str, dict[str, tuple[str, ...]]] = {
    "sidecar_node": {
        "SELECT": _ARCHIVED,
        "USAGE": ("SEQUENCE fraud_changes",),
        "SELECT, INSERT": (*_GROWING, *_CHANGING, "nodes", "account_addresses", "schema_steps", *_FOR_NODES),
        "UPDATE": (
            "boots",
            "epochs",
            "nodes",
            "open_calls",
            "refusals",
            "accounts",
            "balances",
            "dead_letters",
            "tranches",
            "node_states",
            "node_requests",
            "fraud_counts",
            "fraud_holds",
        ),
        "UPDATE (caller, callee, billed, found_by, body, crc, salt, personal)": (
            "cdrs",
            "suppressed",
        ),  # see changes_by_erasure
        "DELETE": (
            "nodes",
            "boots",
            "epochs",
            "open_calls",
            "stray_byes",
            "outbox_behind",
            "dead_letters",
            "refusals",
            "account_addresses",
            "stored_entries",
            "users",
            "tranches",
            "node_requests",
            "fraud_counts",
            "fraud_holds",
        ),
    },
    "sidecar_reader": {"SELECT": _READ},
    "sidecar_page": {"SELECT": (*_READ, "users")},
}


def migrate(server: Server) -> None:
    """Bring the database to our schema. StoreError where it has a newer one, or where it lacks steps and this
    user may not take them."""
    if (version := _version(server)) == SCHEMA_VERSION:
        return
    _refuse_newer(version)
    try:
        with server.unhurried(), server.transaction():
            server.run(f"SELECT pg_advisory_xact_lock({_LOCK})")
            server.run(
                "CREATE TABLE IF NOT EXISTS schema_steps (step INTEGER PRIMARY KEY, name TEXT NOT NULL,"
                " taken_at TIMESTAMPTZ NOT NULL DEFAULT now())"
            )
            for number in range(_version(server) + 1, SCHEMA_VERSION + 1):
                server.run(resources.files(__name__).joinpath(STEPS[number - 1]).read_text("utf-8"))
                server.run("INSERT INTO schema_steps (step, name) VALUES (?, ?)", (number, STEPS[number - 1]))
            _grant(server)
    except psycopg.errors.InsufficientPrivilege as error:
        raise StoreError(_not_ours(server, version, f" ({error.diag.message_primary})")) from error


def prepare(conninfo: str) -> int:
    """As who owns the tables, or is to own them: they are of our schema, and the roles that are there have
    their rights. The schema that was there before, 0: none. StoreError where that cannot be."""
    name = name_of(conninfo)
    try:
        server = Server(conninfo, "sidecar prepares")
        try:
            before = _version(server)
            migrate(server)
            with server.transaction():
                _grant(server)
            return before
        finally:
            server.close()
    except psycopg.Error as error:
        raise StoreError(f"{name}: {' '.join(str(error).split())}") from error


def refuse_a_start(server: Server) -> None:
    """StoreError where `migrate` would raise one."""
    if (version := _version(server)) == SCHEMA_VERSION:
        return
    _refuse_newer(version)
    ((may_change,),) = server.run(
        "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('schema_steps')"
        if version
        else "SELECT has_schema_privilege(current_schema(), 'CREATE')"
    )
    if not may_change:
        raise StoreError(_not_ours(server, version))


def _not_ours(server: Server, version: int, why: str = "") -> str:
    return (
        f"{server.name}: its schema is {version or 'none'}, ours is {SCHEMA_VERSION}, and this user may not"
        f" change it{why}: `sidecar store prepare`, as its owner"
    )


def refuse_other(server: Server) -> bool:
    """Whether there are tables; StoreError where they are not of our schema."""
    version = _version(server)
    _refuse_newer(version)
    if 0 < version < SCHEMA_VERSION:
        raise StoreError(
            f"{server.name}: its schema is {version}, ours is {SCHEMA_VERSION}:"
            " `sidecar store prepare`, as its owner, or the next start of a node, changes it"
        )
    return bool(version)


def _version(server: Server) -> int:
    ((is_there,),) = server.run("SELECT to_regclass('schema_steps') IS NOT NULL")
    return int(server.run("SELECT coalesce(max(step), 0) FROM schema_steps")[0][0]) if is_there else 0


def _refuse_newer(version: int) -> None:
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"written by a newer version (its schema is {version}, ours is {SCHEMA_VERSION}); start that"
            " version"
        )


def _grant(server: Server) -> None:
    there = {role for (role,) in server.run("SELECT rolname FROM pg_roles")}
    for role in sorted(_RIGHTS.keys() & there):
        for verbs, tables in _RIGHTS[role].items():
            server.run(f"GRANT {verbs} ON {', '.join(tables)} TO {role}")
