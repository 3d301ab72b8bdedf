"""Who calls, and which rows of a deck are for him."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.core.admit import open_call
from sidecar.core.callers import RatedCaller, _is_of_a_country, rated_caller
from sidecar.core.explain_call import explain_call
from sidecar.core.policy import Given, Load, Peer
from sidecar.core.records import charge_line
from sidecar.core.rerate import rerate
from sidecar.core.tariff import SURCHARGE, Deck, Rate, per_minute_steps
from sidecar.core.terms import CallerBasis, ChargeSide
from tests.core.test_caller_id import invite
from tests.scenarios.table import BY_NAME
from tests.scenarios.world import PEERS, policy_of

AT = datetime(2026, 11, 27, tzinfo=UTC)
PEER = Peer(name="carrier", addresses=("127.0.0.1",))
ASSERTING = replace(PEER, asserts_identity=True)
TRUSTED = replace(PEER, caller_trusted=True)


def rate(prefix: str, price: str, caller: str = "", **more: object) -> Rate:
    return Rate(
        prefix=prefix,
        currency="EUR",
        steps=per_minute_steps(Decimal(price), 1, 1),
        caller_prefix=caller,
        **more,  # type: ignore[arg-type]
    )


def price(deck: Deck, number: str, caller: str, at: datetime = AT) -> str | None:
    found = deck.match(number, at, caller)
    return None if found is None else f"{found.steps[0].price:f}"


def test_the_longest_called_prefix_wins_then_the_longest_caller() -> None:
    deck = Deck(
        "one",
        [
            rate("44", "0.01"),
            rate("44", "0.02", "33"),
            rate("44", "0.03", "336"),
            rate("44", "0.09", SURCHARGE),
            rate("447", "0.05", "33"),
        ],
    )
    assert price(deck, "4420", "49301") == "0.01"
    assert price(deck, "4420", "33123") == "0.02"
    assert price(deck, "4420", "33612") == "0.03"
    assert price(deck, "4420", SURCHARGE) == "0.09"
    assert price(deck, "4420", "") == "0.01"
    assert price(deck, "4477", "33612") == "0.05"
    assert price(deck, "4477", "49301") == "0.01"  # 447 from 33 does not hide 44 from anywhere
    assert price(deck, "4477", SURCHARGE) == "0.09"
    assert price(deck, "45", "33612") is None


def test_a_row_without_a_match_in_its_period_gives_way_to_a_shorter_caller() -> None:
    later = AT + timedelta(days=7)
    deck = Deck(
        "one",
        [
            rate("44", "0.02", "33", effective_to=later),
            rate("44", "0.04", "33", effective_from=later),
            rate("44", "0.03", "336", effective_from=later),
            rate("4", "0.01"),
        ],
    )
    assert price(deck, "4420", "33612") == "0.02"
    assert price(deck, "4420", "33612", later) == "0.03"
    assert price(deck, "4420", "33712", later) == "0.04"
    assert price(deck, "4420", "49", later) == "0.01"
    assert [one.prefix for one in deck.candidates("4420", AT, "33612")] == ["44", "4"]
    assert [one.caller_prefix for one in deck] == ["", "33", "33", "336"]


def test_rows_that_hold_at_one_time_for_one_caller_contradict() -> None:
    with pytest.raises(ValueError, match="two rows that differ begin at the same time"):
        Deck("one", [rate("44", "0.01", "33"), rate("44", "0.02", "33")])
    assert len(Deck("one", [rate("44", "0.01", "33"), rate("44", "0.02", "34")])) == 2


@pytest.mark.parametrize("caller", ["0044", "+44", "x", "1" * 16, "surcharges", "４４"])
def test_a_caller_prefix_is_digits_or_surcharge(caller: str) -> None:
    with pytest.raises(ValueError, match="caller_prefix"):
        rate("44", "0.01", caller)


_PREFIXES = st.text("123", max_size=4)
_CALLERS = st.one_of(st.just(SURCHARGE), st.text("123", max_size=4))


@settings(max_examples=300)
@given(
    st.dictionaries(st.tuples(_PREFIXES, _CALLERS), st.integers(1, 999), min_size=1, max_size=60),
    st.lists(st.tuples(st.text("123", min_size=1, max_size=6), _CALLERS), min_size=1, max_size=20),
)
def test_as_a_search_of_all_rows_finds_it(
    rows: dict[tuple[str, str], int], asked: list[tuple[str, str]]
) -> None:
    deck = Deck("one", [rate(called, str(amount), caller) for (called, caller), amount in rows.items()])
    for number, who in asked:
        matching = [
            (called, caller)
            for called, caller in rows
            if number.startswith(called)
            and (caller == "" or (caller == who if SURCHARGE in (caller, who) else who.startswith(caller)))
        ]
        found = deck.match(number, AT, who)
        best = max(matching, key=lambda row: (len(row[0]), len(row[1])), default=None)
        assert (None if found is None else (found.prefix, found.caller_prefix)) == best


def test_many_callers_and_periods_stay_in_order() -> None:
    chance = random.Random(7)
    rows = []
    for called in ("44", "447", "4479"):
        for caller in chance.sample(range(1, 999), 200):
            middle = AT + timedelta(days=chance.randint(-50, 50))
            rows.append(rate(called, "0.01", str(caller), effective_to=middle))
            rows.append(rate(called, "0.02", str(caller), effective_from=middle))
    chance.shuffle(rows)
    deck = Deck("one", rows)
    for one in rows:
        at = one.effective_from or AT - timedelta(days=99)
        assert deck.match(one.prefix, at, one.caller_prefix) == one


@pytest.mark.parametrize(
    ("peer", "from_user", "headers", "number", "basis"),
    [
        (PEER, "33612345678", (), "33612345678", CallerBasis.FORGEABLE),
        (None, "33612345678", (), "33612345678", CallerBasis.FORGEABLE),
        (ASSERTING, "33612345678", (), "33612345678", CallerBasis.FORGEABLE),
        (TRUSTED, "+33612345678", (), "33612345678", CallerBasis.TRUSTED),
        (TRUSTED, "0033612345678", (), "33612345678", CallerBasis.TRUSTED),
        (TRUSTED, "12345678;phone-context=+33", (), "3312345678", CallerBasis.TRUSTED),
        (TRUSTED, "12345678;phone-context=example.com", (), None, CallerBasis.NO_NUMBER),
        (TRUSTED, "anonymous", (), None, CallerBasis.NO_NUMBER),
        (TRUSTED, "", (), None, CallerBasis.NO_NUMBER),
        (TRUSTED, "alice", (), None, CallerBasis.NO_NUMBER),
        (TRUSTED, "99912345678", (), "99912345678", CallerBasis.NO_COUNTRY),
        (TRUSTED, "0612345678", (), "0612345678", CallerBasis.NO_COUNTRY),
        (TRUSTED, "336", (), "336", CallerBasis.NO_COUNTRY),
        (TRUSTED, "3361234567890123", (), "3361234567890123", CallerBasis.NO_COUNTRY),
        (ASSERTING, "1", "<sip:+4930123456@x>", "4930123456", CallerBasis.ASSERTED),
        (ASSERTING, "1", "<tel:+4930123456>", "4930123456", CallerBasis.ASSERTED),
        (ASSERTING, "33612345678", "<sip:anonymous@anonymous.invalid>", None, CallerBasis.NO_NUMBER),
        (ASSERTING, "33612345678", "<sip:+9991234567@x>", "9991234567", CallerBasis.NO_COUNTRY),
        (PEER, "33612345678", "<sip:+4930123456@x>", "33612345678", CallerBasis.FORGEABLE),
        (TRUSTED, "33612345678", "<sip:+4930123456@x>", "33612345678", CallerBasis.TRUSTED),
    ],
)
def test_what_a_caller_is_known_by(
    peer: Peer | None, from_user: str, headers: str, number: str | None, basis: CallerBasis
) -> None:
    said = (("p-asserted-identity", headers),) if headers else ()
    found = rated_caller(invite(*said, from_user=from_user), peer)
    assert found == RatedCaller(number=number, basis=basis)
    known = basis in (CallerBasis.ASSERTED, CallerBasis.TRUSTED)
    assert found.looked_up == (number if known else SURCHARGE)


def test_a_country_code_is_one_that_is_assigned() -> None:
    assigned = {str(code) for code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE}
    for code in range(1000):
        number = f"{code:03d}0000000"
        expected = any(number[:length] in assigned for length in (1, 2, 3))
        assert _is_of_a_country(number) == expected, code


DECK = Deck(
    "r1",
    [rate("49", "0.06"), rate("49", "0.02", "33"), rate("49", "0.30", SURCHARGE), rate("4930", "1", "44")],
)


@pytest.mark.parametrize(
    ("peer", "from_user", "caller_class", "basis", "total"),
    [
        (TRUSTED, "33612345678", "33", CallerBasis.TRUSTED, "0.02"),
        (TRUSTED, "4420123456", "44", CallerBasis.TRUSTED, "1"),
        (TRUSTED, "4930123456", None, CallerBasis.TRUSTED, "0.06"),
        (TRUSTED, "anonymous", SURCHARGE, CallerBasis.NO_NUMBER, "0.3"),
        (PEER, "33612345678", SURCHARGE, CallerBasis.FORGEABLE, "0.3"),
    ],
)
def test_a_record_names_the_class_and_is_explained_and_rated_again_by_it(
    peer: Peer, from_user: str, caller_class: str | None, basis: CallerBasis, total: str
) -> None:
    peers = {**PEERS, "carrier": replace(PEERS["carrier"], caller_trusted=peer.caller_trusted)}
    policy = policy_of(peers=peers, decks={"sell": DECK})
    call, _ = open_call(UUID(int=8), invite(from_user=from_user), Given(policy=policy, load=Load()))
    line = charge_line(ChargeSide.SELL, "acme", call.pricing, 60_000, AT, "EUR")
    cdr = replace(BY_NAME["caller-bye-in-call"].play().record, caller_basis=basis, charges=(line,))
    cdr = replace(cdr, caller=replace(cdr.caller, billed=None if call.caller is None else call.caller.number))
    assert (line.caller_class, call.caller and call.caller.basis) == (caller_class, basis)
    assert line.total == Decimal(total)
    assert line.candidates == (("4930", "49") if caller_class == "44" else ("49",))
    texts = dict(explain_call(cdr).charges[0].lines)
    assert texts.get("callers") == caller_class
    assert not [text for text in explain_call(cdr).charges[0].differences if "caller" in text]
    again = rerate(cdr, DECK, None)
    assert again is not None
    assert again.total == line.total
    if caller_class is not None:
        wrong = replace(cdr, charges=(replace(line, caller_class="7"),))
        assert any("callers 7" in text for text in explain_call(wrong).charges[0].differences)
