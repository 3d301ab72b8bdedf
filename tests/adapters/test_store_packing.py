"""Records are packed one by one, and read again whatever version wrote them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.adapters.store.bodies import DamagedError, crc_of, sound
from sidecar.adapters.store.packing import packed, unpacked
from sidecar.core.records import cdr_of
from sidecar.wire.cdr_codec import encode
from tests.adapters.store_calls import POLICY, admitted, answered, ended, whole_call
from tests.adapters.stores import Stores

BODY = encode(cdr_of(ended(answered(admitted(1))), POLICY))


@given(st.binary(max_size=20_000))
def test_what_is_packed_is_unpacked_as_it_was(body: bytes) -> None:
    assert unpacked(packed(body)) == body


def test_a_record_takes_a_quarter_and_one_that_is_not_packed_is_read_as_it_is() -> None:
    assert len(packed(BODY)) * 4 < len(BODY)
    assert unpacked(BODY) == BODY


@pytest.mark.parametrize("kept", [b"\xc1\x01", b"\xc1\x01\xff\xff", packed(BODY)[:-1], packed(BODY) + b"0"])
def test_what_is_no_whole_record_is_damaged(kept: bytes) -> None:
    with pytest.raises(DamagedError, match="record 3: cannot be unpacked"):
        sound(kept, crc_of(kept), "record 3")


def test_the_dictionary_is_the_one_of_the_first_day() -> None:
    """What was packed then: it must be read for ever."""
    kept = bytes.fromhex(KEPT)
    assert unpacked(kept) == b"\x82\xa7version\x01\xa6detail\xa6cancel"


async def test_what_is_published_is_the_record_and_what_is_kept_is_small(stores: Stores) -> None:
    async with stores.opened() as watched:
        watched.submit(*whole_call(1))
        await watched.written()
        [live] = await watched.store.outbox.pending(0, 9)
    async with stores.opened(boot_id="next") as watched:
        [row] = await watched.store.outbox.pending(0, 9)
        assert row == live
        assert row.payload[:1] != b"\xc1"
        [(size,)] = stores.asked(f"SELECT length(body) FROM {stores.bodies}")
        assert isinstance(size, int)
        assert size * 3 < len(row.payload)
        await watched.store.outbox.acknowledge([], [(1, 0x95)])
        [dead] = await watched.store.outbox.dead_letters()
        assert dead.payload == live.payload


KEPT = "c1016b42340451e62100"
