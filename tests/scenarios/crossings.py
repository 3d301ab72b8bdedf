"""Messages that cross, and evidence that comes late."""

from __future__ import annotations

from tests.scenarios.scenario import ANSWERED, ARMED, ROUTED, Scenario
from tests.scenarios.world import gateways

BOTH = {"routes": ("alpha", "beta")}

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
        name="glare-bye-repeated",  # the same side's BYE twice is no glare
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
        name="glare-bye-bye-after-record",  # B's BYE comes after the record: a second revision
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
        name="caller-bye-challenged",  # by a gateway that we have no password for; after the record
        ladder="""
            0      A INVITE
            0      B challenges 407
            0      B slow 2_000
            2_000  B 200
            2_020  A ACK
            5_001  A BYE
        """,
        cdr="caller/bye 200 16 answered 3000 message/observed",
        wire=ANSWERED,
        sold="0.003",
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
        name="glare-ring-timeout-answer",  # B's 2xx crosses our CANCEL
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
        name="glare-failover-answer",
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
        name="glare-answer-answer",  # of a second branch: the second 2xx gets ACK and BYE
        ladder="""
            0      A INVITE
            20     B 180
            2_000  B 200
            2_020  A ACK
            2_500  B late
            5_001  A BYE
        """,
        cdr="caller/bye 200 16 answered 3000 message/observed",
        wire=ANSWERED,
        sold="0.003",
        also={"glare": False},
    ),
    Scenario(
        name="glare-failover-answer-after-record",  # its gateway had not responded in time
        ladder="""
            0      A INVITE
            9_000  B late 1
        """,
        cdr="server/resource/gateway_unreachable 500 38 failed 0 timer/observed",
        wire=f"{ROUTED}, release 500 38 gateway_unreachable",
        also={"revision": 1, "revision_reason": "late_evidence"},
        revisions=2,
    ),
    Scenario(
        name="callee-bye-life-after-record",  # A's BYE proves after the record that it had our 2xx
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
    Scenario(
        name="callee-bye-proved-after-record",  # A's 200 to our BYE proves it after the record
        ladder="""
            0      A INVITE
            0      A slow 3000
            2_000  B 200
            4_001  B BYE
        """,
        cdr="callee/bye 200 16 answered 2000 message/observed",
        wire=ANSWERED,
        sold="0.002",
        also={"revision": 1, "revision_reason": "late_evidence", "glare": False},
        revisions=2,
    ),
    Scenario(
        name="caller-bye-after-stale-failure",  # what the first gateway says is no failure of the second
        ladder="""
            0      A INVITE
            50     B 503
            60     B stale 1 486
            900    B 180
            2_000  B 200
            2_020  A ACK
            5_001  A BYE
        """,
        policy=BOTH,
        cdr="caller/bye 200 16 answered 3000 message/observed",
        wire=f"{ROUTED}, route 2 beta, {ARMED}, answer",
        sold="0.003",
        also={"gateway": "beta"},
    ),
    Scenario(
        name="caller-bye-after-ring-deadline-while-held",  # the callee has answered: it rings no more
        ladder="""
            0      A INVITE
            20     B 180
            2_000  B 200
            2_000  timer ring
            2_020  A ACK
            5_001  A BYE
        """,
        cdr="caller/bye 200 16 answered 3000 message/observed",
        wire=ANSWERED,
        sold="0.003",
    ),
)
