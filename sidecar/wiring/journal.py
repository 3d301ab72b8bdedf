"""The books of a node, in the engine that the settings name."""

from __future__ import annotations

from functools import partial
from typing import Protocol

from sidecar.adapters.sqlite import SqliteStore
from sidecar.adapters.store.store import StoreError
from sidecar.config import Settings
from sidecar.config.settings import StoreEngine
from sidecar.core.policy import Policy
from sidecar.ports import Clock, NodeStore, Seen


class Opened(Protocol):
    def __call__(self, *, seen: Seen | None) -> NodeStore:
        """Raises StoreError, with what to do. `seen`: what the broker has of what was published last."""


def opener(
    settings: Settings,
    policy: Policy,
    clock: Clock,
    *,
    passed_by: int | None,
    begin_anew: bool,
) -> Opened:
    """`passed_by`: the group that may use a socket in the data directory. `begin_anew`: whatever was told of
    a journal that is gone."""
    if settings.store.engine is not StoreEngine.SQLITE:
        raise StoreError("store.engine = postgresql: not in force yet")
    return partial(
        SqliteStore.open,
        settings.node.data_dir,
        node=policy.node,
        boot_id=policy.boot_id,
        clock=clock,
        passed_by=passed_by,
        key_file=settings.node.journal_key_file,
        begin_anew=begin_anew,
    )
