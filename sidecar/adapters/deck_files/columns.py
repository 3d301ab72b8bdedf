"""The columns of a deck, in any order, named in the first row."""

from __future__ import annotations

MEANINGS = {
    "prefix": "Digits; empty only in the default row.",
    "destination": "Free text.",
    "currency": "ISO 4217.",
    "connect_fee": "Charged once; empty: none.",
    "price_per_minute": "With the two below: `0.05`, `60`, `6` is 0.05 a minute, at least 60 s, then by 6 s.",
    "initial_s": "The first increment.",
    "increment_s": "The others.",
    "steps": "Instead of the three: `start_s:price/per_s/increment_s`, joined by `;`.",
    "effective_from": "ISO 8601 with an offset: in force from then on; empty: always.",
    "effective_to": "Likewise: no longer in force from then on.",
    "max_duration_s": "The longest call that is sold at this rate; empty: the node's.",
    "default": "`yes` in the default row, which has no prefix.",
    "grace_s": "A call of at most so many seconds is not charged; empty: 0.",
    "included_s": "The first seconds, not billed, in place of `billing.free_s`; empty: that.",
    "minimum_charge": "The least net amount, in place of the account's or gateway's; empty: theirs.",
    "blocked": "`yes`: no call. A sell deck refuses it, a buy deck's gateway is passed over. No price then.",
    "caller_prefix": "How the caller's number begins, or `surcharge`: callers without a number that can be "
    "relied on. Of the rows of the longest prefix that of the longest caller prefix wins; empty: any caller.",
}

REQUIRED = ("prefix", "destination", "currency", "connect_fee")
PER_MINUTE = ("price_per_minute", "initial_s", "increment_s")
TERMS = ("grace_s", "included_s", "minimum_charge", "blocked", "caller_prefix")
OPTIONAL = ("steps", "effective_from", "effective_to", "max_duration_s", "default", *TERMS)
COLUMNS = (*REQUIRED, *PER_MINUTE, *OPTIONAL)
assert tuple(MEANINGS) == COLUMNS
ROW_BY_ROW = ("prefix", "destination", "price_per_minute", "default")  # the others are the same in many rows
ROWS_MAX = 5_000_000
PRICES_KEPT_MAX = 65_536  # texts of which the value is remembered while reading
KINDS_KEPT_MAX = 65_536
