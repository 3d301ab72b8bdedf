"""SIPp as both ends: a few hundred calls at once, none of which may fail."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress

from sidecar.core.events import AnswerRelayed, InviteReceived, LegTerminated
from sidecar.demo.children import free_ports, listens
from tests.b2bua.rig import Rig

CALLS = 300


async def test_sipp_places_300_calls() -> None:
    async with Rig() as rig:
        rig.autopilot()
        rig.gateway.close()
        caller, gateway = f"{rig.network}.2", f"{rig.network}.3"
        [port_a] = free_ports(caller, 1)
        control_a, control_b = map(str, free_ports("127.0.0.1", 2))
        while listens(gateway, rig.gateway.port):  # noqa: ASYNC110  # asyncio closes a socket a moment later
            await asyncio.sleep(0.01)
        callee = await sipp("-sn", "uas", "-i", gateway, "-p", str(rig.gateway.port), "-cp", control_b)
        try:
            while not listens(gateway, rig.gateway.port):
                assert callee.returncode is None
                await asyncio.sleep(0.02)
            host, port = rig.address()
            places = ("-i", caller, "-p", str(port_a), "-cp", control_a)
            load = ("-r", "150", "-m", str(CALLS), "-d", "200")
            process = await sipp("-sn", "uac", f"{host}:{port}", *places, *load)
            assert await asyncio.wait_for(process.wait(), 30) == 0
            for _ in range(2 * CALLS):
                await rig.until(LegTerminated)
        finally:
            with suppress(ProcessLookupError):
                callee.kill()
            await callee.wait()
        kinds = Counter(type(event) for event in rig.events)
        assert (kinds[InviteReceived], kinds[AnswerRelayed], kinds[LegTerminated]) == (
            CALLS,
            CALLS,
            2 * CALLS,
        )


async def sipp(*arguments: str) -> asyncio.subprocess.Process:
    quiet = asyncio.subprocess.DEVNULL
    return await asyncio.create_subprocess_exec(
        "sipp", *arguments, "-ci", "127.0.0.1", "-nostdin", stdout=quiet, stderr=quiet
    )
