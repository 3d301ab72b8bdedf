from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.call import Call
from sidecar.core.hangup import hangup
from sidecar.core.terms import Detail, Evidence, HangupOrigin
from sidecar.wire.entries import EntryError, decode_call, encode_call
from tests.adapters.store_calls import admitted, answered, ended

CALL = ended(answered(admitted()))


@pytest.mark.parametrize("call", [admitted(), answered(admitted(2, prepaid=True)), CALL])
def test_an_entry_holds_the_whole_call(call: Call) -> None:
    assert decode_call(encode_call(call)) == call


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_text_from_the_network_comes_back_as_it_was(text: str) -> None:
    call = replace(CALL, invite=replace(CALL.invite, from_user=text, headers=((text, text),)))
    assert decode_call(encode_call(call)) == call


def test_text_that_utf8_cannot_hold_does_not_raise() -> None:
    verdict = hangup(
        HangupOrigin.SERVER, Detail.OPERATOR, Evidence.MESSAGE, operator="eve", operator_text="\ud83d"
    )
    found = decode_call(encode_call(replace(CALL, hangup=verdict))).hangup
    assert found is not None
    assert found.operator_text == "\\ud83d"


def test_an_entry_of_a_later_version_is_refused_by_name() -> None:
    with pytest.raises(EntryError, match="version 2"):
        decode_call(b"\x02" + encode_call(CALL)[1:])


@given(st.binary(max_size=40).map(lambda tail: b"\x01" + tail) | st.just(b""))
def test_bytes_that_are_no_entry_raise_one_kind_of_error(body: bytes) -> None:
    with pytest.raises(EntryError):
        decode_call(body)
