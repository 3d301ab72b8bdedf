"""VOS3000's names for our settings: in `[vos3000]` of the settings file, and as plain environment variables.

Each stands for the setting beside it, with VOS3000's own bounds. Given together with another name of the same
setting in the same layer, both must say the same.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sidecar.config import values
from sidecar.config.settings import DECLARED
from sidecar.config.values import Kind, Whole

SECTION = "vos3000"
STEM = "SERVER_BILLING_"


class Vos3000Name(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    path: tuple[str, ...]
    kind: Kind[Any]
    meaning: str


def _name(name: str, setting: str, meaning: str, kind: Kind[Any] | None = None) -> Vos3000Name:
    path = ("billing", setting)
    return Vos3000Name(name=STEM + name, path=path, kind=kind or DECLARED[path].kind, meaning=meaning)


NAMES = (
    _name(
        "RECORD_SERVER_HANG_UP",
        "record_server_hang_up",
        "0: calls that the server ended get no CDR and no charge.",
        values.VOS_FLAG,
    ),
    _name("GATEWAY_ROUTE_PREFIX", "strip_digits", "Leading digits stripped before the rate look-up."),
    _name("RECORD_ZERO_HOLD_TIME", "record_zero_hold_time", "CDRs for calls of 0 s.", values.VOS_FLAG),
    _name(
        "RECORD_ILLEGAL_CALL",
        "record_illegal_call",
        "CDRs for calls of unauthorised sources.",
        values.VOS_FLAG,
    ),
    _name("HOLD_TIME_PRECISION", "hold_time_precision_ms", "At 50, 21.049 s bills 21 and 21.050 s bills 22."),
    _name(
        "FEE_PRECISION",
        "decimals",
        "Decimals of the fee. VOS3000's own default is 2; unset here means 6.",
        Whole(0, 4),
    ),
    _name("FEE_PRECISTION", "decimals", "The same, as VOS3000's manual also spells it.", Whole(0, 4)),
    _name("FEE_UNIT", "fee_unit", "The smallest unit of a charge."),
    _name("FREE_TIME", "free_s", "Seconds subtracted before rating."),
    _name("FREE_E164S", "free_numbers", "Numbers at no charge, `*` as a suffix.", values.VOS_NUMBERS),
    _name("NO_CDR_E164S", "no_cdr_numbers", "Numbers without a CDR.", values.VOS_NUMBERS),
    _name(
        "PREVENT_OVERDRAFT_ADVANCE_TIME",
        "prevent_overdraft_advance_min",
        "Minutes of a prepaid call that are reserved at a time: a slice.",
    ),
)
BY_NAME = {name.name: name for name in NAMES}
