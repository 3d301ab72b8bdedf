"""Which Contacts of a 3xx are followed, in which order, and how many."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from sidecar.core.admit import begin_attempt, open_call
from sidecar.core.call import Call
from sidecar.core.events import Contact, RouteFailed
from sidecar.core.policy import Given, Load, Policy
from sidecar.core.redirect import REDIRECTS_MAX, redirection, use_contacts
from sidecar.core.terms import Redirection, RouteFailure, TransportName
from tests.scenarios import world
from tests.scenarios.world import gateways, policy_of

ALPHA, BETA = "10.0.1.1", "10.0.2.1"
FOLLOW = policy_of(redirect=Redirection.FOLLOW)


def called(policy: Policy = FOLLOW, **changes: Any) -> Call:
    """A call to 4930123456 that alpha has got and beta has not."""
    call, _ = open_call(world.call_id(), replace(world.invite(0), **changes), Given(policy, Load()))
    assert [attempt.gateway for attempt in call.attempts] == ["alpha"]
    return call


def redirected(*contacts: Contact, sip_code: int = 302, **changes: Any) -> RouteFailed:
    values = {"attempt": 1, "cause": RouteFailure.FINAL_RESPONSE, "contacts": contacts, **changes}
    return RouteFailed(**world.stamps(9), bridge_id=1, sip_code=sip_code, **values)


def to(user: str, host: str = BETA, **changes: Any) -> Contact:
    return Contact(user=user, host=host, **changes)


def followed(call: Call, *contacts: Contact, policy: Policy = FOLLOW) -> list[tuple[str, str]]:
    return places(use_contacts(call, redirected(*contacts), Given(policy, Load())))


def places(call: Call) -> list[tuple[str, str]]:
    return [(one.gateway, one.user) for one in call.redirects]


@pytest.mark.parametrize(
    ("node", "own", "expected"),
    [
        (Redirection.FOLLOW, None, Redirection.FOLLOW),
        (Redirection.PASS, None, Redirection.PASS),
        (Redirection.PASS, Redirection.FOLLOW, Redirection.FOLLOW),
        (Redirection.FOLLOW, Redirection.REJECT, Redirection.REJECT),
    ],
)
def test_the_gateways_own_setting_comes_before_the_nodes(
    node: Redirection, own: Redirection | None, expected: Redirection
) -> None:
    policy = policy_of(redirect=node, gateways=gateways({"redirect": own}))
    assert redirection(called(policy), policy) is expected
    assert bool(followed(called(policy), to("1"), policy=policy)) is (expected is Redirection.FOLLOW)


def test_it_is_the_last_gateways_setting_that_counts() -> None:
    policy = policy_of(redirect=Redirection.REJECT, gateways=gateways(beta={"redirect": Redirection.FOLLOW}))
    call = begin_attempt(called(policy), ("beta",), world.invite(5), policy)
    assert redirection(call, policy) is Redirection.FOLLOW


def test_the_highest_q_comes_first_and_equals_as_they_stand() -> None:
    contacts = (
        to("1", q_thousandths=300),
        to("2", q_thousandths=700),
        to("3", q_thousandths=700),
        to("4"),
    )
    assert followed(called(), *contacts) == [("beta", "4"), ("beta", "2"), ("beta", "3"), ("beta", "1")]


@pytest.mark.parametrize(
    "failure",
    [
        redirected(to("1"), sip_code=299),
        redirected(to("1"), sip_code=400),
        redirected(to("1"), sip_code=486),
        redirected(to("1"), sip_code=300, cause=RouteFailure.NO_RESPONSE),
    ],
    ids=["299", "400", "486", "no response"],
)
def test_only_a_3xx_redirects(failure: RouteFailed) -> None:
    call = called()
    assert use_contacts(call, failure, Given(FOLLOW, Load())) == call


@pytest.mark.parametrize("sip_code", [300, 302, 380, 399])
def test_every_3xx_redirects(sip_code: int) -> None:
    call = use_contacts(called(), redirected(to("1"), sip_code=sip_code), Given(FOLLOW, Load()))
    assert (places(call), call.redirects_taken) == ([("beta", "1")], 1)


def test_no_number_goes_to_one_gateway_twice() -> None:
    call = called()
    dialled = call.invite.request_user
    assert followed(call, to(dialled, ALPHA)) == [], "it has been there"
    assert followed(call, to(dialled)) == [("beta", dialled)], "another gateway is another place"
    assert followed(call, to("1", ALPHA)) == [("alpha", "1")], "another number is another place"
    assert followed(call, to("1"), to("1", q_thousandths=5)) == [("beta", "1")], "named twice"


def test_a_contact_that_still_waits_is_not_taken_again() -> None:
    call = use_contacts(called(), redirected(to("1"), to("2")), Given(FOLLOW, Load()))
    again = use_contacts(call, redirected(to("2"), to("3"), to("1")), Given(FOLLOW, Load()))
    assert places(again) == [("beta", "3"), ("beta", "1"), ("beta", "2")], "the new ones first"
    assert again.redirects_taken == 3


def test_a_call_follows_a_few_contacts_and_no_more() -> None:
    many = [to(str(number)) for number in range(REDIRECTS_MAX + 2)]
    call = use_contacts(called(), redirected(*many[:3]), Given(FOLLOW, Load()))
    assert (len(call.redirects), call.redirects_taken) == (3, 3)
    call = use_contacts(replace(call, redirects=()), redirected(*many), Given(FOLLOW, Load()))
    assert places(call) == [("beta", "0"), ("beta", "1")]
    assert call.redirects_taken == REDIRECTS_MAX == 5
    call = use_contacts(replace(call, redirects=()), redirected(*many), Given(FOLLOW, Load()))
    assert (places(call), call.redirects_taken) == ([], REDIRECTS_MAX)


@pytest.mark.parametrize(
    ("contact", "name"),
    [
        (to("1", ALPHA), "alpha"),
        (to("1", ALPHA, port=5060), "alpha"),
        (to("1", ALPHA, port=5061), None),
        (to("1", ALPHA, transport="UDP"), "alpha"),
        (to("1", ALPHA, transport="tcp"), None),
        (to("1", ALPHA, port=5061, transport="udp"), None),
        (to("1", "192.0.2.1"), None),
        (to("1", "alpha.example"), None),
        (to("", ALPHA), None),
        (to("1", "2001:DB8:0::1"), "six"),
        (to("1", "2001:db8::1", port=5061, transport="tls"), "six"),
        (to("1", "2001:db8::1", port=5061, transport="udp"), None),
    ],
)
def test_a_contact_counts_where_it_is_one_of_our_gateways(contact: Contact, name: str | None) -> None:
    known = gateways()
    six = replace(known["beta"], name="six", host="2001:db8::1", port=5061, transport=TransportName.TLS)
    policy = policy_of(redirect=Redirection.FOLLOW, gateways=known | {"six": six})
    assert followed(called(policy), contact, policy=policy) == ([(name, "1")] if name else [])


def test_of_two_gateways_at_an_address_the_first_is_called() -> None:
    known = gateways()
    policy = policy_of(
        redirect=Redirection.FOLLOW, gateways=known | {"twin": replace(known["beta"], name="twin")}
    )
    assert followed(called(policy), to("1"), policy=policy) == [("beta", "1")]


def test_a_blocked_number_is_no_way_out() -> None:
    policy = policy_of(redirect=Redirection.FOLLOW, blocked_numbers=frozenset({"4990*"}))
    contacts = (to("4990123"), to("+4990123"), to("4989123"))
    assert followed(called(policy), *contacts, policy=policy) == [("beta", "4989123")]


def test_only_the_peer_that_knows_the_dialog_can_be_sent_what_replaces_it() -> None:
    call = called(claimed_peer="vendor")
    assert followed(call, to("1"), to("2", ALPHA)) == [("alpha", "2")]


def test_a_place_that_failed_earlier_is_not_come_back_to() -> None:
    call = begin_attempt(called(), ("beta",), world.invite(5), FOLLOW)
    dialled = call.invite.request_user
    assert followed(call, to(dialled, ALPHA), to(dialled), to("1", ALPHA)) == [("alpha", "1")]
