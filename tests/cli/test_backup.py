"""`sidecar backup` and `sidecar restore`: what is in a backup, and what is refused."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path
from typing import NamedTuple

import aiomqtt
import apsw
import msgspec
import pytest

from sidecar.subscriber.record import Record, from_message
from sidecar.subscriber.sinks.sqlite import SqliteSink
from sidecar.wire.status import Status, Will
from sidecar.wire.topics import status_topic
from tests.adapters.sqlite_stores import opened
from tests.adapters.store_calls import admission, admitted, whole_call
from tests.cli.test_commands import Done, sidecar
from tests.rig.broker import mosquitto

CALLS = 12
DECK = (
    "prefix,destination,currency,connect_fee,price_per_minute,initial_s,increment_s,steps\n"
    "49,Germany,EUR,0,0.06,1,1,\n"
)


class Place(NamedTuple):
    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def copy(self) -> Path:
        return self.folder / "backup"

    async def says(self, *words: str, **environ: str) -> Done:
        return await sidecar(
            *words,
            "--config",
            str(self.folder / "sidecar.toml"),
            cwd=self.folder,
            SIDECAR_LOG__LEVEL="error",
            **environ,
        )

    async def backed_up(self) -> Done:
        done = await self.says("backup", str(self.copy), "--json")
        assert done.exit_code == 0, done.err
        return done

    def ask(self, sql: str) -> list[tuple[object, ...]]:
        connection = apsw.Connection(str(self.data / "journal.db"))
        try:
            return list(connection.execute(sql))
        finally:
            connection.close()


async def more(place: Place, first: int, last: int, boot_id: str) -> list[Record]:
    """Calls of another boot; what was published of them."""
    async with opened(place.data, boot_id=boot_id) as watched:
        head = (await watched.store.outbox.outbox_state()).head_seq
        for number in range(first, last + 1):
            watched.submit(*whole_call(number, "acme"))
        await watched.written()
        return [
            from_message(row.topic, row.payload) for row in await watched.store.outbox.pending(head, 1_000)
        ]


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    async with opened(place.data) as watched:
        for number in range(1, CALLS + 1):
            watched.submit(*whole_call(number, "acme"))
        watched.submit(admission(admitted(100)))
        await watched.written()
    deck = tmp_path / "rates.csv"
    deck.write_text(DECK)
    (tmp_path / "sidecar.toml").write_text(
        "[node]\nname = 'n1'\ndata_dir = 'data'\n[sip]\nprofile = './profile.toml'\n"
        "[decks]\nsell = 'rates.csv'\n"
    )
    (tmp_path / "profile.toml").write_text(
        "[sip]\nlisten_udp = ['127.0.0.1:0']\n[peers.callers]\naddresses = ['127.0.0.1/32']\n"
        "[gateways.gw1]\nhost = '127.0.0.2'\nport = 5060\n[[routes]]\nprefix = '0'\ngateways = ['gw1']\n"
    )
    done = await place.says("deck", "import", str(deck), "--activate", "sell")
    assert done.exit_code in (0, 3), done.err  # 3: no daemon to tell
    return place


async def test_a_backup_holds_journal_decks_and_settings_and_no_secret(place: Place) -> None:
    done = await place.backed_up()
    found = {str(path.relative_to(place.copy)) for path in place.copy.rglob("*") if path.is_file()}
    decks = {name for name in found if name.startswith("decks/")}
    assert found - decks == {
        "journal.db",
        "manifest.json",
        "settings/sidecar.toml",
        "settings/profile.toml",
        "settings/rates.csv",
        "settings/environment.json",
    }
    assert {Path(name).suffix for name in decks} == {".csv", ".json"}
    key = (place.data / "journal.key").read_text().split()[-1]
    assert all(key.encode() not in path.read_bytes() for path in place.copy.rglob("*") if path.is_file())
    assert (done.json["records"], done.json["open_calls"]) == (CALLS, 1)
    assert done.json["key_ids"] == [name for (name,) in place.ask("SELECT id FROM chain_keys")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in place.copy.rglob("*") if path.is_file()} == {0o600}


async def test_a_restored_journal_is_the_one_that_was_backed_up_in_a_new_epoch(place: Place) -> None:
    manifest = (await place.backed_up()).json
    await more(place, 201, 205, "later")
    shutil.rmtree(place.data / "decks")
    done = await place.says("restore", str(place.copy), "--text", "disk lost", "--json")
    assert done.exit_code == 0, done.err
    assert done.json["epoch"] != manifest["store_epoch"]
    # The file beside the journal knows of the five that came later: their numbers are not given again.
    assert done.json["goes_on_above"] == CALLS + 5
    assert len(done.json["decks"]) == 4
    assert place.ask("SELECT count(*) FROM cdrs") == [(CALLS,)]
    assert place.ask("SELECT count(*) FROM open_calls WHERE maybe_told") == [(1,)]
    aside = Path(done.json["before"])
    assert (place.folder / aside).exists()
    assert place.ask("SELECT action, text FROM audit") == [("journal.restore", "disk lost")]
    assert (await place.says("journal", "verify")).exit_code == 0
    assert (await place.says("journal", "check")).exit_code == 0
    [first, *_] = await more(place, 301, 302, "after")
    assert first.seq == CALLS + 6
    assert first.source.epoch == done.json["epoch"]


async def test_what_the_broker_was_told_after_the_backup_is_said_and_its_numbers_are_not_given_again(
    place: Place,
) -> None:
    manifest = (await place.backed_up()).json
    (place.data / "journal.head").unlink()  # as on another machine
    epoch, head = manifest["store_epoch"], CALLS + 40
    async with mosquitto(place.folder) as broker:
        said, above = [], 0
        for status in (
            Will(epoch=epoch),
            Status(epoch="0" * 36, head_seq=9),
            Status(epoch=epoch, head_seq=CALLS),
            Status(epoch=epoch, head_seq=head),
        ):
            async with aiomqtt.Client(
                broker.host, broker.port, protocol=aiomqtt.ProtocolVersion.V5
            ) as client:
                payload = msgspec.msgpack.encode(status)
                await client.publish(status_topic("_", "n1"), payload, qos=1, retain=True)
            done = await place.says("restore", str(place.copy), "--json", **broker.settings())
            assert done.exit_code == 0, done.err
            said.append(done.json["broker"])
            above = done.json["goes_on_above"]
        assert above >= head
    assert said == [
        "was published to in the epoch of the backup; up to which number it does not tell any more",
        f"was published to in epoch {'0' * 36}, of which the backup has nothing",
        f"was told of nothing after the backup: {CALLS} is the last number",
        f"was told of the numbers {CALLS + 1} to {head}, which are not in the backup",
    ]


@pytest.mark.parametrize("kind", ["--json-lines", "--sqlite"])
async def test_what_a_subscriber_has_and_the_backup_has_not_is_shown(place: Place, kind: str) -> None:
    await place.backed_up()
    records = await more(place, 201, 203, "later")
    sink = place.folder / "sink"
    if kind == "--sqlite":
        database = SqliteSink(sink)
        database.open()
        database.commit(records, (), ())
        database.close()
    else:
        sink.write_text("".join(f"{record.text}\n" for record in records) + '{"cut off')
    (place.data / "journal.head").unlink()  # only the subscriber knows
    done = await place.says("restore", str(place.copy), kind, str(sink), "--json")
    assert done.exit_code == 0, done.err
    later = [(one["seq"], one["call_id"]) for one in done.json["published_later"]]
    assert later == [(record.seq, record.call_id) for record in records]
    assert done.json["goes_on_above"] == CALLS + 3
    shown = await place.says("restore", str(place.copy), kind, str(sink))
    assert "3 records were published after the backup" in shown.out
    assert records[0].call_id in shown.out


async def test_nothing_is_written_over_a_backup(place: Place) -> None:
    await place.backed_up()
    done = await place.says("backup", str(place.copy))
    assert done.exit_code == 1
    assert "is not empty" in done.err


@pytest.mark.parametrize("damage", ["journal", "deck", "manifest", "outside"])
async def test_what_is_not_the_backup_that_was_made_is_not_restored(place: Place, damage: str) -> None:
    await place.backed_up()
    before = (place.data / "journal.db").read_bytes()
    manifest = place.copy / "manifest.json"
    if damage == "manifest":
        manifest.unlink()
    elif damage == "outside":
        manifest.write_text(manifest.read_text().replace("settings/rates.csv", "../sidecar.toml"))
    else:
        file = place.copy / "journal.db" if damage == "journal" else next(place.copy.glob("decks/*.csv"))
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    done = await place.says("restore", str(place.copy))
    assert done.exit_code == 1
    said = {"manifest": "not a backup", "outside": "outside of the backup"}
    assert said.get(damage, "its digest differs") in done.err
    assert (place.data / "journal.db").read_bytes() == before


async def test_a_journal_that_does_not_hold_gives_no_backup(place: Place) -> None:
    place.ask("UPDATE cdrs SET account = 'other' WHERE seq = 3")
    done = await place.says("backup", str(place.copy))
    assert done.exit_code == 1
    assert "the copy does not hold: commit " in done.err
    assert "record 3" in done.err
    assert not (place.copy / "manifest.json").exists()


async def test_without_the_keys_of_the_journal_nothing_is_restored(place: Place) -> None:
    manifest = (await place.backed_up()).json
    (place.data / "journal.key").unlink()
    done = await place.says("restore", str(place.copy))
    assert done.exit_code == 2
    assert manifest["key_ids"][0] in done.err


def test_the_environment_is_in_the_backup_because_it_is_in_no_file(tmp_path: Path) -> None:
    """See `_settings_files`: a node may be set up by variables alone."""
    from sidecar.cli.backup import _settings_files

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIDECAR_NODE__NAME", "named")
        patch.setenv("SIDECAR_NODE__DATA_DIR", str(tmp_path))
        _, tenant, node, files = _settings_files(None, as_json=False)
    content = files["environment.json"]
    assert isinstance(content, bytes)
    assert json.loads(content)["environment"]["SIDECAR_NODE__NAME"] == "named"
    assert (tenant, node) == ("_", "named")
