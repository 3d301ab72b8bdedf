"""Records as a node publishes them, made from their number."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from msgspec.structs import replace

from sidecar.core.cdr import Cdr, LegRecord, Party, message_id
from sidecar.core.terms import Confidence, Detail, Disposition, Evidence, HangupOrigin, TransportName
from sidecar.subscriber.record import Record, Source, from_message
from sidecar.wire.cdr_codec import encode_published
from sidecar.wire.topics import cdr_topic

EPOCH = "e1"
SOURCE = Source("_", "node1", EPOCH)
_BEGAN_AT = datetime(2026, 11, 1, tzinfo=UTC)


def cdr(number: int, *, revision: int = 0, void: bool = False, text: str = "+4930123456") -> Cdr:
    call_id = UUID(int=number << 64 | 8 << 76 | 1 << 63)
    at = _BEGAN_AT + timedelta(seconds=number)
    return Cdr(
        tenant=SOURCE.tenant,
        node=SOURCE.node,
        boot_id="b1",
        call_id=call_id,
        revision=revision,
        void=void,
        message_id=message_id(call_id, revision),
        account="acme",
        peer="proxy",
        leg_a=LegRecord(
            sip_call_id=f"{number}@a",
            local_tag="l",
            remote_tag="r",
            local_address="192.0.2.1:5060",
            remote_address="192.0.2.2:5060",
            transport=TransportName.UDP,
        ),
        caller=Party(received=text),
        callee=Party(received="4915112345678"),
        invited_at=at,
        ended_at=at + timedelta(seconds=2),
        hangup_origin=HangupOrigin.CALLER,
        detail=Detail.BYE,
        sip_code=200,
        q850_cause=16,
        disposition=Disposition.ANSWERED,
        evidence=Evidence.MESSAGE,
        confidence=Confidence.OBSERVED,
    )


def topic_of(one: Cdr) -> str:
    return cdr_topic(one.tenant, one.node, one.account, one.hangup_origin)


def payload(seq: int, one: Cdr | None = None, epoch: str = EPOCH) -> bytes:
    """The record of this number, as it leaves."""
    return encode_published(one or cdr(seq), epoch, seq, seq - 1 or None)


def record(seq: int, one: Cdr | None = None, epoch: str = EPOCH) -> Record:
    one = one or cdr(seq)
    return from_message(topic_of(one), payload(seq, one, epoch))


def of_node(one: Cdr, node: str) -> Cdr:
    return replace(one, node=node)
