"""Calls without a rate are told as they are answered."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from sidecar.core.tariff import Deck
from sidecar.runtime.releasing import release_live
from sidecar.runtime.unrated import OTHERS, PARTIES_MAX, Unrated
from tests.runtime.node_help import Node, a_node


def _counted(node: Node, party: str) -> float:
    return node.counted("sidecar_calls_unrated_total", side="sell", party=party)


async def test_a_call_without_a_rate_is_counted_and_logged_when_it_is_answered(tmp_path: Path) -> None:
    async with a_node(tmp_path) as node:
        await node.up()
        assert _counted(node, "demo") == 0
        node.calls.policies.change(lambda policy: policy.with_deck("demo", Deck("empty", [])))
        with capture_logs() as logs:
            for _ in range(3):
                await node.up()
            node.clock.pass_ms(60_000)
            await node.up()
        assert _counted(node, "demo") == 4
        told = [line for line in logs if line["event"] == "calls_unrated"]
        assert [(line["party"], line["count"], line["deck_revision"]) for line in told] == [
            ("demo", 1, "empty"),
            ("demo", 3, "empty"),
        ]
        await release_live(node.calls, "ann", "")
        await node.closed(5)


@pytest.mark.parametrize("more", [1, 50])
async def test_parties_are_bounded(tmp_path: Path, more: int) -> None:
    async with a_node(tmp_path) as node:
        node.calls.policies.change(lambda policy: policy.with_deck("demo", Deck("empty", [])))
        call = node.calls.find(await node.up())
        assert call is not None
        unrated = Unrated(node.metrics)
        for number in range(PARTIES_MAX + more):
            account = replace(call.account, name=f"account-{number}")
            unrated.answered(replace(call, account=account), node.clock.mono_ns())
        assert _counted(node, f"account-{PARTIES_MAX - 1}") == 1
        assert _counted(node, f"account-{PARTIES_MAX}") == 0
        assert _counted(node, OTHERS) == more
        await release_live(node.calls, "ann", "")
        await node.closed(1)
