"""What people may ask of the fraud rules, and how they let go what a rule holds."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping

import structlog

from sidecar.core.audit import Change, Operator, told
from sidecar.core.fraud import Held
from sidecar.core.fraud_rules import Scope
from sidecar.core.numbers import mask
from sidecar.core.rating import amount_text
from sidecar.core.records import utc
from sidecar.ports import AuditTrail, Neighbours, UnavailableError
from sidecar.runtime.fraud import LIFT, FraudWatch, hold_of
from sidecar.wire import control_policy as say
from sidecar.wire.control import ROWS_MAX, CommandError, ErrorCode, Method, Nothing
from sidecar.wire.methods import served

log = structlog.get_logger("sidecar.fraud")


class FraudCommands:
    def __init__(
        self, fraud: FraudWatch, audit: AuditTrail, neighbours: Neighbours | None, node: str
    ) -> None:
        """`neighbours`: None where the node has a store of its own."""
        self._fraud = fraud
        self._audit = audit
        self._neighbours = neighbours
        self._node = node

    def methods(self) -> Mapping[str, Method]:
        return served(
            {
                "policy.show": self.show,
                "policy.lift": self.lift,
            }
        )

    async def show(self, _: Nothing, __: Operator) -> say.PolicyShown:
        held = self._fraud.held()
        counts, fired = Counter(one.rule.name for one in held), self._fraud.counters.fired
        return say.PolicyShown(
            fraud_rules=tuple(
                say.FraudRuleShown(
                    name=rule.name,
                    scope=rule.scope.value,
                    measure=rule.measure.value,
                    threshold=amount_text(rule.threshold),
                    currency=rule.currency or None,
                    window_s=rule.window_s,
                    mode=rule.mode.value,
                    lift_after_s=rule.lift_after_s,
                    fired=fired[rule.name],
                    held=counts[rule.name],
                )
                for rule in self._fraud.windows.rules
            ),
            held=tuple(map(_shown, held[:ROWS_MAX])),
        )

    async def lift(self, wanted: say.PolicyLiftParams, operator: Operator) -> say.PolicyLifted:
        """What was noted is done, whatever becomes of the one who asked; a rule that lifts in the same moment
        makes no difference."""
        held = next(
            (one for one in self._fraud.held() if (one.rule.name, one.key) == (wanted.rule, wanted.key)), None
        )
        if held is None:
            text = f"rule {wanted.rule} does not hold {wanted.key}: `sidecar policy show` has what is held"
            raise CommandError(ErrorCode.NOT_FOUND, text)
        change = Change(
            operator=operator,
            action=LIFT,
            subject=wanted.rule,
            before=told(_audited(held)),
            text=wanted.text,
        )

        async def noted() -> None:
            await self._audit.write(change)
            self._fraud.lift(wanted.rule, wanted.key, await self._lifted_elsewhere(held))

        await asyncio.shield(noted())
        return say.PolicyLifted(lifted=_shown(held))

    async def _lifted_elsewhere(self, held: Held) -> int:
        """The number of the change; 0: there is nobody else, or he is not told."""
        if self._neighbours is None or not held.rule.is_shared:
            return 0
        try:
            return await self._neighbours.lift(hold_of(held, self._node))
        except UnavailableError as error:
            log.warning("lift_not_told", rule=held.rule.name, error=str(error), advice="lift it again")
            return 0


def _shown(held: Held) -> say.HeldShown:
    return say.HeldShown(
        rule=held.rule.name,
        key=held.key,
        mode=held.rule.mode.value,
        measured=amount_text(held.measured),
        since=utc(held.since_ms * 1_000_000),
        until=None if held.until_ms is None else utc(held.until_ms * 1_000_000),
    )


def _audited(held: Held) -> dict[str, object]:
    """A caller's number is masked, as in the alarm: erasing a number does not reach the audit table."""
    return {
        "key": mask(held.key) if held.rule.scope is Scope.CALLER else held.key,
        "measured": amount_text(held.measured),
        "since": utc(held.since_ms * 1_000_000).isoformat(),
    }
