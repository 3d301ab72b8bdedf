"""The example in another language (sidecar/subscriber/node), as a biller would run it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import sidecar.subscriber
from tests.rig.broker import Mosquitto, mosquitto
from tests.rig.node import until
from tests.subscriber.places import Place
from tests.subscriber.rig import USER, holds, publishing

EXAMPLE = Path(sidecar.subscriber.__file__).parent / "node"


@asynccontextmanager
async def running(broker: Mosquitto, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    assert (EXAMPLE / "node_modules" / "mqtt").exists(), "make setup-tests installs it, with npm"
    password = folder / "password"
    password.write_text("any\n")
    node = shutil.which("node") or shutil.which("nodejs")
    assert node is not None, "node is not installed: apt-get install nodejs"
    words = (node, str(EXAMPLE / "subscriber.mjs"), f"mqtt://{broker.host}:{broker.port}")
    with (folder / "log").open("ab") as log:
        begun = log.tell()
        child = await asyncio.create_subprocess_exec(
            *(*words, str(folder / "records"), USER, str(password)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        await until(lambda: b"subscribed" in (folder / "log").read_bytes()[begun:], 60)
        yield child
    finally:
        if child.returncode is None:
            os.kill(child.pid, signal.SIGKILL)
        await child.wait()


async def test_it_has_every_record_once_over_kills_of_its_own_and_of_the_broker(tmp_path: Path) -> None:
    place = Place("json-lines", str(tmp_path / "records"))
    options = {"autosave_on_changes": "false", "autosave_interval": "1800"}
    async with mosquitto(tmp_path, options=options) as broker, publishing(tmp_path, broker) as node:
        await node.publish(20)  # nobody listens yet
        async with running(broker, tmp_path):
            await holds(place, 20)
            node.write(200)
            await until(lambda: len(place.seqs()) > 60, 60)
        await node.delivered()
        async with running(broker, tmp_path):
            await holds(place, 220)
        await node.publish(30)
        await broker.kill()  # with what it kept for the session
        await broker.start()
        async with running(broker, tmp_path):
            await holds(place, 250)
            assert b"asking n1 for" in (tmp_path / "log").read_bytes()
        records = place.records()
    ours = [json.loads(json.dumps(one)) for one in records]
    assert all(one["ended_at"].endswith("Z") and "." in one["ended_at"] for one in ours)
    assert {one["charges"][0]["total"] for one in ours} == {"0.07259000"}
