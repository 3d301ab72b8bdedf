"""What an earlier process of this node kept on its disk while the database was away, brought into the
database at a start: in order, once, before the calls that are left open are looked at.

A step that is repeated changes nothing, so a start that is killed here is followed by one that begins again.
Where another node has taken over meanwhile and recorded a call, no second record comes of what was kept: it
is a revision by late evidence, if the record says no more than that the call was found open. So is an end
whose record the process did not live to make.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import msgspec

from sidecar.adapters.postgresql.batch import Batch, giving_back
from sidecar.adapters.postgresql.boots import Own, fence, recall, tranches_of
from sidecar.adapters.postgresql.server import FAULTS, Server
from sidecar.adapters.store.bodies import sound
from sidecar.adapters.store.known import Known
from sidecar.adapters.store.work import Step, Work
from sidecar.adapters.store.writer import STEPS_PER_COMMIT_MAX
from sidecar.core.amounts import EXACT
from sidecar.core.books import ZERO
from sidecar.core.call import Call
from sidecar.core.cdr import Cdr
from sidecar.core.commands import Append, EntryKind, Publish, Suppress
from sidecar.core.late_evidence import is_same_end, restated
from sidecar.core.records import sell_total, utc
from sidecar.core.terms import Detail
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


def bring(
    server: Server, own: Own, clock: Clock, steps: Sequence[Step | UUID], record_of: Callable[[Call], Cdr]
) -> Brought:
    """`record_of` a call that has ended. Raises one of FAULTS: all of it may be brought again."""
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
    for call in _ended_alone(steps):
        try:
            _restate_ended(server, own, known, clock, call, record_of, tally)
        except FAULTS:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            tally.left.append(f"the end of call {call.call_id}: {type(error).__name__}: {error}")
    return Brought(steps=len(steps), revised=tally.revised, left=tuple(tally.left))


def return_tranches(server: Server, own: Own, clock: Clock) -> None:
    """Those of this node: what an earlier process granted out of them is written by now, or lost."""
    if not (tranches := tranches_of(server, own.node)):
        return
    with server.transaction():
        known = recall(server, own, fence(server, own))
    with transaction(server, own, known, clock, [giving_back(tranches)]) as batch:
        batch.give_back()


def _ended_alone(steps: Sequence[Step | UUID]) -> Sequence[Call]:
    """Calls whose end was kept, and not their record: the process was killed between the two."""
    found: dict[UUID, Call] = {}
    for step in steps:
        for command in () if isinstance(step, UUID) else step:
            if isinstance(command, Append) and command.kind is EntryKind.ENDING:
                found[command.call.call_id] = command.call
            elif isinstance(command, (Publish, Suppress)):
                found.pop(command.cdr.call_id, None)
    return [*found.values()]


def _restate_ended(
    server: Server,
    own: Own,
    known: Known,
    clock: Clock,
    call: Call,
    record_of: Callable[[Call], Cdr],
    tally: _Tally,
) -> None:
    """The record that another node has made of it; an open one is found open, with its end."""
    if call.call_id.int in known.open or call.hangup is None:
        return
    if call.hangup.detail is Detail.CRASH_RECOVERED:
        return  # it had found the call open itself, and knows no more
    late = dict[UUID, Cdr]()
    with transaction(server, own, known, clock, []) as batch:
        if batch.recorded(call.call_id) is None:
            return
        left = _restate(server, batch, record_of(call), late)
    tally.revised += len(late)
    tally.left += left


@contextmanager
def transaction(
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
    with transaction(server, own, known, clock, steps) as batch:
        late: dict[UUID, Cdr] = {}  # revisions of this transaction
        for step in steps:
            if isinstance(step, UUID):
                batch.forget(step)
            elif (cdr := _recorded_by_another(batch, step)) is None:
                batch.run(step)
            else:
                before = late.get(cdr.call_id)
                left += _restate(server, batch, cdr, late)
                revised += late.get(cdr.call_id) is not before
    tally.revised += revised
    tally.left += left


def _restate(server: Server, batch: Batch, cdr: Cdr, late: dict[UUID, Cdr]) -> list[str]:
    """By what was kept; why not, where that is to be said. `late`: revisions of this transaction."""
    held = late.get(cdr.call_id) or _newest(server, cdr.call_id)
    after = restated(cdr, held, utc(batch.wall_ns()))
    if after is not None:
        _cover(batch, held, after)
    if after is not None and batch.revise(after):
        late[cdr.call_id] = after
    elif not is_same_end(cdr, held):
        return [f"call {cdr.call_id}: its record says {held.detail.value} already"]
    return []


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
