"""Calls that the callee ends."""

from __future__ import annotations

from sidecar.core.policy import Share
from sidecar.core.terms import Redirection
from tests.scenarios import world
from tests.scenarios.scenario import ANSWERED, ARM, ARMED, ROUTED, Scenario

BOTH = {"routes": ("alpha", "beta")}
TWO_TO_THREE = (Share(gateway="alpha", weight=2), Share(gateway="beta", weight=3))

CALLEE = (
    Scenario(
        name="callee-bye-in-call",
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
        name="callee-bye-before-ack",  # A answers our BYE: it had our 2xx
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
        name="callee-bye-caller-gone",  # nothing shows that A ever had our 2xx
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
        name="callee-bye-while-held",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_000  B BYE
        """,
        cdr="callee/bye 480 16 rejected 0 message/observed",
        wire=ROUTED,
    ),
    Scenario(
        name="callee-rejected-busy",
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
        name="callee-rejected-with-reason",
        ladder="""
            0      A INVITE
            1_000  B 480 reason=Q.850;cause=20
        """,
        cdr="callee/rejected 480 20 rejected 0 message/observed",
        wire=f"{ROUTED}, fail as received",
    ),
    Scenario(
        name="callee-rejected-mapped-by-setting",
        ladder="""
            0      A INVITE
            1_000  B 480
        """,
        policy={"q850_of_sip": {480: 19}},
        cdr="callee/rejected 480 19 rejected 0 message/observed",
        wire=f"{ROUTED}, fail as received",
    ),
    Scenario(
        name="callee-rejected-busy-after-failover",
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
        name="callee-rejected-busy-after-no-response",
        ladder="""
            0      A INVITE
            4_100  B 180
            5_000  B 486
        """,
        policy={**BOTH, "gateways": world.gateways(alpha={"no_response_failover_ms": 4_000})},
        cdr="callee/rejected 486 17 rejected 0 message/observed",
        wire=f"{ROUTED}, route 2 beta, fail as received",
        also={"gateway": "beta"},
    ),
    Scenario(
        name="callee-rejected-after-failover-by-code",  # alpha does not know all numbers
        ladder="""
            0      A INVITE
            50     B 404 reason=Q.850;cause=1
            1_000  B 486
        """,
        policy={**BOTH, "gateways": world.gateways(alpha={"failover_codes": {404}})},
        cdr="callee/rejected 486 17 rejected 0 message/observed",
        wire=f"{ROUTED}, route 2 beta, fail as received",
        also={"gateway": "beta"},
    ),
    Scenario(
        name="callee-rejected-by-code-not-listed",  # a 503 is not in alpha's list: no failover
        ladder="""
            0      A INVITE
            50     B 503
        """,
        policy={**BOTH, "gateways": world.gateways(alpha={"failover_codes": {404}})},
        cdr="callee/rejected 503 41 rejected 0 message/observed",
        wire=f"{ROUTED}, fail 500",
    ),
    Scenario(
        name="callee-rejected-after-failover-by-time",  # only 100 from alpha; beta is the last
        ladder="""
            0      A INVITE
            20     B 100
            8_000  B 100
            20_000 B 183
            21_000 B 486
        """,
        policy={**BOTH, "gateways": world.gateways(*[{"no_progress_failover_ms": 6_000}] * 2)},
        cdr="callee/rejected 486 17 rejected 0 message/observed",
        wire=f"{ROUTED}, route 2 beta, fail as received",
        also={"gateway": "beta"},
    ),
    Scenario(
        name="callee-bye-after-late-ringing",  # 18x in time: no limit on ringing after it
        ladder="""
            0      A INVITE
            20     B 100
            5_000  B 180
            30_000 B 200
            30_020 A ACK
            31_001 B BYE
        """,
        policy={**BOTH, "gateways": world.gateways({"no_progress_failover_ms": 6_000})},
        cdr="callee/bye 200 16 answered 1000 message/observed",
        wire=ANSWERED,
        sold="0.001",
    ),
    Scenario(
        name="callee-rejected-at-second-of-group",  # the hash in the call id is 2 modulo 5: beta first
        ladder="""
            0      A INVITE
            50     B 503 reason=Q.850;cause=34
            1_000  B 404
        """,
        policy={"routes": (TWO_TO_THREE,)},
        cdr="callee/rejected 404 1 rejected 0 message/observed",
        wire=f"{ARM}, route 1 beta, route 2 alpha, fail as received",
        also={"gateway": "alpha"},
    ),
    Scenario(
        name="callee-rejected-after-gateway-down",
        ladder="""
            0      A INVITE
            50     B 503
            1_000  B 404
        """,
        policy=BOTH,
        load={"gateways_down": {"alpha"}},
        cdr="callee/rejected 404 1 rejected 0 message/observed",
        wire=f"{ARM}, route 1 beta, route 2 alpha, fail as received",
        also={"gateway": "alpha"},
    ),
    Scenario(
        name="callee-rejected-after-early-media",  # A has heard early media: no failover
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
        name="callee-rejected-unavailable",  # its 503 reaches A as 500
        ladder="""
            0      A INVITE
            50     B 503
        """,
        cdr="callee/rejected 503 41 rejected 0 message/observed",
        wire=f"{ROUTED}, fail 500",
    ),
    Scenario(
        name="callee-rejected-unavailable-passed",
        ladder="""
            0      A INVITE
            50     B 503
        """,
        policy={"pass_503": True},
        cdr="callee/rejected 503 41 rejected 0 message/observed",
        wire=f"{ROUTED}, fail as received",
    ),
    Scenario(
        name="callee-redirect-refused",
        ladder="""
            0      A INVITE
            50     B 302
        """,
        policy=BOTH,
        cdr="callee/rejected 302 23 rejected 0 message/observed",
        wire=f"{ROUTED}, fail 480",
    ),
    Scenario(
        name="callee-redirect-passed",
        ladder="""
            0      A INVITE
            50     B 302 contact=4930999@192.0.2.7
        """,
        policy={**BOTH, "redirect": Redirection.PASS},
        cdr="callee/rejected 302 23 rejected 0 message/observed",
        wire=f"{ROUTED}, fail as received with contacts",
    ),
    Scenario(
        name="caller-bye-after-redirect",  # sold by the number dialled; beta has no buy deck
        ladder="""
            0      A INVITE
            50     B 302 contact=4930999@10.0.2.1:5060
            100    B 180
            2_000  B 200
            2_020  A ACK
            5_001  A BYE
        """,
        policy={"redirect": Redirection.FOLLOW},
        cdr="caller/bye 200 16 answered 3000 message/observed",
        wire=f"{ROUTED}, route 2 beta 4930999, {ARMED}, answer",
        sold="0.003",
        also={"gateway": "beta"},
    ),
    Scenario(
        name="callee-redirect-followed-in-order",  # the highest q first, then the rest of the route
        ladder="""
            0      A INVITE
            50     B 300 contact=4930111@10.0.2.1;q=0.2 contact=4930222@10.0.1.1;q=0.7
            100    B 486
            150    B 503
            200    B 180
            300    B 486
        """,
        policy={**BOTH, "redirect": Redirection.FOLLOW},
        cdr="callee/rejected 486 17 rejected 0 message/observed",
        wire=f"{ROUTED}, route 2 alpha 4930222, route 3 beta 4930111, route 4 beta, fail as received",
    ),
    Scenario(
        name="callee-redirect-to-stranger",  # no gateway: other port, or a host name
        ladder="""
            0      A INVITE
            50     B 302 contact=4930999@192.0.2.7 contact=4930999@10.0.2.1:5099 contact=4930999@beta.example
        """,
        policy={"redirect": Redirection.FOLLOW},
        cdr="callee/rejected 302 23 rejected 0 message/observed",
        wire=f"{ROUTED}, fail 480",
    ),
    Scenario(
        name="callee-redirect-in-circle",
        ladder="""
            0      A INVITE
            50     B 302 contact=4930123456@10.0.1.1 contact=4930999@10.0.2.1
            100    B 302 contact=4930123456@10.0.1.1 contact=4930999@10.0.2.1
        """,
        policy={"redirect": Redirection.FOLLOW},
        cdr="callee/rejected 302 23 rejected 0 message/observed",
        wire=f"{ROUTED}, route 2 beta 4930999, fail 480",
    ),
    Scenario(
        name="callee-redirect-to-contact-that-waits",  # the second Contact is named again: it is tried once
        ladder="""
            0      A INVITE
            50     B 302 contact=4930999@10.0.2.1 contact=4930888@10.0.2.1
            100    B 302 contact=4930888@10.0.2.1
            150    B 486
        """,
        policy={"redirect": Redirection.FOLLOW},
        cdr="callee/rejected 486 17 rejected 0 message/observed",
        wire=f"{ROUTED}, route 2 beta 4930999, route 3 beta 4930888, fail as received",
        also={"gateway": "beta"},
    ),
    Scenario(
        name="callee-redirect-without-end",
        ladder="""
            0      A INVITE
            50     B 302 contact=49301@10.0.1.1 contact=49302@10.0.1.1 contact=49303@10.0.1.1
            100    B 302 contact=49304@10.0.1.1 contact=49305@10.0.1.1 contact=49306@10.0.1.1
            150    B 302 contact=49307@10.0.1.1
            200    B 302 contact=49308@10.0.1.1
            250    B 302 contact=49309@10.0.1.1
            300    B 302 contact=49310@10.0.1.1
        """,
        policy={"redirect": Redirection.FOLLOW},
        cdr="callee/rejected 302 23 rejected 0 message/observed",
        wire=f"{ROUTED}, route 2 alpha 49301, route 3 alpha 49304, route 4 alpha 49305, "
        "route 5 alpha 49302, route 6 alpha 49303, fail 480",
    ),
    Scenario(
        name="callee-redirect-then-challenge",  # the retry goes to the number that was challenged
        ladder="""
            0      A INVITE
            50     B 302 contact=4930999@10.0.2.1 contact=4930888@10.0.2.1
            100    B 407
            150    A INVITE again
            200    B 404
            250    B 603
        """,
        policy={"redirect": Redirection.FOLLOW},
        cdr="callee/rejected 603 21 rejected 0 message/observed",
        wire=f"{ROUTED}, route 2 beta 4930999, fail as received, {ARM}, route 3 beta 4930999, "
        "route 4 beta 4930888, fail as received",
    ),
    Scenario(
        name="callee-redirect-to-blocked-number",
        ladder="""
            0      A INVITE
            50     B 302 contact=0900123@10.0.2.1
        """,
        policy={"redirect": Redirection.FOLLOW, "blocked_numbers": frozenset({"0900*"})},
        cdr="callee/rejected 302 23 rejected 0 message/observed",
        wire=f"{ROUTED}, fail 480",
    ),
    Scenario(
        name="callee-redirect-followed-by-gateway",  # off for the node, on for this gateway
        ladder="""
            0      A INVITE
            50     B 302 contact=4930999@10.0.2.1
            100    B 302 contact=4930888@10.0.2.1
        """,
        policy={"gateways": world.gateways(alpha={"redirect": Redirection.FOLLOW})},
        cdr="callee/rejected 302 23 rejected 0 message/observed",
        wire=f"{ROUTED}, route 2 beta 4930999, fail 480",
    ),
    Scenario(
        name="callee-redirect-after-early-media",
        ladder="""
            0      A INVITE
            20     B 183
            1_000  B 302 early contact=4930999@10.0.2.1
        """,
        policy={"redirect": Redirection.FOLLOW},
        cdr="callee/rejected 302 23 rejected 0 message/observed",
        wire=f"{ROUTED}, fail 480",
    ),
    Scenario(
        name="caller-bye-after-challenge",
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
        name="callee-credentials-rejected",  # ours, not the caller's: it hears 500
        ladder="""
            0      A INVITE
            50     B 407
        """,
        policy={"gateways": world.gateways(alpha={"username": "us"})},
        cdr="callee/rejected 407 21 rejected 0 message/observed",
        wire=f"{ROUTED}, fail 500",
    ),
    Scenario(
        name="caller-bye-after-credentials-rejected",
        ladder="""
            0      A INVITE
            50     B 401
            200    B 200
            220    A ACK
            1_201  A BYE
        """,
        policy={**BOTH, "gateways": world.gateways(alpha={"username": "us"})},
        cdr="caller/bye 200 16 answered 1000 message/observed",
        wire=f"{ROUTED}, route 2 beta, {ARMED}, answer",
        sold="0.001",
    ),
    Scenario(
        name="callee-challenge-then-failover",  # the retry fails over, too
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
        name="callee-challenge-without-retry",
        ladder="""
            0      A INVITE
            50     B 407
        """,
        cdr="callee/rejected 407 21 rejected 0 message/observed",
        wire=f"{ROUTED}, fail as received",
    ),
    Scenario(
        name="callee-challenge-then-crash",
        ladder="""
            0      A INVITE
            50     B 407
            3_000  node crashes
        """,
        cdr="callee/rejected 407 21 rejected 0 message/observed",
        wire=f"{ROUTED}, fail as received",
    ),
)
