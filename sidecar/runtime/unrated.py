"""Calls that are answered without a rate, told as they happen: counted by account and by gateway, and in
the log.

Both are bounded: the log has a line for each party a minute at most, with what it counted since; parties
beyond the first hundred are told together.
"""

from __future__ import annotations

import structlog

from sidecar.core.call import Call
from sidecar.core.terms import ChargeSide
from sidecar.ports import Meter

PARTIES_MAX = 100  # of each side that have a name of their own
OTHERS = "(others)"
QUIET_NS = 60_000_000_000

log = structlog.get_logger("sidecar.calls")


class Unrated:
    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._told: dict[tuple[ChargeSide, str], tuple[int, int]] = {}  # since when, and how many since
        self._parties = dict.fromkeys(ChargeSide, 0)

    def answered(self, call: Call, mono_ns: int) -> None:
        """A call that is answered; whether it has a rate is looked at here."""
        if call.pricing.rate is None and not call.pricing.free:
            self._note(ChargeSide.SELL, call.account.name, call, mono_ns)
        attempt = call.attempts[-1] if call.attempts else None
        if attempt is not None and attempt.buy is not None and attempt.buy.rate is None:
            self._note(ChargeSide.BUY, attempt.gateway, call, mono_ns)

    def _note(self, side: ChargeSide, party: str, call: Call, mono_ns: int) -> None:
        key = (side, party)
        if key not in self._told and self._parties[side] == PARTIES_MAX:
            party, key = OTHERS, (side, OTHERS)
        self._meter.call_unrated(side, party)
        if key not in self._told:
            self._parties[side] += party != OTHERS
            since_ns, count = mono_ns - QUIET_NS, 0
        else:
            since_ns, count = self._told[key]
        count += 1
        if mono_ns - since_ns >= QUIET_NS:
            pricing = call.pricing if side is ChargeSide.SELL else call.attempts[-1].buy
            deck = pricing.deck_revision if pricing is not None else None
            log.warning(
                "calls_unrated", side=side, party=party, count=count, deck_revision=deck, call_id=call.call_id
            )
            since_ns, count = mono_ns, 0
        self._told[key] = since_ns, count
