"""Calls that a limit of time or credit ends."""

from __future__ import annotations

from msgspec.structs import replace

from sidecar.core.cdr import LivenessRecord
from sidecar.core.policy import RecordFlags
from sidecar.core.records import utc
from sidecar.core.tariff import Deck
from sidecar.core.terms import DeadPeerBilling, LegName, MaxDurationOf
from tests.scenarios import world
from tests.scenarios.scenario import ANSWERED, ROUTED, Scenario, armed_for, refused_after
from tests.scenarios.world import COST_PER_MINUTE, PRICE_PER_MINUTE, account, deck, gateways, policy_of

# Asked again 200 ms after a failure, and after 2 s where the grant has ended.
ASKED = [f"arm extend {at_ms}" for at_ms in (60_001, 62_002, 64_003, 66_004, 68_005, 70_006)]
AWAY = ", ".join(ASKED)
BACK = ", ".join([*ASKED[:3], "arm ledger_unreachable 130000", "arm extend 119800"])
BACK_LATE = BACK.replace("130000", "134000").replace("119800", "123800")  # a slice from then on
PREPAID = {"accounts": account(prepaid=True)}
SOLD_FOR_3_S = {
    "sell": Deck("sell-3", [replace(rate, max_duration_s=3) for rate in deck("s", PRICE_PER_MINUTE)]),
    "buy": deck("buy-1", COST_PER_MINUTE),
}

TIMEOUT = (
    Scenario(
        name="server-ring-timeout",
        ladder="""
            0      A INVITE
            20     B 180
            50     B 183
        """,
        cdr="server/timeout/ring_timeout 408 19 no_answer 0 timer/observed",
        wire=f"{ROUTED}, release 408 19 ring_timeout",
        also={"ring_ms": 119_981},
    ),
    Scenario(
        name="server-ring-timeout-not-alerted",
        ladder="""
            0      A INVITE
            20     B 183
        """,
        cdr="server/timeout/ring_timeout 408 18 no_answer 0 timer/observed",
        wire=f"{ROUTED}, release 408 18 ring_timeout",
    ),
    Scenario(
        name="server-ring-timeout-trying",
        ladder="""
            0      A INVITE
            20     B 100
        """,
        cdr="server/timeout/ring_timeout 408 18 no_answer 0 timer/observed",
        wire=f"{ROUTED}, release 408 18 ring_timeout",
    ),
    Scenario(
        name="server-ring-timeout-silent",
        ladder="""
            0      A INVITE
        """,
        policy={"gateways": gateways({"no_response_failover_ms": 200_000})},
        cdr="server/timeout/ring_timeout 408 102 no_answer 0 timer/observed",
        wire=f"{ROUTED}, release 408 102 ring_timeout",
    ),
    Scenario(
        name="server-max-duration-in-call",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
        """,
        cdr="server/timeout/max_duration 408 16 answered 14400000 timer/observed",
        wire=ANSWERED,
        sold="14.4",
        also={"max_duration_of": MaxDurationOf.NODE},
    ),
    *(
        Scenario(
            name=f"server-max-duration-of-{whose}",
            ladder="""
                0      A INVITE
                2_000  B 200
                2_020  A ACK
            """,
            policy=terms,
            cdr="server/timeout/max_duration 408 16 answered 3000 timer/observed",
            wire=ANSWERED.replace("max_duration 14400000", "max_duration 3000"),
            sold="0.003",
            also={"max_duration_of": whose},
        )
        for whose, terms in (
            (MaxDurationOf.ACCOUNT, {"accounts": account(max_duration_s=3)}),
            (MaxDurationOf.GATEWAY, {"gateways": gateways({"max_duration_s": 3}, {"max_duration_s": 2})}),
            (MaxDurationOf.RATE, {"decks": SOLD_FOR_3_S, "accounts": account(max_duration_s=3)}),
        )
    ),
    Scenario(
        name="server-no-ack",
        ladder="""
            0      A INVITE
            0      A deaf
            2_000  B 200
        """,
        cdr="server/timeout/no_ack 408 102 answered 0 timer/observed",
        wire=ANSWERED,
        also={"talk_ms": 32_000},
    ),
    Scenario(
        name="server-no-ack-caller-alive",  # every ACK was lost, yet A answers our BYE: it had our 2xx
        ladder="""
            0      A INVITE
            2_000  B 200
        """,
        cdr="server/timeout/no_ack 408 102 answered 32000 timer/observed",
        wire=ANSWERED,
        sold="0.032",
    ),
    Scenario(
        name="server-no-ack-after-life",
        ladder="""
            0      A INVITE
            0      A deaf
            2_000  B 200
            7_001  A life
        """,
        cdr="server/timeout/no_ack 408 102 answered 5000 timer/observed",
        wire=ANSWERED,
        sold="0.005",
    ),
    Scenario(
        name="server-dead-caller-in-call",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            27_001 A life
            27_001 B life
            30_000 A deaf
            60_000 timer dead_peer
        """,
        cdr="server/timeout/dead_peer 408 102 answered 25000 timer/observed",
        wire=ANSWERED,
        sold="0.025",
    ),
    Scenario(
        name="server-dead-callee-in-call",  # billed to B's last sign of life, not A's
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            27_001 B life
            30_000 B deaf
            52_000 A life
            60_000 timer dead_peer
        """,
        cdr="server/timeout/dead_peer 408 102 answered 25000 timer/observed",
        wire=ANSWERED,
        sold="0.025",
    ),
    Scenario(
        name="server-dead-caller-billed-by-other-side",  # who acknowledges and then ignores all we ask
        ladder="""
            0      A INVITE
            0      A deaf
            2_000  B 200
            2_020  A ACK
            27_001 B life
            52_001 B life
            59_001 timer dead_peer A OPTIONS,INFO ACK 56_981
        """,
        policy={"flags": RecordFlags(dead_peer_billing=DeadPeerBilling.OTHER_SIDE)},
        cdr="server/timeout/dead_peer 408 102 answered 57000 timer/observed",
        wire=ANSWERED,
        sold="0.057",
        also={
            "liveness": LivenessRecord(
                leg=LegName.A,
                asked=("OPTIONS", "INFO"),
                heard="ACK",
                heard_at=utc(world.START_WALL_NS + 2_020_000_000),
            )
        },
    ),
    Scenario(
        name="server-session-timer-in-call",
        ladder="""
            0       A INVITE
            2_000   B 200
            2_020   A ACK
            92_001  A refreshed
            120_000 A life
            182_001 timer session_timer
        """,
        cdr="server/timeout/session_timer 408 102 answered 90000 timer/observed",
        wire=ANSWERED,
        sold="0.09",
    ),
)

CREDIT = (
    Scenario(
        name="server-credit-exhausted-in-call",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
        """,
        policy=PREPAID,
        balance="0.0059",
        cdr="server/credit/grant_used_up 402 16 answered 5000 timer/observed",
        wire=f"{ROUTED}, {armed_for(5)}, answer, {refused_after(5)}",
        sold="0.005",
        also={"granted_s": 5, "overrun_ms": 0},
    ),
    Scenario(
        name="server-credit-exhausted-bye-late",  # our timer fires 30 ms late: billed is the grant
        ladder="""
            0      node late 30
            0      A INVITE
            2_000  B 200
            2_020  A ACK
        """,
        policy=PREPAID,
        balance="0.003",
        cdr="server/credit/grant_used_up 402 16 answered 3000 timer/observed",
        wire=f"{ROUTED}, {armed_for(3)}, answer, {refused_after(3)}",
        sold="0.003",
        also={"talk_ms": 3_030, "overrun_ms": 30},
    ),
    Scenario(
        name="caller-bye-after-grant",  # our timer is late, the caller hangs up first: billed is the grant
        ladder="""
            0      node late 5000
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            6_001  A BYE
        """,
        policy=PREPAID,
        balance="0.003",
        cdr="caller/bye 200 16 answered 3000 message/observed",
        wire=f"{ROUTED}, {armed_for(3)}, answer",
        sold="0.003",
        also={"talk_ms": 4_000, "overrun_ms": 1_000},
    ),
    Scenario(
        name="server-credit-exhausted-in-third-slice",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
        """,
        policy=PREPAID,
        balance="0.1259",
        cdr="server/credit/grant_used_up 402 16 answered 125000 timer/observed",
        wire=f"{ROUTED}, {armed_for(60)}, answer, {armed_for(120)}, {armed_for(125)}, {refused_after(125)}",
        sold="0.125",
        also={"granted_s": 125, "overrun_ms": 0},
    ),
    Scenario(
        name="caller-bye-in-second-slice",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            92_001 A BYE
        """,
        policy=PREPAID,
        balance="1",
        cdr="caller/bye 200 16 answered 90000 message/observed",
        wire=f"{ROUTED}, {armed_for(60)}, answer, {armed_for(120)}",
        sold="0.09",
        also={"granted_s": 120},
    ),
    Scenario(
        name="caller-bye-after-top-up-in-call",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            12_000 account topped_up 0.005
            27_001 account topped_up 1
            52_001 A BYE
        """,
        policy=PREPAID,
        balance="0.03",
        cdr="caller/bye 200 16 answered 50000 message/observed",
        wire=f"{ROUTED}, {armed_for(30)}, answer, {armed_for(90)}",
        sold="0.05",
        also={"granted_s": 90},
    ),
    Scenario(
        name="server-max-duration-prepaid",  # the last slice ends with the longest call
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
        """,
        policy={**PREPAID, "timers": replace(policy_of().timers, max_duration_ms=90_500)},
        balance="1",
        cdr="server/timeout/max_duration 408 16 answered 90500 timer/observed",
        wire=f"{ROUTED}, {armed_for(60)}, answer, arm max_duration 90500",
        sold="0.091",
        also={"granted_s": 91},
    ),
    Scenario(
        name="server-ledger-unreachable-in-call",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            30_000 disk stalls
            62_500 disk works
        """,
        policy=PREPAID,
        balance="1",
        cdr="server/resource/ledger_unreachable 503 42 answered 60000 timer/observed",
        wire=f"{ROUTED}, {armed_for(60)}, answer",
        sold="0.06",
        also={"granted_s": 60},
    ),
    Scenario(
        name="server-ledger-unreachable-for-too-long",  # what is beyond the grant is not billed
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            30_000 disk fails
            75_000 disk works
        """,
        policy={**PREPAID, "store_away_s": 10},
        balance="1",
        cdr="server/resource/ledger_unreachable 503 42 answered 60000 timer/observed",
        wire=f"{ROUTED}, arm ledger_unreachable 70000, arm extend 59800, answer, {AWAY}",
        sold="0.06",
        also={"granted_s": 60, "talk_ms": 70_000, "overrun_ms": 10_000},
    ),
    Scenario(
        name="caller-bye-after-ledger-was-away",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            30_000 disk fails
            65_000 disk works
            82_001 A BYE
        """,
        policy={**PREPAID, "store_away_s": 10},
        balance="1",
        cdr="caller/bye 200 16 answered 80000 message/observed",
        wire=f"{ROUTED}, arm ledger_unreachable 70000, arm extend 59800, answer, {BACK_LATE}",
        sold="0.08",
        also={"granted_s": 124, "overrun_ms": 0},
    ),
    Scenario(
        name="server-no-credit",
        ladder="""
            0      A INVITE
        """,
        policy=PREPAID,
        balance="0.0009",
        cdr="server/credit/no_credit 402 21 refused 0 message/observed",
        wire="reject 402 21 no_credit",
        refused=True,
    ),
)
