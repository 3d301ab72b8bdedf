"""What a node is told of us, and when. Pure: time is an argument."""

from __future__ import annotations

from datetime import datetime

from sidecar.subscriber.progress import Position, Progress
from sidecar.wire.report import EPOCHS_MAX, RANGES_MAX, EpochReport, Report

REPORT_S = 30.0
NEWS_S = 2.0  # other gaps are told at once, but not more often

_Node = tuple[str, str]


class Reporting:
    def __init__(self) -> None:
        self._told: dict[_Node, tuple[float, tuple[EpochReport, ...]]] = {}

    def due(self, progress: Progress, now_s: float, at: datetime) -> dict[_Node, Report]:
        """By (tenant, node), for those that are up."""
        by_node: dict[_Node, list[Position]] = {}
        for source, position in progress.positions.items():
            if progress.is_up(source):
                by_node.setdefault((source.tenant, source.node), []).append(position)
        reports = {}
        for node, positions in by_node.items():
            told_s, before = self._told.get(node, (now_s - REPORT_S, ()))
            if now_s - told_s < NEWS_S:
                continue
            epochs = _epochs(progress, positions)
            if now_s - told_s >= REPORT_S or _gaps(epochs) != _gaps(before):
                self._told[node] = (now_s, epochs)
                reports[node] = Report(at=at, interval_s=int(REPORT_S), epochs=epochs)
        return reports

    def lost_link(self) -> None:
        """It may not have come: all is told again."""
        self._told.clear()


def _epochs(progress: Progress, positions: list[Position]) -> tuple[EpochReport, ...]:
    found = []
    for position in positions:
        is_current = progress.is_current(position.source)
        missing = position.missing()
        if missing or is_current:
            one = EpochReport(
                epoch=position.source.epoch,
                held_seq=position.held.last,
                head_seq=max(position.head_seq, position.held.last),
                missing=sum(last - first + 1 for first, last in missing),
                ranges=missing[:RANGES_MAX],
            )
            found.append((not is_current, one))
    return tuple(one for _, one in sorted(found, key=lambda row: row[0])[:EPOCHS_MAX])


def _gaps(epochs: tuple[EpochReport, ...]) -> list[tuple[str, bool]]:
    return [(one.epoch, bool(one.missing)) for one in epochs]
