"""What PostgreSQL and several nodes cost: `python -m tests.bench.several [--cost N] [--straight N]
[--kamailio N]`.

One node with its books in PostgreSQL beside one with a journal, in the same run and by turns; one, two and
three nodes on one database, straight from SIPp and through the Kamailio sample; reservations of one account.
Server, nodes, SIPp and Kamailio share the machine: where a rate is too much, it is for all of them together.
It is red where a call failed, or a record is missing or came twice.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import msgspec

from sidecar.demo.children import REPO, free_ports
from tests.bench import places, process
from tests.bench.listener import Listener
from tests.bench.load import Load, Outcome, call, callee
from tests.bench.product import LATE_S_MAX, RECORDS_S_MAX, Spread, product, spread
from tests.kamailio.cluster import between
from tests.rig.broker import mosquitto
from tests.rig.node import Node, until
from tests.rig.postgres import Postgres, postgres

HOLD_MS = 200
RINGING_MS = 20  # of a 180 and a 200 that come together one of Kamailio's processes may send the 200 first
TURNS = 2  # of each engine
TIMES_WANTED = 1.5
CREDIT_S_MAX = 120

Place = tuple[str, int]


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """One node. CPU in ms per call."""

    engine: str
    rate: int
    failed: int
    daemon_ms: float
    server_ms: float
    setup: Spread
    right: bool


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes on one database. CPU in ms, commits, and kB of the server's log (WAL) per call of all; `shares`:
    how many calls each node recorded."""

    name: str
    nodes: int
    rate: int
    calls: int
    failed: int
    repeats: int
    late_s: float
    missing: int
    twice: int
    shares: list[int]
    daemons_ms: float
    server_ms: float
    proxies_ms: float
    commits: float
    wal_kb: float
    setup: Spread

    @property
    def green(self) -> bool:
        return not (self.failed or self.missing or self.twice) and self.late_s < LATE_S_MAX


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def load_of(rate: int, seconds: float) -> Load:
    return Load(rate=rate, calls=max(1, int(rate * seconds)), hold_ms=HOLD_MS)


def spent_s(pids: Sequence[int]) -> float:
    """Of these and their children that live."""
    return sum(process.cpu_s(one) for pid in pids for one in (pid, *process.children(pid)))


# --- one node -----------------------------------------------------------------------------------------------


async def cost(folder: Path, server: Postgres, rate: int, seconds: float) -> list[Cost]:
    found: list[Cost] = []
    folder.mkdir()
    for turn in range(TURNS):
        for engine in ("sqlite", "postgresql"):
            where = folder / f"{engine}-{turn}"
            where.mkdir()
            more = {}
            if engine == "postgresql":
                dsn = where / "dsn"
                dsn.touch(mode=0o600)
                dsn.write_text(server.new_database(f"cost{turn}"))
                more = {"SIDECAR_STORE__ENGINE": engine, "SIDECAR_STORE__DSN_FILE": str(dsn)}
            async with product(where, **more) as node:
                await node.place(load_of(100, 2))
                before_s = spent_s([server.pid])
                step = await node.step(load_of(rate, seconds))
                server_s = spent_s([server.pid]) - before_s if engine == "postgresql" else 0.0
            found.append(
                Cost(
                    engine=engine,
                    rate=rate,
                    failed=step.failed,
                    daemon_ms=step.daemon_ms,
                    server_ms=round(server_s * 1e3 / step.calls, 3),
                    setup=step.setup,
                    right=step.right,
                )
            )
            say(f"{engine}: {step.failed} failed, {step.daemon_ms:.3f} ms CPU per call")
    return found


def times(found: Sequence[Cost]) -> float:
    """Where all calls of a run went well; 0.0 where there is no such run of one of them."""
    sqlite, in_database = (
        [one.daemon_ms for one in found if one.engine == engine and not one.failed]
        for engine in ("sqlite", "postgresql")
    )
    return mean(in_database) / mean(sqlite) if sqlite and in_database else 0.0


# --- several ------------------------------------------------------------------------------------------------


class Under(NamedTuple):
    """What is measured, and who calls where: the host, the way in, and its part of the calls."""

    name: str
    nodes: Sequence[Node]
    proxies: Sequence[int]
    callers: Sequence[tuple[str, Place]]


async def measured(folder: Path, under: Under, server: Postgres, at: Listener, load: Load) -> Row:
    parts = len(under.callers)
    share = Load(rate=max(1, load.rate // parts), calls=max(1, load.calls // parts), hold_ms=load.hold_ms)

    async def placed(name: str, of: Load) -> Sequence[Outcome]:
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(call(folder / f"{name}-{number}", host, to, of), name=name)
                for number, (host, to) in enumerate(under.callers)
            ]
        return [one.result() for one in running]

    warm = Load(rate=50, calls=50, hold_ms=HOLD_MS)
    await placed("warm", warm)
    await until(lambda: at.count >= warm.calls * parts)
    pids = [node.daemon.pid for node in under.nodes]
    before = [spent_s(pids), spent_s([server.pid]), spent_s(under.proxies)]
    commits, wal = await commits_of(under.nodes), wal_bytes(under.nodes[0])
    outcomes = await placed("run", share)
    failed, calls = sum(one.failed for one in outcomes), share.calls * parts
    try:
        await until(lambda: len(answered(at, warm.calls * parts)) >= calls - failed, RECORDS_S_MAX)
    except TimeoutError:
        say(f"{under.name}: records are missing")
    after = [spent_s(pids), spent_s([server.pid]), spent_s(under.proxies)]
    commits, wal = await commits_of(under.nodes) - commits, wal_bytes(under.nodes[0]) - wal
    daemons, of_server, proxies = (
        round((now_s - then_s) * 1e3 / calls, 3) for now_s, then_s in zip(after, before, strict=True)
    )
    records = [record for _, record in at.records(warm.calls * parts)]
    by_call = answered(at, warm.calls * parts)
    row = Row(
        name=under.name,
        nodes=len(under.nodes),
        rate=share.rate * parts,
        calls=calls,
        failed=failed,
        repeats=sum(one.repeats for one in outcomes),
        late_s=max(one.late_s for one in outcomes),
        missing=max(0, calls - failed - len(by_call)),
        twice=len(records) - len({str(one["call_id"]) for one in records}),
        shares=sorted(Counter(by_call.values()).values()),
        daemons_ms=daemons,
        server_ms=of_server,
        proxies_ms=proxies,
        commits=round(commits / calls, 2),
        wal_kb=round(wal / calls / 1e3, 1),
        setup=spread([ms for one in outcomes for ms in one.setup_ms]),
    )
    say(line_of(row))
    return row


def answered(at: Listener, since: int) -> dict[str, str]:
    """Calls, and the node that recorded each; what was refused has a record too."""
    records = (record for _, record in at.records(since))
    return {str(one["call_id"]): str(one["node"]) for one in records if one["disposition"] == "answered"}


async def commits_of(nodes: Sequence[Node]) -> float:
    return sum([await node.metric("sidecar_commit_seconds_count") for node in nodes])


def wal_bytes(node: Node) -> int:
    return int(node.ask("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")[0][0])


async def straight(folder: Path, server: Postgres, count: int, load: Load) -> Row:
    """SIPp calls each node, and answers each."""
    folder.mkdir()
    dsn = server.new_database(f"straight{count}")
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        broker = await enter(mosquitto(folder))
        listener = stack.enter_context(Listener(broker.host, broker.port))
        nodes, callers = [], []
        for number in range(count):
            where = folder / f"n{number}"
            (where / "callee").mkdir(parents=True)
            answers = (places.host(2), free_ports(places.host(2), 1)[0])
            await enter(callee(where / "callee", answers))
            profile = places.loopback_profile(places.host(11 + number), answers)
            node = Node(where, profile, network=places.NETWORK, settings=places.SETTINGS, dsn=dsn)
            await enter(node.up(SIDECAR_NODE__NAME=f"n{number}", **broker.settings()))
            nodes.append(node)
            callers.append((places.host(1), node.daemon.sip))
        return await measured(folder, Under("straight", nodes, (), callers), server, listener, load)


async def proxied(folder: Path, server: Postgres, count: int, load: Load) -> Row:
    """Through the Kamailio sample, by two of them."""
    folder.mkdir()
    lines = {"accounts.acme": "calls_max = 20000"}
    async with between(folder, server.new_database(f"kamailio{count}"), count=count, lines=lines) as at:
        (folder / "callee").mkdir()
        with Listener(at.broker.host, at.broker.port) as listener:
            async with callee(folder / "callee", at.front.places.carrier, RINGING_MS):
                callers = [(at.front.places.acme_host, at.front.places.proxy)]
                under = Under("Kamailio", at.nodes, [at.front.pid, at.behind.pid], callers)
                return await measured(folder, under, server, listener, load)


# --- what is printed ----------------------------------------------------------------------------------------


def reservations(folder: Path) -> str:
    """Of one account, by the store alone."""
    words = ["--store", "postgresql", "--dir", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench_credit", *words],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=CREDIT_S_MAX,
        check=False,
    )
    return done.stdout.strip() or f"failed: {done.stderr.strip()[-300:]}"


def shown(costs: Sequence[Cost], rows: Sequence[Row]) -> str:
    lines = [
        f"{one.engine:10} {one.rate}/s: {one.failed} failed; CPU per call: daemon {one.daemon_ms:.3f} ms,"
        f" server {one.server_ms:.3f} ms; setup p50 {one.setup.p50:.0f} p99 {one.setup.p99:.0f} ms"
        for one in costs
    ]
    if costs:
        found = times(costs)
        lines.append(
            f"CPU of the daemon per call, PostgreSQL over SQLite: {found:.2f} times"
            f" (wanted <= {TIMES_WANTED}: {'yes' if 0 < found <= TIMES_WANTED else 'NO'})"
        )
    return "\n".join([*lines, *map(line_of, rows)])


def line_of(row: Row) -> str:
    return (
        f"{row.name:8} {row.nodes} nodes, {row.rate}/s: {row.calls} calls, {row.failed} failed,"
        f" {row.repeats} repeats, {row.late_s:.0f} s late; records: {row.missing} missing, {row.twice}"
        f" twice, by node {'/'.join(map(str, row.shares))}; CPU per call: nodes {row.daemons_ms:.3f} ms,"
        f" server {row.server_ms:.3f} ms, proxies {row.proxies_ms:.3f} ms; per call {row.commits:.2f}"
        f" commits, {row.wal_kb:.1f} kB of WAL; setup p50 {row.setup.p50:.0f} p99 {row.setup.p99:.0f} ms"
    )


async def run(folder: Path, server: Postgres, arguments: argparse.Namespace) -> tuple[list[Cost], list[Row]]:
    costs = await cost(folder / "cost", server, arguments.cost, arguments.seconds) if arguments.cost else []
    rows = []
    for count in arguments.nodes:
        share = count / max(arguments.nodes)
        if arguments.straight:
            load = load_of(int(arguments.straight * share), arguments.seconds)
            rows.append(await straight(folder / f"straight-{count}", server, count, load))
        if arguments.kamailio:
            load = load_of(int(arguments.kamailio * share), arguments.seconds)
            rows.append(await proxied(folder / f"kamailio-{count}", server, count, load))
    return costs, rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.several", description=__doc__)
    parser.add_argument("--cost", type=int, default=300, help="calls/s of one node (default: 300; 0: not)")
    parser.add_argument(
        "--straight", type=int, default=1000, help="calls/s of all nodes together (default: 1000; 0: not)"
    )
    parser.add_argument("--kamailio", type=int, default=300, help="through Kamailio (default: 300; 0: not)")
    parser.add_argument(
        "--nodes",
        type=lambda text: [int(word) for word in text.split(",")],
        default=[1, 2, 3],
        metavar="N,...",
        help="how many; fewer get their part of the calls (default: 1,2,3)",
    )
    parser.add_argument("--seconds", type=float, default=6.0, help="how long each is kept up (default: 6)")
    parser.add_argument("--no-credit", action="store_true", help="leave out the reservations")
    parser.add_argument("--dir", type=Path, default=REPO / ".build", help="whose disk is used")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures as JSON")
    arguments = parser.parse_args()
    arguments.dir.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="several-", dir=arguments.dir))
    for name, value in places.surroundings(folder).items():
        print(f"{name:12} {value}")
    with postgres() as server:
        costs, rows = asyncio.run(run(folder, server, arguments))
    print(shown(costs, rows))
    credit = "" if arguments.no_credit else reservations(folder)
    print(credit)
    if arguments.json is not None:
        arguments.json.write_bytes(
            msgspec.json.encode({"costs": costs, "rows": rows, "reservations": credit}) + b"\n"
        )
    red = [one for one in costs if one.failed or not one.right] + [row for row in rows if not row.green]
    if red:
        say(f"RED: logs are in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
