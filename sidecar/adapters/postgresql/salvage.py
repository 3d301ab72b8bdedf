"""Entries of open calls that are not what was written: they are put aside, and their node goes on without.

Nobody knows any more what such a call was: no BYE is sent and no record made. What it held is in suspense, as
after a salvage of an SQLite journal. The bytes go into a file of the node that found them, before they leave
the database.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

import msgspec

from sidecar.adapters.postgresql.boots import Damaged, Own, fence, recall
from sidecar.adapters.postgresql.bringing import transaction
from sidecar.adapters.postgresql.server import Server
from sidecar.adapters.store.disk import synced
from sidecar.adapters.store.store import StoreError
from sidecar.core.audit import NODE, Change, told
from sidecar.ports import Clock, Salvage

_WRITTEN = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


def put_aside(
    server: Server, own: Own, clock: Clock, damaged: Sequence[Damaged], folder: Path | None
) -> Salvage:
    """`folder`: where the file goes; None: the bytes are kept nowhere."""
    wall_ns = clock.wall_ns()
    aside = Path() if folder is None else folder / f"open_calls.damaged-{wall_ns // 1_000_000_000}"
    if folder is not None:
        _written(aside, own.node, damaged)
    with server.transaction():
        known = recall(server, own, fence(server, own))
    with transaction(server, own, known, clock, []) as batch:
        held = {one.call_id: batch.open_call(one.call_id) for one in damaged}
        for one in damaged:
            batch.lose(one.call_id)
        about = {"calls": [str(one.call_id) for one in damaged], "file": str(aside)}
        batch.audit(Change(operator=NODE, action="journal.salvage", subject=own.node, after=told(about)))
    reserved = [one for one in held.values() if one is not None and one.reserved is not None]
    return Salvage(
        aside=aside,
        report=aside,
        cause=f"open calls of node {own.node}: {damaged[0].cause}",
        dropped={"open_calls": len(damaged)},
        suspended=sorted({one.account for one in reserved}),
        mended=[f"call {one.call_id}, account {one.account}: is lost" for one in damaged],
    )


def _written(file: Path, node: str, damaged: Sequence[Damaged]) -> None:
    lines = [
        msgspec.json.encode(
            {
                "node": node,
                "call_id": str(one.call_id),
                "account": one.account,
                "cause": one.cause,
                "crc": one.crc,
                "body": b64encode(one.body).decode(),
            }
        )
        for one in damaged
    ]
    try:
        with os.fdopen(os.open(file, _WRITTEN, 0o600), "ab") as to:
            to.write(b"\n".join(lines) + b"\n")
            to.flush()
            os.fsync(to.fileno())
        synced(file.parent)
    except OSError as error:
        raise StoreError(f"{file}: damaged calls cannot be put aside ({error.strerror})") from error
