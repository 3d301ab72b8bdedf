"""What an earlier process of this node kept on its disk while the database was away, brought into the
database at a start: in order, once, before the calls that are left open are looked at.

A step that is repeated changes nothing, so a start that is killed here is followed by one that begins again.
Where another node has taken over meanwhile and recorded a call, no second record comes of what was kept: it
is a revision by late evidence, if the record says no more than that the call was found open.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import msgspec

from sidecar.adapters.postgresql.batch import Batch
from sidecar.adapters.postgresql.boots import Own, fence, recall
from sidecar.adapters.postgresql.server import FAULTS, Server
from sidecar.adapters.store.bodies import sound
from sidecar.adapters.store.known import Known
from sidecar.adapters.store.work import Job, Step, Work, nobody
from sidecar.adapters.store.writer import STEPS_PER_COMMIT_MAX
from sidecar.core.amounts import EXACT
from sidecar.core.books import ZERO
from sidecar.core.cdr import Cdr
from sidecar.core.commands import Publish, Suppress
from sidecar.core.late_evidence import is_same_end, restated
from sidecar.core.records import sell_total, utc
from sidecar.core.tranches import give_back
from sidecar.ports import Brought, Clock
from sidecar.wire.cdr_codec import decode

_NEWEST = (
    "SELECT body, crc FROM (SELECT revision, body, crc FROM cdrs WHERE call_id = ?1"
    " UNION ALL SELECT revision, body, crc FROM suppressed WHERE call_id = ?1) AS of_it"
    " ORDER BY revision DESC LIMIT 1"
)


class _Tally(msgspec.Struct):
    revised: int = 0
    left: list[str] = msgspec.field(default_factory=list)


def is_known(server: Server, node: str, epoch: str) -> bool:
    """Whether this database has ever had that epoch."""
    sql = "SELECT 1 FROM epochs WHERE node = ? AND name = ?"
    return bool(server.run(sql, (node, epoch)))


def bring(server: Server, own: Own, clock: Clock, steps: Sequence[Step | UUID]) -> Brought:
    """Raises one of FAULTS: all of it may be brought again."""
    with server.transaction():
        known = recall(server, own, fence(server, own))
    tally = _Tally()
    for start in range(0, len(steps), STEPS_PER_COMMIT_MAX):
        part = steps[start : start + STEPS_PER_COMMIT_MAX]
        try:
            _commit(server, own, known, clock, part, tally)
        except FAULTS:
            raise
        except Exception:  # noqa: BLE001 - a step with a defect does not keep the others back
            for step in part:
                try:
                    _commit(server, own, known, clock, [step], tally)
                except FAULTS:
                    raise
                except Exception as error:  # noqa: BLE001 - said, and the node starts
                    tally.left.append(f"a step that cannot be worked out: {type(error).__name__}: {error}")
    return Brought(steps=len(steps), revised=tally.revised, left=tuple(tally.left))


def return_tranches(server: Server, own: Own, clock: Clock) -> None:
    """Those of this node: what an earlier process granted out of them is written by now, or lost."""
    with server.transaction():
        known = recall(server, own, fence(server, own))
    if known.tranches:
        job = Job(run=Batch.give_back, done=nobody, accounts={account for account, _ in known.tranches})
        with _transaction(server, own, known, clock, [job]) as batch:
            batch.give_back()


@contextmanager
def _transaction(
    server: Server, own: Own, known: Known, clock: Clock, works: Sequence[Work | UUID]
) -> Iterator[Batch]:
    batch = Batch(server, known, own, clock.wall_ns(), clock.mono_ns())
    try:
        batch.begin(works)
        yield batch
        with server.pipeline():
            batch.send()
            server.send("COMMIT")
    except BaseException:
        if not server.broken:
            server.run("ROLLBACK")
        raise
    batch.committed()


def _commit(
    server: Server, own: Own, known: Known, clock: Clock, steps: Sequence[Step | UUID], tally: _Tally
) -> None:
    revised, left = 0, list[str]()
    with _transaction(server, own, known, clock, steps) as batch:
        late: dict[UUID, Cdr] = {}  # revisions of this transaction
        for step in steps:
            if isinstance(step, UUID):
                batch.forget(step)
            elif (cdr := _recorded_by_another(batch, step)) is None:
                batch.run(step)
            else:
                held = late.get(cdr.call_id) or _newest(server, cdr.call_id)
                after = restated(cdr, held, utc(batch.wall_ns()))
                if after is not None:
                    _cover(batch, held, after)
                if after is not None and batch.revise(after):
                    late[cdr.call_id] = after
                    revised += 1
                elif not is_same_end(cdr, held):
                    left.append(f"call {cdr.call_id}: its record says {held.detail.value} already")
    tally.revised += revised
    tally.left += left


def _cover(batch: Batch, before: Cdr, after: Cdr) -> None:
    """What the call cost beyond its record was granted out of the tranche, perhaps: so much comes back."""
    was, now = sell_total(before), sell_total(after)
    if now is not None:
        more = EXACT.subtract(now.amount, was.amount if was is not None else ZERO)
        key = (after.account, now.currency)
        batch.ledger.book(give_back(key, min(max(ZERO, more), batch.tranche(*key)), batch))


def _recorded_by_another(batch: Batch, step: Step) -> Cdr | None:
    """The record of the step, where the call has one of that number already: of another node, or this one."""
    for command in step:
        if isinstance(command, (Publish, Suppress)):
            cdr = command.cdr
            if batch.open_call(cdr.call_id) is None:
                newest = batch.recorded(cdr.call_id)
                return cdr if newest is not None and newest >= cdr.revision else None
    return None


def _newest(server: Server, call_id: UUID) -> Cdr:
    rows: list[tuple[Any, ...]] = server.run(_NEWEST, (call_id.bytes,))
    body, crc = rows[0]
    return decode(sound(body, crc, f"the record of call {call_id}"))
