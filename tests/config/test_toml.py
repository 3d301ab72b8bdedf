"""Accounts that are read apart: nobody can tell, except by the time it takes."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.config.scan import key_lines
from sidecar.config.toml import read_toml
from tests.config.support import Start

LINES = st.sampled_from(
    [
        *("[accounts.a]", "[accounts.b]", "[accounts.c-1]", "[accounts.d]") * 3,
        *("prepaid = true", 'deck = "x"', "calls_max = 1", "# a note", "") * 2,
        *("  [accounts.e]", "[accounts.f] # note", "[ accounts.g ]", '[accounts."a"]', '[accounts."h i"]'),
        *("[accounts]", "[accounts.a.more]", "[[accounts]]", "[[accounts.a]]", "[[accounts.b.list]]"),
        *("accounts = {}", "accounts.a.prepaid = true", "a.deck = 1", "a = {}", "[sip]", "[sip.more]"),
        *("list = [", "[1],", "]", "[1]", "text = '''", "'''", 'text = """', '"""', "when = 2026-02-30", "="),
        *("\t", "calls_max = 1 # [accounts.b]", 'deck = "[accounts.b]"', "calls_max = 01"),
    ]
)
DOCUMENTS = st.builds(
    lambda lines, end, last: end.join(lines) + last * end,
    st.lists(LINES, max_size=14),
    st.sampled_from(["\n", "\n", "\r\n"]),
    st.booleans(),
)


def outcome(read: Any, text: str) -> object:
    try:
        return read(text)
    except ValueError as error:
        return type(error), str(error)


@given(DOCUMENTS)
@example("list = [\n[accounts.a]\nprepaid = true\n[1]\n]\n")
@example("[accounts.a]\nprepaid = true\n  [accounts.b]\n[accounts.c]\nprepaid = true")
@example("[accounts.a]\n[accounts.b]\nlist = [\n[1],\n]\n[sip]\n")
def test_a_document_is_what_tomllib_says_it_is_or_refuses(text: str) -> None:
    assert outcome(lambda whole: read_toml(whole, accounts_many=0)[0], text) == outcome(tomllib.loads, text)


@given(DOCUMENTS)
def test_what_is_left_of_a_document_has_its_keys_on_their_lines(text: str) -> None:
    try:
        _, skeleton = read_toml(text, accounts_many=0)
    except ValueError:
        return
    left, written = key_lines(skeleton), key_lines(text)
    assert {path: written[path] for path in left} == left
    assert {path for path in written if path[0] != "accounts"} <= left.keys()


def test_accounts_that_are_alike_share_what_they_say() -> None:
    text = "".join(f"[accounts.a{number}]\nprepaid = true\n" for number in range(1_002))
    data, skeleton = read_toml(text)
    accounts = data["accounts"]
    assert len(accounts) == 1_002
    assert accounts["a0"] is accounts["a1001"]
    assert key_lines(skeleton) == {("accounts",): 1, ("accounts", "a0"): 1}


KINDS = ("prepaid = true", 'group = "g"', 'group = "g"\ncalls_max = 5', "calls_max = 7")
GROUP = '[groups.g]\nmargin_floor = "0.1"\n'


def many(kinds: tuple[str, ...]) -> str:
    return GROUP + "".join(f"[accounts.a{n}]\n{kinds[n % len(kinds)]}\n" for n in range(1_200))


def test_each_of_many_accounts_has_its_own_name_and_its_own_terms(start: Start) -> None:
    accounts = start.load(many(KINDS)).policy.accounts
    assert {name: account.name for name, account in accounts.items()} == {
        f"a{n}": f"a{n}" for n in range(1_200)
    }
    floor = Decimal("0.1")
    for n in range(1_200):
        terms = accounts[f"a{n}"]
        assert (terms.prepaid, terms.calls_max, terms.margin_floor) == [
            (True, None, None),
            (False, None, floor),
            (False, 5, floor),
            (False, 7, None),
        ][n % 4]


def test_each_of_many_wrong_accounts_is_an_error_of_its_own_line(start: Start) -> None:
    shown = start.shown(start.problems(many((*KINDS, "calls_max = 0"))))
    assert shown[0] == "sidecar.toml:13: accounts.a4.calls_max: 0 is not within 1-100000"
    assert shown[1] == "sidecar.toml:24: accounts.a9.calls_max: 0 is not within 1-100000"
    assert len(shown) == 240
