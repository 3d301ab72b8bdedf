"""`make mutants`: small mistakes are made in the code, one at a time, and what no test notices is shown.

    make mutants                         core, the stores, runtime and config: hours
    make mutants MODULE=core/steps       one module or folder, or several: "core/steps core/doctor"
    make mutants SINCE=main              the lines that changed since a commit

A survivor gets a test that fails for it, or an entry in tests/mutants/equivalent.txt that says why it changes
nothing. Exit code 1: there are others.

Not mutmut or cosmic-ray: mutmut 3 leaves out what is in no function (the tables), neither takes the last of
several for the first or leaves a row out, and both start pytest for each mutant, which takes longer than the
tests. Here each is a fork of a pytest that has collected them all.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.mutants.operators import Mutant, enums_of, mutants
from tests.mutants.reach import Measured, content_of, kept
from tests.mutants.runs import (
    NOT_REACHED,
    NOTICED,
    SURVIVED,
    Swapping,
    Tests,
    is_in_a_function,
    prepare,
    run_imported_anew,
)

_EQUIVALENT = Path(__file__).with_name("equivalent.txt")
# Which tests are for which part.
_AREAS = {
    "sidecar/core": ("tests/core", "tests/conformance", "tests/wire", "tests/scenarios"),
    "sidecar/adapters/store": ("tests/adapters/test_store*.py", "tests/adapters/test_sqlite_*.py"),
    "sidecar/adapters/sqlite": (
        "tests/adapters/test_sqlite_*.py",
        "tests/adapters/test_store*.py",
        "tests/runtime/test_admin*.py",
        "tests/scenarios",
    ),
    "sidecar/adapters/postgresql": (
        "tests/adapters/test_postgresql_*.py",
        "tests/adapters/test_moving.py",
        "tests/adapters/test_store*.py",
    ),
    "sidecar/runtime": ("tests/runtime", "tests/scenarios"),
    "sidecar/config": ("tests/config",),
}
TESTS_S_MAX = 20.0  # per mutant, as measured under coverage
_Lines = dict[Path, set[int]]


def main() -> int:
    os.nice(10)
    words = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    words.add_argument("modules", nargs="*", help="as core/steps, or sidecar/core/steps.py")
    words.add_argument("--since", help="only lines that are new since this commit")
    given = words.parse_args()
    changed = _changed_since(given.since) if given.since else None
    survivors = 0
    equivalent = _equivalent()
    for area, places in _AREAS.items():
        modules = [path for path in _modules(given.modules, area) if changed is None or path in changed]
        if not modules:
            continue
        files = [file for place in places for file in _test_files(place)]
        measured = _measure(files, modules)
        enums = enums_of(sorted(Path("sidecar").rglob("*.py")))
        found = [mutant for module in modules for mutant in mutants(module, enums)]
        keys = {mutant.key for mutant in found}
        for key in sorted(equivalent):
            if Path(key.split(" ", 1)[0]) in modules and key not in keys:
                print(f"no longer there, but in {_EQUIVALENT.name}: {key}")
        tried = [
            mutant
            for mutant in found
            if mutant.key not in equivalent and (changed is None or mutant.line in changed[mutant.module])
        ]
        survivors += _try(tried, measured)
    return 1 if survivors else 0


def _try(tried: Sequence[Mutant], measured: dict[Path, Measured]) -> int:
    """Tries each mutant and shows what survives; returns how many do."""
    begin = time.monotonic()
    results: dict[str, str] = {}
    swapped = [(mutant, _reaching(mutant, measured)) for mutant in tried if is_in_a_function(mutant)]
    for mutant, result in _swap(swapped):
        at_import = any(mutant.line in one.at_import.get(str(mutant.module), ()) for one in measured.values())
        if result not in {SURVIVED, NOT_REACHED} or not at_import:
            results[mutant.key] = result
            _show(mutant, result)
    prepare()
    for mutant in tried:
        if mutant.key not in results:
            results[mutant.key] = run_imported_anew(mutant, _using(mutant, measured))
            _show(mutant, results[mutant.key])
    count = Counter(results.values())
    print(f"{len(tried)} mutants in {time.monotonic() - begin:.0f} s: {dict(count)}", flush=True)
    return count[SURVIVED] + count[NOT_REACHED]


def _swap(swapped: Sequence[tuple[Mutant, Tests]]) -> Iterator[tuple[Mutant, str]]:
    """In a child, as this process must not import the product."""
    if not swapped:
        return
    files = sorted({nodeid.partition("::")[0] for _, tests in swapped for nodeid in tests})
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reading)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            with os.fdopen(writing, "w") as pipe:

                def report(index: int, result: str) -> None:
                    print(json.dumps([index, result]), file=pipe, flush=True)

                Swapping(swapped, report).run(files)
            code = 0
        except BaseException:  # noqa: BLE001 -- said by the exit code
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        for line in pipe:
            index, result = json.loads(line)
            yield swapped[index][0], result
    _, status = os.waitpid(pid, 0)
    if status:
        raise RuntimeError("the tests could not be run")


def _show(mutant: Mutant, result: str) -> None:
    if result != NOTICED:
        source = mutant.module.read_text("utf-8").splitlines()[mutant.line - 1].strip()
        print(f"{result}: {mutant.module}:{mutant.line}  {source}\n    {mutant.key}", flush=True)


def _reaching(mutant: Mutant, measured: dict[Path, Measured]) -> Tests:
    """The tests that run one of the lines of a mutant."""
    lines = set(range(mutant.line, mutant.last_line + 1))
    return _fastest(
        mutant,
        {
            nodeid: test.took_s
            for one in measured.values()
            for nodeid, test in one.tests.items()
            if not lines.isdisjoint(test.lines.get(str(mutant.module), ()))
        },
    )


def _using(mutant: Mutant, measured: dict[Path, Measured]) -> Tests:
    """The tests of all files that run anything of the module, at import or later."""
    module = str(mutant.module)
    return _fastest(
        mutant,
        {
            nodeid: test.took_s
            for one in measured.values()
            if any(module in test.lines for test in one.tests.values())
            for nodeid, test in one.tests.items()
        },
    )


def _fastest(mutant: Mutant, tests: Tests) -> Tests:
    """As many as take TESTS_S_MAX together, those of the module's own test file first: what is noticed only
    by a long test of something else is not noticed."""
    own = f"test_{mutant.module.stem}.py"
    chosen: dict[str, float] = {}
    sum_s = 0.0
    for nodeid in sorted(tests, key=lambda nodeid: (own not in nodeid, tests[nodeid])):
        sum_s += tests[nodeid]
        if sum_s > TESTS_S_MAX and chosen:
            break
        chosen[nodeid] = tests[nodeid]
    return chosen


def _measure(files: Sequence[Path], modules: Sequence[Path]) -> dict[Path, Measured]:
    """What each test file reaches, measured anew where it or one of the modules changed."""
    hashes = {str(module): content_of(module) for module in modules}
    stale = []
    for file in files:
        known = kept(file)
        if known is None or any(
            hashes.get(name, content) != content for name, content in known.modules.items()
        ):
            stale.append(file)
    if stale:
        print(f"which lines {len(stale)} test files reach", flush=True)
        subprocess.run(
            [sys.executable, "-m", "tests.mutants.reach", *map(str, stale)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    found = {file: kept(file) for file in files}
    changed = [str(file) for file, measured in found.items() if measured is None]
    if changed:
        raise SystemExit(f"changed while it was measured: {', '.join(changed)}")
    return {file: measured for file, measured in found.items() if measured is not None}


def _modules(named: Sequence[str], area: str) -> list[Path]:
    every = sorted(path for path in Path(area).rglob("*.py"))
    if not named:
        return every
    wanted = [Path("sidecar", name.removeprefix("sidecar/")) for name in named]
    return [
        path
        for path in every
        if any(path in (one, one.with_suffix(".py")) or one in path.parents for one in wanted)
    ]


def _test_files(place: str) -> list[Path]:
    return sorted(Path(place).rglob("test_*.py") if "*" not in place else Path().glob(place))


def _changed_since(revision: str) -> _Lines:
    """The lines of each module that are not as they were in a commit."""
    text = subprocess.run(
        ["git", "diff", "-U0", "--no-ext-diff", revision, "--", "sidecar"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    lines: _Lines = {}
    path = Path()
    for line in text.splitlines():
        if line.startswith("+++ b/"):
            path = Path(line.removeprefix("+++ b/"))
            lines[path] = set()
        elif found := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line):
            first, several = int(found[1]), int(found[2] or "1")
            lines.setdefault(path, set()).update(range(first, first + several))
    return lines


def _equivalent() -> dict[str, str]:
    """Mutants that change nothing, each with the reason: a line with its key, then the reason, indented."""
    found: dict[str, str] = {}
    key = ""
    for line in _EQUIVALENT.read_text("utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if not line.startswith(" "):
            key = line
            found[key] = ""
        else:
            found[key] = f"{found[key]} {line.strip()}".strip()
    for key, reason in found.items():
        if not reason:
            raise SystemExit(f"{_EQUIVALENT.name}: no reason for {key}")
    return found


if __name__ == "__main__":
    sys.exit(main())
