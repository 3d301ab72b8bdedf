"""A damaged ledger, found at the start: a prepaid account whose balance is not known to be right carries no
call until a person has decided."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import DEVNULL, PIPE
from decimal import Decimal

import apsw

from sidecar.demo.children import environment
from tests.faults.conftest import MakeNode
from tests.faults.node import Node, phones
from tests.faults.phone import Plan
from tests.rig.listener import listening
from tests.rig.node import SIDECAR

PAGE = 4096


async def says(node: Node, *words: str) -> tuple[int | None, str]:
    child = await asyncio.create_subprocess_exec(
        *SIDECAR, *words, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=environment(**node.settings())
    )
    said, _ = await child.communicate()
    return child.returncode, said.decode()


def overwrite_ledger(node: Node) -> None:
    file = node.data / "journal.db"
    connection = apsw.Connection(str(file))
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    pages = [page for (page,) in connection.execute("SELECT pageno FROM dbstat WHERE name = 'ledger'")]
    connection.close()
    with file.open("r+b") as damaged:
        for page in pages:
            damaged.seek((page - 1) * PAGE)
            damaged.write(bytes(range(256)) * (PAGE // 256))


async def test_prepaid_accounts_of_a_damaged_ledger_get_503_until_an_operator_decides(
    make_node: MakeNode,
) -> None:
    node = make_node()
    async with phones(node) as (caller, callee):
        async with node.up() as child:
            caller.peer = callee.peer = child.sip
            await child.command("account", "topup", "prepaid", "1")
            await caller.place("1000", Plan(caller_bye_s=0.2), account="prepaid")
            await node.empty()
        left = node.balance("prepaid")
        assert 0 < left < 1
        overwrite_ledger(node)
        async with node.up() as child, listening(*child.broker) as listener:
            caller.peer = callee.peer = child.sip
            refused = await caller.place("1001", Plan(), account="prepaid")
            goes_on = await caller.place("1002", Plan(caller_bye_s=0.1))
            empty = await caller.place("1003", Plan(), account="other")  # its books add up: there is nothing
            records = await listener.of([side.call_id for side in (refused, goes_on, empty)])
            assert [
                (one["server_reason"], one["detail"], one["sip_code"], one["q850_cause"]) for one in records
            ] == [
                ("resource", "ledger_unreachable", 503, 42),
                (None, "bye", 200, 16),
                ("credit", "no_credit", 402, 21),
            ]
            assert refused.final == 503
            code, said = await says(node, "journal", "open", "--json")
            opened = json.loads(said)
            assert (code, sum(Decimal(one["amount"]) for one in opened)) == (1, 1), (
                opened
            )  # the top-up; the charge is known
            assert {one["account"] for one in opened} == {"prepaid"}
            for again in range(2):
                done = await child.command(
                    "journal", "book", "prepaid", "--text", "as on the paper", "--operator", "jane"
                )
                assert (len(done["cleared"]), done["left"]) == (0 if again else len(opened), 0)
                assert Decimal(done["balances"][0]["amount"]) == left
            assert (await says(node, "journal", "open"))[0] == 0
            carried = await caller.place("1004", Plan(caller_bye_s=0.1), account="prepaid")
            (record,) = await listener.of([carried.call_id])
            assert record["detail"] == "bye"
            await node.empty()
    assert "accounts_suspended" in node.log.read_text()
    noted = node.ask("SELECT operator, action, subject, text FROM audit WHERE action LIKE 'journal.book'")
    assert noted == [("jane", "journal.book", "prepaid", "as on the paper")]
    node.check_books()
