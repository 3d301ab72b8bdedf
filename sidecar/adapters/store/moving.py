"""The whole history of one node on its way from one engine into another: what it is made of, and the totals
by which both ends are compared.

Rows are tuples as COLUMNS has them. `boot` in them is the number that the old place gave; the new one gives
its own, and says which.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple, Protocol

import msgspec

from sidecar.adapters.store.batch import SEARCHED
from sidecar.adapters.store.ledger import MOVED
from sidecar.adapters.store.stored import COLUMNS as STORED

COLUMNS: Mapping[str, Sequence[str]] = {
    "cdrs": ("seq", "written_wall_ns", *SEARCHED, "found_by", "body", "crc"),
    "suppressed": (*SEARCHED, "found_by", "body", "crc"),
    "audit": ("boot", "at_wall_ns", "operator", "uid", "action", "subject", "before", "after", "text"),
    "outbox_behind": ("seq", "queued_wall_ns"),
    "dead_letters": ("seq", "boot", "reason_code", "reason_name", "died_wall_ns"),
    "refusals": ("call_id", "body", "crc", "maybe_told"),
    "open_calls": (
        *("slot", "boot", "call_id", "kind", "account", "currency", "reserved", "granted_s"),
        *("body", "crc", "maybe_told"),
    ),
    "stored_entries": STORED,
    "users": ("name", "role", "password_hash", "enabled"),
    "accounts": ("name", "boot", "currency", "prepaid", "terms", "created_wall_ns"),
    "account_addresses": ("block", "account", "boot", "created_wall_ns"),
    "balances": ("account", "currency", "boot", "amount"),
    "kept_references": ("account", "reference", "kind", "amount"),
    "ledger": ("entry", *MOVED),
}
NAMES: Mapping[str, str] = {
    "cdrs": "published records",
    "suppressed": "records kept back",
    "audit": "audit entries",
    "outbox_behind": "records behind the mark of the outbox",
    "dead_letters": "dead letters",
    "refusals": "refusals without a record",
    "open_calls": "open calls",
    "stored_entries": "entries made by command",
    "users": "people who may use the page",
    "accounts": "accounts",
    "account_addresses": "address blocks",
    "balances": "balances",
    "kept_references": "references of archived movements",
    "ledger": "movements",
}
WITH_BODIES = ("cdrs", "suppressed", "open_calls", "refusals")


class EpochRow(NamedTuple):
    name: str
    created_wall_ns: int
    base_seq: int
    head_seq: int
    acknowledged_seq: int


class BootRow(NamedTuple):
    boot: int
    epoch: str  # its name
    boot_id: str
    started_wall_ns: int
    heartbeat_wall_ns: int
    heartbeat_mono_ns: int


class Archived(NamedTuple):
    """What was archived and removed before."""

    until_us: int  # calls that ended before
    archive: str  # the SHA-256 of its manifest
    seq: int  # records up to it
    removed_wall_ns: int
    account_heads: Sequence[tuple[str, int]]  # the last number of each account among them


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Of a place that holds the history. `counts`: rows of each table, the sum of the checksums of their
    bodies, the last number of each epoch. `sums`: of the movements, by account and currency, and what of the
    balance came with them."""

    counts: Mapping[str, int]
    sums: Mapping[str, Decimal]

    def differing(self, other: Totals) -> list[str]:
        found: list[str] = []
        for name, mine, its in (*_both(self.counts, other.counts), *_both(self.sums, other.sums)):
            if mine != its:
                found.append(f"{name}: {mine} there, {its} here")
        return found


def _both(
    mine: Mapping[str, object], its: Mapping[str, object]
) -> Iterator[tuple[str, object | None, object | None]]:
    for name in (*mine, *(name for name in its if name not in mine)):
        yield name, mine.get(name), its.get(name)


def bodies_of(table: str) -> str:
    return f"checksums of {NAMES[table]}"


def head_of(epoch: str) -> str:
    return f"last number of epoch {epoch}"


def sum_of(account: str, currency: str) -> str:
    return f"{account} {currency}"


def balance_of(account: str, currency: str) -> str:
    return f"balance of {account} {currency}"


class History(Protocol):
    """Of one node, as it stands: nobody writes there."""

    @property
    def place(self) -> str: ...
    @property
    def epoch(self) -> str:
        """Its name."""

    @property
    def head(self) -> str:
        """The last link of its chain, where there is one: by it what was left can be told from another."""

    def epochs(self) -> Sequence[EpochRow]:
        """In their order; the last is the one in which the node writes."""

    def boots(self) -> Sequence[BootRow]: ...
    def rows(self, table: str) -> Iterator[tuple[object, ...]]:
        """In their order, as COLUMNS has them."""

    def archived(self) -> Archived | None: ...
    def totals(self) -> Totals: ...


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """`done_before`: all of it was there already, and nothing was changed."""

    node: str
    epoch: str
    left: Totals
    found: Totals | None = None  # in the new place; None: it goes on there, and has grown
    done_before: bool = False
