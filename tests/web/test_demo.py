"""`make demo-web`: its calls are what real ones leave behind, and its page shows them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path

from sidecar.adapters.sockets.child import end
from sidecar.adapters.sqlite.snapshot import Snapshot
from sidecar.config import load
from sidecar.core.terms import HangupOrigin
from sidecar.demo import traffic
from sidecar.demo.children import environment
from sidecar.demo.web import settings_of
from sidecar.ports import RecordFilter
from sidecar.wiring.files import inputs
from tests.web.rig import Visit

UNTIL_NS = 1_790_000_000_000_000_000


async def test_the_calls_of_a_day_are_ended_charged_and_as_different_as_real_ones(tmp_path: Path) -> None:
    policy = load(inputs({}, settings_of(tmp_path, "127.0.0.1"), None)).policy
    await traffic.write(tmp_path / "data", policy, 400, UNTIL_NS)
    with Snapshot(tmp_path / "data") as journal:
        cdrs = list(journal.records(RecordFilter()))
    assert len(cdrs) == 400
    assert {cdr.hangup_origin for cdr in cdrs} == set(HangupOrigin)
    assert {cdr.account for cdr in cdrs} == {"acme", "globex", "initech"}
    answered = [cdr for cdr in cdrs if cdr.answered_at is not None]
    assert 200 < len(answered) < 300
    assert sum(bool(cdr.charges) for cdr in answered) > 200


async def test_the_page_is_there_with_a_sign_in_until_it_is_interrupted() -> None:
    with tempfile.TemporaryDirectory() as folder:  # a short path: the one of a socket is bounded
        await _looked_at(Path(folder))


async def _looked_at(tmp_path: Path) -> None:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", "-m", "sidecar.demo.web", "60"),
        stdout=asyncio.subprocess.PIPE,
        env=environment(TMPDIR=str(tmp_path)),
    )
    try:
        said: dict[str, str] = {}
        assert child.stdout is not None
        while "Ctrl-C ends it, and takes all of it away" not in said:
            line = (await child.stdout.readline()).decode()
            assert line
            name, _, value = line.strip().partition(":")
            said[name] = value.strip()
        visit = Visit(said["the page"])
        user, _, password = said["sign in"].partition(", ")
        assert (await asyncio.to_thread(visit.sign_in, user, password)).status == 303
        assert (await asyncio.to_thread(visit.get, "/records")).text.count("/records/") >= 50
        child.send_signal(signal.SIGINT)
        assert await child.wait() == 0
        assert await asyncio.to_thread(os.listdir, tmp_path) == []
    finally:
        await end(child)
