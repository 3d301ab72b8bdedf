"""The machine of credit, on the functions that run (`books.post`, and `credit` behind it): calls of one
balance that begin, are extended and end in any order, twice or too late; with top-ups, adjustments, other
terms and crashes between. Nothing is reserved that is not there, no call costs more than it holds, and what
the balance would pay is not refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from sidecar.core.account_terms import AccountKind
from sidecar.core.audit import Change, Operator
from sidecar.core.books import MovementKind, OutcomeKind, as_granted
from sidecar.core.call import Call
from sidecar.core.commands import Append, EntryKind, Reserve
from sidecar.core.credit import grant
from sidecar.core.rating import RatingTerms
from sidecar.core.tariff import Rate, parse_steps
from sidecar.core.terms import Detail, Money
from tests.adapters.store_calls import admitted, answered, call_id, ended, ending, extension
from tests.core.memory_books import MemoryBooks

TERMS = (RatingTerms(), RatingTerms(decimals=2, tax_rate=Decimal("0.19"), minimum_charge=Decimal("0.03")))
RATES = [
    Rate(prefix="49", currency="EUR", steps=parse_steps(steps), connect_fee=fee)
    for steps, fee in (
        ("0:0.06/60/1", Decimal(0)),
        ("0:0.06/60/60", Decimal("0.05")),
        ("0:0.12/60/30;60:0.06/60/1", Decimal(0)),
        ("0:0.6/60/60@Mo-Fr 08:00-18:00 UTC|0.06/60/60", Decimal("0.01")),
        ("0:0.6/60/60@Mo-Fr 08:00-18:00 UTC|0.06/60/1", Decimal(0)),
    )
]
RATES.append(replace(RATES[0], grace_s=5, included_s=10, minimum_charge=Decimal("0.02")))
# A Monday, about the edges of the window.
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
MOMENTS = [MONDAY + timedelta(hours=hour, seconds=s) for hour in (8, 18) for s in (-200, -61, -2, 5)]
numbers = st.integers(1, 6)


LIMITS = st.sampled_from([Decimal(0), Decimal("0.5"), Decimal(2)])
REASON = Change(operator=Operator("ann", 1000), action="account.adjust", subject="acme", text="a reason")


class Credit(RuleBasedStateMachine):
    """One account. What a call was told of its grant is kept apart from what the books have: an
    answer may be lost with a crash."""

    def __init__(self) -> None:
        super().__init__()
        self.books = MemoryBooks()
        assert self.books.open_account("acme") == ""
        self.paid = Decimal(0)
        self.told: dict[int, Call] = {}
        self.commit()

    # --- what happens -----------------------------------------------------------------------------------

    @rule(cents=st.integers(1, 60))
    def top_up(self, cents: int) -> None:
        amount = Decimal(cents) / 100
        assert self.books.top_up("acme", Money(amount, "EUR"), f"{len(self.books.ledger)}") == ""
        self.paid += amount

    @rule(cents=st.integers(-60, 60).filter(bool))
    def adjust(self, cents: int) -> None:
        amount = Money(Decimal(cents) / 100, "EUR")
        reference = f"{len(self.books.ledger)}"
        assert self.books.book(MovementKind.ADJUST, "acme", amount, reference, REASON) == ""
        self.paid += amount.amount

    @rule(limit=LIMITS, kind=st.sampled_from([AccountKind.PREPAID, AccountKind.POSTPAID]))
    def other_terms(self, limit: Decimal, kind: AccountKind) -> None:
        terms = replace(self.books.accounts["acme"], kind=kind, credit_limit=limit)
        assert self.books.set_terms(terms) == ""

    @rule(enabled=st.booleans())
    def enable(self, enabled: bool) -> None:
        assert self.books.set_terms(replace(self.books.accounts["acme"], enabled=enabled)) == ""

    @property
    def available(self) -> Decimal:
        floor = self.books.accounts["acme"].floor
        assert floor is not None
        return self.books.balance("acme", "EUR") - floor

    @rule(
        number=numbers,
        rate=st.sampled_from(RATES),
        terms=st.sampled_from(TERMS),
        slice_s=st.sampled_from([1, 7, 60]),
        at=st.sampled_from(MOMENTS),
    )
    def begin(self, number: int, rate: Rate, terms: RatingTerms, slice_s: int, at: datetime) -> None:
        if number in self.told or call_id(number) in self.books.open:
            return
        wall_ns = int(at.timestamp()) * 1_000_000_000
        call = admitted(number, prepaid=True, at_ns=wall_ns)
        call = replace(call, pricing=replace(call.pricing, rate=rate, terms=terms))
        before = self.available
        reserve = Reserve(call_id=call.call_id, account="acme", rate=rate, terms=terms, total_s=slice_s)
        posting = self.books.post((reserve, Append(kind=EntryKind.ADMITTED, call=call)))
        assert posting.outcome is not None
        if not self.books.accounts["acme"].enabled:
            assert posting.outcome.detail is Detail.ACCOUNT_DISABLED
        elif posting.outcome.kind is OutcomeKind.ADMITTED:
            assert self.available >= 0
            self.told[number] = as_granted(call, self.books.open[call.call_id])
        else:
            assert posting.outcome.detail is Detail.NO_CREDIT
            one = grant(before, rate, terms, 1)
            assert one is None  # it would not even pay one second

    @rule(number=numbers, by_s=st.sampled_from([1, 7, 60, 600]), times=st.integers(1, 2), heard=st.booleans())
    def extend(self, number: int, by_s: int, times: int, heard: bool) -> None:
        """`heard`: the answer reaches the call."""
        call = self.told.get(number)
        if call is None or call.granted_s is None:
            return
        posting = self.books.post(extension(call, call.granted_s + by_s))
        assert not posting.movements or self.available >= 0
        for _ in range(times - 1):
            held = self.books.open.get(call_id(number))
            posting = self.books.post(extension(call, call.granted_s + by_s))
            assert posting.movements in ((), [])
            assert self.books.open.get(call_id(number)) == held
        assert posting.outcome is not None
        if call_id(number) not in self.books.open:
            assert (posting.outcome.kind, posting.movements) == (OutcomeKind.STEP_FAILED, ())
            return
        assert posting.outcome.granted_s is not None
        assert posting.outcome.granted_s >= call.granted_s
        if heard:
            self.told[number] = as_granted(call, self.books.open[call_id(number)])

    @rule(number=numbers, talk_ms=st.integers(0, 200_000), ring_ms=st.integers(0, 90_000), late=st.booleans())
    def end(self, number: int, talk_ms: int, ring_ms: int, late: bool) -> None:
        """After any time, also beyond its grant; or (`late`) just at its end."""
        call = self.told.get(number)
        if call is None or call.granted_s is None or call_id(number) not in self.books.open:
            return
        held = self.books.open[call_id(number)].reserved
        assert held is not None
        if late:
            talk_ms = call.granted_s * 1000 + 49
        for _ in range(2):
            self.books.post(ending(ended(answered(call, ring_ms), talk_ms)))
        charged = self.books.charged(call_id(number)).get(("acme", "EUR"), Decimal(0))
        assert charged <= held.amount

    @rule(number=numbers)
    def end_unanswered(self, number: int) -> None:
        call = self.told.get(number)
        if call is not None and call_id(number) in self.books.open:
            self.books.post(ending(ended(call, 0)))
            assert self.books.charged(call_id(number)) == {}

    @rule()
    def commit(self) -> None:
        self.on_disk = (self.books.saved(), self.paid, dict(self.told))

    @rule()
    def crash(self) -> None:
        """All since the last commit is gone, also what calls were told of it; recovery reads the books."""
        books, self.paid, told = self.on_disk
        self.books = books.saved()
        self.told = {
            number: as_granted(call, self.books.open[call_id(number)])
            if call_id(number) in self.books.open
            else call
            for number, call in told.items()
        }

    # --- what always holds --------------------------------------------------------------------------------

    @invariant()
    def the_books_close(self) -> None:
        assert self.books.faults() == []
        held = sum((one.reserved.amount for one in self.books.open.values() if one.reserved), Decimal(0))
        charged = sum(
            (total for number in range(1, 7) for total in self.books.charged(call_id(number)).values()),
            Decimal(0),
        )
        assert self.books.balance("acme", "EUR") == self.paid - held - charged

    @invariant()
    def nobody_was_told_more_than_is_held(self) -> None:
        for number, call in self.told.items():
            held = self.books.open.get(call_id(number))
            if held is not None:
                assert held.granted_s is not None
                assert call.granted_s is not None
                assert call.granted_s <= held.granted_s


TestCredit = Credit.TestCase
TestCredit.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
