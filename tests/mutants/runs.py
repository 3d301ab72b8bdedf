"""Runs the tests against mutants, each in a child of its own that ends with the first failure.

Most mutants change the body of a function: all tests are collected once, and the child only puts the changed
code into the functions. What runs at import (tables, defaults, constants) needs a child that imports it anew,
and so does what survives but ran at import, too.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import gc
import importlib
import importlib.machinery
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import CodeType, FunctionType

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import Phase, settings

from tests.mutants.operators import Mutant

SURVIVED, NOTICED, TOO_SLOW, NOT_REACHED = "survived", "noticed", "too slow", "not reached"
_LIMIT_S_MIN = 20.0
_NOBODY_SAW_IT, _SOMEBODY_SAW_IT, _BROKEN = 0, 1, 99
_OPTIONS = (
    "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--basetemp=.build/mutants/tmp",
    "-W", "ignore::pytest.PytestAssertRewriteWarning",
)  # fmt: skip
_USED_BY_ALL = (
    "apsw", "aiomqtt", "hypothesis.strategies", "msgpack", "msgspec", "phonenumbers", "prometheus_client",
    "pytest_asyncio", "python_calamine", "rich.table", "structlog", "typer",
)  # fmt: skip

# The tests that reach a mutant, in the order that they are run in, and how long each takes (s).
Tests = Mapping[str, float]


def same_examples() -> None:
    """Hypothesis draws the same examples each time, remembers none and does not look for a smaller one."""
    settings.register_profile(
        "mutants", deadline=None, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate]
    )
    settings.load_profile("mutants")


def prepare() -> None:
    """Imports what is not the product's, so that no child needs to."""
    for name in _USED_BY_ALL:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def is_in_a_function(mutant: Mutant) -> bool:
    """Whether changing the functions that exist is enough. One that calls super() is not changed so."""
    tree = ast.parse(mutant.module.read_text("utf-8"))
    name = _function_of(tree, mutant)
    usual = compile(tree, str(mutant.module.absolute()), "exec", dont_inherit=True)
    return name is not None and not any(
        code.co_qualname == name and code.co_freevars for code in _functions_in(usual)
    )


def run_imported_anew(mutant: Mutant, tests: Tests) -> str:
    """In a child of this process, which has imported nothing of the product yet."""

    def child() -> bool:
        _import_changed(mutant)
        files = sorted({nodeid.partition("::")[0] for nodeid in tests})
        code = pytest.main(["-x", *_OPTIONS, *files], [_Chosen(tests)])
        if code is pytest.ExitCode.NO_TESTS_COLLECTED:
            raise RuntimeError("no tests")
        return code != 0

    return _in_child(child, sum(tests.values())) if tests else NOT_REACHED


class Swapping:
    """A pytest plugin that, instead of running all tests once, runs those that reach it for each mutant."""

    def __init__(self, mutants: Sequence[tuple[Mutant, Tests]], report: Callable[[int, str], None]) -> None:
        self._mutants = mutants
        self._report = report

    def run(self, files: Sequence[str]) -> None:
        code = pytest.main([*_OPTIONS, *files], [self])
        if code != 0:
            raise RuntimeError(f"pytest ended with {code}")

    def pytest_collection(self) -> None:
        same_examples()

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        functions = [thing for thing in gc.get_objects() if isinstance(thing, FunctionType)]
        gc.collect()
        gc.freeze()
        for index, (mutant, tests) in enumerate(self._mutants):
            chosen = [items[nodeid] for nodeid in tests if nodeid in items]
            child = functools.partial(_swapped, mutant, functions, chosen)
            self._report(index, _in_child(child, sum(tests.values())) if chosen else NOT_REACHED)
        return True


class _Chosen:
    """A pytest plugin: only these tests, in this order."""

    def __init__(self, tests: Tests) -> None:
        self._tests = tests

    def pytest_collection(self) -> None:
        same_examples()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        by_id = {item.nodeid: item for item in items}
        items[:] = [by_id[nodeid] for nodeid in self._tests if nodeid in by_id]


def _in_child(work: Callable[[], bool], took_s: float) -> str:
    """What becomes of `work` in a child: whether it noticed anything, or took too long."""
    pid = os.fork()
    if pid == 0:
        code, errors = _BROKEN, os.dup(2)
        try:
            os.setpgid(0, 0)
            silence = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(silence, stream)
            code = _SOMEBODY_SAW_IT if work() else _NOBODY_SAW_IT
        except BaseException:  # noqa: BLE001 -- said by the exit code
            os.write(errors, traceback.format_exc().encode())
        finally:
            os._exit(code)
    until = time.monotonic() + max(_LIMIT_S_MIN, 5 * took_s)
    try:
        while time.monotonic() < until:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                if os.WIFEXITED(status) and os.WEXITSTATUS(status) == _BROKEN:
                    raise RuntimeError("the child that tries a mutant broke")
                return SURVIVED if status == 0 else NOTICED
            time.sleep(0.003)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return TOO_SLOW
    finally:
        with contextlib.suppress(ProcessLookupError):  # what the tests started, where they did not end it
            os.killpg(pid, signal.SIGKILL)


def _swapped(mutant: Mutant, functions: Sequence[FunctionType], items: Sequence[pytest.Item]) -> bool:
    """Puts the changed code into every function that was made from the same place, and runs the tests."""
    name = _function_of(ast.parse(mutant.module.read_text("utf-8")), mutant)
    file = str(mutant.module.absolute())
    changed = {(code.co_qualname, code.co_firstlineno): code for code in _functions_in(_compiled(mutant))}
    found = 0
    for function in functions:
        usual = function.__code__
        if usual.co_filename == file and usual.co_qualname == name:
            function.__code__ = changed[name, usual.co_firstlineno]
            found += 1
    if not found:
        raise RuntimeError(f"nothing to change for {mutant.key}")
    for item, after in zip(items, [*items[1:], None], strict=True):
        if any(report.failed for report in runtestprotocol(item, log=False, nextitem=after)):
            return True
    return False


def _import_changed(mutant: Mutant) -> None:
    name = ".".join(mutant.module.with_suffix("").parts).removesuffix(".__init__")
    usual = importlib.machinery.SourceFileLoader.get_code

    def get_code(loader: importlib.machinery.SourceFileLoader, fullname: str) -> CodeType | None:
        return _compiled(mutant) if fullname == name else usual(loader, fullname)

    assert name not in sys.modules
    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]


def _compiled(mutant: Mutant) -> CodeType:
    tree = ast.parse(mutant.module.read_text("utf-8"))
    return compile(mutant.apply(tree), str(mutant.module.absolute()), "exec", dont_inherit=True)


def _function_of(tree: ast.Module, mutant: Mutant) -> str | None:
    """The outermost function whose body the mutant is in (dotted with its classes); None: it is in none."""
    names: list[str] = []
    node: ast.AST = tree
    for field, index in mutant.place:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return ".".join(names) if field == "body" else None
        node = getattr(node, field) if index is None else getattr(node, field)[index]
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            names.append(node.name)
    return None


def _functions_in(code: CodeType) -> Iterator[CodeType]:
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield part
            if "<locals>" not in part.co_qualname:
                yield from _functions_in(part)
