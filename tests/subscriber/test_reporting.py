"""What a subscriber tells of itself, and when; by hand-made time."""

from __future__ import annotations

from datetime import UTC, datetime

from sidecar.subscriber.progress import Progress
from sidecar.subscriber.record import Source
from sidecar.subscriber.reporting import NEWS_S, REPORT_S, Reporting
from sidecar.wire.report import EPOCHS_MAX, RANGES_MAX, REPORT_BYTES_MAX, EpochReport, decode_report, encode
from sidecar.wire.status import Status

AT = datetime(2026, 11, 1, tzinfo=UTC)
NODE = ("_", "n1")


def told(progress: Progress, epoch: str, head_seq: int) -> None:
    status = Status(epoch=epoch, head_seq=head_seq, published=head_seq, commit=1, commit_hash="h")
    progress.told(*NODE, status)


def held(progress: Progress, epoch: str, *seqs: int) -> None:
    for seq in seqs:
        progress.take(Source(*NODE, epoch), seq)


def test_it_is_told_at_first_at_an_interval_and_when_a_gap_opens_or_closes() -> None:
    progress, reporting = Progress(), Reporting()
    assert reporting.due(progress, 0.0, AT) == {}
    told(progress, "a", 3)
    held(progress, "a", 1, 3)
    [(node, report)] = reporting.due(progress, 0.0, AT).items()
    assert node == NODE
    assert report.epochs == (EpochReport(epoch="a", held_seq=3, head_seq=3, missing=1, ranges=((2, 2),)),)
    held(progress, "a", 2)
    assert reporting.due(progress, NEWS_S - 0.1, AT) == {}
    [closed] = reporting.due(progress, NEWS_S, AT).values()
    assert [one.missing for one in closed.epochs] == [0]
    held(progress, "a", 4)
    assert reporting.due(progress, NEWS_S * 2, AT) == {}
    assert len(reporting.due(progress, NEWS_S + REPORT_S, AT)) == 1
    reporting.lost_link()
    assert len(reporting.due(progress, NEWS_S + REPORT_S, AT)) == 1


def test_a_node_that_is_gone_is_told_nothing() -> None:
    progress, reporting = Progress(), Reporting()
    told(progress, "a", 1)
    progress.told(*NODE, Status(epoch="a", head_seq=None))
    assert reporting.due(progress, 0.0, AT) == {}


def test_whatever_is_missing_a_report_is_bounded_and_the_epoch_of_now_comes_first() -> None:
    progress, reporting = Progress(), Reporting()
    for number in range(2 * EPOCHS_MAX):
        told(progress, f"old {number:059}", 2**62)
        held(progress, f"old {number:059}", *range(1, 60, 2))
    told(progress, "now", 1)
    held(progress, "now", 1)
    [report] = reporting.due(progress, 0.0, AT).values()
    assert report.epochs[0] == EpochReport(epoch="now", held_seq=1, head_seq=1, missing=0, ranges=())
    assert len(report.epochs) == EPOCHS_MAX
    assert {len(one.ranges) for one in report.epochs[1:]} == {RANGES_MAX}
    payload = encode(report)
    assert len(payload) < REPORT_BYTES_MAX
    assert decode_report(payload) == report
