"""Accounts of the settings beside those of the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime

from msgspec.structs import asdict, replace

from sidecar.adapters.store.store import StoreError
from sidecar.config import Inputs, Loaded, load
from sidecar.config.problems import Problem, Where
from sidecar.core.account_books import different
from sidecar.core.account_terms import AccountTerms
from sidecar.core.audit import NODE, Change
from sidecar.core.policy import Account, Given, Load, Policy
from sidecar.core.servers import Server
from sidecar.core.tariff import Deck
from sidecar.core.terms import TransportName
from sidecar.ports import DeckError, NodeStore
from sidecar.runtime.block_commands import blocks_of
from sidecar.wiring.decks import Decks
from sidecar.wiring.journal import NothingKeptError, at_rest


async def with_stored_accounts(policy: Policy, store: NodeStore) -> Policy:
    """Accounts of the settings are known to the ledger, and accounts made by command are known to the
    policy; where both name one, the settings hold."""
    stored = {known.name: known for known in await store.accounts.stored()}
    wanted = [(account.terms, stored.get(name)) for name, account in policy.accounts.items()]
    await store.accounts.take_over(
        [
            (terms, _by_the_settings(terms.name) if known else None)
            for terms, known in wanted
            if terms != known
        ],
        suspect=store.salvage is not None and store.salvage.may_lack_accounts,
    )
    return _with_accounts(policy, stored.values(), await store.accounts.addresses())


def _with_accounts(
    policy: Policy, stored: Iterable[AccountTerms], addresses: Iterable[tuple[str, str]]
) -> Policy:
    of_commands = []
    for known in stored:
        if known.name not in policy.accounts:
            of_commands.append(Account(**asdict(known)))
        elif known.disabled_by_command:
            account = policy.accounts[known.name]
            policy = policy.with_terms(replace(account.terms, disabled_by_command=True))
    return policy.with_stored(of_commands, addresses)


async def given_at_rest(given: Inputs) -> Given:
    """By what the first call would be decided if a node started now. Changes nothing. Nobody has asked DNS:
    a gateway whose host is a name is taken to be there. Raises ConfigError, StoreError, DeckError."""
    loaded = load(given)
    policy = loaded.policy
    with suppress(NothingKeptError), at_rest(loaded.settings, policy.node) as books:
        stored, addresses = await books.accounts.stored(), await books.accounts.addresses()
        policy = _with_accounts(policy, stored, addresses)
        policy = policy.with_blocks(await blocks_of(books.audit))
    decks = Decks(loaded.settings.node.data_dir / "decks")
    for name, one in decks.active(datetime.now(UTC)).items():
        deck = decks.load(one.revision)
        if not isinstance(deck, Deck):
            raise DeckError(f"deck {name} cannot be read: {'; '.join(deck)}")
        policy = policy.with_deck(name, deck)
    named: dict[str, tuple[Server, ...]] = {
        name: (Server(host=one.lookup.name, port=0, transport=TransportName.UDP, peer=one.peer),)
        for name, one in policy.gateways.items()
        if one.lookup is not None
    }
    return Given(policy, Load(servers=named))


def accounts_beside(loaded: Loaded) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """Where the settings and the journal both have an account: what a start would refuse, and what it would
    change, because the settings hold."""
    errors, warnings = list[Problem](), list[Problem]()
    where = Where(loaded.settings.profile_path)
    try:
        with at_rest(loaded.settings, loaded.policy.node) as books:
            stored = {known.name: known for known in asyncio.run(books.accounts.stored())}
    except StoreError:
        return (), ()  # there is none yet, or it is of another version
    for name, account in loaded.policy.accounts.items():
        known = stored.get(name)
        if known is None:
            continue
        wanted = replace(account.terms, disabled_by_command=known.disabled_by_command)
        key = f"accounts.{name}"
        if wanted.currency != known.currency:
            text = f"is kept in {known.currency} in the journal, and cannot change to {wanted.currency}"
            errors.append(Problem(where=where, key=key, text=text))
        elif said := different(wanted, known):
            others = ", ".join(f"{term} {text}" for term, text in said.items())
            text = f"the journal has it with other terms ({others}): the settings hold from the next start on"
            warnings.append(Problem(where=where, key=key, text=text))
        if known.disabled_by_command:
            text = "is disabled by command, whatever is said here: `sidecar account enable`"
            warnings.append(Problem(where=where, key=key, text=text))
    return tuple(errors), tuple(warnings)


def _by_the_settings(account: str) -> Change:
    return Change(operator=NODE, action="account.set", subject=account, text="as the settings have it")
