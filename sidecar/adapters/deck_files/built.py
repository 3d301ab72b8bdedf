"""A deck ready for use, as one file: a daemon takes over a million rates in a tenth of a second instead of
reading them for seconds. It is made beside the daemon, by whoever imports the deck, or by a child process:

    python -m sidecar.adapters.deck_files.built DECK.csv BUILT

The file is made of the CSV and can be made again at any time: another version of this format, another
machine's byte order or a damaged file is no built deck.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from array import array
from pathlib import Path

import msgspec

from sidecar.adapters.deck_files import DeckRefusedError, read_deck
from sidecar.core.tariff import Deck, DeckArrays, Rate

_MAGIC = f"sidecar deck 1 {sys.byteorder} {array('Q').itemsize}\n".encode()
_CODES = "QQiI"  # of DeckArrays
_NAMES_AT_ONCE = 10_000
_DIGEST = 32


class _Head(msgspec.Struct, frozen=True):
    revision: str
    kinds: tuple[Rate, ...]
    shift: int
    name_chunks: tuple[int, ...]  # bytes of each
    arrays: tuple[int, ...]  # likewise, of DeckArrays


def write_built(path: Path, deck: Deck) -> None:
    """Whole or not at all; for this user alone."""
    names = deck.destinations
    chunks = [
        msgspec.msgpack.encode(names[n : n + _NAMES_AT_ONCE]) for n in range(0, len(names), _NAMES_AT_ONCE)
    ]
    *arrays, shift = deck.arrays()
    raw = [one.tobytes() for one in arrays]
    head = msgspec.msgpack.encode(
        _Head(deck.revision, deck.kinds, shift, tuple(map(len, chunks)), tuple(map(len, raw)))
    )
    parts = [_MAGIC, len(head).to_bytes(8, "big"), head, *chunks, *raw]
    digest = hashlib.sha256()
    part = path.with_name(f".part-{path.name}-{os.getpid()}")
    with open(part, "wb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o600)) as file:
        for piece in parts:
            digest.update(piece)
            file.write(piece)
        file.write(digest.digest())
    part.replace(path)


def read_built(path: Path) -> Deck | None:
    """None where there is none that could be used."""
    try:
        content = memoryview(path.read_bytes())
    except OSError:
        return None
    body = content[:-_DIGEST]
    if hashlib.sha256(body).digest() != content[-_DIGEST:] or body[: len(_MAGIC)] != _MAGIC:
        return None
    at = len(_MAGIC) + 8
    head_end = at + int.from_bytes(body[at - 8 : at], "big")
    head = msgspec.msgpack.decode(body[at:head_end], type=_Head)
    at, names = head_end, list[str]()
    for size in head.name_chunks:
        names += msgspec.msgpack.decode(body[at : at + size], type=list[str])
        at += size
    found: list[array[int]] = []
    for code, size in zip(_CODES, head.arrays, strict=True):
        found.append(array(code))
        found[-1].frombytes(body[at : at + size])
        at += size
    keys, terms, parents, table = found
    return Deck.of_arrays(
        head.revision, DeckArrays(keys, terms, parents, table, head.shift), head.kinds, names
    )


def load_built(csv: Path, path: Path, revision: str) -> Deck | list[str]:
    """The deck of a stored file, built by a child process where it is not yet; or what is wrong. It waits:
    not for an event loop."""
    deck = read_built(path)
    if deck is None:
        command = [sys.executable, "-m", "sidecar.adapters.deck_files.built", str(csv), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        deck = read_built(path) if done.returncode == 0 else None
        if deck is None:
            return done.stderr.splitlines()[-20:] or [f"{csv}: could not be built"]
    if deck.revision != revision:
        return [f"{csv} was changed: it is deck {deck.revision} now"]
    return deck


def main(csv: str, path: str) -> int:
    try:
        write_built(Path(path), read_deck(Path(csv)))
    except (DeckRefusedError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
