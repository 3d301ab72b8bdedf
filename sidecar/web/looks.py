"""Which looks at whole numbers of a program's token are noted: of a method, from an address, the first in
each interval. A program that asks every second would else write nothing but that into the audit table."""

from __future__ import annotations

import threading
from collections import OrderedDict

import msgspec

INTERVAL_S = 60.0
KEPT_MAX = 1_000  # the one that was noted longest ago is forgotten, and so noted again

Key = tuple[str, str, str]  # token, method, address


class _Noted(msgspec.Struct):
    at_s: float
    since: int = 0  # looks that were not noted


class Looks:
    """Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noted: OrderedDict[Key, _Noted] = OrderedDict()

    def unnoted(self, key: Key, now_s: float) -> int | None:
        """None: the last note stands for it. Else it has to be noted, and `noted` told so; and for how many
        looks beside its own the note before stood."""
        with self._lock:
            last = self._noted.get(key)
            if last is None or now_s - last.at_s >= INTERVAL_S:
                return 0 if last is None else last.since
            last.since += 1
            return None

    def noted(self, key: Key, now_s: float) -> None:
        with self._lock:
            self._noted[key] = _Noted(now_s)
            self._noted.move_to_end(key)
            while len(self._noted) > KEPT_MAX:
                self._noted.popitem(last=False)
