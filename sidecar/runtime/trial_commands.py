"""What a call would be, asked by people: who pays it, what it costs, where it goes, or why it is refused. Of
the node, or without one (cli/journal_client)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TypeVar

from sidecar.core.audit import Operator
from sidecar.core.cdr import ChargeRecord
from sidecar.core.identity import call_id_of
from sidecar.core.policy import Given
from sidecar.core.trial import Trial, Wanted, price, try_call
from sidecar.ports import Clock
from sidecar.wire import control_calls as say
from sidecar.wire.control import CommandError, ErrorCode, Method
from sidecar.wire.methods import served

_T = TypeVar("_T")


class TrialCommands:
    def __init__(self, given: Callable[[], Given], clock: Clock) -> None:
        self._given = given
        self._clock = clock

    def methods(self) -> Mapping[str, Method]:
        return served(
            {
                "route.try": self.route_try,
                "cost": self.cost,
            }
        )

    async def route_try(self, wanted: say.RouteTryParams, _: Operator) -> Trial:
        given = self._given()
        policy, mono_ns, wall_ns = given.policy, self._clock.mono_ns(), self._clock.wall_ns()
        _known("peer", wanted.peer, policy.peers)
        # A number that no call has: each trial draws anew from a group of gateways.
        call_id = call_id_of(policy.tenant, policy.node, policy.boot_id, mono_ns, wall_ns // 1_000_000)
        asked = Wanted(
            number=wanted.number,
            peer=wanted.peer,
            talk_ms=_ms(wanted.seconds),
            caller=wanted.caller,
            address=wanted.address,
            headers=tuple((name.lower(), value) for name, value in wanted.headers.items()),
            tls_name=wanted.tls_name,
        )
        return try_call(asked, call_id, given, mono_ns=mono_ns, wall_ns=wall_ns)

    async def cost(self, wanted: say.CostParams, _: Operator) -> ChargeRecord:
        policy = self._given().policy
        _known("account", wanted.account, policy.accounts)
        if wanted.peer:
            _known("peer", wanted.peer, policy.peers)
        asked = Wanted(
            number=wanted.number, peer=wanted.peer, talk_ms=_ms(wanted.seconds), caller=wanted.caller
        )
        wall_ns = self._clock.wall_ns() if wanted.at is None else int(wanted.at.timestamp()) * 1_000_000_000
        return price(asked, policy.account_terms(wanted.account), policy, wall_ns=wall_ns)


def _known(what: str, name: str, names: Mapping[str, _T]) -> None:
    if name not in names:
        raise CommandError(ErrorCode.NOT_FOUND, f"there is no {what} {name}")


def _ms(seconds: str) -> int:
    return int(Decimal(seconds) * 1_000)
