"""The chain of commits: what is hashed, in which order, under which key.

Every commit that adds something for good (a record, published or kept back; a movement of the ledger; a note
of the audit table) is a link: a keyed hash over the link before, its number, and its rows. Whoever changes,
removes, inserts or moves a row later cannot make the hash that belongs to it without the key, and a journal
that was cut shorter does not reach the link that was told elsewhere.

All else in the file changes (open calls, balances, accounts, the outbox, boots) and is in one sum: that of
the keyed digests of its rows, modulo 2^128. A commit takes the old digest of a row off and puts the new one
on, so its cost does not grow with the table, and the order of the rows does not matter. A seal over that sum,
the last link and the marks of the outbox stands beside them.

The personal part of a record (numbers, names, addresses: the record itself, and the numbers by which it is
searched) is in its link by a salted digest alone. Erasing takes part and salt away and keeps the digest: the
link still fits, and nobody can find the number by trying all there are.

Rows are hashed as MessagePack arrays, one after the other, each table after its name: two different commits
never give the same bytes. BLAKE2b (RFC 7693) takes a key and a purpose of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

import msgspec

DIGEST_BYTES = 16
SALT_BYTES = 16
SECRET_BYTES = 32
ORIGIN = b""  # what the first link stands on

Row = Sequence[object]

_ENCODE = msgspec.msgpack.Encoder().encode
_encoded_name = cache(_ENCODE)  # a handful of tables, for each commit
_SUM_MASK = (1 << 8 * DIGEST_BYTES) - 1


class Link(NamedTuple):
    """A commit: its number, and the hash of the last link up to it. Commits that only changed what changes
    take a number and are no link."""

    number: int
    hash: bytes


class ChainKey:
    """`id` names the key without telling it."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"a key has {SECRET_BYTES} bytes, not {len(secret)}")
        self.id = hashlib.blake2b(key=secret, digest_size=8, person=b"key id").hexdigest()
        self._link, self._state, self._personal, self._seal, self._pseudonym, self._record = (
            hashlib.blake2b(key=secret, digest_size=DIGEST_BYTES, person=purpose)
            for purpose in (b"link", b"state", b"personal", b"seal", b"pseudonym", b"record")
        )

    def link(self, number: int, before: bytes, tables: Iterable[tuple[str, Iterable[Row]]]) -> bytes:
        """The hash of a commit: its tables in a fixed order, each with the rows that it added, in order."""
        digest = self._link.copy()
        update = digest.update
        update(_ENCODE((number, before)))
        for name, rows in tables:
            update(_encoded_name(name))
            for row in rows:
                update(_ENCODE(row))
        return digest.digest()

    def personal(self, salt: bytes | None, part: Row) -> bytes:
        """What a link holds of the personal part of a record. None: written before there were salts."""
        digest = self._personal.copy()
        digest.update(_ENCODE((salt, *part)))
        return digest.digest()

    def record(self, row: Row) -> bytes:
        """What stands for a whole record in a link that has to hold once the record was archived and removed
        by itself."""
        digest = self._record.copy()
        digest.update(_ENCODE(row))
        return digest.digest()

    def pseudonym(self, number: str) -> str:
        """What stands for a number that was erased: the same for the same number, and without the key nobody
        finds the number by trying all there are."""
        digest = self._pseudonym.copy()
        digest.update(number.encode())
        return f"erased-{digest.hexdigest()[:16]}"

    def state(self, table: str, row: Row) -> int:
        """What one row adds to the sum of what changes."""
        digest = self._state.copy()
        digest.update(_ENCODE((table, *row)))
        return int.from_bytes(digest.digest(), "big")

    def seal(self, link: Link, state_sum: int, marks: Row) -> bytes:
        digest = self._seal.copy()
        digest.update(_ENCODE((*link, sum_bytes(state_sum), *marks)))
        return digest.digest()


def added(state_sum: int, digests: Iterable[int]) -> int:
    return (state_sum + sum(digests)) & _SUM_MASK


def sum_bytes(state_sum: int) -> bytes:
    return state_sum.to_bytes(DIGEST_BYTES, "big")
