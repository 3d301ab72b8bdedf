"""Plays a ladder: what the two peers (and the disk, and people) do, line by line, against the pure core.

    0      A INVITE                     each line: milliseconds, who, what
    20     B 180
    2000   B 200
    2020   A ACK
    12070  A BYE reason=Q.850;cause=31

Nothing of ours is mocked. The ladder is the environment: the store that commits a step within a millisecond,
the bridge that does what a command says and fires the deadlines it was armed with, the peers that answer our
BYE, and the clock that says when a wait is over. Who does what:

    A         INVITE [number], INVITE again, ACK, CANCEL, BYE, life, refreshed, lost, deaf, gone, slow MS,
              challenges CODE
    B         100-199, 200, 300-699 (503 early: after early media), late [attempt] (a 2xx),
              stale ATTEMPT CODE (what an earlier attempt got), unreachable, BYE, life, refreshed, lost, deaf,
              gone, slow MS
    disk      fails, stalls, works
    account   topped_up AMOUNT
    node      crashes [ms since the last heartbeat], loses (the call), late MS (timers), refuses DETAIL CODE
    operator  releases [text], drains, rules
    timer     ring, dead_peer [SIDE METHODS MESSAGE MS: which was asked by what, and last heard how long ago],
              session_timer: now, whatever was armed

`deaf`: our BYE stays unanswered; `gone`: it gets 481, for the call was ended unheard; `slow MS`: it is
answered so late; `challenges CODE`: by a challenge that we have no password for. `reason=...` adds a Reason,
`contact=USER@HOST[:PORT][;q=0.5]` a Contact to a 3xx, NAME=... another header; _ stands for a space.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial

from msgspec.structs import replace

from sidecar.core.admit import refused_by_bridge
from sidecar.core.call import Phase
from sidecar.core.events import (
    AckReceived,
    AnswerDropped,
    AnswerHeld,
    CallLost,
    CancelReceived,
    Contact,
    InviteRefused,
    Life,
    ProvisionalReceived,
    ReleaseRequested,
    RouteFailed,
    SessionRefreshed,
    Silence,
    TransportFailed,
    WaitElapsed,
)
from sidecar.core.policy import Given
from sidecar.core.terms import DeadlineKind, Detail, LegName, Money, RouteFailure
from tests.scenarios import world
from tests.scenarios.environment import Environment

Reasons = tuple[str, ...]
Headers = tuple[tuple[str, str], ...]
Contacts = tuple[Contact, ...]


def _contact(text: str) -> Contact:
    address, *parameters = text.split(";")
    user, _, host_port = address.rpartition("@")
    host, _, port = host_port.partition(":")
    q = next((value for name, _, value in (one.partition("=") for one in parameters) if name == "q"), "1")
    return Contact(user=user, host=host, port=int(port or 0), q_thousandths=round(float(q) * 1000))


def _silence(words: Sequence[str]) -> Silence | None:
    if not words:
        return None
    side, asked, heard, ago_ms = words
    return Silence(
        leg_name=LegName(side.lower()),
        asked=tuple(asked.split(",")),
        heard=heard.replace("_", " "),
        heard_ago_ms=int(ago_ms.replace("_", "")),
    )


class Ladder(Environment):
    """One call from its INVITE to the last event of its legs."""

    def play(self, text: str) -> Ladder:
        for line in text.strip().splitlines():
            at_ms, who, what, *rest = line.split()
            self._at(int(at_ms.replace("_", "")), self._line(who, what, rest), script=True)
        while self._queue:
            self._now_ms, _, action = heapq.heappop(self._queue)
            action()
        return self

    def _may(self, who: str, what: str) -> bool:
        """Whether a peer can do this now: nobody answers an INVITE that was not sent. A ladder of ours that
        asks for it is wrong; a random one goes on without it."""
        possible = self._caller_may(what) if who == "A" else self._callee_may(what)
        if not possible and self.strict:
            raise ValueError(f"{who} cannot {what} at {self._now_ms} ms")
        return possible

    def _caller_may(self, what: str) -> bool:
        match what:
            case "INVITE":
                return self.call is None or self.call.phase is Phase.AWAITING_RETRY
            case "deaf" | "gone" | "slow" | "challenges":
                return True
            case "BYE" | "lost":
                return LegName.A in self._open
            case "CANCEL":
                return LegName.A in self._open and not self._answered and not self._ended
            case _:
                return LegName.A in self._open and self._answered

    def _callee_may(self, what: str) -> bool:
        match what:
            case "deaf" | "gone" | "slow" | "challenges":
                return True
            case "late" | "stale":
                return self._attempt() > 0
            case "lost":
                return LegName.B in self._open
            case "200":
                return LegName.B in self._open and not self._answer_held
            case "BYE" | "life" | "refreshed":
                return LegName.B in self._open and self._answer_held
            case _:
                return LegName.B in self._open and not self._answer_held and not self._ended

    def _line(self, who: str, what: str, rest: Sequence[str]) -> Callable[[], object]:
        words = [word for word in rest if "=" not in word]
        pairs = [word.replace("_", " ").split("=", 1) for word in rest if "=" in word]
        reasons = tuple(value for name, value in pairs if name == "reason")
        headers = tuple((name, value) for name, value in pairs if name not in ("reason", "contact"))
        contacts = tuple(_contact(value) for name, value in pairs if name == "contact")
        match who:
            case "A":
                act = partial(self._caller, what, words, reasons, headers)
            case "B":
                act = partial(self._callee, what, words, reasons, headers, contacts)
            case "disk":
                return partial(setattr, self, "_disk", "" if what == "works" else what)
            case "account":
                return partial(self._account, words)
            case "node":
                return partial(self._node, what, words)
            case "operator":
                return partial(self._operator, what, " ".join(words))
            case "timer":
                return partial(self._deadline, DeadlineKind[what.upper()], _silence(words))
            case _:
                raise ValueError(f"who is {who}?")

        def move() -> None:
            if self._may(who, what):
                act()

        return move

    def _caller(self, what: str, words: Sequence[str], reasons: Reasons, headers: Headers) -> None:
        match what:
            case "INVITE":
                self._invite(words)
            case "ACK":
                self._acknowledged = True
                self._happens(AckReceived(**self._here()))
            case "CANCEL":
                self._happens(CancelReceived(**self._here(), reasons=reasons, headers=headers))
                self._end_wire()
            case "BYE":
                self._bye(LegName.A, reasons, headers)
            case _:
                self._either(LegName.A, what, words)

    def _callee(
        self, what: str, words: Sequence[str], reasons: Reasons, headers: Headers, contacts: Contacts
    ) -> None:
        attempt = self._attempt()
        match what:
            case "BYE":
                self._bye(LegName.B, reasons, headers)
            case "unreachable":
                self._route_failed(RouteFailure.UNREACHABLE)
            case "late":
                late = int(words[0]) if words else attempt
                leg = replace(self._b_leg(), remote_tag="another")
                self._happens(AnswerDropped(**self._here(), attempt=late, sip_code=200, leg=leg))
            case "stale":
                self._happens(
                    RouteFailed(
                        **self._here(),
                        attempt=int(words[0]),
                        cause=RouteFailure.FINAL_RESPONSE,
                        sip_code=int(words[1]),
                    )
                )
            case code if code.isdigit() and int(code) == 100:
                self._heard_code = max(self._heard_code, 100)
            case code if code.isdigit() and int(code) < 200:
                self._heard_code = max(self._heard_code, int(code))
                self._happens(ProvisionalReceived(**self._here(), attempt=attempt, sip_code=int(code)))
            case code if code.isdigit() and int(code) < 300:
                self._answer_held = True
                self._open.add(LegName.B)
                self._at(self._now_ms + world.ANSWER_HOLD_MS_MAX, self._hold_expired)
                self._happens(
                    AnswerHeld(**self._here(), attempt=attempt, sip_code=int(code), leg=self._b_leg())
                )
            case code if code.isdigit():
                self._route_failed(
                    RouteFailure.FINAL_RESPONSE, int(code), reasons, headers, contacts, "early" in words
                )
            case _:
                self._either(LegName.B, what, words)

    def _either(self, leg_name: LegName, what: str, words: Sequence[str]) -> None:
        match what:
            case "life":
                self._happens(Life(**self._here(), leg_name=leg_name))
            case "refreshed":
                self._happens(SessionRefreshed(**self._here(), leg_name=leg_name))
            case "lost":
                self._deaf.add(leg_name)
                self._happens(TransportFailed(**self._here(), leg_name=leg_name))
            case "deaf":
                self._deaf.add(leg_name)
            case "gone":
                self._gone.add(leg_name)
            case "challenges":
                self._challenges[leg_name] = int(words[0])
            case "slow":
                self._answers_bye_ms[leg_name] = int(words[0])
            case _:
                raise ValueError(f"{leg_name} does what? {what}")

    def _node(self, what: str, words: Sequence[str]) -> None:
        match what:
            case "crashes":
                self._crash(self._now_ms - int(words[0]) if words else self._now_ms)
            case "late":
                self._late_ms = int(words[0])
            case "loses":
                self._open.clear()
                self._lost = True
                # As Calls tells it: of a call of an earlier boot no leg will be told of any more.
                known = WaitElapsed if self.crashed else CallLost
                self._happens(known(**self._stamps(), call_id=world.call_id()))
            case "refuses":
                peer = "" if words[0] == Detail.SOURCE_NOT_ALLOWED else "carrier"
                invite = world.invite(self._now_ms, peer=peer)
                refused = InviteRefused(
                    **self._stamps(), detail=Detail(words[0]), sip_code=int(words[1]), invite=invite
                )
                self.call, commands = refused_by_bridge(
                    world.call_id(), refused, Given(self.policy, self.load)
                )
                self._perform(commands)
            case "rules":
                detail, rule = Detail(words[0]), words[1]
                self._happens(
                    ReleaseRequested(**self._stamps(), call_id=world.call_id(), detail=detail, rule=rule)
                )
            case _:
                raise ValueError(f"the node does what? {what}")

    def _operator(self, what: str, text: str) -> None:
        detail = {"releases": Detail.OPERATOR, "drains": Detail.DRAIN}[what]
        event = ReleaseRequested(
            **self._stamps(), call_id=world.call_id(), detail=detail, operator="jane", text=text
        )
        self._happens(event)

    def _account(self, words: Sequence[str]) -> None:
        (amount,) = words
        self.books.top_up("acme", Money(Decimal(amount), "EUR"), f"at {self._now_ms}")
