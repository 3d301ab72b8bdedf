"""What the node keeps of what subscribers tell of themselves."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sidecar.adapters.clock import SystemClock
from sidecar.core.audit import Operator
from sidecar.ports import ReportMade
from sidecar.runtime.subscribers import CLIENTS_MAX, Subscribers
from sidecar.wire.control import Nothing
from sidecar.wire.report import REPORT_BYTES_MAX, EpochReport, Report, encode

AT = datetime(2026, 11, 1, tzinfo=UTC)


def report(**fields: Any) -> bytes:
    known: dict[str, Any] = {"at": AT, "interval_s": 30, "epochs": ()}
    return encode(Report(**(known | fields)))


async def names(subscribers: Subscribers) -> list[str]:
    found = await subscribers.list(Nothing(), Operator("test"))
    return [one.client for one in found.subscribers]


async def test_the_last_of_each_is_kept_until_it_is_taken_back() -> None:
    subscribers = Subscribers(SystemClock())
    for user, client in (("biller", "a"), ("biller", "b"), ("other", "a")):
        subscribers.take(ReportMade(user=user, client=client, payload=report()))
    epoch = EpochReport(epoch="e", held_seq=1, head_seq=2, missing=1, ranges=((2, 2),))
    subscribers.take(ReportMade(user="biller", client="b", payload=report(epochs=(epoch,))))
    found = (await subscribers.list(Nothing(), Operator("test"))).subscribers
    assert [(one.user, one.client, len(one.report.epochs)) for one in found] == [
        ("biller", "a", 0),
        ("biller", "b", 1),
        ("other", "a", 0),
    ]
    subscribers.take(ReportMade(user="biller", client="b", payload=b""))
    assert await names(subscribers) == ["a", "a"]
    old = ReportMade(user="biller", client="a", payload=report(), is_retained=True)
    subscribers.take(old)
    assert (await subscribers.list(Nothing(), Operator("test"))).subscribers[0].heard_at == AT


async def test_so_many_are_kept_and_whoever_was_silent_longest_goes() -> None:
    subscribers = Subscribers(SystemClock())
    for number in range(CLIENTS_MAX):
        subscribers.take(ReportMade(user="biller", client=f"{number:03}", payload=report()))
    subscribers.take(ReportMade(user="biller", client="000", payload=report()))
    subscribers.take(ReportMade(user="biller", client="new", payload=report()))
    found = await names(subscribers)
    assert len(found) == CLIENTS_MAX
    assert "000" in found
    assert "001" not in found


async def test_what_is_no_report_changes_nothing() -> None:
    subscribers = Subscribers(SystemClock())
    subscribers.take(ReportMade(user="biller", client="a", payload=report()))
    epoch = EpochReport(epoch="e", held_seq=-1, head_seq=0, missing=0, ranges=())
    for payload in (b"\x93", b"x" * (REPORT_BYTES_MAX + 1), report(epochs=(epoch,)), report(interval_s=0)):
        subscribers.take(ReportMade(user="biller", client="b", payload=payload))
    assert await names(subscribers) == ["a"]
