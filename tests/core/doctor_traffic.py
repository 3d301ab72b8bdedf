"""Made traffic for the doctor: calls by the product's own code, from the digits dialled to the record.

Numbers are random within the mobile and city ranges of several countries, as `COUNTRIES` weighs them; about
one in eleven is in a range that its country has not given out, as in real traffic. Every generator is seeded
by what it makes."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid5

from msgspec.structs import replace

from sidecar.core.admit import buy_pricing, sell_plan, sell_pricing
from sidecar.core.call import Attempt, Call, Phase, Stamp
from sidecar.core.cdr import Cdr
from sidecar.core.events import InviteReceived
from sidecar.core.hangup import hangup
from sidecar.core.numbers import StripRule, billed_number
from sidecar.core.policy import Account, Peer, Policy
from sidecar.core.records import cdr_of, utc
from sidecar.core.tariff import Deck, Rate, parse_steps
from sidecar.core.terms import Detail, Evidence, HangupOrigin
from tests.adapters.store_calls import leg
from tests.policies import declared_gateway, declared_policy

MS = 1_000_000
BEGIN_NS = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp()) * 1_000_000_000
# (beginning in E.164, further digits, weight)
COUNTRIES: Mapping[str, Sequence[tuple[str, int, int]]] = {
    "GB": (("4420", 8, 3), ("44161", 7, 2), ("447700", 6, 3), ("447911", 6, 3)),
    "DE": (("4930", 8, 3), ("4989", 7, 1), ("49151", 8, 3), ("49176", 8, 2)),
    "US": (("1212", 7, 2), ("1415", 7, 2), ("1305", 7, 1)),
    "FR": (("331", 8, 2), ("336", 8, 3)),
    "IT": (("3906", 8, 1), ("39347", 7, 3)),
    "ES": (("3491", 7, 1), ("3465", 7, 2)),
    "IN": (("9198", 8, 3),),
    "BR": (("55119", 8, 2),),
    "CN": (("86138", 8, 2),),
    "CH": (("4144", 7, 1), ("4179", 7, 2)),
    "ZA": (("2782", 7, 1), ("2711", 7, 1)),
}
PRICES = {
    "44": "0.02", "447": "0.08", "49": "0.02", "491": "0.07", "1": "0.01", "33": "0.02", "336": "0.09",
    "39": "0.02", "393": "0.11", "34": "0.03", "91": "0.03", "55": "0.06", "86": "0.04", "41": "0.04",
    "417": "0.25", "27": "0.09",
}  # fmt: skip


def deck(revision: str = "sell", currency: str = "EUR", prices: Mapping[str, str] = PRICES) -> Deck:
    return Deck(
        revision,
        [
            Rate(
                prefix=prefix,
                currency=currency,
                destination=f"to {prefix}",
                steps=parse_steps(f"0:{price}/60/1"),
            )
            for prefix, price in prices.items()
        ],
    )


def e164(count: int, seed: object = 0, countries: Iterable[str] = tuple(COUNTRIES)) -> list[str]:
    made = random.Random(f"{seed}/{count}")
    ranges = [one for country in countries for one in COUNTRIES[country]]
    chosen = made.choices(ranges, weights=[weight for _, _, weight in ranges], k=count)
    return [begin + _subscriber(made, digits) for begin, digits, _ in chosen]


def _subscriber(made: random.Random, digits: int) -> str:
    return made.choice("23456789") + "".join(made.choices("0123456789", k=digits - 1))


def in_front(prefix: str, numbers: Iterable[str]) -> list[str]:
    return [prefix + number for number in numbers]


def national(count: int, country: str, code: str, seed: object = 0) -> list[str]:
    """As people dial at home: the trunk prefix 0 in the place of the country code."""
    return ["0" + number.removeprefix(code) for number in e164(count, seed, (country,))]


def misdialled(count: int, seed: object = 0) -> list[str]:
    """Short codes, names, numbers cut off and numbers with a digit too many."""
    made = random.Random(f"mis{seed}/{count}")
    kinds = (
        lambda: made.choice(("112", "110", "115", "911", "*100#", "alice", "0", "00", "s", "1001")),
        lambda: e164(1, made.random())[0][: made.randrange(3, 8)],
        lambda: e164(1, made.random())[0] + str(made.randrange(10)) * made.randrange(1, 4),
        lambda: "00" + e164(1, made.random())[0][:6],
    )
    return [made.choice(kinds)() for _ in range(count)]


def policy(
    *,
    strip: int = 0,
    peers: Mapping[str, int | None] | None = None,
    accounts: Mapping[str, int | None] | None = None,
    gateways: Mapping[str, int] | None = None,
    rules: Sequence[StripRule] = (),
    sell: Deck | None = None,
    buy: Deck | None = None,
) -> Policy:
    """`peers`, `accounts` and `gateways` by name, with their own strip length."""
    peers = {"proxy": None} if peers is None else peers
    accounts = {"acme": None} if accounts is None else accounts
    gateways = {"carrier": 0} if gateways is None else gateways
    return declared_policy(
        tenant="_",
        node="n1",
        boot_id="boot",
        peers={name: Peer(name=name, addresses=(), strip_digits=own) for name, own in peers.items()},
        gateways={
            name: declared_gateway(
                name=name, host="192.0.2.1", port=5060, strip_digits=own, deck="buy" if buy else None
            )
            for name, own in gateways.items()
        },
        routes=(),
        accounts={
            name: Account(name=name, currency="EUR", strip_digits=own) for name, own in accounts.items()
        },
        strip_digits=strip,
        strip_rules=tuple(rules),
        decks={"sell": sell or deck()} | ({"buy": buy} if buy else {}),
        default_deck="sell",
    )


def calls(
    dialled: Sequence[str],
    world: Policy,
    *,
    peer: str = "proxy",
    account: str = "acme",
    gateway: str = "carrier",
    callers: Sequence[str] = ("+493012345678", "+4989123456", "+4915112345678"),
    sent: Sequence[str] | None = None,
    seed: object = 0,
) -> list[Cdr]:
    """A record for each number dialled, ten seconds apart; talk times are those of telephone calls."""
    made = random.Random(f"calls{seed}{dialled[:1]}{peer}{account}")
    return [
        _record(
            number,
            world,
            call_id=uuid5(UUID(int=7), f"{seed}/{peer}/{account}/{gateway}/{row}/{number}"),
            row=row,
            peer=peer,
            account=account,
            gateway=gateway,
            caller=callers[row % len(callers)],
            sent=sent[row] if sent else number,
            talk_ms=0 if made.random() < 0.3 else int(made.expovariate(1 / 120_000)) + 1_000,
        )
        for row, number in enumerate(dialled)
    ]


def _record(
    number: str,
    world: Policy,
    *,
    call_id: UUID,
    row: int,
    peer: str,
    account: str,
    gateway: str,
    caller: str,
    sent: str,
    talk_ms: int,
) -> Cdr:
    at_ns = BEGIN_NS + row * 10_000 * MS
    invited, answered, ended = (
        Stamp(at_ns + ms * MS, at_ns + ms * MS) for ms in (0, 3_000, 3_000 + (talk_ms or 5_000))
    )
    terms = world.account_terms(account)
    strip = world.peers[peer].strip_digits
    billed = billed_number(number, sell_plan(terms, strip, world))
    at = utc(at_ns)
    invite = InviteReceived(
        bridge_id=row + 1,
        mono_ns=invited.mono_ns,
        wall_ns=invited.wall_ns,
        leg=leg(f"{call_id}@pc33.example.com"),
        peer=peer,
        request_uri=f"sip:{number}@192.0.2.1",
        request_user=number,
        from_user=caller,
        headers=(),
        b_token="0" * 32,
    )
    attempt = Attempt(
        number=1,
        gateway=gateway,
        target=f"sip:{sent}@192.0.2.1:5060",
        sent_user=sent,
        leg=leg(f"b{call_id}"),
        buy=buy_pricing(sent, world.gateways[gateway], world, at),
        started=invited,
    )
    call = Call(
        call_id=call_id,
        boot_id="boot",
        bridge_id=row + 1,
        phase=Phase.ENDED,
        invite=invite,
        account=terms,
        pricing=sell_pricing(billed, terms, world, at),
        gateways=(),
        attempts=(attempt,),
        ended=ended,
        hangup=hangup(HangupOrigin.CALLER, Detail.BYE if talk_ms else Detail.CANCEL, Evidence.MESSAGE),
    )
    if talk_ms:
        call = replace(call, b_answered=answered, answered=answered, a_life=ended, b_life=ended)
    return cdr_of(call, world)
