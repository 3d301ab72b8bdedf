"""The retained status of a node, on `.../status`: a map in MessagePack. When the node is gone the broker
publishes its will there, which has the epoch and the boot id alone."""

from __future__ import annotations

from typing import Annotated

import msgspec


class Will(msgspec.Struct, frozen=True, kw_only=True):
    epoch: Annotated[str, "The present `store_epoch`."]
    boot_id: Annotated[str, "Of the node that tells it; where it is not its own, two have one name."] = ""


class Status(Will, frozen=True, kw_only=True):
    head_seq: Annotated[
        int | None, "The last number given; a subscriber that holds it, and all below, has everything."
    ] = None
    published: Annotated[
        int, "Records that got a number in this epoch: its first is `head_seq` - `published` + 1."
    ] = 0
    commit: Annotated[int, "The number of the journal's last commit."] = 0
    commit_hash: Annotated[str, "The hash of its chain up to that one."] = ""
