"""What a gateway is told of the caller: a row each."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.admit import begin_attempt, open_call, route_command
from sidecar.core.caller_id import Presentation, in_form, present, still_signed
from sidecar.core.events import InviteReceived
from sidecar.core.policy import Gateway, Given, Load
from sidecar.core.terms import CallerIdForm, NumberForm
from tests.policies import declared_gateway
from tests.scenarios import world
from tests.scenarios.world import gateways, policy_of

PASS, FROM, PAI, RPID = CallerIdForm
ASSERTED = ("p-asserted-identity", '"Desk, <4>" <sip:+4930999;user=phone@proxy.example>, <tel:+4930999>')
WITHHELD = ("p-asserted-identity", "remote-party-id")
REPLACED = (*WITHHELD, "p-preferred-identity")
URI = "<sip:+4930999@192.0.2.9>"


def gateway(**rules: Any) -> Gateway:
    return declared_gateway(name="carrier", host="192.0.2.9", port=5060, **rules)


def invite(*headers: tuple[str, str], from_user: str = "4930111", **leg: str) -> InviteReceived:
    received = replace(world.invite(0), headers=headers, from_user=from_user)
    return replace(received, leg=replace(received.leg, **leg)) if leg else received


def test_without_rules_a_trusted_caller_passes_as_it_is() -> None:
    shown = present(invite(ASSERTED), gateway(), trusted=True, gateway_trusted=True)
    assert (shown.user, shown.anonymous, shown.add, shown.withhold) == ("", False, (), ())


@pytest.mark.parametrize("form", CallerIdForm)
def test_what_an_untrusted_caller_asserts_is_withheld_and_nothing_is_asserted_of_it(
    form: CallerIdForm,
) -> None:
    received = invite(ASSERTED, ("remote-party-id", "<sip:1@x>;party=calling"))
    shown = present(received, gateway(caller_id=form), trusted=False, gateway_trusted=True)
    assert set(WITHHELD) <= set(shown.withhold)
    assert (shown.user, shown.add) == ("", ())


@pytest.mark.parametrize(
    ("form", "user", "add", "withheld"),
    [
        (FROM, "+4930999", (), REPLACED),
        (PAI, "", (("P-Asserted-Identity", URI),), REPLACED),
        (RPID, "", (("Remote-Party-ID", f"{URI};party=calling;screen=yes;privacy=off"),), REPLACED),
    ],
)
def test_an_asserted_number_is_shown_as_the_gateway_wants_it(
    form: CallerIdForm, user: str, add: tuple[tuple[str, str], ...], withheld: tuple[str, ...]
) -> None:
    shown = present(invite(ASSERTED), gateway(caller_id=form), trusted=True, gateway_trusted=True)
    assert (shown.user, shown.anonymous, shown.add, shown.withhold) == (user, False, add, withheld)


@pytest.mark.parametrize(
    ("form", "add"),
    [
        (FROM, ()),
        (PAI, (("P-Asserted-Identity", URI), ("Privacy", "user;id"))),
        (RPID, (("Remote-Party-ID", f"{URI};party=calling;screen=yes;privacy=full"),)),
    ],
)
def test_a_caller_who_asks_for_privacy_is_anonymous_in_from(
    form: CallerIdForm, add: tuple[tuple[str, str], ...]
) -> None:
    shown = present(
        invite(ASSERTED, ("privacy", "user")), gateway(caller_id=form), trusted=True, gateway_trusted=True
    )
    assert (shown.user, shown.anonymous, shown.add) == ("", True, add)
    assert ("privacy" in shown.withhold) == (form is PAI)


@pytest.mark.parametrize(
    ("headers", "from_user", "leg", "private"),
    [
        ((), "4930111", {}, False),
        ((("privacy", "none"),), "4930111", {}, False),
        ((("privacy", "none"),), "anonymous", {}, False),
        ((("privacy", "critical"),), "4930111", {}, False),
        ((("privacy", "ID; critical"),), "4930111", {}, True),
        ((("privacy", "header"), ("privacy", "id")), "4930111", {}, True),
        ((("privacy", "\\xff\r\nX: 1"),), "4930111", {}, False),
        ((), "Anonymous", {}, True),
        ((), "4930111", {"remote_uri": "<sip:4930111@Anonymous.invalid>"}, True),
        ((("remote-party-id", "<sip:1@x>;privacy=full;screen=yes"),), "4930111", {}, True),
        ((("remote-party-id", "<sip:1@x>;privacy=off"),), "4930111", {}, False),
        ((("remote-party-id", "<sip:1@x>; privacy = uri"),), "4930111", {}, True),
        ((("remote-party-id", '<sip:1@x>;Privacy="FULL"'),), "4930111", {}, True),
        ((("privacy", "critical, id"),), "4930111", {}, True),
        ((("privacy", "x" * 32),), "4930111", {}, True),
        ((("privacy", "x" * 33),), "4930111", {}, False),
    ],
)
def test_who_asks_for_privacy(
    headers: tuple[tuple[str, str], ...], from_user: str, leg: dict[str, str], private: bool
) -> None:
    received = invite(*headers, from_user=from_user, **leg)
    assert present(received, gateway(caller_id=FROM), trusted=True, gateway_trusted=True).anonymous == private
    assert not present(received, gateway(), trusted=True, gateway_trusted=True).anonymous


def test_the_mark_of_privacy_of_an_untrusted_party_counts_for_nothing() -> None:
    received = invite(("remote-party-id", "<sip:1@x>;privacy=full"))
    assert not present(received, gateway(caller_id=FROM), trusted=False, gateway_trusted=True).anonymous


@pytest.mark.parametrize(
    ("headers", "from_user", "asserted"),
    [
        ((("p-asserted-identity", "<tel:+4930999>"),), "1", "+4930999"),
        ((("p-asserted-identity", "sip:+4930999@x"),), "1", "+4930999"),
        ((("p-asserted-identity", '"a<sip:66@x>" <sips:%2B4930@x>'),), "1", "%2B4930"),
        ((("p-asserted-identity", "<sip:proxy.example>"),), "4930111", "4930111"),
        ((("p-asserted-identity", "<sip:a b@x>"),), "4930111", "4930111"),
        ((("p-asserted-identity", '<sip:1"\r\nX-Evil: 1@x>'),), "4930111", "4930111"),
        ((("remote-party-id", "<sip:4930777@x>;party=calling"),), "1", "4930777"),
        ((("remote-party-id", "<sip:7@x>"), ASSERTED), "1", "+4930999"),
        ((), "4930111;phone-context=x", "4930111"),
        ((("p-asserted-identity", "<SIP:+4930999@x>"),), "1", "+4930999"),
        ((("p-asserted-identity", "<TEL:+4930999>"),), "1", "+4930999"),
        ((("p-asserted-identity", f"<sip:{'4' * 64}@x>"),), "1", "4" * 64),
        ((("p-asserted-identity", f"<sip:{'4' * 65}@x>"),), "4930111", "4930111"),
    ],
)
def test_the_number_that_is_asserted(headers: Any, from_user: str, asserted: str) -> None:
    shown = present(
        invite(*headers, from_user=from_user), gateway(caller_id=PAI), trusted=True, gateway_trusted=True
    )
    assert shown.add == (("P-Asserted-Identity", f"<sip:{asserted}@192.0.2.9>"),)


def test_an_anonymous_caller_of_whom_nothing_is_known_is_not_asserted() -> None:
    shown = present(invite(from_user="anonymous"), gateway(caller_id=PAI), trusted=True, gateway_trusted=True)
    assert (shown.add, shown.anonymous) == ((), True)


@pytest.mark.parametrize("form", [PAI, RPID])
@pytest.mark.parametrize(
    "user", ["anonymous", "Unavailable", "RESTRICTED", "unknown", "private", "withheld", "%61nonymous", ""]
)
def test_nobody_is_asserted(form: CallerIdForm, user: str) -> None:
    for received in (
        invite(from_user=user),
        invite(("p-asserted-identity", f"<sip:{user or 'anonymous'}@x>"), from_user="4930111"),
        invite(("remote-party-id", f"<sip:{user or 'anonymous'}@x>;party=calling"), from_user="4930111"),
    ):
        shown = present(received, gateway(caller_id=form), trusted=True, gateway_trusted=True)
        assert shown.add == ()
    also = ("p-asserted-identity", f"<sip:{user or 'anonymous'}@x>, <tel:+4930999>")
    shown = present(invite(also), gateway(caller_id=form), trusted=True, gateway_trusted=True)
    assert URI in shown.add[0][1]


@pytest.mark.parametrize("form", [PAI, RPID])
def test_a_gateway_outside_the_trust_domain_is_told_of_nobody_who_asks_for_privacy(
    form: CallerIdForm,
) -> None:
    for privacy, told in (("id", False), ("user", False), ("none", True), ("critical", True)):
        received = invite(ASSERTED, ("privacy", privacy))
        shown = present(received, gateway(caller_id=form), trusted=True, gateway_trusted=False)
        assert bool(shown.add) == told


@pytest.mark.parametrize("inside", [True, False])
def test_a_gateway_is_in_the_trust_domain_through_its_group(inside: bool) -> None:
    peers = {
        "carrier": replace(world.PEERS["carrier"], asserts_identity=True),
        "vendor": replace(world.PEERS["vendor"], asserts_identity=inside),
    }
    policy = policy_of(peers=peers, gateways=gateways({"caller_id": PAI, "peer": "vendor"}))
    call, _ = open_call(world.call_id(), invite(ASSERTED, ("privacy", "id")), Given(policy, Load()))
    assert bool(route_command(call, policy).add_headers) == inside


@pytest.mark.parametrize(
    ("from_user", "from_uri", "to", "sent", "shown", "holds"),
    [
        ("+4930111", "<sip:+4930111@x>", "<sip:+4420@y>", "+4420", Presentation(), True),
        ("+4930111", "<sip:+4930111@x>", "<sip:+4420;npdi@y;user=phone>", "4420;rn=1", Presentation(), True),
        ("+4930111", "<sip:+4930111@x>", "<tel:+44-20>", "+4420", Presentation(user="4930111"), True),
        ("+4930111", "<sip:+4930111@x>", "<sip:+4420@y>", "+4420", Presentation(user="+4930999"), False),
        ("+4930111", "<sip:+4930111@x>", "<sip:+4420@y>", "+4420", Presentation(anonymous=True), False),
        ("+4930111", "<sip:+4930111@x>", "<sip:+4421@y>", "+4420", Presentation(), False),
        ("+4930111", "<sip:+4930111@x>", "<sip:bob@y>", "bob", Presentation(), False),
        ("alice", "<sip:alice@x>", "<sip:+4420@y>", "+4420", Presentation(), False),
        ("anonymous", "<sip:anonymous@anonymous.invalid>", "<sip:+4420@y>", "+4420", Presentation(), True),
        ("", "<sip:x>", "<sip:+4420@y>", "+4420", Presentation(), False),
    ],
)
def test_identity_passes_while_the_numbers_that_it_signs_do(
    from_user: str, from_uri: str, to: str, sent: str, shown: Presentation, holds: bool
) -> None:
    received = invite(from_user=from_user, remote_uri=from_uri, local_uri=to)
    assert still_signed(received, sent, shown) == holds


def test_the_command_says_whether_identity_passes() -> None:
    policy = policy_of(gateways=gateways({}, {"caller_id": FROM}))
    received = invite(("privacy", "id"), from_user="4930111", local_uri="<sip:4930123456@x>")
    received = replace(received, request_user="4930123456")
    call, _ = open_call(world.call_id(), received, Given(policy, Load()))
    assert route_command(call, policy).keep_identity
    assert not route_command(begin_attempt(call, ("beta",), call.invite, policy), policy).keep_identity


def test_an_ipv6_gateway_has_its_brackets() -> None:
    wants = replace(gateway(caller_id=PAI), host="2001:db8::9")
    assert (
        present(invite(ASSERTED), wants, trusted=True, gateway_trusted=True).add[0][1]
        == "<sip:+4930999@[2001:db8::9]>"
    )


@pytest.mark.parametrize(
    ("form", "user", "written"),
    [
        (NumberForm.AS_IS, "4930", "4930"),
        (NumberForm.AS_IS, "+4930", "+4930"),
        (NumberForm.PLUS, "4930", "+4930"),
        (NumberForm.PLUS, "+4930", "+4930"),
        (NumberForm.PLUS, "030", "030"),
        (NumberForm.PLUS, "4", "4"),
        (NumberForm.PLUS, "49", "+49"),
        (NumberForm.PLUS, "alice", "alice"),
        (NumberForm.PLUS, "٤٩٣٠", "٤٩٣٠"),
        (NumberForm.NO_PLUS, "+4930", "4930"),
        (NumberForm.NO_PLUS, "4930", "4930"),
        (NumberForm.NO_PLUS, "+alice", "+alice"),
        (NumberForm.PLUS, "4930;cpc=1", "+4930;cpc=1"),
        (NumberForm.PLUS, "7042;phone-context=a.example", "7042;phone-context=a.example"),
        (NumberForm.NO_PLUS, "+4930;cpc=1", "4930;cpc=1"),
    ],
)
def test_forms_of_a_number(form: NumberForm, user: str, written: str) -> None:
    assert in_form(user, form) == written
    shown = present(invite(from_user=user), gateway(caller_number=form), trusted=True, gateway_trusted=True)
    assert shown.user == ("" if written == user else written)


def test_the_form_is_that_of_what_is_asserted_too() -> None:
    shown = present(
        invite(ASSERTED),
        gateway(caller_id=PAI, caller_number=NumberForm.NO_PLUS),
        trusted=True,
        gateway_trusted=True,
    )
    assert shown.add[0][1] == "<sip:4930999@192.0.2.9>"


def test_what_is_added_replaces_what_came_and_what_is_removed_stays_out() -> None:
    rules = gateway(add_headers=(("X-Trunk", "7"), ("X-Trunk", "8")), remove_headers=("subject", "s"))
    shown = present(invite(("x-trunk", "forged")), rules, trusted=True, gateway_trusted=True)
    assert shown.add == (("X-Trunk", "7"), ("X-Trunk", "8"))
    assert shown.withhold == ("subject", "s", "x-trunk")


def test_the_command_carries_it_and_the_attempt_keeps_what_was_sent() -> None:
    rules = {"caller_number": NumberForm.PLUS, "add_headers": (("X-Trunk", "7"),)}
    policy = policy_of(gateways=gateways(rules))
    call, _ = open_call(world.call_id(), invite(from_user="4930111"), Given(policy, Load()))
    assert call.attempts[0].sent_caller == "+4930111"
    route = route_command(call, policy)
    assert (route.from_user, route.anonymous, route.add_headers) == ("+4930111", False, (("X-Trunk", "7"),))
    assert set(WITHHELD) <= set(route.withheld_headers)  # of a peer that may assert nothing
    again = begin_attempt(call, ("beta",), call.invite, policy)
    assert again.attempts[1].sent_caller == ""
    hidden = policy_of(gateways=gateways({"caller_id": FROM}))
    call, _ = open_call(world.call_id(), invite(("privacy", "id")), Given(hidden, Load()))
    assert (call.attempts[0].sent_caller, route_command(call, hidden).anonymous) == ("anonymous", True)


hostile = st.text(alphabet=st.sampled_from('+49 a<>"\\;:@%,=\r\n\x00sipte.é'), max_size=60) | st.text(
    max_size=60
)


@given(
    headers=st.lists(
        st.tuples(st.sampled_from(["p-asserted-identity", "remote-party-id", "privacy"]), hostile)
    ),
    from_user=hostile,
    remote_uri=hostile,
    form=st.sampled_from(CallerIdForm),
    number=st.sampled_from(NumberForm),
    trusted=st.booleans(),
)
def test_nothing_that_is_received_ends_a_line_or_a_uri(
    headers: list[tuple[str, str]],
    from_user: str,
    remote_uri: str,
    form: CallerIdForm,
    number: NumberForm,
    trusted: bool,
) -> None:
    received = invite(*headers, from_user=from_user, remote_uri=remote_uri)
    shown = present(
        received, gateway(caller_id=form, caller_number=number), trusted=trusted, gateway_trusted=True
    )
    for _, value in shown.add:
        assert all("!" <= letter <= "~" for letter in value)
        assert value.count("<") <= 1
        assert value.count("@") <= 1
    if shown.user and form is not FROM:
        assert shown.user.lstrip("+") == from_user.lstrip("+")  # the form alone has changed
    elif shown.user:
        assert not set(shown.user) & set('<>"@ \r\n') or shown.user == in_form(from_user, number)
