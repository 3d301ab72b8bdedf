"""All numbers that the nodes of a database have given, as `sidecar node list --epochs --json` says on any of
them: what a subscriber has to hold to have everything, of nodes too that it never heard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from sidecar.subscriber.progress import Progress
from sidecar.subscriber.record import Source


class Head(NamedTuple):
    """Numbers behind `base_seq` up to `head_seq` were given."""

    source: Source
    base_seq: int
    head_seq: int


class HeadsError(ValueError):
    pass


class _Epoch(msgspec.Struct):
    node: str
    epoch: str
    base_seq: int
    head_seq: int


class _Nodes(msgspec.Struct):
    tenant: str
    nodes: list[_Epoch]


def read_heads(file: Path) -> Sequence[Head]:
    """HeadsError says what is wrong with the file."""
    try:
        found = msgspec.json.decode(file.read_bytes(), type=_Nodes)
    except (OSError, msgspec.DecodeError) as error:
        raise HeadsError(f"{file}: not what `sidecar node list --epochs --json` prints ({error})") from error
    return [
        Head(Source(found.tenant, one.node, one.epoch), one.base_seq, one.head_seq) for one in found.nodes
    ]


def expect(progress: Progress, heads: Sequence[Head]) -> None:
    for head in heads:
        progress.expected(*head)
