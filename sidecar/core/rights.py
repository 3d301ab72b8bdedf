"""Which role may do what: the one table that pages and the API ask, for what they show and do."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from sidecar.core.users import Role


class Right(StrEnum):
    SEE = "see"  # figures, calls and records, numbers masked
    MONEY = "money"  # charges, margins, balances, what was booked
    BOOK = "book"  # move a balance
    NUMBERS = "numbers"  # whole numbers, each look noted; and to search by them
    RELEASE = "release"  # end a call
    RATE = "rate"  # take price lists over, put decks in force, take them back
    DELIVER = "deliver"  # send records again, or never
    OPERATE = "operate"  # settings, reload, restart, calls and numbers refused and taken, journal verified
    AUDIT = "audit"  # what people have done
    SETUP = "setup"  # accounts, peers, gateways, routes, who may use page and API; take records away


_EVERYBODY = frozenset({Right.SEE})

MAY: Mapping[Role, frozenset[Right]] = {
    Role.VIEWER: _EVERYBODY,
    Role.RATER: _EVERYBODY | {Right.MONEY, Right.RATE},
    Role.FINANCE: _EVERYBODY | {Right.MONEY, Right.BOOK, Right.NUMBERS},
    Role.OPERATOR: _EVERYBODY
    | {Right.MONEY, Right.NUMBERS, Right.RELEASE, Right.DELIVER, Right.OPERATE, Right.AUDIT},
    Role.ADMIN: frozenset(Right),
}
