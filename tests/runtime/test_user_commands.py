"""People who may use the page, as commands make them: each change is noted, and no password is in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from sidecar.core.audit import Operator
from sidecar.core.users import Role
from sidecar.wire import control_users as say
from sidecar.wire.control import CommandError, ErrorCode, Nothing
from tests.runtime.node_help import Node, a_node

ANN = Operator("ann", 1000)
HASH = "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$aGFzaA"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with a_node(tmp_path) as node:
        yield node


async def test_a_user_is_made_changed_and_listed_without_the_hash(node: Node) -> None:
    assert node.admin.users is not None
    made = await node.admin.users.add(
        say.UserAddParams(name="vera", role=Role.VIEWER, password_hash=HASH, operator="ann"), ANN
    )
    assert (made.name, made.role, made.has_password, made.enabled) == ("vera", Role.VIEWER, True, True)
    changes = (
        say.UserSetParams(name="vera", role=Role.FINANCE, operator="ann"),
        say.UserSetParams(name="vera", password_hash=HASH + "b", operator="ann"),
        say.UserSetParams(name="vera", enabled=False, operator="ann", text="left us"),
    )
    for wanted in changes:
        made = await node.admin.users.set(wanted, ANN)
    assert (await node.admin.users.list(Nothing(), ANN)).users == (made,)
    assert (made.role, made.has_password, made.enabled) == (Role.FINANCE, True, False)
    noted = [one.change for one in await node.store.audit.list()]
    assert [one.action for one in noted] == ["user.add", "user.set", "user.set", "user.set"]
    assert [one.after for one in noted if one.after] == [
        '{"enabled":true,"has_password":true,"role":"viewer"}',
        '{"enabled":true,"has_password":true,"role":"finance"}',
        '{"enabled":true,"has_password":true,"password_changed":true,"role":"finance"}',
        '{"enabled":false,"has_password":true,"role":"finance"}',
    ]
    assert noted[-1].before == '{"enabled":true,"has_password":true,"role":"finance"}'
    assert noted[-1].text == "left us"


async def test_a_name_is_made_once_and_one_that_is_not_there_is_not_changed(node: Node) -> None:
    assert node.admin.users is not None
    wanted = say.UserAddParams(name="vera", role=Role.VIEWER, operator="ann")
    await node.admin.users.add(wanted, ANN)
    with pytest.raises(CommandError) as refused:
        await node.admin.users.add(wanted, ANN)
    assert refused.value.code is ErrorCode.REFUSED
    with pytest.raises(CommandError) as missing:
        await node.admin.users.set(say.UserSetParams(name="ada", enabled=True, operator="ann"), ANN)
    assert missing.value.code is ErrorCode.NOT_FOUND
    assert len(await node.store.audit.list()) == 1


@pytest.mark.parametrize("text", ["secret", "$argon2i$v=19$m=64", "$argon2id$ ", "$argon2id$" + "a" * 300])
def test_what_is_no_hash_of_argon2_is_no_password(text: str) -> None:
    wanted = {"name": "a", "role": "admin", "password_hash": text, "operator": "b"}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wanted, say.UserAddParams)
