"""What it takes to take many open calls over: `python -m tests.bench.takeover [--calls N]`.

A process makes them by the product's own store, as node `dead`, answered a minute ago and every second one
prepaid, and is killed. Another node on the same database takes it over, says BYE to both ends of each call,
which answer here, and records each. It is red where a call has no record, or two, or an end has no BYE, or
its books were not taken over BOOKS_S_MAX after the end of its lease.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import cast

from msgspec.structs import replace

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.postgresql import PostgresqlStore
from sidecar.adapters.store.keys import KEY_FILE_NAME
from sidecar.core.call import Call
from sidecar.core.commands import EntryKind, StoreCommand
from sidecar.core.events import LegIdentity
from sidecar.core.terms import Money
from sidecar.demo.children import REPO
from tests.adapters.store_calls import admission, admitted, answered, entry, leg, terms_of
from tests.bench import places
from tests.bench.listener import Listener
from tests.rig.broker import mosquitto
from tests.rig.node import Node, until
from tests.rig.postgres import postgres

BOOKS_S_MAX = 5.0
WITHIN_S = 180.0
LEASE_S = 3.0
ACCOUNTS = 100
IN_COMPANY = 200  # steps that are submitted together
_SECOND_NS = 1_000_000_000


class Ends(asyncio.DatagramProtocol):
    """Both ends of every call, and the SIP side of the dead node while it lives."""

    def __init__(self) -> None:
        self.byes: dict[bytes, float] = {}  # by Call-ID, when it came first
        self.is_alive = True
        self.was_asked = False  # whether it lives
        self._to: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._to = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        head, _, _ = data.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        if first.startswith(b"BYE "):
            call = next(line for line in lines if line.lower().startswith(b"call-id:"))
            self.byes.setdefault(call.partition(b":")[2].strip(), time.time())
        elif not first.startswith(b"OPTIONS ") or not self.is_alive:
            return
        else:
            self.was_asked = True
        kept = [
            line
            for line in lines
            if line.partition(b":")[0].strip().lower() in (b"via", b"from", b"to", b"call-id", b"cseq")
        ]
        self._to.sendto(b"\r\n".join([b"SIP/2.0 200 OK", *kept, b"Content-Length: 0", b"", b""]), address)


def made(number: int, ends: str) -> Call:
    """One that talks, with both legs at `ends`."""
    at_ns = time.time_ns() - 60 * _SECOND_NS
    call = admitted(number, f"a{number % ACCOUNTS}", prepaid=number % 2 == 0, at_ns=at_ns)
    call = replace(
        call,
        invite=replace(call.invite, leg=_leg(f"{number}-a", ends)),
        attempts=(replace(call.attempts[0], gateway="next_hop", leg=_leg(f"{number}-b", ends)),),
    )
    return answered(call)


def _leg(name: str, ends: str) -> LegIdentity:
    return leg(
        name,
        local_tag=name,  # what branches are made of
        remote_target=f"sip:phone@{ends}",
        route_set=(),
        local_address=ends,
        remote_address=ends,
    )


async def fill(dsn: str, key_file: Path, calls: int, ends: str) -> None:
    """As the node that is to be killed: it says when all is written, and lives on."""
    clock = SystemClock()
    store = PostgresqlStore.open(dsn, node="dead", boot_id="dead", clock=clock, key_file=key_file)
    store.on_outcome(lambda _: None)
    for number in range(ACCOUNTS):
        await store.accounts.create(terms_of(f"a{number}"))
        await store.accounts.top_up(f"a{number}", Money(Decimal(100_000), "EUR"), "bench")
    for number in range(1, calls + 1):
        call = made(number, ends)
        steps: list[tuple[StoreCommand, ...]] = [admission(call), entry(EntryKind.ANSWERED, call)]
        for step in steps:
            store.submit(step)
        if number % IN_COMPANY == 0 or number == calls:
            await store.written()
    await store.serve((f"udp:{ends}",), LEASE_S)
    await store.written()
    print("filled", flush=True)
    while True:
        store.heartbeat(clock.mono_ns(), clock.wall_ns())
        await asyncio.sleep(0.5)


async def run(folder: Path, dsn: str, calls: int) -> bool:
    async with AsyncExitStack() as stack:
        host, clock = places.host(2), asyncio.get_running_loop()
        transport, ends = await clock.create_datagram_endpoint(Ends, local_addr=(host, 0))
        stack.callback(transport.close)
        place = f"{host}:{transport.get_extra_info('sockname')[1]}"
        key_file = folder / KEY_FILE_NAME
        words = ("-m", "tests.bench.takeover", "--fill", dsn, str(key_file), place, "--calls", str(calls))
        child = await asyncio.create_subprocess_exec(
            sys.executable, *words, stdout=asyncio.subprocess.PIPE, cwd=REPO
        )
        assert child.stdout is not None
        began_s = time.time()
        assert await child.stdout.readline() == b"filled\n"
        print(f"{calls} calls were made in {time.time() - began_s:.1f} s", flush=True)
        broker = await stack.enter_async_context(mosquitto(folder))
        listener = stack.enter_context(Listener(broker.host, broker.port))
        profile = places.loopback_profile(places.host(11), (host, 1))
        (folder / "data").mkdir()
        shutil.copy(key_file, folder / "data")
        node = Node(folder, profile, network=places.NETWORK, settings=places.SETTINGS, dsn=dsn)
        await stack.enter_async_context(node.up(SIDECAR_NODE__NAME="survivor", **broker.settings()))

        await until(lambda: ends.was_asked)
        await asyncio.sleep(1.0)  # the answer is taken
        child.send_signal(signal.SIGKILL)
        await child.wait()
        ends.is_alive, killed_s = False, time.time()
        over = "SELECT EXTRACT(EPOCH FROM leased_until)::float FROM epochs WHERE node = 'dead'"
        over_s = float(node.ask(over)[0][0])
        failed = False
        try:
            await until(lambda: listener.count >= calls and len(ends.byes) >= 2 * calls, WITHIN_S)
        except TimeoutError:
            failed = True
        taken_s, up_s = (_said_s(node, event) for event in ("node_taken_over", "calls_taken_up"))
        records = listener.records(0)
        by_call = Counter(str(record["call_id"]) for _, record in records)
        byes = sorted(ends.byes.values())
        last_s = max((at_ns / _SECOND_NS for at_ns, _ in records), default=over_s)
        print(
            f"the lease ended {over_s - killed_s:.1f} s after the kill; from then on\n"
            f"  books taken over  {taken_s - over_s:.1f} s, of which up to 2 s to ask by OPTIONS"
            f" (wanted <= {BOOKS_S_MAX:g})\n"
            f"  calls taken up    {up_s - over_s:.1f} s\n"
            f"  BYEs              {len(byes)} of {2 * calls}, from {byes[0] - over_s:.1f} to"
            f" {byes[-1] - over_s:.1f} s, at most {_most(byes)} in a second\n"
            f"  records           {len(by_call)} of {calls}, {len(records) - len(by_call)} twice, the last at"
            f" the broker after {last_s - over_s:.1f} s"
        )
        left = node.ask("SELECT count(*) FROM open_calls")[0][0]
        node.check_books()
        return not (failed or left or len(records) > calls or taken_s - over_s > BOOKS_S_MAX)


def _said_s(node: Node, event: str) -> float:
    lines = (json.loads(line) for line in node.log.read_bytes().splitlines() if line.startswith(b"{"))
    return next(datetime.fromisoformat(one["at"]).timestamp() for one in lines if one["event"] == event)


def _most(times_s: list[float]) -> int:
    return max(Counter(int(at_s) for at_s in times_s).values(), default=0)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.takeover", description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000, help="default: 10000")
    parser.add_argument("--dir", type=Path, default=REPO / ".build", help="whose disk is used")
    parser.add_argument("--fill", nargs=3, metavar="WORD", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fill:
        dsn, key_file, ends = arguments.fill
        asyncio.run(fill(dsn, Path(key_file), arguments.calls, ends))
    arguments.dir.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="takeover-", dir=arguments.dir))
    for name, value in places.surroundings(folder).items():
        print(f"{name:12} {value}")
    with postgres() as server:
        is_green = asyncio.run(run(folder, server.new_database("takeover"), arguments.calls))
    if not is_green:
        print(f"RED: logs are in {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
