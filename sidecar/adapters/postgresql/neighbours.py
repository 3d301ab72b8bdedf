"""What nodes on one database tell one another (see Neighbours), on a connection of its own that listens: a
change of an account is known everywhere within milliseconds.

The database notes each change of an account, whoever makes it (`account_changes`), and each node says how far
it has followed them. `heard` waits for all who are there: so whoever makes an account by command finds it on
every node once he is answered. A node that is not heard within HEARD_S_MAX goes on by what it knew, and what
it admits is judged by the terms in the transaction that reserves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
import psycopg
import structlog
from msgspec.structs import replace

from sidecar.adapters.postgresql.boots import Own
from sidecar.adapters.postgresql.server import FAULTS, Server
from sidecar.adapters.store.accounts import StoredAccounts
from sidecar.adapters.store.ledger import TERMS, terms_of
from sidecar.adapters.store.reading import Reader, Write
from sidecar.core.account_import import Imported
from sidecar.core.account_terms import AccountTerms
from sidecar.core.audit import Change, Operator
from sidecar.core.fraud_told import FraudCounts, FraudHold
from sidecar.core.terms import Money
from sidecar.ports import (
    AccountError,
    Asked,
    FraudNews,
    FraudTold,
    News,
    NodeSeen,
    NodeSilentError,
    Told,
    UnavailableError,
)

FRESH_S = 3.0  # whoever has told nothing for so long is not heard
HEARD_S_MAX = 3.0
ANSWER_S_MAX = 10.0
FORGET_EVERY_S = 3_600.0
ASKED_AT_ONCE_MAX = 16
CHANGES_AT_ONCE_MAX = 1_000  # some milliseconds of the event loop: an import has a hundred thousand
_LOOK_AGAIN_S = 0.01
_WAKE_S = 0.25  # so long at most the end of a node waits for this connection

_LAST = "SELECT coalesce(max(change), 0) FROM account_changes"
_TELL = (
    "INSERT INTO node_states (node, boot, told_at, change_seen, told)"
    " SELECT ?1::text, boot, clock_timestamp(), ?3::bigint, ?4::text FROM epochs"
    " WHERE epoch = ?5 AND boot = ?2"
    " ON CONFLICT (node) DO UPDATE SET boot = EXCLUDED.boot, told_at = EXCLUDED.told_at,"
    " change_seen = EXCLUDED.change_seen, told = EXCLUDED.told"
)
_FRESH = f"told_at > clock_timestamp() - interval '{FRESH_S:g} s'"
_OTHERS = f"SELECT node, told FROM node_states WHERE node <> ? AND {_FRESH}"  # noqa: S608 - texts of ours alone
_CHANGES = (
    "SELECT max(change), array_agg(DISTINCT account) FROM (SELECT change, account FROM account_changes"  # noqa: S608 - texts of ours alone
    f" WHERE change > ? ORDER BY change LIMIT {CHANGES_AT_ONCE_MAX}) AS these"
)
_BLOCKS = "SELECT account, block FROM account_addresses WHERE account = ANY(?) ORDER BY block"
_TAKE = (
    "UPDATE node_requests SET is_taken = TRUE WHERE request IN (SELECT request FROM node_requests"
    " WHERE node = ? AND NOT is_taken ORDER BY request LIMIT ?)"
    " RETURNING request, method, params, operator, uid"
)
_DEAF = (
    "SELECT node_states.node FROM node_states JOIN epochs USING (boot)"  # noqa: S608 - texts of ours alone
    f" WHERE node_states.node <> ? AND {_FRESH} AND change_seen < ? ORDER BY node_states.node"
)
_SEEN = (
    "SELECT epochs.node, epochs.name, created_wall_ns, base_seq, head_seq, acknowledged_seq,"  # noqa: S608 - texts of ours alone
    " nodes.epoch IS NOT NULL, boot_id, started_wall_ns, heartbeat_wall_ns,"
    " CASE WHEN nodes.epoch IS NULL THEN 0"
    " ELSE (SELECT count(*) FROM open_calls WHERE open_calls.node = nodes.node) END,"
    f" (SELECT told FROM node_states AS of WHERE of.boot = epochs.boot AND {_FRESH}), taker, taken_wall_ns,"
    " (SELECT count(*) FROM dead_letters JOIN epochs AS theirs USING (epoch)"
    " WHERE theirs.node = epochs.node)"
    " FROM epochs LEFT JOIN nodes USING (epoch) LEFT JOIN boots ON boots.boot = epochs.boot"
    # Whoever takes a node over opens an epoch of it, by the boot that it writes as itself.
    " LEFT JOIN LATERAL (SELECT own.node AS taker, boots.started_wall_ns AS taken_wall_ns"
    " FROM epochs AS theirs JOIN boots USING (epoch) JOIN boots AS first"
    " ON first.boot = (SELECT min(boot) FROM boots AS same WHERE same.boot_id = boots.boot_id)"
    " JOIN epochs AS own ON own.epoch = first.epoch"
    " WHERE theirs.node = epochs.node AND own.node <> theirs.node"
    " AND (theirs.epoch = epochs.epoch OR NOT ?1::boolean)"
    " ORDER BY boots.boot DESC LIMIT 1) AS takeover ON TRUE"
    " WHERE ?1::boolean OR nodes.epoch IS NOT NULL ORDER BY epochs.node, epochs.epoch"
)

# Changes of what is held, in the order of their commits.
_ORDERED = "SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || ' fraud_holds', 2))"
# They have callers' numbers: what has had no meaning for a day goes.
_FORGET = (
    "DELETE FROM fraud_counts WHERE told_at < clock_timestamp() - interval '1 day'",
    (
        "DELETE FROM fraud_holds WHERE changed_at < clock_timestamp() - interval '1 day'"
        " AND (is_lifted OR until_ms < 1000 * extract(epoch FROM clock_timestamp() - interval '1 day'))"
    ),
)
_HOLD = "rule, identity, key, node, measured, since_ms, until_ms, is_lifted"
_SET = (
    "identity = EXCLUDED.identity, node = EXCLUDED.node, measured = EXCLUDED.measured,"
    " since_ms = EXCLUDED.since_ms, until_ms = EXCLUDED.until_ms,"
    " is_lifted = EXCLUDED.is_lifted, change = EXCLUDED.change,"
    " changed_at = EXCLUDED.changed_at"
)
_CLAIM = (
    f"INSERT INTO fraud_holds AS held ({_HOLD})"  # noqa: S608 - texts of ours alone
    " SELECT * FROM unnest(?::text[], ?::text[], ?::text[], ?::text[], ?::text[], ?::bigint[], ?::bigint[],"
    " ?::boolean[])"
    f" ON CONFLICT (rule, key) DO UPDATE SET {_SET} WHERE held.is_lifted"
    " OR held.identity <> EXCLUDED.identity OR held.until_ms <= EXCLUDED.since_ms RETURNING rule, key"
)
_LIFT = (
    f"INSERT INTO fraud_holds ({_HOLD}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - texts of ours alone
    f" ON CONFLICT (rule, key) DO UPDATE SET {_SET} RETURNING change"
)
_HOLDS = (
    f"SELECT {_HOLD}, change FROM fraud_holds WHERE change > ? ORDER BY change"  # noqa: S608 - texts of ours alone
    f" LIMIT {CHANGES_AT_ONCE_MAX}"
)
_TELL_COUNTS = (
    "INSERT INTO fraud_counts (node, told_at, counts) SELECT ?1::text, clock_timestamp(), ?2::bytea"
    " FROM epochs WHERE epoch = ?3 AND boot = ?4"
    " ON CONFLICT (node) DO UPDATE SET told_at = EXCLUDED.told_at, counts = EXCLUDED.counts"
)
_COUNTS = (
    "SELECT node, told_at, (1000 * extract(epoch FROM clock_timestamp() - told_at))::bigint, counts"
    " FROM fraud_counts WHERE node <> ? AND told_at > clock_timestamp() - interval '1 day'"
    " AND (node, told_at) NOT IN (SELECT * FROM unnest(?::text[], ?::timestamptz[]))"
)

_UP = "SELECT account, count(*) FROM open_calls WHERE account = ANY(?) AND kind <> 'ending' GROUP BY account"

_T = TypeVar("_T")

log = structlog.get_logger("sidecar.neighbours")


class PostgresqlNeighbours:
    def __init__(self, connect: Callable[[], Server], reader: Reader, own: Own) -> None:
        """`reader`: for looks that wait for nothing."""
        self._connect = connect
        self._reader = reader
        self._own = own
        self._thread = ThreadPoolExecutor(1, "neighbours")
        self._server: Server | None = None
        self._seen_change = 0
        self._forget_at_s = 0.0
        self._counts_seen: dict[str, Any] = {}  # by node, when it told them
        self._is_closing = False

    def begin(self, server: Server) -> None:
        """Before the accounts are read for the first time."""
        ((self._seen_change,),) = server.run(_LAST)

    async def wait(self, wait_s: float) -> None:
        await self._in_thread(lambda: self._wait(wait_s))

    async def exchange(self, told: Told, fraud: FraudTold | None = None) -> News:
        return await self._in_thread(lambda: self._exchange(told, fraud))

    async def lift(self, held: FraudHold) -> int:
        return await self._once(lambda server: _lift(server, held))

    async def seen(self, *, every_epoch: bool = False) -> Sequence[NodeSeen]:
        rows = await self._reader.ask(lambda server: server.execute(_SEEN, (every_epoch,)))
        return [_node_seen(*row) for row in rows]

    async def ask(self, node: str, method: str, params: bytes, operator: Operator) -> bytes:
        request = await self._once(lambda server: _put(server, node, method, params, operator))
        until_s = time.monotonic() + ANSWER_S_MAX
        while time.monotonic() < until_s:
            found = await self._reader.ask(
                lambda server: server.execute(
                    "SELECT answer FROM node_requests WHERE request = ?", (request,)
                )
            )
            if found and found[0][0] is not None:
                break
            await asyncio.sleep(_LOOK_AGAIN_S)
        # One statement: it is not taken any more, or it was.
        gone = await self._once(
            lambda server: server.run(
                "DELETE FROM node_requests WHERE request = ? RETURNING is_taken, answer", (request,)
            )
        )
        is_taken, answer = gone[0] if gone else (True, None)
        if answer is None:
            what = "has taken it, and may yet do it" if is_taken else "does not look: nothing was done"
            raise NodeSilentError(f"node {node} has not answered within {ANSWER_S_MAX:g} s: it {what}")
        return str(answer).encode()

    async def answer(self, request: int, answer: bytes) -> None:
        values = (answer.decode(), request)
        await self._once(
            lambda server: server.run("UPDATE node_requests SET answer = ? WHERE request = ?", values)
        )

    async def heard(self) -> None:
        """Until all nodes that are there go by the accounts as they stand now."""
        ((last,),) = await self._reader.ask(lambda server: server.execute(_LAST))
        until_s = time.monotonic() + HEARD_S_MAX
        while deaf := await self._reader.ask(lambda server: server.execute(_DEAF, (self._own.node, last))):
            if time.monotonic() >= until_s:
                log.warning("accounts_not_heard", nodes=[node for (node,) in deaf])
                return
            await asyncio.sleep(_LOOK_AGAIN_S)

    def close(self) -> None:
        self._is_closing = True
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._server is not None:
            self._server.close()

    # --- in its thread --------------------------------------------------------------------------------------

    async def _in_thread(self, do: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, do)
        except psycopg.Error as error:  # whatever it is: no call ends of it
            text = " ".join(str(error).split())
            raise UnavailableError(f"the other nodes cannot be heard ({text})") from error

    def _connected(self) -> tuple[Server, bool]:
        """And whether it was before."""
        if (server := self._server) is not None:
            return server, True
        server = self._server = self._connect()
        server.run("LISTEN sidecar")
        self._counts_seen = {}
        return server, False

    @contextmanager
    def _given_up_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            if self._server is not None:
                with suppress(*FAULTS):
                    self._server.close()
                self._server = None
            raise

    def _wait(self, wait_s: float) -> None:
        with self._given_up_on_error():
            server, was_connected = self._connected()
            if not was_connected:
                return  # who listens from now on may have missed something
            until_s = time.monotonic() + wait_s
            while not self._is_closing and (left_s := until_s - time.monotonic()) > 0:
                if server.notified(min(left_s, _WAKE_S)):
                    break

    def _exchange(self, told: Told, fraud: FraudTold | None) -> News:
        with self._given_up_on_error():
            server, _ = self._connected()
            # Whoever hears of our calls can hear what rules have counted of them.
            claimed = self._tell_of_fraud(server, fraud) if fraud is not None else frozenset()
            news = self._round(server, told)
            return news if fraud is None else replace(news, fraud=self._hear_of_fraud(server, fraud, claimed))

    def _tell_of_fraud(self, server: Server, told: FraudTold) -> AbstractSet[tuple[str, str]]:
        own = self._own
        if time.monotonic() >= self._forget_at_s:
            self._forget_at_s = time.monotonic() + FORGET_EVERY_S
            for sql in _FORGET:
                server.run(sql)
        if told.counts is not None:
            packed = msgspec.msgpack.encode(told.counts)
            server.run(_TELL_COUNTS, (own.node, packed, own.epoch, own.boot.boot))
        if not told.claims:
            return frozenset()
        columns = [list(column) for column in zip(*map(_row, told.claims), strict=True)]
        with server.transaction():
            server.run(_ORDERED)
            claimed = {(rule, key) for rule, key in server.run(_CLAIM, columns)}
            server.run("SELECT pg_notify('sidecar', '')")
        return claimed

    def _hear_of_fraud(
        self, server: Server, told: FraudTold, claimed: AbstractSet[tuple[str, str]]
    ) -> FraudNews:
        seen = self._counts_seen
        rows = server.run(_COUNTS, (self._own.node, list(seen), list(seen.values())))
        counts = dict[str, tuple[FraudCounts, int]]()
        for node, told_at, age_ms, packed in rows:
            seen[node] = told_at
            counts[node] = msgspec.msgpack.decode(packed, type=FraudCounts), age_ms
        holds = [_hold(*row) for row in server.run(_HOLDS, (told.hold_seen,))]
        return FraudNews(counts=counts, claimed=claimed, holds=holds)

    def _round(self, server: Server, told: Told) -> News:
        own = self._own
        values = (own.node, own.boot.boot, self._seen_change, msgspec.json.encode(told).decode(), own.epoch)
        server.run(_TELL, values)
        others = others_heard(server, own.node)
        asked = [
            Asked(request=request, method=method, params=params.encode(), operator=Operator(name, uid))
            for request, method, params, name, uid in server.run(_TAKE, (own.node, ASKED_AT_ONCE_MAX))
        ]
        ((change, names),) = server.run(_CHANGES, (self._seen_change,))
        if change is None:
            return News(others=others, asked=asked)
        terms = [terms_of(row) for row in server.run(f"{TERMS} WHERE name = ANY(?)", (names,))]
        addresses: dict[str, list[str]] = {name: [] for name in names}
        for account, block in server.run(_BLOCKS, (names,)):
            addresses[account].append(block)
        self._seen_change = change  # told of in the next round: what is heard here is in force by then
        return News(others=others, terms=terms, addresses=addresses, asked=asked)

    async def _once(self, do: Callable[[Server], _T]) -> _T:
        """On a connection of its own, for a person."""

        def once() -> _T:
            server = self._connect()
            try:
                return do(server)
            finally:
                server.close()

        try:
            return await asyncio.to_thread(once)
        except FAULTS as error:
            raise UnavailableError(
                f"the database cannot be reached ({' '.join(str(error).split())})"
            ) from error


class SharedAccounts(StoredAccounts):
    """Of all nodes. What changes an account is done when all of them go by it."""

    def __init__(self, reader: Reader, write: Write, neighbours: PostgresqlNeighbours) -> None:
        super().__init__(reader, write)
        self._neighbours = neighbours

    async def calls_up(self, names: Sequence[str]) -> Mapping[str, int]:
        return dict(await self._reader.ask(lambda server: server.execute(_UP, (list(names),))))

    async def tranches(self, name: str) -> Sequence[tuple[str, Money]]:
        sql = "SELECT node, amount, currency FROM tranches WHERE account = ? ORDER BY node, currency"
        rows = await self._reader.ask(lambda server: server.execute(sql, (name,)))
        return tuple((node, Money(amount, currency)) for node, amount, currency in rows)

    async def return_tranches(self, node: str, change: Change) -> int:
        returned: int | str = await self._write(lambda batch: batch.return_tranches(node, change))
        if isinstance(returned, str):
            raise AccountError(returned)
        return returned

    async def create(
        self,
        terms: AccountTerms,
        change: Change | None = None,
        addresses: Sequence[tuple[str, Change]] = (),
    ) -> None:
        await super().create(terms, change, addresses)
        await self._neighbours.heard()

    async def take_over(
        self, wanted: Sequence[tuple[AccountTerms, Change | None]], *, suspect: bool = False
    ) -> None:
        await super().take_over(wanted, suspect=suspect)
        if wanted:
            await self._neighbours.heard()

    async def change_terms(self, name: str, fields: Mapping[str, object], change: Change) -> AccountTerms:
        changed = await super().change_terms(name, fields, change)
        await self._neighbours.heard()
        return changed

    async def bring(self, rows: Sequence[Imported], change: Change) -> tuple[int, int]:
        done = await super().bring(rows, change)
        await self._neighbours.heard()
        return done

    async def add_address(self, name: str, block: str, change: Change) -> None:
        await super().add_address(name, block, change)
        await self._neighbours.heard()

    async def remove_address(self, name: str, block: str, change: Change) -> None:
        await super().remove_address(name, block, change)
        await self._neighbours.heard()


def _node_seen(
    node: str,
    epoch: str,
    since_wall_ns: int,
    base_seq: int,
    head_seq: int,
    acknowledged_seq: int,
    is_present: bool,
    boot_id: str | None,
    started_wall_ns: int | None,
    heartbeat_wall_ns: int | None,
    open_calls: int,
    said: str | None,
    taker: str | None,
    taken_wall_ns: int | None,
    dead_letters: int,
) -> NodeSeen:
    return NodeSeen(
        node=node,
        epoch=epoch,
        epoch_since_wall_ns=since_wall_ns,
        base_seq=base_seq,
        head_seq=head_seq,
        acknowledged_seq=acknowledged_seq,
        is_present=is_present,
        boot_id=boot_id,
        started_wall_ns=started_wall_ns,
        heartbeat_wall_ns=heartbeat_wall_ns,
        open_calls=open_calls,
        told=None if said is None else _told(said),
        dead_letters=dead_letters,
        taken_over_by=taker,
        taken_over_wall_ns=taken_wall_ns or 0,
    )


def _row(hold: FraudHold) -> tuple[object, ...]:
    return (
        hold.rule,
        hold.identity,
        hold.key,
        hold.node,
        str(hold.measured),
        hold.since_ms,
        hold.until_ms,
        hold.is_lifted,
    )


def _hold(
    rule: str,
    identity: str,
    key: str,
    node: str,
    measured: str,
    since_ms: int,
    until_ms: int | None,
    is_lifted: bool,
    change: int,
) -> FraudHold:
    return FraudHold(
        rule=rule,
        identity=identity,
        key=key,
        node=node,
        measured=Decimal(measured),
        since_ms=since_ms,
        until_ms=until_ms,
        is_lifted=is_lifted,
        change=change,
    )


def _lift(server: Server, held: FraudHold) -> int:
    with server.transaction():
        server.run(_ORDERED)
        ((change,),) = server.run(_LIFT, _row(replace(held, is_lifted=True)))
        server.run("SELECT pg_notify('sidecar', '')")
    return int(change)


def others_heard(server: Server, node: str) -> Mapping[str, Told]:
    """The others that told something of late."""
    return {name: _told(said) for name, said in server.run(_OTHERS, (node,))}


def _told(said: Any) -> Told:
    return msgspec.json.decode(said, type=Told)


def _put(server: Server, node: str, method: str, params: bytes, operator: Operator) -> int:
    server.run(
        "DELETE FROM node_requests WHERE asked_at < clock_timestamp() - interval '1 min'"
    )  # who asked died
    ((request,),) = server.run(
        "INSERT INTO node_requests (node, method, params, operator, uid) VALUES (?, ?, ?, ?, ?)"
        " RETURNING request",
        (node, method, params.decode(), operator.name, operator.uid),
    )
    server.run("SELECT pg_notify('sidecar', '')")
    return int(request)
