"""Each sink: a record once, and the position that counts it, whatever is killed at whatever moment."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sidecar.subscriber.progress import Position, Ranges
from sidecar.subscriber.record import Source
from sidecar.subscriber.sink import Rejected, Sink, SinkError
from sidecar.subscriber.sinks.json_lines import JsonLinesSink
from sidecar.subscriber.sinks.postgresql import PostgresqlSink
from tests.rig.postgres import Postgres
from tests.subscriber.places import Place
from tests.subscriber.records import SOURCE, cdr, record

REPO = Path(__file__).resolve().parent.parent.parent
RECORDS = 2_000
KILLS = 12


def position(*held: tuple[int, int]) -> Position:
    return Position(source=SOURCE, held=Ranges(held), first_seq=1, head_seq=9)


def held_by(sink: Sink) -> dict[Source, list[tuple[int, int]]]:
    return {one.source: list(one.held) for one in sink.open()}


def test_a_record_that_comes_again_is_not_written_again(place: Place) -> None:
    sink = place.sink()
    assert sink.open() == []
    first = sink.commit([record(1), record(2)], [], [position((1, 2))])
    second = sink.commit([record(2), record(3), record(3)], [], [position((1, 3))])
    assert [one.seq for one in first.new] == [1, 2]
    assert ([one.seq for one in second.new], second.again, second.contradicting) == ([3], 2, ())
    sink.close()
    assert place.seqs() == [1, 2, 3]


def test_what_was_committed_is_there_after_a_new_start(place: Place) -> None:
    sink = place.sink()
    sink.open()
    sink.commit([record(1), record(2)], [], [position((1, 2))])
    sink.commit([], [], [Position(source=Source("_", "n2", "e9"), held=Ranges(), first_seq=7, is_over=True)])
    name = sink.client_id
    sink.close()
    again = place.sink()
    found = {one.source: one for one in again.open()}
    assert list(found[SOURCE].held) == [(1, 2)]
    assert (found[SOURCE].first_seq, found[SOURCE].head_seq, found[SOURCE].is_over) == (1, 9, False)
    other = found[Source("_", "n2", "e9")]
    assert (list(other.held), other.first_seq, other.is_over) == ([], 7, True)
    assert again.client_id == name
    assert name.startswith("sidecar-subscriber-")
    again.close()


def test_revisions_are_kept_side_by_side_and_the_highest_holds(place: Place) -> None:
    sink = place.sink()
    sink.open()
    later, void = cdr(1, revision=1), cdr(2, revision=1, void=True)
    sink.commit([record(1), record(2), record(3), record(4, later), record(5, void)], [], [position((1, 5))])
    sink.close()
    assert place.seqs() == [1, 2, 3, 4, 5]
    if place.kind != "json-lines":  # whose readers take the last line of a call
        valid = place.ask("SELECT seq FROM sidecar_cdrs_valid ORDER BY seq")
        assert [seq for (seq,) in valid] == [3, 4]


def test_what_contradicts_a_record_is_kept_apart_and_said(place: Place) -> None:
    sink = place.sink()
    sink.open()
    sink.commit([record(1), record(2)], [], [position((1, 2))])
    done = sink.commit([record(1, cdr(1, text="other")), record(2, cdr(77))], [], [])
    assert [one.reason for one in done.contradicting] == [
        "it came before with other content",
        "number 2 of epoch e1 was another record's",
    ]
    # The same record under a number of another epoch is no contradiction: a salvaged journal sends so.
    assert sink.commit([record(8, cdr(1), "e2")], [], []).again == 1
    sink.close()
    assert place.seqs() == [1, 2]
    assert place.ask("SELECT count(*) FROM sidecar_rejected")[0][0] == 2


def test_a_message_that_is_no_record_is_kept_once(place: Place) -> None:
    sink = place.sink()
    sink.open()
    wrong = Rejected(topic="sidecar/v1/_/n/cdr/a/caller", payload=b"\xc1\x00junk", reason="not\0MessagePack")
    sink.commit([], [wrong], [])
    sink.commit([record(1)], [wrong], [position((1, 1))])
    sink.close()
    rows = place.ask("SELECT topic, payload, reason FROM sidecar_rejected")
    assert [(topic, bytes(content), reason) for topic, content, reason in rows] == [
        (wrong.topic, wrong.payload, "not\\0MessagePack")
    ]


def test_text_of_the_network_is_kept_as_it_came(place: Place) -> None:
    strange = 'zero \x00 quote " line \n separator \u2028 tiger \U0001f42f'
    sink = place.sink()
    sink.open()
    sink.commit([record(1, cdr(1, text=strange))], [], [position((1, 1))])
    sink.close()
    if place.kind == "postgresql":
        ((text,),) = place.ask("SELECT record::text FROM sidecar_cdrs")
        assert text == record(1, cdr(1, text=strange)).text
    else:
        assert place.records()[0]["caller"]["received"] == strange


def test_two_subscribers_do_not_write_into_one_sink(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.subscriber.sinks.postgresql.LOCK_WAIT_S", 0.5)
    one, other = place.sink(), place.sink()
    one.open()
    with pytest.raises(SinkError, match="another subscriber"):
        other.open()
    other.close()
    one.close()
    other.open()
    other.close()


def test_tables_of_a_later_version_are_left_alone(place: Place) -> None:
    sink = place.sink()
    sink.open()
    sink.commit([record(1)], [], [position((1, 1))])
    if place.kind == "json-lines":
        execute = sink._index._execute  # type: ignore[attr-defined]
    else:
        execute = sink._execute  # type: ignore[attr-defined]
    execute("UPDATE sidecar_subscriber SET value = '2' WHERE name = 'tables'", ())
    sink.close()
    with pytest.raises(SinkError, match="version 2"):
        place.sink().open()


def test_kill_9_at_any_moment_leaves_every_record_once(place: Place) -> None:
    seed = random.randrange(10**9)
    print("seed", seed)
    chance = random.Random(seed)
    committed = kills = 0
    while committed < RECORDS:
        child = subprocess.Popen(
            (sys.executable, "-m", "tests.subscriber.sink_child", *place, str(RECORDS), str(chance.random())),
            stdout=subprocess.PIPE,
            cwd=REPO,
        )
        assert child.stdout is not None
        will_die = kills < KILLS
        steps = chance.randrange(1, 6) if will_die else RECORDS
        for _ in range(steps):
            line = child.stdout.readline()
            if not line:
                break
            committed = int(line)
        if will_die:
            time.sleep(chance.random() * 0.01)  # into the middle of what it does next
            child.kill()
            kills += 1
        for line in child.stdout:
            committed = int(line)
        child.stdout.close()
        assert child.wait(60) in (0, -9)
    sink = place.sink()
    assert held_by(sink) == {SOURCE: [(1, RECORDS)]}
    sink.close()
    assert place.seqs() == list(range(1, RECORDS + 1)), f"after {kills} kills"
    assert kills == KILLS or committed == RECORDS


# --- JSON lines ---------------------------------------------------------------------------------------------


def lines_of(file: Path, *seqs: int) -> JsonLinesSink:
    sink = JsonLinesSink(file)
    sink.open()
    sink.commit([record(seq) for seq in seqs], [], [position((min(seqs), max(seqs)))])
    return sink


def test_lines_that_the_index_does_not_know_are_read_back_and_a_cut_one_is_taken_away(tmp_path: Path) -> None:
    file = tmp_path / "cdrs"
    lines_of(file, 1, 2).close()
    whole = record(3).text.encode() + b"\n"
    with file.open("ab") as handle:
        handle.write(whole + record(4).text.encode()[:100])
    sink = JsonLinesSink(file)
    assert held_by(sink) == {SOURCE: [(1, 3)]}
    assert sink.commit([record(3), record(4)], [], []).again == 1
    sink.close()
    assert Place("json-lines", str(file)).seqs() == [1, 2, 3, 4]


def test_a_file_without_its_index_is_read_back_whole(tmp_path: Path) -> None:
    file = tmp_path / "cdrs"
    lines_of(file, *range(1, 2_501)).close()
    for rest in tmp_path.glob("cdrs.index*"):
        rest.unlink()
    sink = JsonLinesSink(file)
    assert held_by(sink) == {SOURCE: [(1, 2_500)]}
    assert sink.commit([record(7)], [], []).new == ()
    sink.close()


def test_a_file_that_was_moved_away_is_begun_anew_and_no_record_comes_twice(tmp_path: Path) -> None:
    file = tmp_path / "cdrs"
    lines_of(file, 1, 2).close()
    file.rename(tmp_path / "cdrs.1")
    sink = JsonLinesSink(file)
    sink.open()
    assert [one.seq for one in sink.commit([record(2), record(3)], [], []).new] == [3]
    sink.close()
    assert Place("json-lines", str(file)).seqs() == [3]


def test_a_file_that_lost_its_end_or_holds_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "cdrs"
    lines_of(file, 1, 2).close()
    content = file.read_bytes()
    file.write_bytes(content[:-10])
    with pytest.raises(SinkError, match=r"put back what was cut off"):
        JsonLinesSink(file).open()
    file.write_bytes(content + b"not a record\n" + content)
    with pytest.raises(SinkError, match=f"no record at byte {len(content)}"):
        JsonLinesSink(file).open()


def test_a_full_disk_leaves_no_half_of_a_batch(tmp_path: Path) -> None:
    """/dev/full for the file: the index is not told of what could not be written."""
    file = tmp_path / "cdrs"
    sink = lines_of(file, 1)
    with Path("/dev/full").open("ab", buffering=0) as full:
        kept, sink._file = sink._file, full
        with pytest.raises(SinkError, match="No space left"):
            sink.commit([record(2)], [], [position((1, 2))])
        sink._file = kept
    assert held_by(sink) == {SOURCE: [(1, 1)]}
    assert [one.seq for one in sink.commit([record(2)], [], [position((1, 2))]).new] == [2]
    sink.close()
    assert Place("json-lines", str(file)).seqs() == [1, 2]


# --- PostgreSQL ---------------------------------------------------------------------------------------------


def test_a_server_that_is_killed_is_used_again_when_it_is_back(postgresql: Postgres) -> None:
    place = Place("postgresql", postgresql.new_database("killed"))
    sink = place.sink()
    sink.open()
    sink.commit([record(1)], [], [position((1, 1))])
    postgresql.kill()
    with pytest.raises(SinkError, match="PostgreSQL"):
        sink.commit([record(2)], [], [position((1, 2))])
    with pytest.raises(SinkError, match="PostgreSQL"):
        sink.open()
    postgresql.start()
    assert held_by(sink) == {SOURCE: [(1, 1)]}
    sink.commit([record(2)], [], [position((1, 2))])
    sink.close()
    assert place.seqs() == [1, 2]


def test_no_server_is_said_with_its_place() -> None:
    with pytest.raises(SinkError, match=r"127\.0\.0\.1"):
        PostgresqlSink("host=127.0.0.1 port=1 dbname=none").open()
