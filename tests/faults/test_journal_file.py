"""The journal deleted under a node, or with all that was beside it: seen, said, and nothing begun anew in
silence."""

from __future__ import annotations

import asyncio
import shutil
import signal
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import AsyncExitStack

import pytest

from sidecar.demo.children import environment
from tests.faults.conftest import MakeNode
from tests.faults.node import Node
from tests.rig.broker import mosquitto
from tests.rig.node import SIDECAR, WITHIN_S, until

pytestmark = pytest.mark.timeout(120)


async def started(node: Node, *options: str) -> tuple[bool, str]:
    """Whether it gets ready, and what it said; ended again if it does."""
    child = await asyncio.create_subprocess_exec(
        *(*SIDECAR, "run", *options),
        stdin=DEVNULL,
        stderr=PIPE,
        env=environment(**node.settings()),
    )
    assert child.stderr is not None
    said, is_ready = "", False
    async with asyncio.timeout(WITHIN_S):
        while line := await child.stderr.readline():
            said += line.decode()
            if b'"ready"' in line:
                is_ready = True
                child.send_signal(signal.SIGTERM)
        await child.wait()
    return is_ready, said


async def test_a_journal_that_is_deleted_under_the_node_is_an_alarm_and_no_new_call_is_taken(
    make_node: MakeNode,
) -> None:
    node = make_node()
    async with node.up():
        assert (await node.status())["state"] == "accepting"
        (node.data / "journal.db").unlink()

        async def is_seen() -> bool:
            return str((await node.status())["state"]) == "journal"

        await until(is_seen)
        assert "was deleted" in (await node.status())["journal_failure"]
        assert await node.metric("sidecar_journal_failing") == 1
    assert "journal_failing" in node.log.read_text()
    async with node.up():  # it was written out again at the stop
        assert (await node.status())["state"] == "accepting"


async def test_an_emptied_data_directory_is_refused_where_the_broker_knows_of_a_journal(
    make_node: MakeNode,
) -> None:
    node = make_node()
    async with mosquitto(node.folder) as broker:
        async with node.up(**broker.settings()):
            epoch = (await node.status())["store_epoch"]

            async def is_told() -> bool:
                return bool((await node.status())["broker_connected"])

            await until(is_told)
        shutil.rmtree(node.data)
        for _ in range(2):  # the refusal leaves nothing behind that would let the next start pass
            is_ready, said = await started(node)
            assert not is_ready
            assert f"(epoch {epoch})" in said
            assert "sidecar run --new" in said
        is_ready, said = await started(node, "--new")
        assert is_ready, said
        is_ready, said = await started(node)
        assert is_ready, said


def removed(node: Node) -> None:
    """What a broker of its own keeps in there is another matter."""
    for path in node.data.iterdir():
        if path.name != "broker":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("embedded", [False, True])
async def test_a_journal_that_is_not_the_one_that_was_published_from_last_begins_an_epoch(
    make_node: MakeNode, *, embedded: bool
) -> None:
    """All of an older data directory is put back: nothing in it says that there was another since, but the
    broker does."""
    node = make_node()
    async with AsyncExitStack() as stack:
        broker = None if embedded else await stack.enter_async_context(mosquitto(node.folder))

        async def epoch_of_a_start() -> str:
            async with node.up(**(broker.settings() if broker else {})):

                async def is_told() -> bool:
                    return bool((await node.status())["broker_connected"])

                await until(is_told)
                return str((await node.status())["store_epoch"])

        first = await epoch_of_a_start()
        assert await epoch_of_a_start() == first
        assert "journal_lost_commits" not in node.log.read_text()
        kept = node.folder / "kept"
        shutil.copytree(node.data, kept, ignore=shutil.ignore_patterns("*.sock", "broker"))
        removed(node)
        if embedded:
            is_ready, said = await started(node)
            assert not is_ready
            assert f"(epoch {first})" in said
        is_ready, said = await started(node, "--new")
        assert is_ready, said
        removed(node)
        shutil.copytree(kept, node.data, dirs_exist_ok=True)
        third = await epoch_of_a_start()
        log = node.log.read_text()
        assert "which this journal never had" in log
        assert third != first
        assert await epoch_of_a_start() == third
        assert "journal_lost_commits" not in node.log.read_text()
    node.check_books()
