"""A node that dies while its database cannot be reached, and is taken over: what it had seen of its calls."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from sidecar.demo.subscriber import Record
from tests.faults.cluster import Proxy, up
from tests.faults.test_postgresql import records_kept
from tests.faults.test_takeover import place
from tests.rig.listener import check_sequences, sell
from tests.rig.node import until
from tests.rig.postgres import Postgres


def said(record: Record) -> tuple[str, int, str | None]:
    return f"{record['hangup_origin']}/{record['detail']}", record["revision"], record["revision_reason"]


async def test_what_a_node_kept_of_a_call_is_a_revision_of_the_record_that_another_one_made(
    tmp_path: Path, postgresql: Postgres
) -> None:
    dsn = postgresql.new_database("late_evidence")
    async with Proxy(postgresql.port) as way, place(tmp_path, dsn, 2, way) as at:
        first, survivor = at.nodes
        first._dsn = dsn  # what we ask goes past the cut
        way.cut()
        at.caller.hang_up(at.calls[0])
        await at.calls[0].ended.wait()
        await until(lambda: records_kept(first) == 1)
        first.kill()
        await until(lambda: survivor.told("takeover_over"))
        records = await at.listener.of([side.call_id for side in at.calls])
        assert [said(one) for one in records] == [("server/crash_recovered", 0, None)] * 3
        held = first.balance("prepaid")
        assert held == 10 - Decimal(sell(records[0])["total"])
        way.is_cut = False
        async with up(first, at.broker):
            await at.listener.until(lambda: len(at.listener.records) == 4)
            late = at.listener.records[3]
            assert said(late) == ("caller/bye", 1, "late_evidence")
            assert late["call_id"] == records[0]["call_id"]
            assert late["talk_ms"] < records[0]["talk_ms"]
            check_sequences(at.listener.records)
        assert first.balance("prepaid") == 10 - Decimal(sell(late)["total"])
        first.check_books()
    assert len(at.listener.records) == 4
