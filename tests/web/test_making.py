from __future__ import annotations

import threading

import pytest

from sidecar.web import making
from sidecar.web.making import KEPT_MAX, MAKING_MAX, Makings
from sidecar.wire.control import CommandError, ErrorCode

KEY = ("statement", "acme")


class Work:
    """It lasts until it is let go."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_end = threading.Event()
        self.fault: Exception | None = None

    def make(self) -> int:
        self.begun += 1
        count = self.begun
        assert self.may_end.wait(60)
        if self.fault is not None:
            raise self.fault
        return count


def test_whoever_asks_meanwhile_has_the_same_and_what_is_made_is_kept_until_something_changed() -> None:
    makings, work = Makings[int](), Work()
    first = makings.ask(KEY, work.make, stamp=1)
    assert not first.is_done
    assert makings.last(KEY) is None
    assert makings.ask(KEY, work.make, stamp=2) is first
    work.may_end.set()
    assert first.future.result(60) == 1
    assert makings.ask(KEY, work.make, stamp=1) is first
    assert makings.last(KEY) is first
    assert makings.ask(KEY, work.make, stamp=2, token=first.token) is first
    second = makings.ask(KEY, work.make, stamp=2)
    assert second.future.result(60) == 2
    assert makings.ask(KEY, work.make, stamp=2, token=first.token) is second
    assert makings.ask(KEY, work.make, stamp=2, anew=True).future.result(60) == 3


def test_what_went_wrong_is_told_to_who_waited_and_tried_again_by_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(making, "WAIT_S", 60)
    makings, work = Makings[int](), Work()
    work.may_end.set()
    work.fault = CommandError(ErrorCode.REFUSED, "no")
    failed = makings.ask(KEY, work.make)
    with pytest.raises(CommandError, match="no"):
        failed.result()
    assert makings.last(KEY) is None
    assert makings.ask(KEY, work.make, token=failed.token) is failed
    work.fault = None
    assert makings.ask(KEY, work.make).result() == 2
    monkeypatch.setattr(making, "KEPT_S", 0)
    assert makings.ask(KEY, work.make).result() == 3


def test_so_many_are_made_at_once_and_so_many_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "WAIT_S", 0)
    makings, work = Makings[int](), Work()
    begun = [makings.ask((str(number),), work.make) for number in range(MAKING_MAX)]
    with pytest.raises(CommandError, match="busy"):
        makings.ask(KEY, work.make)
    work.may_end.set()
    for one in begun:
        one.future.result(60)
    for number in range(KEPT_MAX):
        makings.ask((f"more {number}",), work.make).future.result(60)
    assert makings.last(("0",)) is None
    assert makings.last((f"more {KEPT_MAX - 1}",)) is not None
