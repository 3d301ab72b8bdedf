"""What a rate of calls takes: `python -m tests.bench.paper [--calls-per-s 100000] [--core-hour 0.04] ...`

Reckoned, not measured: from figures that were (`tests.bench.several`, README), each of which is a parameter,
as are the assumptions and the prices. Those are an example of what machines cost by the hour, of no provider:
put in what yours asks. A cell is some nodes with their PostgreSQL, broker and subscriber; as many nodes as
that server carries.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, get_type_hints

HOURS_PER_MONTH = 730
SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, kw_only=True)
class Figures:
    # Measured.
    node_ms: Annotated[float, "CPU of a node per call, ms"] = 1.3
    server_ms: Annotated[float, "CPU of its PostgreSQL per call, ms"] = 0.4
    proxy_ms: Annotated[float, "CPU of two Kamailios per call, ms"] = 1.2
    wal_kb: Annotated[float, "the server's log per call, kB"] = 8.6
    call_kb: Annotated[float, "memory of a call that is up, kB"] = 18.3
    record_kb: Annotated[float, "a record, packed, kB"] = 0.7
    # Assumed.
    talk_s: Annotated[float, "how long a call is up, s"] = 180
    node_cores: Annotated[float, "cores of a node"] = 2
    server_cores: Annotated[float, "cores of a server"] = 4
    disk_mb_s: Annotated[float, "what its disk writes, MB/s"] = 200
    full: Annotated[float, "the part of a core or disk that may be used"] = 0.7
    # Prices, as an example.
    core_hour: Annotated[float, "a core, with its memory, an hour"] = 0.04
    disk_tb_month: Annotated[float, "a TB of disk, a month"] = 80
    kept_days: Annotated[float, "days that records stay in the database"] = 7


@dataclass(frozen=True, kw_only=True)
class Cell:
    nodes: int
    calls_per_s: float
    node: float  # used parts of what there is, 1 being full
    server: float
    log: float

    @property
    def first(self) -> str:
        """What is full first."""
        parts = {"the nodes' CPU": self.node, "the server's CPU": self.server, "the server's log": self.log}
        return max(parts, key=parts.__getitem__)

    @property
    def is_carried(self) -> bool:
        return max(self.node, self.server, self.log) <= 1


def node_calls_per_s(of: Figures) -> float:
    """That one node carries."""
    return of.node_cores * of.full * 1_000 / of.node_ms


def cell(of: Figures, nodes: int, calls_per_s: float) -> Cell:
    return Cell(
        nodes=nodes,
        calls_per_s=calls_per_s,
        node=calls_per_s / (nodes * node_calls_per_s(of)),
        server=calls_per_s * of.server_ms / 1_000 / (of.server_cores * of.full),
        log=calls_per_s * of.wal_kb / 1_000 / (of.disk_mb_s * of.full),
    )


def full_cell(of: Figures) -> Cell:
    """As many nodes, each full, as its server carries; one at least, and then not full."""
    each = node_calls_per_s(of)
    by_server = of.server_cores * of.full * 1_000 / of.server_ms
    by_log = of.disk_mb_s * of.full * 1_000 / of.wal_kb
    carried = min(by_server, by_log)
    nodes = max(1, int(carried / each))
    return cell(of, nodes, min(carried, nodes * each))


def table(of: Figures, calls_per_s: float) -> str:
    each, biggest = node_calls_per_s(of), full_cell(of)
    lines = ["| nodes in a cell | calls/s | nodes | server | log | full first |", "|---|---|---|---|---|---|"]
    for nodes in sorted({1, 2, 3, biggest.nodes, biggest.nodes + 1}):
        row = cell(of, nodes, nodes * each)
        parts = " | ".join(f"{part:.0%}" for part in (row.node, row.server, row.log))
        said = row.first if row.is_carried else f"{row.first}: too much"
        lines.append(f"| {nodes} | {row.calls_per_s:,.0f} | {parts} | {said} |")
    cells = math.ceil(calls_per_s / biggest.calls_per_s)
    nodes = math.ceil(calls_per_s / each)
    proxies = calls_per_s * of.proxy_ms / 1_000 / of.full
    cores = nodes * of.node_cores + cells * of.server_cores + proxies
    records_tb = calls_per_s * of.record_kb * SECONDS_PER_DAY / 1e9
    money = cores * of.core_hour * HOURS_PER_MONTH
    kept_tb = records_tb * of.kept_days
    disk, up = kept_tb * of.disk_tb_month, calls_per_s * of.talk_s
    of_node_gb = up / nodes * of.call_kb / 1e6
    kept = f"records of {of.kept_days:g} days | {kept_tb:,.0f} TB, at {of.disk_tb_month:g} a month"
    month = calls_per_s * 3_600 * HOURS_PER_MONTH
    lines += [
        "",
        f"| {calls_per_s:,.0f} calls/s, {of.talk_s:g} s each | |",
        "|---|---|",
        f"| calls up | {up / 1e6:,.1f} million, {up * of.call_kb / 1e6:,.0f} GB |",
        f"| nodes, of {of.node_cores:g} cores | {nodes:,}, {of_node_gb:.1f} GB of calls in each |",
        f"| cells, each with a server of {of.server_cores:g} cores | {cells:,} of {biggest.nodes} nodes |",
        f"| cores of Kamailio | {proxies:,.0f} |",
        f"| log of all servers | {calls_per_s * of.wal_kb / 1_000:,.0f} MB/s |",
        f"| records | {calls_per_s * SECONDS_PER_DAY / 1e6:,.0f} million, {records_tb:.1f} TB a day |",
        f"| cores | {cores:,.0f}, at {of.core_hour:g} an hour: {money:,.0f} a month |",
        f"| disk, {kept}: {disk:,.0f} |",
        f"| a million calls | {(money + disk) / month * 1e6:.2f} |",
    ]
    return "\n".join(lines)


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.paper", description=__doc__)
    parser.add_argument("--calls-per-s", type=float, default=100_000)
    defaults = Figures()
    for name, hint in get_type_hints(Figures, include_extras=True).items():
        default, (about,) = getattr(defaults, name), hint.__metadata__
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=float, default=default, help=f"{about} (default: {default:g})")
    given = vars(parser.parse_args(words))
    calls_per_s = given.pop("calls_per_s")
    print(table(Figures(**given), calls_per_s))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
