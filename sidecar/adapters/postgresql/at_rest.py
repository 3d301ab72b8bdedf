"""The books as they stand, for who changes nothing, whether or not a node runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import psycopg

from sidecar.adapters.postgresql.dsn import name_of
from sidecar.adapters.postgresql.leases import other_nodes
from sidecar.adapters.postgresql.migrations import refuse_other
from sidecar.adapters.postgresql.neighbours import others_heard
from sidecar.adapters.postgresql.records import PostgresqlRecords
from sidecar.adapters.postgresql.server import Reader, looking
from sidecar.adapters.store.store import StoreError


class AtRest(NamedTuple):
    reader: Reader
    records: PostgresqlRecords


@contextmanager
def reading(conninfo: str, node: str) -> Iterator[AtRest | None]:
    """None: nobody has made a table yet. StoreError where they are of another version, or the database cannot
    be read; should that begin later, UnavailableError."""
    reader = Reader(conninfo, f"sidecar {node} looks")
    try:
        try:
            is_there = reader.ask_now(refuse_other)
        except psycopg.Error as error:
            text = " ".join(str(error).split())
            raise StoreError(f"{name_of(conninfo)}: cannot be read ({text})") from error
        yield AtRest(reader, PostgresqlRecords(reader, node)) if is_there else None
    finally:
        reader.close()


def heard_at(conninfo: str, tenant: str, node: str) -> Sequence[tuple[str, str]]:
    """Where the other nodes hear SIP that run: their names, and `udp:192.0.2.1:5060`. StoreError."""
    with looking(conninfo, node) as server:
        others = other_nodes(server, tenant, node) if refuse_other(server) else ()
        return [(one.name, address) for one in others if not one.is_over for address in one.heard_at]


def terms_differing(conninfo: str, node: str) -> Sequence[tuple[str, str, Mapping[str, str | None]]]:
    """What the settings of the other nodes that run say of accounts and the books do not: node, account, and
    the terms. StoreError."""
    with looking(conninfo, node) as server:
        others = others_heard(server, node) if refuse_other(server) else {}
        return [
            (name, account, said) for name, told in others.items() for account, said in told.terms.items()
        ]
