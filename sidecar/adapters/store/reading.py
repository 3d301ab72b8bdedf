"""How the parts of a store that are no engine's read and have something written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

_T = TypeVar("_T")


class Asks(Protocol):
    """A connection of either engine. SQL that both understand names its values `?`, or `?1` and so on."""

    def execute(self, sql: str, values: Any = ..., /) -> Iterable[Any]: ...


class Reader(Protocol):
    """A connection that changes nothing, in a thread."""

    async def ask(self, question: Callable[[Any], _T], /) -> _T: ...
    def close(self) -> None: ...


class Write(Protocol):
    """A job for the batch of the next transaction; the store gives it to its parts."""

    async def __call__(
        self, run: Callable[[Any], _T], *, lasting: bool = False, may_wait: bool = False
    ) -> _T: ...
