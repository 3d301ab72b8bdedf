"""The books of a node, in the engine that the settings name. What is of PostgreSQL is imported where it is
asked for: a node on SQLite may have no psycopg."""

# ruff: noqa: PLC0415

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sidecar.adapters.sqlite import SqliteStore, stored_entries
from sidecar.adapters.sqlite.at_rest import read_alone, reading
from sidecar.adapters.sqlite.books import SqliteBooks
from sidecar.adapters.sqlite.file import FILE_NAME, DataDir
from sidecar.adapters.sqlite.reader import SqliteRecords
from sidecar.adapters.sqlite.snapshot import Snapshot
from sidecar.adapters.store.accounts import StoredAccounts
from sidecar.adapters.store.audit import StoredAudit
from sidecar.adapters.store.books import Books as PageBooks
from sidecar.adapters.store.keys import key_file_of
from sidecar.adapters.store.store import StoreAwayError, StoreError
from sidecar.config import Away, Books, Loaded, Settings
from sidecar.config.problems import Problem, Where
from sidecar.config.settings import StoreEngine
from sidecar.core.policy import Policy, peer_of
from sidecar.core.records import cdr_of
from sidecar.core.stored import StoredEntry
from sidecar.core.takeover import place_of
from sidecar.ports import Clock, NodeStore, Records, Seen, UnavailableError

if TYPE_CHECKING:
    from sidecar.adapters.postgresql.snapshot import PostgresqlSnapshot


class Opened(Protocol):
    def __call__(self, *, seen: Seen | None) -> NodeStore:
        """Raises StoreError, with what to do. `seen`: what the broker has of what was published last."""


def opener(
    settings: Settings,
    policy: Policy,
    clock: Clock,
    *,
    passed_by: int | None,
    begin_anew: bool,
    at_end: Callable[[Callable[[], None]], object],
) -> Opened:
    """`passed_by`: the group that may use a socket in the data directory. `begin_anew`: whatever was told of
    a journal that is gone. `at_end` is given what is to be done once the store is closed."""
    if settings.store.engine is StoreEngine.SQLITE:
        return partial(
            SqliteStore.open,
            settings.node.data_dir,
            node=policy.node,
            boot_id=policy.boot_id,
            clock=clock,
            passed_by=passed_by,
            key_file=settings.node.journal_key_file,
            begin_anew=begin_anew,
        )
    from sidecar.adapters.postgresql import PostgresqlStore
    from sidecar.adapters.postgresql.dsn import read_dsn
    from sidecar.adapters.postgresql.spool import FILE_NAME as KEPT_NAME
    from sidecar.adapters.postgresql.writer import Alone

    if begin_anew:
        raise StoreError(
            "--new is for an SQLite journal only: give the node another database, or another name"
        )
    dsn = read_dsn(_dsn_file(settings))
    held = DataDir(settings.node.data_dir, passed_by)
    at_end(held.release)
    if wrong := _kept_here(settings):
        raise StoreError(wrong)

    def opened(*, seen: Seen | None) -> NodeStore:
        store = PostgresqlStore.open(
            dsn,
            node=policy.node,
            boot_id=policy.boot_id,
            clock=clock,
            tenant=policy.tenant,
            seen=seen,
            key_file=key_file_of(settings.node),
            kept_in=settings.node.data_dir / KEPT_NAME,
            record_of=partial(cdr_of, policy=policy),
            alone=Alone(settings.store.tranche_s, settings.store.away_calls_max),
        )
        store.tightened = held.tightened
        return store

    return opened


def _kept_here(settings: Settings) -> str:
    """Why a start in the database is refused; empty: there is no journal of before."""
    file = settings.node.data_dir / FILE_NAME
    if not file.exists():
        return ""
    return (
        f"{file}: this node kept its books here, and a database does not know of their balances and"
        " calls: `sidecar store migrate --from sqlite --to postgresql` moves them, or set"
        ' store.engine = "sqlite", or move it away to begin without them'
    )


def books_beside(loaded: Loaded) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """What a start in a database would refuse because of what is there, and which of the other nodes that run
    would not be answered, or have an account with other terms: for `sidecar check`."""
    settings, policy = loaded.settings, loaded.policy
    if settings.store.engine is StoreEngine.SQLITE:
        return (), ()
    errors = []
    if wrong := _kept_here(settings):
        where = Where(loaded.given_at.get("store.engine", "default"))
        errors.append(Problem(where=where, key="store.engine", text=wrong))
    from sidecar.adapters.postgresql.at_rest import heard_at, terms_differing
    from sidecar.adapters.postgresql.dsn import read_dsn

    peers = [(peer.name, peer.addresses) for peer in policy.peers.values()]
    try:
        dsn = read_dsn(_dsn_file(settings))
        heard = heard_at(dsn, policy.tenant, policy.node)
        differing = terms_differing(dsn, policy.node)
    except StoreError:
        heard, differing = (), ()  # told elsewhere, or no node has begun there
    unknown = [
        Problem(
            where=Where(settings.profile_path),
            key="peers",
            text=f"node {node} hears SIP at {address}, which is in no group: its OPTIONS are not answered,"
            " and it would not take this node over (`node_in_doubt`)",
        )
        for node, address in heard
        if not peer_of(place_of(address)[1], peers)
    ]
    otherwise = [
        Problem(
            where=Where(settings.profile_path),
            key=f"accounts.{account}",
            text=f"the settings of node {node} have it with other terms than the books ("
            + ", ".join(f"{name} {said or 'not set'}" for name, said in terms.items())
            + "): those of the node that started or changed them last hold",
        )
        for node, account, terms in differing
    ]
    return tuple(errors), (*unknown, *otherwise)


def _dsn_file(settings: Settings) -> Path:
    if settings.store.dsn_file is None:
        raise StoreError("store.dsn_file: postgresql needs a file with its connection string")
    return settings.store.dsn_file


# --- what is there before a start, and beside a node that runs ----------------------------------------------


class NothingKeptError(StoreError):
    """No node has begun there."""


class AtRest(NamedTuple):
    accounts: StoredAccounts
    audit: StoredAudit
    records: Records


@contextmanager
def at_rest(settings: Settings, node: str) -> Iterator[AtRest]:
    """The books as they stand, whether or not the node runs. StoreError where they cannot be read."""
    try:
        if settings.store.engine is StoreEngine.SQLITE:
            file = settings.node.data_dir / FILE_NAME
            if not file.exists():
                raise NothingKeptError(f"{file}: there is no journal")
            with reading(file) as journal:
                yield AtRest(
                    StoredAccounts(journal, read_alone),
                    StoredAudit(journal, read_alone),
                    SqliteRecords(journal),
                )
            return
        from sidecar.adapters.postgresql.at_rest import reading as looking
        from sidecar.adapters.postgresql.dsn import read_dsn

        with looking(read_dsn(_dsn_file(settings)), node) as found:
            if found is None:
                raise NothingKeptError("there is no table in the database: no node has begun there")
            yield AtRest(
                StoredAccounts(found.reader, read_alone),
                StoredAudit(found.reader, read_alone),
                found.records,
            )
    except UnavailableError as error:
        raise StoreError(str(error)) from error
    except ImportError as error:
        raise StoreError(_no_driver(error)) from error


def snapshot_of(settings: Settings, node: str) -> Snapshot | PostgresqlSnapshot:
    """The books of one moment, for what reads many records; closed when it is left. StoreError where there
    are none."""
    if settings.store.engine is StoreEngine.SQLITE:
        return Snapshot(settings.node.data_dir)
    try:
        from sidecar.adapters.postgresql.dsn import read_dsn
        from sidecar.adapters.postgresql.snapshot import PostgresqlSnapshot
    except ImportError as error:
        raise StoreError(_no_driver(error)) from error
    return PostgresqlSnapshot(read_dsn(_dsn_file(settings)), node)


def books_of(settings: Settings, node: str) -> PageBooks:
    """For the page. StoreError where they cannot be read at all."""
    if settings.store.engine is StoreEngine.SQLITE:
        return SqliteBooks(settings.node.data_dir.absolute())
    try:
        from sidecar.adapters.postgresql.books import PostgresqlBooks
        from sidecar.adapters.postgresql.dsn import read_dsn
    except ImportError as error:
        raise StoreError(_no_driver(error)) from error
    return PostgresqlBooks(read_dsn(settings.web.dsn_file or _dsn_file(settings)), node)


def published_heads(settings: Settings, node: str) -> Mapping[tuple[str, str], Mapping[str, int]]:
    """Of each tenant and node in the database: the last number of each of its epochs. StoreError."""
    from sidecar.adapters.postgresql.snapshot import PostgresqlSnapshot

    with snapshot_of(settings, node) as books:
        assert isinstance(books, PostgresqlSnapshot), "the settings were asked"
        return books.heads()


def stored_or_error(books: Books) -> Sequence[StoredEntry] | str:
    """What commands have made, or why that cannot be read."""
    try:
        if books.dsn_file is None:
            return stored_entries(books.data_dir)
        if any(is_error for _, is_error in dsn_faults(books.dsn_file)):
            return ()  # told where the file is looked at
        from sidecar.adapters.postgresql import stored_entries as of_node
        from sidecar.adapters.postgresql.dsn import read_dsn

        return of_node(read_dsn(books.dsn_file), books.node)
    except StoreAwayError as error:
        return Away(error)
    except StoreError as error:
        return str(error)


def dsn_faults(file: Path) -> Sequence[tuple[str, bool]]:
    """What is wrong with the file of a connection string, and whether a start would fail."""
    try:
        from sidecar.adapters.postgresql.dsn import dsn_faults as found
    except ImportError as error:
        return [(_no_driver(error), True)]
    return found(file)


def _no_driver(error: ImportError) -> str:
    return f"{error}: pip install 'sip-billing-sidecar[node,postgresql]'"
