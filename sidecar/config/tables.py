"""The entries of one start, read field by field from the settings file and the profile, with the decks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from sidecar.config import entries
from sidecar.config.entries import NESTED, Table
from sidecar.config.problems import Findings, Where, nearest, quoted
from sidecar.config.source import Document
from sidecar.config.stored import NOTHING_STORED, Stored, StoredDocument
from sidecar.config.values import ACCOUNT_NAME, NAME, PATH, BadValueError
from sidecar.core.addresses import canonical_block
from sidecar.core.margin import ExchangeTable
from sidecar.core.tariff import Deck

ENTRIES_MAX = 200_000

DeckReader: TypeAlias = Callable[[Path], Deck | Sequence[str]]
"""Gives the deck in a CSV file, or what is wrong with it, a line each. (The adapter that reads decks stands
beside this layer, so whoever starts us passes it in.)"""


ExchangeReader: TypeAlias = Callable[[Path], ExchangeTable | Sequence[str]]
"""The same for a file of exchange rates."""


class Entry:
    """One entry, its fields checked one by one. A field that is wrong or missing has its default here; the
    error is in the findings, so nothing is built of it. Entries that say the same share `values` and
    `given`."""

    __slots__ = ("_key", "_within", "document", "given", "table", "values")

    def __init__(
        self, document: Document, within: tuple[str | int, ...], key: str | int, table: type[Table]
    ) -> None:
        self.document = document
        self._within = within
        self._key = key
        self.table = table
        self.values: Mapping[str, Any] = {}
        self.given: AbstractSet[str] = frozenset()

    @property
    def _path(self) -> tuple[str | int, ...]:
        return (*self._within, self._key)

    @property
    def name(self) -> str:
        """The name of a named entry."""
        return str(self._key)

    @property
    def written(self) -> str:
        """`gateways.carrier`, `routes[1]`"""
        return _written(self._path)

    @property
    def within(self) -> str:
        """Its table: `gateways`."""
        return str(self._within[0])

    @property
    def is_stored(self) -> bool:
        """Made by command, not by a file."""
        return isinstance(self.document, StoredDocument)

    @property
    def known_by(self) -> str | None:
        """What commands name it by; None: nothing, as rules of a file that have no name."""
        by = self.table.named_by
        return self.values[by] if by else self.name

    @property
    def raw(self) -> Mapping[str, Any]:
        """What its document says of it."""
        said: Any = self.document.data
        for part in self._path:
            said = said[part]
        return said  # type: ignore[no-any-return]

    def __getitem__(self, field: str) -> Any:
        return self.values[field]

    def where(self, field: str = "") -> Where:
        return self.document.where((*self._path, field) if field else self._path)

    def at(self, field: str = "") -> tuple[Where, str]:
        """For a problem: where it is, or where its field is, and the key as it is written."""
        return self.where(field), _written((*self._path, field)) if field else self.written

    def path(self, field: str) -> Path | None:
        """A path that is written in it, relative to the folder of its document."""
        value = self.values[field]
        return None if value is None else self.document.folder / value


class NamedDeck(msgspec.Struct, frozen=True, kw_only=True):
    path: Path
    where: Where
    deck: Deck | None  # None: it could not be read; the errors are in the findings


class AccountBlock(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    where: Where
    key: str


class Tables(msgspec.Struct, frozen=True, kw_only=True):
    peers: Mapping[str, Entry]
    proxy_hangups: Mapping[str, Sequence[Entry]]  # by peer
    gateways: Mapping[str, Entry]
    routes: Sequence[Entry]
    account_rules: Sequence[Entry]
    strip_rules: Sequence[Entry]
    fraud_rules: Sequence[Entry]
    groups: Mapping[str, Entry]
    accounts: Mapping[str, Entry]
    account_addresses: Mapping[str, AccountBlock]  # by the block in its canonical form
    decks: Mapping[str, NamedDeck]
    profile: Where
    exchange: ExchangeTable = ExchangeTable()

    def default_deck(self, named: str) -> str:
        """The sell deck of accounts that name none: `billing.deck`, else the only one there is, else none."""
        return named or (next(iter(self.decks)) if len(self.decks) == 1 else "")


def read_tables(
    settings: Document,
    profile: Document,
    read_deck: DeckReader,
    packaged_decks: Mapping[str, Path],
    findings: Findings,
    stored: Stored = NOTHING_STORED,
) -> Tables:
    def of_profile(name: str) -> list[Entry]:
        table = entries.PROFILE_TABLES[name]
        found = list(_read(profile, (name,), profile.data.get(name), table, findings))
        before, behind = (
            list(_read(document, (name,), document.data.get(name), table, findings)) for document in stored
        )
        return merged(before, found, behind, findings)

    peers = {entry.name: entry for entry in of_profile("peers")}
    groups = _of_both(settings, profile, "groups", "a group", findings)
    accounts = _of_both(settings, profile, "accounts", "an account", findings)
    decks: dict[str, NamedDeck] = {}
    blocks: dict[str, AccountBlock] = {}
    for document in (settings, profile):
        _read_account_addresses(document, blocks, findings)
        _read_decks(document, read_deck, packaged_decks, decks, findings)
    _inherit(accounts, groups)
    return Tables(
        peers=peers,
        proxy_hangups={name: _proxy_hangups(entry, findings) for name, entry in peers.items()},
        gateways={entry.name: entry for entry in of_profile("gateways")},
        routes=of_profile("routes"),
        account_rules=of_profile("account_rules"),
        strip_rules=of_profile("strip_rules"),
        fraud_rules=[
            rule for document in (settings, profile) for rule in read_fraud_rules(document, findings)
        ],
        groups=groups,
        accounts=accounts,
        account_addresses=blocks,
        decks=decks,
        profile=Where(profile.source),
    )


def read_fraud_rules(document: Document, findings: Findings) -> list[Entry]:
    name = "fraud_rules"
    return list(_read(document, (name,), document.data.get(name), entries.FraudRules, findings))


def _of_both(
    settings: Document, profile: Document, table: str, what: str, findings: Findings
) -> dict[str, Entry]:
    """The named entries of both documents; none may be in both."""
    found: dict[str, Entry] = {}
    for document in (settings, profile):
        kind = entries.PROFILE_TABLES[table]
        for entry in _read(document, (table,), document.data.get(table), kind, findings):
            other = found.setdefault(entry.name, entry)
            if other is not entry:
                findings.error(*entry.at(), f"is {what} of {other.where()} too")
    return found


def _inherit(accounts: Mapping[str, Entry], groups: Mapping[str, Entry]) -> None:
    """Give each account what its group says and it does not."""
    made: dict[tuple[int, str], tuple[Mapping[str, Any], Mapping[str, Any]]] = {}  # before and after
    for account in accounts.values():
        group = groups.get(account["group"] or "")
        if group is not None:
            own = account.values
            key = id(own), group.name
            if key not in made:
                inherited = {name: group[name] for name in group.given - account.given}
                made[key] = own, {**own, **inherited}
            account.values = made[key][1]


def _proxy_hangups(peer: Entry, findings: Findings) -> list[Entry]:
    path = ("peers", peer.name, NESTED)
    return list(_read(peer.document, path, peer.raw.get(NESTED), entries.ProxyHangups, findings))


def merged(
    before: Sequence[Entry], of_file: Sequence[Entry], behind: Sequence[Entry], findings: Findings
) -> list[Entry]:
    """The entries of one table, in the order in which they count. What the file names holds, and whatever
    commands have made under that name does not."""
    named = {entry.known_by: entry for entry in of_file if entry.known_by is not None}
    for entry in (*before, *behind):
        if (holds := named.get(entry.known_by or "")) is not None and entry.known_by is not None:
            text = f"was also made by a {entry.where()}: what the file says holds"
            findings.warn(*holds.at(), text)
    kept_before, kept_behind = (
        [entry for entry in stored if entry.known_by not in named] for stored in (before, behind)
    )
    return [*kept_before, *of_file, *kept_behind]


def _read(
    document: Document, path: tuple[str | int, ...], raw: object, table: type[Table], findings: Findings
) -> Iterator[Entry]:
    """Every entry of a table of the document, in its order."""
    if raw is None:
        return
    items: Sequence[tuple[str | int, object]]
    if table.is_listed() and isinstance(raw, list):
        items = list(enumerate(raw))
    elif (not table.is_listed() or isinstance(document, StoredDocument)) and isinstance(raw, dict):
        items = list(raw.items())
    else:
        findings.error(document.where(path), _written(path), f"is written as {table.heading}")
        return
    if len(items) > ENTRIES_MAX:
        findings.error(document.where(path), _written(path), f"{len(items)} entries: at most {ENTRIES_MAX}")
        return
    whole: dict[int, Entry] = {}  # by the identity of what it says (see `toml`): one without an error
    for name, content in items:
        entry = Entry(document, path, name, table)
        if not isinstance(content, dict):
            findings.error(*entry.at(), f"is a table, {table.heading}, not {quoted(content)}")
            continue
        if isinstance(name, str):
            try:
                table.names.read(name)
            except BadValueError as error:
                findings.error(*entry.at(), f"as a name: {error}")
                continue
        same = whole.get(id(content))
        if same is not None:
            entry.values, entry.given = same.values, same.given
        elif _read_fields(entry, content, findings):
            whole[id(content)] = entry
        yield entry


def _read_fields(entry: Entry, content: dict[str, object], findings: Findings) -> bool:
    """Whether there was no error."""
    fields = entry.table.fields()
    nested = {NESTED} if entry.table is entries.Peers else set()
    values = {name: field.default for name, field in fields.items()}
    given = {name for name in content if name in fields}
    entry.values, entry.given = values, given
    good = True
    for name, raw in content.items():
        if name in nested:
            continue
        field = fields.get(name)
        if field is None:
            findings.error(*entry.at(name), "there is no such key", nearest(name, [*fields, *nested]))
            good = False
            continue
        try:
            values[name] = field.kind.read(raw)
        except BadValueError as error:
            findings.error(*entry.at(name), str(error), error.suggestion)
            good = False
            continue
        if entry.is_stored and isinstance(values[name], Path) and not values[name].is_absolute():
            findings.error(*entry.at(name), f"a path of a command is absolute, not {quoted(raw)}")
            good = False
    for field in fields.values():
        if field.required and field.name not in given:
            findings.error(entry.where(), entry.at(field.name)[1], "is missing")
            good = False
    return good


def _written(path: Sequence[str | int]) -> str:
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text and part else part or '.""'
    return text


def _read_account_addresses(document: Document, blocks: dict[str, AccountBlock], findings: Findings) -> None:
    name = "account_addresses"
    content = document.data.get(name, {})
    if not isinstance(content, dict):
        findings.error(document.where((name,)), name, f"is written as {entries.AccountAddresses.heading}")
        return
    for written, raw in content.items():
        where, key = document.where((name, written)), f"{name}.{quoted(written)}"
        try:
            account, block = ACCOUNT_NAME.read(raw), canonical_block(written)
        except (BadValueError, ValueError) as error:
            findings.error(where, key, str(error))
            continue
        known = blocks.setdefault(block, AccountBlock(account=account, where=where, key=key))
        if known.where != where:
            findings.error(where, key, f"is a block of {known.where} too")


def _read_decks(
    document: Document,
    read_deck: DeckReader,
    packaged: Mapping[str, Path],
    decks: dict[str, NamedDeck],
    findings: Findings,
) -> None:
    content = document.data.get("decks", {})
    if not isinstance(content, dict):
        findings.error(document.where(("decks",)), "decks", f"is written as {entries.Decks.heading}")
        return
    for name, raw in content.items():
        where, key = document.where(("decks", name)), f"decks.{name}"
        try:
            NAME.read(name)
            written = str(PATH.read(raw))
        except BadValueError as error:
            findings.error(where, key, str(error))
            continue
        if name in decks:
            findings.error(where, key, f"is a deck of {decks[name].where} too")
            continue
        path = document.folder / written
        if "/" not in written and not written.endswith(".csv"):
            if written not in packaged:
                known = ", ".join(sorted(packaged))
                findings.error(
                    where,
                    key,
                    f"there is no deck {quoted(written)} (ours: {known})",
                    nearest(written, packaged),
                )
                continue
            path = packaged[written]
        decks[name] = NamedDeck(path=path, where=where, deck=_deck(path, where, key, read_deck, findings))


def _deck(path: Path, where: Where, key: str, read_deck: DeckReader, findings: Findings) -> Deck | None:
    read = read_deck(path)
    if isinstance(read, Deck):
        return read
    for problem in read:
        findings.error(where, key, problem)
    return None
