from __future__ import annotations

import hashlib
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sidecar.adapters.deck_store import DeckStore, DeckStoreError
from sidecar.core.deck_history import SETTINGS, Activation
from tests.adapters.private import loose, modes, umask

AT = datetime(2026, 3, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def put(store: DeckStore, content: bytes, at: datetime = AT) -> str:
    revision = hashlib.sha256(content).hexdigest()
    return store.put(revision, [content], rates=1, source="deck.csv", at=at).revision


def activate(
    store: DeckStore, name: str, revision: str, at: datetime, now: datetime | None = None
) -> Activation:
    return store.activate(name, Activation(revision=revision, at=at, given_at=now), now or at)


def rollback(store: DeckStore, name: str, at: datetime, settings_have_it: bool = False) -> Activation:
    return store.rollback(name, Activation(revision="", at=at), at, settings_have_it=settings_have_it)


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
        activate(store, "sell", put(store, b"one"), AT)
    names = modes(tmp_path / "data")
    assert len(names) == 6
    assert {"decks/lock", "decks/active.json"} < names.keys()
    assert loose(tmp_path / "data") == {}


def test_an_import_repeated_changes_nothing(store: DeckStore) -> None:
    revision = put(store, b"one")
    again = store.put(revision, [b"one"], rates=1, source="other.csv", at=AT + timedelta(days=1))
    assert (again.source, again.imported_at) == ("deck.csv", AT)
    assert len(store.decks(AT)) == 1


def test_content_that_is_not_what_its_revision_says_is_not_stored(store: DeckStore) -> None:
    with pytest.raises(DeckStoreError, match="digest"):
        store.put("0" * 64, [b"one"], rates=1, source="x", at=AT)
    assert store.decks(AT) == []


def test_activation_and_rollback_keep_their_history(store: DeckStore) -> None:
    one, two = put(store, b"one"), put(store, b"two", AT + HOUR)
    activate(store, "sell", one, AT)
    activate(store, "sell", two, AT + DAY)
    activate(store, "buy", two, AT)
    now = AT + DAY
    assert {name: active.revision for name, active in store.active(now).items()} == {"sell": two, "buy": two}
    assert [(found.revision, found.names) for found in store.decks(now)] == [
        (one, ()),
        (two, ("buy", "sell")),
    ]
    assert rollback(store, "sell", AT + 2 * DAY) == Activation(revision=one, at=AT + 2 * DAY)
    assert [found.revision for found in store.history("sell")] == [one, two, one]
    assert rollback(store, "sell", AT + 3 * DAY).revision == two
    with pytest.raises(DeckStoreError, match="no other deck"):
        rollback(store, "buy", now)


def test_before_the_first_deck_there_was_that_of_the_settings(store: DeckStore) -> None:
    one = put(store, b"one")
    with pytest.raises(DeckStoreError, match="no other deck"):
        rollback(store, "sell", AT, settings_have_it=True)
    activate(store, "sell", one, AT)
    store.keep_settings({"sell": "0" * 64})
    assert rollback(store, "sell", AT + HOUR, settings_have_it=True).revision == SETTINGS
    assert store.active(AT + HOUR) == {}
    assert store.find("sell", AT + HOUR) == "0" * 64
    assert rollback(store, "sell", AT + DAY, settings_have_it=True).revision == one


def test_a_deck_to_come_is_in_force_from_its_time_on_and_can_be_taken_back(store: DeckStore) -> None:
    one, two, three = (put(store, name) for name in (b"one", b"two", b"three"))
    activate(store, "sell", one, AT)
    activate(store, "sell", two, AT + DAY, now=AT)
    activate(store, "sell", three, AT + HOUR)  # at once, while another is to come
    again = activate(store, "sell", two, AT + DAY, now=AT + HOUR)
    assert again == store.history("sell")[-1]
    assert [store.active(AT + after)["sell"].revision for after in (HOUR / 2, 2 * HOUR, DAY)] == [
        one,
        three,
        two,
    ]
    with pytest.raises(DeckStoreError, match="nothing is to come"):
        store.cancel("sell", AT + HOUR, "ann", one)
    assert [gone.revision for gone in store.cancel("sell", AT + HOUR, "taken back by ann")] == [two]
    assert store.active(AT + 2 * DAY)["sell"].revision == three
    assert store.history("sell")[-1].refused == "taken back by ann"
    with pytest.raises(DeckStoreError, match="nothing is to come"):
        store.cancel("sell", AT + HOUR, "ann")


def test_a_deck_that_could_not_come_into_force_is_passed_over(store: DeckStore) -> None:
    one, two = put(store, b"one"), put(store, b"two")
    activate(store, "sell", one, AT)
    store.refuse("sell", activate(store, "sell", two, AT + DAY, now=AT), "another currency")
    assert store.active(AT + 2 * DAY)["sell"].revision == one


def test_a_clock_that_went_back_hides_no_activation(store: DeckStore) -> None:
    one, two = put(store, b"one"), put(store, b"two")
    activate(store, "sell", one, AT + HOUR)
    activate(store, "sell", two, AT + HOUR)
    assert store.active(AT + HOUR)["sell"].revision == two


def test_activating_what_is_in_force_changes_nothing(store: DeckStore) -> None:
    revision = put(store, b"one")
    first = activate(store, "sell", revision, AT)
    assert activate(store, "sell", revision, AT + timedelta(days=1)) == first
    assert len(store.history("sell")) == 1


def test_what_is_not_there_cannot_be_activated(store: DeckStore) -> None:
    for revision in ("0" * 64, "../../etc/passwd", ""):
        with pytest.raises(DeckStoreError, match="there is no deck"):
            activate(store, "sell", revision, AT)
    revision = put(store, b"one")
    for name in ("", "a/b", "..\n", "x" * 65):
        with pytest.raises(DeckStoreError, match="not a name"):
            activate(store, name, revision, AT)


def test_a_deck_is_found_by_name_and_by_the_beginning_of_its_revision(store: DeckStore) -> None:
    assert store.decks(AT) == []
    revision = put(store, b"one")
    activate(store, "sell", revision, AT)
    assert store.find("sell", AT) == store.find(revision[:6], AT) == store.find(revision, AT) == revision
    for text in (revision[:5], "nothing", "*", "ffffffffff"):
        with pytest.raises(DeckStoreError, match="there is no deck"):
            store.find(text, AT)


def test_a_damaged_file_is_named(store: DeckStore, tmp_path: Path) -> None:
    revision = put(store, b"one")
    (tmp_path / "decks" / "active.json").write_bytes(b'{"sell": [')
    with pytest.raises(DeckStoreError, match=r"active\.json is damaged"):
        store.active(AT)
    (tmp_path / "decks" / "active.json").unlink()
    (tmp_path / "decks" / f"{revision}.json").unlink()
    with pytest.raises(DeckStoreError, match="missing or damaged"):
        store.decks(AT)


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
from sidecar.core.deck_history import Activation
store.activate("sell", Activation(revision=revision, at=at), at)
"""
    seen = set()
    for number in range(1, 40):
        folder = tmp_path / str(number)
        store = DeckStore(folder)
        one = put(store, b"one")
        activate(store, "sell", one, AT)
        ended = subprocess.run([sys.executable, "-c", program, str(folder), str(number)], check=False)
        active = store.active(AT + DAY)["sell"].revision
        assert store.path(active).read_bytes() in (b"one", b"two")
        assert {found.revision for found in store.decks(AT)} >= {active}
        put(store, b"three")
        assert not list(folder.glob(".part-*"))
        seen.add(active)
        if ended.returncode == 0:
            break
    assert len(seen) == 2
