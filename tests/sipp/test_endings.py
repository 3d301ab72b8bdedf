"""Every row of the table "who ended it", by real SIPp calls through the real daemon, asserted on the CDR
that a subscriber received from a real broker. The name of a case is that of its scenario files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import NamedTuple

import pytest
import pytest_asyncio

from sidecar.demo.check import OBSERVED, summary
from sidecar.demo.children import SCENARIOS
from sidecar.demo.subscriber import Record
from tests.rig.listener import sell
from tests.scenarios.table import BY_NAME
from tests.sipp.rig import BUSY_MS, EARLY_MS, Rig, begun_seconds, nobody_answers

pytestmark = pytest.mark.asyncio(loop_scope="module")

CENT = Decimal("0.01")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path_factory.mktemp("rig"))
    async with rig.up():
        await rig.top_up("prepaid", "0.01")
        await rig.top_up("narrow", "1")
        yield rig


class Case(NamedTuple):
    """One call, and what the record of it must say. Caller and callee play the files of the name, unless
    others are named; `cdr` is the `summary` of the record."""

    name: str
    cdr: str
    caller: str | None = None
    callee: str | None = None  # nobody, where there is no such file either
    second: str | None = None  # the callee behind the second gateway of the route
    dialled: str = "0044123456789"
    account: str = "demo"
    talk_ms: tuple[int, int] = (0, 0)  # bounds
    cents: int | None = None  # None: as the talk time says
    attempts: int = 1
    proxy: str | None = None
    silent: bool = False  # somebody has bound the port of the silent gateway


TALK_MS = (600, 1990)  # what the side that hangs up waits before it does, and less than the maximum duration
BUSY = "callee-rejected-busy-after-failover"
REFUSED = "server-refused-by-policy"
CASES = (
    Case("caller-bye-in-call", "caller/bye 200 16 answered", talk_ms=TALK_MS),
    Case("callee-bye-in-call", "callee/bye 200 16 answered", talk_ms=TALK_MS),
    Case("caller-cancel-while-ringing", "caller/cancel 487 16 cancelled"),
    Case("caller-cancel-before-provisional", "caller/cancel 487 16 cancelled"),
    Case("callee-rejected-busy", "callee/rejected 486 17 rejected"),
    Case("callee-rejected-with-reason", "callee/rejected 480 20 rejected"),
    Case("callee-rejected-unavailable", "callee/rejected 503 41 rejected", callee="gateway-unavailable"),
    Case(
        "callee-rejected-busy-after-failover",
        "callee/rejected 486 17 rejected",
        callee="gateway-unavailable",
        second=BUSY,
        dialled="0144123456789",
        attempts=2,
    ),
    Case(
        "callee-rejected-busy-after-no-response",
        "callee/rejected 486 17 rejected",
        caller=BUSY,
        second=BUSY,
        dialled="0244123456789",
        attempts=2,
        silent=True,
    ),
    Case("server-ring-timeout", "server/timeout/ring_timeout 408 19 no_answer timer/observed"),
    Case("server-ring-timeout-not-alerted", "server/timeout/ring_timeout 408 18 no_answer timer/observed"),
    Case(
        "server-ring-timeout-silent",
        "server/timeout/ring_timeout 408 102 no_answer timer/observed",
        dialled="0344123456789",
        silent=True,
    ),
    Case(
        "server-max-duration-in-call",
        "server/timeout/max_duration 408 16 answered timer/observed",
        talk_ms=(2000, 2500),
    ),
    Case(
        "server-credit-exhausted-in-call",
        "server/credit/grant_used_up 402 16 answered timer/observed",
        account="prepaid",
        talk_ms=(1000, 1500),
        cents=1,
    ),
    Case("server-no-credit", "server/credit/no_credit 402 21 refused", account="empty"),
    Case("server-number-blocked", "server/policy/number_blocked 403 21 refused", dialled="0900123456709"),
    Case("server-no-rate", "server/policy/no_rate 403 21 refused", caller=REFUSED, account="narrow"),
    Case(
        "server-account-required",
        "server/policy/rule 403 21 refused",
        caller=REFUSED,
        account="nobody",
        dialled="0644123456789",
    ),
    Case("server-no-route", "server/resource/no_route 500 3 refused", dialled="7712345"),
    Case(
        "server-gateway-unreachable",
        "server/resource/gateway_unreachable 500 38 failed timer/observed",
        dialled="0444123456789",
    ),
    Case("glare-bye-bye", "caller/bye 200 16 answered", talk_ms=TALK_MS),
    Case("glare-cancel-answer", "caller/cancel 487 16 cancelled"),
    Case(
        "proxy-bye-session-timer",
        "server/timeout/session_timer 408 102 answered",
        caller="callee-bye-in-call",
        talk_ms=TALK_MS,
        proxy="local",
    ),
    Case("proxy-rejected-no-credit", "server/credit/no_credit 403 21 failed", proxy="local"),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_the_record_says_who_ended_the_call_and_why(rig: Rig, case: Case) -> None:
    cdr = await _placed(rig, case)
    assert summary(cdr) == case.cdr
    assert cdr["glare"] is case.name.startswith("glare-")
    found = (cdr["proxy"], cdr["recorded"], cdr["revision"], cdr["callee"]["received"])
    assert found == (case.proxy, True, 0, case.dialled)
    assert len(cdr["attempts"]) == (0 if cdr["disposition"] == "refused" else case.attempts)
    low, high = case.talk_ms
    if high:
        # A callee counts from the ACK that it got while its answer was held back: talk is less by the hold.
        held_ms = (cdr["answered_at"] - cdr["b_answered_at"]).total_seconds() * 1000
        assert low - held_ms - EARLY_MS <= cdr["talk_ms"] <= high + BUSY_MS
    assert Decimal(sell(cdr)["total"] or 0) == (
        CENT * (case.cents if case.cents is not None else begun_seconds(cdr["billable_ms"]))
    )
    await _nothing_comes_twice(rig, cdr)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_case_ends_as_the_scenario_of_its_name(case: Case) -> None:
    who, sip_code, q850_cause, disposition, _billable_ms, proof = BY_NAME[case.name].cdr.split()
    ending = f"{who} {sip_code} {q850_cause} {disposition} {proof}"
    assert case.cdr == ending.removesuffix(f" {OBSERVED}")


async def _placed(rig: Rig, case: Case) -> Record:
    own = case.name if (SCENARIOS / f"{case.name}.uas.xml").exists() else None
    place = rig.place(
        case.caller or case.name,
        case.callee or own,
        dialled=case.dialled,
        account=case.account,
        others={"second": case.second} if case.second else {},
    )
    if not case.silent:
        return await place
    with nobody_answers(rig.host, rig.gateways["silent"]):
        return await place


async def _nothing_comes_twice(rig: Rig, cdr: Record) -> None:
    await asyncio.sleep(0)
    assert [one["revision"] for one in rig.listener.records if one["call_id"] == cdr["call_id"]] == [0]
    assert rig.listener.again == 0
