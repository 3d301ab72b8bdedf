"""`sidecar check`: what a start with these settings would say and do, without one."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from sidecar.config import machine, places
from sidecar.config.build import Inputs, Loaded, load
from sidecar.config.problems import ConfigError, Problem, lines
from sidecar.core.policy import Gateway, Share


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The settings in force, in words. `--json` prints it as it is."""

    tenant: str
    node: str
    data_dir: str
    profile: str
    listen: tuple[str, ...]
    peers: dict[str, tuple[str, ...]]
    gateways: dict[str, str]
    resolver: str  # that names of gateways are asked of; empty: none is a name
    routes: dict[str, tuple[str, ...]]
    accounts: dict[str, str]
    decks: dict[str, str]
    broker: str
    metrics: str

    def lines(self) -> list[str]:
        rows = [
            ("profile", self.profile),
            ("node", f"{self.tenant}/{self.node}, data in {self.data_dir}"),
            ("listens on", ", ".join(self.listen)),
            *((f"peer {name}", ", ".join(addresses)) for name, addresses in self.peers.items()),
            *((f"gateway {name}", target) for name, target in self.gateways.items()),
            *([("resolver", self.resolver)] if self.resolver else []),
            *((f"route {prefix or 'all'}", ", ".join(names)) for prefix, names in self.routes.items()),
            *((f"account {name}", terms) for name, terms in self.accounts.items()),
            *((f"deck {name}", content) for name, content in self.decks.items()),
            ("broker", self.broker),
            ("metrics", self.metrics),
        ]
        width = max(len(title) for title, _ in rows)
        return [f"{title:<{width}}  {text}" for title, text in rows]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """`summary` is None where there are errors."""

    errors: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    summary: Summary | None

    def lines(self) -> list[str]:
        """Errors, warnings, and the summary, for a terminal."""
        return [
            *(f"error: {line}" for line in lines(self.errors)),
            *(f"warning: {line}" for line in lines(self.warnings)),
            *(self.summary.lines() if self.summary is not None else []),
        ]


# What stands against settings that are right in themselves: errors, and warnings.
Beside = Callable[[Loaded], tuple[tuple[Problem, ...], tuple[Problem, ...]]]


def check(inputs: Inputs, *, probe_machine: bool = False, beside: Beside | None = None) -> Report:
    """Reads and checks everything. `probe_machine` looks at ports and the data directory too: not while the
    daemon runs, which holds them. `beside` looks at what is there already."""
    try:
        loaded = load(inputs)
    except ConfigError as error:
        return Report(errors=error.problems, warnings=error.warnings, summary=None)
    errors = tuple(machine.problems(loaded.settings)) if probe_machine else ()
    more_errors, more_warnings = beside(loaded) if beside is not None else ((), ())
    errors = (*errors, *more_errors)
    return Report(
        errors=errors,
        warnings=(*loaded.warnings, *more_warnings),
        summary=None if errors else summary(loaded),
    )


def _written(one: str | tuple[Share, ...]) -> str:
    """A gateway of a route, or a group, as the profile has it."""
    return one if isinstance(one, str) else f"[{', '.join(f'{s.gateway}={s.weight}' for s in one)}]"


def _probing(gateway: Gateway) -> str:
    probed = f", probed every {gateway.probe.interval_ms // 1_000} s" if gateway.probe else ""
    return probed + (f", registered as {gateway.register.identity}" if gateway.register else "")


def _place(gateway: Gateway) -> str:
    if gateway.lookup is None:
        return f"{gateway.transport.value} {gateway.host} port {gateway.port}"
    wanted = gateway.lookup
    port = "" if wanted.port is None else f" port {wanted.port}"
    return f"{'' if wanted.transport is None else f'{wanted.transport.value} '}{wanted.name}{port}, by DNS"


def _resolver(loaded: Loaded) -> str:
    if all(gateway.lookup is None for gateway in loaded.policy.gateways.values()):
        return ""
    servers = loaded.settings.dns.servers
    return ", ".join(f"{host} port {port}" for host, port in servers) or f"those of {places.RESOLV_CONF}"


def summary(loaded: Loaded) -> Summary:
    policy, settings = loaded.policy, loaded.settings
    mqtt = settings.mqtt
    host, port = mqtt.address
    broker = f"{host} port {port or 'any free one'}{', TLS' if mqtt.tls else ''}"
    return Summary(
        tenant=policy.tenant,
        node=policy.node,
        data_dir=str(settings.node.data_dir),
        profile=settings.profile_path,
        listen=tuple(
            f"{transport.value} {host} port {port}" for transport, (host, port) in settings.sip.listeners()
        ),
        peers={name: peer.addresses for name, peer in policy.peers.items()},
        gateways={name: _place(gateway) + _probing(gateway) for name, gateway in policy.gateways.items()},
        resolver=_resolver(loaded),
        routes={route.prefix: tuple(map(_written, route.gateways)) for route in policy.routes},
        accounts={
            name: f"{'prepaid' if account.prepaid else 'postpaid'}, {account.currency}, "
            f"deck {account.deck or policy.default_deck or 'none'}"
            for name, account in sorted(policy.accounts.items())
        },
        decks={
            name: f"{len(deck)} rates, revision {deck.revision[:12]}, of the settings"
            for name, deck in policy.decks.items()
        },
        broker=f"embedded, {broker}" if mqtt.embedded else broker,
        metrics="http://{}:{}/metrics".format(*settings.metrics.listen),
    )
