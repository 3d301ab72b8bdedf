"""TLS files that are renewed while the node runs: they are looked at every few seconds, and on command. What
is in force changes only for handshakes to come, and only where all files are good together: a new certificate
whose key is not there yet is refused, until it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog

from sidecar.b2bua._bridge import TlsCredentials
from sidecar.b2bua.hook import BridgeHook, HookError
from sidecar.ports import CertificateStatus

log = structlog.get_logger("sidecar.certificates")

_LOOK_AGAIN_S = 10  # whether a reload has set an interval

FileState = tuple[int, int, int] | None  # what differs when it has changed; None: gone
_Seen = tuple[FileState, ...]


def tls_faults(certificate: Path, key: Path, authorities: Sequence[Path]) -> list[tuple[Path, str, bool]]:
    """Of files that a start would read: the file, what is wrong with it, and whether the start would fail."""
    files = (certificate, key, *authorities)
    try:
        credentials = TlsCredentials(str(certificate), str(key), [str(file) for file in authorities])
    except ValueError as error:
        text = str(error)
        named = (file for file in files if text.startswith(f"{file}: "))
        return [(next(named, certificate), text, True)]
    now_s = time.time()
    return [
        (
            Path(file),
            f"{file}: a certificate ended at {datetime.fromtimestamp(end_s, UTC):%Y-%m-%d %H:%M} UTC",
            False,
        )
        for file, end_s in credentials.ends()
        if end_s <= now_s
    ]


class Certificates:
    """`settings`: which setting names a file, for status and metrics. An interval of 0: on command alone."""

    def __init__(self, hook: BridgeHook, settings: Mapping[str, str], interval_s: int) -> None:
        self._hook = hook
        self._settings = settings
        self._interval_s = interval_s
        self._seen: _Seen = self._look()  # good, or found wrong
        self._in_force = self._seen
        self._renewals = self._refusals = 0
        self._refused = ""
        self._renewing = asyncio.Lock()

    def take_over(self, settings: Mapping[str, str], interval_s: int) -> None:
        """The hook has other settings, and has read the files that they name."""
        self._settings, self._interval_s = settings, interval_s
        self._seen = self._in_force = self._look()

    def status(self) -> CertificateStatus:
        """Asked from any thread."""
        return CertificateStatus(
            ends_at={self._settings.get(file, file): end for file, end in tuple(self._hook.tls_ends.items())},
            renewals=self._renewals,
            refusals=self._refusals,
            refused=self._refused,
        )

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s or _LOOK_AGAIN_S)
            if self._interval_s and await asyncio.to_thread(self._look) != self._seen:
                await self.renew()

    async def renew(self) -> bool | Sequence[str]:
        """Take over what the files hold now: whether that is something else, or what is wrong with them."""
        async with self._renewing:
            self._seen = await asyncio.to_thread(self._look)
            try:
                credentials = await asyncio.to_thread(self._read)
            except HookError as error:
                self._refused = str(error)
                self._refusals += 1
                log.error("tls_files_refused", error=self._refused)
                return [self._refused]
            self._refused = ""
            if credentials is None or self._seen == self._in_force:
                return False
            self._hook.renew_tls(credentials)
            self._in_force = self._seen
            self._renewals += 1
            log.info("tls_files_renewed", **self.status().ends_at)
            return True

    def _read(self) -> TlsCredentials | None:
        credentials = self._hook.read_tls()
        now_s = time.time()
        for file, end_s in credentials.ends() if credentials is not None else ():
            if end_s <= now_s:
                raise HookError(
                    f"{file}: has expired, on {datetime.fromtimestamp(end_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
                )
        return credentials

    def _look(self) -> _Seen:
        return tuple(map(file_state, map(Path, self._hook.tls_files)))


def file_state(file: Path) -> FileState:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
