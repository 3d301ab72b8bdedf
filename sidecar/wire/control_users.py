"""What is said on the control socket about people who use the page, and programs that use its API:
`user.add`, `user.set`, `user.list`, `token.add`, `token.list`, `token.revoke`; and `user.note`, by which the
page's own process has the audit table tell what they did there."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec

from sidecar.core import deck_history
from sidecar.core.users import Role
from sidecar.wire.control import Moment, OperatorName, Params, Result, Text

# Argon2's own text: no password ever comes over the socket.
PasswordHash = Annotated[str, msgspec.Meta(max_length=256, pattern=r"^\$argon2id\$[!-~]+$")]


class Deed(StrEnum):
    """What is noted of a user of the page, beside what the other methods note."""

    SIGN_IN = "page.sign_in"
    SIGN_IN_REFUSED = "page.sign_in_refused"
    SIGN_OUT = "page.sign_out"
    LOOK = "page.look"  # at whole numbers
    API_REFUSED = "api.refused"  # a token that is none
    IMPORT = deck_history.IMPORT  # what puts it in force is noted by itself
    VERIFY = "journal.verify"  # what came of it


class UserAddParams(Params, frozen=True, kw_only=True):
    """Without `password_hash` a reverse proxy says who it is."""

    name: OperatorName
    role: Role
    password_hash: PasswordHash | None = None
    operator: OperatorName
    text: Text = ""


class UserSetParams(Params, frozen=True, kw_only=True):
    """What is not given stays."""

    name: OperatorName
    role: Role | None = None
    password_hash: PasswordHash | None = None
    enabled: bool | None = None
    operator: OperatorName
    text: Text = ""


class UserNoteParams(Params, frozen=True, kw_only=True):
    """`subject`: from where someone came, or what was looked at."""

    deed: Deed
    subject: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    operator: OperatorName
    text: Text = ""


class TokenAddParams(Params, frozen=True, kw_only=True):
    """`digest`: the SHA-256 of its secret, which never comes over the socket. A name whose token was revoked
    may have another."""

    name: OperatorName
    role: Role
    digest: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    expires_at: Moment
    operator: OperatorName
    text: Text = ""


class TokenRevokeParams(Params, frozen=True, kw_only=True):
    """From the next request on."""

    name: OperatorName
    operator: OperatorName
    text: Text = ""


class TokenShown(Result, frozen=True, kw_only=True):
    name: str
    role: Role
    expires_at: datetime
    revoked: bool


class TokenList(Result, frozen=True, kw_only=True):
    tokens: tuple[TokenShown, ...]


class UserShown(Result, frozen=True, kw_only=True):
    name: str
    role: Role
    has_password: bool
    enabled: bool


class UserList(Result, frozen=True, kw_only=True):
    users: tuple[UserShown, ...]


class Noted(Result, frozen=True, kw_only=True):
    """It is on disk."""
