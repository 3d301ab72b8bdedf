"""What people may ask about records and dead letters, and how they restate calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
import structlog

from sidecar.core.audit import Change, Operator, told
from sidecar.core.cdr import Cdr, ChargeRecord
from sidecar.core.explain_call import explain_call
from sidecar.core.policy import NO_ACCOUNT
from sidecar.core.rating import amount_text
from sidecar.core.records import utc
from sidecar.core.rerate import revised
from sidecar.core.terms import ChargeSide
from sidecar.ports import Clock, DeadLetter, DeadLetters, Records, Replays, Revisions
from sidecar.runtime.calls import Calls
from sidecar.runtime.record_queries import RecordQueries
from sidecar.runtime.replay import Replayer, ReplayFailedError
from sidecar.wire import control_records as say
from sidecar.wire.cdr_codec import decode, encode_json
from sidecar.wire.control import CommandError, ErrorCode, Method
from sidecar.wire.methods import Handler, served

log = structlog.get_logger("sidecar.records")


class RecordCommands:
    def __init__(
        self,
        calls: Calls,
        records: Records,
        revisions: Revisions,
        replayer: Replayer | None,
        replays: Replays | None,
        clock: Clock,
    ) -> None:
        self._calls = calls
        self._clock = clock
        self._records = records
        self._revisions = revisions
        self.queries = RecordQueries(records, calls.find)
        self._replayer = replayer
        self._replays = replays

    def methods(self) -> Mapping[str, Method]:
        own: Mapping[str, Handler] = {"rerate.apply": self.rerate, "cdr.replay": self.replay}
        return {**served(own), **self.queries.methods()}

    async def replay(self, wanted: say.CdrReplayParams, operator: Operator) -> say.CdrReplayed:
        if self._replayer is None or self._replays is None:
            raise CommandError(ErrorCode.REFUSED, "this node has no way to publish again")
        if (wanted.from_seq is None) == (wanted.since is None):
            raise CommandError(ErrorCode.INVALID_PARAMS, "give from_seq or since")
        from_seq = wanted.from_seq
        if wanted.since is not None:
            from_seq = await self._replays.first_seq_since(wanted.since)
        if not from_seq:
            raise CommandError(ErrorCode.NOT_FOUND, "there is no such record")
        if wanted.to_seq is not None and wanted.to_seq < from_seq:
            raise CommandError(ErrorCode.INVALID_PARAMS, f"to_seq is below the first, {from_seq}")
        try:
            sent = await self._replayer.send_again(from_seq, wanted.to_seq, wanted.limit, operator)
        except ReplayFailedError as failed:
            raise CommandError(ErrorCode.REFUSED, str(failed)) from failed
        last_seq = sent.head_seq if wanted.to_seq is None else min(wanted.to_seq, sent.head_seq)
        log.info("replayed", by=operator.name, from_seq=from_seq, to_seq=sent.to_seq, sent=sent.count)
        return say.CdrReplayed(
            sent=sent.count,
            to_seq=sent.to_seq,
            next_seq=sent.to_seq + 1 if sent.to_seq < last_seq else None,
            waiting=tuple(sent.waiting),
            dead_letters=tuple(sent.dead),
            absent=tuple(sent.absent),
        )

    async def rerate(self, wanted: say.RerateApplyParams, operator: Operator) -> say.RerateApplied:
        """Restate calls with charges that were computed elsewhere. Each must come out of its own record
        again, or nothing is written."""
        outcomes = [say.RerateOutcome.CHANGED] * len(wanted.calls)
        made: dict[int, Cdr] = {}
        changes: list[Change] = []
        for place, asked in enumerate(wanted.calls):
            if self._calls.holds(asked.call_id):
                outcomes[place] = say.RerateOutcome.BUSY
                continue
            known = await self._records.show(str(asked.call_id))
            if known and known[-1].revision == asked.revision:
                cdr = made[place] = self._restated(known[-1], asked, wanted.text, operator)
                changes.append(
                    Change(
                        operator=operator,
                        action="rerate.apply",
                        subject=str(cdr.call_id),
                        before=told(_revision(known[-1], asked.charge)),
                        after=told(_revision(cdr, asked.charge)),
                        text=wanted.text,
                    )
                )
        done = await self._revisions.revise([*made.values()], changes)
        for place, written in zip(made, done, strict=True):
            if written:
                outcomes[place] = say.RerateOutcome.REVISED
        return say.RerateApplied(outcomes=tuple(outcomes))

    def _restated(self, cdr: Cdr, asked: say.Restated, text: str, operator: Operator) -> Cdr:
        line = asked.charge
        if not any(
            (line.side, line.party) == (known.side, known.party)
            and known.billable_ms in (None, line.billable_ms)
            for known in cdr.charges
        ):
            wrong = f"call {asked.call_id} has no such charge: its party and its time stay as they are"
            raise CommandError(ErrorCode.INVALID_PARAMS, wrong)
        policy, now = self._calls.policy, utc(self._clock.wall_ns())
        kept_in = line.currency
        if cdr.account == NO_ACCOUNT or cdr.account in policy.accounts:
            kept_in = policy.account_terms(cdr.account).currency
        if line.side is ChargeSide.SELL and line.total and line.currency != kept_in:
            wrong = f"call {asked.call_id}: account {cdr.account} is kept in {kept_in}, not {line.currency}"
            raise CommandError(ErrorCode.INVALID_PARAMS, wrong)
        restated = revised(cdr, line, policy.exchange, operator.name, text, now)
        if differences := explain_call(restated).all_differences:
            known = explain_call(cdr).all_differences  # what was wrong before is not this revision's doing
            if new := [difference for difference in differences if difference not in known]:
                raise CommandError(ErrorCode.INVALID_PARAMS, f"call {asked.call_id}: {'; '.join(new)}")
        return restated


class DeadLetterCommands:
    def __init__(self, dead_letters: DeadLetters, read_again: Callable[[], None]) -> None:
        self._dead_letters = dead_letters
        self._read_again = read_again

    def methods(self) -> Mapping[str, Method]:
        return {
            "dead-letter.list": Method(say.DeadLetterListParams, self.list),
            "dead-letter.show": Method(say.DeadLetterShowParams, self.show),
            "dead-letter.retry": Method(say.DeadLetterRetryParams, self.retry),
            "dead-letter.drop": Method(say.DeadLetterDropParams, self.drop),
        }

    async def list(self, wanted: say.DeadLetterListParams, _: Operator) -> say.DeadLetterList:
        found = await self._dead_letters.dead_letters(wanted.after_seq, wanted.limit)
        return say.DeadLetterList(letters=tuple(map(_letter, found)))

    async def show(self, wanted: say.DeadLetterShowParams, _: Operator) -> say.DeadLetterRecord:
        for letter in await self._dead_letters.dead_letters(wanted.seq - 1, 1):
            if letter.seq == wanted.seq:
                record = msgspec.Raw(encode_json(decode(letter.payload)))
                return say.DeadLetterRecord(letter=_letter(letter), record=record)
        raise CommandError(ErrorCode.NOT_FOUND, f"{wanted.seq} is no dead letter")

    async def retry(self, wanted: say.DeadLetterRetryParams, operator: Operator) -> say.DeadLettersDone:
        """Into the outbox again, under their old numbers, so that subscribers see no number twice."""
        change = Change(operator=operator, action="dead-letter.retry", subject=_seqs(wanted.seqs))
        count = await self._dead_letters.retry_dead(wanted.seqs, change)
        self._read_again()
        return say.DeadLettersDone(count=count)

    async def drop(self, wanted: say.DeadLetterDropParams, operator: Operator) -> say.DeadLettersDone:
        """Never sent: subscribers see the gap. The records themselves stay in the journal."""
        change = Change(
            operator=operator, action="dead-letter.drop", subject=_seqs(wanted.seqs), text=wanted.text
        )
        count = await self._dead_letters.drop_dead(wanted.seqs, change)
        return say.DeadLettersDone(count=count)


def _revision(cdr: Cdr, restated: ChargeRecord) -> Mapping[str, object]:
    """What a record says in the line that is restated."""
    total = next(
        (line.total for line in cdr.charges if (line.side, line.party) == (restated.side, restated.party)),
        None,
    )
    return {
        "revision": cdr.revision,
        "side": restated.side.value,
        "party": restated.party,
        "total": None if total is None else amount_text(total),
    }


def _seqs(seqs: Sequence[int] | None) -> str:
    return "all" if seqs is None else " ".join(map(str, seqs))


def _letter(letter: DeadLetter) -> say.DeadLetterShown:
    cdr = decode(letter.payload)
    return say.DeadLetterShown(
        seq=letter.seq,
        died_at=utc(letter.died_wall_ns),
        reason_code=letter.reason_code,
        reason=letter.reason_name,
        bytes=len(letter.payload),
        call_id=cdr.call_id,
        account=cdr.account,
    )
