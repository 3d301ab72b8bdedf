"""A node for the SIPp scenarios: a profile whose routes lead to callees that answer, callees that fail, and
places where nobody answers; and an independent subscriber."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from sidecar.demo.children import Daemon, Sipp, free_ports
from sidecar.demo.subscriber import Record
from tests.rig.listener import Listener, listening
from tests.rig.node import SIDECAR, Node, with_lines

EARLY_MS = 100  # two processes' clocks, and the way of a message between them
BUSY_MS = 3000  # SIPp and the node share two cores with the other tests

PATIENCE_S = 60  # so long SIPp waits for the end of its calls

_numbers = itertools.count(1)

PROFILE = """
[sip]
listen_udp = ["{host}:{port}"]
blocked_numbers = ["0900*"]
account_required = true

[timers]
ring_timeout_s = 2
max_duration_s = 2
auth_retry_s = 2

[node]
calls_max = 100

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
no_response_failover_s = 10

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


class Rig(Node):
    """`place` one call: a SIPp pair and the record of it. `more` are lines of the profile by table."""

    def __init__(
        self,
        folder: Path,
        more: Mapping[str, str] | None = None,
        *,
        max_duration_s: int = 2,
        network: str = "",
        program: Sequence[str] = SIDECAR,
        strip_digits: int | None = 2,
        dsn: str = "",
    ) -> None:
        strips = strip_digits is not None
        settings = {"SERVER_BILLING_GATEWAY_ROUTE_PREFIX": str(strip_digits)} if strips else {}
        super().__init__(folder, network=network, program=program, settings=settings, dsn=dsn)
        self.stranger = f"{self.network}.2"  # an address in no peer group
        names = ("main", "second", "small", "elsewhere", "slow", "silent", "closed")
        # The node's own, too: SIPp answers where it has called, also after a restart.
        self.port, *ports = free_ports(self.host, 1 + len(names))
        self.gateways = dict(zip(names, ports, strict=True))
        self.listener: Listener
        self._lines = {"timers": f"max_duration_s = {max_duration_s}", **(more or {})}

    def profile_text(self) -> str:
        deck = self.folder / "narrow.csv"
        deck.write_text(NARROW_DECK)
        text = PROFILE.format(host=self.host, port=self.port, narrow=deck, **self.gateways)
        for name in ACCOUNTS:
            text += f'[[account_rules]]\naccount = "{name}"\nheader = "x-account"\nheader_value = "{name}"\n'
        for prefix in CLAIMED_PREFIXES:
            text += f'[[account_rules]]\naccount = "demo"\ncalled_prefix = "{prefix}"\n'
        return with_lines(text, self._lines)

    @asynccontextmanager
    async def up(self, program: Sequence[str] = (), **settings: str) -> AsyncIterator[Daemon]:
        async with super().up(program, **settings) as child, listening(*child.broker) as self.listener:
            yield child

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
        patience_s: int = PATIENCE_S,
        others: dict[str, str] | None = None,
        remote: str = "",
        transport: str = "u1",
        meanwhile: Callable[[str], Awaitable[object]] | None = None,
    ) -> str:
        """Run the pair and return its SIP Call-ID. `others` are more callees, by gateway; `host` is the
        caller's, if not that of the rig; `remote` where it calls, if not by UDP, and `transport` is SIPp's
        `-t`; `meanwhile` is given the number and runs beside the call."""
        callees = ({} if callee is None else {gateway: callee}) | (others or {})
        sip_call_id = f"{caller}-{next(_numbers)}-{self.host}"
        second = f"{self.host}:{self.gateways['second']}"
        async with AsyncExitStack() as stack:
            running = [
                await self._callee(
                    stack, *one, "-d", str(pause_ms), "-key", "second", second, patience_s=patience_s
                )
                for one in callees.items()
            ]
            more = ("-s", dialled, "-d", str(pause_ms), "-key", "account", account, "-cid_str", sip_call_id)
            running.append(
                await self._sipp(
                    stack,
                    f"{caller}.uac",
                    host or self.host,
                    free_ports(host or self.host, 1)[0],
                    *(*more, "-t", transport),
                    remote=remote or ":".join(map(str, self.daemon.sip)),
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
        return sip_call_id

    async def place_many(
        self, calls: int, caller: str, callees: dict[str, str], *, dialled: str, pause_ms: int = 50
    ) -> list[Record]:
        """So many calls at once, and the CDR of each. `callees` are by gateway; each answers all calls that
        it gets."""
        prefix = f"{caller}-{next(_numbers)}-"
        more = ("-m", str(calls), "-d", str(pause_ms))
        async with AsyncExitStack() as stack:
            for one in callees.items():
                await self._callee(stack, *one, *more, patience_s=PATIENCE_S)
            sipp = await self._sipp(
                stack,
                f"{caller}.uac",
                self.host,
                free_ports(self.host, 1)[0],
                *(*more, "-s", dialled, "-key", "account", "demo", "-cid_str", f"{prefix}%u", "-r", "20"),
                remote=":".join(map(str, self.daemon.sip)),
                patience_s=PATIENCE_S,
            )
            said = await sipp.ended()
            assert not said, said
            await self.listener.until(lambda: len(self._of(prefix)) >= calls)
        return self._of(prefix)

    async def _callee(
        self, stack: AsyncExitStack, gateway: str, scenario: str, *more: str, **how: Any
    ) -> Sipp:
        port = self.gateways[gateway]
        sipp = await self._sipp(stack, f"{scenario}.uas", self.host, port, *more, **how)
        await sipp.listening(self.host, port)
        return sipp

    async def _sipp(
        self, stack: AsyncExitStack, name: str, host: str, port: int, *more: str, **how: Any
    ) -> Sipp:
        [control] = free_ports("127.0.0.1", 1)
        sipp = await Sipp.start(name, self.folder, host, port, control, *more, **how)
        stack.push_async_callback(sipp.stop)
        return sipp

    async def records(self, sip_call_id: str, count: int) -> list[Record]:
        """The revisions of one call, once there are `count` of them."""
        await self.listener.until(lambda: len(self._of(sip_call_id)) >= count)
        return sorted(self._of(sip_call_id), key=lambda one: int(one["revision"]))

    def _of(self, prefix: str) -> list[Record]:
        return [one for one in self.listener.records if one["leg_a"]["sip_call_id"].startswith(prefix)]


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
