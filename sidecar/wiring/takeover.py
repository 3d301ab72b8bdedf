"""What ends the calls of a node that is dead, put together beside those of the node itself."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from sidecar.adapters.metrics import Metrics
from sidecar.adapters.mqtt import MqttPublisher, MqttSettings
from sidecar.core.alarms import AnyAlarm
from sidecar.core.records import utc
from sidecar.ports import Clock, Control, NodeStore
from sidecar.runtime.calls import Calls
from sidecar.runtime.outbox import OutboxRelay, RelayLimits
from sidecar.runtime.takeover import Carrying
from sidecar.wire import topics
from sidecar.wiring.notices import books_salvaged, defect, fault, journal_opened


def carrying(
    name: str,
    store: NodeStore,
    control: Control,
    of: Calls,
    mqtt: MqttSettings,
    clock: Clock,
    metrics: Metrics,
    raise_alarm: Callable[[AnyAlarm], None],
) -> Carrying:
    """By the policy that is in force here, in the name of the dead node. `mqtt`: of the node itself."""
    if (salvage := store.salvage) is not None:
        journal_opened(metrics, store)
        raise_alarm(books_salvaged(name, salvage, utc(clock.wall_ns())))
        of.load.suspended_accounts.update(salvage.suspended)
    store.on_defect(lambda call_id, error: defect(metrics, call_id, error))
    calls = Calls(
        policy=replace(of.policy, node=name),
        control=control,
        store=store,
        clock=clock,
        meter=metrics,
        on_fault=fault,
    )
    link = replace(
        mqtt,
        node=name,
        status_topic=topics.status_topic(mqtt.tenant, name),
        # Of an external broker it is the dead node's own: should that one live after all, it loses its link.
        client_id=f"{mqtt.client_id}-for-{name}" if mqtt.client_id else "",
    )
    # No will: what is retained when we are done is the head.
    publisher = MqttPublisher(link, None)
    return Carrying(calls, OutboxRelay(store.outbox, store.outbox, publisher, limits=RelayLimits()))
