"""The columns of a deck, in any order, named in the first row.

prefix            digits; empty only in the default row, which needs default = yes
destination       free text
currency          ISO 4217
connect_fee       amount, empty for none
price_per_minute, initial_s, increment_s    "0.05, 60, 6": per minute, at least 60 s, then by 6 s
steps             start_s:price/per_s/increment_s joined by ';', instead of the three before it
effective_from, effective_to                ISO 8601 with offset; half-open; empty for always
max_duration_s    longest call sold at this rate; empty for none
default           yes in the default row
"""

from __future__ import annotations

REQUIRED = ("prefix", "destination", "currency", "connect_fee")
PER_MINUTE = ("price_per_minute", "initial_s", "increment_s")
OPTIONAL = ("steps", "effective_from", "effective_to", "max_duration_s", "default")
COLUMNS = (*REQUIRED, *PER_MINUTE, *OPTIONAL)
ROW_BY_ROW = ("prefix", "destination", "price_per_minute", "default")  # the others are the same in many rows
ROWS_MAX = 5_000_000
PRICES_KEPT_MAX = 65_536  # texts of which the value is remembered while reading
KINDS_KEPT_MAX = 65_536
