"""Calls for the tests of the store, and its benchmark: what `decide` would submit, made without a bridge."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

from msgspec.structs import asdict, replace

from sidecar.core.account_terms import AccountKind, AccountTerms
from sidecar.core.call import Attempt, Call, Phase, Pricing, Stamp
from sidecar.core.cdr import Cdr
from sidecar.core.commands import (
    Append,
    EntryKind,
    Extend,
    Publish,
    Reserve,
    Settle,
    StoreCommand,
    Suppress,
)
from sidecar.core.events import InviteReceived, LegIdentity
from sidecar.core.hangup import hangup
from sidecar.core.identity import call_id_of
from sidecar.core.numbers import StripPlan, billed_number
from sidecar.core.policy import Account, Policy, RecordFlags
from sidecar.core.rating import RatingTerms
from sidecar.core.records import cdr_of, sell_total
from sidecar.core.tariff import Rate, RateStep
from sidecar.core.terms import Detail, DialogState, Evidence, HangupOrigin, Money, TransportName
from tests.policies import declared_policy

BOOT_ID = "6f1c2a"
MS = 1_000_000
WALL_NS = 1_790_000_000_123_456_000
POLICY = declared_policy(tenant="_", node="n1", boot_id=BOOT_ID)
NO_SERVER_RECORDS = replace(POLICY, flags=RecordFlags(record_server_hang_up=False))
RATE = Rate(
    prefix="4915",
    currency="EUR",
    destination="Germany mobile",
    steps=(RateStep.of(0, Decimal("0.06"), 60, 1),),
)
TERMS = RatingTerms(tax_rate=Decimal("0.19"))
HEADERS = (("session-id", "ab30317f1a784dc48ff824d0d3715d86;remote=00000000000000000000000000000000"),)


def leg(sip_call_id: str, **fields: Any) -> LegIdentity:
    plain = LegIdentity(
        sip_call_id=sip_call_id,
        local_tag="4f1ca9d2",
        remote_tag="9fxced76sl",
        local_uri="<sip:4915112345678@192.0.2.1>",
        remote_uri='"Alice" <sip:+4930123456@198.51.100.7>',
        remote_target="sip:+4930123456@198.51.100.7:5060;transport=udp",
        route_set=("<sip:192.0.2.9;lr>",),
        local_cseq=1,
        remote_cseq=314159,
        branch="z9hG4bK776asdhds",
        local_address="192.0.2.1:5080",
        remote_address="198.51.100.7:5060",
        transport=TransportName.UDP,
    )
    return replace(plain, **fields)


def call_id(number: int) -> UUID:
    return call_id_of("_", "n1", BOOT_ID, number, WALL_NS // MS + number)


def terms_of(name: str, currency: str = "EUR", prepaid: bool = True) -> AccountTerms:
    kind = AccountKind.PREPAID if prepaid else AccountKind.POSTPAID
    return AccountTerms(name=name, currency=currency, kind=kind)


def admitted(number: int = 1, account: str = "acme", *, prepaid: bool = False, at_ns: int = WALL_NS) -> Call:
    mono_ns = 10_000 * MS + number
    billed = billed_number("00" + "4915112345678", StripPlan(global_strip=2))
    return Call(
        call_id=call_id(number),
        boot_id=BOOT_ID,
        bridge_id=number,
        phase=Phase.ADMITTING,
        invite=InviteReceived(
            bridge_id=number,
            mono_ns=mono_ns,
            wall_ns=at_ns,
            leg=leg(f"{number}-a84b4c76e66710@pc33.example.com"),
            peer="proxy",
            request_uri="sip:004915112345678@192.0.2.1;user=phone",
            request_user="004915112345678",
            from_user="+4930123456",
            headers=HEADERS,
            b_token="0123456789abcdef0123456789abcdef",
        ),
        account=Account(**asdict(terms_of(account, prepaid=prepaid))),
        pricing=Pricing(number=billed, terms=TERMS, rate=RATE, deck_revision="demo-1"),
        gateways=(),
        attempts=(
            Attempt(
                number=1,
                gateway="gw1",
                target="198.51.100.20:5060",
                sent_user="004915112345678",
                leg=leg(f"{number}-b-0123456789abcdef"),
                started=Stamp(mono_ns + MS, at_ns + MS),
            ),
        ),
    )


def answered(call: Call, after_ms: int = 3_000) -> Call:
    stamp = _later(call, after_ms)
    return replace(
        call,
        phase=Phase.ANSWERING,
        state_b=DialogState.CONFIRMED,
        ringing=_later(call, after_ms // 2),
        first_heard=_later(call, after_ms // 2),
        b_answered=stamp,
        answered=stamp,
        a_life=stamp,
    )


def ended(
    call: Call, talk_ms: int = 61_000, detail: Detail = Detail.BYE, origin: HangupOrigin = HangupOrigin.CALLER
) -> Call:
    begin = call.answered.mono_ns - call.invite.mono_ns if call.answered else 0
    stamp = _later(call, begin // MS + talk_ms)
    return replace(
        call, phase=Phase.ENDED, ended=stamp, a_life=stamp, hangup=hangup(origin, detail, Evidence.MESSAGE)
    )


def admission(call: Call) -> tuple[StoreCommand, ...]:
    admit = Append(kind=EntryKind.ADMITTED, call=call)
    return (reserve(call), admit) if call.account.prepaid else (admit,)


def reserve(call: Call, total_s: int = 3_600) -> Reserve:
    return Reserve(
        call_id=call.call_id,
        account=call.account.name,
        rate=RATE,
        terms=TERMS,
        total_s=total_s,
    )


def extension(call: Call, total_s: int) -> tuple[StoreCommand, ...]:
    rate = call.pricing.rate
    assert rate is not None
    ask = Extend(
        call_id=call.call_id,
        account=call.account.name,
        rate=rate,
        terms=call.pricing.terms,
        total_s=total_s,
    )
    return (ask,)


def first_slice(call: Call, total_s: int) -> tuple[StoreCommand, ...]:
    return reserve(call, total_s), Append(kind=EntryKind.ADMITTED, call=call)


def entry(kind: EntryKind, call: Call) -> tuple[StoreCommand, ...]:
    return (Append(kind=kind, call=call),)


def ending(call: Call, policy: Policy = POLICY) -> tuple[StoreCommand, ...]:
    cdr = cdr_of(call, policy)
    record: StoreCommand = Publish(cdr=cdr) if cdr.recorded else Suppress(cdr=cdr)
    return Settle(call_id=call.call_id, account=call.account.name, total=total(cdr)), record


def total(cdr: Cdr) -> Money | None:
    return sell_total(cdr)


def whole_call(
    number: int, account: str = "acme", *, prepaid: bool = False
) -> list[tuple[StoreCommand, ...]]:
    """The five steps of a call that is answered and hung up by its caller."""
    call = admitted(number, account, prepaid=prepaid)
    up = answered(call)
    return [
        admission(call),
        entry(EntryKind.ATTEMPT, replace(call, phase=Phase.ROUTING)),
        entry(EntryKind.ANSWERED, up),
        entry(EntryKind.ESTABLISHED, replace(up, phase=Phase.TALKING)),
        ending(ended(up)),
    ]


def _later(call: Call, ms: int) -> Stamp:
    return Stamp(call.invite.mono_ns + ms * MS, call.invite.wall_ns + ms * MS)
