"""What is wrong with the settings, as values: all of it is collected and shown together, before any start."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches

import msgspec

PROBLEMS_SHOWN_MAX = 100
NEAREST_OF_MAX = 2_000  # each comparison takes some 10 µs, and every wrong name asks


class Where(msgspec.Struct, frozen=True):
    """Where a value was written: a file and its line, `environment`, `command line` or `default`."""

    source: str
    line: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One error or one warning. `text` says what is wrong and, where it is not plain, what to do."""

    where: Where
    key: str  # as it was written: `sip.profile`, `SIDECAR_SIP__PROFILE`, `gateways.carrier.port`
    text: str
    suggestion: str | None = None  # the nearest name that exists
    may_pass: bool = False  # with nothing changed here, another start may not have it

    def __str__(self) -> str:
        hint = f"; did you mean {printable(self.suggestion)!r}?" if self.suggestion else ""
        key = f"{printable(self.key)}: " if self.key else ""
        return f"{printable(str(self.where))}: {key}{printable(self.text)}{hint}"


class ConfigError(Exception):
    """The settings cannot be used. `problems` is every error found, `warnings` what was found beside them."""

    def __init__(self, problems: Sequence[Problem], warnings: Sequence[Problem] = ()) -> None:
        self.problems = tuple(problems)
        self.warnings = tuple(warnings)
        super().__init__("\n".join(lines(problems)))

    @property
    def may_pass(self) -> bool:
        return all(problem.may_pass for problem in self.problems)


class Findings:
    """Collects errors and warnings while the settings are read."""

    def __init__(self) -> None:
        self._errors: dict[Problem, None] = {}  # each once, in order
        self._warnings: dict[Problem, None] = {}

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(self._errors)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        return tuple(self._warnings)

    def error(
        self, where: Where, key: str, text: str, suggestion: str | None = None, *, may_pass: bool = False
    ) -> None:
        problem = Problem(where=where, key=key, text=text, suggestion=suggestion, may_pass=may_pass)
        self._errors[problem] = None

    def warn(self, where: Where, key: str, text: str, suggestion: str | None = None) -> None:
        self._warnings[Problem(where=where, key=key, text=text, suggestion=suggestion)] = None

    def raise_if_any(self) -> None:
        if self._errors:
            raise ConfigError(self.errors, self.warnings)


def lines(problems: Sequence[Problem]) -> list[str]:
    """One line each, the first hundred: a binary given by mistake must not fill the terminal."""
    shown = [str(problem) for problem in problems[:PROBLEMS_SHOWN_MAX]]
    if len(problems) > PROBLEMS_SHOWN_MAX:
        shown.append(f"... and {len(problems) - PROBLEMS_SHOWN_MAX} more")
    return shown


def nearest(name: str, known: Collection[str]) -> str | None:
    """The known name that `name` was probably meant to be; of many names none is looked for."""
    if len(known) > NEAREST_OF_MAX:
        return None
    by_folded = {candidate.casefold(): candidate for candidate in known}
    found = get_close_matches(name.casefold()[:100], list(by_folded), n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def printable(text: str) -> str:
    """`text` on one line: a settings file may hold anything, a terminal must not obey it."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def quoted(value: object) -> str:
    """A value for a message, bounded."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
