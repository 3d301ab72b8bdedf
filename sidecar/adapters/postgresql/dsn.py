"""The file with the connection string. It may hold a password: no text about it says what is in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from sidecar.adapters.store.store import StoreError

_VERIFIED = ("verify-ca", "verify-full")


def read_dsn(file: Path) -> str:
    """Its first line. StoreError: it cannot be read, or libpq does not understand it."""
    try:
        line = file.read_text(encoding="utf-8").split("\n", 1)[0].strip()
    except UnicodeDecodeError:
        raise StoreError(f"{file}: is not UTF-8") from None
    except OSError as error:
        raise StoreError(f"{file}: cannot be read: {error.strerror}") from None
    if not line:
        raise StoreError(f"{file}: its first line is empty: it is the connection string")
    parts_of(line, f"{file}: its first line")
    return line


def parts_of(dsn: str, name: str) -> Mapping[str, str]:
    try:
        return {key: str(value) for key, value in conninfo_to_dict(dsn).items()}
    except (psycopg.ProgrammingError, ValueError):  # whose text has pieces of it
        text = "`host=... dbname=... user=...`, or `postgresql://...`"
        raise StoreError(f"{name} is no connection string as libpq takes it: {text}") from None


def name_of(dsn: str) -> str:
    """For messages: where it is, without a password. StoreError for what libpq does not understand."""
    parts = parts_of(dsn, "what was given")
    named = (f"{key}={parts[key]}" for key in ("host", "port", "dbname", "user") if key in parts)
    return " ".join(("PostgreSQL", *named))


def dsn_faults(file: Path) -> Sequence[tuple[str, bool]]:
    """What is wrong with it, and whether a start would fail."""
    try:
        parts = parts_of(read_dsn(file), str(file))
    except StoreError as error:
        return [(str(error), True)]
    if _is_far(parts) and parts.get("sslmode") not in _VERIFIED:
        text = (
            f"{file}: the server is not proved to be ours, and what goes to it may go in the clear:"
            " add sslmode=verify-full and sslrootcert=FILE"
        )
        return [(text, False)]
    return ()


def _is_far(parts: Mapping[str, str]) -> bool:
    """Neither loopback nor a unix socket. Where libpq is left to find the host, nobody can tell here."""
    named = ",".join(filter(None, (parts.get("host"), parts.get("hostaddr"))))
    return any(not _is_here(host.strip()) for host in named.split(",") if host.strip())


def _is_here(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith(("127.", "/", "@"))
