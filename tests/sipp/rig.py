"""One real node for the SIPp scenarios: the daemon as a child process, its own Mosquitto, an independent
subscriber, and a profile whose routes lead to callees that answer, callees that fail, and places where
nobody answers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from sidecar.demo.children import Daemon, Sipp, daemon, free_ports
from sidecar.demo.subscriber import Record, Subscriber

RECORD_S_MAX = 30.0  # from the end of the SIPp pair to its CDR at the subscriber
PERIOD_S = 0.02
EARLY_MS = 100  # two processes' clocks, and the way of a message between them
BUSY_MS = 3000  # SIPp and the node share two cores with the other tests

_numbers = itertools.count(1)

PROFILE = """
[sip]
listen_udp = ["{host}:0"]
blocked_numbers = ["0900*"]
account_required = true

[timers]
ring_timeout_s = 2
max_duration_s = {max_duration_s}
auth_retry_s = 2

[node]
calls_max = {calls_max}

[peers.local]
addresses = ["{host}/32"]
asserts_identity = true
[[peers.local.proxy_hangups]]
header = "reason"
contains = "dialog timeout"
detail = "session_timer"
[[peers.local.proxy_hangups]]
header = "reason"
contains = "no credit"
detail = "no_credit"

[gateways.main]
host = "{host}"
port = {main}
strip_digits = 2
deck = "demo"
no_response_failover_s = 10

[gateways.second]
host = "{host}"
port = {second}

[gateways.small]
host = "{host}"
port = {small}
calls_max = 1

[gateways.elsewhere]
host = "{host}"
port = {elsewhere}
failover_codes = [404]

[gateways.slow]
host = "{host}"
port = {slow}
no_progress_failover_s = 1

[gateways.silent]
host = "{host}"
port = {silent}
no_response_failover_s = 1

[gateways.patient]
host = "{host}"
port = {silent}
no_response_failover_s = 10

[gateways.closed]
host = "{host}"
port = {closed}
no_response_failover_s = 1

[[routes]]
prefix = "00"
gateways = ["main"]
[[routes]]
prefix = "01"
gateways = ["main", "second"]
[[routes]]
prefix = "02"
gateways = ["silent", "second"]
[[routes]]
prefix = "03"
gateways = ["patient"]
[[routes]]
prefix = "04"
gateways = ["closed"]
[[routes]]
prefix = "05"
gateways = ["small"]
[[routes]]
prefix = "07"
gateways = [["main=3", "second=1"]]
[[routes]]
prefix = "08"
gateways = ["elsewhere", "second"]
[[routes]]
prefix = "10"
gateways = ["slow", "second"]
[[routes]]
prefix = "0900"
gateways = ["main"]

[decks]
demo = "demo"
narrow = "{narrow}"

[billing]
deck = "demo"

[accounts.demo]
currency = "EUR"
[accounts.prepaid]
currency = "EUR"
prepaid = true
[accounts.empty]
currency = "EUR"
prepaid = true
[accounts.narrow]
currency = "EUR"
prepaid = true
deck = "narrow"
[accounts.single]
currency = "EUR"
calls_max = 1
"""
ACCOUNTS = ("demo", "prepaid", "empty", "narrow", "single")
# What nobody's header claims is demo's; a number that begins otherwise is nobody's.
CLAIMED_PREFIXES = ("00", "01", "02", "03", "04", "05", "07", "08", "09", "10")
# Rates numbers that begin with 49 alone.
NARROW_DECK = (
    "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s,steps\n"
    "49,Germany,EUR,0,0.60,1,1,\n"
)


class Rig:
    """`place` one call: a SIPp pair and the record of it."""

    def __init__(self, folder: Path, host: str, program: Sequence[str] = ()) -> None:
        self.folder = folder
        self.host = host
        self.stranger = host.removesuffix(".1") + ".2"  # an address in no peer group
        self._program = program
        self._more: dict[str, str] = {}
        names = ("main", "second", "small", "elsewhere", "slow", "silent", "closed")
        self.gateways = dict(zip(names, free_ports(host, len(names)), strict=True))
        self.node: Daemon
        self.subscriber: Subscriber

    def settings(self, **more: str) -> dict[str, str]:
        return {
            "SIDECAR_NODE__NAME": "rig",
            "SIDECAR_NODE__DATA_DIR": str(self.folder / "data"),
            "SIDECAR_SIP__PROFILE": str(self.folder / "rig.toml"),
            "SIDECAR_METRICS__LISTEN": f"{self.host}:0",
            "SERVER_BILLING_GATEWAY_ROUTE_PREFIX": "2",
            **more,
        }

    def write_profile(self, *, calls_max: int, max_duration_s: int) -> None:
        deck = self.folder / "narrow.csv"
        deck.write_text(NARROW_DECK)
        text = PROFILE.format(
            host=self.host,
            narrow=deck,
            calls_max=calls_max,
            max_duration_s=max_duration_s,
            **self.gateways,
        )
        for name in ACCOUNTS:
            text += f'[[account_rules]]\naccount = "{name}"\nheader = "x-account"\nheader_value = "{name}"\n'
        for prefix in CLAIMED_PREFIXES:
            text += f'[[account_rules]]\naccount = "demo"\ncalled_prefix = "{prefix}"\n'
        (self.folder / "rig.toml").write_text(text)

    @asynccontextmanager
    async def up(self, **settings: str) -> AsyncIterator[None]:
        """The daemon and the subscriber, until the block is left. May be entered again: a restart on the
        same data."""
        self._more = settings or self._more
        how = {"program": self._program} if self._program else {}
        async with AsyncExitStack() as stack:
            log = self.folder / "daemon.log"
            self.node = await stack.enter_async_context(daemon(log, self.settings(**self._more), **how))
            self.subscriber = Subscriber(*self.node.broker)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            listening = tasks.create_task(self.subscriber.run(), name="subscriber")
            await self.subscriber.subscribed.wait()
            yield
            listening.cancel()

    async def place(self, caller: str, callee: str | None = None, **how: Any) -> Record:
        """Run the pair `caller`.uac and `callee`.uas (None: nobody answers) and return the CDR of the
        call."""
        sip_call_id = await self.place_unrecorded(caller, callee, **how)
        return (await self.records(sip_call_id, 1))[-1]

    async def place_unrecorded(
        self,
        caller: str,
        callee: str | None = None,
        *,
        dialled: str = "0044123456789",
        account: str = "demo",
        gateway: str = "main",
        host: str = "",
        pause_ms: int = 600,
        patience_s: int = 60,
        others: dict[str, str] | None = None,
        remote: str = "",
        transport: str = "u1",
        meanwhile: Callable[[str], Awaitable[object]] | None = None,
    ) -> str:
        """Run the pair and return its SIP Call-ID. `others` are more callees, by gateway; `host` is the
        caller's, if not that of the rig; `remote` where it calls, if not by UDP, and `transport` is SIPp's
        `-t`; `meanwhile` is given the number and runs beside the call."""
        callees = {} if callee is None else {gateway: callee}
        sip_call_id = f"{caller}-{next(_numbers)}-{self.host}"
        ports = free_ports(host or self.host, 1)
        control = iter(free_ports("127.0.0.1", 2 + len(others or {})))
        running: list[Sipp] = []
        try:
            for name, scenario in {**callees, **(others or {})}.items():
                port = self.gateways[name]
                second = f"{self.host}:{self.gateways['second']}"
                more = ("-d", str(pause_ms), "-key", "second", second)
                running.append(
                    await Sipp.start(
                        f"{scenario}.uas",
                        self.folder,
                        self.host,
                        port,
                        next(control),
                        *more,
                        patience_s=patience_s,
                    )
                )
                await running[-1].listening(self.host, port)
            running.append(
                await Sipp.start(
                    f"{caller}.uac",
                    self.folder,
                    host or self.host,
                    ports[0],
                    next(control),
                    *("-s", dialled, "-d", str(pause_ms), "-key", "account", account),
                    *("-cid_str", sip_call_id),
                    *("-t", transport),
                    remote=remote or ":".join(map(str, self.node.sip)),
                    patience_s=patience_s,
                )
            )
            async with asyncio.TaskGroup() as tasks:
                ends = [tasks.create_task(one.ended(), name=one.name) for one in running]
                if meanwhile is not None:
                    tasks.create_task(_run(meanwhile, dialled), name="meanwhile")
                if await running[-1].ended():  # the caller failed: its callees need not be waited for
                    for one in running:
                        await one.stop()
            said = [text for one in ends if (text := one.result())]
            assert not said, said
        finally:
            for one in running:
                await one.stop()
        return sip_call_id

    async def place_many(
        self, calls: int, caller: str, callees: dict[str, str], *, dialled: str, pause_ms: int = 50
    ) -> list[Record]:
        """So many calls at once, and the CDR of each. `callees` are by gateway; each answers all calls that
        it gets."""
        prefix = f"{caller}-{next(_numbers)}-"
        control = iter(free_ports("127.0.0.1", 1 + len(callees)))
        more = ("-m", str(calls), "-d", str(pause_ms))
        running: list[Sipp] = []
        try:
            for name, scenario in callees.items():
                port = self.gateways[name]
                running.append(
                    await Sipp.start(f"{scenario}.uas", self.folder, self.host, port, next(control), *more)
                )
                await running[-1].listening(self.host, port)
            [port] = free_ports(self.host, 1)
            running.append(
                await Sipp.start(
                    f"{caller}.uac",
                    self.folder,
                    self.host,
                    port,
                    next(control),
                    *more,
                    *("-s", dialled, "-key", "account", "demo", "-cid_str", f"{prefix}%u", "-r", "20"),
                    remote=":".join(map(str, self.node.sip)),
                )
            )
            said = await running[-1].ended()
            assert not said, said
            async with asyncio.timeout(RECORD_S_MAX):
                while len(found := self._of_many(prefix)) < calls:  # noqa: ASYNC110
                    await asyncio.sleep(PERIOD_S)
            return found
        finally:
            for one in running:
                await one.stop()

    def _of_many(self, prefix: str) -> list[Record]:
        return [
            one for one in self.subscriber.first.values() if one["leg_a"]["sip_call_id"].startswith(prefix)
        ]

    async def records(self, sip_call_id: str, count: int) -> list[Record]:
        """The revisions of one call, once there are `count` of them."""
        async with asyncio.timeout(RECORD_S_MAX):
            while len(found := self._of(sip_call_id)) < count:  # noqa: ASYNC110
                await asyncio.sleep(PERIOD_S)
        return found

    def _of(self, sip_call_id: str) -> list[Record]:
        found = [one for one in self.subscriber.first.values() if one["leg_a"]["sip_call_id"] == sip_call_id]
        return sorted(found, key=lambda one: one["revision"])

    async def live(self, dialled: str, *, answered: bool = False) -> dict[str, Any]:
        """The call as `sidecar call list` shows it, once it is there (and answered)."""
        while True:
            for one in await self.node.live_calls():
                if one["callee"] == dialled and (one["answered_at"] or not answered):
                    return dict(one)
            await asyncio.sleep(PERIOD_S)


def begun_seconds(billable_ms: int) -> int:
    """VOS3000's hold time precision: from 50 ms above a whole second on, a second more."""
    return (billable_ms + 950) // 1000


async def _run(meanwhile: Callable[[str], Awaitable[object]], dialled: str) -> None:
    await meanwhile(dialled)


@contextlib.contextmanager
def nobody_answers(host: str, port: int) -> Iterator[None]:
    """A bound socket: what is sent there vanishes, without the refusal that a closed port gives."""
    with socket.socket(type=socket.SOCK_DGRAM) as hole:
        hole.bind((host, port))
        yield
