"""Calls that the caller ends."""

from __future__ import annotations

from tests.scenarios.scenario import ANSWERED, ROUTED, Scenario, armed_for
from tests.scenarios.world import account

PREPAID = {"accounts": account(prepaid=True)}

CALLER = (
    Scenario(
        name="caller-bye-in-call",
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
        name="caller-bye-just-under-the-next-second",
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
        name="caller-bye-with-reason",
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
        name="caller-bye-before-ack",  # the ACK was lost; the BYE proves that A had our 2xx
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
        name="caller-bye-at-once",  # answered, but below the hold-time precision
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
        name="caller-bye-prepaid",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_010  A ACK
            6_001  A BYE
        """,
        policy=PREPAID,
        balance="1",
        cdr="caller/bye 200 16 answered 4000 message/observed",
        wire=f"{ROUTED}, {armed_for(60)}, answer",
        sold="0.004",
        also={"granted_s": 60},
    ),
    Scenario(
        name="caller-bye-while-ringing",  # RFC 3261 §15: an early dialog may be ended by BYE
        ladder="""
            0      A INVITE
            20     B 180
            3_000  A BYE
        """,
        cdr="caller/bye 200 16 cancelled 0 message/observed",
        wire=ROUTED,
    ),
    Scenario(
        name="caller-cancel-while-ringing",
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
        name="caller-cancel-before-provisional",
        ladder="""
            0      A INVITE
            100    A CANCEL
        """,
        cdr="caller/cancel 487 16 cancelled 0 message/observed",
        wire=ROUTED,
        also={"ringing_at": None, "pdd_ms": None},
    ),
    Scenario(
        name="caller-cancel-while-admitting",  # before the admission is on disk: no INVITE on B
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
        name="caller-cancel-with-reason",
        ladder="""
            0      A INVITE
            20     B 180
            3_000  A CANCEL reason=Q.850;cause=19
        """,
        cdr="caller/cancel 487 19 cancelled 0 message/observed",
        wire=ROUTED,
    ),
    Scenario(
        name="caller-cancel-while-held",
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
