"""People who may use the page, and programs that may use its API, as the commands make them, and what the
audit table tells of them. Passwords and tokens come as hashes, and are in no answer and no entry of the audit
table. A name is a person's or a program's, so what was done under it is told apart."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from datetime import UTC

from msgspec.structs import replace

from sidecar.core.audit import Change, Operator, told
from sidecar.core.users import USERS_MAX, Token, User
from sidecar.ports import AuditTrail, Users
from sidecar.wire import control_users as say
from sidecar.wire.control import CommandError, ErrorCode, Method, Nothing
from sidecar.wire.methods import served


class UserCommands:
    def __init__(self, users: Users, audit: AuditTrail) -> None:
        self._users = users
        self._audit = audit
        self._changing = asyncio.Lock()  # one command after the other: each sees what the one before left

    def methods(self) -> Mapping[str, Method]:
        return served(
            {
                "user.add": self.add,
                "user.set": self.set,
                "user.list": self.list,
                "user.note": self.note,
                "token.add": self.add_token,
                "token.revoke": self.revoke_token,
                "token.list": self.list_tokens,
            }
        )

    async def add(self, wanted: say.UserAddParams, operator: Operator) -> say.UserShown:
        async with self._changing:
            known = {one.name: one for one in await self._users.all()}
            if wanted.name in known:
                raise CommandError(ErrorCode.REFUSED, f"there is a user {wanted.name}: `sidecar user set`")
            _check_room(known)
            user = User(name=wanted.name, role=wanted.role, password_hash=wanted.password_hash)
            await self._keep("user.add", None, user, operator, wanted.text)
            return _shown(user)

    async def set(self, wanted: say.UserSetParams, operator: Operator) -> say.UserShown:
        async with self._changing:
            known = next((one for one in await self._users.all() if one.name == wanted.name), None)
            if known is None:
                raise CommandError(ErrorCode.NOT_FOUND, f"there is no user {wanted.name}")
            if known.token is not None:
                raise CommandError(ErrorCode.REFUSED, f"{wanted.name} is a token: `sidecar token`")
            given = {
                name: value
                for name in ("role", "password_hash", "enabled")
                if (value := getattr(wanted, name)) is not None
            }
            user = replace(known, **given)
            await self._keep("user.set", known, user, operator, wanted.text)
            return _shown(user)

    async def add_token(self, wanted: say.TokenAddParams, operator: Operator) -> say.TokenShown:
        async with self._changing:
            known = {one.name: one for one in await self._users.all()}
            before = known.get(wanted.name)
            if before is None:
                _check_room(known)
            elif before.token is None:
                raise CommandError(ErrorCode.REFUSED, f"{wanted.name} is a user of the page")
            elif before.enabled:
                text = f"there is a token {wanted.name}: `sidecar token revoke`, then make another"
                raise CommandError(ErrorCode.REFUSED, text)
            token = Token(digest=wanted.digest, expires_at=wanted.expires_at.astimezone(UTC))
            user = User(name=wanted.name, role=wanted.role, password_hash=token.kept())
            await self._keep("token.add", before, user, operator, wanted.text)
            return _shown_token(user, token)

    async def revoke_token(self, wanted: say.TokenRevokeParams, operator: Operator) -> say.TokenShown:
        async with self._changing:
            known = next((one for one in await self._users.all() if one.name == wanted.name), None)
            if known is None or known.token is None:
                raise CommandError(ErrorCode.NOT_FOUND, f"there is no token {wanted.name}")
            user = replace(known, enabled=False)
            await self._keep("token.revoke", known, user, operator, wanted.text)
            return _shown_token(user, known.token)

    async def list_tokens(self, _: Nothing, __: Operator) -> say.TokenList:
        found = ((user, user.token) for user in await self._users.all())
        return say.TokenList(
            tokens=tuple(_shown_token(user, token) for user, token in found if token is not None)
        )

    async def _keep(
        self, action: str, before: User | None, user: User, operator: Operator, text: str
    ) -> None:
        change = Change(
            operator=operator,
            action=action,
            subject=user.name,
            before=None if before is None else told(_told(before)),
            after=told(_told(user, _is_new(before, user))),
            text=text,
        )
        await asyncio.shield(self._users.keep(user, change))

    async def list(self, _: Nothing, __: Operator) -> say.UserList:
        return say.UserList(users=tuple(_shown(one) for one in await self._users.all() if one.token is None))

    async def note(self, wanted: say.UserNoteParams, operator: Operator) -> say.Noted:
        await self._audit.write(
            Change(operator=operator, action=wanted.deed.value, subject=wanted.subject, text=wanted.text)
        )
        return say.Noted()


def _is_new(before: User | None, user: User) -> bool:
    return before is not None and before.password_hash != user.password_hash


def _told(user: User, is_new: bool = False) -> dict[str, object]:
    if (token := user.token) is not None:
        return {"role": user.role.value, "expires_at": token.expires_at, "enabled": user.enabled}
    has_password = user.password_hash is not None
    said: dict[str, object] = {"role": user.role.value, "has_password": has_password, "enabled": user.enabled}
    return said | {"password_changed": True} if is_new else said


def _check_room(known: Collection[str]) -> None:
    if len(known) >= USERS_MAX:
        raise CommandError(ErrorCode.REFUSED, f"there are {USERS_MAX} users and tokens, which is the most")


def _shown_token(user: User, token: Token) -> say.TokenShown:
    return say.TokenShown(
        name=user.name, role=user.role, expires_at=token.expires_at, revoked=not user.enabled
    )


def _shown(user: User) -> say.UserShown:
    return say.UserShown(
        name=user.name,
        role=user.role,
        has_password=user.password_hash is not None,
        enabled=user.enabled,
    )
