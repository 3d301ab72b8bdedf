"""What of the parameters of a received URI goes on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.terms import UserPhone
from sidecar.core.uri_parameters import passing

AS_IS, ADD, REMOVE = UserPhone


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        ("sip:+4420@h", ""),
        ("sip:+4420@h:5060;user=phone", ";user=phone"),
        ("sips:+4420@[::1]:5061;tgrp=a;trunk-context=+1-2", ";tgrp=a;trunk-context=+1-2"),
        ("sip:h;cpc=payphone", ";cpc=payphone"),
        ("sip:+4420;rn=+1;npdi@h;isup-oli=24;x", ";isup-oli=24;x"),  # those of the number are in the user
        ("sip:a?b;c@h;otg=x?Subject=;y", ";otg=x"),
        ('"<x>;a=b" <sip:1@h;cpc=1>;tag=t;z', ";cpc=1"),
        ("<sip:1@h;context=a.example>", ";context=a.example"),
        # How a message gets to its next hop is ours to say.
        ("sip:1@h;transport=tcp;MADDR=10.0.0.1;ttl=1;LR;lr=on;Method=BYE;user=ip", ";user=ip"),
        # What could be read as something else does not go on.
        ('sip:1@h;a="b";c=d e;f=>;=g;;h=;i=%zz;j=%41', ";j=%41"),
        ("", ""),
        ("tel:+4420;cpc=1", ";user=phone"),
        ("TEL:+4420", ";user=phone"),
    ],
)
def test_all_parameters_pass_but_those_of_a_hop(received: str, expected: str) -> None:
    assert passing(received, "+4420", AS_IS) == expected


@pytest.mark.parametrize(
    ("received", "user", "user_phone", "expected"),
    [
        ("sip:+4420@h;x", "+4420", ADD, ";user=phone;x"),
        ("sip:+4420@h;user=ip", "+4420;npdi", ADD, ";user=phone"),
        ("sip:20@h", "#31#20", ADD, ";user=phone"),
        ("sip:alice@h;user=ip", "alice", ADD, ";user=ip"),
        ("sip:h", "", ADD, ""),
        ("", "0044", ADD, ";user=phone"),
        ("tel:+4420", "+4420", ADD, ";user=phone"),
        ("sip:+4420@h;x;USER=Phone;y", "+4420", REMOVE, ";x;y"),
        ("sip:+4420@h;user=ip", "+4420", REMOVE, ";user=ip"),
        ("tel:+4420", "+4420", REMOVE, ""),
        ("tel:+4420", "alice", AS_IS, ""),  # another number is sent in its place
    ],
)
def test_a_gateway_may_want_user_phone_or_not(
    received: str, user: str, user_phone: UserPhone, expected: str
) -> None:
    assert passing(received, user, user_phone) == expected


def test_a_text_that_was_cut_loses_its_last_parameter() -> None:
    assert passing("sip:1@h;a=b;c=".ljust(2048, "d"), "1", AS_IS) == ";a=b"


@given(st.text(max_size=200), st.text(max_size=20), st.sampled_from(UserPhone))
def test_whatever_was_received_no_more_than_parameters_go_on(
    received: str, user: str, user_phone: UserPhone
) -> None:
    found = passing(f"sip:1@h;{received}", user, user_phone)
    assert not set(found) & set(' \r\n\t<>"?@,\0')
    assert found.isascii()
