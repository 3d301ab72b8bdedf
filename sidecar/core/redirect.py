"""Where a 3xx sends a call, as far as we go along (RFC 3261 §8.1.3.4).

Whoever answers an INVITE could have us call anybody on the account's money. So a Contact counts only where it
is one of our gateways, which is then called at its own address, or where DNS has its own name; no number goes
to one gateway twice in a call, which ends every loop; and a call uses a few Contacts and no more. What is
sold is the number that was dialled, wherever the call goes; what is bought is the number that was sent.
"""

from __future__ import annotations

from ipaddress import ip_address

from msgspec.structs import replace

from sidecar.core.admit import buys_blocked, may_be_sent, may_carry
from sidecar.core.call import Call, Redirect
from sidecar.core.events import Contact, RouteFailed
from sidecar.core.policy import Gateway, Given, Policy
from sidecar.core.records import utc
from sidecar.core.servers import ServerAt
from sidecar.core.terms import Redirection, RouteFailure

REDIRECTS_MAX = 5  # Contacts used in one call


def redirection(call: Call, policy: Policy) -> Redirection:
    """What is done with a 3xx of the last attempt: as its gateway's setting says, else as the node's."""
    gateway = policy.gateways.get(call.attempts[-1].gateway)
    return policy.redirect if gateway is None or gateway.redirect is None else gateway.redirect


def use_contacts(call: Call, event: RouteFailed, given: Given) -> Call:
    """The call with the Contacts that the failure names and we follow, the highest q first, before those that
    it still had."""
    policy = given.policy
    redirected = event.cause is RouteFailure.FINAL_RESPONSE and 300 <= event.sip_code <= 399
    if not redirected or redirection(call, policy) is not Redirection.FOLLOW:
        return call
    known = {(attempt.gateway, attempt.sent_user) for attempt in call.attempts}
    known |= {(redirect.gateway, redirect.user) for redirect in call.redirects}
    found: dict[tuple[str, str], Redirect] = {}
    for contact in sorted(event.contacts, key=lambda contact: -contact.q_thousandths):
        name = _gateway_at(contact, call, given)
        if name is None or (name, contact.user) in known or not may_be_sent(contact.user, call, policy):
            continue
        if not buys_blocked(contact.user, policy.gateways[name], policy, utc(event.wall_ns), call.caller):
            found.setdefault((name, contact.user), Redirect(gateway=name, user=contact.user))
    new = tuple(found.values())[: REDIRECTS_MAX - call.redirects_taken]
    return replace(call, redirects=(*new, *call.redirects), redirects_taken=call.redirects_taken + len(new))


def _gateway_at(contact: Contact, call: Call, given: Given) -> str | None:
    """The first gateway at the address; a port or transport that the Contact does not name may be any."""
    return next(
        (
            name
            for name, gateway in given.policy.gateways.items()
            if _is_at(contact, gateway, given) and may_carry(gateway, call.invite, given)
        ),
        None,
    )


def _is_at(contact: Contact, gateway: Gateway, given: Given) -> bool:
    if gateway.lookup is None:
        return _is_place(contact, (gateway.host, gateway.port, gateway.transport))
    wanted = gateway.lookup
    if contact.host.lower().removesuffix(".") == wanted.name:
        same_port = contact.port in (0, wanted.port) if wanted.port is not None else contact.port == 0
        return same_port and contact.transport.lower() in ("", wanted.transport or contact.transport.lower())
    return any(_is_place(contact, server.at) for server in given.load.servers.get(gateway.name, ()))


def _is_place(contact: Contact, place: ServerAt) -> bool:
    host, port, transport = place
    try:
        same_host = ip_address(contact.host) == ip_address(host)
    except ValueError:  # a name that is no gateway's: nobody vouches for where it leads
        return False
    return same_host and contact.port in (0, port) and contact.transport.lower() in ("", transport.value)
