"""Two nodes on one balance, each of which may lose the books, or be killed, at any moment: what they admit
and extend meanwhile is out of their tranches. On the functions that run (`books.post`, `away.Away`,
`tranches.resize`). Whatever comes in whatever order, nobody spends what is not there."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from sidecar.core.away import Away, Ground
from sidecar.core.books import MovementKind, OutcomeKind, as_granted
from sidecar.core.call import Call
from sidecar.core.commands import Append, EntryKind, Publish, StoreCommand, Suppress
from sidecar.core.terms import Detail, Money
from sidecar.core.tranches import Burned, give_back, resize
from tests.adapters.store_calls import admitted, answered, call_id, ended, ending, extension, reserve
from tests.core.memory_books import MemoryBooks
from tests.core.test_credit_machine import RATES, REASON, TERMS

KEY = ("acme", "EUR")
UNBOUNDED_MAX = 2
Step = tuple[StoreCommand, ...]
names = st.sampled_from(["n1", "n2"])


class Node:
    """What a process of it holds in memory, and what lies on its disk."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.away: Away | None = None
        self.kept: list[Step] = []
        self.calls: dict[int, Call] = {}  # up
        self.is_dead = False


class Nodes(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.books = MemoryBooks()
        assert self.books.open_account("acme") == ""
        assert self.books.open_account("post", prepaid=False) == ""
        self.nodes = {name: Node(name) for name in ("n1", "n2")}
        self.next = 1
        self.admitted_away: set[int] = set()
        self.paid = Decimal(0)
        self.top_up(1_000)
        for name in self.nodes:
            self.resize(name, 50, 10, 600)

    def of(self, name: str) -> Node:
        self.books.node = name
        return self.nodes[name]

    # --- the books --------------------------------------------------------------------------------------

    @rule(cents=st.integers(1, 400))
    def top_up(self, cents: int) -> None:
        amount = Decimal(cents) / 100
        assert self.books.top_up("acme", Money(amount, "EUR"), f"{len(self.books.ledger)}") == ""
        self.paid += amount

    @rule(
        name=names, burned=st.integers(0, 50), usual=st.integers(1, 10), tranche_s=st.sampled_from([60, 600])
    )
    def resize(self, name: str, burned: int, usual: int, tranche_s: int) -> None:
        node = self.of(name)
        if node.away is None and not node.is_dead:
            late = Burned(Decimal(burned) / 100, Decimal(usual) / 100)
            self.books.take(resize(KEY, late, tranche_s, 2, self.books))

    @rule(left=st.integers(0, 20))
    def take_away(self, left: int) -> None:
        """A person does, what no node holds but some cents."""
        amount = Decimal(left) / 100 - self.books.balance(*KEY)
        if amount < 0:
            reference = f"{len(self.books.ledger)}"
            assert self.books.book(MovementKind.ADJUST, "acme", Money(amount, "EUR"), reference, REASON) == ""
            self.paid += amount

    # --- the nodes --------------------------------------------------------------------------------------

    @rule(name=names)
    def books_are_gone(self, name: str) -> None:
        node = self.of(name)
        if node.away is None and not node.is_dead:
            held = {KEY: self.books.tranche(*KEY)}
            node.away = Away(held, dict(self.books.open).get, UNBOUNDED_MAX, self.books.wall_ns)

    @rule(name=names, parts=st.lists(st.integers(1, 3), max_size=3))
    def books_are_back(self, name: str, parts: list[int]) -> None:
        """Or for a moment: some of what was kept is written."""
        node = self.of(name)
        if node.away is None:
            return
        for count in parts:
            self.written(node, count)
        if not node.kept:
            node.away = None

    def written(self, node: Node, count: int) -> None:
        for step in node.kept[:count]:
            posting = self.books.post(step)
            assert posting.outcome is None or step[-1].__class__ in (Publish, Suppress)
        del node.kept[:count]

    @rule(name=names)
    def kill(self, name: str) -> None:
        node = self.of(name)
        node.is_dead, node.away = True, None

    @rule(name=names)
    def taken_over(self, name: str) -> None:
        """Another node ends the calls that it held open in the books; its tranche stays its own."""
        node = self.nodes[name]
        self.of("n2" if name == "n1" else "n1")
        for call in node.calls.values():
            if node.is_dead and call.call_id in self.books.open:
                known = as_granted(call, self.books.open[call.call_id])
                self.books.post(ending(ended(answered(known), 5_000)))

    @rule(name=names, twice=st.booleans())
    def start(self, name: str, twice: bool) -> None:
        """It brings what it kept (`twice`: and is killed in the middle), and gives its tranche back."""
        node = self.of(name)
        if not node.is_dead:
            return
        for _ in range(1 + twice):
            for step in node.kept:
                self.books.post(step)
        node.kept.clear()
        self.books.take(give_back(KEY, self.books.tranche(*KEY), self.books))
        for number, call in node.calls.items():  # found open
            if call.call_id in self.books.open:
                known = as_granted(call, self.books.open[call.call_id])
                self.books.post(ending(ended(answered(known), 5_000)))
            assert call_id(number) not in self.books.open
        node.calls.clear()
        node.is_dead = False

    # --- calls ------------------------------------------------------------------------------------------

    @rule(
        name=names,
        rate=st.sampled_from(RATES),
        terms=st.sampled_from(TERMS),
        slice_s=st.sampled_from([1, 7, 60]),
        is_postpaid=st.sampled_from([False, False, False, True]),
    )
    def begin(self, name: str, rate: object, terms: object, slice_s: int, is_postpaid: bool) -> None:
        node, number = self.of(name), self.next
        if node.is_dead:
            return
        self.next += 1
        if is_postpaid:
            call = admitted(number, "post")
            step: Step = (Append(kind=EntryKind.ADMITTED, call=call),)
        else:
            call = admitted(number, prepaid=True)
            call = replace(call, pricing=replace(call.pricing, rate=rate, terms=terms))
            asked = replace(reserve(call, slice_s), rate=rate, terms=terms)
            step = (asked, Append(kind=EntryKind.ADMITTED, call=call))
        if node.away is None:
            self.books.post(step)
            if call.call_id in self.books.open:
                node.calls[number] = as_granted(call, self.books.open[call.call_id])
            return
        outcome, kept, ground = node.away.decide(step)
        if outcome.kind is OutcomeKind.ADMITTED:
            assert kept is not None
            node.kept.append(kept)
            self.admitted_away.add(number)
            assert ground is (Ground.UNBOUNDED if is_postpaid else Ground.TRANCHE)
            node.calls[number] = replace(call, granted_s=outcome.granted_s, reserved=outcome.reserved)
        else:
            assert (outcome.kind, outcome.detail) == (
                OutcomeKind.CREDIT_REFUSED,
                Detail.LEDGER_UNREACHABLE,
            )
            assert kept is None

    @rule(name=names, place=st.integers(0, 9), by_s=st.sampled_from([1, 60, 600]))
    def extend(self, name: str, place: int, by_s: int) -> None:
        node = self.of(name)
        if node.is_dead or not node.calls:
            return
        number = sorted(node.calls)[place % len(node.calls)]
        call = node.calls[number]
        if call.granted_s is None:
            return
        step = extension(call, call.granted_s + by_s)
        if node.away is None:
            outcome = self.books.post(step).outcome
        else:
            outcome, kept, _ = node.away.decide(step)
            assert (kept is not None) == (outcome.kind is OutcomeKind.GRANT_EXTENDED)
            if kept is not None:
                assert outcome.granted_s is not None
                assert outcome.granted_s > call.granted_s
                node.kept.append(kept)
        assert outcome is not None
        if outcome.kind is OutcomeKind.GRANT_EXTENDED:
            node.calls[number] = replace(call, granted_s=outcome.granted_s, reserved=outcome.reserved)

    @rule(name=names, place=st.integers(0, 9), talk_ms=st.integers(0, 200_000))
    def end(self, name: str, place: int, talk_ms: int) -> None:
        node = self.of(name)
        if node.is_dead or not node.calls:
            return
        call = node.calls.pop(sorted(node.calls)[place % len(node.calls)])
        step = ending(ended(answered(call), talk_ms))
        if node.away is None:
            self.books.post(step)
        else:
            node.away.note(step)
            node.kept.append(step)

    # --- what always holds ------------------------------------------------------------------------------

    @invariant()
    def nothing_is_spent_that_is_not_there(self) -> None:
        assert self.books.balance(*KEY) >= 0
        assert min(self.books.tranches.values(), default=Decimal(0)) >= 0

    @invariant()
    def what_a_node_may_grant_is_in_its_tranche(self) -> None:
        """With what it has granted and not written yet."""
        for name, node in self.nodes.items():
            if node.away is not None:
                self.books.node = name
                assert 0 <= node.away.rest(KEY) <= self.books.tranche(*KEY)

    @invariant()
    def the_books_close(self) -> None:
        assert self.books.faults() == []

    def teardown(self) -> None:
        """All are back: each call that was let go has one record, and no money is left in a tranche."""
        for node in self.nodes.values():
            for number in list(node.calls):
                if not node.is_dead:
                    self.end(node.name, sorted(node.calls).index(number), 1_000)
            self.kill(node.name)
            self.start(node.name, twice=False)
        records = [one.cdr.call_id for one in self.books.records]
        assert len(records) == len(set(records))
        assert {call_id(number) for number in self.admitted_away} <= set(records)
        assert self.books.open == {}
        assert not any(self.books.tranches.values())
        charged = sum((self.books.charged(one).get(KEY, Decimal(0)) for one in records), Decimal(0))
        assert self.books.balance(*KEY) == self.paid - charged >= 0


TestNodes = Nodes.TestCase
TestNodes.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
