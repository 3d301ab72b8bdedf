"""Calls of every ending for a long time, does anything grow: `python -m tests.bench.endurance [--calls N]`.

One daemon, its embedded Mosquitto, a live subscriber, the journal on a disk, and for each kind of ending a
SIPp pair of sipp_scenarios/ that places its share of the calls. Every few seconds a line of the curve:
memory, open files, and what the bridge holds. Red where a call failed, where its record is missing, there
twice or wrong, where the bridge holds anything once all is over, or where memory still grows in the second
half.

Then a burst on a daemon of its own: answered calls at a rate near the most that it carries, and a minute of
quiet. Red where it has not given the memory back by then.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from sidecar.adapters.sockets.child import end
from sidecar.demo.children import REPO, SCENARIOS, Daemon, DemoError, free_ports, leaves, listens
from tests.bench import places, report
from tests.bench.curve import SAMPLE_S, Sample, asdict, note, panels, sample
from tests.bench.listener import Listener, Record
from tests.bench.load import Load, sipp, succeeded
from tests.bench.product import product

TALK_MS = 300
RING_TIMEOUT_S = 2
MAX_DURATION_S = 40  # more than the 32 s after which a call without ACK ends
# A call without ACK ends after 32 s, its last transaction 32 s later; refusals are summed up by the minute.
OVER_S_MAX = 150.0
BURST_S = 20
QUIET_S = 60.0
QUIET_RSS_MB_MAX = 300.0
RSS_GROWTH_MAX = 0.05  # of the last quarter over the second: the allocator's own unrest is less
FILES_GROWTH_MAX = 0.1  # a checkpoint or a scrape is a file or two
NOTHING_HELD = ("live_calls", "abandoned_legs", "transactions")

Ending = tuple[str, str, str]


class Kind(NamedTuple):
    """Calls of one ending: the scenario of the caller, those of the callees in the order that they are tried,
    and their share of all calls in percent."""

    caller: str
    callees: tuple[str, ...]
    share: int
    ending: Ending


KINDS = (
    Kind("caller-bye-in-call", ("caller-bye-in-call",), 34, ("caller", "", "bye")),
    Kind("callee-bye-in-call", ("callee-bye-in-call",), 20, ("callee", "", "bye")),
    Kind("caller-cancel-while-ringing", ("caller-cancel-while-ringing",), 15, ("caller", "", "cancel")),
    Kind("callee-rejected-busy", ("callee-rejected-busy",), 10, ("callee", "", "rejected")),
    Kind(
        "callee-rejected-busy-after-failover",
        ("gateway-unavailable", "callee-rejected-busy-after-failover"),
        5,
        ("callee", "", "rejected"),
    ),
    Kind("server-ring-timeout", ("server-ring-timeout",), 8, ("server", "timeout", "ring_timeout")),
    Kind(
        "server-max-duration-in-call",
        ("server-max-duration-in-call",),
        4,
        ("server", "timeout", "max_duration"),
    ),
    Kind("server-no-ack", ("caller-bye-in-call",), 2, ("server", "timeout", "no_ack")),
    Kind("server-number-blocked", (), 2, ("server", "policy", "number_blocked")),
)


def number(kind: int) -> str:
    return f"0044{kind}123456"


def profile(host: str, ports: dict[tuple[int, int], int]) -> str:
    text = f"""
[sip]
listen_udp = ["{host}:0"]
blocked_numbers = ["{number(len(KINDS) - 1)}"]
[timers]
ring_timeout_s = {RING_TIMEOUT_S}
max_duration_s = {MAX_DURATION_S}
[peers.local]
addresses = ["{host}/32"]
[decks]
demo = "demo"
[billing]
deck = "demo"
[accounts.demo]
currency = "EUR"
[[account_rules]]
account = "demo"
peer = "local"
"""
    for (kind, attempt), port in ports.items():
        text += f'[gateways.g{kind}-{attempt}]\nhost = "{host}"\nport = {port}\nno_response_failover_s = 10\n'
    for kind, one in enumerate(KINDS):
        names = ", ".join(f'"g{kind}-{attempt}"' for attempt in range(len(one.callees))) or '"g0-0"'
        text += f'[[routes]]\nprefix = "{number(kind)}"\ngateways = [{names}]\n'
    return text


# --- the run ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def node(folder: Path) -> AsyncIterator[tuple[Daemon, Listener]]:
    """The daemon and all callees."""
    host = places.host(1)
    places_of = [(kind, attempt) for kind, one in enumerate(KINDS) for attempt in range(len(one.callees))]
    ports = dict(zip(places_of, free_ports(host, len(places_of)), strict=True))
    async with AsyncExitStack() as stack:
        for (kind, attempt), port in ports.items():
            scenario = SCENARIOS / f"{KINDS[kind].callees[attempt]}.uas.xml"
            own = folder / f"callee-{kind}-{attempt}"
            own.mkdir()
            child = await sipp(own, scenario, (host, port), "-d", str(TALK_MS))
            stack.push_async_callback(end, child)
            while not listens(host, port):
                if child.returncode is not None:
                    raise DemoError(f"SIPp ended at once: see {own}")
                await asyncio.sleep(0.02)
        up = await stack.enter_async_context(places.node(folder, profile(host, ports)).up())
        yield up, stack.enter_context(Listener(*up.broker))


async def placed(folder: Path, up: Daemon, kind: int, calls: int, rate: float) -> int:
    """Place the calls of one kind, and return how many went as their scenario says."""
    own = folder / f"caller-{kind}"
    own.mkdir()
    host = places.host(1)
    child = await sipp(
        own,
        SCENARIOS / f"{KINDS[kind].caller}.uac.xml",
        (host, free_ports(host, 1)[0]),
        f"{up.sip[0]}:{up.sip[1]}",
        # SIPp's rate is whole: so many calls in so many milliseconds instead.
        *("-r", "10", "-rp", str(max(1, round(10_000 / rate))), "-m", str(calls), "-l", str(calls)),
        *("-s", number(kind), "-d", str(TALK_MS), "-key", "account", "demo"),
        *("-trace_stat", "-fd", "5", "-stf", str(own / "statistics.csv")),
    )
    try:
        await child.wait()
    finally:
        await end(child)
    return succeeded(own / "statistics.csv")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    calls: int
    curve: list[Sample]
    wrongs: list[str]


NOTHING = Finding(calls=0, curve=[], wrongs=[])


async def run(folder: Path, calls: int, rate: int) -> Finding:
    curve: list[Sample] = []
    async with node(folder) as (up, listener):
        counts = [calls * one.share // 100 for one in KINDS]
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(note(curve, up, listener, folder / "data"), name="curve")
            runs = [
                tasks.create_task(
                    placed(folder, up, kind, count, rate * KINDS[kind].share / 100), name=str(kind)
                )
                for kind, count in enumerate(counts)
            ]
            await asyncio.wait(runs)
            good = [one.result() for one in runs]
            until_s = time.monotonic() + OVER_S_MAX
            while time.monotonic() < until_s and not (_told(listener) >= sum(good) and _is_empty(curve[-1])):
                await asyncio.sleep(SAMPLE_S)
            watching.cancel()
        wrongs = _growth(curve, sum(counts)) + _wrong_records(listener, counts, good)
    return Finding(calls=sum(counts), curve=curve, wrongs=wrongs)


async def burst(folder: Path, rate: int) -> Finding:
    """Many calls at once, and then none."""
    curve: list[Sample] = []
    load = Load(rate=rate, calls=rate * BURST_S, hold_ms=TALK_MS)
    async with product(folder) as busy, asyncio.TaskGroup() as tasks:
        noting = tasks.create_task(note(curve, busy.node, busy.listener, folder / "data"), name="curve")
        outcome = await busy.place(load)
        await asyncio.sleep(QUIET_S)
        noting.cancel()
        last = await asyncio.to_thread(sample, curve[0].at_s, busy.node, busy.listener, folder / "data")
    most = max(one.rss_mb for one in curve)
    print(
        f"{load.calls} calls at {rate}/s, {outcome.failed} failed: RSS {curve[0].rss_mb} MB before, {most}",
        end=" ",
    )
    print(f"at most, {last.rss_mb} a minute after")
    wrongs = []
    if last.rss_mb > QUIET_RSS_MB_MAX:
        wrongs.append(f"{last.rss_mb} MB a minute after the burst, more than {QUIET_RSS_MB_MAX:.0f}")
    if last.records < load.calls - outcome.failed:
        wrongs.append(f"{load.calls - outcome.failed - last.records} records of the burst are missing")
    return Finding(calls=load.calls, curve=curve, wrongs=wrongs)


# --- what it must say ---------------------------------------------------------------------------------------


def _told(listener: Listener) -> int:
    """Calls that a record tells of. Refusals beyond ten a second are summed up within a minute."""
    return sum(record["refused_count"] or 1 for _, record in listener.records() if not record["revision"])


def _is_empty(one: Sample) -> bool:
    return not any(asdict(one)[name] for name in NOTHING_HELD)


def _growth(curve: list[Sample], calls: int) -> list[str]:
    found = [
        f"{name}: {asdict(curve[-1])[name]} at the end" for name in NOTHING_HELD if asdict(curve[-1])[name]
    ]
    under_load = [one for one in curve if 0 < one.records < calls]
    if len(under_load) < 8:
        return [*found, "too few samples: more calls, or a lower rate"]
    quarter = len(under_load) // 4
    early, late = under_load[quarter : 2 * quarter], under_load[-quarter:]
    for name, allowed in (("rss_mb", RSS_GROWTH_MAX), ("open_files", FILES_GROWTH_MAX)):
        before, after = (max(asdict(one)[name] for one in part) for part in (early, late))
        if after > before * (1 + allowed):
            found.append(f"{name}: {before} in the second quarter, {after} in the last")
    return found


def _wrong_records(listener: Listener, counts: list[int], good: list[int]) -> list[str]:
    found = [
        f"{KINDS[kind].caller}: {count - good[kind]} of {count} calls failed"
        for kind, count in enumerate(counts)
        if good[kind] < count
    ]
    records = [record for _, record in listener.records()]
    twice = [
        key for key, count in Counter((r["call_id"], r["revision"]) for r in records).items() if count > 1
    ]
    if twice:
        found.append(f"{len(twice)} records came twice")
    told: Counter[tuple[str, Ending]] = Counter()
    for record in records:
        if not record["revision"]:
            told[record["callee"]["received"], _ending(record)] += record["refused_count"] or 1
    expected = Counter({(number(kind), KINDS[kind].ending): count for kind, count in enumerate(counts)})
    found += [f"{key}: {count} records are missing" for key, count in (expected - told).items()]
    found += [f"{key}: {count} records too many" for key, count in (told - expected).items()]
    return found


def _ending(record: Record) -> Ending:
    return record["hangup_origin"], record["server_reason"] or "", record["detail"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.endurance", description=__doc__)
    parser.add_argument(
        "--calls", type=int, default=100_000, help="of all kinds together; 0: none (default: 100000)"
    )
    parser.add_argument("--rate", type=int, default=400, help="calls per second (default: 400)")
    parser.add_argument(
        "--burst", type=int, default=2500, help="calls per second of the burst; 0: none (default: 2500)"
    )
    parser.add_argument(
        "--dir", type=Path, default=REPO / ".build", help="whose disk is used (default: .build)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="the curve as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="the curve as SVG")
    arguments = parser.parse_args()
    arguments.dir.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="endurance-", dir=arguments.dir))
    for name, value in places.surroundings(folder).items():
        print(f"{name:12} {value}")
    finding: Finding | None = None
    after: Finding | None = None
    try:
        finding = asyncio.run(run(folder, arguments.calls, arguments.rate)) if arguments.calls else NOTHING
        after = asyncio.run(burst(folder / "burst", arguments.burst)) if arguments.burst else NOTHING
    except* DemoError as group:
        for error in leaves(group):
            print(f"endurance: {error}", file=sys.stderr)
    if finding is None or after is None:
        print(f"endurance: logs are in {folder}", file=sys.stderr)
        return 1
    if arguments.json is not None:
        both = {"endurance": finding, "burst": after}
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(both)) + b"\n")
    if arguments.plot is not None:
        arguments.plot.write_text(
            report.picture(*panels("endurance", finding.curve, 0), *panels("burst", after.curve, 2))
        )
    wrongs = finding.wrongs + after.wrongs
    for wrong in wrongs:
        print(wrong)
    if finding.curve:
        first, last = finding.curve[0], finding.curve[-1]
        print(
            f"{finding.calls} calls, {last.records} records: RSS {first.rss_mb} to {last.rss_mb} MB,", end=" "
        )
        print(f"{first.open_files} to {last.open_files} files")
    print("RED" if wrongs else "green")
    if not wrongs:
        shutil.rmtree(folder)
    return 1 if wrongs else 0


if __name__ == "__main__":
    sys.exit(main())
