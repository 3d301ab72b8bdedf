"""What is wrong with the strip lengths, seen from the calls themselves.

For each number the doctor asks what should have been stripped: from the number itself (00 and 011 are
prefixes of international calls, a single 0 is a national trunk prefix, `#` and `*` end a technical prefix),
from the number of the same call on the other side, or, for other digits in front, from what many numbers of
one sender have in common. What was stripped is in the record. The two are compared per sender and rule, and
each kind of difference is a symptom.

A number is plausible if its country code is assigned and its length possible there; who calls passes that
test in, as it needs tables.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

import msgspec

from sidecar.core.cdr import Cdr
from sidecar.core.numbers import normalise
from sidecar.core.rating import RatingTerms, charge
from sidecar.core.tariff import Deck
from sidecar.core.terms import ChargeSide, RatingStatus

CALLS_MIN = 2  # of one symptom, so that a single misdialled number is no finding
UNRATED_MIN = 3
IMPLAUSIBLE_SHARE = 0.05
MIXED_SHARE = 0.05
PREFIX_MAX = 8  # digits of a technical or carrier prefix that is looked for
COMMON_SHARE = 0.5  # of a sender's odd numbers that must begin with the same digits for these to be a prefix
EXAMPLES_MAX = 3

Plausible = Callable[[str], bool]


class Symptom(StrEnum):
    NOT_STRIPPED = "not_stripped"
    OVER_STRIPPED = "over_stripped"
    UNDER_STRIPPED = "under_stripped"
    PARTIAL_STRIP = "partial_strip"
    MIXED_PREFIXES = "mixed_prefixes"
    TRUNK_WITHOUT_COUNTRY_CODE = "trunk_without_country_code"
    IMPLAUSIBLE_NUMBER = "implausible_number"
    UNRATED_DESTINATION = "unrated_destination"


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """One charge of a record. `number` is the normalised number that was stripped: received (sell) or sent
    (buy).

    `other` is what the same call was billed on by the other side. `party` is whose strip length it is: the
    peer or account (sell), the gateway (buy).
    """

    side: ChargeSide
    party: str
    rule: str
    number: str
    billed: str | None
    other: str | None = None
    status: RatingStatus = RatingStatus.RATED
    hold_s: int = 0
    at: datetime | None = None


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """`calls` of `of` calls show the symptom; `examples` are (number, billed number)."""

    symptom: Symptom
    side: ChargeSide
    party: str
    rule: str
    calls: int
    of: int
    examples: tuple[tuple[str, str | None], ...]
    fix: str
    strip: int | None = None


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What another strip length would do to calls that were recorded. Amounts are totals by currency."""

    strip: int
    calls: int
    rated_before: int
    rated_after: int
    before: dict[str, Decimal]
    after: dict[str, Decimal]


class _Need(msgspec.Struct, frozen=True, kw_only=True):
    strip: int
    digits: str
    trunk: bool = False


def observed_of(cdr: Cdr) -> list[Observed]:
    """The charges of one record as the doctor looks at them."""
    billed = {line.side: line.billed_number for line in cdr.charges}
    found = []
    for line in cdr.charges:
        sold = line.side is ChargeSide.SELL
        user = cdr.callee.received if sold else cdr.callee.sent
        rule = line.strip_rule or "global"
        if user is not None:
            found.append(
                Observed(
                    side=line.side,
                    party=line.party if rule == "account" or not sold else cdr.peer,
                    rule=rule,
                    number=normalise(user),
                    billed=line.billed_number,
                    other=billed.get(ChargeSide.BUY if sold else ChargeSide.SELL),
                    status=line.rating_status,
                    hold_s=cdr.hold_s,
                    at=cdr.invited_at,
                )
            )
    return found


def diagnose(observed: Iterable[Observed], plausible: Plausible, area: Callable[[str], str]) -> list[Finding]:
    """The findings, the most calls first. `area` names the country or region of a number."""
    groups: dict[tuple[ChargeSide, str, str], list[Observed]] = defaultdict(list)
    for one in observed:
        groups[one.side, one.party, one.rule].append(one)
    findings = [
        finding
        for group in groups.values()
        for finding in (*_of_strip(group, plausible), *_unrated(group, plausible, area))
    ]
    return sorted(findings, key=lambda one: (-one.calls, one.symptom, one.party))


def what_if(observed: Iterable[Observed], strip: int, deck: Deck, terms: RatingTerms) -> Effect:
    """The calls as they were billed, and as they would be with `strip` digits stripped, both by `deck`
    today.
    """
    calls = rated_before = rated_after = 0
    before: dict[str, Decimal] = defaultdict(Decimal)
    after: dict[str, Decimal] = defaultdict(Decimal)
    for one in observed:
        calls += 1
        again = one.number[strip:] if one.rule != "e164" else one.billed
        rated_before += _add(before, one.billed, one, deck, terms)
        rated_after += _add(after, again, one, deck, terms)
    return Effect(
        strip=strip,
        calls=calls,
        rated_before=rated_before,
        rated_after=rated_after,
        before=dict(before),
        after=dict(after),
    )


def _add(
    totals: dict[str, Decimal], billed: str | None, one: Observed, deck: Deck, terms: RatingTerms
) -> bool:
    if one.at is None or not billed or not (billed.isascii() and billed.isdigit()):
        return False
    rate = deck.match(billed, one.at)
    if rate is None:
        return False
    totals[rate.currency] += charge(rate, one.hold_s, terms, one.at).total
    return True


def _of_strip(group: Sequence[Observed], plausible: Plausible) -> list[Finding]:
    if group[0].rule == "e164" or group[0].rule.startswith("rule:"):
        return []
    needs = _needs(group, plausible)
    found: dict[tuple[Symptom, int], list[Observed]] = defaultdict(list)
    wanted: Counter[int] = Counter()
    lost: list[Observed] = []
    for one, need in zip(group, needs, strict=True):
        stripped = _stripped(one)
        if need is None:
            if one.billed is not None and not plausible(one.billed):
                lost.append(one)
            continue
        if not need.trunk:
            wanted[need.strip] += 1
        if stripped is not None and (symptom := _symptom(one, need, stripped)):
            found[symptom, need.strip].append(one)
    findings = [
        _finding(symptom, group, calls, _fix(symptom, group[0], strip), strip)
        for (symptom, strip), calls in found.items()
        if len(calls) >= CALLS_MIN or symptom is Symptom.UNDER_STRIPPED
    ]
    lengths = [strip for strip, calls in wanted.items() if calls >= max(CALLS_MIN, MIXED_SHARE * len(group))]
    if len(lengths) > 1 and any(finding.symptom in _LENGTHS for finding in findings):
        findings = [finding for finding in findings if finding.symptom not in _LENGTHS]
        wrong = [one for (symptom, _), calls in found.items() if symptom in _LENGTHS for one in calls]
        words = ", ".join(map(str, sorted(lengths)))
        fix = f"numbers need {words} digits stripped: use strip rules by prefix, or one length per sender"
        findings.append(_finding(Symptom.MIXED_PREFIXES, group, wrong, fix, None))
    if len(lost) >= max(UNRATED_MIN, IMPLAUSIBLE_SHARE * len(group)):
        fix = "look at the examples: no country has such numbers, whatever is stripped"
        findings.append(_finding(Symptom.IMPLAUSIBLE_NUMBER, group, lost, fix, None))
    return findings


_LENGTHS = (Symptom.NOT_STRIPPED, Symptom.OVER_STRIPPED, Symptom.PARTIAL_STRIP)


def _symptom(one: Observed, need: _Need, stripped: int) -> Symptom | None:
    if need.trunk:
        # One digit off and nothing added: a national number that is read as a country's.
        return Symptom.TRUNK_WITHOUT_COUNTRY_CODE if stripped <= 1 else Symptom.OVER_STRIPPED
    if stripped > need.strip:
        return Symptom.OVER_STRIPPED
    if stripped == need.strip:
        return None
    if one.side is ChargeSide.BUY and one.other is not None:
        return Symptom.UNDER_STRIPPED
    return Symptom.PARTIAL_STRIP if stripped else Symptom.NOT_STRIPPED


def _needs(group: Sequence[Observed], plausible: Plausible) -> list[_Need | None]:
    needs = [_need(one, plausible) for one in group]
    odd = [one.number for one, need in zip(group, needs, strict=True) if need is None]
    prefix = _common_prefix(odd, plausible)
    return [
        _Need(strip=len(prefix), digits=prefix)
        if need is None and prefix and one.number.startswith(prefix) and plausible(one.number[len(prefix) :])
        else need
        for one, need in zip(group, needs, strict=True)
    ]


def _need(one: Observed, plausible: Plausible) -> _Need | None:
    number, other = one.number, one.other
    if other and plausible(other) and number.endswith(other):
        return _Need(strip=len(number) - len(other), digits=number[: len(number) - len(other)])
    mark = max(number.rfind("#"), number.rfind("*")) + 1
    if mark:
        return _Need(strip=mark, digits=number[:mark]) if plausible(number[mark:]) else None
    for prefix in ("00", "011"):
        if number.startswith(prefix) and plausible(number[len(prefix) :]):
            return _Need(strip=len(prefix), digits=prefix)
    if number.startswith("0") and not number.startswith("00"):
        return _Need(strip=1, digits="0", trunk=True)
    return _Need(strip=0, digits="") if plausible(number) else None


def _common_prefix(numbers: Sequence[str], plausible: Plausible) -> str:
    """The digits in front of most of `numbers` that, taken away, leave plausible numbers; the shortest
    such.
    """
    counts: Counter[str] = Counter(
        number[:length]
        for number in numbers
        for length in range(1, PREFIX_MAX + 1)
        if plausible(number[length:])
    )
    common = [
        prefix for prefix, calls in counts.items() if calls >= max(CALLS_MIN, COMMON_SHARE * len(numbers))
    ]
    return min(common, key=lambda prefix: (-counts[prefix], len(prefix)), default="")


def _stripped(one: Observed) -> int | None:
    """How many digits were; None where that cannot be seen. A `#` or `*` left in front gives nothing to
    bill.
    """
    if one.billed is None and ("#" in one.number or "*" in one.number):
        return 0
    if one.billed is None or not one.number.endswith(one.billed):
        return None
    return len(one.number) - len(one.billed)


def _unrated(group: Sequence[Observed], plausible: Plausible, area: Callable[[str], str]) -> list[Finding]:
    places: dict[str, list[Observed]] = defaultdict(list)
    for one in group:
        if one.status is RatingStatus.NO_RATE and one.billed is not None and plausible(one.billed):
            places[area(one.billed)].append(one)
    return [
        _finding(Symptom.UNRATED_DESTINATION, group, calls, f"add rates for {place} to the deck", None)
        for place, calls in places.items()
        if len(calls) >= UNRATED_MIN
    ]


def _finding(
    symptom: Symptom, group: Sequence[Observed], calls: Sequence[Observed], fix: str, strip: int | None
) -> Finding:
    return Finding(
        symptom=symptom,
        side=group[0].side,
        party=group[0].party,
        rule=group[0].rule,
        calls=len(calls),
        of=len(group),
        examples=tuple((one.number, one.billed) for one in calls[:EXAMPLES_MAX]),
        fix=fix,
        strip=strip,
    )


def _fix(symptom: Symptom, one: Observed, strip: int) -> str:
    if symptom is Symptom.TRUNK_WITHOUT_COUNTRY_CODE:
        return "use a strip rule with prefix 0, strip 1 and the country code to add"
    if one.side is ChargeSide.BUY:
        return f"set the strip length of gateway {one.party} to {strip}"
    if one.rule == "global":
        return f"set SERVER_BILLING_GATEWAY_ROUTE_PREFIX to {strip}, or a strip length for {one.party}"
    return f"set the strip length of {one.rule} {one.party} to {strip}"
