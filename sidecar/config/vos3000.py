"""VOS3000's names for our settings: in `[vos3000]` of the settings file, and as plain environment variables.

Each stands for the key beside it, with VOS3000's own bounds. Given together with another name of the same key
in the same layer, both must say the same.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from sidecar.config import billing_keys, values
from sidecar.config.key import Key
from sidecar.config.values import Amount, Kind, Whole

T = TypeVar("T")

SECTION = "vos3000"
STEM = "SERVER_BILLING_"


class Vos3000Name(Generic[T]):
    def __init__(self, name: str, key: Key[Any], kind: Kind[T], meaning: str) -> None:
        self.name = STEM + name
        self.key = key
        self.kind = kind
        self.meaning = meaning


_FEE_PRECISION_MEANING = "Decimals of the fee. VOS3000's own default is 2; unset here means 6."

NAMES: tuple[Vos3000Name[Any], ...] = (
    Vos3000Name(
        "RECORD_SERVER_HANG_UP",
        billing_keys.RECORD_SERVER_HANG_UP,
        values.VOS_FLAG,
        "0: calls that the server ended get no CDR and no charge.",
    ),
    Vos3000Name(
        "GATEWAY_ROUTE_PREFIX",
        billing_keys.STRIP_DIGITS,
        values.STRIP,
        "Leading digits stripped before the rate look-up.",
    ),
    Vos3000Name(
        "RECORD_ZERO_HOLD_TIME", billing_keys.RECORD_ZERO_HOLD_TIME, values.VOS_FLAG, "CDRs for calls of 0 s."
    ),
    Vos3000Name(
        "RECORD_ILLEGAL_CALL",
        billing_keys.RECORD_ILLEGAL_CALL,
        values.VOS_FLAG,
        "CDRs for calls of unauthorised sources.",
    ),
    Vos3000Name(
        "HOLD_TIME_PRECISION",
        billing_keys.HOLD_TIME_PRECISION,
        Whole(0, 999),
        "At 50, 21.049 s bills 21 and 21.050 s bills 22.",
    ),
    Vos3000Name("FEE_PRECISION", billing_keys.DECIMALS, Whole(0, 4), _FEE_PRECISION_MEANING),
    Vos3000Name(
        "FEE_PRECISTION", billing_keys.DECIMALS, Whole(0, 4), "The same, as VOS3000's manual also spells it."
    ),
    Vos3000Name(
        "FEE_UNIT",
        billing_keys.FEE_UNIT,
        Amount("1000000", greater_than_zero=True),
        "The smallest unit of a charge.",
    ),
    Vos3000Name("FREE_TIME", billing_keys.FREE_TIME, Whole(0, 86_400), "Seconds subtracted before rating."),
    Vos3000Name(
        "FREE_E164S", billing_keys.FREE_NUMBERS, values.VOS_NUMBERS, "Numbers at no charge, `*` as a suffix."
    ),
    Vos3000Name("NO_CDR_E164S", billing_keys.NO_CDR_NUMBERS, values.VOS_NUMBERS, "Numbers without a CDR."),
    Vos3000Name(
        "PREVENT_OVERDRAFT_ADVANCE_TIME",
        billing_keys.PREVENT_OVERDRAFT_ADVANCE,
        Whole(1, 15),
        "Minutes reserved per prepaid call.",
    ),
)
BY_NAME: dict[str, Vos3000Name[Any]] = {name.name: name for name in NAMES}
