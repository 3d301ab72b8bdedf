"""A policy and a gateway for a test that says what it is about: all else is as declared in the settings."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from sidecar.config import Inputs, load
from sidecar.core.account_rules import AccountRules
from sidecar.core.addresses import AddressTable
from sidecar.core.persistent_map import PersistentMap
from sidecar.core.policy import Gateway, Policy, Routes
from sidecar.wiring.files import deck_or_errors, exchange_or_errors


@cache
def _declared() -> Policy:
    """The policy of settings that say nothing, with the profile `loopback`."""
    nowhere = Path("/nonexistent.toml")
    inputs = Inputs(
        read_deck=deck_or_errors, read_exchange=exchange_or_errors, host_name="n1", system_file=nowhere
    )
    return load(inputs).policy


def declared_policy(**given: Any) -> Policy:
    """`routes`, `accounts` and `account_rules` as plain tuples and mappings, which are compiled here."""
    none: dict[str, Any] = {"peers": {}, "gateways": {}, "routes": (), "accounts": {}, "account_rules": ()}
    values = {**none, "decks": {}, "default_deck": "", **given}
    for name, compiled in (
        ("routes", Routes),
        ("accounts", PersistentMap),
        ("account_rules", AccountRules),
        ("account_addresses", AddressTable),
    ):
        if name in values and not isinstance(values[name], compiled):
            values[name] = compiled(values[name])
    return replace(_declared(), **values)


def declared_gateway(**given: Any) -> Gateway:
    return replace(_declared().gateways["next_hop"], **{"peer": "", **given})
