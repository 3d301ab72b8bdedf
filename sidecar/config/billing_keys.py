"""The keys of [billing]: how charges are made, which numbers are rated, which calls are recorded."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from sidecar.config import values
from sidecar.config.key import Key
from sidecar.config.values import Amount, Choice, Text, Whole
from sidecar.core.terms import Rounding, ServerReason

_YES_NO_INHERIT: bool | None = None
ROUNDING = Key(
    "billing",
    "rounding",
    Choice(Rounding),
    Rounding.HALF_UP,
    "How the one rounding is done.",
    in_profile=True,
)
DECIMALS = Key("billing", "decimals", Whole(0, 9), 6, "Decimals of a charge.", in_profile=True)
_NO_UNIT: Decimal | None = None
FEE_UNIT = Key(
    "billing",
    "fee_unit",
    Amount("1000000", greater_than_zero=True),
    _NO_UNIT,
    "The smallest unit of a charge: it is rounded to a multiple of it.",
    default_text="10^-decimals",
    in_profile=True,
)
HOLD_TIME_PRECISION = Key(
    "billing",
    "hold_time_precision_ms",
    Whole(0, 999),
    50,
    "Milliseconds above a whole second from which a second more is billed.",
    unit="ms",
    in_profile=True,
)
FREE_TIME = Key(
    "billing",
    "free_s",
    Whole(0, 86_400),
    0,
    "The first seconds of each call, not billed.",
    unit="s",
    in_profile=True,
)
FREE_NUMBERS = Key(
    "billing",
    "free_numbers",
    values.BILLED_NUMBERS,
    (),
    "Billed numbers at no charge; `49800*`.",
    in_profile=True,
)
NO_CDR_NUMBERS = Key(
    "billing",
    "no_cdr_numbers",
    values.BILLED_NUMBERS,
    (),
    "Billed numbers that are charged, but whose CDR is not published.",
    in_profile=True,
)
STRIP_DIGITS = Key(
    "billing",
    "strip_digits",
    values.STRIP,
    0,
    "Digits stripped from the called number before the rate look-up; rules, accounts and peers first.",
    unit="digits",
    in_profile=True,
)
CURRENCY = Key(
    "billing",
    "currency",
    values.CURRENCY,
    "EUR",
    "Currency of accounts that name none.",
    in_profile=True,
)
DEFAULT_DECK = Key(
    "billing",
    "deck",
    Text(r"[A-Za-z0-9_.-]{0,64}", "the name of a deck"),
    "",
    "The sell deck of accounts that name none.",
    default_text="the only deck there is",
    in_profile=True,
)
_NO_FLOOR: Decimal | None = None
MARGIN_FLOOR = Key(
    "billing",
    "margin_floor",
    values.SHARE,
    _NO_FLOOR,
    "Gateways at which the first minute is expected to leave less than this share of its sale are not tried; "
    'with none left, 403. `"0"` forbids losses.',
    default_text="no floor",
    in_profile=True,
)
_NO_FILE: Path | None = None
EXCHANGE_RATES = Key(
    "billing",
    "exchange_rates",
    values.PATH,
    _NO_FILE,
    "CSV of `base,quote,rate,valid_from` (1 base = rate quote): how purchases in another currency count in a "
    "margin.",
    default_text="none: such margins are unknown",
    in_profile=True,
)
RECORD_SERVER_HANG_UP = Key(
    "billing",
    "record_server_hang_up",
    values.FLAG,
    True,
    "Record and bill calls that the server ended. As a table, `record_server_hang_up.all` is this flag.",
    in_profile=True,
)
_BY_REASON_MEANING = {
    ServerReason.TIMEOUT: "The same for timeouts alone.",
    ServerReason.CREDIT: "The same for used-up credit alone.",
    ServerReason.ADMIN: "The same for operators and drain alone.",
    ServerReason.POLICY: "The same for rules alone.",
    ServerReason.RESOURCE: "The same for limits and missing routes alone.",
}
RECORD_BY_REASON = {
    reason: Key(
        "billing.record_server_hang_up",
        reason.value,
        values.FLAG,
        _YES_NO_INHERIT,
        meaning,
        default_text="the flag above",
        in_profile=True,
    )
    for reason, meaning in _BY_REASON_MEANING.items()
}
RECORD_FAULT = Key(
    "billing",
    "record_fault",
    values.FLAG,
    True,
    "Record and bill calls that a fault of this node ended.",
    in_profile=True,
)
RECORD_ZERO_HOLD_TIME = Key(
    "billing", "record_zero_hold_time", values.FLAG, True, "CDRs for calls of 0 s.", in_profile=True
)
RECORD_ILLEGAL_CALL = Key(
    "billing",
    "record_illegal_call",
    values.FLAG,
    True,
    "CDRs for calls of unlisted sources.",
    in_profile=True,
)
PREVENT_OVERDRAFT_ADVANCE = Key(
    "billing",
    "prevent_overdraft_advance_min",
    Whole(1, 15),
    1,
    "Minutes reserved per prepaid call.",
    not_yet="each prepaid call reserves all that the balance affords",
    unit="min",
    in_profile=True,
)

KEYS: tuple[Key[Any], ...] = (
    ROUNDING,
    DECIMALS,
    FEE_UNIT,
    HOLD_TIME_PRECISION,
    FREE_TIME,
    FREE_NUMBERS,
    NO_CDR_NUMBERS,
    STRIP_DIGITS,
    CURRENCY,
    DEFAULT_DECK,
    MARGIN_FLOOR,
    EXCHANGE_RATES,
    RECORD_SERVER_HANG_UP,
    *RECORD_BY_REASON.values(),
    RECORD_FAULT,
    RECORD_ZERO_HOLD_TIME,
    RECORD_ILLEGAL_CALL,
    PREVENT_OVERDRAFT_ADVANCE,
)
