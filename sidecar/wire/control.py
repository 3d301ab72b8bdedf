"""What is said on the control socket: JSON-RPC 2.0, one request and one answer per line, methods named as on
the command line (`sidecar call release` is `call.release`). Both sides are built from this module: who asks
and who answers.

Parameters are objects with the fields of the structs below, all checked before anything is done; a field that
is not known is an error, because a mistyped filter that is ignored shows the wrong calls. Amounts are decimal
strings.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec

from sidecar.core.account_import import ROWS_MAX as IMPORTED_MAX
from sidecar.core.account_import import Imported
from sidecar.core.account_terms import AccountKind
from sidecar.core.audit import Operator
from sidecar.core.cdr import ChargeRecord
from sidecar.core.terms import Detail, HangupOrigin, ServerReason
from sidecar.wire.report import Report

SOCKET_NAME = "control.sock"
REQUEST_BYTES_MAX = 65_536  # one request line, its newline included
ANSWER_BYTES_MAX = 33_554_432
ROWS_MAX = 1_000  # of one answer: a CDR is 2 to 6 kB
IMPORTED_PART_MAX = 100  # accounts of one request
REPLAYED_MAX = 500  # numbers of one request: below the queue that a broker keeps for a subscriber
ERRORS_SHOWN_MAX = 10  # of a file that is wrong
DEFAULT = "default"  # where a setting comes from that nobody gave
RERATED_MAX = 16  # calls of one request: live ones do not wait for more


class ErrorCode(IntEnum):
    """JSON-RPC's own codes, then ours (from the range that it leaves to servers)."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603
    NOT_FOUND = -32001
    REFUSED = -32002
    BUSY = -32003
    TIMED_OUT = -32004
    WRONG_SETTINGS = -32005


ERROR_MEANINGS = {
    ErrorCode.PARSE_ERROR: "The request is no JSON.",
    ErrorCode.INVALID_REQUEST: "It is no JSON-RPC request, or too long.",
    ErrorCode.METHOD_NOT_FOUND: "There is no such method.",
    ErrorCode.INVALID_PARAMS: "A parameter is missing, unknown or out of its bound.",
    ErrorCode.INTERNAL_ERROR: "A defect of ours; the log has more.",
    ErrorCode.NOT_FOUND: "There is no such call, account, deck or letter.",
    ErrorCode.REFUSED: "It is there, but this cannot be done to it.",
    ErrorCode.WRONG_SETTINGS: "The settings are wrong: all is as it was.",
    ErrorCode.BUSY: "Too many requests at once: ask again.",
    ErrorCode.TIMED_OUT: "No answer in time: what was asked for may have been done.",
}


class CommandError(Exception):
    """An answer that is an error. The text says what to do, and holds no secret."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def in_one_line(errors: Sequence[str]) -> str:
    """The first of them: a file may hold thousands."""
    return "; ".join(errors[:ERRORS_SHOWN_MAX])


RESTART_ANSWER_S_MAX = (
    120.0  # before it is answered, settings and decks are checked as a start would read them
)


class Method(msgspec.Struct, frozen=True):
    """What serves one method: `handle` gets `params`, already checked, and who asks; what it returns becomes
    the result, within so many seconds."""

    params: type[msgspec.Struct]
    handle: Callable[[Any, Operator], Awaitable[object]]
    within_s: float | None = None  # None: as the socket gives every request


# --- parameters ---------------------------------------------------------------------------------------------

_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
OperatorName = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=_PRINTABLE)]
Text = Annotated[str, msgspec.Meta(max_length=200, pattern=_PRINTABLE)]
AccountName = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=_PRINTABLE)]
Block = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=_PRINTABLE)]  # of addresses
Currency = Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")]
# Plain digits with at most one point: no sign, exponent or special value.
Amount = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$")]
SignedAmount = Annotated[str, msgspec.Meta(pattern=r"^-?[0-9]{1,9}(\.[0-9]{1,9})?$")]
ZoneName = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=_PRINTABLE)]
Reference = Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=_PRINTABLE)]
Rows = Annotated[int, msgspec.Meta(ge=1, le=ROWS_MAX)]
Seq = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
TalkSeconds = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,8}(\.[0-9]{1,9})?$")]
NameOnWire = Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]  # a Call-ID or a tag
# A called or calling number, or the beginning of one with `*` after it.
NumberPattern = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=_PRINTABLE)]
BlockPattern = Annotated[str, msgspec.Meta(pattern=r"^(\+?[0-9#]{1,32}\*?|\*)$")]
PeerName = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=_PRINTABLE)]
GatewayName = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=_PRINTABLE)]

DeckName = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_.-]{1,64}$")]
Revision = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Nothing(Params, frozen=True, kw_only=True):
    """The method has no parameters."""


class CallConditions(Params, frozen=True, kw_only=True):
    """Of calls that are up; all that are given must hold. Numbers are as received or billed, `4490*` is a
    beginning; the gateway is that of the last attempt."""

    account: AccountName | None = None
    peer: PeerName | None = None
    gateway: GatewayName | None = None
    callee: NumberPattern | None = None
    caller: NumberPattern | None = None
    older_than_s: Annotated[int, msgspec.Meta(ge=0, le=10_000_000)] | None = None  # since the INVITE


class CallListParams(CallConditions, frozen=True, kw_only=True):
    """`after` is the last call of the page before: `total` is then of those behind it."""

    after: UUID | None = None
    limit: Rows = 100


class CallReleaseParams(CallConditions, frozen=True, kw_only=True):
    """One call by its id, or all that the conditions hold of, of which one at least is given. Conditions
    leave emergency calls alone."""

    call_id: UUID | None = None
    operator: OperatorName
    text: Text = ""


class NodeDrainParams(Params, frozen=True, kw_only=True):
    """`release`: end the live calls too; otherwise they go on until they end by themselves."""

    operator: OperatorName
    release: bool = False
    text: Text = ""


class NodeAcceptParams(Params, frozen=True, kw_only=True):
    """Take new calls again, after a drain."""

    operator: OperatorName
    text: Text = ""


class NodeRestartParams(Params, frozen=True, kw_only=True):
    """End the node and start it again, in the same process; the calls that are up go on."""

    operator: OperatorName
    text: Text = ""


class NodeReloadParams(Params, frozen=True, kw_only=True):
    """Read settings, decks, passwords and TLS files anew and put them in force, whole or not at all."""

    operator: OperatorName
    dry_run: bool = False  # say what would change


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
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=_PRINTABLE)]
    credit_note: bool = False
    operator: OperatorName | None = None


class AccountImportPartParams(Params, frozen=True, kw_only=True):
    """Rows of an import that `account.import` then takes over, all or none. The first part of another import
    forgets those of the one before."""

    import_id: Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=_PRINTABLE)]
    rows: Annotated[tuple[Imported, ...], msgspec.Meta(min_length=1, max_length=IMPORTED_PART_MAX)]


class AccountImportParams(Params, frozen=True, kw_only=True):
    """Make the accounts, and book their opening balances, in one transaction. May be repeated: what is there
    already, on the same terms and under the same reference, is passed over."""

    import_id: Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=_PRINTABLE)]
    count: Annotated[int, msgspec.Meta(ge=1, le=IMPORTED_MAX)]  # of the rows of all parts
    text: Text = ""
    operator: OperatorName | None = None


class AccountLedgerParams(Params, frozen=True, kw_only=True):
    """The latest first; `before_entry` continues."""

    name: AccountName
    before_entry: Seq | None = None
    limit: Rows = 100


class RetentionRemoveParams(Params, frozen=True, kw_only=True):
    """Remove a few of the calls that were archived, up to a commit, and be asked again until it is done."""

    commit: Annotated[int, msgspec.Meta(ge=1)]
    hash: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    until: datetime  # calls that ended before
    archive: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]  # the SHA-256 of its archive.json
    records: Annotated[int, msgspec.Meta(ge=0)]
    folder: Annotated[str, msgspec.Meta(max_length=4096, pattern=_PRINTABLE)]
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
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=_PRINTABLE)]
    operator: OperatorName | None = None


class DeckReloadParams(Params, frozen=True, kw_only=True):
    """Take over the deck that is in force under this name now."""

    name: DeckName
    operator: OperatorName | None = None


class DeckCheckParams(Params, frozen=True, kw_only=True):
    """What is known of a name, and what would be wrong if the deck were in force under it."""

    name: DeckName
    revision: Revision | None = None


class DeckActivateParams(Params, frozen=True, kw_only=True):
    """Put a stored deck in force, now or `at` a time. `instead_of`: only if this revision is in force
    (empty: none). `new`: although nobody is rated by the name. `origin`: from where the command comes."""

    name: DeckName
    revision: Revision
    at: Moment | None = None
    operator: OperatorName
    text: Text = ""
    origin: Text = ""
    instead_of: str | None = None
    new: bool = False


class DeckRollbackParams(Params, frozen=True, kw_only=True):
    """Put in force what was in force before; before the first deck there was that of the settings."""

    name: DeckName
    operator: OperatorName
    text: Text = ""
    origin: Text = ""
    instead_of: str | None = None


class DeckCancelParams(Params, frozen=True, kw_only=True):
    """Take back what is to come under a name; with `revision` that alone."""

    name: DeckName
    operator: OperatorName
    revision: Revision | None = None
    text: Text = ""


class PolicyLiftParams(Params, frozen=True, kw_only=True):
    """Let go what a fraud rule holds: it is counted anew."""

    rule: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_.-]{1,64}$")]
    key: Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=_PRINTABLE)]
    operator: OperatorName
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=_PRINTABLE)]


class PolicyBlockParams(Params, frozen=True, kw_only=True):
    """Refuse calls to this number, or with `*` after it to all that begin so, and end those that are up."""

    number: BlockPattern
    operator: OperatorName
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=_PRINTABLE)]


class PolicyUnblockParams(Params, frozen=True, kw_only=True):
    number: BlockPattern
    operator: OperatorName
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=_PRINTABLE)]


class DeadLetterListParams(Params, frozen=True, kw_only=True):
    after_seq: Seq = 0
    limit: Rows = 100


class DeadLetterShowParams(Params, frozen=True, kw_only=True):
    seq: Seq


class DeadLetterRetryParams(Params, frozen=True, kw_only=True):
    """Without `seqs`: all of them."""

    operator: OperatorName
    seqs: Annotated[tuple[Seq, ...], msgspec.Meta(min_length=1, max_length=ROWS_MAX)] | None = None


class DeadLetterDropParams(Params, frozen=True, kw_only=True):
    operator: OperatorName
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=_PRINTABLE)]
    seqs: Annotated[tuple[Seq, ...], msgspec.Meta(min_length=1, max_length=ROWS_MAX)]


class Restated(Params, frozen=True, kw_only=True):
    """One line of the charges of a call, anew: `charge` as in a CDR. `revision` is the one that it was made
    from."""

    call_id: UUID
    revision: Annotated[int, msgspec.Meta(ge=0)]
    charge: ChargeRecord


class AuditListParams(Params, frozen=True, kw_only=True):
    """Without `after_entry` the latest, or the latest before `before_entry`. What is not given is not
    asked."""

    after_entry: Seq | None = None
    before_entry: Seq | None = None
    limit: Rows = 100
    by: OperatorName | None = None  # the operator
    uid: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] | None = None
    action: Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=_PRINTABLE)] | None = None
    subject: Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=_PRINTABLE)] | None = None


class RerateApplyParams(Params, frozen=True, kw_only=True):
    operator: OperatorName
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=_PRINTABLE)]
    calls: Annotated[tuple[Restated, ...], msgspec.Meta(min_length=1, max_length=RERATED_MAX)]


class CdrShowParams(Params, frozen=True, kw_only=True):
    call_id: UUID


class CdrTailParams(Params, frozen=True, kw_only=True):
    """Without `after_seq` the last `limit` records; with it the first `limit` that follow it."""

    after_seq: Seq | None = None
    limit: Rows = 20


class CdrReplayParams(Params, frozen=True, kw_only=True):
    """Publish records again, on their own topics, marked as replayed: numbers from `from_seq`, or from the
    first of a call that ended at `since` or later, to `to_seq` or the last. At most `limit` numbers; for the
    rest ask again from `next_seq`."""

    operator: OperatorName
    from_seq: Seq | None = None
    to_seq: Seq | None = None
    since: Moment | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=REPLAYED_MAX)] = REPLAYED_MAX


class CdrSearchParams(Params, frozen=True, kw_only=True):
    """All that are given must hold. The period is half-open and asks when the call ended. `number` is the
    caller's or the callee's, as received or as billed. The latest first; `cursor` continues a search.
    `suppressed` asks for the records that were kept back instead of those that were published. `charge_min`
    and `charge_max` bound what the account pays, in `currency`: an answer may then hold fewer records than
    `limit`, and yet a cursor, because only so many are looked at for one answer. `sip_call_id` is of either
    leg, `tag` a From or To tag of either, `session_id` a Session-ID (RFC 7989) or half of it."""

    origin: HangupOrigin | None = None
    reason: ServerReason | None = None
    detail: Detail | None = None
    account: AccountName | None = None
    number: NumberPattern | None = None
    gateway: GatewayName | None = None
    ended_from: Moment | None = None
    ended_to: Moment | None = None
    suppressed: bool = False
    currency: Currency | None = None
    charge_min: Amount | None = None
    charge_max: Amount | None = None
    sip_call_id: NameOnWire | None = None
    tag: NameOnWire | None = None
    session_id: NameOnWire | None = None
    cursor: Annotated[str, msgspec.Meta(pattern="^[0-9]{1,19}[.][0-9]{1,19}$")] | None = None
    limit: Rows = 100


# --- results ------------------------------------------------------------------------------------------------


class Result(msgspec.Struct, frozen=True, kw_only=True):
    pass


class LiveCall(Result, frozen=True, kw_only=True):
    call_id: UUID
    phase: str
    account: str
    peer: str
    gateway: str | None
    caller: str
    callee: str
    invited_at: datetime
    answered_at: datetime | None
    talk_s: float  # whole milliseconds
    granted_s: int | None


class CallList(Result, frozen=True, kw_only=True):
    total: int  # calls that match; `calls` may hold fewer
    calls: tuple[LiveCall, ...]


class CallReleased(Result, frozen=True, kw_only=True):
    call_id: UUID | None = None
    released: bool = True
    count: int = 1  # calls that were ended


class NodeDrained(Result, frozen=True, kw_only=True):
    """`live` calls were up when new ones were first refused, `released` of them were ended."""

    draining: bool
    live: int
    released: int


class NodeAccepts(Result, frozen=True, kw_only=True):
    """`state` as in NodeStatus: new calls may be refused for another reason yet."""

    state: str


class NodeLogsReopened(Result, frozen=True, kw_only=True):
    """What is logged from now on is in the file that has the path now."""

    reopened: bool


class NodeRestarts(Result, frozen=True, kw_only=True):
    """`calls` were up. The node that is there when it is done has another boot id."""

    boot_id: str
    calls: int


class NodeStatus(Result, frozen=True, kw_only=True):
    """Addresses are those that are really in use."""

    tenant: str
    node: str
    boot_id: str
    store_epoch: str
    version: str
    engine: str
    started_at: datetime
    state: str  # accepting, drain, journal: what the bridge was told
    calls: int
    calls_max: int
    settings_revision: int | None = None  # of what is in force; records carry it
    journal_failure: str = ""  # what the disk says while the journal cannot be written
    profile: str = ""
    data_dir: str = ""
    sip: tuple[str, ...] = ()
    metrics: str = ""
    broker: str = ""
    broker_connected: bool = False
    broker_taken_over: int = 0  # so often another node of this tenant and name took the link; 0 is right
    broker_passwords: dict[str, str] = {}  # by user of the embedded broker: the file that has his password
    outbox_head_seq: int = 0
    outbox_depth: int = 0
    outbox_oldest_s: float = 0.0
    dead_letters: int = 0
    clock_synchronised: bool | None = None  # by the kernel (adjtimex); null: it does not tell
    clock_steps: int = 0  # how often the wall clock was set since the start
    clock_behind_s: float = 0.0  # behind what the journal holds of an earlier start
    tls_files: dict[str, datetime] = {}  # by setting: when the first certificate that is in force of it ends
    tls_refused: str = ""  # what is wrong with the TLS files as they are now


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


class NodeReloaded(Result, frozen=True, kw_only=True):
    """`differences` are lines, `+ peers.acme`, `~ timers.ring_timeout_s: 60 -> 30`."""

    settings_revision: int | None  # null: nothing was put in force
    differences: tuple[str, ...]  # the first thousand
    differences_count: int
    needs_restart: tuple[str, ...] = ()  # settings; where there are any, nothing was changed
    account_terms: int = 0  # accounts whose terms changed
    calls_ended: int = 0  # that were up, and are forbidden now
    certificates_renewed: bool = False
    warnings: tuple[str, ...] = ()


class SettingShown(Result, frozen=True, kw_only=True):
    name: str  # billing.currency
    value: str  # in words; of a password its file
    source: str  # sidecar.toml:7, environment, command line, default
    at_start: bool  # only a start changes it


class SettingList(Result, frozen=True, kw_only=True):
    """The plain settings in force, by name; accounts, gateways and the like have lists of their own."""

    settings_revision: int | None
    settings: tuple[SettingShown, ...]


class ServerShown(Result, frozen=True, kw_only=True):
    """One address of a gateway whose host is a name."""

    address: str  # udp:192.0.2.1:5060
    priority: int  # of SRV
    weight: int
    state: str  # up, down, unknown


class GatewayShown(Result, frozen=True, kw_only=True):
    """One gateway of the profile. `state` is `unknown` where it is not probed, and not registered at."""

    gateway: str
    address: str
    transport: str
    state: str  # up, down, unknown
    since: datetime | None  # of that state; null: it never had another
    calls: int
    calls_max: int | None
    probed: bool
    probe_answer: str  # to the last probe: its code, no_response or unreachable
    probe_ms: float | None  # the round trip of the last good one
    probes: int
    probes_failed: int
    registration: str | None  # unregistered, registered, failed, ended; null: it wants none
    register_answer: str
    registered_until: datetime | None
    name_state: str | None = None  # unresolved, resolved, stale, absent; null: its host is an address
    servers: tuple[ServerShown, ...] = ()


class GatewayList(Result, frozen=True, kw_only=True):
    gateways: tuple[GatewayShown, ...]


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
    live_calls: int


class AccountList(Result, frozen=True, kw_only=True):
    accounts: tuple[AccountRow, ...]


class MovementList(Result, frozen=True, kw_only=True):
    movements: tuple[Movement, ...]


class AccountShown(AccountRow, frozen=True, kw_only=True):
    """`balances` are free of reservations. `movements`: the latest first."""

    addresses: tuple[str, ...]  # given by command
    balances: tuple[Balance, ...]
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


class DeckReloaded(Result, frozen=True, kw_only=True):
    name: str
    revision: str
    rates: int


class DeckActivated(Result, frozen=True, kw_only=True):
    """`at`: in force from then on. `pending`: when others are to come under the name."""

    name: str
    revision: str
    rates: int
    at: datetime
    pending: tuple[datetime, ...] = ()
    warnings: tuple[str, ...] = ()


class DeckCancelled(Result, frozen=True, kw_only=True):
    name: str
    revisions: tuple[str, ...]


class DeadLetterShown(Result, frozen=True, kw_only=True):
    """`reason` is the broker's, with its code of MQTT 5."""

    seq: int
    died_at: datetime
    reason_code: int
    reason: str
    bytes: int
    call_id: UUID
    account: str


class DeadLetterList(Result, frozen=True, kw_only=True):
    letters: tuple[DeadLetterShown, ...]  # by seq


class DeadLetterRecord(Result, frozen=True, kw_only=True):
    letter: DeadLetterShown
    record: msgspec.Raw


class DeadLettersDone(Result, frozen=True, kw_only=True):
    count: int  # of those that were dead letters


class FraudRuleShown(Result, frozen=True, kw_only=True):
    name: str
    scope: str
    measure: str
    threshold: str
    currency: str | None
    window_s: int
    mode: str
    lift_after_s: int
    fired: int  # since the start
    held: int


class HeldShown(Result, frozen=True, kw_only=True):
    """What a fraud rule holds."""

    rule: str
    key: str
    mode: str
    measured: str
    since: datetime
    until: datetime | None  # None: it is lifted by hand


class PolicyShown(Result, frozen=True, kw_only=True):
    """`held`: the first of them; the rules say how many there are."""

    fraud_rules: tuple[FraudRuleShown, ...]
    held: tuple[HeldShown, ...]


class PolicyBlocked(Result, frozen=True, kw_only=True):
    number: str  # without its +
    ended: int  # calls that were up


class PolicyUnblocked(Result, frozen=True, kw_only=True):
    number: str


class PolicyBlocks(Result, frozen=True, kw_only=True):
    """By command; those of the settings are not among them."""

    blocks: tuple[str, ...]


class PolicyLifted(Result, frozen=True, kw_only=True):
    lifted: HeldShown


class AuditShown(Result, frozen=True, kw_only=True):
    """A change that a person made. `uid` is the user's, as the kernel said; `operator` is the name that was
    claimed, or the user's."""

    entry: int
    at: datetime
    operator: str
    uid: int | None
    action: str
    subject: str
    before: msgspec.Raw
    after: msgspec.Raw
    text: str


class AuditList(Result, frozen=True, kw_only=True):
    """The oldest first."""

    entries: tuple[AuditShown, ...]


class RerateOutcome(StrEnum):
    REVISED = "revised"
    CHANGED = "changed"  # there is a later revision, or none at all
    BUSY = "busy"  # the call is not quite over: late evidence may still come


class RerateApplied(Result, frozen=True, kw_only=True):
    outcomes: tuple[RerateOutcome, ...]  # in the order of the calls


class CostParams(Params, frozen=True, kw_only=True):
    """What an account pays for a call of so many seconds; the answer is the charge, as a record has it.
    `peer` may be empty: then no peer's digits are stripped. `at`: now if not given."""

    number: NameOnWire
    account: AccountName
    peer: Annotated[str, msgspec.Meta(max_length=64, pattern=_PRINTABLE)] = ""
    seconds: TalkSeconds = "60"
    caller: Annotated[str, msgspec.Meta(max_length=64, pattern=_PRINTABLE)] = ""
    at: Moment | None = None


class RouteTryParams(Params, frozen=True, kw_only=True):
    """A call that is not made: the answer is core.trial.Trial. `address`: empty is the first of the peer's.
    `headers` and `tls_name` are for rules that ask them."""

    number: NameOnWire
    peer: PeerName
    seconds: TalkSeconds = "60"
    caller: Annotated[str, msgspec.Meta(max_length=64, pattern=_PRINTABLE)] = ""
    address: Annotated[str, msgspec.Meta(max_length=45, pattern="^[0-9a-fA-F:.]*$")] = ""
    headers: dict[str, str] = {}
    tls_name: Annotated[str, msgspec.Meta(max_length=255, pattern=_PRINTABLE)] = ""


class CdrRevisions(Result, frozen=True, kw_only=True):
    """Records are JSON, by the schema in sidecar/wire."""

    records: tuple[msgspec.Raw, ...]  # by revision; the last one holds


class CdrTail(Result, frozen=True, kw_only=True):
    records: tuple[msgspec.Raw, ...]
    next_seq: int  # what to give as `after_seq` next


class CdrReplayed(Result, frozen=True, kw_only=True):
    """What became of the numbers up to `to_seq`. Ranges are [first, last]."""

    sent: int
    to_seq: int
    next_seq: int | None  # null: there is no more
    waiting: tuple[tuple[int, int], ...]  # they wait for the broker, and come by themselves
    dead_letters: tuple[tuple[int, int], ...]  # the broker would not take them
    absent: tuple[tuple[int, int], ...]  # the journal does not hold them


class SubscriberShown(Result, frozen=True, kw_only=True):
    """`heard_at`: by the clock of the node; of a report that the broker had retained, when it was made."""

    user: str
    client: str
    heard_at: datetime
    report: Report


class SubscriberList(Result, frozen=True, kw_only=True):
    """Those that may ask for records again, and tell how far they have come."""

    subscribers: tuple[SubscriberShown, ...]


class CdrFound(Result, frozen=True, kw_only=True):
    records: tuple[msgspec.Raw, ...]
    cursor: str | None  # null: there is no more
