"""Who changed what: one entry for each change of policy, account, deck, call or node that a person makes, in
the same transaction as the change itself."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

_ENCODER = msgspec.json.Encoder(order="sorted")


class Operator(msgspec.Struct, frozen=True, gc=False):
    """The person. `uid` is what counts: the kernel says it of whoever opened the control socket. `name` is
    what the caller claimed to be called, because several people may share a user; who claims nothing has the
    name of the user."""

    name: str
    uid: int | None = None  # None: not over the control socket


NODE = Operator("sidecar")  # who is named where no person did it
SIGNAL = Operator("signal")  # and where nobody knows who it was that sent one

RELOAD = "node.reload"  # each entry of this action is a number of the settings in force


class Change(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`before` and `after` are JSON objects of what the change could touch (an account's terms, a balance, a
    deck's revision), as they stood: None where there was nothing, or nothing is left."""

    operator: Operator
    action: str  # the method of the control socket: `account.create`
    subject: str  # the account, deck, call or node that it is about; several: by a space
    before: str | None = None
    after: str | None = None
    text: str = ""  # why, in the operator's words


def told(state: Mapping[str, object]) -> str:
    """`before` or `after` of a change, of anything that JSON has; amounts are plain decimal strings."""
    return _ENCODER.encode(state).decode()
