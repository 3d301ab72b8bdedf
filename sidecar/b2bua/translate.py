"""The bridge's tuples and the core's values, one table for each direction.

An event comes as (kind, bridge_id, leg, mono_ns, wall_ns, code, fields); the order of the fields is that of
the builders in native/. Text from the network has been decoded there with `backslashreplace`, so nothing here
can raise for what a peer sent. A command goes as (kind, bridge_id, ...).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sidecar.core.commands import (
    ArmDeadline,
    AskGateway,
    Reject,
    RelayAnswer,
    RelayFailure,
    Release,
    Route,
    Snapshot,
    WireCommand,
)
from sidecar.core.events import (
    AckReceived,
    AnswerDropped,
    AnswerHeld,
    AnswerRelayed,
    ByeReceived,
    CancelReceived,
    Contact,
    DeadlineReached,
    Event,
    InviteReceived,
    InviteRefused,
    LegIdentity,
    LegTerminated,
    Life,
    ProvisionalReceived,
    RequestEnded,
    RouteFailed,
    SessionRefreshed,
    SnapshotTaken,
    TargetRefreshed,
    TransportFailed,
)
from sidecar.core.terms import DeadlineKind, Detail, LegName, RouteFailure, TransportName

NativeEvent = tuple[int, int, int, int, int, int, tuple[Any, ...]]

_LEGS: Final = (LegName.A, LegName.B)
_TRANSPORTS: Final = (TransportName.UDP, TransportName.TCP, TransportName.TLS)
_TRANSPORT_NUMBERS: Final = {name: number for number, name in enumerate(_TRANSPORTS)}
_ROUTE_FAILURES: Final = {
    1: RouteFailure.FINAL_RESPONSE,
    2: RouteFailure.NO_RESPONSE,
    3: RouteFailure.UNREACHABLE,
    4: RouteFailure.TRANSACTION_TIMEOUT,
}
_IDENTITY_FIELDS: Final = 13


def _pairs(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return tuple(zip(texts[::2], texts[1::2], strict=True)) if texts else ()


def _contacts(raw: Sequence[Any]) -> tuple[Contact, ...]:
    return tuple(
        Contact(
            user=raw[at],
            host=raw[at + 1],
            port=raw[at + 2],
            transport=raw[at + 3],
            q_thousandths=raw[at + 4],
        )
        for at in range(0, len(raw), 5)
    )


def _identity(f: Sequence[Any]) -> LegIdentity:
    return LegIdentity(
        sip_call_id=f[0],
        local_tag=f[1],
        remote_tag=f[2],
        local_uri=f[3],
        remote_uri=f[4],
        remote_target=f[5],
        route_set=f[6],
        local_cseq=f[7],
        remote_cseq=f[8],
        branch=f[9],
        local_address=f[10],
        remote_address=f[11],
        transport=_TRANSPORTS[f[12]],
    )


def _invite_of(e: NativeEvent, f: Sequence[Any]) -> InviteReceived:
    peer, request_uri, request_user, from_user, headers, tls_name, b_token, claim = f[_IDENTITY_FIELDS:]
    return InviteReceived(
        mono_ns=e[3],
        wall_ns=e[4],
        bridge_id=e[1],
        leg=_identity(f),
        peer=peer,
        request_uri=request_uri,
        request_user=request_user,
        from_user=from_user,
        headers=_pairs(headers),
        tls_name=tls_name,
        b_token=b_token,
        claimed_peer=claim[0] if claim else None,
    )


def _invite_received(e: NativeEvent) -> Event:
    return _invite_of(e, e[6])


def _invite_refused(e: NativeEvent) -> Event:
    detail, *invite = e[6]
    return InviteRefused(
        mono_ns=e[3],
        wall_ns=e[4],
        detail=Detail(detail),
        sip_code=e[5],
        invite=_invite_of(e, invite),
    )


def _provisional_received(e: NativeEvent) -> Event:
    return ProvisionalReceived(mono_ns=e[3], wall_ns=e[4], bridge_id=e[1], attempt=e[6][0], sip_code=e[5])


def _answer_held(e: NativeEvent) -> Event:
    attempt, *leg = e[6]
    return AnswerHeld(
        mono_ns=e[3], wall_ns=e[4], bridge_id=e[1], attempt=attempt, sip_code=e[5], leg=_identity(leg)
    )


def _answer_dropped(e: NativeEvent) -> Event:
    attempt, *leg = e[6]
    return AnswerDropped(
        mono_ns=e[3], wall_ns=e[4], bridge_id=e[1], attempt=attempt, sip_code=e[5], leg=_identity(leg)
    )


def _answer_relayed(e: NativeEvent) -> Event:
    return AnswerRelayed(mono_ns=e[3], wall_ns=e[4], bridge_id=e[1])


def _ack_received(e: NativeEvent) -> Event:
    return AckReceived(mono_ns=e[3], wall_ns=e[4], bridge_id=e[1])


def _cancel_received(e: NativeEvent) -> Event:
    reasons, headers = e[6]
    return CancelReceived(
        mono_ns=e[3], wall_ns=e[4], bridge_id=e[1], reasons=reasons, headers=_pairs(headers)
    )


def _bye_received(e: NativeEvent) -> Event:
    reasons, headers = e[6]
    return ByeReceived(
        mono_ns=e[3],
        wall_ns=e[4],
        bridge_id=e[1],
        leg_name=_LEGS[e[2]],
        reasons=reasons,
        headers=_pairs(headers),
    )


def _route_failed(e: NativeEvent) -> Event:
    attempt, cause, phrase, reasons, headers, early_media_relayed, heard_code, contacts = e[6]
    return RouteFailed(
        mono_ns=e[3],
        wall_ns=e[4],
        bridge_id=e[1],
        attempt=attempt,
        cause=_ROUTE_FAILURES[cause],
        sip_code=e[5],
        phrase=phrase,
        reasons=reasons,
        headers=_pairs(headers),
        early_media_relayed=bool(early_media_relayed),
        heard_code=heard_code,
        contacts=_contacts(contacts),
    )


def _leg_terminated(e: NativeEvent) -> Event:
    alive, reasons = e[6]
    return LegTerminated(
        mono_ns=e[3],
        wall_ns=e[4],
        bridge_id=e[1],
        leg_name=_LEGS[e[2]],
        sip_code=e[5],
        alive=bool(alive),
        reasons=reasons,
    )


def _transport_failed(e: NativeEvent) -> Event:
    return TransportFailed(mono_ns=e[3], wall_ns=e[4], bridge_id=e[1], leg_name=_LEGS[e[2]])


def _deadline_reached(e: NativeEvent) -> Event:
    kind, heard_code = e[6]
    return DeadlineReached(
        mono_ns=e[3], wall_ns=e[4], bridge_id=e[1], kind=DeadlineKind(kind), heard_code=heard_code
    )


def _target_refreshed(e: NativeEvent) -> Event:
    remote_target, local_cseq, remote_cseq = e[6]
    return TargetRefreshed(
        mono_ns=e[3],
        wall_ns=e[4],
        bridge_id=e[1],
        leg_name=_LEGS[e[2]],
        remote_target=remote_target,
        local_cseq=local_cseq,
        remote_cseq=remote_cseq,
    )


def _session_refreshed(e: NativeEvent) -> Event:
    return SessionRefreshed(mono_ns=e[3], wall_ns=e[4], bridge_id=e[1], leg_name=_LEGS[e[2]])


def _life(e: NativeEvent) -> Event:
    return Life(mono_ns=e[3], wall_ns=e[4], bridge_id=e[1], leg_name=_LEGS[e[2]])


def _snapshot_taken(e: NativeEvent) -> Event:
    held, given_up = e[6]
    return SnapshotTaken(
        mono_ns=e[3], wall_ns=e[4], bridge_ids=frozenset(held), given_up_ids=frozenset(given_up)
    )


def _request_ended(e: NativeEvent) -> Event:
    cause, sent_mono_ns, *seconds = e[6]
    granted_s, min_expires_s, retry_after_s = (None if one < 0 else one for one in seconds)
    return RequestEnded(
        mono_ns=e[3],
        wall_ns=e[4],
        request_id=e[1],
        cause=_ROUTE_FAILURES[cause],
        sip_code=e[5],
        sent_mono_ns=sent_mono_ns,
        granted_s=granted_s,
        min_expires_s=min_expires_s,
        retry_after_s=retry_after_s,
    )


_EVENTS: Final[Mapping[int, Callable[[NativeEvent], Event]]] = {
    1: _invite_received,
    2: _invite_refused,
    3: _provisional_received,
    4: _answer_held,
    5: _answer_relayed,
    6: _answer_dropped,
    7: _ack_received,
    8: _cancel_received,
    9: _bye_received,
    10: _route_failed,
    11: _leg_terminated,
    12: _transport_failed,
    13: _deadline_reached,
    14: _target_refreshed,
    15: _session_refreshed,
    16: _life,
    17: _snapshot_taken,
    18: _request_ended,
}


def event_of(native: NativeEvent) -> Event:
    return _EVENTS[native[0]](native)


def tuple_of(command: WireCommand | Snapshot) -> tuple[Any, ...]:
    match command:
        case Route(bridge_id=i, attempt=n, host=host, port=port, transport=transport, user=user):
            kind = _TRANSPORT_NUMBERS[transport]
            to = (host, port, kind, user, command.no_response_ms, command.gateway, command.no_progress_ms)
            caller = (command.from_user, command.anonymous, command.add_headers, command.withheld_headers)
            return (1, i, n, *to, *caller)
        case RelayAnswer(bridge_id=i):
            return (2, i)
        case RelayFailure(bridge_id=i, sip_code=code, keep_retry_after=keep, keep_contacts=contacts):
            return (3, i, code, keep, contacts)
        case Reject(bridge_id=i, sip_code=code, q850_cause=cause, text=text, retry_after_s=retry_after_s):
            return (4, i, code, cause, text, retry_after_s)
        case Release(bridge_id=i, sip_code=code, q850_cause=cause, text=text):
            return (5, i, code, cause, text)
        case ArmDeadline(
            bridge_id=i, kind=kind, after_ms=after_ms, sip_code=code, q850_cause=cause, text=text
        ):
            return (6, i, int(kind), after_ms, code, cause, text)
        case Snapshot():
            return (7, 0)
        case _:
            raise TypeError(f"not a command of the bridge: {type(command).__name__}")


def request_of(ask: AskGateway) -> tuple[Any, ...]:
    return (
        9,
        ask.request_id,
        ask.gateway,
        ask.host,
        ask.port,
        _TRANSPORT_NUMBERS[ask.transport],
        ask.contact_user,
        ask.timeout_ms,
        ask.target,
        ask.identity,
        ask.call_id,
        ask.cseq,
        -1 if ask.expires_s is None else ask.expires_s,
    )
