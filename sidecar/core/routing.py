"""Where a call may go, in which order: the groups of its route, the draw within a group, and who is free.

Chance is an argument: the hash in the call's id (its last 62 bits, see `identity`) as a number. Of a group
whose weights sum to w, the gateway drawn is the one that holds point `number mod w` when the weights are laid
end to end in the order of the profile; `number div w` draws the next one from those that are left, until none
is, and goes on to the next group. So a record explains itself, and the same call is always routed in the same
way.

Who is drawn second is what would have been drawn first without the first (Luce's choice axiom): passing over
a gateway that is full or down leaves the proportions of the others as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from sidecar.core.capacity import has_place
from sidecar.core.identity import HASH_BITS
from sidecar.core.numbers import BilledNumber
from sidecar.core.policy import Gateway, Given, Load, Policy, RouteRule, Share, Targets
from sidecar.core.servers import Server, ServerAt, draw_of, in_order


def route_of(number: BilledNumber, call_id: UUID, policy: Policy, urn: str = "") -> tuple[str, ...]:
    """The gateways of the longest route prefix of the number as dialled, or of the URN in its place, in the
    order that this call tries them; none where no route matches."""
    rule = route_rule(number, policy, urn)
    return () if rule is None else tuple(_in_order(rule.gateways, call_id.int & HASH_BITS))


def route_rule(number: BilledNumber, policy: Policy, urn: str = "") -> RouteRule | None:
    return policy.routes.match_urn(urn) if urn else policy.routes.match(number.normalised)


def _in_order(gateways: Targets, chance: int) -> Iterator[str]:
    for gateway in gateways:
        if isinstance(gateway, str):
            yield gateway
            continue
        left = list(gateway)  # a group
        while left:
            chance, point = divmod(chance, sum(share.weight for share in left))
            drawn = _at(left, point)
            left.remove(drawn)
            yield drawn.gateway


def _at(shares: list[Share], point: int) -> Share:
    for share in shares:
        if point < share.weight:
            return share
        point -= share.weight
    raise AssertionError("a point beyond the sum of the weights")


def free_gateways(
    names: tuple[str, ...], given: Given, mono_ns: int, *, even_full: bool = False
) -> tuple[str, ...]:
    """Those of `names` that may take one more call now: in their order, but those that are down last. They
    are tried all the same, because a probe may be wrong and the call would be lost. A name that no server is
    known of is nowhere."""

    def is_free(gateway: Gateway) -> bool:
        is_somewhere = gateway.lookup is None or bool(given.load.servers.get(gateway.name))
        return is_somewhere and (even_full or has_place(gateway, given.load, mono_ns))

    free = (name for name in names if is_free(given.policy.gateways[name]))
    return tuple(sorted(free, key=given.load.gateways_down.__contains__))


def servers_of(gateway: Gateway, call_id: UUID, load: Load) -> list[Server]:
    """Of a gateway whose host is a name, in the order in which this call tries them: those that are down
    last."""
    servers = in_order(load.servers.get(gateway.name, ()), draw_of(call_id.bytes, gateway.name))
    return sorted(servers, key=lambda server: (gateway.name, server.at) in load.servers_down)


def next_server(gateway: Gateway, call_id: UUID, tried: frozenset[ServerAt], load: Load) -> Server | None:
    """The first that this call has not tried yet; None where there is none."""
    if gateway.lookup is None:
        return None
    return next((server for server in servers_of(gateway, call_id, load) if server.at not in tried), None)
