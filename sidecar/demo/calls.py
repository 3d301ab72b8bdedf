"""The nine calls of the demo, and what each CDR must say: written by hand, from nothing but the tables of
README.

The node strips two digits (VOS3000's SERVER_BILLING_GATEWAY_ROUTE_PREFIX), the demo deck charges 0.01 EUR for
every second that is begun, and the demo profile has a ring timeout of 3 s and a maximum duration of 5 s.
"""

from __future__ import annotations

from typing import NamedTuple

PREPAID_ACCOUNT = "prepaid"
TOP_UP = "0.03"  # three seconds
OPERATOR = "demo-operator"
OPERATOR_TEXT = "shown in the record"
STRIP_DIGITS = 2
CENTS_PER_SECOND = 1
CURRENCY = "EUR"
BLOCKED_NUMBERS = "0900*"


class DemoCall(NamedTuple):
    """`scenario` names the SIPp files. `pause_ms` is what their pause lasts: talk, or ringing of a cancelled
    call. `talk_ms` is how long A and B may have been connected: no timer of ours may be early; SIPp's own
    delays and a busy machine are in the upper bound."""

    scenario: str
    title: str
    dialled: str
    billed: str
    pause_ms: int
    origin: str
    reason: str | None
    detail: str
    sip_code: int
    q850_cause: int
    disposition: str
    talk_ms: tuple[int, int]
    account: str = "demo"
    has_callee: bool = True
    billed_s: int | None = None  # where it does not follow from talk_ms
    operator: str | None = None


CALLS = (
    DemoCall(
        scenario="caller-bye-in-call",
        title="caller hangs up",
        dialled="0044123456701",
        billed="44123456701",
        pause_ms=2400,
        origin="caller",
        reason=None,
        detail="bye",
        sip_code=200,
        q850_cause=16,
        disposition="answered",
        talk_ms=(2350, 3400),
    ),
    DemoCall(
        scenario="callee-bye-in-call",
        title="callee hangs up",
        dialled="0044123456702",
        billed="44123456702",
        pause_ms=1400,
        origin="callee",
        reason=None,
        detail="bye",
        sip_code=200,
        q850_cause=16,
        disposition="answered",
        talk_ms=(1350, 2400),
    ),
    DemoCall(
        scenario="caller-cancel-while-ringing",
        title="caller gives up",
        dialled="0044123456703",
        billed="44123456703",
        pause_ms=1000,
        origin="caller",
        reason=None,
        detail="cancel",
        sip_code=487,
        q850_cause=16,
        disposition="cancelled",
        talk_ms=(0, 0),
    ),
    DemoCall(
        scenario="callee-rejected-busy",
        title="callee is busy",
        dialled="0044123456704",
        billed="44123456704",
        pause_ms=0,
        origin="callee",
        reason=None,
        detail="rejected",
        sip_code=486,
        q850_cause=17,
        disposition="rejected",
        talk_ms=(0, 0),
    ),
    DemoCall(
        scenario="server-ring-timeout",
        title="no answer",
        dialled="0044123456705",
        billed="44123456705",
        pause_ms=0,
        origin="server",
        reason="timeout",
        detail="ring_timeout",
        sip_code=408,
        q850_cause=19,
        disposition="no_answer",
        talk_ms=(0, 0),
    ),
    DemoCall(
        scenario="server-max-duration-in-call",
        title="maximum duration",
        dialled="0044123456706",
        billed="44123456706",
        pause_ms=0,
        origin="server",
        reason="timeout",
        detail="max_duration",
        sip_code=408,
        q850_cause=16,
        disposition="answered",
        talk_ms=(5000, 5500),
    ),
    DemoCall(
        scenario="server-credit-exhausted-in-call",
        title="prepaid credit used up",
        dialled="0044123456707",
        billed="44123456707",
        pause_ms=0,
        origin="server",
        reason="credit",
        detail="grant_used_up",
        sip_code=402,
        q850_cause=16,
        disposition="answered",
        talk_ms=(3000, 3500),
        account=PREPAID_ACCOUNT,
        billed_s=3,  # what was paid for: the delay of our own BYE is not the customer's
    ),
    DemoCall(
        scenario="server-operator-release-in-call",
        title="operator ends the call",
        dialled="0044123456708",
        billed="44123456708",
        pause_ms=0,
        origin="server",
        reason="admin",
        detail="operator",
        sip_code=480,
        q850_cause=31,
        disposition="answered",
        talk_ms=(1000, 4990),
        operator=OPERATOR,
    ),
    DemoCall(
        scenario="server-number-blocked",
        title="blocked number",
        dialled="0900123456709",
        billed="00123456709",
        pause_ms=0,
        origin="server",
        reason="policy",
        detail="number_blocked",
        sip_code=403,
        q850_cause=21,
        disposition="refused",
        talk_ms=(0, 0),
        has_callee=False,
    ),
)
