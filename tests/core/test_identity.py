from __future__ import annotations

import re
from hashlib import sha1
from uuid import RFC_4122, UUID, uuid5

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.identity import HASH_BITS, call_id_of, leg_b_names, name_id

MS = 1_772_366_400_000  # 2026-03-01T12:00:00Z
tokens = st.text(alphabet="0123456789abcdef", min_size=32, max_size=32)
# RFC 3261 §25.1: what a token may hold, and so a tag, a branch and (as one word of it) a Call-ID.
TOKEN = re.compile(r"[A-Za-z0-9.!%*_+`'~-]+")


@given(tokens, st.integers(1, 99), st.integers(1, 99))
def test_every_attempt_has_names_of_its_own(token: str, one: int, other: int) -> None:
    assert (leg_b_names(token, one) == leg_b_names(token, other)) == (one == other)
    if one != other:
        assert not set(leg_b_names(token, one)) & set(leg_b_names(token, other))


@given(tokens, tokens)
def test_two_calls_share_no_name(one: str, other: str) -> None:
    if one[:16] != other[:16] and one[16:] != other[16:]:
        assert not set(leg_b_names(one, 1)) & set(leg_b_names(other, 1))


@given(tokens, st.integers(1, 99))
def test_the_names_may_stand_in_a_message(token: str, attempt: int) -> None:
    names = leg_b_names(token, attempt)
    assert all(map(TOKEN.fullmatch, names))
    assert names[2].startswith("z9hG4bK")  # RFC 3261 §8.1.1.7


@given(tokens)
def test_the_call_id_does_not_tell_the_tag(token: str) -> None:
    sip_call_id, tag, _ = leg_b_names(token, 1)
    assert sip_call_id == f"{token[:16]}-1"
    assert tag == f"{token[16:]}-1"


def test_names_are_derived_not_minted() -> None:
    token = "0123456789abcdeffedcba9876543210"
    assert leg_b_names(token, 2) == ("0123456789abcdef-2", "fedcba9876543210-2", "z9hG4bKfedcba98765432102")


def test_the_id_of_a_call_is_derived_from_node_boot_and_counter() -> None:
    base = ("_", "n1", "b1", 7, MS)
    assert call_id_of(*base) == call_id_of(*base)
    others = [
        ("x", "n1", "b1", 7, MS),
        ("_", "n2", "b1", 7, MS),
        ("_", "n1", "b2", 7, MS),
        ("_", "n1", "b1", 7 + 2**12, MS),
    ]
    hashes = {call_id_of(*parts).int & HASH_BITS for parts in [base, *others]}
    assert len(hashes) == 5


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**64 - 1))
def test_the_id_of_a_call_is_a_uuid_of_version_8(invited_ms: int, bridge_id: int) -> None:
    call_id = call_id_of("_", "n1", "b1", bridge_id, invited_ms)
    assert (call_id.version, call_id.variant) == (8, RFC_4122)
    assert call_id.int >> 80 == invited_ms
    assert call_id.int >> 64 & 0xFFF == bridge_id % 4096
    digest = sha1(f"_/n1/b1/{bridge_id}".encode(), usedforsecurity=False).hexdigest()
    assert call_id.int & HASH_BITS == int(digest[:16], 16) % 2**62


def test_the_id_of_a_call_stays_what_it_is() -> None:
    """Pinned: ids are made anew from their parts nowhere, but two versions should agree on them."""
    assert str(call_id_of("_", "n1", "b1", 4097, MS)) == "019ca945-0a00-8001-b5de-4d301788efa9"


@given(st.integers(1, 2**40), st.integers(0, 1_000))
def test_ids_grow_in_time_and_within_a_millisecond_by_the_counter(bridge_id: int, later_ms: int) -> None:
    earlier = call_id_of("_", "n1", "b1", bridge_id, MS)
    later = call_id_of("_", "n1", "b1", bridge_id + 1, MS + later_ms)
    assert earlier < later or (later_ms == 0 and bridge_id % 4096 == 4095)


@given(st.uuids(), st.text())
def test_the_id_of_a_record_is_a_uuid_of_version_5(namespace: UUID, name: str) -> None:
    assert name_id(namespace, name) == uuid5(namespace, name)


def test_a_slash_in_a_name_moves_no_border() -> None:
    assert call_id_of("a/b", "c", "d", 1, MS) != call_id_of("a", "b/c", "d", 1, MS)
