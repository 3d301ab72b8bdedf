"""How many records refusals may owe: each source gets `per_s` of them a second, and all together `all_per_s`,
because sources can be made up; the rest of a minute is told in one for each source.

A flood of INVITEs that we refuse must not become a flood of CDRs, and must not vanish either. One refusal
of one INVITE is noted once, however often the INVITE is repeated.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from datetime import UTC, datetime, timedelta
from itertools import islice

import msgspec
from msgspec.structs import replace

from sidecar.core.cdr import Cdr
from sidecar.core.events import LegIdentity
from sidecar.core.records import aggregate
from sidecar.core.terms import Detail

SEEN_MAX = 20_000
SOURCES_MAX = 10_000
HELD_MAX = 1_000  # sources and reasons that get a record each for the rest of a minute; others share one
OTHER_SOURCES = "*"
_MINUTE = timedelta(minutes=1)


class _Held(msgspec.Struct):
    """Refusals of one source and reason in one minute that got no record of their own."""

    template: Cdr
    since: datetime
    count: int = 1
    last: datetime | None = None

    def aggregate(self) -> Cdr:
        return aggregate(self.template, self.count, self.since, self.last or self.since)


class RefusalWindow:
    """Time comes from the records themselves. Tables are bounded: past SOURCES_MAX, strangers share one
    row."""

    def __init__(self, per_s: int, all_per_s: int) -> None:
        self._per_s = per_s
        self._all_per_s = all_per_s
        self._given = datetime.min.replace(tzinfo=UTC), 0  # the last second, and how many records it gave
        self._seen: OrderedDict[Hashable, None] = OrderedDict()
        self._second: dict[str, tuple[datetime, int]] = {}
        self._held: dict[tuple[str, str], _Held] = {}
        self._counted: dict[tuple[str, str], None] = {}  # those that grew since `changed` gave them

    def change_limits(self, per_s: int, all_per_s: int) -> None:
        """For refusals from now on."""
        self._per_s, self._all_per_s = per_s, all_per_s

    def note(self, cdr: Cdr, branch: str, cseq: int) -> Cdr | None:
        """The record to publish now, or None where it is a repetition or was added to the minute's
        aggregate."""
        leg = cdr.leg_a
        source = _source(leg.remote_address)
        key = (source, leg.sip_call_id, leg.remote_tag, cseq, branch)
        if key in self._seen:
            return None
        self._note_seen(key)
        source = self._row(source)
        second = cdr.ended_at.replace(microsecond=0)
        began, count = self._second.get(source, (second, 0))
        count = count + 1 if began == second else 1
        self._second[source] = (second, count)
        given = self._given_in(second)
        if count <= self._per_s and given < self._all_per_s:
            self._given = second, given + 1
            return cdr
        self._hold(source, cdr)
        return None

    def _given_in(self, second: datetime) -> int:
        last, given = self._given
        return given if last == second else 0

    def counted(self, detail: Detail, leg: LegIdentity, at: datetime) -> bool:
        """Whether a refusal is dealt with without a record, which costs as much to make as a call: it is a
        repetition, or its source has had too many this second, and the aggregate is there that it is added
        to."""
        source = _source(leg.remote_address)
        key = (source, leg.sip_call_id, leg.remote_tag, leg.remote_cseq, leg.branch)
        if key in self._seen:
            return True
        source = self._row(source)
        second = at.replace(microsecond=0)
        began, count = self._second.get(source, (second, 0))
        of_minute = self._held_key(source, detail)
        held = self._held.get(of_minute)
        is_over = began == second and count >= self._per_s
        if held is None or not (is_over or self._given_in(second) >= self._all_per_s):
            return False
        self._note_seen(key)
        held.count += 1
        held.last = at
        self._counted[of_minute] = None
        return True

    def _note_seen(self, key: Hashable) -> None:
        self._seen[key] = None
        if len(self._seen) > SEEN_MAX:
            self._seen.popitem(last=False)

    def _row(self, source: str) -> str:
        is_one_more = source not in self._second and len(self._second) >= SOURCES_MAX
        return OTHER_SOURCES if is_one_more else source

    def _hold(self, source: str, cdr: Cdr) -> None:
        key = self._held_key(source, cdr.detail)
        held = self._held.get(key)
        if held is None:
            self._held[key] = _Held(_of_several(cdr, key), cdr.ended_at, last=cdr.ended_at)
        else:
            held.count += 1
            held.last = cdr.ended_at
        self._counted[key] = None

    def changed(self, rows_max: int) -> list[Cdr]:
        """Aggregates as they stand now, of those that grew since they were given last; the longest waiting
        first. The record that is due later has the same id: written twice, it is one."""
        keys = list(islice(self._counted, rows_max))
        for key in keys:
            del self._counted[key]
        return [self._held[key].aggregate() for key in keys]

    def _held_key(self, source: str, detail: str) -> tuple[str, str]:
        key = source, detail
        return key if key in self._held or len(self._held) < HELD_MAX else (OTHER_SOURCES, detail)

    def due(self, now: datetime, *, all_of_them: bool = False) -> list[Cdr]:
        """Aggregates whose minute is over, or whose clock was set (all, at the end of the node), and the
        tables cleared of idle sources."""
        ready = [key for key, held in self._held.items() if all_of_them or abs(now - held.since) >= _MINUTE]
        done = [self._held.pop(key) for key in ready]
        for key in ready:
            self._counted.pop(key, None)
        self._second = {source: row for source, row in self._second.items() if abs(now - row[0]) < _MINUTE}
        return [held.aggregate() for held in done]


def _of_several(cdr: Cdr, key: tuple[str, str]) -> Cdr:
    if key[0] != OTHER_SOURCES:
        return cdr
    return replace(cdr, leg_a=replace(cdr.leg_a, remote_address=OTHER_SOURCES))


def _source(remote_address: str) -> str:
    return remote_address.rpartition(":")[0]
