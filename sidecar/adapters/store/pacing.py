"""When what was submitted is handed over to the writer, on the event loop.

What somebody waits for (an admission, an answer, what a person asked for) goes at the end of the turn in
which it came: one wake-up of the writer for the turn, when the interpreter is about to be free; woken by the
first step it would commit that alone. What nobody waits for (attempts, signs of life, ends, acknowledgements,
heartbeats) is held for company, `company_ms` at most: a commit takes 0.4 ms of CPU, and at a low rate each
step would get one of its own. So are extensions of grants, which are asked for early. It goes along with the
next that cannot wait. The order is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from sidecar.adapters.store.work import Work

COMPANY_MS_MAX = 6  # with what the bridge holds an event back, a record leaves within 20 ms of its BYE


class Pacing:
    def __init__(
        self, loop: asyncio.AbstractEventLoop, deliver: Callable[[Sequence[Work]], None], company_ms: int
    ) -> None:
        self._loop = loop
        self._deliver = deliver
        self._company_s = company_ms / 1000
        self._held: list[Work] = []
        self._held_until_s = 0.0  # the first of them, in the time of the loop
        self._at_end_of_turn = False  # they are handed over then
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._held)

    def add(self, work: Work, *, may_wait: bool) -> None:
        if not self._held:
            self._held_until_s = self._loop.time() + self._company_s
        self._held.append(work)
        if self._at_end_of_turn:
            return
        if not may_wait or not self._company_s:
            self._at_end_of_turn = True
            self._loop.call_soon(self.hand_over)
        elif self._timer is None:
            self._timer = self._loop.call_at(self._held_until_s, self._waited)

    def hand_over(self) -> None:
        self._at_end_of_turn = False
        if self._held:
            works, self._held = self._held, []
            self._deliver(works)

    def _waited(self) -> None:
        """The timer runs on where what it was set for has gone along with others: one is enough for all."""
        self._timer = None
        if not self._held:
            return
        if self._loop.time() < self._held_until_s:
            self._timer = self._loop.call_at(self._held_until_s, self._waited)
        else:
            self.hand_over()
