"""What a sink must offer. Write your own where records are to go elsewhere: `commit` is the acknowledgement.

The broker hears that a message was taken only after `commit` has returned, and a record that is committed
comes from no `commit` as new again: that is exactly once, as long as a sink writes records and positions
together, or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol

import msgspec

from sidecar.subscriber.progress import Position
from sidecar.subscriber.record import Record


class SinkError(Exception):
    """It cannot be used now, or at all; the text says why."""


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """A message that is no record, or contradicts one that is there. It is kept, because nobody sends it
    again."""

    topic: str
    payload: bytes
    reason: str

    @property
    def digest(self) -> str:
        return blake2b(self.topic.encode() + b"\n" + self.payload, digest_size=16).hexdigest()


class Committed(msgspec.Struct, frozen=True, kw_only=True):
    new: tuple[Record, ...] = ()  # those that were not there
    again: int = 0  # those that were, with the same content
    contradicting: tuple[Rejected, ...] = ()  # those that were with another, or whose number was another's


class Sink(Protocol):
    """Used by one thread at a time. All raise SinkError."""

    @property
    def client_id(self) -> str:
        """The MQTT client id that belongs to it: made once, so that the broker knows its session again."""

    def open(self) -> Sequence[Position]:
        """Called first, and again after a SinkError of `commit`: everything as it was last committed.
        Nobody else may write to it until it is closed."""

    def commit(
        self, records: Sequence[Record], rejected: Sequence[Rejected], positions: Sequence[Position]
    ) -> Committed:
        """Write all of it, or nothing; durable when it returns. A record that is there already, by
        `Record.key`, is not written again."""

    def close(self) -> None: ...
