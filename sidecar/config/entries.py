"""The tables whose entries the operator names or lists: peers, gateways, routes, rules, accounts, decks.

Each field is described once, here; the reference is made of it too. What the entries mean together is checked
in `crosscheck.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from sidecar.config import values
from sidecar.config.problems import Findings, Where, nearest, quoted
from sidecar.config.source import Document
from sidecar.config.values import BadValueError, Choice, Kind, Whole
from sidecar.core.terms import CallerIdForm, Detail, NumberForm, Redirection, TransportName

ENTRIES_MAX = 10_000


class Field:
    def __init__(
        self,
        name: str,
        kind: Kind[Any],
        meaning: str,
        *,
        default: Any = None,
        required: bool = False,
        unit: str = "",
        default_text: str = "",
        not_yet: str = "",
    ) -> None:
        self.name = name
        self.kind = kind
        self.meaning = meaning
        self.default = default
        self.required = required
        self.unit = unit
        self.default_text = default_text
        self.not_yet = not_yet


class Table:
    """`header` is how it is written; a `listed` one is an array of tables, the others have names."""

    def __init__(
        self, name: str, header: str, meaning: str, fields: tuple[Field, ...], *, listed: bool = False
    ) -> None:
        self.name = name
        self.header = header
        self.meaning = meaning
        self.fields = {field.name: field for field in fields}
        self.listed = listed


_STRIP_MEANING = "Digits stripped before the {} rate look-up."
_TAX = Field(
    "tax_rate",
    values.Amount("10"),
    '`"0.19"` is 19 %, on top of the net amount.',
    default=Decimal(0),
    default_text='"0"',
)
_MINIMUM = Field(
    "minimum_charge",
    values.Amount(),
    "The least net amount of a call of which anything is billed.",
    default=Decimal(0),
    default_text='"0"',
)

PROXY_HANGUPS = Table(
    "proxy_hangups",
    "[[peers.NAME.proxy_hangups]]",
    "How a trusted proxy says in its BYE, CANCEL or final response that *it* ended the call.",
    (
        Field("header", values.HEADER, "The header to look at; `reason` too.", required=True),
        Field(
            "contains",
            values.Text(r"[^\x00-\x1f\x7f]{1,200}", "1-200 printable characters"),
            "What its value then contains.",
            required=True,
        ),
        Field(
            "detail",
            Choice(Detail, leave_out=(Detail.BYE, Detail.CANCEL, Detail.REJECTED)),
            "The cause that it means.",
            required=True,
        ),
    ),
    listed=True,
)
PEERS = Table(
    "peers",
    "[peers.NAME]",
    "Groups of addresses that may send us calls, or that a gateway answers from. None is in two groups.",
    (
        Field("addresses", values.NETWORKS, "CIDR blocks or addresses.", required=True),
        Field("port", Whole(0, 65535), "Its source port; 0: any.", default=0),
        Field(
            "tls_names",
            values.WORDS,
            "Names of its certificate, one of which must be there.",
            default=(),
            not_yet="the address alone decides",
        ),
        Field(
            "strip_digits",
            values.STRIP,
            _STRIP_MEANING.format("sell"),
            unit="digits",
            default_text="`billing.strip_digits`",
        ),
        Field(
            "requests_per_s",
            Whole(0, 100_000),
            "Requests of one of its addresses that belong to no call, with repeats; the rest is dropped. "
            "0: no limit.",
            default=0,
            unit="1/s",
        ),
        Field(
            "asserts_identity",
            values.FLAG,
            "Inside the trust domain (RFC 3325): its headers may name the account, and its "
            "P-Asserted-Identity and Remote-Party-ID pass.",
            default=False,
        ),
    ),
)
GATEWAYS = Table(
    "gateways",
    "[gateways.NAME]",
    "Where calls go.",
    (
        Field("host", values.ADDRESS, "Its address; names are not looked up.", required=True),
        Field("port", values.PORT, "Its port.", required=True),
        Field(
            "transport",
            Choice(TransportName),
            "How it is reached.",
            default=TransportName.UDP,
            default_text="udp",
        ),
        Field("strip_digits", values.STRIP, _STRIP_MEANING.format("buy"), default=0, unit="digits"),
        Field(
            "calls_max",
            Whole(1, 100_000),
            "Calls at one time; then the next gateway.",
            default_text="no limit",
        ),
        Field(
            "no_response_failover_s",
            Whole(1, 32),
            "Not even a 100 by then: the next gateway.",
            unit="s",
            default_text="`timers.no_response_failover_s`",
        ),
        Field(
            "no_progress_failover_s",
            Whole(1, 180),
            "Nothing but a 100 by then, no 18x: the next gateway, while one is left.",
            unit="s",
            default_text="off",
        ),
        Field(
            "failover_codes",
            values.FINAL_CODES,
            "Its final responses that send the call to the next gateway.",
            default_text="`sip.failover_codes`",
        ),
        Field(
            "username",
            values.Text(r'[^"\\\x00-\x1f\x7f]{0,255}', 'printable characters but " and \\'),
            "Ours there: its 401 and 407 are answered by us. Without one they go to the caller.",
            default="",
        ),
        Field(
            "password_file",
            values.PATH,
            "A file that holds its password on the first line; relative to the profile.",
        ),
        Field(
            "realm",
            values.Text(r"[^\x00-\x1f\x7f]{0,255}", "printable characters"),
            "The only realm that gets it.",
            default="",
            default_text="any",
        ),
        Field(
            "caller_id",
            Choice(CallerIdForm),
            "How it is told who calls: `pass` as received, `from` the asserted number in From alone, `pai` "
            "in P-Asserted-Identity, `rpid` in Remote-Party-ID.",
            default=CallerIdForm.PASS,
        ),
        Field(
            "caller_number",
            Choice(NumberForm),
            "How From, and what `caller_id` makes, write it: `plus` puts a + before a number that begins "
            "with 1-9, `no_plus` takes it off.",
            default=NumberForm.AS_IS,
        ),
        Field(
            "add_headers",
            values.HEADER_LINES,
            "Added to each INVITE that begins a call there; received ones of that name do not pass.",
            default=(),
        ),
        Field(
            "remove_headers",
            values.HEADER_NAMES,
            "Taken out of every message that passes to it, in-dialog requests and responses included.",
            default=(),
        ),
        Field(
            "probe_interval_s",
            Whole(0, 3600),
            "How often OPTIONS asks whether it is there; 0: never. While down, it is tried after all others.",
            default=0,
            unit="s",
        ),
        Field("probe_timeout_s", Whole(1, 32), "Such a probe has failed by then.", default=4, unit="s"),
        Field("probe_down_after", Whole(1, 100), "So many failed in a row: it is down.", default=2),
        Field("probe_up_after", Whole(1, 100), "So many good ones in a row: it is up again.", default=1),
        Field(
            "probe_alive",
            values.ListOf(values.Text(r"[2-6](xx|[0-9]{2})", '`"200"`–`"699"`, `"2xx"`–`"6xx"`')),
            "The answers that are good.",
            default=(),
            default_text="all but 408, 500, 502, 503, 504",
        ),
        Field(
            "register",
            values.FLAG,
            "We register there, and take that back when the node stops. While it fails, the gateway is down.",
            default=False,
        ),
        Field(
            "register_expires_s", Whole(60, 86_400), "The interval that we ask for.", default=3600, unit="s"
        ),
        Field(
            "register_user",
            values.URI_USER,
            "Of our address of record there, and of our Contact.",
            default="",
            default_text="`username`",
        ),
        Field(
            "register_domain",
            values.Text(r"[A-Za-z0-9.-]{1,255}|\[[0-9A-Fa-f:.]+\]", "a host name or an address"),
            "The registrar's domain: of the address of record, and what is asked. It is not looked up.",
            default="",
            default_text="`host`",
        ),
        Field(
            "record_server_hang_up",
            values.FLAG,
            "Overrides the flag, and its reasons, for calls whose last attempt went here.",
            default_text="`billing.record_server_hang_up`",
        ),
        Field(
            "redirect",
            Choice(Redirection),
            "What becomes of its 3xx: `reject`, `pass` or `follow`.",
            default_text="`sip.redirect`",
        ),
        Field("deck", values.NAME, "The buy deck.", default_text="none: nothing is bought"),
        _TAX,
        _MINIMUM,
    ),
)
ROUTES = Table(
    "routes",
    "[[routes]]",
    "The longest prefix wins. Without any route all calls try all gateways, in the order of the file.",
    (
        Field(
            "prefix", values.PREFIX, 'How the received number begins; `""` is every number.', required=True
        ),
        Field(
            "gateways",
            values.GATEWAYS,
            "Tried in this order. Over the gateways of a group calls are spread by weight; one that fails is "
            "followed by the others of its group, then by what comes after it.",
            required=True,
        ),
    ),
    listed=True,
)
ACCOUNT_RULES = Table(
    "account_rules",
    "[[account_rules]]",
    "Whose call it is: the first rule that applies. Each has one of `peer`, `header` (with `header_value`), "
    "`tls_name`, `called_prefix`.",
    (
        Field("account", values.ACCOUNT_NAME, "The account.", required=True),
        Field("peer", values.NAME, "The call comes from this peer group."),
        Field("header", values.HEADER, "The INVITE has this header; only of peers with `asserts_identity`."),
        Field(
            "header_value",
            values.Text(r"[^\x00-\x1f\x7f]{1,200}", "1-200 printable characters"),
            "Its value.",
        ),
        Field(
            "tls_name", values.Text(r"[!-~]{1,255}", "a certificate name"), "The certificate has this name."
        ),
        Field("called_prefix", values.PREFIX, "The called number begins so."),
    ),
    listed=True,
)
STRIP_RULES = Table(
    "strip_rules",
    "[[strip_rules]]",
    "Named rules, by how the called number begins. The longest prefix wins, and wins over any strip length.",
    (
        Field("name", values.NAME, "The name, as records show it.", required=True),
        Field(
            "prefix",
            values.Text(r"[0-9#*]{1,32}", "1-32 of 0-9 # *"),
            "How the number begins.",
            required=True,
        ),
        Field("strip", values.STRIP, "Digits taken off.", required=True, unit="digits"),
        Field(
            "add",
            values.Text(r"[0-9]{0,8}", "0-8 digits"),
            "Digits put in front: the country code.",
            default="",
        ),
    ),
    listed=True,
)
_MARGIN_FLOOR_MEANING = "The least margin, as a share of the sale."

GROUPS = Table(
    "groups",
    "[groups.NAME]",
    "What several accounts have in common, where an account says nothing itself.",
    (
        Field("deck", values.NAME, "The sell deck.", default_text="`billing.deck`"),
        Field("margin_floor", values.SHARE, _MARGIN_FLOOR_MEANING, default_text="`billing.margin_floor`"),
    ),
)
ACCOUNTS = Table(
    "accounts",
    "[accounts.NAME]",
    "Who pays, and on what terms. Balances are in the journal, not here.",
    (
        Field("currency", values.CURRENCY, "Code of ISO 4217.", default_text="`billing.currency`"),
        Field("prepaid", values.FLAG, "Calls only as far as the balance goes.", default=False),
        Field("group", values.NAME, "The group of accounts that it belongs to."),
        Field("deck", values.NAME, "The sell deck.", default_text="the group's, else `billing.deck`"),
        Field(
            "strip_digits",
            values.STRIP,
            _STRIP_MEANING.format("sell"),
            unit="digits",
            default_text="the peer's",
        ),
        Field("calls_max", Whole(1, 100_000), "Calls at one time; above it, 480.", default_text="no limit"),
        Field(
            "on_no_rate",
            values.Text(r"refuse|carry", "refuse or carry"),
            "What happens to a call without a rate: `refuse` (403) or `carry` (unrated).",
            default_text="`refuse` if prepaid, else `carry`",
        ),
        Field(
            "margin_floor",
            values.SHARE,
            _MARGIN_FLOOR_MEANING,
            default_text="the group's, else `billing.margin_floor`",
        ),
        _TAX,
        _MINIMUM,
    ),
)
DECKS = Table(
    "decks",
    "[decks]",
    '`NAME = "file.csv"`: rate decks, relative to the file that names them; a word without `/` and `.csv` '
    "is one of ours.",
    (),
)

PROFILE_TABLES = {
    table.name: table
    for table in (PEERS, GATEWAYS, ROUTES, ACCOUNT_RULES, STRIP_RULES, GROUPS, ACCOUNTS, DECKS)
}
SETTINGS_TABLES = {table.name: table for table in (GROUPS, ACCOUNTS, DECKS)}


class Entry:
    """One entry, its fields checked one by one. A field that is wrong or missing has its default here; the
    error is in the findings, so nothing is built of it."""

    def __init__(self, document: Document, path: tuple[str | int, ...], table: Table) -> None:
        self._document = document
        self._path = path
        self.table = table
        self.values: dict[str, Any] = {field.name: field.default for field in table.fields.values()}
        self.given: set[str] = set()

    @property
    def name(self) -> str:
        """The name of a named entry."""
        return str(self._path[-1])

    @property
    def written(self) -> str:
        """`gateways.carrier`, `routes[1]`"""
        return _written(self._path)

    def __getitem__(self, field: str) -> Any:
        return self.values[field]

    def where(self, field: str = "") -> Where:
        return self._document.where((*self._path, field) if field else self._path)

    def path(self, field: str) -> Path | None:
        """A path that is written in it, relative to the folder of its document."""
        value = self.values[field]
        return None if value is None else self._document.folder / value

    def key(self, field: str) -> str:
        return f"{self.written}.{field}"


def read_table(document: Document, table: Table, findings: Findings) -> list[Entry]:
    """Every entry of a table of the document, in its order."""
    return list(_read(document, (table.name,), document.data.get(table.name), table, findings))


def read_proxy_hangups(document: Document, peer: Entry, findings: Findings) -> list[Entry]:
    raw = document.data[PEERS.name][peer.name].get(PROXY_HANGUPS.name)
    path = (PEERS.name, peer.name, PROXY_HANGUPS.name)
    return list(_read(document, path, raw, PROXY_HANGUPS, findings))


def _read(
    document: Document, path: tuple[str | int, ...], raw: object, table: Table, findings: Findings
) -> Iterator[Entry]:
    if raw is None:
        return
    items: Sequence[tuple[str | int, object]]
    if table.listed and isinstance(raw, list):
        items = list(enumerate(raw))
    elif not table.listed and isinstance(raw, dict):
        items = list(raw.items())
    else:
        findings.error(document.where(path), _written(path), f"is written as {table.header}")
        return
    if len(items) > ENTRIES_MAX:
        findings.error(document.where(path), _written(path), f"{len(items)} entries: at most {ENTRIES_MAX}")
        return
    name_kind = values.ACCOUNT_NAME if table is ACCOUNTS else values.NAME
    for name, content in items:
        entry = Entry(document, (*path, name), table)
        if not isinstance(content, dict):
            findings.error(entry.where(), entry.written, f"is a table, {table.header}, not {quoted(content)}")
            continue
        if isinstance(name, str):
            try:
                name_kind.read(name)
            except BadValueError as error:
                findings.error(entry.where(), entry.written, f"as a name: {error}")
                continue
        _read_fields(entry, content, findings)
        yield entry


def _read_fields(entry: Entry, content: dict[str, object], findings: Findings) -> None:
    fields = entry.table.fields
    nested = {PROXY_HANGUPS.name} if entry.table is PEERS else set()
    for name, raw in content.items():
        if name in nested:
            continue
        field = fields.get(name)
        if field is None:
            findings.error(
                entry.where(name), entry.key(name), "there is no such key", nearest(name, [*fields, *nested])
            )
            continue
        entry.given.add(name)
        try:
            entry.values[name] = field.kind.read(raw)
        except BadValueError as error:
            findings.error(entry.where(name), entry.key(name), str(error), error.suggestion)
    for field in fields.values():
        if field.required and field.name not in entry.given:
            findings.error(entry.where(), entry.key(field.name), "is missing")


def _written(path: Sequence[str | int]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
