"""Keeps watch over the gateways: sends their probes and registrations when they are due, and tells routing
which of them are down. Of one whose host is a name each server that DNS has for it is probed by itself.

What an answer means is said in core/gateway_health and core/registration; here are the clock and the door.
Nothing of it stands in the way of a call: no call waits for it, and a gateway whose watch has a fault is
called as if nobody watched it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence

import msgspec
import structlog
from msgspec.structs import replace

from sidecar.core import gateway_health, registration
from sidecar.core.commands import AskGateway
from sidecar.core.events import Event, RequestEnded
from sidecar.core.gateway_health import Health, Probing, Sign
from sidecar.core.policy import Gateway, Load
from sidecar.core.registration import Registration, RegistrationState
from sidecar.core.servers import Server, ServerAt, draw_of, in_order
from sidecar.core.terms import RouteFailure
from sidecar.ports import Clock, GatewayDoor, GatewayStatus, Meter

TICK_S = 0.25
OPEN_MAX = 500  # requests under way at one time; the others wait for their turn
REGISTER_TIMEOUT_MS = 32_000  # 64*T1
LEAVE_TIMEOUT_MS = 2_000
# The bridge says in time how a request ended. Where it has not said so long after, it will not.
LOST_MS = 5_000

log = structlog.get_logger("sidecar.gateways")


class _Watched:
    """One gateway. Its status is replaced whole: the metrics read it from another thread."""

    def __init__(self, gateway: Gateway, now_ns: int, chance: Callable[[], float], binding: str) -> None:
        self.gateway = gateway
        self.binding = binding  # of its registration: another one where its terms change
        self.probings: dict[ServerAt, Probing] = {}  # of each of its servers; an address is its only one
        if gateway.probe is not None and gateway.lookup is None:
            at = (gateway.host, gateway.port, gateway.transport)
            self.probings[at] = gateway_health.begin(gateway.probe, now_ns, chance())
        self.registration: Registration | None = None
        if gateway.register is not None:
            self.registration = registration.begin(gateway.register, now_ns, chance())
        self.status = GatewayStatus(gateway=gateway.name, is_probed=gateway.probe is not None)
        if self.registration is not None:
            self.status = replace(self.status, registration=self.registration.state)


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request under way."""

    watched: _Watched
    at: ServerAt
    is_register: bool
    lost_ns: int  # monotonic


class Gateways:
    """`gateways` are all of the policy; those that are neither probed nor registered at cost nothing. `load`
    is the one that routing reads. `chance` gives numbers from 0 to below 1."""

    def __init__(
        self,
        *,
        gateways: Mapping[str, Gateway],
        load: Load,
        door: GatewayDoor,
        clock: Clock,
        meter: Meter,
        boot_id: str,
        chance: Callable[[], float],
    ) -> None:
        self._load = load
        self._door = door
        self._clock = clock
        self._meter = meter
        self._boot_id = boot_id
        self._chance = chance
        self._watched: dict[str, _Watched] = {}
        self._departing: list[_Watched] = []  # gateways of before whose registration is being taken back
        self._bindings = itertools.count(1)
        for gateway in _wanted(gateways).values():
            self._watch(gateway, gateway.name)
        self._numbers = itertools.count(1)
        self._open: dict[int, _Asked] = {}
        self._leaving = False

    def statuses(self) -> Sequence[GatewayStatus]:
        """Of those that are watched. From any thread."""
        return [watched.status for watched in list(self._watched.values())]

    def take_over(self, gateways: Mapping[str, Gateway]) -> None:
        """Those of another policy. What differs is begun anew; a registration that is not wanted any more is
        taken back, by what the bridge knows of the gateway until it is told of others."""
        wanted = _wanted(gateways)
        for name, watched in [*self._watched.items()]:
            if (now := wanted.get(name)) is not None and _is_alike(watched.gateway, now):
                watched.gateway = now
                continue
            del self._watched[name]
            self._forget(watched)
            if watched.registration is not None:
                watched.registration = registration.leave(watched.registration, self._clock.mono_ns())
                self._departing.append(watched)
                self._guarded(watched, self._look)
        for name, gateway in wanted.items():
            if name not in self._watched:
                self._watch(gateway, f"{name}-{next(self._bindings)}")

    def _watch(self, gateway: Gateway, binding: str) -> None:
        self._watched[gateway.name] = _Watched(gateway, self._clock.mono_ns(), self._chance, binding)

    def _forget(self, watched: _Watched) -> None:
        name = watched.gateway.name
        self._load.gateways_down.discard(name)
        for at in watched.probings:
            self._load.servers_down.discard((name, at))

    async def run(self) -> None:
        while True:
            self.tick()
            await asyncio.sleep(TICK_S)

    def tick(self) -> None:
        now_ns = self._clock.mono_ns()
        for request_id in [one for one, asked in self._open.items() if asked.lost_ns <= now_ns]:
            self._close(
                RequestEnded(
                    mono_ns=now_ns,
                    wall_ns=self._clock.wall_ns(),
                    request_id=request_id,
                    cause=RouteFailure.NO_RESPONSE,
                )
            )
        for watched in [*self._watched.values(), *self._departing]:
            self._guarded(watched, self._look)
        self._departing = [one for one in self._departing if _is_bound(one)]

    def on_events(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, RequestEnded):
                self._close(event)

    def leave(self) -> None:
        """The node stops: take our registrations back. `is_leaving` until that is done, or in vain."""
        self._leaving = True
        for watched in list(self._watched.values()):
            if watched.registration is not None:
                watched.registration = registration.leave(watched.registration, self._clock.mono_ns())
                self._guarded(watched, self._look)

    def is_leaving(self) -> bool:
        return self._leaving and any(map(_is_bound, [*self._watched.values(), *self._departing]))

    # --- one gateway ----------------------------------------------------------------------------------------

    def _guarded(self, watched: _Watched, act: Callable[[_Watched], None]) -> None:
        try:
            act(watched)
        except Exception as error:  # ours, whatever it is: this watch ends, calls go on
            name = watched.gateway.name
            self._meter.promise_broken("gateways")
            log.error("gateway_watch_broken", gateway=name, exc_info=error)
            if watched in self._departing:
                self._departing.remove(watched)
            elif self._is_of_now(watched):
                del self._watched[name]
                self._forget(watched)

    def _is_of_now(self, watched: _Watched) -> bool:
        return self._watched.get(watched.gateway.name) is watched

    def _close(self, event: RequestEnded) -> None:
        asked = self._open.pop(event.request_id, None)
        if asked is not None and (self._is_of_now(asked.watched) or asked.watched in self._departing):
            if asked.is_register:
                self._guarded(asked.watched, lambda watched: self._registered(watched, event))
            elif asked.at in asked.watched.probings:
                self._guarded(asked.watched, lambda watched: self._probed(watched, asked.at, event))

    def _look(self, watched: _Watched) -> None:
        now_ns = self._clock.mono_ns()
        if watched.registration is not None:
            aged = registration.aged(watched.registration, now_ns)
            if aged is not watched.registration:
                watched.registration = aged
                self._tell(watched, "REGISTER: expired")
        self._follow(watched, now_ns)
        self._register(watched, now_ns)
        for at in list(watched.probings):
            self._probe(watched, at, now_ns)

    def _servers(self, gateway: Gateway) -> Sequence[Server]:
        """Those of a name in the order that this node prefers, the others one that is no name's."""
        if gateway.lookup is None:
            return [Server(host=gateway.host, port=gateway.port, transport=gateway.transport)]
        known = self._load.servers.get(gateway.name, ())
        return list(in_order(known, draw_of(self._boot_id.encode(), gateway.name)))

    def _follow(self, watched: _Watched, now_ns: int) -> None:
        """Probe what the gateway's name means now, and no more what it meant before."""
        terms, name = watched.gateway.probe, watched.gateway.name
        if terms is None or watched.gateway.lookup is None:
            return
        now = {server.at for server in self._servers(watched.gateway)}
        if now == watched.probings.keys():
            return
        for at in watched.probings.keys() - now:
            del watched.probings[at]
            self._load.servers_down.discard((name, at))
        for at in sorted(now - watched.probings.keys()):
            watched.probings[at] = gateway_health.begin(terms, now_ns, self._chance())
        self._tell(watched, "DNS")

    def _register(self, watched: _Watched, now_ns: int) -> None:
        gateway, terms, now = watched.gateway, watched.gateway.register, watched.registration
        if terms is None or now is None or not registration.is_due(now, now_ns):
            return
        servers = sorted(
            self._servers(gateway), key=lambda one: (gateway.name, one.at) in self._load.servers_down
        )
        if not servers or len(self._open) >= OPEN_MAX:
            return
        at = servers[now.failures % len(servers)].at  # RFC 3263 §4.3: the next one where one failed
        watched.registration = now = registration.sent(now, now_ns)
        self._ask(
            watched,
            at,
            AskGateway(
                request_id=next(self._numbers),
                gateway=gateway.name,
                host=at[0],
                port=at[1],
                transport=at[2],
                timeout_ms=LEAVE_TIMEOUT_MS if now.leaving else REGISTER_TIMEOUT_MS,
                target=terms.target,
                identity=terms.identity,
                contact_user=terms.contact_user,
                call_id=f"{self._boot_id}-{watched.binding}",  # one for all of a boot (RFC 3261 §10.2.4)
                cseq=now.cseq,
                expires_s=now.sent_s,
            ),
        )

    def _probe(self, watched: _Watched, at: ServerAt, now_ns: int) -> None:
        gateway, terms, now = watched.gateway, watched.gateway.probe, watched.probings[at]
        if terms is None or self._leaving or not gateway_health.is_due(now, now_ns):
            return
        if len(self._open) >= OPEN_MAX:
            return
        watched.probings[at] = gateway_health.sent(now, now_ns)
        self._ask(
            watched,
            at,
            AskGateway(
                request_id=next(self._numbers),
                gateway=gateway.name,
                host=at[0],
                port=at[1],
                transport=at[2],
                timeout_ms=terms.timeout_ms,
                target=f"sip:{gateway.authority}",
                identity=gateway.register.identity if gateway.register is not None else "",
            ),
        )

    def _ask(self, watched: _Watched, at: ServerAt, ask: AskGateway) -> None:
        lost_ns = self._clock.mono_ns() + (ask.timeout_ms + LOST_MS) * 1_000_000
        is_register = ask.expires_s is not None
        self._open[ask.request_id] = _Asked(watched=watched, at=at, is_register=is_register, lost_ns=lost_ns)
        self._door.ask([ask])

    # --- what was heard -------------------------------------------------------------------------------------

    def _probed(self, watched: _Watched, at: ServerAt, event: RequestEnded) -> None:
        terms, name = watched.gateway.probe, watched.gateway.name
        assert terms is not None
        watched.probings[at] = probing = gateway_health.answered(
            watched.probings[at], terms, event.sip_code, self._clock.mono_ns(), self._chance()
        )
        if watched.gateway.lookup is not None and probing.health is Health.DOWN:
            self._load.servers_down.add((name, at))
        else:
            self._load.servers_down.discard((name, at))
        is_good = gateway_health.sign_of(event.sip_code, terms.alive) is Sign.GOOD
        known = watched.status
        watched.status = replace(
            known,
            answer=_answer(event),
            probe_ms=(event.mono_ns - event.sent_mono_ns) / 1e6 if is_good else known.probe_ms,
            probes=known.probes + 1,
            probes_failed=known.probes_failed + (not is_good),
        )
        where = "" if watched.gateway.lookup is None else f" of {at[2]} {at[0]} port {at[1]}"
        self._tell(watched, f"OPTIONS: {_answer(event)}{where}")
        self._look(watched)

    def _registered(self, watched: _Watched, event: RequestEnded) -> None:
        assert watched.registration is not None
        watched.registration = registration.answered(
            watched.registration,
            sip_code=event.sip_code,
            granted_s=event.granted_s,
            min_expires_s=event.min_expires_s,
            retry_after_s=event.retry_after_s,
            now_ns=self._clock.mono_ns(),
            chance=self._chance(),
        )
        watched.status = replace(watched.status, register_answer=_answer(event))
        self._tell(watched, f"REGISTER: {_answer(event)}")
        self._look(watched)

    def _tell(self, watched: _Watched, why: str) -> None:
        """Routing first, then people: a line for each change."""
        name, known, registering = watched.gateway.name, watched.status, watched.registration
        healths = {at: probing.health for at, probing in watched.probings.items()}
        probed = gateway_health.of_all(healths.values()) if watched.gateway.probe is not None else None
        state = registering.state if registering is not None else None
        health = gateway_health.overall(probed, state)
        if health is Health.DOWN and self._is_of_now(watched):
            self._load.gateways_down.add(name)
        elif self._is_of_now(watched):
            self._load.gateways_down.discard(name)
        until_wall_ns = None
        if registering is not None and registering.until_ns is not None:
            until_wall_ns = self._clock.wall_ns() + registering.until_ns - self._clock.mono_ns()
        since_wall_ns = self._clock.wall_ns() if health is not known.health else known.since_wall_ns
        watched.status = replace(
            known,
            health=health,
            servers=healths,
            since_wall_ns=since_wall_ns,
            registration=state,
            registered_until_wall_ns=until_wall_ns,
        )
        if state is not known.registration and registering is not None:
            say = log.warning if state is RegistrationState.FAILED else log.info
            say("gateway_registration", gateway=name, state=registering.state.value, why=why)
        if health is not known.health:
            say = log.warning if health is Health.DOWN else log.info
            say(f"gateway_{health.value}", gateway=name, why=why)


def _wanted(gateways: Mapping[str, Gateway]) -> dict[str, Gateway]:
    """Those that there is something to watch of."""
    return {name: one for name, one in gateways.items() if one.probe is not None or one.register is not None}


def _is_alike(one: Gateway, other: Gateway) -> bool:
    """For who watches it."""
    said = ("host", "port", "transport", "lookup", "username", "probe", "register")
    return all(getattr(one, name) == getattr(other, name) for name in said)


def _is_bound(watched: _Watched) -> bool:
    known = watched.registration
    return known is not None and known.state is not RegistrationState.ENDED


def _answer(event: RequestEnded) -> str:
    return str(event.sip_code) if event.sip_code else event.cause.value
