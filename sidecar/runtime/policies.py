"""By what calls are decided about: each by what the settings said when it began, and by what commands have
changed since."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from weakref import WeakSet

from sidecar.core.policy import Given, Policy

PolicyChange = Callable[[Policy], Policy]


class Generation:
    """What one reading of the settings put in force. There as long as a call or a waiting event holds it."""

    __slots__ = ("__weakref__", "given")

    def __init__(self, given: Given) -> None:
        self.given = given

    def set_policy(self, policy: Policy) -> None:
        self.given = Given(policy, self.given.load, self.given.fraud)


class Policies:
    """`now` is for calls that begin. Calls are told apart by their UUID.int."""

    def __init__(self, given: Given) -> None:
        self.now = Generation(given)
        self.earlier = WeakSet[Generation]()
        self._begun_in: dict[int, Generation] = {}
        self._noting: list[PolicyChange] | None = None

    def of(self, key: int) -> Given:
        return self._begun_in.get(key, self.now).given

    def begun(self, key: int, generation: Generation) -> None:
        self._begun_in[key] = generation

    def over(self, key: int) -> None:
        self._begun_in.pop(key, None)

    def begin(self, given: Given) -> None:
        """For calls that begin from now on; those that are up keep theirs."""
        self.earlier.add(self.now)
        self.now = Generation(given)

    def change(self, change: PolicyChange) -> Policy:
        """By a command (an account, a deck, a block), at once: who has to wait for something waits before.
        Also for what is decided from now on in calls that are up; what they took before they keep."""
        self.now.set_policy(change(self.now.given.policy))
        for generation in self.earlier:
            with suppress(KeyError):  # what is taken away may be unknown to those before
                generation.set_policy(change(generation.given.policy))
        if self._noting is not None:
            self._noting.append(change)
        return self.now.given.policy

    @contextmanager
    def noting_changes(self) -> Iterator[Sequence[PolicyChange]]:
        """Those that are made while the block runs: a policy that is being made has to have them too."""
        self._noting = noted = list[PolicyChange]()
        try:
            yield noted
        finally:
            self._noting = None
