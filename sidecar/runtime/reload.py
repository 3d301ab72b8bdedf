"""Takes over what the settings say now, whole or not at all, while calls run.

In this order: everything is read and checked, and compared with what is in force; what only a start can
change refuses it. Then it is noted in the journal, together with the terms of accounts and what a command
keeps, and may still fail. From there on nothing can, but for an address that somebody else took in that
moment: the SIP side is given its part, and says, in the order of its events, when it is in force. What it let
in before that is decided by the policy of before, and what it let in after by the new one
(`Calls.begin_with_when_told`). Calls that are up keep the policy that they began with; those that the new one
forbids end.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from typing import Protocol

import msgspec
import structlog
from msgspec.structs import replace

from sidecar.core.account_terms import AccountTerms
from sidecar.core.audit import RELOAD, Change, Operator, told
from sidecar.core.policy import Policy
from sidecar.core.reloading import (
    Difference,
    currencies_that_cannot_change,
    decks_that_do_not_suit,
    policies_differ,
    sharing,
    taken_over,
    terms_that_change,
    texts_differ,
    with_changes,
)
from sidecar.core.stored import ListedEntry, StoredEntry
from sidecar.core.terms import Detail
from sidecar.ports import AccountError, StoredEntries
from sidecar.runtime.calls import Calls
from sidecar.runtime.releasing import end_forbidden, release_where

DIFFERENCES_TOLD_MAX = 1_000
# A thread that reads 100,000 accounts gives the event loop its turn after so long, and does not have all
# objects looked at for garbage: measured in tests/bench_reload.
SWITCH_INTERVAL_S = 0.001

log = structlog.get_logger("sidecar.reload")


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What was read: the policy of the settings alone, and what is not of the policy."""

    policy: Policy
    plain: Mapping[str, str] = {}  # every plain setting, by its name
    given_at: Mapping[str, str] = {}  # where it was given: `sidecar.toml:7`, environment; else its default
    passwords: Mapping[str, str] = {}  # by the setting of its file: compared and never shown
    at_start: frozenset[str] = frozenset()  # those of `plain` that only a start takes over
    warnings: Sequence[str] = ()
    listed: Sequence[ListedEntry] = ()
    parts: object = None  # for `Parts`

    def __repr__(self) -> str:
        return "Reading"  # settings may be printed, passwords never


class Parts(Protocol):
    """What is set beside `Calls`. All raise BadSettingsError."""

    def check(self, before: Reading, after: Reading) -> Sequence[str]:
        """What of it only a start can change, by setting. Changes nothing."""

    async def renew_certificates(self, before: Reading, after: Reading) -> bool:
        """What the TLS files hold now is in force for handshakes to come; whether it is something else."""

    def put_in_force(self, before: Reading, after: Reading, policy: Policy) -> bool:
        """At once. Whether the SIP side has something to change: then `Calls` hears of it when it has."""

    async def took_over(self, after: Reading) -> None:
        """The policy is in force."""


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    revision: int | None = None  # None: nothing was put in force
    differences: Sequence[Difference]
    needs_restart: Sequence[str] = ()  # if there is any, nothing was changed
    account_terms: int = 0
    calls_ended: int = 0
    certificates_renewed: bool = False
    warnings: Sequence[str] = ()


class BadSettingsError(Exception):
    """`errors`: each with file, line and key, where it has them."""

    def __init__(self, errors: Sequence[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = errors


# Whoever asks may use up what is read. What is wrong, as texts; asked in a thread.
Read = Callable[[], "Reading | Sequence[str]"]


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What a command keeps together with the reload that puts it in force."""

    change: Change
    before: Sequence[StoredEntry]
    after: Sequence[StoredEntry]


class Reloading:
    """`in_force` is what the node started with, at first."""

    def __init__(
        self,
        calls: Calls,
        stored: StoredEntries,
        read: Read,
        in_force: Reading,
        parts: Parts | None = None,
        telling: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
    ) -> None:
        self._calls = calls
        self._stored = stored
        self._read = read
        self._parts = parts
        self._telling = telling
        self.in_force = in_force
        # Files are read and taken over by one command after the other, decks too: else what was read first
        # could come into force last.
        self.lock = asyncio.Lock()

    async def reload(
        self,
        operator: Operator,
        *,
        dry_run: bool = False,
        read: Read | None = None,
        kept: Kept | None = None,
    ) -> Reloaded:
        """BadSettingsError where something is wrong; that, or whatever the store raises, leaves all as it
        was. A command gives what to `read` with what it keeps. It is whole, whatever becomes of who asked."""
        return await asyncio.shield(self._one(operator, dry_run, read or self._read, kept))

    async def _one(self, operator: Operator, dry_run: bool, read: Read, kept: Kept | None) -> Reloaded:
        async with self.lock, self._telling():
            with self._calls.policies.noting_changes() as changes:
                now = self._calls.policy
                looked = await asyncio.to_thread(_look, read, now, self.in_force)
                gc.freeze()  # as after the start: no collection among the calls needs to walk it
                result = self._checked(looked)
                if dry_run or result.needs_restart:
                    return result
                if self._parts is not None:
                    renewed = await self._parts.renew_certificates(self.in_force, looked.found)
                    result = replace(result, certificates_renewed=renewed)
                if not looked.differences and kept is None:
                    self.in_force = looked.found
                    return result
                revision = await self._noted(looked, operator, now, kept)
                await self._put_in_force(looked, changes, revision, operator, kept)
            ended = await self._end_forbidden(looked, operator)
        log.info(
            "settings_reloaded", operator=operator.name, revision=revision, changed=len(looked.differences)
        )
        return replace(result, revision=revision, calls_ended=ended)

    def _checked(self, looked: _Looked) -> Reloaded:
        fixed = [one.key for one in looked.differences if one.key in looked.found.at_start]
        if self._parts is not None and not fixed:
            fixed += self._parts.check(self.in_force, looked.found)
        return Reloaded(
            differences=looked.differences,
            needs_restart=fixed,
            account_terms=len(looked.terms),
            warnings=looked.found.warnings,
        )

    async def _noted(self, looked: _Looked, operator: Operator, now: Policy, kept: Kept | None) -> int | None:
        """The number of the settings that are to be in force now; None: they differ in nothing."""
        changes = [] if kept is None else [kept.change]
        revision = None
        if looked.differences:
            revision = await self._stored.settings_revision() + 1
            after = {"settings_revision": revision, "changed": _told(looked.differences)}
            changes.append(_change(operator, now, {"settings_revision": now.settings_revision}, after))
        terms = [
            (one, Change(operator=operator, action="account.set", subject=one.name, text="node reload"))
            for one in looked.terms
        ]
        try:
            await self._stored.keep(changes, terms, None if kept is None else kept.after)
        except AccountError as error:
            raise BadSettingsError([str(error)]) from None
        return revision

    async def _put_in_force(
        self,
        looked: _Looked,
        changes: Sequence[Callable[[Policy], Policy]],
        revision: int | None,
        operator: Operator,
        kept: Kept | None,
    ) -> None:
        before, now = self.in_force, self._calls.policy
        after = looked.policy
        if revision is not None:
            after = replace(after, settings_revision=revision)

        def policy() -> Policy:
            return with_changes(after, changes, looked.terms)

        try:
            tells = self._parts is not None and self._parts.put_in_force(before, looked.found, after)
        except BadSettingsError as error:
            # Its account terms stay in the books until the next reload, which finds the others again.
            undone = _change(operator, now, {"settings_revision": revision}, {}, f"taken back: {error}"[:200])
            await self._stored.keep([undone], entries=None if kept is None else kept.before)
            raise
        self.in_force = looked.found
        if tells:
            await self._calls.begin_with_when_told(policy, frozenset(after.peers) - now.peers.keys())
        else:
            self._calls.begin_with(policy())
        if self._parts is not None:
            await self._parts.took_over(looked.found)

    async def _end_forbidden(self, looked: _Looked, operator: Operator) -> int:
        ended = 0
        if looked.closed:
            ended = await release_where(
                self._calls,
                lambda call: call.account.name in looked.closed,
                Detail.ACCOUNT_DISABLED,
                operator=operator.name,
                text="node reload",
            )
        return ended + await end_forbidden(self._calls)


class _Looked(msgspec.Struct, frozen=True):
    found: Reading
    policy: Policy
    differences: Sequence[Difference]
    terms: Sequence[AccountTerms]
    closed: frozenset[str]  # accounts that may have no call any more


@contextmanager
def _in_short_turns() -> Iterator[None]:
    interval_s, collects = sys.getswitchinterval(), gc.isenabled()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.disable()
    try:
        yield
    finally:
        sys.setswitchinterval(interval_s)
        if collects:
            gc.enable()


def _look(read: Read, now: Policy, before: Reading) -> _Looked:
    """In a thread: it reads files, and looks at every account."""
    with _in_short_turns():
        found = read()
        if not isinstance(found, Reading):
            raise BadSettingsError(found)
        fresh = found.policy
        found = replace(found, policy=sharing(before.policy, fresh))
        if found.policy.accounts is not fresh.accounts:
            fresh.accounts.dissolve()
        after = taken_over(now, before.policy, found.policy)
        if wrong := [
            *currencies_that_cannot_change(now, after),
            *decks_that_do_not_suit(after, found.policy),
        ]:
            raise BadSettingsError(wrong)
        known = before.passwords
        others = [name for name, one in found.passwords.items() if known.get(name, one) != one]
        differences = [
            *texts_differ(before.plain, found.plain),
            *(Difference(name, "one password", "another one") for name in others),
            *policies_differ(now, after),
        ]
        terms = terms_that_change(now, after)
        closed = frozenset(one.name for one in terms if not one.enabled)
        return _Looked(found, after, differences, terms, closed)


def _change(
    operator: Operator,
    policy: Policy,
    before: Mapping[str, object],
    after: Mapping[str, object],
    text: str = "",
) -> Change:
    return Change(
        operator=operator,
        action=RELOAD,
        subject=policy.node,
        before=told(before),
        after=told(after),
        text=text,
    )


def _told(differences: Sequence[Difference]) -> list[str]:
    lines = [str(one) for one in differences[:DIFFERENCES_TOLD_MAX]]
    if (more := len(differences) - len(lines)) > 0:
        lines.append(f"and {more} more")
    return lines
