"""A message as a record: every version that was ever published, and nothing that is none."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.cdr import Cdr
from sidecar.subscriber.record import VERSIONS, RecordError, from_line, from_message
from sidecar.wire.cdr_codec import CONTENT_VERSION
from tests.subscriber.records import EPOCH, SOURCE, cdr, of_node, payload, record, topic_of

TOPIC = topic_of(cdr(1))


def changed(**fields: Any) -> bytes:
    content = msgpack.unpackb(payload(1), timestamp=3) | fields
    return bytes(msgpack.packb({k: v for k, v in content.items() if v is not ...}, datetime=True))


def test_every_version_that_a_node_writes_is_read() -> None:
    assert set(VERSIONS) == set(range(1, CONTENT_VERSION + 1))


def test_a_record_is_found_by_call_and_revision_and_counted_by_node_epoch_and_number() -> None:
    found = record(7, cdr(3, revision=2))
    assert found.key == (str(cdr(3).call_id), 2)
    assert (found.source, found.seq) == (SOURCE, 7)
    assert found.message_id == str(cdr(3, revision=2).message_id)


def test_the_typed_record_is_the_one_that_was_published() -> None:
    found = record(7).cdr()
    assert isinstance(found, Cdr)
    assert (found.call_id, found.seq, found.store_epoch) == (cdr(7).call_id, 7, EPOCH)
    assert found.ended_at == cdr(7).ended_at


@given(st.text(max_size=20))
def test_a_line_gives_the_same_record_as_the_message(text: str) -> None:
    one = cdr(5, text=text.encode("utf-8", "backslashreplace").decode())
    by_message = record(5, one)
    assert "\n" not in by_message.text
    by_line = from_line(by_message.text.encode())
    assert by_line.text == by_message.text
    assert by_line.digest == by_message.digest
    assert (by_line.key, by_line.source, by_line.seq) == (by_message.key, by_message.source, by_message.seq)
    assert by_line.ended_at == by_message.ended_at


def test_fields_of_a_later_writer_are_kept_and_those_that_an_earlier_one_had_not_are_not_needed() -> None:
    found = from_message(TOPIC, changed(colour={"of": ["the call"]}, liveness=..., margin=..., attest=...))
    assert from_line(found.text.encode()).fields["colour"] == {"of": ["the call"]}
    assert found.cdr().margin is None


def test_words_that_this_version_does_not_know_lose_no_record() -> None:
    found = from_message(TOPIC, changed(detail="abducted"))
    assert found.fields["detail"] == "abducted"


def test_the_same_record_under_another_number_has_the_same_digest_and_another_content_has_not() -> None:
    assert record(1).digest == record(9, cdr(1), "e2").digest
    assert record(1).digest != record(1, cdr(1, text="other")).digest


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xc1", "not MessagePack"),
        (b"", "not MessagePack"),
        (msgpack.packb([1]), "no version"),
        (msgpack.packb({"version": "1"}), "no version"),
        (changed(version=2), "version 2; known here: 1"),
        (changed(seq=None), "seq"),
        (changed(seq=0), "seq"),
        (changed(seq=2**63), "seq"),
        (changed(call_id="c"), "call_id"),
        (changed(revision=-1), "revision"),
        (changed(store_epoch=""), "store_epoch"),
        (changed(store_epoch=...), "store_epoch"),
        (changed(account="a\x00b"), "account"),
        (changed(ended_at="yesterday"), "ended_at"),
        (payload(1, of_node(cdr(1), "node2")), "another node"),
    ],
)
def test_what_is_no_record_is_said_to_be_none(content: bytes, said: str) -> None:
    with pytest.raises(RecordError, match=said):
        from_message(TOPIC, content)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(content: bytes) -> None:
    with pytest.raises(RecordError):
        from_message(TOPIC, content)
    with pytest.raises(RecordError):
        from_line(content)
