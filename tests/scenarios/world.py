"""What the scenarios start from: one node, two gateways, one price, and the events that happen there."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from sidecar.core.account_rules import AccountRule
from sidecar.core.account_terms import AccountKind
from sidecar.core.events import InviteReceived, LegIdentity
from sidecar.core.identity import call_id_of
from sidecar.core.policy import (
    Account,
    Gateway,
    Peer,
    Policy,
    ProxyHangup,
    RecordFlags,
    RouteRule,
    Share,
)
from sidecar.core.tariff import Deck, Rate, per_minute_steps
from sidecar.core.terms import Detail, TransportName
from tests.policies import declared_gateway, declared_policy

START_WALL_NS = 1_772_366_400_000_000_000  # 2026-03-01T12:00:00Z
START_MONO_NS = 5_000_000_000_000
ANSWER_HOLD_MS_MAX = 2_000  # the bridge's `timers.answer_hold_ms_max`

PRICE_PER_MINUTE = Decimal("0.06")  # sold by the second: 0.001 a second
COST_PER_MINUTE = Decimal("0.03")  # bought from alpha

PEERS = {
    "carrier": Peer(
        name="carrier",
        addresses=("10.0.0.1",),
        proxy_hangups=(
            ProxyHangup(header="reason", contains="dialog timeout", detail=Detail.SESSION_TIMER),
            ProxyHangup(header="x-ended-by", contains="credit", detail=Detail.NO_CREDIT),
            ProxyHangup(header="reason", contains="ring timeout", detail=Detail.RING_TIMEOUT),
        ),
    ),
    "vendor": Peer(
        name="vendor",
        addresses=("10.0.1.1",),
        proxy_hangups=(
            ProxyHangup(header="reason", contains="max call time", detail=Detail.MAX_DURATION),
            ProxyHangup(header="reason", contains="no credit", detail=Detail.NO_CREDIT),
        ),
    ),
}


def deck(
    name: str,
    price_per_minute: Decimal,
    prefixes: tuple[str, ...] = ("49",),
    connect_fee: Decimal = Decimal(0),
) -> Deck:
    """One price by the second for all prefixes."""
    steps = per_minute_steps(price_per_minute, 1, 1)
    rates = [Rate(prefix=prefix, currency="EUR", steps=steps, connect_fee=connect_fee) for prefix in prefixes]
    return Deck(name, rates)


def account(**terms: Any) -> dict[str, Account]:
    """The terms of account `acme`, to which every call of `carrier` belongs."""
    kind = AccountKind.PREPAID if terms.pop("prepaid", False) else AccountKind.POSTPAID
    return {"acme": Account(**{"name": "acme", "currency": "EUR", "kind": kind, **terms})}


def gateways(alpha: Mapping[str, Any] = {}, beta: Mapping[str, Any] = {}) -> dict[str, Gateway]:
    """Gateway alpha, of peer group `vendor` and with a buy deck, and gateway beta, with neither."""
    sold_by_vendor = {"name": "alpha", "host": "10.0.1.1", "port": 5060, "peer": "vendor", "deck": "buy"}
    other = {"name": "beta", "host": "10.0.2.1", "port": 5060}
    return {
        "alpha": declared_gateway(**{**sold_by_vendor, **alpha}),
        "beta": declared_gateway(**{**other, **beta}),
    }


def policy_of(*, routes: tuple[str | tuple[Share, ...], ...] = ("alpha",), **changes: Any) -> Policy:
    values: dict[str, Any] = {
        "tenant": "_",
        "node": "n1",
        "boot_id": "b1",
        "peers": PEERS,
        "gateways": gateways(),
        "routes": (RouteRule(prefix="", gateways=routes),),
        "accounts": account(),
        "account_rules": (AccountRule(account="acme", peer="carrier"),),
        "decks": {"sell": deck("sell-1", PRICE_PER_MINUTE), "buy": deck("buy-1", COST_PER_MINUTE)},
        "default_deck": "sell",
        "flags": RecordFlags(),
        **changes,
    }
    return declared_policy(**values)


def mono_ns(at_ms: int) -> int:
    return START_MONO_NS + at_ms * 1_000_000


def wall_ns(at_ms: int) -> int:
    return START_WALL_NS + at_ms * 1_000_000


def stamps(at_ms: int) -> dict[str, Any]:
    return {"mono_ns": mono_ns(at_ms), "wall_ns": wall_ns(at_ms)}


def call_id(bridge_id: int = 1) -> UUID:
    return call_id_of("_", "n1", "b1", bridge_id, START_WALL_NS // 1_000_000)


def invite(
    at_ms: int = 0, *, bridge_id: int = 1, number: str = "4930123456", peer: str = "carrier"
) -> InviteReceived:
    """The INVITE of a caller behind `carrier`; a higher `bridge_id` is the same caller's next one."""
    leg = LegIdentity(
        sip_call_id="a1@10.0.0.1",
        local_tag=f"ours{bridge_id}",
        remote_tag="theirs",
        local_uri=f"sip:{number}@10.0.0.9",
        remote_uri="sip:49301112222@10.0.0.1",
        remote_target="sip:49301112222@10.0.0.1:5060",
        remote_cseq=bridge_id,
        branch=f"z9hG4bKa{bridge_id}",
        local_address="10.0.0.9:5080",
        remote_address="10.0.0.1:5060",
        transport=TransportName.UDP,
    )
    return InviteReceived(
        **stamps(at_ms),
        bridge_id=bridge_id,
        leg=leg,
        peer=peer,
        request_uri=f"sip:{number}@10.0.0.9",
        request_user=number,
        from_user="49301112222",
        b_token="0123456789abcdeffedcba9876543210",
    )
