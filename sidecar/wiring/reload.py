"""Settings that change while a node runs: read again, and put in force beside the calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec.structs import replace

from sidecar.adapters.logs import set_level
from sidecar.adapters.resolver import DnsResolver
from sidecar.b2bua.certificates import Certificates, FileState, file_state
from sidecar.b2bua.hook import BridgeHook, HookError
from sidecar.b2bua.settings import (
    BridgeSettings,
    authorities,
    needs_restart,
)
from sidecar.config import ConfigError, Inputs, Loaded, Settings, load
from sidecar.config.crosscheck_network import no_tls
from sidecar.config.settings import DECLARED
from sidecar.config.settings import plain as plain_texts
from sidecar.core.policy import Policy
from sidecar.core.reloading import texts_differ
from sidecar.core.servers import Reach
from sidecar.runtime.calls import Calls
from sidecar.runtime.gateways import Gateways
from sidecar.runtime.names import Names
from sidecar.runtime.reload import BadSettingsError, Reading
from sidecar.wiring.bridge import bridge_settings, tls_settings
from sidecar.wiring.decks import Decks, keep_decks

SETTLED_S = 0.1  # a file that was left alone for so long is whole
READINGS_MAX = 10


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """What a reading says to others than the calls."""

    settings: Settings
    bridge: BridgeSettings


def beside(reading: Reading) -> Beside:
    assert isinstance(reading.parts, Beside)
    return reading.parts


def reading_of(loaded: Loaded, warnings: Sequence[str] | None = None) -> Reading:
    """HookError where a password is none."""
    settings = loaded.settings
    plain = plain_texts(settings)
    for one in settings.credentials:
        plain[f"gateways.{one.gateway}.password_file"] = str(one.password_file)
        plain[f"gateways.{one.gateway}.realm"] = one.realm
    plain.update((own.setting, str(own.file)) for own in settings.tls_authorities)
    entries = {f"{one.table}.{one.name}": one.source for one in loaded.listed}
    of_entries = ((name, name.rpartition(".")[0]) for name in plain)
    given_at = {name: entries[entry] for name, entry in of_entries if entry in entries}
    bridge = bridge_settings(settings, loaded.policy)
    passwords = {f"gateways.{one.gateway}.password_file": one.password for one in bridge.credentials}
    for name, dsn_file in (("store", settings.store.dsn_file), ("web", settings.web.dsn_file)):
        if dsn_file is not None:
            passwords[f"{name}.dsn_file"] = dsn_file.read_text("utf-8")
    return Reading(
        policy=loaded.policy,
        plain=plain,
        given_at={**loaded.given_at, **given_at},
        passwords=passwords,
        at_start=frozenset(one.dotted for one in DECLARED.values() if one.at_start),
        warnings=list(map(str, loaded.warnings)) if warnings is None else warnings,
        listed=loaded.listed,
        parts=Beside(settings=settings, bridge=bridge),
    )


def reading_or_errors(loaded: Loaded, warnings: Sequence[str] | None = None) -> Reading | Sequence[str]:
    try:
        return reading_of(loaded, warnings)
    except (HookError, OSError) as error:  # of a password, which is read last
        return [str(error)]


class Reader:
    """Reads the settings again, once nobody writes them. `loaded` is what was read before."""

    def __init__(self, given: Inputs, loaded: Loaded) -> None:
        self._given = replace(given, read_tls=no_tls)  # of these `Certificates` takes care
        self._files = loaded.files

    def read(self) -> Reading | Sequence[str]:
        """In a thread: it may wait."""
        before: dict[Path, FileState] = {}
        for _ in range(READINGS_MAX):
            before = {file: file_state(file) for file in self._files}
            if (wait_s := _unsettled_s(before.values())) > 0:
                time.sleep(wait_s)
                continue
            try:
                loaded = load(self._given)
                self._files = loaded.files
                found = reading_or_errors(loaded)
            except ConfigError as error:
                found = str(error).splitlines()
            if all(file_state(file) == before.get(file) for file in self._files):
                return found
        return [f"{file}: is being written" for file in self._files if file_state(file) != before.get(file)]


def _unsettled_s(files: Iterable[FileState]) -> float:
    """How long until all have been left alone for a moment: what a writer has begun he goes on with."""
    age_s = time.time() - max((one[1] for one in files if one is not None), default=0) / 1e9
    return SETTLED_S - age_s if 0 <= age_s < SETTLED_S else 0


# What of BridgeSettings only a start changes, by the settings of which one is to blame.
_AT_START = {
    "listeners": ("sip.listen_udp", "sip.listen_tcp", "sip.listen_tls"),
    "tls": ("sip.tls_certificate_file", "sip.tls_key_file", "sip.tls_ca_file"),
}


class SetBeside:
    """The Parts of the reload."""

    def __init__(
        self,
        hook: BridgeHook,
        certificates: Certificates,
        gateways: Gateways,
        names: Names,
        calls: Calls,
        decks: Decks,
    ) -> None:
        self._hook = hook
        self._certificates = certificates
        self._gateways = gateways
        self._names = names
        self._calls = calls
        self._decks = decks

    def check(self, before: Reading, after: Reading) -> Sequence[str]:
        old, new = beside(before).bridge, beside(after).bridge
        if fields := needs_restart(old, new):
            differ = {one.key for one in texts_differ(before.plain, after.plain)}
            return [key for field in fields for key in _AT_START[field] if key in differ] or fields
        try:
            self._hook.check(new)
        except HookError as error:
            raise BadSettingsError([str(error)]) from None
        return ()

    async def renew_certificates(self, before: Reading, after: Reading) -> bool:
        old, new = beside(before).bridge, beside(after).bridge
        if (old.tls, authorities(old)) != (new.tls, authorities(new)):
            return False  # others are read with the other settings
        renewed = await self._certificates.renew()
        if not isinstance(renewed, bool):
            raise BadSettingsError(renewed)
        return renewed

    def put_in_force(self, before: Reading, after: Reading, policy: Policy) -> bool:
        self._gateways.take_over(policy.gateways)  # first: what it takes back is answered as before
        new = beside(after).bridge
        if beside(before).bridge == new:
            return False
        try:
            self._hook.reconfigure(new)
        except HookError as error:
            self._gateways.take_over(self._calls.policy.gateways)
            raise BadSettingsError([str(error)]) from None
        return True

    async def took_over(self, after: Reading) -> None:
        settings, policy = beside(after).settings, self._calls.policy
        self._names.take_over(policy.gateways, Reach.of(settings.sip.listeners()), resolver(settings))
        self._certificates.take_over(tls_settings(settings), settings.sip.tls_check_interval_s)
        set_level(settings.log.level.value)
        now = datetime.now(UTC)
        await asyncio.to_thread(keep_decks, self._decks, after.policy.decks, now)


def resolver(settings: Settings) -> DnsResolver:
    dns = settings.dns
    return DnsResolver(dns.servers, timeout_s=dns.timeout_s, lifetime_s=dns.lifetime_s)
