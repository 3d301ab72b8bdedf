"""What is said on the control socket about accounts: `account.*`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from sidecar.core.account_import import ROWS_MAX as IMPORTED_MAX
from sidecar.core.account_import import Imported
from sidecar.core.account_terms import AccountKind
from sidecar.wire.control import (
    PRINTABLE,
    ROWS_MAX,
    AccountName,
    Amount,
    Currency,
    Moment,
    OperatorName,
    Params,
    Reason,
    Result,
    Rows,
    Seq,
    Text,
)

IMPORTED_PART_MAX = 100  # accounts of one request

Block = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=PRINTABLE)]  # of addresses
SignedAmount = Annotated[str, msgspec.Meta(pattern=r"^-?[0-9]{1,9}(\.[0-9]{1,9})?$")]
ZoneName = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=PRINTABLE)]
Reference = Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=PRINTABLE)]


class AccountCreateParams(Params, frozen=True, kw_only=True):
    """`credit_limit`: how far the balance may go below 0; null: a prepaid account not at all, a postpaid one
    without a limit."""

    name: AccountName
    currency: Currency | None = None  # None: the currency of the settings
    kind: AccountKind = AccountKind.POSTPAID
    credit_limit: Amount | None = None
    valid_from: Moment | None = None
    valid_to: Moment | None = None
    zone: ZoneName = "UTC"
    day_limit: Amount | None = None
    month_limit: Amount | None = None
    low_balance: Amount | None = None
    addresses: Annotated[tuple[Block, ...], msgspec.Meta(max_length=ROWS_MAX)] = ()
    operator: OperatorName | None = None


class AccountSetParams(Params, frozen=True, kw_only=True):
    """What is not given stays; null takes it away. For calls that are up it counts with their next slice."""

    name: AccountName
    kind: AccountKind | msgspec.UnsetType = msgspec.UNSET
    credit_limit: Amount | msgspec.UnsetType | None = msgspec.UNSET
    valid_from: Moment | msgspec.UnsetType | None = msgspec.UNSET
    valid_to: Moment | msgspec.UnsetType | None = msgspec.UNSET
    zone: ZoneName | msgspec.UnsetType = msgspec.UNSET
    day_limit: Amount | msgspec.UnsetType | None = msgspec.UNSET
    month_limit: Amount | msgspec.UnsetType | None = msgspec.UNSET
    low_balance: Amount | msgspec.UnsetType | None = msgspec.UNSET
    text: Text = ""
    operator: OperatorName | None = None


class AccountSwitchParams(Params, frozen=True, kw_only=True):
    """Enable or disable an account, whatever the settings say: a disabled one has no calls, and those that
    are up end."""

    name: AccountName
    text: Text = ""
    operator: OperatorName | None = None


class AccountListParams(Params, frozen=True, kw_only=True):
    """By name; `after` is the last name of the page before."""

    after: AccountName = ""
    limit: Rows = 100


class AccountAddressParams(Params, frozen=True, kw_only=True):
    """Calls from these addresses are the account's, where a rule asks the addresses; `remove`: no longer."""

    name: AccountName
    block: Block
    remove: bool = False
    operator: OperatorName | None = None


class AccountShowParams(Params, frozen=True, kw_only=True):
    name: AccountName
    movements: Annotated[int, msgspec.Meta(ge=0, le=ROWS_MAX)] = 10


class AccountTopupParams(Params, frozen=True, kw_only=True):
    """The same reference for the same account is booked once: a command that may have failed can be
    repeated. With another amount it is refused."""

    name: AccountName
    amount: Amount
    currency: Currency | None = None
    reference: Reference
    text: Text = ""
    operator: OperatorName | None = None


class AccountAdjustParams(Params, frozen=True, kw_only=True):
    """Move a balance up or down, for a reason; `credit_note`: give back what was charged."""

    name: AccountName
    amount: SignedAmount
    currency: Currency | None = None
    reference: Reference
    text: Reason
    credit_note: bool = False
    operator: OperatorName | None = None


class AccountImportPartParams(Params, frozen=True, kw_only=True):
    """Rows of an import that `account.import` then takes over, all or none. The first part of another import
    forgets those of the one before."""

    import_id: Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=PRINTABLE)]
    rows: Annotated[tuple[Imported, ...], msgspec.Meta(min_length=1, max_length=IMPORTED_PART_MAX)]


class AccountImportParams(Params, frozen=True, kw_only=True):
    """Make the accounts, and book their opening balances, in one transaction. May be repeated: what is there
    already, on the same terms and under the same reference, is passed over."""

    import_id: Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=PRINTABLE)]
    count: Annotated[int, msgspec.Meta(ge=1, le=IMPORTED_MAX)]  # of the rows of all parts
    text: Text = ""
    operator: OperatorName | None = None


class AccountLedgerParams(Params, frozen=True, kw_only=True):
    """The latest first; `before_entry` continues."""

    name: AccountName
    before_entry: Seq | None = None
    limit: Rows = 100


class Balance(Result, frozen=True, kw_only=True):
    currency: str
    amount: str


class Movement(Result, frozen=True, kw_only=True):
    """One entry of the ledger. `balance` is the one after it."""

    entry: int
    booked_at: datetime
    kind: str
    amount: str
    currency: str
    balance: str
    call_id: str | None
    reference: str | None
    operator: str | None = None  # who booked it, as claimed, where a person did
    text: str | None = None  # and why


class AccountRow(Result, frozen=True, kw_only=True):
    """`enabled`: whether it may have calls now. `in_settings`: the settings say its terms."""

    name: str
    currency: str
    kind: AccountKind
    credit_limit: str | None
    enabled: bool
    disabled_by_command: bool
    valid_from: datetime | None
    valid_to: datetime | None
    zone: str
    day_limit: str | None
    month_limit: str | None
    low_balance: str | None
    in_settings: bool
    live_calls: int  # on all nodes of the database


class AccountList(Result, frozen=True, kw_only=True):
    accounts: tuple[AccountRow, ...]


class MovementList(Result, frozen=True, kw_only=True):
    movements: tuple[Movement, ...]


class Tranche(Result, frozen=True, kw_only=True):
    """What a node holds of the account in advance, for the time when the database is away."""

    node: str
    currency: str
    amount: str


class AccountShown(AccountRow, frozen=True, kw_only=True):
    """`balances` are free of reservations, and of tranches. `movements`: the latest first."""

    addresses: tuple[str, ...]  # given by command
    balances: tuple[Balance, ...]
    tranches: tuple[Tranche, ...] = ()
    movements: tuple[Movement, ...]


class AccountsImportPart(Result, frozen=True, kw_only=True):
    rows: int  # that there are so far


class AccountsImported(Result, frozen=True, kw_only=True):
    """`opened` accounts are new, `booked` opening balances; `sums` of all rows, by currency."""

    count: int
    opened: int
    booked: int
    sums: dict[str, str]


class ToppedUp(Result, frozen=True, kw_only=True):
    name: str
    reference: str
    balance: Balance
