"""Numbers that cannot exist, and places that the deck does not price, or not by their own row.

These are about calls and not about a setting, so FLOOR different numbers are asked of numbers, but of a place
PLACE_CALLS_MIN calls to PLACE_NUMBERS_MIN numbers, more than half of all to that place: one missing row costs
the operator each of them, and what one caller dials again and again is no reason to buy a rate.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from uuid import UUID

from sidecar.core.doctor.cohorts import FLOOR, sampled
from sidecar.core.doctor.observe import RULE, Observed
from sidecar.core.doctor.strips import Sender, finding
from sidecar.core.doctor.vocabulary import Finding, Fix, NumberingPlan, Standing, Symptom
from sidecar.core.terms import ChargeSide

IMPLAUSIBLE_SHARE = 0.1  # of a sender's numbers; of real traffic 1 to 5 % is misdialled
PLACE_CALLS_MIN = 20
PLACE_NUMBERS_MIN = 5
UNRATED_SHARE = 0.5
UNRATED_CALLS_SHARE = 0.05  # over all places together
AREAS_SHOWN = 5
REVISION_SHOWN = 12


def implausible_numbers(
    sender: Sender, explained: Collection[tuple[UUID, ChargeSide]], plan: NumberingPlan
) -> list[Finding]:
    """Numbers of one sender that no country has, whatever is stripped."""
    sample = sampled(sender.calls)
    bad = {
        one.number
        for one in sample
        if (one.call_id, one.side) not in explained and one.billed and not plan.standing(one.billed)
    }
    if len(bad) < max(FLOOR, IMPLAUSIBLE_SHARE * len(sample)):
        return []
    calls = [one for one in sender.calls if one.number in bad]
    unassigned = sum(not plan.country_code(one.billed or "") for one in calls)
    text = (
        f"billed numbers that cannot exist: {unassigned} calls begin with no assigned country code, "
        f"{len(calls) - unassigned} have a length that their country does not have"
    )
    begin = _common_beginning(calls)
    if begin:
        text += f"; all begin with {begin}"
    fix = Fix(
        text=f"ask {sender.subject} in which format it sends numbers: no strip length makes these right"
    )
    return [finding(Symptom.IMPLAUSIBLE_NUMBERS, sender, calls, text, [fix])]


def unrated_destinations(
    observed: Iterable[Observed], explained: Collection[tuple[UUID, ChargeSide]], plan: NumberingPlan
) -> list[Finding]:
    """Places to which most calls found no rate, by deck."""
    places: dict[tuple[ChargeSide, str, str], list[Observed]] = defaultdict(list)
    for one in observed:
        if _is_sound(one, explained, plan):
            places[one.side, one.deck_revision or "", plan.area(one.billed or "")].append(one)
    found = []
    for (side, revision, area), calls in sorted(places.items()):
        unrated = [one for one in calls if one.prefix is None and not one.free]
        if len(unrated) <= UNRATED_SHARE * len(calls) or not _is_many(unrated):
            continue
        begin = _common_beginning(unrated)
        deck = f"deck {revision[:REVISION_SHOWN]}" if revision else "no deck"
        beginning = f": all unrated numbers begin with {begin}" if begin else ""
        text = f"no rate for {area or 'these numbers'}{beginning}"
        fix = Fix(text=f"add rates for {area} to the {side} deck of these calls ({deck})")
        if not revision:
            fix = Fix(text=f"these calls have no {side} deck: name one for their account, or as billing.deck")
        found.append(_place(Symptom.UNRATED_DESTINATION, side, unrated, calls, text, fix, deck))
    return found


def unrated_calls(
    observed: Iterable[Observed],
    explained: Collection[tuple[UUID, ChargeSide]],
    told: Iterable[Finding],
    plan: NumberingPlan,
) -> list[Finding]:
    """Calls without a rate, by deck, over all places: many places with a few calls each are as many calls.
    Not where the places alone (`told`) say nearly all of it."""
    decks: dict[tuple[ChargeSide, str], list[Observed]] = defaultdict(list)
    for one in observed:
        if (
            one.billed
            and (one.call_id, one.side) not in explained
            and plan.standing(one.billed) is not Standing.NONE
        ):
            decks[one.side, one.deck_revision or ""].append(one)
    known: dict[tuple[ChargeSide, str], int] = defaultdict(int)
    for finding_told in told:
        known[finding_told.side, finding_told.subject] += finding_told.calls
    found = []
    for (side, revision), calls in sorted(decks.items()):
        unrated = [one for one in calls if one.prefix is None and not one.free]
        deck = f"deck {revision[:REVISION_SHOWN]}" if revision else "no deck"
        rest = len(unrated) - known[side, f"{side} {deck}"]
        if len({one.number for one in unrated}) < FLOOR or rest < max(
            FLOOR, UNRATED_CALLS_SHARE * len(calls)
        ):
            continue
        areas = Counter(plan.area(one.billed or "") or "no country" for one in unrated)
        shown = ", ".join(f"{area}: {count}" for area, count in areas.most_common(AREAS_SHOWN))
        more = f", and {len(areas) - AREAS_SHOWN} more" if len(areas) > AREAS_SHOWN else ""
        text = f"no rate for {len(unrated)} of {len(calls)} calls, to {len(areas)} places ({shown}{more})"
        fix = Fix(
            text=f"complete the {side} deck of these calls ({deck}), or look which list was put in force"
        )
        if not revision:
            fix = Fix(text=f"these calls have no {side} deck: name one for their account, or as billing.deck")
        found.append(_place(Symptom.UNRATED_CALLS, side, unrated, calls, text, fix, deck))
    return found


def carried_unrated(
    observed: Iterable[Observed], told: Iterable[Finding], plan: NumberingPlan
) -> list[Finding]:
    """Calls that were answered and have no price, by deck: of these one is enough, whatever its number. Not
    of whom, or of which deck, it is said already (`told`) what is wrong with their numbers or rates."""
    known = {(one.side, one.subject) for one in told}
    decks: dict[tuple[ChargeSide, str], list[Observed]] = defaultdict(list)
    for one in observed:
        decks[one.side, one.deck_revision or ""].append(one)
    found = []
    for (side, revision), calls in sorted(decks.items()):
        deck = f"deck {revision[:REVISION_SHOWN]}" if revision else "no deck"
        if (side, f"{side} {deck}") in known:
            continue
        unrated = [
            one
            for one in calls
            if one.carried_unrated and known.isdisjoint((side, subject) for subject in _subjects(one))
        ]
        if not unrated:
            continue
        numbers = sorted({one.billed or one.number for one in unrated})
        areas = Counter(plan.area(number) or "no country" for number in numbers)
        shown = ", ".join(area for area, _ in areas.most_common(AREAS_SHOWN))
        money = "nothing was charged" if side is ChargeSide.SELL else "what they cost is not known"
        text = f"{len(unrated)} calls were answered and have no rate ({shown}): {money}"
        fix = Fix(
            text=f"add the rates to the {side} deck of these calls ({deck}), then `sidecar rerate` them"
            if revision
            else f"name a {side} deck for these calls, then `sidecar rerate` them"
        )
        found.append(_place(Symptom.CARRIED_UNRATED, side, unrated, calls, text, fix, deck))
    return found


def _subjects(one: Observed) -> tuple[str, ...]:
    sender = f"{'peer' if one.side is ChargeSide.SELL else 'gateway'} {one.sender}"
    return sender, f"account {one.account}", f"rule {one.rule.removeprefix(RULE)}"


def implausible_rates(
    observed: Iterable[Observed], explained: Collection[tuple[UUID, ChargeSide]], plan: NumberingPlan
) -> list[Finding]:
    """Prefixes that price numbers by less than their country code: `2` for all that begins with 2. The
    default row, which a deck must ask for by name, is meant so."""
    rows: dict[tuple[ChargeSide, str, str], list[Observed]] = defaultdict(list)
    for one in observed:
        if one.prefix and _is_sound(one, explained, plan):
            rows[one.side, one.deck_revision or "", one.prefix].append(one)
    found = []
    for (side, revision, prefix), calls in sorted(rows.items()):
        short = [one for one in calls if len(prefix) < len(plan.country_code(one.billed or ""))]
        if not _is_many(short) or len(short) <= UNRATED_SHARE * len(calls):
            continue
        codes = sorted({plan.country_code(one.billed or "") for one in short})
        deck = f"deck {revision[:REVISION_SHOWN]}"
        text = f"prefix {prefix} is shorter than the country code ({', '.join(codes[:10])}) of what it prices"
        fix = Fix(
            text=f"add rows for {', '.join(codes[:10])} to the {side} deck, or take out prefix {prefix}"
        )
        found.append(_place(Symptom.IMPLAUSIBLE_RATE, side, short, calls, text, fix, deck))
    return found


def _common_beginning(calls: Sequence[Observed]) -> str:
    first, last = min(one.billed or "" for one in calls), max(one.billed or "" for one in calls)
    length = next(
        (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last))
    )
    return first[:length]


def _is_sound(one: Observed, explained: Collection[tuple[UUID, ChargeSide]], plan: NumberingPlan) -> bool:
    """A number that may well exist, and that no finding says was stripped wrongly."""
    return (
        (one.call_id, one.side) not in explained
        and bool(one.billed)
        and plan.standing(one.billed or "") is Standing.VALID
    )


def _is_many(calls: Sequence[Observed]) -> bool:
    return len(calls) >= PLACE_CALLS_MIN and len({one.number for one in calls}) >= PLACE_NUMBERS_MIN


def _place(
    symptom: Symptom,
    side: ChargeSide,
    calls: Sequence[Observed],
    of: Sequence[Observed],
    text: str,
    fix: Fix,
    deck: str,
) -> Finding:
    sender = Sender(side=side, kind="deck", name=deck, calls=tuple(of))
    return finding(symptom, sender, calls, text, [fix], subject=f"{side} {deck}")
