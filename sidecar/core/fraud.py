"""Counting for fraud rules: windows in parts, one set of them for each key of each rule, and which rule holds
which key until when.

Time comes with every question, in ms since the epoch, on a clock that never goes back. A call is asked about
before it is let through (`refusal`, which changes nothing) and then told of: `began`, `answered`, `left` (its
first cause), `recorded` (its charge is known). Rules fire in `began`, `recorded` and `tick`.

A window is counted in PARTS parts and reaches back by up to one of them further than it is long: it misses
nothing that is in it. A call counts whole: what it has come to so far while it is up, and all of it in the
moment in which it ends.

Everything is bounded. Of each rule KEYS_MAX keys are counted, and of DESTINATIONS NUMBERS_MAX numbers of
all of them: past that, the key that nothing was heard of for longest is forgotten, unless it has calls that
are up; where all have, the new one is not counted. A rule holds KEYS_MAX keys; past that the oldest is let
go. `forgotten` counts both.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from uuid import UUID

import msgspec

from sidecar.core.fraud_facts import Outcome, Price
from sidecar.core.fraud_rules import AT_BEGIN, WHILE_UP, WINDOW_S_MAX, Facts, FraudRule, Measure, Mode
from sidecar.core.fraud_told import (
    KEYS_TOLD_MAX,
    NUMBERS_PART_TOLD,
    NUMBERS_TOLD_MAX,
    PART_TOLD,
    Counted,
    CountsHeard,
    FraudCounts,
    FraudHold,
    most_urgent,
    number_told,
)

PARTS = 60
KEYS_MAX = 10_000
NUMBERS_MAX = 200_000
_MS_PER_MIN = 60_000


class Firing(msgspec.Struct, frozen=True, kw_only=True):
    """A rule found what it looks for."""

    rule: FraudRule
    key: str
    measured: Decimal
    at_ms: int
    until_ms: int | None  # None: it is lifted by hand
    call_id: UUID | None = None  # the call that it fired at; None: calls that were up, or of other nodes
    account: str | None = None


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A rule holds a key."""

    rule: FraudRule
    key: str
    measured: Decimal
    since_ms: int
    until_ms: int | None


class _Count:
    """Of one key of one rule."""

    __slots__ = ("amount", "last_called", "live", "of", "part_ms", "parts", "weight", "weighted_start")

    def __init__(self, part_ms: int) -> None:
        self.part_ms = part_ms
        self.live = 0
        self.amount = 0  # in the window: what was counted, and of how many
        self.of = 0
        self.parts: deque[list[int]] = deque()  # [part, its amount, its of], the oldest first
        self.last_called: dict[str, int] = {}  # number -> when; that of the last call is the last
        # What calls that are up have come to: the sum of weight * (now - start) is kept as two sums.
        self.weight = 0  # per minute
        self.weighted_start = 0

    @property
    def is_up(self) -> bool:
        return self.live > 0 or self.weight > 0

    def add(self, at_ms: int, amount: int, of: int = 1) -> None:
        part, parts = at_ms // self.part_ms, self.parts
        self.amount += amount
        self.of += of
        if parts and parts[-1][0] >= part:
            parts[-1][1] += amount
            parts[-1][2] += of
        else:
            parts.append([part, amount, of])
            self.expire(at_ms)

    def expire(self, at_ms: int) -> None:
        """Take out what is not in the window any more."""
        first, parts = at_ms // self.part_ms - PARTS, self.parts
        while parts and parts[0][0] < first:
            _, amount, of = parts.popleft()
            self.amount -= amount
            self.of -= of

    def clear(self) -> None:
        self.parts.clear()
        self.amount = self.of = 0

    def run(self, weight: int, since_ms: int) -> None:
        """Calls are up that come to so much more a minute, or (negative) no longer. Of those that found no
        room the end is told all the same: with nothing left that is up there is nothing that they came to."""
        self.weight += weight
        self.weighted_start += weight * since_ms
        if self.weight <= 0:
            self.weight = self.weighted_start = 0

    def running(self, at_ms: int) -> int:
        return max(0, (self.weight * at_ms - self.weighted_start) // _MS_PER_MIN)


class _Elsewhere:
    """Of one key of one rule, by all other nodes; of numbers those that are not among our own."""

    __slots__ = ("amount", "live", "numbers", "of")

    def __init__(self) -> None:
        self.amount = self.of = self.live = 0
        self.numbers = set[int]()

    def add(self, counted: Counted, *, is_up: bool) -> None:
        self.amount += counted.amount
        self.of += counted.of
        self.live += counted.live if is_up else 0
        self.numbers.update(counted.numbers)


_NOTHING = _Elsewhere()


class _Windows:
    """Of one rule."""

    def __init__(self, rule: FraudRule, keys_max: int, all_numbers_max: int) -> None:
        self.rule = rule
        self._all_numbers_max = all_numbers_max
        self.counts: OrderedDict[str, _Count] = OrderedDict()  # the longest idle first
        self.held: dict[str, Held] = {}  # the oldest first
        self.elsewhere: dict[str, _Elsewhere] = {}
        self.lifted: dict[str, tuple[int, int]] = {}  # by which change, and when: what was counted until then
        self.forgotten = 0
        self._keys_max = keys_max
        self._numbers = 0  # in `last_called` of all counts
        self._numbers_max = int(rule.limit) + 1 if rule.measure is Measure.DESTINATIONS else 0
        self._part_ms = max(1, -(-rule.window_s * 1_000 // PARTS))

    def holds(self, key: str, at_ms: int) -> bool:
        held = self.held.get(key)
        return held is not None and (held.until_ms is None or at_ms < held.until_ms)

    def count(self, key: str) -> _Count | None:
        """The key's, which is now the latest that was heard of; None: there is no room for it."""
        found = self.counts.get(key)
        if found is not None:
            self.counts.move_to_end(key)
            return found
        if len(self.counts) >= self._keys_max and not self._forget_one():
            self.forgotten += 1
            return None
        made = self.counts[key] = _Count(self._part_ms)
        return made

    def _forget_one(self) -> bool:
        # Keys with calls that are up are passed over, and are the latest then: each is seen once a round.
        for _ in range(min(len(self.counts), 100)):
            key, count = next(iter(self.counts.items()))
            if not count.is_up:
                del self.counts[key]
                self.forget_numbers(count)
                self.forgotten += 1
                return True
            self.counts.move_to_end(key)
        return False

    def value(self, key: str, count: _Count, at_ms: int, one_more: str | None = None) -> int | Decimal:
        """What is counted, on all nodes; with `one_more`, as if a call to that number had begun too."""
        count.expire(at_ms)
        other = self.elsewhere.get(key, _NOTHING)
        match self.rule.measure:
            case Measure.CALLS_AT_ONCE:
                return count.live + other.live + (one_more is not None)
            case Measure.CALLS:
                return count.amount + other.amount + (one_more is not None)
            case Measure.DESTINATIONS:
                self._expire_numbers(count, at_ms)
                is_new = (
                    one_more is not None
                    and one_more not in count.last_called
                    and (not other.numbers or number_told(one_more) not in other.numbers)
                )
                return len(count.last_called) + len(other.numbers) + is_new
            case Measure.SHORT_CALLS:
                amount, of = count.amount + other.amount, count.of + other.of
                return Decimal(amount) / of if of >= self.rule.least_calls else Decimal(0)
            case Measure.MINUTES | Measure.MONEY:
                return count.amount + other.amount + count.running(at_ms)
            case Measure.UNBILLED_ENDS:
                return count.amount + other.amount

    def _expire_numbers(self, count: _Count, at_ms: int) -> None:
        since_ms, called = at_ms - self.rule.window_s * 1_000, count.last_called
        while called and called[number := next(iter(called))] <= since_ms:
            del called[number]
            self._numbers -= 1

    def note_call(self, key: str, count: _Count, number: str, at_ms: int) -> None:
        """A call began."""
        match self.rule.measure:
            case Measure.CALLS_AT_ONCE:
                count.live += 1
            case Measure.CALLS:
                count.add(at_ms, 1)
            case Measure.DESTINATIONS:
                called = count.last_called
                self._numbers += number not in called
                called.pop(number, None)
                called[number] = at_ms
                if (other := self.elsewhere.get(key)) is not None and other.numbers:
                    other.numbers.discard(number_told(number))
                if len(called) > self._numbers_max:  # more than that make no difference
                    del called[next(iter(called))]
                    self._numbers -= 1
                while self._numbers > self._all_numbers_max and len(self.counts) > 1 and self._forget_one():
                    pass

    def forget_numbers(self, count: _Count) -> None:
        self._numbers -= len(count.last_called)
        count.last_called.clear()

    def let_go(self, at_ms: int) -> None:
        """What lifts by itself: the rule holds each for as long, so the oldest is the first."""
        while self.held and not self.holds(next(iter(self.held)), at_ms):
            del self.held[next(iter(self.held))]

    def told(self, at_ms: int) -> Iterator[tuple[float, str, str, Counted]]:
        """For `most_urgent`. What cannot matter is passed over without a further look: it is most of it."""
        rule, least = self.rule, self.rule.limit
        if rule.measure is Measure.SHORT_CALLS:
            least = rule.least_calls
        for key, count in self.counts.items():
            if rule.measure is Measure.DESTINATIONS:
                if len(count.last_called) * NUMBERS_PART_TOLD < least or not count.last_called:
                    continue
                self._expire_numbers(count, at_ms)
                counted = Counted(numbers=tuple(map(number_told, count.last_called)))
                found, part = len(counted.numbers), NUMBERS_PART_TOLD
            elif rule.measure is Measure.CALLS_AT_ONCE:
                counted, part = Counted(live=count.live), PART_TOLD
                found = count.live
            else:
                if not count.weight and count.of * PART_TOLD < least and count.amount * PART_TOLD < least:
                    continue
                count.expire(at_ms)
                amount = count.amount + (count.running(at_ms) if rule.measure in WHILE_UP else 0)
                counted, part = Counted(amount=amount, of=count.of), PART_TOLD
                found = count.of if rule.measure is Measure.SHORT_CALLS else amount
            if found and found * part >= least:
                yield float(found) / max(1.0, float(least)), rule.identity, key, counted

    def hear(self, others: Iterable[CountsHeard], at_ms: int) -> None:
        elsewhere = dict[str, _Elsewhere]()
        for heard in others:
            if not heard.is_present and at_ms - heard.told_ms >= self.rule.window_s * 1_000:
                continue
            for key, counted in heard.counts.rules.get(self.rule.identity, {}).items():
                if (lifted := self.lifted.get(key)) is not None and heard.counts.lifts_heard < lifted[0]:
                    continue
                other = elsewhere.get(key)
                if other is None:
                    other = elsewhere[key] = _Elsewhere()
                other.add(counted, is_up=heard.is_present)
        self.elsewhere = elsewhere
        if self.rule.measure is Measure.DESTINATIONS:
            for key, other in elsewhere.items():
                if (count := self.counts.get(key)) is not None:
                    other.numbers.difference_update(map(number_told, count.last_called))

    def fire(self, key: str, value: int | Decimal, at_ms: int, facts: Facts | None) -> Firing:
        rule = self.rule
        until_ms = at_ms + rule.lift_after_s * 1_000 if rule.lift_after_s else None
        measured = rule.measured(value)
        self._hold(Held(rule=rule, key=key, measured=measured, since_ms=at_ms, until_ms=until_ms))
        return Firing(
            rule=rule,
            key=key,
            measured=measured,
            at_ms=at_ms,
            until_ms=until_ms,
            call_id=None if facts is None else facts.call_id,
            account=None if facts is None else facts.account,
        )

    def fire_elsewhere(self, found: FraudHold) -> Firing:
        at_ms, until_ms, measured = found.since_ms, found.until_ms, found.measured
        self._hold(Held(rule=self.rule, key=found.key, measured=measured, since_ms=at_ms, until_ms=until_ms))
        return Firing(rule=self.rule, key=found.key, measured=measured, at_ms=at_ms, until_ms=until_ms)

    def _hold(self, held: Held) -> None:
        self.held.pop(held.key, None)
        self.held[held.key] = held
        if len(self.held) > self._keys_max:
            del self.held[next(iter(self.held))]
            self.forgotten += 1


class Watched(msgspec.Struct, frozen=True, gc=False):
    """A call, and what it counts for: found once, and true for all its life."""

    facts: Facts
    keys: tuple[tuple[_Windows, str], ...]


class FraudWindows:
    """Of all rules of a node."""

    def __init__(
        self, rules: Iterable[FraudRule] = (), keys_max: int = KEYS_MAX, numbers_max: int = NUMBERS_MAX
    ) -> None:
        self._keys_max = keys_max
        self._numbers_max = numbers_max
        self._all = [_Windows(rule, keys_max, numbers_max) for rule in rules]

    def with_rules(self, rules: Iterable[FraudRule]) -> FraudWindows:
        """For these rules; one that is as it was keeps what it has counted, and what it holds."""
        changed = FraudWindows(rules, self._keys_max, self._numbers_max)
        kept = {one.rule.name: one for one in self._all}
        changed._all = [
            before if (before := kept.get(one.rule.name)) is not None and before.rule == one.rule else one
            for one in changed._all
        ]
        return changed

    def joined(self, facts: Facts, before: Watched | None, answered_ms: int | None, price: Price) -> Watched:
        """A call that is up, and was told of before the rules were changed: it counts for the new ones as far
        as it is up; `before` is what it counted for."""
        known = [one for one, _ in before.keys] if before is not None else []
        now = self.watched(facts)
        new = Watched(facts, tuple((one, key) for one, key in now.keys if one not in known))
        for one, key in new.keys:
            if one.rule.measure is Measure.CALLS_AT_ONCE and (count := one.count(key)) is not None:
                count.live += 1
        if answered_ms is not None:
            _run(new, answered_ms, price, +1)
        return now

    @property
    def rules(self) -> Sequence[FraudRule]:
        return [one.rule for one in self._all]

    @property
    def forgotten(self) -> int:
        """Keys that were let go for want of room."""
        return sum(one.forgotten for one in self._all)

    def watched(self, facts: Facts) -> Watched:
        found = ((one, one.rule.key_of(facts)) for one in self._all)
        return Watched(facts, tuple((one, key) for one, key in found if key is not None))

    def refusal(self, call: Watched, at_ms: int) -> str | None:
        """The rule that refuses this call; None: none does. It is not counted here."""
        for one, key in call.keys:
            if one.rule.mode is Mode.WATCH:
                continue
            if one.holds(key, at_ms):
                return one.rule.name
            count = one.counts.get(key)
            if count is None:
                if one.rule.measure not in AT_BEGIN and key not in one.elsewhere:
                    continue
                count = _Count(1)
            if one.value(key, count, at_ms, call.facts.number) > one.rule.limit:
                return one.rule.name
        return None

    def began(self, call: Watched, at_ms: int, refused_by: str | None = None) -> Sequence[Firing]:
        """A call was let through, or refused by a rule: then it counts for nothing, and that rule alone may
        fire."""
        fired: list[Firing] = []
        for one, key in call.keys:
            if refused_by is None:
                if one.rule.measure in AT_BEGIN and (count := one.count(key)) is not None:
                    one.note_call(key, count, call.facts.number, at_ms)
                    _look(one, key, count, at_ms, fired, call.facts)
            elif one.rule.name == refused_by and (count := one.count(key)) is not None:
                _look(one, key, count, at_ms, fired, call.facts, call.facts.number)
        return fired

    def answered(self, call: Watched, at_ms: int, price: Price) -> None:
        _run(call, at_ms, price, +1)

    def left(self, call: Watched, answered_ms: int | None, price: Price) -> None:
        """The call is not up any more: what it has come to is told in `recorded`. `answered_ms` and `price`
        are as `answered` was told; None: it was not."""
        for one, key in call.keys:
            if one.rule.measure is Measure.CALLS_AT_ONCE and (count := one.counts.get(key)) is not None:
                count.live = max(0, count.live - 1)
        if answered_ms is not None:
            _run(call, answered_ms, price, -1)

    def recorded(self, call: Watched, outcome: Outcome, at_ms: int) -> Sequence[Firing]:
        """A call that was let through has its record."""
        fired: list[Firing] = []
        for one, key in call.keys:
            amount, of = _counted(one.rule, outcome)
            if of and (count := one.count(key)) is not None:
                count.add(at_ms, amount, of)
                _look(one, key, count, at_ms, fired, call.facts)
        return fired

    def tick(self, at_ms: int) -> Sequence[Firing]:
        """From time to time: minutes and money of calls that are up grow without an event; and what a rule
        still finds when it lifts, or when it is new."""
        fired: list[Firing] = []
        for one in self._all:
            one.let_go(at_ms)
            if one.rule.measure in WHILE_UP or one.rule.measure is Measure.CALLS_AT_ONCE:
                for key, count in one.counts.items():
                    if count.is_up:
                        _look(one, key, count, at_ms, fired)
        return fired

    def held(self, at_ms: int) -> Sequence[Held]:
        """Which rule holds which key now, in the order of the rules, the oldest first."""
        return [held for one in self._all for key, held in one.held.items() if one.holds(key, at_ms)]

    def lift(self, rule: str, key: str, at_ms: int, change: int = 0) -> Held | None:
        """An operator lets a key go: it is counted anew, or the rule would fire at the next call. What it was
        held by; None: it was not. `change`: its number over all nodes; what those told that had not heard of
        it does not count."""
        for one in self._all:
            if one.rule.name != rule or (change and one.lifted.get(key, (0, 0))[0] >= change):
                continue
            held = one.held.pop(key) if one.holds(key, at_ms) else None
            if held is not None or change:
                if (count := one.counts.get(key)) is not None:
                    count.clear()
                    one.forget_numbers(count)
                one.elsewhere.pop(key, None)
            if change:
                one.lifted = {
                    name: (number, when)
                    for name, (number, when) in one.lifted.items()
                    if at_ms - when < WINDOW_S_MAX * 1_000
                } | {key: (change, at_ms)}
            return held
        return None

    # --- among other nodes --------------------------------------------------------------------------------

    def told(self, at_ms: int, lifts_heard: int) -> FraudCounts:
        """For the other nodes."""
        found = (row for one in self._all if one.rule.is_shared for row in one.told(at_ms))
        return most_urgent(found, lifts_heard, KEYS_TOLD_MAX, NUMBERS_TOLD_MAX)

    def hear(self, others: Mapping[str, CountsHeard], at_ms: int) -> Sequence[Firing]:
        """What all others have counted, by node, in place of what they told before. Of what we count
        ourselves a rule may fire by it; of the rest who counts it sees that."""
        fired: list[Firing] = []
        for one in self._all:
            if not one.rule.is_shared or not (others or one.elsewhere):
                continue
            one.hear(others.values(), at_ms)
            for key in one.elsewhere:
                if (count := one.counts.get(key)) is not None:
                    _look(one, key, count, at_ms, fired)
        return fired

    def hold(self, heard: FraudHold, at_ms: int) -> Firing | None:
        """Another node has found it: nobody is told again. None: it is held already, or by no rule of
        ours."""
        for one in self._all:
            if one.rule.name != heard.rule or one.rule.identity != heard.identity:
                continue
            if heard.until_ms is not None and heard.until_ms <= at_ms:
                return None
            return None if one.holds(heard.key, at_ms) else one.fire_elsewhere(heard)
        return None


def _look(
    one: _Windows,
    key: str,
    count: _Count,
    at_ms: int,
    fired: list[Firing],
    facts: Facts | None = None,
    one_more: str | None = None,
) -> None:
    if one.holds(key, at_ms):
        return
    value = one.value(key, count, at_ms, one_more)
    if value > one.rule.limit:
        fired.append(one.fire(key, value, at_ms, facts))


def _run(call: Watched, answered_ms: int, price: Price, sign: int) -> None:
    for one, key in call.keys:
        if one.rule.measure is Measure.MINUTES:
            weight = _MS_PER_MIN
        elif one.rule.measure is Measure.MONEY and price.currency == one.rule.currency:
            weight = price.nano_per_min
        else:
            continue
        count = one.count(key) if sign > 0 else one.counts.get(key)
        if count is not None:
            count.run(sign * weight, answered_ms)


def _counted(rule: FraudRule, outcome: Outcome) -> tuple[int, int]:
    """What a call that ended adds, and of how many it is."""
    match rule.measure:
        case Measure.MINUTES:
            return outcome.billable_ms, int(outcome.billable_ms > 0)
        case Measure.MONEY:
            return outcome.nano, int(outcome.nano > 0 and outcome.currency == rule.currency)
        case Measure.SHORT_CALLS:
            return int(outcome.talk_ms <= rule.short_s * 1_000), int(outcome.answered)
        case Measure.UNBILLED_ENDS:
            return 1, int(outcome.unbilled_end)
        case _:
            return 0, 0
