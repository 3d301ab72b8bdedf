"""People who may use the page, and programs that may use its API: their names, and what each of them is there
for (core/rights). A program is one of them that has a token where a person has a password."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

USERS_MAX = 1_000


class Role(StrEnum):
    VIEWER = "viewer"
    RATER = "rater"
    FINANCE = "finance"
    OPERATOR = "operator"
    ADMIN = "admin"


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A secret of 256 random bits: nobody guesses it, so a plain SHA-256 is kept of it."""

    digest: str  # hexadecimal
    expires_at: datetime  # UTC, whole seconds

    def kept(self) -> str:
        """As it stands where a password's hash would."""
        return f"$sha256$until={int(self.expires_at.timestamp())}${self.digest}"


_KEPT_TOKEN = re.compile(r"\$sha256\$until=([0-9]{1,11})\$([0-9a-f]{64})", re.ASCII)


class User(msgspec.Struct, frozen=True, kw_only=True):
    """`password_hash` is Argon2's own text (RFC 9106), or that of a token; None: a reverse proxy says who it
    is."""

    name: str
    role: Role
    password_hash: str | None = None
    enabled: bool = True

    @property
    def token(self) -> Token | None:
        found = _KEPT_TOKEN.fullmatch(self.password_hash or "")
        if found is None:
            return None
        return Token(digest=found[2], expires_at=datetime.fromtimestamp(int(found[1]), UTC))
