"""Calls that this node ends or refuses: time, credit, people, rules, places."""

from __future__ import annotations

from sidecar.core.policy import RecordFlags
from sidecar.core.terms import ServerReason
from tests.scenarios.scenario import ANSWERED, ROUTED, Scenario
from tests.scenarios.world import account, gateways

BOTH = {"routes": ("alpha", "beta")}
PREPAID = {"accounts": account(prepaid=True)}
UNREACHABLE = "release 500 38 gateway_unreachable"

TIMEOUT = (
    Scenario(
        name="server-ring-timeout-alerted",
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
        name="server-max-duration",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
        """,
        cdr="server/timeout/max_duration 408 16 answered 14400000 timer/observed",
        wire=ANSWERED,
        sold="14.4",
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
        name="server-dead-peer-caller",
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
        name="server-dead-peer-callee",  # A lives on, but it has had nobody to talk to since B's last life
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
        name="server-session-timer",
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
        wire=f"{ROUTED}, arm grant_used_up 5000, answer",
        sold="0.005",
        also={"granted_s": 5, "overrun_ms": 0},
    ),
    Scenario(
        name="server-credit-exhausted-bye-late",  # our timer fired 30 ms late: the grant is paid, no more
        ladder="""
            0      node late 30
            0      A INVITE
            2_000  B 200
            2_020  A ACK
        """,
        policy=PREPAID,
        balance="0.003",
        cdr="server/credit/grant_used_up 402 16 answered 3000 timer/observed",
        wire=f"{ROUTED}, arm grant_used_up 3000, answer",
        sold="0.003",
        also={"talk_ms": 3_030, "overrun_ms": 30},
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

POLICY = (
    Scenario(
        name="server-source-not-allowed",
        ladder="""
            0      node refuses source_not_allowed 403
        """,
        cdr="server/policy/source_not_allowed 403 21 refused 0 message/observed",
        wire="",
        also={"account": "_"},
        refused=True,
    ),
    Scenario(
        name="server-number-blocked",
        ladder="""
            0      A INVITE +49900123
        """,
        policy={"blocked_numbers": frozenset({"49900*"})},
        cdr="server/policy/number_blocked 403 21 refused 0 message/observed",
        wire="reject 403 21 number_blocked",
        refused=True,
    ),
    Scenario(
        name="server-no-rate",
        ladder="""
            0      A INVITE 33123456
        """,
        policy=PREPAID,
        balance="1",
        cdr="server/policy/no_rate 403 21 refused 0 message/observed",
        wire="reject 403 21 no_rate",
        refused=True,
    ),
    Scenario(
        name="server-account-required",
        ladder="""
            0      A INVITE
        """,
        policy={"account_rules": (), "account_required": True},
        cdr="server/policy/rule 403 21 refused 0 message/observed",
        wire="reject 403 21 rule",
        also={"account": "_"},
        refused=True,
    ),
    Scenario(
        name="server-rule-in-call",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            5_001  operator rules
        """,
        cdr="server/policy/rule 403 21 answered 3000 message/observed",
        wire=f"{ANSWERED}, release 403 21 rule",
        sold="0.003",
    ),
)

ADMIN = (
    Scenario(
        name="server-operator-release-ringing",
        ladder="""
            0      A INVITE
            20     B 180
            1_000  operator releases stuck call
        """,
        cdr="server/admin/operator 480 31 failed 0 message/observed",
        wire=f"{ROUTED}, release 480 31 operator",
        also={"operator": "jane", "operator_text": "stuck call"},
    ),
    Scenario(
        name="server-operator-release-in-call",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            5_001  operator releases
        """,
        cdr="server/admin/operator 480 31 answered 3000 message/observed",
        wire=f"{ANSWERED}, release 480 31 operator",
        sold="0.003",
        also={"operator": "jane", "operator_text": None},
    ),
    Scenario(
        name="server-operator-release-awaiting-retry",
        ladder="""
            0      A INVITE
            50     B 407
            1_000  operator releases
        """,
        cdr="server/admin/operator 480 31 failed 0 message/observed",
        wire=f"{ROUTED}, fail as received, release 480 31 operator",
    ),
    Scenario(
        name="server-drain",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            5_001  operator drains
        """,
        cdr="server/admin/drain 480 31 answered 3000 message/observed",
        wire=f"{ANSWERED}, release 480 31 drain",
        sold="0.003",
    ),
    Scenario(
        name="server-drain-refused",
        ladder="""
            0      node refuses drain 503
        """,
        cdr="server/admin/drain 503 31 refused 0 message/observed",
        wire="",
        also={"account": "acme"},
        refused=True,
    ),
)

RESOURCE = (
    Scenario(
        name="server-node-full",
        ladder="""
            0      A INVITE
        """,
        policy={"calls_max": 100},
        load={"calls": 100},
        cdr="server/resource/node_full 503 42 refused 0 message/observed",
        wire="reject 503 42 node_full retry-after 5",
        refused=True,
    ),
    Scenario(
        name="server-node-full-in-the-bridge",
        ladder="""
            0      node refuses node_full 503
        """,
        cdr="server/resource/node_full 503 42 refused 0 message/observed",
        wire="",
        refused=True,
    ),
    Scenario(
        name="server-account-limit",
        ladder="""
            0      A INVITE
        """,
        policy={"accounts": account(calls_max=2)},
        load={"calls": 2, "by_account": {"acme": 2}},
        cdr="server/resource/account_limit 480 34 refused 0 message/observed",
        wire="reject 480 34 account_limit",
        refused=True,
    ),
    Scenario(
        name="server-gateway-limit",
        ladder="""
            0      A INVITE
        """,
        policy={"gateways": gateways({"calls_max": 3})},
        load={"calls": 3, "by_gateway": {"alpha": 3}},
        cdr="server/resource/gateway_limit 500 34 refused 0 message/observed",
        wire="reject 500 34 gateway_limit",
        refused=True,
    ),
    Scenario(
        name="server-no-route",
        ladder="""
            0      A INVITE
        """,
        policy={"routes": ()},
        cdr="server/resource/no_route 500 3 refused 0 message/observed",
        wire="reject 500 3 no_route",
        refused=True,
    ),
    Scenario(
        name="server-gateway-unreachable",
        ladder="""
            0      A INVITE
            10     B unreachable
        """,
        cdr="server/resource/gateway_unreachable 500 38 failed 0 timer/observed",
        wire=f"{ROUTED}, {UNREACHABLE}",
    ),
    Scenario(
        name="server-gateway-unreachable-after-failover",
        ladder="""
            0      A INVITE
            5_000  B unreachable
        """,
        policy=BOTH,
        cdr="server/resource/gateway_unreachable 500 38 failed 0 timer/observed",
        wire=f"{ROUTED}, route 2 beta, {UNREACHABLE}",
        also={"gateway": "beta"},
    ),
)

# What the flags keep back. The wire is the same: flags are about records and money alone.
SUPPRESSED = (
    Scenario(
        name="server-max-duration-suppressed",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
        """,
        policy={"flags": RecordFlags(record_server_hang_up=False)},
        cdr="server/timeout/max_duration 408 16 answered 14400000 timer/observed",
        wire=ANSWERED,
        sold="-",
        also={"suppressed_by": "SERVER_BILLING_RECORD_SERVER_HANG_UP", "seq": None},
    ),
    Scenario(
        name="server-credit-exhausted-suppressed-by-reason",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
        """,
        policy={
            "accounts": account(prepaid=True),
            "flags": RecordFlags(record_server_hang_up_by_reason={ServerReason.CREDIT: False}),
        },
        balance="0.005",
        cdr="server/credit/grant_used_up 402 16 answered 5000 timer/observed",
        wire=f"{ROUTED}, arm grant_used_up 5000, answer",
        sold="-",
        also={"suppressed_by": "SERVER_BILLING_RECORD_SERVER_HANG_UP (credit)"},
    ),
    Scenario(
        name="server-operator-release-recorded-by-gateway",  # the flag says no, the gateway's own setting yes
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            5_001  operator releases
        """,
        policy={
            "flags": RecordFlags(record_server_hang_up=False),
            "gateways": gateways({"record_server_hang_up": True}),
        },
        cdr="server/admin/operator 480 31 answered 3000 message/observed",
        wire=f"{ANSWERED}, release 480 31 operator",
        sold="0.003",
    ),
    Scenario(
        name="caller-cancels-suppressed",
        ladder="""
            0      A INVITE
            20     B 180
            3_000  A CANCEL
        """,
        policy={"flags": RecordFlags(record_zero_hold_time=False)},
        cdr="caller/cancel 487 16 cancelled 0 message/observed",
        wire=ROUTED,
        sold="-",
        also={"suppressed_by": "SERVER_BILLING_RECORD_ZERO_HOLD_TIME"},
    ),
    Scenario(
        name="server-number-blocked-suppressed",  # a server rejection passes the zero-duration flag as well
        ladder="""
            0      A INVITE 49900123
        """,
        policy={
            "blocked_numbers": frozenset({"49900*"}),
            "flags": RecordFlags(record_zero_hold_time=False),
        },
        cdr="server/policy/number_blocked 403 21 refused 0 message/observed",
        wire="reject 403 21 number_blocked",
        sold="-",
        also={"suppressed_by": "SERVER_BILLING_RECORD_ZERO_HOLD_TIME"},
        refused=True,
    ),
    Scenario(
        name="caller-hangs-up-no-cdr-number",  # charged as usual, not published
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            5_001  A BYE
        """,
        policy={"flags": RecordFlags(no_cdr_numbers=frozenset({"4930*"}))},
        cdr="caller/bye 200 16 answered 3000 message/observed",
        wire=ANSWERED,
        sold="0.003",
        also={"recorded": False, "suppressed_by": "SERVER_BILLING_NO_CDR_E164S"},
    ),
    Scenario(
        name="caller-hangs-up-free-number",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            5_001  A BYE
        """,
        policy={"flags": RecordFlags(free_numbers=frozenset({"4930*"}))},
        cdr="caller/bye 200 16 answered 3000 message/observed",
        wire=ANSWERED,
    ),
    Scenario(
        name="caller-hangs-up-unrated",  # a postpaid call without a rate is carried; its amounts are null
        ladder="""
            0      A INVITE 33123456
            2_000  B 200
            2_020  A ACK
            5_001  A BYE
        """,
        cdr="caller/bye 200 16 answered 3000 message/observed",
        wire=ANSWERED,
    ),
)
