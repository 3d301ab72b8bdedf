"""What a test of the bridge needs around the real hook: a caller, gateways, and the core's part, which the
test plays."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Final, Self, TypeVar

from msgspec.structs import replace

from sidecar.b2bua.hook import BridgeHook
from sidecar.b2bua.settings import BridgeSettings, Listener, PeerGroup
from sidecar.config import settings as declared
from sidecar.core.commands import RelayAnswer, RelayFailure, Route, Snapshot, WireCommand
from sidecar.core.events import (
    AckReceived,
    AnswerHeld,
    Event,
    InviteReceived,
    MessageDropped,
    RouteFailed,
    SnapshotTaken,
)
from sidecar.core.terms import TransportName
from sidecar.wiring.bridge import bridge_limits
from tests.b2bua.scripted_ua import PATIENCE_S, Message, ScriptedUA, bracketed, sip
from tests.rig.addresses import own_network

OFFER: Final = (
    b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 107\r\n"
)
ANSWER: Final = (
    b"v=0\r\no=- 2 2 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\nm=audio 5000 RTP/AVP 107\r\n"
)
SDP: Final = "Content-Type: application/sdp"

E = TypeVar("E", bound=Event)

_numbers = itertools.count(1)


def bridge_settings(**given: Any) -> BridgeSettings:
    """With the declared defaults, but without OPTIONS of its own."""
    defaults = bridge_limits(declared.in_force(lambda setting: setting.default))
    return BridgeSettings(**{**defaults, "options_interval_ms": 0, **given})


class Rig:
    """127.x.y.1 is the bridge, .2 the caller, .3 and .4 the gateways, .9 a stranger."""

    def __init__(self, **settings: Any) -> None:
        self.network = own_network()
        settings.setdefault("admission_wait_ms_max", 30_000)  # a burst of a test is no overload
        self.host = settings.pop("host", f"{self.network}.1")
        transports = settings.pop("transports", (TransportName.UDP,))
        of_callers = settings.pop("of_callers", {})  # of their peer group
        inside = settings.pop("inside", ())  # the groups of the trust domain
        groups = (
            PeerGroup(
                name="callers",
                cidrs=(f"{self.network}.2/32",),
                asserts_identity="callers" in inside,
                **of_callers,
            ),
            PeerGroup(
                name="gateways",
                cidrs=(f"{self.network}.3/32", f"{self.network}.4/32"),
                shared_dialogs=True,
                asserts_identity="gateways" in inside,
            ),
        )
        self.settings = bridge_settings(
            listeners=tuple(Listener(transport=name, host=self.host, port=0) for name in transports),
            peers=settings.pop("peers", groups),
            patience_ms=settings.pop("patience_ms", 0),
            trying_ms=settings.pop("trying_ms", 0),  # at once: a ladder that tells nothing of the core
            batch_interval_ms=0,
            **settings,
        )
        self.hook = BridgeHook(self.settings)
        self.events: list[Event] = []
        self._taken = 0
        self._arrived = asyncio.Event()
        self._agents: list[ScriptedUA] = []
        self.hook.on_events(self._take)
        self.on_event: Callable[[Event], Sequence[WireCommand]] | None = None

    async def __aenter__(self) -> Self:
        await self.hook.start()
        self.caller = await self.agent(2)
        self.gateway = await self.agent(3)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.hook.stats()["exceptions"] == 0
        assert self.hook.stats()["inputs_unknown"] == 0  # no row in the table of Call
        assert self.hook.stats()["unreadable_events"] == 0
        for agent in self._agents:
            agent.close()
        await self.hook.stop()

    async def killed(self, *adopted: WireCommand) -> None:
        """The node is gone, whatever was up, and another one is there instead, at the same addresses."""
        listeners = tuple(
            replace(one, port=self.address(one.transport.value)[1]) for one in self.settings.listeners
        )
        await self.hook.stop()  # it sends nothing
        self.events.clear()
        self._taken = 0
        self.hook = BridgeHook(replace(self.settings, listeners=listeners))
        self.hook.on_events(self._take)
        await self.hook.start(adopted)

    async def agent(self, last: int) -> ScriptedUA:
        agent = await ScriptedUA.udp(f"{self.network}.{last}")
        if any(kind.startswith("udp:") for kind in self.hook.addresses):
            agent.peer = self.address()
        return self.adopt(agent)

    def adopt(self, agent: ScriptedUA) -> ScriptedUA:
        self._agents.append(agent)
        return agent

    def address(self, transport: str = "udp") -> tuple[str, int]:
        for address in self.hook.addresses:
            kind, _, rest = address.partition(":")
            host, _, port = rest.rpartition(":")
            if kind == transport:
                return host.strip("[]"), int(port)
        raise LookupError(transport)

    async def settled(self, agent: ScriptedUA) -> None:
        """The bridge has dealt with all that this agent sent before. Nothing else may have come to it."""
        host, port = self.address()
        call_id = f"settled-{next(_numbers)}"
        agent.send(
            sip(
                f"OPTIONS sip:{host}:{port} SIP/2.0",
                agent.via_line(f"z9hG4bK-{call_id}"),
                "Max-Forwards: 70",
                f"From: <sip:{agent.host}>;tag=x",
                f"To: <sip:{host}>",
                f"Call-ID: {call_id}",
                "CSeq: 1 OPTIONS",
            )
        )
        answer = await agent.expect(200, "OPTIONS")
        assert answer["Call-ID"] == call_id

    # --- the core's part ---

    def _take(self, events: Sequence[Event]) -> None:
        self.events.extend(events)
        if self.on_event is not None:
            for event in events:
                self.hook.send(self.on_event(event))
        self._arrived.set()

    async def event(self, kind: type[E]) -> E:
        """The next event, which must be of this kind; past what is told for the log alone."""
        event: Event | None = None
        async with asyncio.timeout(PATIENCE_S):
            while event is None or (isinstance(event, MessageDropped) and kind is not MessageDropped):
                while self._taken == len(self.events):
                    self._arrived.clear()
                    await self._arrived.wait()
                event = self.events[self._taken]
                self._taken += 1
        assert isinstance(event, kind), f"expected {kind.__name__}, got {event}"
        return event

    async def until(self, kind: type[E]) -> E:
        """The next event of this kind, past others."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for index in range(self._taken, len(self.events)):
                    event = self.events[index]
                    if isinstance(event, kind):
                        self._taken = index + 1
                        return event
                self._arrived.clear()
                await self._arrived.wait()

    def send(self, *commands: WireCommand | Snapshot) -> None:
        self.hook.send(commands)

    async def accepting(self, detail: str) -> None:
        """`set_accepting`, once the bridge has heard it: commands are carried out in order."""
        self.hook.set_accepting(detail)
        self.send(Snapshot())
        await self.event(SnapshotTaken)

    def route(self, invite: InviteReceived, attempt: int = 1, **changes: Any) -> Route:
        given: dict[str, Any] = {
            "gateway": "gw",
            "host": self.gateway.host,
            "port": self.gateway.port,
            "transport": TransportName.UDP,
            "user": invite.request_user,
            "no_response_ms": 4000,
        }
        return Route(bridge_id=invite.bridge_id, attempt=attempt, **(given | changes))

    def autopilot(self) -> None:
        """Route at once, relay every answer and every failure."""

        def act(event: Event) -> Sequence[WireCommand]:
            match event:
                case InviteReceived():
                    return [self.route(event)]
                case AnswerHeld(bridge_id=i):
                    return [RelayAnswer(bridge_id=i)]
                case RouteFailed(bridge_id=i):
                    return [RelayFailure(bridge_id=i)]
            return ()

        self.on_event = act

    # --- the caller's part ---

    def invite(
        self,
        *headers: str,
        number: str = "4930123",
        body: bytes = OFFER,
        cseq: int = 1,
        tag: str = "from-a",
        branch: str = "",
        call_id: str = "",
        max_forwards: int = 70,
        agent: ScriptedUA | None = None,
        content: str = SDP,
        contact: str = "",
    ) -> Message:
        """Sends it from the caller and returns it as sent. `content` goes with its body."""
        agent = agent or self.caller
        port = agent.peer[1]
        host = bracketed(agent.peer[0])
        data = sip(
            f"INVITE sip:{number}@{host}:{port} SIP/2.0",
            agent.via_line(branch or f"z9hG4bK-{next(_numbers)}"),
            f"Max-Forwards: {max_forwards}",
            f'From: "Alice" <sip:1000@{bracketed(agent.host)}>;tag={tag}',
            f"To: <sip:{number}@{host}>",
            f"Call-ID: {call_id or f'call-{next(_numbers)}@{agent.host}'}",
            f"CSeq: {cseq} INVITE",
            f"Contact: {contact}" if contact else agent.contact(),
            *headers,
            *([content] if body and content else []),
            body=body,
        )
        agent.send(data)
        return Message(data, (agent.host, agent.port))

    def in_dialog(
        self,
        agent: ScriptedUA,
        method: str,
        dialog: Dialog,
        *headers: str,
        cseq: int,
        body: bytes = b"",
        content: str = SDP,
    ) -> Message:
        data = sip(
            f"{method} {dialog.target} SIP/2.0",
            agent.via_line(f"z9hG4bK-{next(_numbers)}"),
            "Max-Forwards: 70",
            f"From: {dialog.local}",
            f"To: {dialog.remote}",
            f"Call-ID: {dialog.call_id}",
            f"CSeq: {cseq} {method}",
            *headers,
            *([content] if body and content else []),
            body=body,
        )
        agent.send(data)
        return Message(data, (agent.host, agent.port))

    def cancel(self, invite: Message, *headers: str, agent: ScriptedUA | None = None) -> None:
        agent = agent or self.caller
        same = [f"{name}: {invite[name]}" for name in ("Via", "From", "To", "Call-ID")]
        agent.send(
            sip(
                f"CANCEL {invite.uri} SIP/2.0",
                *same,
                f"CSeq: {invite.cseq} CANCEL",
                "Max-Forwards: 70",
                *headers,
            )
        )

    def ack_failure(self, invite: Message, response: Message, agent: ScriptedUA | None = None) -> None:
        same = [f"{name}: {invite[name]}" for name in ("Via", "From", "Call-ID")]
        (agent or self.caller).send(
            sip(
                f"ACK {invite.uri} SIP/2.0",
                *same,
                f"To: {response['To']}",
                f"CSeq: {invite.cseq} ACK",
                "Max-Forwards: 70",
            )
        )

    async def idle(self) -> None:
        """Until the bridge holds no call; it frees one just after its last event."""
        await self.counted("live_calls", 0)

    async def counted(self, counter: str, value: int) -> None:
        """Until a counter of the bridge has this value."""
        async with asyncio.timeout(PATIENCE_S):
            while self.hook.stats()[counter] != value:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def routed_call(self) -> tuple[Message, InviteReceived, Message]:
        """A call that the gateway has not answered yet: the INVITE as sent, as told of, as it came out."""
        sent = self.invite()
        await self.caller.expect(100)
        invite = await self.event(InviteReceived)
        self.send(self.route(invite))
        return sent, invite, await self.gateway.expect("INVITE")

    async def answered_call(self) -> tuple[InviteReceived, Dialog, Dialog]:
        """A call that talks: the dialog as the caller sees it, and as the gateway does."""
        sent, invite, at_b = await self.routed_call()
        self.gateway.reply(at_b, 200, tag="to-b", body=ANSWER)
        held = await self.event(AnswerHeld)
        self.send(RelayAnswer(bridge_id=held.bridge_id))
        ok = await self.caller.expect(200)
        a = Dialog.of_caller(sent, ok)
        self.in_dialog(self.caller, "ACK", a, cseq=1)
        await self.gateway.expect("ACK")  # B has it before A's own is in
        await self.until(AckReceived)
        return invite, a, Dialog.of_callee(at_b, "to-b")


class Dialog:
    def __init__(self, target: str, local: str, remote: str, call_id: str) -> None:
        self.target, self.local, self.remote, self.call_id = target, local, remote, call_id

    @classmethod
    def of_caller(cls, invite: Message, response: Message) -> Dialog:
        return cls(response["Contact"].strip("<>"), invite["From"], response["To"], invite["Call-ID"])

    @classmethod
    def of_callee(cls, invite: Message, tag: str) -> Dialog:
        return cls(
            invite["Contact"].strip("<>"), f"{invite['To']};tag={tag}", invite["From"], invite["Call-ID"]
        )
