"""The methods of the control socket, each declared once: what it takes, what it answers, how long it may
take, and the right that it needs over HTTP (web/api). Whoever may open the socket may do all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import msgspec

from sidecar.core.audit import Operator
from sidecar.core.cdr import ChargeRecord
from sidecar.core.deck_check import DeckFacts
from sidecar.core.rights import Right
from sidecar.core.stored import WORDS
from sidecar.core.trial import Trial
from sidecar.wire import control as say
from sidecar.wire import control_entries as entries
from sidecar.wire import control_users as users
from sidecar.wire.control import RESTART_ANSWER_S_MAX, Method, Nothing

Handler = Callable[[Any, Operator], Awaitable[object]]


class Declared(msgspec.Struct, frozen=True):
    """`right`: one of whom NUMBERS is asked shows whole numbers, so each use is noted; None: not over HTTP.
    `within_s`: None as the socket gives every request."""

    params: type[msgspec.Struct]
    result: type[msgspec.Struct]
    right: Right | None
    within_s: float | None = None


def served(handlers: Mapping[str, Handler]) -> Mapping[str, Method]:
    """For the control socket: what was declared, and who does it."""
    return {
        name: Method(METHODS[name].params, handle, METHODS[name].within_s)
        for name, handle in handlers.items()
    }


def _of_entries() -> Iterator[tuple[str, Declared]]:
    changes: Mapping[str, type[msgspec.Struct]] = {
        "add": entries.EntryAddParams,
        "set": entries.EntrySetParams,
        "remove": entries.EntryRemoveParams,
    }
    for word in WORDS.values():
        for deed, params in changes.items():
            yield f"{word}.{deed}", Declared(params, entries.EntryChanged, Right.SETUP, RESTART_ANSWER_S_MAX)
        yield f"{word}.show", Declared(entries.EntryNameParams, entries.EntryShown, Right.SETUP)
        yield f"{word}.list", Declared(Nothing, entries.EntryList, Right.SETUP)


METHODS: Mapping[str, Declared] = {
    "node.status": Declared(Nothing, say.NodeStatus, Right.SEE),
    "node.gateways": Declared(Nothing, say.GatewayList, Right.SEE),
    "node.settings": Declared(Nothing, say.SettingList, Right.OPERATE),
    "node.drain": Declared(say.NodeDrainParams, say.NodeDrained, Right.OPERATE),
    "node.accept": Declared(say.NodeAcceptParams, say.NodeAccepts, Right.OPERATE),
    "node.reload": Declared(say.NodeReloadParams, say.NodeReloaded, Right.OPERATE, RESTART_ANSWER_S_MAX),
    "node.restart": Declared(say.NodeRestartParams, say.NodeRestarts, Right.OPERATE, RESTART_ANSWER_S_MAX),
    "node.reopen_logs": Declared(Nothing, say.NodeLogsReopened, Right.OPERATE),
    "audit.list": Declared(say.AuditListParams, say.AuditList, Right.AUDIT),
    "call.list": Declared(say.CallListParams, say.CallList, Right.NUMBERS),
    "call.release": Declared(say.CallReleaseParams, say.CallReleased, Right.RELEASE),
    "cdr.show": Declared(say.CdrShowParams, say.CdrRevisions, Right.NUMBERS),
    "cdr.tail": Declared(say.CdrTailParams, say.CdrTail, Right.NUMBERS),
    "cdr.search": Declared(say.CdrSearchParams, say.CdrFound, Right.NUMBERS),
    "cdr.replay": Declared(say.CdrReplayParams, say.CdrReplayed, Right.DELIVER),
    "rerate.apply": Declared(say.RerateApplyParams, say.RerateApplied, Right.RATE),
    "subscriber.list": Declared(Nothing, say.SubscriberList, Right.SEE),
    "dead-letter.list": Declared(say.DeadLetterListParams, say.DeadLetterList, Right.SEE),
    "dead-letter.show": Declared(say.DeadLetterShowParams, say.DeadLetterRecord, Right.NUMBERS),
    "dead-letter.retry": Declared(say.DeadLetterRetryParams, say.DeadLettersDone, Right.DELIVER),
    "dead-letter.drop": Declared(say.DeadLetterDropParams, say.DeadLettersDone, Right.DELIVER),
    "account.create": Declared(say.AccountCreateParams, say.AccountShown, Right.SETUP),
    "account.set": Declared(say.AccountSetParams, say.AccountShown, Right.SETUP),
    "account.enable": Declared(say.AccountSwitchParams, say.AccountShown, Right.SETUP),
    "account.disable": Declared(say.AccountSwitchParams, say.AccountShown, Right.SETUP),
    "account.address": Declared(say.AccountAddressParams, say.AccountShown, Right.SETUP),
    "account.show": Declared(say.AccountShowParams, say.AccountShown, Right.MONEY),
    "account.list": Declared(say.AccountListParams, say.AccountList, Right.MONEY),
    "account.ledger": Declared(say.AccountLedgerParams, say.MovementList, Right.MONEY),
    "account.topup": Declared(say.AccountTopupParams, say.ToppedUp, Right.BOOK),
    "account.adjust": Declared(say.AccountAdjustParams, say.ToppedUp, Right.BOOK),
    "account.import_part": Declared(say.AccountImportPartParams, say.AccountsImportPart, Right.SETUP),
    "account.import": Declared(say.AccountImportParams, say.AccountsImported, Right.SETUP),
    "cost": Declared(say.CostParams, ChargeRecord, Right.MONEY),
    "route.try": Declared(say.RouteTryParams, Trial, Right.MONEY),
    "deck.check": Declared(say.DeckCheckParams, DeckFacts, Right.MONEY),
    "deck.reload": Declared(say.DeckReloadParams, say.DeckReloaded, Right.RATE),
    "deck.activate": Declared(say.DeckActivateParams, say.DeckActivated, Right.RATE),
    "deck.rollback": Declared(say.DeckRollbackParams, say.DeckActivated, Right.RATE),
    "deck.cancel": Declared(say.DeckCancelParams, say.DeckCancelled, Right.RATE),
    "policy.show": Declared(Nothing, say.PolicyShown, Right.NUMBERS),
    "policy.lift": Declared(say.PolicyLiftParams, say.PolicyLifted, Right.OPERATE),
    "policy.block": Declared(say.PolicyBlockParams, say.PolicyBlocked, Right.OPERATE),
    "policy.unblock": Declared(say.PolicyUnblockParams, say.PolicyUnblocked, Right.OPERATE),
    "policy.blocks": Declared(Nothing, say.PolicyBlocks, Right.NUMBERS),
    "journal.book": Declared(say.JournalClearParams, say.JournalCleared, Right.BOOK),
    "journal.release": Declared(say.JournalClearParams, say.JournalCleared, Right.BOOK),
    "retention.archive": Declared(say.RetentionRemoveParams, say.RetentionRemoved, Right.SETUP),
    "retention.erase": Declared(say.RetentionEraseParams, say.RetentionErased, Right.SETUP),
    **dict(_of_entries()),
    "user.add": Declared(users.UserAddParams, users.UserShown, Right.SETUP),
    "user.set": Declared(users.UserSetParams, users.UserShown, Right.SETUP),
    "user.list": Declared(Nothing, users.UserList, Right.SETUP),
    # What the page itself says of its users: nobody else may say it.
    "user.note": Declared(users.UserNoteParams, users.Noted, None),
    "token.add": Declared(users.TokenAddParams, users.TokenShown, Right.SETUP),
    "token.revoke": Declared(users.TokenRevokeParams, users.TokenShown, Right.SETUP),
    "token.list": Declared(Nothing, users.TokenList, Right.SETUP),
}
