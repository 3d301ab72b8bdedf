"""A price list put into the deck in force, by prefix and date.

    merge      the list is partial: what it does not name stays
    replace    the list is whole: what it does not name ends at the list's date

A row of the list that has no date begins at the list's date. A row of the deck that has prefix and date of
one of the list is replaced by it; every other goes on, until a newer row of its prefix begins. Rows that
have ended stay for a year: calls of that time may be rated again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache

from msgspec.structs import replace

from sidecar.core.deck_diff import paired
from sidecar.core.tariff import Deck, DeckBuilder, Rate

HISTORY = timedelta(days=366)

_Row = tuple[str, int, int, int]  # as `Deck.rows` gives it


class MergeError(Exception):
    """The two cannot be one deck; the text says which prefixes stand against it."""


def merged(
    base: Deck, listed: Deck, at: datetime, *, whole: bool, ended: Mapping[str, datetime] | None = None
) -> Deck:
    """The deck of both, without a revision yet. `at`: the list's date. `whole`: replace instead of merge.
    `ended`: prefixes that the list says to end, and when."""
    builder = DeckBuilder()
    merging = _Merging(builder, base, listed, at, whole, ended or {})
    for olds, news in paired(base, listed):
        merging.take(olds, news)
    conflicts = builder.sort()
    if conflicts:
        shown = "; ".join(f"prefix {one.prefix!r}: {one.reason}" for one in conflicts[:10])
        more = f"; and {len(conflicts) - 10} more" if len(conflicts) > 10 else ""
        raise MergeError(f"{shown}{more}")
    return Deck.built("", builder)


class _Merging:
    def __init__(
        self,
        builder: DeckBuilder,
        base: Deck,
        listed: Deck,
        at: datetime,
        whole: bool,
        ends: Mapping[str, datetime],
    ) -> None:
        self._ends = ends
        self._builder = builder
        self._at = at
        self._whole = whole
        self._base_kinds = base.kinds
        self._base_ids = [builder.kind(kind)[0] for kind in base.kinds]
        self._base_names = [builder.destination(name) for name in base.destinations]
        dated = [
            replace(kind, effective_from=at) if kind.effective_from is None else kind
            for kind in listed.kinds
            if kind.effective_to is None or kind.effective_to > (kind.effective_from or at)
        ]
        if len(dated) < len(listed.kinds):
            raise MergeError(f"the list has rows without a date that end before its own, {at.isoformat()}")
        self._list_kinds = dated
        self._undated = [kind.effective_from is kind.effective_to is None for kind in listed.kinds]
        self._list_ids = [builder.kind(kind)[0] for kind in dated]
        self._list_names = [builder.destination(name) for name in listed.destinations]
        self._ended: dict[tuple[int, datetime], int] = {}  # by kind of the base: the one that ends then

    def take(self, olds: list[_Row], news: list[_Row]) -> None:
        """The rows of one prefix; those for other callers are other rows."""
        callers = {self._base_kinds[row[2]].caller_prefix for row in olds}
        callers |= {self._list_kinds[row[2]].caller_prefix for row in news}
        for caller in sorted(callers):
            self._take(
                [row for row in olds if self._base_kinds[row[2]].caller_prefix == caller],
                [row for row in news if self._list_kinds[row[2]].caller_prefix == caller],
            )

    def _take(self, olds: list[_Row], news: list[_Row]) -> None:
        at, add = self._at, self._builder.add
        end = self._ends.get((olds or news)[0][0])
        is_named = bool(news)
        if end is not None and olds:
            news = [
                row for row in news if self._list_kinds[row[2]].effective_to != end
            ]  # what holds until then is in the deck
        news = [row for row in news if not self._says_nothing_new(row, olds)]
        starts = {self._list_kinds[kind].effective_from for _, _, kind, _ in news}
        for prefix, name, kind, price_e9 in olds:
            known = self._base_kinds[kind]
            since, until = known.effective_from, known.effective_to
            if since in starts or (until is not None and until < at - HISTORY):
                continue
            to_come = since is not None and since >= at
            new_kind = self._base_ids[kind]
            if end is not None and since is not None and since >= end:
                continue
            if self._whole and to_come:
                continue  # a whole list says all that is to come
            if self._whole and not is_named and end is None and (until is None or until > at):
                new_kind = self._end(kind, at)
            elif end is not None and (until is None or until > end):
                new_kind = self._end(kind, end)
            add(prefix, self._base_names[name], new_kind, price_e9)
        for prefix, name, kind, price_e9 in news:
            add(prefix, self._list_names[name], self._list_ids[kind], price_e9)

    def _says_nothing_new(self, row: _Row, olds: list[_Row]) -> bool:
        """A row without a date of its own that is as the deck has it, with nothing to come: it begins
        nothing."""
        _, name, kind, price_e9 = row
        if not self._undated[kind]:
            return False
        holding = [one for one in olds if self._base_kinds[one[2]].effective_to is None]
        if len(holding) != 1:
            return False
        _, base_name, base_kind, base_price_e9 = holding[0]
        known = self._base_kinds[base_kind]
        if known.effective_from is not None and known.effective_from > self._at:
            return False
        return (base_price_e9, self._base_names[base_name], _timeless(known)) == (
            price_e9,
            self._list_names[name],
            _timeless(self._list_kinds[kind]),
        )

    def _end(self, kind: int, at: datetime) -> int:
        if (kind, at) not in self._ended:
            ended = replace(self._base_kinds[kind], effective_to=at)
            self._ended[kind, at] = self._builder.kind(ended)[0]
        return self._ended[kind, at]


@lru_cache(maxsize=4096)
def _timeless(kind: Rate) -> Rate:
    return replace(kind, effective_from=None, effective_to=None)
