"""What was, is and will be in force under the name of a deck: a list of activations, each with its time.

Which one is in force is a matter of the list and of the clock alone, so that a start after the time of one
that was scheduled finds it in force. One that could not come into force when its time had come says why,
and is passed over from then on.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

IMPORT = "deck.import"  # in the audit trail: a deck is stored by a command
SETTINGS = ""  # in the place of a revision: the deck that the settings name


class Activation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """From `at` on `revision` is in force under a name. `origin`: from where the command came. `noted`: the
    command is in the audit trail of the journal; `came`: so is that it came into force."""

    revision: str
    at: datetime
    given_at: datetime | None = None  # when the command was given; None: at `at`
    action: str = "deck.activate"
    operator: str = ""
    uid: int | None = None
    origin: str = ""
    text: str = ""
    refused: str = ""  # why it did not come into force
    noted: bool = True
    came: bool = True


class Import(msgspec.Struct, frozen=True, kw_only=True):
    """Who had a deck stored by a command, and why. `noted`: it is in the audit trail of the journal."""

    operator: str
    uid: int | None = None
    text: str = ""
    noted: bool = False


History = Sequence[Activation]  # in the order of their times; of two at one time the later command last


def in_force(history: History, at: datetime) -> Activation | None:
    return next(iter(_held(history, at)[-1:]), None)


def pending(history: History, at: datetime) -> tuple[Activation, ...]:
    """Those to come, the first first."""
    return tuple(one for one in history if one.at > at and not one.refused)


def before(history: History, at: datetime) -> Activation | None:
    """What was in force before that which is now; None: nothing that a command put in force."""
    held = _held(history, at)
    return held[-2] if len(held) > 1 else None


def with_activation(history: History, activation: Activation, kept_max: int) -> list[Activation]:
    place = next((n for n, one in enumerate(history) if one.at > activation.at), len(history))
    return [*history[:place], activation, *history[place:]][-kept_max:]


def _held(history: History, at: datetime) -> list[Activation]:
    return [one for one in history if one.at <= at and not one.refused]
