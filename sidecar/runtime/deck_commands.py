"""Decks in force: at once or at a time to come, checked as those of the settings are, noted, and taken back.

The file of activations (core/deck_history) is written first, then the audit trail, then the policy is
changed. A crash in between leaves an activation that is not noted: the next start finds it in force and
notes it. Files are read and decks built in threads and child processes; the event loop only swaps one
immutable deck for another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import structlog

from sidecar.core.audit import Change, Operator, told
from sidecar.core.deck_check import (
    DeckFacts,
    DeckVerdict,
    check_deck,
    deck_facts,
    deck_use,
    nobody_uses,
    verdict_of,
)
from sidecar.core.deck_history import IMPORT, SETTINGS, Activation, before, in_force, pending
from sidecar.core.policy import Policy
from sidecar.core.records import utc
from sidecar.core.tariff import Deck
from sidecar.ports import AuditTrail, Clock, DeckBook, DeckError
from sidecar.runtime.calls import Calls
from sidecar.runtime.reload import Reloading
from sidecar.wire import control_decks as say
from sidecar.wire.control import CommandError, ErrorCode, Method, in_one_line
from sidecar.wire.methods import served

READY_BEFORE_S = 5.0  # a deck that is to come is built and checked so long before its time
LOOK_AGAIN_S = 1.0  # the wall clock may be set

# The deck that is in force under a name, or why there is none. It may take seconds: asked in a thread.
DeckSource = Callable[[str], Deck | Sequence[str]]

_T = TypeVar("_T")

log = structlog.get_logger("sidecar.decks")


class DeckCommands:
    """`reloading` knows the decks that the settings name, for who goes back to them. `watch` beside the
    calls."""

    def __init__(
        self,
        calls: Calls,
        audit: AuditTrail,
        clock: Clock,
        source: DeckSource | None,
        book: DeckBook | None,
        reloading: Reloading,
    ) -> None:
        self._calls = calls
        self._audit = audit
        self._clock = clock
        self._source = source
        self._book = book
        self._settings = reloading
        self._reloading = reloading.lock
        self._changed = asyncio.Event()  # what is to come

    def methods(self) -> Mapping[str, Method]:
        return served(
            {
                "deck.reload": self.reload,
                "deck.check": self.check,
                "deck.activate": self.activate,
                "deck.rollback": self.rollback,
                "deck.cancel": self.cancel,
            }
        )

    async def reload(self, wanted: say.DeckReloadParams, operator: Operator) -> say.DeckReloaded:
        """From now on calls are rated by it; those that are up keep the rate that they began with."""
        if self._source is None:
            raise CommandError(ErrorCode.REFUSED, "this node takes decks over only when it starts")
        async with self._reloading:
            found = await asyncio.to_thread(self._source, wanted.name)
            if not isinstance(found, Deck):
                raise CommandError(ErrorCode.REFUSED, in_one_line(found))
            known = self._calls.policy.decks.get(wanted.name)
            if known is None or known.revision != found.revision:
                self._refuse_wrong(await asyncio.to_thread(self._verdict, wanted.name, found))
                change = Change(
                    operator=operator,
                    action="deck.reload",
                    subject=wanted.name,
                    before=_told(known),
                    after=_told(found),
                )

                async def noted() -> None:
                    await self._audit.write(change)
                    self._swap(wanted.name, found)

                await asyncio.shield(noted())
        return say.DeckReloaded(name=wanted.name, revision=found.revision, rates=len(found))

    async def check(self, wanted: say.DeckCheckParams, _: Operator) -> DeckFacts:
        """What would be said of a deck if it were put in force under a name; nothing is changed."""
        deck = await self._loaded(wanted.revision) if wanted.revision is not None else None
        policy, name = self._calls.policy, wanted.name
        known, settings = policy.decks.get(name), self._settings.in_force.policy.decks.get(name)
        is_settings = known is not None and settings is not None and known.revision == settings.revision
        return await asyncio.to_thread(
            lambda: deck_facts(policy, name, deck, self._now(), of_settings=is_settings)
        )

    async def activate(self, wanted: say.DeckActivateParams, operator: Operator) -> say.DeckActivated:
        deck = await self._loaded(wanted.revision)
        at = None if wanted.at is None else wanted.at.astimezone(UTC)
        return await self._put(
            wanted,
            operator,
            deck,
            lambda book, now: book.activate(
                wanted.name,
                self._wanted(wanted, operator, "deck.activate", deck.revision, now, at),
                now,
            ),
        )

    async def rollback(self, wanted: say.DeckRollbackParams, operator: Operator) -> say.DeckActivated:
        name = wanted.name
        settings = self._settings.in_force.policy.decks.get(name)
        earlier = before(await self._history(name), self._now())
        deck = settings if earlier is None or earlier.revision == SETTINGS else None
        if deck is None and earlier is not None:
            deck = await self._loaded(earlier.revision)
        if deck is None:
            raise CommandError(ErrorCode.REFUSED, f"no other deck was in force under {name!r} before")
        return await self._put(
            wanted,
            operator,
            deck,
            lambda book, now: book.rollback(
                name,
                self._wanted(wanted, operator, "deck.rollback", deck.revision, now, None),
                now,
                settings_have_it=settings is not None,
            ),
        )

    async def cancel(self, wanted: say.DeckCancelParams, operator: Operator) -> say.DeckCancelled:
        """Takes back what is to come; what is in force stays."""
        book = self._stored()
        async with self._reloading:
            why = f"taken back by {operator.name}"
            gone = await self._asked(lambda: book.cancel(wanted.name, self._now(), why, wanted.revision))
            for one in gone:
                await self._audit.write(
                    Change(
                        operator=operator,
                        action="deck.cancel",
                        subject=wanted.name,
                        before=told({"revision": one.revision, "at": one.at}),
                        text=wanted.text,
                    )
                )
        self._changed.set()
        return say.DeckCancelled(name=wanted.name, revisions=tuple(one.revision for one in gone))

    async def watch(self) -> None:
        """Puts in force what is to come, when its time has come."""
        if self._book is None:
            return
        while True:
            self._changed.clear()
            try:
                is_waiting = await self._look()
            except Exception:
                # Whatever it is (the file, the disk, the journal), calls go on, and it is tried again.
                log.exception("decks_to_come_unread")
                is_waiting = True
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN_S if is_waiting else None):
                    await self._changed.wait()

    async def _look(self) -> bool:
        """Puts in force what is due; whether something is to come."""
        while (due := await asyncio.to_thread(self._next_due)) is not None:
            if due[1].at - self._now() > timedelta(seconds=READY_BEFORE_S):
                return True
            await self._come(*due)
        return False

    async def _come(self, name: str, activation: Activation) -> None:
        book = self._stored()
        found = await asyncio.to_thread(book.load, activation.revision)
        while (left_s := (activation.at - self._now()).total_seconds()) > 0:
            try:
                async with asyncio.timeout(min(left_s, LOOK_AGAIN_S)):
                    await self._changed.wait()
                self._changed.clear()
                return  # it may have been taken back: look again
            except TimeoutError:
                pass
        async with self._reloading:
            history = (await asyncio.to_thread(book.histories)).get(name, ())
            if activation not in history:
                return
            if in_force(history, self._now()) != activation:  # a later one is: it came, and is over
                await note_came(book, self._audit, name, activation)
                return
            wrong: Sequence[str] = found if not isinstance(found, Deck) else ()
            if isinstance(found, Deck):
                wrong = (await asyncio.to_thread(self._verdict, name, found)).errors
            if wrong or not isinstance(found, Deck):
                why = in_one_line(wrong)
                await asyncio.to_thread(book.refuse, name, activation, why)
                log.error("deck_refused", name=name, revision=activation.revision, text=why)
                return
            known = self._calls.policy.decks.get(name)
            if known is None or known.revision != found.revision:
                self._swap(name, found)
                log.info("deck_in_force", name=name, revision=found.revision, rates=len(found))
            await note_came(book, self._audit, name, activation)

    def _next_due(self) -> tuple[str, Activation] | None:
        """Of all names the first that has not come into force yet."""
        found = [
            (one.at, name, one)
            for name, history in self._stored().histories().items()
            for one in history
            if not one.came and not one.refused
        ]
        return min(found, key=lambda row: row[:2])[1:] if found else None

    async def _put(
        self,
        wanted: say.DeckActivateParams | say.DeckRollbackParams,
        operator: Operator,
        deck: Deck,
        write: Callable[[DeckBook, datetime], Activation],
    ) -> say.DeckActivated:
        """Checks the deck, and puts it in force or keeps it until its time."""
        book = self._stored()
        name = wanted.name
        async with self._reloading:
            verdict = await asyncio.to_thread(self._verdict, name, deck)
            self._refuse_wrong(verdict)
            known = self._calls.policy.decks.get(name)
            if wanted.instead_of is not None and wanted.instead_of != (known.revision if known else ""):
                raise CommandError(
                    ErrorCode.REFUSED, f"another deck was put in force under {name!r} meanwhile: look again"
                )
            if isinstance(wanted, say.DeckActivateParams) and not wanted.new:
                use = await asyncio.to_thread(deck_use, self._calls.policy, name)
                if not use.is_used:
                    raise CommandError(ErrorCode.REFUSED, nobody_uses(name, self._calls.policy.decks))

            async def put() -> Activation:
                now = self._now()
                done = await self._asked(lambda: write(book, now))
                if not done.noted:
                    change = Change(
                        operator=operator,
                        action=done.action,
                        subject=name,
                        before=_told(known),
                        after=_told(deck, at=done.at, source=done.origin),
                        text=done.text,
                    )
                    try:
                        await self._audit.write(change)
                    except Exception:
                        await asyncio.to_thread(
                            book.refuse, name, done, "it could not be noted in the journal"
                        )
                        raise
                    came = done.at <= now
                    if came:
                        self._swap(name, deck)
                    await asyncio.to_thread(lambda: book.mark(name, done, came=came))
                return done

            done = await asyncio.shield(put())
        self._changed.set()
        log.info("deck_activated", name=name, revision=deck.revision, at=done.at, operator=operator.name)
        return say.DeckActivated(
            name=name,
            revision=deck.revision,
            rates=len(deck),
            at=done.at,
            pending=tuple(one.at for one in pending(await self._history(name), self._now())),
            warnings=verdict.warnings,
        )

    def _wanted(
        self,
        wanted: say.DeckActivateParams | say.DeckRollbackParams,
        operator: Operator,
        action: str,
        revision: str,
        now: datetime,
        at: datetime | None,
    ) -> Activation:
        return Activation(
            revision=revision,
            at=now if at is None else max(at, now),
            given_at=now,
            action=action,
            operator=operator.name,
            uid=operator.uid,
            origin=wanted.origin,
            text=wanted.text,
            noted=False,
            came=False,
        )

    async def _history(self, name: str) -> Sequence[Activation]:
        return (await asyncio.to_thread(self._stored().histories)).get(name, ())

    async def _loaded(self, revision: str) -> Deck:
        book = self._stored()
        found = await self._asked(lambda: book.load(revision))
        if not isinstance(found, Deck):
            raise CommandError(ErrorCode.REFUSED, in_one_line(found))
        return found

    async def _asked(self, question: Callable[[], _T]) -> _T:
        try:
            return await asyncio.to_thread(question)
        except DeckError as error:
            raise CommandError(ErrorCode.REFUSED, str(error)) from None

    def _stored(self) -> DeckBook:
        if self._book is None:
            raise CommandError(ErrorCode.REFUSED, "this node takes decks over only when it starts")
        return self._book

    def _verdict(self, name: str, deck: Deck) -> DeckVerdict:
        return verdict_of(self._calls.policy, name, deck)

    def _refuse_wrong(self, verdict: DeckVerdict) -> None:
        if verdict.errors:
            raise CommandError(ErrorCode.REFUSED, in_one_line(verdict.errors))

    def _swap(self, name: str, deck: Deck) -> None:
        self._calls.policies.change(lambda policy: policy.with_deck(name, deck))

    def _now(self) -> datetime:
        return utc(self._clock.wall_ns())


async def put_in_force_at_start(
    policy: Policy, own: Policy, book: DeckBook, audit: AuditTrail, now: datetime
) -> Policy:
    """The policy with the decks that commands have put in force, those among them whose time came while no
    daemon ran; before any call. `own`: the policy of the settings alone, whose accounts a deck must suit:
    DeckError where one that was in force does not any more."""
    await _note_imports(book, audit)
    for name in await asyncio.to_thread(book.histories):
        while True:
            history = (await asyncio.to_thread(book.histories))[name]
            found = in_force(history, now)
            if found is None or found.revision == SETTINGS:
                deck = None
            else:
                loaded = await asyncio.to_thread(book.load, found.revision)
                if not isinstance(loaded, Deck):
                    raise DeckError(f"deck {name} cannot be read: {in_one_line(loaded)}")
                deck = loaded
                errors = check_deck(own, name, deck).errors
                if errors and not found.came:
                    why = in_one_line(errors)
                    await asyncio.to_thread(book.refuse, name, found, why)
                    log.error("deck_refused", name=name, revision=found.revision, text=why)
                    continue
                if errors:
                    raise DeckError(
                        f"deck {name}, revision {found.revision[:12]}, in force since {found.at.isoformat()}:"
                        f" {in_one_line(errors)}; `sidecar deck activate` or `deck rollback`"
                        " puts another in force"
                    )
            break
        try:
            for one in history:
                noted = one if one.noted else await _note_command(book, audit, name, one)
                if noted.at <= now and not noted.came and not noted.refused:
                    await note_came(book, audit, name, noted)
        except Exception:  # a disk that fails: what is in force is in force, and is noted when it is better
            log.exception("deck_not_noted", name=name)
        if deck is not None:
            policy = policy.with_deck(name, deck)
    return policy


async def _note_imports(book: DeckBook, audit: AuditTrail) -> None:
    """Decks that were stored while no daemon ran."""
    try:
        for revision, source, by in await asyncio.to_thread(book.unnoted):
            change = Change(
                operator=Operator(by.operator, by.uid),
                action=IMPORT,
                subject=revision,
                after=_told(None, source=source),
                text=by.text,
            )
            await audit.write(change)
            await asyncio.to_thread(book.mark_noted, revision)
    except Exception:
        log.exception("deck_imports_not_noted")


async def _note_command(book: DeckBook, audit: AuditTrail, name: str, activation: Activation) -> Activation:
    """A command that was given while no daemon ran."""
    change = Change(
        operator=Operator(activation.operator or "-", activation.uid),
        action=activation.action,
        subject=name,
        after=_told(None, revision=activation.revision, at=activation.at, source=activation.origin),
        text=activation.text,
    )
    await audit.write(change)
    return await asyncio.to_thread(lambda: book.mark(name, activation, came=False))


async def note_came(
    book: DeckBook,
    audit: AuditTrail,
    name: str,
    activation: Activation,
) -> None:
    """That a deck came into force which had been scheduled, or put in force while no daemon ran."""
    change = Change(
        operator=Operator(activation.operator or "-", activation.uid),
        action="deck.in_force",
        subject=name,
        after=_told(None, revision=activation.revision or "settings", at=activation.at),
        text=activation.text,
    )
    await audit.write(change)
    await asyncio.to_thread(lambda: book.mark(name, activation, came=True))


def _told(deck: Deck | None, **more: object) -> str | None:
    found = {} if deck is None else {"revision": deck.revision, "rates": len(deck)}
    found |= {name: value for name, value in more.items() if value}
    return told(found) if found else None
