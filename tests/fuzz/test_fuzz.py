"""A short run of the fuzzer, and what RFC 4475 calls invalid: never a 2xx, never a call."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.b2bua.rig import Rig
from tests.b2bua.scripted_ua import ScriptedUA
from tests.fuzz.corpus import INVALID, Torture
from tests.fuzz.target import filled

REPO = Path(__file__).resolve().parents[2]


def test_ten_seconds_of_mutations_are_survived() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--seconds", "10"],
        cwd=REPO,
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert run.returncode == 0, run.stdout + run.stderr[-20_000:]
    assert "probes that worked" in run.stdout


@pytest.mark.parametrize("one", INVALID, ids=lambda one: one.name)
async def test_what_rfc_4475_calls_invalid_gets_no_2xx_and_is_no_call(one: Torture) -> None:
    async with Rig() as rig:
        rig.autopilot()
        host, port = rig.address()
        words = {
            "host": host,
            "port": str(port),
            "caller": f"{rig.caller.host}:{rig.caller.port}",
            "via": "UDP",
            "n": "5",
        }
        rig.caller.send(filled(one.message, words))
        probe = await ScriptedUA.udp(rig.caller.host)
        probe.peer = rig.address()
        await rig.settled(probe)
        probe.close()
        assert [event for event in rig.events if type(event).__name__ == "InviteReceived"] == []
        assert [message.start for message in rig.caller.everything if message.code < 300] == []
        assert rig.gateway.quiet
