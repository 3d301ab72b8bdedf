"""What would come of a call that nobody makes: an INVITE put to `admit.open_call`, which decides about real
ones, and the prices that the call it opens has taken with it.

Nothing is admitted, reserved or counted. What a balance allows is the store's word, so it is not known here.
"""

from __future__ import annotations

from ipaddress import ip_network
from uuid import UUID

import msgspec

from sidecar.core.account_rules import AccountRule
from sidecar.core.admit import account_claim, buy_pricing, open_call, pricing_for
from sidecar.core.callers import rated_caller
from sidecar.core.cdr import ChargeRecord
from sidecar.core.commands import NoteRefusal, Reserve
from sidecar.core.events import InviteReceived, LegIdentity
from sidecar.core.policy import Account, Given, Policy, RouteRule
from sidecar.core.records import charge_line, utc
from sidecar.core.routing import route_of, route_rule
from sidecar.core.terms import ChargeSide, Detail, TransportName
from sidecar.core.urns import urn_of


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """`number` as dialled, or a URN; `talk_ms` is priced. `address`: empty is the first of the peer's."""

    number: str
    peer: str
    talk_ms: int = 60_000
    caller: str = ""  # the user part of From
    address: str = ""
    headers: tuple[tuple[str, str], ...] = ()  # names in lower case
    tls_name: str = ""


class TriedGateway(msgspec.Struct, frozen=True, kw_only=True):
    gateway: str
    is_down: bool  # by its probes or its registration: it is tried after those that are not
    is_passed_over: bool  # not tried: full, nowhere, below the margin floor, or its deck blocks the number
    buy: ChargeRecord | None  # None: it has no deck


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    claimed_by: AccountRule | None  # None: no rule did
    route: RouteRule | None
    gateways: tuple[TriedGateway, ...]  # in the order in which this call would try them
    sell: ChargeRecord
    is_reserved: bool  # a first slice of credit is, if the balance allows it
    detail: Detail | None = None  # why it is refused; None: it is not
    rule: str | None = None
    sip_code: int | None = None


def try_call(wanted: Wanted, call_id: UUID, given: Given, *, mono_ns: int, wall_ns: int) -> Trial:
    """`call_id` draws from groups of gateways. KeyError: there is no such peer."""
    policy = given.policy
    invite = _invite(wanted, policy, mono_ns, wall_ns)
    call, commands = open_call(call_id, invite, given)
    claim = account_claim(invite, policy)
    urn = urn_of(invite.request_uri)
    in_order = (*(attempt.gateway for attempt in call.attempts), *(call.gateways if call.attempts else ()))
    routed = route_of(call.pricing.number, call_id, policy, urn)
    at = utc(wall_ns)
    refused = next((command.cdr for command in commands if isinstance(command, NoteRefusal)), None)

    def tried(name: str) -> TriedGateway:
        buy = buy_pricing(invite.request_user, policy.gateways[name], policy, at, call.caller)
        return TriedGateway(
            gateway=name,
            is_down=name in given.load.gateways_down,
            is_passed_over=refused is None and name not in in_order,
            buy=None if buy is None else charge_line(ChargeSide.BUY, name, buy, wanted.talk_ms, at),
        )

    sell = charge_line(
        ChargeSide.SELL, call.account.name, call.pricing, wanted.talk_ms, at, call.account.currency
    )
    return Trial(
        account=call.account.name,
        claimed_by=None if claim is None else claim[1],
        route=route_rule(call.pricing.number, policy, urn),
        gateways=tuple(map(tried, dict.fromkeys((*in_order, *routed)))),
        sell=sell,
        is_reserved=any(isinstance(command, Reserve) for command in commands),
        detail=None if refused is None else refused.detail,
        rule=None if refused is None else refused.rule,
        sip_code=None if refused is None else refused.sip_code,
    )


def price(wanted: Wanted, account: Account, policy: Policy, *, wall_ns: int) -> ChargeRecord:
    """What this account would pay, whoever the call's is. `wanted.peer` may be empty: nobody's strip."""
    invite = _invite(wanted, policy, 0, wall_ns)
    pricing = pricing_for(invite, account, policy, rated_caller(invite, policy.peers.get(wanted.peer)))
    return charge_line(ChargeSide.SELL, account.name, pricing, wanted.talk_ms, utc(wall_ns), account.currency)


def _invite(wanted: Wanted, policy: Policy, mono_ns: int, wall_ns: int) -> InviteReceived:
    blocks = policy.peers[wanted.peer].addresses if wanted.peer else ()
    address = wanted.address or next((str(ip_network(one, strict=False)[0]) for one in blocks), "192.0.2.1")
    place = f"[{address}]:5060" if ":" in address else f"{address}:5060"
    uri = wanted.number if urn_of(wanted.number) else f"sip:{wanted.number}@sidecar.invalid"
    leg = LegIdentity(
        sip_call_id="trial",
        local_tag="a",
        remote_tag="b",
        local_uri=uri,
        remote_uri=f"sip:{wanted.caller}@{place}",
        local_address="192.0.2.254:5060",
        remote_address=place,
        transport=TransportName.TLS if wanted.tls_name else TransportName.UDP,
    )
    return InviteReceived(
        bridge_id=0,
        mono_ns=mono_ns,
        wall_ns=wall_ns,
        leg=leg,
        peer=wanted.peer,
        request_uri=uri,
        request_user="" if urn_of(wanted.number) else wanted.number,
        from_user=wanted.caller,
        headers=wanted.headers,
        tls_name=wanted.tls_name,
        b_token="0" * 32,
    )
