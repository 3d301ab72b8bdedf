"""What takes long (a statement over a year's ledger, a deck weighed against the calls of a week, the doctor)
is made beside the page: once for all who ask the same meanwhile, and kept for a while. No page waits for it
longer than a moment: it says that it is being made, and the browser asks again (`Refresh`: without a script).
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, wait
from datetime import UTC, datetime
from http import HTTPStatus
from secrets import token_hex
from typing import Generic, TypeVar
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from sidecar.web.page import Page
from sidecar.wire.control import CommandError, ErrorCode

WAIT_S = 0.25
ASK_AGAIN_S = 1
KEPT_S = 600.0
KEPT_MAX = 32
MAKING_MAX = 8
MADE = "made"  # the token, in the address that the browser asks again

Key = tuple[str, ...]
_T = TypeVar("_T")


class Making(Generic[_T]):
    """One that is made, or was. `stamp`: what it was made of; with another it is made anew."""

    def __init__(self, stamp: object) -> None:
        self.token = token_hex(8)
        self.stamp = stamp
        self.began_at = datetime.now(UTC)
        self.began_s = time.monotonic()
        self.future: Future[_T] = Future()

    @property
    def is_done(self) -> bool:
        return self.future.done()

    def result(self) -> _T:
        """Of one that is done. Raises what went wrong."""
        return self.future.result(timeout=0)


class Makings(Generic[_T]):
    """Threads may share it."""

    def __init__(self, kept_max: int = KEPT_MAX) -> None:
        self._kept_max = kept_max
        self._lock = threading.Lock()
        self._known: OrderedDict[Key, Making[_T]] = OrderedDict()

    def ask(
        self, key: Key, make: Callable[[], _T], *, stamp: object = None, token: str = "", anew: bool = False
    ) -> Making[_T]:
        """Waits for a moment. Who has the token of one gets that, also where it failed or is of another
        stamp. CommandError where too many are being made."""
        with self._lock:
            one = self._known.get(key)
            if one is None or not (one.token == token or self._stands(one, stamp, anew=anew)):
                one = self._begun(key, make, stamp)
        wait((one.future,), WAIT_S)
        return one

    def last(self, key: Key) -> Making[_T] | None:
        """What was made for it last, if that is kept and is none that failed."""
        with self._lock:
            one = self._known.get(key)
        return one if one is not None and one.is_done and one.future.exception() is None else None

    def _stands(self, one: Making[_T], stamp: object, *, anew: bool) -> bool:
        if not one.is_done:
            return True
        is_fresh = one.stamp == stamp and time.monotonic() - one.began_s < KEPT_S
        return is_fresh and not anew and one.future.exception() is None

    def _begun(self, key: Key, make: Callable[[], _T], stamp: object) -> Making[_T]:
        if sum(not one.is_done for one in self._known.values()) >= MAKING_MAX:
            raise CommandError(ErrorCode.BUSY, "The page is busy with what others have asked for: try again.")
        one = self._known[key] = Making[_T](stamp)
        self._known.move_to_end(key)
        done = [known for known, other in self._known.items() if other.is_done]
        for known in done[: max(0, len(self._known) - self._kept_max)]:
            del self._known[known]
        # A daemon: nobody waits for it when the page ends, and what it asked ends with the page.
        threading.Thread(target=_make, args=(one.future, make), name="making", daemon=True).start()
        return one


def _make(future: Future[_T], make: Callable[[], _T]) -> None:
    try:
        future.set_result(make())
    except Exception as error:  # noqa: BLE001 - whoever asks for the result gets it
        future.set_exception(error)


def being_made(page: Page, request: Request, one: Making[_T], what: str) -> Response:
    """What is shown until it is made."""
    query = {**request.query_params, MADE: one.token}
    answer = page.show(request, "making.html", HTTPStatus.ACCEPTED, what=what, since=one.began_at)
    answer.headers["refresh"] = f"{ASK_AGAIN_S}; url={request.url.path}?{urlencode(query)}"
    return answer
