"""What fraud rules mean together: rules that can never fire, or that contradict each other."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from msgspec.structs import replace

from sidecar.config.layers import Effective
from sidecar.config.problems import Findings, nearest, quoted
from sidecar.config.source import read_document
from sidecar.config.tables import Entry, Tables, read_fraud_rules
from sidecar.core.account_terms import SPENDING_LIMIT
from sidecar.core.admit import ACCOUNT_REQUIRED, MARGIN_FLOOR, ON_NO_RATE
from sidecar.core.fraud_rules import AT_BEGIN, FraudRule, FraudRuleError, Measure, Mode, Scope

_TAKEN = frozenset({ACCOUNT_REQUIRED, MARGIN_FLOOR, ON_NO_RATE, SPENDING_LIMIT})
_REQUIRED = ("name", "scope", "measure", "threshold")
# What a rule is told by beside its threshold and what it does.
_SAME = {"name": "", "threshold": Decimal(0), "mode": Mode.WATCH, "lift_after_s": 0}


def fraud_rule(entry: Entry, currency: str) -> FraudRule:
    """FraudRuleError where what it says does not fit together. `currency`: of money, where it names none."""
    own = dict(entry.values)
    if own["measure"] is Measure.MONEY:
        own["currency"] = own["currency"] or currency
    return FraudRule(**own)


def rules_of_file(path: Path, currency: str) -> list[FraudRule]:
    """Those of a file by itself, for trying them; ConfigError with everything that is wrong."""
    findings = Findings()
    document = read_document(path, findings)
    made = [] if document is None else checked(read_fraud_rules(document, findings), currency, findings)
    findings.raise_if_any()
    return [rule for _, rule in made]


def check(effective: Effective, tables: Tables, findings: Findings) -> None:
    currency, calls_max = effective.settings.billing.currency, effective.settings.node.calls_max
    made = checked(tables.fraud_rules, currency, findings)
    for entry, rule in made:
        if rule.measure is Measure.CALLS_AT_ONCE and rule.threshold >= calls_max:
            findings.error(
                *entry.at("threshold"), f"can never fire: the node carries {calls_max} calls (node.calls_max)"
            )
        for name in set(rule.except_accounts) - tables.accounts.keys():
            text = f"there is no account {quoted(name)} in the settings; one may be made by command"
            findings.warn(*entry.at("except_accounts"), text, nearest(name, tables.accounts))
        if rule.scope is Scope.NODE and rule.mode is not Mode.WATCH:
            what = "of whatever account" if not rule.prefixes else "to these prefixes, of whatever account"
            findings.warn(*entry.at("mode"), f"once it has fired, every call {what} is refused")


def checked(entries: Sequence[Entry], currency: str, findings: Findings) -> list[tuple[Entry, FraudRule]]:
    """The rules that can be made; what is wrong with each, and with two of them together, is in the
    findings."""
    made: list[tuple[Entry, FraudRule]] = []
    for entry in entries:
        if any(entry[field] is None for field in _REQUIRED):
            continue  # said already
        for field in ("least_calls", "short_s"):
            if field in entry.given and entry["measure"] is not Measure.SHORT_CALLS:
                findings.error(*entry.at(field), "is of the measure short_calls alone")
        try:
            rule = fraud_rule(entry, currency)
        except FraudRuleError as error:
            findings.error(*entry.at(error.field), error.text)
            continue
        if rule.name in _TAKEN:
            findings.error(*entry.at("name"), "is what records call a rule of another kind: choose another")
        for other, before in made:
            _compare(entry, rule, other, before, findings)
        made.append((entry, rule))
    return made


def _compare(entry: Entry, rule: FraudRule, other: Entry, before: FraudRule, findings: Findings) -> None:
    named = f"{before.name} ({other.where()})"
    if rule.name == before.name:
        findings.error(*entry.at("name"), f"is the name of {other.written} ({other.where()}) too")
        return
    if replace(rule, **_SAME) != replace(before, **_SAME):
        return
    if rule.threshold == before.threshold:
        findings.error(*entry.at(), f"counts the same as {named}, and fires at the same: keep one of them")
    elif rule.measure in AT_BEGIN:
        low, high = sorted((rule, before), key=lambda one: one.threshold)
        if low.mode is not Mode.WATCH:
            findings.error(
                *(entry if high is rule else other).at("threshold"),
                f"can never fire: {low.name} counts the same, and refuses above {low.threshold} already",
            )
