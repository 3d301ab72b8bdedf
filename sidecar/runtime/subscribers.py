"""What subscribers tell of themselves: the last of each, so many at most. Nothing of it is kept: the broker
retains their reports, and the node has them again after a start."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime

import structlog

from sidecar.core.audit import Operator
from sidecar.core.records import utc
from sidecar.ports import Clock, ReportMade
from sidecar.wire import control_node as say
from sidecar.wire.control import Method, Nothing
from sidecar.wire.methods import served
from sidecar.wire.report import Report, ReportError, decode_report

CLIENTS_MAX = 64  # of all users together; whoever has been silent longest goes

log = structlog.get_logger("sidecar.subscribers")

_Client = tuple[str, str]


class Subscribers:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: OrderedDict[_Client, tuple[datetime, Report]] = OrderedDict()

    def take(self, made: ReportMade) -> None:
        """Never raises, never blocks. An empty one: it is gone for good."""
        key = (made.user, made.client)
        if not made.payload:
            self._told.pop(key, None)
            return
        try:
            report = decode_report(made.payload)
        except ReportError as error:
            log.warning("report_refused", told_by=made.user, error=str(error)[:200])
            return
        now = utc(self._clock.wall_ns())
        self._told[key] = (min(report.at, now) if made.is_retained else now, report)
        self._told.move_to_end(key)
        while len(self._told) > CLIENTS_MAX:
            self._told.popitem(last=False)

    def methods(self) -> Mapping[str, Method]:
        return served({"subscriber.list": self.list})

    async def list(self, _: Nothing, __: Operator) -> say.SubscriberList:
        return say.SubscriberList(
            subscribers=tuple(
                say.SubscriberShown(user=user, client=client, heard_at=heard_at, report=report)
                for (user, client), (heard_at, report) in sorted(self._told.items())
            )
        )
