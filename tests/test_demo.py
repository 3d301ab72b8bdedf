"""The demo: the real one, once; and that it would see a wrong CDR, a missing one and one that comes twice."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sidecar.demo import __main__ as demo
from sidecar.demo import check
from sidecar.demo.calls import CALLS, OPERATOR_TEXT, STRIP_DIGITS, DemoCall

REPO = Path(__file__).resolve().parent.parent
INVITED_AT = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


def right_record(call: DemoCall, seq: int = 1) -> dict[str, Any]:
    """What a sidecar publishes for the call, as far as the demo looks at it."""
    who, sip_code, q850_cause, disposition, *proof = call.cdr.split()
    origin, *reason, detail = who.split("/")
    evidence, confidence = (proof[0] if proof else check.OBSERVED).split("/")
    talk_ms = call.talk_ms[0]
    billed_s = check.billed_seconds(call, talk_ms)
    answered_at = INVITED_AT + timedelta(seconds=1) if call.talk_ms[1] else None
    return {
        "version": 1,
        "message_id": f"m{seq}",
        "call_id": f"c{seq}",
        "revision": 0,
        "recorded": True,
        "store_epoch": "e",
        "seq": seq,
        "account": call.account,
        "leg_a": {"sip_call_id": f"{call.scenario}-1-2@127.0.1.1"},
        "callee": {
            "received": call.dialled,
            "sent": call.dialled if call.has_callee else None,
            "billed": call.dialled[STRIP_DIGITS:],
        },
        "hangup_origin": origin,
        "server_reason": reason[0] if reason else None,
        "detail": detail,
        "sip_code": int(sip_code),
        "q850_cause": int(q850_cause),
        "disposition": disposition,
        "evidence": evidence,
        "confidence": confidence,
        "operator": call.operator,
        "operator_text": OPERATOR_TEXT if call.operator else None,
        "talk_ms": talk_ms,
        "billed_s": billed_s,
        "attempts": [{}] if call.has_callee else [],
        "answered_at": answered_at,
        "ended_at": (answered_at or INVITED_AT) + timedelta(milliseconds=talk_ms),
        "charges": [
            {
                "side": "sell",
                "rating_status": "rated",
                "currency": "EUR",
                "billed_number": call.dialled[STRIP_DIGITS:],
                "total": f"0.{billed_s:02}0000",
            }
        ],
    }


def right_records() -> list[dict[str, Any]]:
    return [right_record(call, seq) for seq, call in enumerate(CALLS, 1)]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.scenario)
def test_a_right_record_has_no_fault(call: DemoCall) -> None:
    assert check.faults(call, right_record(call)) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"hangup_origin": "callee"}, "ending"),
        ({"server_reason": "timeout"}, "ending"),
        ({"detail": "cancel"}, "ending"),
        ({"sip_code": 487}, "ending"),
        ({"q850_cause": 31}, "ending"),
        ({"disposition": "cancelled"}, "ending"),
        ({"evidence": "timer"}, "ending"),
        ({"confidence": "inferred"}, "ending"),
        ({"account": "_"}, "account"),
        ({"revision": 1}, "revision"),
        ({"billed_s": 4}, "billed seconds"),
        ({"talk_ms": 9_000}, "talked"),
        ({"answered_at": None}, "answered"),
        ({"charges": []}, "charges"),
        (
            {"callee": {"received": "0044123456701", "sent": "0044123456701", "billed": "0044123456701"}},
            "billed number",
        ),
    ],
)
def test_a_wrong_field_is_a_fault(change: dict[str, Any], fault: str) -> None:
    found = check.faults(CALLS[0], right_record(CALLS[0]) | change)
    assert any(fault in one for one in found), found


def test_a_wrong_charge_is_a_fault() -> None:
    record = right_record(CALLS[0])
    record["charges"][0]["total"] = "0.02"
    assert check.faults(CALLS[0], record) == ["charged 0.02, not 0.03"]


def test_all_right_records_are_a_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.report(right_records(), 0, [])
    assert "9 calls placed, 9 CDRs received, 0 missing, 0 duplicate" in capsys.readouterr().out


def test_a_missing_record_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert not demo.report(right_records()[1:], 0, [])
    assert "8 CDRs received, 1 missing" in capsys.readouterr().out


def test_a_record_that_came_twice_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert not demo.report(right_records(), 1, [])
    assert "1 duplicate" in capsys.readouterr().out


def test_two_records_of_one_call_are_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    records = right_records()
    again = records[0] | {"message_id": "m10", "seq": 10}
    assert not demo.report([*records, again], 0, [])
    assert "1 duplicate" in capsys.readouterr().out


def test_a_gap_in_the_numbers_is_a_failure() -> None:
    records = right_records()
    records[-1]["seq"] = 12
    assert not demo.report(records, 0, [])


def test_what_sipp_complains_about_is_a_failure() -> None:
    assert not demo.report(right_records(), 0, ["SIPp caller-bye-in-call.uac ended with status 1"])


def test_the_demo_itself() -> None:
    """Real SIPp, a real daemon, a real Mosquitto."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "sidecar.demo"],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPO,
        env=os.environ | {"SERVER_BILLING_GATEWAY_ROUTE_PREFIX": "9", "SIDECAR_SIP__PROFILE": "none"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 calls placed, 9 CDRs received, 0 missing, 0 duplicate" in done.stdout
