"""What is wrong with the strip lengths and the decks, told from the records of calls.

    observe        a CDR to what the doctor looks at: one `Observed` per charge
    vocabulary     symptoms, findings, fixes, and the numbering plan that whoever calls passes in
    cohorts        the numbers of one sender by the digits in front of them, and what those digits want
    strips         what was stripped against what should have been: the symptoms of strip lengths
    destinations   numbers that cannot exist, places and calls without a rate, rates by less than a country
                   code
    decks          exit codes in a deck, prices that are others by a factor: without any call
    effects        what another strip length would change, in calls and in money per currency
    diagnosis      `diagnose`: all of it, for all senders

A false alarm costs more than silence: an operator who has once "repaired" a right setting asks no doctor
again. So a verdict needs many different numbers (FLOOR) that agree (RIGHT_SHARE), see `cohorts`; one thing
alone is proved by a single call, see `strips.contradictions`. That a call was carried and has no price is no
verdict but a fact: `carried_unrated` tells each.
"""

from sidecar.core.doctor.decks import DeckFinding, deck_findings
from sidecar.core.doctor.destinations import carried_unrated
from sidecar.core.doctor.diagnosis import diagnose
from sidecar.core.doctor.effects import Book, book_of
from sidecar.core.doctor.observe import Observed, observed_of
from sidecar.core.doctor.vocabulary import Effect, Example, Finding, Fix, NumberingPlan, Standing, Symptom

__all__ = [
    "Book",
    "DeckFinding",
    "Effect",
    "Example",
    "Finding",
    "Fix",
    "NumberingPlan",
    "Observed",
    "Standing",
    "Symptom",
    "book_of",
    "carried_unrated",
    "deck_findings",
    "diagnose",
    "observed_of",
]
