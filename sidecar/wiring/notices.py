"""What a node says of itself in its log and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from itertools import islice
from uuid import UUID

import msgspec
import structlog
from msgspec.structs import asdict

from sidecar.adapters.logs import LineWriter, LogError
from sidecar.adapters.metrics import Metrics
from sidecar.adapters.sockets.pages import Page, Pages
from sidecar.core.alarms import BooksSalvaged
from sidecar.ports import Brought, NodeStore, Salvage
from sidecar.runtime.health import Health, Liveness, Readiness

log = structlog.get_logger("sidecar")


def fault(call_id: UUID, error: Exception) -> None:
    log.error("promise_broken", call_id=str(call_id), exc_info=error)


def _journal_salvaged(salvage: Salvage) -> None:
    """The lists are in the report, whole; here is the first of each."""
    said = asdict(salvage)
    counts = {f"{name}_count": len(said[name]) for name in ("not_as_written", "mended", "wrong")}
    said.update({name: said[name][:5] for name in ("not_as_written", "mended", "wrong")})
    log.error("journal_salvaged", **said, **counts)


def books_salvaged(node: str, salvage: Salvage, at: datetime) -> BooksSalvaged:
    return BooksSalvaged(
        raised_at=at,
        books_of=node,
        cause=salvage.cause,
        rows=sum(salvage.dropped.values()),
        accounts=len(salvage.suspended),
        aside=str(salvage.aside),
    )


def accounts_suspended(names: set[str]) -> None:
    log.error(
        "accounts_suspended",
        count=len(names),
        accounts=sorted(names)[:20],
        advice="prepaid ones get 503 ledger_unreachable: `sidecar journal open` says what is to be decided",
    )


def _brought_in(brought: Brought) -> None:
    """The list is in the file that was set aside, whole; here is the first of it."""
    lost = bool(brought.damage or brought.left)
    said = {**asdict(brought), "left": brought.left[:5], "left_count": len(brought.left)}
    (log.error if lost else log.warning)("kept_steps_brought_in", **said)


def journal_opened(metrics: Metrics, store: NodeStore) -> None:
    """What the start has found of the journal, and done to it."""
    if store.salvage is not None:
        _journal_salvaged(store.salvage)
    if store.brought is not None:
        _brought_in(store.brought)
    if store.loss is not None:
        log.error("journal_lost_commits", epoch=store.epoch, **asdict(store.loss))
    journal_wrong(metrics, store.wrong)
    if store.tightened:
        loose = {path: f"{mode:04o}" for path, mode in store.tightened.items()}
        log.warning("data_dir_tightened", count=len(loose), modes_before=dict(islice(loose.items(), 20)))
    if store.migrated is not None:
        log.warning("journal_migrated", **asdict(store.migrated))


def journal_wrong(metrics: Metrics, found: Sequence[str]) -> None:
    metrics.journal_wrong(len(found))
    for text in found:
        advice = "`sidecar journal verify` and `sidecar journal check` say what does not hold"
        log.error("journal_not_as_written", text=text, advice=advice)


def journal_failing(metrics: Metrics, before: str, now: str, refusing: bool) -> None:
    if bool(before) != bool(now):
        metrics.journal_failing(begins=bool(now))
    if now:
        taken = "no new call is taken" if refusing else "new calls go on as far as the node may by itself"
        log.error("journal_failing", cause=now, advice=f"{taken}; ends are kept until it writes")
    else:
        log.warning("journal_writes_again", cause_before=before)


def defect(metrics: Metrics, call_id: UUID | None, error: BaseException) -> None:
    metrics.promise_broken("store")
    log.error("step_dropped", call_id=str(call_id), exc_info=error)


def reopen_log(writer: LineWriter) -> str | None:
    """Why the log goes on where it went; None: it goes on in the file that it was given."""
    try:
        writer.reopen()
    except LogError as error:
        log.error("log_not_reopened", error=str(error))
        return str(error)
    return None


def health_pages(health: Health) -> Pages:
    """/healthz, for whoever restarts a node that stands still, and /readyz, for whoever sends it calls."""

    def page(*, good: bool, said: Liveness | Readiness) -> Page:
        status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
        return status, "application/json", msgspec.json.encode(said) + b"\n"

    def healthz(_query: str, _accept: str) -> Page:
        said = health.liveness()
        return page(good=said.alive, said=said)

    def readyz(_query: str, _accept: str) -> Page:
        said = health.readiness()
        return page(good=said.ready, said=said)

    return {"/healthz": healthz, "/readyz": readyz}
