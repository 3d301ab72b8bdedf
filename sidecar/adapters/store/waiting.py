"""Which rows of the outbox wait for the broker, changed within one transaction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from sidecar.adapters.store.bodies import ranges

# MQTT 5 §3.4.2.1 (PUBACK), and 0x95, which a row gets that is larger than the broker takes.
REASON_NAMES = {
    0x80: "Unspecified error",
    0x83: "Implementation specific error",
    0x87: "Not authorized",
    0x90: "Topic Name invalid",
    0x91: "Packet Identifier in use",
    0x95: "Packet too large",
    0x97: "Quota exceeded",
    0x99: "Payload format invalid",
}

Letter = tuple[int, int, int, str, int]  # number, boot, reason code, its name, when it died


class BaseWaiting(ABC):
    """The mark `acknowledged_seq` is the highest number that the broker has answered; numbers below it that
    still wait are rows of `outbox_behind`. In order, as brokers answer, only the mark moves. The relay reads
    the lowest numbers first, so as many rows as it sends at once may be passed over, and damaged ones."""

    def __init__(self, boot: int, wall_ns: int, acknowledged_seq: int, head_seq: int) -> None:
        """As they stand before the transaction: what it writes itself cannot have been answered yet."""
        self.acknowledged_seq = acknowledged_seq
        self._boot = boot
        self._wall_ns = wall_ns
        self._head_seq = head_seq

    @abstractmethod
    def _dies(self, letters: Sequence[Letter]) -> None: ...
    @abstractmethod
    def _no_longer_behind(self, first: int, last: int) -> None: ...
    @abstractmethod
    def _leave_behind(self, first: int, last: int) -> None:
        """The mark passes them over."""

    @abstractmethod
    def _is_behind(self, seq: int) -> bool: ...
    @abstractmethod
    def _dead_seqs(self) -> set[int]: ...
    @abstractmethod
    def _wait_again(self, first: int, last: int) -> None:
        """Of these, the dead ones."""

    @abstractmethod
    def _no_longer_dead(self, first: int, last: int) -> None: ...

    def acknowledge(self, delivered: Sequence[int], dead: Sequence[tuple[int, int]]) -> None:
        """Delivered rows wait no longer; dead ones, with their reason code, are dead letters."""
        # A dead letter only while it waits: a repeated acknowledgement must not bring back one that was
        # retried.
        letters = [
            (seq, self._boot, code, REASON_NAMES.get(code, f"0x{code:02x}"), self._wall_ns)
            for seq, code in dead
            if self._waits(seq)
        ]
        self._dies(letters)
        answered = [seq for seq in (*delivered, *(seq for seq, _ in dead)) if seq <= self._head_seq]
        for first, last in ranges(answered):
            if first <= self.acknowledged_seq:
                self._no_longer_behind(first, last)
            elif first > self.acknowledged_seq + 1:
                self._leave_behind(self.acknowledged_seq + 1, first - 1)
            self.acknowledged_seq = max(self.acknowledged_seq, last)

    def retry_dead(self, seqs: Sequence[int] | None) -> int:
        """These dead letters (None: all) wait again; how many there were."""
        chosen = self._dead(seqs)
        for first, last in ranges(chosen):
            self._wait_again(first, last)
        self._forget_dead(chosen)
        return len(chosen)

    def drop_dead(self, seqs: Sequence[int]) -> int:
        """These dead letters will not be tried again; how many there were."""
        chosen = self._dead(seqs)
        self._forget_dead(chosen)
        return len(chosen)

    def _waits(self, seq: int) -> bool:
        if seq > self.acknowledged_seq:
            return seq <= self._head_seq
        return self._is_behind(seq)

    def _dead(self, seqs: Sequence[int] | None) -> list[int]:
        dead = self._dead_seqs()
        return sorted(dead if seqs is None else dead.intersection(seqs))

    def _forget_dead(self, seqs: Sequence[int]) -> None:
        for first, last in ranges(seqs):
            self._no_longer_dead(first, last)
