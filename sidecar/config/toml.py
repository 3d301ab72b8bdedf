"""TOML as `tomllib` reads it, also where there are very many accounts.

`tomllib` takes 1.2 s and 120 MB for 100,000 accounts. Most accounts say what others say too, so each
different text of an account is read once, and the accounts that have it share what it says. The rest is read
as a whole, with the header of the first account of each row of them left in: so it is TOML where the whole
document is. Where it is not, or where it has an account of the same name, `tomllib` reads everything, and
says what is wrong.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

ACCOUNTS = "accounts"
ACCOUNTS_MANY = 1_000
_ACCOUNT = re.compile(r"^(\[accounts\.([A-Za-z0-9_-]+)\])\n((?:(?![ \t]*\[).*\n)*)", re.MULTILINE)
_LONG_STRINGS = ('"""', "'''")  # a line of one may look like a header

Table = dict[str, Any]


def read_toml(text: str, accounts_many: int = ACCOUNTS_MANY) -> tuple[Table, str]:
    """What the document says; and the document without the accounts that were read apart, each line at its
    place. Raises what `tomllib` raises. Accounts share what they say: it must not be changed."""
    text = text.replace("\r\n", "\n")
    if text.count("\n[accounts.") >= accounts_many and not any(mark in text for mark in _LONG_STRINGS):
        try:
            return _with_accounts_apart(text)
        except (ValueError, RecursionError):
            pass
    return tomllib.loads(text), text


def _with_accounts_apart(text: str) -> tuple[Table, str]:
    """ValueError where this is not what `tomllib` would read, whatever the reason."""
    known: dict[str, Table] = {}
    apart: dict[str, Table] = {}
    left_in: list[str] = []
    rest: list[str] = []
    at = 0
    for found in _ACCOUNT.finditer(text if text.endswith("\n") else f"{text}\n"):
        header, name, body = found.groups()
        if name in apart:
            raise ValueError
        if body not in known:
            known[body] = tomllib.loads(body)
        apart[name] = known[body]
        if at < found.start() or not rest:
            left_in.append(name)
            rest += text[at : found.start()], header
        rest.append("\n" * (1 + body.count("\n")))
        at = found.end()
    skeleton = "".join([*rest, text[at:]])
    data = tomllib.loads(skeleton)
    accounts = data.get(ACCOUNTS)
    if (
        not isinstance(accounts, dict)
        or any(accounts.pop(name) for name in left_in)
        or accounts.keys() & apart
    ):
        raise ValueError
    data[ACCOUNTS] = {**apart, **accounts}
    return data, skeleton
