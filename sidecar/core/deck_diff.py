"""What changes between two decks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from sidecar.core.tariff import Deck, Rate

_ALWAYS = datetime.min.replace(tzinfo=UTC)


class RateChange(msgspec.Struct, frozen=True, kw_only=True):
    """A row that is new (`before` None), gone (`after` None) or otherwise than it was.

    Rows are compared by prefix, caller prefix and start of their period.
    """

    before: Rate | None
    after: Rate | None

    @property
    def prefix(self) -> str:
        rate = self.after or self.before
        assert rate is not None
        return rate.prefix


def deck_changes(before: Deck, after: Deck) -> Iterator[RateChange]:
    """The changes in the order of prefixes; none for decks of one revision."""
    if before.revision == after.revision:
        return
    olds, news = iter(before), iter(after)
    old, new = next(olds, None), next(news, None)
    while old is not None or new is not None:
        if new is None or (old is not None and _key(old) < _key(new)):
            yield RateChange(before=old, after=None)
            old = next(olds, None)
        elif old is None or _key(new) < _key(old):
            yield RateChange(before=None, after=new)
            new = next(news, None)
        else:
            if old != new:
                yield RateChange(before=old, after=new)
            old, new = next(olds, None), next(news, None)


def _key(rate: Rate) -> tuple[str, str, datetime]:
    return rate.prefix, rate.caller_prefix, rate.effective_from or _ALWAYS
