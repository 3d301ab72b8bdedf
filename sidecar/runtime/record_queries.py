"""What people may ask about records: of the node, or of its journal alone (cli/finding)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from uuid import UUID

import msgspec

from sidecar.core.audit import Operator
from sidecar.core.cdr import Cdr
from sidecar.core.found_by import sessions
from sidecar.ports import CursorError, RecordFilter, Records
from sidecar.wire import control_records as say
from sidecar.wire.cdr_codec import encode_json
from sidecar.wire.control import CommandError, ErrorCode, Method
from sidecar.wire.methods import served


class RecordQueries:
    def __init__(self, records: Records, find: Callable[[UUID], object]) -> None:
        """`find`: something where the call is up, as far as that is known."""
        self._records = records
        self._find = find

    def methods(self) -> Mapping[str, Method]:
        return served(
            {
                "cdr.show": self.show,
                "cdr.tail": self.tail,
                "cdr.search": self.search,
            }
        )

    async def show(self, wanted: say.CdrShowParams, _: Operator) -> say.CdrRevisions:
        found = await self._records.show(str(wanted.call_id))
        if not found:
            up = "it is still up" if self._find(wanted.call_id) else "`sidecar cdr search` finds others"
            raise CommandError(ErrorCode.NOT_FOUND, f"call {wanted.call_id} has no record: {up}")
        return say.CdrRevisions(records=_records(found))

    async def tail(self, wanted: say.CdrTailParams, _: Operator) -> say.CdrTail:
        if (after_seq := wanted.after_seq) is None:
            try:
                page = await self._records.follow(wanted.cursor, wanted.limit)
            except ValueError:
                raise CommandError(
                    ErrorCode.INVALID_PARAMS, "cursor: not one that a tail has given"
                ) from None
            return say.CdrTail(records=_records(page.records), next_seq=page.own_seq, cursor=page.cursor)
        if wanted.cursor is not None:
            raise CommandError(ErrorCode.INVALID_PARAMS, "give after_seq or cursor")
        found = await self._records.tail(after_seq, wanted.limit)
        last_seq = found[-1].seq if found else None
        return say.CdrTail(records=_records(found), next_seq=after_seq if last_seq is None else last_seq)

    async def search(self, wanted: say.CdrSearchParams, _: Operator) -> say.CdrFound:
        if wanted.currency is None and (wanted.charge_min or wanted.charge_max):
            raise CommandError(ErrorCode.INVALID_PARAMS, "charge_min and charge_max need a currency")
        if wanted.session_id is not None and not sessions(wanted.session_id):
            raise CommandError(
                ErrorCode.INVALID_PARAMS, "session_id: has no 32 hexadecimal digits (RFC 7989)"
            )
        asked = RecordFilter(
            origin=wanted.origin,
            reason=wanted.reason,
            detail=wanted.detail,
            account=wanted.account,
            number=wanted.number,
            gateway=wanted.gateway,
            since=wanted.ended_from,
            until=wanted.ended_to,
            suppressed=wanted.suppressed,
            currency=wanted.currency,
            sip_call_id=wanted.sip_call_id,
            tag=wanted.tag,
            session_id=wanted.session_id,
            charge_min=None if wanted.charge_min is None else Decimal(wanted.charge_min),
            charge_max=None if wanted.charge_max is None else Decimal(wanted.charge_max),
        )
        try:
            page = await self._records.search(asked, wanted.limit, wanted.cursor)
        except CursorError as error:
            raise CommandError(ErrorCode.INVALID_PARAMS, str(error)) from None
        return say.CdrFound(records=_records(page.records), cursor=page.cursor)


def _records(cdrs: Sequence[Cdr]) -> tuple[msgspec.Raw, ...]:
    return tuple(msgspec.Raw(encode_json(cdr)) for cdr in cdrs)
