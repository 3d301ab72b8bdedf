"""What an Identity header says of itself."""

from __future__ import annotations

from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.admit import open_call, refuse
from sidecar.core.commands import NoteRefusal
from sidecar.core.passport import Attestation, attestation
from sidecar.core.policy import Given, Load
from sidecar.core.terms import Detail
from tests.scenarios import world


def payload(claims: str | bytes) -> str:
    data = claims.encode() if isinstance(claims, str) else claims
    return urlsafe_b64encode(data).decode().rstrip("=")


ORIGID = "123e4567-e89b-12d3-a456-426655440000"
SHAKEN = f'{{"attest":"A","dest":{{"tn":["4420"]}},"iat":1,"orig":{{"tn":"4930"}},"origid":"{ORIGID}"}}'


@pytest.mark.parametrize(
    ("payloads", "attest", "origid"),
    [
        ([SHAKEN], "A", ORIGID),
        (['{"attest":"B"}'], "B", None),
        (['{"div":{"tn":"1"}}', '{"attest":"C","origid":"x"}', SHAKEN], "C", "x"),
        ([], None, None),
        (['{"attest":"D","origid":"x"}'], None, None),
        (['{"attest":1}', '{"attest":null}', '{"attest":["A"]}'], None, None),
        (['{"attest":"A","origid":7}'], "A", None),
        (['{"attest":"A","origid":"a\\r\\nb"}'], "A", None),
        ([f'{{"attest":"A","origid":"{"x" * 129}"}}'], "A", None),
        (["[" * 1500, "{" * 1500, '{"a":' * 300, "", "null", "7"], None, None),
        ([b"\xff\xfe", b'{"attest":"\xff"}'], None, None),
    ],
)
def test_the_first_passport_that_attests_is_kept(
    payloads: list[str | bytes], attest: str | None, origid: str | None
) -> None:
    assert attestation(map(payload, payloads)) == Attestation(attest=attest, origid=origid)


@given(st.lists(st.text(max_size=100) | st.binary(max_size=100).map(payload)))
def test_whatever_a_peer_sends_it_never_raises(payloads: list[str]) -> None:
    attestation(payloads)


def test_the_record_keeps_it() -> None:
    invite = replace(world.invite(0), passports=(payload(SHAKEN),))
    policy = world.policy_of()
    call, _ = open_call(world.call_id(), invite, Given(policy, Load()))
    note = refuse(call, Detail.OPERATOR, policy, invite)[1][1]
    assert isinstance(note, NoteRefusal)
    assert (note.cdr.attest, note.cdr.origid) == ("A", ORIGID)
