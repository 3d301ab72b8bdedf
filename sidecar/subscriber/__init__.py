"""The consumer's side: every record once, in a sink, whatever was killed at whatever moment.

    record       a message as a record, of any version that was ever published
    progress     which numbers are held and which are missing; pure
    heads        all that the nodes of a database have given, by node and epoch
    asking       which of them to ask a node for, and when; pure
    sink         what a sink must offer; `sinks/` has JSON lines, SQLite and PostgreSQL
    subscriber   the link to the broker, and the one loop

It needs no daemon and nothing native: the extra `subscriber` installs what it imports. `sidecar subscribe` is
a command around it. In a program of your own:

    sink = SqliteSink(Path("cdrs.db"))
    Subscriber(SubscriberSettings(host="broker.example", username="biller", password="..."), sink).run()

A record is acknowledged at the broker when the sink has committed it, and at no other time.
"""

from sidecar.subscriber.progress import Begin, Position, Progress, Ranges
from sidecar.subscriber.record import Record, RecordError, Source
from sidecar.subscriber.sink import Committed, Rejected, Sink, SinkError
from sidecar.subscriber.subscriber import Subscriber, SubscriberSettings, TlsFiles

__all__ = [
    "Begin",
    "Committed",
    "Position",
    "Progress",
    "Ranges",
    "Record",
    "RecordError",
    "Rejected",
    "Sink",
    "SinkError",
    "Source",
    "Subscriber",
    "SubscriberSettings",
    "TlsFiles",
]
