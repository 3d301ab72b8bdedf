"""What the page shows of the last hour, made of what the node has counted at each look (its metrics)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import pairwise

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from sidecar.core.terms import HangupOrigin, ServerReason

LOOK_INTERVAL_S = 2.0
KEPT_S = 3_600.0
LOOKS_MAX = int(KEPT_S / LOOK_INTERVAL_S) + 1
SHORT_S = 10.0  # over which calls per second are counted
LONG_S = 300.0  # over which shares and means are
BUCKET_S = 10

# How calls end, as the chart stacks them: who ended it, and why where we did.
ENDS = (
    HangupOrigin.CALLER.value,
    HangupOrigin.CALLEE.value,
    *(f"{HangupOrigin.SERVER.value} {reason.value}" for reason in ServerReason),
)


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of one moment, in seconds since 1970."""

    at_s: float
    calls: int
    ended: Mapping[str, float]  # by ENDS
    refused: float
    answered: float
    talk_s: float
    pdd_s: float
    pdds: float
    commit_s: float
    commits: float
    alarms: float


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """None where nothing was counted of it."""

    calls_per_s: float | None = None
    answered_share: float | None = None  # answer-seizure ratio: of the calls that ended
    mean_talk_s: float | None = None  # of the answered ones
    mean_pdd_ms: float | None = None
    mean_commit_ms: float | None = None
    refused: float | None = None  # in LONG_S
    ended: Mapping[str, float] = {}  # in all that is kept


def look_of(metrics: str, at_s: float) -> Look:
    found: dict[str, float] = {}
    ended: dict[str, float] = dict.fromkeys(ENDS, 0.0)
    calls = 0.0
    for family in text_string_to_metric_families(metrics):
        if not family.name.startswith(_READ):
            continue
        for sample in family.samples:
            if sample.name == "sidecar_calls_ended_total":
                origin, reason = sample.labels["origin"], sample.labels["reason"]
                key = origin if reason == "none" else f"{origin} {reason}"
                ended[key] = ended.get(key, 0.0) + sample.value
            elif sample.name == "sidecar_calls":
                calls += sample.value
            else:
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return Look(
        at_s=at_s,
        calls=int(calls),
        ended=ended,
        refused=found.get("sidecar_calls_refused_total", 0.0),
        answered=found.get("sidecar_calls_answered_total", 0.0),
        talk_s=found.get("sidecar_talk_seconds_total", 0.0),
        pdd_s=found.get("sidecar_post_dial_delay_seconds_sum", 0.0),
        pdds=found.get("sidecar_post_dial_delay_seconds_count", 0.0),
        commit_s=found.get("sidecar_commit_seconds_sum", 0.0),
        commits=found.get("sidecar_commit_seconds_count", 0.0),
        alarms=found.get("sidecar_alarms_total", 0.0),
    )


_READ = (
    "sidecar_calls",
    "sidecar_talk_seconds",
    "sidecar_post_dial_delay_seconds",
    "sidecar_commit_seconds",
    "sidecar_alarms",
)


class History:
    """The looks of the last hour. Of another boot of the node, nothing that was before can be compared."""

    def __init__(self) -> None:
        self._looks: deque[Look] = deque(maxlen=LOOKS_MAX)
        self._boot_id = ""

    def add(self, look: Look, boot_id: str) -> None:
        if boot_id != self._boot_id:
            self._boot_id = boot_id
            self._looks.clear()
        self._looks.append(look)

    @property
    def last(self) -> Look | None:
        return self._looks[-1] if self._looks else None

    def figures(self) -> Figures:
        looks = tuple(self._looks)  # another thread may add one
        if len(looks) < 2:
            return Figures()
        last, short, first = looks[-1], _since(looks, SHORT_S), _since(looks, LONG_S)
        began = _begun(last) - _begun(short)
        ended = sum(last.ended.values()) - sum(first.ended.values())
        answered = last.answered - first.answered
        return Figures(
            calls_per_s=_ratio(began, last.at_s - short.at_s),
            answered_share=_ratio(answered, ended),
            mean_talk_s=_ratio(last.talk_s - first.talk_s, answered),
            mean_pdd_ms=_ratio(1000 * (last.pdd_s - first.pdd_s), last.pdds - first.pdds),
            mean_commit_ms=_ratio(1000 * (last.commit_s - first.commit_s), last.commits - first.commits),
            refused=last.refused - first.refused,
            ended={name: last.ended[name] - looks[0].ended.get(name, 0.0) for name in last.ended},
        )

    def series(self) -> dict[str, list[float]]:
        """In buckets of BUCKET_S, each named by its beginning: calls up, and what ended in it, by ENDS."""
        buckets: dict[int, dict[str, float]] = {}
        for before, look in pairwise(tuple(self._looks)):
            bucket = buckets.setdefault(int(look.at_s // BUCKET_S) * BUCKET_S, dict.fromkeys(ENDS, 0.0))
            bucket["calls"] = look.calls
            for name in ENDS:
                bucket[name] += look.ended.get(name, 0.0) - before.ended.get(name, 0.0)
        return {
            "at_s": [float(at_s) for at_s in buckets],
            **{name: [one[name] for one in buckets.values()] for name in ("calls", *ENDS)},
        }


def _since(looks: Sequence[Look], seconds: float) -> Look:
    """The first look of so many seconds, or the one before the last."""
    after_s = looks[-1].at_s - seconds
    return next(one for one in looks if one.at_s >= after_s or one is looks[-2])


def _begun(look: Look) -> float:
    return look.calls + sum(look.ended.values()) + look.refused


def _ratio(value: float, of: float) -> float | None:
    return value / of if of > 0 else None
