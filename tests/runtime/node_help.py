"""A node without its SIP side: the real store, the real table of calls, and a bridge whose part the test
plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from sidecar.adapters.deck_files import DeckRefusedError, read_deck, read_exchange_rates
from sidecar.adapters.metrics import Metrics
from sidecar.adapters.sqlite import SqliteStore
from sidecar.config import Inputs, Loaded, load
from sidecar.config.candidate import Candidate
from sidecar.core.commands import RelayAnswer, Route, Snapshot, WireCommand
from sidecar.core.events import (
    AckReceived,
    AnswerHeld,
    AnswerRelayed,
    ByeReceived,
    CallEvent,
    Event,
    InviteReceived,
    LegIdentity,
    LegTerminated,
)
from sidecar.core.persistent_map import PersistentMap
from sidecar.core.policy import Policy
from sidecar.core.records import utc
from sidecar.core.tariff import Deck
from sidecar.core.terms import LegName, TransportName
from sidecar.ports import DeckBook, GatewayStatus
from sidecar.runtime.admin import Admin
from sidecar.runtime.calls import Calls
from sidecar.runtime.reload import BadSettingsError, Reading, Reloading
from sidecar.wire.control_node import NodeStatus
from sidecar.wiring.decks import Decks

WALL_NS = 1_790_000_000_000_000_000


class StoppedClock:
    """Stands still until the test moves it."""

    def __init__(self) -> None:
        self.passed_ns = 0

    def mono_ns(self) -> int:
        return 5_000_000_000 + self.passed_ns

    def wall_ns(self) -> int:
        return WALL_NS + self.passed_ns

    def pass_ms(self, ms: int) -> None:
        self.passed_ns += ms * 1_000_000


class Bridge:
    """Takes the commands of the node."""

    def __init__(self) -> None:
        self.sent: list[WireCommand | Snapshot] = []
        self.accepting = ""

    def send(self, commands: Sequence[WireCommand | Snapshot]) -> None:
        self.sent += commands

    def set_accepting(self, detail: str) -> None:
        self.accepting = detail


class Beside:
    """What is set beside the calls: a test says what becomes of it, and sees what is told."""

    def __init__(self) -> None:
        self.fixed: list[str] = []  # what only a start can change
        self.renewed: bool | list[str] = False
        self.wrong: list[str] = []
        self.has_news = False  # for the SIP side
        self.told: list[str] = []

    def check(self, _: Reading, __: Reading) -> Sequence[str]:
        return self.fixed

    async def renew_certificates(self, _: Reading, __: Reading) -> bool:
        if not isinstance(self.renewed, bool):
            raise BadSettingsError(self.renewed)
        return self.renewed

    def put_in_force(self, _: Reading, __: Reading, policy: Policy) -> bool:
        if self.wrong:
            raise BadSettingsError(self.wrong)
        self.told.append(f"put in force {sorted(policy.gateways)}")
        return self.has_news

    async def took_over(self, after: Reading) -> None:
        self.told.append(f"took over {sorted(after.policy.gateways)}")


class Node:
    def __init__(
        self,
        store: SqliteStore,
        calls: Calls,
        bridge: Bridge,
        clock: StoppedClock,
        deck_book: DeckBook | None = None,
        candidate: Candidate[Reading] | None = None,
    ) -> None:
        self.store = store
        self.candidate = candidate
        self.calls = calls
        self.bridge = bridge
        self.clock = clock
        self.faults: list[Exception] = []
        self.metrics = Metrics()
        self.gateways: list[GatewayStatus] = []
        self.decks: dict[str, Deck] = {}  # what is in force in the store of decks
        self.read_again = 0  # how often the relay was told to
        self.settings: Reading | list[str] = ["there are no settings"]  # as they would be read now
        self.beside = Beside()
        in_force = Reading(policy=calls.policy)
        self.reloading = Reloading(calls, store.stored, self._read, in_force, self.beside)
        self.admin = Admin(
            calls=calls,
            accounts=store.accounts,
            audit=store.audit,
            suspense=store.suspense,
            retention=store.retention,
            records=store.records,
            revisions=store.revisions,
            clock=clock,
            status=self._status,
            dead_letters=store.outbox,
            read_again=self._read_again,
            gateways=lambda: self.gateways,
            decks=lambda name: self.read_deck(name),  # noqa: PLW0108 - a test may change it
            deck_book=deck_book,
            reloading=self.reloading,
            stored=store.stored,
            candidate=candidate,
            users=store.users,
        )
        self.read_deck: Callable[[str], Deck | Sequence[str]] = lambda name: self.decks.get(
            name, [f"no deck is in force as {name}"]
        )
        self._news = asyncio.Event()
        self._numbers = 0
        store.on_outcome(self._outcome)
        store.outbox.on_rows(self._news.set)

    def counted(self, name: str, **labels: str) -> float:
        """A number of the metrics; 0 where there is none yet."""
        return self.metrics.registry.get_sample_value(name, labels) or 0

    def _read(self) -> Reading | Sequence[str]:
        """Anew, each time."""
        if not isinstance(self.settings, Reading):
            return self.settings
        policy = self.settings.policy
        return replace(self.settings, policy=replace(policy, accounts=PersistentMap(dict(policy.accounts))))

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._news.clear()
            await self._news.wait()

    async def written(self) -> None:
        """What was submitted so far is on disk."""
        await self.store.outbox.acknowledge([], [])

    async def up(self, callee: str = "004412345678", *, account: str = "demo") -> UUID:
        """A call that is talking."""
        number = self._numbers = self._numbers + 1
        before = {call.call_id for call in self.calls.live()}
        self._bridge_says(self.invite(number, callee, account))
        [call_id] = {call.call_id for call in self.calls.live()} - before
        await self.until(lambda: self._has_sent(Route, number))
        answer = AnswerHeld(
            bridge_id=number,
            attempt=1,
            sip_code=200,
            leg=_leg(f"b{number}"),
            mono_ns=self._mono(),
            wall_ns=self._wall(),
        )
        self._bridge_says(answer)
        await self.until(lambda: self._has_sent(RelayAnswer, number))
        self._bridge_says(
            AnswerRelayed(bridge_id=number, mono_ns=self._mono(), wall_ns=self._wall()),
            AckReceived(bridge_id=number, mono_ns=self._mono(), wall_ns=self._wall()),
        )
        return call_id

    async def whole(
        self, callee: str = "004412345678", *, talk_ms: int = 2_400, account: str = "demo"
    ) -> UUID:
        """A call that its caller has hung up, and whose record is written."""
        call_id = await self.up(callee, account=account)
        call = self.calls.find(call_id)
        assert call is not None
        self.clock.pass_ms(talk_ms)
        self._bridge_says(
            ByeReceived(
                bridge_id=call.bridge_id, leg_name=LegName.A, mono_ns=self._mono(), wall_ns=self._wall()
            )
        )
        await self.closed(call.bridge_id)
        return call_id

    async def closed(self, number: int) -> None:
        """Both legs of the call are gone; its record is written."""
        head_seq = (await self.store.outbox.outbox_state()).head_seq
        self._bridge_says(
            *(
                LegTerminated(bridge_id=number, leg_name=leg, mono_ns=self._mono(), wall_ns=self._wall())
                for leg in LegName
            )
        )
        while (await self.store.outbox.outbox_state()).head_seq == head_seq:
            await self._news.wait()

    def invite(self, number: int, callee: str, account: str) -> InviteReceived:
        return InviteReceived(
            bridge_id=number,
            mono_ns=self._mono(),
            wall_ns=self._wall(),
            leg=_leg(f"a{number}"),
            peer="local",
            request_uri=f"sip:{callee}@127.0.0.1",
            request_user=callee,
            from_user="+4930123456",
            headers=(("x-account", account),),
            b_token=f"{number:064x}",
        )

    def _bridge_says(self, *events: Event) -> None:
        self.calls.on_bridge_events(events)

    def _outcome(self, events: Sequence[CallEvent]) -> None:
        self.calls.on_store_events(events)
        self._news.set()

    def _has_sent(self, kind: type[WireCommand], number: int) -> bool:
        return any(isinstance(one, kind) and one.bridge_id == number for one in self.bridge.sent)

    def _mono(self) -> int:
        return self.clock.mono_ns()

    def _wall(self) -> int:
        return self.clock.wall_ns()

    def _read_again(self) -> None:
        self.read_again += 1

    async def _status(self) -> NodeStatus:
        state = await self.store.outbox.outbox_state()
        return NodeStatus(
            tenant=self.calls.policy.tenant,
            node=self.calls.policy.node,
            boot_id=self.calls.policy.boot_id,
            store_epoch=self.store.epoch,
            version="0",
            engine="none",
            started_at=utc(WALL_NS),
            state=self.calls.state or "accepting",
            calls=self.calls.load.calls,
            calls_max=self.calls.policy.calls_max,
            sip=("udp:127.0.0.1:5080",),
            outbox_head_seq=state.head_seq,
            outbox_depth=state.depth,
        )


async def each_turn(look: Callable[[], int], running: asyncio.Task[Any]) -> list[int]:
    """What is seen in the turns of the event loop until the task is done, without repeats."""
    seen = [look()]
    while not running.done():
        await asyncio.sleep(0)
        if seen[-1] != look():
            seen.append(look())
    return seen


@asynccontextmanager
async def a_node(folder: Path, vfs: str | None = None) -> AsyncIterator[Node]:
    """On the `demo` profile; its data are in `folder`."""
    inputs = Inputs(
        read_deck=_deck,
        read_exchange=read_exchange_rates,
        host_name="box",
        boot_id="boot",
        command_line={"sip.profile": "demo"},
        system_file=folder / "none.toml",
    )
    loaded = load(inputs)
    clock, bridge, metrics = StoppedClock(), Bridge(), Metrics()
    store = SqliteStore.open(folder / "data", node="box", boot_id="boot", clock=clock, vfs=vfs)
    try:
        await store.accounts.take_over([(one.terms, None) for one in loaded.policy.accounts.values()])
        faults: list[Exception] = []  # a test that causes one takes it out
        calls = Calls(
            policy=loaded.policy.with_stored((), ()),
            control=bridge,
            store=store,
            clock=clock,
            meter=metrics,
            on_fault=lambda _, error: faults.append(error),
        )
        node = Node(store, calls, bridge, clock, Decks(folder / "data" / "decks"), Candidate(inputs, _read))
        node.faults, node.metrics = faults, metrics
        yield node
        assert faults == []
        assert await store.ledger_check() == []
    finally:
        await store.close()


def _read(loaded: Loaded, warnings: Sequence[str]) -> Reading:
    return Reading(policy=loaded.policy, listed=loaded.listed, warnings=warnings)


def _deck(path: Path) -> Deck | Sequence[str]:
    try:
        return read_deck(path)
    except DeckRefusedError as refused:
        return [str(error) for error in refused.errors]


def _leg(name: str) -> LegIdentity:
    return LegIdentity(
        sip_call_id=f"{name}@example.com",
        local_tag=f"l{name}",
        remote_tag=f"r{name}",
        local_uri="sip:a@127.0.0.1",
        remote_uri="sip:b@127.0.0.1",
        branch=f"z9hG4bK{name}",
        local_address="127.0.0.1:5080",
        remote_address="127.0.0.1:5090",
        transport=TransportName.UDP,
    )
