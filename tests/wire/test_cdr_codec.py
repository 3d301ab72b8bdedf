from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.cdr import Cdr
from sidecar.core.records import cdr_of
from sidecar.wire.cdr_codec import (
    CdrError,
    address_of,
    decode,
    decode_json,
    encode,
    encode_json,
    encode_published,
)
from tests.adapters.store_calls import POLICY, admitted, answered, ended
from tests.wire.cdrs import cdrs

CDR = cdr_of(ended(answered(admitted())), POLICY)


def plain(payload: bytes) -> dict[str, Any]:
    """As a subscriber reads it who has the msgpack package and nothing else."""
    fields: dict[str, Any] = msgpack.unpackb(payload, timestamp=3)
    return fields


@settings(max_examples=50)
@given(cdrs())
def test_messagepack_and_back_is_the_identity(cdr: Cdr) -> None:
    assert decode(encode(cdr)) == cdr


@settings(max_examples=50)
@given(cdrs())
def test_whoever_wrote_its_fields_in_another_order_is_read_the_same(cdr: Cdr) -> None:
    turned = dict(reversed(plain(encode(cdr)).items()))
    assert decode(msgpack.packb(turned, datetime=True)) == decode(encode(cdr)) == cdr


@settings(max_examples=50)
@given(cdrs())
def test_json_and_back_is_the_identity(cdr: Cdr) -> None:
    assert decode_json(encode_json(cdr)) == cdr


@settings(max_examples=50)
@given(cdrs())
def test_the_outbox_fills_in_the_three_fields_that_only_it_knows_and_changes_no_other(cdr: Cdr) -> None:
    stamped = replace(cdr, store_epoch="e", seq=7, account_prev_seq=None)
    assert encode_published(cdr, "e", 7, None) == encode(stamped)


@settings(max_examples=50)
@given(cdrs())
def test_the_address_of_a_record_is_read_without_the_rest(cdr: Cdr) -> None:
    to = address_of(encode(cdr))
    assert (to.tenant, to.node, to.account) == (cdr.tenant, cdr.node, cdr.account)
    assert (to.hangup_origin, to.message_id) == (cdr.hangup_origin, str(cdr.message_id))


def test_a_plain_reader_gets_strings_for_amounts_and_ids_and_aware_times() -> None:
    fields = plain(encode(CDR))
    assert set(fields) == set(Cdr.__struct_fields__)
    assert fields["call_id"] == str(CDR.call_id)
    assert fields["ended_at"] == CDR.ended_at
    assert isinstance(fields["ended_at"], datetime)
    assert fields["ended_at"].microsecond == 123456
    assert fields["charges"][0]["total"] == "0.07259000"
    assert fields["hangup_origin"] == "caller"
    assert fields["server_reason"] is None


def test_json_has_the_same_fields_with_times_as_text() -> None:
    fields = json.loads(encode_json(CDR))
    assert set(fields) == set(Cdr.__struct_fields__)
    assert fields["ended_at"] == "2026-09-21T14:14:24.123456Z"
    assert fields["charges"][0]["total"] == "0.07259000"


@pytest.mark.parametrize(
    ("amount", "text"),
    [("0.0000001", "0.0000001"), ("0E-9", "0.000000000"), ("1E+3", "1000"), ("-1E-12", "-0.000000000001")],
)
def test_amounts_never_have_an_exponent(amount: str, text: str) -> None:
    cdr = replace(CDR, charges=(replace(CDR.charges[0], total=Decimal(amount)),))
    assert plain(encode(cdr))["charges"][0]["total"] == text
    assert json.loads(encode_json(cdr))["charges"][0]["total"] == text


def test_unknown_fields_are_ignored_and_missing_ones_take_their_default() -> None:
    fields = plain(encode(CDR))
    fields["colour"] = {"of": ["a", "later", "version"]}
    del fields["glare"]
    assert decode(msgpack.packb(fields, datetime=True)) == CDR


def test_a_record_of_another_version_is_refused_by_name() -> None:
    fields = plain(encode(CDR)) | {"version": 2}
    with pytest.raises(CdrError, match="version 2"):
        decode(msgpack.packb(fields, datetime=True))


@given(st.binary(max_size=40) | st.integers(1, 400).map(lambda n: encode(CDR)[:-n]))
def test_bytes_that_are_no_record_raise_one_kind_of_error(payload: bytes) -> None:
    for read in (decode, address_of):
        with pytest.raises(CdrError):
            read(payload)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version":1}', '{"version":"x"}', "nul"])
def test_json_that_is_no_record_raises_the_same(text: str) -> None:
    with pytest.raises(CdrError):
        decode_json(text)


def test_text_that_utf8_cannot_hold_does_not_raise() -> None:
    cdr = replace(CDR, operator_text="half a pair: \ud83d")
    assert decode(encode(cdr)).operator_text == "half a pair: \\ud83d"
    assert decode_json(encode_json(cdr)).operator_text == "half a pair: \\ud83d"


def test_header_bytes_that_are_not_utf8_arrive_as_text() -> None:
    cdr = replace(CDR, session_id=b"caf\xe9\x00\r\n".decode(errors="backslashreplace"))
    assert decode(encode(cdr)).session_id == "caf\\xe9\x00\r\n"


def test_the_struct_has_no_type_that_the_codec_does_not_carry() -> None:
    # A new field of a new type must fail here, not in the writer's thread.
    assert msgspec.json.schema(Cdr)
