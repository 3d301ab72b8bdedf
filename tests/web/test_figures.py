from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import generate_latest

from sidecar.adapters.metrics import Metrics
from sidecar.core.call import Phase
from sidecar.core.cdr import Cdr
from sidecar.core.terms import Detail, HangupOrigin, ServerReason
from sidecar.web.figures import BUCKET_S, ENDS, Figures, History, Look, look_of


def look(at_s: float, **counts: Any) -> Look:
    ended = dict.fromkeys(ENDS, 0.0) | counts.pop("ended", {})
    empty = dict.fromkeys(Look.__struct_fields__, 0.0) | counts
    return Look(**{**empty, "at_s": at_s, "ended": ended, "calls": counts.get("calls", 0)})


def test_a_look_reads_what_the_node_counts() -> None:
    metrics = Metrics()
    said = {
        "recorded": True,
        "pdd_ms": 1500,
        "overrun_ms": 0,
        "suppressed_by": None,
        "attempts": (),
        "b_answered_at": None,
    }
    caller = {"hangup_origin": HangupOrigin.CALLER, "server_reason": None, "detail": Detail.BYE}
    ours = {
        "hangup_origin": HangupOrigin.SERVER,
        "server_reason": ServerReason.CREDIT,
        "detail": Detail.NO_CREDIT,
    }
    for more in ({**caller, "answered_at": 1, "talk_ms": 2500}, {**ours, "answered_at": None}):
        metrics.call_ended(cast(Cdr, SimpleNamespace(**said, **more)))
    metrics.call_refused("no_route", 3)
    metrics.phase_changed(None, Phase.TALKING)
    found = look_of(generate_latest(metrics.registry).decode(), 10.0)
    assert {name: count for name, count in found.ended.items() if count} == {"caller": 1, "server credit": 1}
    assert (found.calls, found.refused, found.answered, found.talk_s) == (1, 3, 1, 2.5)
    assert (found.pdds, found.pdd_s) == (2, 3.0)


def test_figures_are_of_what_was_counted_in_their_time() -> None:
    history = History()
    assert history.figures() == Figures()
    history.add(look(0.0, ended={"caller": 1_000.0}, answered=1_000.0, talk_s=9.0), "boot")
    assert history.figures() == Figures()
    history.add(look(290.0, ended={"caller": 1_000.0}, answered=1_000.0, talk_s=9.0), "boot")
    history.add(look(296.0, calls=5, ended={"caller": 1_010.0}, answered=1_005.0, talk_s=109.0), "boot")
    found = history.figures()
    assert found.calls_per_s == pytest.approx(15 / 6)
    assert (found.answered_share, found.mean_talk_s, found.mean_pdd_ms) == (0.5, 20.0, None)
    assert found.ended["caller"] == 10
    series = history.series()
    assert series["at_s"] == [290.0 // BUCKET_S * BUCKET_S]
    assert (series["caller"], series["calls"], series["callee"]) == ([10.0], [5.0], [0.0])


def test_what_another_boot_has_counted_is_not_compared() -> None:
    history = History()
    history.add(look(0.0, ended={"caller": 7.0}), "boot")
    history.add(look(2.0, ended={"caller": 9.0}), "boot")
    history.add(look(4.0, ended={"caller": 1.0}), "next")
    assert history.figures() == Figures()
    assert history.series()["at_s"] == []
