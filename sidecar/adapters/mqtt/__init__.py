"""The way to the broker: MQTT 5, QoS 1. One attempt to connect when asked, rows out, reason codes back.

`publisher` is the Publisher port: settings, credentials, TLS, the will, rows to packets. `replay` is the
ReplayDoor port: requests for records, and the answers. `status_reader` asks what the broker still has of this
node. `client` is aiomqtt's client with a short way for rows
and PUBACKs. `packets` has the bytes.

Which codes deliver, repeat or bury a row, and when to try again, is the business of `sidecar.runtime.outbox`.
"""

from sidecar.adapters.mqtt.publisher import MqttPublisher, MqttSettings
from sidecar.adapters.mqtt.replay import MqttReplayDoor
from sidecar.adapters.mqtt.status_reader import MqttStatusReader

__all__ = ["MqttPublisher", "MqttReplayDoor", "MqttSettings", "MqttStatusReader"]
