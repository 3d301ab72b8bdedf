"""The state of one INVITE dialog (RFC 4235 §3.7.1) as a table: a pair that is missing leaves the state as it
is, because on the wire anything may come twice or late, and only the first of it moves a dialog."""

from __future__ import annotations

from collections.abc import Mapping

from sidecar.core.terms import DialogState, Word


class Signal(Word):
    INVITE = "invite"
    PROVISIONAL = "provisional"  # 101-199
    ANSWER = "answer"  # 2xx relayed (A) or received (B)
    CLOSED = "closed"  # final error, BYE, CANCEL or a lost transport: no more messages of this dialog


_S = DialogState
TABLE: Mapping[tuple[DialogState, Signal], DialogState] = {
    (_S.TERMINATED, Signal.INVITE): _S.TRYING,  # the next attempt on leg B
    (_S.TRYING, Signal.PROVISIONAL): _S.EARLY,
    (_S.PROCEEDING, Signal.PROVISIONAL): _S.EARLY,
    (_S.TRYING, Signal.ANSWER): _S.CONFIRMED,
    (_S.PROCEEDING, Signal.ANSWER): _S.CONFIRMED,
    (_S.EARLY, Signal.ANSWER): _S.CONFIRMED,
    (_S.TRYING, Signal.CLOSED): _S.TERMINATED,
    (_S.PROCEEDING, Signal.CLOSED): _S.TERMINATED,
    (_S.EARLY, Signal.CLOSED): _S.TERMINATED,
    (_S.CONFIRMED, Signal.CLOSED): _S.TERMINATED,
}


def after(state: DialogState, signal: Signal) -> DialogState:
    return TABLE.get((state, signal), state)
