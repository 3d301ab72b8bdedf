"""From an INVITE to a call: whose it is, what it will cost, where it may go, or why it is refused.

The order is the order of the questions: known account, allowed number, free place, route, price, fraud. The
first "no" is the record's reason. Nothing is admitted here: that is the store's word (event Admitted).
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from msgspec.structs import replace

from sidecar.core.account_rules import AccountRule
from sidecar.core.account_terms import AccountKind
from sidecar.core.call import Attempt, Call, Phase, Pricing, pricing_of, stamp_of
from sidecar.core.caller_id import ANONYMOUS, Presentation, calling_number, present, still_signed
from sidecar.core.callers import RatedCaller, rated_caller
from sidecar.core.capacity import has_place, limit_reached
from sidecar.core.commands import Append, Command, EntryKind, NoteRefusal, Reject, Reserve, Route
from sidecar.core.deadlines import max_duration_ms, slice_until
from sidecar.core.dialog import Signal, after
from sidecar.core.events import Event, InviteReceived, InviteRefused, LegIdentity
from sidecar.core.hangup import SERVER, hangup
from sidecar.core.identity import leg_b_names
from sidecar.core.margin import ExchangeRate, margin, reaches_floor
from sidecar.core.numbers import URN, BilledNumber, StripPlan, billed_number, matches_list
from sidecar.core.policy import NO_ACCOUNT, Account, Gateway, Given, Policy
from sidecar.core.rating import RatingTerms, charge, free_seconds
from sidecar.core.records import cdr_of, utc
from sidecar.core.routing import free_gateways, next_server, route_of
from sidecar.core.screening import caller_rule, hours_rule, price_rule
from sidecar.core.servers import Server, ServerAt
from sidecar.core.terms import (
    Detail,
    DialogState,
    Evidence,
    Forks,
    LargeUdp,
    LivenessCheck,
    Money,
    TransportName,
)
from sidecar.core.uri_parameters import passing
from sidecar.core.urns import is_emergency, urn_of

Decision = tuple[Call, tuple[Command, ...]]

# The rules that refuse, as records name them.
ACCOUNT_REQUIRED = "account_required"
MARGIN_FLOOR = "margin_floor"
ON_NO_RATE = "on_no_rate"
FLOOR_S = 60  # a margin is expected of the first minute that is charged

# RFC 3261 §21.5.4: only a node that can serve nobody answers 503 and asks for a pause.
_SERVES_NOBODY = frozenset({Detail.NODE_FULL, Detail.DRAIN, Detail.JOURNAL})


def open_call(call_id: UUID, invite: InviteReceived, given: Given) -> Decision:
    """The call that an INVITE begins, and the first step: reserve and admit, or reject and note."""
    policy = given.policy
    name = account_of(invite, policy)
    account = policy.account_terms(name or NO_ACCOUNT)
    at = utc(invite.wall_ns)
    caller = rated_caller(invite, policy.peers.get(invite.peer))
    pricing = pricing_for(invite, account, policy, caller)
    emergency = is_emergency_call(invite, policy)
    routed = route_of(pricing.number, call_id, policy, urn_of(invite.request_uri))
    gateways = tuple(
        name
        for name in routed
        if may_carry(policy.gateways[name], invite, given)
        and (emergency or not buys_blocked(invite.request_user, policy.gateways[name], policy, at, caller))
    )
    call = Call(
        call_id=call_id,
        boot_id=policy.boot_id,
        settings_revision=policy.settings_revision,
        bridge_id=invite.bridge_id,
        phase=Phase.ADMITTING,
        invite=invite,
        account=account,
        pricing=pricing,
        caller=caller,
        emergency=emergency,
        gateways=gateways,
    )
    free = free_gateways(gateways, given, invite.mono_ns, even_full=call.is_emergency)
    refusal = _refusal(call, name is not None, bool(free), given)
    if refusal is not None:
        detail, rule = refusal
        return refuse(call, detail, policy, invite, rule)
    free = above_margin_floor(free, call, policy, invite)
    if not free:
        return refuse(call, Detail.RULE, policy, invite, MARGIN_FLOOR)
    if given.fraud is not None and (rule := given.fraud.refusal(call)) is not None:
        return refuse(call, Detail.RULE, policy, invite, rule)
    call = begin_attempt(call, free, invite, policy, server=server_for(free[0], call, given))
    admit = Append(kind=EntryKind.ADMITTED, call=call)
    if pricing.rate is not None and _reserves(account, pricing):
        return call, (
            Reserve(
                call_id=call_id,
                account=account.name,
                rate=pricing.rate,
                terms=pricing.terms,
                total_s=slice_until(0, policy, max_duration_ms(call, policy)),
            ),
            admit,
        )
    return call, (admit,)


def refused_by_bridge(call_id: UUID, event: InviteRefused, given: Given) -> Decision:
    """The record of an INVITE that the bridge refused by itself: a full node, a drain, a source that is not
    listed."""
    policy = given.policy
    invite = event.invite
    name = None if event.detail is Detail.SOURCE_NOT_ALLOWED else account_of(invite, policy)
    account = policy.account_terms(name or NO_ACCOUNT)
    number = _number(invite, account, policy)
    call = Call(
        call_id=call_id,
        boot_id=policy.boot_id,
        settings_revision=policy.settings_revision,
        bridge_id=invite.bridge_id,
        phase=Phase.ENDED,
        invite=invite,
        account=account,
        pricing=Pricing(number=number, terms=policy.rating),
        caller=rated_caller(invite, policy.peers.get(invite.peer)),
        emergency=event.detail is not Detail.SOURCE_NOT_ALLOWED and is_emergency_call(invite, policy),
        gateways=(),
        state_a=DialogState.TERMINATED,
        hangup=hangup(SERVER, event.detail, Evidence.MESSAGE, sip_code=event.sip_code, refused=True),
        ended=stamp_of(event),
    )
    return call, (NoteRefusal(cdr=cdr_of(call, policy)),)


def refuse(call: Call, detail: Detail, policy: Policy, event: Event, rule: str | None = None) -> Decision:
    """Refuse a call that was not admitted: the reply first, its record after it."""
    nobody = detail in _SERVES_NOBODY
    cause = hangup(SERVER, detail, Evidence.MESSAGE, sip_code=503 if nobody else 0, refused=True, rule=rule)
    ended = replace(
        call,
        phase=Phase.ENDED,
        attempts=(),
        state_b=DialogState.TERMINATED,
        hangup=cause,
        ended=stamp_of(event),
    )
    reject = Reject(
        bridge_id=call.bridge_id,
        sip_code=cause.sip_code,
        q850_cause=cause.q850_cause,
        text=detail.value,
        retry_after_s=policy.timers.retry_after_s if nobody else 0,
    )
    return ended, (reject, NoteRefusal(cdr=cdr_of(ended, policy)))


def _refusal(call: Call, known: bool, gateway_free: bool, given: Given) -> tuple[Detail, str | None] | None:
    """Why the call is refused, and by which rule."""
    policy, load = given.policy, given.load
    if load.is_draining:  # it was on its way when the bridge was told to refuse
        return Detail.DRAIN, None
    if call.is_emergency:
        return None if call.gateways else (Detail.NO_ROUTE, None)
    if not known and policy.account_required:
        return Detail.RULE, ACCOUNT_REQUIRED
    if not call.account.is_open_at(call.invite.wall_ns):
        return Detail.ACCOUNT_DISABLED, None
    if (forbidden := _forbidden(call, policy)) is not None:
        return forbidden
    if (reached := limit_reached(call, given)) is not None:
        return reached
    if not call.gateways:
        return Detail.NO_ROUTE, None
    if not gateway_free:
        return _nowhere_free(call, given), None
    if (too_dear := _by_price(call, policy)) is not None:
        return too_dear
    is_suspended = call.account.prepaid and call.account.name in load.suspended_accounts
    if is_suspended and _reserves(call.account, call.pricing):
        return Detail.LEDGER_UNREACHABLE, None
    return None


def _forbidden(call: Call, policy: Policy) -> tuple[Detail, str | None] | None:
    """By the rules about who may call what, and when."""
    invite, name = call.invite, call.account.name
    if rule := policy.number_rule(call.pricing.number, name, invite.peer):
        return Detail.NUMBER_BLOCKED, rule
    if call.pricing.blocked:
        return Detail.DESTINATION_BLOCKED, None
    screening = policy.screenings.get(name)
    if screening is None:
        return None
    caller = calling_number(invite, trusted=_is_trusted(invite.peer, policy))
    rule = caller_rule(caller, name, screening) or hours_rule(utc(invite.wall_ns), name, screening)
    return None if rule is None else (Detail.RULE, rule)


def _by_price(call: Call, policy: Policy) -> tuple[Detail, str] | None:
    account, rate = call.account, call.pricing.rate
    if call.pricing.free:
        return None
    if rate is None:
        return None if _carries_unrated(account) else (Detail.NO_RATE, ON_NO_RATE)
    screening = policy.screenings.get(account.name)
    rule = None if screening is None else price_rule(rate, account.name, screening)
    return None if rule is None else (Detail.RULE, rule)


def _reserves(account: Account, pricing: Pricing) -> bool:
    return account.is_bounded and pricing.rate is not None and not pricing.free


def _nowhere_free(call: Call, given: Given) -> Detail:
    """A gateway with a place, and no call in it: DNS has not said yet where it is, or that it is nowhere."""
    has_room = any(
        has_place(given.policy.gateways[name], given.load, call.invite.mono_ns) for name in call.gateways
    )
    return Detail.GATEWAY_UNREACHABLE if has_room else Detail.GATEWAY_LIMIT


def is_emergency_call(invite: InviteReceived, policy: Policy) -> bool:
    """By the number exactly as it was dialled, its parameters aside, or by the URN."""
    dialled = invite.request_user.partition(";")[0]
    return dialled in policy.emergency_numbers or is_emergency(invite.request_uri)


def may_be_sent(user: str, call: Call, policy: Policy) -> bool:
    """Whether a number that is not the one dialled (a redirection's) may be called in its place."""
    number = _number(replace(call.invite, request_user=user), call.account, policy)
    if call.is_emergency:
        return user != ""
    return user != "" and policy.number_rule(number, call.account.name, call.invite.peer) is None


def _carries_unrated(account: Account) -> bool:
    return not account.prepaid if account.carry_without_rate is None else account.carry_without_rate


def account_of(invite: InviteReceived, policy: Policy) -> str | None:
    """The account of the first rule that applies; None where nobody claims the call."""
    claim = account_claim(invite, policy)
    return None if claim is None else claim[0]


def account_claim(invite: InviteReceived, policy: Policy) -> tuple[str, AccountRule] | None:
    return policy.account_rules.claim(
        invite,
        asserts_identity=_is_trusted(invite.peer, policy),
        accounts=policy.accounts,
        account_at=lambda: policy.account_addresses.account_of(invite.leg.remote_address),
    )


def pricing_for(
    invite: InviteReceived, account: Account, policy: Policy, caller: RatedCaller | None
) -> Pricing:
    """What the account pays for this call."""
    number = _number(invite, account, policy)
    pricing = sell_pricing(number, account, policy, utc(invite.wall_ns), caller)
    is_free = is_emergency_call(invite, policy) or account.kind is AccountKind.FREE
    return replace(pricing, free=True) if is_free else pricing


def _number(invite: InviteReceived, account: Account, policy: Policy) -> BilledNumber:
    peer = policy.peers.get(invite.peer)
    if urn := urn_of(invite.request_uri):
        return BilledNumber(received=invite.request_user, normalised=urn, billed=None, rule=URN)
    return billed_number(invite.request_user, sell_plan(account, peer.strip_digits if peer else None, policy))


def sell_plan(account: Account, peer_strip: int | None, policy: Policy) -> StripPlan:
    return StripPlan(
        rules=policy.strip_rules,
        account_strip=account.strip_digits,
        peer_strip=peer_strip,
        global_strip=policy.strip_digits,
        rate_by=policy.rate_by,
    )


def sell_pricing(
    number: BilledNumber, account: Account, policy: Policy, at: datetime, caller: RatedCaller | None = None
) -> Pricing:
    terms = side_terms(policy.rating, account)
    pricing = pricing_of(number, terms, policy.decks.get(account.deck or policy.default_deck), at, caller)
    is_free = matches_list(number.billed, policy.flags.free_numbers)
    return replace(pricing, free=True) if is_free else pricing


def buy_pricing(
    user: str, gateway: Gateway, policy: Policy, at: datetime, caller: RatedCaller | None = None
) -> Pricing | None:
    if gateway.deck is None:
        return None
    number = billed_number(user, StripPlan(global_strip=gateway.strip_digits, rate_by=policy.rate_by))
    return pricing_of(number, side_terms(policy.rating, gateway), policy.decks.get(gateway.deck), at, caller)


def buys_blocked(
    user: str, gateway: Gateway, policy: Policy, at: datetime, caller: RatedCaller | None
) -> bool:
    """Whether the gateway's deck blocks the number: it does not carry it, and the route passes it over."""
    deck = policy.decks.get(gateway.deck or "")
    if deck is None or not deck.has_blocked:
        return False
    pricing = buy_pricing(user, gateway, policy, at, caller)
    return pricing is not None and pricing.blocked


def side_terms(base: RatingTerms, party: Account | Gateway) -> RatingTerms:
    """The node's rating terms with the party's own tax and minimum (account for sell, gateway for buy)."""
    if not party.tax_rate and not party.minimum_charge:
        return base
    return replace(base, minimum_charge=party.minimum_charge, tax_rate=party.tax_rate)


def may_carry(gateway: Gateway, invite: InviteReceived, given: Given) -> bool:
    """Whether the gateway's peer knows the dialog that the INVITE wants to replace or join."""
    if invite.claimed_peer is None:
        return True
    peers = {gateway.peer}
    if gateway.lookup is not None:
        peers = {server.peer for server in given.load.servers.get(gateway.name, ())}
    return peers == {invite.claimed_peer}


def above_margin_floor(
    names: tuple[str, ...], call: Call, policy: Policy, event: Event, user: str = ""
) -> tuple[str, ...]:
    """Those of `names` at which the call is expected to reach its margin floor. `user` is the number to send,
    where it is not the one dialled.

    A call that is sold at no known price (a free number, or carried unrated) has no floor, and a gateway
    without a buy rate passes: a missing buy rate never refuses. Where the two prices are in currencies that
    have no exchange rate the margin is unknown, which is not above the floor.
    """
    floor = call.account.margin_floor
    if floor is None or call.pricing.rate is None or call.pricing.free:
        return names
    at = utc(event.wall_ns)
    sold = _first_minute(call.pricing, at)
    passing = []
    for name in names:
        sent = user or call.invite.request_user
        buy = buy_pricing(sent, policy.gateways[name], policy, at, call.caller)
        bought = None if buy is None else _first_minute(buy, at)
        if (
            sold is None
            or bought is None
            or reaches_floor(margin(sold, bought, at, policy.exchange), sold, floor)
        ):
            passing.append(name)
    return tuple(passing)


def _first_minute(pricing: Pricing, at: datetime) -> Money | None:
    if pricing.rate is None:
        return None
    rate, terms = pricing.rate, pricing.terms
    cost = charge(rate, max(FLOOR_S + free_seconds(rate, terms), rate.grace_s + 1), terms, at)
    return Money(cost.net, cost.currency)


def server_for(name: str, call: Call, given: Given, user: str = "") -> Server | None:
    """Where the call goes at a gateway whose host is a name: to the first server that it has not been at with
    this number, else to the first of all."""
    gateway = given.policy.gateways[name]
    if gateway.lookup is None:
        return None
    tried = servers_tried(call, name, user or call.invite.request_user)
    return next_server(gateway, call.call_id, tried, given.load) or next_server(
        gateway, call.call_id, frozenset(), given.load
    )


def servers_tried(call: Call, name: str, user: str) -> frozenset[ServerAt]:
    return frozenset(
        attempt.server.at
        for attempt in call.attempts
        if attempt.server is not None and (attempt.gateway, attempt.sent_user) == (name, user)
    )


def begin_attempt(
    call: Call,
    free: tuple[str, ...],
    event: Event,
    policy: Policy,
    user: str = "",
    server: Server | None = None,
) -> Call:
    """The call with its next attempt, on the first of `free`; what is left of them may be tried later. `user`
    is the number to send, where it is not the one dialled; `server` the one of a gateway whose host is a
    name.

    Leg B's names are known before its INVITE leaves, so that the journal entry can hold them.
    """
    gateway = policy.gateways[free[0]].at(server)
    number = len(call.attempts) + 1
    invite = call.invite
    user = user or invite.request_user
    host = f"[{gateway.host}]" if ":" in gateway.host else gateway.host
    target = f"sip:{user}@{gateway.authority}{_uri_parameters(invite, user, gateway)}"
    if gateway.transport.value != "udp":
        target += f";transport={gateway.transport}"
    target = _sent_urn(invite, user) or target
    sip_call_id, local_tag, branch = leg_b_names(invite.b_token, number)
    leg = LegIdentity(
        sip_call_id=sip_call_id,
        local_tag=local_tag,
        local_uri=invite.leg.remote_uri,
        remote_uri=target,
        remote_target=target,
        branch=branch,
        local_address=invite.leg.local_address,
        remote_address=f"{host}:{gateway.port}",
        transport=gateway.transport,
    )
    buy = buy_pricing(user, gateway, policy, utc(event.wall_ns), call.caller)
    attempt = Attempt(
        number=number,
        gateway=gateway.name,
        server=server,
        target=target,
        sent_user=user,
        sent_caller=_sent_caller(presentation(invite, gateway, policy)),
        leg=leg,
        buy=buy,
        exchange=_exchange(call, buy, policy),
        started=stamp_of(event),
    )
    return replace(
        call,
        attempts=(*call.attempts, attempt),
        gateways=free[1:],
        state_b=after(call.state_b, Signal.INVITE),
    )


def presentation(invite: InviteReceived, gateway: Gateway, policy: Policy) -> Presentation:
    """What this gateway is told of the caller."""
    return present(
        invite,
        gateway,
        trusted=_is_trusted(invite.peer, policy),
        gateway_trusted=_is_trusted(gateway.peer, policy),
    )


def _is_trusted(group: str, policy: Policy) -> bool:
    peer = policy.peers.get(group)
    return peer is not None and peer.asserts_identity


def _uri_parameters(invite: InviteReceived, user: str, gateway: Gateway) -> str:
    """Of the Request-URI: those received are of the number that was dialled, and of no other."""
    received = invite.request_uri if user == invite.request_user else ""
    return passing(received, user, gateway.user_phone)


def _sent_urn(invite: InviteReceived, user: str) -> str:
    """The Request-URI of leg B where it is a URN: as received (RFC 5031). A redirection may send a number."""
    return invite.request_uri if user == invite.request_user and urn_of(invite.request_uri) else ""


def _sent_caller(shown: Presentation) -> str:
    return ANONYMOUS if shown.anonymous else shown.user


def _exchange(call: Call, buy: Pricing | None, policy: Policy) -> ExchangeRate | None:
    """The rate that held at the INVITE, by the table that is in force as the attempt begins."""
    if buy is None or buy.rate is None:
        return None
    sold_in = call.pricing.rate.currency if call.pricing.rate else call.account.currency
    if sold_in == buy.rate.currency:
        return None
    return policy.exchange.rate(buy.rate.currency, sold_in, utc(call.invite.wall_ns))


def route_command(call: Call, policy: Policy) -> Route:
    """The command that sends the last attempt's INVITE."""
    attempt = call.attempts[-1]
    gateway = policy.gateways[attempt.gateway].at(attempt.server)
    invite, user = call.invite, attempt.sent_user
    shown = presentation(invite, gateway, policy)
    from_user = shown.user or invite.from_user
    return Route(
        bridge_id=call.bridge_id,
        attempt=attempt.number,
        gateway=gateway.name,
        host=gateway.host,
        port=gateway.port,
        transport=gateway.transport,
        authority="" if gateway.lookup is None else gateway.authority,
        user=user,
        urn=_sent_urn(invite, user),
        uri_parameters=_uri_parameters(invite, user, gateway),
        to_parameters=passing(invite.leg.local_uri, user, gateway.user_phone),
        from_parameters=""
        if shown.anonymous
        else passing(invite.leg.remote_uri, from_user, gateway.user_phone),
        no_response_ms=gateway.no_response_failover_ms,
        # The last gateway may take its time: to give it up would end a call that may still ring.
        no_progress_ms=(gateway.no_progress_failover_ms or 0) if call.gateways or call.redirects else 0,
        from_user=shown.user,
        anonymous=shown.anonymous,
        add_headers=shown.add,
        withheld_headers=shown.withhold,
        liveness=_liveness(gateway, policy),
        large_by_udp=gateway.transport is TransportName.UDP and gateway.large_udp is LargeUdp.UDP,
        single_branch=any(
            (peer := policy.peers.get(name)) is not None and peer.forks is Forks.SINGLE
            for name in (call.invite.peer, gateway.peer)
        ),
        keep_identity=still_signed(invite, user, shown),
    )


def _liveness(gateway: Gateway, policy: Policy) -> LivenessCheck:
    if gateway.liveness is not None:
        return gateway.liveness
    peer = policy.peers.get(gateway.peer)
    return LivenessCheck.ANY if peer is None else peer.liveness
