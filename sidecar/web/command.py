"""The command line as a child of the page: what takes long or much memory (a price list, a deck weighed
against the calls of a week, the doctor) is never done in the page's own process, and is done by the code that
does it for whoever types it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from sidecar.wire.control import CommandError, ErrorCode

COMMANDS_MAX = 2  # at once, however many look
WAIT_S_MAX = 20.0
WITHIN_S = 120.0
MEMORY_MAX = 2**31  # of its address space; a list of 500,000 rows takes 100 MB
_DEFECT_LENGTH_MAX = 300
# It gives way to calls, is bounded, and ends with whoever waits for it.
_BOUNDED = (
    ("setpriv", "--pdeathsig", "KILL", "--"),
    ("nice", "-n", "10"),
    ("prlimit", f"--as={MEMORY_MAX}", "--core=0", "--"),
)


class Commands:
    def __init__(self, config: Path | None, settings: Mapping[str, object]) -> None:
        """`settings`: those that were given on the command line of the page, `node.data_dir` and so on."""
        self._config = config
        given = {f"SIDECAR_{name.replace('.', '__').upper()}": str(value) for name, value in settings.items()}
        self._environment = {**os.environ, **given}
        self._before = [
            word for one in _BOUNDED if (found := shutil.which(one[0])) for word in (found, *one[1:])
        ]
        self._places = threading.BoundedSemaphore(COMMANDS_MAX)

    def run(self, *words: str, of: Sequence[str] = ()) -> Any:
        """What the command says as JSON, also where it says no (exit code 1). `of`: what is no option,
        whatever it begins with. Raises CommandError with what is wrong."""
        done = self._done([*words, "--json"], of)
        try:
            return msgspec.json.decode(done.stdout)
        except msgspec.DecodeError:
            raise CommandError(ErrorCode.REFUSED, _fault(done.stderr)) from None

    def text(self, *words: str, of: Sequence[str] = ()) -> bytes:
        """What it prints. Raises CommandError where it does not end well."""
        done = self._done(words, of)
        if done.returncode:
            raise CommandError(ErrorCode.REFUSED, _fault(done.stderr))
        return done.stdout

    def _done(self, words: Sequence[str], of: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        if not self._places.acquire(timeout=WAIT_S_MAX):
            raise CommandError(ErrorCode.BUSY, "The page is busy with others' lists: try again.")
        try:
            named = [f"--config={self._config}"] if self._config else []
            return subprocess.run(
                [*self._before, sys.executable, "-m", "sidecar.cli", *words, *named, "--", *of],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=WITHIN_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            text = f"This took more than {WITHIN_S:.0f} s: `sidecar {words[0]}` itself has all the time."
            raise CommandError(ErrorCode.TIMED_OUT, text) from None
        finally:
            self._places.release()


def _fault(said: bytes) -> str:
    if b"MemoryError" in said:
        return "This takes more memory than the page gives: the command line reads it."
    for line in reversed(said.splitlines()):
        try:
            return str(msgspec.json.decode(line)["error"]["message"])
        except (msgspec.DecodeError, KeyError, TypeError):
            continue
    text = said.decode(errors="backslashreplace").strip().removeprefix("sidecar: ")
    return text[-_DEFECT_LENGTH_MAX:] or "The command said nothing."
