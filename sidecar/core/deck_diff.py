"""What changes between two decks, prefix by prefix and from when on: new, closed, blocked, raised, lowered,
or otherwise changed.

A price is compared as what a call of a second, a minute and an hour costs, fee and increments included:
raised is what is dearer for one of them and cheaper for none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from itertools import groupby

import msgspec
from msgspec.structs import replace

from sidecar.core.rating import RatingTerms, charge
from sidecar.core.tariff import Deck, Rate

ALWAYS = datetime.min.replace(tzinfo=UTC)
SAMPLES_S = (60, 1, 3600)
_TERMS = RatingTerms(decimals=9)

_Row = tuple[str, int, int, int]  # as `Deck.rows` gives it


class Word(StrEnum):
    NEW = "new"
    CLOSED = "closed"
    BLOCKED = "blocked"
    RAISED = "raised"
    LOWERED = "lowered"
    CHANGED = "changed"


class RateChange(msgspec.Struct, frozen=True, kw_only=True):
    """From `since` on (None: ever) a prefix has another row for the same callers: `before` None where it had
    none, `after` None where it has none any more. A prefix may change several times."""

    before: Rate | None
    after: Rate | None
    since: datetime | None = None

    @property
    def prefix(self) -> str:
        rate = self.after or self.before
        assert rate is not None
        return rate.prefix

    @property
    def word(self) -> Word:
        if self.after is None:
            return Word.CLOSED
        if self.after.blocked:
            return Word.CHANGED if self.before is not None and self.before.blocked else Word.BLOCKED
        if self.before is None or self.before.blocked:
            return Word.NEW
        if self.before.currency != self.after.currency:
            return Word.CHANGED
        at = self.since or ALWAYS
        steps = [minute_cost(self.after, at, s) - minute_cost(self.before, at, s) for s in SAMPLES_S]
        if any(step > 0 for step in steps):
            return Word.CHANGED if any(step < 0 for step in steps) else Word.RAISED
        return Word.LOWERED if any(step < 0 for step in steps) else Word.CHANGED

    @property
    def difference(self) -> Decimal | None:
        """Of a minute; None where the two cannot be compared."""
        if self.before is None or self.after is None or self.before.currency != self.after.currency:
            return None
        if self.before.blocked or self.after.blocked:
            return None
        at = self.since or ALWAYS
        return minute_cost(self.after, at) - minute_cost(self.before, at)

    @property
    def percent(self) -> Decimal | None:
        """Of a minute's cost before; None where there is none."""
        difference = self.difference
        if difference is None or self.before is None:
            return None
        cost = minute_cost(self.before, self.since or ALWAYS)
        return None if not cost else (difference / cost * 100).quantize(Decimal("0.1"))


def minute_cost(rate: Rate, at: datetime, seconds: int = 60) -> Decimal:
    """What a call of a minute, or of so many seconds, costs that is answered at `at`; not of a blocked
    row."""
    return charge(rate, seconds, _TERMS, at).net


def deck_changes(before: Deck, after: Deck, since: datetime | None = None) -> Iterator[RateChange]:
    """The changes in the order of prefixes; none for decks of one revision. `since`: what was otherwise
    before then is left out."""
    if before.revision == after.revision:
        return
    begin = since or ALWAYS
    for olds, news in paired(before, after):
        if len(olds) == len(news) and all(
            (old[3], before.kinds[old[2]], before.destinations[old[1]])
            == (new[3], after.kinds[new[2]], after.destinations[new[1]])
            for old, new in zip(olds, news, strict=True)
        ):
            continue
        yield from _of_prefix(_rates(before, olds), _rates(after, news), begin)


def _of_prefix(olds: Sequence[Rate], news: Sequence[Rate], begin: datetime) -> Iterator[RateChange]:
    times = {begin}
    for rate in (*olds, *news):
        times |= {at for at in (rate.effective_from, rate.effective_to) if at is not None and at > begin}
    told: tuple[Rate | None, Rate | None] = (None, None)
    for at in sorted(times):
        pair = (_bare(olds, at), _bare(news, at))
        if pair != told and pair[0] != pair[1]:
            old = next((rate for rate in olds if rate.holds_at(at)), None)
            new = next((rate for rate in news if rate.holds_at(at)), None)
            yield RateChange(before=old, after=new, since=None if at == ALWAYS else at)
        told = pair


def _bare(rates: Sequence[Rate], at: datetime) -> Rate | None:
    found = next((rate for rate in rates if rate.holds_at(at)), None)
    return None if found is None else replace(found, effective_from=None, effective_to=None)


def _rates(deck: Deck, rows: Sequence[_Row]) -> list[Rate]:
    return [deck.rate_of(row) for row in rows]


def paired(before: Deck, after: Deck) -> Iterator[tuple[list[_Row], list[_Row]]]:
    """The rows of both, prefix by prefix."""
    olds, news = _groups(before), _groups(after)
    old, new = next(olds, None), next(news, None)
    while old is not None or new is not None:
        if new is None or (old is not None and old[0] < new[0]):
            assert old is not None
            yield old[1], []
            old = next(olds, None)
        elif old is None or new[0] < old[0]:
            yield [], new[1]
            new = next(news, None)
        else:
            yield old[1], new[1]
            old, new = next(olds, None), next(news, None)


def _groups(deck: Deck) -> Iterator[tuple[tuple[str, str], list[_Row]]]:
    """By prefix and caller prefix."""
    kinds = deck.kinds
    grouped = groupby(deck.rows(), key=lambda row: (row[0], kinds[row[2]].caller_prefix))
    return ((key, list(rows)) for key, rows in grouped)
