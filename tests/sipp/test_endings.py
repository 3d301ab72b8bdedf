"""Every row of the table "who ended it", by real SIPp calls through the real daemon, asserted on the CDR
that a subscriber received from a real broker. The name of a case is that of its scenario files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from sidecar.demo.subscriber import Record
from tests.sipp.conftest import rig_in
from tests.sipp.rig import BUSY_MS, EARLY_MS, Rig, begun_seconds, nobody_answers

pytestmark = pytest.mark.asyncio(loop_scope="module")

CENT = Decimal("0.01")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with rig_in(tmp_path_factory.mktemp("rig")) as up:
        await up.node.command("account", "topup", "prepaid", "0.01")
        await up.node.command("account", "topup", "narrow", "1")
        yield up


class Case(NamedTuple):
    """What is placed, and what the record of it must say. `talk_ms` are bounds."""

    caller: str
    callee: str | None
    origin: str
    reason: str | None
    detail: str
    sip_code: int
    q850_cause: int
    disposition: str
    evidence: str = "message"
    dialled: str = "0044123456789"
    account: str = "demo"
    gateway: str = "main"
    others: tuple[tuple[str, str], ...] = ()
    pause_ms: int = 600
    talk_ms: tuple[int, int] = (0, 0)
    cents: int | None = None  # None: as the talk time says
    attempts: int = 1
    glare: bool = False
    proxy: str | None = None
    silent: bool = False  # somebody has bound the port of the silent gateway

    @property
    def name(self) -> str:
        return self.caller


CASES = (
    Case(
        "caller-bye-in-call",
        "caller-bye-in-call",
        "caller",
        None,
        "bye",
        200,
        16,
        "answered",
        talk_ms=(600, 1990),
    ),
    Case(
        "callee-bye-in-call",
        "callee-bye-in-call",
        "callee",
        None,
        "bye",
        200,
        16,
        "answered",
        talk_ms=(600, 1990),
    ),
    Case(
        "caller-cancel-while-ringing",
        "caller-cancel-while-ringing",
        "caller",
        None,
        "cancel",
        487,
        16,
        "cancelled",
    ),
    Case(
        "caller-cancel-before-provisional",
        "caller-cancel-before-provisional",
        "caller",
        None,
        "cancel",
        487,
        16,
        "cancelled",
    ),
    Case("callee-rejected-busy", "callee-rejected-busy", "callee", None, "rejected", 486, 17, "rejected"),
    Case(
        "callee-rejected-with-reason",
        "callee-rejected-with-reason",
        "callee",
        None,
        "rejected",
        480,
        20,
        "rejected",
    ),
    Case(
        "callee-rejected-unavailable", "gateway-unavailable", "callee", None, "rejected", 503, 41, "rejected"
    ),
    Case(
        "callee-rejected-busy-after-failover",
        "gateway-unavailable",
        "callee",
        None,
        "rejected",
        486,
        17,
        "rejected",
        dialled="0144123456789",
        others=(("second", "callee-rejected-busy-after-failover"),),
        attempts=2,
    ),
    Case(
        "callee-rejected-busy-after-failover",
        None,
        "callee",
        None,
        "rejected",
        486,
        17,
        "rejected",
        dialled="0244123456789",
        others=(("second", "callee-rejected-busy-after-failover"),),
        attempts=2,
        silent=True,
    ),
    Case(
        "server-ring-timeout",
        "server-ring-timeout",
        "server",
        "timeout",
        "ring_timeout",
        408,
        19,
        "no_answer",
        "timer",
    ),
    Case(
        "server-ring-timeout-not-alerted",
        "server-ring-timeout-not-alerted",
        "server",
        "timeout",
        "ring_timeout",
        408,
        18,
        "no_answer",
        "timer",
    ),
    Case(
        "server-ring-timeout-silent",
        None,
        "server",
        "timeout",
        "ring_timeout",
        408,
        102,
        "no_answer",
        "timer",
        dialled="0344123456789",
        silent=True,
    ),
    Case(
        "server-max-duration-in-call",
        "server-max-duration-in-call",
        "server",
        "timeout",
        "max_duration",
        408,
        16,
        "answered",
        "timer",
        talk_ms=(2000, 2500),
    ),
    Case(
        "server-credit-exhausted-in-call",
        "server-credit-exhausted-in-call",
        "server",
        "credit",
        "grant_used_up",
        402,
        16,
        "answered",
        "timer",
        account="prepaid",
        talk_ms=(1000, 1500),
        cents=1,
    ),
    Case(
        "server-no-credit",
        None,
        "server",
        "credit",
        "no_credit",
        402,
        21,
        "refused",
        account="empty",
        attempts=0,
    ),
    Case(
        "server-number-blocked",
        None,
        "server",
        "policy",
        "number_blocked",
        403,
        21,
        "refused",
        dialled="0900123456709",
        attempts=0,
    ),
    Case(
        "server-refused-by-policy",
        None,
        "server",
        "policy",
        "no_rate",
        403,
        21,
        "refused",
        account="narrow",
        attempts=0,
    ),
    Case(
        "server-refused-by-policy",
        None,
        "server",
        "policy",
        "rule",
        403,
        21,
        "refused",
        account="nobody",
        dialled="0644123456789",
        attempts=0,
    ),
    Case(
        "server-no-route",
        None,
        "server",
        "resource",
        "no_route",
        500,
        3,
        "refused",
        dialled="7712345",
        attempts=0,
    ),
    Case(
        "server-gateway-unreachable",
        None,
        "server",
        "resource",
        "gateway_unreachable",
        500,
        38,
        "failed",
        "timer",
        dialled="0444123456789",
    ),
    Case(
        "glare-bye-bye",
        "glare-bye-bye",
        "caller",
        None,
        "bye",
        200,
        16,
        "answered",
        talk_ms=(600, 1990),
        glare=True,
    ),
    Case(
        "glare-cancel-answer",
        "glare-cancel-answer",
        "caller",
        None,
        "cancel",
        487,
        16,
        "cancelled",
        glare=True,
    ),
    Case(
        "callee-bye-in-call",
        "proxy-bye-session-timer",
        "server",
        "timeout",
        "session_timer",
        408,
        102,
        "answered",
        talk_ms=(600, 1990),
        proxy="local",
    ),
    Case(
        "proxy-rejected-no-credit",
        "proxy-rejected-no-credit",
        "server",
        "credit",
        "no_credit",
        403,
        21,
        "failed",
        proxy="local",
    ),
)


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.name}-{case.detail}-{case.callee}-{case.dialled[:2]}"
)
async def test_the_record_says_who_ended_the_call_and_why(rig: Rig, case: Case) -> None:
    cdr = await _placed(rig, case)
    assert _said(cdr) == {
        "hangup_origin": case.origin,
        "server_reason": case.reason,
        "detail": case.detail,
        "sip_code": case.sip_code,
        "q850_cause": case.q850_cause,
        "disposition": case.disposition,
        "evidence": case.evidence,
        "confidence": "observed",
        "glare": case.glare,
        "proxy": case.proxy,
        "recorded": True,
        "revision": 0,
        "attempts": case.attempts,
        "dialled": case.dialled,
    }
    low, high = case.talk_ms
    if high:
        # A callee counts from the ACK that it got while its answer was held back: talk is less by the hold.
        held_ms = (cdr["answered_at"] - cdr["b_answered_at"]).total_seconds() * 1000
        assert low - held_ms - EARLY_MS <= cdr["talk_ms"] <= high + BUSY_MS
    assert _charged(cdr) == (
        CENT * (case.cents if case.cents is not None else begun_seconds(cdr["billable_ms"]))
    )
    await _nothing_comes_twice(rig, cdr)


async def _placed(rig: Rig, case: Case) -> Record:
    place = rig.place(
        case.caller,
        case.callee,
        dialled=case.dialled,
        account=case.account,
        gateway=case.gateway,
        others=dict(case.others),
        pause_ms=case.pause_ms,
    )
    if not case.silent:
        return await place
    with nobody_answers(rig.host, rig.gateways["silent"]):
        return await place


def _said(cdr: Record) -> dict[str, Any]:
    keys = (
        "hangup_origin",
        "server_reason",
        "detail",
        "sip_code",
        "q850_cause",
        "disposition",
        "evidence",
        "confidence",
        "glare",
        "proxy",
        "recorded",
        "revision",
    )
    return {key: cdr[key] for key in keys} | {
        "attempts": len(cdr["attempts"]),
        "dialled": cdr["callee"]["received"],
    }


def _charged(cdr: Record) -> Decimal:
    (sell,) = (line for line in cdr["charges"] if line["side"] == "sell")
    return Decimal(sell["total"] or 0)


async def _nothing_comes_twice(rig: Rig, cdr: Record) -> None:
    await asyncio.sleep(0)
    assert [one["revision"] for one in rig.subscriber.first.values() if one["call_id"] == cdr["call_id"]] == [
        0
    ]
    assert rig.subscriber.again == 0
