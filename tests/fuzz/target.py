"""The real hook with a live dialog and a great many calls, and messages thrown at it over UDP and TCP.

All of it is in one process. A sanitizer's report ends that process; `python -m tests.fuzz` is another one,
and says where the messages since the last call that worked are.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sidecar.b2bua.settings import Credentials
from sidecar.core.terms import TransportName
from tests.b2bua.rig import ANSWER, Dialog
from tests.b2bua.scripted_ua import Message, ScriptedUA, sip
from tests.fuzz import corpus
from tests.fuzz.endings import outlived_its_bye
from tests.fuzz.mutate import mutated, odd_field
from tests.fuzz.recording import Recorder, Recording, Sent
from tests.fuzz.rig import PROBE_CALL_MS_MAX, PROBE_USER, FuzzRig, RandomUA

BATCH: Final = 20  # messages between two OPTIONS that must be answered
PROBE_EVERY: Final = 400  # messages between two whole calls that must work; each has a live dialog of its own
ODD_CALLS: Final = 10  # whole calls with odd header fields before each of those live dialogs
TCP_BATCH: Final = 8  # batches on one connection: once its framing is lost, the rest of it is noise
ANSWER_S_MAX: Final = 30.0  # of a node that lives, beside whatever else the machine has to do
TRIES: Final = 3  # a whole call that must work, before it is said not to
OF_OURS: Final = ("dead_peer", "max_duration", "no_ack")  # ends for want of what the agents here had to send
DAMAGED_CALLS: Final = 10  # and calls whose 2xx, ACK and BYE come damaged first


class UnresponsiveError(Exception):
    """The bridge lives, but does not do its work any more."""


@dataclass
class Tally:
    messages: int = 0
    probes: int = 0
    calls: int = 0
    second_tries: int = 0  # calls of ours that stood still once
    damaged: int = 0  # calls that ended with their BYE, whatever damaged copy of it went before
    odd: int = 0  # calls that ended with their BYE, whatever else was in 2xx, ACK and BYE
    relayed: int = 0  # in-dialog requests that reached the other side
    seconds: float = 0.0


class Fuzzer:
    """`kept`: where the messages since the last call that worked are."""

    def __init__(self, seed: int, kept: Path) -> None:
        self._seed = seed
        self.rng = random.Random(seed)
        self.tally = Tally()
        self._recorder = Recorder(kept)
        self._words: dict[str, str] = {}
        self._filled: tuple[bytes, ...] = ()

    async def run(self, seconds: float) -> None:
        began = time.monotonic()
        async with self._started() as (rig, senders):
            while time.monotonic() - began < seconds:
                await self._round(rig, senders, self._invented())
                self.tally.seconds = time.monotonic() - began
            await self._no_call_remains(rig)

    async def replay(self, recording: Recording) -> None:
        began = time.monotonic()
        async with self._started() as (rig, senders):
            await self._round(rig, senders, self._recorded(recording))
            await self._round(rig, senders, iter(()))  # whole calls still work
            await self._no_call_remains(rig)
        self.tally.seconds = time.monotonic() - began

    @contextlib.asynccontextmanager
    async def _started(self) -> AsyncIterator[tuple[FuzzRig, Senders]]:
        rig = FuzzRig(
            transports=(TransportName.UDP, TransportName.TCP),
            t1_ms=20,
            answer_hold_ms_max=2000,
            options_interval_ms=150,
            unlisted_source="reject",
            refer="pass",
            wanted_headers=("X-Account", "P-Asserted-Identity", "Session-ID", "Reason"),
            product="fuzzed",
            credentials=(Credentials(gateway="gw", username="u", password="p"),),
        )
        rig.probe_calls = set()
        async with rig:
            rig.random_ua = await RandomUA.at(f"{rig.network}.3", self._seed)
            senders = Senders(rig)
            try:
                yield rig, senders
            finally:
                senders.close()
                rig.random_ua.close()
                self._recorder.close()

    async def _round(self, rig: FuzzRig, senders: Senders, batches: Iterator[Sequence[Sent]]) -> None:
        """A whole call that must work; then its dialog is held open, and messages fly at it and past it."""
        caller, rig.callee = await self._agents(rig)
        try:
            await self._call(rig, caller, hang_up=True)
            self.tally.probes += 1
            for _ in range(ODD_CALLS):
                await self._call(rig, caller, hang_up=True, fields=self._odd_fields)
                self.tally.odd += 1
            for _ in range(DAMAGED_CALLS):
                if wrong := await outlived_its_bye(rig, self.rng, self._number()):
                    raise UnresponsiveError(wrong)
                self.tally.damaged += 1
            a, b, at_b = await self._call(rig, caller, hang_up=False)
            self._fill(rig, senders, a, b, at_b)
            self._recorder.begin(self._seed, self._words)
            async with asyncio.TaskGroup() as tasks:
                polite = [
                    tasks.create_task(answer_all_requests(agent), name="party")
                    for agent in (caller, rig.callee)
                ]
                for number, batch in enumerate(batches):
                    if number % TCP_BATCH == 0:
                        await senders.connect()
                    for way, message in batch:
                        self._recorder.add(way, message)
                        await senders.send(way, message)
                    await senders.ping()
                for task in polite:
                    # Until Python 3.12 wait_for loses a cancellation that meets a message.
                    while not task.done():
                        task.cancel()
                        await asyncio.sleep(0)
        finally:
            rig.release_probe_calls()
            caller.close()
            rig.callee.close()
        stats = rig.hook.stats()
        self.tally.calls, self.tally.relayed = stats["invites"], stats["requests_relayed"]
        if stats["exceptions"]:
            raise UnresponsiveError("the bridge caught an exception of its own")

    async def _agents(self, rig: FuzzRig) -> tuple[ScriptedUA, ScriptedUA]:
        caller = await ScriptedUA.udp(f"{rig.network}.2")
        callee = await ScriptedUA.udp(f"{rig.network}.4")
        caller.peer = callee.peer = rig.address()
        return caller, callee

    async def _call(
        self,
        rig: FuzzRig,
        caller: ScriptedUA,
        *,
        hang_up: bool,
        fields: Callable[[], Sequence[str]] = tuple,
    ) -> tuple[Dialog, Dialog, Message]:
        """`fields` are added to 2xx, ACK and BYE; none of them keeps the call from its end. These agents
        repeat nothing, and the flood beside them may cost a datagram, or the machine their turn: what the
        node does wrong it does again."""
        added: list[Sequence[str]] = [fields() for _ in range(3)]
        for tried in range(TRIES):
            try:
                return await self._call_once(rig, caller, added, hang_up=hang_up)
            except (TimeoutError, AssertionError) as error:  # a wrong message is no lost one
                if isinstance(error, AssertionError) or tried == TRIES - 1:
                    what = f"a call that must work did not: {error!r}; with {added}; {rig.hook.stats()}"
                    raise UnresponsiveError(what) from error
            self.tally.second_tries += 1
        raise AssertionError("no try was made")

    async def _call_once(
        self, rig: FuzzRig, caller: ScriptedUA, added: Sequence[Sequence[str]], *, hang_up: bool
    ) -> tuple[Dialog, Dialog, Message]:
        callee = rig.callee
        number = self._number()
        sent = rig.invite(number=f"{PROBE_USER}{number}", tag=f"probe{number}", agent=caller)
        at_b = await self._invited(callee, number)
        callee.reply(at_b, 200, *added[0], tag=f"b{number}", body=ANSWER)
        ok = await self._heard(caller, sent, 200)
        a, b = Dialog.of_caller(sent, ok), Dialog.of_callee(at_b, f"b{number}")
        rig.in_dialog(caller, "ACK", a, *added[1], cseq=1)
        await self._heard(callee, at_b, "ACK")
        if hang_up:
            rig.in_dialog(caller, "BYE", a, *added[2], cseq=2)
            callee.reply(await self._heard(callee, at_b, "BYE"), 200)
            await self._heard(caller, sent, 200, "BYE")
        return a, b, at_b

    async def _invited(self, callee: ScriptedUA, number: int) -> Message:
        while True:
            message = await callee.receive()
            if message.method == "INVITE" and f":{PROBE_USER}{number}@" in message.uri:
                return message
            _answer_politely(callee, message)

    async def _heard(
        self, agent: ScriptedUA, invite: Message, what: str | int, method: str = "INVITE"
    ) -> Message:
        """The next such message of this call. Keep-alives before it are answered, and what is of an earlier
        try, or for an agent that had this port before."""
        while True:
            message = await agent.receive()
            if message["Call-ID"] != invite["Call-ID"] or message.method == "OPTIONS":
                _answer_politely(agent, message)
                continue
            got = (message.code, message.method) if message.is_response else message.method
            if got == (what if isinstance(what, str) else (what, method)):
                return message
            if got == "BYE" and any(f'text="{text}"' in message.raw.decode() for text in OF_OURS):
                _answer_politely(agent, message)
                raise TimeoutError(f"expected {what}, but too late: {message['Reason']}")
            if not 100 <= message.code < 200:
                raise AssertionError(f"expected {what}, got {message.start}")

    def _fill(self, rig: FuzzRig, senders: Senders, a: Dialog, b: Dialog, at_b: Message) -> None:
        host, port = rig.address()
        self._words = {"host": host, "port": str(port), "caller": senders.a_name, "gateway": senders.b_name}
        for side, dialog in (("a", a), ("b", b)):
            self._words |= {
                f"{side}_target": dialog.target,
                f"{side}_local": dialog.local,
                f"{side}_remote": dialog.remote,
                f"{side}_call_id": dialog.call_id,
                f"{side}_local_tag": dialog.local.rpartition("tag=")[2],  # for a recording: where the rest of
                f"{side}_remote_tag": dialog.remote.rpartition("tag=")[2],  # the header field was mutated
            }
        self._words["b_branch"] = at_b.branch
        self._filled = tuple(filled(text, self._words | {"n": "0", "via": "UDP"}) for text in corpus.ALL)

    def _number(self) -> int:
        self.tally.messages += 1
        return self.tally.messages

    def _invented(self) -> Iterator[Sequence[Sent]]:
        for _ in range(PROBE_EVERY // BATCH):
            yield [self._invent() for _ in range(BATCH)]

    def _invent(self) -> Sent:
        way = self.rng.choice(("a", "a", "b", "tcp"))
        text = self.rng.choice(corpus.ALL)
        words = self._words | {"n": str(self._number()), "via": "TCP" if way == "tcp" else "UDP"}
        message = filled(text, words)
        if self.rng.random() < 0.9:
            message = mutated(self.rng, message, self._filled)
        return way, message

    def _odd_fields(self) -> Sequence[str]:
        return [odd_field(self.rng, corpus.FIELDS) for _ in range(self.rng.choice((1, 1, 1, 3)))]

    def _recorded(self, recording: Recording) -> Iterator[Sequence[Sent]]:
        sent = recording.addressed(self._words)
        for first in range(0, len(sent), BATCH):
            batch = sent[first : first + BATCH]
            self.tally.messages += len(batch)
            yield batch

    async def _no_call_remains(self, rig: FuzzRig) -> None:
        """All calls have a longest time, so a slot that is taken after it is lost."""
        held: dict[str, int] = {}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PROBE_CALL_MS_MAX / 1000 + ANSWER_S_MAX):
                while True:
                    stats = rig.hook.stats()
                    held = {name: stats[name] for name in ("live_calls", "transactions", "abandoned_legs")}
                    if not any(held.values()):
                        return
                    await asyncio.sleep(0.1)
        raise UnresponsiveError(f"all calls are over, but there are {held}")


class Senders:
    """Sockets of the caller's and the gateway's address, apart from those of the live dialog's parties."""

    def __init__(self, rig: FuzzRig) -> None:
        self._udp, self._tcp = rig.address("udp"), rig.address("tcp")
        self._a, self._b = (_socket(f"{rig.network}.{last}", socket.SOCK_DGRAM) for last in (2, 3))
        self._ping = _socket(f"{rig.network}.2", socket.SOCK_DGRAM)
        self._stream: socket.socket | None = None
        self._host = f"{rig.network}.2"
        self.a_name, self.b_name, self._ping_name = (_name_of(one) for one in (self._a, self._b, self._ping))
        self._pings = 0

    def close(self) -> None:
        for one in (self._a, self._b, self._ping, self._stream):
            if one is not None:
                one.close()

    async def connect(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = _socket(self._host, socket.SOCK_STREAM)
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                await asyncio.get_running_loop().sock_connect(self._stream, self._tcp)
        except OSError as error:  # TimeoutError too
            raise UnresponsiveError(f"it takes no connection: {error!r}") from error

    async def send(self, way: str, message: bytes) -> None:
        with contextlib.suppress(
            BlockingIOError, ConnectionError
        ):  # a connection it closed: the next is soon made
            if way == "tcp":
                assert self._stream is not None
                self._stream.send(message)
            else:
                (self._a if way == "a" else self._b).sendto(message, self._udp)

    async def ping(self) -> None:
        """It has dealt with what was sent before: OPTIONS is answered, at the third try at the latest."""
        loop = asyncio.get_running_loop()
        for one in (self._a, self._b, self._stream):
            _discard_received(one)
        self._pings += 1
        call_id = f"ping-{self._pings}"
        asked = sip(
            "OPTIONS sip:x SIP/2.0",
            f"Via: SIP/2.0/UDP {self._ping_name};rport;branch=z9hG4bK-{call_id}",
            "Max-Forwards: 70",
            f"From: <sip:x@{self._host}>;tag=p",
            f"To: <sip:{self._udp[0]}>",
            f"Call-ID: {call_id}",
            "CSeq: 1 OPTIONS",
        )
        for _ in range(3):
            self._ping.sendto(asked, self._udp)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_S_MAX / 3):
                    while call_id.encode() + b"\r\n" not in await loop.sock_recv(self._ping, 65536):
                        pass
                    return
        raise UnresponsiveError("OPTIONS is not answered any more")


def _answer_politely(agent: ScriptedUA, message: Message) -> None:
    if not message.is_response and message.method != "ACK":
        agent.reply(message, 481 if message.method == "INVITE" else 200)


def _socket(host: str, kind: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, kind)
    made.setblocking(False)
    made.bind((host, 0))
    return made


def _name_of(one: socket.socket) -> str:
    host, port = one.getsockname()
    return f"{host}:{port}"


def _discard_received(one: socket.socket | None) -> None:
    with contextlib.suppress(OSError):
        while one is not None and one.recv(65536):
            pass


async def answer_all_requests(agent: ScriptedUA) -> None:
    while True:
        with contextlib.suppress(TimeoutError, AssertionError, ValueError, IndexError):
            message = await agent.receive()
            if not message.is_response and message.method != "ACK":
                agent.reply(message, 200)


def filled(text: str, words: dict[str, str]) -> bytes:
    for name, value in words.items():
        text = text.replace("{" + name + "}", value)
    return text.encode("utf-8", "surrogateescape")
