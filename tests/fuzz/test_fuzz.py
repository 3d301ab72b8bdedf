"""A short run of the fuzzer, and what RFC 4475 calls invalid: never a 2xx, never a call."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.b2bua.rig import Rig
from tests.b2bua.scripted_ua import ScriptedUA
from tests.fuzz.corpus import IN_DIALOG, INVALID, Torture
from tests.fuzz.recording import Recording, Sent, smallest
from tests.fuzz.target import filled

REPO = Path(__file__).resolve().parents[2]


def fuzz(*words: str) -> str:
    run = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *words],
        cwd=REPO,
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert run.returncode == 0, run.stdout + run.stderr[-20_000:]
    assert "probes that worked" in run.stdout
    return run.stdout


def test_fifteen_seconds_of_mutations_are_survived() -> None:
    fuzz("--seconds", "15")


def test_recorded_messages_reach_the_live_dialog_of_another_run(tmp_path: Path) -> None:
    """They name a dialog of theirs; what they name must be the new one's by the time they are sent."""
    words = {
        "host": "127.9.9.1",
        "port": "5999",
        "caller": "127.9.9.2:5998",
        "gateway": "127.9.9.3:5997",
        "b_branch": "z9hG4bKold",
    }
    for side in "ab":
        words |= {
            f"{side}_target": "sip:127.9.9.1:5999",
            f"{side}_local": f"<sip:1@127.9.9.2>;tag=from-{side}-old",
            f"{side}_remote": f"<sip:2@127.9.9.1>;tag=to-{side}-old",
            f"{side}_call_id": f"{side}-old",
            f"{side}_local_tag": f"from-{side}-old",
            f"{side}_remote_tag": f"to-{side}-old",
        }
    info = next(text for text in IN_DIALOG if text.startswith("INFO "))
    as_it_is, other = (filled(info, words | {"n": n, "via": "UDP"}) for n in ("100", "101"))
    other = other.replace(b"From: <sip:1@", b"From: <sip:mutated@")
    recording = Recording(1, words, (("a", as_it_is), ("a", other)))
    kept = tmp_path / "finding"
    recording.write(kept)
    assert Recording.read(kept) == recording
    assert " 2 requests passed on" in fuzz("--replay", str(kept))


def test_a_finding_is_brought_down_to_the_messages_that_it_needs() -> None:
    sent = [("a", b"%d" % number) for number in range(400)]
    tried = 0

    def found_again(some: Sequence[Sent]) -> bool:
        nonlocal tried
        tried += 1
        return {("a", b"7"), ("a", b"300")} <= set(some)

    assert smallest(sent, found_again) == [("a", b"7"), ("a", b"300")]
    assert tried < 100


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
