"""What a gateway is told of the caller, and which headers pass to it: the rules of its profile, applied to
one INVITE.

| caller_id | From                                | asserted identity                                       |
|-----------|-------------------------------------|---------------------------------------------------------|
| pass      | as received                         | as received                                             |
| from      | the asserted number, if there is one| none                                                    |
| pai       | as received                         | P-Asserted-Identity (RFC 3325), with Privacy if asked   |
| rpid      | as received                         | Remote-Party-ID, with its own mark of privacy           |

Whoever is no part of the trust domain (`asserts_identity` of its peer group) asserts nothing: what it says so
is withheld in every form (RFC 3325 §5), and nothing is asserted of it. A caller who asks for privacy (RFC
3323) is anonymous in the From of the last three; in `pass` whatever it wrote passes. A gateway outside the
trust domain is told of no such caller. What else passes, in this and all later messages, is one rule of the
bridge (native/assertions).

The CDR keeps the caller as received; what was sent is written beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

import msgspec

from sidecar.core.events import InviteReceived
from sidecar.core.numbers import same_number
from sidecar.core.policy import Gateway
from sidecar.core.terms import CallerIdForm, NumberForm
from sidecar.core.uri_parameters import user_of

ASSERTED = "p-asserted-identity"
PREFERRED = "p-preferred-identity"
PARTY_ID = "remote-party-id"
PRIVACY = "privacy"

# What the forms below need to know of an INVITE: the bridge reports these.
HEADERS_READ = (ASSERTED, PARTY_ID, PRIVACY)

ANONYMOUS = "anonymous"
# What networks write where they have no number to tell.
_NOBODY = frozenset({ANONYMOUS, "unavailable", "restricted", "unknown", "private", "withheld"})

_ASSERTIONS = (ASSERTED, PARTY_ID)
_IDENTITIES = (*_ASSERTIONS, PREFERRED)  # RFC 3325 §9.2: no preferred one beside ours
_USER = r"((?:[A-Za-z0-9_.!~*'()&=+$,/-]|%[0-9A-Fa-f]{2}){1,64})"
_URI = re.compile(rf"(?:sips?:{_USER}(?:;[^@>\s]*)?@|tel:{_USER}(?=[;>,\s]|$))", re.IGNORECASE)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_PLUS = re.compile(r"\+[0-9]+")
_INTERNATIONAL = re.compile(r"[1-9][0-9]+")
_TOKEN = re.compile(r"[a-z0-9-]{1,32}")
_PARTY_IS_PRIVATE = re.compile(r";\s*privacy\s*=\s*\"?(?:full|uri)\b", re.IGNORECASE)


class Presentation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What changes between the INVITE received and the one that is sent."""

    user: str = ""  # of From, as a URI writes it; empty: as received
    anonymous: bool = False  # From is RFC 3323's anonymous URI
    add: tuple[tuple[str, str], ...] = ()  # to the INVITE; the received ones of these names are withheld
    withhold: tuple[str, ...] = ()  # of every message to the gateway; lower case, with their compact forms


def present(
    invite: InviteReceived, gateway: Gateway, *, trusted: bool, gateway_trusted: bool
) -> Presentation:
    """How this INVITE goes to this gateway. Whether its sender and the gateway are in the trust domain."""
    withhold = gateway.remove_headers + tuple(name.lower() for name, _ in gateway.add_headers)
    if gateway.caller_id is CallerIdForm.PASS:
        return Presentation(
            user=_changed(invite.from_user, in_form(invite.from_user, gateway.caller_number)),
            add=gateway.add_headers,
            withhold=_distinct(withhold if trusted else (*withhold, *_ASSERTIONS)),
        )
    asserted = _asserted(invite) if trusted else ""
    private = _is_private(invite, trusted=trusted)
    shown = asserted if asserted and gateway.caller_id is CallerIdForm.FROM else invite.from_user
    add = () if private and not gateway_trusted else _assertion(invite, gateway, asserted, private=private)
    return Presentation(
        user="" if private else _changed(invite.from_user, in_form(shown, gateway.caller_number)),
        anonymous=private,
        add=(*add, *gateway.add_headers),
        withhold=_distinct((*withhold, *_IDENTITIES, *(name.lower() for name, _ in add))),
    )


def calling_number(invite: InviteReceived, *, trusted: bool) -> str:
    """The user that says who calls: the one that a sender of the trust domain vouches for, else that of
    From."""
    return (_asserted(invite) if trusted else "") or invite.from_user


def still_signed(invite: InviteReceived, user: str, shown: Presentation) -> bool:
    """Whether an Identity header (RFC 8224 §8) signs what is sent: the numbers of From and To, however they
    are written. What is no number is signed with its host, and that is ours in both; an anonymous From stays
    as it is."""
    if shown.anonymous:
        return False
    caller = same_number(invite.from_user, shown.user or invite.from_user)
    nobody = not shown.user and _is_anonymous(invite)
    return (caller or nobody) and same_number(user_of(invite.leg.local_uri), user)


def in_form(user: str, form: NumberForm) -> str:
    """The number with or without its `+`; whatever is no number, or a national one, is left alone, and so are
    its parameters."""
    number = user.partition(";")[0]
    match form:
        case NumberForm.PLUS if _INTERNATIONAL.fullmatch(number) and "phone-context" not in user.lower():
            return f"+{user}"
        case NumberForm.NO_PLUS if _PLUS.fullmatch(number):
            return user[1:]
    return user


def _changed(received: str, user: str) -> str:
    return "" if user == received else user


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _assertion(
    invite: InviteReceived, gateway: Gateway, asserted: str, *, private: bool
) -> tuple[tuple[str, str], ...]:
    if not asserted or gateway.caller_id is CallerIdForm.FROM:
        return ()
    uri = f"<sip:{in_form(asserted, gateway.caller_number)}@{gateway.domain}>"
    if gateway.caller_id is CallerIdForm.RPID:
        return (
            ("Remote-Party-ID", f"{uri};party=calling;screen=yes;privacy={'full' if private else 'off'}"),
        )
    if not private:
        return (("P-Asserted-Identity", uri),)
    # RFC 3325 §7: the gateway is inside the trust domain, and `id` keeps what it is told there.
    words = _distinct((*(word for word in _privacy(invite) if word != "none"), "id"))
    return ("P-Asserted-Identity", uri), ("Privacy", ";".join(words))


def _asserted(invite: InviteReceived) -> str:
    """The user that a trusted sender vouches for; with no header that says so, the one of its From."""
    asserted = asserted_user(invite, _ASSERTIONS)
    if asserted is not None:
        return asserted
    user = invite.from_user.partition(";")[0]
    return user if names_somebody(user) and not _is_anonymous(invite) else ""


def asserted_user(invite: InviteReceived, names: Iterable[str]) -> str | None:
    """The first user in the headers of these names that is somebody; empty where they name nobody, None where
    there is no such header. What it is worth is a matter of who sent it."""
    said = False
    for wanted in names:
        for name, value in invite.headers:
            if name == wanted:
                for found in _URI.finditer(_QUOTED.sub("", value)):
                    said = True
                    if names_somebody(user := found[1] or found[2]):
                        return user
    return "" if said else None


def names_somebody(user: str) -> bool:
    return re.fullmatch(_USER, user) is not None and unquote(user).lower() not in _NOBODY


def _is_private(invite: InviteReceived, *, trusted: bool) -> bool:
    words = _privacy(invite)
    if "none" in words:
        return False
    if _is_anonymous(invite) or any(word != "critical" for word in words):
        return True
    return trusted and any(
        name == PARTY_ID and _PARTY_IS_PRIVATE.search(text) for name, text in invite.headers
    )


def _is_anonymous(invite: InviteReceived) -> bool:
    return invite.from_user.lower() == ANONYMOUS or "@anonymous.invalid" in invite.leg.remote_uri.lower()


def _privacy(invite: InviteReceived) -> tuple[str, ...]:
    """The words of its Privacy headers (RFC 3323 §4.2: with `;` between them)."""
    text = ";".join(value for name, value in invite.headers if name == PRIVACY)
    return tuple(word for part in re.split("[;,]", text) if _TOKEN.fullmatch(word := part.strip().lower()))
