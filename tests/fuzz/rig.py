"""The bridge that is fuzzed, and a gateway that answers by chance."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from typing import Final

from sidecar.core.commands import ArmDeadline, RelayAnswer, RelayFailure, Release, WireCommand
from sidecar.core.events import (
    AnswerHeld,
    ByeReceived,
    DeadlineReached,
    Event,
    InviteReceived,
    LegTerminated,
    RouteFailed,
)
from sidecar.core.terms import DeadlineKind
from tests.b2bua.rig import ANSWER, Rig
from tests.b2bua.scripted_ua import Message, ScriptedUA
from tests.fuzz.mutate import mutated

PROBE_USER: Final = "777"  # numbers of the calls that must work
PROBE_CALL_MS_MAX: Final = 15_000  # so long a round may take under sanitizers on a busy machine


class FuzzRig(Rig):
    """Routes every call at once, to the random UA or to the callee of a probe, and lets none last long."""

    callee: ScriptedUA
    random_ua: RandomUA
    probe_calls: set[int]  # not over

    def _take(self, events: Sequence[Event]) -> None:
        for event in events:
            self.hook.send(self._decide(event))

    def release_probe_calls(self) -> None:
        self.hook.send(
            [Release(bridge_id=i, sip_code=480, q850_cause=31, text="operator") for i in self.probe_calls]
        )
        self.probe_calls.clear()

    def _decide(self, event: Event) -> Sequence[WireCommand]:
        match event:
            case InviteReceived(bridge_id=i, request_user=user):
                if user.startswith(PROBE_USER):  # slow is not lost
                    self.probe_calls.add(i)
                    to = self.callee
                    return (self.route(event, host=to.host, port=to.port, no_response_ms=4000),)
                ring = ArmDeadline(
                    bridge_id=i,
                    kind=DeadlineKind.RING,
                    after_ms=400,
                    sip_code=408,
                    q850_cause=19,
                    text="ring_timeout",
                )
                return (
                    ring,
                    self.route(event, host=self.random_ua.host, port=self.random_ua.port, no_response_ms=200),
                )
            case ByeReceived(bridge_id=i) | LegTerminated(bridge_id=i):
                self.probe_calls.discard(i)
            case AnswerHeld(bridge_id=i):
                longest = ArmDeadline(
                    bridge_id=i,
                    kind=DeadlineKind.MAX_DURATION,
                    after_ms=PROBE_CALL_MS_MAX if i in self.probe_calls else 800,
                    sip_code=408,
                    q850_cause=16,
                    text="max_duration",
                )
                return (longest, RelayAnswer(bridge_id=i))
            case RouteFailed(bridge_id=i):
                return (RelayFailure(bridge_id=i),)
            case DeadlineReached(bridge_id=i, kind=DeadlineKind.RING):
                return (Release(bridge_id=i, sip_code=408, q850_cause=19, text="ring_timeout"),)
        return ()


class RandomUA(asyncio.DatagramProtocol):
    """A gateway that answers whatever reaches it, at times with a mutated answer. With the same seed the same
    request gets the same, whatever came before it."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.host, self.port = "", 0
        self._transport: asyncio.DatagramTransport | None = None
        self._words = ScriptedUA()

    @classmethod
    async def at(cls, host: str, seed: int) -> RandomUA:
        loop = asyncio.get_running_loop()
        transport, random_ua = await loop.create_datagram_endpoint(lambda: cls(seed), local_addr=(host, 0))
        random_ua._transport = transport
        random_ua.host, random_ua.port = transport.get_extra_info("sockname")[:2]
        random_ua._words.host, random_ua._words.port = random_ua.host, random_ua.port
        return random_ua

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if data.startswith((b"SIP/2.0 ", b"ACK ")) or not data.strip():
            return
        with contextlib.suppress(AssertionError, ValueError, IndexError):  # it passes what a mutation made
            request = Message(data, addr)
            rng = random.Random(
                f"{self._seed} {request.method} {request.cseq} {request['To'].partition('@')[0]}"
            )
            for answer in self._answers(request, rng):
                made = mutated(rng, answer, (answer, data)) if rng.random() < 0.3 else answer
                assert self._transport is not None
                self._transport.sendto(made, addr)

    def _answers(self, request: Message, rng: random.Random) -> list[bytes]:
        words = self._words
        if not request.start.startswith("INVITE "):
            return [words.response(request, rng.choice((200, 200, 481, 491, 500)), tag="t")]
        challenge = 'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth", algorithm=SHA-256'
        made = []
        for code in rng.sample((100, 180, 183, 200, 401, 486, 503), rng.randint(0, 3)):
            extra = [challenge] if code == 401 else ["Require: 100rel", "RSeq: 7"] if code == 183 else []
            if code < 300:
                extra += [
                    words.contact(),
                    "Content-Type: application/sdp",
                    "Session-Expires: 90;refresher=uas",
                ]
            tag = rng.choice(("t", "t", "u"))
            made.append(
                words.response(request, code, *extra, tag=tag, body=ANSWER if code in (183, 200) else b"")
            )
        return made
