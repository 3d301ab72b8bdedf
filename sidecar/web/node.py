"""What the page asks of the node, at its control socket, as the command line does, and what it reads in the
books. All of it blocks, and is asked in a thread."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from socket import gethostname
from typing import Any

from sidecar.adapters.control_client import ANSWER_S_MAX, ControlClient, DaemonUnreachableError
from sidecar.adapters.deck_store import DeckStore
from sidecar.adapters.store.books import Books, Look
from sidecar.adapters.store.store import StoreError
from sidecar.config import Settings, node_name
from sidecar.core.users import User
from sidecar.wire.control import SOCKET_NAME
from sidecar.wire.control_users import Deed
from sidecar.wire.methods import ASK_OTHERS_S_MAX

CONNECTIONS_MAX = 6  # at once: the socket has 32, and the command line needs some
WAIT_S_MAX = 5.0
SCRAPE_S_MAX = 5.0
NAME_LENGTH_MAX = 64
SCRAPE_BYTES_MAX = 8_388_608

__all__ = ["CONNECTIONS_MAX", "DaemonUnreachableError", "Node", "StoreError"]


class Node:
    def __init__(self, settings: Settings, books: Books) -> None:
        self.data_dir = settings.node.data_dir.absolute()
        self.books = books
        self._places = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self.name = node_name(settings, gethostname())
        self.zone = settings.node.time_zone

    @contextmanager
    def connected(self, answer_s_max: float = ANSWER_S_MAX) -> Iterator[ControlClient]:
        """For several questions. Raises DaemonUnreachableError."""
        if not self._places.acquire(timeout=WAIT_S_MAX):
            raise DaemonUnreachableError("the page asks the node too much at once: try again")
        try:
            with ControlClient(self.data_dir / SOCKET_NAME, answer_s_max=answer_s_max) as client:
                yield client
        finally:
            self._places.release()

    def ask(self, method: str, **params: object) -> Any:
        """Parameters that are None are left out. Raises CommandError and DaemonUnreachableError."""
        given = {name: value for name, value in params.items() if value is not None}
        with self.connected() as client:
            return client.call(method, given)

    def other(self, name: str) -> str:
        """What somebody has named, where it is not this node."""
        given = name.strip()[:NAME_LENGTH_MAX]
        return "" if given == self.name else given

    def ask_of(self, name: str, method: str, **params: object) -> Any:
        """Of another node of the database, through this one; of this one where none is named."""
        if name in ("", self.name):
            return self.ask(method, **params)
        given = {key: value for key, value in params.items() if value is not None}
        with self.connected(ASK_OTHERS_S_MAX + 5) as client:
            return client.call("node.ask", {"node": name, "what": method, "asked": given})["answer"]

    def note(self, deed: Deed, user: str, subject: str, text: str = "") -> None:
        """On disk when it returns: who may not be noted may not look."""
        self.ask("user.note", deed=deed, operator=user, subject=subject, text=text)

    def user(self, name: str) -> User | None:
        """As the books have it now. Raises StoreError."""
        return self.books.user(name)

    def decks(self) -> DeckStore:
        return DeckStore(self.data_dir / "decks")

    def journal(self) -> AbstractContextManager[Look]:
        """As it stands now; close it soon. Raises StoreError."""
        return self.books.look()

    def metrics(self, place: str) -> str:
        """What Prometheus would read. OSError where nobody answers."""
        with urllib.request.urlopen(f"http://{place}/metrics", timeout=SCRAPE_S_MAX) as answer:
            return str(answer.read(SCRAPE_BYTES_MAX).decode())
