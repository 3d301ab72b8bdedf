"""What is said on the control socket about the journal: what a salvage left open (`journal.book`,
`journal.release`), and what is no longer kept (`retention.archive`, `retention.erase`)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from sidecar.wire.control import PRINTABLE, ROWS_MAX, AccountName, OperatorName, Params, Reason, Result, Text
from sidecar.wire.control_accounts import Balance


class RetentionRemoveParams(Params, frozen=True, kw_only=True):
    """Remove a few of the calls that were archived, up to a commit, and be asked again until it is done."""

    commit: Annotated[int, msgspec.Meta(ge=1)]
    hash: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    until: datetime  # calls that ended before
    archive: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]  # the SHA-256 of its archive.json
    records: Annotated[int, msgspec.Meta(ge=0)]
    folder: Annotated[str, msgspec.Meta(max_length=4096, pattern=PRINTABLE)]
    text: Text = ""
    operator: OperatorName | None = None


class RetentionEraseParams(Params, frozen=True, kw_only=True):
    """Put a pseudonym in the place of a number in some of the records, and be asked again until it is
    done."""

    number: Annotated[str, msgspec.Meta(pattern="^[0-9]{5,32}$")]
    after: tuple[Annotated[int, msgspec.Meta(ge=0)], Annotated[int, msgspec.Meta(ge=0)]] = (0, 0)
    text: Text = ""
    operator: OperatorName | None = None


class JournalClearParams(Params, frozen=True, kw_only=True):
    """Decide about what a salvage left open of an account's balance: of these entries, or of all. May be
    repeated: what is decided is passed over."""

    account: AccountName
    entries: Annotated[tuple[int, ...], msgspec.Meta(max_length=ROWS_MAX)] = ()
    text: Reason
    operator: OperatorName | None = None


class RetentionRemoved(Result, frozen=True, kw_only=True):
    done: bool  # false: there is more


class RetentionErased(Result, frozen=True, kw_only=True):
    """`waiting`, `open_calls`: records that are still to be published, and calls that are not over, hold it
    still. `after`: to be asked for next; null: that was all."""

    pseudonym: str
    records: int
    waiting: int
    open_calls: int
    after: tuple[int, int] | None


class SuspenseShown(Result, frozen=True, kw_only=True):
    """An entry of the ledger that a person has to decide about: what the balance has of it."""

    entry: int
    currency: str
    amount: str
    call_id: str | None


class JournalCleared(Result, frozen=True, kw_only=True):
    account: str
    cleared: tuple[SuspenseShown, ...]
    left: int  # entries of the account that are still open
    balances: tuple[Balance, ...]
