"""What was stripped, against what should have been.

A part of a sender's numbers (same digits in front, same number of digits stripped) is called wrong when,
number by number, the digits that were billed read worse as E.164 than those that ought to have been: for at
least RIGHT_SHARE of FLOOR different numbers, and the other way round for hardly any (WORSE_SHARE). Comparing
each number with itself is what makes the few destinations of one sender no matter: a country whose ranges our
tables do not know makes both readings worse.

Where both read equally well the code in front decides: 00 and 011 are international access codes (ITU-T
E.123, NANP), so 0044 161 496 0000 with three digits stripped, 41 61 496 0000, is Manchester billed as Basel.

One symptom needs no statistics. The two sides of one call bill the same callee: if the one number is the
other with digits in front, and reads as no number while the other does, those digits are the gateway's
prefix, left on (`contradictions`)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

import msgspec

from sidecar.core.doctor.cohorts import FLOOR, RIGHT_SHARE, Cohort, Kind, cohort_of, cohorts, sampled
from sidecar.core.doctor.effects import Book, effect
from sidecar.core.doctor.observe import RULE, UNSTRIPPED, Observed
from sidecar.core.doctor.vocabulary import Example, Finding, Fix, NumberingPlan, Standing, Symptom
from sidecar.core.numbers import E164
from sidecar.core.terms import ChargeSide

WORSE_SHARE = 0.1
# Before a number that is possible as it was billed counts as wrong without an access code to show it: the
# numbers of one island may look by chance as if they were India's with a digit more, those of four countries
# do not.
COUNTRIES_MIN = 4
EXAMPLES_MAX = 5
ACCOUNTS_MAX = 20  # that one finding may give a length of their own


class Sender(msgspec.Struct, frozen=True, kw_only=True):
    """All charges whose strip length is one setting. `kind`: account, peer, global, rule, gateway or e164."""

    side: ChargeSide
    kind: str
    name: str
    calls: tuple[Observed, ...]
    alone: bool = False  # of those that the global length holds for

    @property
    def subject(self) -> str:
        match self.kind:
            case "account" | "rule" | "gateway":
                return f"{self.kind} {self.name}"
            case _:
                return f"peer {self.name}" if self.side is ChargeSide.SELL else f"gateway {self.name}"

    @property
    def setting(self) -> str:
        match self.kind:
            case "account":
                return f"accounts.{self.name}.strip_digits"
            case "gateway":
                return f"gateways.{self.name}.strip_digits"
            case "rule":
                return f"strip_rules.{self.name}.strip"
            case "global" if self.alone:
                return "billing.strip_digits"
            case _:
                return f"peers.{self.name}.strip_digits"


class Wrong(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of a cohort of which `strip` digits were stripped."""

    cohort: Cohort
    strip: int | None
    symptom: Symptom
    calls: tuple[Observed, ...]


def senders(observed: Iterable[Observed]) -> list[Sender]:
    groups: dict[tuple[ChargeSide, str, str], list[Observed]] = defaultdict(list)
    for one in observed:
        groups[(one.side, *_setting_of(one))].append(one)
    globals_ = sum(kind == "global" for _, kind, _ in groups)
    return [
        Sender(side=side, kind=kind, name=name, calls=tuple(calls), alone=kind == "global" and globals_ == 1)
        for (side, kind, name), calls in sorted(groups.items())
    ]


def _setting_of(one: Observed) -> tuple[str, str]:
    if one.rule in UNSTRIPPED:
        return E164, one.sender
    if one.side is ChargeSide.BUY:
        return "gateway", one.sender
    if one.rule.startswith(RULE):
        return "rule", one.rule.removeprefix(RULE)
    if one.rule == "account":
        return "account", one.account
    return ("peer" if one.rule == "peer" else "global"), one.sender


def strip_findings(sender: Sender, plan: NumberingPlan, book: Book) -> tuple[list[Finding], list[Observed]]:
    """The findings on one sender's strip length, and the calls whose odd numbers are explained: those of the
    findings, and those that the deck is keyed for."""
    if sender.kind == E164:
        return [], []  # a number with + loses nothing else
    known = cohorts(sampled(sender.calls), plan)
    wrong = _wrong_parts(sender, known, plan)
    lengths = {cohort.strip for cohort in known if cohort.kind is not Kind.TRUNK}
    merged = [one for one in wrong if one.symptom is not Symptom.TRUNK_WITHOUT_COUNTRY_CODE]
    findings = []
    if merged and (len(lengths) > 1 or (lengths and any(one.cohort.kind is Kind.TRUNK for one in merged))):
        findings.append(_mixed(sender, known, merged, book))
        rest = [one for one in wrong if one not in merged]
    else:
        rest = wrong
    findings += [found for one in rest if not _leads_nowhere(found := _single(sender, one, book))]
    return findings, [*_keyed(sender, known), *(one for part in wrong for one in part.calls)]


def _leads_nowhere(found: Finding) -> bool:
    """A country code that leaves every call without a rate, where the calls have one now: the deck sells the
    country that the numbers lead to as they are, and not the one that they would lead to."""
    effect = found.effect
    trunk = found.symptom is Symptom.TRUNK_WITHOUT_COUNTRY_CODE
    return trunk and effect is not None and effect.rated_after == 0 < effect.rated_before


def contradictions(sender: Sender, plan: NumberingPlan, book: Book) -> tuple[list[Finding], list[Observed]]:
    """Digits left on the number that a gateway is paid for, proved by the number that was sold in the same
    call. One call is enough: nothing is estimated, the record contradicts itself."""
    if sender.kind != "gateway":
        return [], []
    proved: dict[str, list[Observed]] = defaultdict(list)
    for one in sender.calls:
        if one.other and (digits := _left_on(one, one.other, plan)):
            proved[digits].append(one)
    findings, explained = [], []
    for digits, calls in sorted(proved.items()):
        cohort = Cohort(kind=Kind.TECHNICAL, digits=digits, strip=len(digits))
        strip = Counter(one.stripped for one in calls).most_common(1)[0][0]
        found = Wrong(cohort=cohort, strip=strip, symptom=Symptom.UNDER_STRIPPED, calls=tuple(calls))
        explained += calls
        findings.append(_single(sender, found, book, only_these=len(proved) > 1))
    return findings, explained


def _left_on(one: Observed, other: str, plan: NumberingPlan) -> str:
    extra = len(one.number) - len(other)
    stripped = one.stripped or 0
    if extra <= stripped or not one.number.endswith(other) or one.is_keyed(extra):
        return ""
    sold, bought = plan.standing(other), plan.standing(one.billed or "")
    return one.number[:extra] if sold and not bought else ""


def _keyed(sender: Sender, known: Sequence[Cohort]) -> list[Observed]:
    return [
        one
        for one in sender.calls
        if (cohort := cohort_of(one.number, known)) is not None and one.is_keyed(cohort.strip)
    ]


def _wrong_parts(sender: Sender, known: Sequence[Cohort], plan: NumberingPlan) -> list[Wrong]:
    parts: dict[tuple[Cohort, int | None], list[Observed]] = defaultdict(list)
    for one in sender.calls:
        cohort = cohort_of(one.number, known)
        if cohort is not None and not one.is_keyed(cohort.strip):
            parts[cohort, one.stripped].append(one)
    found = []
    for (cohort, strip), calls in parts.items():
        sample = sampled(calls)
        if len(sample) >= FLOOR and _reads_worse(sample, cohort, strip, plan):
            symptom = _symptom(sender, cohort, strip, sample)
            found.append(Wrong(cohort=cohort, strip=strip, symptom=symptom, calls=tuple(calls)))
    return sorted(found, key=lambda one: -len(one.calls))


def _reads_worse(sample: Sequence[Observed], cohort: Cohort, strip: int | None, plan: NumberingPlan) -> bool:
    better = worse = 0
    doubtful: Counter[str] = Counter()  # by country: valid as meant, and possible as billed
    is_code = cohort.kind in (Kind.ACCESS, Kind.TRUNK) or cohort.digits.endswith(("#", "*"))
    for one in sample:
        billed = plan.standing(one.billed or "")
        if cohort.kind is Kind.TRUNK and not cohort.add:
            better += billed is not Standing.VALID  # of which country we cannot say, but of none as it is
            continue
        should_be = cohort.should_be(one.number)
        meant = plan.standing(should_be)
        if should_be == one.billed:
            continue
        if meant > billed > Standing.NONE and not is_code:
            doubtful[plan.country_code(should_be)] += 1
        else:
            better += meant > billed or bool(meant == billed and meant and is_code and strip is not None)
        worse += meant < billed
    if len(doubtful) >= COUNTRIES_MIN:
        better += doubtful.total()
    return better >= RIGHT_SHARE * len(sample) and worse <= WORSE_SHARE * len(sample)


def _symptom(sender: Sender, cohort: Cohort, strip: int | None, sample: Sequence[Observed]) -> Symptom:
    if strip is None:  # nothing was billed, or a code was added: the lengths tell
        one = sample[0]
        longer = len(one.billed or one.number) - len(cohort.should_be(one.number))
        strip = 0 if one.billed is None else cohort.strip - longer
    if cohort.kind is Kind.TRUNK and strip <= 1:
        return Symptom.TRUNK_WITHOUT_COUNTRY_CODE
    if strip > cohort.strip:
        return Symptom.OVER_STRIPPED
    if sender.side is ChargeSide.BUY:
        return Symptom.UNDER_STRIPPED
    if strip <= 0:
        return Symptom.NOT_STRIPPED
    return Symptom.UNDER_STRIPPED if cohort.leaves_a_code(strip) else Symptom.PARTIAL_STRIP


# --- what is said of it -------------------------------------------------------------------------------------


def _single(sender: Sender, wrong: Wrong, book: Book, *, only_these: bool = False) -> Finding:
    cohort = wrong.cohort
    rewritten: Callable[[Observed], str | None]
    if cohort.kind is Kind.TRUNK:
        fixes = [_trunk_fix(cohort, sender)]
        rewritten = lambda one: _by_cohort(one, (cohort,)) if cohort.add else one.billed  # noqa: E731
    else:
        fixes = [_length_fix(sender, cohort.strip)]
        rewritten = lambda one: one.number[cohort.strip :] or None  # noqa: E731
    concerned = wrong.calls if only_these else sender.calls
    return finding(
        wrong.symptom,
        sender,
        wrong.calls,
        _text(wrong),
        fixes,
        should_be=cohort.should_be if cohort.kind is not Kind.TRUNK or cohort.add else None,
        digits=cohort.digits,
        strip=wrong.strip,
        should_strip=cohort.strip,
        effect=effect(concerned, rewritten, book),
    )


def _mixed(sender: Sender, known: Sequence[Cohort], wrong: Sequence[Wrong], book: Book) -> Finding:
    calls = [one for part in wrong for one in part.calls]
    words = "; ".join(f"{_front(cohort)} want {_wanted(cohort)}" for cohort in known)
    return finding(
        Symptom.MIXED_PREFIXES,
        sender,
        calls,
        f"numbers of different make share one strip length: {words}",
        _account_fixes(sender, known) or _mixed_fixes(sender, known),
        should_be=lambda number: (cohort_of(number, known) or Cohort(kind=Kind.PLAIN)).should_be(number),
        effect=effect(sender.calls, lambda one: _by_cohort(one, known), book),
    )


def finding(
    symptom: Symptom,
    sender: Sender,
    calls: Sequence[Observed],
    text: str,
    fixes: Sequence[Fix],
    *,
    should_be: Callable[[str], str] | None = None,
    subject: str = "",
    of: int = 0,
    **more: object,
) -> Finding:
    latest = sampled(calls)
    shown = latest[:: max(1, len(latest) // EXAMPLES_MAX)][:EXAMPLES_MAX]
    return Finding(
        symptom=symptom,
        side=sender.side,
        subject=subject or sender.subject,
        text=text,
        calls=len(calls),
        of=of or len(sender.calls),
        numbers=len({one.number for one in calls}),
        first_at=min(one.at for one in calls),
        last_at=max(one.at for one in calls),
        examples=tuple(
            Example(
                call_id=one.call_id,
                number=one.number,
                billed=one.billed,
                prefix=one.prefix,
                should_be=should_be(one.number) if should_be else None,
            )
            for one in shown
        ),
        fixes=tuple(fixes),
        **more,  # type: ignore[arg-type]
    )


def _text(wrong: Wrong) -> str:
    cohort, strip = wrong.cohort, wrong.strip
    were = "and nothing was left to bill" if strip is None else f"{strip} were"
    if cohort.kind is Kind.TRUNK:
        return (
            f"{_front(cohort)} are national: without a country code in place of the trunk prefix they are "
            f"read as numbers of another country, or as none"
        )
    if wrong.symptom is Symptom.OVER_STRIPPED:
        return f"{_front(cohort)} want {_wanted(cohort)}, {were}: digits of the number itself are gone"
    left = "digits that are not the number's own were left on it"
    return f"{_front(cohort)} want {_wanted(cohort)}, {were}: {left}"


def _front(cohort: Cohort) -> str:
    return f"numbers that begin with {cohort.digits}" if cohort.digits else "numbers in E.164"


def _wanted(cohort: Cohort) -> str:
    return f"{cohort.strip} stripped and {cohort.add} added" if cohort.add else f"{cohort.strip} stripped"


def _length_fix(sender: Sender, strip: int) -> Fix:
    text = f"set {sender.setting} to {strip}"
    if sender.setting == "billing.strip_digits":
        text += " (SERVER_BILLING_GATEWAY_ROUTE_PREFIX)"
    return Fix(text=text, setting=sender.setting, value=str(strip))


def _rule_fix(cohort: Cohort, name: str) -> Fix:
    code = cohort.add or ("" if cohort.kind is not Kind.TRUNK else "CC")
    added = f', add = "{code}"' if code else ""
    value = f'name = "{name}", prefix = "{cohort.digits}", strip = {cohort.strip}{added}'
    unknown = ", with your country code for CC" if code == "CC" else ""
    return Fix(text=f"a strip rule: {value}{unknown}", setting="[[strip_rules]]", value=value)


def _trunk_fix(cohort: Cohort, sender: Sender) -> Fix:
    if sender.kind == "rule":
        code = cohort.add or "CC"
        unknown = "" if cohort.add else ", with your country code for CC"
        text = f'strip_rules.{sender.name}: strip = 1, add = "{code}"{unknown}'
        return Fix(text=text, setting=f"strip_rules.{sender.name}.add", value=code)
    if sender.side is ChargeSide.BUY:
        return Fix(
            text=f"send {sender.name} international numbers: a gateway's strip length adds no country code"
        )
    return _rule_fix(cohort, "trunk")


def _mixed_fixes(sender: Sender, known: Sequence[Cohort]) -> list[Fix]:
    if sender.side is ChargeSide.BUY:
        lengths = ", ".join(f"{cohort.digits or 'E.164'}: {cohort.strip}" for cohort in known)
        text = (
            f"a gateway has one strip length: route each kind of number to a gateway entry of its own, "
            f"with its own strip_digits ({lengths})"
        )
        return [Fix(text=text)]
    rules = [_rule_fix(cohort, _rule_name(cohort)) for cohort in known if cohort.digits]
    return rules + [_length_fix(sender, 0) for cohort in known if not cohort.digits]


def _rule_name(cohort: Cohort) -> str:
    digits = "".join(c if c.isdigit() else "x" for c in cohort.digits)
    return "trunk" if cohort.kind is Kind.TRUNK else f"begins-{digits}"


def _account_fixes(sender: Sender, known: Sequence[Cohort]) -> list[Fix]:
    """A length per account, where each account dials in one way and the cohorts share none."""
    if sender.kind not in ("peer", "global") or any(cohort.kind is Kind.TRUNK for cohort in known):
        return []
    dials: dict[str, Counter[int]] = defaultdict(Counter)
    for one in sender.calls:
        if (cohort := cohort_of(one.number, known)) is not None:
            dials[one.account][cohort.strip] += 1
    settled = all(max(lengths.values()) >= 0.95 * lengths.total() for lengths in dials.values())
    if not settled or not 1 < len(dials) <= ACCOUNTS_MAX:
        return []
    return [
        Fix(
            text=f"set accounts.{account}.strip_digits to {lengths.most_common(1)[0][0]}",
            setting=f"accounts.{account}.strip_digits",
            value=str(lengths.most_common(1)[0][0]),
        )
        for account, lengths in sorted(dials.items())
    ]


def _by_cohort(one: Observed, known: Sequence[Cohort]) -> str | None:
    cohort = cohort_of(one.number, known)
    return one.billed if cohort is None else cohort.should_be(one.number)
