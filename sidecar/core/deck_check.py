"""What a deck must be for those who use it: asked of the decks of the settings, and of each that a command
is about to put in force. An error refuses the deck; a warning wants a word from whoever puts it in force.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from difflib import get_close_matches

import msgspec

from sidecar.core.margin import ExchangeRate
from sidecar.core.policy import NO_ACCOUNT, Policy
from sidecar.core.tariff import Deck
from sidecar.core.terms import ChargeSide

NAMES_SHOWN_MAX = 5


class DeckUse(msgspec.Struct, frozen=True, kw_only=True):
    """Who is rated by a name. `strangers`: so are calls that no account claims."""

    accounts: int = 0
    account_names: tuple[str, ...] = ()  # the first of them
    strangers: bool = False
    gateways: tuple[str, ...] = ()

    @property
    def is_used(self) -> bool:
        return bool(self.accounts or self.strangers or self.gateways)

    def words(self) -> str:
        parts = []
        if self.accounts:
            more = ", ..." if self.accounts > len(self.account_names) else ""
            parts.append(f"{self.accounts} accounts ({', '.join(self.account_names)}{more})")
        if self.strangers:
            parts.append("calls of no account")
        if self.gateways:
            parts.append(f"{len(self.gateways)} gateways ({', '.join(self.gateways[:NAMES_SHOWN_MAX])})")
        return " and ".join(parts) or "nobody"


class DeckFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What whoever is about to put a deck in force under a name has to know. `revision`: what is in force
    now; empty: nothing. `side`: what the name prices; null: nobody uses it. `opposite`: the decks of the
    other side, by name and revision; `beside`: the others of this side. `exchange`: the rates that hold
    now."""

    name: str
    revision: str = ""
    of_settings: bool = False  # that revision is the one of the settings
    use: DeckUse = DeckUse()
    used_by: str = ""  # the same in words
    names: tuple[str, ...] = ()  # of all decks
    side: ChargeSide | None = None
    opposite: tuple[tuple[str, str], ...] = ()
    beside: tuple[tuple[str, str], ...] = ()
    exchange: tuple[ExchangeRate, ...] = ()
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class DeckVerdict(msgspec.Struct, frozen=True, kw_only=True):
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def currencies_of(deck: Deck) -> frozenset[str]:
    return frozenset(kind.currency for kind in deck.kinds)


def other_currencies(account_currency: str, deck: Deck) -> list[str]:
    """Those of a deck that an account cannot be charged in: it is kept in one."""
    return sorted(currencies_of(deck) - {account_currency})


def missing_exchange(
    bought: Deck, sold_in: Iterable[str], pairs: Collection[tuple[str, str]]
) -> list[tuple[str, str]]:
    """(bought in, sold in) without an exchange rate: a call with a margin floor never goes there."""
    wanted = {(one, other) for one in currencies_of(bought) for other in sold_in if one != other}
    return sorted(wanted - set(pairs))


def deck_use(policy: Policy, name: str) -> DeckUse:
    """Looks at all accounts."""
    names = [
        account.name
        for account in policy.accounts.values()
        if (account.deck or policy.default_deck) == name and account.name != NO_ACCOUNT
    ]
    return DeckUse(
        accounts=len(names),
        account_names=tuple(sorted(names)[:NAMES_SHOWN_MAX]),
        strangers=not policy.account_required and policy.default_deck == name,
        gateways=tuple(gateway.name for gateway in policy.gateways.values() if gateway.deck == name),
    )


def check_deck(policy: Policy, name: str, deck: Deck) -> DeckVerdict:
    """What would be wrong if `name` were this deck. Looks at all accounts."""
    errors, warnings = list[str](), list[str]()
    by_currency: dict[str, list[str]] = {}
    sold_in: set[str] = set()
    gateways = [gateway for gateway in policy.gateways.values() if gateway.deck == name]
    for account in policy.accounts.values():
        if (account.deck or policy.default_deck) == name:
            by_currency.setdefault(account.currency, []).append(account.name)
        if account.margin_floor is not None or policy.margin_floor is not None:
            sold_in.add(account.currency)
    if policy.margin_floor is not None and not policy.account_required:
        sold_in.add(policy.default_currency)
    for currency, names in sorted(by_currency.items()):
        if others := other_currencies(currency, deck):
            errors.append(
                f"{_named(names)}: kept in {currency}, but the deck has rates in {', '.join(others)}"
            )
    strangers = not policy.account_required and policy.default_deck == name
    if strangers and (others := other_currencies(policy.default_currency, deck)):
        text = f"calls of no account are kept in {policy.default_currency}"
        warnings.append(f"{text}, but the deck has rates in {', '.join(others)}")
    if gateways:
        for bought, sold in missing_exchange(deck, sold_in, policy.exchange.pairs()):
            shown = ", ".join(gateway.name for gateway in gateways[:NAMES_SHOWN_MAX])
            warnings.append(
                f"gateways {shown}: bought in {bought}, and billing.exchange_rates has no rate of it in "
                f"{sold}: calls with a margin floor never go there"
            )
    return DeckVerdict(errors=tuple(errors), warnings=tuple(warnings))


def deck_facts(policy: Policy, name: str, deck: Deck | None, at: datetime, *, of_settings: bool) -> DeckFacts:
    """`deck`: the one that is to be put in force. Looks at all accounts."""
    use = deck_use(policy, name)
    sells = {account.deck or policy.default_deck for account in policy.accounts.values()}
    sells.add(policy.default_deck)
    buys = {gateway.deck for gateway in policy.gateways.values() if gateway.deck is not None}
    sold = use.accounts or use.strangers
    side = ChargeSide.SELL if sold else ChargeSide.BUY if use.gateways else None
    ours, theirs = (buys, sells) if side is ChargeSide.BUY else (sells, buys)
    known = policy.decks.get(name)
    verdict = verdict_of(policy, name, deck) if deck is not None else DeckVerdict()
    held = (policy.exchange.rate(base, quote, at) for base, quote in sorted(policy.exchange.pairs()))
    return DeckFacts(
        name=name,
        revision=known.revision if known is not None else "",
        of_settings=of_settings,
        use=use,
        used_by=use.words(),
        names=tuple(sorted(policy.decks)),
        side=side,
        opposite=_revisions(policy, theirs - {name}),
        beside=_revisions(policy, ours - {name}),
        exchange=tuple(rate for rate in held if rate is not None),
        errors=verdict.errors,
        warnings=verdict.warnings,
    )


def verdict_of(policy: Policy, name: str, deck: Deck) -> DeckVerdict:
    """What this deck would make wrong: what is wrong already with the one in force is no reason to keep
    that."""
    known = policy.decks.get(name)
    return new_in(check_deck(policy, name, deck), None if known is None else check_deck(policy, name, known))


def _revisions(policy: Policy, names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    return tuple((name, policy.decks[name].revision) for name in sorted(names) if name in policy.decks)


def new_in(verdict: DeckVerdict, before: DeckVerdict | None) -> DeckVerdict:
    """What is not wrong already with the deck in force: that is no reason to keep it."""
    if before is None:
        return verdict
    return DeckVerdict(
        errors=tuple(text for text in verdict.errors if text not in before.errors),
        warnings=tuple(text for text in verdict.warnings if text not in before.warnings),
    )


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(sorted(names)[:NAMES_SHOWN_MAX])
    return f"account {shown}" if len(names) == 1 else f"{len(names)} accounts ({shown})"


def nobody_uses(name: str, known: Iterable[str]) -> str:
    """For a name that may be mistyped."""
    near = get_close_matches(name, list(known), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"nobody is rated by a deck named {name!r}{hint} (--new puts it in force all the same)"
