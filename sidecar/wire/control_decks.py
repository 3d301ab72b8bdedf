"""What is said on the control socket about decks: `deck.*`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from sidecar.wire.control import Moment, OperatorName, Params, Result, Text

DeckName = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_.-]{1,64}$")]
Revision = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class DeckReloadParams(Params, frozen=True, kw_only=True):
    """Take over the deck that is in force under this name now."""

    name: DeckName
    operator: OperatorName | None = None


class DeckCheckParams(Params, frozen=True, kw_only=True):
    """What is known of a name, and what would be wrong if the deck were in force under it."""

    name: DeckName
    revision: Revision | None = None


class DeckActivateParams(Params, frozen=True, kw_only=True):
    """Put a stored deck in force, now or `at` a time. `instead_of`: only if this revision is in force
    (empty: none). `new`: although nobody is rated by the name. `origin`: from where the command comes."""

    name: DeckName
    revision: Revision
    at: Moment | None = None
    operator: OperatorName
    text: Text = ""
    origin: Text = ""
    instead_of: str | None = None
    new: bool = False


class DeckRollbackParams(Params, frozen=True, kw_only=True):
    """Put in force what was in force before; before the first deck there was that of the settings."""

    name: DeckName
    operator: OperatorName
    text: Text = ""
    origin: Text = ""
    instead_of: str | None = None


class DeckCancelParams(Params, frozen=True, kw_only=True):
    """Take back what is to come under a name; with `revision` that alone."""

    name: DeckName
    operator: OperatorName
    revision: Revision | None = None
    text: Text = ""


class DeckReloaded(Result, frozen=True, kw_only=True):
    name: str
    revision: str
    rates: int


class DeckActivated(Result, frozen=True, kw_only=True):
    """`at`: in force from then on. `pending`: when others are to come under the name."""

    name: str
    revision: str
    rates: int
    at: datetime
    pending: tuple[datetime, ...] = ()
    warnings: tuple[str, ...] = ()


class DeckCancelled(Result, frozen=True, kw_only=True):
    name: str
    revisions: tuple[str, ...]
