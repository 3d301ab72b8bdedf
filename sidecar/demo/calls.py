"""The nine calls of the demo, and what each CDR must say: written by hand, from nothing but the
reference.

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
    """`scenario` names the SIPp files, `cdr` is the `summary` of the record. `pause_ms` is what their pause
    lasts: talk, or ringing of a cancelled call. `talk_ms` is how long A and B may have been connected: no
    timer of ours may be early; SIPp's own delays and a busy machine are in the upper bound."""

    scenario: str
    title: str
    dialled: str
    cdr: str
    pause_ms: int = 0
    talk_ms: tuple[int, int] = (0, 0)
    account: str = "demo"
    has_callee: bool = True
    billed_s: int | None = None  # where it does not follow from talk_ms
    operator: str | None = None


CALLS = (
    DemoCall(
        "caller-bye-in-call",
        "caller hangs up",
        "0044123456701",
        "caller/bye 200 16 answered",
        pause_ms=2400,
        talk_ms=(2350, 3400),
    ),
    DemoCall(
        "callee-bye-in-call",
        "callee hangs up",
        "0044123456702",
        "callee/bye 200 16 answered",
        pause_ms=1400,
        talk_ms=(1350, 2400),
    ),
    DemoCall(
        "caller-cancel-while-ringing",
        "caller gives up",
        "0044123456703",
        "caller/cancel 487 16 cancelled",
        pause_ms=1000,
    ),
    DemoCall("callee-rejected-busy", "callee is busy", "0044123456704", "callee/rejected 486 17 rejected"),
    DemoCall(
        "server-ring-timeout",
        "no answer",
        "0044123456705",
        "server/timeout/ring_timeout 408 19 no_answer timer/observed",
    ),
    DemoCall(
        "server-max-duration-in-call",
        "maximum duration",
        "0044123456706",
        "server/timeout/max_duration 408 16 answered timer/observed",
        talk_ms=(5000, 5500),
    ),
    DemoCall(
        "server-credit-exhausted-in-call",
        "prepaid credit used up",
        "0044123456707",
        "server/credit/grant_used_up 402 16 answered timer/observed",
        talk_ms=(3000, 3500),
        account=PREPAID_ACCOUNT,
        billed_s=3,  # what was paid for: the delay of our own BYE is not the customer's
    ),
    DemoCall(
        "server-operator-release-in-call",
        "operator ends the call",
        "0044123456708",
        "server/admin/operator 480 31 answered",
        talk_ms=(1000, 4990),
        operator=OPERATOR,
    ),
    DemoCall(
        "server-number-blocked",
        "blocked number",
        "0900123456709",
        "server/policy/number_blocked 403 21 refused",
        has_callee=False,
    ),
)
