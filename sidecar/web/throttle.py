"""How often someone may try to sign in: by address, and by user, whoever tries. The table is bounded: past
KEYS_MAX the one that was counted longest ago is forgotten."""

from __future__ import annotations

from collections import OrderedDict

WINDOW_S = 300.0
OF_ADDRESS_MAX = 20
# A user is locked out by failures from elsewhere, for a while; guessing one password is worse.
OF_USER_MAX = 10
KEYS_MAX = 10_000

Key = tuple[str, str]  # of what kind, and its name


class Throttle:
    """Of failures; a sign-in forgives those of its user. Times are of a monotonic clock."""

    def __init__(self) -> None:
        self._failures: OrderedDict[Key, list[float]] = OrderedDict()

    def is_held(self, address: str, user: str | None, now_s: float) -> bool:
        """`user`: None where nobody could guess what it has."""
        return any(len(self._recent(key, now_s)) >= most for key, most in _keys(address, user))

    def failed(self, address: str, user: str | None, now_s: float) -> None:
        for key, _ in _keys(address, user):
            recent = [*self._recent(key, now_s), now_s]
            self._failures[key] = recent[-OF_ADDRESS_MAX:]
            self._failures.move_to_end(key)
        while len(self._failures) > KEYS_MAX:
            self._failures.popitem(last=False)

    def signed_in(self, address: str, user: str) -> None:
        """The try that was counted last was none."""
        self._failures.pop(("user", user), None)
        if tries := self._failures.get(("address", address)):
            tries.pop()

    def _recent(self, key: Key, now_s: float) -> list[float]:
        return [at_s for at_s in self._failures.get(key, ()) if now_s - at_s < WINDOW_S]

    def __len__(self) -> int:
        return len(self._failures)


def _keys(address: str, user: str | None) -> list[tuple[Key, int]]:
    """And how often each may fail."""
    keys = [(("address", address), OF_ADDRESS_MAX)]
    return keys if user is None else [*keys, (("user", user), OF_USER_MAX)]
