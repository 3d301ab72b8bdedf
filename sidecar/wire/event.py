"""Events that are no records, on `.../event/<kind>`: one map in MessagePack, with times and amounts as a
record has them."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec

from sidecar.core.alarms import AnyAlarm
from sidecar.wire.cdr_codec import packed

EVENT_VERSION = 1


class Event(msgspec.Struct, frozen=True, kw_only=True):
    version: Annotated[int, "1."] = EVENT_VERSION
    message_id: Annotated[UUID, "The same when it is sent again."]
    tenant: Annotated[str, "The node's tenant."]
    node: Annotated[str, "The node."]
    boot_id: Annotated[str, "Its start."]
    alarm: Annotated[AnyAlarm, "What is told; `kind` is the last part of the topic."]


def encode(event: Event) -> bytes:
    return packed(event)
