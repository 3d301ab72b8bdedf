"""Which parameters of a received URI go on to leg B, in the URI of ours that takes its place.

All of them pass, `user`, `cpc`, `isup-oli`, `otg`, `tgrp`, `trunk-context` and what nobody has thought of
yet, but for those that say how a message gets to its next hop: these are ours, for that hop. A gateway may
want `user=phone` or not. A tel: URI says without it that it is a number (RFC 3261 §19.1.6).
"""

from __future__ import annotations

import re

from sidecar.core.terms import UserPhone

_OUR_OWN = frozenset({"transport", "maddr", "ttl", "lr", "method"})
_CUT_AT = 2048  # what is longer comes from the bridge without its end, and so with half a parameter
_CHARACTERS = r"(?:[A-Za-z0-9\-_.!~*'()\[\]/:&+$]|%[0-9A-Fa-f]{2})+"  # RFC 3261 §25.1, paramchar
_PARAMETER = re.compile(f"({_CHARACTERS})(?:={_CHARACTERS})?")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_NUMBER = re.compile(r"\+?[0-9*#][0-9A-Fa-f*#.()-]*")  # RFC 3966, without its parameters
_PHONE = "user=phone"


def passing(received: str, sent_user: str, user_phone: UserPhone) -> str:
    """The parameters of a URI, or of the URI in a name-addr, as they are to stand in one with `sent_user`:
    each with its `;`."""
    scheme, rest = _uri(received)
    is_tel = scheme == "tel"
    given = [] if is_tel else rest.rpartition("@")[2].partition("?")[0].split(";")[1:]
    if len(received) >= _CUT_AT:
        given = given[:-1]
    found = [one for one in given if (name := _name(one)) and name not in _OUR_OWN]
    if user_phone is UserPhone.REMOVE:
        found = [one for one in found if one.lower() != _PHONE]
    elif (user_phone is UserPhone.ADD or is_tel) and _NUMBER.fullmatch(sent_user.partition(";")[0]):
        found = [_PHONE, *(one for one in found if _name(one) != "user")]
    return "".join(f";{one}" for one in found)


def user_of(received: str) -> str:
    """The user part of a URI, or of the URI in a name-addr; of a tel: URI all of it."""
    scheme, rest = _uri(received)
    return rest if scheme == "tel" else rest.rpartition("@")[0].partition(":")[0]


def _uri(received: str) -> tuple[str, str]:
    """Its scheme, in lower case, and the rest."""
    uri = _QUOTED.sub("", received)
    if "<" in uri:
        uri = uri.partition("<")[2].partition(">")[0]
    scheme, _, rest = uri.partition(":")
    return scheme.lower(), rest


def _name(parameter: str) -> str:
    """In lower case; empty where it is no parameter that pjsip would read again."""
    match = _PARAMETER.fullmatch(parameter)
    return match[1].lower() if match else ""
