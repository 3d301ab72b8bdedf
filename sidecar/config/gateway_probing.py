"""A gateway's probes and its registration, of the keys that begin with `probe_` and `register`."""

from __future__ import annotations

from typing import Any

from sidecar.config import values
from sidecar.config.problems import Findings, quoted
from sidecar.config.tables import Entry
from sidecar.core.gateway_health import ProbeTerms
from sidecar.core.registration import RegisterTerms
from sidecar.core.servers import Lookup


def check(gateway: Entry, findings: Findings) -> None:
    for field in sorted(gateway.given):
        if field.startswith("probe_") and not gateway["probe_interval_s"]:
            if field != "probe_interval_s":
                findings.error(*gateway.at(field), "needs a probe_interval_s above 0 beside it")
        elif field.startswith("register_") and not gateway["register"]:
            findings.error(*gateway.at(field), "needs register = true beside it")
    if gateway["register"] and not gateway["register_user"]:
        username = gateway["username"]
        if not username:
            text = "needs register_user, or username and password_file, beside it"
            findings.error(*gateway.at("register"), text)
        elif not values.is_uri_user(username):
            text = f"the username {quoted(username)} cannot stand in an address of record: give register_user"
            findings.error(*gateway.at("register"), text)


def terms(own: dict[str, Any]) -> tuple[ProbeTerms | None, RegisterTerms | None]:
    """Takes their keys out of the fields of a gateway."""
    probe = {name: own.pop(name) for name in list(own) if name.startswith("probe_")}
    register = {name: own.pop(name) for name in list(own) if name.startswith("register")}
    return _probe(probe), _register(register, own)


def _probe(given: dict[str, Any]) -> ProbeTerms | None:
    if not given["probe_interval_s"]:
        return None
    return ProbeTerms(
        interval_ms=given["probe_interval_s"] * 1_000,
        timeout_ms=given["probe_timeout_s"] * 1_000,
        down_after=given["probe_down_after"],
        up_after=given["probe_up_after"],
        alive=given["probe_alive"],
    )


def _register(given: dict[str, Any], gateway: dict[str, Any]) -> RegisterTerms | None:
    if not given["register"]:
        return None
    user, domain = given["register_user"] or gateway["username"], given["register_domain"]
    host = f"[{gateway['host']}]" if ":" in gateway["host"] else gateway["host"]
    lookup: Lookup | None = gateway.get("lookup")
    port = gateway["port"] if lookup is None else lookup.port
    return RegisterTerms(
        identity=f"sip:{user}@{domain or host}",
        target=f"sip:{domain}" if domain else f"sip:{host}" if port is None else f"sip:{host}:{port}",
        contact_user=user,
        expires_s=given["register_expires_s"],
    )
