"""Faults at moments by chance, again and again, and what is lost or told twice by them: `make chaos`.

A scenario is a coroutine `(Chance) -> Outcome` in a module of its own; SCENARIOS in `__main__` names it. It
plays its rounds against a real node, counts, and judges nothing by itself: an Outcome says what was promised
beside what was seen. A short form of each, a round or two, is a test in tests/faults.
"""
