"""Any two administrative commands at once, on the real store: both are in force afterwards, and both are in
the audit table."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from itertools import combinations_with_replacement
from pathlib import Path
from uuid import UUID

import pytest
from msgspec.structs import replace

from sidecar.core.account_terms import AccountKind
from sidecar.core.audit import Operator
from sidecar.core.commands import Release
from sidecar.core.rerate import rerate
from sidecar.core.tariff import Deck, Rate, per_minute_steps
from sidecar.core.terms import Detail
from sidecar.runtime.reload import Reading
from sidecar.wire.control_accounts import AccountAddressParams, AccountCreateParams, AccountTopupParams
from sidecar.wire.control_calls import CallReleaseParams
from sidecar.wire.control_decks import DeckReloadParams
from sidecar.wire.control_node import NodeDrainParams, NodeReloadParams
from sidecar.wire.control_records import (
    DeadLetterDropParams,
    DeadLetterRetryParams,
    RerateApplyParams,
    RerateOutcome,
    Restated,
)
from tests.runtime.node_help import Node, a_node

ANN = Operator("ann", 1000)


class Act:
    """One command on a subject of its own. `ask` is told when the other is; `check` looks afterwards."""

    action: str
    subject: str

    def __init__(self, node: Node, number: int) -> None:
        self.node = node
        self.number = number

    async def prepare(self) -> None:
        pass

    async def ask(self) -> None:
        raise NotImplementedError

    async def check(self) -> None:
        raise NotImplementedError


class Create(Act):
    action = "account.create"

    async def prepare(self) -> None:
        self.subject = f"made{self.number}"

    async def ask(self) -> None:
        await self.node.admin.accounts.create(
            AccountCreateParams(name=self.subject, kind=AccountKind.PREPAID), ANN
        )

    async def check(self) -> None:
        assert self.node.calls.policy.accounts[self.subject].prepaid
        assert self.subject in [stored.name for stored in await self.node.store.accounts.stored()]


class GiveAddress(Act):
    action = "account.address"
    subject = "demo"

    async def prepare(self) -> None:
        self.block = f"192.0.2.{self.number}/32"

    async def ask(self) -> None:
        await self.node.admin.accounts.address(AccountAddressParams(name="demo", block=self.block), ANN)

    async def check(self) -> None:
        assert self.node.calls.policy.account_addresses.at(self.block) == "demo"
        assert (self.block, "demo") in await self.node.store.accounts.addresses()


class TakeAddress(GiveAddress):
    async def prepare(self) -> None:
        await super().prepare()
        await super().ask()

    async def ask(self) -> None:
        wanted = AccountAddressParams(name="demo", block=self.block, remove=True)
        await self.node.admin.accounts.address(wanted, ANN)

    async def check(self) -> None:
        assert self.node.calls.policy.account_addresses.at(self.block) is None
        assert (self.block, "demo") not in await self.node.store.accounts.addresses()


class TopUp(Act):
    """Both to one account: none may be lost."""

    action = "account.topup"
    subject = "prepaid"

    async def ask(self) -> None:
        topup = AccountTopupParams(name="prepaid", amount="5", reference=f"invoice {self.number}")
        await self.node.admin.accounts.topup(topup, ANN)

    async def check(self) -> None:
        entries = await self.node.store.accounts.ledger("prepaid")
        assert f"invoice {self.number}" in [entry.reference for entry in entries]
        [balance] = await self.node.store.accounts.balance("prepaid")
        assert balance.amount == 5 * sum(entry.kind == "top_up" for entry in entries)


class ReloadDeck(Act):
    action = "deck.reload"

    async def prepare(self) -> None:
        self.subject = f"deck{self.number}"
        rate = Rate(prefix="", currency="EUR", steps=per_minute_steps(Decimal(self.number), 1, 1))
        self.node.decks[self.subject] = Deck(f"revision {self.number}", [rate])

    async def ask(self) -> None:
        await self.node.admin.decks.reload(DeckReloadParams(name=self.subject), ANN)

    async def check(self) -> None:
        assert self.node.calls.policy.decks[self.subject] is self.node.decks[self.subject]


class ReloadSettings(Act):
    action = "node.reload"
    subject = "box"

    async def prepare(self) -> None:
        read = replace(self.node.reloading.in_force.policy, margin_floor=Decimal(self.number) / 100)
        self.node.settings = Reading(policy=read, plain={"billing.margin_floor": str(self.number)})

    async def ask(self) -> None:
        await self.node.admin.node_reload(NodeReloadParams(operator="ann"), ANN)

    async def check(self) -> None:
        assert isinstance(self.node.settings, Reading)
        assert self.node.calls.policy.margin_floor == self.node.settings.policy.margin_floor


class Drain(Act):
    action = "node.drain"
    subject = "box"

    async def ask(self) -> None:
        await self.node.admin.node_drain(NodeDrainParams(operator="ann"), ANN)

    async def check(self) -> None:
        assert (self.node.calls.state, self.node.bridge.accepting) == ("drain", "drain")


class ReleaseCall(Act):
    action = "call.release"

    async def prepare(self) -> None:
        self.call_id = await self.node.up()
        self.subject = str(self.call_id)
        call = self.node.calls.find(self.call_id)
        assert call is not None
        self.bridge_id = call.bridge_id

    async def ask(self) -> None:
        wanted = CallReleaseParams(call_id=self.call_id, operator="ann", text="why")
        await self.node.admin.call.release(wanted, ANN)

    async def check(self) -> None:
        assert self.node.calls.find(self.call_id) is None
        released = [command for command in self.node.bridge.sent if isinstance(command, Release)]
        assert (self.bridge_id, Detail.OPERATOR) in [(one.bridge_id, one.text) for one in released]


async def a_dead_letter(node: Node) -> int:
    await node.whole()
    seq = (await node.store.outbox.outbox_state()).head_seq
    await node.store.outbox.acknowledge([], [(seq, 0x87)])
    return seq


async def dead(node: Node) -> list[int]:
    return [letter.seq for letter in await node.store.outbox.dead_letters()]


class Retry(Act):
    action = "dead-letter.retry"

    async def prepare(self) -> None:
        self.seq = await a_dead_letter(self.node)
        self.subject = str(self.seq)

    async def ask(self) -> None:
        wanted = DeadLetterRetryParams(operator="ann", seqs=(self.seq,))
        assert (await self.node.admin.dead_letters.retry(wanted, ANN)).count == 1

    async def check(self) -> None:
        assert self.seq not in await dead(self.node)
        assert self.seq in [row.seq for row in await self.node.store.outbox.pending(0, 99)]


class Drop(Act):
    action = "dead-letter.drop"

    async def prepare(self) -> None:
        self.seq = await a_dead_letter(self.node)
        self.subject = str(self.seq)

    async def ask(self) -> None:
        wanted = DeadLetterDropParams(operator="ann", seqs=(self.seq,), text="why")
        assert (await self.node.admin.dead_letters.drop(wanted, ANN)).count == 1

    async def check(self) -> None:
        assert self.seq not in await dead(self.node)
        assert self.seq not in [row.seq for row in await self.node.store.outbox.pending(0, 99)]


class Rerate(Act):
    action = "rerate.apply"

    async def prepare(self) -> None:
        self.call_id: UUID = await self.node.whole()
        self.subject = str(self.call_id)
        [cdr] = await self.node.store.records.show(self.subject)
        rate = Rate(prefix="", currency="EUR", steps=per_minute_steps(Decimal(7), 1, 1))
        found = rerate(cdr, Deck("dear", [rate]), None)
        assert found is not None
        restated = Restated(call_id=self.call_id, revision=0, charge=found.after)
        self.wanted = RerateApplyParams(operator="ann", text="why", calls=(restated,))

    async def ask(self) -> None:
        done = await self.node.admin.records.rerate(self.wanted, ANN)
        assert done.outcomes == (RerateOutcome.REVISED,)

    async def check(self) -> None:
        revisions = await self.node.store.records.show(self.subject)
        assert [cdr.revision for cdr in revisions] == [0, 1]


ACTS: tuple[type[Act], ...] = (
    Create,
    GiveAddress,
    TakeAddress,
    TopUp,
    ReloadDeck,
    ReloadSettings,
    Drain,
    ReleaseCall,
    Retry,
    Drop,
    Rerate,
)


@pytest.mark.parametrize(
    ("one", "other"),
    [*combinations_with_replacement(ACTS, 2)],
    ids=lambda act: act.__name__,
)
async def test_two_commands_at_once_are_both_in_force_and_both_noted(
    tmp_path: Path, one: type[Act], other: type[Act]
) -> None:
    for name, kinds in (("first", (one, other)), ("second", (other, one))):
        folder = tmp_path / name  # a node that drains opens no call for the other order
        folder.mkdir()
        async with a_node(folder) as node:
            acts = [kind(node, number) for number, kind in enumerate(kinds, 1)]
            for act in acts:
                await act.prepare()
            await asyncio.gather(*(act.ask() for act in acts))
            await node.written()
            for act in acts:
                await act.check()
            noted = {(entry.change.action, entry.change.subject) for entry in await node.store.audit.list()}
            assert noted == {(act.action, act.subject) for act in acts}
