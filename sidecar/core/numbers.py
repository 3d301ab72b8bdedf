"""Which number is rated: from the user part of a Request-URI to the digits that the deck is asked for.

Order of steps (each visible in `BilledNumber`):

    received     +49-151-1234567;npdi    as it stood in the Request-URI
    normalised   +491511234567           `;` parameters off, %-escapes decoded, visual separators off
    billed        491511234567           `+` dropped (E.164, never stripped), else the first rule that applies

Two parameters say which number it is. `phone-context=+49` completes a local number to E.164 (RFC 3966
§5.1.5); one that is a domain leaves it without a rate. `rn`, where `npdi` says that it was looked up (RFC
4694), is rated in the place of the number where `billing.rate_by` is `routing_number`.

The number a call is *routed* by is the normalised one.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import unquote

import msgspec

from sidecar.core.terms import RateBy

STRIP_DIGITS_MAX = 32
RULES_MAX = 1000
MASK_INPUT_MAX = 64

_SEPARATORS = str.maketrans("", "", "-.()")  # RFC 3966 §5.1.1 visual-separator
_RULE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ROUTE_PREFIX = re.compile(r"[0-9#*]{1,32}")
_COUNTRY_CODE = re.compile(r"[0-9]{0,8}")
_NOT_PLAIN = re.compile(r"[^!-~]")

# What `BilledNumber.rule` says where no strip rule was asked.
E164 = "e164"
PHONE_CONTEXT = "phone_context"
ROUTING_NUMBER = "routing_number"
URN = "urn"  # a service (RFC 5031), and no number at all


class StripRule(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A named rule: numbers that start with `prefix` lose `strip` characters and gain the digits `add` in
    front.

    `add` is the country code of a national trunk prefix: 0 stripped from 01511234567 without it leaves
    1511234567, which longest-prefix match reads as North America.
    """

    name: str
    prefix: str
    strip: int
    add: str = ""

    def __post_init__(self) -> None:
        if not _RULE_NAME.fullmatch(self.name):
            raise ValueError(f"strip rule name {self.name!r}: 1-64 letters, digits, '_', '.', '-'")
        if not _ROUTE_PREFIX.fullmatch(self.prefix):
            raise ValueError(f"strip rule {self.name}: prefix {self.prefix!r} is not 1-32 of 0-9 # *")
        if not _COUNTRY_CODE.fullmatch(self.add):
            raise ValueError(f"strip rule {self.name}: add {self.add!r} is not 0-8 digits")
        _check_strip(f"strip rule {self.name}", self.strip)


class StripPlan(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one sender's numbers lose, in the order asked: rules (longest prefix first), account, peer,
    global.

    For the buy side only `global_strip` is set, to the gateway's length. `None` means "says nothing", 0
    means "strip nothing" and ends the search. `rate_by` is the node's, for both sides.
    """

    rules: tuple[StripRule, ...] = ()
    account_strip: int | None = None
    peer_strip: int | None = None
    global_strip: int = 0
    rate_by: RateBy = RateBy.DIALLED

    def __post_init__(self) -> None:
        for name, strip in (
            ("account strip", self.account_strip),
            ("peer strip", self.peer_strip),
            ("global strip", self.global_strip),
        ):
            if strip is not None:
                _check_strip(name, strip)
        _check_rules(self.rules)
        longest_first = tuple(sorted(self.rules, key=lambda rule: -len(rule.prefix)))
        msgspec.structs.force_setattr(self, "rules", longest_first)


class BilledNumber(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`billed` is None where the number cannot be rated (rating_status no_rate): empty, lettered, or
    stripped away.

    `rule` names what was applied: e164, rule:NAME, account, peer or global. It took `stripped` characters off
    the front of `normalised` (the `+` of e164 is one) and put the digits `added` there. With routing_number
    it is another number that was looked up; with phone_context the number is local to a domain, or no digits.
    """

    received: str
    normalised: str
    billed: str | None
    rule: str
    stripped: int = 0
    added: str = ""


def billed_number(user: str, plan: StripPlan) -> BilledNumber:
    """The number to rate for the user part of a Request-URI, as text of any content. Never raises."""
    plain = user.isascii() and user.isdigit()
    number = user if plain else normalise(user)
    if not plain and ";" in user and (other := _by_parameters(user, number, plan)) is not None:
        return other
    if not plain and number.startswith("+"):
        strip, add, rule = 1, "", E164
        rest = number[1:] if _is_digits(number[1:]) else None
    else:
        strip, add, rule = _strip_for(number, plan)
        if plain:
            rest = add + number[strip:] if strip < len(number) else None
        else:
            rest = _stripped(number, strip, add)
    return BilledNumber(received=user, normalised=number, billed=rest, rule=rule, stripped=strip, added=add)


def normalise(user: str) -> str:
    """`user` without parameters, escapes and visual separators; a leading `+` stays, and a local number gets
    its global phone-context in front.

    Escaped bytes that are not UTF-8 become `\\xNN`, which no deck matches.
    """
    number, _, rest = user.partition(";")
    number = _plain(number)
    return _completed(number, _values(rest, "phone-context")) if rest else number


def same_number(user: str, other: str) -> bool:
    """Whether two user parts are one number, with or without its `+`."""
    number = normalise(user).removeprefix("+")
    return _is_digits(number) and number == normalise(other).removeprefix("+")


class NumberParameters(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What RFC 4694 lets a number say of itself, as received but for escapes."""

    routing_number: str | None = None
    npdi: bool = False  # the number was looked up: `rn` is there if it is ported
    cic: str | None = None  # the carrier

    @property
    def is_ported(self) -> bool:
        return self.npdi and self.routing_number is not None


def number_parameters(user: str) -> NumberParameters:
    rest = user.partition(";")[2]
    if not rest:
        return NumberParameters()
    routing_numbers, carriers = _values(rest, "rn"), _values(rest, "cic")
    return NumberParameters(
        routing_number=routing_numbers[0] if routing_numbers else None,
        npdi=any(value.lower() != "no" for value in _values(rest, "npdi")),
        cic=carriers[0] if carriers else None,
    )


def matches_list(billed: str | None, patterns: Collection[str]) -> bool:
    """Whether a FREE, NO_CDR or blocked list names the number; `49151*` is a prefix, `*` alone is everything.

    The cost is the length of the number, whatever the length of the list, if `patterns` is a frozenset.
    """
    if billed is None or not patterns:
        return False
    return billed in patterns or any(billed[:end] + "*" in patterns for end in range(len(billed) + 1))


def mask(number: str) -> str:
    """For logs and metrics: `+4915112345678` gives `+4915112****78`; at least four characters are hidden.

    Anything but printable ASCII becomes `?`, so that no text from the network can forge a log line. Never
    raises.
    """
    plain = _NOT_PLAIN.sub("?", number[:MASK_INPUT_MAX])
    sign = "+" if plain.startswith("+") else ""
    digits = plain[len(sign) :]
    tail = 2 if len(digits) >= 8 else 0
    head = max(0, min(7, len(digits) - tail - 4))
    hidden = len(digits) - head - tail
    return sign + digits[:head] + "*" * hidden + digits[len(digits) - tail :]


def _by_parameters(user: str, number: str, plan: StripPlan) -> BilledNumber | None:
    """Where the parameters of a number decide what is looked up."""
    rest = user.partition(";")[2]
    said = number_parameters(user)
    if plan.rate_by is RateBy.ROUTING_NUMBER and said.is_ported:
        routing_number = _completed(_plain(said.routing_number or ""), _values(rest, "rn-context"))
        local = bool(_values(rest, "rn-context")) and not routing_number.startswith("+")
        digits = routing_number.removeprefix("+")
        billed = digits if _is_digits(digits) and not local else None
        return BilledNumber(received=user, normalised=number, billed=billed, rule=ROUTING_NUMBER)
    if not number.startswith("+") and _values(rest, "phone-context"):
        return BilledNumber(received=user, normalised=number, billed=None, rule=PHONE_CONTEXT)
    return None


def _completed(number: str, contexts: list[str]) -> str:
    """A local number with the context that it has, where that is a global one."""
    prefixes = {_plain(context) for context in contexts}
    if number.startswith("+") or not _is_digits(number) or len(prefixes) != 1:
        return number
    prefix = prefixes.pop()
    return prefix + number if prefix.startswith("+") and _is_digits(prefix[1:]) else number


def _values(parameters: str, name: str) -> list[str]:
    """Of the parameters of this name, escapes decoded; empty for one without a value."""
    found = (one.partition("=") for one in parameters.split(";"))
    return [_decoded(value) for key, _, value in found if key.strip().lower() == name]


def _plain(number: str) -> str:
    return _decoded(number).translate(_SEPARATORS)


def _decoded(text: str) -> str:
    return unquote(text, errors="backslashreplace") if "%" in text else text


def _is_digits(text: str) -> bool:
    # str.isdigit alone is true for the digits of every script.
    return text.isascii() and text.isdigit()


def _strip_for(number: str, plan: StripPlan) -> tuple[int, str, str]:
    for rule in plan.rules:
        if number.startswith(rule.prefix):
            return rule.strip, rule.add, f"rule:{rule.name}"
    if plan.account_strip is not None:
        return plan.account_strip, "", "account"
    if plan.peer_strip is not None:
        return plan.peer_strip, "", "peer"
    return plan.global_strip, "", "global"


def _stripped(number: str, strip: int, add: str) -> str | None:
    if strip >= len(number):
        return None
    rest = number[strip:]
    if not _is_digits(rest):
        return None
    if strip and not _is_digits(number) and not _ROUTE_PREFIX.fullmatch(number, 0, strip):
        return None
    return add + rest


def _check_strip(name: str, strip: int) -> None:
    if not 0 <= strip <= STRIP_DIGITS_MAX:
        raise ValueError(f"{name}: {strip} is not within 0-{STRIP_DIGITS_MAX}")


def _check_rules(rules: tuple[StripRule, ...]) -> None:
    if len(rules) > RULES_MAX:
        raise ValueError(f"{len(rules)} strip rules: at most {RULES_MAX}")
    for key in ("name", "prefix"):
        seen: set[str] = set()
        for rule in rules:
            value: str = getattr(rule, key)
            if value in seen:
                raise ValueError(f"two strip rules with the {key} {value!r}")
            seen.add(value)
