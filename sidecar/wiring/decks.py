"""The decks that are in force, of the settings and by command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import structlog

from sidecar.adapters.deck_files import (
    canonical_chunks,
)
from sidecar.adapters.deck_files.built import load_built
from sidecar.adapters.deck_store import DeckStore, DeckStoreError
from sidecar.config import Loaded
from sidecar.config.problems import Problem, Where
from sidecar.core.deck_check import check_deck
from sidecar.core.deck_history import SETTINGS, in_force, pending
from sidecar.core.tariff import Deck

log = structlog.get_logger("sidecar")


class Decks(DeckStore):
    """The stored decks, ready for use: the DeckBook port."""

    def load(self, revision: str) -> Deck | Sequence[str]:
        try:
            return load_built(self.path(revision), self.built_path(revision), revision)
        except DeckStoreError as error:
            return [str(error)]

    def in_force(self, name: str, at: datetime) -> Deck | Sequence[str]:
        """The revision that a command put in force under this name."""
        try:
            return self.load(self.find(name, at))
        except DeckStoreError as error:
            return [str(error)]


def decks_in_force(loaded: Loaded, now: datetime) -> tuple[dict[str, str], tuple[Problem, ...]]:
    """What is in force under each name, of the settings or by command, since when, and what comes next; and
    what is wrong with those by command: a start would refuse them."""
    decks = Decks(loaded.settings.node.data_dir / "decks")
    said, wrong = dict[str, str](), list[Problem]()
    histories = decks.histories()
    for name in sorted({*loaded.policy.decks, *histories}):
        history = histories.get(name, [])
        one = in_force(history, now)
        since = "of the settings"
        deck: Deck | Sequence[str] | None = loaded.policy.decks.get(name)
        if one is not None and one.revision != SETTINGS:
            since = "by command"
            deck = decks.load(one.revision)
            errors = check_deck(loaded.policy, name, deck).errors if isinstance(deck, Deck) else deck
            where = Where(str(loaded.settings.node.data_dir / "decks" / "active.json"))
            wrong += [Problem(where=where, key=f"decks.{name}", text=text) for text in errors]
        if one is not None:
            since += f" since {one.at.isoformat()} ({one.operator})"
        if isinstance(deck, Deck):
            said[name] = f"{len(deck)} rates, revision {deck.revision[:12]}, {since}"
        else:
            said[name] = "none" if deck is None else "cannot be read"
        for to_come in pending(history, now)[:1]:
            revision = to_come.revision[:12] or "that of the settings"
            said[name] += f"; from {to_come.at.isoformat()} on {revision}"
    return said, tuple(wrong)


def keep_decks(decks: Decks, of_settings: Mapping[str, Deck], now: datetime) -> None:
    """What the settings name is kept like what was imported: records name revisions, and a deck that is put
    in its place is compared with it. A disk that does not take it is no reason not to start."""
    try:
        for name, deck in of_settings.items():
            decks.put(
                deck.revision,
                canonical_chunks(deck),
                rates=len(deck),
                source=f"settings: decks.{name}",
                at=now,
            )
        decks.forget_built(now)
        if of_settings:
            decks.keep_settings({name: deck.revision for name, deck in of_settings.items()})
    except OSError as error:
        log.warning("decks_not_kept", text=str(error))
