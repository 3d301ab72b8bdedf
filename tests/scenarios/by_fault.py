"""Calls that a fault of ours ends, and calls that a trusted proxy says it ended."""

from __future__ import annotations

from datetime import datetime

from sidecar.core.policy import RecordFlags
from sidecar.core.records import utc
from tests.scenarios import world
from tests.scenarios.scenario import ANSWERED, ROUTED, Scenario, armed_for, refused_after
from tests.scenarios.world import account


def _at(at_ms: int) -> datetime:
    return utc(world.wall_ns(at_ms))


PREPAID = {"accounts": account(prepaid=True)}

FAULT = (
    Scenario(
        name="server-journal-failed-while-admitting",
        ladder="""
            0      disk fails
            0      A INVITE
        """,
        cdr="server/fault/journal 503 41 refused 0 message/observed",
        wire="reject 503 41 journal retry-after 5",
        refused=True,
    ),
    Scenario(
        name="server-journal-stalled-while-admitting",
        ladder="""
            0      disk stalls
            0      A INVITE
        """,
        cdr="server/fault/journal 500 41 failed 0 timer/observed",
        wire="",
        also={"attempts": ()},
    ),
    Scenario(
        name="server-journal-failed-while-held",
        ladder="""
            0      A INVITE
            20     B 180
            1_000  disk fails
            2_000  B 200
        """,
        cdr="server/fault/journal 500 41 failed 0 message/observed",
        wire=f"{ROUTED}, release 500 41 journal",
        also={"answered_at": None},
    ),
    Scenario(
        name="server-journal-stalled-while-held",  # held for longer than answer_hold_ms_max
        ladder="""
            0      A INVITE
            20     B 180
            1_000  disk stalls
            2_000  B 200
        """,
        cdr="server/fault/journal 500 41 failed 0 timer/observed",
        wire=ROUTED,
        also={"answered_at": None},
    ),
    Scenario(
        name="server-internal-error-while-ringing",
        ladder="""
            0      A INVITE
            20     B 180
            1_000  node loses
        """,
        cdr="server/fault/internal_error 500 41 failed 0 message/observed",
        wire=f"{ROUTED}, release 500 41 internal_error",
    ),
    Scenario(
        name="server-internal-error-in-call",  # billed to B's last sign of life
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            7_001  B life
            9_001  A life
            20_000 node loses
        """,
        cdr="server/fault/internal_error 500 41 answered 5000 message/observed",
        wire=f"{ANSWERED}, release 500 41 internal_error",
        sold="0.005",
        also={"talk_ms": 17_999},
    ),
    Scenario(
        name="server-internal-error-suppressed",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            7_001  B life
            9_001  A life
            20_000 node loses
        """,
        policy={"flags": RecordFlags(record_fault=False)},
        cdr="server/fault/internal_error 500 41 answered 5000 message/observed",
        wire=f"{ANSWERED}, release 500 41 internal_error",
        sold="-",
        also={"suppressed_by": "record_fault"},
    ),
    Scenario(
        name="server-transport-lost-caller-in-call",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            8_001  A life
            10_000 A lost
        """,
        cdr="server/fault/transport_lost 500 38 answered 6000 message/observed",
        wire=f"{ANSWERED}, release 500 38 transport_lost",
        sold="0.006",
    ),
    Scenario(
        name="server-transport-lost-callee-in-call",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            8_001  B life
            10_000 B lost
        """,
        cdr="server/fault/transport_lost 500 38 answered 6000 message/observed",
        wire=f"{ANSWERED}, release 500 38 transport_lost",
        sold="0.006",
    ),
    Scenario(
        name="server-transport-lost-while-ringing",
        ladder="""
            0      A INVITE
            20     B 180
            1_000  A lost
        """,
        cdr="server/fault/transport_lost 500 38 failed 0 message/observed",
        wire=f"{ROUTED}, release 500 38 transport_lost",
    ),
)

ENDED = "adopt, release 500 41 crash_recovered"
CRASH = (
    Scenario(
        name="server-crash-before-provisional",
        ladder="""
            0      A INVITE
            500    node crashes
        """,
        policy=PREPAID,
        balance="1",
        cdr="server/fault/crash_recovered 500 41 failed 0 heartbeat/inferred",
        wire=f"{ROUTED}, {ENDED}",
    ),
    Scenario(
        name="server-crash-while-ringing",
        ladder="""
            0      A INVITE
            20     B 180
            3_000  node crashes
        """,
        policy=PREPAID,
        balance="1",
        cdr="server/fault/crash_recovered 500 41 failed 0 heartbeat/inferred",
        wire=f"{ROUTED}, {ENDED}",
        also={"granted_s": 60},
    ),
    Scenario(
        name="server-crash-while-ringing-answered-late",  # the callee's 2xx crosses our CANCEL
        ladder="""
            0      A INVITE
            20     B 180
            3_000  node crashes
            3_012  B late
        """,
        cdr="server/fault/crash_recovered 500 41 failed 0 heartbeat/inferred",
        wire=f"{ROUTED}, {ENDED}",
    ),
    Scenario(
        name="server-crash-while-held",
        ladder="""
            0      A INVITE
            20     B 180
            2_000  B 200
            2_000  node crashes
        """,
        cdr="server/fault/crash_recovered 500 41 failed 0 heartbeat/inferred",
        wire=f"{ROUTED}, {ENDED}",
    ),
    Scenario(
        name="server-crash-in-call",  # both legs say that they were up: billed to our BYE
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            30_401 node crashes 400
        """,
        cdr="server/fault/crash_recovered 500 41 answered 28410 proved/recovered",
        wire=f"{ANSWERED}, {ENDED}",
        sold="0.029",
        also={"ended_not_before": None, "ended_not_after": None},
    ),
    Scenario(
        name="server-crash-in-call-one-gone",  # billed to the node's last heartbeat
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            30_000 B gone
            30_401 node crashes 400
        """,
        cdr="server/fault/crash_recovered 500 41 answered 28000 heartbeat/inferred",
        wire=f"{ANSWERED}, {ENDED}",
        sold="0.028",
        also={"ended_not_before": _at(30_001), "ended_not_after": _at(30_411)},
    ),
    Scenario(
        name="server-crash-in-call-silent",  # nobody answers for 64*T1
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            3_000  A deaf
            30_401 node crashes 400
        """,
        cdr="server/fault/crash_recovered 500 41 answered 28000 heartbeat/inferred",
        wire=f"{ANSWERED}, {ENDED}",
        sold="0.028",
    ),
    Scenario(
        name="server-crash-before-heartbeat",  # the call is younger than the last heartbeat
        ladder="""
            0      A INVITE
            2_000  B 200
            2_101  A ACK
            2_200  B gone
            2_401  node crashes 900
        """,
        cdr="server/fault/crash_recovered 500 41 answered 100 heartbeat/inferred",
        wire=f"{ANSWERED}, {ENDED}",
        sold="0.001",
    ),
    Scenario(
        name="server-crash-in-call-prepaid",  # never more than the grant
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            6_995  node crashes
        """,
        policy=PREPAID,
        balance="0.0051",
        cdr="server/fault/crash_recovered 500 41 answered 5000 proved/recovered",
        wire=f"{ROUTED}, {armed_for(5)}, answer, {refused_after(5)}, {ENDED}",
        sold="0.005",
        also={"overrun_ms": 4},
    ),
    Scenario(
        name="server-crash-in-second-slice",  # by the row of the books: no entry was written since the answer
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            82_001 node crashes
        """,
        policy=PREPAID,
        balance="1",
        cdr="server/fault/crash_recovered 500 41 answered 80010 proved/recovered",
        wire=f"{ROUTED}, {armed_for(60)}, answer, {armed_for(120)}, {ENDED}",
        sold="0.08",
        also={"granted_s": 120, "overrun_ms": 0},
    ),
    Scenario(
        name="server-crash-twice-in-call",  # the first BYE ended it, whoever answers the second
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            2_500  A slow 900
            30_401 node crashes 400
            30_801 node crashes 100
        """,
        cdr="server/fault/crash_recovered 500 41 answered 28410 proved/recovered",
        wire=f"{ANSWERED}, {ENDED}, {ENDED}",
        sold="0.029",
    ),
    Scenario(
        name="server-crash-while-recovering",  # killed before it was the call's turn
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            30_000 B gone
            30_401 node crashes 400
            30_405 node crashes 404
        """,
        cdr="server/fault/crash_recovered 500 41 answered 28000 heartbeat/inferred",
        wire=f"{ANSWERED}, adopt, {ENDED}",
        sold="0.028",
    ),
    Scenario(
        name="caller-bye-then-crash",  # the cause was on disk before the crash, and stays
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            5_000  B deaf
            5_001  A BYE
            5_500  node crashes
        """,
        cdr="caller/bye 200 16 answered 3000 message/observed",
        wire=f"{ANSWERED}, adopt, release 500 16 bye",
        sold="0.003",
    ),
    Scenario(
        name="caller-bye-after-crash",  # sent at any time since the last heartbeat: billed to that
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            30_401 node crashes 400
            30_406 A BYE
        """,
        cdr="caller/bye 200 16 answered 28000 message/recovered",
        wire=f"{ANSWERED}, adopt",
        sold="0.028",
        also={"ended_not_before": _at(30_001), "ended_not_after": _at(30_406)},
    ),
    Scenario(
        name="callee-bye-long-after-crash",  # it was repeated for 32 s at the most
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            90_401 node crashes 40_000
            90_406 B BYE
        """,
        cdr="callee/bye 200 16 answered 56405 message/recovered",
        wire=f"{ANSWERED}, adopt",
        sold="0.057",
        also={"ended_not_before": _at(58_406), "ended_not_after": _at(90_406)},
    ),
    Scenario(
        name="caller-cancel-after-crash",
        ladder="""
            0      A INVITE
            20     B 180
            3_000  node crashes
            3_005  A CANCEL
        """,
        policy=PREPAID,
        balance="1",
        cdr="caller/cancel 487 16 cancelled 0 message/recovered",
        wire=f"{ROUTED}, adopt",
    ),
)

PROXY = (
    Scenario(
        name="proxy-bye-session-timer",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            3_001  B refreshed
            5_001  A BYE reason=SIP;cause=408;text="dialog_timeout"
        """,
        cdr="server/timeout/session_timer 408 102 answered 1000 message/observed",
        wire=ANSWERED,
        sold="0.001",
        also={"proxy": "carrier"},
    ),
    Scenario(
        name="proxy-bye-no-credit",  # a cause of set-up for us, of a call for the proxy
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            5_001  A BYE x-ended-by=credit_control
        """,
        cdr="server/credit/no_credit 402 21 answered 3000 message/observed",
        wire=ANSWERED,
        sold="0.003",
        also={"proxy": "carrier"},
    ),
    Scenario(
        name="proxy-bye-max-duration",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            5_001  B BYE reason=Q.850;cause=31;text="max_call_time"
        """,
        cdr="server/timeout/max_duration 408 31 answered 3000 message/observed",
        wire=ANSWERED,
        sold="0.003",
        also={"proxy": "vendor"},
    ),
    Scenario(
        name="proxy-cancel-no-credit",
        ladder="""
            0      A INVITE
            20     B 180
            3_000  A CANCEL x-ended-by=credit_control
        """,
        cdr="server/credit/no_credit 402 21 failed 0 message/observed",
        wire=ROUTED,
        also={"proxy": "carrier"},
    ),
    Scenario(
        name="proxy-rejected-max-duration",
        ladder="""
            0      A INVITE
            20     B 180
            3_000  B 480 reason=SIP;cause=480;text="max_call_time"
        """,
        cdr="server/timeout/max_duration 480 16 failed 0 message/observed",
        wire=f"{ROUTED}, fail as received",
        also={"proxy": "vendor"},
    ),
    Scenario(
        name="proxy-rejected-no-credit",
        ladder="""
            0      A INVITE
            1_000  B 403 reason=SIP;cause=402;text="no_credit"
        """,
        cdr="server/credit/no_credit 403 21 failed 0 message/observed",
        wire=f"{ROUTED}, fail as received",
        also={"proxy": "vendor"},
    ),
    Scenario(
        name="proxy-ring-timeout",
        ladder="""
            0      A INVITE
            20     B 180
            3_000  A CANCEL reason=Q.850;cause=19;text="ring_timeout"
        """,
        cdr="server/timeout/ring_timeout 408 19 no_answer 0 message/observed",
        wire=ROUTED,
        also={"proxy": "carrier"},
    ),
)
