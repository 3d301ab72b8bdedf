"""What one plain setting is, and the words that some of them choose from."""

from __future__ import annotations

from enum import StrEnum
from typing import Generic, TypeVar

from sidecar.config.values import Kind

T_co = TypeVar("T_co", covariant=True)


class UnlistedSource(StrEnum):
    DROP = "drop"
    REJECT = "reject"


class ReferPolicy(StrEnum):
    REFUSE = "refuse"
    PASS = "pass"  # noqa: S105  # no password


class BrokerKind(StrEnum):
    EMBEDDED = "embedded"
    EXTERNAL = "external"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Key(Generic[T_co]):
    """One setting. `default_text` is what the reference prints where the default depends on the machine;
    `not_yet` what holds instead, where the setting is accepted but not yet in force."""

    def __init__(
        self,
        section: str,
        name: str,
        kind: Kind[T_co],
        default: T_co,
        meaning: str,
        *,
        unit: str = "",
        in_profile: bool = False,
        default_text: str = "",
        not_yet: str = "",
    ) -> None:
        self.path = (*section.split("."), name)
        self.kind = kind
        self.default = default
        self.meaning = meaning
        self.unit = unit
        self.in_profile = in_profile
        self.default_text = default_text
        self.not_yet = not_yet

    @property
    def name(self) -> str:
        return self.path[-1]

    @property
    def dotted(self) -> str:
        return ".".join(self.path)

    @property
    def environment(self) -> str:
        return "SIDECAR_" + "__".join(self.path).upper()
