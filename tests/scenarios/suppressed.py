"""What the record flags and number lists keep back or waive; the wire knows nothing of them."""

from __future__ import annotations

from sidecar.core.policy import RecordFlags
from sidecar.core.terms import ServerReason
from tests.scenarios.scenario import ANSWERED, ROUTED, Scenario, armed_for, refused_after
from tests.scenarios.world import account, gateways

SUPPRESSED = (
    Scenario(
        name="server-max-duration-suppressed",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
        """,
        policy={"flags": RecordFlags(record_server_hang_up=False)},
        cdr="server/timeout/max_duration 408 16 answered 14400000 timer/observed",
        wire=ANSWERED,
        sold="-",
        also={"suppressed_by": "SERVER_BILLING_RECORD_SERVER_HANG_UP", "seq": None},
    ),
    Scenario(
        name="server-credit-exhausted-suppressed-by-reason",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
        """,
        policy={
            "accounts": account(prepaid=True),
            "flags": RecordFlags(record_server_hang_up_by_reason={ServerReason.CREDIT: False}),
        },
        balance="0.005",
        cdr="server/credit/grant_used_up 402 16 answered 5000 timer/observed",
        wire=f"{ROUTED}, {armed_for(5)}, answer, {refused_after(5)}",
        sold="-",
        also={"suppressed_by": "SERVER_BILLING_RECORD_SERVER_HANG_UP (credit)"},
    ),
    Scenario(
        name="server-operator-release-recorded-by-gateway",  # the flag says no, the gateway's own setting yes
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            5_001  operator releases
        """,
        policy={
            "flags": RecordFlags(record_server_hang_up=False),
            "gateways": gateways({"record_server_hang_up": True}),
        },
        cdr="server/admin/operator 480 31 answered 3000 message/observed",
        wire=f"{ANSWERED}, release 480 31 operator",
        sold="0.003",
    ),
    Scenario(
        name="caller-cancel-suppressed",
        ladder="""
            0      A INVITE
            20     B 180
            3_000  A CANCEL
        """,
        policy={"flags": RecordFlags(record_zero_hold_time=False)},
        cdr="caller/cancel 487 16 cancelled 0 message/observed",
        wire=ROUTED,
        sold="-",
        also={"suppressed_by": "SERVER_BILLING_RECORD_ZERO_HOLD_TIME"},
    ),
    Scenario(
        name="server-number-blocked-suppressed",  # a server rejection passes the zero-duration flag as well
        ladder="""
            0      A INVITE 49900123
        """,
        policy={
            "blocked_numbers": frozenset({"49900*"}),
            "flags": RecordFlags(record_zero_hold_time=False),
        },
        cdr="server/policy/number_blocked 403 21 refused 0 message/observed",
        wire="reject 403 21 number_blocked",
        sold="-",
        also={"suppressed_by": "SERVER_BILLING_RECORD_ZERO_HOLD_TIME"},
        refused=True,
    ),
    Scenario(
        name="caller-bye-no-cdr-number",  # charged as usual, not published
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            5_001  A BYE
        """,
        policy={"flags": RecordFlags(no_cdr_numbers=frozenset({"4930*"}))},
        cdr="caller/bye 200 16 answered 3000 message/observed",
        wire=ANSWERED,
        sold="0.003",
        also={"recorded": False, "suppressed_by": "SERVER_BILLING_NO_CDR_E164S"},
    ),
    Scenario(
        name="caller-bye-free-number",
        ladder="""
            0      A INVITE
            2_000  B 200
            2_020  A ACK
            5_001  A BYE
        """,
        policy={"flags": RecordFlags(free_numbers=frozenset({"4930*"}))},
        cdr="caller/bye 200 16 answered 3000 message/observed",
        wire=ANSWERED,
    ),
    Scenario(
        name="caller-bye-unrated",  # a postpaid call without a rate is carried; its amounts are null
        ladder="""
            0      A INVITE 33123456
            2_000  B 200
            2_020  A ACK
            5_001  A BYE
        """,
        cdr="caller/bye 200 16 answered 3000 message/observed",
        wire=ANSWERED,
    ),
)
