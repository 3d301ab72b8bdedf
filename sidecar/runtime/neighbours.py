"""A node among others on one database: it tells what it carries, follows changes of accounts that are made
elsewhere, and does what a person on another node asks of it, by the methods of its own control socket."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import msgspec
import structlog
from msgspec.structs import replace

from sidecar.core.account_books import different
from sidecar.core.account_terms import AccountTerms
from sidecar.core.audit import NODE, Operator
from sidecar.core.policy import Policy
from sidecar.core.records import utc
from sidecar.core.terms import Detail
from sidecar.ports import Asked, Neighbours, News, NodeSeen, NodeSilentError, Told, UnavailableError
from sidecar.runtime.calls import Calls
from sidecar.runtime.releasing import release_where
from sidecar.wire import control_node as say
from sidecar.wire.control import CommandError, ErrorCode, Method
from sidecar.wire.methods import served

INTERVAL_S = 1.0
ANSWER_S_MAX = 9.0  # less than who asks waits
DIFFERING_TOLD_MAX = 100  # accounts
TERMS_ADVICE = "the books have others, of the node that started or changed them last: give all nodes the same"

log = structlog.get_logger("sidecar.neighbours")


class _Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """As one node answers another: one of the two."""

    result: msgspec.Raw = msgspec.Raw()
    code: int = 0
    text: str = ""


class Neighbourhood:
    def __init__(
        self,
        calls: Calls,
        neighbours: Neighbours | None,
        *,
        version: str,
        methods: Callable[[], Mapping[str, Method]],
    ) -> None:
        """`neighbours`: None where the node has a store of its own. `methods`: of the control socket."""
        self._calls = calls
        self._neighbours = neighbours
        self._version = version
        self._methods = methods
        self._in_books: dict[str, AccountTerms] = {}  # of accounts that our settings have otherwise
        self._differing: dict[tuple[str, str], dict[str, str | None]] = {}  # by node and account, as logged

    async def begin(self) -> None:
        """Before the first call: what was changed since the start has read the accounts. From now on whoever
        changes one waits for us."""
        if self._neighbours is not None:
            self._calls.fraud.share()
            with suppress(UnavailableError):
                await self._exchange(self._neighbours)

    async def run(self) -> None:
        if (neighbours := self._neighbours) is None:
            return
        async with asyncio.TaskGroup() as tasks:
            wait_s, is_deaf = 0.0, False
            while True:
                try:
                    await neighbours.wait(wait_s)
                    news, disabled = await self._exchange(neighbours)
                except UnavailableError as error:
                    self._calls.fraud.hear_nothing()
                    if not is_deaf:
                        log.warning(
                            "neighbours_not_heard", error=str(error), advice="what was heard last holds"
                        )
                    is_deaf = True
                    await asyncio.sleep(INTERVAL_S)
                    continue
                is_deaf = False
                if disabled:
                    tasks.create_task(self._end_of(disabled), name="accounts disabled elsewhere")
                for asked in news.asked:
                    tasks.create_task(self._do(neighbours, asked), name="asked by another node")
                # Whoever changed an account waits until we say that we go by it.
                wait_s = 0.0 if news.terms else INTERVAL_S

    async def _exchange(self, neighbours: Neighbours) -> tuple[News, frozenset[str]]:
        """What was heard, which is in force by then; and whom it disabled."""
        fraud = self._calls.fraud
        told = fraud.to_tell(self._calls.policy.node)
        news = await neighbours.exchange(self._told(), told)
        fraud.hear(told, news.fraud, news.others.keys())
        return news, self._take(news)

    def _told(self) -> Told:
        load, policy = self._calls.load, self._calls.policy
        wanted: dict[str, dict[str, int]] = {}
        for (kind, name), per_s in load.buckets.wanted(self._calls.clock.mono_ns()).items():
            wanted.setdefault(kind, {})[name] = per_s
        return Told(
            state=self._calls.state or say.ACCEPTING,
            calls=load.calls,
            calls_max=policy.calls_max,
            version=self._version,
            by_gateway={name: calls for name, calls in load.by_gateway.items() if calls},
            by_peer={name: calls for name, calls in load.by_peer.items() if calls},
            wanted=wanted,
            terms=self._terms_told(),
        )

    def _terms_told(self) -> dict[str, dict[str, str | None]]:
        """What our settings say of accounts that another node gave other terms since."""
        policy, said = self._calls.policy, dict[str, dict[str, str | None]]()
        for name, books in list(self._in_books.items()):
            own = policy.accounts[name].terms if name in policy.settings_accounts else None
            fields = {} if own is None else _otherwise(books, own)
            if not fields:
                del self._in_books[name]
            elif len(said) < DIFFERING_TOLD_MAX:
                said[name] = fields
        return said

    # --- what is heard --------------------------------------------------------------------------------------

    def _take(self, news: News) -> frozenset[str]:
        """Accounts that are disabled by command now, and were not."""
        load, others = self._calls.load, news.others.values()
        load.by_gateway_elsewhere = _sums(told.by_gateway for told in others)
        load.by_peer_elsewhere = _sums(told.by_peer for told in others)
        load.buckets.hear(
            {(kind, name): per_s for kind, names in told.wanted.items() for name, per_s in names.items()}
            for told in others
        )
        self._warn_of_terms(news)
        if not news.terms:
            return frozenset()
        before = self._calls.policy.accounts
        self._calls.policies.change(lambda policy: _with(policy, news))
        return frozenset(
            terms.name
            for terms in news.terms
            if terms.disabled_by_command
            and (known := before.get(terms.name)) is not None
            and not known.disabled_by_command
        )

    def _warn_of_terms(self, news: News) -> None:
        """The settings of two nodes have an account with different terms: who started last, or changed it
        last in a reload, has given the books its own."""
        for terms in news.terms:
            if terms.name in self._calls.policy.settings_accounts:
                self._in_books[terms.name] = terms
        told = {self._calls.policy.node: self._terms_told()}
        told |= {node: one.terms for node, one in news.others.items() if one.terms}
        found = {(node, name): said for node, of in told.items() for name, said in of.items()}
        for (node, account), said in found.items():
            if self._differing.get((node, account)) != said:
                log.warning(
                    "account_terms_differ", node=node, account=account, terms=said, advice=TERMS_ADVICE
                )
        self._differing = found

    async def _end_of(self, accounts: frozenset[str]) -> None:
        await release_where(
            self._calls,
            lambda call: call.account.name in accounts,
            Detail.ACCOUNT_DISABLED,
            operator=NODE.name,
            text="disabled on another node",
        )

    # --- what is asked --------------------------------------------------------------------------------------

    async def _do(self, neighbours: Neighbours, asked: Asked) -> None:
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                result = await self._result(asked)
            answer = _Answer(result=msgspec.Raw(msgspec.json.encode(result)))
        except CommandError as error:
            answer = _Answer(code=error.code, text=error.text)
        except TimeoutError:
            answer = _Answer(code=ErrorCode.TIMED_OUT, text="not done in time: it may have been done")
        except UnavailableError as error:
            answer = _Answer(code=ErrorCode.BUSY, text=f"nothing was changed: {error}")
        except Exception as error:
            log.exception("neighbour_failed", method=asked.method)  # a defect of ours: who asked pays
            answer = _Answer(code=ErrorCode.INTERNAL_ERROR, text=f"{type(error).__name__}: {error}")
        try:
            await neighbours.answer(asked.request, msgspec.json.encode(answer))
        except UnavailableError as error:
            log.warning("neighbour_not_answered", method=asked.method, error=str(error))

    async def _result(self, asked: Asked) -> object:
        method = self._methods().get(asked.method)
        if method is None or asked.method not in say.ASKED_OF_OTHERS:
            raise CommandError(ErrorCode.METHOD_NOT_FOUND, f"{asked.method} is not asked of another node")
        try:
            params = msgspec.json.decode(asked.params, type=method.params)
        except msgspec.ValidationError as error:
            raise CommandError(ErrorCode.INVALID_PARAMS, str(error)) from None
        claimed = getattr(params, "operator", None) or asked.operator.name
        return await method.handle(params, Operator(claimed, asked.operator.uid))

    # --- for a person here ----------------------------------------------------------------------------------

    def methods(self) -> Mapping[str, Method]:
        return served({"node.list": self.list, "node.ask": self.ask})

    async def list(self, wanted: say.NodeListParams, _: Operator) -> say.NodeList:
        seen = await self._others().seen(every_epoch=wanted.every_epoch)
        return say.NodeList(tenant=self._calls.policy.tenant, nodes=tuple(map(_shown, seen)))

    async def ask(self, wanted: say.NodeAskParams, operator: Operator) -> say.NodeAnswered:
        neighbours = self._others()
        if wanted.what not in say.ASKED_OF_OTHERS:
            known = ", ".join(say.ASKED_OF_OTHERS)
            raise CommandError(ErrorCode.INVALID_PARAMS, f"another node is asked for {known}")
        if wanted.node == self._calls.policy.node:
            raise CommandError(ErrorCode.INVALID_PARAMS, f"{wanted.node} is this node")
        there = {one.node: one.told for one in await neighbours.seen()}
        if wanted.node not in there:
            known = ", ".join(there)
            raise CommandError(ErrorCode.NOT_FOUND, f"there is no node {wanted.node}; there are {known}")
        if there[wanted.node] is None:
            raise CommandError(ErrorCode.REFUSED, f"node {wanted.node} is not heard: `sidecar node list`")
        try:
            said = await neighbours.ask(wanted.node, wanted.what, msgspec.json.encode(wanted.asked), operator)
        except NodeSilentError as error:
            raise CommandError(ErrorCode.TIMED_OUT, str(error)) from None
        answer = msgspec.json.decode(said, type=_Answer)
        if answer.code:
            raise CommandError(ErrorCode(answer.code), f"node {wanted.node}: {answer.text}")
        return say.NodeAnswered(node=wanted.node, answer=answer.result)

    def _others(self) -> Neighbours:
        if self._neighbours is None:
            text = "this node keeps its books alone (store.engine): there are no others"
            raise CommandError(ErrorCode.REFUSED, text)
        return self._neighbours


def _sums(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    sums = Counter[str]()
    for one in counts:
        sums.update(one)
    return dict(sums)


def _with(policy: Policy, news: News) -> Policy:
    """Where the settings have an account, they hold, but for `disabled_by_command`."""
    for terms in news.terms:
        policy = policy.with_terms(_terms(policy, terms))
    if not news.addresses:
        return policy
    for block, account in list(policy.account_addresses):
        if account in news.addresses and block not in news.addresses[account]:
            policy = policy.without_address(block)
    for account, blocks in news.addresses.items():
        for block in blocks:
            if policy.settings_addresses.at(block) is None:
                policy = policy.with_address(block, account)
    return policy


def _otherwise(books: AccountTerms, own: AccountTerms) -> dict[str, str | None]:
    """What `own` says where they differ, but for what a command alone changes."""
    return different(replace(books, disabled_by_command=own.disabled_by_command), own)


def _terms(policy: Policy, terms: AccountTerms) -> AccountTerms:
    if terms.name not in policy.settings_accounts:
        return terms
    known = policy.accounts[terms.name].terms
    return replace(known, disabled_by_command=terms.disabled_by_command)


def _shown(one: NodeSeen) -> say.NodeListed:
    return say.NodeListed(
        node=one.node,
        epoch=one.epoch,
        since=utc(one.epoch_since_wall_ns),
        is_present=one.is_present,
        boot_id=one.boot_id,
        started_at=None if one.started_wall_ns is None else utc(one.started_wall_ns),
        heartbeat_at=None if one.heartbeat_wall_ns is None else utc(one.heartbeat_wall_ns),
        state=None if one.told is None else one.told.state,
        version=None if one.told is None else one.told.version,
        calls=None if one.told is None else one.told.calls,
        calls_max=None if one.told is None else one.told.calls_max,
        terms_differ={} if one.told is None else one.told.terms,
        open_calls=one.open_calls,
        base_seq=one.base_seq,
        head_seq=one.head_seq,
        acknowledged_seq=one.acknowledged_seq,
        dead_letters=one.dead_letters,
        taken_over_by=one.taken_over_by,
        taken_over_at=None if one.taken_over_by is None else utc(one.taken_over_wall_ns),
    )
