"""Records as they are kept: packed to a quarter, so that eight of them lie on a page that held one.

A record names its seventy fields, and most of it is like the record before: DEFLATE (RFC 1951) with a
dictionary of three typical ones finds that without keeping anything between records, so each can still be
read alone. The checksum and the chain are over the bytes as they are kept.

A dictionary is never changed: a better one gets a number of its own, which is the second byte. The first is
0xc1, with which no MessagePack begins: what does not begin so (entries of open calls, records of before) is
not packed.
"""

from __future__ import annotations

import hashlib
import zlib
from importlib import resources

_MARK = b"\xc1\x01"
_WINDOW_BITS = -13  # raw; 8 KiB hold the dictionary and a record
_LEVEL = 1  # 3 gains a twentieth
_DIGEST = "08eb633e1de8a435483e0e14ec83c443816cf13437e228d0353e432dafd96214"
_DICTIONARY = resources.files(__package__).joinpath("record-1.dictionary").read_bytes()
if hashlib.sha256(_DICTIONARY).hexdigest() != _DIGEST:
    raise ImportError("record-1.dictionary is not the one that records were packed with: install anew")
# It has read the dictionary: a copy of it takes three fifths of the time of a new one.
_PACKER = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW_BITS, zdict=_DICTIONARY)


def packed(body: bytes) -> bytes:
    packer = _PACKER.copy()
    return _MARK + packer.compress(body) + packer.flush()


def unpacked(kept: bytes) -> bytes:
    """ValueError where it cannot be."""
    if not kept.startswith(_MARK):
        return kept
    reader = zlib.decompressobj(_WINDOW_BITS, zdict=_DICTIONARY)
    try:
        body = reader.decompress(kept[len(_MARK) :])
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not reader.eof or reader.unused_data:
        raise ValueError("not one record")
    return body
