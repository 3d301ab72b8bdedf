"""What the settings would be with other entries made by command: looked at whole before any is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from msgspec.structs import replace

from sidecar.config.build import Inputs, Loaded, load
from sidecar.config.problems import ConfigError, Problem
from sidecar.config.stored import THIS_COMMAND, as_toml
from sidecar.config.values import BadValueError
from sidecar.core.stored import StoredEntry

T = TypeVar("T")


class Candidate(Generic[T]):
    """The files are read as they are now; `reading` makes of it, and of the warnings about the entry of this
    command, what is asked for. It takes as long as a start does to read them: not on the event loop."""

    def __init__(self, inputs: Inputs, reading: Callable[[Loaded, Sequence[str]], T]) -> None:
        self._inputs = inputs
        self._reading = reading

    def look(self, stored: Sequence[StoredEntry]) -> T | Sequence[str]:
        """What is wrong, a line each, where anything is."""
        try:
            loaded = load(replace(self._inputs, read_stored=lambda _: stored))
        except ConfigError as error:
            return [_told(problem) for problem in error.problems]
        return self._reading(
            loaded, [_told(one) for one in loaded.warnings if one.where.source == THIS_COMMAND]
        )

    def fields(self, table: str, words: Mapping[str, object]) -> Mapping[str, object] | str:
        """As TOML would have them; or which word is no such value."""
        made: dict[str, object] = {}
        for name, word in words.items():
            try:
                made |= as_toml(table, {name: word})
            except BadValueError as error:
                return f"{name}: {error}"
        return made


def _told(problem: Problem) -> str:
    """Of the entry that the command makes its key alone is named: the rest stands on the command line."""
    if problem.where.source != THIS_COMMAND:
        return str(problem)
    text = str(problem).removeprefix(f"{THIS_COMMAND}: ")
    key, colon, rest = text.partition(": ")
    return f"{key.rsplit('.', 1)[-1]}{colon}{rest}"
