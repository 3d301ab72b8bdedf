"""Which of the calls that are up an operator means: all that is given must hold."""

from __future__ import annotations

import msgspec

from sidecar.core.call import Call
from sidecar.core.numbers import matches_list, normalise


class CallFilter(msgspec.Struct, frozen=True, kw_only=True):
    """`callee` and `caller` are numbers as received or billed, with or without their `+`; `4490*` is a
    beginning."""

    account: str | None = None
    peer: str | None = None
    gateway: str | None = None  # of the last attempt
    callee: str | None = None
    caller: str | None = None
    older_than_s: int | None = None  # since the INVITE

    def holds(self, call: Call, mono_ns: int) -> bool:
        invite = call.invite
        return (
            self.account in (None, call.account.name)
            and self.peer in (None, invite.peer)
            and self.gateway in (None, call.attempts[-1].gateway if call.attempts else "")
            and _is_called(self.callee, invite.request_user, call.pricing.number.billed)
            and _is_called(self.caller, invite.from_user, None)
            and (self.older_than_s is None or mono_ns - invite.mono_ns >= self.older_than_s * 1_000_000_000)
        )

    def __str__(self) -> str:
        given = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}
        return " ".join(f"{name}={value}" for name, value in given.items())


def _is_called(pattern: str | None, received: str, billed: str | None) -> bool:
    if pattern is None:
        return True
    wanted = frozenset({pattern.removeprefix("+")})
    return any(matches_list(number, wanted) for number in (normalise(received).removeprefix("+"), billed))
