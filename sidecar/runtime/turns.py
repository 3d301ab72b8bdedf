"""What is done to many calls is done to a few in each turn of the event loop: there may be 20,000, and others
are waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from sidecar.core.call import Call

CALLS_PER_TURN = 100  # that are ended in one turn of the event loop: 7 ms where each is recorded


async def in_turns(calls: Sequence[Call], per_turn: int = CALLS_PER_TURN) -> AsyncIterator[Call]:
    for start in range(0, len(calls), per_turn):
        for call in calls[start : start + per_turn]:
            yield call
        await asyncio.sleep(0)
