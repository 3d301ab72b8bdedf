"""What a start reads on this machine, and where its log goes."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from sidecar.adapters.deck_files import (
    DeckRefusedError,
    read_deck,
    read_exchange_rates,
)
from sidecar.adapters.logs import Journal, LogError, stderr_is_journal
from sidecar.b2bua.certificates import file_state, tls_faults
from sidecar.config import Inputs, Settings
from sidecar.config.settings import LogPlace
from sidecar.core.margin import ExchangeTable
from sidecar.core.tariff import Deck
from sidecar.wiring.journal import dsn_faults, stored_or_error

STDERR = 2


def inputs(
    command_line: Mapping[str, object], environ: Mapping[str, str], config_file: Path | None
) -> Inputs:
    """What a start is made of on this machine; the boot id is new each time. Each deck is read once, until
    its file is another."""
    return Inputs(
        read_deck=_DeckFiles().read,
        read_exchange=exchange_or_errors,
        read_tls=tls_faults,
        read_dsn=dsn_faults,
        read_stored=stored_or_error,
        host_name=socket.gethostname(),
        boot_id=secrets.token_hex(8),
        command_line=command_line,
        environ=environ,
        config_file=config_file,
    )


class _DeckFiles:
    def __init__(self) -> None:
        self._read: dict[Path, tuple[object, Deck | Sequence[str]]] = {}

    def read(self, path: Path) -> Deck | Sequence[str]:
        state = file_state(path)
        if path not in self._read or self._read[path][0] != state:
            self._read[path] = (state, deck_or_errors(path))
        return self._read[path][1]


def deck_or_errors(path: Path) -> Deck | Sequence[str]:
    try:
        return read_deck(path)
    except DeckRefusedError as refused:
        return [str(error) for error in refused.errors]


def exchange_or_errors(path: Path) -> ExchangeTable | Sequence[str]:
    try:
        return read_exchange_rates(path)
    except DeckRefusedError as refused:
        return [str(error) for error in refused.errors]


def log_place(settings: Settings, environ: Mapping[str, str]) -> int | Path | Journal:
    """Where log lines go: a file, systemd's journal, or stderr."""
    if settings.log.file is not None:
        return settings.log.file
    to, by_itself = settings.log.to, settings.log.to is LogPlace.AUTO and stderr_is_journal(environ)
    try:
        return Journal() if to is LogPlace.JOURNAL or by_itself else STDERR
    except OSError as error:
        if by_itself:
            return STDERR
        raise LogError(f"log.to journal: {error.strerror}") from None
