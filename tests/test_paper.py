"""What is reckoned for many calls: the table of the reference, and which part is full first."""

from __future__ import annotations

from dataclasses import replace

from sidecar.cli.reference_pages import FOLDER
from tests.bench.paper import Figures, cell, full_cell, node_calls_per_s, table


def test_the_reference_has_the_table_that_is_reckoned() -> None:
    assert f"\n{table(Figures(), 100_000)}\n" in (FOLDER / "operation.md").read_text()


def test_a_cell_has_as_many_nodes_as_its_server_carries_and_the_first_part_that_is_full_is_named() -> None:
    plain = Figures(node_ms=1, server_ms=0.25, wal_kb=10, node_cores=2, server_cores=2, full=0.5)
    assert node_calls_per_s(plain) == 1_000
    biggest = full_cell(plain)  # 2 cores, half of them used: 4000 calls/s
    assert (biggest.nodes, biggest.calls_per_s, biggest.is_carried) == (4, 4_000, True)
    one_more = cell(plain, 5, 5_000)
    assert (one_more.first, one_more.is_carried) == ("the server's CPU", False)
    by_log = replace(plain, disk_mb_s=40)  # 20 MB/s of 10 kB each: 2000 calls/s
    assert (full_cell(by_log).nodes, cell(by_log, 3, 3_000).first) == (2, "the server's log")
    small = full_cell(replace(plain, server_ms=2))
    assert (small.nodes, small.calls_per_s) == (1, 500)
