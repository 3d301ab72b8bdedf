"""How many calls there may be, at once and per second: of the node, a peer group, an account, a gateway; and
what they occupy.

A call occupies a place from its INVITE to its first cause, on the gateway of its last attempt; a challenged
caller keeps its place. Per second counts what was admitted, and of a gateway the attempts. An emergency call
asks for no place and takes nothing from a bucket; those that are up count as any other.

Where several nodes share a database, the calls at once of an account are counted there, when it admits one
(core/books), and those of a peer group and of a gateway are the node's own and what the others told of theirs
within the last second: together they may be over by what each has admitted since. Of calls per second each
has its share (core/token_buckets). What the node may carry, and the share that rings, is of each alone.
"""

from __future__ import annotations

from sidecar.core.call import Call, Phase
from sidecar.core.policy import Gateway, Given, Load, Peer, Policy
from sidecar.core.terms import Detail
from sidecar.core.token_buckets import NODE

# The limits, as records name them.
CALLS_MAX = "calls_max"
CALLS_PER_S = "calls_per_s"
RINGING_SHARE = "ringing_share_percent"

UP = frozenset({Phase.ADMITTING, Phase.ROUTING, Phase.ANSWERING, Phase.TALKING, Phase.AWAITING_RETRY})
_NO_PEER = Peer(name="", addresses=())
_PEER, _ACCOUNT, _GATEWAY = "peer", "account", "gateway"


def limit_reached(call: Call, given: Given) -> tuple[Detail, str] | None:
    """The limit that keeps one more call from being admitted, and which one it is: the node's first."""
    policy, load, account, peer = given.policy, given.load, call.account, call.invite.peer
    sender = policy.peers.get(peer, _NO_PEER)
    of_peer = load.by_peer.get(peer, 0) + load.by_peer_elsewhere.get(peer, 0)
    for detail, key, calls, calls_max, per_s in (
        (Detail.NODE_FULL, NODE, load.calls, policy.calls_max, policy.calls_per_s),
        (Detail.PEER_LIMIT, (_PEER, peer), of_peer, sender.calls_max, sender.calls_per_s),
        (
            Detail.ACCOUNT_LIMIT,
            (_ACCOUNT, account.name),
            load.by_account.get(account.name, 0),
            account.calls_max,
            account.calls_per_s,
        ),
    ):
        if calls_max is not None and calls >= calls_max:
            return detail, CALLS_MAX
        if _is_over(key, per_s, load, call.invite.mono_ns):
            return detail, CALLS_PER_S
    return (Detail.PEER_LIMIT, RINGING_SHARE) if _rings_too_much(peer, policy, load) else None


def _is_over(key: tuple[str, str], per_s: int | None, load: Load, mono_ns: int) -> bool:
    return per_s is not None and not load.buckets.has(key, per_s, mono_ns)


def _rings_too_much(peer: str, policy: Policy, load: Load) -> bool:
    """Calls that ring cost their sender nothing: one group alone may not fill the node with them, where
    others have sent calls too."""
    ringing_max = -(-policy.calls_max * policy.ringing_share_percent // 100)
    return load.ringing_by_peer.get(peer, 0) >= ringing_max and not load.senders <= {peer}


def has_place(gateway: Gateway, load: Load, mono_ns: int) -> bool:
    calls = load.by_gateway.get(gateway.name, 0) + load.by_gateway_elsewhere.get(gateway.name, 0)
    if gateway.calls_max is not None and calls >= gateway.calls_max:
        return False
    return not _is_over((_GATEWAY, gateway.name), gateway.calls_per_s, load, mono_ns)


# --- what is occupied ---------------------------------------------------------------------------------------


def changed(before: Call | None, call: Call, policy: Policy, load: Load) -> None:
    """Bring the load up to date after a decision."""
    if before is None:
        load.senders.add(call.invite.peer)
    if before is None or _place(before) != _place(call):
        if before is not None:
            occupy(before, load, -1)
        occupy(call, load, +1)
    goes_on = before is None and call.answered is not None  # it began before this start
    if call.phase in UP and not call.is_emergency and not goes_on:
        _take_tokens(before, call, policy, load)


def occupy(call: Call, load: Load, step: int) -> None:
    """`step` -1: what the call has occupied is free."""
    place = _place(call)
    if place is None:
        return
    gateway, is_ringing = place
    load.calls += step
    _count(load.by_account, call.account.name, step)
    _count(load.by_peer, call.invite.peer, step)
    if is_ringing:
        _count(load.ringing_by_peer, call.invite.peer, step)
    if gateway:
        _count(load.by_gateway, gateway, step)


def _count(counts: dict[str, int], name: str, step: int) -> None:
    counts[name] = counts.get(name, 0) + step


def _place(call: Call) -> tuple[str, bool] | None:
    """The gateway, and whether the call is not answered yet; None: it occupies nothing."""
    if call.phase not in UP:
        return None
    return call.attempts[-1].gateway if call.attempts else "", call.phase is not Phase.TALKING


def _take_tokens(before: Call | None, call: Call, policy: Policy, load: Load) -> None:
    attempts = 0 if before is None else len(before.attempts)
    if before is None:
        mono_ns, peer, account = call.invite.mono_ns, call.invite.peer, call.account
        sender = policy.peers.get(peer, _NO_PEER)
        for key, per_s in (
            (NODE, policy.calls_per_s),
            ((_PEER, peer), sender.calls_per_s),
            ((_ACCOUNT, account.name), account.calls_per_s),
        ):
            if per_s is not None:
                load.buckets.take(key, per_s, mono_ns)
    if len(call.attempts) > attempts:
        last = call.attempts[-1]
        gateway = policy.gateways.get(last.gateway)
        if gateway is not None and gateway.calls_per_s is not None:
            load.buckets.take((_GATEWAY, gateway.name), gateway.calls_per_s, last.started.mono_ns)
