"""The entries of one start, gathered from the settings file and the profile, with the decks read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec

from sidecar.config import entries
from sidecar.config.entries import Entry, Table, read_proxy_hangups, read_table
from sidecar.config.problems import Findings, Where, nearest, quoted
from sidecar.config.source import Document
from sidecar.config.values import NAME, PATH, BadValueError
from sidecar.core.margin import ExchangeTable
from sidecar.core.tariff import Deck

DeckReader: TypeAlias = Callable[[Path], Deck | Sequence[str]]
"""Gives the deck in a CSV file, or what is wrong with it, a line each. (The adapter that reads decks stands
beside this layer, so whoever starts us passes it in.)"""


ExchangeReader: TypeAlias = Callable[[Path], ExchangeTable | Sequence[str]]
"""The same for a file of exchange rates."""


class NamedDeck(msgspec.Struct, frozen=True, kw_only=True):
    path: Path
    where: Where
    deck: Deck | None  # None: it could not be read; the errors are in the findings


class Tables(msgspec.Struct, frozen=True, kw_only=True):
    peers: Mapping[str, Entry]
    proxy_hangups: Mapping[str, Sequence[Entry]]  # by peer
    gateways: Mapping[str, Entry]
    routes: Sequence[Entry]
    account_rules: Sequence[Entry]
    strip_rules: Sequence[Entry]
    groups: Mapping[str, Entry]
    accounts: Mapping[str, Entry]
    decks: Mapping[str, NamedDeck]
    profile: Where
    exchange: ExchangeTable = ExchangeTable()


def read_tables(
    settings: Document,
    profile: Document,
    read_deck: DeckReader,
    packaged_decks: Mapping[str, Path],
    findings: Findings,
) -> Tables:
    peers = {entry.name: entry for entry in read_table(profile, entries.PEERS, findings)}
    groups = _of_both(settings, profile, entries.GROUPS, "a group", findings)
    accounts = _of_both(settings, profile, entries.ACCOUNTS, "an account", findings)
    decks: dict[str, NamedDeck] = {}
    for document in (settings, profile):
        _read_decks(document, read_deck, packaged_decks, decks, findings)
    _inherit(accounts, groups)
    return Tables(
        peers=peers,
        proxy_hangups={name: read_proxy_hangups(profile, peer, findings) for name, peer in peers.items()},
        gateways={entry.name: entry for entry in read_table(profile, entries.GATEWAYS, findings)},
        routes=read_table(profile, entries.ROUTES, findings),
        account_rules=read_table(profile, entries.ACCOUNT_RULES, findings),
        strip_rules=read_table(profile, entries.STRIP_RULES, findings),
        groups=groups,
        accounts=accounts,
        decks=decks,
        profile=Where(profile.source),
    )


def _of_both(
    settings: Document, profile: Document, table: Table, what: str, findings: Findings
) -> dict[str, Entry]:
    """The named entries of both documents; none may be in both."""
    found: dict[str, Entry] = {}
    for document in (settings, profile):
        for entry in read_table(document, table, findings):
            other = found.setdefault(entry.name, entry)
            if other is not entry:
                findings.error(entry.where(), entry.written, f"is {what} of {other.where()} too")
    return found


def _inherit(accounts: Mapping[str, Entry], groups: Mapping[str, Entry]) -> None:
    """Give each account what its group says and it does not."""
    for account in accounts.values():
        group = groups.get(account["group"] or "")
        if group is not None:
            account.values.update({name: group[name] for name in group.given - account.given})


def _read_decks(
    document: Document,
    read_deck: DeckReader,
    packaged: Mapping[str, Path],
    decks: dict[str, NamedDeck],
    findings: Findings,
) -> None:
    content = document.data.get(entries.DECKS.name, {})
    if not isinstance(content, dict):
        findings.error(document.where(("decks",)), "decks", f"is written as {entries.DECKS.header}")
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
