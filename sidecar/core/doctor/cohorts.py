"""The numbers of one sender, by the digits that stand in front of them, and what those digits want.

    0044 20 7946 0958       00      an access code: 2 off 011 44 20 7946 0958     011     an access code: 3
    off 77#44 20 7946 0958      77#     a technical prefix, which ends in # or *: 3 off 9955 44 20 7946 0958
    9955    digits that many of the sender's numbers share, and that leave valid numbers 020 7946 0958
    0       a national trunk prefix: 1 off, and the country code (44) in its place 44 20 7946 0958
    E.164 as it stands: nothing off

What must be found and how surely. Of made numbers of eleven countries 90 % are in ranges that are given out;
without their first digit 20 %, without two 8 %, without three 2 % (asserted in tests/core/test_doctor.py).
RIGHT_SHARE and WRONG_SHARE lie well between. By a chance of one in five each, 14 of 20 different numbers
(RIGHT_SHARE of FLOOR) come about with a probability of 2e-6, if they were independent; they are not (a
sender's calls go to few countries), which is why nothing is concluded from one share alone: see `strips`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec

from sidecar.core.doctor.observe import Observed
from sidecar.core.doctor.vocabulary import NumberingPlan, Standing

FLOOR = 20  # different numbers; calls do not count, as one caller who dials wrong may dial often
RIGHT_SHARE = 0.7
WRONG_SHARE = 0.35
POSSIBLE_SHARE = 0.9
COHORT_SHARE = 0.05  # of a sender's numbers: what is rarer is misdialled, not a habit
SAMPLE_MAX = 1_000  # numbers of one sender that are judged; ±3 % is all that a share needs
LEARNED_DIGITS_MAX = 11  # an outside line, NANP's carrier code 101XXXX, and 011 behind it
LEARNED_MAX = 6  # prefixes of one sender
CODES_MAX = 3  # country codes that are tried behind a trunk prefix

ACCESS_CODES = ("00", "011")


class Kind(StrEnum):
    PLAIN = "plain"
    ACCESS = "access"
    TECHNICAL = "technical"  # ends in # or *, or was learned
    TRUNK = "trunk"


class Cohort(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers that begin with `digits`. They want `strip` off and `add` in front; of a TRUNK without `add`
    the country is not known."""

    kind: Kind
    digits: str = ""
    strip: int = 0
    add: str = ""

    def should_be(self, number: str) -> str:
        return self.add + number[self.strip :]

    def leaves_a_code(self, strip: int) -> bool:
        """Whether a whole access code is left in front when so many digits are off: of `77#00` by 3."""
        return self.digits[strip:] in ACCESS_CODES


def sampled(observed: Iterable[Observed]) -> list[Observed]:
    """At most SAMPLE_MAX of different numbers, evenly over the sorted numbers; the latest call of each."""
    by_number = {one.number: one for one in sorted(observed, key=lambda one: (one.at, one.call_id))}
    numbers = sorted(by_number)
    step = max(1, -(-len(numbers) // SAMPLE_MAX))
    return [by_number[number] for number in numbers[::step]]


def cohorts(sample: Sequence[Observed], plan: NumberingPlan) -> list[Cohort]:
    """What the numbers of one sender want, for each beginning that enough of them share; the longest
    beginning first, so that the first that fits a number is its own."""
    least = max(FLOOR, COHORT_SHARE * len(sample))
    readings = [(one, _reading(one.number, plan)) for one in sample]
    found = Counter(
        reading for _, reading in readings if reading is not None and reading.kind is not Kind.TRUNK
    )
    trunk = [one for one, reading in readings if reading is not None and reading.kind is Kind.TRUNK]
    odd = [one.number for one, reading in readings if reading is None]
    kept = [cohort for cohort, numbers in found.items() if numbers >= least]
    if len(trunk) >= least:
        national = _national(trunk, plan)
        if national is None:
            odd += [one.number for one in trunk]
        else:
            kept.append(national)
    kept += _learned(odd, least, plan)
    return sorted(kept, key=lambda cohort: (-len(cohort.digits), cohort.digits))


def cohort_of(number: str, known: Sequence[Cohort]) -> Cohort | None:
    """`known` as `cohorts` gives them."""
    for cohort in known:
        if number.startswith(cohort.digits) and (cohort.digits or not number.startswith(("0", "#", "*"))):
            return cohort
    return None


def _reading(number: str, plan: NumberingPlan) -> Cohort | None:
    """What one number wants by itself; None: nothing that it says clearly."""
    mark = max(number.rfind("#"), number.rfind("*")) + 1
    rest = number[mark:]
    for code in ACCESS_CODES:
        if rest.startswith(code) and plan.standing(rest[len(code) :]):
            kind = Kind.TECHNICAL if mark else Kind.ACCESS
            return Cohort(kind=kind, digits=number[: mark + len(code)], strip=mark + len(code))
    if mark:
        technical = Cohort(kind=Kind.TECHNICAL, digits=number[:mark], strip=mark)
        return technical if plan.standing(rest) else None
    if number.startswith("0"):
        return None if number.startswith("00") else Cohort(kind=Kind.TRUNK, digits="0", strip=1)
    # Possible alone says little: half of all numbers with a digit too many or too few are.
    return Cohort(kind=Kind.PLAIN) if plan.standing(number) is Standing.VALID else None


def _national(trunk: Sequence[Observed], plan: NumberingPlan) -> Cohort | None:
    """What a single 0 in front means: an outside line, if E.164 follows; else the trunk prefix of the country
    from which the callers call, if its numbers follow; else of one that we cannot name, unless many of the
    numbers are E.164 after all, or may be those of one small country."""
    outside = _valid_share([one.number[1:] for one in trunk], plan)
    if outside >= RIGHT_SHARE:
        return Cohort(kind=Kind.TECHNICAL, digits="0", strip=1)
    codes = Counter(code for one in trunk if one.caller and (code := plan.country_code(one.caller)))
    for code, _ in codes.most_common(CODES_MAX):
        # Italy and a few others have no trunk prefix: their 0 belongs to the number, abroad as well.
        for strip in (1, 0):
            numbers = [code + one.number[strip:] for one in trunk]
            possible = sum(bool(plan.standing(number)) for number in numbers)
            # Its ranges need not be all known to us: that its numbers may be so long says something, too.
            if (
                possible >= POSSIBLE_SHARE * len(numbers)
                and _valid_share(numbers, plan) >= outside + WRONG_SHARE
            ):
                return Cohort(kind=Kind.TRUNK, digits="0", strip=strip, add=code)
    if _learned([one.number for one in trunk], RIGHT_SHARE * len(trunk), plan):
        return None  # 010 and 0011 are access codes, too, where they are
    if outside > WRONG_SHARE or _small_country([one.number[1:] for one in trunk], plan):
        return None
    return Cohort(kind=Kind.TRUNK, digits="0", strip=1)


def _small_country(numbers: Sequence[str], plan: NumberingPlan) -> bool:
    """Whether nearly all begin with the same code of three digits and may be so long there: an outside line
    and an island whose ranges we do not know, rather than one city of a country that we do not know."""
    codes = Counter(plan.country_code(number) for number in numbers if plan.standing(number))
    return any(len(code) == 3 and count >= POSSIBLE_SHARE * len(numbers) for code, count in codes.items())


def _valid_share(numbers: Sequence[str], plan: NumberingPlan) -> float:
    return sum(plan.standing(number) is Standing.VALID for number in numbers) / len(numbers)


def _learned(odd: Sequence[str], least: float, plan: NumberingPlan) -> list[Cohort]:
    """Digits in front of at least `least` of the numbers, that leave valid numbers when they are taken off;
    the ones that explain the most first."""
    found: list[Cohort] = []
    left = [number for number in odd if number.isdigit() and number.isascii()]
    while len(left) >= least and len(found) < LEARNED_MAX:
        begins: Counter[str] = Counter()
        valid: Counter[str] = Counter()
        for number in left:
            for length in range(1, min(LEARNED_DIGITS_MAX, len(number) - 1) + 1):
                begins[number[:length]] += 1
                if plan.standing(number[length:]) is Standing.VALID:
                    valid[number[:length]] += 1
        good = [
            digits
            for digits, numbers in valid.items()
            if numbers >= least and numbers >= RIGHT_SHARE * begins[digits]
        ]
        if not good:
            break
        # Of two that explain as many the shorter: behind 9955 the 44 of one country may be common, too.
        best = min(good, key=lambda digits: (-valid[digits], len(digits), digits))
        found.append(Cohort(kind=Kind.TECHNICAL, digits=best, strip=len(best)))
        left = [number for number in left if not number.startswith(best)]
    return found
