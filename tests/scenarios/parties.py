"""Calls that the caller or the callee ends."""

from __future__ import annotations

from tests.scenarios.scenario import ANSWERED, ARM, ARMED, ROUTED, Scenario
from tests.scenarios.world import account, gateways

BOTH = {"routes": ("alpha", "beta")}
PREPAID = {"accounts": account(prepaid=True)}

CALLER = (
    Scenario(
        name="caller-hangs-up",
        ladder="""
            0      A INVITE
            20     B 180
            2_000  B 200
            2_020  A ACK
            12_051 A BYE
        """,
        cdr="caller/bye 200 16 answered 10050 message/observed",
        wire=ANSWERED,
        sold="0.011",
        also={"talk_ms": 10_050, "hold_s": 11, "pdd_ms": 20, "ring_ms": 1_981, "gateway": "alpha"},
    ),
    Scenario(
        name="caller-hangs-up-just-under-the-next-second",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            12_050 A BYE
        """,
        cdr="caller/bye 200 16 answered 10049 message/observed",
        wire=ANSWERED,
        sold="0.01",
        also={"hold_s": 10, "ring_ms": None, "pdd_ms": 2_000},
    ),
    Scenario(
        name="caller-hangs-up-with-reason",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            4_001  A BYE reason=SIP;cause=200,_Q.850;cause=31;text="normal,_unspecified"
        """,
        cdr="caller/bye 200 31 answered 2000 message/observed",
        wire=ANSWERED,
        sold="0.002",
    ),
    Scenario(
        name="caller-hangs-up-unacknowledged",  # the ACK was lost; the BYE proves that A had our 2xx
        ladder="""
            0      A INVITE
            2_000  B 200
            5_001  A BYE
        """,
        cdr="caller/bye 200 16 answered 3000 message/observed",
        wire=ANSWERED,
        sold="0.003",
    ),
    Scenario(
        name="caller-hangs-up-at-once",  # answered, but below the hold-time precision
        ladder="""
            0      A INVITE
            2_000  B 200
            2_010  A ACK
            2_050  A BYE
        """,
        cdr="caller/bye 200 16 answered 49 message/observed",
        wire=ANSWERED,
        also={"hold_s": 0, "billed_s": 0, "talk_ms": 49},
    ),
    Scenario(
        name="caller-hangs-up-prepaid",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_010  A ACK
            6_001  A BYE
        """,
        policy=PREPAID,
        balance="1",
        cdr="caller/bye 200 16 answered 4000 message/observed",
        wire=f"{ROUTED}, arm grant_used_up 1000000, answer",
        sold="0.004",
        also={"granted_s": 1_000},
    ),
    Scenario(
        name="caller-hangs-up-while-ringing",  # RFC 3261 §15: an early dialog may be ended by BYE
        ladder="""
            0      A INVITE
            20     B 180
            3_000  A BYE
        """,
        cdr="caller/bye 200 16 cancelled 0 message/observed",
        wire=ROUTED,
    ),
    Scenario(
        name="caller-cancels-while-ringing",
        ladder="""
            0      A INVITE
            20     B 180
            3_000  A CANCEL
        """,
        cdr="caller/cancel 487 16 cancelled 0 message/observed",
        wire=ROUTED,
        also={"talk_ms": 0, "answered_at": None, "ring_ms": 2_980},
    ),
    Scenario(
        name="caller-cancels-before-any-provisional",
        ladder="""
            0      A INVITE
            100    A CANCEL
        """,
        cdr="caller/cancel 487 16 cancelled 0 message/observed",
        wire=ROUTED,
        also={"ringing_at": None, "pdd_ms": None},
    ),
    Scenario(
        name="caller-cancels-while-admitting",  # quicker than the disk: nothing ever leaves on B
        ladder="""
            0      A INVITE
            0      A CANCEL
        """,
        policy=PREPAID,
        balance="1",
        cdr="caller/cancel 487 16 cancelled 0 message/observed",
        wire="",
        also={"attempts": (), "gateway": None, "leg_b": None},
    ),
    Scenario(
        name="caller-cancels-with-reason",
        ladder="""
            0      A INVITE
            20     B 180
            3_000  A CANCEL reason=Q.850;cause=19
        """,
        cdr="caller/cancel 487 19 cancelled 0 message/observed",
        wire=ROUTED,
    ),
    Scenario(
        name="caller-cancels-while-answer-held",
        ladder="""
            0      A INVITE
            20     B 180
            2_000  B 200
            2_000  A CANCEL
        """,
        cdr="caller/cancel 487 16 cancelled 0 message/observed",
        wire=ROUTED,
        also={"glare": True, "answered_at": None},
    ),
)

CALLEE = (
    Scenario(
        name="callee-hangs-up",
        ladder="""
            0      A INVITE
            20     B 180
            2_000  B 200
            2_020  A ACK
            12_001 B BYE
        """,
        cdr="callee/bye 200 16 answered 10000 message/observed",
        wire=ANSWERED,
        sold="0.01",
    ),
    Scenario(
        name="callee-hangs-up-before-the-ack",  # A answers our BYE: it had our 2xx
        ladder="""
            0      A INVITE
            2_000  B 200
            4_001  B BYE
        """,
        cdr="callee/bye 200 16 answered 2000 message/observed",
        wire=ANSWERED,
        sold="0.002",
    ),
    Scenario(
        name="callee-hangs-up-and-the-caller-is-gone",  # nothing shows that A ever had our 2xx
        ladder="""
            0      A INVITE
            0      A deaf
            2_000  B 200
            4_001  B BYE
        """,
        cdr="callee/bye 200 16 answered 0 message/observed",
        wire=ANSWERED,
        also={"talk_ms": 2_000},
    ),
    Scenario(
        name="callee-hangs-up-while-answer-held",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_000  B BYE
        """,
        cdr="callee/bye 480 16 rejected 0 message/observed",
        wire=ROUTED,
    ),
    Scenario(
        name="callee-rejects-busy",
        ladder="""
            0      A INVITE
            20     B 180
            1_000  B 486
        """,
        policy=BOTH,
        cdr="callee/rejected 486 17 rejected 0 message/observed",
        wire=f"{ROUTED}, fail as received",
    ),
    Scenario(
        name="callee-rejects-with-reason",
        ladder="""
            0      A INVITE
            1_000  B 480 reason=Q.850;cause=20
        """,
        cdr="callee/rejected 480 20 rejected 0 message/observed",
        wire=f"{ROUTED}, fail as received",
    ),
    Scenario(
        name="callee-rejects-mapped-by-setting",
        ladder="""
            0      A INVITE
            1_000  B 480
        """,
        policy={"q850_of_sip": {480: 19}},
        cdr="callee/rejected 480 19 rejected 0 message/observed",
        wire=f"{ROUTED}, fail as received",
    ),
    Scenario(
        name="callee-rejects-after-failover",
        ladder="""
            0      A INVITE
            50     B 503
            900    B 180
            1_000  B 486
        """,
        policy=BOTH,
        cdr="callee/rejected 486 17 rejected 0 message/observed",
        wire=f"{ROUTED}, route 2 beta, fail as received",
        also={"gateway": "beta"},
    ),
    Scenario(
        name="callee-rejects-after-early-media",  # A has heard alpha: beta cannot continue that
        ladder="""
            0      A INVITE
            20     B 183
            1_000  B 500 early
        """,
        policy=BOTH,
        cdr="callee/rejected 500 41 rejected 0 message/observed",
        wire=f"{ROUTED}, fail as received",
    ),
    Scenario(
        name="callee-rejects-unavailable",  # its 503 is not ours
        ladder="""
            0      A INVITE
            50     B 503
        """,
        cdr="callee/rejected 503 41 rejected 0 message/observed",
        wire=f"{ROUTED}, fail 500",
    ),
    Scenario(
        name="callee-rejects-unavailable-passed",
        ladder="""
            0      A INVITE
            50     B 503
        """,
        policy={"pass_503": True},
        cdr="callee/rejected 503 41 rejected 0 message/observed",
        wire=f"{ROUTED}, fail as received",
    ),
    Scenario(
        name="callee-redirects",
        ladder="""
            0      A INVITE
            50     B 302
        """,
        policy=BOTH,
        cdr="callee/rejected 302 23 rejected 0 message/observed",
        wire=f"{ROUTED}, fail 480",
    ),
    Scenario(
        name="callee-challenges-and-caller-retries",
        ladder="""
            0      A INVITE
            50     B 407
            90     A INVITE again
            2_000  B 200
            2_020  A ACK
            5_001  A BYE
        """,
        cdr="caller/bye 200 16 answered 3000 message/observed",
        wire=f"{ROUTED}, fail as received, {ARM}, route 2 alpha, {ARMED}, answer",
        sold="0.003",
        also={"pdd_ms": 2_000},
    ),
    Scenario(
        name="callee-challenges-and-gateway-fails",  # the other gateway is still there after a challenge
        ladder="""
            0      A INVITE
            50     B 401
            90     A INVITE again
            200    B 503
            300    B 603
        """,
        policy=BOTH,
        cdr="callee/rejected 603 21 rejected 0 message/observed",
        wire=f"{ROUTED}, fail as received, {ARM}, route 2 alpha, route 3 beta, fail as received",
    ),
    Scenario(
        name="callee-challenges-and-caller-leaves",
        ladder="""
            0      A INVITE
            50     B 407
        """,
        cdr="callee/rejected 407 21 rejected 0 message/observed",
        wire=f"{ROUTED}, fail as received",
    ),
    Scenario(
        name="callee-challenges-and-node-crashes",
        ladder="""
            0      A INVITE
            50     B 407
            3_000  node crashes
        """,
        cdr="callee/rejected 407 21 rejected 0 message/observed",
        wire=f"{ROUTED}, fail as received",
    ),
)

GLARE = (
    Scenario(
        name="glare-bye-bye",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            5_001  A BYE
            5_005  B BYE
        """,
        cdr="caller/bye 200 16 answered 3000 message/observed",
        wire=ANSWERED,
        sold="0.003",
        also={"glare": True},
    ),
    Scenario(
        name="glare-bye-repeated",  # one side's BYE twice is no crossing
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            5_001  A BYE
            5_005  A BYE
        """,
        cdr="caller/bye 200 16 answered 3000 message/observed",
        wire=ANSWERED,
        sold="0.003",
        also={"glare": False},
    ),
    Scenario(
        name="glare-bye-bye-after-the-record",  # B's BYE came when the record was out: a second revision
        ladder="""
            0      A INVITE
            0      B deaf
            2_000  B 200
            2_020  A ACK
            5_001  A BYE
            7_000  B BYE
        """,
        cdr="caller/bye 200 16 answered 3000 message/observed",
        wire=ANSWERED,
        sold="0.003",
        also={"glare": True, "revision": 1, "supersedes": 0, "revision_reason": "late_evidence"},
        revisions=2,
    ),
    Scenario(
        name="glare-bye-operator",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            5_001  operator releases
            5_002  A BYE
        """,
        cdr="server/admin/operator 480 31 answered 3000 message/observed",
        wire=f"{ANSWERED}, release 480 31 operator",
        sold="0.003",
        also={"glare": True},
    ),
    Scenario(
        name="glare-cancel-answer",
        ladder="""
            0      A INVITE
            20     B 180
            3_000  A CANCEL
            3_004  B late
        """,
        cdr="caller/cancel 487 16 cancelled 0 message/observed",
        wire=ROUTED,
        also={"glare": True},
    ),
    Scenario(
        name="glare-ring-timeout-answer",  # B's 2xx was on its way to us when we gave up
        ladder="""
            0      A INVITE
            20     B 180
            3_000  timer ring
            3_001  B 200
        """,
        cdr="server/timeout/ring_timeout 408 19 no_answer 0 timer/observed",
        wire=f"{ROUTED}, release 408 19 ring_timeout",
    ),
    Scenario(
        name="late-answer-of-an-abandoned-attempt",
        ladder="""
            0      A INVITE
            5_000  B 180
            5_500  B late 1
            6_000  B 200
            6_020  A ACK
            8_001  B BYE
        """,
        policy={**BOTH, "gateways": gateways({"no_response_failover_ms": 4_000})},
        cdr="callee/bye 200 16 answered 2000 message/observed",
        wire=f"{ROUTED}, route 2 beta, {ARMED}, answer",
        sold="0.002",
        also={"gateway": "beta"},
    ),
    Scenario(
        name="late-life-after-the-record",  # A's 2xx to our BYE came when the record was out, and billed 0 s
        ladder="""
            0      A INVITE
            0      A deaf
            2_000  B 200
            4_001  B BYE
            6_000  A BYE
        """,
        cdr="callee/bye 200 16 answered 2000 message/observed",
        wire=ANSWERED,
        sold="0.002",
        also={"revision": 1, "glare": True},
        revisions=2,
    ),
)
