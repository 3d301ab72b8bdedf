"""What the chains of both engines (core/chain) have in common: how what does not fit is said, and salts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import msgspec

from sidecar.core.chain import ORIGIN, SALT_BYTES, ChainKey, Link

WORDS = {
    "cdrs": "record",
    "suppressed": "record kept back",
    "ledger": "ledger entry",
    "erased": "erasure",
    "audit": "audit entry",
}
NAMED_MAX = 20  # entries of a commit of which one was changed
NOT_AT_HAND = "is not at hand"

Keys = Mapping[str, ChainKey]


class Verdict(msgspec.Struct, kw_only=True):
    """`wrong` names the first entry that does not fit, or why nothing can be said; empty: all is as it was
    written."""

    link: Link = Link(0, ORIGIN)  # how far the chain holds
    reached: int = 0  # the last commit that was looked at; a reader that goes on begins behind it
    is_whole: bool = False  # to the end of the chain
    commits: int = 0
    entries: int = 0  # that were looked at
    wrong: list[str] = []
    unsound: list[str] = []  # records as they were written, with a checksum that says otherwise


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The last commit of a journal, for whoever keeps it elsewhere: a journal that was cut later does not
    reach it."""

    epoch: str
    number: int
    hash: str


def by_id(keys: Sequence[ChainKey]) -> Keys:
    return {key.id: key for key in keys}


def salts(count: int) -> list[bytes]:
    pool = os.urandom(SALT_BYTES * count) if count else b""
    return [pool[at : at + SALT_BYTES] for at in range(0, len(pool), SALT_BYTES)]
