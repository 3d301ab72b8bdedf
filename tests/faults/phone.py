"""A crowd of phones on one UDP socket: each call follows its Plan, on the caller's side or on the callee's.

Unlike the scripted agents of tests/b2bua it repeats what UDP may lose (RFC 3261 §17), so that a plan comes
true through a lossy network, and it can carry hundreds of calls at once. No library, and nothing of ours but
the reader of messages.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Self

from tests.b2bua.scripted_ua import Message, sip

SDP: Final = (
    b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
)
T1_S: Final = 0.2
TRANSACTION_S: Final = 64 * T1_S


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One call. Times in seconds: of the callee from its INVITE on, of the caller from its own INVITE on, and
    both hang up so long after the 2xx. None: never."""

    ring_s: float | None = 0.0
    answer_s: float | None = 0.01
    reject: int = 0  # instead of an answer
    cancel_s: float | None = None
    caller_bye_s: float | None = None
    callee_bye_s: float | None = None
    acknowledges: bool = True


@dataclass
class Side:
    """What one side of a call saw."""

    call_id: str
    number: str
    plan: Plan
    codes: list[int] = field(default_factory=list)  # of the INVITE
    final: int = 0  # 0: none
    ended_by: str = ""  # "me", "peer", or nothing while it is up
    bye_code: int = 0  # what our BYE got
    byes: int = 0  # of the peer; repeats are none
    bye: Message | None = None  # the last of them
    told_s: float | None = (
        None  # when the peer first ended it (BYE, CANCEL, a final response), by the loop's clock
    )
    hung_up_at: datetime | None = None  # our BYE, when it first left
    gave_up: bool = False  # it has cancelled, or rejected
    final_response: Message | None = None
    setup_s: float = 0.0  # INVITE to its first response above 100
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    proceeding: asyncio.Event = field(default_factory=asyncio.Event)
    hang_up_asked: asyncio.Event = field(default_factory=asyncio.Event)
    bye_received: asyncio.Event = field(default_factory=asyncio.Event)
    acked: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    invite: Message | None = None
    tag: str = ""


Script = Callable[[Message], Plan]


class Phone(asyncio.DatagramProtocol):
    """`async with Phone.at(host) as phone`. `advertised` is where others reach it, if not at its own
    address."""

    def __init__(self, script: Script | None) -> None:
        self._script = script
        self._transport: asyncio.DatagramTransport
        self._waiting: dict[tuple[str, str], asyncio.Queue[Message]] = {}  # (branch, method)
        self._responses: dict[tuple[str, str], bytes] = {}  # the last response to a request
        self._acks: dict[tuple[str, int], bytes] = {}  # to a 2xx, by Call-ID and CSeq
        self._tasks: asyncio.TaskGroup
        self._running: set[asyncio.Task[None]] = set()
        self._count = 0
        self.sides: dict[str, Side] = {}  # by Call-ID
        self.unresponsive = False
        self.unmatched: Counter[str] = Counter()
        self.host, self.port = "", 0
        self.advertised: tuple[str, int] = ("", 0)
        self.peer: tuple[str, int] = ("", 0)

    @classmethod
    async def listen(cls, host: str, port: int = 0, script: Script | None = None) -> Self:
        loop = asyncio.get_running_loop()
        transport, phone = await loop.create_datagram_endpoint(lambda: cls(script), local_addr=(host, port))
        phone._transport = transport
        phone.host, phone.port = transport.get_extra_info("sockname")[:2]
        phone.advertised = (phone.host, phone.port)
        return phone

    async def __aenter__(self) -> Self:
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        for task in list(self._running):
            task.cancel()
        await self._tasks.__aexit__(None, None, None)
        self._transport.close()

    # --- the wire ---

    def send(self, data: bytes, to: tuple[str, int] | None = None) -> None:
        self._transport.sendto(data, to or self.peer)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self.unresponsive or not data.strip():
            return
        message = Message(data, addr)
        if message.is_response:
            self._on_response(message)
        else:
            self._on_request(message)

    def _on_response(self, message: Message) -> None:
        if "CSeq" not in message or "Call-ID" not in message:
            return  # of a request of ours that had none: nobody knows what it answers
        key = (message.branch, message.method)
        if key in self._waiting:
            self._waiting[key].put_nowait(message)
        elif message.method == "INVITE" and message.code >= 200:
            ack = self._acks.get((message["Call-ID"], message.cseq))
            if ack is not None:
                self.send(ack)

    def _on_request(self, request: Message) -> None:
        key = (request.branch, request.method)
        if request.method == "ACK":
            side = self.sides.get(request["Call-ID"])
            if side is not None:
                side.acked.set()
            return
        if key in self._responses:
            if self._responses[key]:
                self.send(self._responses[key], request.source)
            return
        if request.method == "INVITE" and "tag=" not in request["To"]:
            self._responses[key] = b""
            plan = self._script(request) if self._script is not None else Plan()
            side = Side(request["Call-ID"], user_of(request.uri), plan)
            side.invite, side.tag = request, f"b{len(self.sides)}"
            self.sides[side.call_id] = side
            _ = self._start(self._callee(side))
            return
        side = self.sides.get(request["Call-ID"])
        if side is None:
            self.unmatched[request.method] += 1
            self._reply(request, 481)
        elif request.method == "CANCEL":
            self._reply(request, 200, tag=side.tag)
            side.told_s = side.told_s or self._now()
            side.cancelled.set()
        elif request.method == "BYE":
            self._reply(request, 200)
            side.ended_by = side.ended_by or "peer"
            side.byes += 1
            side.bye = request
            side.told_s = side.told_s or self._now()
            side.bye_received.set()
        else:
            self._reply(request, 200)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._tasks.create_task(work, name="call")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def _reply(self, request: Message, code: int, tag: str = "", body: bytes = b"") -> bytes:
        kept = [f"{k}: {v}" for k, v in request.headers if k in ("Via", "From", "Call-ID", "CSeq")]
        to = request["To"] + (f";tag={tag}" if tag and "tag=" not in request["To"] else "")
        more = []
        if request.method == "INVITE" and code < 300:
            more += [f"Record-Route: {value}" for value in request.all("Record-Route")]
            more.append(self._contact())
        if body:
            more.append("Content-Type: application/sdp")
        data = sip(f"SIP/2.0 {code} Said", *kept, f"To: {to}", *more, body=body)
        self._responses[request.branch, request.method] = data
        self.send(data, request.source)
        return data

    def _contact(self) -> str:
        return f"Contact: <sip:phone@{self.advertised[0]}:{self.advertised[1]}>"

    def _via(self, branch: str) -> str:
        return f"Via: SIP/2.0/UDP {self.advertised[0]}:{self.advertised[1]};rport;branch={branch}"

    def _branch(self) -> str:
        self._count += 1
        return f"z9hG4bK-{self.port}-{self._count}"

    async def _transaction(
        self, data: bytes, branch: str, method: str, side: Side | None = None
    ) -> Message | None:
        """The final response; None where there is none in time."""
        answers = self._waiting[branch, method] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        began, pause_s, proceeding = loop.time(), T1_S, False
        self.send(data)
        try:
            while (method == "INVITE" and proceeding) or loop.time() - began < TRANSACTION_S:
                try:
                    async with asyncio.timeout(None if method == "INVITE" and proceeding else pause_s):
                        answer = await answers.get()
                except TimeoutError:
                    pause_s = min(2 * pause_s, 8 * T1_S)
                    self.send(data)
                    continue
                proceeding = True
                if side is not None:
                    side.codes.append(answer.code)
                    side.proceeding.set()
                    if answer.code > 100 and not side.setup_s:
                        side.setup_s = loop.time() - began
                if answer.code >= 200:
                    return answer
            return None
        finally:
            del self._waiting[branch, method]

    # --- the caller ---

    async def place(self, number: str, plan: Plan, *headers: str, **how: Any) -> Side:
        """One call, until it is over. The task that waits may be cancelled; the call is not."""
        side = self.dial(number, plan, *headers, **how)
        await side.ended.wait()
        return side

    def dial(
        self,
        number: str,
        plan: Plan,
        *headers: str,
        call_id: str = "",
        tag: str = "",
        account: str = "",
        display: bytes = b"Caller",
        caller: str = "+4930123456",
        cseq: int = 1,
    ) -> Side:
        """The same, without waiting."""
        branch = self._branch()
        side = Side(call_id or f"c{self._count}-{self.port}@{self.host}", number, plan)
        side.tag = tag or f"a{self._count}"
        self.sides[side.call_id] = side
        more = list(headers) + ([f"X-Account: {account}"] if account else [])
        head = sip(
            f"INVITE sip:{number}@{self.peer[0]}:{self.peer[1]} SIP/2.0",
            self._via(branch),
            "Max-Forwards: 70",
            f'From: "@NAME@" <sip:{caller}@{self.advertised[0]}>;tag={side.tag}',
            f"To: <sip:{number}@{self.peer[0]}>",
            f"Call-ID: {side.call_id}",
            f"CSeq: {cseq} INVITE",
            self._contact(),
            *more,
            "Content-Type: application/sdp",
            body=SDP,
        )
        side.invite = Message(head.replace(b"@NAME@", display), self.advertised)
        _ = self._start(self._caller(side, branch))
        return side

    async def _caller(self, side: Side, branch: str) -> None:
        assert side.invite is not None
        try:
            cancelling = None
            if side.plan.cancel_s is not None:
                cancelling = self._start(self._cancel(side, branch, side.plan.cancel_s))
            answer = await self._transaction(side.invite.raw, branch, "INVITE", side)
            if cancelling is not None and side.plan.caller_bye_s is None:
                await asyncio.wait([cancelling])
            if answer is None:
                return
            side.final, side.final_response = answer.code, answer
            if answer.code >= 300:
                side.told_s = self._now()
                if "To" not in answer:
                    return  # of an INVITE that had none: an ACK would have none either
                ack = self._in_dialog(side, "ACK", side.invite.cseq, branch=branch, uri=side.invite.uri)
                self._acks[side.call_id, side.invite.cseq] = ack
                self.send(ack)
                return
            if side.plan.acknowledges:
                ack = self._in_dialog(side, "ACK", side.invite.cseq)
                self._acks[side.call_id, side.invite.cseq] = ack
                self.send(ack)
            # A CANCEL that the 2xx overtook is made good by a BYE.
            bye_s = side.plan.caller_bye_s if side.plan.cancel_s is None else side.plan.caller_bye_s or 0.0
            await self._talk(side, bye_s, side.invite.cseq + 1)
        finally:
            side.ended.set()

    async def _cancel(self, side: Side, branch: str, after_s: float) -> None:
        invite = side.invite
        assert invite is not None
        await asyncio.sleep(after_s)
        # RFC 3261 §9.1: not before a provisional response.
        await side.proceeding.wait()
        if side.final or any(code >= 200 for code in side.codes):
            return
        side.gave_up = True
        same = [f"{name}: {invite[name]}" for name in ("Via", "From", "To", "Call-ID", "Max-Forwards")]
        await self._transaction(
            sip(f"CANCEL {invite.uri} SIP/2.0", *same, f"CSeq: {invite.cseq} CANCEL"), branch, "CANCEL"
        )

    async def _talk(self, side: Side, bye_s: float | None, cseq: int) -> None:
        waits = [self._start(_wait(event)) for event in (side.bye_received, side.hang_up_asked)]
        await asyncio.wait(waits, timeout=bye_s, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if side.bye_received.is_set():
            return
        side.ended_by = side.ended_by or "me"
        side.hung_up_at = datetime.now(UTC)
        branch = self._branch()
        answer = await self._transaction(self._in_dialog(side, "BYE", cseq, branch=branch), branch, "BYE")
        side.bye_code = answer.code if answer is not None else 0

    def _in_dialog(self, side: Side, method: str, cseq: int, *, branch: str = "", uri: str = "") -> bytes:
        invite = side.invite
        assert invite is not None
        if side.final_response is not None:
            local, remote = invite["From"], side.final_response["To"]
            contact = side.final_response
            routes = contact.all("Record-Route")[::-1]
        else:
            local, remote, contact = f"{invite['To']};tag={side.tag}", invite["From"], invite
            routes = contact.all("Record-Route")
        target = uri or contact["Contact"].strip("<>").split(">")[0]
        return sip(
            f"{method} {target} SIP/2.0",
            self._via(branch or self._branch()),
            *([] if uri else [f"Route: {value}" for value in routes]),
            "Max-Forwards: 70",
            f"From: {local}",
            f"To: {remote}",
            f"Call-ID: {side.call_id}",
            f"CSeq: {cseq} {method}",
        )

    # --- the callee ---

    async def _callee(self, side: Side) -> None:
        invite, plan = side.invite, side.plan
        assert invite is not None
        began = asyncio.get_running_loop().time()
        steps: list[tuple[float, int]] = []
        if plan.ring_s is not None:
            steps.append((plan.ring_s, 180))
        if plan.answer_s is not None:
            steps.append((plan.answer_s, plan.reject or 200))
        if not steps or steps[0][0] > 0:
            self._reply(invite, 100)
        try:
            for after_s, code in steps:
                if await self._cancelled(side, began + after_s):
                    break
                if code == 180:
                    self._reply(invite, 180, tag=side.tag)
                    continue
                side.final = code
                side.gave_up = code >= 300
                await self._final(side, code)
                if code < 300:
                    await self._talk(side, plan.callee_bye_s, 1)
                return
            await side.cancelled.wait()
            side.final = 487
            await self._final(side, 487)
        finally:
            side.ended.set()

    async def _cancelled(self, side: Side, until: float) -> bool:
        try:
            async with asyncio.timeout_at(until):
                await side.cancelled.wait()
        except TimeoutError:
            return False
        return True

    async def _final(self, side: Side, code: int) -> None:
        """Again and again until it is acknowledged, or the other side has hung up."""
        assert side.invite is not None
        pause_s = T1_S
        loop = asyncio.get_running_loop()
        until = loop.time() + TRANSACTION_S
        data = self._reply(side.invite, code, tag=side.tag, body=SDP if code == 200 else b"")
        while loop.time() < until and not side.bye_received.is_set():
            try:
                async with asyncio.timeout(pause_s):
                    await side.acked.wait()
                    return
            except TimeoutError:
                pause_s = min(2 * pause_s, 8 * T1_S)
                self.send(data, side.invite.source)

    def hang_up(self, side: Side) -> None:
        """Now, whatever the plan says."""
        side.hang_up_asked.set()

    async def all_ended(self, within_s: float) -> None:
        async with asyncio.timeout(within_s):
            for side in list(self.sides.values()):
                await side.ended.wait()


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


def user_of(uri: str) -> str:
    return uri.removeprefix("sip:").partition("@")[0]


def by_number(plans: dict[str, Plan], otherwise: Plan | None = None) -> Script:
    """The plan of the called number."""

    def find(invite: Message) -> Plan:
        return plans.get(user_of(invite.uri)) or otherwise or Plan()

    return find


def finals(sides: Iterable[Side]) -> Counter[int]:
    return Counter(side.final for side in sides)
