"""What a reload changes: the policy that calls to come have then, and the difference as lines that people
read. Compared whole, so that nothing which is in force differs from what is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from enum import Enum
from itertools import zip_longest

import msgspec
from msgspec.structs import asdict, replace

from sidecar.core.account_terms import AccountTerms
from sidecar.core.addresses import AddressTable
from sidecar.core.deck_check import check_deck
from sidecar.core.persistent_map import PersistentMap
from sidecar.core.policy import Account, Policy
from sidecar.core.screening import Screening
from sidecar.core.tariff import Deck

TEXT_MAX = 300  # of one value
SHARED_CHANGES_MAX = 1_000  # accounts; more of them are made anew, all together


class Difference(msgspec.Struct, frozen=True, gc=False):
    """`key` as the settings have it: `gateways.carrier.port`. None: it is not there."""

    key: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"+ {self.key}{f' = {self.after}' if self.after else ''}"
        if self.after is None:
            return f"- {self.key}{f' = {self.before}' if self.before else ''}"
        return f"~ {self.key}: {self.before} -> {self.after}"


def texts_differ(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Difference]:
    changed = {key for key, text in after.items() if before.get(key) != text}
    gone = {key for key in before if key not in after}
    for key in sorted(changed | gone):  # those alone: to sort 100,000 names would stop all threads for 50 ms
        yield Difference(
            key, *(None if one is None else _short(one) for one in (before.get(key), after.get(key)))
        )


def policies_differ(before: Policy, after: Policy) -> Iterator[Difference]:
    """In the tables and decks; what is of plain settings is told by these. Looks at all accounts."""
    yield from _names_differ("peers", before.peers, after.peers)
    yield from _fields_differ("peers", before.peers, after.peers)
    orders = [
        [name for name in one.peers if name in other.peers]
        for one, other in ((before, after), (after, before))
    ]
    if orders[0] != orders[1]:  # the first that holds an address is its group
        yield Difference("peers", *map(text_of, orders))
    yield from _names_differ("gateways", before.gateways, after.gateways)
    yield from _fields_differ("gateways", before.gateways, after.gateways)
    yield from texts_differ(_routes(before), _routes(after))
    yield from _names_differ("accounts", before.settings_accounts, after.settings_accounts)
    yield from _fields_differ("accounts", before.accounts, after.accounts)
    screened = {name: Screening() for name in before.screenings.keys() | after.screenings}
    yield from _fields_differ("accounts", {**screened, **before.screenings}, {**screened, **after.screenings})
    yield from _listed("account_rules", before.account_rules, after.account_rules)
    yield from texts_differ(_addresses(before, after), _addresses(after, before))
    yield from _listed("strip_rules", before.strip_rules, after.strip_rules)
    rules = [{rule.name: rule for rule in one.fraud_rules} for one in (before, after)]
    yield from texts_differ(
        *(
            {f"fraud_rules.{name}": "" if name in other else str(rule) for name, rule in one.items()}
            for one, other in (rules, reversed(rules))
        )
    )
    yield from _fields_differ("fraud_rules", *rules)
    yield from texts_differ(_decks_told(before), _decks_told(after))
    yield from texts_differ(
        *({f"q850.{code}": str(cause) for code, cause in one.q850_of_sip.items()} for one in (before, after))
    )
    if before.exchange != after.exchange:
        yield Difference("billing.exchange_rates", *(f"{len(one.exchange)} rates" for one in (before, after)))


def _names_differ(table: str, before: Iterable[str], after: Iterable[str]) -> Iterator[Difference]:
    was, now = (dict.fromkeys((f"{table}.{name}" for name in names), "") for names in (before, after))
    return texts_differ(was, now)


def _fields_differ(
    table: str, before: Mapping[str, msgspec.Struct], after: Mapping[str, msgspec.Struct]
) -> Iterator[Difference]:
    """Of entries that both have."""
    for name in sorted(name for name, entry in after.items() if before.get(name, entry) != entry):
        was, now = before[name], after[name]
        for field in now.__struct_fields__:
            if (one := getattr(was, field)) != (other := getattr(now, field)):
                yield Difference(f"{table}.{name}.{field}", text_of(one), text_of(other))


def _decks_told(policy: Policy) -> dict[str, str]:
    return {f"decks.{name}": f"revision {deck.revision[:12]}" for name, deck in policy.decks.items()}


def _listed(table: str, before: Iterable[object], after: Iterable[object]) -> Iterator[Difference]:
    """Rules in an order that counts."""
    for number, (one, other) in enumerate(zip_longest(before, after), 1):
        if one != other:  # the whole of it: what is shown may be cut
            texts = (None if rule is None else text_of(rule) for rule in (one, other))
            yield Difference(f"{table}[{number}]", *texts)


def _routes(policy: Policy) -> dict[str, str]:
    return {f"routes.{route.prefix or '*'}": _written(route.gateways) for route in policy.routes}


def _addresses(policy: Policy, other: Policy) -> dict[str, str]:
    """Blocks that the other does not have so, by account."""
    mine, theirs = policy.settings_addresses, other.settings_addresses
    if mine is theirs:
        return {}
    known = dict(theirs)
    return {
        f"accounts.{account}.addresses {block}": "" for block, account in mine if known.get(block) != account
    }


def text_of(value: object) -> str:
    """Short, in one order, whatever the hash of strings is in this process."""
    return _short(_written(value))


def _short(text: str) -> str:
    return text if len(text) <= TEXT_MAX else f"{text[: TEXT_MAX - 3]}..."


def _written(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case Enum():
            return str(value.value)
        case str() | int():
            return str(value)
        case Decimal():
            return f"{value:f}"
        case frozenset():
            return f"[{', '.join(sorted(map(_written, value)))}]"
        case tuple() | list():
            return f"[{', '.join(map(_written, value))}]"
        case Mapping():
            return f"{{{', '.join(f'{_written(key)}: {_written(one)}' for key, one in value.items())}}}"
        case msgspec.Struct():
            said = ((name, one) for name, one in asdict(value).items() if one not in (None, (), frozenset()))
            return f"{{{', '.join(f'{name} {_written(one)}' for name, one in said)}}}"
        case _:
            return str(value)


# --- the policy after it ------------------------------------------------------------------------------------


def sharing(before: Policy, read: Policy) -> Policy:
    """What was `read`, made of what was read before as far as the two are alike: of 100,000 accounts only
    those are new that differ, and nobody has to let go of all of them at once."""
    accounts = before.accounts
    changed = {name: one for name, one in read.accounts.items() if accounts.get(name) != one}
    if len(changed) > SHARED_CHANGES_MAX or len(accounts) - len(read.accounts) > SHARED_CHANGES_MAX:
        return read
    for name, account in changed.items():
        accounts = accounts.plus(name, account)
    if len(accounts) > len(read.accounts):
        for name in [name for name in accounts if name not in read.accounts]:
            accounts = accounts.minus(name)
    addresses = before.account_addresses
    if dict(addresses) != dict(read.account_addresses):
        addresses = read.account_addresses
    return replace(read, accounts=accounts, account_addresses=addresses)


def taken_over(now: Policy, read_before: Policy, read: Policy) -> Policy:
    """The policy of the settings as they were `read`, with what commands have made since the start: accounts,
    addresses, blocks, decks. Where both name one the settings hold, as at a start. An account that the
    settings have no more stays in the books, and keeps the terms that these have of it.

    What does not differ is the same object as before: nothing is kept twice for calls that are up."""
    return replace(
        read,
        settings_revision=now.settings_revision,
        boot_id=now.boot_id,
        accounts=_accounts(now, read_before, read),
        settings_accounts=read.accounts,
        account_addresses=_all_addresses(now, read),
        settings_addresses=read.account_addresses,
        screenings=now.screenings if now.screenings == read.screenings else read.screenings,
        blocks=now.blocks,
        decks=_decks(now, read_before, read),
    )


def _accounts(now: Policy, read_before: Policy, read: Policy) -> PersistentMap[str, Account]:
    """Few of very many change, as a rule."""
    changed: dict[str, Account] = {}
    for name, wanted in read.accounts.items():
        known = now.accounts.get(name)
        if known is None:
            changed[name] = wanted
        else:
            if known.disabled_by_command:
                wanted = replace(wanted, disabled_by_command=True)
            if wanted != known:
                changed[name] = wanted
    for name in read_before.accounts:
        if name not in read.accounts and name in now.accounts:
            kept = Account(**asdict(now.accounts[name].terms))
            if kept != now.accounts[name]:
                changed[name] = kept
    if not changed:
        return now.accounts
    return PersistentMap({**now.accounts, **changed})


def _all_addresses(now: Policy, read: Policy) -> AddressTable:
    mine = dict(read.account_addresses)
    if dict(now.settings_addresses) == mine:
        return now.account_addresses
    by_command = (
        (block, account)
        for block, account in now.account_addresses
        if now.settings_addresses.at(block) is None
    )
    return AddressTable(
        [*((block, account) for block, account in by_command if block not in mine), *mine.items()]
    )


def _decks(now: Policy, read_before: Policy, read: Policy) -> dict[str, Deck]:
    """A deck that a command put in force stays; one of the settings is that which they have now."""
    found = dict(read.decks)
    for name, deck in now.decks.items():
        own = read_before.decks.get(name)
        is_the_same = name in found and found[name].revision == deck.revision
        if is_the_same or own is None or own.revision != deck.revision:
            found[name] = deck
    return found


def terms_that_change(now: Policy, after: Policy) -> list[AccountTerms]:
    """Terms of the accounts of the settings that the books do not have so."""
    changed = []
    for name in after.settings_accounts:
        known, wanted = now.accounts.get(name), after.accounts[name]
        if known is not wanted and (known is None or known.terms != wanted.terms):
            changed.append(wanted.terms)
    return changed


def with_changes(
    policy: Policy, changes: Iterable[Callable[[Policy], Policy]], terms: Iterable[AccountTerms]
) -> Policy:
    """With what commands have changed while it was made. Of `terms`, which the books have since, they change
    whether an account is disabled alone."""
    made = policy
    for change in changes:
        with suppress(KeyError):  # what is taken away may be there no more
            made = change(made)
    if made is not policy:
        for one in terms:
            is_disabled = made.accounts[one.name].disabled_by_command
            made = made.with_terms(replace(one, disabled_by_command=is_disabled))
    return made


def decks_that_do_not_suit(after: Policy, read: Policy) -> Iterator[str]:
    """Those that commands have put in force, beside what was `read`; a start would refuse them."""
    for name, deck in after.decks.items():
        if (own := read.decks.get(name)) is None or own.revision != deck.revision:
            yield from (f"deck {name} by command, {error}" for error in check_deck(read, name, deck).errors)


def currencies_that_cannot_change(now: Policy, after: Policy) -> Iterator[str]:
    for name in after.settings_accounts:
        known, wanted = now.accounts.get(name), after.accounts[name]
        if known is not None and known.currency != wanted.currency:
            yield f"accounts.{name}: is kept in {known.currency}, and cannot change to {wanted.currency}"
