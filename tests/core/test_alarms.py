"""What the audit table keeps of an alarm, and under which id it leaves."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from msgspec.structs import replace

from sidecar.core.alarms import FraudRuleFired, LowBalance, alarm_id, audited

NOW = datetime(2026, 11, 27, 3, 0, tzinfo=UTC)
FIRED = FraudRuleFired(
    raised_at=NOW,
    rule="wangiri",
    mode="watch",
    scope="caller",
    key="4915112345678",
    measure="short_calls",
    threshold=Decimal("0.8"),
    measured=Decimal("0.95"),
    window_s=600,
    account="acme",
    call_id=UUID(int=7),
)


def test_the_audit_table_has_an_alarm_with_plain_amounts_and_no_callers_number() -> None:
    low = LowBalance(
        raised_at=NOW, account="acme", currency="EUR", available=Decimal("1E+1"), threshold=Decimal(20)
    )
    change = audited(low)
    assert (change.operator.name, change.action, change.subject) == ("sidecar", "alarm.low_balance", "acme")
    assert json.loads(change.after or "")["available"] == "10"

    change = audited(FIRED)
    assert (change.action, change.subject) == ("alarm.fraud_rule", "wangiri")
    assert json.loads(change.after or "")["key"] == "4915112****78"
    assert json.loads(audited(replace(FIRED, scope="account", key="100000001")).after or "")["key"] == (
        "100000001"
    )


def test_an_alarm_has_one_id_and_no_other_alarm_has_it() -> None:
    names = [("_", "n", "b"), ("t", "n", "b"), ("_", "m", "b"), ("_", "n", "c")]
    ids = {alarm_id(*name, number) for name in names for number in range(10)}
    assert len(ids) == 40
    assert alarm_id("_", "n", "b", 3) in ids
