from __future__ import annotations

import hashlib
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sidecar.adapters.deck_store import Activation, DeckStore, DeckStoreError
from tests.adapters.private import loose, modes, umask

AT = datetime(2026, 3, 1, tzinfo=UTC)


def put(store: DeckStore, content: bytes, at: datetime = AT) -> str:
    revision = hashlib.sha256(content).hexdigest()
    return store.put(revision, [content], rates=1, source="deck.csv", at=at).revision


@pytest.fixture
def store(tmp_path: Path) -> DeckStore:
    return DeckStore(tmp_path / "decks")


def test_a_deck_is_stored_under_the_digest_of_its_file(store: DeckStore) -> None:
    revision = put(store, b"one")
    assert store.path(revision).read_bytes() == b"one"
    assert hashlib.sha256(store.path(revision).read_bytes()).hexdigest() == revision


def test_whatever_the_umask_decks_are_for_this_user_alone(tmp_path: Path) -> None:
    with umask(0):
        store = DeckStore(tmp_path / "data" / "decks")
        store.activate("sell", put(store, b"one"), AT)
    names = modes(tmp_path / "data")
    assert len(names) == 6
    assert {"decks/lock", "decks/active.json"} < names.keys()
    assert loose(tmp_path / "data") == {}


def test_an_import_repeated_changes_nothing(store: DeckStore) -> None:
    revision = put(store, b"one")
    again = store.put(revision, [b"one"], rates=1, source="other.csv", at=AT + timedelta(days=1))
    assert (again.source, again.imported_at) == ("deck.csv", AT)
    assert len(store.decks()) == 1


def test_content_that_is_not_what_its_revision_says_is_not_stored(store: DeckStore) -> None:
    with pytest.raises(DeckStoreError, match="digest"):
        store.put("0" * 64, [b"one"], rates=1, source="x", at=AT)
    assert store.decks() == []


def test_activation_and_rollback_keep_their_history(store: DeckStore) -> None:
    one, two = put(store, b"one"), put(store, b"two", AT + timedelta(hours=1))
    store.activate("sell", one, AT)
    store.activate("sell", two, AT + timedelta(days=1))
    store.activate("buy", two, AT)
    assert {name: active.revision for name, active in store.active().items()} == {"sell": two, "buy": two}
    assert [(found.revision, found.names) for found in store.decks()] == [(one, ()), (two, ("buy", "sell"))]
    assert store.rollback("sell", AT + timedelta(days=2)) == Activation(
        revision=one, at=AT + timedelta(days=2)
    )
    assert [found.revision for found in store.history("sell")] == [one, two, one]
    assert store.rollback("sell", AT).revision == two
    with pytest.raises(DeckStoreError, match="no other deck"):
        store.rollback("buy", AT)


def test_activating_what_is_in_force_changes_nothing(store: DeckStore) -> None:
    revision = put(store, b"one")
    first = store.activate("sell", revision, AT)
    assert store.activate("sell", revision, AT + timedelta(days=1)) == first
    assert len(store.history("sell")) == 1


def test_what_is_not_there_cannot_be_activated(store: DeckStore) -> None:
    for revision in ("0" * 64, "../../etc/passwd", ""):
        with pytest.raises(DeckStoreError, match="there is no deck"):
            store.activate("sell", revision, AT)
    revision = put(store, b"one")
    for name in ("", "a/b", "..\n", "x" * 65):
        with pytest.raises(DeckStoreError, match="not a name"):
            store.activate(name, revision, AT)


def test_a_deck_is_found_by_name_and_by_the_beginning_of_its_revision(store: DeckStore) -> None:
    assert store.decks() == []
    revision = put(store, b"one")
    store.activate("sell", revision, AT)
    assert store.find("sell") == store.find(revision[:6]) == store.find(revision) == revision
    for text in (revision[:5], "nothing", "*", "ffffffffff"):
        with pytest.raises(DeckStoreError, match="there is no deck"):
            store.find(text)


def test_a_damaged_file_is_named(store: DeckStore, tmp_path: Path) -> None:
    revision = put(store, b"one")
    (tmp_path / "decks" / "active.json").write_bytes(b'{"sell": [')
    with pytest.raises(DeckStoreError, match=r"active\.json is damaged"):
        store.active()
    (tmp_path / "decks" / "active.json").unlink()
    (tmp_path / "decks" / f"{revision}.json").unlink()
    with pytest.raises(DeckStoreError, match="missing or damaged"):
        store.decks()


def test_a_crash_at_any_write_leaves_the_old_state_or_the_new(tmp_path: Path) -> None:
    # A child process activates a second deck and is ended, without any clean-up, at its n-th file operation.
    program = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
import sidecar.adapters.deck_store as module

left = int(sys.argv[2])
def counted(event, _arguments):
    global left
    if event in ("open", "os.rename", "os.remove"):
        left -= 1
        if left == 0:
            os._exit(9)
import hashlib
content = b"two"
revision = hashlib.sha256(content).hexdigest()
store = module.DeckStore(Path(sys.argv[1]))
sys.addaudithook(counted)
at = datetime(2026, 3, 2, tzinfo=UTC)
store.put(revision, [content], rates=1, source="x", at=at)
store.activate("sell", revision, at)
"""
    seen = set()
    for number in range(1, 40):
        folder = tmp_path / str(number)
        store = DeckStore(folder)
        one = put(store, b"one")
        store.activate("sell", one, AT)
        ended = subprocess.run([sys.executable, "-c", program, str(folder), str(number)], check=False)
        active = store.active()["sell"].revision
        assert store.path(active).read_bytes() in (b"one", b"two")
        assert {found.revision for found in store.decks()} >= {active}
        put(store, b"three")
        assert not list(folder.glob(".part-*"))
        seen.add(active)
        if ended.returncode == 0:
            break
    assert len(seen) == 2
