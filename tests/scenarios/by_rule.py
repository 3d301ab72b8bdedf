"""Calls that a rule, a person or a missing place ends or refuses."""

from __future__ import annotations

from decimal import Decimal

from sidecar.core.tariff import Deck, Rate
from tests.scenarios.scenario import ANSWERED, ROUTED, Scenario
from tests.scenarios.world import account, deck, gateways

BOTH = {"routes": ("alpha", "beta")}
PREPAID = {"accounts": account(prepaid=True)}
BLOCKED = Rate(prefix="49900", currency="EUR", blocked=True)
PARTLY_BLOCKED = Deck("sell-2", [*deck("sell-1", Decimal("0.06")), BLOCKED])
UNREACHABLE = "release 500 38 gateway_unreachable"

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
        also={"rule": "blocked_numbers 49900*"},
        refused=True,
    ),
    Scenario(
        name="server-destination-blocked",
        ladder="""
            0      A INVITE 49900123
        """,
        policy={"decks": {"sell": PARTLY_BLOCKED, "buy": deck("buy-1", Decimal("0.03"))}},
        cdr="server/policy/destination_blocked 403 21 refused 0 message/observed",
        wire="reject 403 21 destination_blocked",
        refused=True,
    ),
    Scenario(
        name="server-account-disabled",
        ladder="""
            0      A INVITE
        """,
        policy={"accounts": account(disabled_by_command=True)},
        cdr="server/policy/account_disabled 403 21 refused 0 message/observed",
        wire="reject 403 21 account_disabled",
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
        name="server-margin-floor",
        ladder="""
            0      A INVITE
        """,
        policy={"margin_floor": Decimal("0.6")},
        cdr="server/policy/rule 403 21 refused 0 message/observed",
        wire="reject 403 21 rule",
        also={"rule": "margin_floor", "margin": None},
        refused=True,
    ),
    Scenario(
        name="server-rule-in-call",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            5_001  node rules rule calls_per_minute
        """,
        cdr="server/policy/rule 403 21 answered 3000 message/observed",
        wire=f"{ANSWERED}, release 403 21 rule",
        sold="0.003",
        also={"rule": "calls_per_minute", "operator": None},
    ),
)

ADMIN = (
    Scenario(
        name="server-operator-release-while-ringing",
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
        name="server-operator-release-while-awaiting-retry",
        ladder="""
            0      A INVITE
            50     B 407
            1_000  operator releases
        """,
        cdr="server/admin/operator 480 31 failed 0 message/observed",
        wire=f"{ROUTED}, fail as received, release 480 31 operator",
    ),
    Scenario(
        name="server-drain-in-call",
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
        name="server-node-full-in-bridge",
        ladder="""
            0      node refuses node_full 503
        """,
        cdr="server/resource/node_full 503 42 refused 0 message/observed",
        wire="",
        refused=True,
    ),
    Scenario(
        name="server-peer-limit",
        ladder="""
            0      A INVITE
        """,
        policy={"calls_max": 10},
        load={"calls": 8, "ringing_by_peer": {"carrier": 8}, "senders": {"vendor"}},
        cdr="server/resource/peer_limit 480 34 refused 0 message/observed",
        wire="reject 480 34 peer_limit",
        also={"rule": "ringing_share_percent"},
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
