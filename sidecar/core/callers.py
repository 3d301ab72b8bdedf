"""By which number a caller is rated, in decks that ask who calls (`tariff.Rate.caller_prefix`).

| what is known of the caller                                      | basis        | its rows are for       |
|------------------------------------------------------------------|--------------|------------------------|
| a number that a peer with `asserts_identity` asserts (RFC 3325)  | `asserted`   | how that number begins |
| the From of a peer with `caller_trusted`                         | `trusted`    | how that number begins |
| no number: none is written, or it is withheld                    | `no_number`  | `surcharge`            |
| a number that begins with no country code, or is no E.164 number | `no_country` | `surcharge`            |
| the From of anybody else, who may write what he likes            | `forgeable`  | `surcharge`            |

Rows for any caller hold for all of them, where the prefix has no other. Whoever asks for privacy is known to
us all the same, and rated so.
"""

from __future__ import annotations

import re

import msgspec

from sidecar.core.caller_id import ASSERTED, asserted_user, names_somebody
from sidecar.core.cdr import Cdr
from sidecar.core.events import InviteReceived
from sidecar.core.numbers import StripPlan, billed_number
from sidecar.core.policy import Peer
from sidecar.core.tariff import CALLER_DIGITS_MAX, SURCHARGE
from sidecar.core.terms import CallerBasis

_AS_IT_IS = StripPlan()
_DIGITS_MIN = 7  # no country's numbers are shorter with their country code

# Those of E.164 that are assigned (ITU-T: List of Recommendation ITU-T E.164 assigned country codes).
_COUNTRY_CODE = re.compile(
    r"1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]"
    r"|21[12368]|2[2-4]\d|25[0-8]|26\d|29[017-9]|35\d|37[0-8]|38[0-35-79]|42[013]|50\d|59\d|67[02-9]|68[0-35-9]"
    r"|69[0-2]|80[08]|85[02356]|87[08]|88[012368]|96[0-8]|97[0-79]|99[2-68]"
)


class RatedCaller(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`number`: E.164 digits; None where there are none."""

    number: str | None
    basis: CallerBasis

    @property
    def looked_up(self) -> str:
        """What a deck is asked by."""
        known = self.basis in (CallerBasis.ASSERTED, CallerBasis.TRUSTED)
        return self.number or SURCHARGE if known else SURCHARGE


def rated_caller(invite: InviteReceived, peer: Peer | None) -> RatedCaller:
    """Never raises, whatever the headers say."""
    trusted = peer is not None and peer.asserts_identity
    asserted = asserted_user(invite, (ASSERTED,)) if trusted else None
    user = invite.from_user if asserted is None else asserted
    number = billed_number(user, _AS_IT_IS).billed if names_somebody(user.partition(";")[0]) else None
    if number is None:
        return RatedCaller(number=None, basis=CallerBasis.NO_NUMBER)
    number = number.removeprefix("00")
    if asserted is None and not (peer is not None and peer.caller_trusted):
        return RatedCaller(number=number, basis=CallerBasis.FORGEABLE)
    if not _is_of_a_country(number):
        return RatedCaller(number=number, basis=CallerBasis.NO_COUNTRY)
    return RatedCaller(number=number, basis=CallerBasis.TRUSTED if asserted is None else CallerBasis.ASSERTED)


def caller_of(cdr: Cdr) -> RatedCaller:
    """As the record has it. In one of an earlier version there is the From, and nobody who vouches for it."""
    return RatedCaller(number=cdr.caller.billed, basis=cdr.caller_basis or CallerBasis.FORGEABLE)


def _is_of_a_country(number: str) -> bool:
    return _DIGITS_MIN <= len(number) <= CALLER_DIGITS_MAX and _COUNTRY_CODE.match(number) is not None
