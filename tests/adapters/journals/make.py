"""Makes the journals of this folder: small files of one schema, with everything in them that a later version
must bring over, and what the store told of them on the day they were written.

`python -m tests.adapters.journals.make schema-1` wrote `schema-1-closed.tar.xz` and `schema-1-killed.tar.xz`
with the code of commit 2f5b010; those of schema 2 are of 0f9c325, those of schema 3 of f4eef51, those
of schema 4 of 2ebe750, those of schema 6 of 5cb8fbd, those of schema 7 of d5c50f9, those of schema 8 of
67dbb28, those of schema 9 of 6c9741a, those of schema 10 of a6e0c46, those of schema 11 of b0fb9eb, those
of schema 12 of e2bc337, those of schema 13 of c761048. Before a migration lands, the code before it writes
the files of its schema; files that are here are never made again.

`closed` was closed cleanly with calls open, in its second epoch and third boot. `killed` is the same file
after one more boot, which ended by SIGKILL: what that boot wrote is in the WAL beside it alone.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.sqlite import SqliteStore
from sidecar.adapters.sqlite.file import FILE_NAME, connect, connect_reader
from sidecar.adapters.store.keys import KEY_FILE_NAME
from sidecar.core.audit import Change, Operator
from sidecar.core.call import Call, Phase, Stamp
from sidecar.core.cdr import Cdr
from sidecar.core.commands import EntryKind, StoreCommand
from sidecar.core.margin import ExchangeTable
from sidecar.core.policy import RecordFlags
from sidecar.core.rerate import rerate, revised
from sidecar.core.tariff import Deck, Rate, per_minute_steps
from sidecar.core.terms import Detail, DialogState, HangupOrigin, Money
from sidecar.ports import RecordFilter
from sidecar.wire.cdr_codec import encode_json
from sidecar.wire.entries import decode_call
from tests.adapters.store_calls import (
    NO_SERVER_RECORDS,
    POLICY,
    admission,
    admitted,
    answered,
    call_id,
    ended,
    ending,
    entry,
    terms_of,
    whole_call,
)

HERE = Path(__file__).parent
NO_CDR = replace(POLICY, flags=RecordFlags(no_cdr_numbers=frozenset({"49*"})))
ACCOUNTS = ("acme", "beta", "_")


def routing(call: Call) -> Call:
    return replace(call, phase=Phase.ROUTING, state_b=DialogState.PROCEEDING)


def early(call: Call) -> Call:
    rang = Stamp(call.invite.mono_ns + 1_500_000_000, call.invite.wall_ns + 1_500_000_000)
    return replace(routing(call), state_b=DialogState.EARLY, ringing=rang, first_heard=rang)


def talking(call: Call) -> Call:
    return replace(answered(call), phase=Phase.TALKING)


def refused(call: Call) -> Call:
    """Ended by the server before an answer, to be kept back."""
    return ended(call, talk_ms=500, detail=Detail.OPERATOR, origin=HangupOrigin.SERVER)


async def first_boot(store: SqliteStore) -> None:
    await store.accounts.create(terms_of("acme"))
    await store.accounts.create(terms_of("beta", prepaid=False))
    await store.accounts.top_up("acme", Money(Decimal("125.50"), "EUR"), "invoice 1")
    await store.accounts.top_up("acme", Money(Decimal("0.123456"), "EUR"), "invoice 2")
    await store.audit.write(
        Change(operator=Operator("ann", 1000), action="deck.reload", subject="retail", after='{"deck":"new"}')
    )
    await written(
        store,
        *whole_call(1, "acme", prepaid=True),
        *whole_call(2, "beta"),
        *whole_call(3, "_"),
        *whole_call(4, "beta"),
        admission(admitted(5, "beta")),
        ending(refused(admitted(5, "beta")), NO_SERVER_RECORDS),
        admission(admitted(6, "acme", prepaid=True)),
        ending(ended(answered(admitted(6, "acme", prepaid=True))), NO_CDR),
        *whole_call(7, "acme", prepaid=True),
        # Left open, for the next boots to find.
        admission(admitted(11, "acme", prepaid=True)),
        admission(admitted(12, "beta")),
        entry(EntryKind.ATTEMPT, routing(admitted(12, "beta"))),
    )
    await store.outbox.acknowledge([1, 2], [(3, 0x87), (4, 0x95)])


async def second_boot(store: SqliteStore, data_dir: Path) -> None:
    for number, price in ((2, "0.01"), (7, "1"), (6, "2")):  # dearer, cheaper, and one that was kept back
        await revise(store, number, price)
    await revise(store, 7, "0.5")
    await written(store, *whole_call(8, "acme", prepaid=True), admission(admitted(13, "acme", prepaid=True)))
    prepaid = open_call(data_dir, 13)
    assert prepaid.reserved is not None
    await written(
        store,
        entry(EntryKind.ANSWERED, answered(early(prepaid))),
        entry(EntryKind.ESTABLISHED, talking(prepaid)),
        admission(admitted(14, "beta")),
        entry(EntryKind.ATTEMPT, early(admitted(14, "beta"))),
        admission(admitted(15, "beta")),
        entry(EntryKind.ANSWERED, answered(admitted(15, "beta"))),
        admission(admitted(16, "_")),
        entry(EntryKind.ENDING, replace(ended(answered(admitted(16, "_"))), phase=Phase.ENDING)),
    )
    await store.outbox.acknowledge([5], [(6, 0x99)])
    await store.outbox.retry_dead([3])


async def last_boot(store: SqliteStore) -> None:
    await store.accounts.top_up("acme", Money(Decimal(3), "EUR"), "invoice 3")
    await written(
        store,
        *whole_call(9, "beta"),
        admission(admitted(17, "acme", prepaid=True)),
        ending(ended(answered(admitted(12, "beta")))),
    )
    await store.outbox.acknowledge([7], [])


async def written(store: SqliteStore, *steps: Sequence[StoreCommand]) -> None:
    for step in steps:
        store.submit(step)
    await store.outbox.acknowledge([], [])


async def revise(store: SqliteStore, number: int, price: str) -> None:
    newest = (await store.records.show(str(call_id(number))))[-1]
    steps = per_minute_steps(Decimal(price), 60, 60)
    found = rerate(newest, Deck(f"at {price}", [Rate(prefix="49", currency="EUR", steps=steps)]), None)
    assert found is not None
    cdr = revised(newest, found.after, ExchangeTable(), "ann", "wrong deck", newest.ended_at)
    assert list(await store.revisions.revise([cdr])) == [True]


async def told_of(store: SqliteStore, open_calls: Sequence[Call]) -> dict[str, Any]:
    """What this version reads from the file: a later one must read the same."""
    state = await store.outbox.outbox_state()
    kept_back = await store.records.search(RecordFilter(suppressed=True))
    return {
        "epoch": state.epoch,
        "head_seq": state.head_seq,
        "published": state.published,
        "records": _json(await store.records.tail(0, 1_000)),
        "suppressed": _json(kept_back.records),
        "waiting": [row.seq for row in await store.outbox.pending(0, 1_000)],
        "dead": [[one.seq, one.reason_code] for one in await store.outbox.dead_letters()],
        "open": [whole(call) for call in open_calls],
        "accounts": [whole(account) for account in await store.accounts.stored()],
        "balances": {
            name: [f"{money.amount:f}" for money in await store.accounts.balance(name)] for name in ACCOUNTS
        },
        "ledger": {name: msgspec.to_builtins(await store.accounts.ledger(name, 1_000)) for name in ACCOUNTS},
        "audit": msgspec.to_builtins(await store.audit.list()),
        "ledger_check": list(await store.ledger_check()),
    }


def whole(value: object) -> object:
    """With the fields that have their default, which an entry of the journal leaves out."""
    if isinstance(value, msgspec.Struct):
        return {name: whole(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, (tuple, list)):
        return [whole(one) for one in value]
    return msgspec.to_builtins(value)


def _json(cdrs: Sequence[Cdr]) -> list[Any]:
    return [msgspec.json.decode(encode_json(cdr)) for cdr in cdrs]


def opened(data_dir: Path, boot_id: str) -> SqliteStore:
    return SqliteStore.open(data_dir, node="n1", boot_id=boot_id, clock=SystemClock())


async def closed_part(data_dir: Path) -> dict[str, Any]:
    store = opened(data_dir, "boot-1")
    await first_boot(store)
    await store.close()
    connection = connect(data_dir / FILE_NAME)
    connection.execute("UPDATE store SET epoch = ''")  # the next boot begins a new one
    connection.close()
    store = opened(data_dir, "boot-2")
    await second_boot(store, data_dir)
    await store.close()
    store = opened(data_dir, "boot-3")
    told = await told_of(store, [call for call, _ in store.found_open()])
    await store.close()
    return told


async def killed_part(data_dir: Path) -> None:
    """In a process of its own, which ends here."""
    store = opened(data_dir, "boot-4")
    found = [call for call, _ in store.found_open()]
    await last_boot(store)
    left = [call for call in found if call.call_id != call_id(12)]
    told = await told_of(store, [*left, open_call(data_dir, 17)])
    (data_dir / "told.json").write_bytes(msgspec.json.encode(told))
    os.kill(os.getpid(), signal.SIGKILL)


def open_call(data_dir: Path, number: int) -> Call:
    """As the journal has it: with what was reserved for it."""
    connection = connect_reader(data_dir / FILE_NAME)
    body = connection.execute("SELECT body FROM open_calls WHERE call_id = ?", (call_id(number).bytes,)).get
    connection.close()
    return decode_call(body)


def packed(data_dir: Path, archive: Path) -> None:
    with tarfile.open(archive, "w:xz", preset=9) as tar:
        for name in (FILE_NAME, f"{FILE_NAME}-wal", KEY_FILE_NAME, "told.json"):
            if (data_dir / name).exists():
                tar.add(data_dir / name, name)


def main(prefix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        told = asyncio.run(closed_part(data_dir))
        (data_dir / "told.json").write_bytes(msgspec.json.encode(told))
        packed(data_dir, HERE / f"{prefix}-closed.tar.xz")
        killed_dir = Path(folder) / "killed"
        shutil.copytree(data_dir, killed_dir)
        child = subprocess.run(
            [sys.executable, "-m", __spec__.name, "--killed", str(killed_dir)], check=False
        )
        assert child.returncode == -signal.SIGKILL
        packed(killed_dir, HERE / f"{prefix}-killed.tar.xz")


if __name__ == "__main__":
    if sys.argv[1] == "--killed":
        asyncio.run(killed_part(Path(sys.argv[2])))
    else:
        main(sys.argv[1])
