"""What people may ask of the calls that are up: which they are, and that they end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from msgspec.structs import asdict

from sidecar.core.audit import Change, Operator, told
from sidecar.core.call import Call
from sidecar.core.call_filter import CallFilter
from sidecar.core.records import utc
from sidecar.core.terms import Detail
from sidecar.ports import AuditTrail, Clock
from sidecar.runtime.calls import Calls
from sidecar.runtime.releasing import calls_where, release_where
from sidecar.wire import control_calls as say
from sidecar.wire.control import CommandError, ErrorCode, Method
from sidecar.wire.methods import served


class CallCommands:
    def __init__(self, calls: Calls, audit: AuditTrail, clock: Clock) -> None:
        self._calls = calls
        self._audit = audit
        self._clock = clock

    def methods(self) -> Mapping[str, Method]:
        return served(
            {
                "call.list": self.list,
                "call.release": self.release,
            }
        )

    async def list(self, wanted: say.CallListParams, _: Operator) -> say.CallList:
        conditions = _filter(wanted)
        if wanted.after is not None:
            calls = await self._where(conditions, wanted.after.int)
            total, calls = len(calls), calls[: wanted.limit]
        elif conditions == CallFilter(account=wanted.account):
            load, account = self._calls.load, wanted.account
            total = load.calls if account is None else load.by_account.get(account, 0)
            calls = self._calls.oldest(wanted.limit, account) if total else ()
        else:
            calls = await self._where(conditions)
            total, calls = len(calls), calls[: wanted.limit]
        return say.CallList(total=total, calls=tuple(map(self._live_call, calls)))

    async def _where(self, wanted: CallFilter, after: int = 0) -> Sequence[Call]:
        """Those whose id is higher: ids are in the order of the INVITEs (core/identity)."""
        mono_ns, all_of_them = self._clock.mono_ns(), wanted == CallFilter()
        return await calls_where(
            self._calls,
            lambda call: call.call_id.int > after and (all_of_them or wanted.holds(call, mono_ns)),
        )

    async def release(self, wanted: say.CallReleaseParams, operator: Operator) -> say.CallReleased:
        """Of many there is one entry in the audit table, written before the first of them ends."""
        conditions = _filter(wanted)
        if (wanted.call_id is None) == (conditions == CallFilter()):
            raise CommandError(
                ErrorCode.INVALID_PARAMS, "either one call_id, or what the calls to be ended have in common"
            )
        if wanted.call_id is None:
            return await self._release_all(conditions, wanted.text, operator)
        change = Change(
            operator=operator, action="call.release", subject=str(wanted.call_id), text=wanted.text
        )
        if not self._calls.release(wanted.call_id, Detail.OPERATOR, operator.name, wanted.text, change):
            raise CommandError(
                ErrorCode.NOT_FOUND,
                f"call {wanted.call_id} is not up: `sidecar call list` shows those that are",
            )
        return say.CallReleased(call_id=wanted.call_id)

    async def _release_all(self, wanted: CallFilter, text: str, operator: Operator) -> say.CallReleased:
        found = len(await self._where(wanted))
        given = {name: value for name, value in asdict(wanted).items() if value is not None}
        change = Change(
            operator=operator,
            action="call.release",
            subject=str(wanted),
            before=told({"calls": found}),
            after=told({"release": given}),
            text=text,
        )

        async def noted_and_ended() -> int:
            await self._audit.write(change)
            mono_ns = self._clock.mono_ns()
            return await release_where(
                self._calls,
                lambda call: wanted.holds(call, mono_ns) and not call.is_emergency,
                Detail.OPERATOR,
                operator=operator.name,
                text=text,
            )

        count = await asyncio.shield(noted_and_ended())
        return say.CallReleased(released=count > 0, count=count)

    def _live_call(self, call: Call) -> say.LiveCall:
        talked_ns = self._clock.mono_ns() - call.answered.mono_ns if call.answered else 0
        return say.LiveCall(
            call_id=call.call_id,
            phase=call.phase.value,
            account=call.account.name,
            peer=call.invite.peer,
            gateway=call.attempts[-1].gateway if call.attempts else None,
            caller=call.invite.from_user,
            callee=call.invite.request_user,
            invited_at=utc(call.invite.wall_ns),
            answered_at=utc(call.answered.wall_ns) if call.answered else None,
            talk_s=talked_ns // 1_000_000 / 1_000,
            granted_s=call.granted_s,
        )


def _filter(wanted: say.CallConditions) -> CallFilter:
    return CallFilter(
        account=wanted.account,
        peer=wanted.peer,
        gateway=wanted.gateway,
        callee=wanted.callee,
        caller=wanted.caller,
        older_than_s=wanted.older_than_s,
    )
