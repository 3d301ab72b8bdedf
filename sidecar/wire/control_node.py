"""What is said on the control socket about the node itself: `node.*`, who listens to it (`subscriber.list`),
and what people changed (`audit.list`)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec

from sidecar.wire.control import PRINTABLE, OperatorName, Params, Result, Rows, Seq, Text
from sidecar.wire.report import Report


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


class NodeForgetParams(Params, frozen=True, kw_only=True):
    """Another node will never start again: what it holds of accounts in advance goes back to them."""

    operator: OperatorName
    node: Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=PRINTABLE)]
    text: Annotated[str, msgspec.Meta(min_length=1)]  # why


class NodeForgotten(Result, frozen=True, kw_only=True):
    node: str
    accounts: int  # of which it held something


class NodeReloadParams(Params, frozen=True, kw_only=True):
    """Read settings, decks, passwords and TLS files anew and put them in force, whole or not at all."""

    operator: OperatorName
    dry_run: bool = False  # say what would change


ACCEPTING = "accepting"  # the state of a node that takes new calls
ASKED_OF_OTHERS = (
    "node.status",
    "node.gateways",
    "node.drain",
    "node.accept",
    "call.list",
    "call.release",
    "cdr.replay",
    "dead-letter.list",
    "dead-letter.show",
    "dead-letter.retry",
    "dead-letter.drop",
)


class NodeListParams(Params, frozen=True, kw_only=True):
    """`every_epoch`: those too that have ended, with the last number of each."""

    every_epoch: bool = False


class NodeAskParams(Params, frozen=True, kw_only=True):
    """A method of ASKED_OF_OTHERS, done by another node of the database as if it were asked over its own
    control socket, by the same operator."""

    node: Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=PRINTABLE)]
    what: Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=PRINTABLE)]
    asked: dict[str, Any] = msgspec.field(default_factory=dict)  # its parameters


class NodeAnswered(Result, frozen=True, kw_only=True):
    node: str
    answer: msgspec.Raw


class NodeListed(Result, frozen=True, kw_only=True):
    """An epoch of a node: its present one, unless all were asked for. What a node tells is null where it was
    not heard within the last three seconds."""

    node: str
    epoch: str
    since: datetime
    is_present: bool  # false: the epoch has ended
    boot_id: str | None
    started_at: datetime | None
    heartbeat_at: datetime | None  # the last commit that said so
    state: str | None  # accepting, drain, journal
    version: str | None
    calls: int | None
    calls_max: int | None
    open_calls: int  # in the books
    base_seq: int  # the last number before the epoch
    head_seq: int  # its last number
    acknowledged_seq: int  # the broker has all up to it, but what `outbox_behind` has
    dead_letters: int = 0  # of the node, in whichever of its epochs
    terms_differ: dict[str, dict[str, str | None]] = msgspec.field(
        default_factory=dict
    )  # by account: what this node's settings say of it and the books do not, which are those of another
    taken_over_by: str | None = None  # who did last; of all epochs: who opened this one
    taken_over_at: datetime | None = None


class NodeList(Result, frozen=True, kw_only=True):
    """By name."""

    tenant: str
    nodes: tuple[NodeListed, ...]


class AuditListParams(Params, frozen=True, kw_only=True):
    """Without `after_entry` the latest, or the latest before `before_entry`. What is not given is not
    asked."""

    after_entry: Seq | None = None
    before_entry: Seq | None = None
    limit: Rows = 100
    by: OperatorName | None = None  # the operator
    uid: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] | None = None
    action: Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=PRINTABLE)] | None = None
    subject: Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=PRINTABLE)] | None = None


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
    journal_failure: str = ""  # what the disk, or the server, says while the journal cannot be written
    calls_let_go: int = 0  # new calls that it has admitted by itself while the database was away
    profile: str = ""
    data_dir: str = ""
    sip: tuple[str, ...] = ()
    metrics: str = ""
    broker: str = ""
    broker_connected: bool = False
    broker_taken_over: int = 0  # so often another node of this tenant and name took the link; 0 is right
    broker_passwords: dict[str, str] = msgspec.field(
        default_factory=dict
    )  # by user of the embedded broker: the file that has his password
    outbox_head_seq: int = 0
    outbox_depth: int = 0
    outbox_oldest_s: float = 0.0
    dead_letters: int = 0
    clock_synchronised: bool | None = None  # by the kernel (adjtimex); null: it does not tell
    clock_steps: int = 0  # how often the wall clock was set since the start
    clock_behind_s: float = 0.0  # behind what the journal holds of an earlier start
    tls_files: dict[str, datetime] = msgspec.field(
        default_factory=dict
    )  # by setting: when the first certificate that is in force of it ends
    tls_refused: str = ""  # what is wrong with the TLS files as they are now


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
    calls_elsewhere: int = 0  # on other nodes of the database, as they told last: they count for calls_max


class GatewayList(Result, frozen=True, kw_only=True):
    gateways: tuple[GatewayShown, ...]


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


class SubscriberShown(Result, frozen=True, kw_only=True):
    """`heard_at`: by the clock of the node; of a report that the broker had retained, when it was made."""

    user: str
    client: str
    heard_at: datetime
    report: Report


class SubscriberList(Result, frozen=True, kw_only=True):
    """Those that may ask for records again, and tell how far they have come."""

    subscribers: tuple[SubscriberShown, ...]
