"""Bodies of records and entries as they are kept, and texts and numbers as a table takes them."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

from sidecar.adapters.store.packing import unpacked


class DamagedError(ValueError):
    """Bytes that are not those that were written."""


def crc_of(body: bytes) -> int:
    return crc32(body)


def sound(body: bytes, crc: int, name: str) -> bytes:
    """The body, unpacked, if it is what was written. Whatever reads one asks: better no record than a wrong
    one."""
    if crc32(body) != crc:
        raise DamagedError(f"{name}: damaged on disk, its checksum is not that of its bytes")
    try:
        return unpacked(body)
    except ValueError as error:
        raise DamagedError(f"{name}: cannot be unpacked ({error})") from error


def storable(text: str | None) -> str | None:
    """JSON may name lone surrogates, which no table can store."""
    return text if text is None else text.encode(errors="backslashreplace").decode()


def ranges(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending numbers as closed intervals."""
    found: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found
