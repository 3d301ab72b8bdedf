"""Who may call what, when, at which price: the static rules of the node, of a peer group, of an account.

Of all lists of numbers that apply to a call the longest pattern decides, whoever has it: `0900*` beats `0*`,
and the number itself beats any beginning of it. Of two that are alike the account's beats the peer's, and
that the node's. Besides, a number must be on every list of allowed numbers that applies and that is not
empty. What is blocked by command goes before all lists.

Each answer is the name of the rule, as records have it: the setting, and the pattern.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

import msgspec

from sidecar.core.numbers import BilledNumber, normalise
from sidecar.core.tariff import Rate
from sidecar.core.windows import Window

NO_NUMBERS: frozenset[str] = frozenset()


class NumberLists(msgspec.Struct, frozen=True, kw_only=True):
    """Patterns: a number without its `+`, or the beginning of one with a `*` behind it."""

    blocked: frozenset[str] = NO_NUMBERS
    allowed: frozenset[str] = NO_NUMBERS


class Screening(msgspec.Struct, frozen=True, kw_only=True):
    """An account's own rules. They stand beside the account, which every entry of the journal holds."""

    numbers: NumberLists = NumberLists()
    caller_numbers: frozenset[str] = NO_NUMBERS  # those that it may call from; none: any
    hours: tuple[Window, ...] = ()  # within one of them its calls may begin; none: always
    max_price_per_min: Decimal | None = None
    max_connect_fee: Decimal | None = None


def pattern_of(number: str) -> str:
    """A pattern as it is compared: the `+` of one that is written as E.164 is no part of it."""
    return number.removeprefix("+")


def longest_pattern(numbers: Iterable[str], patterns: Set[str]) -> str | None:
    """The longest that one of the numbers matches, or the number itself. It costs as much as a number is
    long, however many patterns there are."""
    if not patterns:
        return None
    found: str | None = None
    for number in numbers:
        if number in patterns and (found is None or _weight(number) > _weight(found)):
            found = number
        for end in range(len(number), -1, -1):
            if (pattern := number[:end] + "*") in patterns:
                if found is None or _weight(pattern) > _weight(found):
                    found = pattern
                break
    return found


def _weight(pattern: str) -> tuple[int, bool]:
    return len(pattern.removesuffix("*")), not pattern.endswith("*")


def number_rule(
    number: BilledNumber, blocks: Set[str], lists: Iterable[tuple[str, NumberLists]]
) -> str | None:
    """The rule that forbids the called number; None: it may be called. `lists` by whose they are, as settings
    name them (`accounts.acme.`): the node's first, the account's last."""
    forms = (number.normalised.removeprefix("+"), *((number.billed,) if number.billed is not None else ()))
    if pattern := longest_pattern(forms, blocks):
        return f"block {pattern}"
    strongest: tuple[tuple[int, bool], int] | None = None
    rule: str | None = None
    for rank, (whose, numbers) in enumerate(lists):
        allowed = longest_pattern(forms, numbers.allowed)
        if numbers.allowed and allowed is None:
            return f"{whose}allowed_numbers"
        blocked = longest_pattern(forms, numbers.blocked)
        for pattern, says in ((allowed, None), (blocked, f"{whose}blocked_numbers {blocked}")):
            if pattern is not None and (strongest is None or (_weight(pattern), rank) > strongest):
                strongest, rule = (_weight(pattern), rank), says
    return rule


def caller_rule(caller: str, account: str, screening: Screening) -> str | None:
    """`caller`: the user part that says who calls."""
    if not screening.caller_numbers:
        return None
    number = normalise(caller).removeprefix("+")
    if longest_pattern((number,), screening.caller_numbers) is not None:
        return None
    return f"accounts.{account}.caller_numbers"


def hours_rule(at: datetime, account: str, screening: Screening) -> str | None:
    if not screening.hours or any(window.holds_at(at) for window in screening.hours):
        return None
    return f"accounts.{account}.hours"


def price_rule(rate: Rate, account: str, screening: Screening) -> str | None:
    """Prices without tax, at the dearest hour of the dearest step."""
    ceiling = screening.max_price_per_min
    if ceiling is not None and dearest_per_min(rate) > Fraction(ceiling):
        return f"accounts.{account}.max_price_per_min"
    if screening.max_connect_fee is not None and rate.connect_fee > screening.max_connect_fee:
        return f"accounts.{account}.max_connect_fee"
    return None


def dearest_per_min(rate: Rate) -> Fraction:
    prices = (price for step in rate.steps for price in step.prices())
    return max(Fraction(price.price_e12 * 60, price.per_s * 10**12) for price in prices)
