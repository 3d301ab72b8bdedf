"""`sidecar cdr explain`, on the control socket of a node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace

from sidecar.core.commands import Publish, Settle
from sidecar.core.terms import Money, RevisionReason
from tests.cli.test_commands import Served, served_node


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with served_node(tmp_path) as served:
        yield served


async def test_a_charge_is_explained_from_the_digits_on(served: Served) -> None:
    call_id = await served.node.whole("+4412345678")
    done = await served.says("cdr", "explain", str(call_id))
    assert done.exit_code == 0
    shown = {line.split("  ")[0]: line.split("  ")[-1] for line in done.out.splitlines()}
    assert shown["received"] == "+4412345678"
    assert shown["strip rule"] == "e164"
    assert shown["billed number"].strip() == "4412345678"
    assert shown["candidates"].strip() == "(default)"
    assert shown["hold time"].strip() == "3 s"
    assert "every figure comes out again" in done.out
    told = (await served.says("cdr", "explain", str(call_id), "--json")).json
    assert (told["call_id"], told["revision"], told["differences"]) == (str(call_id), 0, [])
    assert ["total", "0.030000 EUR"] in told["charges"][0]["lines"]


async def test_a_difference_is_shown_and_has_its_exit_code(served: Served) -> None:
    call_id = await served.node.whole()
    cdr = (await served.node.store.records.show(str(call_id)))[-1]
    wrong = replace(
        cdr,
        revision=1,
        supersedes=0,
        revision_reason=RevisionReason.OPERATOR,
        charges=(replace(cdr.charges[0], net=Decimal(1), total=Decimal(1)),),
    )
    total = Money(Decimal(1), "EUR")
    served.node.store.submit((Settle(call_id=call_id, account="demo", total=total), Publish(cdr=wrong)))
    await served.node.store.outbox.acknowledge([], [])
    done = await served.says("cdr", "explain", str(call_id))
    assert done.exit_code == 1
    assert "difference: net 1, the rate gives 0.030000" in done.out
    first = await served.says("cdr", "explain", str(call_id), "--revision", "0")
    assert first.exit_code == 0


async def test_what_is_not_there_is_said(served: Served) -> None:
    call_id = await served.node.whole()
    assert (await served.says("cdr", "explain", str(call_id), "--revision", "7")).exit_code == 1
    other = await served.says("cdr", "explain", "00000000-0000-0000-0000-000000000007")
    assert other.exit_code == 1


async def test_the_deck_is_not_needed(served: Served) -> None:
    call_id = await served.node.whole("+4412345678")
    served.node.calls.policies.change(lambda policy: replace(policy, decks={}))
    done = await served.says("cdr", "explain", str(call_id), "--json")
    assert ["candidates", "(default)"] in done.json["charges"][0]["lines"]
