"""The AuditTrail port."""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.adapters.store.reading import Reader, Write
from sidecar.core.audit import Change, Operator
from sidecar.ports import AuditEntry, AuditFilter

ENTRIES_MAX = 1_000
_COLUMNS = "entry, at_wall_ns, operator, uid, action, subject, before, after, text"


class StoredAudit:
    def __init__(self, reader: Reader, write: Write) -> None:
        self._reader = reader
        self._write = write

    async def write(self, change: Change) -> None:
        await self._write(lambda batch: batch.audit(change))

    async def list(
        self, after_entry: int | None = None, entries_max: int = 100, wanted: AuditFilter | None = None
    ) -> Sequence[AuditEntry]:
        asked = wanted or AuditFilter()
        conditions = {
            "entry > ?": after_entry,
            "entry < ?": asked.before_entry,
            "operator = ?": asked.operator,
            "uid = ?": asked.uid,
            "action = ?": asked.action,
            "subject = ?": asked.subject,
        }
        given = {sql: value for sql, value in conditions.items() if value is not None}
        # sql: texts of ours alone; what is asked for is bound.
        sql = (
            f"SELECT {_COLUMNS} FROM audit WHERE {' AND '.join(['TRUE', *given])}"  # noqa: S608
            f" ORDER BY entry {'DESC' if after_entry is None else 'ASC'} LIMIT ?"
        )
        values = (*given.values(), max(1, min(entries_max, ENTRIES_MAX)))
        found = await self._reader.ask(
            lambda connection: [_entry(*row) for row in connection.execute(sql, values)]
        )
        return tuple(reversed(found) if after_entry is None else found)


def _entry(
    entry: int,
    at_wall_ns: int,
    operator: str,
    uid: int | None,
    action: str,
    subject: str,
    before: str | None,
    after: str | None,
    text: str,
) -> AuditEntry:
    return AuditEntry(
        entry=entry,
        at_wall_ns=at_wall_ns,
        change=Change(
            operator=Operator(operator, uid),
            action=action,
            subject=subject,
            before=before,
            after=after,
            text=text,
        ),
    )
