"""Keeps what DNS says of the gateways whose host is a name, so that no call waits for it.

What is asked, and what an answer means, is said in core/servers. Here each name has a round of questions when
it is due, before its answers are over; when no answer comes the last ones hold, and it is tried again, later
each time. Whatever becomes of a round, calls go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog
from msgspec.structs import replace

from sidecar.core import servers
from sidecar.core.commands import SetServers
from sidecar.core.policy import Gateway, Load
from sidecar.core.servers import Answer, Answers, Lookup, NameState, Question, Reach, Server
from sidecar.ports import Clock, Meter, NameStatus, NoAnswerError, Resolver, ServersDoor

TICK_S = 0.25
ROUNDS_MAX = 16  # names asked for at one time; the others wait for their turn
QUESTIONS_MAX = 32  # under way at one time, of all names

log = structlog.get_logger("sidecar.names")


class _Name:
    """One gateway's name. Its status is replaced whole: the metrics read it from another thread."""

    def __init__(self, gateway: str, lookup: Lookup, now_ns: int) -> None:
        self.gateway = gateway
        self.lookup = lookup
        self.naming = servers.begin(now_ns)
        self.status = NameStatus(gateway=gateway, name=lookup.name)


class Names:
    """`gateways` are all of the policy; those with an address cost nothing. `load` is the one that routing
    reads. `peer_of` names the peer group of an address. `chance` gives numbers from 0 to below 1."""

    def __init__(
        self,
        *,
        gateways: Mapping[str, Gateway],
        reach: Reach,
        load: Load,
        resolver: Resolver,
        door: ServersDoor,
        peer_of: Callable[[str], str],
        clock: Clock,
        meter: Meter,
        chance: Callable[[], float],
    ) -> None:
        self._reach = reach
        self._load = load
        self._resolver = resolver
        self._door = door
        self._peer_of = peer_of
        self._clock = clock
        self._meter = meter
        self._chance = chance
        self._names: dict[str, _Name] = {}
        self._begin(gateways)
        self._open = 0
        self._questions = asyncio.Semaphore(QUESTIONS_MAX)

    def statuses(self) -> Sequence[NameStatus]:
        """From any thread."""
        return [name.status for name in list(self._names.values())]

    def take_over(self, gateways: Mapping[str, Gateway], reach: Reach, resolver: Resolver) -> None:
        """Those of another policy, which is in force. A name that is new, or asked for otherwise, is unknown
        until its first answer; the servers of the others may be of other peers now."""
        self._reach, self._resolver = reach, resolver
        for name in [*self._names.values()]:
            gateway = gateways.get(name.gateway)
            if gateway is None or gateway.lookup != name.lookup:
                del self._names[name.gateway]
                self._load.servers.pop(name.gateway, None)
                self._door.set_servers(SetServers(gateway=name.gateway, host_name="", addresses=()))
                continue
            found = tuple(replace(one, peer=self._peer_of(one.host)) for one in name.naming.servers)
            name.naming = replace(name.naming, servers=found)
            if found:
                self._load.servers[name.gateway] = found
        self._begin(gateways)

    def _begin(self, gateways: Mapping[str, Gateway]) -> None:
        for gateway in gateways.values():
            if gateway.lookup is not None and gateway.name not in self._names:
                self._names[gateway.name] = _Name(gateway.name, gateway.lookup, self._clock.mono_ns())

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                for name in list(self._names.values()):
                    if self._open < ROUNDS_MAX and servers.is_due(name.naming, self._clock.mono_ns()):
                        self._open += 1
                        name.naming = servers.asked(name.naming)
                        tasks.create_task(self._round(name), name=f"name {name.gateway}")
                await asyncio.sleep(TICK_S)

    async def _round(self, name: _Name) -> None:
        heard: dict[Question, Answer | None] = {}
        faults: list[str] = []
        found: tuple[Server, ...] | None = None
        try:
            found = await self._located(name, heard, faults)
        except Exception as error:  # ours, whatever it is: it is as if nobody had answered
            self._meter.promise_broken("names")
            log.error("name_lookup_broken", gateway=name.gateway, exc_info=error)
            heard = {}
        finally:
            self._open -= 1
        if self._names.get(name.gateway) is not name:
            return  # it is asked for no more
        before = name.naming
        name.naming = servers.answered(before, heard, found, self._clock.mono_ns(), self._chance())
        self._tell(name, before.state, faults)

    async def _located(
        self, name: _Name, heard: dict[Question, Answer | None], faults: list[str]
    ) -> tuple[Server, ...] | None:
        """`heard` takes each answer, `faults` why one did not come."""
        locating = servers.locate(name.lookup, self._reach)
        answers: Answers | None = None
        while True:
            try:
                questions = next(locating) if answers is None else locating.send(answers)
            except StopIteration as done:
                found: tuple[Server, ...] | None = done.value
                return found and tuple(replace(one, peer=self._peer_of(one.host)) for one in found)
            came = await asyncio.gather(*(self._asked(question, faults) for question in questions))
            heard |= dict(zip(questions, came, strict=True))
            answers = servers.last_good(name.naming, heard)

    async def _asked(self, question: Question, faults: list[str]) -> Answer | None:
        async with self._questions:
            try:
                return await self._resolver.ask(question)
            except NoAnswerError as error:
                faults.append(f"{question.type} {question.name}: {error}")
                return None

    def _tell(self, name: _Name, before: NameState, faults: Sequence[str]) -> None:
        """Routing and the bridge first, then people: a line for each change."""
        naming = name.naming
        known = self._load.servers.get(name.gateway, ())
        changed = naming.servers != known
        if changed:
            self._load.servers[name.gateway] = naming.servers
            self._door.set_servers(
                SetServers(
                    gateway=name.gateway,
                    host_name=name.lookup.name,
                    addresses=tuple(
                        str(one).partition(":")[2] for one in servers.in_order(naming.servers, 0)
                    ),
                )
            )
        name.status = NameStatus(
            gateway=name.gateway,
            name=name.lookup.name,
            state=naming.state,
            servers=naming.servers,
            rounds=name.status.rounds + 1,
            rounds_failed=name.status.rounds_failed + bool(naming.failures),
        )
        if changed or naming.state is not before or naming.failures == 1:
            self._log(name, faults)

    def _log(self, name: _Name, faults: Sequence[str]) -> None:
        naming = name.naming
        said = {"gateway": name.gateway, "name": name.lookup.name, "servers": list(map(str, naming.servers))}
        match naming.state:
            case NameState.RESOLVED:
                log.info("gateway_name_resolved", **said)
            case NameState.ABSENT:
                log.warning("gateway_name_absent", **said)
            case NameState.STALE:
                log.warning("gateway_name_stale", **said, why="; ".join(faults[:3]))
            case NameState.UNRESOLVED:
                log.warning("gateway_name_unresolved", **said, why="; ".join(faults[:3]))
