"""`sidecar subscribe` with a real broker and the real outbox of a node."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from typer.testing import CliRunner

from sidecar.cli import app
from tests.rig.broker import mosquitto
from tests.rig.node import until
from tests.subscriber.places import Place
from tests.subscriber.rig import Command, holds, publishing, subscribing


async def test_records_reach_each_sink_once_over_kills_of_the_subscriber(
    place: Place, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    async with (
        mosquitto(tmp_path) as broker,
        publishing(tmp_path, broker) as node,
        subscribing(broker, place, log) as command,
    ):
        await node.publish(50)
        await holds(place, 50)
        node.write(400)
        command.kill()
        await command.ended()
        await node.delivered()  # into the session that the broker keeps
        await command.start()
        await holds(place, 450)
        assert await command.stop() == 0
    assert "rejected\n" in log.read_text()
    assert " 0 rejected" in log.read_text()


async def test_nothing_is_acknowledged_that_is_not_in_the_sink(tmp_path: Path) -> None:
    """The sink is locked by somebody: what came meanwhile is still the broker's when the subscriber is
    killed."""
    place = Place("sqlite", str(tmp_path / "records"))
    async with (
        mosquitto(tmp_path) as broker,
        publishing(tmp_path, broker) as node,
        subscribing(broker, place, tmp_path / "log") as command,
    ):
        await node.publish(1)
        await holds(place, 1)
        with closing(sqlite3.connect(place.where, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await node.publish(30)
            command.kill()
            await command.ended()
        assert place.seqs() == [1]
        await command.start()
        await holds(place, 31)


async def test_a_gap_is_said_and_until_complete_waits_for_all_that_the_status_tells(tmp_path: Path) -> None:
    place = Place("json-lines", str(tmp_path / "records"))
    log = tmp_path / "log"
    async with mosquitto(tmp_path) as broker, publishing(tmp_path, broker) as node:
        await node.publish(3)  # nobody listens: no session keeps them
        async with subscribing(broker, place, log, ["--begin", "now"]) as command:
            await node.publish(2)
            await holds_numbers(place, 4, 5)
            assert "missing of" not in log.read_text()
            await command.stop()
        heads = tmp_path / "heads.json"
        mine = {"node": "n1", "epoch": node.store.epoch, "base_seq": 0, "head_seq": 5}
        gone = {"node": "n2", "epoch": "gone", "base_seq": 4, "head_seq": 6}
        for nodes, exit_code, said in (
            ([mine, gone], 1, [["5", "3", "1-3"], ["2", "2", "5-6"]]),
            ([{**mine, "base_seq": 3}], 0, [["2", "0"], ["here"]]),
        ):
            heads.write_text(json.dumps({"tenant": "_", "nodes": nodes}))
            words = ["subscribe", *place.options(), "--check", "--heads", str(heads)]
            done = CliRunner().invoke(app, words)
            assert done.exit_code == exit_code, done.output
            lines = [line.split() for line in done.stdout.splitlines()[1:]]
            assert [line[-len(want) :] for line, want in zip(lines, said, strict=True)] == said
        other = Place("sqlite", str(tmp_path / "all"))
        async with subscribing(broker, other, log) as command:
            await command.says(r"missing of _/n1, epoch \S+: 1-5; without a username no replay is asked for")
        once = Command((broker.host, broker.port), place, log)
        await once.start("--until-complete")
        assert await once.ended() == 0


async def holds_numbers(place: Place, *numbers: int) -> None:
    await until(lambda: place.seqs() == list(numbers), 60)
