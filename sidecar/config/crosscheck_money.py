"""Whose call it is, at what price, and which calls would be carried for nothing."""

from __future__ import annotations

from collections.abc import Collection

from sidecar.config.layers import Effective
from sidecar.config.problems import Findings, Where, nearest, quoted
from sidecar.config.tables import Entry, NamedDeck, Tables
from sidecar.core.account_rules import AccountFrom
from sidecar.core.account_terms import AMOUNTS, AccountKind, AccountTerms
from sidecar.core.deck_check import missing_exchange, other_currencies
from sidecar.core.terms import ServerReason

_MATCHES = ("peer", "header", "tls_name", "called_prefix")


def check(effective: Effective, tables: Tables, findings: Findings) -> None:
    _account_rules(effective, tables, findings)
    _default_deck(effective, tables, findings)
    for group in tables.groups.values():
        _known_deck(group, tables, findings)
    for account in tables.accounts.values():
        _known(account, "group", tables.groups, findings)
        _terms(account, effective, findings)
        _account(account, effective, tables, findings)
    for gateway in tables.gateways.values():
        _known_deck(gateway, tables, findings)
    _margin_floor(effective, tables, findings)
    _who_calls(tables, findings)
    _strip_rules(tables, findings)
    _trunk_trap(effective, tables, findings)
    _free_calls(effective, tables, findings)
    _slices(effective, findings)


# --- whose call ---------------------------------------------------------------------------------------------


def _account_rules(effective: Effective, tables: Tables, findings: Findings) -> None:
    seen: dict[tuple[str, ...], Entry] = {}
    names: dict[str, Entry] = {}
    asserted = any(peer["asserts_identity"] for peer in tables.peers.values())
    for rule in tables.account_rules:
        _account_may_be_made(rule["account"], *rule.at("account"), tables, findings)
        _known(rule, "peer", tables.peers, findings)
        matches = [field for field in _MATCHES if field in rule.given]
        if ("account" in rule.given) == ("account_from" in rule.given):
            findings.error(*rule.at(), "has one of account, account_from")
            continue
        if "account_from" in rule.given:
            if not _names_account(rule, matches, findings):
                continue
        elif len(matches) != 1:
            found = " and ".join(matches) if matches else "none of them"
            findings.error(*rule.at(), f"has one of {', '.join(_MATCHES)}, not {found}")
            continue
        elif ("header_value" in rule.given) != ("header" in rule.given):
            findings.error(*rule.at(), "header and header_value go together")
        match = tuple(str(rule[field]) for field in ("account_from", *_MATCHES, "header_value"))
        before = seen.setdefault(match, rule)
        if before is not rule:
            tell = findings.warn if rule.is_stored != before.is_stored else findings.error
            tell(*rule.at(), f"never applies: {before.written} ({before.where()}) matches the same calls")
        if rule["name"] is not None and names.setdefault(rule["name"], rule) is not rule:
            findings.error(*rule.at("name"), f"is the name of {names[rule['name']].written} too")
        if matches == ["header"] and not asserted:
            findings.error(*rule.at("header"), "is never read: no peer has asserts_identity = true")
    if not any(rule["account_from"] is AccountFrom.ADDRESS for rule in tables.account_rules):
        for block in tables.account_addresses.values():
            text = 'is never read: no [[account_rules]] has account_from = "address"'
            findings.error(block.where, block.key, text)
    for block in tables.account_addresses.values():
        _account_may_be_made(block.account, block.where, block.key, tables, findings)
    if effective.settings.sip.account_required and not tables.account_rules:
        findings.error(
            *effective.at("sip.account_required"),
            "without an [[account_rules]] every call would be refused",
        )


def _names_account(rule: Entry, matches: list[str], findings: Findings) -> bool:
    """Whether a rule by which the call itself names the account is whole."""
    wanted = ["header"] if rule["account_from"] is AccountFrom.HEADER else []
    if matches != wanted or "header_value" in rule.given:
        what = "a header, and nothing else" if wanted else "nothing else"
        findings.error(*rule.at("account_from"), f"with {rule['account_from'].value!r} a rule has {what}")
        return False
    return True


def _account_may_be_made(
    name: str | None, where: Where, key: str, tables: Tables, findings: Findings
) -> None:
    """An account that is not in the settings may be in the store: made by command, before or after."""
    if name is not None and name not in tables.accounts:
        text = (
            f"there is no account {quoted(name)} in the settings: until `sidecar account create` has made it"
            " this matches no call"
        )
        findings.warn(where, key, text, nearest(name, tables.accounts))


def _known(entry: Entry, field: str, names: Collection[str], findings: Findings) -> None:
    name = entry[field]
    if name is not None and name not in names:
        text = f"there is no {field} {quoted(name)}: it needs a table, [{field}s.{name}]"
        findings.error(*entry.at(field), text, nearest(name, names))


# --- at what price ------------------------------------------------------------------------------------------


def _default_deck(effective: Effective, tables: Tables, findings: Findings) -> None:
    name = effective.settings.billing.deck
    if name and name not in tables.decks:
        findings.error(
            *effective.at("billing.deck"),
            f"there is no deck {quoted(name)}",
            nearest(name, tables.decks),
        )
    default = tables.decks.get(tables.default_deck(name))
    if not effective.settings.sip.account_required and default is not None and default.deck is not None:
        currency = effective.settings.billing.currency
        if others := other_currencies(currency, default.deck):
            findings.warn(
                *effective.at("billing.deck"),
                f"calls of no account are kept in {currency}, but {default.path.name} has rates in "
                f"{', '.join(others)}",
            )
    if not tables.default_deck(name) and not effective.settings.sip.account_required:
        findings.warn(
            tables.profile,
            "billing.deck",
            "there is no default sell deck: calls of account _ are unrated",
        )


def _who_calls(tables: Tables, findings: Findings) -> None:
    if any(peer["asserts_identity"] or peer["caller_trusted"] for peer in tables.peers.values()):
        return
    for name, deck in tables.decks.items():
        if deck.deck is not None and deck.deck.asks_who_calls:
            findings.warn(
                deck.where,
                f"decks.{name}",
                "has rows by caller_prefix, and no peer has asserts_identity or caller_trusted: every caller "
                "is of the surcharge class",
            )


def _known_deck(entry: Entry, tables: Tables, findings: Findings) -> NamedDeck | None:
    name = entry["deck"]
    if name is None:
        return None
    if name not in tables.decks and "deck" in entry.given:  # else it is its group's, and said there
        findings.error(
            *entry.at("deck"),
            f"there is no deck {quoted(name)}",
            nearest(name, tables.decks),
        )
    return tables.decks.get(name)


def is_prepaid(account: Entry) -> bool:
    return account["prepaid"] or account["kind"] is AccountKind.PREPAID


def _terms(account: Entry, effective: Effective, findings: Findings) -> None:
    kind = AccountKind.PREPAID if is_prepaid(account) else account["kind"]
    if "kind" in account.given and kind is not account["kind"]:
        findings.error(
            *account.at("kind"), f"is {account['kind'].value}, and prepaid = true: give one of them"
        )
        return
    try:
        AccountTerms(
            name=account.name,
            currency=account["currency"] or effective.settings.billing.currency,
            kind=kind,
            **{name: account[name] for name in (*AMOUNTS, "valid_from", "valid_to")},
        )
    except ValueError as error:
        findings.error(*account.at(), str(error))


def _account(account: Entry, effective: Effective, tables: Tables, findings: Findings) -> None:
    named = _known_deck(account, tables, findings)
    if account["deck"] is not None and named is None:
        return
    if named is None:
        named = tables.decks.get(tables.default_deck(effective.settings.billing.deck))
    field = "deck" if "deck" in account.given else ""
    if named is None:
        if is_prepaid(account):
            findings.error(*account.at(), "a prepaid account needs a deck: its own, or billing.deck")
        else:
            findings.warn(*account.at(), "has no deck: its calls are unrated")
    elif named.deck is not None:
        currency = account["currency"] or effective.settings.billing.currency
        if others := other_currencies(currency, named.deck):
            findings.error(
                account.where(field),
                account.written,
                f"is in {currency}, but its deck {named.path.name} has rates in {', '.join(others)}",
            )
    if is_prepaid(account) and account["on_no_rate"] == "carry":
        findings.warn(
            *account.at("on_no_rate"),
            "free calls: a prepaid call without a rate costs nothing",
        )


def _margin_floor(effective: Effective, tables: Tables, findings: Findings) -> None:
    """Where two currencies have no exchange rate the margin is unknown, and no call reaches its floor."""
    in_force = effective.settings.billing.margin_floor is not None
    base = effective.settings.billing.currency
    sold_in = {base} if in_force and not effective.settings.sip.account_required else set()
    for account in tables.accounts.values():
        if in_force or account["margin_floor"] is not None:
            sold_in.add(account["currency"] or base)
    if not sold_in:
        return
    for gateway in tables.gateways.values():
        named = tables.decks.get(gateway["deck"] or "")
        if gateway["deck"] is None:
            text = "has no deck: what is bought here is not held against the margin floor"
            findings.warn(*gateway.at(), text)
        elif named is not None and named.deck is not None:
            for bought, sold in missing_exchange(named.deck, sold_in, tables.exchange.pairs()):
                findings.warn(
                    *gateway.at("deck"),
                    f"is in {bought}: calls sold in {sold} that have a margin floor never come here, because "
                    f"billing.exchange_rates has no rate of {bought} in {sold}",
                )


# --- which number -------------------------------------------------------------------------------------------


def _strip_rules(tables: Tables, findings: Findings) -> None:
    for field in ("name", "prefix"):
        seen: dict[str, Entry] = {}
        for rule in tables.strip_rules:
            value = rule[field]
            if value is None:
                continue
            before = seen.setdefault(value, rule)
            if before is not rule:
                findings.error(
                    *rule.at(field),
                    f"{quoted(value)} is the {field} of {before.written} ({before.where(field)}) too",
                )


def _trunk_trap(effective: Effective, tables: Tables, findings: Findings) -> None:
    """Strip a national 0 without a country code in its place, and 01511234567 is rated as +1 511, America."""
    for rule in tables.strip_rules:
        if (rule["prefix"] or "").startswith("0") and rule["strip"] == 1 and not rule["add"]:
            findings.warn(
                *rule.at(),
                "strips the trunk prefix 0 and adds no country code: 01511234567 is rated as 1511234567, "
                'a number in North America; give add = "49" or whatever the country code is',
            )
    advice = (
        "if that digit is a trunk prefix 0, what is left is a national number without its country code, and "
        "1511234567 is rated as North America: use a [[strip_rules]] with prefix 0 and add"
    )
    if effective.settings.billing.strip_digits == 1:
        findings.warn(
            *effective.at("billing.strip_digits"),
            f"strips 1: {advice}",
        )
    for entry in (*tables.peers.values(), *tables.accounts.values(), *tables.gateways.values()):
        if entry["strip_digits"] == 1:
            findings.warn(*entry.at("strip_digits"), f"strips 1: {advice}")


# --- free calls ---------------------------------------------------------------------------------------------


def _free_calls(effective: Effective, tables: Tables, findings: Findings) -> None:
    """With flag 0 for timeout or credit, a prepaid caller who waits for that end has called for nothing."""
    prepaid = [account.name for account in tables.accounts.values() if is_prepaid(account)]
    if not prepaid:
        return
    whom = f"prepaid account{'s' if len(prepaid) > 1 else ''} {', '.join(prepaid[:5])}"
    for reason in (ServerReason.TIMEOUT, ServerReason.CREDIT):
        flag = "billing.record_server_hang_up"
        own = f"{flag}.{reason.value}"
        in_force = flag if effective.value(own) is None else own
        if not effective.value(in_force):
            findings.warn(
                *effective.at(in_force),
                f"free calls: those that end by {reason.value} are neither recorded nor charged, "
                f"and there are {whom}",
            )
    for gateway in tables.gateways.values():
        if gateway["record_server_hang_up"] is False:
            findings.warn(
                *gateway.at("record_server_hang_up"),
                f"free calls: those that the server ends here are neither recorded nor charged, "
                f"and there are {whom}",
            )


def _slices(effective: Effective, findings: Findings) -> None:
    billing = effective.settings.billing
    if billing.extend_guard_ms >= billing.slice_s * 1000:
        text = f"is no shorter than a slice ({billing.slice_s} s): calls hold one more than they talk for"
        findings.warn(*effective.at("billing.extend_guard_ms"), text)
