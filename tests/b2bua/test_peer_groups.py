"""Which group a source belongs to: block by bits, port, and the group that a dialog was made in."""

from __future__ import annotations

import pytest

from sidecar.b2bua.hook import PeerGroup
from sidecar.core.events import ByeReceived, InviteReceived
from tests.b2bua.rig import Rig
from tests.b2bua.scripted_ua import ScriptedUA
from tests.rig.addresses import own_network


@pytest.mark.parametrize("last", [16, 23])
async def test_a_block_holds_its_first_and_its_last_address(last: int) -> None:
    network = own_network()
    async with Rig(peers=(PeerGroup(name="block", cidrs=(f"{network}.16/29",)),)) as rig:
        agent = rig.adopt(await ScriptedUA.udp(f"{network}.{last}"))
        agent.peer = rig.address()
        rig.invite(agent=agent)
        await agent.expect(100)
        assert (await rig.event(InviteReceived)).peer == "block"


@pytest.mark.parametrize("last", [15, 24])
async def test_a_block_does_not_hold_its_neighbours(last: int) -> None:
    network = own_network()
    async with Rig(peers=(PeerGroup(name="block", cidrs=(f"{network}.16/29",)),)) as rig:
        agent = rig.adopt(await ScriptedUA.udp(f"{network}.{last}"))
        agent.peer = rig.address()
        rig.invite(agent=agent)
        await rig.counted("dropped_unlisted", 1)


async def test_a_group_with_a_port_holds_that_port_alone() -> None:
    network = own_network()
    caller, other = await ScriptedUA.udp(f"{network}.2"), await ScriptedUA.udp(f"{network}.2")
    groups = (
        PeerGroup(name="proxy", cidrs=(f"{network}.2/32",), port=caller.port),
        PeerGroup(name="phone", cidrs=(f"{network}.2/32",), port=other.port),
        PeerGroup(name="gateways", cidrs=("127.0.0.0/8",)),
    )
    async with Rig(peers=groups) as rig:
        for agent, name in ((caller, "proxy"), (other, "phone")):
            agent.peer = rig.address()
            rig.adopt(agent)
            rig.invite(agent=agent)
            await agent.expect(100)
            assert (await rig.event(InviteReceived)).peer == name


async def test_a_request_from_the_same_address_and_another_group_is_not_believed() -> None:
    network = own_network()
    caller, other = await ScriptedUA.udp(f"{network}.2"), await ScriptedUA.udp(f"{network}.2")
    groups = (
        PeerGroup(name="proxy", cidrs=(f"{network}.2/32",), port=caller.port),
        PeerGroup(name="gateways", cidrs=("127.0.0.0/8",)),
    )
    async with Rig(peers=groups) as rig:
        for agent in (caller, other):
            agent.peer = rig.address()
            rig.adopt(agent)
        rig.caller = caller
        _, a, _ = await rig.answered_call()
        rig.in_dialog(other, "BYE", a, cseq=2)
        await rig.counted("dropped_foreign", 1)
        rig.in_dialog(caller, "BYE", a, cseq=2)
        assert isinstance(await rig.event(ByeReceived), ByeReceived)
