"""Who is signed in: sessions in this process's memory, so a restart signs everybody out. A cookie holds 256
random bits; what is kept of it is its hash."""

from __future__ import annotations

import hashlib
import secrets

import msgspec

IDLE_S_MAX = 1_800
AGE_S_MAX = 43_200
SESSIONS_MAX = 1_000  # with one more the one that was idle longest ends
OF_ONE_USER_MAX = 10
NOTICE_LENGTH_MAX = 500


class Session(msgspec.Struct, kw_only=True):
    user: str
    mark: str  # of the password that it began with: with another one it is over
    csrf: str  # what a form must bring along
    began_s: float
    seen_s: float
    notice: str = ""  # what the next page says, once


class Sessions:
    """Times are of a monotonic clock."""

    def __init__(self) -> None:
        self._sessions: dict[bytes, Session] = {}  # by the hash of the token; the least seen first

    def begin(self, user: str, now_s: float, mark: str = "") -> tuple[str, Session]:
        """The token is always a new one, whatever the browser sent."""
        self._forget(now_s)
        own = [key for key, one in self._sessions.items() if one.user == user]
        for key in own[: max(0, len(own) - OF_ONE_USER_MAX + 1)]:
            del self._sessions[key]
        while len(self._sessions) >= SESSIONS_MAX:
            del self._sessions[next(iter(self._sessions))]
        token = secrets.token_urlsafe(32)
        csrf = secrets.token_urlsafe(32)
        session = Session(user=user, mark=mark, csrf=csrf, began_s=now_s, seen_s=now_s)
        self._sessions[_hash(token)] = session
        return token, session

    def find(self, token: str, now_s: float) -> Session | None:
        key = _hash(token)
        session = self._sessions.pop(key, None)
        if session is None or _is_over(session, now_s):
            return None
        session.seen_s = now_s
        self._sessions[key] = session
        return session

    def end(self, token: str) -> None:
        self._sessions.pop(_hash(token), None)

    def end_all_of(self, user: str) -> None:
        for key in [key for key, one in self._sessions.items() if one.user == user]:
            del self._sessions[key]

    def _forget(self, now_s: float) -> None:
        for key in [key for key, one in self._sessions.items() if _is_over(one, now_s)]:
            del self._sessions[key]

    def __len__(self) -> int:
        return len(self._sessions)


def _is_over(session: Session, now_s: float) -> bool:
    return now_s - session.seen_s > IDLE_S_MAX or now_s - session.began_s > AGE_S_MAX


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
