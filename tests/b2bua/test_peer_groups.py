"""Which group a source belongs to: block by bits, port, and the group that a dialog was made in."""

from __future__ import annotations

import ipaddress

import pytest

from sidecar.b2bua.settings import PeerGroup
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


async def test_every_bit_of_a_block_counts_and_none_after_it() -> None:
    """One group for each length of a mask, the longest first: an address that differs in one bit is in the
    longest block that ends before that bit."""
    network = own_network()
    address = int(ipaddress.IPv4Address(f"{network}.77"))
    lengths = range(32, 8, -1)  # all that leave 127/8 to the other bits
    blocks = [str(ipaddress.ip_network((address, bits), strict=False)) for bits in lengths]
    groups = [PeerGroup(name=str(bits), cidrs=(block,)) for bits, block in zip(lengths, blocks, strict=True)]
    async with Rig(peers=(*groups, PeerGroup(name="8", cidrs=("127.0.0.0/8",)))) as rig:
        for bit in lengths:
            other = ipaddress.IPv4Address(address ^ 1 << 32 - bit)
            agent = rig.adopt(await ScriptedUA.udp(str(other)))
            agent.peer = rig.address()
            rig.invite(agent=agent)
            await agent.expect(100)
            assert (await rig.event(InviteReceived)).peer == str(bit - 1)


@pytest.mark.parametrize("bits", [1, 8, 9, 31, 64, 65, 96, 123, 127, 128])
async def test_every_bit_of_a_block_of_ipv6_counts_and_none_after_it(bits: int) -> None:
    differs = ipaddress.IPv6Address(1 ^ 1 << 128 - bits)
    groups = (
        PeerGroup(name="without", cidrs=(f"{differs}/{bits}",)),
        PeerGroup(name="with", cidrs=(f"{differs}/{bits - 1}",)),
    )
    async with Rig(host="::1", peers=groups) as rig:
        agent = rig.adopt(await ScriptedUA.udp("::1"))
        agent.peer = rig.address()
        rig.invite(agent=agent)
        await agent.expect(100)
        assert (await rig.event(InviteReceived)).peer == "with"


async def test_the_first_group_that_holds_an_address_is_its_group() -> None:
    network = own_network()
    wide, narrow = PeerGroup(name="wide", cidrs=(f"{network}.0/24",)), f"{network}.2"
    for groups in (
        (wide, PeerGroup(name="narrow", cidrs=(narrow,))),
        (PeerGroup(name="narrow", cidrs=(narrow,)), wide),
    ):
        async with Rig(peers=groups) as rig:
            agent = rig.adopt(await ScriptedUA.udp(narrow))
            agent.peer = rig.address()
            rig.invite(agent=agent)
            await agent.expect(100)
            assert (await rig.event(InviteReceived)).peer == groups[0].name


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


@pytest.mark.parametrize(
    "text", ["127.0.0.1/33", "127.0.0.1/-1", "::1/129", "127.0.0.1/", "127.0.0/8", "a/8"]
)
async def test_what_is_no_block_is_no_peer(text: str) -> None:
    rig = Rig(peers=(PeerGroup(name="callers", cidrs=(text,)),))
    with pytest.raises(ValueError, match=f"peer group callers: not a CIDR: {text}"):
        await rig.hook.start()
    await rig.hook.stop()
