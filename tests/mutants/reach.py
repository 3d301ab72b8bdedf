"""Which tests reach which lines, and how long each takes: measured by coverage and kept in .build/mutants.

A test file that changed is measured again, alone; where a mutated module changed, every file that reached it.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import pytest

KEPT = Path(".build/mutants")


class Reached(msgspec.Struct, frozen=True):
    """One test: how long it took (s, under coverage), and the lines of each module that it ran."""

    took_s: float
    lines: dict[str, list[int]]


class Measured(msgspec.Struct, frozen=True):
    """One test file as it was when it was measured, with the hashes of the modules that it reached, and the
    lines of them that ran outside all tests: at import."""

    content: str
    modules: dict[str, str]
    at_import: dict[str, list[int]]
    tests: dict[str, Reached]


def content_of(file: str | Path) -> str:
    path = Path(file)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else ""


def kept(file: Path) -> Measured | None:
    """What is known of a test file, if it has not changed since."""
    place = KEPT / f"{str(file).replace('/', '+')}.json"
    if not place.exists():
        return None
    found = msgspec.json.decode(place.read_bytes(), type=Measured)
    return found if found.content == content_of(file) else None


def keep(file: str, measured: Measured) -> None:
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / f"{file.replace('/', '+')}.json").write_bytes(msgspec.json.encode(measured))


class Measuring:
    """A pytest plugin that notes what each test reaches."""

    def __init__(self) -> None:
        import coverage

        self._coverage = coverage.Coverage(
            data_file=None, include=["sidecar/*"], branch=False, config_file=False
        )
        self._took_s: dict[str, float] = {}

    def run(self, files: Iterable[Path]) -> int:
        import pytest

        self._coverage.start()
        try:
            return int(
                pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *map(str, files)], [self])
            )
        finally:
            self._coverage.stop()
            self._keep([str(file) for file in files])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._coverage.switch_context(nodeid)
        self._took_s[nodeid] = perf_counter()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._took_s[nodeid] = perf_counter() - self._took_s[nodeid]
        self._coverage.switch_context("")

    def pytest_collection(self, session: pytest.Session) -> None:
        from tests.mutants.runs import same_examples

        same_examples()

    def _keep(self, files: list[str]) -> None:
        lines: dict[str, dict[str, list[int]]] = {nodeid: {} for nodeid in self._took_s}
        at_import: dict[str, list[int]] = {}
        data = self._coverage.get_data()
        top = f"{Path.cwd()}/"
        for name in data.measured_files():
            module = name.removeprefix(top)
            for line, contexts in data.contexts_by_lineno(name).items():
                for nodeid in contexts:
                    (lines[nodeid] if nodeid else at_import).setdefault(module, []).append(line)
        for file in files:
            tests = {
                nodeid: Reached(self._took_s[nodeid], lines[nodeid])
                for nodeid in self._took_s
                if nodeid.partition("::")[0] == file
            }
            modules = {module: content_of(module) for test in tests.values() for module in test.lines}
            keep(file, Measured(content_of(file), modules, at_import, tests))


if __name__ == "__main__":
    sys.exit(Measuring().run([Path(name) for name in sys.argv[1:]]))
