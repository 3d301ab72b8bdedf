"""Whether the books are as they were written: the chain of each node made again from its rows, and compared.

Read as of one moment, while nodes run. Of each node the first entry that does not fit is named; those of the
other nodes are looked at all the same.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import pairwise
from typing import Any
from uuid import UUID

from sidecar.adapters.postgresql.chain import BOOT_AT, COLUMNS, PERSONAL, TABLES, key_of, link_hash, stand_in
from sidecar.adapters.postgresql.records import CHECKED, looked_at
from sidecar.adapters.postgresql.server import Server
from sidecar.adapters.store.bodies import crc_of
from sidecar.adapters.store.chain import NAMED_MAX, WORDS, Keys, Verdict
from sidecar.core.amounts import EXACT
from sidecar.core.books import ZERO
from sidecar.core.chain import DIGEST_BYTES, Link, Row

_RECORDS = ("cdrs", "suppressed")
# The commit, its hash where the row has it, by what a person knows the row, and what the link holds of it.
_ROWS = {
    "cdrs": f"SELECT link, link_hash, seq, crc, {COLUMNS['cdrs']}, {PERSONAL} FROM cdrs"  # noqa: S608 - names of ours alone
    " WHERE epoch = ? ORDER BY seq",
    "suppressed": f"SELECT link, link_hash, entry, crc, {COLUMNS['suppressed']}, {PERSONAL} FROM suppressed"  # noqa: S608
    " WHERE boot = ANY(?) ORDER BY entry",
    "ledger": f"SELECT link, link_hash, entry, 0, {COLUMNS['ledger']} FROM ledger"  # noqa: S608
    " WHERE boot = ANY(?) ORDER BY entry",
    "erased": f"SELECT link, NULL, entry, 0, {COLUMNS['erased']} FROM erased"  # noqa: S608
    " WHERE boot = ANY(?) ORDER BY entry",
    "audit": f"SELECT link, link_hash, entry, 0, {COLUMNS['audit']} FROM audit"  # noqa: S608
    " WHERE boot = ANY(?) ORDER BY entry",
}
_REMOVED = (
    "SELECT link, link_hash, link AS name, boot, published, kept_back FROM archived_links"
    " WHERE node = ? ORDER BY link"
)
_NOT_NOTED = " UNION ALL ".join(
    f"SELECT call_id, revision FROM {table} AS record WHERE personal IS NOT NULL AND NOT EXISTS"  # noqa: S608
    " (SELECT 1 FROM erased WHERE erased.call_id = record.call_id AND erased.revision = record.revision"
    " AND erased.crc = record.crc)"
    for table in _RECORDS
)

Told = Mapping[str, Sequence[Link]]  # by node: commits that were told elsewhere


def verify(server: Server, keys: Keys, told: Told | None = None) -> dict[str, Verdict]:
    """Of each node, and under "" what is of none. Within one `moment` of the caller."""
    nodes = [node for (node,) in server.run("SELECT DISTINCT node FROM epochs ORDER BY node")]
    found = {node: _Chain(server, node, keys, (told or {}).get(node, ())).verdict() for node in nodes}
    of_none = Verdict(is_whole=True)
    for call_id, revision in server.run(_NOT_NOTED):
        of_none.wrong.append(
            f"record of call {UUID(bytes=call_id)}, revision {revision}: its number was taken away, and no"
            " erasure of it is noted"
        )
    of_none.wrong += [f"node {node}: has never begun here" for node in told or () if node not in found]
    return {**found, "": of_none} if of_none.wrong else found


def wrong_chains(server: Server, keys: Keys) -> list[str]:
    """All that does not fit, each with its node."""
    return said(verify(server, keys))


def said(verdicts: Mapping[str, Verdict]) -> list[str]:
    return [
        f"node {node}: {text}" if node else text
        for node, verdict in verdicts.items()
        for text in (*verdict.wrong, *verdict.unsound)
    ]


class _Chain:
    """Of one node."""

    def __init__(self, server: Server, node: str, keys: Keys, told: Sequence[Link]) -> None:
        self._server = server
        self._node = node
        self._keys = keys
        self._told = {link.number: link for link in told}
        self._epochs = server.run(
            "SELECT epoch, link, link_hash FROM epochs WHERE node = ? ORDER BY epoch", (node,)
        )
        self._key_ids: dict[int, str] = dict(
            server.run(
                "SELECT boots.boot, chain_key FROM boots JOIN epochs USING (epoch) WHERE node = ?", (node,)
            )
        )
        self._verdict = Verdict()

    def verdict(self) -> Verdict:
        verdict = self._verdict
        try:
            self._walk()
        except ValueError as error:  # a key that is not there
            verdict.wrong.append(str(error))
        return verdict

    def _walk(self) -> None:
        boots = list(self._key_ids)
        with ExitStack() as stack:
            of_tables = {table: stack.enter_context(closing(self._rows(table, boots))) for table in TABLES}
            removed = stack.enter_context(closing(self._server.stream(_REMOVED, (self._node,), "removed")))
            streams = {table: _Stream(rows) for table, rows in of_tables.items()}
            if self._goes_on(streams, _Stream(removed)):
                self._ends()

    def _goes_on(self, streams: dict[str, _Stream], removed: _Stream) -> bool:
        """From commit to commit; whether to the last of the rows."""
        verdict = self._verdict
        while waiting := [one for one in (*streams.values(), removed) if not one.is_over]:
            first, number = min(waiting, key=_link), verdict.link.number + 1
            where = f"commit {number}, after commit {number - 1}"
            if first.link > number:
                verdict.wrong.append(f"{where}: all of its entries are gone")
                return False
            if first.link < number:
                words = (WORDS[table] for table, one in streams.items() if one is first)
                verdict.wrong.append(
                    f"{next(words, 'archived commit')} {first.name}: was moved or inserted: it stands"
                    f" behind commit {number - 1}, and says that commit {first.link} has written it"
                )
                return False
            rows = {table: stream.take(number) for table, stream in streams.items()}
            link, is_right = self._link(number, rows, removed.take(number))
            if not is_right:
                verdict.wrong.append(f"{where}: {self._fault(rows)}")
                return False
            if (told := self._told.pop(number, link)) != link:
                verdict.wrong.append(
                    f"another chain: its commit {number} is {link.hash.hex()}, and {told.hash.hex()} was told"
                )
                return False
            verdict.link, verdict.commits = link, verdict.commits + 1
        return True

    def _rows(self, table: str, boots: list[int]) -> Generator[tuple[Any, ...]]:
        if table != "cdrs":
            yield from self._server.stream(_ROWS[table], (boots,), table)
            return
        for epoch, *_ in self._epochs:
            yield from self._server.stream(_ROWS[table], (epoch,), table)

    def _link(
        self, number: int, rows: dict[str, list[tuple[Any, ...]]], removed: list[tuple[Any, ...]]
    ) -> tuple[Link, bool]:
        """As its rows have it, and whether that is what was written."""
        verdict = self._verdict
        hashes: list[bytes] = []
        boot = -1
        digests: dict[str, list[Row]] = {}
        for _, kept_hash, _, boot_of, published, kept_back in removed:
            boot = boot_of
            hashes += [kept_hash] * (kept_hash is not None)
            digests = {"cdrs": _cut(published), "suppressed": _cut(kept_back)}
        for table, of in rows.items():
            for _, kept_hash, _, _, *row in of:
                boot = row[BOOT_AT[table]] if boot < 0 else boot
                hashes += [kept_hash] * (kept_hash is not None)
        key = key_of(self._keys, self._key_ids.get(boot, "of another node"), f"commit {number}")
        hashed: dict[str, list[Row]] = {}
        for table, of in rows.items():
            if table in _RECORDS:
                hashed[table] = digests.get(table, [])
                for _, _, name, crc, *row in of:
                    hashed[table].append(stand_in(key, row))
                    if crc_of(row[-3]) != crc:
                        verdict.unsound.append(
                            f"{WORDS[table]} {name}: its checksum is not that of its bytes"
                        )
            else:
                hashed[table] = [row[4:] for row in of]
            verdict.entries += len(of)
        found = Link(number, link_hash(key, verdict.link, hashed))
        return found, hashes == [found.hash]

    def _ends(self) -> None:
        verdict = self._verdict
        _, *head = self._epochs[-1]
        if verdict.link != Link(*head):
            verdict.wrong.append(
                f"cut: the chain ends at commit {verdict.link.number}, and {head[0]} was the last one"
            )
        elif self._told:
            last = max(self._told)
            verdict.wrong.append(f"cut: its last commit is {verdict.link.number}, and {last} was told")
        else:
            verdict.is_whole = True

    # --- what does not fit ----------------------------------------------------------------------------------

    def _fault(self, rows: dict[str, list[tuple[Any, ...]]]) -> str:
        """Which of the entries of a commit it is, as far as that can be told."""
        seqs = [row[2] for row in rows["cdrs"]]
        for before, seq in pairwise(seqs):
            if seq > before + 1:
                return f"record {before + 1} is gone"
        for table in _RECORDS:
            if (damaged := self._first_damaged(table, rows[table])) is not None:
                return f"{WORDS[table]} {damaged} was changed"
        if (entry := self._first_wrong_balance(rows["ledger"])) is not None:
            return f"ledger entry {entry} was changed, or one before it is gone"
        names = [f"{WORDS[table]} {row[2]}" for table in TABLES for row in rows[table][:NAMED_MAX]]
        if not any(row[1] for of in rows.values() for row in of):
            return f"its last entry is gone; it has {', '.join(names)}"
        if len(names) == 1:
            return f"{names[0]} was changed, or another entry of it is gone"
        return f"one of its entries was changed, moved, inserted or is gone: {', '.join(names)}"

    def _first_damaged(self, table: str, rows: list[tuple[Any, ...]]) -> Any:
        """By what a record says of itself."""
        for _, _, name, _, *row in rows:
            call_id, revision = row[BOOT_AT[table] + 1 : BOOT_AT[table] + 3]
            sql = f"SELECT {CHECKED} FROM {table} WHERE call_id = ? AND revision = ?"  # noqa: S608
            if looked_at(self._server.run(sql, (call_id, revision))[0])[1]:
                return name
        return None

    def _first_wrong_balance(self, rows: list[tuple[Any, ...]]) -> Any:
        for _, _, entry, *_ in rows:
            ((amount, balance, before),) = self._server.run(
                "SELECT amount, balance, (SELECT balance FROM ledger AS earlier"
                " WHERE earlier.account = one.account AND earlier.currency = one.currency"
                " AND earlier.entry < one.entry ORDER BY entry DESC LIMIT 1)"
                " FROM ledger AS one WHERE entry = ?",
                (entry,),
            )
            if EXACT.add(before or ZERO, amount) != balance:
                return entry
        return None


class _Stream:
    """Rows that begin with the number of their commit."""

    def __init__(self, rows: Iterator[tuple[Any, ...]]) -> None:
        self._rows = rows
        self._next = next(rows, None)

    @property
    def is_over(self) -> bool:
        return self._next is None

    @property
    def link(self) -> int:
        """Of the next row."""
        assert self._next is not None, "it is over"
        return int(self._next[0])

    @property
    def name(self) -> Any:
        """By which a person knows the next row."""
        assert self._next is not None, "it is over"
        return self._next[2]

    def take(self, number: int) -> list[tuple[Any, ...]]:
        """Of that commit; of most tables one has none."""
        found = []
        while (row := self._next) is not None and row[0] == number:
            found.append(row)
            self._next = next(self._rows, None)
        return found


def _link(stream: _Stream) -> int:
    return stream.link


def _cut(digests: bytes) -> list[Row]:
    return [digests[at : at + DIGEST_BYTES] for at in range(0, len(digests), DIGEST_BYTES)]
