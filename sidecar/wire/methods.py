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
from sidecar.wire import control_accounts as accounts
from sidecar.wire import control_calls as calls
from sidecar.wire import control_decks as decks
from sidecar.wire import control_entries as entries
from sidecar.wire import control_journal as journal
from sidecar.wire import control_node as node
from sidecar.wire import control_policy as policy
from sidecar.wire import control_records as records
from sidecar.wire import control_users as users
from sidecar.wire.control import RESTART_ANSWER_S_MAX, Method, Nothing

ASK_OTHERS_S_MAX = 15.0

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
    "node.status": Declared(Nothing, node.NodeStatus, Right.SEE),
    "node.gateways": Declared(Nothing, node.GatewayList, Right.SEE),
    "node.list": Declared(node.NodeListParams, node.NodeList, Right.SEE),
    "node.ask": Declared(node.NodeAskParams, node.NodeAnswered, None, ASK_OTHERS_S_MAX),
    "node.settings": Declared(Nothing, node.SettingList, Right.OPERATE),
    "node.drain": Declared(node.NodeDrainParams, node.NodeDrained, Right.OPERATE),
    "node.accept": Declared(node.NodeAcceptParams, node.NodeAccepts, Right.OPERATE),
    "node.forget": Declared(node.NodeForgetParams, node.NodeForgotten, Right.BOOK),
    "node.reload": Declared(node.NodeReloadParams, node.NodeReloaded, Right.OPERATE, RESTART_ANSWER_S_MAX),
    "node.restart": Declared(node.NodeRestartParams, node.NodeRestarts, Right.OPERATE, RESTART_ANSWER_S_MAX),
    "node.reopen_logs": Declared(Nothing, node.NodeLogsReopened, Right.OPERATE),
    "audit.list": Declared(node.AuditListParams, node.AuditList, Right.AUDIT),
    "call.list": Declared(calls.CallListParams, calls.CallList, Right.NUMBERS),
    "call.release": Declared(calls.CallReleaseParams, calls.CallReleased, Right.RELEASE),
    "cdr.show": Declared(records.CdrShowParams, records.CdrRevisions, Right.NUMBERS),
    "cdr.tail": Declared(records.CdrTailParams, records.CdrTail, Right.NUMBERS),
    "cdr.search": Declared(records.CdrSearchParams, records.CdrFound, Right.NUMBERS),
    "cdr.replay": Declared(records.CdrReplayParams, records.CdrReplayed, Right.DELIVER),
    "rerate.apply": Declared(records.RerateApplyParams, records.RerateApplied, Right.RATE),
    "subscriber.list": Declared(Nothing, node.SubscriberList, Right.SEE),
    "dead-letter.list": Declared(records.DeadLetterListParams, records.DeadLetterList, Right.SEE),
    "dead-letter.show": Declared(records.DeadLetterShowParams, records.DeadLetterRecord, Right.NUMBERS),
    "dead-letter.retry": Declared(records.DeadLetterRetryParams, records.DeadLettersDone, Right.DELIVER),
    "dead-letter.drop": Declared(records.DeadLetterDropParams, records.DeadLettersDone, Right.DELIVER),
    "account.create": Declared(accounts.AccountCreateParams, accounts.AccountShown, Right.SETUP),
    "account.set": Declared(accounts.AccountSetParams, accounts.AccountShown, Right.SETUP),
    "account.enable": Declared(accounts.AccountSwitchParams, accounts.AccountShown, Right.SETUP),
    "account.disable": Declared(accounts.AccountSwitchParams, accounts.AccountShown, Right.SETUP),
    "account.address": Declared(accounts.AccountAddressParams, accounts.AccountShown, Right.SETUP),
    "account.show": Declared(accounts.AccountShowParams, accounts.AccountShown, Right.MONEY),
    "account.list": Declared(accounts.AccountListParams, accounts.AccountList, Right.MONEY),
    "account.ledger": Declared(accounts.AccountLedgerParams, accounts.MovementList, Right.MONEY),
    "account.topup": Declared(accounts.AccountTopupParams, accounts.ToppedUp, Right.BOOK),
    "account.adjust": Declared(accounts.AccountAdjustParams, accounts.ToppedUp, Right.BOOK),
    "account.import_part": Declared(
        accounts.AccountImportPartParams, accounts.AccountsImportPart, Right.SETUP
    ),
    "account.import": Declared(accounts.AccountImportParams, accounts.AccountsImported, Right.SETUP),
    "cost": Declared(calls.CostParams, ChargeRecord, Right.MONEY),
    "route.try": Declared(calls.RouteTryParams, Trial, Right.MONEY),
    "deck.check": Declared(decks.DeckCheckParams, DeckFacts, Right.MONEY),
    "deck.reload": Declared(decks.DeckReloadParams, decks.DeckReloaded, Right.RATE),
    "deck.activate": Declared(decks.DeckActivateParams, decks.DeckActivated, Right.RATE),
    "deck.rollback": Declared(decks.DeckRollbackParams, decks.DeckActivated, Right.RATE),
    "deck.cancel": Declared(decks.DeckCancelParams, decks.DeckCancelled, Right.RATE),
    "policy.show": Declared(Nothing, policy.PolicyShown, Right.NUMBERS),
    "policy.lift": Declared(policy.PolicyLiftParams, policy.PolicyLifted, Right.OPERATE),
    "policy.block": Declared(policy.PolicyBlockParams, policy.PolicyBlocked, Right.OPERATE),
    "policy.unblock": Declared(policy.PolicyUnblockParams, policy.PolicyUnblocked, Right.OPERATE),
    "policy.blocks": Declared(Nothing, policy.PolicyBlocks, Right.NUMBERS),
    "journal.book": Declared(journal.JournalClearParams, journal.JournalCleared, Right.BOOK),
    "journal.release": Declared(journal.JournalClearParams, journal.JournalCleared, Right.BOOK),
    "retention.archive": Declared(journal.RetentionRemoveParams, journal.RetentionRemoved, Right.SETUP),
    "retention.erase": Declared(journal.RetentionEraseParams, journal.RetentionErased, Right.SETUP),
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
