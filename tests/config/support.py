"""Writes a settings file and a profile, and loads them as a start would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sidecar.adapters.deck_files import DeckRefusedError, read_deck, read_exchange_rates
from sidecar.adapters.postgresql.dsn import dsn_faults
from sidecar.config import ConfigError, Inputs, Loaded, Problem, load
from sidecar.core.margin import ExchangeTable
from sidecar.core.tariff import Deck

PROFILE = """\
[sip]
listen_udp = ["127.0.0.1:0"]

[peers.local]
addresses = ["127.0.0.0/8"]
asserts_identity = true

[gateways.carrier]
host = "127.0.0.1"
port = 5090

[decks]
demo = "demo"
"""


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


class Start:
    """One start in a folder of its own: `sidecar.toml` and `profile.toml`, no environment, no system file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings_file = folder / "sidecar.toml"
        self.profile_file = folder / "profile.toml"

    def inputs(
        self,
        settings: str = "",
        profile: str | None = PROFILE,
        *,
        environ: Mapping[str, str] | None = None,
        command_line: Mapping[str, object] | None = None,
    ) -> Inputs:
        """`profile` None: what the settings say, or the default one."""
        self.settings_file.write_text(settings, encoding="utf-8")
        self.settings_file.chmod(0o600)  # some tests have it for a file with a secret
        words = dict(command_line or {})
        if profile is not None:
            self.profile_file.write_text(profile, encoding="utf-8")
            words.setdefault("sip.profile", str(self.profile_file))
        return Inputs(
            read_deck=deck_or_errors,
            read_exchange=exchange_or_errors,
            read_dsn=dsn_faults,
            host_name="box",
            boot_id="boot",
            command_line=words,
            environ=environ or {},
            config_file=self.settings_file,
            system_file=self.folder / "none.toml",
        )

    def load(
        self,
        settings: str = "",
        profile: str | None = PROFILE,
        *,
        environ: Mapping[str, str] | None = None,
        command_line: Mapping[str, object] | None = None,
    ) -> Loaded:
        return load(self.inputs(settings, profile, environ=environ, command_line=command_line))

    def problems(
        self,
        settings: str = "",
        profile: str | None = PROFILE,
        *,
        environ: Mapping[str, str] | None = None,
        command_line: Mapping[str, object] | None = None,
    ) -> tuple[Problem, ...]:
        """The errors, none if it loads."""
        try:
            self.load(settings, profile, environ=environ, command_line=command_line)
        except ConfigError as error:
            return error.problems
        return ()

    def shown(self, problems: Sequence[Problem]) -> list[str]:
        """As a user sees them, without this test's folder."""
        return [str(problem).replace(f"{self.folder}/", "") for problem in problems]
