"""`sidecar retention archive` where the books are in PostgreSQL: the records of all nodes."""

from __future__ import annotations

import socket
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

if TYPE_CHECKING:
    from sidecar.adapters.exports import Format
    from sidecar.cli.retention import Archive
    from sidecar.config import Settings


def archived_of_all(
    settings: Settings, dsn_file: Path | None, until: datetime, out: Path, wanted: Format, text: str
) -> Archive | str | None:
    """A text says why nothing was removed, or what no longer holds; None: nothing can go. Nodes may run."""
    import psycopg

    from sidecar.adapters.postgresql import archiving
    from sidecar.adapters.postgresql.chain_check import wrong_chains
    from sidecar.adapters.postgresql.dsn import read_dsn
    from sidecar.adapters.postgresql.migrations import refuse_other
    from sidecar.adapters.postgresql.records import ledger_check
    from sidecar.adapters.postgresql.server import Server
    from sidecar.adapters.store.chain import by_id
    from sidecar.adapters.store.keys import key_file_of, read_keys
    from sidecar.adapters.store.store import StoreError
    from sidecar.cli.retention import archive_of, change_of, exported, not_summed, write_archive
    from sidecar.config import node_name
    from sidecar.core.audit import told

    file = dsn_file or settings.store.dsn_file
    assert file is not None, "the settings were checked"
    keys = by_id(read_keys(key_file_of(settings.node)))

    def wrong() -> str:
        with server.moment():
            found = wrong_chains(server, keys)
        return "; ".join([*found, *ledger_check(server)][:10])

    try:
        server = Server(read_dsn(file), "sidecar archives")
        try:
            with server.unhurried():
                if not refuse_other(server):
                    raise StoreError(f"{server.name}: no node has begun there")
                archiving.remove(server, keys)  # what an archive before has left
                if found := wrong():
                    return f"the books do not hold, nothing was removed: {found}"
                cut = archiving.next_cut(server, int(until.timestamp()) * 1_000_000)
                if cut is None:
                    return None
                if fault := not_summed(settings):
                    return fault
                with server.moment():
                    parts = {
                        "published": archiving.published(server, cut),
                        "kept-back": archiving.kept_back(server, cut),
                    }
                    records = exported(parts, out, wanted, {"ended_before": until.isoformat()})
                if isinstance(records, str):
                    return f"{out}: not as it was written, nothing was removed: {records}"
                archive = archive_of(out, until, records, previous=archiving.last_archive(server))
                digest = write_archive(out, archive)
                change = replace(
                    change_of("retention.archive", str(out), text),
                    after=told({"archive": digest, "records": records}),
                )
                node = node_name(settings, socket.gethostname())
                archiving.seal(server, cut, digest, node, time.time_ns(), change, keys)
                archiving.remove(server, keys)
                return f"after the removal: {found}" if (found := wrong()) else archive
        finally:
            server.close()
    except psycopg.errors.InsufficientPrivilege as error:
        who = "a node may not remove records: give --dsn-file, of who owns the tables"
        raise StoreError(f"{file}: {error.diag.message_primary}; {who}") from error
    except psycopg.Error as error:
        raise StoreError(f"{file}: the database cannot be used ({' '.join(str(error).split())})") from error
